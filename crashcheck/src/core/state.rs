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

use crate::core::body::{Body, Entry, Listed, Tree};
use crate::core::choices::{Choice, MAX_FREE, Mask, Order, Tear};
use crate::core::doubt::{Doubt, Pending};
use crate::core::image::{Image, Page, dir_term, file_term, link_term};
use crate::core::micro::{Effect, MicroOp, tear_places, torn_pages};
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
    list: Vec<Listed>,
    /// The part of the hash that no pending data changes.
    fixed: u128,
    /// The names of files of which something is pending.
    touched: Vec<(u128, usize)>,
}

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
        tear_places(&self.op(bit).effect)
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
        torn_pages(pages, tear.at, tear.new_first)
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
        let mut tree = Tree { names: self.doubt.base.names.clone(), ..Tree::default() };
        for (at, pending) in self.doubt.pending.iter().enumerate() {
            if self.keeps(at, &key) {
                self.op_of(pending).effect.apply_to_names(&mut tree);
            }
        }
        let mut names = Names { list: tree.list(), fixed: 0, touched: Vec::new() };
        for listed in &names.list {
            let term = match &listed.entry {
                Entry::Dir(_) => dir_term(listed.hash),
                Entry::Link(target) => link_term(listed.hash, target),
                Entry::File(ino) => {
                    if let Some(slot) = self.slot_of.get(ino) {
                        names.touched.push((listed.hash, *slot));
                        continue;
                    }
                    let (sum, len) = self.doubt.base.bodies.get(ino).map_or((0, 0), |b| (b.sum, b.len));
                    file_term(listed.hash, sum, len)
                }
            };
            names.fixed = names.fixed.wrapping_add(term);
        }
        self.name_views.push(names);
        self.name_memo.insert(key, self.name_views.len() - 1);
        self.name_views.len() - 1
    }

    fn op_of(&self, pending: &Pending) -> &'a MicroOp {
        self.doubt.op(pending)
    }

    /// A file of a choice's state.
    fn file(&self, ino: Ino, choice: &Choice) -> Cow<'_, Body> {
        match (self.slot_of.get(&ino), self.doubt.base.bodies.get(&ino)) {
            (Some(slot), _) => Cow::Owned(self.body(*slot, choice)),
            (None, Some(body)) => Cow::Borrowed(body),
            (None, None) => Cow::Owned(Body::default()),
        }
    }

    /// The bytes of a choice's state.
    pub fn image(&mut self, choice: &Choice) -> Image {
        let names = self.names(&choice.kept);
        let mut image = Image::default();
        for Listed { path, entry, .. } in &self.name_views[names].list {
            image.put(path, entry, |ino| Body::content(self.file(ino, choice)));
        }
        image
    }

    /// The state of a choice as the tree on which `trace`, recorded on its image, begins.
    ///
    /// # Panics
    /// If the trace has no inode for a file of the state.
    pub fn tree(&mut self, choice: &Choice, trace: &Trace) -> Tree {
        let names = self.names(&choice.kept);
        let mut tree = Tree::default();
        for Listed { path, name, entry, .. } in &self.name_views[names].list {
            let entry = match entry {
                Entry::File(old) => {
                    let ino = trace.inos.get(&**path);
                    let ino = *ino.unwrap_or_else(|| panic!("the recovery's trace has no inode for {path}"));
                    tree.bodies.insert(ino, self.file(*old, choice).into_owned());
                    Entry::File(ino)
                }
                Entry::Dir(dir) => {
                    tree.newest = tree.newest.max(dir.0);
                    entry.clone()
                }
                Entry::Link(_) => entry.clone(),
            };
            tree.names.insert(name.clone(), entry);
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
