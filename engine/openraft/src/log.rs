//! The log, the vote and the commit index of one group.
//!
//! I own the mapping between openraft's values and the engine's. I decide nothing about durability: what
//! the engine says is what openraft hears.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    EntryPayload, LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote,
};
use seawall::{
    Digest, Engine, Entry, EntryKind, Error, GroupId, Index, LeaderTag, Outcome, SnapshotOwner, Ticket,
    WriteBatch,
};
use tokio::sync::oneshot;

use crate::Config;

/// The log of one group.
pub struct Log<C> {
    engine: Arc<Engine>,
    group: GroupId,
    config: PhantomData<fn() -> C>,
}

impl<C> Clone for Log<C> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), group: self.group, config: PhantomData }
    }
}

type Failure = StorageError<u64>;

fn read_failed(e: impl std::error::Error + 'static) -> Failure {
    StorageIOError::read_logs(&e).into()
}

fn write_failed(e: impl std::error::Error + 'static) -> Failure {
    StorageIOError::write_logs(&e).into()
}

/// The engine's log id of one of openraft's.
pub(crate) fn stored_id(id: &LogId<u64>) -> seawall::LogId {
    seawall::LogId::new(id.index + 1, id.leader_id.term)
}

fn log_id(id: seawall::LogId, node: u64) -> LogId<u64> {
    LogId::new(openraft::LeaderId::new(id.term.0, node), id.index.0 - 1)
}

fn tag(node: u64) -> LeaderTag {
    LeaderTag::new(&node.to_le_bytes()).expect("a tag has room for eight bytes")
}

fn node_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Says of the indexes before a log's first entry that there never were entries there.
const NEVER: Digest = Digest([0xff; 32]);

/// A purge is covered by a snapshot of the host's; its digest says which node led then.
fn covering(node: u64) -> Digest {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&node.to_le_bytes());
    Digest(digest)
}

impl<C: Config> Log<C> {
    pub(crate) fn new(engine: Arc<Engine>, group: GroupId) -> Self {
        Self { engine, group, config: PhantomData }
    }

    /// Gives back an entry that a damage took, as a peer has it; `false` if it is whole already.
    pub fn repair(&self, entry: &C::Entry) -> Result<bool, Failure> {
        let entry = encode::<C>(entry)?;
        self.engine.repair(self.group, &entry).map_err(write_failed)
    }

    /// Submits a batch; waits while too much is in flight.
    async fn submit(&self, batch: WriteBatch) -> Result<Ticket<seawall::vfs::os::OsVfs>, Error> {
        match self.engine.write(batch.clone()) {
            Err(Error::Overloaded { .. }) => {}
            done => return done,
        }
        let engine = self.engine.clone();
        let patient = move || engine.write_timeout(batch, std::time::Duration::from_secs(60));
        tokio::task::spawn_blocking(patient).await.unwrap_or(Err(Error::Closed))
    }

    /// Submits a batch and waits until it is durable.
    async fn durably(&self, batch: WriteBatch) -> Result<(), io::Error> {
        let ticket = self.submit(batch).await.map_err(io::Error::other)?;
        let (done, outcome) = oneshot::channel();
        // Nobody listens if the caller was cancelled.
        ticket.on_durable(move |outcome| {
            let _ = done.send(outcome);
        });
        settled(outcome.await.unwrap_or(Outcome::Unknown))
    }

    fn purged(&self) -> Result<Option<LogId<u64>>, Error> {
        let status = self.engine.group(self.group)?;
        let leader = status.snapshot.filter(|s| s.owner == SnapshotOwner::External);
        let never = status.purged.index == Index(0) || leader.is_some_and(|s| s.digest == NEVER);
        let node = leader.map_or(0, |s| node_of(&s.digest.0));
        Ok((!never).then(|| log_id(status.purged, node)))
    }

    /// An empty log may begin anywhere: openraft's own tests begin at 1.
    fn begin_at(&self, first: seawall::LogId, batch: &mut WriteBatch) -> Result<(), Error> {
        let status = self.engine.group(self.group)?;
        if status.last.index == Index(0) && first.index > Index(1) {
            let before = seawall::LogId::new(first.index.0 - 1, first.term.0);
            batch.external_snapshot(self.group, before, NEVER);
            batch.compact_prefix(self.group, before.index);
        }
        Ok(())
    }

    fn entry_id(&self, index: Index) -> Result<Option<LogId<u64>>, Error> {
        let read = self.engine.read(self.group, index..index.next(), 1)?;
        Ok(read.first().map(|e| log_id(e.id, node_of(e.leader.as_bytes()))))
    }
}

fn settled(outcome: Outcome) -> io::Result<()> {
    match outcome {
        Outcome::Durable => Ok(()),
        other => Err(io::Error::other(format!("the batch ended {other:?}"))),
    }
}

fn encode<C: Config>(entry: &C::Entry) -> Result<Entry, Failure> {
    let data = rmp_serde::to_vec_named(&entry.payload).map_err(write_failed)?;
    let kind = match entry.payload {
        EntryPayload::Membership(_) => EntryKind::Membership,
        _ => EntryKind::Command,
    };
    let leader = tag(entry.log_id.leader_id.node_id);
    Ok(Entry { id: stored_id(&entry.log_id), leader, kind, data: data.into() })
}

