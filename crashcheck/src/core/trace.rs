//! What was done to a disk: the operations of one run, in order, by inode.
//!
//! I own the vocabulary. A trace is complete (every change of the tree is in it) and in the order in
//! which the file system did the operations. A sync is where it *returned*: until then it promises
//! nothing. It covers the operations before it, or, if others went on meanwhile, those before it
//! *began* ([`Step::since`]). Attributes such as modes and times are not part of a trace's tree. I do not
//! know what a crash does to it (see `doubt`) nor who recorded it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::image::Image;

/// An inode's number, never used twice within a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ino(pub u32);

/// One operation. Paths are relative to the root, with `/` between parts; the root is `""`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A new, empty directory.
    CreateDir {
        /// Its path.
        path: String,
    },
    /// A directory removed; it was empty.
    RemoveDir {
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
    /// A new, empty file without a name (`O_TMPFILE`).
    CreateUnnamed {
        /// Its inode.
        ino: Ino,
    },
    /// A further name, or the first, of a file.
    Link {
        /// The new path.
        path: String,
        /// The file.
        ino: Ino,
    },
    /// A new symbolic link.
    Symlink {
        /// Its path.
        path: String,
        /// What it says.
        target: String,
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
    /// Bytes within the file made zero; the length stays (a punched hole, a zeroed range).
    Zero {
        /// The file.
        ino: Ino,
        /// Where.
        offset: u64,
        /// How many; what lies past the file's end has no effect.
        len: u64,
    },
    /// A file, link or directory renamed, over whatever had the new name.
    Rename {
        /// The old path.
        from: String,
        /// The new path.
        to: String,
    },
    /// Two names that exchange what they name.
    Exchange {
        /// One path.
        one: String,
        /// The other.
        other: String,
    },
    /// A name of a file or link removed; a file that is open lives on without it.
    Remove {
        /// The path.
        path: String,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was done.
    pub op: Op,
    /// Whether it returned an error. Only a sync can fail and still have an effect: what it covers is
    /// in doubt for good. Any other failed operation is left out by the recorder, or recorded as what
    /// it did.
    pub failed: bool,
    /// For a sync during which other operations went on: how many steps there were when it began. It
    /// covers those alone. `None`: it covers all steps before it.
    pub since: Option<usize>,
}

impl From<Op> for Step {
    fn from(op: Op) -> Self {
        Self { op, failed: false, since: None }
    }
}

/// A run's operations, on top of a tree that is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The tree before the first operation; all of it is durable.
    pub initial: Image,
    /// The inode of each file of `initial`, and of no other; names of one file share one.
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

    /// The trace with one more step, before the one that is now at `at`.
    #[must_use]
    pub fn with_step(&self, at: usize, op: Op) -> Self {
        let mut trace = self.clone();
        trace.steps.insert(at, op.into());
        for step in &mut trace.steps {
            step.since = step.since.map(|since| if since > at { since + 1 } else { since });
        }
        trace
    }

    /// The trace with one of its syncs covering nothing.
    #[must_use]
    pub fn without_sync(&self, at: usize) -> Self {
        let mut trace = self.clone();
        trace.steps[at].since = Some(0);
        trace
    }

    /// The trace without one of its steps.
    #[must_use]
    pub fn without_step(&self, at: usize) -> Self {
        let mut trace = self.clone();
        trace.steps.remove(at);
        for step in &mut trace.steps {
            step.since = step.since.map(|since| if since > at { since - 1 } else { since });
        }
        trace
    }

    /// The values of the marks, in order.
    pub fn marks(&self) -> impl Iterator<Item = u32> + '_ {
        self.steps.iter().filter_map(|s| match s.op {
            Op::Mark(mark) => Some(mark),
            _ => None,
        })
    }
}
