//! Litmus programs recorded on a real file system, their crash states mounted, the outcomes compared.
//!
//! I own the comparison: (C1) each outcome seen is asked of what the profile allows when just as many
//! operations had returned, not of all that it ever allows; so a profile that promises too early is caught
//! as well as one that promises too much. (C2) A state that does not mount is outside every profile. (C3)
//! What is predicted and was never seen is counted, not judged. I do not know what a profile is.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context;
use rustix::fs::syncfs;
use serde::Serialize;

use crate::block::disk::Disk;
use crate::block::fs::FileSystem;
use crate::block::log::{END, START};
use crate::block::present::Presenter;
use crate::block::record::Recording;
use crate::block::room::{Room, within};
use crate::block::states::Timeline;
use crate::block::tools::AMPLE;
use crate::calibrate::interpret::{Interpreter, Push};
use crate::calibrate::litmus::Litmus;
use crate::calibrate::model::{Predicted, predict};
use crate::calibrate::outcome::{read, words};
use crate::core::choices::{Bounds, Choice};
use crate::core::profile::Profile;

/// What to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file system.
    pub fs: FileSystem,
    /// More options of mount.
    pub mount_options: String,
    /// What it is held against.
    pub profile: Profile,
    /// The programs.
    pub litmus: Vec<&'static Litmus>,
    /// The most states of one recorded run.
    pub states: usize,
    /// Record every so manieth of the runs only.
    pub every: usize,
    /// Names the choice of states.
    pub seed: u64,
    /// Devices at once.
    pub jobs: usize,
}

/// An outcome that the profile forbids.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// The litmus.
    pub litmus: &'static str,
    /// What was pushed, and after how many operations.
    pub pushed: String,
    /// How many operations had returned.
    pub returned: usize,
    /// What was seen, or why nothing was.
    pub outcome: String,
}

/// What came of one litmus.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The litmus.
    pub litmus: &'static str,
    /// Whether every outcome seen is predicted.
    pub contained: bool,
    /// Different outcomes seen.
    pub outcomes_seen: usize,
    /// Different outcomes predicted.
    pub outcomes_predicted: usize,
    /// Of those, the ones never seen.
    pub excess: usize,
    /// Recorded runs.
    pub runs: usize,
    /// States mounted.
    pub states: usize,
    /// The first few that are not predicted.
    pub violations: Vec<Violation>,
}

/// How many violations of a litmus are told.
const TOLD: usize = 5;

/// The most bytes of the log of one run.
const MAX_LOG: u64 = 256 << 20;

/// Runs every litmus.
///
/// # Errors
/// If that cannot be done here.
pub fn run(settings: &Settings, progress: &(dyn Fn(&Row) + Sync)) -> anyhow::Result<Vec<Row>> {
    let next = AtomicUsize::new(0);
    let rows: Mutex<Vec<(usize, Row)>> = Mutex::default();
    let work = || {
        within(|room| {
            let base = settings.fs.make(room, settings.fs.default_size(), &[])?;
            let mut bench = None;
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(litmus) = settings.litmus.get(at) else { return Ok(()) };
                let bench = match &mut bench {
                    Some(bench) => bench,
                    none => none.insert(Bench::new(room, settings, &base)?),
                };
                let row = bench.litmus(litmus).with_context(|| format!("the litmus \"{}\"", litmus.name));
                let row = row.inspect_err(|_| next.store(settings.litmus.len(), Ordering::Relaxed))?;
                progress(&row);
                rows.lock().expect("no panic while it is held").push((at, row));
            }
        })
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..settings.jobs).map(|_| scope.spawn(work)).collect();
        let ends = workers.into_iter().map(|worker| worker.join().expect("a worker does not panic"));
        ends.collect::<Vec<anyhow::Result<()>>>().into_iter().collect::<anyhow::Result<Vec<()>>>()
    })?;
    let mut rows = rows.into_inner().expect("no panic while it is held");
    rows.sort_by_key(|(at, _)| *at);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// What is pushed, after how many operations.
type Plan = Vec<(usize, Push)>;

/// Every run of a litmus: nothing pushed; each push after each operation; and the pairs in which data and
/// journal overtake each other.
fn plans(litmus: &Litmus) -> Vec<Plan> {
    let n = litmus.acts.len();
    let mut plans: Vec<Plan> = vec![Vec::new()];
    for at in 1..=n {
        plans.push(vec![(at, Push::All)]);
        plans.push(vec![(at, Push::Journal)]);
        let so_far = Litmus { acts: &litmus.acts[..at], ..*litmus };
        for (path, offset, len) in so_far.written() {
            let (waited, begun) = (Push::Data(path, offset, len), Push::DataBegun(path, offset, len));
            plans.push(vec![(at, begun), (at, Push::Journal)]);
            plans.push(vec![(at, waited), (n, Push::Journal)]);
        }
    }
    plans
}

