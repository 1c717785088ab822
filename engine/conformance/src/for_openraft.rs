//! Any store of this kit as the log storage of openraft 0.10, and its suite over it.
//!
//! I own the translation. A vote's committed bit is the lowest of the stored node number. An entry's payload
//! is JSON. The leader ids are those of standard Raft: a term has one leader, so an id needs no node.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use openraft_0_10 as openraft;

use openraft::storage::{EntryResponder, IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::type_config::alias::{
    EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf,
};
use openraft::vote::{RaftVote, leader_id_std};
use openraft::{EntryPayload, LogId, LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder};
use serde::{Deserialize, Serialize};

use crate::cases::Subject;
use crate::outcome::Tally;
use crate::place::Place;
use crate::store::{Entry, Id, Store, Vote};
use crate::{suite, suite_0_10};

openraft::declare_raft_types!(
    /// Texts as commands, and one leader in a term.
    pub Types:
        D = String,
        R = (),
        LeaderId = leader_id_std::LeaderId<u64, u64>
);

/// A store as openraft's log storage and as its readers.
#[derive(Clone)]
pub struct Log {
    store: Arc<Mutex<Box<dyn Store>>>,
}

fn numbers(id: &LogIdOf<Types>) -> Id {
    Id { term: id.committed_leader_id().term, index: id.index() }
}

fn log_id(id: Id) -> LogIdOf<Types> {
    LogId::new(leader_id_std::CommittedLeaderId::new(id.term), id.index)
}

impl Log {
    /// The log storage over an open store.
    #[must_use]
    pub fn new(store: Box<dyn Store>) -> Self {
        Self { store: Arc::new(Mutex::new(store)) }
    }

    fn store(&self) -> MutexGuard<'_, Box<dyn Store>> {
        self.store.lock().expect("no panic under the lock")
    }

    /// Closes the store, if nobody else holds it.
    ///
    /// # Errors
    /// Of closing, or if a reader holds it.
    pub fn close(self) -> io::Result<()> {
        let store =
            Arc::into_inner(self.store).ok_or_else(|| io::Error::other("a reader holds the store"))?;
        store.into_inner().expect("no panic under the lock").close()
    }
}

/// A store of the kit in a directory, as the suite of openraft 0.10 takes it.
struct InDirectory(&'static dyn Subject);

impl suite::Subject for InDirectory {
    type Config = Types;
    type Log = Log;
    type Machine = Machine;
    type Open = Log;

    async fn open(&self, dir: &Path) -> io::Result<(Log, Log, Machine)> {
        std::fs::create_dir_all(dir)?;
        let log = Log::new(self.0.open(&Place::at(dir))?);
        Ok((log.clone(), log, Machine::default()))
    }

    async fn close(&self, log: Log) -> io::Result<()> {
        log.close()
    }
}

/// The suite of openraft 0.10 over a store that lives in a directory.
#[must_use]
pub fn plain(store: &'static dyn Subject) -> Tally {
    suite_0_10::plain(InDirectory(store))
}

/// The same with the store opened anew before every call.
#[must_use]
pub fn reopened(store: &'static dyn Subject) -> Tally {
    suite_0_10::reopened(InDirectory(store))
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<EntryOf<Types>>> {
        let from = match range.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(n) => n.saturating_add(1),
            Bound::Excluded(n) => *n,
            Bound::Unbounded => u64::MAX,
        };
        let found = self.store().read(from, to)?;
        let entry = |e: Entry| {
            let payload = serde_json::from_str(&e.payload)?;
            Ok(EntryOf::<Types> { log_id: log_id(e.id), payload })
        };
        found.into_iter().map(entry).collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<Types>>> {
        let vote = self.store().vote()?;
        Ok(vote.map(|Vote { term, node }| {
            let leader = leader_id_std::LeaderId { term, voted_for: node >> 1 };
            VoteOf::<Types>::from_leader_id(leader, node & 1 == 1)
        }))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let (purged, last) = self.store().ends()?;
        Ok(LogState { last_purged_log_id: purged.map(log_id), last_log_id: last.map(log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> io::Result<()> {
        let (leader, committed) = (vote.leader_id(), vote.is_committed());
        self.store().save_vote(Vote { term: leader.term, node: leader.voted_for << 1 | u64::from(committed) })
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOf<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entry = |e: EntryOf<Types>| {
            Ok(Entry { id: numbers(&e.log_id), payload: serde_json::to_string(&e.payload)? })
        };
        let entries: io::Result<Vec<Entry>> = entries.into_iter().map(entry).collect();
        self.store().append(entries?, Box::new(|done| callback.io_completed(done)))
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types>>) -> io::Result<()> {
        self.store().truncate(last.map_or(0, |id| id.index() + 1))
    }

    async fn purge(&mut self, id: LogIdOf<Types>) -> io::Result<()> {
        self.store().purge(numbers(&id))
    }
}

/// What a machine has applied.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    last_applied: Option<LogIdOf<Types>>,
    membership: StoredMembershipOf<Types>,
    values: BTreeMap<u64, String>,
}

/// A snapshot's description and its bytes.
type Stored = (SnapshotMetaOf<Types>, Vec<u8>);

/// A state machine in memory, for stores that keep logs alone.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    state: Arc<Mutex<State>>,
    snapshot: Arc<Mutex<Option<Stored>>>,
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, Vec<u8>>> {
        let state = self.state.lock().expect("no panic under the lock").clone();
        let snapshot = serde_json::to_vec(&state)?;
        let meta =
            SnapshotMetaOf::<Types> { last_log_id: state.last_applied, last_membership: state.membership };
        *self.snapshot.lock().expect("no panic under the lock") = Some((meta.clone(), snapshot.clone()));
        Ok(SnapshotOf::<Types, _> { meta, snapshot })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>)> {
        let state = self.state.lock().expect("no panic under the lock");
        Ok((state.last_applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: futures_util::Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some(next) = futures_util::StreamExt::next(&mut entries).await {
            let (entry, responder) = next?;
            let mut state = self.state.lock().expect("no panic under the lock");
            state.last_applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(value) => drop(state.values.insert(entry.log_id.index(), value)),
                EntryPayload::Membership(m) => {
                    state.membership = StoredMembershipOf::<Types>::new(Some(entry.log_id), m);
                }
            }
            drop(state);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Types>, snapshot: Vec<u8>) -> io::Result<()> {
        *self.state.lock().expect("no panic under the lock") = serde_json::from_slice(&snapshot)?;
        *self.snapshot.lock().expect("no panic under the lock") = Some((meta.clone(), snapshot));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, Vec<u8>>>> {
        let stored = self.snapshot.lock().expect("no panic under the lock").clone();
        Ok(stored.map(|(meta, snapshot)| SnapshotOf::<Types, _> { meta, snapshot }))
    }
}
