//! The commands for any program: their arguments, what they print, how they end.
//!
//! I own the words between the user and [`crate::program`]. Signals: an interrupt or a termination ends a
//! command in its own good time, with everything undone that has to be; a second one is as good as a kill,
//! after which the kernel undoes it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::{Exit, bar, complain, print, print_json};
pub(super) use strength::{FAULT_HELP, FaultArgs, MUTATE_HELP, MutateArgs, fault, mutate};

use crate::core::profile::Profile;
use crate::core::replay::Paths;
use crate::escape;
use crate::program::calls::Rings;
use crate::program::checker::{self, CheckerOptions};
use crate::program::expect::Expect;
use crate::program::fuse::Fault;
use crate::program::present::Stage;
use crate::program::record::{By, End, Options, Recorded};
use crate::program::recording::Recording;
use crate::program::rights::Rights;
use crate::program::scene::{Loss, Scene, Script};
use crate::program::search::Reach;
use crate::program::symbols::Symbols;
use crate::program::tape::Onward;
use crate::program::worker::{self, WORK, unit};
use crate::program::{classes, explore, file, names, page, place, ratchet, report, rights, sandbox, tracer};

mod strength;

/// What stands under `record --help`.
pub(super) const RECORD_HELP: &str = "\
The command is recorded by a file system over DIR that passes everything on (FUSE; run it as root, or where user \
namespaces are allowed), and stopped at sync and syncfs, of which no file system is told (ptrace). With --by ptrace \
it is stopped at every call that changes DIR instead: that takes no right but to trace a child, and longer. It says \
what it holds for durable by a line `durable-ack TEXT` on its standard output or error, or by looking up \
DIR/.crashcheck/ack/TEXT; and what it is about to do, for the oracles of explore, by a line `durable-begin TEXT`.

Exit codes: 0 recorded; 1 recorded, and the command failed; 2 usage; 3 it cannot be recorded here; \
4 the recording is not complete (its limit was reached, or it was interrupted) and was not written.";

#[derive(Args, Debug)]
pub(super) struct RecordArgs {
    /// The directory that the command writes to; what is in it is durable before
    #[arg(long)]
    dir: PathBuf,
    /// Where the recording goes
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How many MiB of writes a recording may take
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    limit: u64,
    /// How many seconds the command may run
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<u64>,
    /// Who sees what the command does: a file system over DIR, or a tracer alone
    #[arg(long, value_enum, default_value = "fuse")]
    by: Recorder,
    /// Do not trace the command: it runs as without us, and its sync and syncfs are not seen
    #[arg(long)]
    no_ptrace: bool,
    /// With --by ptrace: let the command have an io_uring, whose writes are not seen; nothing is measured then
    #[arg(long)]
    allow_rings: bool,
    /// Do not look where in the command a call is made: each takes a few microseconds less
    #[arg(long)]
    no_stacks: bool,
    /// Run the command as this user, without root's rights
    #[arg(long, value_name = "NAME", value_parser = Rights::of)]
    user: Option<Rights>,
    /// Keep the command's output to itself
    #[arg(long)]
    quiet: bool,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Who records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Recorder {
    Fuse,
    Ptrace,
}

/// What this program does when it is started by itself.
pub(super) fn inner() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let what = arguments.next()?;
    let rest = arguments.collect::<Vec<OsString>>();
    let done = if what == sandbox::SUPERVISE {
        sandbox::supervise(&rest)
    } else if what == tracer::TRACED {
        tracer::traced(&rest)
    } else if what == rights::AS {
        rights::step_down(&rest)
    } else if what == WORK {
        worker::serve(rest.first().and_then(|options| options.to_str()).unwrap_or_default()).map(|()| 0)
    } else {
        return None;
    };
    Some(match done {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(255)),
        Err(e) => {
            let _ = complain(&escape::word(&format!("{e:#}")));
            ExitCode::from(127)
        }
    })
}

/// A flag that is raised when we are told to stop.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // The second of its kind ends the program at once.
        flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .context("handling signals")?;
    }
    Ok(stop)
}

fn options(args: &RecordArgs, fault: Option<Fault>) -> Options {
    let quiet = args.quiet;
    Options {
        dir: args.dir.clone(),
        command: args.user.map_or_else(|| args.command.clone(), |user| user.lent(&args.command)),
        limit: args.limit << 20,
        patience: args.time_limit.map(Duration::from_secs),
        stacks: !args.no_stacks,
        fault,
        output: [Onward::Stdout, Onward::Stderr].map(|to| if quiet { Onward::Nowhere } else { to }),
        by: match args.by {
            Recorder::Fuse => By::Fuse { traced: !args.no_ptrace },
            Recorder::Ptrace if args.allow_rings => By::Ptrace { rings: Rings::Let },
            Recorder::Ptrace => By::Ptrace { rings: Rings::Refuse },
        },
        env: Vec::new(),
        cwd: None,
        own_places: false,
    }
}

