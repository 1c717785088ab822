//! Writing a snapshot into the store: streamed, then published or installed in one batch.
//!
//! I own the order between a snapshot's files and its pointer. (E5) The files are durable before the
//! pointer is submitted; a pointer that is refused takes its files with it. (E6) Unfinished writers are
//! bounded, and of those the ones with threads. I do not know the format of
//! either (see snapshot).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, OverloadReason, Result};
use crate::evidence::{Act, Event};
use crate::facts::SNAPSHOTS;
use crate::quarantine;
use crate::recovery;
use crate::report::Lost;
use crate::snapshot::builder::SnapshotBuilder;
use crate::snapshot::{SnapshotIo, collect, hash_of};
use crate::submit::{Op, WriteBatch};
use crate::sync::lock;
use crate::types::{GroupId, LogId, Outcome, SnapshotOwner, SnapshotPointer};
use crate::vfs::{Access, OutOfDescriptors, Vfs};

use super::Engine;

/// A snapshot that is being written: chunks go to disk as they fill.
pub struct SnapshotWriter<'a, V: Vfs> {
    pub(super) engine: &'a Engine<V>,
    pub(super) builder: SnapshotBuilder<V>,
    pub(super) group: GroupId,
    pub(super) id: LogId,
    /// Its place among the unfinished ones.
    pub(super) _place: Place,
}

/// Snapshots that may be written at once.
const MAX_WRITERS: usize = 64;
/// Of those, how many have threads of their own; the others are packed by the thread that writes them.
const MAX_WITH_THREADS: usize = 4;

/// A place among the unfinished writers of an engine, given back when it is dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    /// Takes one; says too whether the writer may have threads.
    pub(super) fn take(unfinished: &Arc<AtomicUsize>) -> Result<(Self, bool)> {
        let before = unfinished.fetch_add(1, Ordering::Relaxed);
        let place = Self(unfinished.clone());
        if before < MAX_WRITERS {
            return Ok((place, before < MAX_WITH_THREADS));
        }
        Err(Error::Overloaded { reason: OverloadReason::Snapshots, in_flight: 0, until_admission: 0 })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<V: Vfs> SnapshotWriter<'_, V> {
    /// Publishes a snapshot of our own state machine: `id` must be an entry that we have. Durable on
    /// return; only then may a compaction rely on it.
    pub fn publish(self) -> Result<SnapshotPointer> {
        self.finish(Op::Snapshot)
    }

    /// Installs a snapshot that a leader sent: snapshot and log change in one step. If `id` is an
    /// entry that we have, what follows it is kept; otherwise the log is emptied and goes on after
    /// `id`. Durable on return.
    pub fn install(self) -> Result<SnapshotPointer> {
        let _span = tracing::info_span!("install", group = self.group.0, index = self.id.index.0).entered();
        self.finish(Op::Install).inspect_err(|_| metrics::counter!("snapshot_install_failures").increment(1))
    }

    fn finish(self, op: fn(SnapshotPointer) -> Op) -> Result<SnapshotPointer> {
        let Self { engine, builder, group, id, _place } = self;
        let shared = &engine.shared;
        let sealed = builder.finish().inspect_err(|e| engine.doubt(e)).map_err(|e| {
            match crate::error::is_full(&e) {
                true => Error::NoSpace { doing: "writing a snapshot" },
                false => Error::io("write", SNAPSHOTS)(e),
            }
        })?;
        let pointer = SnapshotPointer { id, owner: SnapshotOwner::Owned, digest: sealed.digest };
        let before = engine.group(group)?.snapshot;
        let mut batch = WriteBatch::new();
        batch.push(group, op(pointer));
        let vfs = shared.segments.vfs.clone();
        let discard =
            || collect::discard(&vfs, &shared.snapshots, sealed.digest).map_err(Error::io("drop", SNAPSHOTS));
        let ticket = match engine.write(batch) {
            Ok(ticket) => ticket,
            Err(e) => {
                discard()?;
                return Err(e);
            }
        };
        match ticket.wait() {
            Outcome::Durable if before == Some(pointer) => discard()?,
            Outcome::Durable => lock(&shared.snapshots).point(sealed.digest),
            outcome => {
                if outcome == Outcome::NotDurable {
                    discard()?;
                }
                let cause = shared.front().poison.clone().unwrap_or_default();
                return Err(Error::NotAcknowledged { outcome, cause });
            }
        }
        engine.tidy();
        Ok(pointer)
    }
}

