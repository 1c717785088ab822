//! The submitted state before anything of it is durable: refused batches, compactions, shared frames.

use seawall::vfs::mem::MemVfs;
use seawall::{
    CreateOptions, Digest, Driver, Engine, Entry, Error, GroupId, Index, LogId, Options, Outcome, Vote,
    WriteBatch,
};

const G: GroupId = GroupId(1);
const OTHER: GroupId = GroupId(2);

fn fresh(driver: Driver) -> Engine<MemVfs> {
    let vfs = MemVfs::new();
    Engine::create_in(&vfs, &CreateOptions { segment_bytes: 64 << 10, ..CreateOptions::new(1, 1) }).unwrap();
    let (engine, _) = Engine::open_in(vfs, Options { driver, ..Options::default() }).unwrap();
    engine.create_group(G).unwrap();
    engine
}

fn entry(index: u64, term: u64) -> Entry {
    Entry::command(index, term, vec![u8::try_from(index).unwrap(); 10])
}

fn entries(indexes: std::ops::RangeInclusive<u64>, term: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for index in indexes {
        batch.append(G, entry(index, term));
    }
    batch
}

fn terms(engine: &Engine<MemVfs>) -> Vec<u64> {
    let read = engine.read_present(G, Index(1)..Index(100), u64::MAX).unwrap();
    read.iter().map(|e| e.id.term.0).collect()
}

#[test]
fn a_refused_batch_leaves_what_is_pending_as_it_was() {
    let engine = fresh(Driver::Caller);
    let ticket = engine.write(entries(1..=4, 1)).unwrap();
    let before = engine.status();
    let mut batch = WriteBatch::new();
    batch.vote(G, Vote::new(2, 0, *b"me")).truncate_suffix(G, Index(3));
    for index in 3..=6 {
        batch.append(G, entry(index, 2));
    }
    batch.create_group(OTHER).append(OTHER, entry(1, 2));
    batch.remove_group(G).create_group(G).append(G, entry(1, 3));
    batch.append(G, entry(9, 3));
    assert!(matches!(engine.write(batch), Err(Error::Gap { .. })));
    assert_eq!(engine.status(), before);
    assert_eq!(terms(&engine), [1; 4]);
    assert_eq!(ticket.wait(), Outcome::Durable);
    assert_eq!(terms(&engine), [1; 4]);
}

#[test]
fn what_is_pending_is_read_after_a_compaction_beyond_the_log() {
    let engine = fresh(Driver::Caller);
    let first = engine.write(entries(1..=3, 1)).unwrap();
    let mut batch = WriteBatch::new();
    batch.external_snapshot(G, LogId::new(5, 1), Digest([1; 32])).compact_prefix(G, Index(5));
    batch.append(G, entry(6, 1)).append(G, entry(6, 1)).append(G, entry(7, 2));
    let second = engine.write(batch).unwrap();
    assert_eq!(terms(&engine), [1, 2]);
    assert_eq!([first.wait(), second.wait()], [Outcome::Durable; 2]);
    assert_eq!(terms(&engine), [1, 2]);
}

#[test]
fn callers_of_one_frame_are_all_told() {
    const CALLERS: u64 = 16;
    const EACH: u64 = 20;
    let engine = fresh(Driver::Threads);
    (2..2 + CALLERS).for_each(|group| engine.create_group(GroupId(group)).unwrap());
    std::thread::scope(|scope| {
        for group in (2..2 + CALLERS).map(GroupId) {
            let engine = &engine;
            scope.spawn(move || {
                for index in 1..=EACH {
                    let mut batch = WriteBatch::new();
                    batch.append(group, entry(index, 1));
                    let ticket = engine.write(batch).unwrap();
                    if index % 3 == 0 {
                        let (sender, receiver) = std::sync::mpsc::channel();
                        ticket.on_durable(move |outcome| sender.send(outcome).unwrap());
                        assert_eq!(receiver.recv(), Ok(Outcome::Durable));
                    } else {
                        assert_eq!(ticket.wait(), Outcome::Durable);
                    }
                }
            });
        }
    });
    let last = |group| engine.group(GroupId(group)).unwrap().durable_last;
    assert!((2..2 + CALLERS).all(|group| last(group) == Index(EACH)));
    engine.close().unwrap();
}
