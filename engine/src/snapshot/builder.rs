//! Writing a snapshot: bytes in, synced chunks and a synced manifest out.
//!
//! I own the order of a publication up to its pointer: each chunk is written and synced when it is
//! full; [`SnapshotBuilder::finish`] writes and syncs the manifest, then syncs the directory. (B1)
//! After any error the builder is spent: its files are removed and no call on it succeeds. (B2) A
//! name is held in the table before its file is created. (B3) A file that is there already is used
//! only if the table says that it is durable and its bytes are sound; else it is written anew.
//!
//! I do not know whether a pointer will be written: see [`ChunkUse::point`] and
//! [`discard`](super::collect::discard).

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use crate::planted::Bug;
use crate::snapshot::format::{
    ChunkHeader, ChunkRef, Codec, MAX_CHUNK_BYTES, MAX_CHUNKS, MAX_MEMBERSHIP_BYTES, Manifest, chunk,
};
use crate::snapshot::reader::{Scratch, load_chunk, read_manifest};
use crate::snapshot::usage::{self, ChunkUse, Claim, lock};
use crate::snapshot::{DIR, FileName, SnapshotIo, SnapshotSpec, hash_of};
use crate::types::Digest;
use crate::vfs::{File, Vfs, write_all_at};

/// A snapshot whose files and names are durable, but that no pointer names yet. Its files stay until
/// the engine says [`ChunkUse::point`] or [`discard`](super::collect::discard), or the next open
/// sweeps them; so it may be forgotten when a pointer's fate is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "no pointer names it yet"]
pub struct SealedSnapshot {
    /// The hash of the manifest: what the pointer names.
    pub digest: Digest,
    /// The number of chunks.
    pub chunks: u32,
    /// The number of raw bytes.
    pub bytes: u64,
    /// Files that a pointer needs and that were found damaged: they now hold sound bytes again.
    pub repaired: Vec<String>,
}

/// Takes a snapshot's bytes through [`io::Write`]. Dropping it unfinished removes its files.
pub struct SnapshotBuilder<V: Vfs> {
    vfs: V,
    spec: SnapshotSpec,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    chunk_bytes: usize,
    known: Arc<Mutex<ChunkUse>>,
    /// Room for a chunk's header, then raw bytes: less than a chunk between two calls.
    buffer: Vec<u8>,
    packed: Vec<u8>,
    chunks: Vec<ChunkRef>,
    total: u64,
    held: BTreeSet<FileName>,
    /// Claimed, and not yet synced.
    writing: Option<FileName>,
    repaired: Vec<String>,
    spent: bool,
}

impl<V: Vfs> SnapshotBuilder<V> {
    /// A builder of an empty snapshot. Makes no file.
    ///
    /// # Errors
    /// `InvalidInput` if the membership or the chunk size is beyond the format's bounds.
    pub fn new(
        vfs: V,
        spec: SnapshotSpec,
        zstd_level: Option<i32>,
        chunk_bytes: u32,
        known: Arc<Mutex<ChunkUse>>,
    ) -> io::Result<Self> {
        if !(1..=MAX_CHUNK_BYTES).contains(&chunk_bytes) {
            return Err(invalid("a chunk is of 1 byte to 64 MiB"));
        }
        if u32::try_from(spec.membership.len()).is_ok_and(|len| len <= MAX_MEMBERSHIP_BYTES) {
            Ok(Self {
                vfs,
                spec,
                zstd: zstd_level.map(zstd::bulk::Compressor::new).transpose()?,
                chunk_bytes: usize::try_from(chunk_bytes).expect("at least 32-bit"),
                known,
                buffer: vec![0; chunk::LEN],
                packed: Vec::new(),
                chunks: Vec::new(),
                total: 0,
                held: BTreeSet::new(),
                writing: None,
                repaired: Vec::new(),
                spent: false,
            })
        } else {
            Err(invalid("a membership is of at most 1 MiB"))
        }
    }