/// Records a command.
pub(super) fn record(args: &RecordArgs) -> anyhow::Result<Exit> {
    let is_alone = args.by == Recorder::Ptrace;
    if (is_alone && args.no_ptrace) || (!is_alone && args.allow_rings) {
        let what =
            if is_alone { "--no-ptrace goes with --by fuse" } else { "--allow-rings goes with --by ptrace" };
        complain(what)?;
        return Ok(Exit::Usage);
    }
    if !is_alone {
        sandbox::enter()?;
    } else if !tracer::is_supported() {
        bail!("--by ptrace needs x86_64 or aarch64: record with the file system");
    }
    let stop = stop_flag()?;
    let recorded = crate::program::record::record(&options(args, None), &stop)?;
    if let Some(why) = incomplete(&recorded, args) {
        complain(&format!("NOT-MEASURED: {why}; nothing was written"))?;
        print_json(args.json, &json!({ "verdict": "NOT-MEASURED", "reason": why }))?;
        return Ok(Exit::NotMeasured);
    }
    let recording = &recorded.recording;
    let bytes = file::write(recording, &args.output)?;
    let (steps, acks) = (recording.trace.steps.len(), recording.acks().count());
    for gap in &recording.gaps {
        complain(&report::gap(gap))?;
    }
    let exit = recording.origin.exit;
    if !args.json {
        let failed = if exit == 0 { String::new() } else { format!("; the command ended with {exit}") };
        let (operations, syncs) = (steps - recording.notes.len() - recording.syncs(), recording.syncs());
        let to = escape::path(&args.output);
        complain(&format!(
            "recorded {operations} operations, {syncs} syncs and {acks} acknowledgements to {to}{failed}"
        ))?;
    }
    print_json(
        args.json,
        &json!({
            "verdict": "RECORDED", "exit": exit, "steps": steps, "syncs": recording.syncs(), "acks": acks,
            "gaps": recording.gaps.len(), "bytes": bytes, "file": names::text(args.output.as_os_str()),
        }),
    )?;
    Ok(if exit == 0 { Exit::Pass } else { Exit::Finding })
}

/// Why a recording is not whole.
fn incomplete(recorded: &Recorded, args: &RecordArgs) -> Option<String> {
    match recorded.end {
        End::Ended => None,
        End::Full => Some(format!("the recording reached its limit of {} MiB (--limit)", args.limit)),
        End::TooLong => Some("the command ran longer than --time-limit says and was ended".to_owned()),
        End::Interrupted => Some("interrupted, and the command was ended".to_owned()),
    }
}

/// What stands under `explore --help`.
pub(super) const EXPLORE_HELP: &str = "\
The checker is run in each state, with the directory at its original path and as its working directory. \
CRASHCHECK_DIR names it, CRASHCHECK_ACKS names a file with every acknowledgement seen before the crash, one \
a line. Exit 0 is a pass; anything else, a signal, a sanitizer's report or no answer in time is a failure, \
whose reason is the last line of its standard error. With --persistent it is started once, reads one JSON \
object a line ({\"dir\", \"acks\", \"pending\"}) and answers each with one ({\"ok\": true} or {\"ok\": false, \
\"reason\": \"..\"}); it must not keep files of the directory open between two states.

With --expect no checker is needed: COMMAND is the program's own, and what it prints must be the same when it is \
run twice (opens), or be what was acknowledged and announced: log lines, `KEY VALUE` pairs after `set KEY VALUE` and \
`del KEY` (kv), `vote TERM WHO` and `entry INDEX TERM DATA` after `vote TERM WHO`, `append INDEX TERM DATA` and \
`truncate INDEX` (consensus). sqlite=PATH takes no command.

Exit codes: 0 no state failed, or with --ratchet only in known ways; 1 a finding; 2 usage; 3 the harness is broken \
(the checker fails on the complete state or cannot be run, or the history cannot be read); 4 not enough was measured \
for a pass: a part was not recorded, or the first two stages did not come to their end.";

#[derive(Args, Debug)]
struct CheckArgs {
    /// The command that checks a state; with --expect, the program's own that opens it or prints what it holds
    #[arg(long, value_name = "COMMAND")]
    check: Option<String>,
    /// What holds without a checker of yours: opens, sqlite=PATH, log, kv, consensus
    #[arg(long, value_name = "WHAT", value_parser = Expect::parse)]
    expect: Option<Expect>,
    /// A command that must succeed after it, such as one that writes
    #[arg(long, value_name = "COMMAND")]
    then: Option<String>,
    /// Start the checker once for all states
    #[arg(long, requires = "check", conflicts_with_all = ["expect", "then"])]
    persistent: bool,
    /// Where states are shown, for a recording that somebody else made
    #[arg(long, value_name = "DIR")]
    at: Option<PathBuf>,
    /// Run it as this user, without root's rights, on states that are that user's
    #[arg(long, value_name = "NAME", value_parser = Rights::of)]
    user: Option<Rights>,
    /// How many milliseconds it may take for one state
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    check_limit: u64,
}

