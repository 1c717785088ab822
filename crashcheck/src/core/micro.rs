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
//! - a zeroed range is like a write of zeros that does not grow the file, and is not torn;
//! - a name added, removed, renamed or exchanged is one (but a file's rename to another directory may be
//!   two, the new name and then the end of the old one, as the profile says); a name is kept only with the making of the
//!   directory that it is in, a directory's removal only with the removals of what was in it, and
//!   moves of directories to other directories keep their order, so that no crash makes a cycle;
//! - what changes nothing is left out, unless a failed sync left the unit in doubt: then writing the
//!   same bytes once more is what settles it.
//!
//! `after` names earlier micro-operations only, and only what must be kept whenever this is kept. I do
//! not know what is durable (see `doubt`).

use std::collections::BTreeMap;

use crate::core::body::{Body, Dir, Entry, Name, Tree, first_in};
use crate::core::image::{PAGE, Page, bytes_of, page_hash, page_of, page_term};
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
    /// A new name.
    Add {
        /// The name.
        name: Name,
        /// What it names.
        entry: Entry,
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
        /// What is renamed.
        entry: Entry,
    },
    /// The new name of a rename to another directory, if the old one may be there a while longer.
    Arrive {
        /// The old name.
        from: Name,
        /// The new name.
        to: Name,
        /// What is renamed.
        entry: Entry,
    },
    /// The end of the old name of a rename to another directory.
    Leave {
        /// The old name.
        from: Name,
        /// The new name.
        to: Name,
    },
    /// Two names that exchange what they name.
    Exchange {
        /// One name.
        one: Name,
        /// The other.
        other: Name,
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
            // A growth never shortens: one that was kept without an earlier one may come after a later one.
            Self::Size { from, to, .. } if from < to => body.set_len((*to).max(body.len)),
            Self::Size { to, .. } => {
                body.len = *to;
                body.clip();
            }
            _ => {}
        }
    }

    /// Does it to a tree's names; nothing if it concerns bytes.
    pub fn apply_to_names(&self, tree: &mut Tree) {
        match self {
            Self::Add { name, entry } | Self::Arrive { to: name, entry, .. } => {
                tree.names.insert(name.clone(), entry.clone());
            }
            Self::Remove { name } | Self::Leave { from: name, .. } => {
                tree.names.remove(name);
            }
            Self::Rename { from, to, entry } => {
                tree.names.remove(from);
                tree.names.insert(to.clone(), entry.clone());
            }
            Self::Exchange { one, other } => {
                let (first, second) = (tree.names.remove(one), tree.names.remove(other));
                tree.names.extend(first.map(|entry| (other.clone(), entry)));
                tree.names.extend(second.map(|entry| (one.clone(), entry)));
            }
            _ => {}
        }
    }
}

/// A tear's place is counted from the start of its block of so many pages.
const BLOCK_PAGES: usize = 8;

/// Where a data micro-operation can be torn: after each differing byte but the last, counted from the
/// start of the block that it is in; nothing if it is not to be torn.
#[must_use]
pub fn tear_places(effect: &Effect) -> Vec<usize> {
    let Effect::Data { pages, tearable: true, .. } = effect else { return Vec::new() };
    let Some(first) = pages.first() else { return Vec::new() };
    let block = first.index - first.index % BLOCK_PAGES;
    let mut places = Vec::new();
    for change in pages {
        let (old, new) = (bytes_of(change.before.as_ref()), bytes_of(change.after.as_ref()));
        let start = (change.index - block) * PAGE;
        places.extend((0..PAGE).filter(|i| old[*i] != new[*i]).map(|i| start + i + 1));
    }
    places.pop();
    places
}

