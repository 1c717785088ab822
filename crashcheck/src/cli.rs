//! The `crashcheck` command: arguments, progress, exit codes.
//!
//! I own what a user types and how a program ends. (A1) Each exit code means one thing, and that is API.
//! (A2) A closed pipe ends quietly. (A3) A progress bar is drawn only on a terminal, on standard error;
//! with `--json` the last line of standard output is one JSON object. I check nothing myself.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::block;
use crate::block::command::BlockArgs;
use crate::block::room::Missing;
use crate::block::server::ServerArgs;
use crate::calibrate;
use crate::calibrate::command::CalibrateArgs;
use crate::core::choices::{Bounds, Tears};
use crate::core::method::WEAKER;
use crate::core::profile::Profile;
use crate::core::replay::replay;
use crate::engine::campaign::{self, Options};
use crate::engine::certificate;
use crate::engine::execute::execute;
use crate::engine::scoreboard::Size;
use crate::engine::subject::EngineSubject;
use crate::engine::swept::{self, Swept};
use crate::engine::{flip, kill, mutants, reader, replicas, spec};
use crate::escape;
use crate::program::rights::leave_machine;
use crate::program::sandbox::{TIED, die_with_parent};

mod program;
mod score;
mod subjects;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All that was checked holds.
    Pass = 0,
    /// A finding: something does not hold.
    Finding = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// The harness is broken: a control run failed, or the checker cannot do its work here.
    HarnessBroken = 3,
    /// Nothing was measured: the budget was too small, or something that is needed is missing here.
    NotMeasured = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

const EXIT_CODES: &str = "Exit codes: 0 all that was checked holds; 1 a finding; 2 usage; 3 the harness is broken; \
4 nothing was measured.";

