//! One group as every line of openraft wants it: the log, the vote and the commit index.
//!
//! I own the mapping between openraft's values and the engine's, and what both lines share. I decide
//! nothing about durability: what the engine says is what openraft hears. I do not know openraft's types.

use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use seawall::vfs::Vfs;
use seawall::{
    Claim, Digest, Engine, Entry, EntryKind, Error, GroupId, GroupStatus, Index, LeaderTag, LogId, Lost,
    Outcome, Result, SnapshotOwner, Ticket, Vote, WriteBatch,
};
use tokio::sync::oneshot;

/// How long a batch waits for admission while too much is in flight.
const PATIENCE: Duration = Duration::from_secs(60);
/// Groups whose numbers have this bit hold snapshots.
const SNAPSHOTS: u64 = 1 << 63;
/// Says of the indexes before a log's first entry that there never were entries there.
const NEVER: Digest = Digest([0xff; 32]);

/// What a group of the engine holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Log,
    Snapshots,
}

/// A log id in openraft's numbers: indexes begin at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) node: u64,
}

impl Id {
    fn found(id: LogId, node: u64) -> Self {
        Self { index: id.index.0 - 1, term: id.term.0, node }
    }

    fn of(entry: &Entry) -> Self {
        Self::found(entry.id, node_of(entry.leader.as_bytes()))
    }

    pub(crate) fn stored(&self) -> LogId {
        LogId::new(self.index.saturating_add(1), self.term)
    }
}

/// A vote in openraft's numbers.
pub(crate) struct Ballot {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) committed: bool,
}

/// An entry of the engine with the given payload.
pub(crate) fn entry(id: Id, membership: bool, payload: Vec<u8>) -> Entry {
    let kind = if membership { EntryKind::Membership } else { EntryKind::Command };
    let leader = LeaderTag::new(&id.node.to_le_bytes()).expect("a tag has room for eight bytes");
    Entry { id: id.stored(), leader, kind, data: payload.into() }
}

/// An entry's identity and its payload.
pub(crate) fn parts(entry: &Entry) -> (Id, &[u8]) {
    (Id::of(entry), &entry.data)
}

fn node_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A purge is covered by a snapshot of the host's; its digest says which node led then.
fn covering(node: u64) -> Digest {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&node.to_le_bytes());
    Digest(digest)
}

/// An engine's error as openraft takes it, with the engine's as its source.
pub(crate) fn io_error(e: Error) -> io::Error {
    let kind = match &e {
        Error::NoSpace { .. } => io::ErrorKind::StorageFull,
        Error::Damaged { .. } | Error::Blocked { .. } | Error::Snapshot { .. } => io::ErrorKind::InvalidData,
        Error::TimedOut { .. } => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, e)
}

/// One group of the engine, driven by nobody else.
pub(crate) struct Group<V: Vfs> {
    pub(crate) engine: Arc<Engine<V>>,
    pub(crate) id: GroupId,
    noted: Arc<Noted<V>>,
}

/// A commit index that goes along with the next batch, or when the group is let go. A batch of its own would
/// cost each entry a second sync, and after a crash an older commit index is as true.
struct Noted<V: Vfs> {
    engine: Arc<Engine<V>>,
    id: GroupId,
    commit: AtomicU64,
    _claim: Claim,
}

impl<V: Vfs> Noted<V> {
    /// The commit index, where the engine does not have it yet.
    fn beyond(&self, status: &GroupStatus) -> Option<Index> {
        let noted = Index(self.commit.load(Ordering::Relaxed));
        (noted > status.commit && noted <= status.last.index).then_some(noted)
    }
}

impl<V: Vfs> Drop for Noted<V> {
    fn drop(&mut self) {
        let Ok(status) = self.engine.group(self.id) else { return };
        if let Some(noted) = self.beyond(&status) {
            let mut batch = WriteBatch::new();
            batch.commit(self.id, noted);
            // A store that takes nothing any more keeps the older one.
            let _ = self.engine.write(batch);
        }
    }
}

impl<V: Vfs> Clone for Group<V> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), id: self.id, noted: self.noted.clone() }
    }
}

impl<V: Vfs> Group<V> {
    /// The part of a group, made if it is new.
    pub(crate) fn open(engine: &Arc<Engine<V>>, group: u64, part: Part) -> Result<Self> {
        if group & SNAPSHOTS != 0 {
            let why = "must be below 2^63: the highest bit marks the groups that hold snapshots";
            return Err(Error::InvalidOption { option: "group", why });
        }
        let id = GroupId(if part == Part::Snapshots { group | SNAPSHOTS } else { group });
        let claim = engine.claim(id)?;
        match engine.create_group(id) {
            Ok(()) | Err(Error::GroupExists { .. }) => {}
            Err(e) => return Err(e),
        }
        let noted = Noted { engine: engine.clone(), id, commit: AtomicU64::new(0), _claim: claim };
        Ok(Self { engine: engine.clone(), id, noted: Arc::new(noted) })
    }

