//! The workloads: who writes how much at once, and who waits for it.
//!
//! I own their names and shapes. I do not know how callers are driven (see `drive`).

/// Who waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Each caller writes a batch, waits until it is durable, and writes the next.
    Callers(usize),
    /// One caller keeps up to this many single entries in flight; each is acknowledged by a callback.
    Deep(usize),
}

/// A workload of durable appends.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// The name in results.
    pub name: &'static str,
    /// What it does, for a table.
    pub what: &'static str,
    /// Who waits for what.
    pub shape: Shape,
    /// Groups in one batch, an entry each; 1 means that each caller has a group of its own.
    pub groups: u64,
    /// Entries of a group in one batch.
    pub entries: u64,
    /// Bytes in an entry.
    pub bytes: usize,
    /// Whether the comparison of five minutes has it.
    pub quick: bool,
    /// The ratio to the raw limit that seawall is to reach.
    pub target: Option<f64>,
}

impl Workload {
    /// Bytes of payload in one batch.
    #[must_use]
    pub fn batch_bytes(&self) -> u64 {
        self.groups * self.entries * self.bytes as u64
    }

    /// Entries in one batch.
    #[must_use]
    pub fn batch_entries(&self) -> u64 {
        self.groups * self.entries
    }

    /// The groups that the workload needs: one for each caller, or those of a batch.
    #[must_use]
    pub fn all_groups(&self) -> u64 {
        match self.shape {
            Shape::Callers(callers) => self.groups.max(callers as u64),
            Shape::Deep(_) => self.groups,
        }
    }

    /// The workload of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        APPENDS.iter().find(|w| w.name == name)
    }
}

/// Entries in flight of a deep queue.
const DEEP: usize = 4096;

/// The workloads of durable appends.
pub const APPENDS: &[Workload] = &[
    Workload {
        name: "W1-256",
        what: "one caller, 256 B, a sync each",
        shape: Shape::Callers(1),
        groups: 1,
        entries: 1,
        bytes: 256,
        quick: true,
        target: Some(0.95),
    },
    Workload {
        name: "W1-4096",
        what: "one caller, 4 KiB, a sync each",
        shape: Shape::Callers(1),
        groups: 1,
        entries: 1,
        bytes: 4096,
        quick: true,
        target: Some(0.95),
    },
    Workload {
        name: "W2",
        what: "64 callers, 256 B, each waits for its own",
        shape: Shape::Callers(64),
        groups: 1,
        entries: 1,
        bytes: 256,
        quick: true,
        target: Some(1.1),
    },
    Workload {
        name: "W2a",
        what: "256 B by callbacks, 4,096 in flight",
        shape: Shape::Deep(DEEP),
        groups: 1,
        entries: 1,
        bytes: 256,
        quick: true,
        target: Some(1.0),
    },
    Workload {
        name: "W3",
        what: "one caller, 100 x 1 KiB a batch",
        shape: Shape::Callers(1),
        groups: 1,
        entries: 100,
        bytes: 1024,
        quick: true,
        target: Some(0.9),
    },
    Workload {
        name: "W4-4096",
        what: "one caller, 4 MiB a batch in entries of 4 KiB",
        shape: Shape::Callers(1),
        groups: 1,
        entries: 1024,
        bytes: 4096,
        quick: false,
        target: Some(0.8),
    },
    Workload {
        name: "W4-65536",
        what: "one caller, 4 MiB a batch in entries of 64 KiB",
        shape: Shape::Callers(1),
        groups: 1,
        entries: 64,
        bytes: 65536,
        quick: false,
        target: Some(0.8),
    },
    Workload {
        name: "W10",
        what: "one caller, 1,000 groups x 256 B a batch",
        shape: Shape::Callers(1),
        groups: 1000,
        entries: 1,
        bytes: 256,
        quick: true,
        target: Some(0.75),
    },
];
