//! Reading a snapshot: nothing is given to the caller before it is verified.
//!
//! I own the checks that a manifest's digest and each chunk's header, length and hash go through. I
//! never write. A chunk is read first and what was read is verified, so that what was checked is what is
//! given. I do not know pointers: who opens a snapshot brings its digest.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::sync::{Arc, Mutex};

use crate::planted::Bug;
use crate::snapshot::ahead::Ahead;
use crate::snapshot::collect::release_all;
use crate::snapshot::format::{ChunkHeader, ChunkRef, Codec, Flaw, MAX_MANIFEST_BYTES, Manifest, chunk};
use crate::snapshot::usage::ChunkUse;
use crate::snapshot::{FileName, SnapshotFault, SnapshotSpec, hash_of};
use crate::sync::lock;
use crate::types::{Digest, GroupId, Identity, Incarnation, LogId};
use crate::vfs::{Access, File, Vfs, read_exact_at};

/// Streams one snapshot through [`io::Read`], or without a copy through [`io::BufRead`]. An error of a read wraps a [`SnapshotFault`]; the
/// reader stays where it was.
pub struct SnapshotReader<V: Vfs> {
    vfs: V,
    manifest: Manifest,
    /// Threads to load chunks ahead on, once there are any.
    threads: usize,
    ahead: Option<Ahead>,
    scratch: Scratch,
    /// The next chunk to load, and how much of the loaded one is given.
    next: usize,
    given: usize,
    /// Gives the hold on the files back.
    _pin: Option<Pin<V>>,
}

impl<V: Vfs> SnapshotReader<V> {
    /// Opens the snapshot that `digest` names and verifies its manifest.
    ///
    /// # Errors
    /// What is wrong with the manifest.
    pub fn open(vfs: &V, identity: &Identity, digest: Digest) -> Result<Self, SnapshotFault> {
        let manifest = read_manifest(vfs, identity, digest)?;
        Ok(Self {
            vfs: vfs.clone(),
            manifest,
            threads: 0,
            ahead: None,
            scratch: Scratch::default(),
            next: 0,
            given: 0,
            _pin: None,
        })
    }

    /// While it is streamed, loads and verifies the chunks that come next on so many threads of its own, each
    /// with memory for three of them.
    #[must_use]
    pub fn on_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// As [`open`](Self::open), and keeps the files until the reader is dropped, even if the snapshot
    /// is retired meanwhile.
    ///
    /// # Errors
    /// What is wrong with the manifest; `Missing` if no pointer names it any more.
    pub fn open_pinned(
        vfs: &V,
        identity: &Identity,
        digest: Digest,
        known: &Arc<Mutex<ChunkUse>>,
    ) -> Result<Self, SnapshotFault> {
        let pin = Pin::take(vfs, digest, known);
        let mut reader = Self::open(vfs, identity, digest)?;
        if pin.is_none() {
            return Err(SnapshotFault::Missing { file: FileName::Manifest(digest).path() });
        }
        reader._pin = pin;
        Ok(reader)
    }

    /// The last entry that the snapshot covers.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.manifest.spec.id
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.manifest.spec.group
    }

    /// Which group of that id.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.manifest.spec.incarnation
    }

    /// The membership at the last covered entry.
    #[must_use]
    pub fn membership(&self) -> &[u8] {
        &self.manifest.spec.membership
    }

    /// The number of raw bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.manifest.total
    }

    /// Whether the snapshot has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.manifest.total == 0
    }

    /// What the snapshot is of.
    #[must_use]
    pub fn spec(&self) -> &SnapshotSpec {
        &self.manifest.spec
    }

    /// The chunks, in order.
    #[must_use]
    pub fn chunks(&self) -> &[ChunkRef] {
        &self.manifest.chunks
    }
}

impl<V: Vfs> SnapshotReader<V> {
    /// The raw bytes of one of the chunks, as a peer may need them.
    ///
    /// # Errors
    /// What is wrong with the chunk's file.
    pub fn read_chunk(&self, part: &ChunkRef) -> Result<Vec<u8>, SnapshotFault> {
        let mut scratch = Scratch::default();
        load_chunk(&self.vfs, &self.manifest.spec.store, part, &mut scratch)?;
        Ok(scratch.raw)
    }

    /// Reads every chunk and lists those that do not hold.
    #[must_use]
    pub fn damaged_chunks(&self) -> Vec<(ChunkRef, SnapshotFault)> {
        self.damaged_of(&mut BTreeMap::new())
    }

    /// As [`damaged_chunks`](Self::damaged_chunks), but reads no chunk of which it is known whether it holds.
    fn damaged_of(&self, known: &mut Known) -> Vec<(ChunkRef, SnapshotFault)> {
        let mut scratch = Scratch::default();
        let mut parts = self.manifest.chunks.clone();
        parts.sort_unstable_by_key(|part| part.hash);
        parts.dedup();
        let store = &self.manifest.spec.store;
        let mut fault = |part: &ChunkRef| {
            let load = || load_chunk(&self.vfs, store, part, &mut scratch).err();
            known.entry((part.hash, part.raw_len)).or_insert_with(load).clone()
        };
        parts.into_iter().filter_map(|part| fault(&part).map(|fault| (part, fault))).collect()
    }
}

