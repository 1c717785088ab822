//! Kills a real process that writes to a real directory, and looks at what is there afterwards.
//!
//! I own the two processes. The child opens the store, runs steps that its seed names and prints each
//! event on its standard output, one write(2) to a line: `opening`, `opened HASH`, `issue N`, `ack N`.
//! The parent kills it, derives the same steps from the same seed and state, and compares what a fresh
//! open shows with the model's A(h). (L1) The page cache survives, so this checks what a process death
//! leaves, not a power loss. (L2) A line is printed only after the engine said so.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use seawall::types::Outcome;
use seawall::vfs::os::OsVfs;
use seawall::{CreateOptions, Engine, Options, RecoveryReport};
use serde::Serialize;

use super::execute::write_batch;
use super::generate::Random;
use super::judge::difference;
use super::observe::observe;
use super::oracle::{Act, Event, Fold, History, State, What};
use super::step::{GROUPS, Kind, Plan, Planner};

/// The kinds that a child draws from.
const KINDS: [Kind; 14] = [
    Kind::Append,
    Kind::Append,
    Kind::AppendLarge,
    Kind::AppendLarge,
    Kind::Batch,
    Kind::Vote,
    Kind::Commit,
    Kind::Truncate,
    Kind::Overwrite,
    Kind::CompactExternal,
    Kind::CompactOwned,
    Kind::Publish,
    Kind::Install,
    Kind::Group,
];

/// How long an open may take before it counts as one that never ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program to start as a child.
    pub program: PathBuf,
    /// How many kills.
    pub cycles: u64,
    /// The store's directory, which must not hold anything.
    pub dir: PathBuf,
    /// Bytes in a segment.
    pub segment_bytes: u64,
    /// Names the steps and the moments of the kills.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Kills.
    pub cycles: u64,
    /// Of those, while the child was opening.
    pub during_recovery: u64,
    /// Batches that were acknowledged.
    pub acknowledged: u64,
    /// Batches whose outcome the kill left open.
    pub unknown: u64,
    /// Of those, found done.
    pub unknown_done: u64,
    /// Cycles after which something acknowledged was missing.
    pub lost: u64,
    /// Cycles after which something removed was back.
    pub resurrected: u64,
    /// Opens that refused or raised an alarm.
    pub false_alarms: u64,
    /// Children that failed before they were killed: an error where the model allows none, a panic.
    pub failures: u64,
    /// Seconds.
    pub seconds: f64,
    /// The first few that are wrong.
    pub findings: Vec<String>,
}

impl Counts {
    /// Whether nothing was wrong.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.lost + self.resurrected + self.false_alarms + self.failures == 0
    }
}

fn options() -> Options {
    Options { chunk_bytes: 4096, ..Options::default() }
}

/// Makes the store, then kills and looks, again and again.
///
/// # Errors
/// If the harness itself fails: the directory cannot be used, a child does not start or says nonsense.
pub fn run(settings: &Settings, mut progress: impl FnMut(u64)) -> Result<Counts> {
    let begun = Instant::now();
    let create = CreateOptions {
        segment_bytes: settings.segment_bytes,
        unit: 512,
        ..CreateOptions::new(settings.seed, 1)
    };
    Engine::create(&settings.dir, &create).with_context(|| format!("create {}", settings.dir.display()))?;
    let mut state = prelude(&settings.dir)?;
    let mut counts = Counts::default();
    let mut random = Random::new(settings.seed);
    for cycle in 0..settings.cycles {
        let early = cycle % 10 == 9;
        let (told, complaint) = kill_one(settings, cycle, early, &mut random)?;
        if !complaint.is_empty() {
            counts.failures += 1;
            counts.findings.push(format!("cycle {cycle}: the child failed by itself: {}", complaint.trim()));
            break;
        }
        counts.cycles += 1;
        counts.during_recovery += u64::from(!told.opened);
        let history = history(settings.seed, cycle, &state, &told)?;
        match look(&settings.dir, &history, &state, &mut counts) {
            Some(seen) => state = seen,
            None => break,
        }
        progress(cycle + 1);
    }
    counts.seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    Ok(counts)
}

fn prelude(dir: &Path) -> Result<State> {
    let (engine, _) = Engine::open(dir, options())?;
    for group in GROUPS {
        engine.create_group(group)?;
    }
    engine.maintain()?;
    observe(&engine).map_err(|e| anyhow::anyhow!("{e}"))
}

/// What a child said before it died.
#[derive(Debug, Default)]
struct Told {
    opening: bool,
    opened: bool,
    /// The number of the state that it saw.
    state: Option<u64>,
    issued: u64,
    acked: u64,
}

