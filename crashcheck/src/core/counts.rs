//! What an exploration did, in numbers.
//!
//! I own the counters and how they add up: in any order, to the same sums. I do not know when they are
//! printed.

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::core::state::Fold;

/// The counters of one run or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Runs explored to their end.
    pub runs: u64,
    /// Cuts, within recoveries too, that had a state not covered by the cut before.
    pub cuts: u64,
    /// Choices made.
    pub generated: u64,
    /// States judged, each once by its bytes, its judged history and what had been exposed, for each run.
    pub distinct: u64,
    /// Of those, states of a crash within a recovery or just after one.
    pub nested: u64,
    /// Of those, states with a torn unit.
    pub torn: u64,
    /// Choices that gave a state judged before.
    pub skipped_duplicate: u64,
    /// Calls of the subject: `distinct`, and once more for each state met again nearer to the top.
    pub checks: u64,
    /// States with a violation that the user would not have noticed.
    pub silent: u64,
    /// States with an alarm that no fault explains.
    pub false_alarms: u64,
    /// States on which the subject panicked.
    pub panics: u64,
    /// Violations by property.
    pub violations: BTreeMap<&'static str, u64>,
    /// Where a bound cut the exploration short of every state.
    pub cut_bounds: CutBounds,
}

/// Where a bound cut the exploration short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CutBounds {
    /// Cuts with more free micro-operations than [`Bounds::max_subset_units`](crate::core::choices::Bounds).
    pub wide_cuts: u64,
    /// The most free micro-operations of any cut.
    pub most_free: u64,
    /// Cuts with more than [`MAX_FREE`](crate::core::choices::MAX_FREE), whose newest were taken as lost.
    pub truncated_cuts: u64,
    /// Torn states tried with all or nothing of the others instead of every set of them.
    pub torn_partly: u64,
}

impl Counters {
    /// Adds another run's.
    pub fn merge(&mut self, other: &Self) {
        self.runs += other.runs;
        self.cuts += other.cuts;
        self.generated += other.generated;
        self.distinct += other.distinct;
        self.nested += other.nested;
        self.torn += other.torn;
        self.skipped_duplicate += other.skipped_duplicate;
        self.checks += other.checks;
        self.silent += other.silent;
        self.false_alarms += other.false_alarms;
        self.panics += other.panics;
        for (property, count) in &other.violations {
            *self.violations.entry(property).or_default() += count;
        }
        let (bounds, others) = (&mut self.cut_bounds, &other.cut_bounds);
        bounds.wide_cuts += others.wide_cuts;
        bounds.most_free = bounds.most_free.max(others.most_free);
        bounds.truncated_cuts += others.truncated_cuts;
        bounds.torn_partly += others.torn_partly;
    }

    /// Whether every cut was explored with every set of its free micro-operations.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.cut_bounds.wide_cuts == 0 && self.cut_bounds.truncated_cuts == 0
    }
}

/// The states seen by all runs together, for counting across runs; holds at most a given number.
#[derive(Debug)]
pub struct Seen {
    shards: Vec<Mutex<HashSet<u128, BuildHasherDefault<Fold>>>>,
    per_shard: usize,
    full: AtomicBool,
}

const SHARDS: usize = 64;

impl Seen {
    /// A set that holds at most `most` states, rounded up to a multiple of 64.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, per_shard: most.div_ceil(SHARDS), full: AtomicBool::new(false) }
    }

    /// Notes a state.
    pub(crate) fn insert(&self, key: u128) {
        // The sets hash by the low half: the shard comes from the high one.
        let shard = usize::try_from(key >> 122).expect("six bits");
        let mut shard = self.shards[shard].lock().expect("no panic while it is held");
        if shard.len() < self.per_shard {
            shard.insert(key);
        } else if !shard.contains(&key) {
            self.full.store(true, Ordering::Relaxed);
        }
    }

    /// How many different states were noted, and whether that is all of them.
    #[must_use]
    pub fn distinct(&self) -> (usize, bool) {
        let sizes = self.shards.iter().map(|s| s.lock().expect("no panic while it is held").len());
        (sizes.sum(), !self.full.load(Ordering::Relaxed))
    }
}