impl<V: Vfs> SnapshotReader<V> {
    /// Loads the next chunk, on this thread if no other one does.
    fn load_next(&mut self) -> Result<(), SnapshotFault> {
        let chunks = &self.manifest.chunks[self.next..];
        if self.threads > 0 && chunks.len() > 1 {
            let threads = std::mem::take(&mut self.threads);
            let load = || {
                let (vfs, store) = (self.vfs.clone(), self.manifest.spec.store);
                let mut scratch = Scratch::default();
                move |part: &ChunkRef, memory| {
                    scratch.raw = memory;
                    load_chunk(&vfs, &store, part, &mut scratch)?;
                    Ok(std::mem::take(&mut scratch.raw))
                }
            };
            self.ahead = Ahead::start(threads, chunks, load);
        }
        if let Some(loaded) = self.ahead.as_mut().and_then(|ahead| ahead.next(&mut self.scratch.raw)) {
            return loaded.inspect_err(|_| {
                // Who tries again reads again.
                self.ahead = None;
                self.scratch.raw.clear();
            });
        }
        self.ahead = None;
        load_chunk(&self.vfs, &self.manifest.spec.store, &chunks[0], &mut self.scratch)
    }
}

impl<V: Vfs> io::Read for SnapshotReader<V> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        let rest = self.fill_buf()?;
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// What is left of a chunk, without a copy.
impl<V: Vfs> io::BufRead for SnapshotReader<V> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.given == self.scratch.raw.len() && self.next < self.manifest.chunks.len() {
            self.given = 0;
            self.load_next()?;
            self.next += 1;
        }
        Ok(&self.scratch.raw[self.given..])
    }

    fn consume(&mut self, n: usize) {
        self.given = (self.given + n).min(self.scratch.raw.len());
    }
}

impl<V: Vfs> std::fmt::Debug for SnapshotReader<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotReader").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

/// Chunks that were read, and what is wrong with each.
type Known = BTreeMap<(Digest, u32), Option<SnapshotFault>>;

/// What a verification of several snapshots has read: a chunk that many name is read once.
#[derive(Default)]
pub struct Seen(Known);

impl Seen {
    /// Names every damaged file of a snapshot. Damage of the manifest hides the chunks.
    pub fn verify<V: Vfs>(&mut self, vfs: &V, identity: &Identity, digest: Digest) -> Vec<SnapshotFault> {
        match SnapshotReader::open(vfs, identity, digest) {
            Ok(reader) => reader.damaged_of(&mut self.0).into_iter().map(|(_, fault)| fault).collect(),
            Err(fault) => vec![fault],
        }
    }
}

/// Names every damaged file of one snapshot.
pub fn verify<V: Vfs>(vfs: &V, identity: &Identity, digest: Digest) -> Vec<SnapshotFault> {
    Seen::default().verify(vfs, identity, digest)
}

/// Reads and verifies a manifest.
pub(super) fn read_manifest<V: Vfs>(
    vfs: &V,
    identity: &Identity,
    digest: Digest,
) -> Result<Manifest, SnapshotFault> {
    let path = FileName::Manifest(digest).path();
    let unreadable = |error: io::Error| SnapshotFault::unreadable(&path, &error);
    let file = vfs.open(&path, Access::Read).map_err(unreadable)?;
    let len = file.len().map_err(unreadable)?;
    if len > MAX_MANIFEST_BYTES {
        return Err(Flaw::Corrupt("longer than any manifest").in_file(&path));
    }
    let mut bytes = vec![0; usize::try_from(len).expect("bounded above")];
    read_exact_at(&file, &mut bytes, 0).map_err(unreadable)?;
    let manifest = Manifest::decode(&bytes, &digest).map_err(|flaw| flaw.in_file(&path))?;
    if manifest.spec.identity() != *identity {
        return Err(Flaw::Foreign("another cluster, node or store").in_file(&path));
    }
    Ok(manifest)
}

