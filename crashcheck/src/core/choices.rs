//! Which crash states of a cut are tried.
//!
//! I own the enumeration. At a cut with n free micro-operations a crash keeps a *down-closed* set: with
//! each also all that must be kept before it. With n at most [`Bounds::max_subset_units`] every such set
//! is tried, once. Above, tried are: everything but any `omissions` micro-operations (and what cannot be
//! kept without those), any `omissions` micro-operations (and what must be kept with those) and nothing
//! else, and every prefix in the order of issue; the caller counts such cuts.
//!
//! With [`Tears::One`] each data micro-operation of one unit is also torn: the first b of its bytes new
//! and the rest old, or the reverse, for every b that gives another mixture, once with everything else
//! kept that can be, once with nothing else kept that need not be. With at most
//! [`TORN_SUBSETS`] free ones it is torn at up to five places (after the first differing byte, before
//! the last, in the middle, at the first and the last 8-byte edge between) with every set of the others.
//! One unit is torn in a state, never two. The halves of a long run of zeros are not torn.
//!
//! I do not know what the micro-operations are, only their order and where their bytes differ.

use std::fmt;
use std::ops::ControlFlow;

use serde::Serialize;

use crate::core::method::Method;
use crate::core::profile::{Profile, Unit};

/// How many micro-operations of one cut can be told apart; the newest above are taken as lost.
pub const MAX_FREE: usize = 64 * WORDS;

/// The most free micro-operations with which a torn unit meets every set of the others.
pub const TORN_SUBSETS: usize = 6;

const WORDS: usize = 8;

/// Whether units are torn inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tears {
    /// Each unit is old or new.
    None,
    /// At most one unit of a state is a mixture of old and new.
    One,
}

/// How far the exploration goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// Up to so many free micro-operations every subset is tried.
    pub max_subset_units: usize,
    /// Above that, how many are omitted, or kept.
    pub omissions: usize,
    /// Whether units are torn.
    pub tears: Tears,
    /// How many recoveries in a row are themselves cut by a crash.
    pub nested_depth: u8,
    /// The order that is kept.
    pub profile: Profile,
    /// The tear unit.
    pub unit: Unit,
    /// Which of the states that are left are tried; all, but to compare with other methods.
    pub method: Method,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_subset_units: 10,
            omissions: 2,
            tears: Tears::None,
            nested_depth: 0,
            profile: Profile::PosixStrict,
            unit: Unit::Sector,
            method: Method::All,
        }
    }
}

/// A set of the free micro-operations of a cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mask([u64; WORDS]);

impl Mask {
    /// The first `n`.
    #[must_use]
    pub fn first(n: usize) -> Self {
        (0..n).fold(Self::default(), |mut mask, bit| {
            mask.insert(bit);
            mask
        })
    }

    /// Adds one.
    pub fn insert(&mut self, bit: usize) {
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    /// Takes one out.
    pub fn remove(&mut self, bit: usize) {
        self.0[bit / 64] &= !(1 << (bit % 64));
    }

    /// Whether one is in. Those beyond [`MAX_FREE`] never are.
    #[must_use]
    #[inline]
    pub fn has(&self, bit: usize) -> bool {
        self.0.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// What is in either.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// What is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// What is here and not there.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// Whether all of it is in the other.
    #[must_use]
    pub fn within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & !b == 0)
    }

    /// Whether nothing is in.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The largest in it.
    #[must_use]
    pub fn last(&self) -> Option<usize> {
        let word = self.0.iter().rposition(|word| *word != 0)?;
        Some(word * 64 + 63 - self.0[word].leading_zeros() as usize)
    }

    /// What is in it, ascending.
    pub fn bits(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(i, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.checked_sub(1)?;
                Some(i * 64 + bit)
            })
        })
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.0.iter().rev().map(|word| format!("{word:016x}")).collect();
        let short = text.trim_start_matches('0');
        f.write_str(if short.is_empty() { "0" } else { short })
    }
}

