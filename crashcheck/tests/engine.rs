//! The engine as a subject: what is generated, that findings repeat, that planted bugs are found.

use std::collections::BTreeMap;
use std::time::Duration;

use crashcheck::core::choices::{Bounds, Tears};
use crashcheck::core::replay::replay;
use crashcheck::engine::campaign::{crash_failure, first_failure};
use crashcheck::engine::certificate::{parse_replay, sequence_text};
use crashcheck::engine::execute::execute;
use crashcheck::engine::generate::{Plan, Sequence};
use crashcheck::engine::media::{FileDamage, Known, Outcome, damaged_files, flip};
use crashcheck::engine::mutants::{HINTS, hunt};
use crashcheck::engine::planted::{PlantedVfs, with};
use crashcheck::engine::replicas::{self, Settings};
use crashcheck::engine::step::{self, Kind};
use crashcheck::engine::subject::EngineSubject;
use seawall::planted::Bug;
use seawall::vfs::mem::MemVfs;

#[test]
fn every_kind_is_produced_and_a_third_is_structural() {
    let plan = Plan::new(3, 2, 2);
    let steps = (plan.enumerated()..plan.enumerated() + 4000).flat_map(|n| plan.sequence(n).steps);
    let mut counts: BTreeMap<Kind, u64> = BTreeMap::new();
    steps.for_each(|s| *counts.entry(s.kind).or_default() += 1);
    let all: u64 = counts.values().sum();
    for (kind, count) in &counts {
        println!("{:14} {:5.1} %", kind.name(), *count as f64 * 100.0 / all as f64);
    }
    assert!(Kind::ALL.iter().all(|k| counts.contains_key(k)), "some kind is never produced");
    let structural: u64 = counts.iter().filter(|(k, _)| k.is_structural()).map(|(_, n)| n).sum();
    println!("structural     {:5.1} %", structural as f64 * 100.0 / all as f64);
    assert!(structural * 100 >= all * 30);
}

#[test]
fn sequences_have_a_text_form() {
    for hint in HINTS {
        let (sequence, id) = parse_replay(hint).unwrap();
        assert_eq!((sequence_text(&sequence).as_str(), id), (*hint, None));
    }
    assert!(step::parse("append.0,fly.1").is_err());
    assert!(parse_replay("append.0@nonsense").is_err());
}

#[test]
fn a_run_repeats_byte_for_byte() {
    let plan = Plan::new(8, 2, 4);
    for number in plan.enumerated()..plan.enumerated() + 30 {
        let sequence = plan.sequence(number);
        let (first, second) = (execute::<MemVfs>(&sequence), execute::<MemVfs>(&sequence));
        assert_eq!(first.image, second.image, "{}", sequence_text(&sequence));
        assert_eq!(first.trace, second.trace, "{}", sequence_text(&sequence));
    }
}

#[test]
fn the_engine_passes_short_sequences() {
    let bounds = Bounds { max_subset_units: 6, omissions: 1, ..Bounds::default() };
    for text in
        ["", "append.0", "batch.0,vote.1", "overwrite.0", "publish.2", "compact.0", "install.1", "overlap.0"]
    {
        let (sequence, _) = parse_replay(text).unwrap();
        let failure = first_failure::<MemVfs>(&sequence, &bounds);
        assert!(failure.is_none(), "{text:?}: {failure:?}");
    }
}

/// A recovery's footer, torn by the next crash: the trailer held, and the table that it vouches for not.
#[test]
fn a_torn_footer_never_counts() {
    let bounds = Bounds { nested_depth: 1, tears: Tears::One, ..Bounds::default() };
    for text in ["!", "reopen.0"] {
        let (sequence, _) = parse_replay(text).unwrap();
        let failure = first_failure::<MemVfs>(&sequence, &bounds);
        assert!(failure.is_none(), "{text:?}: {failure:?}");
    }
}

