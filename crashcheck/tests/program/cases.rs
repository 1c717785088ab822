//! The cases: what is recorded, and what the tool must say of it.
//!
//! I own the expectations. Each case has a directory of its own and leaves nothing.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use super::alone;
use super::apart;
use super::attacks;
use super::hostile;
use super::killed;
use super::others;
use super::pages;
use super::promises;
use super::talk;
use super::tool::{Bench, signal, traces_of, until};
use super::words;

/// The cases by name.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("a_rename_without_a_sync_is_found_and_the_sync_is_named", rename_without_sync),
    ("a_file_sync_alone_leaves_the_name_in_doubt", rename_with_file_sync),
    ("a_rename_with_both_syncs_passes", rename_with_syncs),
    ("stores_into_a_mapping_are_recorded", mapping),
    ("calls_of_an_io_uring_are_recorded", ring),
    ("a_write_that_came_too_late_for_a_sync_of_another_thread_is_found", threads),
    ("every_operation_is_recorded", everything),
    ("a_synced_write_is_a_write_and_a_sync", synced_writes),
    ("a_lookup_is_an_acknowledgement", lookups),
    ("what_a_checker_changes_is_undone", meddling),
    ("a_checker_shares_no_place_for_temporary_files", apart::places),
    ("what_is_mounted_in_such_a_place_stays_there", apart::mounts_within),
    ("without_layers_it_is_told_what_is_shared", apart::no_layers),
    ("a_persistent_checker_says_the_same", persistent),
    ("a_checker_that_crashes_or_hangs_is_a_failure_of_the_control", broken_checkers),
    ("the_same_seed_gives_the_same_states", determinism),
    ("a_state_is_laid_out_again", replay),
    ("a_recording_that_is_too_long_is_not_measured", limits),
    ("a_workload_that_fails_or_leaves_children_is_reported", failures),
    ("a_recording_that_cannot_be_read_is_refused", refusals),
    ("a_strangers_recording_is_shown_where_the_user_says", attacks::strangers_recordings),
    ("a_directorys_name_is_a_word_of_the_shell", attacks::words_of_a_shell),
    ("a_recording_that_no_recorder_made_is_refused", attacks::impossible_recordings),
    ("modes_let_nobody_else_in", attacks::modes),
    ("a_page_has_every_class_and_needs_nothing_else", pages::page),
    ("a_page_has_every_verdict", pages::other_pages),
    ("a_sync_of_everything_is_seen_by_tracing", pages::whole_syncs),
    ("a_sync_of_another_file_system_is_none", pages::foreign_syncs),
    ("a_traced_program_is_as_it_was", pages::traced_programs),
    ("a_crash_within_the_checkers_recovery_is_found", nested),
    ("a_sync_that_nothing_misses_is_named", dropped_syncs),
    ("a_failing_call_is_followed_by_crashes", failing_calls),
    ("a_program_that_does_not_open_needs_no_oracle", promises::opens),
    ("an_sqlite_file_is_asked_whether_it_is_whole", promises::sqlite),
    ("a_dump_is_held_against_what_was_announced", promises::dumps),
    ("what_is_known_is_no_finding_and_what_is_new_is", promises::ratchet),
    ("random_states_end_when_nothing_new_comes", promises::exhausted),
    ("a_search_goes_on_where_it_ended", promises::resumed),
    ("a_search_that_ended_early_is_no_pass", promises::cut_short),
    ("a_checker_that_does_not_read_is_not_waited_for", talk::deaf),
    ("an_answer_that_nobody_asked_for_is_refused", talk::unasked),
    ("a_checker_that_talks_for_ever_is_bounded", talk::endless),
    ("a_program_that_talks_for_ever_is_bounded", talk::endless_programs),
    ("calls_alone_tell_the_same_steps_as_a_file_system", alone::same_steps),
    ("calls_alone_tell_what_threads_do_side_by_side", alone::threads),
    ("stores_are_found_by_comparison", alone::stores),
    ("a_ring_is_refused_or_nothing_is_measured", alone::rings),
    ("a_write_to_a_closed_descriptor_is_an_acknowledgement", alone::closed_descriptors),
    ("files_come_from_outside_and_leave", alone::foreign_files),
    ("anybody_may_record_by_calls_alone", alone::as_anybody),
    ("calls_alone_leave_nothing_behind", alone::ends),
    ("a_finding_names_the_place_in_the_program", alone::call_sites),
    ("a_thread_may_become_another_program", alone::threads_that_exec),
    ("a_file_that_has_changed_names_nothing", alone::other_files),
    ("stacks_are_left_out_if_asked", alone::no_stacks),
    ("no_place_that_this_run_needs_shows_states", hostile::places),
    ("a_working_directorys_name_is_no_command", hostile::names_are_no_commands),
    ("names_and_an_order_that_cannot_be_are_refused", hostile::impossible_names),
    ("a_small_recording_takes_little_memory", hostile::small_files),
    ("zeros_that_were_written_are_read_again", hostile::zeros_come_back),
    ("the_recorder_keeps_its_mask_and_follows_no_link", hostile::private_files),
    ("the_recorder_answers_no_stranger", hostile::strange_callers),
    ("another_user_records_and_checks_without_rights", hostile::without_rights),
    ("a_changed_recording_is_an_error_or_bounded", hostile::mutations),
    ("nothing_that_a_terminal_obeys_comes_through", words::odd_words),
    ("an_interrupt_leaves_nothing_behind", interrupts),
    ("who_is_run_has_no_right_over_the_machine_and_a_checker_sees_nobody", hostile::machine_and_processes),
    ("states_are_laid_out_with_the_rights_of_who_goes_on_beside", hostile::files_of_another),
    ("a_subject_has_no_right_of_roots", others::rightless),
    ("a_subject_ends_with_the_tool", others::ends),
    ("a_kill_leaves_nothing_behind", kills),
    ("a_kill_at_any_moment_leaves_nothing_behind", killed::any_moment),
];