#[derive(Parser, Debug)]
#[command(version, about = "Shows that no crash leaves a store silently partial", after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Records what a program does to a directory
    #[command(after_help = program::RECORD_HELP)]
    Record(program::RecordArgs),
    /// Tries the crash states of a recording with a checker, and explains what fails
    #[command(after_help = program::EXPLORE_HELP)]
    Explore(program::ExploreArgs),
    /// Drops each sync of a recording in turn, and says which of them the checker misses
    #[command(after_help = program::MUTATE_HELP)]
    MutateSyncs(program::MutateArgs),
    /// Runs a program with one call failing, again and again
    #[command(after_help = program::FAULT_HELP)]
    Fault(program::FaultArgs),
    /// Lays out one state of a recording as a directory
    #[command(after_help = EXIT_CODES)]
    Replay(program::ReplayArgs),
    /// Prints what a recording holds
    #[command(after_help = EXIT_CODES)]
    Show(program::ShowArgs),
    /// Records and explores known libraries, and compares the verdicts with what is expected
    #[command(after_help = subjects::HELP)]
    Subjects(subjects::SubjectsArgs),
    /// Checks the seawall engine on a simulated disk
    #[command(after_help = EXIT_CODES)]
    Engine(EngineArgs),
    /// Kills a process that writes to a real directory, again and again
    #[command(after_help = EXIT_CODES)]
    Kill(KillArgs),
    /// Runs a program on a real file system over a device that records, and checks what crashes leave
    #[command(after_help = EXIT_CODES)]
    Block(BlockArgs),
    /// Shows on this kernel's file systems that the profiles predict every outcome seen
    #[command(after_help = EXIT_CODES)]
    Calibrate(CalibrateArgs),
    #[command(hide = true)]
    BlockInit,
    #[command(hide = true)]
    BlockHands,
    #[command(hide = true)]
    BlockServer(ServerArgs),
    #[command(hide = true)]
    Sweeper,
    #[command(hide = true)]
    KillChild {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        cycle: u64,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TearsArg {
    /// Each unit of 512 bytes is old or new
    None,
    /// One unit of a state may be torn at any byte
    One,
}

#[derive(Args, Debug)]
struct EngineArgs {
    /// Enumerate every sequence of up to this many operations
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=6))]
    length: u32,
    /// How many groups share the store
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=4))]
    groups: u8,
    /// Try every set of up to this many unsynced units at a crash point
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=16))]
    max_units: u8,
    /// Above that, omit (and keep) at most this many
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=4))]
    omissions: u8,
    /// Whether units are torn inside
    #[arg(long, value_enum, default_value = "none")]
    tears: TearsArg,
    /// Crash inside recovery this many times in a row
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=3))]
    nested: u8,
    /// Crash inside the recoveries of one run in so many
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    nested_every: u64,
    /// What order the file system keeps: posix-strict, ext4, ext4-noauto_da_alloc, ext4-writeback, xfs, btrfs
    #[arg(long, value_parser = Profile::parse, default_value = "posix-strict")]
    profile: Profile,
    /// Stop after this many seconds (60 unless another limit is given)
    #[arg(long)]
    seconds: Option<u64>,
    /// Stop after this many states
    #[arg(long)]
    states: Option<u64>,
    /// Stop when every enumerated sequence is done
    #[arg(long)]
    complete: bool,
    /// Names the order of the sequences
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on with this sequence, as an earlier certificate says
    #[arg(long, default_value_t = 0)]
    resume: u64,
    /// Threads; one for each processor unless given
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=512))]
    jobs: Option<u16>,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// Show that each planted bug is found, instead
    #[arg(long, conflicts_with_all = ["flip_bits", "replay", "complete", "states"])]
    mutants: bool,
    /// Flip every bit of a small store, instead
    #[arg(long, conflicts_with_all = ["replay", "complete", "states"])]
    flip_bits: bool,
    /// Damage the copies of the same entries in so many replicas, in every combination, and let them heal
    /// each other, instead; 50,000 of the combinations of 5 unless --states says more
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=6), conflicts_with_all = ["replay", "mutants", "flip_bits", "complete"])]
    replicas: Option<u32>,
    /// Try every kind of fault and print a row for each, instead: at the size of minutes, or of hours
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "gate", conflicts_with_all = ["replay", "mutants", "flip_bits", "replicas"])]
    scoreboard: Option<Size>,
    /// Of the scoreboard, go on where this file says, and note in it every minute how far it came; --seconds is
    /// shared out among the rows
    #[arg(long, value_name = "FILE", requires = "scoreboard")]
    progress: Option<PathBuf>,
    /// Of the scoreboard or the planted bugs, the rows whose names hold this
    #[arg(long, value_name = "NAME", default_value = "")]
    row: String,
    /// Ask a second reader of the format, in Python, about so many inputs (--cases), instead
    #[arg(long, conflicts_with_all = ["replay", "mutants", "flip_bits", "replicas", "scoreboard", "complete", "states"])]
    second_reader: bool,
    /// Of the second reader, how many inputs
    #[arg(long, requires = "second_reader", default_value_t = 20_000)]
    cases: u64,
    /// Write so many traces for the specification into modules below --out, instead
    #[arg(long, value_name = "N", requires = "out", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["replay", "mutants", "flip_bits", "replicas", "scoreboard"])]
    spec_traces: Option<u32>,
    /// Where to write them
    #[arg(long, value_name = "DIR", requires = "spec_traces")]
    out: Option<PathBuf>,
    /// Show one finding again: OPERATIONS, or OPERATIONS@STATE as a finding prints it
    #[arg(long, value_name = "ID")]
    replay: Option<String>,
}