fn kill_one(settings: &Settings, cycle: u64, early: bool, random: &mut Random) -> Result<(Told, String)> {
    let mut child = Command::new(&settings.program)
        .args(["kill-child", "--seed", &settings.seed.to_string(), "--cycle", &cycle.to_string(), "--dir"])
        .arg(&settings.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("RUST_BACKTRACE", "0")
        .spawn()
        .context("start the child")?;
    let lines = follow(child.stdout.take().expect("it is piped"));
    let mut told = Told::default();
    // An early kill waits for the first line only; any other for the open, or for the child's end.
    let ready = |told: &Told| told.opened || (early && told.opening);
    let deadline = Instant::now() + PATIENCE;
    while !ready(&told) {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => note(&mut told, &line?)?,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                reap(&mut child)?;
                return Ok((told, format!("it had not opened the store after {} s", PATIENCE.as_secs())));
            }
        }
    }
    let most = if early { 3_000 } else { 90_000 };
    std::thread::sleep(Duration::from_micros(random.below(most)));
    reap(&mut child)?;
    // What it had said before it died is still in the pipe.
    for line in lines {
        note(&mut told, &line?)?;
    }
    let mut complaint = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut complaint)?;
    Ok((told, complaint))
}

/// The lines of a pipe, read by a thread of their own so that nobody waits for them without end.
fn follow(pipe: ChildStdout) -> Receiver<std::io::Result<String>> {
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn reap(child: &mut Child) -> Result<()> {
    child.kill().context("kill the child")?;
    child.wait()?;
    Ok(())
}

fn note(told: &mut Told, line: &str) -> Result<()> {
    let (word, number) = line.split_once(' ').unwrap_or((line, "0"));
    let number: u64 = number.parse().with_context(|| format!("the child said {line:?}"))?;
    match word {
        "opening" => told.opening = true,
        "opened" => (told.opened, told.state) = (true, Some(number)),
        "issue" => told.issued = number,
        "ack" => told.acked = number,
        _ => bail!("the child said {line:?}"),
    }
    Ok(())
}

/// The steps of one cycle: batches and snapshots, derived from the state as it goes.
struct Script {
    random: Random,
    serial: u64,
    planned: VecDeque<Planned>,
}

/// A batch, and whether it is a snapshot.
type Planned = (Vec<Act>, bool);

impl Script {
    fn new(seed: u64, cycle: u64) -> Self {
        let random = Random::new(seed ^ cycle.wrapping_mul(0x9e37_79b9));
        // Payloads of different cycles differ.
        Self { random, serial: cycle << 20, planned: VecDeque::new() }
    }

    /// The next batch (or snapshot, alone in its batch), for a store in this state.
    fn next(&mut self, state: &State) -> Planned {
        while self.planned.is_empty() {
            let kind = KINDS[usize::try_from(self.random.below(KINDS.len() as u64)).expect("few kinds")];
            let salt = u8::try_from(self.random.below(256)).expect("below 256");
            let mut planner = Planner::new(state, &mut self.serial, salt);
            let plans = match kind {
                Kind::Append => planner.append(),
                Kind::AppendLarge => planner.large(),
                Kind::Batch => planner.batch(),
                Kind::Vote => planner.vote(),
                Kind::Commit => planner.commit(),
                Kind::Truncate => planner.truncate(),
                Kind::Overwrite => planner.overwrite(),
                Kind::CompactExternal => planner.compact_external(),
                Kind::CompactOwned => planner.compact_owned(),
                Kind::Publish => planner.publish(),
                Kind::Install => planner.install(),
                _ => planner.guest(),
            };
            self.planned.extend(plans.into_iter().map(|plan| match plan {
                Plan::Batch(acts) => (acts, false),
                Plan::Snapshot(act) => (vec![act], true),
            }));
        }
        self.planned.pop_front().expect("not empty")
    }
}

/// The history of a cycle that began in `state`, by what the child told.
fn history(seed: u64, cycle: u64, state: &State, told: &Told) -> Result<History> {
    if let Some(number) = told.state {
        ensure!(number == state_number(state), "the child opened another state than the parent had seen");
    }
    let mut script = Script::new(seed, cycle);
    let mut history = History::default();
    let mut live = state.clone();
    for number in 0..told.issued {
        let (acts, _) = script.next(&live);
        live.apply(&acts)
            .map_err(|e| anyhow::anyhow!("the script's batch {number} is refused by the model: {e}"))?;
        forget(&mut live);
        history.events.push(Event::Issue(acts));
        if number < told.acked {
            history.events.push(Event::Ack(usize::try_from(number)?));
        }
    }
    Ok(history)
}

/// What only the engine knows is left out of the state that the script goes by.
fn forget(state: &mut State) {
    for group in state.groups.values_mut() {
        group.incarnation = None;
        if let Some(snapshot) = &mut group.snapshot
            && snapshot.owner == seawall::types::SnapshotOwner::Owned
        {
            snapshot.digest = None;
        }
    }
}

/// Opens and compares; the state that is there, or `None` if there is no going on.
fn look(dir: &Path, history: &History, before: &State, counts: &mut Counts) -> Option<State> {
    let tell = |counts: &mut Counts, text: String| {
        if counts.findings.len() < 10 {
            counts.findings.push(format!("cycle {}: {text}", counts.cycles));
        }
    };
    let (seen, report) = match open_and_read(dir) {
        Ok(read) => read,
        Err(e) => {
            counts.false_alarms += 1;
            tell(counts, format!("the store cannot be read: {e}"));
            return None;
        }
    };
    if report.is_alarm() {
        counts.false_alarms += 1;
        tell(counts, format!("alarm: {report}"));
    }
    let mut fold = Fold::starting(before.clone());
    history.events.iter().for_each(|e| fold.step(e));
    let moment = fold.moment();
    counts.acknowledged += moment.acked.len() as u64;
    counts.unknown += moment.unknown.len() as u64;
    match moment.allowed.iter().position(|s| s.admits(&seen)) {
        Some(done) => counts.unknown_done += done as u64,
        None => {
            let back = seen.groups.iter().any(|(id, group)| {
                let known = |entry| {
                    moment
                        .allowed
                        .iter()
                        .any(|s| s.groups.get(id).is_some_and(|g| g.entries.values().any(|e| e == entry)))
                };
                group.entries.values().any(|entry| !known(entry))
            });
            if back {
                counts.resurrected += 1
            } else {
                counts.lost += 1
            }
            tell(counts, difference(&moment.allowed, &seen));
        }
    }
    Some(seen)
}

/// Opens, reads all and closes, on a thread of its own: one that never ends is a finding.
fn open_and_read(dir: &Path) -> Result<(State, RecoveryReport), String> {
    let (sender, answer) = std::sync::mpsc::channel();
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        let opened = Engine::open(dir, options()).map_err(|e| e.to_string());
        let read = opened.and_then(|(engine, report)| Ok((observe(&engine).map_err(|e| e.text)?, report)));
        // Nobody listens any more once the wait was given up.
        drop(sender.send(read));
    });
    let late = |e| match e {
        RecvTimeoutError::Timeout => format!("no answer after {} s", PATIENCE.as_secs()),
        RecvTimeoutError::Disconnected => "open or a read panicked".to_owned(),
    };
    answer.recv_timeout(PATIENCE).unwrap_or_else(|e| Err(late(e)))
}