/// A unit torn inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tear {
    /// Which free micro-operation; it is not in the kept set.
    pub bit: usize,
    /// Where, in bytes from the start of the 4096-byte block that the unit is, or is in.
    pub at: usize,
    /// Whether the bytes before `at` are the new ones, or those from it on.
    pub new_first: bool,
}

/// One crash state of a cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Choice {
    /// What is kept.
    pub kept: Mask,
    /// What is torn.
    pub tear: Option<Tear>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k{}", self.kept)?;
        match self.tear {
            Some(Tear { bit, at, new_first }) => {
                write!(f, "-t{bit}{}{at}", if new_first { 'n' } else { 'o' })
            }
            None => Ok(()),
        }
    }
}

impl Choice {
    /// Reads what `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kept, tear) = match text.strip_prefix('k')?.split_once("-t") {
            Some((kept, tear)) => (kept, Some(tear)),
            None => (text.strip_prefix('k')?, None),
        };
        let mut mask = Mask::default();
        for (i, digit) in kept.chars().rev().enumerate() {
            let digit = digit.to_digit(16)?;
            let bits = (0..4).filter(|b| digit >> b & 1 == 1);
            bits.map(|b| i * 4 + b).try_for_each(|bit| (bit < MAX_FREE).then(|| mask.insert(bit)))?;
        }
        let tear = match tear {
            Some(tear) => {
                let (bit, at) = tear.split_once(['n', 'o'])?;
                Some(Tear { bit: bit.parse().ok()?, at: at.parse().ok()?, new_first: tear.contains('n') })
            }
            None => None,
        };
        Some(Self { kept: mask, tear })
    }
}

/// The order among the free micro-operations of a cut, closed over: each set contains its owner.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// What must be kept with each.
    pub below: Vec<Mask>,
    /// What cannot be kept without each.
    pub above: Vec<Mask>,
}

