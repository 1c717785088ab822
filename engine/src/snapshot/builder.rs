//! Writing a snapshot: bytes in, synced chunks and a synced manifest out.
//!
//! I own the order of a publication up to its pointer: each chunk is written and synced when it is
//! full, on this thread or on another; [`SnapshotBuilder::finish`] waits for all of them, writes and syncs
//! the manifest, then syncs the directory. (B1) After any error the builder is spent: its files are removed
//! and no call on it succeeds; what went wrong with a chunk may be said by a later call. I do not know how a
//! single file comes to be there (see writer), nor whether a pointer will be written: see
//! [`ChunkUse::point`] and [`discard`](super::collect::discard).

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use crate::planted::Bug;
use crate::snapshot::format::{ChunkRef, MAX_CHUNK_BYTES, MAX_CHUNKS, MAX_MEMBERSHIP_BYTES, Manifest, chunk};
use crate::snapshot::reader::read_manifest;
use crate::snapshot::usage::ChunkUse;
use crate::snapshot::writer::{Packer, Writer, Writers};
use crate::snapshot::{DIR, FileName, SnapshotIo, SnapshotSpec, hash_of};
use crate::sync::lock;
use crate::types::Digest;
use crate::vfs::Vfs;

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
    spec: SnapshotSpec,
    chunk_bytes: usize,
    known: Arc<Mutex<ChunkUse>>,
    writer: Arc<Writer<V>>,
    packer: Packer,
    /// Threads to write chunks on, once there are any.
    threads: usize,
    others: Option<Writers>,
    /// Room for a chunk's header, then raw bytes: less than a chunk between two calls.
    buffer: Vec<u8>,
    chunks: Vec<ChunkRef>,
    /// The chunks that are written, or will be.
    given: BTreeSet<Digest>,
    total: u64,
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
            let writer = Arc::new(Writer::new(vfs, spec.store, known.clone()));
            Ok(Self {
                spec,
                chunk_bytes: usize::try_from(chunk_bytes).expect("at least 32-bit"),
                known,
                writer,
                packer: Packer::new(zstd_level)?,
                threads: 0,
                others: None,
                buffer: vec![0; chunk::LEN],
                chunks: Vec::new(),
                given: BTreeSet::new(),
                total: 0,
                spent: false,
            })
        } else {
            Err(invalid("a membership is of at most 1 MiB"))
        }
    }

    /// Packs, writes and syncs full chunks on so many threads of its own, each with memory for two chunks;
    /// as many wait for them as there are threads. Without any, the caller's thread does it.
    #[must_use]
    pub fn on_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
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
        self.others.take().map_or(Ok(()), Writers::finish)?;
        let manifest = Manifest {
            spec: self.spec.clone(),
            chunk_bytes: u32::try_from(self.chunk_bytes).expect("bounded by new"),
            total: self.total,
            chunks: std::mem::take(&mut self.chunks),
        };
        let bytes = manifest.encode();
        let digest = hash_of(&bytes);
        let identity = self.spec.identity();
        self.writer
            .place(FileName::Manifest(digest), &bytes, |vfs| read_manifest(vfs, &identity, digest).is_ok())?;
        self.sync_names()?;

        lock(&self.known).sealed(digest, &manifest);
        self.spent = true;
        Ok(SealedSnapshot {
            digest,
            chunks: u32::try_from(manifest.chunks.len()).expect("bounded by cut"),
            bytes: self.total,
            repaired: self.writer.keep(),
        })
    }

    /// Makes all names durable. A failed sync of the directory, by whomever, leaves names in doubt
    /// for good, so no snapshot is sealed after it until the store is opened again.
    fn sync_names(&self) -> io::Result<()> {
        if !V::planted(Bug::SnapshotDirNotSynced)
            && let Err(error) = self.writer.vfs.sync_dir(DIR)
        {
            lock(&self.known).doubt_names(&error);
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
        self.chunks.push(part);
        self.total += u64::from(raw_len);
        if self.given.insert(part.hash) {
            self.give(part)?;
        }
        self.buffer.truncate(chunk::LEN);
        Ok(())
    }

    /// Gives the buffered chunk to another thread, or writes it on this one.
    fn give(&mut self, part: ChunkRef) -> io::Result<()> {
        let full = self.buffered() == self.chunk_bytes;
        if full && self.threads > 0 && self.others.is_none() {
            self.others = Writers::start(self.threads, &self.writer, self.packer.level());
        }
        if full && let Some(others) = &self.others {
            return others.give(part, &mut self.buffer);
        }
        self.writer.place_chunk(&part, &mut self.buffer, &mut self.packer)
    }

    /// Gives all holds back and removes the files that nobody else needs.
    fn abandon(&mut self) {
        self.spent = true;
        if let Some(others) = self.others.take() {
            // Its error is not the first one.
            let _ = others.finish();
        }
        self.writer.abandon();
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
        if !self.spent {
            self.abandon();
        }
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
