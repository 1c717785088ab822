//! What a workload asks of an engine, the same of each.
//!
//! I own the trait that every engine is driven through. (B1) `append` returns only when the items are
//! durable by the engine's own word; whether it syncs is counted from outside. I know no engine.

use std::sync::Arc;

use crate::drive::Done;

/// One entry for one group.
#[derive(Clone, Debug)]
pub struct Item {
    /// The group; an engine without groups writes all of them into its one log.
    pub group: u64,
    /// The entry's index in its group; the first is 1.
    pub index: u64,
    /// Its bytes.
    pub data: Arc<[u8]>,
}

/// An engine that is open on a directory of its own.
pub trait Subject: Send + Sync {
    /// Appends the items as one batch and waits until it is durable.
    fn append(&self, items: &[Item]) -> anyhow::Result<()>;

    /// What is at or below the index is needed no more, in each of these groups.
    fn forget(&self, upto: &[(u64, u64)]) -> anyhow::Result<()>;

    /// Reads entries of a group, and gives how many bytes they have.
    ///
    /// # Errors
    /// If they are not all there, or this engine is not read here.
    fn read(&self, group: u64, first: u64, count: u64) -> anyhow::Result<u64> {
        anyhow::bail!("no entries {first} to {} of group {group} are read here", first + count - 1)
    }

    /// Appends one item and calls back when it is durable. `Err` gives the arguments back: this
    /// engine has no such call, and its host batches what is waiting (see `drive`).
    fn submit(&self, item: Item, done: Done) -> Result<(), (Item, Done)> {
        Err((item, done))
    }
}
