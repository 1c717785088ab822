//! A workload recorded on a real file system, and its crash states checked.
//!
//! I own the order of work: record (or read a log), a control run on the complete state, then the states in
//! the order of [`Timeline::passes`], each once by its bytes and its acknowledgements, on as many devices as
//! there are jobs. I do not know what a user typed nor how a result is printed.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::block::check::{Checker, Verdict};
use crate::block::disk::Disk;
use crate::block::fs::FileSystem;
use crate::block::guests::{End, Guests};
use crate::block::log::{self, ACK, END, Entry, FULL, LogWriter, START};
use crate::block::present::Presenter;
use crate::block::record::Recording;
use crate::block::room::{Room, within};
use crate::block::states::{Place, TearUnit, Timeline};
use crate::core::choices::{Bounds, Choice};

/// What to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file system.
    pub fs: FileSystem,
    /// Bytes of the device.
    pub size: u64,
    /// More arguments of mkfs.
    pub mkfs_args: Vec<String>,
    /// More options of mount.
    pub mount_options: String,
    /// The program and its arguments; `{}` in one is the mount point.
    pub workload: Vec<String>,
    /// Read this log instead of running a workload.
    pub load: Option<PathBuf>,
    /// Keep the log here.
    pub save: Option<PathBuf>,
    /// How long the workload may take.
    pub workload_limit: Duration,
    /// The most bytes of the log.
    pub max_log: u64,
    /// How states are judged.
    pub checker: Checker,
    /// Where writes are torn.
    pub tear: TearUnit,
    /// How far to go at each place.
    pub bounds: Bounds,
    /// The most states.
    pub states: Option<u64>,
    /// The most time for them.
    pub limit: Option<Duration>,
    /// Devices at once.
    pub jobs: usize,
}

impl Settings {
    /// What file systems are mounted with: of a log that was read nobody knows who made it.
    fn options(&self) -> String {
        match self.load {
            Some(_) => self.fs.wary_options(&self.mount_options),
            None => self.fs.options(&self.mount_options),
        }
    }
}

/// States that fail in the same way.
#[derive(Clone, Debug, Serialize)]
pub struct Class {
    /// Its name in the report.
    pub id: String,
    /// The reason.
    pub symptom: String,
    /// How many states.
    pub states: u64,
    /// The one of them that lost the least: for `--replay`.
    pub state: String,
    /// How many writes that one lost, of how many in doubt.
    pub lost: usize,
    /// How many were in doubt.
    pub in_doubt: usize,
    /// How many acknowledgements came before the crash.
    pub acks: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Entries of the log.
    pub entries: usize,
    /// Of those, writes while the workload ran.
    pub writes: usize,
    /// Flushes while it ran.
    pub flushes: usize,
    /// Acknowledgements.
    pub acks: usize,
    /// Choices made.
    pub generated: u64,
    /// States mounted and judged, each once.
    pub states: u64,
    /// How long that took.
    pub seconds: f64,
    /// The most writes in doubt at once.
    pub most_in_doubt: usize,
    /// Whether every state within the bounds was judged.
    pub complete: bool,
    /// Places with more writes in doubt than every subset of them is tried.
    pub wide_places: usize,
    /// What failed.
    pub classes: Vec<Class>,
    /// States that were not looked at whole.
    pub unfinished: u64,
    /// Why the first of them was not.
    pub reason: Option<String>,
}

/// How it ended without a summary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The workload failed, or the complete state did.
    #[error("HARNESS-BROKEN: {0}")]
    Broken(String),
    /// The log was full, or the complete state was not looked at whole.
    #[error("NOT-MEASURED: {0}")]
    NotMeasured(String),
}

/// A recorded run: where it began and what the device was told.
#[derive(Debug)]
pub struct Recorded {
    /// The device before.
    pub base: Disk,
    /// The log.
    pub entries: Vec<Entry>,
}

