//! A host that forks: the child has the handles, none of the threads, and no say about the store.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "fork(2) has no safe wrapper")]

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use seawall::{CreateOptions, Driver, Engine, Entry, Error, GroupId, Index, LogId, Options};

const G: GroupId = GroupId(1);

fn entry(index: u64) -> Entry {
    Entry::command(index, 1, vec![7; 2_000])
}

fn opened(dir: &Path, driver: Driver) -> Engine {
    Engine::open(dir, Options { driver, ..Options::default() }).unwrap().0
}

fn created(dir: &Path, driver: Driver) -> Engine {
    Engine::create(dir, &CreateOptions { segment_bytes: 64 << 10, ..CreateOptions::new(1, 1) }).unwrap();
    let engine = opened(dir, driver);
    engine.create_group(G).unwrap();
    engine.append(G, &[entry(1)]).unwrap();
    engine
}

/// Bytes of many chunks that are like no others.
fn noise(seed: u32) -> Vec<u8> {
    (0..10_000_000_u32).map(|n| (n ^ seed).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

/// Runs this in a forked child.
fn start(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child calls what this file's tests call and ends without unwinding into the parent's frames. The
    // locks that it takes are held by nobody: the engine's threads wait when it is forked, malloc has its handlers.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: both calls only take numbers. Who waits for a thread that is not there is ended, and seen.
            unsafe {
                libc::alarm(60);
                libc::_exit(i32::from(catch_unwind(AssertUnwindSafe(child)).is_err()));
            }
        }
        pid => pid,
    }
}

/// How a child ended: 0 if it did all that it was to do.
fn end_of(pid: libc::pid_t) -> i32 {
    let mut status = -1;
    // SAFETY: the status is a local that outlives the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

#[test]
fn a_child_may_drop_its_handles_and_changes_nothing() {
    for driver in [Driver::Threads, Driver::Caller] {
        let home = tempfile::tempdir().unwrap();
        let engine = created(&home.path().join("store"), driver);
        let child = start(|| {
            // SAFETY: the parent's copy is another process's; this one is read once and never again.
            drop(unsafe { std::ptr::read(&raw const engine) });
        });
        assert_eq!(end_of(child), 0, "{driver:?}");
        engine.append(G, &[entry(2)]).unwrap();
        engine.close().unwrap();
        let engine = opened(&home.path().join("store"), driver);
        assert_eq!(engine.group(G).unwrap().last.index, Index(2));
    }
}

#[test]
fn a_child_is_refused_and_its_parent_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let engine = created(home.path(), Driver::Caller);
    let child = start(|| {
        assert!(matches!(engine.append(G, &[entry(2)]), Err(Error::NotAcknowledged { .. })));
        assert_eq!(engine.read(G, Index(1)..Index(2), u64::MAX).unwrap(), [entry(1)]);
    });
    assert_eq!(end_of(child), 0);
    engine.append(G, &[Entry::command(2, 1, b"the parent's".to_vec())]).unwrap();
    engine.close().unwrap();
    let engine = opened(home.path(), Driver::Caller);
    assert_eq!(engine.read(G, Index(2)..Index(3), u64::MAX).unwrap()[0].data[..], *b"the parent's");
}

#[test]
fn a_child_waits_for_no_thread_of_a_snapshot() {
    let home = tempfile::tempdir().unwrap();
    let engine = created(home.path(), Driver::Threads);
    let some = noise(1);
    let mut writer = engine.snapshot_writer(G, LogId::new(1, 1), b"").unwrap();
    writer.write_all(&some).unwrap();
    writer.publish().unwrap();
    // The threads of both start when there is something to do, and have done it when there is more noise.
    let mut writer = engine.snapshot_writer(G, LogId::new(1, 1), b"").unwrap();
    writer.write_all(&noise(2)).unwrap();
    let mut reader = engine.snapshot_reader(G).unwrap();
    reader.read_exact(&mut [0]).unwrap();
    let more = noise(3);
    let child = start(|| {
        assert!(writer.write_all(&more).is_err());
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), some.len() - 1);
        // SAFETY: the parent's copies are another process's; these are read once and never again.
        unsafe {
            drop(std::ptr::read(&raw const writer));
            drop(std::ptr::read(&raw const reader));
        }
    });
    assert_eq!(end_of(child), 0);
    assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), some.len() - 1);
    writer.write_all(&more).unwrap();
    writer.publish().unwrap();
}

#[test]
fn a_child_that_lives_on_does_not_keep_the_lock() {
    let home = tempfile::tempdir().unwrap();
    let engine = created(home.path(), Driver::Caller);
    let (waits, ends) = std::io::pipe().unwrap();
    let child = start(|| {
        // SAFETY: this copy of the end that writes is the child's own and is not used again.
        drop(unsafe { std::ptr::read(&raw const ends) });
        assert_eq!((&waits).read(&mut [0]).unwrap(), 1);
    });
    engine.close().unwrap();
    opened(home.path(), Driver::Caller).close().unwrap();
    (&ends).write_all(&[1]).unwrap();
    assert_eq!(end_of(child), 0);
}
