//! What a stranger's recording, name, program or call may not do to who meets it as root.
//!
//! I own the expectations. Each case is an attack that worked once.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use crashcheck::core::image::Content;
use crashcheck::core::profile::{Profile, Unit};
use crashcheck::core::sound;
use crashcheck::core::trace::{Ino, Op, Step};
use crashcheck::program::file;
use crashcheck::program::record::read_start;
use crashcheck::program::recording::Recording;
use crashcheck::program::rights::{Acting, Rights};
use crashcheck::program::scene::{Scene, Script};
use crashcheck::program::tape::Tape;
use crashcheck::program::tracer::desk::{Desk, Line};

use super::tool::{Bench, Ran, me, signal, until};

/// Changes a bench's recording, as one that comes from elsewhere may be changed.
fn forge(bench: &Bench, change: impl FnOnce(&mut Recording)) {
    let mut recording = file::read(&bench.trace()).unwrap();
    change(&mut recording);
    fs::write(bench.trace(), file::encode(&recording)).unwrap();
}

#[track_caller]
fn refused(ran: &Ran, says: &str) {
    assert!(ran.code == 3 && ran.err.contains(says), "{}: {}{}", ran.code, ran.out, ran.err);
}

/// No directory that the run lives on shows states, and none is made for it.
pub(crate) fn places() {
    let bench = Bench::new();
    bench.record("publish-synced");
    let home = bench.home.path().to_str().unwrap();
    let explore = ["explore", "run.trace", "--check", "/bin/true", "--at"];
    for place in ["/home", "/tmp", "/", "/dev", "/usr/local/bin"] {
        refused(&bench.run(&[&explore[..], &[place]].concat()), "no place for states");
    }
    let ran = bench.command(&[&explore[..], &[home]].concat()).env("HOME", home).output();
    refused(&ran.unwrap().into(), "which this run needs");
    assert_eq!(bench.explore("check-publish", &[]).code, 0);
    fs::rename(bench.data(), bench.home.path().join("before")).unwrap();
    refused(&bench.explore("check-publish", &[]), "--at DIR");
    assert!(!bench.data().exists(), "something was made");
    assert_eq!(bench.explore("check-publish", &["--at", "before"]).code, 0);
}