pub(crate) fn symptoms(json: &Value) -> Vec<(String, String)> {
    let classes = json["classes"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    classes.iter().map(|class| (text(&class["symptom"]), text(&class["missing_sync"]))).collect()
}

fn rename_without_sync() {
    let bench = Bench::new();
    let begun = Instant::now();
    let recorded = bench.record("publish");
    assert_eq!((recorded["syncs"].as_u64(), recorded["acks"].as_u64()), (Some(0), Some(3)));
    let ran = bench.explore("check-publish", &[]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    println!("  first finding {:.2} s after the command began", begun.elapsed().as_secs_f64());
    let json = ran.json();
    assert_eq!(json["verdict"], "FAIL");
    let found = symptoms(&json);
    let is_found = |symptom: &str, sync: &str| {
        found.iter().any(|(said, missing)| said.contains(symptom) && missing.starts_with(sync))
    };
    assert!(is_found("conf holds", "fsync of conf.tmp after step 1 (write"), "{found:#?}");
    assert!(is_found("acknowledged", "fsync of the directory itself after step 2 (rename"), "{found:#?}");
    for class in json["classes"].as_array().unwrap() {
        let profiles: Vec<&str> =
            class["profiles"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let unsynced_name = class["missing_sync"].as_str().is_some_and(|sync| sync.contains("directory"));
        assert!(!unsynced_name || profiles.len() == 6, "no file system keeps a name without a sync: {class}");
        let forgiven = class["symptom"].as_str().unwrap().contains("conf holds");
        assert!(profiles.contains(&"posix-strict"));
        assert!(!forgiven || class["id"] == "3-1" || profiles.contains(&"ext4"), "{class}");
    }
}

fn rename_with_file_sync() {
    let bench = Bench::new();
    bench.record("publish-file-sync");
    let json = bench.explore("check-publish", &[]).json();
    let found = symptoms(&json);
    assert!(
        !found.is_empty() && found.iter().all(|(symptom, _)| symptom.contains("acknowledged")),
        "{found:#?}"
    );
    assert!(
        found.iter().all(|(_, sync)| sync.starts_with("fsync of the directory itself after step")),
        "{found:#?}"
    );
}

fn rename_with_syncs() {
    let bench = Bench::new();
    bench.record("publish-synced");
    let ran = bench.explore("check-publish", &["-k", "3"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let json = ran.json();
    assert_eq!((json["verdict"].as_str(), json["failed_states"].as_u64()), (Some("PASS"), Some(0)));
    assert!(json["distinct_states"].as_u64().unwrap() > 10);
    assert!(json["certificate"].as_str().unwrap().contains("up to 3 operations lost complete"));
}

fn mapping() {
    value_and_header("map", "store: a write of 8192 bytes at 0 of m");
}

fn ring() {
    value_and_header("ring", "a write of 5 bytes at 4096 of m");
}

/// A value and a header that says so, first without a sync between them, then with one.
fn value_and_header(role: &str, recorded: &str) {
    let bench = Bench::new();
    bench.record(role);
    let ran = bench.explore("check-map", &[]);
    assert_eq!(ran.code, 1, "{}{}\n{}", ran.out, ran.err, bench.show());
    assert!(bench.show().contains(recorded), "{}", bench.show());
    let found = symptoms(&ran.json());
    assert!(found.iter().any(|(symptom, _)| symptom.contains("the value is not")), "{found:#?}");
    let bench = Bench::new();
    bench.record(&format!("{role}-synced"));
    let ran = bench.explore("check-map", &[]);
    assert_eq!(ran.code, 0, "{}{}\n{}", ran.out, ran.err, bench.show());
}

fn threads() {
    let bench = Bench::new();
    bench.record("group-commit");
    let states = ["--states", "600"];
    let ran = bench.explore("check-slots", &states);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let bench = Bench::new();
    bench.record("group-commit-late");
    let ran = bench.explore("check-slots", &states);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let json = ran.json();
    assert!(symptoms(&json)[0].0.contains("is not there"), "{json}");
}

fn everything() {
    let bench = Bench::new();
    bench.record("everything");
    let shown = bench.show();
    for what in ["symlink", "link", "rename", "exchange", "zeroed", "unlink", "rmdir", "truncate", "mkdir"] {
        assert!(shown.contains(what), "{what} is not in\n{shown}");
    }
    let ran = bench.explore("check-nothing", &["--states", "600"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

fn synced_writes() {
    let bench = Bench::new();
    let recorded = bench.record("dsync");
    assert_eq!(recorded["syncs"], 9, "{}", bench.show());
    let ran = bench.explore("check-dsync", &[]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

fn lookups() {
    let bench = Bench::new();
    let recorded = bench.record("lookup");
    assert_eq!(recorded["acks"], 3);
    let shown = bench.show();
    let lines: Vec<&str> =
        shown.lines().map(|line| line.trim_start().split_once(' ').map_or("", |l| l.1.trim())).collect();
    let place = |what: &str| {
        lines.iter().position(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {shown}"))
    };
    assert!(place("a write of 1 bytes") < place("ack one") && place("ack one") < place("a write of 2 bytes"));
    assert!(place("a write of 2 bytes") < place("ack two words"));
}

fn meddling() {
    let bench = Bench::new();
    bench.record("many");
    let ran = bench.explore("check-and-meddle", &["--states", "400", "--jobs", "1"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

fn persistent() {
    let bench = Bench::new();
    bench.record("publish");
    let one = bench.explore("check-publish", &[]).json();
    let once = bench.explore("serve-publish", &["--persistent"]).json();
    assert_eq!(symptoms(&one), symptoms(&once));
    assert_eq!(
        (&one["distinct_states"], &one["failed_states"]),
        (&once["distinct_states"], &once["failed_states"])
    );
    // It is started again when it died, and that was a failure.
    let dies = bench.explore("serve-and-die", &["--persistent"]).json();
    assert_eq!(dies["failed_states"], one["failed_states"]);
    assert!(symptoms(&dies).iter().all(|(symptom, _)| symptom.contains("SIGABRT")), "{dies}");
}

fn broken_checkers() {
    let bench = Bench::new();
    bench.record("publish");
    for (role, options, says) in [
        ("check-dies", &[][..], "SIGABRT"),
        ("check-hangs", &["--check-limit", "200"][..], "no answer within 200 ms"),
        ("no-such-role", &[][..], "no role"),
    ] {
        let ran = bench.explore(role, options);
        assert_eq!(ran.code, 3, "{role}: {}{}", ran.out, ran.err);
        assert_eq!(ran.json()["verdict"], "HARNESS-BROKEN");
        assert!(ran.out.contains(says), "{}", ran.out);
    }
    let ran = bench.run(&["explore", "run.trace", "--check", "/no/such/program"]);
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("/no/such/program"), "{}", ran.err);
    // What a checker leaves running does not last.
    let ran = bench.explore("check-leaves-a-child", &["--states", "20"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

fn determinism() {
    let bench = Bench::new();
    bench.record("many");
    let run = |seed: &str, jobs: &str| {
        let mut json =
            bench.explore("check-many", &["--states", "1500", "--seed", seed, "--jobs", jobs]).json();
        for timed in ["seconds", "states_per_second", "first_failure_seconds"] {
            json[timed] = Value::Null;
        }
        json
    };
    let first = run("7", "2");
    assert_eq!(first["distinct_states"], 1500);
    assert_eq!(first, run("7", "1"));
}

fn replay() {
    let bench = Bench::new();
    bench.record("publish");
    let json = bench.explore("check-publish", &[]).json();
    let class = &json["classes"].as_array().unwrap()[0];
    let id = class["id"].as_str().unwrap();
    let ran = bench.run(&["replay", id, "run.trace", "--into", "laid"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(bench.home.path().join("laid").is_dir());
    let other = bench.run(&["replay", "99999", "run.trace", "--into", "other"]);
    assert_eq!(other.code, 2);
    assert!(other.err.contains("names no state"), "{}", other.err);
}

fn limits() {
    let bench = Bench::new();
    let ran = bench.record_with(&["--limit", "8"], "gigabytes");
    assert_eq!(ran.code, 4, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("limit of 8 MiB") && !bench.trace().exists(), "{}", ran.err);
    let ran = bench.record_with(&["--time-limit", "1"], "sleep");
    assert_eq!(ran.code, 4, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("--time-limit"), "{}", ran.err);
    until("processes or mounts are left", || traces_of(bench.home.path()) == (0, 0));
}

fn failures() {
    let bench = Bench::new();
    let ran = bench.record_with(&[], "fail");
    assert_eq!((ran.code, ran.json()["exit"].as_i64()), (1, Some(1)), "{}{}", ran.out, ran.err);
    assert!(bench.trace().exists() && ran.err.contains("on purpose"), "{}", ran.err);
    let ran = bench.record_with(&[], "spawn");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    until("the child lives on", || traces_of(&bench.data()).0 == 0);
    let ran = bench.run(&["record", "--dir", "nowhere", "-o", "t", "--", "true"]);
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("nowhere"), "{}", ran.err);
    let ran = bench.run(&["record", "--dir", "data", "-o", "t", "--", "./no-such-program"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("no-such-program"), "{}", ran.err);
}

fn refusals() {
    let bench = Bench::new();
    bench.record("publish");
    let whole = fs::read(bench.trace()).unwrap();
    let refuse = |bytes: &[u8], says: &str| {
        fs::write(bench.trace(), bytes).unwrap();
        let ran = bench.run(&["show", "run.trace"]);
        assert_eq!(ran.code, 3, "{}", ran.out);
        assert!(ran.err.contains(says), "{}", ran.err);
    };
    // The seal, between hash and content, says who made it: a foreign one is no damage.
    for at in (12..44).chain(76..whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        refuse(&bytes[..if at % 2 == 0 { bytes.len() } else { at }], "damaged");
    }
    let of_version = |version: u32| [&whole[..8], &version.to_le_bytes(), &whole[12..]].concat();
    refuse(&of_version(4), "use a newer one");
    refuse(&of_version(2), "does not read any more");
    refuse(b"#!/bin/sh\n", "is not a crashcheck recording");
}

/// Starts a recording of a program that does not end, and an exploration by a checker that does not.
fn started(bench: &Bench) -> [std::process::Child; 2] {
    bench.record("publish");
    let other = bench.home.path().join("other");
    fs::create_dir(&other).unwrap();
    let start = |arguments: &[&str]| {
        bench.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let me = super::tool::me();
    let record = start(&["record", "--dir", "other", "-o", "no.trace", "--", &me, "sleep", "other"]);
    until("the program does not start", || other.join("started").exists());
    let check = format!("{me} check-hangs data");
    let explore = start(&["explore", "run.trace", "--check", &check, "--check-limit", "600000"]);
    until("the checker does not start", || traces_of(&bench.data()).1 > 0);
    assert!(traces_of(&other).1 > 0, "the program's mount is seen");
    [record, explore]
}

fn interrupts() {
    let bench = Bench::new();
    let [mut record, mut explore] = started(&bench);
    assert!(signal(&record, "INT"));
    assert_eq!(record.wait().unwrap().code(), Some(4));
    // The control hangs in the checker: the second signal ends it as a kill would.
    assert!(signal(&explore, "TERM"));
    until("the second signal has no effect", || {
        let _ = signal(&explore, "TERM");
        traces_of(&bench.data()).1 == 0
    });
    explore.wait().unwrap();
    until("processes or mounts are left", || traces_of(bench.home.path()) == (0, 0));
    assert!(!bench.home.path().join("no.trace").exists());
}

fn kills() {
    let bench = Bench::new();
    for mut child in started(&bench) {
        assert!(signal(&child, "KILL"));
        child.wait().unwrap();
    }
    until("processes or mounts are left", || traces_of(bench.home.path()) == (0, 0));
    assert!(bench.home.path().join("other/started").exists(), "what the program wrote is there");
}

fn nested() {
    let bench = Bench::new();
    bench.record("publish-synced");
    // Its recovery removes what is left of a value and writes the number of openings in place.
    let options = ["--nested", "12", "--junit", "report.xml"];
    let ran = bench.explore("recover-in-place", &options);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let json = ran.json();
    let found = symptoms(&json);
    assert!(
        found.iter().all(|(symptom, _)| symptom.starts_with("after a crash within its own recovery")),
        "{found:#?}"
    );
    assert!(json["classes"][0]["id"].as_str().unwrap().contains('/'), "{json}");
    let junit = fs::read_to_string(bench.home.path().join("report.xml")).unwrap();
    assert!(junit.contains("<failure message=\"after a crash within its own recovery"), "{junit}");
    let ran = bench.explore("recover-by-rename", &["--nested", "12"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.json()["certificate"].as_str().unwrap().contains("crashes within"), "{}", ran.out);
}

fn dropped_syncs() {
    let bench = Bench::new();
    bench.record("publish-synced");
    let check = format!("{} check-publish data", super::tool::me());
    let mutate = |check: &str| bench.run(&["mutate-syncs", "run.trace", "--json", "--check", check]);
    let ran = mutate(&check);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!((&ran.json()["syncs"], &ran.json()["missed"]), (&6.into(), &6.into()));
    let ran = mutate(&format!("{} check-nothing data", super::tool::me()));
    assert_eq!((ran.code, &ran.json()["survivors"]), (1, &6.into()), "{}", ran.out);
}

fn failing_calls() {
    let bench = Bench::new();
    fs::write(bench.data().join("conf"), "value 0\n").unwrap();
    let me = super::tool::me();
    let check = format!("{me} check-publish data");
    let fault = |role: &str, call: &str, error: &str| {
        let head = ["fault", "--json", "--dir", "data", "--call", call, "--error", error, "--check", &check];
        bench.run(&[&head[..], &["--", &me, role, "data"]].concat())
    };
    // A program that ends at the first error leaves nothing wrong.
    let ran = fault("publish-synced", "fsync", "EIO");
    assert_eq!((ran.code, &ran.json()["calls"]), (0, &6.into()), "{}{}", ran.out, ran.err);
    assert!(ran.json()["runs"].as_array().unwrap().iter().all(|run| run["exit"] == 1), "{}", ran.out);
    // One that tries the sync again believes what is not so.
    let ran = fault("publish-and-retry", "fsync", "EIO");
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let ran = fault("publish-synced", "write", "short");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!(
        fs::read_to_string(bench.data().join("conf")).unwrap(),
        "value 0\n",
        "the directory is not touched"
    );
    assert_eq!(fault("publish-synced", "fsync", "EOOPS").code, 3);
}