/// Records the workload, or reads the log.
///
/// # Errors
/// If that cannot be done here ([`Missing`](crate::block::room::Missing)), or [`Stopped`].
pub fn record(settings: &Settings) -> anyhow::Result<Recorded> {
    if let Some(path) = &settings.load {
        let mut input = BufReader::new(File::open(path).with_context(|| path.display().to_string())?);
        let entries = log::read(&mut input).with_context(|| path.display().to_string())?;
        return Ok(Recorded { base: Disk::zeros(settings.size), entries });
    }
    let recorded = within(|room| record_in(room, settings))?;
    if let Some(path) = &settings.save {
        save(path, &recorded).with_context(|| path.display().to_string())?;
    }
    if recorded.entries.iter().any(|entry| matches!(entry, Entry::Mark(text) if text == FULL)) {
        let words =
            format!("the log reached its limit of {} MiB; --max-log-mib raises it", settings.max_log >> 20);
        return Err(Stopped::NotMeasured(words).into());
    }
    Ok(recorded)
}

fn record_in(room: &Room, settings: &Settings) -> anyhow::Result<Recorded> {
    let base = settings.fs.make(room, settings.size, &settings.mkfs_args)?;
    let options = settings.options();
    let mut recording = Recording::start(room, &base, settings.fs, &options, settings.max_log)?;
    let mut guests = Guests::new(room)?;
    rustix::fs::syncfs(File::open(room.mount_point())?)?;
    recording.mark(START)?;
    let [stdout, stderr] = recording.outputs()?;
    let point = room.mount_point();
    let words: Vec<String> =
        settings.workload.iter().map(|word| word.replace("{}", &point.display().to_string())).collect();
    let (program, args) = words.split_first().context("a workload is needed")?;
    let mut command = Command::new(program);
    command.args(args).current_dir(&point).env("CRASHCHECK_DIR", &point);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let ended = guests.spawn(&mut command).and_then(|mut child| {
        // The command holds the outputs open: without it they end with the workload.
        drop(command);
        guests.wait(&mut child, settings.workload_limit, &mut || Ok(()))
    });
    recording.mark(END)?;
    drop(guests);
    let entries = recording.finish()?;
    match ended? {
        End::Exited(status) if status.success() => Ok(Recorded { base, entries }),
        End::Exited(status) => Err(Stopped::Broken(format!("the workload failed: {status}")).into()),
        End::TimedOut => {
            let limit = settings.workload_limit.as_secs();
            Err(Stopped::Broken(format!("the workload took longer than {limit} s")).into())
        }
    }
}

/// The log with the device before it as its first writes: whole on a device of zeros.
fn save(path: &std::path::Path, recorded: &Recorded) -> anyhow::Result<()> {
    let mut writer = LogWriter::new(BufWriter::new(File::create(path)?))?;
    for (offset, bytes) in recorded.base.blocks() {
        writer.write(offset, bytes)?;
    }
    writer.flush()?;
    recorded.entries.iter().try_for_each(|entry| writer.append(entry))?;
    writer.finish().map(|_| ()).map_err(Into::into)
}

/// A state on its way to a device.
struct State {
    id: String,
    disk: Disk,
    marks: usize,
    lost: usize,
    in_doubt: usize,
}

impl State {
    fn new(timeline: &Timeline, place: &Place, choice: &Choice) -> Option<Self> {
        let in_doubt = timeline.in_doubt(place);
        let lost = in_doubt - choice.kept.bits().count();
        let disk = timeline.disk(place, choice)?;
        Some(Self { id: format!("{}.{choice}", place.at), disk, marks: place.marks, lost, in_doubt })
    }
}