/// Sequences in which the engine once failed, by what it did wrong.
#[test]
fn what_once_failed_passes() {
    let bounds = Bounds { max_subset_units: 5, omissions: 1, ..Bounds::default() };
    for (text, wrong) in [
        ("errno.8,fail.24", "a spare whose length was not durable became a segment"),
        ("errno.16,fail.81", "a segment without a start was believed to name the cut of another"),
        ("vote.57,install.62,read-error.144", "a manifest that could not be read once was called missing"),
    ] {
        let (sequence, _) = parse_replay(text).unwrap();
        let failure = first_failure::<MemVfs>(&sequence, &bounds);
        assert!(failure.is_none(), "{text}: {wrong}: {failure:?}");
    }
    for (text, wrong) in [
        ("vote.0@0.0.16.k2", "a verification called a frame damaged whose first copy a crash had lost"),
        (
            "vote.0@0.0.16.k3/8.k8/1.k1/8.kf",
            "a verification missed the records that a later recovery had carried on",
        ),
    ] {
        let (sequence, id) = parse_replay(text).unwrap();
        let run = execute::<MemVfs>(&sequence);
        let bounds = Bounds::default();
        let found = replay(&EngineSubject::<MemVfs>::default(), &run, &bounds, &id.unwrap()).unwrap();
        assert!(found.violations.is_empty(), "{text}: {wrong}: {:?}", found.violations);
    }
}

/// Two media faults at once: the newest segment and the file that says how far the log had come.
#[test]
fn two_damaged_files_are_never_silent() {
    for known in [Known::clean::<MemVfs>(), Known::unclean::<MemVfs>()] {
        let damages = damaged_files::<MemVfs>(&known);
        let of_high = |d: &&FileDamage| d.what.starts_with("HIGHWATER");
        for high in damages.iter().filter(of_high) {
            for other in damages.iter().filter(|d| !d.meets(high)) {
                let both = high.with(other);
                let outcome = known.probe::<MemVfs>(both.on(&known.image));
                assert!(!outcome.is_wrong(), "{} in the store {}: {outcome:?}", both.what, known.name);
            }
        }
    }
}

#[test]
fn a_finding_is_replayed_by_its_id() {
    let sequence = Sequence::of(step::parse("append.0").unwrap());
    let bounds = Bounds::default();
    with(Some(Bug::AckWithoutSync), || {
        let run = execute::<PlantedVfs>(&sequence);
        let (id, violation, _) =
            crash_failure::<PlantedVfs>(&run, &bounds, None).expect("an engine that never syncs");
        let text = format!("{}@{}", sequence_text(&sequence), id.expect("a crash state"));
        let (again, id) = parse_replay(&text).unwrap();
        let run = execute::<PlantedVfs>(&again);
        let subject = EngineSubject::<PlantedVfs>::default();
        let replayed = replay(&subject, &run, &bounds, &id.unwrap()).unwrap();
        assert!(replayed.violations.iter().any(|v| v.property == violation.property), "{}", replayed.text);
    });
}

#[test]
fn planted_bugs_are_found_quickly() {
    for bug in [Bug::AckWithoutSync, Bug::AckBeforeSync, Bug::PayloadUnchecked] {
        let row = hunt(bug, 1, Duration::from_secs(60));
        let kill = row.killed.unwrap_or_else(|| panic!("{} survived", row.bug));
        assert!(kill.operations <= 10, "{}: {} operations", row.bug, kill.operations);
    }
}

#[test]
fn damage_is_judged() {
    let known = Known::unclean::<MemVfs>();
    assert_eq!(known.probe::<MemVfs>(known.image.clone()), Outcome::Exact);
    let bit = |n| known.probe::<MemVfs>(flip(&known.image, "IDENTITY", n));
    assert!(!bit(100).is_wrong(), "{:?}", bit(100));
    // A store that lost its last batch without a word is silent: the judge must say so.
    let other = Known::unclean::<MemVfs>();
    let mut shorter = execute::<MemVfs>(&Sequence::of(step::parse("batch.0").unwrap())).image;
    shorter.files.retain(|_, c| c.len > 0);
    assert!(matches!(other.probe::<MemVfs>(shorter), Outcome::Silent(_)));
}

/// Two replicas in every combination of damaged copies heal what one of them has.
#[test]
fn replicas_heal_each_other() {
    let settings = Settings { replicas: 2, first: 0, cases: 256, seed: 1, jobs: 2, limit: None };
    let counts = replicas::run::<MemVfs>(&settings, |_| {});
    assert_eq!(counts.findings, Vec::<String>::new());
    // Of the four states of an entry's two copies, all but one leave a whole copy.
    assert_eq!((counts.cases, counts.healed, counts.unavailable), (256, 81, 175));
    let part = replicas::run::<MemVfs>(&Settings { first: 200, ..settings }, |_| {});
    assert_eq!((part.cases, part.next), (56, 256), "a sample goes on where another ended");
}
