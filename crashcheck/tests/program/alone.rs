//! Recording by calls alone, held against recording by a file system, and call sites by either.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crashcheck::core::trace::{Op, Step};
use crashcheck::program::file;
use crashcheck::program::recording::Recording;

use super::cases::symptoms;
use super::tool::{Bench, Ran, me, signal, traces_of, until};

const ALONE: [&str; 2] = ["--by", "ptrace"];

fn read(bench: &Bench) -> Recording {
    file::read(&bench.trace()).unwrap()
}

/// Records a role by its calls alone; it is to end well, and the recording to be whole.
#[track_caller]
fn record(bench: &Bench, role: &str) -> Recording {
    let ran = bench.record_with(&ALONE, role);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!(ran.json()["gaps"], 0, "{}", ran.err);
    read(bench)
}

/// What one thread does is told the same by both, step by step.
pub(crate) fn same_steps() {
    for role in ["publish", "publish-synced", "everything", "many", "dsync", "map-synced", "lookup", "pairs"]
    {
        let bench = Bench::new();
        bench.record(role);
        let told = read(&bench);
        let bench = Bench::new();
        let alone = record(&bench, role);
        let first = told.trace.steps.iter().zip(&alone.trace.steps).position(|(one, other)| one != other);
        let from = first.unwrap_or(0).saturating_sub(2);
        let near = |recording: &Recording| recording.trace.steps[from..].iter().take(5).cloned().collect();
        let both: [Vec<Step>; 2] = [near(&told), near(&alone)];
        assert!(told.trace.steps == alone.trace.steps, "{role}, at step {first:?}: {both:#?}");
        assert_eq!(told.notes, alone.notes, "{role}");
        assert_eq!(told.modes, alone.modes, "{role}");
    }
}

/// Threads that write and sync side by side.
pub(crate) fn threads() {
    let states = ["--states", "600"];
    let mut bench = Bench::new();
    // Whether a write falls into a sync is up to the scheduler: it does in some of many.
    let overlaps =
        |bench: &Bench| record(bench, "group-commit").trace.steps.iter().any(|step| step.since.is_some());
    let found = (0..20).any(|_| {
        bench = Bench::new();
        overlaps(&bench)
    });
    assert!(found, "syncs go on beside writes");
    let ran = bench.explore("check-slots", &states);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let bench = Bench::new();
    record(&bench, "group-commit-late");
    let ran = bench.explore("check-slots", &states);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
}

/// Stores into a mapping that no sync separates are found out by comparison.
pub(crate) fn stores() {
    let bench = Bench::new();
    let recording = record(&bench, "map");
    let is_store = |at: usize| recording.call(at) == "store";
    let stores: Vec<&Step> = recording
        .trace
        .steps
        .iter()
        .enumerate()
        .filter(|(at, _)| is_store(*at))
        .map(|(_, step)| step)
        .collect();
    let bytes = |step: &Step| if let Op::Write { data, .. } = &step.op { data.len() } else { 0 };
    assert_eq!(stores.into_iter().map(bytes).collect::<Vec<_>>(), [8192], "{}", bench.show());
    let ran = bench.explore("check-map", &[]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(symptoms(&ran.json())[0].0.contains("the value is not"), "{}", ran.out);
}

/// A ring is refused, or nothing is measured.
pub(crate) fn rings() {
    let bench = Bench::new();
    let ran = bench.record_with(&ALONE, "ring");
    assert_eq!((ran.code, ran.err.contains("os error 38")), (1, true), "{}{}", ran.out, ran.err);
    let bench = Bench::new();
    let ran = bench.record_with(&[&ALONE[..], &["--allow-rings"]].concat(), "ring-synced");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("the program has a ring"), "{}", ran.err);
    let ran = bench.explore("check-nothing", &[]);
    assert_eq!((ran.code, ran.json()["verdict"].as_str()), (4, Some("NOT-MEASURED")), "{}", ran.out);
}

