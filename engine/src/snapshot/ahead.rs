//! Chunks of a snapshot, loaded and verified on other threads before they are asked for.
//!
//! I own their order: with `n` threads, each loads every `n`-th chunk, and they are asked in turn. (A1) A
//! thread holds at most two chunks that nobody has asked for. (A2) A thread ends with its first error, which
//! is given in place of the chunk. (A3) All are gone when an [`Ahead`] is. I do not know what a sound chunk
//! is (see reader).

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::snapshot::SnapshotFault;
use crate::snapshot::format::ChunkRef;
use crate::sync::Worker;

type Loaded = Result<Vec<u8>, SnapshotFault>;

/// Threads that load chunks.
pub(super) struct Ahead {
    lanes: Vec<Lane>,
    next: usize,
}

/// One thread.
struct Lane {
    full: Option<Receiver<Loaded>>,
    empty: Sender<Vec<u8>>,
    thread: Option<Worker>,
}

impl Ahead {
    /// Starts so many threads for these chunks; `None` if they cannot be started.
    /// Each has a way of its own to load a chunk's bytes into memory that it is given.
    pub(super) fn start<L>(threads: usize, chunks: &[ChunkRef], load: impl Fn() -> L) -> Option<Self>
    where
        L: FnMut(&ChunkRef, Vec<u8>) -> Loaded + Send + 'static,
    {
        let lane = |n| Lane::start(chunks.iter().skip(n).step_by(threads).copied().collect(), load());
        let lanes = (0..threads).map(lane).collect::<Option<Vec<_>>>()?;
        Some(Self { lanes, next: 0 })
    }

    /// Waits for the next chunk, in place of the one before; `None` if its thread is gone.
    pub(super) fn next(&mut self, raw: &mut Vec<u8>) -> Option<Result<(), SnapshotFault>> {
        let lane = &self.lanes[self.next];
        self.next = (self.next + 1) % self.lanes.len();
        lane.thread.as_ref().filter(|thread| thread.is_here())?;
        let loaded = lane.full.as_ref()?.recv().ok()?;
        Some(loaded.map(|loaded| {
            // A thread that has ended needs no memory.
            let _ = lane.empty.send(std::mem::replace(raw, loaded));
        }))
    }
}

impl Lane {
    fn start(
        chunks: Vec<ChunkRef>,
        load: impl FnMut(&ChunkRef, Vec<u8>) -> Loaded + Send + 'static,
    ) -> Option<Self> {
        let (loaded, full) = sync_channel(1);
        let (empty, free) = channel();
        let run = move || fill(&chunks, load, &loaded, &free);
        let thread = Worker::start("seawall-snapshot", run).ok()?;
        Some(Self { full: Some(full), empty, thread: Some(thread) })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // The thread finds nobody to give its chunk to.
        self.full = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn fill(
    chunks: &[ChunkRef],
    mut load: impl FnMut(&ChunkRef, Vec<u8>) -> Loaded,
    loaded: &SyncSender<Loaded>,
    free: &Receiver<Vec<u8>>,
) {
    for part in chunks {
        let chunk = load(part, free.try_recv().unwrap_or_default());
        let last = chunk.is_err();
        if loaded.send(chunk).is_err() || last {
            return;
        }
    }
}