/// The name of the directory in which the user is, is never a line for the shell.
pub(crate) fn names_are_no_commands() {
    let bench = Bench::new();
    let home = bench.home.path().join("here;touch made;");
    fs::create_dir_all(home.join("data")).unwrap();
    fs::copy(me(), home.join("roles")).unwrap();
    let run =
        |arguments: &[&str]| -> Ran { bench.command(arguments).current_dir(&home).output().unwrap().into() };
    let ran = run(&["record", "--dir", "data", "-o", "run.trace", "--", "./roles", "publish-synced", "data"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let ran = run(&["explore", "run.trace", "--check", "./roles check-publish data && true"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    for place in [home.join("made"), bench.home.path().join("made")] {
        assert!(!place.exists(), "{} was made", place.display());
    }
}

/// What no directory can hold is refused when a recording is read.
pub(crate) fn impossible_names() {
    let bench = Bench::new();
    bench.record("publish");
    let whole = fs::read(bench.trace()).unwrap();
    let refuse = |change: &dyn Fn(&mut Recording)| {
        fs::write(bench.trace(), &whole).unwrap();
        forge(&bench, change);
        refused(&bench.run(&["show", "run.trace"]), "damaged");
        refused(&bench.run(&["replay", "0", "run.trace", "--into", "out"]), "damaged");
    };
    let first = |op: Op| {
        move |recording: &mut Recording| {
            recording.trace.steps.insert(0, Step::from(op.clone()));
            recording.metas.insert(0, recording.metas[0]);
        }
    };
    for path in ["../x", "/etc/x", "a/../../x", "..", ".", "", "a//b", "nul\0", "conf.tmp/in"] {
        let path = path.to_owned();
        refuse(&first(Op::CreateDir { path: path.clone() }));
        refuse(&first(Op::Create { path: path.clone(), ino: Ino(77) }));
        refuse(&first(Op::Symlink { path: path.clone(), target: "t".to_owned() }));
        refuse(&|recording| _ = recording.trace.initial.dirs.insert(path.clone()));
        refuse(&|recording| {
            recording.trace.initial.files.insert(path.clone(), Content::of(b"root"));
            recording.trace.inos.insert(path.clone(), Ino(77));
        });
    }
    refuse(&|recording| {
        let link = Op::Symlink { path: "l".to_owned(), target: "/etc".to_owned() };
        let within = Op::Create { path: "l/ld.so.preload".to_owned(), ino: Ino(77) };
        recording.trace.steps.splice(0..0, [link, within].map(Step::from));
        recording.metas.splice(0..0, [recording.metas[0]; 2]);
    });
    refuse(&first(Op::Write { ino: Ino(99), offset: 0, data: Arc::from(&b"x"[..]) }));
    refuse(&first(Op::Remove { path: "never".to_owned() }));
    refuse(&first(Op::Mark(1000)));
    refuse(&|recording| recording.trace.steps[0].since = Some(9));
}

/// A few bytes of a recording take no more than a few MiB, wherever they say that they belong.
pub(crate) fn small_files() {
    let bench = Bench::new();
    bench.record("publish-synced");
    let whole = fs::read(bench.trace()).unwrap();
    // The program has 256 MiB for all that it is.
    let show = || -> Ran {
        let line = format!("ulimit -v 262144; exec {} show run.trace", env!("CARGO_BIN_EXE_crashcheck"));
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &line]).current_dir(bench.home.path()).output().unwrap().into()
    };
    assert_eq!(show().code, 0);
    let ino = Ino(900);
    let far = |offset| Op::Write { ino, offset, data: Arc::from(&b"late"[..]) };
    let ops = [far(1 << 40), far(u64::MAX), far(u64::MAX - 3), Op::SetLen { ino, len: 1 << 60 }];
    for op in ops {
        fs::write(bench.trace(), &whole).unwrap();
        forge(&bench, |recording| {
            recording.trace.steps.push(Op::Create { path: "new".to_owned(), ino }.into());
            recording.trace.steps.push(op.into());
            recording.metas.extend([recording.metas[0]; 2]);
        });
        refused(&show(), "damaged");
    }
    // A GiB of nothing in 33 KB.
    let packed = zstd::bulk::compress(&vec![0; 1 << 30], 3).unwrap();
    let bytes = [&whole[..12], blake3::hash(&packed).as_bytes(), &[0; 32], &packed].concat();
    assert!(bytes.len() < 50_000);
    fs::write(bench.trace(), bytes).unwrap();
    refused(&show(), "it would unpack to too much");
}

/// Much of nothing that was really written is read again.
pub(crate) fn zeros_come_back() {
    let bench = Bench::new();
    bench.record("publish-synced");
    let zeros: Arc<[u8]> = vec![0; 48 << 20].into();
    forge(&bench, |recording| {
        recording.trace.steps.push(Op::Write { ino: Ino(0), offset: 0, data: Arc::clone(&zeros) }.into());
        recording.metas.push(recording.metas[0]);
    });
    let read = file::read(&bench.trace()).unwrap();
    let last = read.trace.steps.last().map(|step| &step.op);
    assert_eq!(last, Some(&Op::Write { ino: Ino(0), offset: 0, data: zeros }));
    assert!(fs::metadata(bench.trace()).unwrap().len() < 1 << 20);
}

/// What is written of a recording is nobody else's to read, and the recorder keeps the mask that it was given.
pub(crate) fn private_files() {
    let bench = Bench::new();
    let lure = bench.home.path().join("lure");
    std::os::unix::fs::symlink(&lure, bench.home.path().join("run.partial")).unwrap();
    let line = format!(
        "umask 027; exec {} record --dir data -o run.trace -- /bin/sh -c \
         'umask >data/mask; mkdir data/d; grep -H ^Umask /proc/*/status >data/all; true'",
        env!("CARGO_BIN_EXE_crashcheck")
    );
    let mut shell = Command::new("/bin/sh");
    let ran = Ran::from(shell.args(["-c", &line]).current_dir(bench.home.path()).output().unwrap());
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let mode = |path: PathBuf| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(bench.data().join("mask")), mode(bench.data().join("d"))), (0o640, 0o750));
    assert_eq!(fs::read_to_string(bench.data().join("mask")).unwrap().trim(), "0027");
    assert!(!lure.exists(), "a link was followed");
    // The process that records, while it does.
    let bench = Bench::new();
    let head = ["record", "--dir", "data", "-o", "no.trace", "--", &me(), "sleep", "data"];
    let mut child = bench.command(&head).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the program does not start", || bench.data().join("started").exists());
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert!(signal(&child, "INT"));
    child.wait().unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap().trim();
    assert_ne!(mask, "0000");
}

