//! Tries the crash states of a run, and of the recoveries of those states.
//!
//! I own the loop: every cut, every choice of [`choices`], each state once. A state
//! is skipped before it is built if a state of the same bytes was judged against the same history and the
//! same exposed state, and its recovery explored at least as deep. A cut that adds nothing to the one
//! before it is skipped whole. With [`Bounds::nested_depth`] the subject's recovery is recorded and its
//! own cuts are explored over the state that it began on: at each cut but the last against what had been
//! exposed before it, at the last against what it exposed itself. One unit is torn in a run and its
//! recoveries together: a run's own states at every byte; those whose recoveries are cut too, and what a
//! recovery wrote, at a few.
//!
//! One run is explored by one thread, in a fixed order: the counts depend on the run and the bounds
//! alone. I do not know what is right (see [`Subject`]).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::core::body::Tree;
use crate::core::choices::{self, Bounds, Choice, TORN_SUBSETS, Tears, few_places};
use crate::core::counts::{Counters, Seen};
use crate::core::doubt::{Advance, Doubt};
use crate::core::image::{Image, mix};
use crate::core::micro::split;
use crate::core::replay::Id;
use crate::core::state::{FastMap, View};
use crate::core::subject::{Checked, Subject, Violation};
use crate::core::trace::{Cut, Op, Step};

/// The property that a panic violates: recovery ends on any bytes.
pub const TOTAL: &str = "P22";

/// A violation and where it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the state; see [`replay`](crate::core::replay).
    pub id: Id,
    /// The property.
    pub property: &'static str,
    /// Whether the user would not have noticed.
    pub silent: bool,
    /// Whether it is an alarm that no fault explains.
    pub false_alarm: bool,
    /// What was expected and what came.
    pub text: String,
}

/// Where an exploration puts what it finds.
#[derive(Debug)]
pub struct Sink<'a> {
    /// The seed, for the names of findings.
    pub seed: u64,
    /// The run's number, for the names of findings.
    pub run: u64,
    /// How many findings are kept of each property; all are counted.
    pub max_findings: usize,
    /// Raised by others to end early.
    pub stop: Option<&'a AtomicBool>,
    /// Counts across runs.
    pub seen: Option<&'a Seen>,
    /// The counters; added to.
    pub counters: Counters,
    /// The findings; added to.
    pub findings: Vec<Finding>,
}

impl Sink<'_> {
    /// An empty sink that keeps three findings of each property.
    #[must_use]
    pub fn new(seed: u64, run: u64) -> Self {
        let (counters, findings) = (Counters::default(), Vec::new());
        Self { seed, run, max_findings: 3, stop: None, seen: None, counters, findings }
    }
}

/// Explores a run. `false` if it was stopped before its end; what is in the sink is then of no use.
pub fn explore<S: Subject>(subject: &S, run: &S::Run, bounds: &Bounds, sink: &mut Sink<'_>) -> bool {
    let trace = subject.trace(run);
    let mut explorer = Explorer {
        subject,
        run,
        bounds,
        sink,
        visited: FastMap::default(),
        kept: BTreeMap::new(),
        path: Vec::new(),
    };
    let (depth, tears) = (bounds.nested_depth, bounds.tears == Tears::One);
    let level = Level { top: true, cut: trace.cut(0), depth, tears, before: None, end: None };
    let done = explorer.level(Tree::initial(trace), &trace.steps, &level).is_continue();
    sink.counters.runs += u64::from(done);
    done
}

/// Asks the subject; a panic is a violation.
pub(crate) fn judge<S: Subject>(
    subject: &S,
    run: &S::Run,
    cut: Cut,
    image: Image,
    exposed: Option<&S::Exposed>,
    record: bool,
) -> (Checked<S::Exposed>, bool) {
    let asked = AssertUnwindSafe(|| subject.check(run, cut, image, exposed, record));
    match catch_unwind(asked) {
        Ok(checked) => (checked, false),
        Err(cause) => {
            let text = cause.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("no message");
            let text = format!("recovery panicked: {text}");
            let violation = Violation { property: TOTAL, silent: false, false_alarm: false, text };
            (Checked { violations: vec![violation], trace: None, exposed: None }, true)
        }
    }
}

