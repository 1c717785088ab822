//! What is removed, and what stays.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::snapshot::collect::{Swept, discard, load, retire, sweep};
use crate::vfs::mem::{CallKind, Fault};

fn parts(seeds: &[u64]) -> Vec<u8> {
    seeds.iter().flat_map(|&seed| noise(64, seed)).collect()
}

#[test]
fn retiring_keeps_what_is_shared() {
    let (vfs, known) = (disk(), Known::default());
    let first = publish(&vfs, &known, 1, &parts(&[1, 2, 2]));
    let second = publish(&vfs, &known, 2, &parts(&[2, 3]));
    assert_eq!(known.lock().unwrap().chunk_count(crate::snapshot::hash_of(&noise(64, 2))), 2);
    retire(&vfs, &known, first).unwrap();
    assert_eq!(vfs.image().files.len(), 3, "a manifest and its two chunks");
    assert_eq!(read(&power_loss(&vfs), second).unwrap(), parts(&[2, 3]));
    retire(&vfs, &known, second).unwrap();
    assert_eq!(files(&vfs.image()), [""; 0]);
    assert_eq!(files(&power_loss(&vfs).image()), [""; 0], "the removal is synced");
}

#[test]
fn a_manifest_that_many_name_is_read_once() {
    let (vfs, known) = (disk(), Known::default());
    let digest = publish(&vfs, &known, 1, &parts(&[1]));
    let opened = Arc::new(AtomicUsize::new(0));
    let count = opened.clone();
    vfs.set_faults(Some(Arc::new(move |call| {
        count.fetch_add(usize::from(call.kind == CallKind::Open), Ordering::Relaxed);
        None
    })));
    let table = load(&vfs, &WHO, &[digest; 200]);
    assert_eq!((table.pointers(digest), opened.load(Ordering::Relaxed)), (200, 1));
}

#[test]
fn each_pointer_counts() {
    let (vfs, known) = (disk(), Known::default());
    let digest = publish(&vfs, &known, 1, &parts(&[1]));
    assert_eq!(publish(&vfs, &known, 1, &parts(&[1])), digest);
    retire(&vfs, &known, digest).unwrap();
    assert_eq!(read(&vfs, digest).unwrap(), parts(&[1]));
    retire(&vfs, &known, digest).unwrap();
    assert_eq!(files(&vfs.image()), [""; 0]);
}

#[test]
fn a_retirement_may_overtake_its_pointer() {
    let (vfs, known) = (disk(), Known::default());
    let shared = publish(&vfs, &known, 1, &parts(&[1, 2]));
    let sealed = seal(&vfs, &known, 2, &parts(&[2, 3])).unwrap().digest;
    retire(&vfs, &known, sealed).unwrap();
    known.lock().unwrap().point(sealed);
    assert_eq!((known.lock().unwrap().pointers(sealed), vfs.image().files.len()), (0, 5));
    let mut table = load(&vfs, &WHO, &[shared]);
    assert_eq!(sweep(&vfs, &mut table).unwrap().removed, 2);
    assert_eq!(read(&vfs, shared).unwrap(), parts(&[1, 2]));
}

#[test]
fn what_is_being_built_or_sealed_is_not_collected() {
    let (vfs, known) = (disk(), Known::default());
    let older = publish(&vfs, &known, 1, &parts(&[1, 2]));
    let sealed = seal(&vfs, &known, 2, &parts(&[2, 3])).unwrap().digest;
    let mut building = builder(&vfs, &known, 3, None);
    building.write_all(&parts(&[1, 4])).unwrap();
    retire(&vfs, &known, older).unwrap();
    assert_eq!(verify(&vfs, &WHO, sealed), []);
    let third = building.finish().unwrap().digest;
    known.lock().unwrap().point(third);
    known.lock().unwrap().point(sealed);
    let after = power_loss(&vfs);
    assert_eq!(read(&after, sealed).unwrap(), parts(&[2, 3]));
    assert_eq!(read(&after, third).unwrap(), parts(&[1, 4]));
}

