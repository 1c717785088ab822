//! Errors of the file system: the builder fails with the file's name, and nothing else changes.

use super::*;
use crate::snapshot::SnapshotIo;
use crate::snapshot::collect::{load, sweep};
use crate::vfs::mem::SyncFailure;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// An older snapshot, and the bytes of a newer one that shares a chunk with it.
fn shared() -> (MemVfs, Known, Digest, Vec<u8>) {
    let (vfs, known) = (disk(), Known::default());
    let older = publish(&vfs, &known, 1, &[noise(64, 1), noise(64, 2)].concat());
    (vfs, known, older, [noise(64, 2), noise(64, 3), noise(10, 4)].concat())
}

/// After a failed build nothing is there but the older snapshot, and a new attempt succeeds.
fn nothing_changed(vfs: &MemVfs, known: &Known, older: Digest, before: &Image, newer: &[u8]) {
    assert_eq!(files(&vfs.image()), files(before));
    assert_eq!(verify(&power_loss(vfs), &WHO, older), []);
    let digest = publish(vfs, known, 2, newer);
    assert_eq!(read(&power_loss(vfs), digest).unwrap(), newer);
    assert_eq!(verify(&power_loss(vfs), &WHO, older), []);
}

#[test]
fn a_full_disk_changes_nothing() {
    let mut full = 0;
    for blocks in 0.. {
        let (vfs, known, older, newer) = shared();
        let before = vfs.image();
        let used: u64 = before.files.values().map(|file| file.len.div_ceil(512)).sum();
        vfs.set_capacity(Some(used + blocks));
        let result = seal(&vfs, &known, 2, &newer);
        vfs.set_capacity(None);
        let Err(error) = result else { break };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        assert!(error.to_string().starts_with("snapshots/"), "{error}");
        nothing_changed(&vfs, &known, older, &before, &newer);
        full += 1;
    }
    assert_eq!(full, 3, "two new chunks and a manifest, a block each");
}

#[test]
fn any_call_that_fails_once_changes_nothing() {
    let mut failed = 0;
    for errno in [EIO, ENOSPC] {
        for at in 0.. {
            let (vfs, known, older, newer) = shared();
            let before = vfs.image();
            let hit = fail_once(&vfs, at, errno);
            let result = seal(&vfs, &known, 2, &newer);
            vfs.set_faults(None);
            let Some(kind) = *hit.lock().unwrap() else { break };
            match result {
                // The shared chunk could not be read back, and was written anew.
                Ok(sealed) => {
                    assert!(matches!(kind, CallKind::Open | CallKind::Len | CallKind::Read), "{kind:?}");
                    assert_eq!(sealed.repaired.len(), 1);
                    assert_eq!(read(&power_loss(&vfs), sealed.digest).unwrap(), newer);
                    assert_eq!(verify(&power_loss(&vfs), &WHO, older), []);
                }
                Err(error) => {
                    let inner = error.get_ref().and_then(|e| e.downcast_ref::<SnapshotIo>()).expect("named");
                    assert!(inner.file.starts_with(DIR), "{error}");
                    assert_eq!(inner.source.raw_os_error(), Some(errno));
                    failed += 1;
                    if kind == CallKind::SyncDir {
                        assert!(known.lock().unwrap().names_in_doubt());
                        assert!(seal(&vfs, &known, 3, b"x").is_err(), "not before the next open");
                        assert_eq!(files(&vfs.image()), files(&before));
                    } else {
                        nothing_changed(&vfs, &known, older, &before, &newer);
                    }
                }
            }
        }
    }
    assert_eq!(failed, 2 * (3 * 3 + 1), "create, write and sync of three files, and the directory");
}

#[test]
fn a_failed_sync_is_not_retried_and_its_bytes_are_not_trusted() {
    for failure in [SyncFailure::KeptClean, SyncFailure::Reverted, SyncFailure::Partial] {
        for nth in 0..3 {
            let (vfs, known, older, newer) = shared();
            let before = vfs.image();
            let syncs = Arc::new(Mutex::new(0));
            let counter = Arc::clone(&syncs);
            vfs.set_faults(Some(Arc::new(move |call| {
                let mut seen = counter.lock().unwrap();
                *seen += u32::from(call.kind == CallKind::SyncData);
                (call.kind == CallKind::SyncData && *seen == nth + 1).then_some(Fault::FailSync(failure))
            })));
            let error = seal(&vfs, &known, 2, &newer).unwrap_err();
            vfs.set_faults(None);
            assert!(error.to_string().starts_with("snapshots/"), "{error}");
            assert_eq!(*syncs.lock().unwrap(), nth + 1, "no sync after the failed one");
            nothing_changed(&vfs, &known, older, &before, &newer);
        }
    }
}