impl Order {
    /// Closes an order given by the direct predecessors of each, all smaller than it.
    #[must_use]
    pub fn new(after: &[Vec<usize>]) -> Self {
        let mut below: Vec<Mask> = Vec::with_capacity(after.len());
        for (bit, before) in after.iter().enumerate() {
            let mut mask = before.iter().fold(Mask::default(), |mask, b| mask.or(&below[*b]));
            mask.insert(bit);
            below.push(mask);
        }
        let mut above = vec![Mask::default(); after.len()];
        for (bit, mask) in below.iter().enumerate() {
            mask.bits().for_each(|b| above[b].insert(bit));
        }
        Self { below, above }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.below.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.below.is_empty()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Mask {
        Mask::first(self.len())
    }

    /// Whether a set is down-closed.
    #[must_use]
    pub fn is_closed(&self, kept: &Mask) -> bool {
        kept.bits().all(|bit| bit < self.len() && self.below[bit].within(kept))
    }

    /// Every down-closed set that holds `must` and nothing of `never`; the largest first.
    fn closed_sets(&self, must: &Mask, never: &Mask, each: &mut Each<'_>) -> ControlFlow<()> {
        self.closed_from(0, Mask::default(), must, never, each)
    }

    fn closed_from(
        &self,
        bit: usize,
        kept: Mask,
        must: &Mask,
        never: &Mask,
        each: &mut Each<'_>,
    ) -> ControlFlow<()> {
        if bit == self.len() {
            return each(&kept);
        }
        let mut with = kept;
        with.insert(bit);
        if !never.has(bit) && self.below[bit].within(&with) {
            self.closed_from(bit + 1, with, must, never, each)?;
        }
        if must.has(bit) {
            ControlFlow::Continue(())
        } else {
            self.closed_from(bit + 1, kept, must, never, each)
        }
    }

    /// Every set of at most `most` of which none must be kept with another.
    fn antichains(&self, most: usize, each: &mut Each<'_>) -> ControlFlow<()> {
        self.antichains_from(0, Mask::default(), most, each)
    }

    fn antichains_from(&self, from: usize, set: Mask, most: usize, each: &mut Each<'_>) -> ControlFlow<()> {
        each(&set)?;
        if most == 0 {
            return ControlFlow::Continue(());
        }
        for bit in from..self.len() {
            if self.below[bit].and(&set).is_empty() {
                let mut more = set;
                more.insert(bit);
                self.antichains_from(bit + 1, more, most - 1, each)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Everything but `lost` and what cannot be kept without it.
    #[must_use]
    pub fn without(&self, lost: &Mask) -> Mask {
        lost.bits().fold(self.all(), |kept, bit| kept.minus(&self.above[bit]))
    }

    /// `kept` and what must be kept with it.
    #[must_use]
    pub fn closure(&self, kept: &Mask) -> Mask {
        kept.bits().fold(Mask::default(), |all, bit| all.or(&self.below[bit]))
    }
}

type Each<'a> = dyn FnMut(&Mask) -> ControlFlow<()> + 'a;

/// Calls `visit` with each choice, or with those in which something from `fresh` on is kept or torn.
/// `places` says where a free micro-operation can be torn: the numbers of first bytes
/// that give different mixtures, ascending; nothing if it cannot.
pub fn each(
    order: &Order,
    bounds: &Bounds,
    fresh: Option<usize>,
    places: &dyn Fn(usize) -> Vec<usize>,
    visit: &mut dyn FnMut(&Choice) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut filtered = |choice: &Choice| {
        let newest = choice.kept.last().max(choice.tear.map(|t| t.bit));
        let covered = fresh.is_some_and(|fresh| newest.is_none_or(|bit| bit < fresh));
        if covered { ControlFlow::Continue(()) } else { visit(choice) }
    };
    whole(order, bounds, &mut |kept| filtered(&Choice { kept: *kept, tear: None }))?;
    if bounds.tears == Tears::One {
        for bit in 0..order.len() {
            torn(order, bounds, bit, &places(bit), &mut filtered)?;
        }
    }
    ControlFlow::Continue(())
}

fn whole(order: &Order, bounds: &Bounds, visit: &mut Each<'_>) -> ControlFlow<()> {
    let none = Mask::default();
    if order.len() <= bounds.max_subset_units {
        return order.closed_sets(&none, &none, visit);
    }
    order.antichains(bounds.omissions, &mut |lost| visit(&order.without(lost)))?;
    order.antichains(bounds.omissions, &mut |kept| visit(&order.closure(kept)))?;
    (0..=order.len()).try_for_each(|n| visit(&order.closure(&Mask::first(n))))
}

fn torn(
    order: &Order,
    bounds: &Bounds,
    bit: usize,
    places: &[usize],
    visit: &mut dyn FnMut(&Choice) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let most = order.all().minus(&order.above[bit]);
    let mut least = order.below[bit];
    least.remove(bit);
    let mut at_each = |places: &[usize], kept: &Mask| {
        places.iter().try_for_each(|at| {
            [true, false].into_iter().try_for_each(|new_first| {
                visit(&Choice { kept: *kept, tear: Some(Tear { bit, at: *at, new_first }) })
            })
        })
    };
    at_each(places, &most)?;
    if least != most {
        at_each(places, &least)?;
    }
    if order.len() > TORN_SUBSETS.min(bounds.max_subset_units) {
        return ControlFlow::Continue(());
    }
    let few = few_places(places);
    order.closed_sets(&least, &order.above[bit], &mut |kept| {
        if *kept == least || *kept == most { ControlFlow::Continue(()) } else { at_each(&few, kept) }
    })
}

/// The first, the middle and the last place, and the first and the last on an 8-byte edge.
pub(crate) fn few_places(places: &[usize]) -> Vec<usize> {
    let edges = || places.iter().filter(|at| *at % 8 == 0);
    let mut few: Vec<usize> = [places.first(), places.get(places.len() / 2), places.last()]
        .into_iter()
        .chain([edges().next(), edges().next_back()])
        .flatten()
        .copied()
        .collect();
    few.sort_unstable();
    few.dedup();
    few
}