/// A room with a device for states.
struct Bench<'a> {
    room: &'a Room,
    settings: &'a Settings,
    options: String,
    base: &'a Disk,
    presenter: Presenter<'a>,
}

/// What a litmus has shown so far.
#[derive(Default)]
struct Seen {
    outcomes: BTreeSet<String>,
    known: HashSet<(u128, usize)>,
    states: usize,
    contained: bool,
    violations: Vec<Violation>,
}

impl<'a> Bench<'a> {
    fn new(room: &'a Room, settings: &'a Settings, base: &'a Disk) -> anyhow::Result<Self> {
        let options = settings.fs.options(&settings.mount_options);
        let presenter = Presenter::new(room, settings.fs, &options, base, AMPLE)?;
        Ok(Self { room, settings, options, base, presenter })
    }

    fn litmus(&mut self, litmus: &'static Litmus) -> anyhow::Result<Row> {
        let predicted = predict(litmus, self.settings.profile);
        let before = self.set_up(litmus)?;
        let mut seen = Seen { contained: true, ..Seen::default() };
        let mut runs = 0;
        for plan in plans(litmus).iter().step_by(self.settings.every) {
            let timeline = self.record(litmus, plan, &before)?;
            self.compare(litmus, plan, &timeline, &predicted, &mut seen)?;
            runs += 1;
        }
        let all = predicted.all();
        Ok(Row {
            litmus: litmus.name,
            contained: seen.contained,
            outcomes_seen: seen.outcomes.len(),
            outcomes_predicted: all.len(),
            excess: all.iter().filter(|outcome| !seen.outcomes.contains(**outcome)).count(),
            runs,
            states: seen.states,
            violations: seen.violations,
        })
    }

    /// The device with the litmus's setup on it, cleanly unmounted.
    fn set_up(&self, litmus: &Litmus) -> anyhow::Result<Disk> {
        let mounted = self.presenter.mount(self.base)?;
        mounted.map_err(|e| anyhow::anyhow!("the empty file system does not mount: {e}"))?;
        let interpreter = Interpreter::new(&self.room.mount_point())?;
        let done = interpreter
            .make_bystander()
            .and_then(|()| litmus.setup.iter().try_for_each(|act| interpreter.act(act)));
        self.presenter.unmount()?;
        done?;
        self.presenter.disk()
    }

    fn record(&self, litmus: &Litmus, plan: &Plan, before: &Disk) -> anyhow::Result<Timeline> {
        self.presenter.forget()?;
        let mut recording = Recording::start(self.room, before, self.settings.fs, &self.options, MAX_LOG)?;
        let done = self.perform(litmus, plan, &mut recording);
        let entries = recording.finish()?;
        done?;
        Ok(Timeline::new(before, entries, None))
    }

    fn perform(&self, litmus: &Litmus, plan: &Plan, recording: &mut Recording<'_>) -> anyhow::Result<()> {
        let interpreter = Interpreter::new(&self.room.mount_point())?;
        syncfs(File::open(self.room.mount_point())?)?;
        // Ends with a flush, so that nothing of before is in doubt.
        interpreter.push(Push::Journal)?;
        recording.mark(START)?;
        for (at, act) in litmus.acts.iter().enumerate() {
            interpreter.act(act)?;
            recording.mark(&format!("returned {}", at + 1))?;
            let pushes = plan.iter().filter(|(after, _)| *after == at + 1);
            pushes.into_iter().try_for_each(|(_, push)| interpreter.push(*push))?;
        }
        recording.mark(END)
    }

    fn compare(
        &self,
        litmus: &'static Litmus,
        plan: &Plan,
        timeline: &Timeline,
        predicted: &Predicted,
        seen: &mut Seen,
    ) -> anyhow::Result<()> {
        for (place, choice) in self.chosen(timeline) {
            let place = &timeline.places[place];
            let disk = timeline.disk(place, &choice).context("it was listed for this place")?;
            if !seen.known.insert((disk.hash(), place.marks)) {
                continue;
            }
            seen.states += 1;
            let outcome = self.outcome(&disk)?;
            let fits = outcome.as_ref().is_ok_and(|words| predicted.allowed[place.marks].contains(words));
            if !fits {
                seen.contained = false;
                if seen.violations.len() < TOLD {
                    let pushed = format!("{plan:?}");
                    let outcome = outcome.clone().unwrap_or_else(|refused| refused);
                    seen.violations.push(Violation {
                        litmus: litmus.name,
                        pushed,
                        returned: place.marks,
                        outcome,
                    });
                }
            }
            seen.outcomes.extend(outcome);
        }
        Ok(())
    }

