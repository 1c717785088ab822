//! One Raft group: what raft reads, and its snapshots.
//!
//! I own [`raft::Storage`] over a group of the engine. The configuration of `initial_state` is that of the
//! snapshot. What readies say is written by the writer.

use std::io::{Read, Write};
use std::sync::Arc;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};
use seawall::vfs::Vfs;
use seawall::vfs::os::OsVfs;
use seawall::{Claim, Engine, GroupId, GroupStatus, Index, LogId, Lost};

use crate::convert::{failed, found, found_configuration, malformed, stored, stored_configuration};

/// The storage of one Raft group. A clone is the same group.
pub struct Group<V: Vfs = OsVfs> {
    pub(crate) engine: Arc<Engine<V>>,
    pub(crate) id: GroupId,
    claim: Arc<Claim>,
}

impl<V: Vfs> Clone for Group<V> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), id: self.id, claim: self.claim.clone() }
    }
}

impl<V: Vfs> Group<V> {
    /// A group of an engine, which is made if it is new.
    ///
    /// # Errors
    /// [`seawall::Error::GroupInUse`] while an earlier handle of the group lives, or of writing.
    pub fn open(engine: &Arc<Engine<V>>, id: u64) -> seawall::Result<Self> {
        let id = GroupId(id);
        let claim = Arc::new(engine.claim(id)?);
        match engine.create_group(id) {
            Ok(()) | Err(seawall::Error::GroupExists { .. }) => {
                Ok(Self { engine: engine.clone(), id, claim })
            }
            Err(e) => Err(e),
        }
    }

    /// Gives a new group its first configuration and its first state, as a snapshot at index 1 and term 1.
    /// Every node of the group begins with the same. `false` if the group has a snapshot already.
    ///
    /// # Errors
    /// Of writing.
    pub fn bootstrap(&self, conf: &ConfState, data: &[u8]) -> Result<bool> {
        if self.status()?.snapshot.is_some() {
            return Ok(false);
        }
        self.install(LogId::new(1, 1), conf, data).map(|()| true)
    }

    /// The last index that the snapshot covers: what `Config::applied` must be after a restart.
    ///
    /// # Errors
    /// If the group is gone.
    pub fn applied(&self) -> Result<u64> {
        Ok(self.status()?.snapshot.map_or(0, |pointer| pointer.id.index.0))
    }

    /// Stores a snapshot of the state machine as of an applied entry, with the configuration as of it.
    /// Durable on return.
    ///
    /// # Errors
    /// Of writing; [`StorageError::SnapshotOutOfDate`] if a newer one is there.
    pub fn save_snapshot(&self, applied: u64, conf: &ConfState, data: &[u8]) -> Result<()> {
        let term = self.engine.term(self.id, Index(applied)).map_err(failed)?;
        let id = LogId { index: Index(applied), term };
        let conf = stored_configuration(conf);
        let mut writer = self.engine.snapshot_writer(self.id, id, &conf).map_err(failed)?;
        writer.write_all(data)?;
        writer.publish().map(drop).map_err(failed)
    }

    /// Removes the entries up to an index, which the snapshot must cover.
    ///
    /// # Errors
    /// Of writing; if no snapshot covers it.
    pub fn compact(&self, upto: u64) -> Result<()> {
        self.engine.compact_prefix(self.id, Index(upto)).map_err(failed)
    }

    /// What the group lacks of what was acknowledged: until this is empty it takes no vote and no entry.
    #[must_use]
    pub fn lost(&self) -> Vec<Lost> {
        self.engine.lost().into_iter().filter(|lost| lost.group() == Some(self.id)).collect()
    }

    /// Gives back an entry that damage took, as a peer has it; `false` if it is whole already.
    ///
    /// # Errors
    /// If it is not the entry that was acknowledged, or of writing.
    pub fn repair(&self, entry: &Entry) -> Result<bool> {
        self.engine.repair(self.id, &stored(entry)).map_err(failed)
    }

    pub(crate) fn status(&self) -> Result<GroupStatus> {
        self.engine.group(self.id).map_err(failed)
    }

    /// Switches snapshot, log and configuration in one step. Durable on return.
    pub(crate) fn install(&self, id: LogId, conf: &ConfState, data: &[u8]) -> Result<()> {
        let conf = stored_configuration(conf);
        let mut writer = self.engine.snapshot_writer(self.id, id, &conf).map_err(failed)?;
        writer.write_all(data)?;
        writer.install().map(drop).map_err(failed)
    }

    /// The configuration of the snapshot; the empty one if there is no snapshot.
    fn configuration(&self) -> Result<ConfState> {
        match self.engine.snapshot_reader(self.id) {
            Err(seawall::Error::NoSnapshot { .. }) => Ok(ConfState::default()),
            Err(e) => Err(failed(e)),
            Ok(reader) => found_configuration(reader.membership()),
        }
    }
}

impl<V: Vfs> Storage for Group<V> {
    fn initial_state(&self) -> Result<RaftState> {
        if let Some(lost) = self.lost().into_iter().next() {
            return Err(failed(seawall::Error::Blocked { group: self.id, lost }));
        }
        let status = self.status()?;
        let mut hard = HardState::default();
        if let Some(vote) = &status.vote {
            hard.term = vote.key.term.0;
            // Another program than this adapter may have voted in the group.
            hard.vote = u64::try_from(vote.key.rank).map_err(|_| malformed("a vote"))?;
        }
        hard.commit = status.commit.0;
        Ok(RaftState::new(hard, self.configuration()?))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        let limit = max_size.into().unwrap_or(u64::MAX);
        let entries = self.engine.read(self.id, Index(low)..Index(high), limit).map_err(failed)?;
        entries.iter().map(found).collect()
    }

    fn term(&self, index: u64) -> Result<u64> {
        // Nothing precedes a log that begins at 1.
        let term = self.engine.term(self.id, Index(index)).map_err(failed)?;
        Ok(term.0)
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.status()?.first.0)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.status()?.last.index.0)
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        let unavailable = || Error::Store(StorageError::SnapshotTemporarilyUnavailable);
        let pointer = self.status()?.snapshot.ok_or_else(unavailable)?;
        if pointer.id.index.0 < request_index {
            return Err(unavailable());
        }
        let mut reader = self.engine.snapshot_reader(self.id).map_err(failed)?;
        let mut data = Vec::new();
        reader.read_to_end(&mut data)?;
        let mut snapshot = Snapshot::default();
        snapshot.data = data.into();
        let metadata = snapshot.mut_metadata();
        metadata.index = reader.id().index.0;
        metadata.term = reader.id().term.0;
        metadata.set_conf_state(found_configuration(reader.membership())?);
        Ok(snapshot)
    }
}
