//! The file-system seam's contract, on the real file system and on the simulated disk, and what
//! only the simulated disk does: recordings, faults, durable state, capacity, forks.

#[path = "vfs/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use seawall::vfs::mem::{
    Call, CallKind, Content, Fault, Faults, Image, MemFile, MemVfs, Op, PAGE, SyncFailure, Trace,
};
use seawall::vfs::os::{FileSystemKind, OsVfs, file_system_kind};
use seawall::vfs::{Access, File, OutOfDescriptors, Vfs, read_exact_at, write_all_at, write_slices_at};

/// Runs each contract on both implementations.
macro_rules! contracts {
    ($($name:ident,)*) => {
        mod os {
            $(#[test] fn $name() {
                let dir = tempfile::tempdir().unwrap();
                let vfs = super::OsVfs::at(dir.path().join("deep/store"));
                super::Vfs::create_root(&vfs).unwrap();
                super::$name(&vfs);
            })*
        }
        mod mem {
            $(#[test] fn $name() { super::$name(&super::MemVfs::new()); })*
            mod tracked {
                $(#[test] fn $name() {
                    let vfs = super::super::MemVfs::new();
                    vfs.record(true);
                    super::super::$name(&vfs);
                })*
            }
        }
    };
}

contracts! {
    names_are_created_once,
    names_are_listed_sorted,
    a_rename_replaces,
    an_unlinked_file_works_on,
    reads_and_writes_are_positioned,
    slices_are_written_after_one_another,
    a_gap_and_a_longer_length_are_zeros,
    a_cut_forgets_the_bytes,
    read_only_refuses_writes,
    the_lock_is_the_inodes,
    syncs_succeed,
    entropy_differs,
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

fn contents<V: Vfs>(vfs: &V, path: &str) -> Vec<u8> {
    let file = vfs.open(path, Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&file, &mut bytes, 0).unwrap();
    bytes
}

fn names_are_created_once<V: Vfs>(vfs: &V) {
    vfs.create_root().unwrap();
    vfs.create_dir("d").unwrap();
    assert_eq!(kind(vfs.create_dir("d")), ErrorKind::AlreadyExists);
    assert!(vfs.create("d/f").unwrap().is_empty().unwrap());
    assert_eq!(kind(vfs.create("d/f")), ErrorKind::AlreadyExists);
    assert_eq!(kind(vfs.create("d")), ErrorKind::AlreadyExists);
    assert_eq!(kind(vfs.create_dir("d/f")), ErrorKind::AlreadyExists);
    assert_eq!(kind(vfs.create("x/f")), ErrorKind::NotFound);
    assert_eq!(kind(vfs.create_dir("x/y")), ErrorKind::NotFound);
    assert_eq!(kind(vfs.create("d/f/g")), ErrorKind::NotADirectory);
    assert_eq!(kind(vfs.open("d/g", Access::Read)), ErrorKind::NotFound);
    assert_eq!(kind(vfs.open("d", Access::ReadWrite)), ErrorKind::IsADirectory);
    assert_eq!(kind(vfs.remove("d/g")), ErrorKind::NotFound);
    vfs.remove("d/f").unwrap();
    assert_eq!(kind(vfs.open("d/f", Access::Read)), ErrorKind::NotFound);
}

fn names_are_listed_sorted<V: Vfs>(vfs: &V) {
    for dir in ["b", "b/inner"] {
        vfs.create_dir(dir).unwrap();
    }
    for file in ["c", "a", "b/z", "b/inner/deep", "b-"] {
        vfs.create(file).unwrap();
    }
    assert_eq!(vfs.list("").unwrap(), ["a", "b", "b-", "c"]);
    assert_eq!(vfs.list("b").unwrap(), ["inner", "z"]);
    assert_eq!(vfs.list("b/inner").unwrap(), ["deep"]);
    assert_eq!(kind(vfs.list("x")), ErrorKind::NotFound);
    assert_eq!(kind(vfs.list("a")), ErrorKind::NotADirectory);
}

fn a_rename_replaces<V: Vfs>(vfs: &V) {
    vfs.create_dir("d").unwrap();
    let new = vfs.create("new").unwrap();
    write_all_at::<V>(&new, b"new", 0).unwrap();
    let old = vfs.create("d/old").unwrap();
    write_all_at::<V>(&old, b"older", 0).unwrap();
    assert!(old.is_named("d/old").unwrap());
    vfs.rename("new", "d/old").unwrap();
    assert_eq!(contents(vfs, "d/old"), b"new");
    assert!(new.is_named("d/old").unwrap());
    assert!(!new.is_named("new").unwrap());
    assert!(!old.is_named("d/old").unwrap());
    assert!(!old.is_named("d/old/under").unwrap());
    assert_eq!(vfs.list("").unwrap(), ["d"]);
    assert_eq!(kind(vfs.rename("new", "x")), ErrorKind::NotFound);
    assert_eq!(kind(vfs.rename("d/old", "x/y")), ErrorKind::NotFound);
    vfs.create_dir("e").unwrap();
    assert_eq!(kind(vfs.rename("d/old", "e")), ErrorKind::IsADirectory);
    assert_eq!(kind(vfs.rename("d/old", "d")), ErrorKind::DirectoryNotEmpty);
    vfs.rename("d/old", "e/moved").unwrap();
    vfs.rename("e/moved", "d/old").unwrap();
    vfs.rename("d/old", "d/old").unwrap();
    assert_eq!(contents(vfs, "d/old"), b"new");
}

fn an_unlinked_file_works_on<V: Vfs>(vfs: &V) {
    let file = vfs.create("f").unwrap();
    write_all_at::<V>(&file, b"bytes", 0).unwrap();
    vfs.remove("f").unwrap();
    vfs.create("f").unwrap();
    assert!(!file.is_named("f").unwrap());
    write_all_at::<V>(&file, b"B", 0).unwrap();
    file.sync_all().unwrap();
    let mut bytes = [0; 5];
    read_exact_at(&file, &mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"Bytes");
    assert_eq!(contents(vfs, "f"), b"");
}

fn reads_and_writes_are_positioned<V: Vfs>(vfs: &V) {
    let file = vfs.create("f").unwrap();
    let pattern: Vec<u8> = (0..1500_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    write_all_at::<V>(&file, &pattern, 0).unwrap();
    write_all_at::<V>(&file, b"over the edge", 506).unwrap();
    let mut want = pattern;
    want[506..519].copy_from_slice(b"over the edge");
    assert_eq!(contents(vfs, "f"), want);
    assert_eq!(file.write_at(b"", 9000).unwrap(), 0);
    assert_eq!(file.len().unwrap(), 1500);
    let mut buf = [7; 100];
    assert_eq!(file.read_at(&mut buf, 1490).unwrap(), 10);
    assert_eq!((&buf[..10], &buf[10..]), (&want[1490..], &[7; 90][..]));
    assert_eq!(file.read_at(&mut buf, 1500).unwrap(), 0);
    assert_eq!(file.read_at(&mut buf, 1 << 40).unwrap(), 0);
    assert_eq!(kind(read_exact_at(&file, &mut buf, 1490)), ErrorKind::UnexpectedEof);
}

/// More of them than one call takes, and some that are empty.
fn slices_are_written_after_one_another<V: Vfs>(vfs: &V) {
    let file = vfs.create("f").unwrap();
    let parts: Vec<Vec<u8>> = (0..3000usize).map(|n| vec![u8::try_from(n % 251).unwrap(); n % 3]).collect();
    let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    write_slices_at::<V>(&file, &mut slices, 5).unwrap();
    write_slices_at::<V>(&file, &mut [IoSlice::new(b""), IoSlice::new(b"")], 9000).unwrap();
    let whole = [&[0; 5][..], &parts.concat()].concat();
    assert_eq!(file.len().unwrap(), whole.len() as u64);
    let mut bytes = vec![0; whole.len()];
    read_exact_at(&file, &mut bytes, 0).unwrap();
    assert!(bytes == whole);
}

fn a_gap_and_a_longer_length_are_zeros<V: Vfs>(vfs: &V) {
    let file = vfs.create("f").unwrap();
    write_all_at::<V>(&file, b"x", 2000).unwrap();
    file.set_len(3000).unwrap();
    let mut want = vec![0; 3000];
    want[2000] = b'x';
    assert_eq!(contents(vfs, "f"), want);
}

fn a_cut_forgets_the_bytes<V: Vfs>(vfs: &V) {
    let file = vfs.create("f").unwrap();
    write_all_at::<V>(&file, &[9; 1200], 0).unwrap();
    file.set_len(600).unwrap();
    assert_eq!(file.len().unwrap(), 600);
    file.set_len(1200).unwrap();
    let mut want = vec![9; 600];
    want.resize(1200, 0);
    assert_eq!(contents(vfs, "f"), want);
}

fn read_only_refuses_writes<V: Vfs>(vfs: &V) {
    vfs.create("f").unwrap();
    let file = vfs.open("f", Access::Read).unwrap();
    assert_eq!(file.write_at(b"x", 0).unwrap_err().raw_os_error(), Some(9), "EBADF");
    assert_eq!(kind(file.set_len(5)), ErrorKind::InvalidInput);
    assert!(file.try_lock().unwrap());
    file.sync_all().unwrap();
    assert_eq!(file.len().unwrap(), 0);
}

fn the_lock_is_the_inodes<V: Vfs>(vfs: &V) {
    let first = vfs.create("f").unwrap();
    let second = vfs.open("f", Access::ReadWrite).unwrap();
    let other = vfs.create("g").unwrap();
    assert!(first.try_lock().unwrap());
    assert!(first.try_lock().unwrap(), "again by its holder");
    assert!(!second.try_lock().unwrap());
    assert!(other.try_lock().unwrap());
    vfs.rename("f", "h").unwrap();
    assert!(!vfs.open("h", Access::Read).unwrap().try_lock().unwrap());
    assert!(!second.try_lock().unwrap(), "kept when another description closes");
    drop(first);
    assert!(second.try_lock().unwrap(), "given back at close");
}

fn syncs_succeed<V: Vfs>(vfs: &V) {
    vfs.create_dir("d").unwrap();
    let file = vfs.create("d/f").unwrap();
    write_all_at::<V>(&file, b"x", 0).unwrap();
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    vfs.sync_dir("d").unwrap();
    vfs.sync_dir("").unwrap();
    assert_eq!(kind(vfs.sync_dir("x")), ErrorKind::NotFound);
    assert_eq!(kind(vfs.sync_dir("d/f")), ErrorKind::NotADirectory);
    assert!(vfs.available_space().unwrap() > 1 << 20);
}

fn entropy_differs<V: Vfs>(vfs: &V) {
    assert_ne!(vfs.entropy().unwrap(), vfs.entropy().unwrap());
}

#[test]
fn the_roots_directories_are_made_and_a_missing_root_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = OsVfs::at(dir.path().join("a/b/c"));
    assert_eq!(kind(vfs.list("")), ErrorKind::NotFound);
    assert_eq!(file_system_kind(vfs.root()).unwrap(), file_system_kind(dir.path()).unwrap());
    vfs.create_root().unwrap();
    vfs.create_root().unwrap();
    assert_eq!(vfs.list("").unwrap(), [""; 0]);
    assert!(dir.path().join("a/b/c").is_dir());
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(OsVfs::at(dir.path().join("file/x")).create_root().is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_systems_kind_is_named() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let of = |point: &str| {
        let lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.filter(|parts| parts[1] == point).map(|parts| parts[2].to_owned()).next_back()
    };
    assert_eq!(file_system_kind("/proc").unwrap(), FileSystemKind::Other);
    for point in ["/", "/dev/shm"] {
        let Some(name) = of(point) else { continue };
        if ["ext4", "xfs", "btrfs", "tmpfs"].contains(&name.as_str()) {
            assert_eq!(file_system_kind(point).unwrap().to_string(), name);
        }
    }
}

#[test]
#[should_panic(expected = "not a path inside the store")]
fn a_path_out_of_the_store_is_our_fault() {
    drop(OsVfs::at("/nowhere").list("../etc"));
}

// ---- the simulated disk alone ----

/// A tracked disk with one durable file `f` of the given bytes.
fn disk_with(bytes: &[u8]) -> (MemVfs, MemFile) {
    let mut image = Image::default();
    image.put("f", bytes);
    let vfs = MemVfs::from_image(image);
    vfs.track();
    let file = vfs.open("f", Access::ReadWrite).unwrap();
    (vfs, file)
}

fn durable(vfs: &MemVfs) -> Vec<u8> {
    vfs.durable_image().read("f").expect("f is durable")
}

/// Fails the `nth` call (from 0) of a kind.
fn nth(kind: CallKind, nth: u64, fault: Fault) -> Option<Faults> {
    let seen = AtomicU64::new(0);
    Some(Arc::new(move |call: &Call| {
        let hit = call.kind == kind && seen.fetch_add(1, Ordering::Relaxed) == nth;
        hit.then_some(fault)
    }))
}

#[test]
fn data_is_durable_when_synced() {
    let (vfs, file) = disk_with(&[1; 1000]);
    write_all_at::<MemVfs>(&file, &[2; 600], 700).unwrap();
    assert_eq!(durable(&vfs), [1; 1000]);
    file.sync_data().unwrap();
    assert_eq!(durable(&vfs), [&[1; 700][..], &[2; 600]].concat());
}

#[test]
fn a_cut_is_durable_only_by_fsync() {
    let (vfs, file) = disk_with(&[1; 2000]);
    file.set_len(100).unwrap();
    file.sync_data().unwrap();
    let image = durable(&vfs);
    assert_eq!(image.len(), 2000);
    assert_eq!(image[..100], [1; 100]);
    assert_eq!(image[PAGE..], [1; 2000 - PAGE]);
    file.sync_all().unwrap();
    assert_eq!(durable(&vfs), [1; 100]);
}

#[test]
fn what_was_cut_off_never_comes_back() {
    let (vfs, file) = disk_with(&[1; 2000]);
    for len in [100, 1900] {
        file.set_len(len).unwrap();
        file.sync_data().unwrap();
    }
    file.sync_all().unwrap();
    assert_eq!(durable(&vfs), [&[1; 100][..], &[0; 1800]].concat());
}

#[test]
fn a_length_that_a_failed_sync_lost_hides_the_bytes_past_it() {
    let (vfs, file) = disk_with(&[1; 10]);
    vfs.set_faults(nth(CallKind::SyncAll, 0, Fault::FailSync(SyncFailure::KeptClean)));
    write_all_at::<MemVfs>(&file, &[2; 100], 0).unwrap();
    file.sync_all().unwrap_err();
    write_all_at::<MemVfs>(&file, &[3; 5], 0).unwrap();
    file.sync_all().unwrap();
    let mut want = Image::default();
    want.put("f", &[[3; 5], [2; 5]].concat());
    assert_eq!(vfs.durable_image(), want);
}

#[test]
fn names_are_durable_with_their_directory() {
    let vfs = MemVfs::new();
    vfs.track();
    vfs.create_dir("d").unwrap();
    let file = vfs.create("d/f").unwrap();
    write_all_at::<MemVfs>(&file, b"x", 0).unwrap();
    file.sync_all().unwrap();
    vfs.sync_dir("d").unwrap();
    assert_eq!(vfs.durable_image(), Image::default(), "d itself is not durable");
    vfs.sync_dir("").unwrap();
    assert_eq!(vfs.durable_image(), vfs.image());
    drop(file);
    vfs.remove("d/f").unwrap();
    vfs.sync_dir("").unwrap();
    assert_eq!(vfs.durable_image().read("d/f").unwrap(), b"x");
    vfs.sync_dir("d").unwrap();
    assert_eq!(vfs.durable_image().read("d/f"), None);
}

#[test]
fn a_rename_is_durable_in_one_piece() {
    let (vfs, _file) = disk_with(b"old");
    vfs.create_dir("d").unwrap();
    vfs.sync_dir("").unwrap();
    vfs.rename("f", "d/g").unwrap();
    for (sync, f, g) in [("d", true, false), ("", false, true)] {
        vfs.sync_dir(sync).unwrap();
        let image = vfs.durable_image();
        assert_eq!((image.read("f").is_some(), image.read("d/g").is_some()), (f, g), "{sync:?}");
    }
    // A new file under the old name must not outlive the rename that freed it.
    vfs.rename("d/g", "f").unwrap();
    vfs.create("d/g").unwrap();
    vfs.sync_dir("d").unwrap();
    let image = vfs.durable_image();
    assert_eq!((image.read("f").unwrap(), image.read("d/g").unwrap()), (b"old".to_vec(), vec![]));
}

#[test]
#[should_panic(expected = "not kept apart")]
fn without_tracking_there_is_no_durable_image() {
    drop(MemVfs::new().durable_image());
}

/// Both images after each of the four failures and a second, successful sync.
#[test]
fn the_four_failures_of_a_sync() {
    let new = [2; 3 * PAGE];
    for (failure, first_ok, second_ok) in [
        (SyncFailure::KeptClean, false, true),
        (SyncFailure::Reverted, false, true),
        (SyncFailure::Late, true, false),
        (SyncFailure::Partial, false, true),
    ] {
        let (vfs, file) = disk_with(&[1; 2 * PAGE]);
        write_all_at::<MemVfs>(&file, &new, 0).unwrap();
        vfs.set_faults(nth(CallKind::SyncData, 0, Fault::FailSync(failure)));
        assert_eq!(file.sync_data().is_ok(), first_ok, "{failure:?}");
        let (cache, disk) = (vfs.image().read("f").unwrap(), durable(&vfs));
        match failure {
            SyncFailure::KeptClean | SyncFailure::Late => {
                assert_eq!((&cache[..], &disk[..]), (&new[..], &[1; 2 * PAGE][..]));
            }
            SyncFailure::Reverted => assert_eq!((&cache[..], &disk[..]), (&[1; 2 * PAGE][..], &cache[..])),
            SyncFailure::Partial => {
                assert_eq!(cache, new);
                assert_eq!(disk, [[1; PAGE], [2; PAGE], [0; PAGE]].concat());
            }
        }
        assert_eq!(file.sync_data().is_ok(), second_ok, "{failure:?}");
        assert_eq!(durable(&vfs), disk, "{failure:?}: a later sync keeps nothing of it");
        file.sync_data().expect("reported once");
        write_all_at::<MemVfs>(&file, &new, 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(durable(&vfs), new, "{failure:?}: written again and synced");
    }
}

#[test]
fn a_sync_error_is_told_to_each_description_once() {
    let (vfs, first) = disk_with(b"old");
    let second = vfs.open("f", Access::ReadWrite).unwrap();
    write_all_at::<MemVfs>(&first, b"new", 0).unwrap();
    vfs.set_faults(nth(CallKind::SyncData, 0, Fault::FailSync(SyncFailure::KeptClean)));
    assert!(first.sync_data().is_err());
    let late_comer = vfs.open("f", Access::ReadWrite).unwrap();
    late_comer.sync_data().expect("opened after the error was reported");
    first.sync_data().expect("told already");
    assert!(second.sync_data().is_err());
    second.sync_data().expect("told already");
    assert_eq!(durable(&vfs), b"old");
}

#[test]
fn an_untold_error_meets_the_next_opener() {
    let (vfs, first) = disk_with(b"old");
    vfs.set_faults(nth(CallKind::SyncAll, 0, Fault::FailSync(SyncFailure::Late)));
    first.sync_all().unwrap();
    drop(first);
    let next = vfs.open("f", Access::Read).unwrap();
    assert!(next.sync_all().is_err());
    next.sync_all().unwrap();
}

#[test]
fn a_failed_directory_sync_leaves_the_names_in_doubt() {
    for (failure, first_ok, kept) in [
        (SyncFailure::KeptClean, false, &[][..]),
        (SyncFailure::Reverted, false, &[]),
        (SyncFailure::Late, true, &[]),
        (SyncFailure::Partial, false, &["b"]),
    ] {
        let vfs = MemVfs::new();
        vfs.set_faults(nth(CallKind::SyncDir, 0, Fault::FailSync(failure)));
        vfs.create("a").unwrap();
        vfs.create("b").unwrap();
        assert_eq!(vfs.sync_dir("").is_ok(), first_ok, "{failure:?}");
        assert_eq!(vfs.sync_dir("").is_ok(), !first_ok, "{failure:?}");
        vfs.sync_dir("").unwrap();
        let durable: Vec<String> = vfs.durable_image().files.into_keys().collect();
        assert_eq!(durable, kept, "{failure:?}");
        assert_eq!(vfs.list("").unwrap(), ["a", "b"]);
    }
}

#[test]
fn faults_see_every_call_and_fail_it() {
    let (vfs, file) = disk_with(&[1; 100]);
    vfs.rename("f", "g").unwrap();
    vfs.set_faults(nth(CallKind::Write, 0, Fault::ShortWrite(3)));
    assert_eq!(file.write_at(b"abcdef", 0).unwrap(), 3);
    assert_eq!(vfs.image().read("g").unwrap()[..5], *b"abc\x01\x01");
    vfs.set_faults(nth(CallKind::Write, 0, Fault::Errno(4)));
    write_all_at::<MemVfs>(&file, b"after EINTR", 0).unwrap();
    assert_eq!(vfs.image().read("g").unwrap()[..11], *b"after EINTR");
    vfs.set_faults(nth(CallKind::Read, 0, Fault::ShortRead(2)));
    assert_eq!(file.read_at(&mut [0; 9], 0).unwrap(), 2);
    vfs.set_faults(nth(CallKind::Create, 0, Fault::Errno(24)));
    let refused = vfs.create("h").unwrap_err();
    assert!(OutOfDescriptors::carried(&refused).unwrap().limit().contains("ulimit -n"), "{refused}");
    assert_eq!(vfs.list("").unwrap(), ["g"], "nothing was created");

    let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = calls.clone();
    vfs.set_faults(Some(Arc::new(move |call| {
        log.lock().unwrap().push(call.clone());
        None
    })));
    file.len().unwrap();
    file.read_at(&mut [0; 9], 4).unwrap();
    vfs.sync_dir("").unwrap();
    vfs.set_faults(None);
    file.len().unwrap();
    let seen: Vec<_> =
        calls.lock().unwrap().iter().map(|c| (c.number, c.kind, c.path.clone(), c.offset, c.bytes)).collect();
    let want = [
        (0, CallKind::Len, "g".to_owned(), 0, 0),
        (1, CallKind::Read, "g".to_owned(), 4, 9),
        (2, CallKind::SyncDir, String::new(), 0, 0),
    ];
    assert_eq!(seen, want);
}

#[test]
fn an_injected_error_number_on_a_sync_loses_nothing() {
    let (vfs, file) = disk_with(b"old");
    write_all_at::<MemVfs>(&file, b"new", 0).unwrap();
    vfs.set_faults(nth(CallKind::SyncAll, 0, Fault::Errno(28)));
    assert_eq!(kind(file.sync_all()), ErrorKind::StorageFull);
    assert_eq!(durable(&vfs), b"old");
    file.sync_all().unwrap();
    assert_eq!(durable(&vfs), b"new");
}

#[test]
fn the_recording_is_exact() {
    let (vfs, file) = disk_with(b"old");
    write_all_at::<MemVfs>(&file, b"OLD", 0).unwrap();
    vfs.record(true);
    vfs.create_dir("d").unwrap();
    let new = vfs.create("d/g").unwrap();
    vfs.mark(7);
    write_all_at::<MemVfs>(&new, b"bytes", 3).unwrap();
    new.set_len(6).unwrap();
    vfs.set_faults(nth(CallKind::SyncData, 0, Fault::FailSync(SyncFailure::Late)));
    new.sync_data().unwrap();
    assert!(new.sync_all().is_err());
    new.sync_all().unwrap();
    vfs.rename("d/g", "f").unwrap();
    vfs.sync_dir("d").unwrap();
    vfs.remove("f").unwrap();
    assert!(vfs.remove("f").is_err(), "a failed call is not in the recording");
    let Trace { initial, inos, ops } = vfs.take_trace();
    assert_eq!(initial.read("f").unwrap(), b"OLD");
    assert_eq!(inos, BTreeMap::from([("f".to_owned(), file.ino())]));
    let (f, g, gd) = (file.ino(), new.ino(), new.description());
    let d_g = || "d/g".to_owned();
    let want = [
        (Op::CreateDir { path: "d".to_owned() }, false, None),
        (Op::Create { path: d_g(), ino: g }, false, None),
        (Op::Mark(7), false, None),
        (Op::Write { ino: g, offset: 3, data: Arc::from(*b"bytes") }, false, None),
        (Op::SetLen { ino: g, len: 6 }, false, None),
        (Op::SyncData { ino: g, file: gd }, true, Some(SyncFailure::Late)),
        (Op::SyncAll { ino: g, file: gd }, true, None),
        (Op::SyncAll { ino: g, file: gd }, false, None),
        (Op::Rename { from: d_g(), to: "f".to_owned(), ino: g, replaced: Some(f) }, false, None),
        (Op::SyncDir { path: "d".to_owned() }, false, None),
        (Op::Remove { path: "f".to_owned(), ino: g }, false, None),
    ];
    let ops: Vec<_> = ops.into_iter().map(|r| (r.op, r.failed, r.failure)).collect();
    assert_eq!(ops, want);
    vfs.mark(8);
    vfs.record(true);
    assert_eq!(vfs.take_trace().ops, [], "each recording begins afresh");
}

#[test]
fn a_full_disk_refuses_and_gives_back() {
    let vfs = MemVfs::new();
    vfs.set_capacity(Some(4));
    assert_eq!(vfs.available_space().unwrap(), 4 * PAGE as u64);
    let file = vfs.create("f").unwrap();
    file.set_len(100 * PAGE as u64).unwrap();
    assert_eq!(vfs.available_space().unwrap(), 4 * PAGE as u64, "holes take nothing");
    write_all_at::<MemVfs>(&file, &[0; PAGE], 0).unwrap();
    assert_eq!(vfs.available_space().unwrap(), 3 * PAGE as u64, "written zeros do");
    assert_eq!(file.write_at(&[1; 5 * PAGE], 10).unwrap(), 4 * PAGE - 10, "what fits");
    assert_eq!(kind(file.write_at(&[1], 4 * PAGE as u64)), ErrorKind::StorageFull);
    write_all_at::<MemVfs>(&file, &[2; 4 * PAGE], 0).expect("over what is there");
    let second = vfs.create("g").unwrap();
    assert_eq!(kind(second.write_at(&[1], 0)), ErrorKind::StorageFull);
    vfs.remove("f").unwrap();
    assert_eq!(vfs.available_space().unwrap(), 0, "still open");
    drop(file);
    second.write_at(&[1; 10], 0).unwrap();
    second.set_len(0).unwrap();
    assert_eq!(vfs.available_space().unwrap(), 4 * PAGE as u64);
    assert_eq!(second.write_at(&[1], u64::MAX - 1).unwrap_err().raw_os_error(), Some(27), "EFBIG");
}

#[test]
fn a_fork_is_another_disk() {
    let (vfs, file) = disk_with(b"shared");
    assert!(file.try_lock().unwrap());
    vfs.set_capacity(Some(9));
    let fork = vfs.fork();
    assert_eq!(fork.available_space().unwrap(), 8 * PAGE as u64);
    let theirs = fork.open("f", Access::ReadWrite).unwrap();
    assert!(theirs.try_lock().unwrap());
    write_all_at::<MemVfs>(&theirs, b"THEIR", 0).unwrap();
    write_all_at::<MemVfs>(&file, b"my", 0).unwrap();
    fork.create("g").unwrap();
    assert_eq!(fork.image().read("f").unwrap(), b"THEIRd");
    assert_eq!(vfs.image().read("f").unwrap(), b"myared");
    assert_eq!(vfs.list("").unwrap(), ["f"]);
    assert_eq!(vfs.clone().image(), vfs.image(), "a clone is the same disk");
    vfs.remove("f").unwrap();
    assert_eq!(vfs.available_space().unwrap(), 8 * PAGE as u64, "still open");
    assert_eq!(vfs.fork().available_space().unwrap(), 9 * PAGE as u64);
}

#[test]
fn equal_bytes_are_equal_contents() {
    let mut content = Content::from_bytes(&[1; 1000]);
    content.write(0, &[0; 512]);
    content.write(512, &[0; 10]);
    let mut other = Content::from_bytes(&[0; 522]);
    assert_ne!(content, other);
    other.write(522, &[1; 478]);
    assert_eq!(content, other);
    assert!(content.pages[0].is_none(), "a page of zeros is not held");
    other.set_len(1024);
    assert_ne!(content, other);
}
