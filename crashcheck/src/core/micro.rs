//! Splits a trace into micro-operations: what a crash keeps or loses as a whole.
//!
//! I own the splitting and the order between the parts (`after`), by a [`Profile`]:
//!
//! - a write is one data micro-operation for each tear unit that it changes, holding the unit's whole
//!   new content given all writes before it, and, if the file grows, its growth: one micro-operation
//!   within a unit, else two (up to a unit's edge in the middle, then all), since a long write may be
//!   cut between; `set_len` is one;
//! - more than 8 pages of zeros written over something else are two micro-operations, the first half
//!   and the second, so that none, half and all of the run can be seen;
//! - a name added, removed or renamed, and a directory made, is one;
//! - what changes nothing is left out, unless a failed sync left the unit in doubt: then writing the
//!   same bytes once more is what settles it.
//!
//! `after` names earlier micro-operations only, and only what must be kept whenever this is kept. I do
//! not know what is durable (see `doubt`).

use std::collections::BTreeMap;

use crate::core::body::{Body, Name, Tree};
use crate::core::image::{PAGE, Page, page_hash, page_of, page_term};
use crate::core::profile::{Profile, Unit};
use crate::core::trace::{Ino, Op, Step};

/// A zero-filled run longer than this many pages is kept or lost by halves.
const LONG_RUN: usize = 8;

/// What a crash keeps or loses as a whole.
#[derive(Clone, Debug)]
pub struct MicroOp {
    /// The step that it is a part of.
    pub step: usize,
    /// What it does.
    pub effect: Effect,
    /// The micro-operations that must be kept whenever this one is, ascending; not transitive.
    pub after: Vec<usize>,
}

/// What a micro-operation does.
#[derive(Clone, Debug)]
pub enum Effect {
    /// New bytes in some pages.
    Data {
        /// The file.
        ino: Ino,
        /// The pages.
        pages: Vec<PageChange>,
        /// Whether it is a single unit and not a run of zeros.
        tearable: bool,
    },
    /// A new length.
    Size {
        /// The file.
        ino: Ino,
        /// The length before.
        from: u64,
        /// The length after.
        to: u64,
    },
    /// A new directory.
    AddDir {
        /// Its name.
        name: Name,
    },
    /// A new name.
    Add {
        /// The name.
        name: Name,
        /// Its file.
        ino: Ino,
    },
    /// A name removed.
    Remove {
        /// The name.
        name: Name,
    },
    /// A name changed, replacing what had the new one.
    Rename {
        /// The old name.
        from: Name,
        /// The new name.
        to: Name,
        /// The file.
        ino: Ino,
    },
}

/// A page before and after.
#[derive(Clone, Debug)]
pub struct PageChange {
    /// The page's number in its file.
    pub index: usize,
    /// What it held, given everything before.
    pub before: Option<Page>,
    /// What it holds.
    pub after: Option<Page>,
    /// The term of `before`.
    pub before_term: u128,
    /// The term of `after`.
    pub after_term: u128,
}

impl Effect {
    /// The file whose bytes or length it changes.
    #[must_use]
    pub fn file(&self) -> Option<Ino> {
        match self {
            Self::Data { ino, .. } | Self::Size { ino, .. } => Some(*ino),
            _ => None,
        }
    }

    /// Whether it makes a file shorter.
    #[must_use]
    pub fn shrinks(&self) -> bool {
        matches!(self, Self::Size { from, to, .. } if to < from)
    }

    /// Does it to a file's body; nothing if it concerns names.
    pub fn apply_to(&self, body: &mut Body) {
        match self {
            Self::Data { pages, .. } => {
                for change in pages {
                    body.set(change.index, change.after.clone(), change.after_term);
                }
            }
            Self::Size { to, .. } => body.set_len(*to),
            _ => {}
        }
    }

    /// Does it to a tree's names; nothing if it concerns bytes.
    pub fn apply_to_names(&self, tree: &mut Tree) {
        match self {
            Self::AddDir { name } => {
                tree.dirs.insert(name.clone());
            }
            Self::Add { name, ino } => {
                tree.names.insert(name.clone(), *ino);
            }
            Self::Remove { name } => {
                tree.names.remove(name);
            }
            Self::Rename { from, to, ino } => {
                tree.names.remove(from);
                tree.names.insert(to.clone(), *ino);
            }
            _ => {}
        }
    }
}

/// A trace, split.
#[derive(Clone, Debug)]
pub struct Micro {
    /// The micro-operations, in order.
    pub ops: Vec<MicroOp>,
    /// For each step the number of micro-operations before it, and at the end the number of all.
    pub starts: Vec<usize>,
}

