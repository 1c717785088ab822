//! The errors, named by what the caller does next; all detail is in fields.
//!
//! I own the kinds and their words. I know no file.

use std::io;
use std::time::Duration;

use crate::report::{Lost, RecoveryReport};
use crate::types::{GroupId, Identity, Index, LogId, Term, VoteKey};
use crate::vfs::{OutOfDescriptors, Unusual};

/// A result of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// Why admission was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverloadReason {
    /// Too many bytes wait for durability.
    Bytes,
    /// Too many entries wait for durability.
    Entries,
    /// One group holds its half of the window.
    GroupShare,
    /// As many snapshots as may be are being written.
    Snapshots,
}

fn in_group(group: Option<GroupId>) -> String {
    group.map_or_else(String::new, |id| format!(" in group {id}"))
}

/// What went wrong, and with it what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory is missing or empty of a store.
    #[error("not a store: {why}; check the path, or make a store with `create`")]
    NotAStore {
        /// What was found instead.
        why: String,
    },
    /// A `create` was cut short before anything was acknowledged.
    #[error("creation was cut short, and nothing was ever stored: remove the directory and create it again")]
    CreationIncomplete,
    /// `create` found something in the directory.
    #[error("the directory is not empty (found {found}); a store is created in an empty one")]
    NotEmpty {
        /// A name that is there.
        found: String,
    },
    /// Another process has the store open for writing.
    #[error("locked by another writer; open it read-only, or stop the other process")]
    Locked,
    /// The store belongs to somebody else.
    #[error("the store belongs to cluster {} node {}, not to cluster {} node {}", found.cluster, found.node, expected.0, expected.1)]
    WrongIdentity {
        /// Cluster and node that were asked for.
        expected: (u64, u64),
        /// Who it belongs to.
        found: Identity,
    },
    /// A newer program wrote this file.
    #[error("{file} has format version {found}, this program reads up to {supported}; use a newer program")]
    UnsupportedVersion {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The newest version that this program reads.
        supported: u32,
    },
    /// A feature bit that this program does not know.
    #[error("{file} uses features {bits:#x} that this program does not know; use a newer program")]
    UnsupportedFeature {
        /// The file.
        file: String,
        /// The unknown bits.
        bits: u32,
    },
    /// Open refused: what was acknowledged is damaged. Nothing was changed on disk.
    #[error("damaged: {report}; nothing was changed; read what is left with a read-only open")]
    Corrupt {
        /// What is lost, by name.
        report: Box<RecoveryReport>,
    },
    /// The host's witness saw more than the directory shows. Nothing was changed on disk.
    #[error("the directory was rolled back: {what} {found} where {witnessed} was seen{}; bring the node back as a new one, or from a peer", in_group(*group))]
    RolledBack {
        /// "epoch" or "commit index".
        what: &'static str,
        /// The group whose commit index it is.
        group: Option<GroupId>,
        /// What the witness saw.
        witnessed: u64,
        /// What the directory shows; for a commit index, the last entry.
        found: u64,
    },
    /// Open refused: a number of the store is so high that no store comes to it. Nothing was changed on disk.
    #[error(
        "{what} {found} is next to the end of all numbers, where no store comes: it is forged or damaged; read what is there with a read-only open"
    )]
    NumbersSpent {
        /// "epoch", "segment", "position", "event".
        what: &'static str,
        /// The number.
        found: u64,
    },
    /// Bytes that were asked for are damaged.
    #[error("{file} is damaged at byte {offset}: {what}; fetch the entry from a peer")]
    Damaged {
        /// The file.
        file: String,
        /// Where.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// Something stands where the store has a regular file with one name, or a directory: a link, a pipe, a device,
    /// a directory, a file that has a second name. Nothing was read or written through it.
    #[error(
        "{file} is {what}, where the store has a file or a directory of its own: put it back, or remove what stands there; of a file with a second name remove the other, or put a copy in its place"
    )]
    Unusual {
        /// The file.
        file: String,
        /// What it is.
        what: &'static str,
    },
    /// Acknowledged data of the group is damaged; it takes no vote and no entry until it is whole again.
    #[error("group {group} has lost {lost:?}; repair it from a peer, install a snapshot, or truncate it")]
    Blocked {
        /// The group.
        group: GroupId,
        /// The first thing that it lacks.
        lost: Lost,
    },
    /// What was offered as a repair is not what was acknowledged. Nothing was changed.
    #[error("group {group}: {offered} repairs nothing: {why}; fetch it from another peer")]
    RepairMismatch {
        /// The group.
        group: GroupId,
        /// The entry offered.
        offered: LogId,
        /// What differs.
        why: &'static str,
    },
    /// An entry or a snapshot at an index that no log has.
    #[error("index {index} of group {group} is above {last}, the last that a log can have: the message that it came in is wrong", last = Index::LAST)]
    OutOfRange {
        /// The group.
        group: GroupId,
        /// The index.
        index: Index,
    },
    /// The state of all groups would not fit the part of a segment that is kept for it.
    #[error(
        "the state of all groups would take {size} of the {limit} bytes that a segment has for it: remove groups, or create a store with larger segments"
    )]
    StateFull {
        /// Its bytes.
        size: u64,
        /// An eighth of a segment.
        limit: u64,
    },
    /// An entry or a batch is over the limit: of the options, or of the size of a segment.
    #[error(
        "{what} of {size} bytes is over the limit of {limit}: split it; the limit is that of the options, and at most a quarter of a segment"
    )]
    TooLarge {
        /// "entry", "batch", "vote", "record".
        what: &'static str,
        /// Its bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An index above last + 1.
    #[error("group {group}: index {index} leaves a gap; the next is {expected}")]
    Gap {
        /// The group.
        group: GroupId,
        /// The index offered.
        index: Index,
        /// The index that would follow.
        expected: Index,
    },
    /// The same index and term with other bytes: two leaders of one term, or a host's bug.
    #[error("group {group}: another entry {id} is there already")]
    Conflict {
        /// The group.
        group: GroupId,
        /// The entry.
        id: LogId,
    },
    /// Another term is at this index and was not truncated.
    #[error("group {group}: {offered} would overwrite an entry of term {present}; truncate first")]
    WouldOverwrite {
        /// The group.
        group: GroupId,
        /// The entry offered.
        offered: LogId,
        /// The term that is there.
        present: Term,
    },
    /// Below the first index.
    #[error("group {group}: index {index} was compacted; the first is {first}")]
    Compacted {
        /// The group.
        group: GroupId,
        /// The index asked for.
        index: Index,
        /// The first index.
        first: Index,
    },
    /// Above the last index.
    #[error("group {group}: index {index} is past the last, {last}")]
    PastEnd {
        /// The group.
        group: GroupId,
        /// The index asked for.
        index: Index,
        /// The last index.
        last: Index,
    },
    /// An entry's term is below that of the entry before it.
    #[error("group {group}: {offered} has a lower term than the entry before it, {last}")]
    TermRegression {
        /// The group.
        group: GroupId,
        /// The entry offered.
        offered: LogId,
        /// The last entry.
        last: LogId,
    },
    /// A vote below the one that is stored, or another with the same key.
    #[error("group {group}: vote {offered:?} does not follow {present:?}")]
    StaleVote {
        /// The group.
        group: GroupId,
        /// The key offered.
        offered: VoteKey,
        /// The key stored.
        present: VoteKey,
    },
    /// A commit index that falls or points past the last entry.
    #[error("group {group}: commit index {offered} is outside {present}..={last}")]
    CommitOutOfRange {
        /// The group.
        group: GroupId,
        /// The index offered.
        offered: Index,
        /// The commit index stored.
        present: Index,
        /// The last index.
        last: Index,
    },
    /// A truncation or an install that would undo committed entries.
    #[error("group {group}: index {index} is committed (up to {commit}) and cannot be undone")]
    Committed {
        /// The group.
        group: GroupId,
        /// The index that would be undone.
        index: Index,
        /// The commit index.
        commit: Index,
    },
    /// A compaction that no snapshot pointer covers.
    #[error("group {group}: no snapshot covers index {index}; publish one first")]
    NotCovered {
        /// The group.
        group: GroupId,
        /// The index to compact to.
        index: Index,
        /// What the snapshot covers.
        covered: Option<LogId>,
    },
    /// A snapshot older than what is there. Nothing was changed.
    #[error("group {group}: snapshot {offered} is not newer than {present}")]
    StaleSnapshot {
        /// The group.
        group: GroupId,
        /// The snapshot offered.
        offered: LogId,
        /// What the store has.
        present: LogId,
    },
    /// The group has no owned snapshot.
    #[error("group {group} has no snapshot in this store")]
    NoSnapshot {
        /// The group.
        group: GroupId,
    },
    /// No such group.
    #[error("group {group} does not exist; create it first")]
    UnknownGroup {
        /// The group.
        group: GroupId,
    },
    /// The group is there already.
    #[error("group {group} exists already")]
    GroupExists {
        /// The group.
        group: GroupId,
    },
    /// Something else in this process drives the group already.
    #[error("group {group} is in use already; give each consensus group a number of its own")]
    GroupInUse {
        /// The group.
        group: GroupId,
    },
    /// Too much waits for durability. No byte was written.
    #[error(
        "overloaded ({reason:?}): {in_flight} bytes in flight; try again when {until_admission} fewer are"
    )]
    Overloaded {
        /// Which limit.
        reason: OverloadReason,
        /// Bytes in flight.
        in_flight: u64,
        /// Bytes that must become durable first.
        until_admission: u64,
    },
    /// `write_timeout` waited this long for admission.
    #[error("not admitted within {waited:?}; nothing was written")]
    TimedOut {
        /// How long.
        waited: Duration,
    },
    /// No space for a new segment or chunk, or, at an open, for the damaged bytes that it sets aside. Nothing
    /// changed; a handle goes on, with votes, truncations and compactions too.
    #[error("no space while {doing}: nothing changed; free some, then try again")]
    NoSpace {
        /// What was being prepared.
        doing: &'static str,
    },
    /// No file could be opened or made for want of a descriptor. Nothing changed; a handle goes on.
    #[error("{doing} {path}: {limit}; nothing changed: raise that limit, or close files, then try again")]
    OutOfDescriptors {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: String,
        /// Which limit was reached.
        limit: &'static str,
    },
    /// A write or a sync failed; this handle never says Durable again.
    #[error("poisoned by: {cause}; close it and open again, which settles what is unknown")]
    Poisoned {
        /// The first error.
        cause: String,
    },
    /// A batch was not made durable.
    #[error("not durable: the outcome is {outcome:?}; {cause}")]
    NotAcknowledged {
        /// Unknown or NotDurable.
        outcome: crate::types::Outcome,
        /// The first error.
        cause: String,
    },
    /// The call needs a writable handle.
    #[error("the handle was closed")]
    Closed,
    /// An option out of range.
    #[error("option {option} {why}")]
    InvalidOption {
        /// Its name.
        option: &'static str,
        /// What it must be.
        why: &'static str,
    },
    /// A file of a snapshot is damaged.
    #[error("{fault}; {}", fault.advice())]
    Snapshot {
        /// Which, and how.
        fault: crate::snapshot::SnapshotFault,
    },
    /// A call of the operating system failed; what was asked for was not done.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: String,
        /// The error.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| {
            if let Some(out) = OutOfDescriptors::carried(&source) {
                return Self::OutOfDescriptors { doing, path, limit: out.limit() };
            }
            match unusual(&source) {
                Some(what) => Self::Unusual { file: path, what },
                None => Self::Io { doing, path, source },
            }
        }
    }

    /// As `io`, but a full disk is `NoSpace`.
    pub(crate) fn space(doing: &'static str, path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| {
            if is_full(&source) { Self::NoSpace { doing } } else { Self::io(doing, path)(source) }
        }
    }
}

/// What stands where a file of the store belongs, if that is what an error says, or the error that it is from.
fn unusual(e: &io::Error) -> Option<&'static str> {
    let inner = e.get_ref()?;
    match inner.downcast_ref::<Unusual>() {
        Some(unusual) => Some(unusual.0),
        None => unusual(inner.source()?.downcast_ref()?),
    }
}

/// Whether an error is ENOSPC or EDQUOT.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