/// One trace under exploration: the run's, or that of a recovery.
struct Level<E> {
    top: bool,
    /// The run's cut, for a recovery.
    cut: Cut,
    /// How many more recoveries may be cut.
    depth: u8,
    /// Whether a unit may still be torn.
    tears: bool,
    /// What had been exposed before this trace.
    before: Option<E>,
    /// What had been exposed at its end.
    end: Option<E>,
}

/// What a cut's states are judged by.
struct Here<'a, E> {
    at: usize,
    cut: Cut,
    depth: u8,
    tears: bool,
    nested: bool,
    exposed: Option<&'a E>,
    key: Key,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    history: u64,
    exposed: Option<u64>,
}

struct Explorer<'a, 'b, S: Subject> {
    subject: &'a S,
    run: &'a S::Run,
    bounds: &'a Bounds,
    sink: &'a mut Sink<'b>,
    /// How deep the recovery of each state was explored, and whether with tears.
    visited: FastMap<u128, (u8, bool)>,
    /// How many findings of each property were kept.
    kept: BTreeMap<&'static str, usize>,
    /// The cuts and choices above the trace under exploration.
    path: Vec<(usize, Choice)>,
}

impl<S: Subject> Explorer<'_, '_, S> {
    fn level(&mut self, tree: Tree, steps: &[Step], level: &Level<S::Exposed>) -> ControlFlow<()> {
        let micro = split(&tree, steps, self.bounds.profile, self.bounds.unit);
        let mut doubt = Doubt::new(tree, steps, &micro);
        // A recovery's first cut is the state that it began on.
        let first = if level.top { self.subject.first_cut(self.run) } else { steps.len().min(1) };
        let mut last: Option<(Key, bool)> = None;
        let mut cut = level.cut;
        let mut history = self.subject.history_key(self.run, cut);
        for at in 0..=steps.len() {
            let mut advance = Advance { settled: false, added: 0 };
            if let Some(step) = at.checked_sub(1).map(|i| &steps[i]) {
                advance = doubt.advance();
                if level.top {
                    let mark = matches!(step.op, Op::Mark(_));
                    cut = Cut { steps: at, marks: cut.marks + usize::from(mark) };
                    history = if mark { self.subject.history_key(self.run, cut) } else { history };
                }
            }
            if at < first {
                continue;
            }
            let exposed = if at == steps.len() { level.end.as_ref() } else { level.before.as_ref() };
            let key = Key { history, exposed: exposed.map(|e| self.subject.exposed_key(e)) };
            let free = doubt.pending.iter().filter(|p| !p.forced).count();
            let covered = last.is_some_and(|(before, exact)| before == key && (exact || !advance.settled));
            let fresh = covered.then(|| free - advance.added);
            last = Some((key, free <= self.bounds.max_subset_units && !level.tears));
            if fresh != Some(free) {
                let (depth, tears) = (level.depth, level.tears);
                let here = Here { at, cut, depth, tears, nested: !level.top, exposed, key };
                self.cut(&doubt, here, fresh)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn cut(
        &mut self,
        doubt: &Doubt<'_>,
        here: Here<'_, S::Exposed>,
        fresh: Option<usize>,
    ) -> ControlFlow<()> {
        let mut view = View::new(doubt);
        let order = view.order.clone();
        let free = order.len();
        let counters = &mut self.sink.counters;
        counters.cuts += 1;
        counters.cut_bounds.wide_cuts += u64::from(free > self.bounds.max_subset_units);
        counters.cut_bounds.most_free = counters.cut_bounds.most_free.max(free as u64);
        counters.cut_bounds.truncated_cuts += u64::from(view.truncated);
        // A truncated view numbers the oldest: the newest are not in it, so nothing is fresh.
        let fresh = fresh.filter(|_| !view.truncated);
        let all: Vec<Vec<usize>> =
            if here.tears { (0..free).map(|bit| view.places(bit)).collect() } else { vec![Vec::new(); free] };
        let few: Vec<Vec<usize>> = all.iter().map(|places| few_places(places)).collect();
        let at = |bit: usize| if here.nested { few[bit].clone() } else { all[bit].clone() };
        let in_doubt: Vec<_> =
            doubt.pending.iter().filter(|p| !p.forced).map(|p| &doubt.op(p).effect).take(free).collect();
        choices::each(&order, self.bounds, fresh, &at, &mut |choice| {
            if !self.bounds.method.tries(choice, &in_doubt) {
                return ControlFlow::Continue(());
            }
            let follow = choice.tear.is_none_or(|tear| few[tear.bit].contains(&tear.at));
            let (depth, tears) = (if follow { here.depth } else { 0 }, here.tears && choice.tear.is_none());
            self.state(&mut view, choice, &Here { depth, tears, ..here })
        })
    }

    fn state(
        &mut self,
        view: &mut View<'_>,
        choice: &Choice,
        here: &Here<'_, S::Exposed>,
    ) -> ControlFlow<()> {
        if self.sink.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return ControlFlow::Break(());
        }
        self.sink.counters.generated += 1;
        let hash = view.hash(choice);
        let key = here.key.of(hash);
        let before = self.visited.get(&key).copied();
        // Where nothing follows, it does not matter whether a unit of it may still be torn.
        let covers = |(depth, tears)| depth >= here.depth && (tears >= here.tears || here.depth == 0);
        if before.is_some_and(covers) {
            self.sink.counters.skipped_duplicate += 1;
            return ControlFlow::Continue(());
        }
        self.visited.insert(key, (here.depth, here.tears));
        let image = view.image(choice);
        debug_assert_eq!(image.hash(), hash, "the hash of {choice} is not that of its bytes");
        self.sink.counters.checks += 1;
        let (checked, panicked) =
            judge(self.subject, self.run, here.cut, image, here.exposed, here.depth > 0);
        if before.is_none() {
            self.count(key, view, choice, here);
            self.sink.counters.panics += u64::from(panicked);
            self.note(&checked.violations, choice, here);
        }
        self.nested(view, choice, here, checked)
    }

    fn nested(
        &mut self,
        view: &mut View<'_>,
        choice: &Choice,
        here: &Here<'_, S::Exposed>,
        checked: Checked<S::Exposed>,
    ) -> ControlFlow<()> {
        let Some(trace) = checked.trace.filter(|_| here.depth > 0) else { return ControlFlow::Continue(()) };
        let tree = view.tree(choice, &trace);
        let level = Level {
            top: false,
            cut: here.cut,
            depth: here.depth - 1,
            tears: here.tears,
            before: here.exposed.cloned(),
            end: checked.exposed.or_else(|| here.exposed.cloned()),
        };
        self.path.push((here.at, *choice));
        let done = self.level(tree, &trace.steps, &level);
        self.path.pop();
        done
    }

    fn count(&mut self, key: u128, view: &View<'_>, choice: &Choice, here: &Here<'_, S::Exposed>) {
        let counters = &mut self.sink.counters;
        counters.distinct += 1;
        counters.nested += u64::from(here.nested);
        counters.torn += u64::from(choice.tear.is_some());
        let few = TORN_SUBSETS.min(self.bounds.max_subset_units);
        let partly = choice.tear.is_some() && view.order.len() > few;
        counters.cut_bounds.torn_partly += u64::from(partly);
        if let Some(seen) = self.sink.seen {
            seen.insert(key);
        }
    }

    fn note(&mut self, violations: &[Violation], choice: &Choice, here: &Here<'_, S::Exposed>) {
        let counters = &mut self.sink.counters;
        counters.silent += u64::from(violations.iter().any(|v| v.silent));
        counters.false_alarms += u64::from(violations.iter().any(|v| v.false_alarm));
        for violation in violations {
            *counters.violations.entry(violation.property).or_default() += 1;
            let kept = self.kept.entry(violation.property).or_default();
            if *kept == self.sink.max_findings {
                continue;
            }
            *kept += 1;
            let mut path = self.path.clone();
            path.push((here.at, *choice));
            self.sink.findings.push(Finding {
                id: Id { seed: self.sink.seed, run: self.sink.run, path },
                property: violation.property,
                silent: violation.silent,
                false_alarm: violation.false_alarm,
                text: violation.text.clone(),
            });
        }
    }
}

impl Key {
    /// The key of a state: its bytes, the history, what was exposed.
    fn of(self, hash: u128) -> u128 {
        let exposed = mix(mix(hash, self.history), self.exposed.unwrap_or(0));
        mix(exposed, u64::from(self.exposed.is_some()))
    }
}
