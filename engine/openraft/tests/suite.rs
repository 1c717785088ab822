//! openraft's own suite, plainly and with a restart before every single call.

#[path = "../examples/cluster/machine.rs"]
mod machine;

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::Arc;

use machine::{Machine, Types};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote};
use seawall::{CreateOptions, Options};
use seawall_openraft::{Log, Node};
use tempfile::TempDir;
use tokio::sync::Mutex;

type Failure = StorageError<u64>;

fn open(dir: &TempDir, name: &str) -> Node {
    let create = CreateOptions { segment_bytes: 1 << 20, ..CreateOptions::new(1, 1) };
    let (node, report) = Node::open(dir.path().join(name), &create, Options::default()).unwrap();
    assert!(!report.is_alarm(), "{report}");
    node
}

struct Plain;

impl StoreBuilder<Types, Log<Types>, Machine, TempDir> for Plain {
    async fn build(&self) -> Result<(TempDir, Log<Types>, Machine), Failure> {
        let dir = tempfile::tempdir().unwrap();
        let node = open(&dir, "store");
        let machine = Machine::restore(node.snapshots(7).unwrap())?;
        Ok((dir, node.log(7).unwrap(), machine))
    }
}

#[test]
fn the_official_suite_passes() {
    Suite::test_all(Plain).unwrap();
}

/// A log whose store is closed and opened again before every call.
#[derive(Clone)]
struct Restarting {
    dir: Arc<TempDir>,
    node: Arc<Mutex<Option<Node>>>,
}

impl Restarting {
    async fn log(&self) -> (tokio::sync::MutexGuard<'_, Option<Node>>, Log<Types>) {
        let mut slot = self.node.lock().await;
        if let Some(node) = slot.take() {
            assert!(node.close().unwrap(), "somebody else holds the store");
        }
        let node = open(&self.dir, "log");
        let log = node.log(7).unwrap();
        *slot = Some(node);
        (slot, log)
    }
}

struct Restarts;

impl StoreBuilder<Types, Restarting, Machine, Arc<TempDir>> for Restarts {
    async fn build(&self) -> Result<(Arc<TempDir>, Restarting, Machine), Failure> {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let machine = Machine::restore(open(&dir, "machine").snapshots(7).unwrap())?;
        Ok((dir.clone(), Restarting { dir, node: Arc::default() }, machine))
    }
}

impl RaftLogReader<Types> for Restarting {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<openraft::Entry<Types>>, Failure> {
        self.log().await.1.try_get_log_entries(range).await
    }
}

impl RaftLogStorage<Types> for Restarting {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, Failure> {
        self.log().await.1.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), Failure> {
        self.log().await.1.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, Failure> {
        self.log().await.1.read_vote().await
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), Failure> {
        self.log().await.1.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, Failure> {
        self.log().await.1.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), Failure>
    where
        I: IntoIterator<Item = openraft::Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.log().await.1.append(entries, callback).await
    }

    async fn truncate(&mut self, id: LogId<u64>) -> Result<(), Failure> {
        self.log().await.1.truncate(id).await
    }

    async fn purge(&mut self, id: LogId<u64>) -> Result<(), Failure> {
        self.log().await.1.purge(id).await
    }
}

#[test]
fn the_official_suite_passes_with_a_restart_before_every_call() {
    Suite::test_all(Restarts).unwrap();
}

#[test]
fn a_group_number_with_the_highest_bit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir, "store");
    let refused = node.log::<Types>(1 << 63).map(drop).unwrap_err();
    assert!(refused.to_string().contains("2^63"), "{refused}");
    assert!(node.log::<Types>(0).is_ok());
    let _: Failure = StorageIOError::read(&refused).into();
}