#[derive(Args, Debug)]
struct KillArgs {
    /// How many kills
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    cycles: u64,
    /// Where: a directory without a store; a temporary one unless given
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Bytes in a segment
    #[arg(long, default_value_t = 1 << 20)]
    segment_bytes: u64,
    /// Names the operations and the moments of the kills
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(exit) = program::inner() {
        return exit;
    }
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == TIED) {
        words.remove(1);
        if let Err(e) = die_with_parent() {
            let _ = complain(&escape::word(&format!("{e:#}")));
            return Exit::HarnessBroken.into();
        }
    }
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(e) => {
            let is_error = e.use_stderr();
            let told = if is_error {
                // It quotes arguments, which may be the names of files.
                io::stderr().write_all(escape::lines(&e.render().to_string()).as_bytes())
            } else {
                e.print()
            };
            let exit = if is_error { Exit::Usage } else { Exit::Pass };
            return if told.is_err_and(|e| !is_closed_pipe(&e)) {
                Exit::HarnessBroken.into()
            } else {
                exit.into()
            };
        }
    };
    if let Err(e) = leave_machine() {
        let _ = complain(&escape::word(&format!("{e:#}")));
        return Exit::HarnessBroken.into();
    }
    let done = match cli.command {
        Command::Record(args) => program::record(&args),
        Command::Explore(args) => program::explore(&args),
        Command::MutateSyncs(args) => program::mutate(&args),
        Command::Fault(args) => program::fault(&args),
        Command::Replay(args) => program::replay(&args),
        Command::Show(args) => program::show(&args),
        Command::Subjects(args) => subjects::subjects(&args),
        Command::Engine(args) => engine(&args),
        Command::Kill(args) => kill(&args),
        Command::Block(args) => block::command::run(&args),
        Command::Calibrate(args) => calibrate::command::run(&args),
        Command::BlockInit => block::guests::init().map(|()| Exit::Pass),
        Command::BlockHands => block::hands::serve().map(|()| Exit::Pass),
        Command::BlockServer(args) => block::server::serve(&args).map(|()| Exit::Pass),
        Command::Sweeper => swept::sweep().map(|()| Exit::Pass),
        Command::KillChild { dir, seed, cycle } => kill::child(&dir, seed, cycle).map(|()| Exit::Pass),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(is_closed_pipe) => Exit::Pass.into(),
        Err(e) => {
            let _ = complain(&escape::word(&format!("{e:#}")));
            // What is missing here can be had; what failed is broken.
            if e.is::<Missing>() { Exit::NotMeasured.into() } else { Exit::HarnessBroken.into() }
        }
    }
}

fn is_closed_pipe(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::BrokenPipe
}

/// Writes lines to standard output; a closed pipe is an error that ends the program quietly.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(escape::lines(text).as_bytes())?;
    Ok(out.flush()?)
}

pub(crate) fn print_json(json: bool, value: &Value) -> anyhow::Result<()> {
    if json { print(&(escape::json(value)? + "\n")) } else { Ok(()) }
}

/// Writes a line to standard error, after this program's name.
pub(crate) fn complain(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "crashcheck: {}", escape::lines(text))
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn bar(length: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {msg}");
    ProgressBar::new(length).with_style(style.expect("the template is well-formed"))
}

impl EngineArgs {
    fn jobs(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or_else(all, usize::from)
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            max_subset_units: usize::from(self.max_units),
            omissions: usize::from(self.omissions),
            tears: match self.tears {
                TearsArg::None => Tears::None,
                TearsArg::One => Tears::One,
            },
            nested_depth: self.nested,
            profile: self.profile,
            ..Bounds::default()
        }
    }

    fn options(&self) -> Options {
        let unlimited = self.states.is_some() || self.complete;
        Options {
            seed: self.seed,
            length: self.length,
            groups: usize::from(self.groups),
            bounds: self.bounds(),
            nested_every: self.nested_every,
            seconds: self.seconds.or((!unlimited).then_some(60)),
            states: self.states,
            complete: self.complete,
            jobs: self.jobs(),
            first: self.resume,
        }
    }
}

