//! Three nodes of openraft in one process over one kind of store, and clients that write to the leader.
//!
//! I own the cluster and the clock. A write is acknowledged when openraft says so: two of three stores called
//! it durable, and the leader's machine applied it. I do not know which store it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use openraft_0_10::storage::RaftLogStorage;
use openraft_0_10::{self as openraft, BasicNode, Config, SnapshotPolicy};
use seawall_conformance::for_openraft::{Machine, Types};
use serde::Serialize;
use wire::Wire;

#[path = "../../../engine/openraft/examples/cluster_0_10/wire.rs"]
mod wire;

type Raft = openraft::Raft<Types, Machine>;

/// How long the cluster may take for what is not measured.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked of the cluster.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Load {
    /// How many clients write, each one entry after the other.
    pub(crate) clients: usize,
    /// Bytes of an entry.
    pub(crate) bytes: usize,
    /// How long is measured, after a quarter of it that is not.
    pub(crate) seconds: f64,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) writes_per_second: f64,
    pub(crate) p50_micros: u64,
    pub(crate) p99_micros: u64,
}

fn config() -> Result<Arc<Config>> {
    let config = Config {
        heartbeat_interval: 200,
        // A busy disk is no reason for an election.
        election_timeout_min: 3_000,
        election_timeout_max: 4_000,
        snapshot_policy: SnapshotPolicy::Never,
        ..Config::default()
    };
    Ok(Arc::new(config.validate()?))
}

/// Runs three nodes, each over a store in a directory of its own below `dir`, under a load.
pub(crate) async fn run<L: RaftLogStorage<Types>>(
    dir: &Path,
    load: Load,
    open: impl Fn(u64, &Path) -> Result<L>,
) -> Result<Sample> {
    let wire = Wire::default();
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let log = open(id, &dir.join(id.to_string()))?;
        let raft = Raft::new(id, config()?, wire.clone(), log, Machine::default()).await?;
        wire.nodes.lock().expect("no panic under the lock").insert(id, raft.clone());
        nodes.push(raft);
    }
    let members: BTreeMap<u64, BasicNode> = (1..=3).map(|id| (id, BasicNode::default())).collect();
    nodes[0].initialize(members).await?;
    let leader = leader(&nodes).await?;
    write(leader, Load { seconds: load.seconds / 4.0, ..load }).await?;
    let sample = write(leader, load).await;
    wire.nodes.lock().expect("no panic under the lock").clear();
    for node in &nodes {
        node.shutdown().await?;
    }
    sample
}

/// The node that takes a first write.
async fn leader(nodes: &[Raft]) -> Result<&Raft> {
    let until = Instant::now() + PATIENCE;
    loop {
        let seen = nodes[0].wait(Some(PATIENCE)).metrics(|m| m.current_leader.is_some(), "a leader").await?;
        let leader = seen.current_leader.context("just seen")?;
        let leader = &nodes[usize::try_from(leader - 1)?];
        match leader.client_write(String::new()).await {
            Ok(_) => return Ok(leader),
            Err(e) => ensure!(Instant::now() < until, "no leader takes a write: {e}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lets the clients write for a while.
async fn write(leader: &Raft, load: Load) -> Result<Sample> {
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(load.seconds);
    let client = |raft: Raft| async move {
        let mut latencies = Histogram::<u64>::new(3)?;
        while Instant::now() < until {
            let sent = Instant::now();
            raft.client_write("x".repeat(load.bytes)).await?;
            latencies.record(u64::try_from(sent.elapsed().as_micros())?)?;
        }
        anyhow::Ok(latencies)
    };
    let clients: Vec<_> = (0..load.clients).map(|_| tokio::spawn(client(leader.clone()))).collect();
    let mut latencies = Histogram::<u64>::new(3)?;
    for client in clients {
        latencies.add(client.await??)?;
    }
    ensure!(!latencies.is_empty(), "nothing was written");
    Ok(Sample {
        writes_per_second: latencies.len() as f64 / began.elapsed().as_secs_f64(),
        p50_micros: latencies.value_at_quantile(0.5),
        p99_micros: latencies.value_at_quantile(0.99),
    })
}
