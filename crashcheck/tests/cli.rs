//! The exit codes of the real program, and what it prints.

use std::io::Read;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn crashcheck(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crashcheck")).args(args).output().expect("the program starts")
}

#[track_caller]
fn check(args: &[&str], code: i32) -> Output {
    let output = crashcheck(args);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    output
}

fn last_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().expect("something is printed")).expect("the last line is JSON")
}

#[test]
fn usage_is_2_and_says_what_to_do() {
    for args in [&["engine", "--nested", "9"][..], &["fly"], &["engine", "--mutants", "--replay", "x"], &[]] {
        let output = check(args, 2);
        assert!(!output.stderr.is_empty());
    }
    let output = check(&["engine", "--replay", "fly.1"], 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--replay"));
}

#[test]
fn help_is_0_and_names_the_exit_codes() {
    let output = check(&["engine", "--help"], 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("Exit codes"));
}

#[test]
fn a_small_campaign_passes_with_a_certificate() {
    let output = check(&["engine", "--states", "300", "--max-units", "6", "--nested", "0", "--json"], 0);
    let value = last_line(&output);
    assert_eq!(value["verdict"], "PASS");
    assert!(value["distinct_states"].as_u64().unwrap() >= 300);
    assert_eq!(value["silent"], 0);
    assert_eq!(value["false_alarms"], 0);
    for key in [
        "nested_states",
        "states_per_second",
        "complete_bounds",
        "violations",
        "generated",
        "sequences",
        "seed",
        "resume",
    ] {
        assert!(!value[key].is_null(), "{key}");
    }
}

#[test]
fn no_time_is_not_measured() {
    let output = check(&["engine", "--seconds", "0", "--json"], 4);
    assert_eq!(last_line(&output)["verdict"], "NOT-MEASURED");
}

#[test]
fn a_state_is_replayed() {
    check(&["engine", "--replay", "append.0"], 0);
    check(&["engine", "--replay", "append.0@0.0.1.k0"], 0);
    check(&["engine", "--replay", "append.0@0.0.99999.k0"], 2);
}

#[test]
fn five_kills() {
    let output = check(&["kill", "--cycles", "5", "--json"], 0);
    let value = last_line(&output);
    assert_eq!(
        (value["cycles"].as_u64(), value["lost"].as_u64(), value["resurrected"].as_u64()),
        (Some(5), Some(0), Some(0))
    );
    assert!(value["acknowledged"].as_u64().unwrap() > 0, "nothing was written: {value}");
}

#[test]
fn a_scoreboard_goes_on_where_its_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("progress");
    let row = ["engine", "--scoreboard", "--row", "hostile", "--json", "--progress", file.to_str().unwrap()];
    let whole = last_line(&check(&row[..5], 0))["rows"][0].clone();
    let none = last_line(&check(&[&row[..], &["--seconds", "0"]].concat(), 4));
    assert_eq!(none["rows"][0]["cases"], 0);
    let mut earlier = 0;
    loop {
        let piece = last_line(&check(&[&row[..], &["--seconds", "1"]].concat(), 0))["rows"][0].clone();
        let cases = piece["cases"].as_u64().unwrap();
        assert!(cases > earlier, "nothing was tried in a second: {piece}");
        earlier = cases;
        if piece["finished"] == true {
            assert_eq!((&piece["cases"], &piece["next"]), (&whole["cases"], &whole["next"]));
            break;
        }
    }
    check(&["engine", "--scoreboard", "full", "--progress", file.to_str().unwrap()], 2);
}

#[test]
fn a_directory_in_use_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    check(&["kill", "--cycles", "1", "--dir", dir.path().to_str().unwrap()], 2);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_crashcheck"))
        .args(["engine", "--states", "1", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!((status.code(), complaint.as_str()), (Some(0), ""));
}
