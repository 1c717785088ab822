//! A campaign: sequences by number, each run and explored, within a budget.
//!
//! I own the loop, the controls before it and what is made of a finding. (M1) What comes out depends on
//! the seed, the bounds and how far the budget reached, not on the number of threads. (M2) Before
//! anything is claimed, the complete state of the empty sequence must pass, and a planted bug must be
//! found: otherwise the harness is broken. I do not print (see certificate).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use seawall::planted::Bug;
use seawall::vfs::mem::MemVfs;

use super::execute::{Run, execute};
use super::generate::{Plan, Sequence};
use super::judge::{self, Exposed};
use super::planted::{Disk, PlantedVfs, with};
use super::step::{Kind, Step};
use super::subject::EngineSubject;
use crate::core::choices::Bounds;
use crate::core::counts::{Counters, Seen};
use crate::core::explore::{Sink, explore};
use crate::core::image::Image;
use crate::core::minimise::{ddmin, minimise_state};
use crate::core::pool::pool;
use crate::core::replay::{Id, replay};
use crate::core::subject::{Checked, Subject, Violation};
use crate::core::trace::{Cut, Trace};

/// The most states that are told apart across runs.
const MOST_SEEN: usize = 40_000_000;
/// After so many runs with findings there is no point in going on.
const ENOUGH_FINDINGS: usize = 12;
/// One run in so many is run twice (P26).
const TWICE: u64 = 8;

/// What to do, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names the order of the enumerated sequences, and the sampled ones.
    pub seed: u64,
    /// Each sequence up to this length is enumerated.
    pub length: u32,
    /// How many groups share the store, 2 to 4.
    pub groups: usize,
    /// How each run is explored.
    pub bounds: Bounds,
    /// One run in so many has its recoveries cut too.
    pub nested_every: u64,
    /// When to stop.
    pub seconds: Option<u64>,
    /// After so many states.
    pub states: Option<u64>,
    /// Whether to end with the enumerated sequences.
    pub complete: bool,
    /// Threads.
    pub jobs: usize,
    /// The first sequence.
    pub first: u64,
}

/// A finding, as small as it could be made.
#[derive(Clone, Debug)]
pub struct Found {
    /// The property.
    pub property: &'static str,
    /// Whether the user would not have noticed.
    pub silent: bool,
    /// Whether it is an alarm that nothing explains.
    pub false_alarm: bool,
    /// The sequence.
    pub sequence: Sequence,
    /// The state; `None` if the living handle did it.
    pub id: Option<Id>,
    /// What was expected and what came, and for a state what was kept and what lost.
    pub text: String,
}

/// What a campaign did.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The explorations' counters.
    pub counters: Counters,
    /// Findings of living handles, by property.
    pub live: BTreeMap<&'static str, u64>,
    /// Sequences run.
    pub sequences: u64,
    /// Runs whose recoveries were cut too.
    pub nested_runs: u64,
    /// Steps by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Different states over all runs, and whether they were all told apart.
    pub seen: (usize, bool),
    /// The number to go on with.
    pub resume: u64,
    /// Each sequence of at most so many steps was run.
    pub complete_length: u32,
    /// Enumerated sequences.
    pub enumerated: u64,
    /// Seconds taken.
    pub seconds: f64,
    /// The findings.
    pub found: Vec<Found>,
    /// What is broken about the harness.
    pub broken: Option<String>,
}

impl Summary {
    /// Whether nothing was wrong.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.found.is_empty() && self.counters.violations.is_empty() && self.live.is_empty()
    }
}

/// The result of one run.
struct One {
    counters: Counters,
    found: Vec<(Sequence, Option<Id>, Violation)>,
    kinds: Vec<Kind>,
    live: Vec<Violation>,
    nested: bool,
}