/// Checks the crash states of a recorded run.
///
/// # Errors
/// If they cannot be mounted here, or [`Stopped`].
pub fn explore(
    recorded: Recorded,
    settings: &Settings,
    progress: &(dyn Fn(&Summary) + Sync),
) -> anyhow::Result<Summary> {
    let mut summary = Summary { entries: recorded.entries.len(), ..Summary::default() };
    let timeline = Timeline::new(&recorded.base, recorded.entries, settings.tear);
    timeline.count(&mut summary, settings);
    let marks = timeline.marks.len();
    let whole = State { id: "control".to_owned(), disk: timeline.whole(), marks, lost: 0, in_doubt: 0 };
    let control = within(|room| Judge::new(room, settings, &whole.disk, &timeline)?.judge(&whole))?;
    let control_run = "the control run, after a clean unmount,";
    match control {
        Verdict::Holds => {}
        Verdict::Fails(reason) => {
            return Err(Stopped::Broken(format!("{control_run} failed: {reason}")).into());
        }
        Verdict::Unfinished(reason) => {
            return Err(Stopped::NotMeasured(format!("{control_run} ended early: {reason}")).into());
        }
    }
    let started = Instant::now();
    let deadline = settings.limit.map(|limit| started + limit);
    let shared = Mutex::new(summary);
    let (sender, receiver) = sync_channel::<State>(settings.jobs * 4);
    let receiver = Mutex::new(Some(receiver));
    let result = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..settings.jobs)
            .map(|_| scope.spawn(|| work(settings, &timeline, &whole.disk, &receiver, &shared, progress)))
            .collect();
        let (generated, complete) = generate(&timeline, settings, deadline, sender);
        let ends: anyhow::Result<Vec<()>> =
            workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect();
        ends.map(|_| (generated, complete))
    });
    let (generated, complete) = result?;
    let mut summary = shared.into_inner().expect("no panic while it is held");
    (summary.generated, summary.complete) = (generated, complete);
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(summary)
}

/// Sends each state once; how many choices that were, and whether all of them.
fn generate(
    timeline: &Timeline,
    settings: &Settings,
    deadline: Option<Instant>,
    sender: SyncSender<State>,
) -> (u64, bool) {
    let mut seen: HashSet<(u128, usize)> = HashSet::new();
    let mut generated = 0;
    let mut states = 0;
    for bounds in timeline.passes(&settings.bounds) {
        for place in &timeline.places {
            let done = timeline.each(place, &bounds, &mut |choice| {
                let full = settings.states.is_some_and(|most| states >= most);
                if full || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return ControlFlow::Break(());
                }
                generated += 1;
                let state = State::new(timeline, place, choice).expect("it was listed for this place");
                if seen.insert((state.disk.hash(), state.marks)) {
                    states += 1;
                    if sender.send(state).is_err() {
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            });
            if done.is_break() {
                return (generated, false);
            }
        }
    }
    (generated, true)
}

fn work(
    settings: &Settings,
    timeline: &Timeline,
    whole: &Disk,
    receiver: &Mutex<Option<Receiver<State>>>,
    shared: &Mutex<Summary>,
    progress: &(dyn Fn(&Summary) + Sync),
) -> anyhow::Result<()> {
    let next = || {
        let held = receiver.lock().expect("no panic while it is held");
        held.as_ref().and_then(|receiver| receiver.recv().ok())
    };
    let done = within(|room| {
        let mut judge = Judge::new(room, settings, whole, timeline)?;
        while let Some(state) = next() {
            let verdict = judge.judge(&state)?;
            let mut summary = shared.lock().expect("no panic while it is held");
            summary.states += 1;
            match verdict {
                Verdict::Holds => {}
                Verdict::Fails(reason) => summary.note(&state, reason),
                Verdict::Unfinished(reason) => {
                    summary.unfinished += 1;
                    summary.reason.get_or_insert(reason);
                }
            }
            progress(&summary);
        }
        Ok(())
    });
    if done.is_err() {
        // Nobody takes states any more: the one who lists them must not wait for it.
        receiver.lock().expect("no panic while it is held").take();
    }
    done
}

/// Asks a state on one device after another.
struct Judge<'a> {
    room: &'a Room,
    settings: &'a Settings,
    whole: &'a Disk,
    timeline: &'a Timeline,
    options: String,
    /// Dropped in this order: the guests use what is mounted.
    parts: Option<(Guests<'a>, Presenter<'a>)>,
}

