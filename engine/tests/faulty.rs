//! A disk that errs, shrinks or is full under an engine that goes on: an error for who asked, no signal, and no
//! doubt about the log where there is none.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;

use seawall::vfs::Vfs;
use seawall::vfs::mem::{CallKind, Fault, MemVfs};
use seawall::vfs::os::OsVfs;
use seawall::{
    CreateOptions, Driver, Engine, Entry, Error, GroupId, Index, LogId, Options, OverloadReason,
    SnapshotFault,
};

const G: GroupId = GroupId(1);
const LAST: u64 = 60;
const EIO: i32 = 5;

fn options(driver: Driver) -> Options {
    Options { driver, zstd_level: None, chunk_bytes: 4096, ..Options::default() }
}

fn entry(index: u64) -> Entry {
    Entry::command(index, 1, vec![5; 1000])
}

/// A store of several sealed segments and one snapshot, closed and opened again.
fn reopened<V: Vfs>(vfs: &V, driver: Driver) -> Engine<V> {
    let create =
        CreateOptions { segment_bytes: 16 << 10, unit: 512, seed: Some([6; 16]), ..CreateOptions::new(1, 1) };
    Engine::create_in(vfs, &create).unwrap();
    let (engine, _) = Engine::open_in(vfs.clone(), options(driver)).unwrap();
    engine.create_group(G).unwrap();
    (1..=LAST).for_each(|index| engine.append(G, &[entry(index)]).unwrap());
    let mut writer = engine.snapshot_writer(G, LogId::new(1, 1), b"").unwrap();
    writer.write_all(&[9; 10_000]).unwrap();
    writer.publish().unwrap();
    engine.close().unwrap();
    Engine::open_in(vfs.clone(), options(driver)).unwrap().0
}

#[test]
fn a_file_that_became_shorter_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = OsVfs::at(dir.path().join("store"));
    let engine = reopened(&vfs, Driver::Caller);
    let read = |index| engine.read(G, Index(index)..Index(index + 1), u64::MAX);
    assert_eq!(read(1).unwrap(), [entry(1)]);
    let mut reader = engine.snapshot_reader(G).unwrap();
    let mut byte = [0];
    reader.read_exact(&mut byte).unwrap();
    let names = vfs.list("").unwrap().into_iter().filter(|name| name.ends_with(".seg"));
    let chunks = vfs.list("snapshots").unwrap().into_iter().filter(|name| name.ends_with(".chunk"));
    for name in names.chain(chunks.map(|name| format!("snapshots/{name}"))) {
        let path = dir.path().join("store").join(name);
        OpenOptions::new().write(true).open(path).unwrap().set_len(512).unwrap();
    }
    for index in 1..LAST - 15 {
        assert!(matches!(read(index), Err(Error::Damaged { .. })), "{index}");
    }
    let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
    let fault = error.get_ref().and_then(|e| e.downcast_ref::<SnapshotFault>());
    assert!(matches!(fault, Some(SnapshotFault::Corrupt { .. })), "{error:?}");
}

#[test]
fn a_disk_that_errs_is_an_error_and_no_damage() {
    let vfs = MemVfs::new();
    let engine = reopened(&vfs, Driver::Caller);
    let read = |index| engine.read(G, Index(index)..Index(index + 1), u64::MAX);
    vfs.set_faults(Some(Arc::new(|call| (call.kind == CallKind::Read).then_some(Fault::Errno(EIO)))));
    for index in 1..=LAST {
        assert!(matches!(read(index), Err(Error::Io { .. })), "{index}");
    }
    let error = engine.snapshot_reader(G).map(drop).unwrap_err();
    assert!(matches!(error, Error::Snapshot { fault: SnapshotFault::Unreadable { .. } }), "{error:?}");
    vfs.set_faults(None);
    assert_eq!(read(1).unwrap(), [entry(1)]);
    engine.append(G, &[entry(LAST + 1)]).unwrap();
}

#[test]
fn a_snapshot_that_meets_a_full_disk_fails_alone() {
    for driver in [Driver::Caller, Driver::Threads] {
        let vfs = MemVfs::new();
        let engine = reopened(&vfs, driver);
        let full = |call: &seawall::vfs::mem::Call| {
            let snapshot = call.path.starts_with("snapshots/") && call.kind == CallKind::Write;
            snapshot.then_some(Fault::Errno(28))
        };
        vfs.set_faults(Some(Arc::new(full)));
        // Written to again when it is dropped.
        let mut writer = BufWriter::new(engine.snapshot_writer(G, LogId::new(2, 1), b"").unwrap());
        let failed = (0..100_000_u32).find_map(|n| writer.write_all(&n.to_le_bytes()).err());
        assert_eq!(failed.expect("the disk is full").kind(), io::ErrorKind::StorageFull);
        drop(writer);
        let mut writer = engine.snapshot_writer(G, LogId::new(2, 1), b"").unwrap();
        while writer.write(&[3; 4096]).is_ok() {}
        assert!(writer.write(&[3]).is_err(), "spent");
        assert!(writer.publish().is_err());
        engine.append(G, &[entry(LAST + 1)]).unwrap();
    }
}

#[test]
fn a_snapshot_of_too_many_chunks_fails_alone() {
    let vfs = MemVfs::new();
    drop(reopened(&vfs, Driver::Caller));
    let small = Options { chunk_bytes: 512, ..options(Driver::Caller) };
    let (engine, _) = Engine::open_in(vfs, small).unwrap();
    let mut writer = engine.snapshot_writer(G, LogId::new(2, 1), b"").unwrap();
    let error = io::copy(&mut io::repeat(7), &mut writer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    assert!(writer.install().is_err());
    engine.append(G, &[entry(LAST + 1)]).unwrap();
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| {
        let named = |task: io::Result<std::fs::DirEntry>| std::fs::read_to_string(task?.path().join("comm"));
        tasks.map(named).filter(|name| name.as_ref().is_ok_and(|n| n == "seawall-snapsho\n")).count()
    })
}

#[test]
fn unfinished_snapshots_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let engine = reopened(&OsVfs::at(dir.path().join("store")), Driver::Threads);
    let mut writers = Vec::new();
    let error = loop {
        match engine.snapshot_writer(G, LogId::new(2, 1), b"") {
            Ok(mut writer) => {
                writer.write_all(&vec![u8::try_from(writers.len()).unwrap(); 3 * 4096]).unwrap();
                writers.push(writer);
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Overloaded { reason: OverloadReason::Snapshots, .. }), "{error:?}");
    assert_eq!(writers.len(), 64);
    // Other tests of this process have engines of their own.
    assert!(threads() <= 100, "{} threads", threads());
    writers.pop();
    engine.snapshot_writer(G, LogId::new(2, 1), b"").unwrap().publish().unwrap();
    drop(writers);
    engine.append(G, &[entry(LAST + 1)]).unwrap();
}

#[test]
fn empty_entries_count_in_a_read_with_a_limit() {
    let vfs = MemVfs::new();
    let engine = reopened(&vfs, Driver::Caller);
    let empty: Vec<_> = (LAST + 1..LAST + 101).map(|index| Entry::command(index, 1, vec![])).collect();
    empty.chunks(20).for_each(|batch| engine.append(G, batch).unwrap());
    let read = engine.read(G, Index(LAST + 1)..Index(LAST + 101), 10 * Entry::OVERHEAD).unwrap();
    assert_eq!(read.len(), 10);
}