#[test]
fn an_unfinished_builder_leaves_nothing() {
    let (vfs, known) = (disk(), Known::default());
    let older = publish(&vfs, &known, 1, &parts(&[1, 2]));
    let before = vfs.image();
    let mut dropped = builder(&vfs, &known, 2, None);
    dropped.write_all(&parts(&[2, 3, 4])).unwrap();
    assert_eq!(vfs.image().files.len(), before.files.len() + 2);
    drop(dropped);
    assert_eq!(vfs.image(), before);
    let sealed = seal(&vfs, &known, 2, &parts(&[2, 3])).unwrap();
    discard(&vfs, &known, sealed.digest).unwrap();
    assert_eq!(vfs.image(), before);
    assert_eq!(verify(&vfs, &WHO, older), []);
}

#[test]
fn a_pinned_reader_outlives_a_retirement() {
    let (vfs, known) = (disk(), Known::default());
    let digest = publish(&vfs, &known, 1, &parts(&[1, 2, 3]));
    let mut reader = SnapshotReader::open_pinned(&vfs, &WHO, digest, &known).unwrap();
    let mut first = [0; 64];
    reader.read_exact(&mut first).unwrap();
    retire(&vfs, &known, digest).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!([&first[..], &rest].concat(), parts(&[1, 2, 3]));
    drop(reader);
    assert_eq!(files(&vfs.image()), [""; 0]);
    let gone = SnapshotReader::open_pinned(&vfs, &WHO, digest, &known).unwrap_err();
    assert!(matches!(gone, SnapshotFault::Missing { .. }));
}

#[test]
fn a_sweep_removes_our_left_overs_and_nothing_else() {
    let (vfs, known) = (disk(), Known::default());
    let live = publish(&vfs, &known, 1, &parts(&[1, 2]));
    let before = vfs.image();
    let _unpointed = seal(&vfs, &known, 2, &parts(&[2, 3])).unwrap();
    let mut image = vfs.image();
    let hex = "0123456789abcdef".repeat(4);
    for ours in [
        format!("{hex}.chunk"),
        format!("{hex}.manifest"),
        format!("{hex}.chunk.part"),
        format!("{live}.manifest.part"),
    ] {
        image.put(&format!("{DIR}/{ours}"), b"half");
    }
    let mut others = vec![
        format!("{}.chunk", hex.to_uppercase()),
        "x.chunk".into(),
        "README".into(),
        format!("{hex}0.chunk"),
        format!("{hex}.chunk.old"),
    ];
    others.sort();
    for other in &others {
        image.put(&format!("{DIR}/{other}"), b"theirs");
    }
    let vfs = MemVfs::from_image(image);
    vfs.track();
    let mut table = load(&vfs, &WHO, &[live]);
    let swept = sweep(&vfs, &mut table).unwrap();
    assert_eq!(swept, Swept { removed: 4 + 2, unknown: others.clone(), missing: vec![] });
    let mut after = vfs.durable_image();
    for other in &others {
        assert!(after.files.remove(&format!("{DIR}/{other}")).is_some());
    }
    assert_eq!(after, before);
    assert_eq!(sweep(&vfs, &mut table).unwrap().removed, 0);
    // The counts are those of a table that saw the snapshot being made.
    retire(&vfs, &Mutex::new(table), live).unwrap();
    assert_eq!(vfs.image().files.len(), others.len());
}

#[test]
fn a_sweep_names_missing_chunks() {
    let (vfs, known) = (disk(), Known::default());
    let live = publish(&vfs, &known, 1, &parts(&[1, 2]));
    let gone = format!("{DIR}/{}.chunk", crate::snapshot::hash_of(&noise(64, 2)));
    vfs.remove(&gone).unwrap();
    let mut table = load(&vfs, &WHO, &[live]);
    assert_eq!(sweep(&vfs, &mut table).unwrap().missing, [SnapshotFault::Missing { file: gone }]);
}

