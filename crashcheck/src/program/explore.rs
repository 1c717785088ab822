//! Explores a recording with a checker, and counts.
//!
//! I own the run: the control first, then the stages of [`search`](mod@search) in order until the budget ends, then the
//! classes of what failed. (E1) If the checker does not pass the complete state, nothing it says means
//! anything: the harness is broken. (E2) The budget decides how far the search goes, never in which order;
//! the same budget in states gives the same states. I print nothing.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::core::profile::Profile;
use crate::program::checker::{CheckerOptions, Reason};
use crate::program::classes::{self, Class};
use crate::program::file;
use crate::program::nested;
use crate::program::recording::{Note, Recording};
use crate::program::scene::{Loss, Scene, Script};
use crate::program::search::{self, Met, Reach, STAGES, Stage};
use crate::program::worker::{Crew, WorkerOptions, unit};

/// How many failures are kept to be explained; all are counted.
const KEPT_FAILURES: usize = 5000;

/// So many random states in a row that were met before: there is nothing more to find.
const EXHAUSTED: u64 = 5000;

/// What is explored, and how far.
#[derive(Clone, Debug)]
pub struct Options {
    /// The recording's file.
    pub trace: PathBuf,
    /// Where states are shown.
    pub at: PathBuf,
    /// How states are checked.
    pub checker: CheckerOptions,
    /// What order the file system keeps.
    pub profile: Profile,
    /// Whether a unit that is lost as a whole has 4096 bytes, and not 512.
    pub block_units: bool,
    /// How far the search goes.
    pub reach: Reach,
    /// How long; without it and without `states`, until the stages are done.
    pub seconds: Option<u64>,
    /// How many states are checked.
    pub states: Option<u64>,
    /// How many of the states an earlier run has checked, in the same order.
    pub resume: u64,
    /// How many workers.
    pub jobs: usize,
    /// What the program had said before the recording began.
    pub before: Vec<Note>,
    /// How many states that passed have the checker's own recovery explored.
    pub nested: usize,
}

/// A state that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The state.
    pub loss: Loss,
    /// What the checker said.
    pub reason: Reason,
    /// Where it was met.
    pub stage: Stage,
}

/// How far a stage came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// States checked in it.
    pub checked: u64,
    /// Whether all of its states were; of random ones, whether nothing new came any more.
    pub complete: bool,
}

impl Progress {
    /// How it ended.
    #[must_use]
    pub fn end(&self) -> String {
        match (self.stage, self.complete) {
            (Stage::Random, true) => "nothing new came any more".to_owned(),
            (_, true) => "complete".to_owned(),
            (_, false) => format!("cut off after {}", self.checked),
        }
    }
}

/// What an exploration gave.
#[derive(Clone, Debug)]
pub struct Explored {
    /// The recording.
    pub recording: Recording,
    /// Why the control failed, if it did.
    pub broken: Option<Reason>,
    /// States made, with repetitions.
    pub states: u64,
    /// Different states, by bytes and acknowledgements; each was checked once.
    pub distinct: u64,
    /// How many of them failed.
    pub failed: u64,
    /// When the first failed, in seconds from the start.
    pub first_failure: Option<f64>,
    /// How long the search took, in seconds.
    pub seconds: f64,
    /// The stages that were begun.
    pub stages: Vec<Progress>,
    /// The most micro-operations that one cut had in doubt.
    pub most_free: usize,
    /// The classes of what failed.
    pub classes: Vec<Class>,
    /// How many states this run and those before it have checked, if it ended before the search did.
    pub next: Option<u64>,
    /// Whether we were told to stop.
    pub interrupted: bool,
    /// How many recoveries changed something and were explored too.
    pub nested: u64,
    /// How many of the states are states of such a recovery.
    pub nested_states: u64,
    /// How many of those recoveries were not tried as far as a pass needs.
    pub nested_short: u64,
}