#[test]
fn an_interrupted_sync_does_not_invite_a_retry() {
    let (vfs, known, older, newer) = shared();
    let before = vfs.image();
    vfs.set_faults(Some(Arc::new(|call| (call.kind == CallKind::SyncData).then_some(Fault::Errno(4)))));
    let error = seal(&vfs, &known, 2, &newer).unwrap_err();
    assert_ne!(error.kind(), io::ErrorKind::Interrupted);
    vfs.set_faults(None);
    nothing_changed(&vfs, &known, older, &before, &newer);
}

#[test]
fn short_and_interrupted_writes_go_on() {
    let (vfs, known, _, newer) = shared();
    vfs.set_faults(Some(Arc::new(|call| match (call.kind, call.number % 3) {
        (CallKind::Write, 0) => Some(Fault::Errno(4)),
        (CallKind::Write, _) => Some(Fault::ShortWrite(5)),
        (CallKind::Read, _) => Some(Fault::ShortRead(9)),
        _ => None,
    })));
    let digest = publish(&vfs, &known, 2, &newer);
    assert_eq!(read(&vfs, digest).unwrap(), newer);
    vfs.set_faults(None);
    assert_eq!(verify(&power_loss(&vfs), &WHO, digest), []);
}

#[test]
fn a_failed_builder_stays_failed() {
    let (vfs, known, _, newer) = shared();
    let before = vfs.image();
    let mut builder = builder(&vfs, &known, 2, None);
    builder.write_all(&newer[..130]).unwrap();
    vfs.set_faults(Some(Arc::new(|call| (call.kind == CallKind::Write).then_some(Fault::Errno(ENOSPC)))));
    assert_eq!(builder.write_all(&noise(64, 9)).unwrap_err().kind(), io::ErrorKind::StorageFull);
    vfs.set_faults(None);
    assert_eq!(files(&vfs.image()), files(&before), "removed at once");
    assert!(builder.write_all(b"x").is_err());
    assert!(builder.flush().is_err());
    assert!(builder.finish().is_err());
}

#[test]
fn a_read_error_fails_that_read_only() {
    let (vfs, known, older, _) = shared();
    let mut reader = SnapshotReader::open_pinned(&vfs, &WHO, older, &known).unwrap();
    let mut first = [0; 64];
    reader.read_exact(&mut first).unwrap();
    vfs.set_faults(Some(Arc::new(|call| (call.kind == CallKind::Read).then_some(Fault::Errno(EIO)))));
    let error = reader.read(&mut [0; 64]).unwrap_err();
    assert!(matches!(fault(&error), SnapshotFault::Unreadable { .. }), "{error}");
    vfs.set_faults(None);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!([&first[..], &rest].concat(), [noise(64, 1), noise(64, 2)].concat());
}

#[test]
fn a_left_over_is_written_anew() {
    for swept in [false, true] {
        let (vfs, known) = (disk(), Known::default());
        // The process dies in the middle: the chunks are in the cache, their syncs went wrong.
        vfs.set_faults(Some(Arc::new(|call| {
            (call.kind == CallKind::SyncData).then_some(Fault::FailSync(SyncFailure::Late))
        })));
        let mut dying = builder(&vfs, &known, 1, None);
        dying.write_all(&noise(200, 1)).unwrap();
        std::mem::forget(dying);
        vfs.set_faults(None);
        assert_eq!(vfs.image().files.len(), 3);

        // The same kernel, another process.
        let mut table = load(&vfs, &WHO, &[]);
        if swept {
            assert_eq!(sweep(&vfs, &mut table).unwrap().removed, 3);
            assert_eq!(files(&vfs.image()), [""; 0]);
        }
        let known = Arc::new(Mutex::new(table));
        let digest = publish(&vfs, &known, 1, &noise(200, 1));
        assert_eq!(read(&power_loss(&vfs), digest).unwrap(), noise(200, 1));
    }
}
