//! The adapter for openraft 0.10, pinned to one alpha.
//!
//! I own the translation of types and errors. `truncate_after` leaves the given entry.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use openraft_0_10 as openraft;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, VoteOf};
use openraft::vote::{RaftLeaderId, RaftVote, leader_id_adv, leader_id_std};
use openraft::{LogId, LogState, OptionalSend, RaftLogReader, RaftTypeConfig};
use seawall::vfs::Vfs;
use seawall::vfs::os::OsVfs;
use seawall::{Entry, Lost};

use crate::Node;
use crate::group::{Ballot, Group, Id, Part, entry, io_error, parts};

/// The leader in a log id: openraft's own two kinds.
pub trait Leader {
    /// Its term, and its node where the kind keeps one.
    fn numbers(&self) -> (u64, u64);
}

impl Leader for leader_id_adv::LeaderId<u64, u64> {
    fn numbers(&self) -> (u64, u64) {
        (self.term, self.node_id)
    }
}

impl Leader for leader_id_std::CommittedLeaderId<u64> {
    fn numbers(&self) -> (u64, u64) {
        (self.term, 0)
    }
}

type Committed<C> = <<C as RaftTypeConfig>::LeaderId as RaftLeaderId>::Committed;
type Payload<C> = <C as RaftTypeConfig>::Payload;

/// What this adapter needs of a type configuration: `u64` terms and node ids, openraft's own entry type and
/// one of its two kinds of leader ids.
pub trait Config:
    RaftTypeConfig<
        Term = u64,
        NodeId = u64,
        LeaderId: RaftLeaderId<Committed: Leader>,
        Entry = openraft::Entry<Committed<Self>, Payload<Self>>,
    >
{
}

impl<C> Config for C where
    C: RaftTypeConfig<
            Term = u64,
            NodeId = u64,
            LeaderId: RaftLeaderId<Committed: Leader>,
            Entry = openraft::Entry<Committed<C>, Payload<C>>,
        >
{
}

/// Bytes of entries that one replication message takes at most.
const MESSAGE_BYTES: u64 = 4 << 20;

fn numbers<C: Config>(id: &LogIdOf<C>) -> Id {
    let (term, node) = id.committed_leader_id().numbers();
    Id { index: id.index(), term, node }
}

fn log_id<C: Config>(id: Id) -> LogIdOf<C> {
    LogId::new(C::LeaderId::new(id.term, id.node).to_committed(), id.index)
}

fn encode<C: Config>(e: &C::Entry) -> io::Result<Entry> {
    let payload = rmp_serde::to_vec_named(&e.payload).map_err(io::Error::other)?;
    Ok(entry(numbers::<C>(&e.log_id), e.get_membership().is_some(), payload))
}

fn decode<C: Config>(entry: &Entry) -> io::Result<C::Entry> {
    let (id, payload) = parts(entry);
    let payload = rmp_serde::from_slice(payload);
    let payload = payload.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    Ok(openraft::Entry { log_id: log_id::<C>(id), payload })
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
    pub fn repair(&self, entry: &C::Entry) -> io::Result<bool> {
        let entry = encode::<C>(entry)?;
        self.group.engine.repair(self.group.id, &entry).map_err(io_error)
    }
}

impl<C: Config, V: Vfs> RaftLogReader<C> for Log<C, V> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<C::Entry>> {
        self.group.read(range, u64::MAX).map_err(io_error)?.iter().map(decode::<C>).collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<C>>> {
        let found = self.group.vote()?;
        let vote = |b: Ballot| C::Vote::from_leader_id(C::LeaderId::new(b.term, b.node), b.committed);
        Ok(found.map(vote))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<C::Entry>> {
        self.group.read(start..end, MESSAGE_BYTES).map_err(io_error)?.iter().map(decode::<C>).collect()
    }
}

impl<C: Config, V: Vfs> RaftLogStorage<C> for Log<C, V> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<C>> {
        let (purged, last) = self.group.state().map_err(io_error)?;
        Ok(LogState { last_purged_log_id: purged.map(log_id::<C>), last_log_id: last.map(log_id::<C>) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<C>) -> io::Result<()> {
        let leader = vote.leader_id();
        let ballot = Ballot { term: leader.term(), node: *leader.node_id(), committed: vote.is_committed() };
        self.group.save_vote(ballot).await.map_err(io_error)
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<C>>) -> io::Result<()> {
        if let Some(id) = committed {
            self.group.commit(id.index());
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOf<C>>> {
        Ok(self.group.committed().map_err(io_error)?.map(log_id::<C>))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> io::Result<()>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        match entries.into_iter().map(|e| encode::<C>(&e)).collect() {
            Ok(entries) => {
                self.group.append(entries, |done| callback.io_completed(done)).await.map_err(io_error)
            }
            Err(e) => {
                let e: io::Error = e;
                callback.io_completed(Err(io::Error::other(e.to_string())));
                Err(e)
            }
        }
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<C>>) -> io::Result<()> {
        self.group.truncate(last.map_or(0, |id| id.index().saturating_add(1))).await.map_err(io_error)
    }

    async fn purge(&mut self, log_id: LogIdOf<C>) -> io::Result<()> {
        self.group.purge(numbers::<C>(&log_id)).await.map_err(io_error)
    }
}

/// A snapshot's description and its bytes.
type Stored<C> = (SnapshotMetaOf<C>, Vec<u8>);

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
    pub fn save(&self, meta: &SnapshotMetaOf<C>, content: &[u8]) -> io::Result<bool> {
        let header = rmp_serde::to_vec_named(meta).map_err(io::Error::other)?;
        self.group.save_snapshot(meta.last_log_id.as_ref().map(numbers::<C>), &header, content)
    }

    /// The stored snapshot, if there is one.
    ///
    /// # Errors
    /// Of reading; damage is an error, never an older snapshot.
    pub fn load(&self) -> io::Result<Option<Stored<C>>> {
        let Some((meta, content)) = self.group.load_snapshot()? else { return Ok(None) };
        let meta = rmp_serde::from_slice(&meta);
        let meta = meta.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        Ok(Some((meta, content)))
    }
}
