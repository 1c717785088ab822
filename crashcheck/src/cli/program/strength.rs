//! The commands that ask how strong a program or its checker is: dropped syncs and failing calls.
//!
//! I own their arguments and tables. See [`crate::program::mutate`] and [`crate::program::faults`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::bail;
use clap::Args;
use nix::errno::Errno;
use serde_json::json;

use super::{CheckArgs, checker_options, place_of, read_at, stop_flag};
use crate::cli::{Exit, bar, print, print_json};
use crate::core::profile::Profile;
use crate::escape;
use crate::program::faults::{self, Run};
use crate::program::mutate::{self, Dropped};
use crate::program::record::By;
use crate::program::recording::{Origin, Recording};
use crate::program::report::Verdict;
use crate::program::search::Reach;
use crate::program::tape::Onward;
use crate::program::{explore, names, record, sandbox};

/// What stands under `mutate-syncs --help`.
pub(crate) const MUTATE_HELP: &str = "\
A sync that nothing misses is redundant, or the workload and its checker do not test what it is for.

Exit codes: 0 every sync is missed; 1 some are not; 2 usage; 3 the harness is broken; 4 there is no sync, or some were \
not tried far enough.";

/// What stands under `fault --help`.
pub(crate) const FAULT_HELP: &str = "\
DIR is not touched: each run has a copy of it in memory, at its path. With --check, the crash states of each run \
are explored: after a sync that failed, what it covered may be lost for good, whatever is synced later.

Exit codes: 0 no state failed; 1 a finding; 2 usage; 3 it cannot be run here; 4 there is no such call, or a run was not \
explored as far as a pass needs.";

