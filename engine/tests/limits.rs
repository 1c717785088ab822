//! The limits: what admission lets through has room, whatever it is, and no number is the last of all.

use proptest::prelude::*;
use seawall::vfs::mem::MemVfs;
use seawall::{
    CreateOptions, Digest, Driver, Engine, Entry, Error, GroupId, Index, LogId, Options, Outcome, Vote,
    WriteBatch,
};

const G: GroupId = GroupId(1);

fn caller() -> Options {
    Options { driver: Driver::Caller, ..Options::default() }
}

fn fresh(segment_bytes: u64, unit: u32, options: Options) -> (MemVfs, Engine<MemVfs>) {
    let vfs = MemVfs::new();
    let create = CreateOptions { segment_bytes, unit, seed: Some([3; 16]), ..CreateOptions::new(1, 1) };
    Engine::create_in(&vfs, &create).unwrap();
    let (engine, _) = Engine::open_in(vfs.clone(), options).unwrap();
    (vfs, engine)
}

/// Everything that is queued, written and synced on this thread.
fn flush(engine: &Engine<MemVfs>) {
    while let Some(flush) = engine.begin_flush().unwrap() {
        flush.sync().acknowledge().unwrap();
    }
}

fn vote(term: u64, len: usize) -> Vote {
    Vote::new(term, 0, vec![7; len])
}

/// Groups that each take a vote in one frame: as one batch, or as batches that met behind a sync.
fn storm(segment_bytes: u64, groups: u64, apart: bool) {
    let (vfs, engine) = fresh(segment_bytes, 4096, caller());
    for group in 1..=groups {
        drop(engine.write(WriteBatch::new().create_group(GroupId(group)).clone()).unwrap());
    }
    flush(&engine);
    let mut batch = WriteBatch::new();
    for group in 1..=groups {
        batch.vote(GroupId(group), vote(9, 11));
        if apart {
            drop(engine.write(std::mem::take(&mut batch)).unwrap());
        }
    }
    drop(engine.write(batch).unwrap());
    flush(&engine);
    drop(engine);
    let (engine, report) = Engine::open_in(vfs, caller()).unwrap();
    assert!(!report.is_alarm(), "{report:?}");
    for group in 1..=groups {
        assert_eq!(engine.group(GroupId(group)).unwrap().vote, Some(vote(9, 11)));
    }
}

#[test]
fn an_election_storm_is_one_batch() {
    storm(16 << 20, 3_000, false);
}

#[test]
fn an_election_storm_forms_one_frame_behind_a_sync() {
    storm(1 << 20, 400, true);
}

#[test]
fn one_group_votes_often_behind_a_sync() {
    let (_, engine) = fresh(1 << 20, 4096, caller());
    engine.create_group(G).unwrap();
    for term in 1..=2_000 {
        drop(engine.write(WriteBatch::new().vote(G, vote(term, 11)).clone()).unwrap());
    }
    flush(&engine);
    assert_eq!(engine.group(G).unwrap().vote, Some(vote(2_000, 11)));
}

#[test]
fn a_group_that_was_taken_can_vote() {
    let (_, engine) = fresh(64 << 10, 512, caller());
    let taken = (1..).find(|group| match engine.create_group(GroupId(*group)) {
        Ok(()) => false,
        Err(Error::StateFull { size, limit }) => {
            assert_eq!(limit, 8 << 10);
            assert!(size > limit);
            true
        }
        Err(e) => panic!("{e}"),
    });
    let taken = taken.unwrap() - 1;
    assert_eq!(taken, (8 << 10) / 240);
    for group in 1..=taken {
        engine.save_vote(GroupId(group), vote(1, 64)).unwrap();
    }
    let refused = engine.save_vote(GroupId(1), vote(2, 65 + 240));
    assert!(matches!(refused, Err(Error::StateFull { .. })), "{refused:?}");
    // What it gives back is there for others.
    engine.remove_group(GroupId(taken)).unwrap();
    engine.save_vote(GroupId(1), vote(2, 65 + 100)).unwrap();
}