/// With `--user` neither the workload nor the checker has any right of root's.
pub(crate) fn without_rights() {
    let bench = Bench::new();
    let home = bench.home.path();
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(me(), home.join("roles")).unwrap();
    chown(bench.data(), Some(65534), Some(65534)).unwrap();
    let run = |arguments: &[&str]| -> Ran {
        let mut command = bench.command(arguments);
        // A high number, which no process of a namespace of its own has.
        command.env("OUTER_PID", std::process::id().to_string()).output().unwrap().into()
    };
    for more in [&[][..], &["--no-ptrace"], &["--by", "ptrace"]] {
        let head = ["record", "--json", "--dir", "data", "-o", "run.trace", "--user", "nobody"];
        // Without a file system of ours the command lives among all processes, as one without rights.
        let alone = more.first() == Some(&"--by");
        let role = if alone { "publish-synced" } else { "publish-without-rights" };
        let ran = run(&[&head[..], more, &["--", "./roles", role, "data"]].concat());
        assert_eq!((ran.code, &ran.json()["gaps"]), (0, &0.into()), "{more:?} {}{}", ran.out, ran.err);
        let made = fs::read_dir(bench.data()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().uid());
        assert!(made.collect::<Vec<_>>().iter().all(|uid| *uid == 65534), "{more:?}");
        let ran = bench.show();
        assert!(ran.contains("run.trace: ./roles"), "{ran}");
    }
    let explore = ["explore", "run.trace", "--json", "--user", "nobody", "--nested", "1", "--check"];
    let ran = run(&[&explore[..], &["./roles check-without-rights data"]].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.json()["distinct_states"].as_u64().unwrap() > 10);
    // One that goes on from state to state, one of which is a file that nobody may write.
    let script = "./roles publish-synced data; echo one > data/closed; chmod 444 data/closed";
    let head =
        ["record", "--dir", "data", "-o", "run.trace", "--user", "nobody", "--", "/bin/sh", "-ec", script];
    assert_eq!(run(&head).code, 0);
    let explore = ["explore", "run.trace", "--json", "--user", "nobody", "--persistent", "--check"];
    let ran = run(&[&explore[..], &["./roles serve-without-rights data"]].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.json()["distinct_states"].as_u64().unwrap() > 10);
    for (name, says) in [("root", "root itself"), ("no-such-user", "there is no user")] {
        let ran = run(&["explore", "run.trace", "--user", name, "--check", "true"]);
        assert_eq!((ran.code, ran.err.contains(says)), (2, true), "{}", ran.err);
    }
}

/// While a state is laid out beneath a checker that goes on, files are reached with its rights alone.
pub(crate) fn files_of_another() {
    let bench = Bench::new();
    let home = bench.home.path();
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
    chown(bench.data(), Some(65534), Some(65534)).unwrap();
    // What a checker may put in the way.
    std::os::unix::fs::symlink(home.join("made"), bench.data().join("link")).unwrap();
    let acting = Acting::begin(Rights { uid: 65534, gid: 65534 }).unwrap();
    let refused =
        [home.join("made"), bench.data().join("link")].map(|path| fs::write(path, "x").unwrap_err().kind());
    fs::write(bench.data().join("own"), "x").unwrap();
    drop(acting);
    assert_eq!(refused, [io::ErrorKind::PermissionDenied; 2]);
    assert_eq!(fs::metadata(bench.data().join("own")).unwrap().uid(), 65534);
    fs::write(home.join("made"), "x").unwrap();
}

