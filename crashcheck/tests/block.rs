//! Block mode and calibration for real: as root, with loop devices and FUSE.
//!
//! Where that cannot be had each test says so in one line, `SKIPPED`, with the reason.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crashcheck::block::room::missing;
use serde_json::Value;

#[path = "block/hostile.rs"]
mod hostile;

/// Whether there is all that a test needs; if not, it says why.
fn ready(tools: &[&str]) -> bool {
    let absent = |tool: &&&str| {
        !["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|dir| Path::new(dir).join(tool).exists())
    };
    let why = missing().map(|missing| missing.0);
    let why = why.or_else(|| tools.iter().find(absent).map(|tool| format!("{tool} is not installed")));
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    if let Some(why) = &why {
        println!("SKIPPED 1 test, {test}: {why}");
    }
    why.is_none()
}

fn crashcheck(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crashcheck")).args(args).output().expect("the program starts")
}

#[track_caller]
fn check(args: &[&str], code: i32) -> String {
    let output = crashcheck(args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {all}");
    all
}

#[track_caller]
fn json(args: &[&str], code: i32) -> Value {
    let text = check(args, code);
    let line = text.lines().rev().find(|line| line.starts_with('{')).expect("a line of JSON");
    serde_json::from_str(line).expect("the line is JSON")
}

/// Three values, each renamed over the one before and acknowledged; with or without the syncs.
fn replaces(synced: bool) -> String {
    let sync = if synced { "sync t; mv t f; sync ." } else { "mv t f" };
    format!("for i in 1 2 3; do echo $i > t; {sync}; echo \"durable-ack $i\"; done; echo not an ack; sync")
}

/// The value is at least the last that was acknowledged.
const AT_LEAST: &str = "last=$(tail -n 1 \"$CRASHCHECK_ACKS\"); [ -z \"$last\" ] && exit 0; \
     [ \"$(cat f)\" -ge \"$last\" ] || { echo \"lost an acknowledged value\" >&2; exit 1; }";

#[test]
fn a_store_that_syncs_passes_on_each_file_system() {
    for (fs, tool) in [("ext4", "mkfs.ext4"), ("xfs", "mkfs.xfs"), ("btrfs", "mkfs.btrfs")] {
        if !ready(&[tool]) {
            continue;
        }
        let workload = replaces(true);
        let args = [
            "block", "--fs", fs, "--states", "30", "--check", AT_LEAST, "--json", "--", "sh", "-c", &workload,
        ];
        let value = json(&args, 0);
        assert_eq!(value["verdict"], "PASS", "{fs}: {value}");
        assert_eq!(value["acks"], 3, "{fs}: {value}");
        for key in ["states", "distinct_states", "writes", "flushes"] {
            assert!(value[key].as_u64().expect(key) > 2, "{fs} {key}: {value}");
        }
        assert!(value["states_per_second"].as_f64().expect("a rate") > 0.0);
    }
}

#[test]
fn a_missing_sync_is_found_and_shown_again_from_the_log() {
    if !ready(&["mkfs.ext4"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log");
    let log = log.to_str().expect("UTF-8");
    let workload = replaces(false);
    let recorded = [
        "block", "--states", "40", "--check", AT_LEAST, "--json", "--save", log, "--", "sh", "-c", &workload,
    ];
    let value = json(&recorded, 1);
    assert_eq!(value["verdict"], "FAIL");
    assert_eq!(value["classes"][0]["symptom"], "lost an acknowledged value", "{value}");
    // The log holds the device from its first byte: another program could replay it.
    let bytes = fs::read(log).expect("the log");
    assert_eq!(bytes[..8], *b"rhswfsj\0");
    let again = json(&["block", "--load", log, "--states", "60", "--check", AT_LEAST, "--json"], 1);
    assert_eq!(again["acks"], 3);
    let state = again["classes"][0]["state"].as_str().expect("a state");
    let shown = check(&["block", "--load", log, "--check", AT_LEAST, "--replay", state], 1);
    assert!(shown.contains("FAIL: lost an acknowledged value"), "{shown}");
    check(&["block", "--load", log, "--check", "true", "--replay", state], 0);
    check(&["block", "--load", log, "--replay", "1.k0"], 3);
}

#[test]
fn what_goes_wrong_has_its_words_and_its_code() {
    if !ready(&["mkfs.ext4"]) {
        return;
    }
    let failing = check(&["block", "--", "sh", "-c", "exit 7"], 3);
    assert!(failing.contains("the workload failed: exit status: 7"), "{failing}");
    let slow = check(&["block", "--workload-seconds", "1", "--", "sleep", "100"], 3);
    assert!(slow.contains("took longer than 1 s"), "{slow}");
    let hangs = check(&["block", "--check", "sleep 100", "--check-seconds", "1", "--", "true"], 3);
    assert!(hangs.contains("the checker took longer than 1 s"), "{hangs}");
    let killed = check(&["block", "--check", "kill -SEGV $$", "--", "true"], 3);
    assert!(killed.contains("killed by signal 11"), "{killed}");
    let nothing = check(&["block", "--", "./no-such-program"], 3);
    assert!(nothing.contains("no-such-program does not start"), "{nothing}");
    let full =
        check(&["block", "--max-log-mib", "1", "--", "sh", "-c", "head -c 4000000 /dev/zero > f; sync"], 4);
    assert!(full.contains("NOT-MEASURED") && full.contains("--max-log-mib"), "{full}");
    let damaged = tempfile::NamedTempFile::new().expect("a file");
    fs::write(damaged.path(), [7; 4096]).expect("a write");
    let damaged = check(&["block", "--load", damaged.path().to_str().expect("UTF-8")], 3);
    assert!(damaged.contains("not a log of dm-log-writes"), "{damaged}");
    check(&["block"], 2);
}

#[test]
fn without_root_it_says_so() {
    if !ready(&["unshare"]) {
        return;
    }
    let program = env!("CARGO_BIN_EXE_crashcheck");
    let output =
        Command::new("unshare").args(["--user", program, "block", "--", "true"]).output().expect("unshare");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if words.contains("unshare failed") {
        println!("SKIPPED 1 test, without_root_it_says_so: {words}");
        return;
    }
    assert_eq!(output.status.code(), Some(4), "{words}");
    assert!(words.contains("needs root"), "{words}");
}

/// A size that no other test has, so that its loop devices can be told.
const ODD_MIB: u64 = 19;

/// The loop devices of that size.
fn loops() -> Vec<String> {
    let entries = fs::read_dir("/sys/block").expect("sysfs");
    let sectors = |name: &str| fs::read_to_string(format!("/sys/block/{name}/size")).unwrap_or_default();
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("loop") && sectors(name).trim() == (ODD_MIB * 2048).to_string())
        .collect()
}

/// The command lines of all processes.
fn commands() -> impl Iterator<Item = String> {
    let command = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).unwrap_or_default();
    let all = fs::read_dir("/proc").expect("proc").filter_map(Result::ok).map(command);
    all.map(|line| String::from_utf8_lossy(&line).replace('\0', " ").trim_end().to_owned())
}

fn start(nap: &str) -> Child {
    // A daemon in a session of its own, and a workload that never ends.
    let workload = format!("setsid sleep {nap} & for i in $(seq 100000); do echo $i > f; sync f; done");
    let mut command = Command::new(env!("CARGO_BIN_EXE_crashcheck"));
    command.args(["block", "--size-mib", &ODD_MIB.to_string(), "--", "sh", "-c", &workload]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
}

#[test]
fn nothing_is_left_whatever_ends_the_tool() {
    if !ready(&["mkfs.ext4", "setsid"]) {
        return;
    }
    let nap = format!("9{:07}", std::process::id());
    let sleeping = format!("sleep {nap}");
    let left = || commands().filter(|command| command.contains(&sleeping)).count();
    for (signal, wait) in [("KILL", 400), ("INT", 400), ("TERM", 400), ("KILL", 40), ("KILL", 130)] {
        let mut child = start(&nap);
        if wait == 400 {
            // Not before it has come to the workload.
            let begun = Instant::now();
            while !commands().any(|command| command == sleeping) && begun.elapsed() < Duration::from_secs(60)
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(!loops().is_empty(), "the workload runs on a loop device");
        }
        std::thread::sleep(Duration::from_millis(wait));
        let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(status.expect("kill").success());
        child.wait().expect("its end");
        let ended = Instant::now();
        while (left() > 0 || !loops().is_empty()) && ended.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(left(), 0, "after {signal} at {wait} ms");
        assert_eq!(loops(), Vec::<String>::new(), "after {signal} at {wait} ms");
    }
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains("/run/crashcheck"), "{mounts}");
}

#[test]
fn a_true_profile_holds_and_a_wrong_one_is_caught() {
    if !ready(&["mkfs.ext4", "xfs_io"]) {
        return;
    }
    let one = [
        "calibrate",
        "--fs",
        "ext4",
        "--litmus",
        "two appends, each synced",
        "--states",
        "12",
        "--every",
        "1",
        "--json",
    ];
    let value = json(&one, 0);
    let row = &value["fs"][0];
    assert_eq!((&row["litmus"], &row["contained"]), (&Value::from(1), &Value::from(1)), "{row}");
    for key in ["outcomes_seen", "outcomes_predicted", "states"] {
        assert!(row[key].as_u64().expect(key) >= 3, "{key}: {row}");
    }
    for key in ["excess", "seconds"] {
        assert!(row[key].is_number(), "{key}: {row}");
    }
    // XFS keeps a growth only with its data; ext4 does not, and that must be seen.
    let wrong = json(&[&one[..], &["--profile", "xfs"]].concat(), 1);
    assert_eq!(wrong["verdict"], "FAIL");
    assert_eq!(wrong["fs"][0]["contained"], 0);
    let outcome = wrong["fs"][0]["rows"][0]["violations"][0]["outcome"].as_str().expect("an outcome");
    assert!(outcome.contains("x0"), "zeros in place of the data: {outcome}");
    check(&["calibrate", "--fs", "ext4", "--profile", "minix"], 2);
    check(&["calibrate", "--fs", "ext4", "--litmus", "no such litmus"], 2);
}
