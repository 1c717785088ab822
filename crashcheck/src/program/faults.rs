//! Runs a program again and again, with one call failing each time, and looks at what it leaves.
//!
//! I own the loop. The directory is never touched: each run has a copy of it in memory, at its path, under
//! the recording file system, which answers one call with an error instead of doing it. A sync that fails
//! leaves what it covered in doubt for good, so the recording of such a run has crash states that no other
//! has: with a checker they are explored, up to a budget, from the first to the last step.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use serde::Serialize;

use crate::core::profile::Profile;
use crate::program::checker::CheckerOptions;
use crate::program::classes::Class;
use crate::program::fuse::Fault;
use crate::program::present::Stage;
use crate::program::record::{self, End, Recorded, read_start};
use crate::program::recording::Recording;
use crate::program::report::{self, Verdict};
use crate::program::rights::Rights;
use crate::program::scene::{Loss, Scene, Script};
use crate::program::search::Reach;
use crate::program::worker::unit;
use crate::program::{explore, file, names, place, sandbox};

/// What is run, and what fails.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the program is recorded; its fault is set for each run.
    pub record: record::Options,
    /// The call that fails.
    pub call: String,
    /// The error's number, or 0 for a write that is cut short.
    pub errno: i32,
    /// Which of the calls, from 1; `None` is each in turn.
    pub nth: Option<u64>,
    /// At most so many runs.
    pub most: u64,
    /// The checker of what is left, if there is one.
    pub check: Option<CheckerOptions>,
    /// Whose the copy of the directory is, if not root's.
    pub user: Option<Rights>,
    /// How many crash states of each run are checked.
    pub states: u64,
    /// What order the file system keeps.
    pub profile: Profile,
}

/// A run with one failing call.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Which of the calls failed.
    pub nth: u64,
    /// How the program ended.
    pub exit: i32,
    /// Why there is no recording, if there is none.
    pub stopped: Option<String>,
    /// What became of the crash states.
    pub verdict: Option<Verdict>,
    /// Why that is no pass, if nothing failed and it is none.
    pub reason: Option<String>,
    /// The classes of failures.
    pub classes: Vec<Class>,
    /// How many states were checked.
    pub states: u64,
    /// Why the checker failed on what the program left, with nothing lost.
    pub left: Option<String>,
}

/// What all runs gave.
#[derive(Clone, Debug, Serialize)]
pub struct Faulted {
    /// How many such calls there are in a run without a fault.
    pub calls: u64,
    /// The runs.
    pub runs: Vec<Run>,
}

/// Runs a program with a fault. This process must have entered its namespace ([`sandbox::enter`]).
///
/// # Errors
/// If it cannot be recorded here, or the checker cannot be asked.
pub fn inject(options: &Options, stop: &AtomicBool, each: &mut dyn FnMut(&Run)) -> anyhow::Result<Faulted> {
    let dir =
        fs::canonicalize(&options.record.dir).with_context(|| options.record.dir.display().to_string())?;
    place::allow(&dir)?;
    let start = read_start(&dir, options.record.limit)?.recording;
    // A call of the kind is counted whether it fails or not; this one never comes.
    let calls = run(options, u64::MAX, &dir, &start, stop)?.met;
    let wanted: Vec<u64> = options.nth.map_or((1..=calls.min(options.most)).collect(), |nth| vec![nth]);
    let mut runs = Vec::new();
    for nth in wanted {
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            break;
        }
        let recorded = run(options, nth, &dir, &start, stop)?;
        let done = judge(options, nth, recorded, stop)?;
        each(&done);
        runs.push(done);
    }
    Ok(Faulted { calls, runs })
}

/// One run over a copy of what the directory holds.
fn run(
    options: &Options,
    nth: u64,
    dir: &Path,
    start: &Recording,
    stop: &AtomicBool,
) -> anyhow::Result<Recorded> {
    sandbox::mount_states(dir, options.user)?;
    let recorded = lay_out(dir, start, options.user).and_then(|()| {
        let fault = Fault { call: options.call.clone(), errno: options.errno, nth };
        record::record(&record::Options { fault: Some(fault), ..options.record.clone() }, stop)
    });
    sandbox::unmount(dir);
    recorded
}

fn lay_out(dir: &Path, start: &Recording, owner: Option<Rights>) -> anyhow::Result<()> {
    let script = Script::new(&start.trace, Profile::PosixStrict, unit(false));
    let mut stage = Stage::new(dir, BTreeMap::clone(&start.modes))?.owned_by(owner, false);
    stage.show(&Scene::new(&script).state(&Loss::default())).context("copying what the directory holds")
}

fn judge(options: &Options, nth: u64, recorded: Recorded, stop: &AtomicBool) -> anyhow::Result<Run> {
    let exit = recorded.recording.origin.exit;
    let stopped = match recorded.end {
        End::Ended => None,
        End::Full => Some("the recording reached its limit".to_owned()),
        End::TooLong => Some("the program did not end in time".to_owned()),
        End::Interrupted => Some("interrupted".to_owned()),
    };
    let mut done =
        Run { nth, exit, stopped, verdict: None, reason: None, classes: Vec::new(), states: 0, left: None };
    let Some(checker) = options.check.clone().filter(|_| done.stopped.is_none()) else { return Ok(done) };
    let held = file::held(&recorded.recording)?;
    let explored = explore::explore(
        &explore::Options {
            trace: held.path(),
            at: PathBuf::from(names::name(&recorded.recording.origin.dir)),
            checker,
            profile: options.profile,
            block_units: false,
            reach: Reach { omissions: 1, tears: 0, seed: 1 },
            seconds: None,
            states: Some(options.states),
            resume: 0,
            jobs: 2,
            before: Vec::new(),
            nested: 0,
        },
        stop,
        &mut |_| (),
    )?;
    // The checker may well object to what is left after an error: that is a finding, not a broken harness.
    done.verdict = Some(if explored.broken.is_some() { Verdict::Fail } else { report::verdict(&explored) });
    done.reason = report::unmeasured(&explored).filter(|_| done.verdict == Some(Verdict::NotMeasured));
    (done.states, done.classes, done.left) = (explored.distinct, explored.classes, explored.broken);
    Ok(done)
}