/// Explores a recording. This process must have entered its namespace
/// ([`sandbox::enter`](super::sandbox::enter)). `watch` is told of progress.
///
/// # Errors
/// If the recording cannot be used, or the checker cannot be asked.
pub fn explore(
    options: &Options,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&Tally),
) -> anyhow::Result<Explored> {
    let recording = file::read(&options.trace)?;
    explore_recording(options, recording, stop, watch)
}

fn explore_recording(
    options: &Options,
    recording: Recording,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&Tally),
) -> anyhow::Result<Explored> {
    let trace = std::path::absolute(&options.trace)?;
    let (checker, block_units) = (options.checker.clone(), options.block_units);
    let profile = options.profile.name().to_owned();
    let before = options.before.clone();
    let mut crew = Crew::start(
        &WorkerOptions { trace, at: options.at.clone(), profile, block_units, checker, before },
        options.jobs,
    )?;
    let script = Script::of(&recording, options.profile, unit(options.block_units));
    let complete = Loss { cut: script.steps.len(), ..Loss::default() };
    let control = crew.ask(&complete)?;
    let mut explored = Explored {
        broken: control.err(),
        states: 0,
        distinct: 0,
        failed: 0,
        first_failure: None,
        seconds: 0.0,
        stages: Vec::new(),
        most_free: most_free(&script),
        classes: Vec::new(),
        next: None,
        interrupted: false,
        nested: 0,
        nested_states: 0,
        nested_short: 0,
        recording,
    };
    if explored.broken.is_some() {
        return Ok(explored);
    }
    let said = said_before(&explored.recording);
    let mut run =
        Run { options, crew, stop, watch, met: Met::default(), said: &said, tally: Tally::default() };
    run.search(&script)?;
    explored.interrupted = stop.load(Ordering::Relaxed);
    let Run { mut crew, met, mut tally, .. } = run;
    explored.states = met.states;
    explored.distinct = tally.checked;
    explored.failed = tally.failed;
    explored.first_failure = tally.first_failure.map(|first| first.as_secs_f64());
    explored.seconds = tally.elapsed.as_secs_f64();
    explored.stages.clone_from(&tally.stages);
    let is_over = tally.stages.last().is_none_or(|progress| progress.complete);
    explored.next = (!is_over).then_some(options.resume + tally.checked);
    let mut ask = |loss: &Loss| crew.ask(loss);
    explored.classes = classes::classify(&explored.recording, &script, options, &tally.failures, &mut ask)?;
    drop(crew);
    // Which worker was faster decides nothing.
    tally.passed.sort_unstable_by_key(|(number, _)| *number);
    let passed: Vec<Loss> = tally.passed.into_iter().map(|(_, loss)| loss).take(options.nested).collect();
    nested::descend(options, &script, &passed, &mut explored, stop)?;
    Ok(explored)
}

/// How much the program had said before each cut.
fn said_before(recording: &Recording) -> Vec<usize> {
    let mut said = vec![0];
    for step in &recording.trace.steps {
        let is_note = matches!(step.op, crate::core::trace::Op::Mark(_));
        said.push(said[said.len() - 1] + usize::from(is_note));
    }
    said
}

fn most_free(script: &Script) -> usize {
    let mut scene = Scene::new(script);
    let free = (0..=script.steps.len()).map(|cut| {
        scene.go(cut);
        scene.free().len()
    });
    free.max().unwrap_or(0)
}

/// What was counted so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// States checked.
    pub checked: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The first failures.
    pub failures: Vec<Failure>,
    /// When the first came.
    pub first_failure: Option<Duration>,
    /// How long it took so far.
    pub elapsed: Duration,
    /// The stages that were begun.
    pub stages: Vec<Progress>,
    /// Those that passed and in which nothing, everything or one operation is lost, by number; kept only if
    /// their recoveries are to be explored.
    pub passed: Vec<(u64, Loss)>,
}

