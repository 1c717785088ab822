//! The name of a crash state, and the state again by its name.
//!
//! I own the names: `seed.run.cut.choice`, then `/cut.choice` for each recovery that was cut in turn. The
//! first cut counts the run's steps, each later one the steps of the recovery before it. A choice is `k`
//! and the kept micro-operations in hex, with `-t`, the torn one, `n` (its first bytes are new) or `o`
//! (old), and where. A name means something under the profile and the unit under which it was found.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::Serialize;

use crate::core::body::Tree;
use crate::core::choices::{Bounds, Choice, Order};
use crate::core::doubt::Doubt;
use crate::core::explore::judge;
use crate::core::image::Image;
use crate::core::micro::{Effect, MicroOp, split};
use crate::core::state::View;
use crate::core::subject::{Subject, Violation};
use crate::core::trace::{Ino, Op, Step, Trace};

/// The name of a crash state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// The seed of the runs.
    pub seed: u64,
    /// The run.
    pub run: u64,
    /// The cut and the choice in the run's trace, then in that of each recovery.
    pub path: Vec<(usize, Choice)>,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seed, self.run)?;
        for (i, (cut, choice)) in self.path.iter().enumerate() {
            write!(f, "{}{cut}.{choice}", if i == 0 { '.' } else { '/' })?;
        }
        Ok(())
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Id {
    /// Reads what `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (seed, rest) = text.split_once('.')?;
        let (run, rest) = rest.split_once('.')?;
        let level = |part: &str| {
            let (cut, choice) = part.split_once('.')?;
            Some((cut.parse().ok()?, Choice::parse(choice)?))
        };
        let path = rest.split('/').map(level).collect::<Option<Vec<_>>>()?;
        Some(Self { seed: seed.parse().ok()?, run: run.parse().ok()?, path })
    }
}

/// Why a name means nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// The trace at this depth is shorter.
    NoSuchCut(usize),
    /// What is kept needs something that is not, or the tear is not one, at this depth.
    NotAState(usize),
    /// The recovery of the state at this depth left no trace: it panicked.
    NoRecovery(usize),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchCut(depth) => write!(f, "the trace at depth {depth} is shorter than that"),
            Self::NotAState(depth) => write!(f, "no crash leaves that state at depth {depth}"),
            Self::NoRecovery(depth) => write!(f, "the recovery of the state at depth {depth} panicked"),
        }
    }
}

impl std::error::Error for ReplayError {}

/// A state tried again.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// What was kept, lost and torn at each depth, and what was wrong.
    pub text: String,
    /// What was wrong.
    pub violations: Vec<Violation>,
    /// The state's bytes.
    pub image: Image,
    /// The free micro-operations' order at each depth.
    pub orders: Vec<Order>,
}

/// Rebuilds the state of a name and judges it again.
///
/// # Errors
/// If the name is not one of this run under these bounds.
///
/// # Panics
/// If the name has no cut.
pub fn replay<S: Subject>(
    subject: &S,
    run: &S::Run,
    bounds: &Bounds,
    id: &Id,
) -> Result<Replayed, ReplayError> {
    assert!(!id.path.is_empty(), "a name has a cut");
    let top = subject.trace(run);
    let cut = top.steps.get(..id.path[0].0).map(|_| top.cut(id.path[0].0));
    let cut = cut.ok_or(ReplayError::NoSuchCut(0))?;
    let mut done =
        Replayed { text: String::new(), violations: Vec::new(), image: Image::default(), orders: Vec::new() };
    let (mut tree, mut names) = (Tree::initial(top), Paths::new(top));
    let mut recovery: Option<(Trace, Option<S::Exposed>)> = None;
    let mut exposed: Option<S::Exposed> = None;
    for (depth, (at, choice)) in id.path.iter().enumerate() {
        let steps = recovery.as_ref().map_or(&top.steps, |(trace, _)| &trace.steps);
        if *at > steps.len() {
            return Err(ReplayError::NoSuchCut(depth));
        }
        if let Some((_, Some(shown))) = recovery.as_ref().filter(|(trace, _)| trace.steps.len() == *at) {
            exposed = Some(shown.clone());
        }
        let micro = split(&tree, steps, bounds.profile, bounds.unit);
        let mut doubt = Doubt::new(tree, steps, &micro);
        steps[..*at].iter().for_each(|step| {
            doubt.advance();
            names.pass(step);
        });
        let mut view = View::new(&doubt);
        if !is_state(&view, choice) {
            return Err(ReplayError::NotAState(depth));
        }
        done.orders.push(view.order.clone());
        describe(&mut done.text, depth, steps, *at, &view, choice, &names);
        done.image = view.image(choice);
        let deeper = depth + 1 < id.path.len();
        let (checked, _) = judge(subject, run, cut, done.image.clone(), exposed.as_ref(), deeper);
        done.violations = checked.violations;
        if !deeper {
            break;
        }
        let trace = checked.trace.ok_or(ReplayError::NoRecovery(depth))?;
        tree = view.tree(choice, &trace);
        names = Paths::new(&trace);
        recovery = Some((trace, checked.exposed));
    }
    for violation in &done.violations {
        let silent = if violation.silent { ", silent" } else { "" };
        let _ = writeln!(done.text, "{}{silent}: {}", violation.property, violation.text);
    }
    if done.violations.is_empty() {
        done.text.push_str("nothing is wrong with this state\n");
    }
    Ok(done)
}

/// Whether a crash can leave a choice's state.
fn is_state(view: &View<'_>, choice: &Choice) -> bool {
    let torn = choice.tear.is_none_or(|tear| {
        let known = tear.bit < view.order.len() && !choice.kept.has(tear.bit);
        let mut with = choice.kept;
        with.insert(tear.bit);
        known && view.order.below[tear.bit].within(&with) && view.places(tear.bit).contains(&tear.at)
    });
    torn && view.order.is_closed(&choice.kept)
}