    /// A batch that begins with the noted commit index.
    fn batch(&self) -> Result<WriteBatch> {
        let mut batch = WriteBatch::new();
        if let Some(noted) = self.noted.beyond(&self.engine.group(self.id)?) {
            batch.commit(self.id, noted);
        }
        Ok(batch)
    }

    /// What the group lacks of what was acknowledged, in its log or its snapshot.
    pub(crate) fn lost(&self) -> Vec<Lost> {
        let own = |lost: &Lost| lost.group().is_some_and(|g| g.0 & !SNAPSHOTS == self.id.0 & !SNAPSHOTS);
        self.engine.lost().into_iter().filter(own).collect()
    }

    /// Refuses a group whose snapshot is damaged: the engine knows only that the log is whole.
    fn check_whole(&self) -> Result<()> {
        match self.lost().into_iter().next() {
            Some(lost) => Err(Error::Blocked { group: self.id, lost }),
            None => Ok(()),
        }
    }

    /// Submits a batch; waits while too much is in flight.
    async fn submit(&self, batch: WriteBatch) -> Result<Ticket<V>> {
        match self.engine.write(batch.clone()) {
            Err(Error::Overloaded { .. }) => {}
            done => return done,
        }
        let engine = self.engine.clone();
        let patient = move || engine.write_timeout(batch, PATIENCE);
        tokio::task::spawn_blocking(patient).await.unwrap_or(Err(Error::Closed))
    }

    /// Submits a batch and waits until it is durable.
    async fn durably(&self, batch: WriteBatch) -> Result<()> {
        let ticket = self.submit(batch).await?;
        let (done, outcome) = oneshot::channel();
        // Nobody listens if the caller was cancelled.
        ticket.on_durable(move |outcome| {
            let _ = done.send(outcome);
        });
        settled(outcome.await.unwrap_or(Outcome::Unknown))
    }

    fn purged(&self) -> Result<Option<Id>> {
        let status = self.engine.group(self.id)?;
        let leader = status.snapshot.filter(|s| s.owner == SnapshotOwner::External);
        let never = status.purged.index == Index(0) || leader.is_some_and(|s| s.digest == NEVER);
        let node = leader.map_or(0, |s| node_of(&s.digest.0));
        Ok((!never).then(|| Id::found(status.purged, node)))
    }

    fn name(&self, index: Index) -> Result<Id> {
        self.engine.name(self.id, index).map(|(id, leader)| Id::found(id, node_of(leader.as_bytes())))
    }

    /// The last purged and the last log id. Needs no entry's bytes.
    pub(crate) fn state(&self) -> Result<(Option<Id>, Option<Id>)> {
        let purged = self.purged()?;
        let status = self.engine.group(self.id)?;
        let last =
            if status.last.index >= status.first { Some(self.name(status.last.index)?) } else { purged };
        Ok((purged, last))
    }

    /// What the log holds of a range; all of it, or from its start what fits `max_bytes`.
    pub(crate) fn read(&self, range: impl RangeBounds<u64>, max_bytes: u64) -> Result<Vec<Entry>> {
        let from = match range.start_bound() {
            Bound::Included(n) => n.saturating_add(1),
            Bound::Excluded(n) => n.saturating_add(2),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(n) => n.saturating_add(2),
            Bound::Excluded(n) => n.saturating_add(1),
            Bound::Unbounded => u64::MAX,
        };
        self.engine.read_present(self.id, Index(from)..Index(to), max_bytes)
    }

    pub(crate) async fn save_vote(&self, vote: Ballot) -> Result<()> {
        self.check_whole()?;
        let rank = u128::from(vote.node) << 1 | u128::from(vote.committed);
        let mut batch = self.batch()?;
        batch.vote(self.id, Vote::new(vote.term, rank, *b""));
        self.durably(batch).await
    }

    pub(crate) fn vote(&self) -> io::Result<Option<Ballot>> {
        let Some(Vote { key, .. }) = self.engine.group(self.id).map_err(io_error)?.vote else {
            return Ok(None);
        };
        // Another program than this adapter may have voted in the group.
        let node = u64::try_from(key.rank >> 1).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        Ok(Some(Ballot { term: key.term.0, node, committed: key.rank & 1 == 1 }))
    }