/// A write to a closed descriptor says something.
pub(crate) fn closed_descriptors() {
    if !has_python() {
        return crate::skip("there is no python3");
    }
    let bench = Bench::new();
    let script = "import os\nos.write(os.open('data/f', os.O_CREAT | os.O_WRONLY), b'1')\n\
                  try: os.write(999, b'durable-ack one\\n')\n\
                  except OSError: pass\n\
                  os.rename('data/f', 'data/g')\n";
    let head = ["record", "--json", "--dir", "data", "-o", "run.trace"];
    let ran = bench.run(&[&head[..], &ALONE, &["--", "python3", "-c", script]].concat());
    assert_eq!((ran.code, ran.json()["acks"].as_u64()), (0, Some(1)), "{}{}", ran.out, ran.err);
    let steps = read(&bench).trace.steps;
    assert!(matches!(steps[2].op, Op::Mark(0)) && matches!(steps[3].op, Op::Rename { .. }), "{steps:?}");
}

/// A thread that is not a process's first becomes another program: the process lives on, the thread does not.
pub(crate) fn threads_that_exec() {
    if !has_python() {
        return crate::skip("there is no python3");
    }
    let bench = Bench::new();
    let script = "import os, threading, time\n\
                  run = lambda: os.execv('/bin/sh', ['sh', '-c', 'echo new > data/f; echo durable-ack done'])\n\
                  threading.Thread(target=run).start()\ntime.sleep(600)\n";
    let head = ["record", "--json", "--dir", "data", "-o", "run.trace"];
    let ran = bench.run(&[&head[..], &ALONE, &["--", "python3", "-c", script]].concat());
    assert_eq!((ran.code, ran.json()["acks"].as_u64()), (0, Some(1)), "{}{}", ran.out, ran.err);
    assert!(bench.show().contains("a write of 4 bytes at 0 of f"), "{}", bench.show());
}

fn has_python() -> bool {
    Command::new("python3").arg("--version").output().is_ok_and(|ran| ran.status.success())
}

/// What comes from outside the directory, and what leaves it.
pub(crate) fn foreign_files() {
    let bench = Bench::new();
    let script = "echo from outside > out; mv out data/in; echo two > two; ln two data/two; mv data/in away; \
                  chmod 700 data/two; rm data/two; mkdir -p data/a/b; cd data/a; echo x > b/../y";
    let head = ["record", "--json", "--dir", "data", "-o", "run.trace"];
    let ran = bench.run(&[&head[..], &ALONE, &["--", "/bin/sh", "-c", script]].concat());
    assert_eq!((ran.code, &ran.json()["gaps"]), (0, &0.into()), "{}{}", ran.out, ran.err);
    let shown = bench.show();
    for what in
        ["a write of 13 bytes at 0 of in", "the creation of two", "the removal of in", "the creation of a/y"]
    {
        assert!(shown.contains(what), "{what} is not in\n{shown}");
    }
}

