//! What the cluster goes through, the same for both lines of openraft: three nodes are elected, write, take a
//! snapshot each, are stopped, restarted and read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seawall::{CreateOptions, Options};
use seawall_openraft::Node;

use super::openraft::{BasicNode, Config};
use super::{Log, Machine, PATIENCE, Raft, Set, Snapshots, Wire, snapshot};

struct Member {
    raft: Raft,
    machine: Machine,
    store: Node,
}

async fn start(dir: &Path, id: u64, wire: &Wire) -> Result<Member> {
    let (store, report) = Node::open(dir.join(id.to_string()), 1, id, Options::default())?;
    ensure!(report.lost.is_empty(), "node {id}: {report}");
    let machine = Machine::restore(Snapshots::open(&store, 1)?)?;
    let config = Config {
        heartbeat_interval: 100,
        election_timeout_min: 400,
        election_timeout_max: 800,
        ..Config::default()
    };
    let config = Arc::new(config.validate()?);
    let raft = Raft::new(id, config, wire.clone(), Log::open(&store, 1)?, machine.clone()).await?;
    wire.nodes.lock().expect("no panic under the lock").insert(id, raft.clone());
    Ok(Member { raft, machine, store })
}

async fn leader(members: &BTreeMap<u64, Member>) -> Result<u64> {
    let any = members.values().next().context("three nodes")?;
    let metrics = any.raft.wait(Some(PATIENCE)).metrics(|m| m.current_leader.is_some(), "a leader").await?;
    metrics.current_leader.context("just seen")
}

/// Writes through whoever leads; that another is elected meanwhile, on a busy machine, is no failure.
async fn write(members: &BTreeMap<u64, Member>, keys: std::ops::Range<u32>) -> Result<()> {
    for key in keys {
        let set = Set { key: format!("key {key:04}"), value: format!("value {key}") };
        let mut tries = 0;
        while let Err(e) = members[&leader(members).await?].raft.client_write(set.clone()).await {
            tries += 1;
            ensure!(tries < 100, "no leader takes a write: {e}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

async fn stop(members: BTreeMap<u64, Member>, wire: &Wire) -> Result<()> {
    wire.nodes.lock().expect("no panic under the lock").clear();
    for (id, Member { raft, machine, store }) in members {
        raft.shutdown().await?;
        drop((raft, machine));
        ensure!(store.close(Duration::from_secs(10)).await?, "node {id} still holds its store");
    }
    Ok(())
}

async fn start_all(dir: &Path, wire: &Wire) -> Result<BTreeMap<u64, Member>> {
    let mut members = BTreeMap::new();
    for id in 1..=3 {
        members.insert(id, start(dir, id, wire).await?);
    }
    Ok(members)
}

/// Runs it all.
pub(crate) async fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for id in 1..=3 {
        let create = CreateOptions { segment_bytes: 4 << 20, ..CreateOptions::new(1, id) };
        Node::create(dir.path().join(id.to_string()), &create)?;
    }
    let wire = Wire::default();
    let members = start_all(dir.path(), &wire).await?;
    let nodes: BTreeMap<u64, BasicNode> = (1..=3).map(|id| (id, BasicNode::default())).collect();
    members[&1].raft.initialize(nodes).await?;
    println!("elected node {}", leader(&members).await?);
    write(&members, 0..100).await?;
    println!("wrote 100 values");
    for member in members.values() {
        snapshot(&member.raft, 100).await?;
    }
    println!("each took a snapshot");
    write(&members, 100..120).await?;
    stop(members, &wire).await?;
    println!("stopped all");

    let members = start_all(dir.path(), &wire).await?;
    println!("restarted; elected node {}", leader(&members).await?);
    write(&members, 120..121).await?;
    let values = members[&leader(&members).await?].machine.state().values;
    ensure!(values.len() == 121, "{} values of 121 are there", values.len());
    ensure!(values["key 0042"] == "value 42", "a value changed");
    println!("read {} values back", values.len());
    stop(members, &wire).await
}