/// Splits the steps of a trace that begins on `tree`.
///
/// # Panics
/// If the trace writes to an inode that it did not create and that was not there.
#[must_use]
pub fn split(tree: &Tree, steps: &[Step], profile: Profile, unit: Unit) -> Micro {
    let mut splitter = Splitter {
        profile,
        unit: unit.pages(),
        step: 0,
        tree: tree.clone(),
        ops: Vec::new(),
        units: BTreeMap::new(),
        sizes: BTreeMap::new(),
        names: BTreeMap::new(),
        metadata: None,
        suspect: BTreeMap::new(),
    };
    let mut starts = Vec::with_capacity(steps.len() + 1);
    for (i, step) in steps.iter().enumerate() {
        starts.push(splitter.ops.len());
        splitter.step = i;
        splitter.take(step);
    }
    starts.push(splitter.ops.len());
    Micro { ops: splitter.ops, starts }
}

/// The tree with nothing lost so far, and the last micro-operation that touched each thing.
struct Splitter {
    profile: Profile,
    unit: usize,
    step: usize,
    tree: Tree,
    ops: Vec<MicroOp>,
    units: BTreeMap<(Ino, usize), usize>,
    sizes: BTreeMap<Ino, usize>,
    names: BTreeMap<Name, usize>,
    metadata: Option<usize>,
    /// Micro-operations on the file below this number may be what a failed sync left in doubt.
    suspect: BTreeMap<Ino, usize>,
}

impl Splitter {
    fn take(&mut self, step: &Step) {
        match &step.op {
            Op::CreateDir { path } => {
                let name = Name::new(path);
                self.add_name(Effect::AddDir { name: name.clone() }, &[&name], path);
            }
            Op::Create { path, ino } => {
                let name = Name::new(path);
                let before = self.tree.bodies.insert(*ino, Body::default());
                assert!(before.is_none(), "{ino:?} is created twice");
                self.add_name(Effect::Add { name: name.clone(), ino: *ino }, &[&name], path);
            }
            Op::Rename { from, to, ino } => self.rename(from, to, *ino),
            Op::Remove { path, .. } => {
                let name = Name::new(path);
                self.add_name(Effect::Remove { name: name.clone() }, &[&name], path);
            }
            Op::Write { ino, offset, data } => self.write(*ino, *offset, data),
            Op::SetLen { ino, len } => self.resize(*ino, *len),
            Op::SyncData { ino } | Op::SyncAll { ino } if step.failed => {
                self.suspect.insert(*ino, self.ops.len());
            }
            Op::SyncData { .. } | Op::SyncAll { .. } | Op::SyncDir { .. } | Op::Mark(_) => {}
        }
    }

    fn rename(&mut self, from: &str, to: &str, ino: Ino) {
        let (from, to) = (Name::new(from), Name::new(to));
        let mut after = Vec::new();
        if self.profile.orders_data() && self.tree.names.contains_key(&to) {
            after.extend(self.units.range((ino, 0)..=(ino, usize::MAX)).map(|(_, op)| *op));
        }
        let effect = Effect::Rename { from: from.clone(), to: to.clone(), ino };
        let path = to.path.clone();
        self.add_name_after(effect, &[&from, &to], &path, after);
    }

    fn add_name(&mut self, effect: Effect, names: &[&Name], path: &str) {
        self.add_name_after(effect, names, path, Vec::new());
    }

    /// Adds a change of names: after the last change of each of them and of the directory.
    fn add_name_after(&mut self, effect: Effect, names: &[&Name], path: &str, mut after: Vec<usize>) {
        after.extend(names.iter().filter_map(|name| self.names.get(name)));
        let dir = parent(path);
        if !dir.is_empty() {
            after.extend(self.names.get(&Name::new(dir)));
        }
        effect.apply_to_names(&mut self.tree);
        let id = self.add_metadata(effect, after);
        for name in names {
            self.names.insert((*name).clone(), id);
        }
    }

    fn add_metadata(&mut self, effect: Effect, mut after: Vec<usize>) -> usize {
        if self.profile.journals_metadata() {
            after.extend(self.metadata);
        }
        let id = self.add(effect, after);
        self.metadata = Some(id);
        id
    }

    fn add(&mut self, effect: Effect, mut after: Vec<usize>) -> usize {
        after.sort_unstable();
        after.dedup();
        let id = self.ops.len();
        assert!(after.last().is_none_or(|last| *last < id), "order goes backwards");
        self.ops.push(MicroOp { step: self.step, effect, after });
        id
    }