/// The last path of each inode, for people.
#[derive(Clone, Debug)]
pub struct Paths {
    names: BTreeMap<String, Ino>,
    last: BTreeMap<Ino, String>,
}

impl Paths {
    /// The paths of the trace's initial tree.
    #[must_use]
    pub fn new(trace: &Trace) -> Self {
        let mut paths = Self { names: BTreeMap::new(), last: BTreeMap::new() };
        trace.inos.iter().for_each(|(path, ino)| paths.put(path, *ino));
        paths
    }

    /// Goes past a step.
    pub fn pass(&mut self, step: &Step) {
        match &step.op {
            Op::Create { path, ino } | Op::Link { path, ino } => self.put(path, *ino),
            Op::Remove { path } => {
                self.names.remove(path);
            }
            Op::Rename { from, to } => {
                let moved = self.take(from);
                self.take(to);
                moved.into_iter().for_each(|(rest, ino)| self.put(&format!("{to}{rest}"), ino));
            }
            Op::Exchange { one, other } => {
                let (first, second) = (self.take(one), self.take(other));
                first.into_iter().for_each(|(rest, ino)| self.put(&format!("{other}{rest}"), ino));
                second.into_iter().for_each(|(rest, ino)| self.put(&format!("{one}{rest}"), ino));
            }
            _ => {}
        }
    }

    /// The last path of a file.
    #[must_use]
    pub fn of(&self, ino: Ino) -> &str {
        self.last.get(&ino).map_or("a file without a name", String::as_str)
    }

    fn put(&mut self, path: &str, ino: Ino) {
        self.names.insert(path.to_owned(), ino);
        self.last.insert(ino, path.to_owned());
    }

    /// Takes out a file, or what is under a directory, with what follows the path in its own.
    fn take(&mut self, path: &str) -> Vec<(String, Ino)> {
        let is_in = |name: &str| name.strip_prefix(path).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        let names: Vec<String> = self.names.keys().filter(|name| is_in(name)).cloned().collect();
        names
            .into_iter()
            .map(|n| (n[path.len()..].to_owned(), self.names.remove(&n).expect("it is there")))
            .collect()
    }
}

fn describe(
    text: &mut String,
    depth: usize,
    steps: &[Step],
    at: usize,
    view: &View<'_>,
    choice: &Choice,
    paths: &Paths,
) {
    let what = if depth == 0 { "run".to_owned() } else { format!("recovery {depth}") };
    let _ = write!(text, "{what}: crash after step {at} of {}", steps.len());
    let next = steps.get(at).map(|step| format!(", before {}", step_text(step, paths)));
    let _ = writeln!(text, "{}; what is not listed was durable", next.unwrap_or_default());
    for bit in 0..view.order.len() {
        let torn = choice.tear.filter(|tear| tear.bit == bit);
        let fate = match torn {
            Some(tear) if tear.new_first => format!("torn, new up to byte {} of its block", tear.at),
            Some(tear) => format!("torn, old up to byte {} of its block", tear.at),
            None if choice.kept.has(bit) => "kept".to_owned(),
            None => "lost".to_owned(),
        };
        let op = view.op(bit);
        let _ = writeln!(text, "  {bit:3} {fate}: step {}, {}", op.step, op_text(op, &steps[op.step], paths));
    }
}

/// What a micro-operation of a step does.
#[must_use]
pub fn op_text(op: &MicroOp, step: &Step, paths: &Paths) -> String {
    match &op.effect {
        Effect::Data { ino, pages, .. } => {
            let indexes: Vec<usize> = pages.iter().map(|p| p.index).collect();
            format!("{}, data of pages {indexes:?}", paths.of(*ino))
        }
        Effect::Size { ino, from, to } => format!("{}, length {from} to {to}", paths.of(*ino)),
        Effect::Leave { .. } => format!("{}, the end of the old name", step_text(step, paths)),
        Effect::Add { .. }
        | Effect::Remove { .. }
        | Effect::Rename { .. }
        | Effect::Arrive { .. }
        | Effect::Exchange { .. } => step_text(step, paths),
    }
}

/// What a step did.
#[must_use]
pub fn step_text(step: &Step, paths: &Paths) -> String {
    let text = match &step.op {
        Op::CreateDir { path } => format!("the directory {path}"),
        Op::RemoveDir { path } => format!("the removal of the directory {path}"),
        Op::Create { path, .. } => format!("the creation of {path}"),
        Op::CreateUnnamed { .. } => "the creation of a file without a name".to_owned(),
        Op::Link { path, ino } => format!("the name {path} for {}", paths.of(*ino)),
        Op::Symlink { path, target } => format!("the symbolic link {path} to {target}"),
        Op::Write { ino, offset, data } => {
            format!("a write of {} bytes at {offset} of {}", data.len(), paths.of(*ino))
        }
        Op::SetLen { ino, len } => format!("the length {len} of {}", paths.of(*ino)),
        Op::Zero { ino, offset, len } => format!("{len} bytes zeroed at {offset} of {}", paths.of(*ino)),
        Op::Rename { from, to } => format!("the rename of {from} to {to}"),
        Op::Exchange { one, other } => format!("the exchange of {one} and {other}"),
        Op::Remove { path } => format!("the removal of {path}"),
        Op::SyncData { ino } => format!("fdatasync of {}", paths.of(*ino)),
        Op::SyncAll { ino } => format!("fsync of {}", paths.of(*ino)),
        Op::SyncDir { path } => format!("fsync of the directory \"{path}\""),
        Op::Mark(mark) => format!("mark {mark}"),
    };
    if step.failed { text + ", which failed" } else { text }
}