#[derive(Args, Debug)]
pub(super) struct ExploreArgs {
    /// The recording
    trace: PathBuf,
    #[command(flatten)]
    checker: CheckArgs,
    /// What order the file system keeps: posix-strict, ext4, ext4-noauto_da_alloc, ext4-writeback, xfs, btrfs
    #[arg(long, value_parser = Profile::parse, default_value = "posix-strict")]
    profile: Profile,
    /// How many operations are lost at once, at most
    #[arg(short, long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=4))]
    k: u8,
    /// How many units of a state are torn inside
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    tears: u8,
    /// Lose units of 4096 bytes as a whole, not of 512
    #[arg(long)]
    blocks: bool,
    /// Stop after this many seconds; random states fill them up
    #[arg(long)]
    seconds: Option<u64>,
    /// Stop after this many states; random states fill them up
    #[arg(long)]
    states: Option<u64>,
    /// Skip so many states, which an earlier run with the same seed and reach has checked
    #[arg(long, default_value_t = 0, value_name = "STATES")]
    resume: u64,
    /// Crash within the checker's own recovery too, of so many states that passed
    #[arg(long, default_value_t = 0, value_name = "STATES", conflicts_with = "persistent")]
    nested: usize,
    /// Names the random states
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Workers; one for each processor unless given
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Write a page that explains every finding: one file that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the verdict as a JUnit report as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// The classes that are known: only new ones are findings; written if it is not there
    #[arg(long, value_name = "FILE")]
    ratchet: Option<PathBuf>,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

/// Writes the files that were asked for.
fn write_reports(
    args: &ExploreArgs,
    explored: &explore::Explored,
    options: &explore::Options,
    compared: Option<&ratchet::Compared>,
) -> anyhow::Result<()> {
    let write = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
        Some(path) => std::fs::write(path, text()).with_context(|| path.display().to_string()),
        None => Ok(()),
    };
    write(&args.html, &|| page::html(explored, options, compared))?;
    write(&args.junit, &|| report::junit(explored, compared))
}

/// A recording, with the directory in which its states are shown as its own.
fn read_at(trace: &Path, at: Option<&Path>) -> anyhow::Result<Recording> {
    let mut recording = file::read(trace)?;
    let dir = place::choose(&recording, trace, at)?;
    recording.origin.dir = names::text(dir.as_os_str());
    Ok(recording)
}

fn place_of(recording: &Recording) -> PathBuf {
    PathBuf::from(names::name(&recording.origin.dir))
}

fn checker_options(args: &CheckArgs, recording: &Recording) -> anyhow::Result<CheckerOptions> {
    let dir = place_of(recording);
    let cwd = std::env::current_dir()?;
    let words = |text: &str| checker::command(text, &recording.origin.given, &dir, &cwd);
    let command = match (&args.expect, &args.check) {
        (Some(Expect::Sqlite(_)), Some(_)) => bail!("--expect sqlite asks SQLite; a command goes to --then"),
        (Some(Expect::Sqlite(path)), None) => checker::sqlite(path)?,
        (_, Some(text)) => words(text),
        (_, None) => bail!("a checker is needed: --check COMMAND"),
    };
    let lent = |words: Vec<String>| args.user.map_or_else(|| words.clone(), |user| user.lent(&words));
    Ok(CheckerOptions {
        command: lent(command),
        expect: args.expect.clone(),
        then: args.then.as_deref().map(words).map(lent),
        user: args.user,
        persistent: args.persistent,
        limit_millis: args.check_limit,
    })
}

fn explore_options(args: &ExploreArgs, recording: &Recording) -> anyhow::Result<explore::Options> {
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    Ok(explore::Options {
        trace: args.trace.clone(),
        at: place_of(recording),
        checker: checker_options(&args.checker, recording)?,
        profile: args.profile,
        block_units: args.blocks,
        reach: Reach { omissions: usize::from(args.k), tears: usize::from(args.tears), seed: args.seed },
        seconds: args.seconds,
        states: args.states,
        resume: args.resume,
        jobs: args.jobs.map_or_else(all, usize::from),
        before: Vec::new(),
        nested: args.nested,
    })
}

