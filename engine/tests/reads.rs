//! Reads while others write, and who may drive a group.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use seawall::vfs::mem::MemVfs;
use seawall::{
    CreateOptions, Digest, Engine, Entry, EntryView, Error, GroupId, Index, LogId, Options, Outcome,
    WriteBatch,
};

const G: GroupId = GroupId(1);

fn fresh() -> Engine<MemVfs> {
    let vfs = MemVfs::new();
    let small =
        CreateOptions { segment_bytes: 16 << 10, unit: 512, seed: Some([9; 16]), ..CreateOptions::new(1, 1) };
    Engine::create_in(&vfs, &small).unwrap();
    let (engine, _) = Engine::open_in(vfs, Options::default()).unwrap();
    engine.create_group(G).unwrap();
    engine
}

fn entry(index: u64, term: u64) -> Entry {
    Entry::command(index, term, vec![u8::try_from(index % 251).unwrap(); 100])
}

/// Runs `write` until it is done and `read` meanwhile.
fn beside(write: impl FnOnce() + Send, read: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                read();
            }
        });
        write();
        done.store(true, Ordering::Release);
    });
}

/// Entries of sealed segments, of the active one and pending ones, in order, until the reader breaks.
#[test]
fn a_scan_sees_what_a_read_sees() {
    let engine = fresh();
    for first in (1..=300).step_by(10) {
        let entries: Vec<Entry> = (first..first + 10).map(|index| entry(index, 1)).collect();
        engine.append(G, &entries).unwrap();
    }
    let mut batch = WriteBatch::new();
    batch.append(G, entry(301, 2));
    let pending = engine.write(batch).unwrap();
    for range in [1..302, 17..18, 295..302, 5..5].map(|range| Index(range.start)..Index(range.end)) {
        let read = engine.read(G, range.clone(), u64::MAX).unwrap();
        let mut scanned = Vec::new();
        let see = |entry: EntryView<'_>| {
            let EntryView { id, leader, kind, data } = entry;
            scanned.push(Entry { id, leader, kind, data: data.into() });
            ControlFlow::Continue(())
        };
        engine.scan(G, range, see).unwrap();
        assert_eq!(scanned, read);
    }
    let mut seen = 0;
    let some = |_: EntryView<'_>| {
        seen += 1;
        if seen == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    engine.scan(G, Index(1)..Index(302), some).unwrap();
    assert_eq!(seen, 7);
    let past = engine.scan(G, Index(300)..Index(400), |_| ControlFlow::Continue(()));
    assert!(matches!(past, Err(Error::PastEnd { .. })), "{past:?}");
    assert_eq!(pending.wait(), Outcome::Durable);
}

#[test]
fn a_read_without_a_limit_is_one_view_of_the_log() {
    let engine = fresh();
    let write = || {
        for term in 1..200 {
            let mut batch = WriteBatch::new();
            batch.truncate_suffix(G, Index(1));
            for index in 1..=8 {
                batch.append(G, entry(index, term));
            }
            assert_eq!(engine.write(batch).unwrap().wait(), Outcome::Durable);
        }
    };
    beside(write, || {
        let entries = engine.read_present(G, Index(1)..Index(100), u64::MAX).unwrap();
        let terms: Vec<u64> = entries.iter().map(|e| e.id.term.0).collect();
        assert!(terms.is_empty() || terms.len() == 8, "{terms:?}");
        assert!(terms.windows(2).all(|pair| pair[0] == pair[1]), "two terms in one view: {terms:?}");
    });
}

#[test]
fn what_was_compacted_and_recycled_under_a_reader_is_missing_and_never_damaged() {
    let engine = fresh();
    let write = || {
        for index in 1..2_000 {
            engine.append(G, &[entry(index, 1)]).unwrap();
            if index % 40 == 0 {
                engine.record_external_snapshot(G, LogId::new(index - 2, 1), Digest([1; 32])).unwrap();
                engine.compact_prefix(G, Index(index - 2)).unwrap();
            }
        }
    };
    beside(write, || {
        let entries = engine.read_present(G, Index(0)..Index(u64::MAX), u64::MAX).unwrap();
        assert!(entries.windows(2).all(|pair| pair[0].id.index.next() == pair[1].id.index), "a hole");
    });
}

#[test]
fn a_limit_is_reached_before_the_end_is_an_error() {
    let engine = fresh();
    engine.append(G, &[entry(1, 1), entry(2, 1), entry(3, 1)]).unwrap();
    let read = |to, limit| engine.read(G, Index(1)..Index(to), limit).map(|entries| entries.len());
    assert_eq!(read(4, u64::MAX).unwrap(), 3);
    assert_eq!(read(9, 0).unwrap(), 1, "at least one");
    assert_eq!(read(9, 2 * Entry::OVERHEAD + 250).unwrap(), 2);
    assert_eq!(read(9, 250).unwrap(), 1, "an entry counts more than its bytes");
    assert!(matches!(read(9, 1 << 20), Err(Error::PastEnd { .. })));
    assert!(matches!(read(9, u64::MAX), Err(Error::PastEnd { .. })));
    let present = |range| engine.read_present(G, range, u64::MAX).unwrap().len();
    assert_eq!(present(Index(0)..Index(u64::MAX)), 3);
    assert_eq!(present(Index(4)..Index(9)), 0);
}

#[test]
fn a_group_is_claimed_once_at_a_time() {
    let engine = fresh();
    let claim = engine.claim(G).unwrap();
    assert_eq!(claim.group(), G);
    assert!(matches!(engine.claim(G), Err(Error::GroupInUse { group: G })));
    assert!(engine.claim(GroupId(2)).is_ok());
    drop(claim);
    assert!(engine.claim(G).is_ok());
}