    /// Makes the snapshot durable, all but the pointer to it.
    ///
    /// # Errors
    /// Of writing, syncing or naming a file, with the file's name. The files are removed then.
    pub fn finish(mut self) -> io::Result<SealedSnapshot> {
        let sealed = self.seal();
        if sealed.is_err() {
            self.abandon();
        }
        sealed
    }

    /// Writes one chunk that a live snapshot names, if it does not hold, and makes it durable.
    ///
    /// # Errors
    /// Of writing, syncing or naming the file.
    pub fn restore(mut self, raw: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(raw);
        self.cut()?;
        self.sync_names()
    }

    fn seal(&mut self) -> io::Result<SealedSnapshot> {
        self.check_unspent()?;
        if self.buffered() > 0 {
            self.cut()?;
        }
        let manifest = Manifest {
            spec: self.spec.clone(),
            chunk_bytes: u32::try_from(self.chunk_bytes).expect("bounded by new"),
            total: self.total,
            chunks: std::mem::take(&mut self.chunks),
        };
        let bytes = manifest.encode();
        let digest = hash_of(&bytes);
        self.place(FileName::Manifest(digest), &bytes, |builder| {
            read_manifest(&builder.vfs, &builder.spec.identity(), digest).is_ok()
        })?;
        self.sync_names()?;

        lock(&self.known).sealed(digest, &manifest);
        // The holds are now the sealed snapshot's; dropping the builder gives none back.
        self.held.clear();
        self.spent = true;
        Ok(SealedSnapshot {
            digest,
            chunks: u32::try_from(manifest.chunks.len()).expect("bounded by cut"),
            bytes: self.total,
            repaired: std::mem::take(&mut self.repaired),
        })
    }

    /// Makes all names durable. A failed sync of the directory, by whomever, leaves names in doubt
    /// for good, so no snapshot is sealed after it until the store is opened again.
    fn sync_names(&self) -> io::Result<()> {
        if !V::planted(Bug::SnapshotDirNotSynced)
            && let Err(error) = self.vfs.sync_dir(DIR)
        {
            lock(&self.known).doubt_names();
            return Err(SnapshotIo::named(DIR, error));
        }
        if lock(&self.known).names_in_doubt() {
            let error = io::Error::other("an earlier sync of the directory failed; open the store again");
            return Err(SnapshotIo::named(DIR, error));
        }
        Ok(())
    }

    fn buffered(&self) -> usize {
        self.buffer.len() - chunk::LEN
    }

    fn check_unspent(&self) -> io::Result<()> {
        if self.spent { Err(io::Error::other("the snapshot writer failed earlier")) } else { Ok(()) }
    }