/// The arguments of `mutate-syncs`.
#[derive(Args, Debug)]
pub(crate) struct MutateArgs {
    /// The recording
    trace: PathBuf,
    #[command(flatten)]
    checker: CheckArgs,
    /// What order the file system keeps
    #[arg(long, value_parser = Profile::parse, default_value = "posix-strict")]
    profile: Profile,
    /// How many states are tried without each sync
    #[arg(long, default_value_t = 500)]
    states: u64,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

/// Drops each sync in turn.
pub(crate) fn mutate(args: &MutateArgs) -> anyhow::Result<Exit> {
    let recording = read_at(&args.trace, args.checker.at.as_deref())?;
    let options = explore::Options {
        trace: args.trace.clone(),
        at: place_of(&recording),
        checker: checker_options(&args.checker, &recording)?,
        profile: args.profile,
        block_units: false,
        reach: Reach { omissions: 1, tears: 0, seed: 1 },
        seconds: None,
        states: None,
        resume: 0,
        jobs: 1,
        before: Vec::new(),
        nested: 0,
    };
    sandbox::enter()?;
    let stop = stop_flag()?;
    let bar = bar(recording.syncs() as u64);
    let all = mutate::mutate(&options, args.states, &stop, &mut |_| bar.inc(1))?;
    bar.finish_and_clear();
    let count = |is: fn(&Dropped) -> bool| all.iter().filter(|dropped| is(dropped)).count();
    let killed = count(|dropped| dropped.symptom.is_some());
    let survivors = count(|dropped| dropped.symptom.is_none() && !dropped.cut_short);
    // An interrupt leaves the last ones out.
    let unmeasured = recording.syncs_that_returned() - killed - survivors;
    let rows: String = all.iter().map(row).collect();
    print(&format!("{rows}{killed} of {} syncs are missed when they are dropped\n", all.len()))?;
    if unmeasured > 0 {
        print(&format!("NOT-MEASURED: {unmeasured} syncs were not tried far enough\n"))?;
    }
    print_json(
        args.json,
        &json!({ "syncs": all.len(), "missed": killed, "survivors": survivors, "unmeasured": unmeasured, "rows": all }),
    )?;
    Ok(match (all.len(), survivors, unmeasured) {
        (0, _, _) => Exit::NotMeasured,
        (_, 1.., _) => Exit::Finding,
        (_, 0, 1..) => Exit::NotMeasured,
        (_, 0, 0) => Exit::Pass,
    })
}

fn row(dropped: &Dropped) -> String {
    let Dropped { step, sync, symptom, state, states, cut_short } = dropped;
    let sync = escape::word(sync);
    match (symptom, state) {
        (Some(symptom), Some(state)) => {
            format!("{step:6} missed    {sync}: {} ({state})\n", escape::word(symptom))
        }
        _ if *cut_short => {
            format!(
                "{step:6} NOT-MEASURED {sync}: nothing fails in {states} states, and there are more: --states\n"
            )
        }
        _ => {
            format!("{step:6} SURVIVES  {sync}: nothing fails in {states} states: redundant, or not tested\n")
        }
    }
}

/// The arguments of `fault`.
#[derive(Args, Debug)]
pub(crate) struct FaultArgs {
    /// The directory that the command writes to
    #[arg(long)]
    dir: PathBuf,
    /// Which call fails: write, fsync, fdatasync, open, rename, unlink, truncate, fallocate, link, mkdir, ..
    #[arg(long)]
    call: String,
    /// How: an error's name such as EIO, ENOSPC, EDQUOT, EINTR; or `short`, for half a write
    #[arg(long)]
    error: String,
    /// Which of the calls: its number, or `all` of them in turn
    #[arg(long, default_value = "all")]
    nth: String,
    /// At most so many runs
    #[arg(long, default_value_t = 64)]
    most: u64,
    #[command(flatten)]
    checker: CheckArgs,
    /// How many crash states of each run are checked
    #[arg(long, default_value_t = 300)]
    states: u64,
    /// What order the file system keeps
    #[arg(long, value_parser = Profile::parse, default_value = "posix-strict")]
    profile: Profile,
    /// How many seconds a run may take
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    time_limit: u64,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// The number of an error's name; 0 for a short write.
fn errno(name: &str) -> anyhow::Result<i32> {
    if name.eq_ignore_ascii_case("short") {
        return Ok(0);
    }
    let found = (1..134).find(|raw| format!("{:?}", Errno::from_raw(*raw)).eq_ignore_ascii_case(name));
    match found {
        Some(raw) => Ok(raw),
        None => bail!("{name} is not an error's name, such as EIO"),
    }
}

fn fault_options(args: &FaultArgs) -> anyhow::Result<faults::Options> {
    let dir = std::fs::canonicalize(&args.dir)?;
    let origin = Origin {
        dir: names::text(dir.as_os_str()),
        given: names::text(args.dir.as_os_str()),
        ..Origin::default()
    };
    let recording = Recording { origin, ..Recording::default() };
    let nth = if args.nth == "all" { None } else { Some(args.nth.parse()?) };
    Ok(faults::Options {
        record: record::Options {
            dir: args.dir.clone(),
            command: args.checker.user.map_or_else(|| args.command.clone(), |user| user.lent(&args.command)),
            limit: 256 << 20,
            patience: Some(std::time::Duration::from_secs(args.time_limit)),
            fault: None,
            output: [Onward::Nowhere, Onward::Nowhere],
            by: By::Fuse { traced: true },
            stacks: true,
            env: Vec::new(),
            cwd: None,
            own_places: true,
        },
        call: args.call.clone(),
        errno: errno(&args.error)?,
        nth,
        most: args.most,
        check: (args.checker.check.is_some() || args.checker.expect.is_some())
            .then(|| checker_options(&args.checker, &recording))
            .transpose()?,
        user: args.checker.user,
        states: args.states,
        profile: args.profile,
    })
}

/// Runs a program with a fault.
pub(crate) fn fault(args: &FaultArgs) -> anyhow::Result<Exit> {
    let options = fault_options(args)?;
    sandbox::enter()?;
    let stop = stop_flag()?;
    let bar = bar(0);
    let done = faults::inject(&options, &stop, &mut |_| bar.inc(1))?;
    bar.finish_and_clear();
    let rows: String = done.runs.iter().map(|run| run_text(run, args)).collect();
    let failed = done.runs.iter().filter(|run| run.verdict == Some(Verdict::Fail)).count();
    print(&format!(
        "{rows}{} calls of {}, {} runs with a fault, {failed} with a finding\n",
        done.calls,
        args.call,
        done.runs.len()
    ))?;
    print_json(
        args.json,
        &json!({ "calls": done.calls, "runs": done.runs, "findings": failed, "call": args.call, "error": args.error }),
    )?;
    // With a checker, a run that gave no verdict says nothing.
    let short = |run: &Run| match run.verdict {
        Some(verdict) => verdict == Verdict::NotMeasured,
        None => options.check.is_some(),
    };
    let is_short = done.runs.iter().any(short) || stop.load(Ordering::Relaxed);
    Ok(match (done.runs.len(), failed) {
        (0, _) => Exit::NotMeasured,
        (_, 0) if is_short => Exit::NotMeasured,
        (_, 0) => Exit::Pass,
        _ => Exit::Finding,
    })
}

fn run_text(run: &Run, args: &FaultArgs) -> String {
    let mut text =
        format!("{} {} with {}: the program ended with {}", args.call, run.nth, args.error, run.exit);
    if let Some(stopped) = &run.stopped {
        text.push_str(&format!(", not recorded: {stopped}"));
    }
    if let Some(verdict) = run.verdict {
        text.push_str(&format!(", {} in {} states", verdict.name(), run.states));
        text.extend(run.reason.iter().map(|why| format!(" ({})", escape::word(why))));
    }
    text.push('\n');
    text.extend(run.left.iter().map(|left| format!("    with nothing lost: {}\n", escape::word(left))));
    for class in &run.classes {
        let symptom = escape::word(&class.symptom);
        text.push_str(&format!("    {symptom} ({} states, such as {})\n", class.states, class.id));
    }
    text
}