#[test]
fn chunks_stay_while_a_live_manifest_is_damaged() {
    let (vfs, known) = (disk(), Known::default());
    let bad = publish(&vfs, &known, 1, &parts(&[1, 2]));
    let good = publish(&vfs, &known, 2, &parts(&[2, 3]));
    let mut image = vfs.image();
    image.put(&format!("{DIR}/{bad}.manifest"), b"rot");
    let vfs = MemVfs::from_image(image);
    vfs.track();
    let mut table = load(&vfs, &WHO, &[bad, good]);
    assert_eq!(table.faults().len(), 1);
    assert_eq!(sweep(&vfs, &mut table).unwrap(), Swept::default());
    let known = Arc::new(Mutex::new(table));
    retire(&vfs, &known, good).unwrap();
    assert_eq!(vfs.image().files.keys().filter(|name| name.ends_with("chunk")).count(), 3);

    // The leader sends the snapshot again: the manifest is whole again, and so is the snapshot.
    let sealed = seal(&vfs, &known, 1, &parts(&[1, 2])).unwrap();
    assert_eq!((sealed.digest, sealed.repaired), (bad, vec![format!("{DIR}/{bad}.manifest")]));
    known.lock().unwrap().point(bad);
    retire(&vfs, &known, bad).unwrap();
    let after = power_loss(&vfs);
    assert_eq!(read(&after, bad).unwrap(), parts(&[1, 2]));
    let mut table = load(&after, &WHO, &[bad]);
    assert_eq!(sweep(&after, &mut table).unwrap().removed, 1, "now the third chunk is nobody's");
}

#[test]
fn a_damaged_live_chunk_is_not_shared_but_repaired() {
    let (vfs, known) = (disk(), Known::default());
    let older = publish(&vfs, &known, 1, &parts(&[1, 2]));
    let path = format!("{DIR}/{}.chunk", crate::snapshot::hash_of(&noise(64, 2)));
    let mut image = vfs.image();
    let mut bytes = image.read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    image.put(&path, &bytes);
    let vfs = MemVfs::from_image(image);
    vfs.track();
    let known = Arc::new(Mutex::new(load(&vfs, &WHO, &[older])));

    // A repair that fails leaves the damaged file, for it is not ours to remove.
    vfs.set_faults(Some(Arc::new(|call| (call.kind == CallKind::Rename).then_some(Fault::Errno(5)))));
    seal(&vfs, &known, 2, &parts(&[2, 3])).unwrap_err();
    vfs.set_faults(None);
    assert_eq!(vfs.image().read(&path), Some(bytes));
    assert_eq!(vfs.image().files.len(), 3);

    let sealed = seal(&vfs, &known, 2, &parts(&[2, 3])).unwrap();
    assert_eq!(sealed.repaired, [path]);
    let after = power_loss(&vfs);
    assert_eq!(verify(&after, &WHO, older), []);
    assert_eq!(read(&after, sealed.digest).unwrap(), parts(&[2, 3]));
}

#[test]
fn a_failed_removal_is_swept_at_the_next_open() {
    let (vfs, known) = (disk(), Known::default());
    let digest = publish(&vfs, &known, 1, &parts(&[1, 2]));
    vfs.set_faults(Some(Arc::new(|call| (call.kind == CallKind::Remove).then_some(Fault::Errno(5)))));
    let error = retire(&vfs, &known, digest).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{DIR}/{digest}.manifest")), "{error}");
    vfs.set_faults(None);
    let vfs = killed(&vfs);
    assert_eq!(sweep(&vfs, &mut load(&vfs, &WHO, &[])).unwrap().removed, 3);
}

#[test]
#[should_panic(expected = "needed file")]
fn retiring_what_no_pointer_names_is_our_mistake() {
    let _ = retire(&disk(), &Known::default(), Digest([1; 32]));
}
