//! The adapter for openraft 0.9 (feature `storage-v2`).
//!
//! I own the translation of types and errors. `truncate` takes the given entry too.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use openraft_0_9 as openraft;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    EntryPayload, LogId, LogState, OptionalSend, RaftLogReader, RaftTypeConfig, SnapshotMeta, StorageError,
    StorageIOError, Vote,
};
use seawall::vfs::Vfs;
use seawall::vfs::os::OsVfs;
use seawall::{Entry, Lost};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Node;
use crate::group::{Ballot, Group, Id, Part, entry, io_error, parts};

/// What this adapter needs of a type configuration: `u64` node ids, openraft's own entry type, and data
/// that can be serialized.
pub trait Config:
    RaftTypeConfig<NodeId = u64, Entry = openraft::Entry<Self>, D: Serialize + DeserializeOwned>
{
}

impl<C> Config for C where
    C: RaftTypeConfig<NodeId = u64, Entry = openraft::Entry<C>, D: Serialize + DeserializeOwned>
{
}

type Failure = StorageError<u64>;
type Meta<C> = SnapshotMeta<u64, <C as RaftTypeConfig>::Node>;

/// Bytes of entries that one replication message takes at most.
const MESSAGE_BYTES: u64 = 4 << 20;

fn read_failed(e: seawall::Error) -> Failure {
    StorageIOError::read_logs(&io_error(e)).into()
}

fn write_failed(e: seawall::Error) -> Failure {
    StorageIOError::write_logs(&io_error(e)).into()
}

fn numbers(id: &LogId<u64>) -> Id {
    Id { index: id.index, term: id.leader_id.term, node: id.leader_id.node_id }
}

fn log_id(id: Id) -> LogId<u64> {
    LogId::new(openraft::LeaderId::new(id.term, id.node), id.index)
}

fn encode<C: Config>(e: &C::Entry) -> Result<Entry, Failure> {
    let payload = rmp_serde::to_vec_named(&e.payload).map_err(|e| StorageIOError::write_logs(&e))?;
    Ok(entry(numbers(&e.log_id), matches!(e.payload, EntryPayload::Membership(_)), payload))
}

fn decode<C: Config>(entry: &Entry) -> Result<C::Entry, Failure> {
    let (id, payload) = parts(entry);
    let payload = rmp_serde::from_slice(payload).map_err(|e| StorageIOError::read_logs(&e))?;
    Ok(openraft::Entry { log_id: log_id(id), payload })
}

/// The log of one group.
pub struct Log<C, V: Vfs = OsVfs> {
    group: Group<V>,
    config: PhantomData<fn() -> C>,
}

impl<C, V: Vfs> Clone for Log<C, V> {
    fn clone(&self) -> Self {
        Self { group: self.group.clone(), config: PhantomData }
    }
}

impl<C: Config, V: Vfs> Log<C, V> {
    /// The log of a group, which is made if it is new.
    ///
    /// # Errors
    /// [`seawall::Error::GroupInUse`] while an earlier log of the group or a reader of it lives;
    /// [`seawall::Error::InvalidOption`] if the number's highest bit is set; or of writing.
    pub fn open(node: &Node<V>, group: u64) -> seawall::Result<Self> {
        Ok(Self { group: Group::open(&node.engine, group, Part::Log)?, config: PhantomData })
    }

    /// What the group lacks of what was acknowledged, in its log or its snapshot: until this is empty it
    /// takes no vote and no entry.
    #[must_use]
    pub fn lost(&self) -> Vec<Lost> {
        self.group.lost()
    }

    /// Gives back an entry that damage took, as a peer has it; `false` if it is whole already.
    ///
    /// # Errors
    /// If it is not the entry that was acknowledged, or of writing.
    pub fn repair(&self, entry: &C::Entry) -> Result<bool, Failure> {
        let entry = encode::<C>(entry)?;
        self.group.engine.repair(self.group.id, &entry).map_err(write_failed)
    }
}

