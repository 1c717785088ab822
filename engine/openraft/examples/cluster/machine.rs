//! A small state machine for openraft 0.9 that keeps its snapshots in the store.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex};

use openraft_0_9 as openraft;

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    BasicNode, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StorageError,
    StorageIOError, StoredMembership,
};
use seawall::vfs::Vfs;
use seawall::vfs::os::OsVfs;
use seawall_openraft::v0_9::Snapshots;
use serde::{Deserialize, Serialize};

/// A command: set a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Set {
    /// The key.
    pub(crate) key: String,
    /// The value.
    pub(crate) value: String,
}

openraft::declare_raft_types!(
    /// The types of the example.
    pub(crate) Types: D = Set, R = (), Node = BasicNode
);

type Failure = StorageError<u64>;
type Meta = SnapshotMeta<u64, BasicNode>;

/// What has been applied.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    last_applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, BasicNode>,
    /// The values.
    pub(crate) values: BTreeMap<String, String>,
}

/// The state machine of one group.
pub(crate) struct Machine<V: Vfs = OsVfs> {
    snapshots: Snapshots<Types, V>,
    state: Arc<Mutex<State>>,
}

impl<V: Vfs> Clone for Machine<V> {
    fn clone(&self) -> Self {
        Self { snapshots: self.snapshots.clone(), state: self.state.clone() }
    }
}

impl<V: Vfs> Machine<V> {
    /// The machine as its newest snapshot left it; openraft applies what follows from the log.
    pub(crate) fn restore(snapshots: Snapshots<Types, V>) -> Result<Self, Failure> {
        let state = match snapshots.load()? {
            Some((_, content)) => parse(&content)?,
            None => State::default(),
        };
        Ok(Self { snapshots, state: Arc::new(Mutex::new(state)) })
    }

    /// The applied state.
    pub(crate) fn state(&self) -> State {
        self.state.lock().expect("no panic under the lock").clone()
    }
}

fn parse(content: &[u8]) -> Result<State, Failure> {
    serde_json::from_slice(content).map_err(|e| StorageIOError::read_snapshot(None, &e).into())
}

impl<V: Vfs> RaftSnapshotBuilder<Types> for Machine<V> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Failure> {
        let state = self.state();
        let content = serde_json::to_vec(&state).map_err(|e| StorageIOError::read_state_machine(&e))?;
        let last = state.last_applied.map_or_else(String::new, |id| id.to_string());
        let meta = Meta {
            last_log_id: state.last_applied,
            last_membership: state.membership,
            snapshot_id: format!("{last}-{}", content.len()),
        };
        self.snapshots.save(&meta, &content)?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(content)) })
    }
}

impl<V: Vfs> RaftStateMachine<Types> for Machine<V> {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>), Failure> {
        let state = self.state();
        Ok((state.last_applied, state.membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, Failure>
    where
        I: IntoIterator<Item = openraft::Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut state = self.state.lock().expect("no panic under the lock");
        let apply = |entry: openraft::Entry<Types>| {
            state.last_applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(set) => drop(state.values.insert(set.key, set.value)),
                EntryPayload::Membership(m) => {
                    state.membership = StoredMembership::new(Some(entry.log_id), m);
                }
            }
        };
        Ok(entries.into_iter().map(apply).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, Failure> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Box<Cursor<Vec<u8>>>) -> Result<(), Failure> {
        let content = snapshot.into_inner();
        let state = parse(&content)?;
        self.snapshots.save(meta, &content)?;
        *self.state.lock().expect("no panic under the lock") = state;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, Failure> {
        let stored = self.snapshots.load()?;
        Ok(stored.map(|(meta, content)| Snapshot { meta, snapshot: Box::new(Cursor::new(content)) }))
    }
}
