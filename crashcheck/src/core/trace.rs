//! What was done to a disk: the operations of one run, in order, by inode.
//!
//! I own the vocabulary. A trace is complete (every change of the tree is in it) and in the order in
//! which the file system did the operations. A sync covers exactly the operations before it, so a
//! recorder of concurrent writers puts it where it *began*. I do not know what a crash does to it
//! (see `doubt`) nor who recorded it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::image::Image;

/// An inode's number, never used twice within a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u32);

/// One operation. Paths are relative to the root, with `/` between parts; the root is `""`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new, empty directory.
    CreateDir {
        /// Its path.
        path: String,
    },
    /// A new, empty file.
    Create {
        /// Its path.
        path: String,
        /// Its inode.
        ino: Ino,
    },
    /// Bytes written; the file grows if they end past its end.
    Write {
        /// The file.
        ino: Ino,
        /// Where.
        offset: u64,
        /// What.
        data: Arc<[u8]>,
    },
    /// The length set: bytes past a shorter one are gone, those up to a longer one are zero.
    SetLen {
        /// The file.
        ino: Ino,
        /// The new length.
        len: u64,
    },
    /// A file renamed, over whatever had the new name.
    Rename {
        /// The old path.
        from: String,
        /// The new path.
        to: String,
        /// The file that was renamed.
        ino: Ino,
    },
    /// A name removed.
    Remove {
        /// The path.
        path: String,
        /// The file that had it.
        ino: Ino,
    },
    /// fdatasync.
    SyncData {
        /// The file.
        ino: Ino,
    },
    /// fsync.
    SyncAll {
        /// The file.
        ino: Ino,
    },
    /// fsync of a directory.
    SyncDir {
        /// The directory.
        path: String,
    },
    /// An event of the subject's history, such as a call or its acknowledgement.
    Mark(u32),
}

/// An operation and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was done.
    pub op: Op,
    /// Whether it returned an error. Only a sync can fail and still have an effect: what it covers is
    /// in doubt for good. Any other failed operation is left out by the recorder, or recorded as what
    /// it did.
    pub failed: bool,
}

impl From<Op> for Step {
    fn from(op: Op) -> Self {
        Self { op, failed: false }
    }
}

/// A run's operations, on top of a tree that is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The tree before the first operation; all of it is durable.
    pub initial: Image,
    /// The inode of each file of `initial`, and of no other.
    pub inos: BTreeMap<String, Ino>,
    /// The operations.
    pub steps: Vec<Step>,
}

/// Where a crash falls: after the first `steps` steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cut {
    /// How many steps of the trace are done.
    pub steps: usize,
    /// How many of those are marks: the judged history is the first `marks` events of the run.
    pub marks: usize,
}

impl Trace {
    /// The cut after the first `steps` steps.
    ///
    /// # Panics
    /// If the trace is shorter.
    #[must_use]
    pub fn cut(&self, steps: usize) -> Cut {
        let marks = self.steps[..steps].iter().filter(|s| matches!(s.op, Op::Mark(_))).count();
        Cut { steps, marks }
    }

    /// The values of the marks, in order.
    pub fn marks(&self) -> impl Iterator<Item = u32> + '_ {
        self.steps.iter().filter_map(|s| match s.op {
            Op::Mark(mark) => Some(mark),
            _ => None,
        })
    }
}
