//! The crash states of a recording: which there are, and what is in each.
//!
//! I own the arithmetic for any program, where a cut may have thousands of micro-operations in doubt. A
//! state is named by its [`Loss`]: where the crash falls, which of the micro-operations before it are
//! lost, and which of the lost is torn, that is kept in part. What cannot be kept without something lost
//! is lost too; what a sync made durable cannot be. I do not know which states are tried (see `search`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::body::{Body, Entry, Listed, Tree};
use crate::core::doubt::{Doubt, Pending};
use crate::core::image::{dir_term, file_term, link_term};
use crate::core::micro::{Effect, Micro, MicroOp, split, tear_places, torn_pages};
use crate::core::profile::{Profile, Unit};
use crate::core::trace::{Ino, Step, Trace};
use crate::program::recording::Recording;

/// The name of a crash state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Loss {
    /// After how many steps the crash falls.
    pub cut: usize,
    /// The micro-operations that are lost, ascending.
    pub lost: Vec<u32>,
    /// Which of them is kept in part.
    pub torn: Option<Torn>,
}

/// A unit that is part new and part old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Torn {
    /// The micro-operation; it is among the lost.
    pub op: u32,
    /// Where, in bytes from the start of the 4096-byte block that it is in.
    pub at: usize,
    /// Whether the bytes before `at` are the new ones, or those from it on.
    pub new_first: bool,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cut)?;
        let mut rest = &self.lost[..];
        while let Some(first) = rest.first() {
            let run = rest.iter().zip(*first..).take_while(|(lost, number)| *lost == number).count();
            write!(f, "-{first}")?;
            if run > 1 {
                write!(f, "x{run}")?;
            }
            rest = &rest[run..];
        }
        match self.torn {
            Some(Torn { op, at, new_first }) => write!(f, "-t{op}{}{at}", if new_first { 'n' } else { 'o' }),
            None => Ok(()),
        }
    }
}

impl Loss {
    /// Reads what `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut loss = Self { cut: parts.next()?.parse().ok()?, ..Self::default() };
        for part in parts {
            if let Some(torn) = part.strip_prefix('t') {
                let (op, at) = torn.split_once(['n', 'o'])?;
                let new_first = torn.contains('n');
                loss.torn = Some(Torn { op: op.parse().ok()?, at: at.parse().ok()?, new_first });
            } else {
                let (first, run) = part.split_once('x').unwrap_or((part, "1"));
                let (first, run): (u32, u32) = (first.parse().ok()?, run.parse().ok()?);
                loss.lost.extend((0..run.min(1 << 24)).map_while(|i| first.checked_add(i)));
            }
        }
        Some(loss)
    }
}

/// A trace, split under a profile.
#[derive(Clone, Debug)]
pub struct Script {
    /// The tree on which it begins.
    pub tree: Tree,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Its micro-operations; a profile may make one of what another makes two of.
    pub micro: Micro,
    /// The call site of each step, as a number; 0, or none at all, where it is not known.
    pub sites: Vec<u32>,
}

impl Script {
    /// Splits a trace.
    #[must_use]
    pub fn new(trace: &Trace, profile: Profile, unit: Unit) -> Self {
        let tree = Tree::initial(trace);
        let micro = split(&tree, &trace.steps, profile, unit);
        Self { tree, steps: trace.steps.clone(), micro, sites: Vec::new() }
    }

    /// Splits a recording, and keeps where its steps were called.
    #[must_use]
    pub fn of(recording: &Recording, profile: Profile, unit: Unit) -> Self {
        let sites = recording.metas.iter().map(|meta| meta.site).collect();
        Self { sites, ..Self::new(&recording.trace, profile, unit) }
    }

    /// The micro-operations of a step.
    fn ops(&self, step: usize) -> std::ops::Range<u32> {
        let number = |at: usize| u32::try_from(self.micro.starts[at]).expect("fewer than 2^32");
        number(step)..number(step + 1)
    }

    /// A loss of this script by the numbers of another script of the same steps; `None` if it loses a part of
    /// a step that the other loses or keeps as a whole.
    #[must_use]
    pub fn translate(&self, loss: &Loss, other: &Self) -> Option<Loss> {
        let mut translated = Loss { cut: loss.cut, ..Loss::default() };
        let number = |op: u32| {
            let step = self.op(op).step;
            let (ours, theirs) = (self.ops(step), other.ops(step));
            (ours.len() == theirs.len()).then(|| theirs.start + (op - ours.start))
        };
        let mut rest = &loss.lost[..];
        while let Some(first) = rest.first() {
            let step = self.op(*first).step;
            let (ours, theirs) = (self.ops(step), other.ops(step));
            let here = rest.iter().take_while(|op| ours.contains(op)).count();
            if ours.len() == theirs.len() {
                translated.lost.extend(rest[..here].iter().filter_map(|op| number(*op)));
            } else if here == ours.len() {
                translated.lost.extend(theirs);
            } else {
                return None;
            }
            rest = &rest[here..];
        }
        translated.torn = loss.torn.and_then(|torn| Some(Torn { op: number(torn.op)?, ..torn }));
        (translated.torn.is_some() == loss.torn.is_some()).then_some(translated)
    }

    /// A micro-operation.
    #[must_use]
    pub fn op(&self, number: u32) -> &MicroOp {
        &self.micro.ops[number as usize]
    }
}

/// A place in a script, from which its states are made.
#[derive(Debug)]
pub struct Scene<'a> {
    script: &'a Script,
    doubt: Doubt<'a>,
    at: usize,
    lists: HashMap<Vec<u32>, Arc<Vec<Listed>>>,
}

