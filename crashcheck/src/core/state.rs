//! One crash state: its hash without building it, and its bytes.
//!
//! I own the arithmetic. A [`View`] is a cut with its free micro-operations numbered; `hash` of a choice
//! equals the hash of `image` of that choice, always. A file of which only data is pending is hashed by
//! adding one difference for each micro-operation kept (the order of a unit's writes makes the
//! differences add up); a file whose length is pending is built once for each set of its own
//! micro-operations, and remembered. I do not know which choices are tried.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use crate::core::body::{Body, Name, Tree};
use crate::core::choices::{Choice, MAX_FREE, Mask, Order, Tear};
use crate::core::doubt::{Doubt, Pending};
use crate::core::image::{Image, PAGE, Page, bytes_of, dir_term, file_term, page_hash, page_of, page_term};
use crate::core::micro::{Effect, MicroOp};
use crate::core::trace::{Ino, Trace};

/// A cut, ready to make states of.
#[derive(Debug)]
pub struct View<'a> {
    doubt: &'a Doubt<'a>,
    /// The order of the free micro-operations.
    pub order: Order,
    /// For each free micro-operation its number in the trace.
    pub free: Vec<usize>,
    /// For each pending micro-operation its number among the free; `None` is always kept.
    bits: Vec<Option<usize>>,
    /// Whether there were more in doubt than can be told apart; the newest are then taken as lost.
    pub truncated: bool,
    slots: Vec<Slot>,
    slot_of: BTreeMap<Ino, usize>,
    name_mask: Mask,
    name_views: Vec<Names>,
    name_memo: FastMap<Mask, usize>,
}

/// A file of which something is pending.
#[derive(Debug)]
struct Slot {
    ino: Ino,
    mask: Mask,
    /// Whether no length is pending and nothing is forced.
    simple: bool,
    /// Its pending micro-operations, by place in `doubt.pending`.
    pending: Vec<usize>,
    /// The free ones with what keeping each adds to the sum of the file's pages.
    deltas: Vec<(usize, u128)>,
    sum: u128,
    len: u64,
    memo: FastMap<Mask, (u128, u64)>,
}

/// The names of one set of pending changes of names.
#[derive(Debug)]
struct Names {
    tree: Vec<(Name, Ino)>,
    dirs: Vec<Name>,
    /// The part of the hash that no pending data changes.
    fixed: u128,
    /// The names of files of which something is pending.
    touched: Vec<(u128, usize)>,
}

/// A tear's place is counted from the start of its block of so many pages.
const BLOCK_PAGES: usize = 8;

pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;

/// A hasher for masks and for keys that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }

    fn write_u128(&mut self, n: u128) {
        // The keys are hashes: their low half is as good as any.
        self.0 = n as u64;
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
}

impl<'a> View<'a> {
    /// The view of a place in a trace.
    #[must_use]
    pub fn new(doubt: &'a Doubt<'a>) -> Self {
        let mut view = Self {
            doubt,
            order: Order::default(),
            free: Vec::new(),
            bits: Vec::new(),
            truncated: false,
            slots: Vec::new(),
            slot_of: BTreeMap::new(),
            name_mask: Mask::default(),
            name_views: Vec::new(),
            name_memo: FastMap::default(),
        };
        view.number();
        for at in 0..doubt.pending.len() {
            view.place(at);
        }
        view
    }

    /// Numbers the free micro-operations and closes their order.
    fn number(&mut self) {
        let mut after: Vec<Vec<usize>> = Vec::new();
        for pending in &self.doubt.pending {
            if pending.forced {
                self.bits.push(None);
                continue;
            }
            if self.free.len() < MAX_FREE {
                let before = self.doubt.op(pending).after.iter();
                after.push(before.filter_map(|id| self.free.binary_search(id).ok()).collect());
            } else {
                self.truncated = true;
            }
            self.bits.push(Some(self.free.len()));
            self.free.push(pending.id);
        }
        self.free.truncate(MAX_FREE);
        self.order = Order::new(&after);
    }

