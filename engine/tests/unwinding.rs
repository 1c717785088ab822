//! A thread that panics in the middle of a write or a sync: the handle is poisoned, everybody is answered, and
//! nobody hangs or panics for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use seawall::vfs::mem::{Call, CallKind, MemVfs};
use seawall::{CreateOptions, Driver, Engine, Entry, Error, GroupId, Index, Options, Outcome, WriteBatch};

const G: GroupId = GroupId(1);
/// How long a caller may wait before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// A disk on which, from now on, the first such call on a segment panics.
fn break_next(vfs: &MemVfs, kind: CallKind) {
    let broken = AtomicBool::new(false);
    vfs.set_faults(Some(Arc::new(move |call: &Call| {
        let hits = call.kind == kind && call.path.ends_with(".seg");
        assert!(!hits || broken.swap(true, Ordering::SeqCst), "a planted panic");
        None
    })));
}

fn entry(index: u64) -> Entry {
    Entry::command(index, 1, *b"an entry")
}

fn batch(index: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.append(G, entry(index));
    batch
}

/// Waiting callers, callbacks and a late caller meet the panic of whoever writes.
fn check(driver: Driver, call: CallKind, expected: Outcome) {
    let vfs = MemVfs::new();
    let create = CreateOptions { segment_bytes: 64 << 10, ..CreateOptions::new(1, 1) };
    Engine::create_in(&vfs, &create).unwrap();
    let (engine, _) = Engine::open_in(vfs.clone(), Options { driver, ..Options::default() }).unwrap();
    engine.create_group(G).unwrap();
    engine.append(G, &[entry(1)]).unwrap();
    let tickets: Vec<_> = (2..=5).map(|index| engine.write(batch(index)).unwrap()).collect();
    let (told, outcomes) = mpsc::channel();
    let also = told.clone();
    engine.write_then(batch(6), move |outcome| also.send(outcome).unwrap()).unwrap();
    break_next(&vfs, call);
    std::thread::scope(|scope| {
        for ticket in tickets {
            let told = told.clone();
            scope.spawn(move || told.send(ticket.wait()).unwrap());
        }
    });
    for _ in 2..=6 {
        let outcome = outcomes.recv_timeout(PATIENCE).expect("somebody hangs");
        // Frames that settled before the panic are durable; none is said to be after it.
        assert!(outcome == expected || outcome == Outcome::Durable || outcome == Outcome::NotDurable);
    }
    vfs.set_faults(None);
    // The driver may have written what was queued before the panic was planted: then the next write meets it.
    if engine.status().poison.is_none() {
        break_next(&vfs, call);
        assert_eq!(engine.write(batch(7)).unwrap().wait(), expected);
    }
    assert!(engine.status().poison.unwrap().contains("panicked"));
    assert!(matches!(engine.write(batch(9)), Err(Error::Poisoned { .. })));
    assert_eq!(engine.read(G, Index(1)..Index(2), 100).unwrap(), [entry(1)]);
    assert!(engine.close().is_err());
    let (engine, report) = Engine::open_in(vfs, Options { driver, ..Options::default() }).unwrap();
    assert!(!report.is_alarm(), "{report:?}");
    assert_eq!(engine.read(G, Index(1)..Index(2), 100).unwrap(), [entry(1)]);
}

#[test]
fn a_write_that_panics_poisons_and_hangs_nobody() {
    check(Driver::Caller, CallKind::Write, Outcome::Unknown);
    check(Driver::Threads, CallKind::Write, Outcome::Unknown);
}

#[test]
fn a_sync_that_panics_poisons_and_hangs_nobody() {
    check(Driver::Caller, CallKind::SyncData, Outcome::Unknown);
    check(Driver::Threads, CallKind::SyncData, Outcome::Unknown);
}
