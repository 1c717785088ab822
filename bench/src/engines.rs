//! The engines that can be compared, and which executable serves them.
//!
//! I own the table. I do not know how an engine is driven.

use seawall_bench::workload::{Shape, Workload};

/// Where an engine is compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// This executable.
    Here,
    /// The package of peers, with this feature if it is none of those of `--quick`.
    Peers(Option<&'static str>),
}

impl Home {
    /// What the package of peers must be built with; `None` if the engine is here.
    pub(crate) fn feature(self) -> Option<Option<&'static str>> {
        match self {
            Self::Here => None,
            Self::Peers(feature) => Some(feature),
        }
    }
}

/// An engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) home: Home,
}

/// The raw limit, by which ratios divide.
pub(crate) const RAW: &str = "raw";

/// Every engine.
pub(crate) const ENGINES: &[Engine] = &[
    Engine { name: RAW, home: Home::Here },
    Engine { name: "raw-8", home: Home::Here },
    Engine { name: "seawall", home: Home::Here },
    Engine { name: "seawall-512", home: Home::Here },
    Engine { name: "seawall-batched", home: Home::Here },
    Engine { name: "raft-engine", home: Home::Peers(None) },
    Engine { name: "okaywal", home: Home::Peers(None) },
    Engine { name: "wal-db", home: MORE },
    Engine { name: "raft-log", home: MORE },
    Engine { name: "walrus", home: MORE },
    Engine { name: "sqlite", home: MORE },
    Engine { name: "lmdb", home: MORE },
    Engine { name: "redb", home: MORE },
    Engine { name: "fjall", home: MORE },
    Engine { name: "sled", home: MORE },
    Engine { name: "rocksdb", home: Home::Peers(Some(HEAVY)) },
];

const MORE: Home = Home::Peers(Some("more"));
/// The feature, and the engine, that takes ten minutes to build and needs libclang.
pub(crate) const HEAVY: &str = "rocksdb";

impl Engine {
    /// Whether the engine has something to say on a workload: several syncs in flight need several
    /// callers or a deep queue, a host that batches a deep queue.
    pub(crate) fn takes(&self, workload: &Workload) -> bool {
        match (self.name, workload.shape) {
            ("raw-8", shape) => shape != Shape::Callers(1),
            ("seawall-batched", shape) => matches!(shape, Shape::Deep(_)),
            _ => true,
        }
    }
}