fn decode<C: Config>(entry: &Entry) -> Result<C::Entry, Failure> {
    let payload = rmp_serde::from_slice(&entry.data).map_err(read_failed)?;
    Ok(openraft::Entry { log_id: log_id(entry.id, node_of(entry.leader.as_bytes())), payload })
}

impl<C: Config> RaftLogReader<C> for Log<C> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, Failure> {
        let status = self.engine.group(self.group).map_err(read_failed)?;
        let from = match range.start_bound() {
            Bound::Included(n) => Index(n.saturating_add(1)),
            Bound::Excluded(n) => Index(n.saturating_add(2)),
            Bound::Unbounded => Index(0),
        };
        let to = match range.end_bound() {
            Bound::Included(n) => Index(n.saturating_add(2)),
            Bound::Excluded(n) => Index(n.saturating_add(1)),
            Bound::Unbounded => Index(u64::MAX),
        };
        let (from, to) = (from.max(status.first), to.min(status.last.index.next()));
        if from >= to {
            return Ok(Vec::new());
        }
        let entries = self.engine.read(self.group, from..to, u64::MAX).map_err(read_failed)?;
        entries.iter().map(decode::<C>).collect()
    }
}

impl<C: Config> RaftLogStorage<C> for Log<C> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, Failure> {
        let last_purged_log_id = self.purged().map_err(read_failed)?;
        let status = self.engine.group(self.group).map_err(read_failed)?;
        let last_log_id = if status.last.index >= status.first {
            self.entry_id(status.last.index).map_err(read_failed)?
        } else {
            last_purged_log_id
        };
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), Failure> {
        let leader = vote.leader_id;
        let rank = u128::from(leader.node_id) << 1 | u128::from(vote.committed);
        let mut batch = WriteBatch::new();
        batch.vote(self.group, seawall::Vote::new(leader.term, rank, *b""));
        self.durably(batch).await.map_err(|e| StorageIOError::write_vote(&e).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, Failure> {
        let status = self.engine.group(self.group).map_err(|e| StorageIOError::read_vote(&e))?;
        Ok(status.vote.map(|vote| {
            let node = u64::try_from(vote.key.rank >> 1).expect("written from 64 bits");
            let mut found = Vote::new(vote.key.term.0, node);
            found.committed = vote.key.rank & 1 == 1;
            found
        }))
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), Failure> {
        let Some(committed) = committed else { return Ok(()) };
        let status = self.engine.group(self.group).map_err(read_failed)?;
        let index = stored_id(&committed).index;
        if index <= status.commit || index > status.last.index {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        batch.commit(self.group, index);
        // Not waited for: after a crash an older commit index is as true.
        self.submit(batch).await.map(drop).map_err(write_failed)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, Failure> {
        let status = self.engine.group(self.group).map_err(read_failed)?;
        if status.commit == Index(0) {
            return Ok(None);
        }
        if status.commit < status.first {
            return self.purged().map_err(read_failed);
        }
        self.entry_id(status.commit).map_err(read_failed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<C>) -> Result<(), Failure>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = WriteBatch::new();
        let purged = self.engine.group(self.group).map_err(read_failed)?.purged.index;
        for entry in entries {
            match encode::<C>(&entry) {
                // A snapshot covers it: it is there for good.
                Ok(entry) if entry.id.index <= purged => {}
                Ok(entry) => {
                    if batch.is_empty() {
                        self.begin_at(entry.id, &mut batch).map_err(write_failed)?;
                    }
                    batch.append(self.group, entry);
                }
                Err(e) => {
                    callback.log_io_completed(Err(io::Error::other(e.to_string())));
                    return Err(e);
                }
            }
        }
        match self.submit(batch).await {
            Ok(ticket) => {
                ticket.on_durable(move |outcome| callback.log_io_completed(settled(outcome)));
                Ok(())
            }
            Err(e) => {
                callback.log_io_completed(Err(io::Error::other(e.to_string())));
                Err(write_failed(e))
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), Failure> {
        let mut batch = WriteBatch::new();
        batch.truncate_suffix(self.group, stored_id(&log_id).index);
        self.submit(batch).await.map(drop).map_err(write_failed)
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), Failure> {
        let status = self.engine.group(self.group).map_err(read_failed)?;
        let id = stored_id(&log_id);
        let known = self.purged().map_err(read_failed)?;
        if id.index < status.purged.index || known.is_some_and(|k| stored_id(&k).index == id.index) {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        let there = id.index <= status.last.index;
        if there && self.engine.term(self.group, id.index).map_err(read_failed)? != id.term {
            // The state machine holds what our log does not: nothing of the log goes on from there.
            batch.truncate_suffix(self.group, status.first);
        }
        // What never was there has no term that could be another.
        if id.index > status.purged.index || id.term == status.purged.term {
            batch.external_snapshot(self.group, id, covering(log_id.leader_id.node_id));
            batch.compact_prefix(self.group, id.index);
        }
        self.submit(batch).await.map(drop).map_err(write_failed)
    }
}
