//! How a store stands, as plain values.
//!
//! I own the shapes that operators and hosts read. I hold no logic.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::Lost;
use crate::types::{Epoch, GroupId, Identity, Incarnation, Index, LogId, Position, SnapshotPointer, Vote};

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// Tells it from an earlier group of the same id.
    pub incarnation: Incarnation,
    /// The first index of the log.
    pub first: Index,
    /// The last entry, or the last one compacted away.
    pub last: LogId,
    /// The last entry compacted away.
    pub purged: LogId,
    /// The newest vote.
    pub vote: Option<Vote>,
    /// The commit index.
    pub commit: Index,
    /// The snapshot pointer.
    pub snapshot: Option<SnapshotPointer>,
    /// The last index that is durable.
    pub durable_last: Index,
    /// What it lacks of what was acknowledged; while this is not empty it takes no vote and no entry.
    pub lost: Vec<Lost>,
}

/// A store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whose it is.
    pub identity: Identity,
    /// The epoch of this open.
    pub epoch: Epoch,
    /// The format version.
    pub format: u32,
    /// The alignment unit in bytes.
    pub unit: u32,
    /// Bytes in a segment.
    pub segment_bytes: u64,
    /// Segments with records, the active one included.
    pub segments: usize,
    /// Prepared segments.
    pub reserve: usize,
    /// The last position submitted.
    pub submitted: Position,
    /// The last position acknowledged.
    pub durable: Position,
    /// Bytes that wait for durability.
    pub in_flight_bytes: u64,
    /// The store's files lost their names under this handle: somebody removed them, or the directory. What is
    /// acknowledged is gone when the handle is.
    pub removed: bool,
    /// The error that poisoned the handle.
    pub poison: Option<String>,
    /// Every group.
    pub groups: BTreeMap<GroupId, GroupStatus>,
}
