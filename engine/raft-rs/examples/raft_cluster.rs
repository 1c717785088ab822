//! Three nodes of raft-rs in one process, two groups each: elect, write, snapshot, restart all, read.
//!
//! `cargo run --release -p seawall-raft --example raft_cluster`
//!
//! The loop of a node is [`Member::turn`]: what the readies of its groups say is one batch and one sync, and
//! persisted messages go out only after it.
#![expect(
    clippy::field_reassign_with_default,
    reason = "the codecs generate different structs, which are made alike only this way"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use raft::eraftpb::{ConfState, Entry, EntryType, Message};
use raft::{Config, RawNode, StateRole};
use seawall::{CreateOptions, Engine, Options};
use seawall_raft::{Group, Writer};

const NODES: std::ops::RangeInclusive<u64> = 1..=3;
const GROUPS: std::ops::RangeInclusive<u64> = 1..=2;

/// A message and the group that it belongs to.
type Mail = (u64, Message);

/// One group of a node: raft, and a state machine of keys and values.
struct Replica {
    raw: RawNode<Group>,
    values: BTreeMap<String, String>,
    applied: u64,
    conf: ConfState,
}

/// One node.
struct Member {
    engine: Arc<Engine>,
    replicas: BTreeMap<u64, Replica>,
}

