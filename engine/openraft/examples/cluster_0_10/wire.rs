//! The network of a cluster in one process: calls go straight to the other node's handle.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};

use openraft_0_10::BasicNode;
use openraft_0_10::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError};
use openraft_0_10::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft_0_10::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft_0_10::type_config::alias::{SnapshotOf, VoteOf};

use super::{Raft, Types};

/// What a node calls another by.
#[derive(Clone, Default)]
pub(crate) struct Wire {
    /// The nodes that are up.
    pub(crate) nodes: Arc<Mutex<BTreeMap<u64, Raft>>>,
    to: u64,
}

fn failed(e: impl std::fmt::Display) -> NetworkError<Types> {
    NetworkError::from_string(e)
}

impl Wire {
    fn peer(&self) -> Result<Raft, NetworkError<Types>> {
        let nodes = self.nodes.lock().expect("no panic under the lock");
        nodes.get(&self.to).cloned().ok_or_else(|| failed("the node is down"))
    }
}

impl RaftNetworkFactory<Types> for Wire {
    type Network = Self;

    async fn new_client(&mut self, to: u64, _: &BasicNode) -> Self {
        Self { to, ..self.clone() }
    }
}

impl RaftNetworkV2<Types> for Wire {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.peer()?.append_entries(request).await.map_err(|e| failed(e).into())
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.peer()?.vote(request).await.map_err(|e| failed(e).into())
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, Vec<u8>>,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let installed = self.peer()?.install_full_snapshot(vote, snapshot).await;
        installed.map_err(|e| StreamingError::Network(failed(e)))
    }
}