/// Neither root nor a file system nor a namespace.
pub(crate) fn as_anybody() {
    let bench = Bench::new();
    let home = bench.home.path();
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
    for dir in [home.to_owned(), bench.data()] {
        chown(dir, Some(65534), Some(65534)).unwrap();
    }
    let copy = |from: &str, to: &str| fs::copy(from, home.join(to)).unwrap();
    copy(env!("CARGO_BIN_EXE_crashcheck"), "crashcheck");
    copy(&me(), "roles");
    let mut command = Command::new(home.join("crashcheck"));
    command.args(["record", "--json", "--dir", "data", "-o", "run.trace"]).args(ALONE);
    command.args(["--", "./roles", "publish", "data"]).current_dir(home).env(super::ROLE, "1");
    let ran = Ran::from(command.uid(65534).gid(65534).stdin(Stdio::null()).output().unwrap());
    assert_eq!((ran.code, &ran.json()["gaps"]), (0, &0.into()), "{}{}", ran.out, ran.err);
    assert_eq!((&ran.json()["acks"], &ran.json()["steps"]), (&3.into(), &12.into()), "{}", bench.show());
    // It is another user's, who says where it was; we do.
    let ran = bench.explore("check-publish", &["--at", "data"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
}

/// An end of the tool, or of the program, leaves nothing behind.
pub(crate) fn ends() {
    let bench = Bench::new();
    let ran = bench.record_with(&ALONE, "spawn");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!(traces_of(&bench.data()).0, 0, "a child is left");
    for (name, code) in [("INT", Some(4)), ("KILL", None)] {
        let bench = Bench::new();
        let head = ["record", "--dir", "data", "-o", "no.trace", "--by", "ptrace", "--"];
        let mut command =
            bench.command(&[&head[..], &[&me(), "sleep", bench.data().to_str().unwrap()]].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the program does not start", || bench.data().join("started").exists());
        assert!(signal(&child, name));
        assert_eq!(child.wait().unwrap().code(), code);
        until("a process is left", || traces_of(bench.home.path()).0 == 0);
        assert!(!bench.home.path().join("no.trace").exists());
    }
    let ran = Bench::new().record_with(&["--by", "ptrace", "--no-ptrace"], "publish");
    assert_eq!((ran.code, ran.err.contains("goes with --by fuse")), (2, true), "{}", ran.err);
}

/// Who does not want call sites has none.
pub(crate) fn no_stacks() {
    let bench = Bench::new();
    let ran = bench.record_with(&["--no-stacks"], "publish");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(read(&bench).sites.iter().all(Vec::is_empty), "{}", bench.show());
    let json = bench.explore("check-publish", &[]).json();
    assert_eq!(
        (&json["verdict"], &json["classes"][0]["call_site"]),
        (&"FAIL".into(), &serde_json::Value::Null)
    );
}

/// A file that is not the recorded one any more names nothing.
pub(crate) fn other_files() {
    let bench = Bench::new();
    let roles = bench.home.path().join("roles");
    fs::copy(me(), &roles).unwrap();
    let head = ["record", "--json", "--dir", "data", "-o", "run.trace", "--", "./roles", "publish", "data"];
    assert_eq!(bench.run(&head).code, 0);
    assert!(bench.show().contains("publish (roles.rs:"), "{}", bench.show());
    let mut bytes = fs::read(&roles).unwrap();
    bytes.push(0);
    fs::write(&roles, bytes).unwrap();
    let shown = bench.show();
    assert!(!shown.contains("roles.rs") && shown.contains(" at roles+0x"), "{shown}");
}

/// A finding says where in the program the call is that is to be followed by a sync.
pub(crate) fn call_sites() {
    for options in [&[][..], &ALONE] {
        let bench = Bench::new();
        let ran = bench.record_with(options, "publish");
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        let ran = bench.explore("check-publish", &["--html", "page.html"]);
        let json = ran.json();
        let classes = json["classes"].as_array().unwrap();
        let sites: Vec<&str> = classes.iter().filter_map(|class| class["call_site"].as_str()).collect();
        assert!(!sites.is_empty() && sites.len() == classes.len(), "{json}");
        assert!(sites.iter().all(|site| site.contains("publish (roles.rs:")), "{sites:?}");
        let stack = &classes[0]["timeline"][0]["stack"];
        let stack: Vec<&str> = stack.as_array().unwrap().iter().filter_map(|frame| frame.as_str()).collect();
        assert!(stack.iter().any(|frame| frame.starts_with("main (program.rs:")), "{stack:#?}");
        assert!(ran.json()["certificate"].as_str().unwrap().contains("site complete"), "{json}");
        let page = fs::read_to_string(bench.home.path().join("page.html")).unwrap();
        assert!(page.contains("publish (roles.rs:"), "the page has the stack");
        // The line is that of the call.
        let line = sites[0].rsplit_once(':').unwrap().1.trim_end_matches(')').parse::<usize>().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/roles.rs");
        let source = fs::read_to_string(source).unwrap();
        let called = source.lines().nth(line - 1).unwrap();
        assert!(["write", "rename", "File::create"].iter().any(|call| called.contains(call)), "{called}");
    }
}