impl<'a> Judge<'a> {
    fn new(
        room: &'a Room,
        settings: &'a Settings,
        whole: &'a Disk,
        timeline: &'a Timeline,
    ) -> anyhow::Result<Self> {
        let options = settings.options();
        Ok(Self { room, settings, whole, timeline, options, parts: None })
    }

    fn judge(&mut self, state: &State) -> anyhow::Result<Verdict> {
        let (mut guests, presenter) = match self.parts.take() {
            Some(parts) => parts,
            None => {
                let Settings { fs, checker, .. } = self.settings;
                let presenter = Presenter::new(self.room, *fs, &self.options, self.whole, checker.limit)?;
                (Guests::new(self.room)?, presenter)
            }
        };
        if let Err(refused) = presenter.mount(&state.disk)? {
            if presenter.was_late() {
                drop(guests);
                presenter.abandon()?;
            } else {
                self.parts = Some((guests, presenter));
            }
            return Ok(Verdict::Fails(format!("the file system is not mounted: {refused}")));
        }
        let marks = self.timeline.marks[..state.marks].iter();
        let acks: Vec<&str> = marks.filter_map(|mark| mark.strip_prefix(ACK)).collect();
        let verdict = self.settings.checker.judge(self.room, &mut guests, &presenter, &acks)?;
        let alive = guests.is_alive() && !presenter.was_late();
        // A daemon that a checker left behind would keep the state mounted.
        if alive && presenter.unmount_now()? {
            self.parts = Some((guests, presenter));
        } else {
            drop(guests);
            presenter.unmount()?;
        }
        Ok(verdict)
    }
}

impl Summary {
    fn note(&mut self, state: &State, reason: String) {
        let known = self.classes.iter().position(|class| class.symptom == reason);
        let at = known.unwrap_or_else(|| {
            let id = format!("C{}", self.classes.len() + 1);
            let empty = Class {
                id,
                symptom: reason,
                states: 0,
                state: String::new(),
                lost: usize::MAX,
                in_doubt: 0,
                acks: 0,
            };
            self.classes.push(empty);
            self.classes.len() - 1
        });
        let class = &mut self.classes[at];
        class.states += 1;
        if state.lost < class.lost {
            class.state.clone_from(&state.id);
            (class.lost, class.in_doubt, class.acks) = (state.lost, state.in_doubt, state.marks);
        }
    }
}

impl Timeline {
    fn count(&self, summary: &mut Summary, settings: &Settings) {
        let between =
            |wanted: fn(&Entry) -> bool| self.entries_between().filter(|entry| wanted(entry)).count();
        summary.writes = between(|entry| matches!(entry, Entry::Write { .. } | Entry::Discard { .. }));
        summary.flushes = between(|entry| matches!(entry, Entry::Flush));
        summary.acks = self.marks.iter().filter(|mark| mark.starts_with(ACK)).count();
        let doubts: BTreeMap<usize, usize> = self.places.iter().map(|p| (p.at, self.in_doubt(p))).collect();
        summary.most_in_doubt = doubts.values().copied().max().unwrap_or(0);
        summary.wide_places = doubts.values().filter(|n| **n > settings.bounds.max_subset_units).count();
    }
}

/// One state of a recorded run, judged again by its name.
///
/// # Errors
/// If there is no such state, or it cannot be mounted here.
pub fn replay(recorded: Recorded, settings: &Settings, id: &str) -> anyhow::Result<Verdict> {
    let timeline = Timeline::new(&recorded.base, recorded.entries, settings.tear);
    let parsed = id.split_once('.').and_then(|(at, choice)| Some((at.parse().ok()?, Choice::parse(choice)?)));
    let (at, choice): (usize, Choice) =
        parsed.context("a state's name is PLACE.CHOICE, as a finding prints it")?;
    let place = timeline.places.iter().find(|place| place.at == at).context("the log has no such place")?;
    let state = State::new(&timeline, place, &choice).context("no crash leaves that state there")?;
    within(|room| Judge::new(room, settings, &timeline.whole(), &timeline)?.judge(&state))
}