    /// The words of a state, or why it has none.
    fn outcome(&self, disk: &Disk) -> anyhow::Result<Result<String, String>> {
        if let Err(refused) = self.presenter.mount_to_read(disk)? {
            return Ok(Err(format!("the file system is not mounted: {refused}")));
        }
        let image = read(&self.room.mount_point());
        self.presenter.unmount()?;
        Ok(image.map(|image| words(&image)).map_err(|e| format!("{e:#}")))
    }

    /// The states of a run that are tried: for each number of operations that had returned about as many,
    /// first those with nothing lost but the newest, then others in an order that the seed names.
    fn chosen(&self, timeline: &Timeline) -> Vec<(usize, Choice)> {
        let mut listed = listed(timeline, &Bounds { max_subset_units: 0, omissions: 0, ..Bounds::default() });
        let mut rest =
            self::listed(timeline, &Bounds { max_subset_units: 6, omissions: 1, ..Bounds::default() });
        let seed = self.settings.seed;
        let key = |(place, choice): &(usize, Choice)| {
            *blake3::hash(format!("{seed} {place} {choice}").as_bytes()).as_bytes()
        };
        listed.sort_by_cached_key(key);
        rest.sort_by_cached_key(key);
        listed.extend(rest);
        let mut known = HashSet::new();
        let mut by_marks: BTreeMap<usize, VecDeque<(usize, Choice)>> = BTreeMap::new();
        for (number, choice) in listed {
            let place = &timeline.places[number];
            let disk = timeline.disk(place, &choice).expect("it was listed for this place");
            if known.insert((disk.hash(), place.marks)) {
                by_marks.entry(place.marks).or_default().push_back((number, choice));
            }
        }
        let mut chosen = Vec::new();
        while chosen.len() < self.settings.states && by_marks.values().any(|rest| !rest.is_empty()) {
            chosen.extend(by_marks.values_mut().filter_map(VecDeque::pop_front));
        }
        chosen.truncate(self.settings.states);
        chosen
    }
}

fn listed(timeline: &Timeline, bounds: &Bounds) -> Vec<(usize, Choice)> {
    let mut found = Vec::new();
    for (number, place) in timeline.places.iter().enumerate() {
        let _ = timeline.each(place, bounds, &mut |choice| {
            found.push((number, *choice));
            ControlFlow::Continue(())
        });
    }
    found
}

/// All rows of a file system together.
#[derive(Clone, Debug, Serialize)]
pub struct Total {
    /// The file system.
    pub fs: FileSystem,
    /// The profile it was held against.
    pub profile: &'static str,
    /// Litmus programs.
    pub litmus: usize,
    /// Those of which every outcome seen is predicted.
    pub contained: usize,
    /// Outcomes predicted and never seen.
    pub excess: usize,
    /// Different outcomes seen, summed over the programs.
    pub outcomes_seen: usize,
    /// Different outcomes predicted, summed over the programs.
    pub outcomes_predicted: usize,
    /// Recorded runs.
    pub runs: usize,
    /// States mounted.
    pub states: usize,
    /// How long it took.
    pub seconds: f64,
    /// The programs.
    pub rows: Vec<Row>,
}

impl Total {
    /// Adds up.
    #[must_use]
    pub fn new(settings: &Settings, rows: Vec<Row>, started: Instant) -> Self {
        let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum();
        Self {
            fs: settings.fs,
            profile: settings.profile.name(),
            litmus: rows.len(),
            contained: sum(|row| usize::from(row.contained)),
            excess: sum(|row| row.excess),
            outcomes_seen: sum(|row| row.outcomes_seen),
            outcomes_predicted: sum(|row| row.outcomes_predicted),
            runs: sum(|row| row.runs),
            states: sum(|row| row.states),
            seconds: started.elapsed().as_secs_f64(),
            rows,
        }
    }

    /// Whether the profile is true as far as was seen.
    #[must_use]
    pub fn is_contained(&self) -> bool {
        self.contained == self.litmus && self.litmus > 0
    }
}