struct Run<'r> {
    options: &'r Options,
    crew: Crew,
    stop: &'r AtomicBool,
    watch: &'r mut dyn FnMut(&Tally),
    met: Met,
    said: &'r [usize],
    tally: Tally,
}

impl Run<'_> {
    fn search(&mut self, script: &Script) -> anyhow::Result<()> {
        let started = Instant::now();
        let has_budget = self.options.seconds.is_some() || self.options.states.is_some();
        let random = has_budget.then_some(Stage::Random);
        let mut asked: HashMap<u64, (Loss, Stage)> = HashMap::new();
        let mut to_skip = self.options.resume;
        for stage in STAGES.into_iter().chain(random) {
            self.tally.stages.push(Progress { stage, checked: 0, complete: false });
            let (mut broken, mut given, reach) = (None, 0, self.options.reach);
            let mut old = 0;
            let mut visit = |scene: &mut Scene<'_>, loss: Loss| {
                let said = self.said[loss.cut];
                let goes_on = match self.is_over(started, given) {
                    true => Ok(false),
                    false if !self.met.is_new(scene, &loss, said) => {
                        old += 1;
                        Ok(stage != Stage::Random || old < EXHAUSTED)
                    }
                    false if to_skip > 0 => {
                        (old, to_skip) = (0, to_skip - 1);
                        Ok(true)
                    }
                    false => {
                        (old, given) = (0, given + 1);
                        self.give(loss, stage, &mut asked, started)
                    }
                };
                match goes_on {
                    Ok(true) => ControlFlow::Continue(()),
                    Ok(false) => ControlFlow::Break(()),
                    Err(e) => {
                        broken = Some(e);
                        ControlFlow::Break(())
                    }
                }
            };
            let done = if stage == Stage::Random {
                search::random(script, &reach, &mut visit)
            } else {
                search::stage(stage, script, 0, &reach, &mut visit)
            };
            if let Some(e) = broken {
                return Err(e);
            }
            while self.crew.waiting() > 0 {
                self.take(&mut asked, started)?;
            }
            let progress = self.tally.stages.last_mut().expect("it was begun");
            let exhausted = stage == Stage::Random && old >= EXHAUSTED;
            (progress.checked, progress.complete) = (given, done.is_continue() || exhausted);
            if done.is_break() {
                break;
            }
        }
        self.tally.elapsed = started.elapsed();
        Ok(())
    }

    fn is_over(&self, started: Instant, given: u64) -> bool {
        let before: u64 = self.tally.stages.iter().map(|progress| progress.checked).sum();
        self.stop.load(Ordering::Relaxed)
            || self.options.seconds.is_some_and(|limit| started.elapsed() >= Duration::from_secs(limit))
            || self.options.states.is_some_and(|limit| before + given >= limit)
    }

    fn give(
        &mut self,
        loss: Loss,
        stage: Stage,
        asked: &mut HashMap<u64, (Loss, Stage)>,
        started: Instant,
    ) -> anyhow::Result<bool> {
        while !self.crew.has_room() {
            self.take(asked, started)?;
        }
        let number = self.crew.give(&loss)?;
        asked.insert(number, (loss, stage));
        Ok(true)
    }

    fn take(&mut self, asked: &mut HashMap<u64, (Loss, Stage)>, started: Instant) -> anyhow::Result<()> {
        let Some((number, outcome)) = self.crew.take()? else { return Ok(()) };
        let (loss, stage) = asked.remove(&number).context("an answer without a question")?;
        self.tally.checked += 1;
        self.tally.elapsed = started.elapsed();
        if outcome.is_ok() && stage <= Stage::Operation && self.options.nested > 0 {
            self.tally.passed.push((number, loss));
        } else if let Err(reason) = outcome {
            self.tally.failed += 1;
            self.tally.first_failure.get_or_insert(self.tally.elapsed);
            if self.tally.failures.len() < KEPT_FAILURES {
                self.tally.failures.push(Failure { loss, reason, stage });
            }
        }
        (self.watch)(&self.tally);
        Ok(())
    }
}
