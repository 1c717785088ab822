//! Written and read on threads: the same files in the same order as far as a crash can tell, the same errors.

use super::*;
use std::sync::Condvar;
use std::time::Duration;

use crate::vfs::mem::Op;

const EIO: i32 = 5;

fn seal_on<V: Vfs>(vfs: &V, known: &Known, threads: usize, bytes: &[u8]) -> io::Result<SealedSnapshot> {
    let mut builder = builder(vfs, known, 2, Some(1)).on_threads(threads);
    bytes.chunks(100).try_for_each(|piece| builder.write_all(piece))?;
    builder.finish()
}

/// Thirty chunks, some of them equal, and a short one.
fn sample() -> Vec<u8> {
    [noise(64 * 10, 1), text(64 * 10), noise(64 * 10, 1), noise(5, 9)].concat()
}

#[test]
fn the_files_are_those_of_one_thread() {
    for len in [0, 1, 64, 65, 640, sample().len()] {
        let bytes = &sample()[..len];
        let (alone, known) = (disk(), Known::default());
        let expected = seal_on(&alone, &known, 0, bytes).unwrap();
        for threads in [1, 2, 5] {
            let (vfs, known) = (disk(), Known::default());
            assert_eq!(seal_on(&vfs, &known, threads, bytes).unwrap(), expected);
            assert_eq!(vfs.durable_image().files, alone.durable_image().files);
            for threads in [1, 2, 5] {
                let reader = SnapshotReader::open(&vfs, &WHO, expected.digest).unwrap();
                let mut back = Vec::new();
                reader.on_threads(threads).read_to_end(&mut back).unwrap();
                assert_eq!(back, bytes, "{threads} threads, {len} bytes");
            }
        }
    }
}

#[test]
fn the_manifest_comes_after_every_sync() {
    let (vfs, known) = (disk(), Known::default());
    vfs.record(true);
    assert_eq!(seal_on(&vfs, &known, 4, &sample()).unwrap().chunks, 31);
    let ops: Vec<_> = vfs.take_trace().ops.into_iter().map(|op| op.op).collect();
    let syncs = || ops.iter().enumerate().filter(|(_, op)| matches!(op, Op::SyncData { .. })).map(|(n, _)| n);
    let manifest = |op: &Op| matches!(op, Op::Create { path, .. } if path.ends_with(".manifest"));
    let manifest = ops.iter().position(manifest).expect("there is a manifest");
    assert_eq!(syncs().filter(|n| *n < manifest).count(), 21, "each chunk once");
    assert_eq!(syncs().filter(|n| *n > manifest).count(), 1, "the manifest");
}

#[test]
fn any_call_that_fails_once_changes_nothing() {
    let mut failed = 0;
    for at in 0.. {
        let (vfs, known) = (disk(), Known::default());
        let older = publish(&vfs, &known, 1, &noise(64 * 3, 1));
        let before = vfs.image();
        let hit = fail_once(&vfs, at, EIO);
        let result = seal_on(&vfs, &known, 3, &sample());
        vfs.set_faults(None);
        let Some(kind) = *hit.lock().unwrap() else { break };
        if let Err(error) = result {
            assert!(error.to_string().starts_with(DIR), "{error}");
            assert_eq!(files(&vfs.image()), files(&before), "a failed {kind:?} left a file");
            assert_eq!(verify(&power_loss(&vfs), &WHO, older), []);
            failed += 1;
        }
        if kind != CallKind::SyncDir {
            let digest = seal_on(&vfs, &known, 3, &sample()).unwrap().digest;
            assert_eq!(read(&power_loss(&vfs), digest).unwrap(), sample());
        }
    }
    // Create, write and sync of nineteen new files, and the directory; what else is called, and when, is up to
    // the threads.
    assert!(failed > 40, "{failed}");
}

#[test]
fn a_damaged_chunk_is_met_where_it_stands() {
    let (vfs, known) = (disk(), Known::default());
    let digest = publish(&vfs, &known, 1, &noise(64 * 9, 1));
    for damaged in 0..9 {
        let mut image = vfs.image();
        let reader = SnapshotReader::open(&vfs, &WHO, digest).unwrap();
        let path = format!("{DIR}/{}.chunk", reader.chunks()[damaged].hash);
        image.files.remove(&path).unwrap();
        let broken = MemVfs::from_image(image);
        let mut reader = SnapshotReader::open(&broken, &WHO, digest).unwrap().on_threads(2);
        let mut given = Vec::new();
        for _ in 0..2 {
            let error = reader.read_to_end(&mut given).unwrap_err();
            assert_eq!(fault(&error), SnapshotFault::Missing { file: path.clone() });
            assert_eq!(given, noise(64 * 9, 1)[..64 * damaged]);
        }
    }
}

/// Each waits for chunks that the other one writes; what fails is given up before anybody is waited for.
#[test]
fn builders_that_fail_together_do_not_wait_for_each_other() {
    // Fewer calls than a snapshot takes.
    for from in (0..24).cycle().take(100) {
        let (vfs, known) = (disk(), Known::default());
        vfs.set_faults(Some(Arc::new(move |call| {
            (call.kind == CallKind::SyncData && call.number >= from).then_some(Fault::Errno(EIO))
        })));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert!(seal_on(&vfs, &known, 3, &noise(64 * 8, 1)).is_err()));
            }
        });
        vfs.set_faults(None);
        assert_eq!(files(&vfs.image()), [""; 0]);
        let digest = seal_on(&vfs, &known, 3, &noise(64 * 8, 1)).unwrap().digest;
        assert_eq!(read(&power_loss(&vfs), digest).unwrap(), noise(64 * 8, 1));
    }
}

/// Lets no call of a kind go on before there is a second one; `false` if one waited in vain.
fn meet(vfs: &MemVfs, kind: CallKind) -> Arc<(Mutex<(u32, bool)>, Condvar)> {
    let met = Arc::new((Mutex::new((0, true)), Condvar::new()));
    let shared = Arc::clone(&met);
    vfs.set_faults(Some(Arc::new(move |call| {
        if call.kind == kind {
            let (calls, came) = &*shared;
            let mut calls = calls.lock().unwrap();
            calls.0 += 1;
            came.notify_all();
            let long = Duration::from_secs(60);
            let (mut calls, waited) = came.wait_timeout_while(calls, long, |calls| calls.0 < 2).unwrap();
            calls.1 &= !waited.timed_out();
        }
        None
    })));
    met
}

#[test]
fn chunks_are_on_their_way_together() {
    let (vfs, known) = (disk(), Known::default());
    let written = meet(&vfs, CallKind::SyncData);
    let digest = seal_on(&vfs, &known, 2, &sample()).unwrap().digest;
    assert!(written.0.lock().unwrap().1, "the second chunk waited for the first one's sync");
    vfs.set_faults(None);
    let reader = SnapshotReader::open(&vfs, &WHO, digest).unwrap();
    let read = meet(&vfs, CallKind::Read);
    let mut back = Vec::new();
    reader.on_threads(2).read_to_end(&mut back).unwrap();
    assert_eq!(back, sample());
    assert!(read.0.lock().unwrap().1, "the second chunk waited for the first one");
}
