//! What a recovery found and did, as a typed value and as JSON.
//!
//! I own the words of the report and what counts as an alarm. I decide nothing (see recovery).

use std::fmt;

use serde::Serialize;

use crate::types::{Epoch, GroupId, Index, Position, SegmentId, Term};

/// Positions that may have been acknowledged although nothing on disk says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MaybeAcked {
    /// The largest mark: everything up to here was acknowledged, and is there or in `lost`.
    pub above: Position,
    /// The highest position seen on disk.
    pub observed: Position,
}

/// How the newest segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tail {
    /// Sealed by a close.
    Sealed,
    /// Sealed by a rotation or a recovery, which was cut short before it went on in the next segment.
    Ended,
    /// Ends after its last whole batch.
    Whole,
    /// A batch above the largest mark is torn; it was dropped.
    Torn,
}

/// Something that was acknowledged and is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Lost {
    /// Entries of a group.
    Entries {
        /// The group.
        group: GroupId,
        /// The first lost index.
        from: Index,
        /// The last lost index.
        to: Index,
        /// Their term, where a name survived.
        term: Option<Term>,
    },
    /// A vote.
    Vote {
        /// The group.
        group: GroupId,
    },
    /// A suffix truncation.
    Truncate {
        /// The group.
        group: GroupId,
        /// The first truncated index.
        from: Index,
    },
    /// A prefix compaction.
    Purge {
        /// The group.
        group: GroupId,
        /// The last compacted index.
        to: Index,
    },
    /// A commit index.
    Commit {
        /// The group.
        group: GroupId,
        /// The index.
        index: Index,
    },
    /// A snapshot pointer, or the snapshot that it names.
    SnapshotPointer {
        /// The group.
        group: GroupId,
        /// The last index that it covers.
        index: Index,
    },
    /// A creation or a removal.
    GroupEvent {
        /// The group.
        group: GroupId,
    },
    /// Records without a surviving name.
    Unnamed {
        /// The first position.
        from: Position,
        /// The last position.
        to: Position,
    },
    /// A record that its group's log cannot have had there, whatever its checksums say: no writer made it. What
    /// comes after it is not believed either.
    Unsound {
        /// Its position.
        position: Position,
        /// Its group.
        group: GroupId,
    },
    /// The state of every group as of a position.
    State {
        /// The segment whose checkpoint is gone.
        segment: SegmentId,
    },
    /// A whole file that must be there.
    File {
        /// Its name.
        name: String,
    },
}

impl Lost {
    /// The group that it belongs to; `None` if it may be any.
    #[must_use]
    pub fn group(&self) -> Option<GroupId> {
        match self {
            Self::Entries { group, .. }
            | Self::Vote { group }
            | Self::Truncate { group, .. }
            | Self::Purge { group, .. }
            | Self::Commit { group, .. }
            | Self::SnapshotPointer { group, .. }
            | Self::Unsound { group, .. }
            | Self::GroupEvent { group } => Some(*group),
            Self::Unnamed { .. } | Self::State { .. } | Self::File { .. } => None,
        }
    }
}

/// Damage that redundancy made good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// The file.
    pub file: String,
    /// What was made good, and from what.
    pub what: &'static str,
}

/// What an open found and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecoveryReport {
    /// The epoch of this open; of a read-only one, the newest epoch on disk.
    pub epoch: Epoch,
    /// A close or a rotation sealed the newest segment.
    pub clean: bool,
    /// How the newest segment ended.
    pub tail: Tail,
    /// The last position of the state that open returned.
    pub position: Position,
    /// Present unless a seal or a clean close preceded: information, not an alarm.
    pub maybe_acked: Option<MaybeAcked>,
    /// What was acknowledged and is gone, by name.
    pub lost: Vec<Lost>,
    /// What redundancy made good.
    pub repaired: Vec<Repair>,
    /// Where damaged bytes were set aside before they were changed.
    pub quarantined: Vec<String>,
    /// Records above the mark that were written again into fresh space.
    pub rewritten: u64,
    /// Files in the directory that are not ours; left alone.
    pub unknown: Vec<String>,
    /// What the file system cannot promise, whatever is synced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caveat: Option<&'static str>,
}

impl RecoveryReport {
    /// Whether it says more than a plain crash may: something was lost or repaired.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        !self.lost.is_empty() || !self.repaired.is_empty() || !self.quarantined.is_empty()
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}, position {}", self.epoch, self.position)?;
        if let Some(m) = self.maybe_acked {
            write!(f, ", maybe acknowledged above {} (seen up to {})", m.above, m.observed)?;
        }
        for lost in &self.lost {
            write!(f, ", lost {lost:?}")?;
        }
        for repair in &self.repaired {
            write!(f, ", repaired {}: {}", repair.file, repair.what)?;
        }
        for copy in &self.quarantined {
            write!(f, ", set aside {copy}")?;
        }
        if let Some(caveat) = self.caveat {
            write!(f, ", beware: {caveat}")?;
        }
        Ok(())
    }
}