    fn place(&mut self, at: usize) {
        let pending = &self.doubt.pending[at];
        let op = self.doubt.op(pending);
        let bit = self.bits[at].filter(|bit| *bit < MAX_FREE);
        let Some(ino) = op.effect.file() else {
            bit.into_iter().for_each(|bit| self.name_mask.insert(bit));
            return;
        };
        let doubt = self.doubt;
        let slots = &mut self.slots;
        let slot = *self.slot_of.entry(ino).or_insert_with(|| {
            slots.push(Slot::new(ino, doubt.base.bodies.get(&ino)));
            slots.len() - 1
        });
        let slot = &mut self.slots[slot];
        slot.pending.push(at);
        slot.simple &= !pending.forced && matches!(op.effect, Effect::Data { .. });
        if let (Some(bit), Effect::Data { pages, .. }) = (bit, &op.effect) {
            let terms = pages.iter().map(|p| p.after_term.wrapping_sub(p.before_term));
            slot.deltas.push((bit, terms.fold(0, u128::wrapping_add)));
        }
        bit.into_iter().for_each(|bit| slot.mask.insert(bit));
    }

    /// A free micro-operation.
    #[must_use]
    pub fn op(&self, bit: usize) -> &'a MicroOp {
        &self.doubt.micro.ops[self.free[bit]]
    }

    /// Where a free micro-operation can be torn: after each differing byte but the last.
    #[must_use]
    pub fn places(&self, bit: usize) -> Vec<usize> {
        let Effect::Data { pages, tearable: true, .. } = &self.op(bit).effect else { return Vec::new() };
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

    /// The hash of a choice's state.
    pub fn hash(&mut self, choice: &Choice) -> u128 {
        let names = self.names(&choice.kept);
        let mut total = self.name_views[names].fixed;
        for i in 0..self.name_views[names].touched.len() {
            let (path, slot) = self.name_views[names].touched[i];
            let (sum, len) = self.file_hash(slot, choice);
            total = total.wrapping_add(file_term(path, sum, len));
        }
        total
    }

    fn file_hash(&mut self, slot: usize, choice: &Choice) -> (u128, u64) {
        let torn = choice.tear.filter(|t| self.op(t.bit).effect.file() == Some(self.slots[slot].ino));
        let this = &self.slots[slot];
        if this.simple {
            let kept = this.deltas.iter().filter(|(bit, _)| choice.kept.has(*bit));
            let sum = kept.fold(this.sum, |sum, (_, delta)| sum.wrapping_add(*delta));
            let torn = torn.map_or(0, |tear| self.torn_delta(tear));
            return (sum.wrapping_add(torn), this.len);
        }
        if torn.is_some() {
            let body = self.body(slot, choice);
            return (body.sum, body.len);
        }
        let key = choice.kept.and(&this.mask);
        if let Some(known) = this.memo.get(&key) {
            return *known;
        }
        let body = self.body(slot, choice);
        self.slots[slot].memo.insert(key, (body.sum, body.len));
        (body.sum, body.len)
    }

    fn torn_delta(&self, tear: Tear) -> u128 {
        let Effect::Data { pages, .. } = &self.op(tear.bit).effect else { return 0 };
        self.torn_pages(tear)
            .into_iter()
            .zip(pages)
            .fold(0, |sum, (page, change)| sum.wrapping_add(page.1).wrapping_sub(change.before_term))
    }

    /// The torn unit's pages that change, with their terms.
    fn torn_pages(&self, tear: Tear) -> Vec<(Option<Page>, u128)> {
        let Effect::Data { pages, .. } = &self.op(tear.bit).effect else { return Vec::new() };
        let block = pages.first().map_or(0, |p| p.index - p.index % BLOCK_PAGES);
        let mixed = pages.iter().map(|change| {
            let start = (change.index - block) * PAGE;
            let within = tear.at.saturating_sub(start).min(PAGE);
            let (old, new) = ((&change.before, change.before_term), (&change.after, change.after_term));
            let (first, second) = if tear.new_first { (new, old) } else { (old, new) };
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

    /// Whether a pending micro-operation is kept.
    fn keeps(&self, at: usize, kept: &Mask) -> bool {
        self.bits[at].is_none_or(|bit| bit < MAX_FREE && kept.has(bit))
    }

    fn body(&self, slot: usize, choice: &Choice) -> Body {
        let slot = &self.slots[slot];
        let mut body = self.doubt.base.bodies.get(&slot.ino).cloned().unwrap_or_default();
        for at in &slot.pending {
            let op = self.doubt.op(&self.doubt.pending[*at]);
            if self.keeps(*at, &choice.kept) {
                op.effect.apply_to(&mut body);
            } else if let Some(tear) = choice.tear.filter(|t| self.bits[*at] == Some(t.bit)) {
                self.apply_torn(tear, &op.effect, &mut body);
            }
        }
        body.clip();
        body
    }

    fn apply_torn(&self, tear: Tear, effect: &Effect, body: &mut Body) {
        let Effect::Data { pages, .. } = effect else { return };
        for (change, (page, term)) in pages.iter().zip(self.torn_pages(tear)) {
            body.set(change.index, page, term);
        }
    }

    /// The names of a kept set, by place in `name_views`.
    fn names(&mut self, kept: &Mask) -> usize {
        let key = kept.and(&self.name_mask);
        if let Some(known) = self.name_memo.get(&key) {
            return *known;
        }
        let mut tree = Tree { dirs: self.doubt.base.dirs.clone(), ..Tree::default() };
        tree.names.clone_from(&self.doubt.base.names);
        for (at, pending) in self.doubt.pending.iter().enumerate() {
            if self.keeps(at, &key) {
                self.op_of(pending).effect.apply_to_names(&mut tree);
            }
        }
        let mut names = Names { tree: Vec::new(), dirs: Vec::new(), fixed: 0, touched: Vec::new() };
        for (name, ino) in tree.names {
            if let Some(slot) = self.slot_of.get(&ino) {
                names.touched.push((name.hash, *slot));
            } else {
                let (sum, len) = self.doubt.base.bodies.get(&ino).map_or((0, 0), |b| (b.sum, b.len));
                names.fixed = names.fixed.wrapping_add(file_term(name.hash, sum, len));
            }
            names.tree.push((name, ino));
        }
        names.dirs.extend(tree.dirs);
        let dirs = names.dirs.iter().map(|name| dir_term(name.hash));
        names.fixed = dirs.fold(names.fixed, u128::wrapping_add);
        self.name_views.push(names);
        self.name_memo.insert(key, self.name_views.len() - 1);
        self.name_views.len() - 1
    }

    fn op_of(&self, pending: &Pending) -> &'a MicroOp {
        self.doubt.op(pending)
    }

    /// The files of a choice's state, by name.
    fn files(&self, names: usize, choice: &Choice) -> impl Iterator<Item = (&Name, Cow<'_, Body>)> {
        self.name_views[names].tree.iter().map(move |(name, ino)| {
            let body = match (self.slot_of.get(ino), self.doubt.base.bodies.get(ino)) {
                (Some(slot), _) => Cow::Owned(self.body(*slot, choice)),
                (None, Some(body)) => Cow::Borrowed(body),
                (None, None) => Cow::Owned(Body::default()),
            };
            (name, body)
        })
    }

    /// The bytes of a choice's state.
    pub fn image(&mut self, choice: &Choice) -> Image {
        let names = self.names(&choice.kept);
        let dirs = self.name_views[names].dirs.iter().map(|name| name.path.to_string()).collect();
        let files =
            self.files(names, choice).map(|(name, body)| (name.path.to_string(), Body::content(body)));
        Image { dirs, files: files.collect() }
    }

    /// The state of a choice as the tree on which `trace`, recorded on its image, begins.
    ///
    /// # Panics
    /// If the trace has no inode for a file of the state.
    pub fn tree(&mut self, choice: &Choice, trace: &Trace) -> Tree {
        let names = self.names(&choice.kept);
        let mut tree =
            Tree { dirs: self.name_views[names].dirs.iter().cloned().collect(), ..Tree::default() };
        for (name, body) in self.files(names, choice) {
            let ino = trace.inos.get(&*name.path);
            let ino = *ino.unwrap_or_else(|| panic!("the recovery's trace has no inode for {}", name.path));
            tree.names.insert(name.clone(), ino);
            tree.bodies.insert(ino, body.into_owned());
        }
        tree
    }
}

impl Slot {
    fn new(ino: Ino, base: Option<&Body>) -> Self {
        let (sum, len) = base.map_or((0, 0), |body| (body.sum, body.len));
        Self {
            ino,
            mask: Mask::default(),
            simple: true,
            pending: Vec::new(),
            deltas: Vec::new(),
            sum,
            len,
            memo: FastMap::default(),
        }
    }
}
