//! A process that shows states and asks the checker about them.
//!
//! I own both ends of its pipe: [`Crew`] in the exploring process, [`serve`] in the worker. A worker is the
//! first process of a namespace, with a directory in memory mounted over the recorded one, and places for temporary
//! files that no other checker sees, new for each state ([`own`](super::own)); it reads the recording itself, and is told a state by its name, a line each way. What goes wrong with the harness
//! is told apart from what is wrong with a state.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

use anyhow::{Context, anyhow};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::stat::{Mode, umask};
use nix::unistd::setgroups;
use serde::{Deserialize, Serialize};

use crate::core::profile::{Profile, Unit};
use crate::escape;
use crate::program::checker::{Checker, CheckerOptions, Reason};
use crate::program::expect::Expect;
use crate::program::file;
use crate::program::names;
use crate::program::own::Places;
use crate::program::present::Stage;
use crate::program::recording::{Note, Recording};
use crate::program::sandbox::{self, Ward};
use crate::program::scene::{Loss, Scene, Script};

/// What asks this program to be a worker.
pub const WORK: &str = "__work";

/// What a worker needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerOptions {
    /// The recording's file.
    #[serde(with = "names::as_text")]
    pub trace: PathBuf,
    /// Where states are shown.
    #[serde(with = "names::as_text")]
    pub at: PathBuf,
    /// The profile, which numbers the micro-operations: its name.
    pub profile: String,
    /// How big a unit is that is lost as a whole.
    pub block_units: bool,
    /// How states are checked.
    pub checker: CheckerOptions,
    /// What the program had said before the recording began.
    pub before: Vec<Note>,
}

/// What one of them needs to know.
#[derive(Debug, Serialize, Deserialize)]
struct Given {
    options: WorkerOptions,
    /// Whether it tells what is so for all.
    tells: bool,
}

/// A state to check.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Job {
    loss: Loss,
    /// A sync of the recording that is taken to have covered nothing.
    dropped: Option<usize>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reply {
    /// Why the state failed; nothing if it did not.
    reason: Option<Reason>,
    /// Why nothing can be said of it.
    broken: Option<String>,
}

/// What a checker said of a state.
pub type Outcome = anyhow::Result<Result<(), Reason>>;

/// The unit for an option.
#[must_use]
pub fn unit(blocks: bool) -> Unit {
    if blocks { Unit::Block } else { Unit::Sector }
}

/// The worker: answers until its input ends.
///
/// # Errors
/// If it cannot be set up.
pub fn serve(given: &str) -> anyhow::Result<()> {
    sandbox::die_with_parent()?;
    let Given { options, tells } = serde_json::from_str(given).context("a worker's options")?;
    // It may be below what is mounted next, or a file of whoever started this.
    let recording = file::read(&options.trace)?;
    sandbox::become_first()?;
    set_no_new_privs().context("giving up what programs may gain")?;
    if options.checker.user.is_some() {
        setgroups(&[]).context("giving up groups")?;
    }
    umask(Mode::empty());
    let before: Vec<&str> = options.before.iter().filter_map(Note::ack).collect();
    let acks: Vec<String> = before.iter().copied().chain(recording.acks()).map(str::to_owned).collect();
    let asks_history = options.checker.expect.as_ref().is_some_and(Expect::needs_history);
    let dir = options.at.clone();
    let owner = options.checker.user;
    let places = Places::new(&dir);
    for (place, why) in places.shared.iter().filter(|_| tells) {
        let (place, why) = (escape::path(place), why.to_string());
        writeln!(
            io::stderr(),
            "crashcheck: checkers share {place} with one another and with all others: {}",
            escape::word(&why)
        )?;
    }
    sandbox::mount_states(&dir, owner)?;
    let profile = Profile::parse(&options.profile).map_err(|e| anyhow!(e))?;
    let script = |dropped: Option<usize>| {
        let trace = dropped.map(|at| recording.trace.without_sync(at));
        let trace = trace.as_ref().unwrap_or(&recording.trace);
        Script::new(trace, profile, unit(options.block_units))
    };
    let mut stage = Stage::new(&dir, recording.modes.clone())?.owned_by(owner, options.checker.persistent);
    let mut checker = Checker::new(options.checker.clone(), &dir)?;
    // A checker that is started once may keep files there.
    let mut places = (!options.checker.persistent).then_some(places);
    let mut jobs = io::stdin()
        .lock()
        .lines()
        .map(|line| anyhow::Ok(serde_json::from_str::<Job>(&line?).context("a job")?));
    let mut next = jobs.next().transpose()?;
    while let Some(job) = next {
        let script = script(job.dropped);
        let mut worker = Worker {
            recording: &recording,
            acks: &acks,
            acks_before: before.len(),
            told_before: asks_history.then_some(&options.before),
            scene: Scene::new(&script),
            stage: &mut stage,
            checker: &mut checker,
            places: places.as_mut(),
        };
        next = worker.answer(job, &mut jobs)?;
    }
    Ok(())
}

