//! openraft's own suites over the adapters, plainly and with a restart before every single call.

use seawall_conformance::outcome::Tally;
use seawall_conformance::subjects::suites;

#[track_caller]
fn passes(tally: &Tally, cases: usize) {
    assert_eq!((tally.cases, tally.passed), (cases, cases), "{tally:#?}");
}

#[test]
fn the_suite_of_0_9_passes() {
    passes(&suites::nine(), 35);
}

#[test]
fn the_suite_of_0_9_passes_with_a_restart_before_every_call() {
    passes(&suites::nine_reopened(), 35);
}

#[test]
fn the_suite_of_0_10_passes() {
    passes(&suites::ten(), 45);
}

#[test]
fn the_suite_of_0_10_passes_with_a_restart_before_every_call() {
    passes(&suites::ten_reopened(), 45);
}