#[test]
fn create_refuses_a_shape_without_room_for_a_vote_and_an_entry() {
    for kib in (16..=64).step_by(4) {
        for unit in [512, 4096] {
            let create = CreateOptions { segment_bytes: kib << 10, unit, ..CreateOptions::new(1, 1) };
            let vfs = MemVfs::new();
            match Engine::create_in(&vfs, &create) {
                Err(Error::InvalidOption { option: "segment_bytes", why }) => {
                    assert!(unit == 4096 && kib < 40, "{kib} KiB of {unit}: {why}");
                }
                other => {
                    other.unwrap();
                    let (engine, _) = Engine::open_in(vfs, caller()).unwrap();
                    engine.create_group(G).unwrap();
                    for n in 1..=100 {
                        engine.save_vote(G, vote(n, 64)).unwrap();
                        engine.append(G, &[Entry::command(n, n, vec![1; unit as usize / 2])]).unwrap();
                    }
                }
            }
        }
    }
}

#[test]
fn no_index_is_the_last_of_all() {
    let (vfs, engine) = fresh(64 << 10, 512, caller());
    engine.create_group(G).unwrap();
    let last = Index::LAST.next();
    let out_of_range = |result: Result<(), Error>| {
        assert!(matches!(result, Err(Error::OutOfRange { index, .. }) if index == last), "{result:?}");
    };
    let id = LogId { index: last, term: 3.into() };
    out_of_range(engine.record_external_snapshot(G, id, Digest([1; 32])));
    // One below is the last that a log has: it is kept, and nothing follows it.
    let id = LogId { index: Index::LAST, ..id };
    engine.record_external_snapshot(G, id, Digest([1; 32])).unwrap();
    engine.compact_prefix(G, Index::LAST).unwrap();
    let writer = engine.snapshot_writer(G, LogId { index: last, term: 3.into() }, &[]).unwrap();
    out_of_range(writer.install().map(drop));
    out_of_range(engine.append(G, &[Entry::command(last.0, 3, *b"one more")]));
    assert!(engine.append(G, &[Entry::command(u64::MAX, 3, *b"far off")]).is_err());
    assert!(engine.read(G, Index::LAST..last, 100).is_err());
    assert!(engine.term(G, last).is_err());
    assert!(engine.name(G, last).is_err());
    assert_eq!(engine.read_present(G, Index(0)..last, u64::MAX).unwrap(), []);
    assert!(matches!(engine.commit(G, last), Err(Error::CommitOutOfRange { .. })));
    engine.truncate_suffix(G, last).unwrap();
    assert!(engine.compact_prefix(G, last).is_err());
    assert!(engine.scrub(u64::MAX).unwrap().wrapped);
    drop(engine);
    let (engine, report) = Engine::open_in(vfs, caller()).unwrap();
    assert!(!report.is_alarm(), "{report:?}");
    assert_eq!(engine.group(G).unwrap().last, id);
    engine.close().unwrap();
}

/// Limits and times at the end of what a caller can say.
#[test]
fn no_limit_and_no_time_is_too_high() {
    let highest = Options { max_in_flight_bytes: u64::MAX, max_in_flight_entries: u64::MAX, ..caller() };
    let (_, engine) = fresh(64 << 10, 512, highest);
    engine.create_group(G).unwrap();
    let mut batch = WriteBatch::new();
    batch.append(G, Entry::command(1, 1, *b"entry"));
    let ticket = engine.write_timeout(batch, std::time::Duration::MAX).unwrap();
    assert_eq!(ticket.wait(), seawall::Outcome::Durable);
    engine.save_vote(G, vote(1, 8)).unwrap();
    engine.close().unwrap();
}

/// One operation, of any kind and size.
#[derive(Clone, Debug)]
enum Step {
    Vote(usize),
    Append(usize),
    Create,
    Remove,
    Snapshot,
    Commit,
    Truncate,
    Compact,
    Install,
}

fn step(most: usize) -> impl Strategy<Value = (u64, Step)> {
    // Most are small, so that many meet in one frame; some are as large as can be.
    let len = prop_oneof![4 => 0..40usize, 1 => 0..most];
    let step = prop_oneof![
        4 => len.clone().prop_map(Step::Vote),
        6 => len.prop_map(Step::Append),
        1 => Just(Step::Create),
        1 => Just(Step::Remove),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Commit),
        1 => Just(Step::Truncate),
        1 => Just(Step::Compact),
        1 => Just(Step::Install),
    ];
    (1..12u64, step)
}