/// Runs a campaign; `progress` hears of each run.
pub fn campaign(options: &Options, mut progress: impl FnMut(&Summary) + Send) -> Summary {
    let begun = Instant::now();
    let plan = Plan::new(options.seed, options.length, options.groups);
    let mut summary = Summary { enumerated: plan.enumerated(), ..Summary::default() };
    summary.broken = controls();
    if summary.broken.is_some() {
        return summary;
    }
    let seen = Seen::new(MOST_SEEN);
    let last = if options.complete { plan.enumerated() } else { u64::MAX };
    let each = |number, (), stop: &AtomicBool| one(options, &plan, number, stop, &seen);
    let mut raw = Vec::new();
    let take = |_, one: One| {
        merge(&mut summary, &mut raw, one);
        progress(&summary);
        let enough = options.states.is_some_and(|most| summary.counters.distinct >= most);
        if enough || raw.len() >= ENOUGH_FINDINGS {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let work = (options.first..last).map(|_| ());
    let reached =
        pool(options.jobs, options.first, work, options.seconds.map(Duration::from_secs), each, take);
    summary.resume = reached.next;
    summary.complete_length = if options.first == 0 { complete_length(options, reached.next) } else { 0 };
    summary.seen = seen.distinct();
    summary.seconds = begun.elapsed().as_secs_f64();
    summary.found = minimise_all::<MemVfs>(raw, &options.bounds);
    summary
}

/// How long the sequences are that were all run, if everything below a number was.
#[must_use]
pub fn complete_length(options: &Options, next: u64) -> u32 {
    Plan::new(options.seed, options.length, options.groups).complete_length(next)
}

fn merge(summary: &mut Summary, raw: &mut Vec<(Sequence, Option<Id>, Violation)>, one: One) {
    summary.sequences += 1;
    summary.nested_runs += u64::from(one.nested);
    summary.counters.merge(&one.counters);
    for kind in one.kinds {
        *summary.kinds.entry(kind.name()).or_default() += 1;
    }
    for violation in one.live {
        *summary.live.entry(violation.property).or_default() += 1;
    }
    raw.extend(one.found);
}

fn one(options: &Options, plan: &Plan, number: u64, stop: &AtomicBool, seen: &Seen) -> Option<One> {
    let sequence = plan.sequence(number);
    let run = execute::<MemVfs>(&sequence);
    let mut live = run.wrong.clone();
    if number.is_multiple_of(TWICE)
        && let Some(text) = judge::p26(&run, &execute::<MemVfs>(&sequence))
    {
        live.push(Violation { property: "P26", silent: true, false_alarm: false, text });
    }
    let nested = options.bounds.nested_depth > 0 && number.is_multiple_of(options.nested_every);
    let bounds =
        Bounds { nested_depth: if nested { options.bounds.nested_depth } else { 0 }, ..options.bounds };
    let mut sink =
        Sink { stop: Some(stop), seen: Some(seen), max_findings: 1, ..Sink::new(options.seed, number) };
    if !explore(&EngineSubject::<MemVfs>::default(), &run, &bounds, &mut sink) {
        return None;
    }
    let crashed = sink.findings.into_iter().map(|f| {
        let violation =
            Violation { property: f.property, silent: f.silent, false_alarm: f.false_alarm, text: f.text };
        (sequence.clone(), Some(f.id), violation)
    });
    let lived = live.iter().map(|v| (sequence.clone(), None, v.clone()));
    let found = lived.chain(crashed).collect();
    let kinds = sequence.steps.iter().map(|s| s.kind).collect();
    Some(One { counters: sink.counters, found, kinds, live, nested })
}

/// What is wrong with the harness itself, if something is.
fn controls() -> Option<String> {
    let run = execute::<MemVfs>(&Sequence::of(Vec::new()));
    if let Some(wrong) = run.wrong.first() {
        return Some(format!("an empty sequence fails without a crash: {}: {}", wrong.property, wrong.text));
    }
    let subject = EngineSubject::<MemVfs>::default();
    let trace = subject.trace(&run);
    let image = super::convert::from_disk(run.image.clone());
    let checked = subject.check(&run, trace.cut(trace.steps.len()), image, None, false);
    if let Some(wrong) = checked.violations.first() {
        return Some(format!(
            "the complete state, with nothing lost, fails: {}: {}",
            wrong.property, wrong.text
        ));
    }
    let planted = Sequence::of(vec![Step::new(Kind::Append, 0)]);
    let found = with(Some(Bug::AckWithoutSync), || first_failure::<PlantedVfs>(&planted, &Bounds::default()));
    found.is_none().then(|| "an engine that never syncs passes: the checker is blind".into())
}

/// The first thing that is wrong with a sequence, if something is: with the living handle, or with a
/// crash state. And how many states that took.
pub fn first_failure<V: Disk>(sequence: &Sequence, bounds: &Bounds) -> Option<(Option<Id>, Violation, u64)> {
    let run = execute::<V>(sequence);
    if let Some(violation) = run.wrong.first() {
        return Some((None, violation.clone(), 0));
    }
    crash_failure::<V>(&run, bounds, None)
}

/// The first crash state of a run that violates a property, or one given property.
pub fn crash_failure<V: Disk>(
    run: &Run,
    bounds: &Bounds,
    property: Option<&str>,
) -> Option<(Option<Id>, Violation, u64)> {
    let found = AtomicBool::new(false);
    let subject = UntilFound { inner: EngineSubject::<V>::default(), property, found: &found };
    let mut sink = Sink { max_findings: 1, stop: Some(&found), ..Sink::new(0, 0) };
    explore(&subject, run, bounds, &mut sink);
    let states = sink.counters.distinct;
    let wanted = sink.findings.into_iter().find(|f| property.is_none_or(|p| p == f.property))?;
    let (property, text) = (wanted.property, wanted.text);
    let violation = Violation { property, silent: wanted.silent, false_alarm: wanted.false_alarm, text };
    Some((Some(wanted.id), violation, states))
}

/// The subject, raising a flag at the first violation that is looked for.
struct UntilFound<'a, V> {
    inner: EngineSubject<V>,
    property: Option<&'a str>,
    found: &'a AtomicBool,
}

impl<V: Disk> Subject for UntilFound<'_, V> {
    type Run = Run;
    type Exposed = Exposed;

    fn trace<'a>(&self, run: &'a Run) -> &'a Trace {
        self.inner.trace(run)
    }

    fn history_key(&self, run: &Run, cut: Cut) -> u64 {
        self.inner.history_key(run, cut)
    }

    fn exposed_key(&self, exposed: &Exposed) -> u64 {
        self.inner.exposed_key(exposed)
    }

    fn check(
        &self,
        run: &Run,
        cut: Cut,
        image: Image,
        exposed: Option<&Exposed>,
        record: bool,
    ) -> Checked<Exposed> {
        let asked = AssertUnwindSafe(|| self.inner.check(run, cut, image, exposed, record));
        let checked = catch_unwind(asked).unwrap_or_else(|cause| Checked {
            violations: vec![judge::p22(&super::panic_text(&*cause))],
            trace: None,
            exposed: None,
        });
        if checked.violations.iter().any(|v| self.property.is_none_or(|p| p == v.property)) {
            self.found.store(true, Ordering::Relaxed);
        }
        checked
    }
}