    /// Notes the commit index.
    pub(crate) fn commit(&self, index: u64) {
        self.noted.commit.fetch_max(index.saturating_add(1), Ordering::Relaxed);
    }

    pub(crate) fn committed(&self) -> Result<Option<Id>> {
        let status = self.engine.group(self.id)?;
        let commit = self.noted.beyond(&status).unwrap_or(status.commit);
        if commit == Index(0) {
            return Ok(None);
        }
        if commit < status.first { self.purged() } else { self.name(commit).map(Some) }
    }

    /// Appends entries; `done` hears exactly once when all of them are durable, or why not.
    pub(crate) async fn append(
        &self,
        entries: Vec<Entry>,
        done: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> Result<()> {
        match self.submit_entries(&entries).await {
            Ok(ticket) => {
                ticket.on_durable(move |outcome| done(settled(outcome).map_err(io_error)));
                Ok(())
            }
            Err(e) => {
                done(Err(io::Error::other(e.to_string())));
                Err(e)
            }
        }
    }

    /// Leaves out what a snapshot covers: the suite of openraft 0.9 writes it again, as no node does.
    #[cfg(feature = "v0_9")]
    pub(crate) fn beyond_purged(&self, mut entries: Vec<Entry>) -> Result<Vec<Entry>> {
        let first = self.engine.group(self.id)?.first;
        entries.retain(|entry| entry.id.index >= first);
        Ok(entries)
    }

    /// Submits entries in as few batches as their size allows; the ticket of the last.
    async fn submit_entries(&self, entries: &[Entry]) -> Result<Ticket<V>> {
        self.check_whole()?;
        let mut rest = entries;
        let mut take = rest.len();
        loop {
            let (now, later) = rest.split_at(take.min(rest.len()));
            let mut batch = self.batch()?;
            if let Some(first) = now.first() {
                self.begin_at(first.id, &mut batch)?;
            }
            for entry in now {
                batch.append(self.id, entry.clone());
            }
            match self.submit(batch).await {
                Err(Error::TooLarge { .. }) if take > 1 => take /= 2,
                Ok(ticket) if later.is_empty() => return Ok(ticket),
                other => {
                    drop(other?);
                    rest = later;
                }
            }
        }
    }

    /// An empty log may begin anywhere: openraft's own tests begin at 1.
    fn begin_at(&self, first: LogId, batch: &mut WriteBatch) -> Result<()> {
        let status = self.engine.group(self.id)?;
        if status.last.index == Index(0) && first.index > Index(1) {
            let before = LogId::new(first.index.0 - 1, first.term.0);
            batch.external_snapshot(self.id, before, NEVER);
            batch.compact_prefix(self.id, before.index);
        }
        Ok(())
    }

    /// Removes the entries from `from` on. Not waited for: it is durable before anything that follows.
    pub(crate) async fn truncate(&self, from: u64) -> Result<()> {
        let mut from = Index(from.saturating_add(1));
        let first = self.engine.group(self.id)?.first;
        if from < first && self.purged()?.is_none() {
            // There never was an entry between.
            from = first;
        }
        let mut batch = self.batch()?;
        batch.truncate_suffix(self.id, from);
        self.submit(batch).await.map(drop)
    }

    /// Removes the entries up to an id, which a snapshot of the state machine covers.
    pub(crate) async fn purge(&self, upto: Id) -> Result<()> {
        let status = self.engine.group(self.id)?;
        let id = upto.stored();
        let known = self.purged()?.map(|k| k.stored().index);
        if id.index < status.purged.index || known == Some(id.index) {
            return Ok(());
        }
        let mut batch = self.batch()?;
        let commit = self.noted.beyond(&status).unwrap_or(status.commit);
        let there = id.index <= status.last.index && id.index > commit;
        if there && self.engine.term(self.id, id.index)? != id.term {
            // The state machine holds what our log does not: nothing of the log goes on from there.
            batch.truncate_suffix(self.id, status.first.max(commit.next()));
        }
        // What never was there has no term that could be another.
        if id.index > status.purged.index || id.term == status.purged.term {
            batch.external_snapshot(self.id, id, covering(upto.node));
            batch.compact_prefix(self.id, id.index);
        }
        self.submit(batch).await.map(drop)
    }
}

fn settled(outcome: Outcome) -> Result<()> {
    match outcome {
        Outcome::Durable => Ok(()),
        outcome => Err(Error::NotAcknowledged { outcome, cause: "the store failed or was closed".into() }),
    }
}