/// The pages of a torn unit with their terms: before the place `at` as after the write and from it on
/// as before, or the reverse.
#[must_use]
pub fn torn_pages(pages: &[PageChange], at: usize, new_first: bool) -> Vec<(Option<Page>, u128)> {
    let block = pages.first().map_or(0, |p| p.index - p.index % BLOCK_PAGES);
    let mixed = pages.iter().map(|change| {
        let start = (change.index - block) * PAGE;
        let within = at.saturating_sub(start).min(PAGE);
        let (old, new) = ((&change.before, change.before_term), (&change.after, change.after_term));
        let (first, second) = if new_first { (new, old) } else { (old, new) };
        if within == 0 || within == PAGE {
            let (page, term) = if within == 0 { second } else { first };
            return (page.clone(), term);
        }
        let mut bytes = *bytes_of(first.0.as_ref());
        bytes[within..].copy_from_slice(&bytes_of(second.0.as_ref())[within..]);
        let page = page_of(&bytes);
        let term = page_term(change.index, page_hash(page.as_ref()));
        (page, term)
    });
    mixed.collect()
}

/// A trace, split.
#[derive(Clone, Debug)]
pub struct Micro {
    /// The micro-operations, in order.
    pub ops: Vec<MicroOp>,
    /// For each step the number of micro-operations before it, and at the end the number of all.
    pub starts: Vec<usize>,
    /// For each step that syncs a directory, which.
    pub synced: BTreeMap<usize, Dir>,
}

/// Splits the steps of a trace that begins on `tree`.
///
/// # Panics
/// If the trace writes to an inode that it did not create and that was not there, or uses a name in a
/// directory that is not there.
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
        growths: BTreeMap::new(),
        names: BTreeMap::new(),
        metadata: None,
        made: BTreeMap::new(),
        moved: None,
        suspect: BTreeMap::new(),
        starts: Vec::with_capacity(steps.len() + 1),
        synced: BTreeMap::new(),
    };
    for (i, step) in steps.iter().enumerate() {
        splitter.starts.push(splitter.ops.len());
        splitter.step = i;
        splitter.take(step);
    }
    splitter.starts.push(splitter.ops.len());
    Micro { ops: splitter.ops, starts: splitter.starts, synced: splitter.synced }
}

/// The tree with nothing lost so far, and the last micro-operation that touched each thing.
struct Splitter {
    profile: Profile,
    unit: usize,
    step: usize,
    tree: Tree,
    ops: Vec<MicroOp>,
    units: BTreeMap<(Ino, usize), usize>,
    /// The last length of each file that a later one must come after.
    sizes: BTreeMap<Ino, usize>,
    /// The growths since then that later lengths do not wait for.
    growths: BTreeMap<Ino, Vec<usize>>,
    names: BTreeMap<Name, usize>,
    metadata: Option<usize>,
    /// What made each directory.
    made: BTreeMap<Dir, usize>,
    /// The last move of a directory to another directory.
    moved: Option<usize>,
    starts: Vec<usize>,
    synced: BTreeMap<usize, Dir>,
    /// Micro-operations on the file below this number may be what a failed sync left in doubt.
    suspect: BTreeMap<Ino, usize>,
}

impl Splitter {
    fn take(&mut self, step: &Step) {
        match &step.op {
            Op::CreateDir { path } => {
                let dir = self.tree.new_dir();
                let id = self.add_name(path, Entry::Dir(dir));
                self.made.insert(dir, id);
            }
            Op::Create { path, ino } => {
                self.new_body(*ino);
                self.add_name(path, Entry::File(*ino));
            }
            Op::CreateUnnamed { ino } => self.new_body(*ino),
            Op::Link { path, ino } => {
                self.add_name(path, Entry::File(*ino));
            }
            Op::Symlink { path, target } => {
                self.add_name(path, Entry::Link(target.as_str().into()));
            }
            Op::Rename { from, to } => self.rename(from, to),
            Op::Exchange { one, other } => {
                let (one, other) = (self.tree.name(one), self.tree.name(other));
                let after = self.moves(&[&one, &other]);
                let id = self.change_names(
                    Effect::Exchange { one: one.clone(), other: other.clone() },
                    &[&one, &other],
                    after,
                );
                self.note_move(&one, &other, id);
            }
            Op::Remove { path } | Op::RemoveDir { path } => {
                let name = self.tree.name(path);
                let after = self.emptied(&name);
                self.change_names(Effect::Remove { name: name.clone() }, &[&name], after);
            }
            Op::Write { ino, offset, data } => self.write(*ino, *offset, data),
            Op::Zero { ino, offset, len } => self.zero(*ino, *offset, *len),
            Op::SetLen { ino, len } => self.set_len(*ino, *len),
            Op::SyncData { ino } | Op::SyncAll { ino } if step.failed => {
                let covered = step.since.map_or(self.ops.len(), |since| self.starts[since]);
                self.suspect.insert(*ino, covered);
            }
            Op::SyncDir { path } => {
                let dir = self.tree.dir(path).unwrap_or_else(|| panic!("{path} is synced and not there"));
                self.synced.insert(self.step, dir);
            }
            Op::SyncData { .. } | Op::SyncAll { .. } | Op::Mark(_) => {}
        }
    }

