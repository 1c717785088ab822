//! Three nodes in one process: elect, write, snapshot, restart all of them, read.
//!
//! `cargo run --release -p seawall-openraft --example cluster`

mod machine;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use machine::{Machine, Set, Types};
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{BasicNode, Config, Raft};
use seawall::{CreateOptions, Options};
use seawall_openraft::Node;

/// Calls go straight to the other node's handle.
#[derive(Clone, Default)]
struct Wire {
    nodes: Arc<Mutex<BTreeMap<u64, Raft<Types>>>>,
    to: u64,
}

type Failed<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

impl Wire {
    fn peer<E: std::error::Error>(&self) -> Result<Raft<Types>, Failed<E>> {
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

struct Member {
    raft: Raft<Types>,
    machine: Machine,
    store: Node,
}

async fn start(dir: &Path, id: u64, wire: &Wire) -> Result<Member> {
    let create = CreateOptions { segment_bytes: 4 << 20, ..CreateOptions::new(1, id) };
    let (store, report) = Node::open(dir.join(id.to_string()), &create, Options::default())?;
    ensure!(report.lost.is_empty(), "node {id}: {report}");
    let machine = Machine::restore(store.snapshots(1)?)?;
    let config = Config {
        heartbeat_interval: 100,
        election_timeout_min: 400,
        election_timeout_max: 800,
        ..Config::default()
    };
    let raft =
        Raft::new(id, Arc::new(config.validate()?), wire.clone(), store.log(1)?, machine.clone()).await?;
    wire.nodes.lock().expect("no panic under the lock").insert(id, raft.clone());
    Ok(Member { raft, machine, store })
}

async fn leader(members: &BTreeMap<u64, Member>) -> Result<u64> {
    let any = members.values().next().context("three nodes")?;
    let wait = any.raft.wait(Some(Duration::from_secs(30)));
    let metrics = wait.metrics(|m| m.current_leader.is_some(), "a leader").await?;
    metrics.current_leader.context("just seen")
}

async fn write(members: &BTreeMap<u64, Member>, keys: std::ops::Range<u32>) -> Result<()> {
    for key in keys {
        let set = Set { key: format!("key {key:04}"), value: format!("value {key}") };
        members[&leader(members).await?].raft.client_write(set).await?;
    }
    Ok(())
}

async fn stop(members: BTreeMap<u64, Member>, wire: &Wire) -> Result<()> {
    wire.nodes.lock().expect("no panic under the lock").clear();
    for Member { raft, machine, store } in members.into_values() {
        raft.shutdown().await?;
        drop((raft, machine));
        // The tasks of the node may hold the store for a moment more.
        drop(store);
    }
    Ok(())
}

async fn start_all(dir: &Path, wire: &Wire) -> Result<BTreeMap<u64, Member>> {
    let mut members = BTreeMap::new();
    for id in 1..=3 {
        let mut tries = 0;
        let member = loop {
            match start(dir, id, wire).await {
                Err(e) if tries < 100 && e.to_string().contains("locked") => tries += 1,
                other => break other?,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        members.insert(id, member);
    }
    Ok(members)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let wire = Wire::default();
    let members = start_all(dir.path(), &wire).await?;
    let nodes: BTreeMap<u64, BasicNode> = (1..=3).map(|id| (id, BasicNode::default())).collect();
    members[&1].raft.initialize(nodes).await?;
    println!("elected node {}", leader(&members).await?);
    write(&members, 0..100).await?;
    println!("wrote 100 values");
    for member in members.values() {
        let applied =
            |m: &openraft::RaftMetrics<u64, BasicNode>| m.last_applied.is_some_and(|id| id.index >= 100);
        member.raft.wait(Some(Duration::from_secs(30))).metrics(applied, "all applied").await?;
        member.raft.trigger().snapshot().await?;
        let taken = |m: &openraft::RaftMetrics<u64, BasicNode>| m.snapshot.is_some();
        member.raft.wait(Some(Duration::from_secs(30))).metrics(taken, "a snapshot").await?;
    }
    println!("each took a snapshot");
    write(&members, 100..120).await?;
    stop(members, &wire).await?;
    println!("stopped all");

    let members = start_all(dir.path(), &wire).await?;
    println!("restarted; elected node {}", leader(&members).await?);
    write(&members, 120..121).await?;
    let first = &members[&leader(&members).await?];
    let values = first.machine.state().values;
    ensure!(values.len() == 121, "{} values of 121 are there", values.len());
    ensure!(values["key 0042"] == "value 42", "a value changed");
    println!("read {} values back", values.len());
    Ok(())
}