fn engine(args: &EngineArgs) -> anyhow::Result<Exit> {
    if let Some(id) = &args.replay {
        return replay_one(id, args);
    }
    if args.mutants {
        return hunt(args);
    }
    if args.flip_bits {
        return flip_bits(args);
    }
    if let Some(size) = args.scoreboard {
        return score::score(args, size);
    }
    if let Some(replicas) = args.replicas {
        return heal(args, replicas);
    }
    if args.second_reader {
        return compare_readers(args);
    }
    if let (Some(count), Some(dir)) = (args.spec_traces, &args.out) {
        return write_traces(args, count, dir);
    }
    let options = args.options();
    let bar = bar(options.seconds.unwrap_or(0));
    let summary = campaign::campaign(&options, |summary| {
        bar.set_position(bar.elapsed().as_secs());
        let counters = &summary.counters;
        bar.set_message(format!(
            "s, {} sequences, {} states, {} silent, {} false alarms",
            summary.sequences, counters.distinct, counters.silent, counters.false_alarms
        ));
    });
    bar.finish_and_clear();
    if let Some(broken) = &summary.broken {
        print(&format!("HARNESS-BROKEN: {broken}\n"))?;
        print_json(args.json, &certificate::machine(&summary, &options))?;
        return Ok(Exit::HarnessBroken);
    }
    print(&certificate::text(&summary, &options))?;
    print_json(args.json, &certificate::machine(&summary, &options))?;
    Ok(if !summary.is_pass() {
        Exit::Finding
    } else if summary.counters.distinct == 0 {
        Exit::NotMeasured
    } else {
        Exit::Pass
    })
}

fn write_traces(args: &EngineArgs, count: u32, dir: &Path) -> anyhow::Result<Exit> {
    let written = spec::write(args.seed, usize::try_from(count)?, dir)?;
    print(&format!(
        "seed {}: {} traces of {} events, {} frames, {} restarts and {} rotations, and as many wrong ones\n",
        args.seed, written.traces, written.events, written.frames, written.restarts, written.rotations
    ))?;
    print_json(args.json, &serde_json::to_value(written)?)?;
    Ok(Exit::Pass)
}

fn replay_one(id: &str, args: &EngineArgs) -> anyhow::Result<Exit> {
    let (sequence, state) = match certificate::parse_replay(id) {
        Ok(parsed) => parsed,
        Err(e) => {
            complain(&format!(
                "{e}\nwrite --replay 'append.0,vote.1@SEED.RUN.CUT.STATE' as a finding prints it"
            ))?;
            return Ok(Exit::Usage);
        }
    };
    let run = execute::<seawall::vfs::mem::MemVfs>(&sequence);
    for wrong in &run.wrong {
        print(&format!("{}: the living handle: {}\n", wrong.property, wrong.text))?;
    }
    let Some(state) = state else {
        print(&format!("{} operations, {} wrong\n", sequence.steps.len(), run.wrong.len()))?;
        return Ok(if run.wrong.is_empty() { Exit::Pass } else { Exit::Finding });
    };
    let subject = EngineSubject::<seawall::vfs::mem::MemVfs>::default();
    match replay(&subject, &run, &args.bounds(), &state) {
        Ok(replayed) => {
            print(&replayed.text)?;
            Ok(if replayed.violations.is_empty() { Exit::Pass } else { Exit::Finding })
        }
        Err(e) => {
            complain(&format!("{e}\nuse the profile under which the finding was made"))?;
            Ok(Exit::Usage)
        }
    }
}