/// Adds the operation as it is allowed on what the engine has and the batch does not change.
fn add(engine: &Engine<MemVfs>, batch: &mut WriteBatch, group: GroupId, step: &Step) {
    let Ok(now) = engine.group(group) else {
        batch.create_group(group);
        return;
    };
    let term = now.last.term.0.max(1);
    let next = LogId { index: now.last.index.next(), term: now.last.term };
    match step {
        Step::Vote(len) => batch.vote(group, vote(now.vote.map_or(1, |v| v.key.term.0 + 1), *len)),
        Step::Append(len) => batch.append(group, Entry::command(next.index.0, term, vec![5; *len])),
        Step::Create => batch.create_group(GroupId(group.0 + 100)),
        Step::Remove => batch.remove_group(group),
        Step::Snapshot => batch.external_snapshot(group, now.last, Digest([6; 32])),
        Step::Commit => batch.commit(group, now.last.index),
        Step::Truncate => batch.truncate_suffix(group, now.last.index.max(now.commit.next())),
        Step::Compact => batch.compact_prefix(group, now.snapshot.map_or(Index(0), |s| s.id.index)),
        Step::Install => batch.external_snapshot(group, next, Digest([8; 32])),
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is let through is written, at the smallest shapes, alone and with others in one frame; the writer
    /// asserts each bound that was promised. What was acknowledged is there after a reopen.
    #[test]
    fn what_admission_lets_through_has_room(
        shape in prop_oneof![Just((16u64, 512u32)), Just((20, 512)), Just((40, 4096)), Just((64, 4096))],
        batches in proptest::collection::vec((proptest::collection::vec(step(6_000), 1..60), any::<bool>()), 1..30),
    ) {
        let (kib, unit) = shape;
        let (vfs, engine) = fresh(kib << 10, unit, caller());
        for (steps, flushed) in &batches {
            let mut batch = WriteBatch::new();
            let mut seen = std::collections::BTreeSet::new();
            for (group, step) in steps {
                if seen.insert(*group) {
                    add(&engine, &mut batch, GroupId(*group), step);
                }
            }
            match engine.write(batch) {
                Ok(ticket) if *flushed => prop_assert_eq!(ticket.wait(), Outcome::Durable),
                Ok(ticket) => drop(ticket),
                Err(e @ (Error::Io { .. } | Error::Poisoned { .. } | Error::NoSpace { .. })) => {
                    prop_assert!(false, "{}", e);
                }
                // A rule or a limit.
                Err(_) => {}
            }
        }
        flush(&engine);
        let before = engine.status();
        drop(engine);
        let (engine, report) = Engine::open_in(vfs, caller()).unwrap();
        prop_assert!(!report.is_alarm(), "{:?}", report);
        for (group, was) in &before.groups {
            let now = engine.group(*group).unwrap();
            prop_assert_eq!((now.last, now.vote, now.commit), (was.last, was.vote.clone(), was.commit));
        }
        engine.close().unwrap();
    }
}

/// A close leaves a segment as long as what it holds, and the reserve as it was.
#[test]
fn restarts_with_a_line_each_take_no_segment_each() {
    let (vfs, engine) = fresh(256 << 10, 4096, caller());
    engine.create_group(G).unwrap();
    engine.close().unwrap();
    let space = || vfs.image().files.values().map(|content| content.len).sum::<u64>();
    let begun = space();
    for index in 1..=30 {
        let (engine, report) = Engine::open_in(vfs.clone(), caller()).unwrap();
        assert!(report.clean && !report.is_alarm(), "{report:?}");
        engine.append(G, &[Entry::command(index, 1, *b"a line")]).unwrap();
        engine.close().unwrap();
    }
    assert!(space() - begun < 30 * (32 << 10) + (512 << 10), "{} bytes more", space() - begun);
    let (engine, _) = Engine::open_in(vfs.clone(), caller()).unwrap();
    assert_eq!(engine.read(G, Index(1)..Index(31), u64::MAX).unwrap().len(), 30);
    engine.record_external_snapshot(G, LogId::new(30, 1), Digest([1; 32])).unwrap();
    engine.compact_prefix(G, Index(30)).unwrap();
    engine.maintain().unwrap();
    assert!(space() <= begun + (768 << 10), "{} bytes kept", space());
}