/// Makes one finding of each property small.
fn minimise_all<V: Disk>(raw: Vec<(Sequence, Option<Id>, Violation)>, bounds: &Bounds) -> Vec<Found> {
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for (sequence, id, violation) in raw {
        if told.insert((violation.property, id.is_some())) {
            found.push(minimise::<V>(&sequence, id, violation, bounds));
        }
    }
    found
}

/// Makes a finding small: the steps, then the state.
pub fn minimise<V: Disk>(
    sequence: &Sequence,
    id: Option<Id>,
    violation: Violation,
    bounds: &Bounds,
) -> Found {
    let property = violation.property;
    let live = id.is_none();
    let depth = id.as_ref().map_or(0, |id| id.path.len().saturating_sub(1));
    let bounds = Bounds { nested_depth: u8::try_from(depth).expect("at most three deep"), ..*bounds };
    let with_steps =
        |steps: &[Step]| Sequence { steps: steps.to_vec(), prefix_known: false, ..sequence.clone() };
    let fails = |steps: &[Step]| {
        let run = execute::<V>(&with_steps(steps));
        let lives = run.wrong.iter().any(|v| v.property == property);
        if live { lives } else { !lives && crash_failure::<V>(&run, &bounds, Some(property)).is_some() }
    };
    let steps = ddmin(&sequence.steps, fails);
    let small = with_steps(&steps);
    let run = execute::<V>(&small);
    let mut found = Found {
        property,
        silent: violation.silent,
        false_alarm: violation.false_alarm,
        sequence: small,
        id: None,
        text: violation.text,
    };
    if live {
        if let Some(v) = run.wrong.iter().find(|v| v.property == property) {
            found.text.clone_from(&v.text);
        }
        return found;
    }
    let subject = EngineSubject::<V>::default();
    let state = crash_failure::<V>(&run, &bounds, Some(property)).and_then(|(id, ..)| id);
    let Some(id) = state else {
        // The shorter sequences do not fail, nor this one without its prefix: keep what was found.
        return Found { sequence: sequence.clone(), id, ..found };
    };
    let id = minimise_state(&subject, &run, &bounds, &id, property);
    if let Ok(replayed) = replay(&subject, &run, &bounds, &id) {
        found.text = replayed.text;
    }
    Found { id: Some(id), ..found }
}
