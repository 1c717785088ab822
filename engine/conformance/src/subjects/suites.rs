//! openraft's suites over seawall on a real disk, with a state machine that keeps its snapshots in the store.
//!
//! I own how the store is made and closed. The state machines are those of seawall-openraft's examples. The
//! suites are large generic code: they are compiled here once, for the command and for every test.

#[path = "../../../openraft/examples/cluster_0_10/machine.rs"]
mod machine_0_10;
#[path = "../../../openraft/examples/cluster/machine.rs"]
mod machine_0_9;

use std::io;
use std::path::Path;
use std::time::Duration;

use seawall::{CreateOptions, Options};
use seawall_openraft::{Node, v0_9, v0_10};

use crate::outcome::Tally;
use crate::suite::Subject;
use crate::{suite_0_9, suite_0_10};

/// The group under test.
const GROUP: u64 = 7;

/// The suite of openraft 0.9.
#[must_use]
pub fn nine() -> Tally {
    suite_0_9::plain(Nine)
}

/// The suite of openraft 0.9, the store opened anew before every call.
#[must_use]
pub fn nine_reopened() -> Tally {
    suite_0_9::reopened(Nine)
}

/// The suite of openraft 0.10.
#[must_use]
pub fn ten() -> Tally {
    suite_0_10::plain(Ten)
}

/// The suite of openraft 0.10, the store opened anew before every call.
#[must_use]
pub fn ten_reopened() -> Tally {
    suite_0_10::reopened(Ten)
}

fn open_node(dir: &Path) -> io::Result<Node> {
    if !dir.exists() {
        let create = CreateOptions { segment_bytes: 64 << 10, unit: 512, ..CreateOptions::new(1, 1) };
        Node::create(dir, &create).map_err(io::Error::other)?;
    }
    let (node, report) = Node::open(dir, 1, 1, Options::default()).map_err(io::Error::other)?;
    assert!(report.clean && !report.is_alarm(), "{report}");
    Ok(node)
}

async fn close_node(node: Node) -> io::Result<()> {
    match node.close(Duration::from_secs(10)).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(io::Error::other("somebody holds the store")),
        Err(e) => Err(io::Error::other(e)),
    }
}

struct Nine;

impl Subject for Nine {
    type Config = machine_0_9::Types;
    type Log = v0_9::Log<machine_0_9::Types>;
    type Machine = machine_0_9::Machine;
    type Open = Node;

    async fn open(&self, dir: &Path) -> io::Result<(Node, Self::Log, Self::Machine)> {
        let node = open_node(dir)?;
        let snapshots = v0_9::Snapshots::open(&node, GROUP).map_err(io::Error::other)?;
        let log = v0_9::Log::open(&node, GROUP).map_err(io::Error::other)?;
        Ok((node, log, machine_0_9::Machine::restore(snapshots).map_err(io::Error::other)?))
    }

    async fn close(&self, node: Node) -> io::Result<()> {
        close_node(node).await
    }
}

struct Ten;

impl Subject for Ten {
    type Config = machine_0_10::Types;
    type Log = v0_10::Log<machine_0_10::Types>;
    type Machine = machine_0_10::Machine;
    type Open = Node;

    async fn open(&self, dir: &Path) -> io::Result<(Node, Self::Log, Self::Machine)> {
        let node = open_node(dir)?;
        let snapshots = v0_10::Snapshots::open(&node, GROUP).map_err(io::Error::other)?;
        let log = v0_10::Log::open(&node, GROUP).map_err(io::Error::other)?;
        Ok((node, log, machine_0_10::Machine::restore(snapshots)?))
    }

    async fn close(&self, node: Node) -> io::Result<()> {
        close_node(node).await
    }
}