    /// Makes a chunk of what is buffered.
    fn cut(&mut self) -> io::Result<()> {
        if self.chunks.len() >= usize::try_from(MAX_CHUNKS).expect("at least 32-bit") {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "more than 2^20 chunks: use larger ones",
            ));
        }
        let raw_len = u32::try_from(self.buffered()).expect("bounded by the chunk size");
        let part = ChunkRef { hash: hash_of(&self.buffer[chunk::LEN..]), raw_len };
        let name = FileName::Chunk(part.hash);
        if !self.held.contains(&name) {
            let (mut buffer, mut packed) =
                (std::mem::take(&mut self.buffer), std::mem::take(&mut self.packed));
            let bytes = self.encode(&part, &mut buffer, &mut packed)?;
            self.place(name, bytes, |builder| {
                load_chunk(&builder.vfs, &builder.spec.store, &part, false, &mut Scratch::default()).is_ok()
            })?;
            (self.buffer, self.packed) = (buffer, packed);
        }
        self.chunks.push(part);
        self.total += u64::from(raw_len);
        self.buffer.truncate(chunk::LEN);
        Ok(())
    }

    /// The chunk file's bytes: in `packed` if compression makes them fewer, else in `buffer`.
    fn encode<'a>(
        &mut self,
        part: &ChunkRef,
        buffer: &'a mut [u8],
        packed: &'a mut Vec<u8>,
    ) -> io::Result<&'a [u8]> {
        let raw = &buffer[chunk::LEN..];
        let mut stored_len = part.raw_len;
        let mut codec = Codec::Stored;
        if let Some(zstd) = &mut self.zstd {
            packed.resize(chunk::LEN + zstd::zstd_safe::compress_bound(raw.len()), 0);
            let len = zstd.compress_to_buffer(raw, &mut packed[chunk::LEN..])?;
            if len < raw.len() {
                packed.truncate(chunk::LEN + len);
                stored_len = u32::try_from(len).expect("shorter than the chunk");
                codec = Codec::Zstd;
            }
        }
        let file: &mut [u8] = if codec == Codec::Zstd { packed } else { buffer };
        let header = ChunkHeader {
            codec,
            store: self.spec.store,
            raw_len: part.raw_len,
            stored_len,
            hash: part.hash,
            stored_crc: crc32fast::hash(&file[chunk::LEN..]),
        };
        file[..chunk::LEN].copy_from_slice(&header.encode());
        Ok(file)
    }

    /// Sees to it that the file is there, synced, and held by this builder.
    fn place(&mut self, name: FileName, bytes: &[u8], is_sound: impl Fn(&Self) -> bool) -> io::Result<()> {
        loop {
            match usage::claim(&self.known, name) {
                Claim::Trust if is_sound(self) => {
                    self.held.insert(name);
                    return Ok(());
                }
                Claim::Trust => lock(&self.known).distrust(name),
                Claim::Write { replace, repair } => {
                    self.held.insert(name);
                    self.writing = Some(name);
                    self.write_file(name, bytes, replace)?;
                    self.writing = None;
                    lock(&self.known).written(name);
                    if repair {
                        self.repaired.push(name.path());
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Writes and syncs a file; its name is not durable yet.
    fn write_file(&self, name: FileName, bytes: &[u8], replace: bool) -> io::Result<()> {
        let path = if replace { name.part_path() } else { name.path() };
        let named = |error| SnapshotIo::named(&path, error);
        let file = match self.vfs.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if V::planted(Bug::StaleChunkReused) && !replace {
                    return Ok(());
                }
                // Nobody synced it, or the sync failed: its bytes may be in the cache and not on disk.
                self.vfs.remove(&path).map_err(named)?;
                self.vfs.create(&path).map_err(named)?
            }
            created => created.map_err(named)?,
        };
        write_all_at::<V>(&file, bytes, 0).map_err(named)?;
        let skipped = match name {
            FileName::Chunk(_) => V::planted(Bug::SnapshotDataNotSynced),
            FileName::Manifest(_) => V::planted(Bug::ManifestNotSynced),
        };
        if !skipped {
            file.sync_data().map_err(named)?;
        }
        if replace {
            self.vfs.rename(&path, &name.path()).map_err(named)?;
        }
        Ok(())
    }

    /// Gives all holds back and removes the files that nobody else needs. Best effort: what stays is
    /// a left-over, which nobody trusts and the next open sweeps.
    fn abandon(&mut self) {
        self.spent = true;
        let mut table = lock(&self.known);
        for name in std::mem::take(&mut self.held) {
            let unwritten = self.writing == Some(name);
            // Before the release: a waiting builder may write the same replacement next.
            if unwritten {
                let _ = self.vfs.remove(&name.part_path());
            }
            if table.release(name, unwritten) {
                let _ = self.vfs.remove(&name.path());
            }
        }
        self.writing = None;
    }
}

impl<V: Vfs> io::Write for SnapshotBuilder<V> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check_unspent()?;
        let taken = bytes.len().min(self.chunk_bytes - self.buffered());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffered() == self.chunk_bytes
            && let Err(error) = self.cut()
        {
            self.abandon();
            return Err(error);
        }
        Ok(taken)
    }

    /// Does nothing: where a chunk ends is given by the bytes alone.
    fn flush(&mut self) -> io::Result<()> {
        self.check_unspent()
    }
}

impl<V: Vfs> Drop for SnapshotBuilder<V> {
    fn drop(&mut self) {
        if !self.held.is_empty() {
            self.abandon();
        }
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
