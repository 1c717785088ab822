//! Writing a snapshot into the store: streamed, then published or installed in one batch.
//!
//! I own the order between a snapshot's files and its pointer. (E5) The files are durable before the
//! pointer is submitted; a pointer that is refused takes its files with it. I do not know the format of
//! either (see snapshot).

use crate::error::{Error, Result};
use crate::facts::SNAPSHOTS;
use crate::snapshot::builder::SnapshotBuilder;
use crate::snapshot::collect;
use crate::submit::{Op, WriteBatch};
use crate::types::{GroupId, LogId, Outcome, SnapshotOwner, SnapshotPointer};
use crate::vfs::Vfs;

use super::Engine;

/// A snapshot that is being written: chunks go to disk as they fill.
pub struct SnapshotWriter<'a, V: Vfs> {
    pub(super) engine: &'a Engine<V>,
    pub(super) builder: SnapshotBuilder<V>,
    pub(super) group: GroupId,
    pub(super) id: LogId,
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
        let Self { engine, builder, group, id } = self;
        let shared = &engine.shared;
        let sealed = builder.finish().map_err(|e| match crate::error::is_full(&e) {
            true => Error::NoSpace { doing: "writing a snapshot" },
            false => Error::Io { doing: "write", path: SNAPSHOTS.into(), source: e },
        });
        let sealed = sealed.inspect_err(|e| shared.poison_on(e))?;
        let pointer = SnapshotPointer { id, owner: SnapshotOwner::Owned, digest: sealed.digest };
        let before = engine.group(group)?.snapshot;
        let mut batch = WriteBatch::new();
        batch.push(group, op(pointer));
        let vfs = shared.log().vfs.clone();
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
            Outcome::Durable => {
                shared.snapshots.lock().expect("no panic under the lock").point(sealed.digest)
            }
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

impl<V: Vfs> std::io::Write for SnapshotWriter<'_, V> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.builder.write(buf).inspect_err(|e| {
            if !crate::error::is_full(e) {
                self.engine.shared.poison(&format!("writing a snapshot: {e}"));
            }
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.builder.flush()
    }
}
