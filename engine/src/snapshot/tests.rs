//! Tests of the snapshot files: here what is written and read back; damage, errors and planted bugs
//! in the modules below.

mod bugs;
mod damage;
mod errors;
mod removal;
mod threads;

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use super::builder::{SealedSnapshot, SnapshotBuilder};
use super::format::{VERSION, chunk, manifest};
use super::reader::{SnapshotReader, verify};
use super::usage::ChunkUse;
use super::{DIR, SnapshotFault, SnapshotSpec};
use crate::types::{Digest, GroupId, Identity, Incarnation, LogId};
use crate::vfs::Vfs;
use crate::vfs::mem::{CallKind, Fault, Image, MemVfs};
use crate::vfs::os::OsVfs;

const WHO: Identity = Identity { cluster: 1, node: 2, store: [7; 16] };
const CHUNK: u32 = 64;

type Known = Arc<Mutex<ChunkUse>>;

/// A disk with an empty, durable `snapshots/`; what is durable is kept apart.
fn disk() -> MemVfs {
    let vfs = MemVfs::new();
    vfs.create_dir(DIR).unwrap();
    vfs.sync_dir("").unwrap();
    vfs.track();
    vfs
}

fn spec(index: u64) -> SnapshotSpec {
    SnapshotSpec {
        store: WHO.store,
        cluster: WHO.cluster,
        node: WHO.node,
        group: GroupId(5),
        incarnation: Incarnation(9),
        id: LogId::new(index, 3),
        membership: b"a,b,c".to_vec(),
    }
}

/// Bytes that do not compress, from splitmix64.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Bytes that compress well, with no two equal chunks.
fn text(len: usize) -> Vec<u8> {
    (0u32..).flat_map(|n| format!("{:>32}", n / 3).into_bytes()).take(len).collect()
}

fn builder<V: Vfs>(vfs: &V, known: &Known, index: u64, level: Option<i32>) -> SnapshotBuilder<V> {
    SnapshotBuilder::new(vfs.clone(), spec(index), level, CHUNK, Arc::clone(known)).unwrap()
}

fn seal<V: Vfs>(vfs: &V, known: &Known, index: u64, bytes: &[u8]) -> io::Result<SealedSnapshot> {
    let mut builder = builder(vfs, known, index, None);
    builder.write_all(bytes)?;
    builder.finish()
}

/// Seals, and tells the table that the pointer is durable.
fn publish<V: Vfs>(vfs: &V, known: &Known, index: u64, bytes: &[u8]) -> Digest {
    let digest = seal(vfs, known, index, bytes).unwrap().digest;
    known.lock().unwrap().point(digest);
    digest
}

fn read<V: Vfs>(vfs: &V, digest: Digest) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    SnapshotReader::open(vfs, &WHO, digest)?.read_to_end(&mut out)?;
    Ok(out)
}

/// One call from now on fails, the one with this number; says which it was, once there was one.
fn fail_once(vfs: &MemVfs, at: u64, errno: i32) -> Arc<Mutex<Option<CallKind>>> {
    let hit = Arc::new(Mutex::new(None));
    let note = Arc::clone(&hit);
    vfs.set_faults(Some(Arc::new(move |call| {
        (call.number == at).then(|| {
            *note.lock().unwrap() = Some(call.kind);
            Fault::Errno(errno)
        })
    })));
    hit
}

/// What was wrong, out of the error of a read.
fn fault(error: &io::Error) -> SnapshotFault {
    error.get_ref().and_then(|e| e.downcast_ref::<SnapshotFault>()).expect("a snapshot fault").clone()
}

/// The disk after a power loss that keeps only what is synced.
fn power_loss(vfs: &MemVfs) -> MemVfs {
    let vfs = MemVfs::from_image(vfs.durable_image());
    vfs.track();
    vfs
}

/// The disk after the process died.
fn killed(vfs: &MemVfs) -> MemVfs {
    let vfs = MemVfs::from_image(vfs.image());
    vfs.track();
    vfs
}

fn files(image: &Image) -> Vec<&str> {
    image.files.keys().map(String::as_str).collect()
}

#[test]
fn every_size_comes_back_and_survives_a_power_loss() {
    for len in [0, 1, 63, 64, 65, 127, 128, 129, 640, 1000] {
        for (bytes, level) in [(noise(len, 1), None), (noise(len, 1), Some(3)), (text(len), Some(3))] {
            let (vfs, known) = (disk(), Known::default());
            let mut builder = builder(&vfs, &known, 10, level);
            bytes.chunks(7).for_each(|piece| builder.write_all(piece).unwrap());
            let sealed = builder.finish().unwrap();
            assert_eq!((sealed.bytes, u64::from(sealed.chunks)), (len as u64, len.div_ceil(64) as u64));

            let after = power_loss(&vfs);
            assert_eq!(read(&after, sealed.digest).unwrap(), bytes, "{len} bytes");
            assert_eq!(verify(&after, &WHO, sealed.digest), []);
            let reader = SnapshotReader::open(&after, &WHO, sealed.digest).unwrap();
            assert_eq!(
                (reader.id(), reader.group(), reader.len()),
                (LogId::new(10, 3), GroupId(5), len as u64)
            );
            assert_eq!((reader.membership(), reader.is_empty()), (&b"a,b,c"[..], len == 0));
            assert_eq!((reader.incarnation(), reader.chunks().len()), (Incarnation(9), len.div_ceil(64)));
        }
    }
}