    fn new_body(&mut self, ino: Ino) {
        let before = self.tree.bodies.insert(ino, Body::default());
        assert!(before.is_none(), "{ino:?} is created twice");
    }

    fn rename(&mut self, from: &str, to: &str) {
        let (from, to) = (self.tree.name(from), self.tree.name(to));
        let entry = self.tree.names.get(&from).unwrap_or_else(|| panic!("{from:?} is not there")).clone();
        let mut after = self.emptied(&to);
        if let Entry::File(ino) = entry
            && self.profile.orders_renames()
            && self.tree.names.contains_key(&to)
        {
            after.extend(self.units.range((ino, 0)..=(ino, usize::MAX)).map(|(_, op)| *op));
            after.extend(self.growths.get(&ino).into_iter().flatten().chain(self.sizes.get(&ino)));
        }
        after.extend(self.moves(&[&from]));
        let is_dir = matches!(entry, Entry::Dir(_));
        if !is_dir && from.dir != to.dir && !self.profile.moves_at_once() {
            let effect = Effect::Arrive { from: from.clone(), to: to.clone(), entry };
            let arrived = self.change_names(effect, &[&from, &to], after);
            let effect = Effect::Leave { from: from.clone(), to: to.clone() };
            self.change_names(effect, &[&from, &to], vec![arrived]);
            return;
        }
        let effect = Effect::Rename { from: from.clone(), to: to.clone(), entry };
        let id = self.change_names(effect, &[&from, &to], after);
        if is_dir {
            self.note_move(&from, &to, id);
        }
    }

    /// The last move of a directory, if one of these names a directory.
    fn moves(&self, names: &[&Name]) -> Vec<usize> {
        let is_dir = |name: &&Name| matches!(self.tree.names.get(name), Some(Entry::Dir(_)));
        if names.iter().any(is_dir) { self.moved.into_iter().collect() } else { Vec::new() }
    }

    fn note_move(&mut self, from: &Name, to: &Name, id: usize) {
        if from.dir != to.dir {
            self.moved = Some(id);
        }
    }

    /// The last changes of the names in the directory that a name names, if it does.
    fn emptied(&self, name: &Name) -> Vec<usize> {
        let Some(Entry::Dir(dir)) = self.tree.names.get(name) else { return Vec::new() };
        let within = first_in(*dir)..first_in(Dir(dir.0 + 1));
        self.names.range(within).map(|(_, op)| *op).collect()
    }

    fn add_name(&mut self, path: &str, entry: Entry) -> usize {
        let name = self.tree.name(path);
        self.change_names(Effect::Add { name: name.clone(), entry }, &[&name], Vec::new())
    }

