//! Three nodes of openraft 0.9 in one process: elect, write, snapshot, restart all of them, read.
//!
//! `cargo run --release -p seawall-openraft --example cluster`

mod machine;
mod walk;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use machine::{Machine, Set, Types};
use openraft_0_9 as openraft;

use openraft::BasicNode;
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use seawall_openraft::v0_9::{Log, Snapshots};

type Raft = openraft::Raft<Types>;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Calls go straight to the other node's handle.
#[derive(Clone, Default)]
struct Wire {
    nodes: Arc<Mutex<BTreeMap<u64, Raft>>>,
    to: u64,
}

type Failed<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

impl Wire {
    fn peer<E: std::error::Error>(&self) -> Result<Raft, Failed<E>> {
        let nodes = self.nodes.lock().expect("no panic under the lock");
        let gone = || NetworkError::new(&std::io::Error::other("the node is down"));
        nodes.get(&self.to).cloned().ok_or_else(|| RPCError::Network(gone()))
    }
}

fn remote<E: std::error::Error>(e: RaftError<u64, E>) -> Failed<E> {
    RPCError::Network(NetworkError::new(&std::io::Error::other(e.to_string())))
}

impl RaftNetworkFactory<Types> for Wire {
    type Network = Self;

    async fn new_client(&mut self, to: u64, _: &BasicNode) -> Self {
        Self { to, ..self.clone() }
    }
}

impl RaftNetwork<Types> for Wire {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failed> {
        self.peer()?.append_entries(request).await.map_err(remote)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failed<InstallSnapshotError>> {
        self.peer()?.install_snapshot(request).await.map_err(remote)
    }

    async fn vote(&mut self, request: VoteRequest<u64>, _: RPCOption) -> Result<VoteResponse<u64>, Failed> {
        self.peer()?.vote(request).await.map_err(remote)
    }
}

/// Waits until a node has applied the entries up to an index, and lets it take a snapshot.
async fn snapshot(raft: &Raft, index: u64) -> anyhow::Result<()> {
    let wait = raft.wait(Some(PATIENCE));
    wait.metrics(|m| m.last_applied.is_some_and(|id| id.index >= index), "all applied").await?;
    raft.trigger().snapshot().await?;
    wait.metrics(|m| m.snapshot.is_some(), "a snapshot").await?;
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    walk::run().await
}
