//! A snapshot's files, one by one: packed, claimed, written and synced, on one thread or on several.
//!
//! I own how a file comes to be there. (W1) A name is held in the table before its file is created. (W2) A
//! file that is there already is used only if the table says that it is durable and its bytes are sound;
//! else it is written anew. (W3) A file that cannot be written is given up at once, and no thread begins another one. (W4) Threads are gone
//! when who started them goes on after [`Writers::finish`]. I do not know which files make a snapshot (see
//! builder).

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use crate::planted::Bug;
use crate::snapshot::format::{ChunkHeader, ChunkRef, Codec, chunk};
use crate::snapshot::reader::{Scratch, load_chunk};
use crate::snapshot::usage::{self, ChunkUse, Claim};
use crate::snapshot::{FileName, SnapshotIo};
use crate::sync::{Worker, lock};
use crate::vfs::{File, Vfs, write_all_at};

/// Writes the files of one snapshot.
pub(super) struct Writer<V: Vfs> {
    pub(super) vfs: V,
    store: [u8; 16],
    known: Arc<Mutex<ChunkUse>>,
    placed: Mutex<Placed>,
}

/// What is held in the table.
#[derive(Default)]
struct Placed {
    held: BTreeSet<FileName>,
    /// Of those, claimed and not yet synced.
    writing: BTreeSet<FileName>,
    repaired: Vec<String>,
}

impl<V: Vfs> Writer<V> {
    pub(super) fn new(vfs: V, store: [u8; 16], known: Arc<Mutex<ChunkUse>>) -> Self {
        Self { vfs, store, known, placed: Mutex::default() }
    }

    /// Sees to it that a chunk's file is there, synced and held. `buffer` has room for the header, then the
    /// raw bytes.
    pub(super) fn place_chunk(
        &self,
        part: &ChunkRef,
        buffer: &mut [u8],
        packer: &mut Packer,
    ) -> io::Result<()> {
        let bytes = packer.pack(self.store, part, buffer)?;
        self.place(FileName::Chunk(part.hash), bytes, |vfs| {
            load_chunk(vfs, &self.store, part, &mut Scratch::default()).is_ok()
        })
    }