#[test]
fn a_real_directory_works_too() {
    let dir = tempfile::tempdir().unwrap();
    let vfs = OsVfs::at(dir.path());
    vfs.create_dir(DIR).unwrap();
    let known = Known::default();
    for (index, bytes) in [(1, vec![]), (2, noise(128, 1)), (3, text(1000))] {
        let mut builder = builder(&vfs, &known, index, Some(1));
        builder.write_all(&bytes).unwrap();
        let digest = builder.finish().unwrap().digest;
        assert_eq!(read(&vfs, digest).unwrap(), bytes);
        assert_eq!(verify(&vfs, &WHO, digest), []);
    }
}

#[test]
fn only_what_shrinks_is_compressed() {
    let stored = |bytes: &[u8], level| {
        let (vfs, known) = (disk(), Known::default());
        let mut builder =
            SnapshotBuilder::new(vfs.clone(), spec(1), level, 4096, Arc::clone(&known)).unwrap();
        builder.write_all(bytes).unwrap();
        let digest = builder.finish().unwrap().digest;
        assert_eq!(read(&vfs, digest).unwrap(), bytes);
        vfs.image().files.iter().filter(|(name, _)| name.ends_with(".chunk")).map(|(_, f)| f.len).sum::<u64>()
    };
    let header = chunk::LEN as u64;
    assert_eq!(stored(&text(4096), None), header + 4096);
    assert_eq!(stored(&noise(4096, 1), Some(3)), header + 4096);
    assert!(stored(&text(4096), Some(3)) < 2048);
}

#[test]
fn equal_chunks_are_stored_once() {
    let (vfs, known) = (disk(), Known::default());
    let first = publish(&vfs, &known, 1, &[noise(64, 1), noise(64, 1), noise(64, 2)].concat());
    assert_eq!(vfs.image().files.len(), 3, "two chunks and a manifest");
    vfs.record(true);
    let second = publish(&vfs, &known, 2, &[noise(64, 2), noise(64, 3)].concat());
    let writes = vfs.take_trace().ops.iter().filter(|op| format!("{:?}", op.op).starts_with("Write")).count();
    assert_eq!(writes, 2, "one new chunk and a manifest");
    assert_eq!(vfs.image().files.len(), 5);
    assert_eq!(verify(&vfs, &WHO, first), []);
    assert_eq!(read(&power_loss(&vfs), second).unwrap(), [noise(64, 2), noise(64, 3)].concat());
}

#[test]
fn the_same_snapshot_again_is_the_same_files() {
    let (vfs, known) = (disk(), Known::default());
    let first = publish(&vfs, &known, 1, &noise(200, 1));
    let before = vfs.image();
    let second = publish(&vfs, &known, 1, &noise(200, 1));
    assert_eq!((first, vfs.image()), (second, before));
    assert_eq!(known.lock().unwrap().pointers(first), 2);
}

#[test]
fn builders_of_the_same_content_share_its_files() {
    let (vfs, known) = (disk(), Known::default());
    let bytes = noise(64 * 40, 1);
    let digests = std::thread::scope(|scope| {
        let start = |n: u64| {
            let (vfs, known, bytes) = (&vfs, &known, &bytes);
            scope.spawn(move || seal(vfs, known, 1 + n % 2, bytes).unwrap().digest)
        };
        let threads: Vec<_> = (0..4).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let after = power_loss(&vfs);
    assert_eq!(after.image().files.len(), 40 + 2);
    for digest in digests {
        known.lock().unwrap().point(digest);
        assert_eq!(read(&after, digest).unwrap(), bytes);
    }
}

#[test]
fn a_spec_beyond_the_bounds_is_refused() {
    let (vfs, known) = (disk(), Known::default());
    for (len, chunk_bytes, fits) in [
        (1 << 20, 1, true),
        (0, 64 << 20, true),
        ((1 << 20) + 1, 1, false),
        (0, 0, false),
        (0, (64 << 20) + 1, false),
    ] {
        let spec = SnapshotSpec { membership: vec![1; len], ..spec(1) };
        let made = SnapshotBuilder::new(vfs.clone(), spec, None, chunk_bytes, Arc::clone(&known));
        assert_eq!(
            made.map(drop).map_err(|e| e.kind()),
            if fits { Ok(()) } else { Err(io::ErrorKind::InvalidInput) }
        );
    }
}

#[test]
fn the_fields_lie_back_to_back() {
    for (fields, len) in [(chunk::FIELDS, chunk::LEN), (manifest::FIELDS, manifest::LEN)] {
        let mut at = 0;
        for (name, field) in fields {
            assert_eq!(field.start, at, "{name}");
            at = field.end;
        }
        assert_eq!(at, len);
    }
}

#[test]
fn the_bytes_of_version_one_never_change() {
    assert_eq!(VERSION, 1, "a new version keeps this test and adds its own");
    let (vfs, known) = (disk(), Known::default());
    let sealed = seal(&vfs, &known, 10, &noise(100, 1)).unwrap();
    let image = vfs.image();
    let mut all = blake3::Hasher::new();
    for (name, content) in &image.files {
        all.update(name.as_bytes()).update(&content.to_bytes());
    }
    assert_eq!(sealed.digest.to_string(), "93f9e2c3e39f391d2c0a39255080edd40f071f368564bfe962a71293642d610e");
    assert_eq!(
        all.finalize().to_hex().as_str(),
        "7a1d8aaf7eeb46d6fe4474d5f69790969d5bcfc7f3c54e7f98d6b8c0a96f5534"
    );
}