    fn body(&self, ino: Ino) -> &Body {
        self.tree.bodies.get(&ino).unwrap_or_else(|| panic!("{ino:?} was never created"))
    }

    fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let start = usize::try_from(offset).expect("a file fits in memory");
        let unit_bytes = self.unit * PAGE;
        let units = start / unit_bytes..(start + data.len()).div_ceil(unit_bytes);
        let mut changed: Vec<(usize, Vec<PageChange>)> = Vec::new();
        for unit in units {
            let pages = self.changes(ino, unit, start, data);
            if !pages.is_empty() || self.is_suspect(ino, unit) {
                changed.push((unit, pages));
            }
        }
        let zeros = data.iter().all(|b| *b == 0);
        let pages: usize = changed.iter().map(|(_, pages)| pages.len()).sum();
        if zeros && pages > LONG_RUN && changed.len() > 1 {
            let second = changed.split_off(changed.len().div_ceil(2));
            let first = self.add_data(ino, changed, false, None);
            self.add_data(ino, second, false, Some(first));
        } else {
            for unit in changed {
                self.add_data(ino, vec![unit], true, None);
            }
        }
        self.grow_by_write(ino, (start + data.len()) as u64);
    }

    fn is_suspect(&self, ino: Ino, unit: usize) -> bool {
        let below = self.suspect.get(&ino).copied().unwrap_or(0);
        self.units.get(&(ino, unit)).is_some_and(|op| *op < below)
    }

    /// The pages of a unit that a write changes.
    fn changes(&self, ino: Ino, unit: usize, start: usize, data: &[u8]) -> Vec<PageChange> {
        let body = self.body(ino);
        let end = start + data.len();
        let mut changes = Vec::new();
        for index in unit * self.unit..(unit + 1) * self.unit {
            let (page, page_end) = (index * PAGE, (index + 1) * PAGE);
            let (from, to) = (start.max(page), end.min(page_end));
            if from >= to || body.bytes(index)[from - page..to - page] == data[from - start..to - start] {
                continue;
            }
            let mut bytes = *body.bytes(index);
            bytes[from - page..to - page].copy_from_slice(&data[from - start..to - start]);
            let after = page_of(&bytes);
            let after_term = page_term(index, page_hash(after.as_ref()));
            let (before, before_term) = (body.page(index).cloned(), body.term(index));
            changes.push(PageChange { index, before, after, before_term, after_term });
        }
        changes
    }

    fn add_data(
        &mut self,
        ino: Ino,
        units: Vec<(usize, Vec<PageChange>)>,
        tearable: bool,
        follows: Option<usize>,
    ) -> usize {
        let mut after: Vec<usize> = follows.into_iter().collect();
        after.extend(units.iter().filter_map(|(unit, _)| self.units.get(&(ino, *unit))));
        let numbers: Vec<usize> = units.iter().map(|(unit, _)| *unit).collect();
        let pages = units.into_iter().flat_map(|(_, pages)| pages).collect();
        let effect = Effect::Data { ino, pages, tearable };
        effect.apply_to(self.tree.bodies.get_mut(&ino).expect("it was there for its changes"));
        let id = self.add(effect, after);
        self.units.extend(numbers.into_iter().map(|unit| ((ino, unit), id)));
        id
    }

    fn grow_by_write(&mut self, ino: Ino, end: u64) {
        let len = self.body(ino).len;
        let unit_bytes = (self.unit * PAGE) as u64;
        let (first, last) = (len / unit_bytes, end.saturating_sub(1) / unit_bytes);
        if end > len && last > first {
            let middle = (first + (last - first).div_ceil(2)) * unit_bytes;
            self.resize(ino, middle);
        }
        if end > len {
            self.resize(ino, end);
        }
    }

    fn resize(&mut self, ino: Ino, to: u64) {
        let from = self.body(ino).len;
        if from == to {
            return;
        }
        let mut after: Vec<usize> = self.sizes.get(&ino).copied().into_iter().collect();
        if self.profile.orders_data() && to > from {
            let unit_bytes = (self.unit * PAGE) as u64;
            let unit = |byte: u64| usize::try_from(byte / unit_bytes).expect("a file fits in memory");
            let units = (ino, unit(from))..=(ino, unit(to - 1));
            after.extend(self.units.range(units).map(|(_, op)| *op));
        }
        let effect = Effect::Size { ino, from, to };
        effect.apply_to(self.tree.bodies.get_mut(&ino).expect("it was there for its length"));
        let id = self.add_metadata(effect, after);
        self.sizes.insert(ino, id);
    }
}

/// The directory that a path is in; the root is `""`.
#[must_use]
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
