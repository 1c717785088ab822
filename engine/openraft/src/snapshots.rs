//! The snapshots of one group's state machine.
//!
//! I own the newest snapshot of a group, kept in a group of its own that has no log: it is switched in one
//! step, and the old one goes when the new one is durable. I know nothing of the state machine.

use std::io::{Read, Write};
use std::marker::PhantomData;
use std::sync::Arc;

use openraft::{SnapshotMeta, StorageError, StorageIOError};
use seawall::{Engine, Error, GroupId, LogId};

use crate::Config;

/// Keeps the newest snapshot of one state machine.
pub struct Snapshots<C> {
    engine: Arc<Engine>,
    group: GroupId,
    config: PhantomData<fn() -> C>,
}

impl<C> Clone for Snapshots<C> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), group: self.group, config: PhantomData }
    }
}

type Meta<C> = SnapshotMeta<u64, <C as openraft::RaftTypeConfig>::Node>;
/// A snapshot's description and its bytes.
type Stored<C> = (Meta<C>, Vec<u8>);

impl<C: Config> Snapshots<C> {
    pub(crate) fn new(engine: Arc<Engine>, group: GroupId) -> Self {
        Self { engine, group, config: PhantomData }
    }

    /// Stores a snapshot, built here or received from a leader. Durable on return.
    ///
    /// # Errors
    /// Of writing; an older snapshot than the stored one is refused.
    pub fn save(&self, meta: &Meta<C>, content: &[u8]) -> Result<(), StorageError<u64>> {
        let failed = |e: std::io::Error| StorageIOError::write_snapshot(Some(meta.signature()), &e);
        let header = rmp_serde::to_vec_named(meta).map_err(|e| failed(std::io::Error::other(e)))?;
        // The state before any entry has a place of its own below all others.
        let id = meta.last_log_id.map_or(LogId::new(1, 0), |id| LogId::new(id.index + 2, id.leader_id.term));
        let write = || -> Result<(), std::io::Error> {
            let writer = self.engine.snapshot_writer(self.group, id, &header);
            let mut writer = writer.map_err(std::io::Error::other)?;
            writer.write_all(content)?;
            writer.install().map(drop).map_err(std::io::Error::other)
        };
        write().map_err(|e| failed(e).into())
    }

    /// The stored snapshot, if there is one.
    ///
    /// # Errors
    /// Of reading; damage is an error, never an older snapshot.
    pub fn load(&self) -> Result<Option<Stored<C>>, StorageError<u64>> {
        let failed = |e: std::io::Error| StorageIOError::read_snapshot(None, &e);
        let mut reader = match self.engine.snapshot_reader(self.group) {
            Err(Error::NoSnapshot { .. }) => return Ok(None),
            Err(e) => return Err(failed(std::io::Error::other(e)).into()),
            Ok(reader) => reader,
        };
        let meta = rmp_serde::from_slice(reader.membership());
        let meta = meta.map_err(|e| failed(std::io::Error::other(e)))?;
        let mut content = Vec::new();
        reader.read_to_end(&mut content).map_err(failed)?;
        Ok(Some((meta, content)))
    }
}
