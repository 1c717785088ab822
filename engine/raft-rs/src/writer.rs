//! The write side: what readies say, as one batch of the engine.
//!
//! I own the order inside a group's part of a batch: term and vote, then the truncation that makes room, then
//! the entries, then the commit index. What many groups say is durable with one sync; what is more than one batch
//! may hold is cut between two groups. I decide nothing about durability: what the engine says is what the host
//! hears.

use std::sync::Arc;
use std::time::Duration;

use raft::eraftpb::{Entry, HardState, Snapshot};
use raft::{Ready, Result};
use seawall::vfs::Vfs;
use seawall::vfs::os::OsVfs;
use seawall::{Engine, Error, Index, LogId, Outcome, Ticket, Vote, WriteBatch};

use crate::convert::{failed, stored};
use crate::group::Group;

/// How long a batch waits for admission while too much is in flight.
const PATIENCE: Duration = Duration::from_secs(60);

/// Collects what readies say. Nothing is written before [`Writer::submit`], but for a snapshot.
#[must_use = "nothing is written before it is submitted"]
pub struct Writer<V: Vfs = OsVfs> {
    engine: Arc<Engine<V>>,
    batch: WriteBatch,
    /// Where the batch may be cut: the operations up to the end of each call.
    ends: Vec<usize>,
    must_sync: bool,
}

impl<V: Vfs> Writer<V> {
    /// An empty one.
    pub fn new(engine: &Arc<Engine<V>>) -> Self {
        Self { engine: engine.clone(), batch: WriteBatch::new(), ends: Vec::new(), must_sync: false }
    }

    /// Takes what a ready of a group says: hard state, entries and snapshot. A snapshot is installed at once
    /// and durable on return. At most one ready of a group goes into a writer.
    ///
    /// # Errors
    /// Of reading or of installing a snapshot. Then the node must stop.
    pub fn ready(&mut self, group: &Group<V>, ready: &Ready) -> Result<()> {
        self.must_sync |= ready.must_sync();
        if let Some(hard) = ready.hs() {
            self.vote(group, hard)?;
        }
        let mut last = group.status()?.last.index.0;
        if !ready.snapshot().is_empty() {
            self.install(group, ready.snapshot())?;
            last = group.status()?.last.index.0;
        }
        last = self.take(group, ready.entries())?.unwrap_or(last);
        if let Some(hard) = ready.hs() {
            self.raise(group, hard.commit.min(last))?;
        }
        self.end();
        Ok(())
    }

    /// Takes term and vote, for a host that does not work with readies. They must be synced.
    ///
    /// # Errors
    /// If the group is gone.
    pub fn hard_state(&mut self, group: &Group<V>, hard: &HardState) -> Result<()> {
        self.must_sync = true;
        self.vote(group, hard)?;
        self.end();
        Ok(())
    }

    /// Takes entries, which replace those at and above the index of the first, for a host that does not work
    /// with readies; the index of the last. They must be synced.
    ///
    /// # Errors
    /// If the group is gone.
    pub fn entries(&mut self, group: &Group<V>, entries: &[Entry]) -> Result<Option<u64>> {
        let last = self.take(group, entries)?;
        self.end();
        Ok(last)
    }

    fn take(&mut self, group: &Group<V>, entries: &[Entry]) -> Result<Option<u64>> {
        let Some(first) = entries.first() else { return Ok(None) };
        self.must_sync = true;
        if first.index <= group.status()?.last.index.0 {
            self.batch.truncate_suffix(group.id, Index(first.index));
        }
        for entry in entries {
            self.batch.append(group.id, stored(entry));
        }
        Ok(entries.last().map(|last| last.index))
    }

    /// Takes the commit index of a light ready. Not worth a sync of its own.
    ///
    /// # Errors
    /// If the group is gone.
    pub fn commit(&mut self, group: &Group<V>, index: u64) -> Result<()> {
        self.raise(group, index)?;
        self.end();
        Ok(())
    }

    /// A call ends: what comes next may go into another batch.
    fn end(&mut self) {
        self.ends.push(self.batch.len());
    }

    fn raise(&mut self, group: &Group<V>, index: u64) -> Result<()> {
        if index > group.status()?.commit.0 {
            self.batch.commit(group.id, Index(index));
        }
        Ok(())
    }

    fn vote(&mut self, group: &Group<V>, hard: &HardState) -> Result<()> {
        let vote = Vote::new(hard.term, u128::from(hard.vote), *b"");
        // A hard state may differ in its commit index alone.
        if group.status()?.vote.is_none_or(|present| present != vote) {
            self.batch.vote(group.id, vote);
        }
        Ok(())
    }

    /// What was collected goes first: term and vote are then never older than the snapshot.
    fn install(&mut self, group: &Group<V>, snapshot: &Snapshot) -> Result<()> {
        drop(self.send()?);
        let metadata = snapshot.get_metadata();
        let id = LogId::new(metadata.index, metadata.term);
        group.install(id, metadata.get_conf_state(), &snapshot.data)
    }

    /// Writes what was collected, in as many batches as it takes, cut where a call ended.
    fn send(&mut self) -> Result<Ticket<V>> {
        self.end();
        let (mut batch, ends) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.ends));
        let (mut ends, mut written) = (&ends[..], 0);
        loop {
            let (mut calls, mut later) = (ends.len(), WriteBatch::new());
            while calls > 1 && !self.engine.fits(&batch) {
                calls /= 2;
                let mut behind = batch.split_off(ends[calls - 1] - written);
                behind.join(later);
                later = behind;
            }
            let ticket = self.engine.write_timeout(batch, PATIENCE).map_err(failed)?;
            if calls == ends.len() {
                return Ok(ticket);
            }
            written = ends[calls - 1];
            (batch, ends) = (later, &ends[calls..]);
        }
    }

    /// Submits what was collected: as one atomic batch, or, if that is too large, as several that are cut between
    /// the calls that collected them, in their order. It is readable on return; what is durable of it is so from
    /// its beginning.
    ///
    /// # Errors
    /// If the engine refuses it, in part or poisoned. Then the node must stop.
    pub fn submit(mut self) -> Result<Written<V>> {
        let ticket = self.send()?;
        Ok(Written { ticket, must_sync: self.must_sync })
    }
}

/// What was submitted.
#[must_use = "persisted messages may go out only when this is durable"]
pub struct Written<V: Vfs = OsVfs> {
    ticket: Ticket<V>,
    must_sync: bool,
}

impl<V: Vfs> Written<V> {
    /// Whether a ready of the batch must be durable before raft goes on.
    #[must_use]
    pub fn must_sync(&self) -> bool {
        self.must_sync
    }

    /// Waits until the batch is durable, if a ready of it must be; at once otherwise.
    ///
    /// # Errors
    /// If it is not durable. Then the node must stop: no persisted message may go out.
    pub fn wait(self) -> Result<()> {
        if self.must_sync { settled(self.ticket.wait()) } else { Ok(()) }
    }

    /// Calls back exactly once when the batch is durable, or with the error that keeps it from it: on the
    /// engine's own thread, in the order of submission.
    pub fn on_durable(self, callback: impl FnOnce(Result<()>) + Send + 'static) {
        self.ticket.on_durable(move |outcome| callback(settled(outcome)));
    }
}

fn settled(outcome: Outcome) -> Result<()> {
    match outcome {
        Outcome::Durable => Ok(()),
        outcome => {
            Err(failed(Error::NotAcknowledged { outcome, cause: "the store failed or was closed".into() }))
        }
    }
}
