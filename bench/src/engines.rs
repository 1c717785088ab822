//! The engines that can be compared, and which executable serves them.
//!
//! I own the table. I do not know how an engine is driven.

use seawall_bench::workload::{Shape, Workload};

/// Where an engine is compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// This executable.
    Here,
    /// The package of peers.
    Peers,
}

/// An engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) home: Home,
}

/// Every engine; the raw limit is the first.
pub(crate) const ENGINES: &[Engine] = &[
    Engine { name: "raw", home: Home::Here },
    Engine { name: "raw-8", home: Home::Here },
    Engine { name: "seawall", home: Home::Here },
    Engine { name: "seawall-512", home: Home::Here },
    Engine { name: "raft-engine", home: Home::Peers },
    Engine { name: "okaywal", home: Home::Peers },
];

impl Engine {
    /// Whether the engine has something to say on a workload: several syncs in flight need several
    /// callers or a deep queue.
    pub(crate) fn takes(&self, workload: &Workload) -> bool {
        self.name != "raw-8" || workload.shape != Shape::Callers(1)
    }
}