struct Worker<'w> {
    recording: &'w Recording,
    acks: &'w [String],
    acks_before: usize,
    /// What an oracle is told of what was before the recording, if there is an oracle.
    told_before: Option<&'w Vec<Note>>,
    scene: Scene<'w>,
    stage: &'w mut Stage,
    checker: &'w mut Checker,
    /// Those that are renewed after each state.
    places: Option<&'w mut Places>,
}

impl Worker<'_> {
    /// Answers a job and those after it, up to one of another script.
    fn answer(
        &mut self,
        first: Job,
        jobs: &mut impl Iterator<Item = anyhow::Result<Job>>,
    ) -> anyhow::Result<Option<Job>> {
        let dropped = first.dropped;
        let mut next = Some(first);
        while let Some(job) = next {
            if job.dropped != dropped {
                return Ok(Some(job));
            }
            self.say(&job.loss)?;
            next = jobs.next().transpose()?;
        }
        Ok(None)
    }

    fn say(&mut self, loss: &Loss) -> anyhow::Result<()> {
        let reply = match self.check(loss) {
            Ok(Ok(())) => Reply { reason: None, broken: None },
            Ok(Err(reason)) => Reply { reason: Some(reason), broken: None },
            Err(e) => Reply { reason: None, broken: Some(format!("{e:#}")) },
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&reply)?)?;
        Ok(out.flush()?)
    }

    fn check(&mut self, loss: &Loss) -> Outcome {
        self.scene.go(loss.cut);
        let acks = self.acks_before + self.recording.acks_before(loss.cut);
        let told = |before: &Vec<Note>| [&before[..], &self.recording.told_before(loss.cut)].concat();
        let told = self.told_before.map_or(Vec::new(), told);
        self.stage.show(&self.scene.state(loss)).with_context(|| format!("presenting state {loss}"))?;
        let outcome = self.checker.check(&self.acks[..acks], &told, &loss.to_string());
        if let Some(places) = &mut self.places {
            places.renew(self.stage.root()).context("places for temporary files")?;
        }
        outcome
    }
}

/// Workers, and the jobs that they were given.
#[derive(Debug)]
pub struct Crew {
    jobs: Option<SyncSender<(u64, Job)>>,
    done: Receiver<(u64, Outcome)>,
    wards: Vec<Ward>,
    waiting: u64,
    next: u64,
    most: u64,
    dropped: Option<usize>,
}