/// Explores a recording.
pub(super) fn explore(args: &ExploreArgs) -> anyhow::Result<Exit> {
    let options = explore_options(args, &read_at(&args.trace, args.checker.at.as_deref())?)?;
    sandbox::enter()?;
    let stop = stop_flag()?;
    let bar = bar(0);
    let explored = explore::explore(&options, &stop, &mut |tally| {
        bar.set_position(tally.checked);
        let stage = tally.stages.last().map_or("", |progress| progress.stage.name());
        bar.set_message(format!("states, {} failed, {stage}", tally.failed));
    })?;
    bar.finish_and_clear();
    print(&report::text(&explored, &options))?;
    let compared = ratchet(args, &explored)?;
    write_reports(args, &explored, &options, compared.as_ref())?;
    let mut machine = report::machine(&explored, &options);
    machine["ratchet"] = json!(compared);
    print_json(args.json, &machine)?;
    let is_known = compared.is_some_and(|compared| !compared.written && compared.new.is_empty());
    Ok(match report::verdict(&explored) {
        report::Verdict::Fail if is_known && report::unmeasured(&explored).is_some() => Exit::NotMeasured,
        report::Verdict::Fail if is_known => Exit::Pass,
        report::Verdict::Pass => Exit::Pass,
        report::Verdict::Fail => Exit::Finding,
        report::Verdict::NotMeasured => Exit::NotMeasured,
        report::Verdict::HarnessBroken => Exit::HarnessBroken,
    })
}

/// What was found beside what is known, if that is asked for and anything was measured.
fn ratchet(args: &ExploreArgs, explored: &explore::Explored) -> anyhow::Result<Option<ratchet::Compared>> {
    let is_measured = matches!(report::verdict(explored), report::Verdict::Pass | report::Verdict::Fail);
    let Some(path) = args.ratchet.as_deref().filter(|_| is_measured) else { return Ok(None) };
    let whole = args.resume == 0 && explored.next.is_none() && !explored.interrupted;
    let compared = ratchet::compare(path, &explored.classes, whole)?;
    print(&ratchet::text(&compared, path))?;
    Ok(Some(compared))
}

#[derive(Args, Debug)]
pub(super) struct ReplayArgs {
    /// The state, as a finding names it
    id: String,
    /// The recording
    trace: PathBuf,
    /// Where: a directory that is not there yet
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// The profile under which it was found
    #[arg(long, value_parser = Profile::parse, default_value = "posix-strict")]
    profile: Profile,
    /// Lose units of 4096 bytes as a whole, as `explore --blocks` does
    #[arg(long)]
    blocks: bool,
}

/// Lays out a state.
pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<Exit> {
    let recording = file::read(&args.trace)?;
    let script = Script::new(&recording.trace, args.profile, unit(args.blocks));
    let mut scene = Scene::new(&script);
    let loss = Loss::parse(&args.id).filter(|loss| loss.cut <= script.steps.len());
    let known = loss.filter(|loss| {
        scene.go(loss.cut);
        scene.allows(loss)
    });
    let Some(loss) = known else {
        let (id, trace) = (escape::word(&args.id), escape::path(&args.trace));
        complain(&format!("{id} names no state of {trace}"))?;
        return Ok(Exit::Usage);
    };
    std::fs::create_dir(&args.into).with_context(|| args.into.display().to_string())?;
    let mut stage = Stage::new(&args.into, recording.modes.clone())?;
    stage.show(&scene.state(&loss)).with_context(|| args.into.display().to_string())?;
    let seen =
        format!("{} of {} acknowledgements", recording.acks_before(loss.cut), recording.acks().count());
    print(&format!(
        "{}: the state after step {} of {}, {} micro-operations lost, {seen} seen before\n",
        escape::path(&args.into),
        loss.cut,
        script.steps.len(),
        loss.lost.len()
    ))?;
    Ok(Exit::Pass)
}

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    /// The recording
    trace: PathBuf,
}

/// Prints a recording's steps.
pub(super) fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let recording = file::read(&args.trace)?;
    print(&listing(&recording, &args.trace))?;
    Ok(Exit::Pass)
}

fn listing(recording: &Recording, path: &Path) -> String {
    let origin = &recording.origin;
    let mut text = format!(
        "{}: {} in {}, recorded with {}, ended with {}\n",
        escape::path(path),
        escape::shell_of_names(&origin.command),
        escape::word(&origin.dir),
        escape::word(&origin.recorder),
        origin.exit
    );
    let mut paths = Paths::new(&recording.trace);
    let symbols = Symbols::new(recording);
    for (at, step) in recording.trace.steps.iter().enumerate() {
        paths.pass(step);
        let task = recording.who(at);
        let since = step.since.map_or(String::new(), |since| format!(", begun before step {since}"));
        let site = symbols.place(at).map_or(String::new(), |site| format!(" at {site}"));
        let (task, site) = (escape::word(&task), escape::word(&site));
        let words = classes::words(recording, &step.op, at, &paths);
        text.push_str(&format!("{at:6} {task:20} {}{since}{site}\n", escape::word(&words)));
    }
    for gap in &recording.gaps {
        text.push_str(&(report::gap(gap) + "\n"));
    }
    text
}