    /// Sees to it that the file is there, synced and held.
    pub(super) fn place(
        &self,
        name: FileName,
        bytes: &[u8],
        is_sound: impl Fn(&V) -> bool,
    ) -> io::Result<()> {
        loop {
            match usage::claim(&self.known, name) {
                Claim::Trust if is_sound(&self.vfs) => {
                    lock(&self.placed).held.insert(name);
                    return Ok(());
                }
                Claim::Trust => lock(&self.known).distrust(name),
                Claim::Write { replace, repair } => {
                    let mut placed = lock(&self.placed);
                    placed.held.insert(name);
                    placed.writing.insert(name);
                    drop(placed);
                    self.write_file(name, bytes, replace).inspect_err(|_| self.give_up(name))?;
                    lock(&self.known).written(name);
                    let mut placed = lock(&self.placed);
                    placed.writing.remove(&name);
                    if repair {
                        placed.repaired.push(name.path());
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

    /// The holds are now the sealed snapshot's. Names the files that were repaired.
    pub(super) fn keep(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.placed)).repaired
    }

    /// A file could not be written: whoever waits for it may try. At once, for its builder may wait for us.
    fn give_up(&self, name: FileName) {
        let mut placed = lock(&self.placed);
        placed.held.remove(&name);
        placed.writing.remove(&name);
        drop(placed);
        self.release(name, true);
    }

    /// Gives all holds back and removes the files that nobody else needs.
    pub(super) fn abandon(&self) {
        let Placed { held, writing, .. } = std::mem::take(&mut *lock(&self.placed));
        held.into_iter().for_each(|name| self.release(name, writing.contains(&name)));
    }

    /// Gives a hold back and removes the file if nobody else needs it. Best effort: what stays is a left-over,
    /// which nobody trusts and the next open sweeps.
    fn release(&self, name: FileName, unwritten: bool) {
        let mut table = lock(&self.known);
        // Before the release: a waiting builder may write the same replacement next.
        if unwritten {
            let _ = self.vfs.remove(&name.part_path());
        }
        if table.release(name, unwritten) {
            let _ = self.vfs.remove(&name.path());
        }
    }
}

/// Makes the bytes of chunk files, one after the other.
pub(super) struct Packer {
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
    packed: Vec<u8>,
}

impl Packer {
    /// For a level of zstd, or for none.
    pub(super) fn new(level: Option<i32>) -> io::Result<Self> {
        let zstd = level.map(|level| Ok::<_, io::Error>((level, zstd::bulk::Compressor::new(level)?)));
        Ok(Self { zstd: zstd.transpose()?, packed: Vec::new() })
    }

    pub(super) fn level(&self) -> Option<i32> {
        self.zstd.as_ref().map(|(level, _)| *level)
    }

    /// The chunk file's bytes: packed if that makes them fewer, else in `buffer`.
    fn pack<'a>(
        &'a mut self,
        store: [u8; 16],
        part: &ChunkRef,
        buffer: &'a mut [u8],
    ) -> io::Result<&'a [u8]> {
        let Self { zstd, packed } = self;
        let raw = &buffer[chunk::LEN..];
        let mut stored_len = part.raw_len;
        let mut codec = Codec::Stored;
        if let Some((_, zstd)) = zstd {
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
            store,
            raw_len: part.raw_len,
            stored_len,
            hash: part.hash,
            stored_crc: crc32fast::hash(&file[chunk::LEN..]),
        };
        file[..chunk::LEN].copy_from_slice(&header.encode());
        Ok(file)
    }
}

/// Threads that place chunks, and end when nothing more comes.
pub(super) struct Writers {
    jobs: SyncSender<Job>,
    crew: Arc<Mutex<Crew>>,
    threads: Vec<Worker>,
}

/// A chunk to be placed; `buffer` as in [`Writer::place_chunk`].
struct Job {
    part: ChunkRef,
    buffer: Vec<u8>,
}

/// What the threads have in common.
#[derive(Default)]
struct Crew {
    free: Vec<Vec<u8>>,
    /// The first error, until somebody was told.
    failed: Option<io::Error>,
    stopped: bool,
}

impl Writers {
    /// Starts up to so many threads; `None` if there can be none.
    pub(super) fn start<V: Vfs>(most: usize, writer: &Arc<Writer<V>>, level: Option<i32>) -> Option<Self> {
        let (jobs, receiver) = sync_channel(most);
        let (crew, receiver) = (Arc::<Mutex<Crew>>::default(), Arc::new(Mutex::new(receiver)));
        let one = |_| {
            let (writer, receiver, crew) = (writer.clone(), receiver.clone(), crew.clone());
            let packer = Packer::new(level).ok()?;
            Worker::start("seawall-snapshot", move || work(&writer, &receiver, &crew, packer)).ok()
        };
        let threads: Vec<_> = (0..most).filter_map(one).collect();
        (!threads.is_empty()).then_some(Self { jobs, crew, threads })
    }

    /// Takes the chunk in `buffer`, in place of which there is an empty one then; waits while as many wait as
    /// there are threads.
    ///
    /// # Errors
    /// Of an earlier chunk.
    pub(super) fn give(&self, part: ChunkRef, buffer: &mut Vec<u8>) -> io::Result<()> {
        if !self.threads.iter().all(Worker::is_here) {
            return Err(panicked());
        }
        let mut crew = lock(&self.crew);
        if let Some(error) = crew.failed.take() {
            return Err(error);
        }
        let mut empty = crew.free.pop().unwrap_or_default();
        drop(crew);
        empty.resize(chunk::LEN, 0);
        let job = Job { part, buffer: std::mem::replace(buffer, empty) };
        self.jobs.send(job).map_err(|_| panicked())
    }

    /// Waits until all that was given is placed.
    ///
    /// # Errors
    /// The first, if nobody was told.
    pub(super) fn finish(self) -> io::Result<()> {
        let Self { jobs, crew, threads } = self;
        drop(jobs);
        let ends: Vec<_> = threads.into_iter().map(Worker::join).collect();
        if ends.iter().any(Result::is_err) {
            return Err(panicked());
        }
        lock(&crew).failed.take().map_or(Ok(()), Err)
    }
}

fn panicked() -> io::Error {
    io::Error::other("a thread that wrote the snapshot panicked, or is not of this process")
}

fn work<V: Vfs>(writer: &Writer<V>, jobs: &Mutex<Receiver<Job>>, crew: &Mutex<Crew>, mut packer: Packer) {
    loop {
        let Ok(Job { part, mut buffer }) = lock(jobs).recv() else { return };
        if !lock(crew).stopped {
            let placed = writer.place_chunk(&part, &mut buffer, &mut packer);
            if let Err(error) = placed {
                let mut crew = lock(crew);
                crew.stopped = true;
                crew.failed.get_or_insert(error);
            }
        }
        buffer.clear();
        lock(crew).free.push(buffer);
    }
}