impl<V: Vfs> Engine<V> {
    /// Poisons if the file system failed to write or sync a snapshot's file. A full disk does not, nor does a want of
    /// descriptors, nor what the builder itself refuses: that a snapshot is too long, or that it failed before.
    fn doubt(&self, error: &io::Error) {
        let of_disk = error.get_ref().is_some_and(|inner| inner.is::<SnapshotIo>());
        let refused = crate::error::is_full(error) || OutOfDescriptors::carried(error).is_some();
        if of_disk && !refused {
            self.shared.poison(&format!("writing a snapshot: {error}"));
        }
    }

    /// Gives back a chunk of a group's owned snapshot, as a peer has it: a file of the snapshot with the same
    /// bytes before compression. Taken only if the manifest names a chunk with this hash; `false` if that
    /// chunk holds already. Durable on return. What stood there is kept in `quarantine/`, and the group is
    /// blocked no more once every chunk is there. A lost manifest is not healed so: install a snapshot.
    ///
    /// The chunks that do not hold are listed by [`SnapshotReader::damaged_chunks`], and a peer's are given
    /// by [`SnapshotReader::read_chunk`].
    ///
    /// [`SnapshotReader::damaged_chunks`]: crate::SnapshotReader::damaged_chunks
    /// [`SnapshotReader::read_chunk`]: crate::SnapshotReader::read_chunk
    pub fn repair_chunk(&self, group: GroupId, raw: &[u8]) -> Result<bool> {
        let repaired = self.restore_chunk(group, raw);
        repaired.inspect_err(|e| self.shared.poison_on(e))
    }

    fn restore_chunk(&self, group: GroupId, raw: &[u8]) -> Result<bool> {
        let shared = &self.shared;
        if let Some(cause) = &shared.front().poison {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        let reader = self.snapshot_reader(group)?;
        let hash = hash_of(raw);
        let part = reader.chunks().iter().find(|part| part.hash == hash).copied();
        let why = "no chunk of the group's snapshot has these bytes";
        let part = part.ok_or(Error::RepairMismatch { group, offered: reader.id(), why })?;
        let Err(fault) = reader.read_chunk(&part) else { return Ok(false) };
        let vfs = shared.segments.vfs.clone();
        let path = fault.file();
        match vfs.open(path, Access::Read) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("open", path)(e)),
            Ok(file) => drop(quarantine::keep(&vfs, path, &file, 0..u64::MAX)?),
        }
        let event = Event::new(Act::RestoredChunk, path, 0..u64::from(part.raw_len));
        shared.journal.note(Event { group, ..event })?;
        let spec = reader.spec().clone();
        let chunk_bytes = part.raw_len.max(1);
        let builder = SnapshotBuilder::new(vfs.clone(), spec, None, chunk_bytes, shared.snapshots.clone());
        builder.and_then(|builder| builder.restore(raw)).map_err(Error::space("repairing a chunk", path))?;
        let groups = shared.front().states();
        let lost = recovery::check_snapshots(&vfs, &self.shape, &groups, true)?;
        let mut front = shared.front();
        front.blocked.retain(|known| !matches!(known, Lost::SnapshotPointer { .. }) || lost.contains(known));
        Ok(true)
    }
}

impl<V: Vfs> std::io::Write for SnapshotWriter<'_, V> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.builder.write(buf).inspect_err(|e| self.engine.doubt(e))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.builder.flush()
    }
}