    /// Adds a change of names: after the last change of each of them and the making of its directory.
    fn change_names(&mut self, effect: Effect, names: &[&Name], mut after: Vec<usize>) -> usize {
        after.extend(names.iter().filter_map(|name| self.names.get(name)));
        after.extend(names.iter().filter_map(|name| self.made.get(&name.dir)));
        effect.apply_to_names(&mut self.tree);
        let id = self.add_metadata(effect, after);
        for name in names {
            self.names.insert((*name).clone(), id);
        }
        id
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
        let changed = self.changed_units(ino, start, data);
        let zeros = data.iter().all(|b| *b == 0);
        self.add_units(ino, changed, zeros, true);
        self.grow_by_write(ino, (start + data.len()) as u64);
    }

    /// Zeros within the file.
    fn zero(&mut self, ino: Ino, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.body(ino).len);
        let count = usize::try_from(end.saturating_sub(offset)).expect("a file fits in memory");
        let start = usize::try_from(offset).expect("an offset fits in memory");
        if count > 0 {
            let changed = self.changed_units(ino, start, &vec![0; count]);
            self.add_units(ino, changed, true, false);
        }
    }

    /// The units that a write changes, with their pages.
    fn changed_units(&self, ino: Ino, start: usize, data: &[u8]) -> Vec<(usize, Vec<PageChange>)> {
        let unit_bytes = self.unit * PAGE;
        let units = start / unit_bytes..(start + data.len()).div_ceil(unit_bytes);
        let mut changed: Vec<(usize, Vec<PageChange>)> = Vec::new();
        for unit in units {
            let pages = self.changes(ino, unit, start, data);
            if !pages.is_empty() || self.is_suspect(ino, unit) {
                changed.push((unit, pages));
            }
        }
        changed
    }

    /// Adds changed units, each alone or, if they are a long run of zeros, by halves.
    fn add_units(
        &mut self,
        ino: Ino,
        mut changed: Vec<(usize, Vec<PageChange>)>,
        zeros: bool,
        tearable: bool,
    ) {
        let pages: usize = changed.iter().map(|(_, pages)| pages.len()).sum();
        if zeros && pages > LONG_RUN && changed.len() > 1 {
            let second = changed.split_off(changed.len().div_ceil(2));
            let first = self.add_data(ino, changed, false, None);
            self.add_data(ino, second, false, Some(first));
        } else {
            for unit in changed {
                self.add_data(ino, vec![unit], tearable, None);
            }
        }
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
            self.grow(ino, middle);
        }
        if end > len {
            self.grow(ino, end);
        }
    }

    /// A length that follows from a write: it is written back with the data, at a time of its own.
    fn grow(&mut self, ino: Ino, to: u64) {
        let from = self.body(ino).len;
        let mut after: Vec<usize> = self.sizes.get(&ino).copied().into_iter().collect();
        if self.profile.journals_metadata() {
            after.extend(self.metadata);
        }
        if self.profile.orders_growth() {
            let unit_bytes = (self.unit * PAGE) as u64;
            let unit = |byte: u64| usize::try_from(byte / unit_bytes).expect("a file fits in memory");
            let units = (ino, unit(from))..=(ino, unit(to - 1));
            after.extend(self.units.range(units).map(|(_, op)| *op));
        }
        let id = self.resize(ino, to, after);
        if self.profile.orders_growth() {
            self.growths.entry(ino).or_default().push(id);
        } else {
            self.sizes.insert(ino, id);
        }
    }

    /// A length that was asked for: it is a change of the file's metadata.
    fn set_len(&mut self, ino: Ino, to: u64) {
        if self.body(ino).len == to {
            return;
        }
        let mut after: Vec<usize> = self.sizes.get(&ino).copied().into_iter().collect();
        if self.profile.journals_metadata() {
            after.extend(self.metadata);
        }
        let id = self.resize(ino, to, after);
        self.metadata = Some(id);
        self.sizes.insert(ino, id);
        self.growths.remove(&ino);
    }

    fn resize(&mut self, ino: Ino, to: u64, after: Vec<usize>) -> usize {
        let from = self.body(ino).len;
        let effect = Effect::Size { ino, from, to };
        effect.apply_to(self.tree.bodies.get_mut(&ino).expect("it was there for its length"));
        self.add(effect, after)
    }
}