/// The state of a machine as text: a line for each key.
fn text(values: &BTreeMap<String, String>) -> String {
    values.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

fn parse(text: &[u8]) -> Result<BTreeMap<String, String>> {
    let lines = std::str::from_utf8(text)?.lines();
    lines.map(|line| set(line).context("a line of a snapshot")).collect()
}

fn set(command: &str) -> Option<(String, String)> {
    command.split_once('=').map(|(key, value)| (key.into(), value.into()))
}

impl Replica {
    fn open(engine: &Arc<Engine>, node: u64, id: u64) -> Result<Self> {
        let group = Group::open(engine, id)?;
        let mut conf = ConfState::default();
        conf.voters = NODES.collect();
        group.bootstrap(&conf, b"")?;
        // Raft begins at the snapshot and hands out what was committed after it once more.
        let applied = group.applied()?;
        let snapshot = raft::Storage::snapshot(&group, applied, node)?;
        let config = Config { id: node, applied, election_tick: 10, heartbeat_tick: 3, ..Config::default() };
        let raw = RawNode::new(&config, group, &slog::Logger::root(slog::Discard, slog::o!()))?;
        let conf = snapshot.get_metadata().get_conf_state().clone();
        Ok(Self { raw, values: parse(&snapshot.data)?, applied, conf })
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<()> {
        for entry in entries {
            self.applied = entry.index;
            match entry.get_entry_type() {
                EntryType::EntryNormal => {
                    self.values.extend(set(std::str::from_utf8(&entry.data)?));
                }
                other => anyhow::bail!("the example proposes no {other:?}"),
            }
        }
        Ok(())
    }

    /// Keeps what was applied as a snapshot, and drops the entries that it covers.
    fn snapshot(&self) -> Result<()> {
        let group = self.raw.store();
        group.save_snapshot(self.applied, &self.conf, text(&self.values).as_bytes())?;
        group.compact(self.applied)?;
        Ok(())
    }
}

impl Member {
    fn open(dir: &Path, node: u64) -> Result<Self> {
        let options = Options { expect: Some((1, node)), ..Options::default() };
        let (engine, report) = Engine::open(dir.join(node.to_string()), options)?;
        ensure!(report.lost.is_empty(), "node {node}: {report}");
        let engine = Arc::new(engine);
        let replicas = GROUPS.map(|id| Ok((id, Replica::open(&engine, node, id)?)));
        let replicas = replicas.collect::<Result<_>>()?;
        Ok(Self { engine, replicas })
    }

    /// Handles the readies of all groups; the messages that may go out.
    fn turn(&mut self) -> Result<Vec<Mail>> {
        let mut out = Vec::new();
        let mut readies = Vec::new();
        let mut writer = Writer::new(&self.engine);
        for (id, replica) in self.replicas.iter_mut().filter(|(_, replica)| replica.raw.has_ready()) {
            let mut ready = replica.raw.ready();
            out.extend(ready.take_messages().into_iter().map(|message| (*id, message)));
            writer.ready(replica.raw.store(), &ready)?;
            if !ready.snapshot().is_empty() {
                let snapshot = ready.snapshot();
                replica.values = parse(&snapshot.data)?;
                replica.applied = snapshot.get_metadata().index;
                replica.conf = snapshot.get_metadata().get_conf_state().clone();
            }
            replica.apply(ready.take_committed_entries())?;
            readies.push((*id, ready));
        }
        // One sync for all groups; none if no ready must be synced.
        writer.submit()?.wait()?;
        let mut writer = Writer::new(&self.engine);
        for (id, mut ready) in readies {
            out.extend(ready.take_persisted_messages().into_iter().map(|message| (id, message)));
            let replica = self.replicas.get_mut(&id).context("a group of this node")?;
            let mut light = replica.raw.advance(ready);
            if let Some(commit) = light.commit_index() {
                writer.commit(replica.raw.store(), commit)?;
            }
            out.extend(light.take_messages().into_iter().map(|message| (id, message)));
            replica.apply(light.take_committed_entries())?;
            replica.raw.advance_apply();
        }
        // A commit index is worth no sync of its own.
        writer.submit()?.wait()?;
        Ok(out)
    }
}

struct Cluster {
    members: BTreeMap<u64, Member>,
}

impl Cluster {
    fn open(dir: &Path) -> Result<Self> {
        let members = NODES.map(|node| Ok((node, Member::open(dir, node)?)));
        Ok(Self { members: members.collect::<Result<_>>()? })
    }

    /// Closes every store. A handle that is still held would make it an unclean close.
    fn close(self) -> Result<()> {
        for (node, Member { engine, replicas }) in self.members {
            drop(replicas);
            let engine = Arc::into_inner(engine);
            engine.with_context(|| format!("node {node} still holds its store"))?.close()?;
        }
        Ok(())
    }

    /// Lets time pass and messages flow until `done`.
    fn run(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        for _ in 0..20_000 {
            if done(self)? {
                return Ok(());
            }
            let mut mail = Vec::new();
            for member in self.members.values_mut() {
                for replica in member.replicas.values_mut() {
                    replica.raw.tick();
                }
                mail.extend(member.turn()?);
            }
            for (group, message) in mail {
                let to = self.members.get_mut(&message.to).context("a node")?;
                // Raft refuses what is out of date; that is no error of the cluster.
                drop(to.replicas.get_mut(&group).context("a group")?.raw.step(message));
            }
        }
        anyhow::bail!("waited too long for {what}")
    }

    fn leader(&mut self, group: u64) -> Option<(u64, &mut Replica)> {
        let led = |replica: &Replica| replica.raw.raft.state == StateRole::Leader;
        let replicas = self.members.iter_mut().map(|(node, m)| (*node, m.replicas.get_mut(&group)));
        replicas.filter_map(|(node, replica)| Some((node, replica?))).find(|(_, replica)| led(replica))
    }

    fn elect(&mut self) -> Result<()> {
        self.run("leaders", |cluster| Ok({ GROUPS }.all(|group| cluster.leader(group).is_some())))?;
        for group in GROUPS {
            let (node, _) = self.leader(group).context("just seen")?;
            println!("group {group}: elected node {node}");
        }
        Ok(())
    }

    /// Writes keys in every group and waits until every node has applied them.
    fn write(&mut self, keys: std::ops::Range<u32>) -> Result<()> {
        for key in keys.clone() {
            for group in GROUPS {
                self.run("a leader", |cluster| Ok(cluster.leader(group).is_some()))?;
                let (_, leader) = self.leader(group).context("just seen")?;
                leader
                    .raw
                    .propose(Vec::new(), format!("key {key:04}=value {key} of {group}").into_bytes())?;
            }
        }
        let count = keys.end as usize;
        self.run("all applied", |cluster| {
            let mut replicas = cluster.members.values().flat_map(|member| member.replicas.values());
            Ok(replicas.all(|replica| replica.values.len() == count))
        })
    }
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for node in NODES {
        let create = CreateOptions { segment_bytes: 4 << 20, ..CreateOptions::new(1, node) };
        Engine::create(dir.path().join(node.to_string()), &create)?;
    }
    let mut cluster = Cluster::open(dir.path())?;
    cluster.elect()?;
    cluster.write(0..100)?;
    println!("wrote 100 values in each group");
    for replica in cluster.members.values().flat_map(|member| member.replicas.values()) {
        replica.snapshot()?;
    }
    println!("each took its snapshots");
    cluster.write(100..120)?;
    cluster.close()?;
    println!("stopped all");

    let mut cluster = Cluster::open(dir.path())?;
    cluster.elect()?;
    cluster.write(120..121)?;
    for group in GROUPS {
        let (_, leader) = cluster.leader(group).context("a leader")?;
        ensure!(leader.values.len() == 121, "{} values of 121 are there", leader.values.len());
        ensure!(leader.values["key 0042"] == format!("value 42 of {group}"), "a value changed");
    }
    println!("read 121 values of each group back");
    cluster.close()
}