impl Crew {
    /// Starts so many workers.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn start(options: &WorkerOptions, workers: usize) -> anyhow::Result<Self> {
        let (jobs, source) = sync_channel(workers * 2);
        let source = Arc::new(Mutex::new(source));
        let (tell, done) = channel();
        let mut wards = Vec::new();
        for worker in 0..workers {
            let given = Given { options: options.clone(), tells: worker == 0 };
            let arguments = vec![OsString::from(WORK), OsString::from(serde_json::to_string(&given)?)];
            let (source, tell) = (Arc::clone(&source), tell.clone());
            let ward = Ward::start(
                arguments,
                |command| {
                    command.stdin(Stdio::piped()).stdout(Stdio::piped());
                },
                move |child| {
                    if let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) {
                        attend(input, output, &source, &tell);
                    }
                },
            )?;
            wards.push(ward);
        }
        let most = workers as u64 * 4;
        Ok(Self { jobs: Some(jobs), done, wards, waiting: 0, next: 0, most, dropped: None })
    }

    /// Whether another job may be given before an answer is taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting < self.most
    }

    /// How many answers are to come.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// From now on a sync of the recording is taken to have covered nothing, or none is.
    pub fn drop_sync(&mut self, at: Option<usize>) {
        self.dropped = at;
    }

    /// Gives a job; its number.
    ///
    /// # Errors
    /// If every worker has ended: what the first of them said.
    pub fn give(&mut self, loss: &Loss) -> anyhow::Result<u64> {
        let number = self.next;
        let jobs = self.jobs.as_ref().context("the workers were sent home")?;
        let job = Job { loss: loss.clone(), dropped: self.dropped };
        if jobs.send((number, job)).is_err() {
            // They said why before they ended, and nobody has taken it yet.
            let why = self.done.try_iter().find_map(|(_, outcome)| outcome.err());
            return Err(why.unwrap_or_else(|| anyhow!("the workers have died")));
        }
        self.next += 1;
        self.waiting += 1;
        Ok(number)
    }

    /// Takes the next answer, if one is to come.
    ///
    /// # Errors
    /// If the harness is broken.
    pub fn take(&mut self) -> anyhow::Result<Option<(u64, Result<(), Reason>)>> {
        if self.waiting == 0 {
            return Ok(None);
        }
        let (number, outcome) = self.done.recv().context("the workers have died")?;
        self.waiting -= 1;
        Ok(Some((number, outcome?)))
    }

    /// Asks about one state, while no other is asked about.
    ///
    /// # Errors
    /// If the harness is broken.
    ///
    /// # Panics
    /// If other answers are to come.
    pub fn ask(&mut self, loss: &Loss) -> Outcome {
        assert_eq!(self.waiting, 0, "answers would be mixed up");
        self.give(loss)?;
        Ok(self.take()?.context("an answer is to come")?.1)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.jobs = None;
        self.wards.iter().for_each(Ward::kill);
    }
}

/// Passes jobs to one worker and its answers back.
fn attend(
    mut input: ChildStdin,
    output: ChildStdout,
    source: &Mutex<Receiver<(u64, Job)>>,
    tell: &Sender<(u64, Outcome)>,
) {
    let mut output = BufReader::new(output);
    loop {
        let job = source.lock().expect("no thread panics with it").recv();
        let Ok((number, job)) = job else { return };
        let outcome = converse(&mut input, &mut output, &job);
        let broken = outcome.is_err();
        if tell.send((number, outcome)).is_err() || broken {
            return;
        }
    }
}

fn converse(input: &mut ChildStdin, output: &mut BufReader<ChildStdout>, job: &Job) -> Outcome {
    let line = serde_json::to_string(job)? + "\n";
    input.write_all(line.as_bytes()).context("a worker has died")?;
    let mut answer = String::new();
    output.read_line(&mut answer).context("a worker's answer")?;
    let reply: Reply = serde_json::from_str(&answer).map_err(|_| anyhow!("a worker died over a state"))?;
    match reply.broken {
        Some(broken) => Err(anyhow!(broken)),
        None => Ok(reply.reason.map_or(Ok(()), Err)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers that have ended, and what they had said.
    fn ended(said: Vec<Outcome>) -> Crew {
        let (jobs, _) = sync_channel(1);
        let (tell, done) = channel();
        let waiting = said.len() as u64;
        (0..).zip(said).for_each(|said| tell.send(said).unwrap());
        Crew { jobs: Some(jobs), done, wards: Vec::new(), waiting, next: waiting, most: 4, dropped: None }
    }

    #[test]
    fn who_finds_no_worker_learns_why() {
        let loss = Loss::default();
        let mut crew = ended(vec![Ok(Ok(())), Err(anyhow!("an answer that nobody asked for"))]);
        assert_eq!(crew.give(&loss).unwrap_err().to_string(), "an answer that nobody asked for");
        let mut crew = ended(Vec::new());
        assert_eq!(crew.give(&loss).unwrap_err().to_string(), "the workers have died");
    }
}