fn state_number(state: &State) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// The child: writes until it is killed.
///
/// # Errors
/// If the engine refuses what the model allows, or fails.
pub fn child(dir: &Path, seed: u64, cycle: u64) -> Result<()> {
    say("opening")?;
    let (engine, _) = Engine::open(dir, options())?;
    let mut live = observe(&engine).map_err(|e| anyhow::anyhow!("{e}"))?;
    say(&format!("opened {}", state_number(&live)))?;
    let mut script = Script::new(seed, cycle);
    for number in 1.. {
        let (acts, snapshot) = script.next(&live);
        live.apply(&acts).map_err(|e| anyhow::anyhow!("the script is refused by the model: {e}"))?;
        forget(&mut live);
        say(&format!("issue {number}"))?;
        if snapshot {
            write_snapshot(&engine, &acts[0])?;
        } else {
            let outcome = engine.write(write_batch(&acts))?.wait();
            ensure!(outcome == Outcome::Durable, "batch {number} ended {outcome:?}");
        }
        say(&format!("ack {number}"))?;
        if number % 16 == 0 {
            engine.maintain()?;
        }
    }
    unreachable!("it is killed")
}

fn write_snapshot(engine: &Engine<OsVfs>, act: &Act) -> Result<()> {
    let (What::Snapshot(snapshot) | What::Install(snapshot)) = &act.what else {
        bail!("only snapshots are written so");
    };
    let mut writer = engine.snapshot_writer(act.group(), snapshot.id, &snapshot.membership)?;
    writer.write_all(&snapshot.content)?;
    match act.what {
        What::Install(_) => writer.install()?,
        _ => writer.publish()?,
    };
    Ok(())
}

/// One line, in one write(2): standard output is not buffered across it.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()?;
    Ok(())
}