impl<C: Config, V: Vfs> RaftLogReader<C> for Log<C, V> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, Failure> {
        let entries = self.group.read(range, u64::MAX).map_err(read_failed)?;
        entries.iter().map(decode::<C>).collect()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<C::Entry>, Failure> {
        let entries = self.group.read(start..end, MESSAGE_BYTES).map_err(read_failed)?;
        entries.iter().map(decode::<C>).collect()
    }
}

impl<C: Config, V: Vfs> RaftLogStorage<C> for Log<C, V> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, Failure> {
        let (purged, last) = self.group.state().map_err(read_failed)?;
        Ok(LogState { last_purged_log_id: purged.map(log_id), last_log_id: last.map(log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), Failure> {
        let (leader, committed) = (vote.leader_id, vote.committed);
        let ballot = Ballot { term: leader.term, node: leader.node_id, committed };
        let saved = self.group.save_vote(ballot).await;
        saved.map_err(|e| StorageIOError::write_vote(&io_error(e)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, Failure> {
        let found = self.group.vote().map_err(|e| StorageIOError::read_vote(&e))?;
        Ok(found.map(|ballot| {
            let mut vote = Vote::new(ballot.term, ballot.node);
            vote.committed = ballot.committed;
            vote
        }))
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), Failure> {
        if let Some(id) = committed {
            self.group.commit(id.index);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, Failure> {
        Ok(self.group.committed().map_err(read_failed)?.map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<C>) -> Result<(), Failure>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let encoded: Result<Vec<Entry>, Failure> = entries.into_iter().map(|e| encode::<C>(&e)).collect();
        match encoded.and_then(|entries| self.group.beyond_purged(entries).map_err(read_failed)) {
            Ok(entries) => {
                let appended = self.group.append(entries, |done| callback.log_io_completed(done)).await;
                appended.map_err(write_failed)
            }
            Err(e) => {
                callback.log_io_completed(Err(io::Error::other(e.to_string())));
                Err(e)
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), Failure> {
        self.group.truncate(log_id.index).await.map_err(write_failed)
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), Failure> {
        self.group.purge(numbers(&log_id)).await.map_err(write_failed)
    }
}

/// A snapshot's description and its bytes.
type Stored<C> = (Meta<C>, Vec<u8>);

/// Keeps the newest snapshot of one group's state machine.
pub struct Snapshots<C, V: Vfs = OsVfs> {
    group: Group<V>,
    config: PhantomData<fn() -> C>,
}

impl<C, V: Vfs> Clone for Snapshots<C, V> {
    fn clone(&self) -> Self {
        Self { group: self.group.clone(), config: PhantomData }
    }
}

impl<C: Config, V: Vfs> Snapshots<C, V> {
    /// The snapshots of a group's state machine.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open(node: &Node<V>, group: u64) -> seawall::Result<Self> {
        Ok(Self { group: Group::open(&node.engine, group, Part::Snapshots)?, config: PhantomData })
    }

    /// Stores a snapshot, built here or received from a leader. Durable on return. `false` if a newer one is
    /// stored: nothing changed then.
    ///
    /// # Errors
    /// Of writing.
    pub fn save(&self, meta: &Meta<C>, content: &[u8]) -> Result<bool, Failure> {
        let failed = |e: io::Error| StorageIOError::write_snapshot(Some(meta.signature()), &e);
        let header = rmp_serde::to_vec_named(meta).map_err(|e| failed(io::Error::other(e)))?;
        let last = meta.last_log_id.as_ref().map(numbers);
        self.group.save_snapshot(last, &header, content).map_err(|e| failed(e).into())
    }

    /// The stored snapshot, if there is one.
    ///
    /// # Errors
    /// Of reading; damage is an error, never an older snapshot.
    pub fn load(&self) -> Result<Option<Stored<C>>, Failure> {
        let failed = |e: io::Error| StorageIOError::read_snapshot(None, &e);
        let Some((meta, content)) = self.group.load_snapshot().map_err(failed)? else { return Ok(None) };
        let meta = rmp_serde::from_slice(&meta).map_err(|e| failed(io::Error::other(e)))?;
        Ok(Some((meta, content)))
    }
}