fn hunt(args: &EngineArgs) -> anyhow::Result<Exit> {
    let bugs: Vec<_> = mutants::hunted().filter(|bug| bug.name().contains(&args.row)).collect();
    let total = bugs.len();
    let bar = bar(total as u64);
    let patience = Duration::from_secs(args.seconds.unwrap_or(120));
    let rows = mutants::run(&bugs, args.jobs(), args.seed, patience, |row| {
        bar.inc(1);
        bar.set_message(row.bug);
    });
    bar.finish_and_clear();
    let mut text = String::new();
    for row in &rows {
        let end = row.killed.as_ref().map_or("SURVIVED".to_owned(), |k| {
            let marks: String =
                WEAKER.iter().map(|m| if k.weaker.contains(m) { " x" } else { " -" }).collect();
            format!("{:4} {:2} operations {:7} states {marks}  {}", k.property, k.operations, k.states, k.by)
        });
        text.push_str(&format!("{:26} {:6.2} s  {end}\n{:36}{}\n", row.bug, row.seconds, "", row.text));
    }
    let by = |method| rows.iter().flat_map(|r| &r.killed).filter(|k| k.weaker.contains(&method)).count();
    let weaker = WEAKER.map(by);
    text.push_str(&format!(
        "columns x or -: found with the same sequence by killing the process alone ({} bugs), by cutting each \
         file to a prefix ({}), by losing data and no name ({})\n",
        weaker[0], weaker[1], weaker[2]
    ));
    let survivors: Vec<&str> = rows.iter().filter(|r| r.killed.is_none()).map(|r| r.bug).collect();
    let killed = rows.len() - survivors.len();
    for (bug, why) in mutants::COVERED {
        text.push_str(&format!("not counted: {}, because {why}\n", bug.name()));
    }
    text.push_str(&format!("{killed} of {total} planted bugs killed\n"));
    print(&text)?;
    let value = json!({ "total": total, "killed": killed, "survivors": survivors, "bugs": rows,
        "found_by_kill": weaker[0], "found_by_file_prefix": weaker[1], "found_by_data_loss": weaker[2] });
    print_json(args.json, &value)?;
    Ok(match total {
        0 => Exit::NotMeasured,
        _ if survivors.is_empty() => Exit::Pass,
        _ => Exit::Finding,
    })
}

fn flip_bits(args: &EngineArgs) -> anyhow::Result<Exit> {
    let settings = flip::Settings { jobs: args.jobs(), first: 0, limit: None };
    let bar = bar(0);
    let tried = flip::run(&settings, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
        bar.set_message("bytes");
    });
    bar.finish_and_clear();
    let counts = match tried {
        Ok((counts, _)) => counts,
        Err(e) => {
            print(&format!("HARNESS-BROKEN: {e}\n"))?;
            return Ok(Exit::HarnessBroken);
        }
    };
    let verdict = if counts.is_pass() { "PASS" } else { "FAIL" };
    let findings: String = counts.findings.iter().map(|f| format!("{f}\n")).collect();
    print(&format!(
        "{findings}{verdict}\nflips {} and truncations {} of {} bytes: exact {}, repaired {}, reported {}, refused {}, \
         silent {}, panics {}, hangs {}\n",
        counts.flips,
        counts.truncations,
        counts.bytes,
        counts.exact,
        counts.repaired,
        counts.reported,
        counts.refused,
        counts.silent,
        counts.panics,
        counts.hangs
    ))?;
    print_json(args.json, &serde_json::to_value(&counts)?)?;
    Ok(if counts.is_pass() { Exit::Pass } else { Exit::Finding })
}

fn heal(args: &EngineArgs, replicas: u32) -> anyhow::Result<Exit> {
    let settings = replicas::Settings {
        replicas,
        first: args.resume,
        cases: args.states.unwrap_or(50_000),
        seed: args.seed,
        jobs: args.jobs(),
        limit: args.seconds.map(Duration::from_secs),
    };
    let bar = bar(settings.cases.min(replicas::all_cases(replicas)));
    let counts = replicas::run::<seawall::vfs::mem::MemVfs>(&settings, |done| bar.set_position(done));
    bar.finish_and_clear();
    let verdict = if counts.is_pass() { "PASS" } else { "FAIL" };
    let findings: String = counts.findings.iter().map(|f| format!("{f}\n")).collect();
    print(&format!(
        "{findings}{verdict}\n{} of {} cases of {} replicas, seed {}: {} healed, {} safely unavailable, wrong {}; \
         {} damaged copies, {} given back\n",
        counts.cases,
        counts.of,
        counts.replicas,
        counts.seed,
        counts.healed,
        counts.unavailable,
        counts.wrong,
        counts.damaged,
        counts.repaired
    ))?;
    if counts.next < counts.of {
        print(&format!("go on with --resume {}\n", counts.next))?;
    }
    print_json(args.json, &serde_json::to_value(&counts)?)?;
    Ok(match counts.cases {
        0 => Exit::NotMeasured,
        _ if counts.is_pass() => Exit::Pass,
        _ => Exit::Finding,
    })
}

