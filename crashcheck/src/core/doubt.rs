//! Walks a trace and says, after each step, what is durable and what is in doubt.
//!
//! I own the effect of syncs. What is durable for certain is done to `base` and forgotten; the rest is
//! `pending`, in order. A micro-operation is *forced* when a sync made it durable, or one that must not
//! be kept without it; it is done to `base` as soon as nothing pending before it could do with the same
//! bytes (a shorter length and writes of the same file do not commute), so that replaying any pending
//! ones over `base`, in order, is the same as replaying the trace. I do not know which subsets of the
//! pending ones are tried (see `choices`).

use std::collections::BTreeSet;

use crate::core::body::{Dir, Tree};
use crate::core::micro::{Effect, Micro, MicroOp};
use crate::core::trace::{Ino, Op, Step};

/// A micro-operation that is not in `base`.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Its number.
    pub id: usize,
    /// Whether every crash keeps it.
    pub forced: bool,
    /// Whether a failed sync covered it: no later sync of the same file or directory settles it.
    stuck: bool,
    /// Which of its two directories are not synced, for a change of names.
    dirs: [bool; 2],
}

/// A place in a trace.
#[derive(Clone, Debug)]
pub struct Doubt<'a> {
    /// The trace, split.
    pub micro: &'a Micro,
    /// What is durable, on every crash.
    pub base: Tree,
    /// What is not in `base`, ascending.
    pub pending: Vec<Pending>,
    steps: &'a [Step],
    at: usize,
}

/// What a step changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// Whether something became durable.
    pub settled: bool,
    /// How many micro-operations were added.
    pub added: usize,
}

impl<'a> Doubt<'a> {
    /// The place before the first step: nothing in doubt.
    #[must_use]
    pub fn new(tree: Tree, steps: &'a [Step], micro: &'a Micro) -> Self {
        assert_eq!(micro.starts.len(), steps.len() + 1, "these are other steps");
        Self { micro, base: tree, pending: Vec::new(), steps, at: 0 }
    }

    /// A pending micro-operation.
    #[must_use]
    pub fn op(&self, pending: &Pending) -> &'a MicroOp {
        &self.micro.ops[pending.id]
    }

    /// Goes past the next step.
    pub fn advance(&mut self) -> Advance {
        let step = &self.steps[self.at];
        let ids = self.micro.starts[self.at]..self.micro.starts[self.at + 1];
        let added = ids.len();
        self.at += 1;
        for id in ids {
            let dirs = self.micro.ops[id].dirs();
            let pending =
                Pending { id, forced: false, stuck: false, dirs: [dirs[0].is_some(), dirs[1].is_some()] };
            self.pending.push(pending);
        }
        let until = self.micro.starts[step.since.unwrap_or(self.at).min(self.at)];
        let settled = match &step.op {
            Op::SyncData { ino } => self.sync_file(*ino, until, false, step.failed),
            Op::SyncAll { ino } => self.sync_file(*ino, until, true, step.failed),
            Op::SyncDir { .. } => self.sync_dir(self.micro.synced[&(self.at - 1)], until, step.failed),
            _ => false,
        };
        if settled {
            self.force_what_comes_before();
            self.absorb();
        }
        Advance { settled, added }
    }

    /// A sync of a file; it covers micro-operations below `until`.
    fn sync_file(&mut self, ino: Ino, until: usize, all: bool, failed: bool) -> bool {
        let mut settled = false;
        for pending in &mut self.pending {
            let effect = &self.micro.ops[pending.id].effect;
            // fdatasync writes a length back only if the data could not be read without it.
            let covered = effect.file() == Some(ino) && (all || !effect.shrinks());
            if !covered || pending.id >= until || pending.stuck || pending.forced {
                continue;
            }
            pending.stuck = failed;
            pending.forced = !failed;
            settled |= pending.forced;
        }
        settled
    }

    fn sync_dir(&mut self, synced: Dir, until: usize, failed: bool) -> bool {
        let mut settled = false;
        for pending in &mut self.pending {
            if pending.id >= until || pending.stuck || pending.forced {
                continue;
            }
            for (dir, waits) in self.micro.ops[pending.id].dirs().into_iter().zip(&mut pending.dirs) {
                if dir == Some(synced) && *waits {
                    pending.stuck |= failed;
                    *waits = failed;
                    pending.forced = !failed;
                }
            }
            pending.forced &= pending.dirs == [false, false];
            settled |= pending.forced;
        }
        settled
    }

    /// Forces all that must be kept whenever a forced one is.
    fn force_what_comes_before(&mut self) {
        for i in (0..self.pending.len()).rev() {
            if !self.pending[i].forced {
                continue;
            }
            for before in &self.micro.ops[self.pending[i].id].after {
                if let Ok(at) = self.pending.binary_search_by_key(before, |p| p.id) {
                    self.pending[at].forced = true;
                }
            }
        }
    }

    /// Does to `base` what is forced and commutes with everything pending before it.
    fn absorb(&mut self) {
        let mut left: Vec<Pending> = Vec::new();
        let mut written: BTreeSet<Ino> = BTreeSet::new();
        let mut grown: BTreeSet<Ino> = BTreeSet::new();
        let mut shortened: BTreeSet<Ino> = BTreeSet::new();
        for pending in std::mem::take(&mut self.pending) {
            let op = &self.micro.ops[pending.id];
            let waits = op.after.iter().any(|id| left.binary_search_by_key(id, |p| p.id).is_ok());
            let clashes = op.effect.file().is_some_and(|ino| match op.effect {
                Effect::Data { .. } => shortened.contains(&ino),
                _ => op.effect.shrinks() && (written.contains(&ino) || grown.contains(&ino)),
            });
            if pending.forced && !waits && !clashes {
                self.do_to_base(&op.effect);
                continue;
            }
            if let Effect::Data { ino, .. } = op.effect {
                written.insert(ino);
            } else if op.effect.shrinks() {
                shortened.extend(op.effect.file());
            } else {
                grown.extend(op.effect.file());
            }
            left.push(pending);
        }
        self.pending = left;
    }

    fn do_to_base(&mut self, effect: &Effect) {
        match effect.file() {
            Some(ino) => effect.apply_to(self.base.bodies.entry(ino).or_default()),
            None => effect.apply_to_names(&mut self.base),
        }
    }
}

impl MicroOp {
    /// The directories that must be synced before a change of names is durable.
    fn dirs(&self) -> [Option<Dir>; 2] {
        match &self.effect {
            Effect::Add { name, .. } | Effect::Remove { name } => [Some(name.dir), None],
            Effect::Rename { from: one, to: other, .. }
            | Effect::Arrive { from: one, to: other, .. }
            | Effect::Leave { from: one, to: other }
            | Effect::Exchange { one, other } => [Some(one.dir), (one.dir != other.dir).then_some(other.dir)],
            Effect::Data { .. } | Effect::Size { .. } => [None, None],
        }
    }
}
