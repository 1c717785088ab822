//! What happened on a simulated disk, in order.
//!
//! I own the record of every call that changed something or asked for durability. A call that
//! failed and changed nothing is not in it; a sync that failed in writing is. I do not know which crashes to try.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::SyncFailure;
use super::image::Image;

/// A file's number: fixed at creation, kept through renames, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u32);

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A directory was created.
    CreateDir {
        /// Its path.
        path: String,
    },
    /// An empty file was created.
    Create {
        /// Its path.
        path: String,
        /// Its number.
        ino: Ino,
    },
    /// Bytes were written; exactly those that the call took.
    Write {
        /// The file.
        ino: Ino,
        /// Where.
        offset: u64,
        /// What.
        data: Arc<[u8]>,
    },
    /// The length was set.
    SetLen {
        /// The file.
        ino: Ino,
        /// The new length.
        len: u64,
    },
    /// A file got another name.
    Rename {
        /// The name it had.
        from: String,
        /// The name it has.
        to: String,
        /// The file.
        ino: Ino,
        /// The file that had the new name before.
        replaced: Option<Ino>,
    },
    /// A name was removed.
    Remove {
        /// The name.
        path: String,
        /// The file that it named.
        ino: Ino,
    },
    /// fdatasync.
    SyncData {
        /// The file.
        ino: Ino,
        /// The open file description, numbered from 1 in the order of opening.
        file: u32,
    },
    /// fsync.
    SyncAll {
        /// The file.
        ino: Ino,
        /// The open file description, numbered from 1 in the order of opening.
        file: u32,
    },
    /// fsync of a directory.
    SyncDir {
        /// Its path; `""` is the root.
        path: String,
    },
    /// Something that the recorder's user wants to find again.
    Mark(u32),
}

/// An operation and whether it can be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The operation.
    pub op: Op,
    /// Only ever true for a sync: what it covered is in doubt for good. Every sync that returned an
    /// error, and one that returned success and will report its error late.
    pub failed: bool,
    /// How the sync was made to fail, if it was; a `failed` sync without it reported an earlier
    /// failure, or returned an injected error and did nothing.
    pub failure: Option<SyncFailure>,
}

/// A recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The disk when the recording began; all of it counts as durable.
    pub initial: Image,
    /// The numbers of the files in `initial`.
    pub inos: BTreeMap<String, Ino>,
    /// What was done since.
    pub ops: Vec<Recorded>,
}