/// One crash state.
#[derive(Debug)]
pub struct State<'s> {
    /// What has a path, parents first.
    pub list: Arc<Vec<Listed>>,
    touched: BTreeMap<Ino, Body>,
    base: &'s BTreeMap<Ino, Body>,
}

impl State<'_> {
    /// A file's bytes; `None` if it is empty.
    #[must_use]
    pub fn body(&self, ino: Ino) -> Option<&Body> {
        self.touched.get(&ino).or_else(|| self.base.get(&ino))
    }

    /// The hash of the state's bytes and names.
    #[must_use]
    pub fn hash(&self) -> u128 {
        let terms = self.list.iter().map(|listed| match &listed.entry {
            Entry::Dir(_) => dir_term(listed.hash),
            Entry::Link(target) => link_term(listed.hash, target),
            Entry::File(ino) => {
                let (sum, len) = self.body(*ino).map_or((0, 0), |body| (body.sum, body.len));
                file_term(listed.hash, sum, len)
            }
        });
        terms.fold(0, u128::wrapping_add)
    }
}

impl<'a> Scene<'a> {
    /// The place before the first step.
    #[must_use]
    pub fn new(script: &'a Script) -> Self {
        let doubt = Doubt::new(script.tree.clone(), &script.steps, &script.micro);
        Self { script, doubt, at: 0, lists: HashMap::new() }
    }

    /// Goes to a cut; backwards means from the start again.
    ///
    /// # Panics
    /// If the script is shorter.
    pub fn go(&mut self, cut: usize) {
        if cut < self.at {
            *self = Self::new(self.script);
        }
        if cut != self.at {
            self.lists.clear();
        }
        while self.at < cut {
            self.doubt.advance();
            self.at += 1;
        }
    }

    /// The micro-operations that a crash here may lose, ascending.
    #[must_use]
    pub fn free(&self) -> Vec<u32> {
        self.doubt.pending.iter().filter(|p| !p.forced).map(number).collect()
    }

    /// What is lost when at least `lost` is: everything that cannot be kept without it. `None` if a sync
    /// made some of it durable.
    #[must_use]
    pub fn close(&self, lost: &BTreeSet<u32>) -> Option<Vec<u32>> {
        let mut closed: Vec<u32> = Vec::new();
        let mut met = 0;
        for pending in &self.doubt.pending {
            let id = number(pending);
            let given = lost.contains(&id);
            met += usize::from(given);
            let needs = |after: &usize| {
                let after = u32::try_from(*after).expect("fewer than 2^32");
                closed.binary_search(&after).is_ok()
            };
            if given || self.doubt.op(pending).after.iter().any(needs) {
                if pending.forced {
                    return None;
                }
                closed.push(id);
            }
        }
        (met == lost.len()).then_some(closed)
    }

    /// The loss of at least `lost` here, if a crash may lose that.
    #[must_use]
    pub fn losing(&self, lost: impl IntoIterator<Item = u32>) -> Option<Loss> {
        let lost = self.close(&lost.into_iter().collect())?;
        Some(Loss { cut: self.at, lost, torn: None })
    }

    /// Whether a crash here may leave a state.
    #[must_use]
    pub fn allows(&self, loss: &Loss) -> bool {
        let lost: BTreeSet<u32> = loss.lost.iter().copied().collect();
        let torn = loss.torn.is_none_or(|torn| {
            let places = self.script.micro.ops.get(torn.op as usize).map(|op| tear_places(&op.effect));
            lost.contains(&torn.op) && places.is_some_and(|places| places.contains(&torn.at))
        });
        torn && loss.cut == self.at && self.close(&lost).is_some_and(|closed| closed == loss.lost)
    }

    /// The state of a loss, which a crash here may leave.
    pub fn state(&mut self, loss: &Loss) -> State<'_> {
        let list = self.list(loss);
        let mut touched: BTreeMap<Ino, Body> = BTreeMap::new();
        let mut lost = loss.lost.iter().copied().peekable();
        for pending in &self.doubt.pending {
            let op = self.doubt.op(pending);
            let is_lost = lost.next_if_eq(&number(pending)).is_some();
            let Some(ino) = op.effect.file() else { continue };
            let body = touched
                .entry(ino)
                .or_insert_with(|| self.doubt.base.bodies.get(&ino).cloned().unwrap_or_default());
            if !is_lost {
                op.effect.apply_to(body);
            } else if let Some(torn) = loss.torn.filter(|torn| torn.op == number(pending))
                && let Effect::Data { pages, .. } = &op.effect
            {
                for (change, (page, term)) in pages.iter().zip(torn_pages(pages, torn.at, torn.new_first)) {
                    body.set(change.index, page, term);
                }
            }
        }
        touched.values_mut().for_each(Body::clip);
        State { list, touched, base: &self.doubt.base.bodies }
    }

    /// The names of a loss's state.
    fn list(&mut self, loss: &Loss) -> Arc<Vec<Listed>> {
        let lost: Vec<u32> =
            loss.lost.iter().copied().filter(|op| self.script.op(*op).effect.file().is_none()).collect();
        if let Some(known) = self.lists.get(&lost) {
            return Arc::clone(known);
        }
        let mut tree = Tree { names: self.doubt.base.names.clone(), ..Tree::default() };
        for pending in &self.doubt.pending {
            if lost.binary_search(&number(pending)).is_err() {
                self.doubt.op(pending).effect.apply_to_names(&mut tree);
            }
        }
        let list = Arc::new(tree.list());
        self.lists.insert(lost, Arc::clone(&list));
        list
    }
}

fn number(pending: &Pending) -> u32 {
    u32::try_from(pending.id).expect("fewer micro-operations than 2^32")
}