/// Who is run as root has no right over the machine, and a checker no way to processes that are not its own.
pub(crate) fn machine_and_processes() {
    let bench = Bench::new();
    // CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_BOOT, CAP_SYS_TIME.
    let bound = "[ $((0x$(sed -n 's/^CapBnd:[^0-9a-f]*//p' /proc/self/status) & 0x2430000)) -eq 0 ]";
    let run = |arguments: &[&str]| -> Ran {
        let mut command = bench.command(arguments);
        command.env("OUTER_PID", std::process::id().to_string()).output().unwrap().into()
    };
    for more in [&[][..], &["--no-ptrace"], &["--by", "ptrace"]] {
        let head = ["record", "--dir", "data", "-o", "run.trace"];
        let ran =
            run(&[&head[..], more, &["--", "/bin/sh", "-ec", &format!("{bound}; echo x > data/f")]].concat());
        assert_eq!(ran.code, 0, "{more:?} {}{}", ran.out, ran.err);
    }
    // A high number, which no process of a namespace of its own has.
    let alone = "[ -e /proc/1/status ] && [ ! -e /proc/$OUTER_PID ] && ! kill -0 $OUTER_PID 2>/dev/null && \
                 [ $(ls -d /proc/[0-9]* | wc -l) -lt 8 ]";
    let gains = "grep -q '^NoNewPrivs:[^0-9]*1' /proc/self/status";
    let check = format!("{bound} && {alone} && {gains}");
    let ran = run(&["explore", "run.trace", "--nested", "1", "--check", &check]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

/// A recording with some bytes changed, whose checksum is right, is refused, or its states can be made.
pub(crate) fn mutations() {
    let bench = Bench::new();
    bench.record("everything");
    let whole = fs::read(bench.trace()).unwrap();
    let plain = zstd::bulk::decompress(&whole[76..], 64 << 20).unwrap();
    let mut seed = 1_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let (mut read, mut made) = (0, 0);
    for _ in 0..4000 {
        let mut bytes = plain.clone();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            bytes[at] = match next(3) {
                0 => bytes[at] ^ (1 << next(8)),
                1 => [0, 1, 2, 127, 128, 255, b'/', b'.'][next(8)],
                _ => bytes[next(bytes.len())],
            };
        }
        let packed = zstd::bulk::compress(&bytes, 1).unwrap();
        let file = [&whole[..12], blake3::hash(&packed).as_bytes(), &[0; 32], &packed].concat();
        let Ok(recording) = file::decode(&file, Path::new("changed")) else { continue };
        read += 1;
        let lengths = recording.trace.steps.iter().map(|step| match &step.op {
            Op::SetLen { len, .. } => *len,
            Op::Write { offset, data, .. } => offset + data.len() as u64,
            _ => 0,
        });
        let longest = lengths.max().unwrap_or(0);
        assert!(longest <= sound::MOST_LENGTH);
        if longest < 64 << 20 {
            made += 1;
            let script = Script::new(&recording.trace, Profile::PosixStrict, Unit::Sector);
            let mut scene = Scene::new(&script);
            scene.go(script.steps.len());
            let _ = (recording.acks_before(script.steps.len()), recording.told_before(script.steps.len()));
        }
    }
    println!("  {read} of 4000 changed recordings were read, the states of {made} made");
    assert!(made > 100);
}

/// The recorder's socket answers nobody else, even one who gets there.
pub(crate) fn strange_callers() {
    let bench = Bench::new();
    let home = bench.home.path();
    let desk = Desk::open().unwrap();
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(me(), home.join("roles")).unwrap();
    let tape = Tape::new(read_start(&bench.data(), 1 << 20).unwrap(), 1 << 20, false);
    thread::scope(|scope| {
        scope.spawn(|| desk.serve(&tape));
        let mut stranger = Command::new(home.join("roles"));
        stranger.arg("call").arg(desk.name()).env(super::ROLE, "1").current_dir("/").uid(65534).gid(65534);
        let ran = Ran::from(stranger.output().unwrap());
        let answered = Line::call(desk.name().as_ref()).is_ok();
        desk.close();
        assert_eq!((ran.code, &*ran.out), (0, "nothing\n"), "{}", ran.err);
        assert!(answered, "who we are is answered");
    });
}