fn compare_readers(args: &EngineArgs) -> anyhow::Result<Exit> {
    let settings =
        reader::Settings { cases: args.cases, first: args.resume, seed: args.seed, jobs: args.jobs() };
    let bar = bar(settings.cases);
    let counts = match reader::run(&settings, |done| bar.set_position(done)) {
        Ok(counts) => counts,
        Err(e) => {
            print(&format!("HARNESS-BROKEN: {e}\n"))?;
            return Ok(Exit::HarnessBroken);
        }
    };
    bar.finish_and_clear();
    counts.findings.iter().try_for_each(|finding| print(&format!("{finding}\n")))?;
    counts.kinds.iter().try_for_each(|(kind, count)| print(&format!("{count:9}  {kind}\n")))?;
    counts.answers.iter().try_for_each(|(what, count)| print(&format!("{count:9}    {what}\n")))?;
    if !counts.controls.is_empty() {
        let latest = counts.controls.values().max().copied().unwrap_or_default();
        let planted = counts.controls.len();
        print(&format!(
            "{planted} planted bugs of the engine's readers told apart, the last by case {latest}\n"
        ))?;
    }
    print(&format!(
        "{}\n{} inputs from {} of seed {}: agreed {}, disagreed {}, undecided {}, panics {}; {:.1} s\n",
        if counts.is_pass() { "PASS" } else { "FAIL" },
        counts.cases,
        settings.first,
        counts.seed,
        counts.agreed,
        counts.disagreed,
        counts.undecided,
        counts.panics,
        counts.seconds
    ))?;
    print_json(args.json, &serde_json::to_value(&counts)?)?;
    Ok(match counts.cases {
        0 => Exit::NotMeasured,
        _ if counts.is_pass() => Exit::Pass,
        _ => Exit::Finding,
    })
}

fn kill(args: &KillArgs) -> anyhow::Result<Exit> {
    let program = std::env::current_exe()?;
    let swept = args.dir.is_none().then(|| Swept::new(&program)).transpose()?;
    let temporary = swept.as_ref().map(|swept| swept.path().join("store"));
    let dir = args.dir.clone().or(temporary).context("a directory")?;
    if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        let dir = escape::path(&dir);
        complain(&format!("{dir} is not empty; name a directory that is, or none"))?;
        return Ok(Exit::Usage);
    }
    let settings = kill::Settings {
        program,
        cycles: args.cycles,
        dir,
        segment_bytes: args.segment_bytes,
        seed: args.seed,
    };
    let bar = bar(args.cycles);
    let counts = kill::run(&settings, |done| bar.set_position(done))?;
    bar.finish_and_clear();
    let verdict = if counts.is_pass() { "PASS" } else { "FAIL" };
    let findings: String = counts.findings.iter().map(|f| format!("{f}\n")).collect();
    print(&format!(
        "{findings}{verdict}\n{} kills ({} during recovery): {} batches acknowledged, {} left open of which {} were done; \
         lost {}, resurrected {}, false alarms {}, failures {}\n",
        counts.cycles,
        counts.during_recovery,
        counts.acknowledged,
        counts.unknown,
        counts.unknown_done,
        counts.lost,
        counts.resurrected,
        counts.false_alarms,
        counts.failures
    ))?;
    print_json(args.json, &serde_json::to_value(&counts)?)?;
    Ok(if counts.is_pass() { Exit::Pass } else { Exit::Finding })
}
