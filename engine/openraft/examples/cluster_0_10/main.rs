//! Three nodes of openraft 0.10 in one process: elect, write, snapshot, restart all of them, read.
//!
//! `cargo run --release -p seawall-openraft --features v0_10 --example cluster_0_10`

mod machine;
#[path = "../cluster/walk.rs"]
mod walk;
mod wire;

use std::time::Duration;

use machine::{Machine, Set, Types};
use openraft_0_10 as openraft;
use seawall_openraft::v0_10::{Log, Snapshots};
use wire::Wire;

type Raft = openraft::Raft<Types, Machine>;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a node has applied the entries up to an index, and lets it take a snapshot.
async fn snapshot(raft: &Raft, index: u64) -> anyhow::Result<()> {
    let wait = raft.wait(Some(PATIENCE));
    wait.metrics(|m| m.last_applied.is_some_and(|id| id.index() >= index), "all applied").await?;
    raft.trigger().snapshot().await?;
    wait.metrics(|m| m.snapshot.is_some(), "a snapshot").await?;
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    walk::run().await
}
