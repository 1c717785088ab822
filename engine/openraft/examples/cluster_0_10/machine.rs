//! A small state machine for openraft 0.10 that keeps its snapshots in the store.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt};
use openraft_0_10 as openraft;

use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use seawall::vfs::Vfs;
use seawall::vfs::os::OsVfs;
use seawall_openraft::v0_10::Snapshots;
use serde::{Deserialize, Serialize};

/// A command: set a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Set {
    /// The key.
    pub(crate) key: String,
    /// The value.
    pub(crate) value: String,
}

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {}", self.key, self.value)
    }
}

openraft::declare_raft_types!(
    /// The types of the example.
    pub(crate) Types: D = Set, R = ()
);

/// What has been applied.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    last_applied: Option<LogIdOf<Types>>,
    membership: StoredMembershipOf<Types>,
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
    pub(crate) fn restore(snapshots: Snapshots<Types, V>) -> io::Result<Self> {
        let state = match snapshots.load()? {
            Some((_, content)) => serde_json::from_slice(&content)?,
            None => State::default(),
        };
        Ok(Self { snapshots, state: Arc::new(Mutex::new(state)) })
    }

    /// The applied state.
    pub(crate) fn state(&self) -> State {
        self.state.lock().expect("no panic under the lock").clone()
    }
}

impl<V: Vfs> RaftSnapshotBuilder<Types> for Machine<V> {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, Vec<u8>>> {
        let state = self.state();
        let snapshot = serde_json::to_vec(&state)?;
        let meta =
            SnapshotMetaOf::<Types> { last_log_id: state.last_applied, last_membership: state.membership };
        self.snapshots.save(&meta, &snapshot)?;
        Ok(SnapshotOf::<Types, _> { meta, snapshot })
    }
}

impl<V: Vfs> RaftStateMachine<Types> for Machine<V> {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>)> {
        let state = self.state();
        Ok((state.last_applied, state.membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let mut state = self.state.lock().expect("no panic under the lock");
            state.last_applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(set) => drop(state.values.insert(set.key, set.value)),
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
        let state = serde_json::from_slice(&snapshot)?;
        self.snapshots.save(meta, &snapshot)?;
        *self.state.lock().expect("no panic under the lock") = state;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, Vec<u8>>>> {
        Ok(self.snapshots.load()?.map(|(meta, snapshot)| SnapshotOf::<Types, _> { meta, snapshot }))
    }
}