/// Buffers that are used again for each chunk.
#[derive(Default)]
pub(super) struct Scratch {
    stored: Vec<u8>,
    /// The verified bytes of the last chunk; empty after an error.
    raw: Vec<u8>,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

/// Reads a chunk into `scratch.raw` and verifies it.
pub(super) fn load_chunk<V: Vfs>(
    vfs: &V,
    store: &[u8; 16],
    part: &ChunkRef,
    scratch: &mut Scratch,
) -> Result<(), SnapshotFault> {
    let loaded = load_unchecked_on_error::<V>(vfs, store, part, scratch);
    if loaded.is_err() {
        // Nothing unverified may be given.
        scratch.raw.clear();
    }
    loaded
}

fn load_unchecked_on_error<V: Vfs>(
    vfs: &V,
    store: &[u8; 16],
    part: &ChunkRef,
    scratch: &mut Scratch,
) -> Result<(), SnapshotFault> {
    let path = FileName::Chunk(part.hash).path();
    let unreadable = |error: io::Error| SnapshotFault::unreadable(&path, &error);
    let flawed = |flaw: Flaw| flaw.in_file(&path);
    let file = vfs.open(&path, Access::Read).map_err(unreadable)?;
    let len = file.len().map_err(unreadable)?;
    if len < chunk::LEN as u64 {
        return Err(flawed(Flaw::Corrupt("shorter than its header")));
    }
    let mut head = [0; chunk::LEN];
    read_exact_at(&file, &mut head, 0).map_err(unreadable)?;
    let header = examine::<V>(&head, len, store, part).map_err(flawed)?;
    scratch.stored.resize(stored_len(&header), 0);
    read_exact_at(&file, &mut scratch.stored, chunk::LEN as u64).map_err(unreadable)?;
    unpack::<V>(&header, &scratch.stored, &mut scratch.raw, &mut scratch.zstd).map_err(flawed)
}

fn stored_len(header: &ChunkHeader) -> usize {
    usize::try_from(header.stored_len).expect("at least 32-bit")
}

/// Decodes a chunk's header and checks that the file is the one that the manifest names, and whole.
fn examine<V: Vfs>(bytes: &[u8], len: u64, store: &[u8; 16], part: &ChunkRef) -> Result<ChunkHeader, Flaw> {
    let mut header = ChunkHeader::decode(bytes)?;
    if !V::planted(Bug::ForeignChunkAccepted) {
        if header.store != *store {
            return Err(Flaw::Foreign("a chunk of another store"));
        }
        if header.hash != part.hash || header.raw_len != part.raw_len {
            return Err(Flaw::Foreign("a chunk with another hash or length"));
        }
    }
    let available = len - chunk::LEN as u64;
    if available != u64::from(header.stored_len) {
        if !V::planted(Bug::ShortChunkAccepted) {
            return Err(Flaw::Corrupt("not the length that its header says"));
        }
        header.stored_len = u32::try_from(available).map_or(header.stored_len, |n| n.min(header.stored_len));
    }
    Ok(header)
}

/// Unpacks and verifies the stored bytes. No allocation is larger than the manifest's chunk length.
fn unpack<V: Vfs>(
    header: &ChunkHeader,
    stored: &[u8],
    raw: &mut Vec<u8>,
    zstd: &mut Option<zstd::bulk::Decompressor<'static>>,
) -> Result<(), Flaw> {
    let short_accepted = V::planted(Bug::ShortChunkAccepted);
    let unchecked = short_accepted || V::planted(Bug::ChunkHashUnchecked);
    if !unchecked && crc32fast::hash(stored) != header.stored_crc {
        return Err(Flaw::Corrupt("the stored bytes do not match their checksum"));
    }
    raw.clear();
    match header.codec {
        Codec::Stored => raw.extend_from_slice(stored),
        Codec::Zstd => {
            let zstd = match zstd {
                Some(zstd) => zstd,
                None => zstd.insert(new_decompressor()?),
            };
            raw.resize(usize::try_from(header.raw_len).expect("at least 32-bit"), 0);
            match zstd.decompress_to_buffer(stored, raw.as_mut_slice()) {
                Ok(len) => raw.truncate(len),
                Err(_) if short_accepted => raw.clear(),
                Err(_) => return Err(Flaw::Corrupt("the stored bytes do not unpack")),
            }
        }
    }
    if !short_accepted && raw.len() as u64 != u64::from(header.raw_len) {
        return Err(Flaw::Corrupt("the stored bytes unpack to another length"));
    }
    if !unchecked && hash_of(raw) != header.hash {
        return Err(Flaw::Corrupt("the bytes do not have the hash of the name"));
    }
    Ok(())
}

fn new_decompressor() -> Result<zstd::bulk::Decompressor<'static>, Flaw> {
    zstd::bulk::Decompressor::new().map_err(|_| Flaw::Corrupt("no decompressor could be made"))
}

/// A reader's hold on the files of a snapshot.
struct Pin<V: Vfs> {
    vfs: V,
    names: Vec<FileName>,
    known: Arc<Mutex<ChunkUse>>,
}

impl<V: Vfs> Pin<V> {
    fn take(vfs: &V, digest: Digest, known: &Arc<Mutex<ChunkUse>>) -> Option<Self> {
        let mut table = lock(known);
        let names = table.hold(digest).then(|| table.names_of(digest))?;
        Some(Self { vfs: vfs.clone(), names, known: Arc::clone(known) })
    }
}

impl<V: Vfs> Drop for Pin<V> {
    fn drop(&mut self) {
        // Best effort: what stays is swept by the next open.
        let _ = release_all(&self.vfs, &mut lock(&self.known), &self.names);
    }
}
