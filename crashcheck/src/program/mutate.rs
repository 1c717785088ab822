//! Drops each recorded sync in turn, and looks whether the checker notices.
//!
//! I own the loop. A sync that is dropped covers nothing; what a crash may then leave and could not before
//! is tried, stage after stage, until a state fails or the budget of the sync is spent. A sync without which
//! nothing fails is redundant, or the workload and its checker do not test what it is for.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;
use serde::Serialize;

use crate::core::replay::Paths;
use crate::core::trace::{Op, Trace};
use crate::program::classes::words;
use crate::program::explore::Options;
use crate::program::file;
use crate::program::recording::Recording;
use crate::program::scene::{Loss, Scene, Script};
use crate::program::search::{self, Met, Stage};
use crate::program::worker::{Crew, WorkerOptions, unit};

/// The stages that are tried without a sync: those in which something is lost.
const STAGES: [Stage; 6] =
    [Stage::Unsynced, Stage::Operation, Stage::File, Stage::Torn, Stage::Unit, Stage::Kept];

/// A sync that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Its step.
    pub step: usize,
    /// What it is.
    pub sync: String,
    /// What failed without it, if something did.
    pub symptom: Option<String>,
    /// The state that failed. It is one of the recording without the sync.
    pub state: Option<String>,
    /// How many states were tried.
    pub states: u64,
    /// Whether the budget ended before everything that the sync covers was lost at each cut: then it says nothing that
    /// nothing failed.
    pub cut_short: bool,
}

/// Drops each sync of a recording in turn; at most `budget` states are tried for each.
///
/// # Errors
/// If the recording cannot be used, the checker cannot be asked, or it fails on the complete state.
pub fn mutate(
    options: &Options,
    budget: u64,
    stop: &AtomicBool,
    each: &mut dyn FnMut(&Dropped),
) -> anyhow::Result<Vec<Dropped>> {
    let recording = file::read(&options.trace)?;
    mutate_recording(options, &recording, budget, stop, each)
}

fn mutate_recording(
    options: &Options,
    recording: &Recording,
    budget: u64,
    stop: &AtomicBool,
    each: &mut dyn FnMut(&Dropped),
) -> anyhow::Result<Vec<Dropped>> {
    let trace = std::path::absolute(&options.trace)?;
    let (checker, block_units) = (options.checker.clone(), options.block_units);
    let profile = options.profile.name().to_owned();
    let mut crew = Crew::start(
        &WorkerOptions { trace, at: options.at.clone(), profile, block_units, checker, before: Vec::new() },
        1,
    )?;
    let whole = script(&recording.trace, options);
    if let Err(reason) = crew.ask(&Loss { cut: whole.steps.len(), ..Loss::default() })? {
        bail!("the checker fails on the complete state: {reason}");
    }
    let mut paths = Paths::new(&recording.trace);
    let mut all = Vec::new();
    for (step, done) in recording.trace.steps.iter().enumerate() {
        paths.pass(done);
        let is_sync = matches!(done.op, Op::SyncAll { .. } | Op::SyncData { .. } | Op::SyncDir { .. });
        if !is_sync || done.failed || stop.load(Ordering::Relaxed) {
            continue;
        }
        crew.drop_sync(Some(step));
        let mut mutant = Mutant { options, recording, whole: Scene::new(&whole), crew: &mut crew, budget };
        let Hunted { found, states, cut_short } = mutant.hunt(step)?;
        let sync = words(recording, &done.op, step, &paths);
        let (state, symptom) = found.map_or((None, None), |(loss, why)| (Some(loss.to_string()), Some(why)));
        let dropped = Dropped { step, sync, symptom, state, states, cut_short };
        each(&dropped);
        all.push(dropped);
    }
    Ok(all)
}

fn script(trace: &Trace, options: &Options) -> Script {
    Script::new(trace, options.profile, unit(options.block_units))
}

struct Mutant<'m> {
    options: &'m Options,
    recording: &'m Recording,
    whole: Scene<'m>,
    crew: &'m mut Crew,
    budget: u64,
}

/// What the states without a sync came to.
struct Hunted {
    found: Option<(Loss, String)>,
    states: u64,
    cut_short: bool,
}

impl Mutant<'_> {
    /// The first state that fails without a sync and that no crash leaves with it.
    fn hunt(&mut self, step: usize) -> anyhow::Result<Hunted> {
        let without = script(&self.recording.trace.without_sync(step), self.options);
        let (mut met, mut tried, mut found, mut broken) = (Met::default(), 0, None, None);
        let mut cut_short = false;
        for stage in STAGES {
            let mut visit = |scene: &mut Scene<'_>, loss: Loss| {
                self.whole.go(loss.cut);
                let said = self.recording.said_before(loss.cut).len();
                if self.whole.allows(&loss) || !met.is_new(scene, &loss, said) {
                    return ControlFlow::Continue(());
                }
                if tried >= self.budget {
                    return ControlFlow::Break(());
                }
                tried += 1;
                match self.crew.ask(&loss) {
                    Ok(Ok(())) => ControlFlow::Continue(()),
                    Ok(Err(reason)) => {
                        found = Some((loss, reason));
                        ControlFlow::Break(())
                    }
                    Err(e) => {
                        broken = Some(e);
                        ControlFlow::Break(())
                    }
                }
            };
            if search::stage(stage, &without, step + 1, &self.options.reach, &mut visit).is_break() {
                cut_short = found.is_none() && stage == Stage::Unsynced;
                break;
            }
        }
        match broken {
            Some(e) => Err(e),
            None => Ok(Hunted { found, states: tried, cut_short }),
        }
    }
}
