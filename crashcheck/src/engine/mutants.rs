//! Shows that the checker finds bugs: each planted one, in a sequence of at most ten operations.
//!
//! I own the search. For each bug, in this order until it is found: short enumerated sequences; the hints;
//! damaged media; sampled sequences, those that inject errors among them, with nested crashes now and
//! then. (K1) A kill counts only if the unmodified engine passes exactly what killed the bug. (K2) The
//! hints say where to look first, never what to find. I do not judge (see judge and media).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use seawall::planted::Bug;
use seawall::vfs::mem::{Image, MemVfs};
use serde::Serialize;

use super::campaign::{crash_failure, minimise};
use super::certificate::sequence_text;
use super::execute::execute;
use super::generate::{Plan, Sequence};
use super::media::{Coarse, Known, Outcome, coarse, flip};
use super::planted::{PlantedVfs, with};
use super::{replicas, step};
use crate::core::choices::{Bounds, Tears};
use crate::core::method::{Method, WEAKER};
use crate::core::pool::pool;

/// Sequences that reach corners which short ones do not: rotation, recycling, errors of a certain sync.
pub const HINTS: &[&str] = &[
    "rotate.0",
    "overlap.0,overlap.2",
    "overlap.4",
    "overlap.32",
    "overlap.36",
    "overlap.12",
    "overlap.34",
    "overlap.140",
    "no-space.4",
    "no-space.20",
    "no-space.60",
    "no-space.200",
    "publish.7,commit.2,maintain.17",
    "publish.2,commit.2,maintain.17",
    "publish.4,commit.3,maintain.17",
    "rotate.0,overlap.4",
    "rotate.0,overlap.20",
    "rotate.0,fail-sync.0",
    "rotate.0,fail-sync.4",
    "append.4,group.1,group.2,append.0",
    "reopen.2,publish.7",
    "restarts.0",
    "no-space.132",
    "no-space.148",
    "errno.5,fail.2",
    "errno.5,fail.10",
    "errno.5,fail.18",
    "errno.5,fail.26",
    "errno.5,fail.34",
    "storm.0",
    "storm.6",
    "refused.22",
    "compact.0,refused.14",
    "append.0,read-error.1",
    "append.0,read-error.2",
    "append.0,read-error.3",
    "append.0,read-error.4",
    "append.0,read-error.5",
    "append.0,read-error.6",
    "append.0,read-error.7",
    "append.0,read-error.8",
    "append.0,read-error.9",
    "append.0,read-error.10",
    "append.0,read-error.11",
    "append.0,read-error.12",
    "append.0,read-error.13",
    "append.0,read-error.14",
    "append.0,read-error.15",
    "append.0,read-error.16",
    "append.0,read-error.17",
    "append.0,read-error.18",
    "append.0,read-error.19",
    "append.0,read-error.20",
    "append.0,read-error.21",
    "append.0,read-error.22",
    "append.0,read-error.23",
    "append.0,read-error.24",
    "append.0,read-error.25",
    "append.0,read-error.26",
    "append.0,read-error.27",
    "append.0,read-error.28",
    "append.0,read-error.29",
    "append.0,read-error.30",
    "append.0,read-error.31",
    "append.0,read-error.32",
    "append.0,read-error.33",
    "append.0,read-error.34",
    "append.0,read-error.35",
    "append.0,read-error.36",
    "append.0,read-error.37",
    "append.0,read-error.38",
    "append.0,read-error.39",
    "group.1,group.2,group.1",
    "append.4,overwrite.0,install.4",
    "append.4,install.4",
    "append.4,batch.0,install.4",
    "publish.2,reopen.0",
    "publish.4,install.4",
    "compact-owned.2",
    "rotate.0,compact.0,maintain.0",
    "rotate.0,rotate.1,commit.3,maintain.1,rotate.0",
    "rotate.0,commit.2,compact.3,maintain.1,rotate.1",
    "rotate.0,compact.6,maintain.0,rotate.1",
    "rotate.0,commit.2,compact.0,maintain.0,rotate.0",
    "rotate.0,commit.2,compact.2,compact.7,maintain.0,rotate.0,append.0",
    "rotate.0,rotate.1,commit.2,commit.3,compact.0,compact.1,maintain.0,rotate.0",
    "rotate.0,rotate.0,commit.2,compact.2,maintain.0,rotate.0,rotate.0,append.0",
    "close.0,append.0",
    "close.1,vote.0",
    "reopen.0,reopen.0,append.0",
    "rotate.0,reopen.0,append.0",
];

/// Sequences whose writes are torn.
const TORN: &[&str] = &["reopen.0", "rotate.0"];

/// The hints, and every failing sync, read and write of the first few.
fn hints() -> impl Iterator<Item = Sequence> {
    let fails =
        (0..8).flat_map(|inner| (0..6).map(move |nth| format!("fail-sync.{}", inner << 5 | nth << 2)));
    let reads = (0..40).map(|nth| format!("large.0,read-error.{nth}"));
    let writes = (0..24).flat_map(|salt| ["interrupt", "short-write"].map(|kind| format!("{kind}.{salt}")));
    // What is half made when everything fails is used by the open after it.
    let sticky = ["rotate.0", "rotate.0,rotate.1"].into_iter().flat_map(|before| {
        (0..64).map(move |nth| format!("{before},errno.{},fail.{}", 16 * (nth / 32) + 8, 8 * (nth % 32) + 2))
    });
    let all =
        HINTS.iter().map(|hint| (*hint).to_owned()).chain(sticky).chain(fails).chain(reads).chain(writes);
    all.map(|text| Sequence::of(step::parse(&text).expect("hints are well-formed")))
}

/// Bugs of what is read, found by damaged media sooner than by crashes.
const OF_MEDIA: &[&str] = &[
    "Unchecked",
    "Padding",
    "Foreign",
    "OneVoteCopy",
    "OneCarriedCopy",
    "Unseen",
    "RotTakenForTorn",
    "RotForgotten",
    "ShortChunk",
    "ZerosEndLog",
    "Forgiven",
    "DamageEndsRead",
    "HighWaterNotRaised",
    "TwinIgnored",
];

/// Bugs of repair, found by replicas that heal each other.
const OF_REPLICAS: &[Bug] = &[Bug::RepairUnchecked, Bug::BlockedVotes, Bug::StaleDescription];

/// How a bug was found.
#[derive(Clone, Debug, Serialize)]
pub struct Kill {
    /// The property that it violated.
    pub property: &'static str,
    /// The sequence, or the damage.
    pub by: String,
    /// How many operations the sequence has.
    pub operations: usize,
    /// States, or damaged stores, tried until then.
    pub states: u64,
    /// Which weaker methods would have found it with the same sequence.
    pub weaker: Vec<Method>,
}

/// What became of a bug.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub bug: &'static str,
    /// What it does.
    pub text: &'static str,
    /// How it was found; `None` if it survived.
    pub killed: Option<Kill>,
    /// Seconds taken.
    pub seconds: f64,
}

/// Bugs that no store shows, because another layer comes first; the module that holds the switch has
/// a test of its own for each.
pub const COVERED: &[(Bug, &str)] =
    &[(Bug::StaleChunkReused, "open removes left-over chunks before anybody could reuse one")];

/// The bugs that must be found.
pub fn hunted() -> impl Iterator<Item = &'static Bug> {
    Bug::ALL.iter().filter(|bug| COVERED.iter().all(|(covered, _)| covered != *bug))
}

/// Hunts each bug; `progress` hears of each.
pub fn run(
    bugs: &[&Bug],
    jobs: usize,
    seed: u64,
    patience: Duration,
    mut progress: impl FnMut(&Row) + Send,
) -> Vec<Row> {
    let mut rows = Vec::new();
    let each = |_, bug: &&Bug, _: &_| Some(hunt(**bug, seed, patience));
    pool(jobs, 0, bugs.iter(), None, each, |_, row| {
        progress(&row);
        rows.push(row);
        ControlFlow::Continue(())
    });
    rows
}

/// Hunts one bug.
#[must_use]
pub fn hunt(bug: Bug, seed: u64, patience: Duration) -> Row {
    let begun = Instant::now();
    let mut hunter = Hunter { bug, states: 0, end: begun + patience };
    let killed = hunter.search(seed);
    let seconds = (begun.elapsed().as_secs_f64() * 100.0).round() / 100.0;
    Row { bug: bug.name(), text: bug.text(), killed, seconds }
}

struct Hunter {
    bug: Bug,
    states: u64,
    end: Instant,
}

/// A run takes milliseconds; one that takes longer than this has stopped for good.
const HANG: Duration = Duration::from_secs(5);
/// How long a killing sequence may be made smaller.
const PATIENCE: Duration = Duration::from_secs(20);

/// The result of `f`, or `None` if it panics or takes longer than `limit`. Its thread is then left to
/// itself: it waits for something that will not come.
fn bounded<T: Send + 'static>(limit: Duration, f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let result = super::quiet_result(f);
        // Nobody listens any more if it took too long.
        let _ = sender.send(result);
    });
    receiver.recv_timeout(limit).ok().flatten()
}

/// How a sequence is explored while hunting.
fn bounds(nested: u8, tears: Tears) -> Bounds {
    Bounds { max_subset_units: 7, omissions: 1, nested_depth: nested, tears, ..Bounds::default() }
}

impl Hunter {
    fn late(&self) -> bool {
        Instant::now() > self.end
    }

    fn search(&mut self, seed: u64) -> Option<Kill> {
        if OF_REPLICAS.contains(&self.bug) {
            return self.replicas();
        }
        let of_media = OF_MEDIA.iter().any(|part| self.bug.name().contains(part));
        if of_media && let Some(kill) = self.media() {
            return Some(kill);
        }
        let plan = Plan::new(seed, 2, 2);
        let hinted = hints().find_map(|s| self.sequence(&s, &bounds(0, Tears::None)));
        let short = hinted
            .or_else(|| (0..60).find_map(|n| self.sequence(&plan.sequence(n), &bounds(0, Tears::None))));
        let torn = short.or_else(|| TORN.iter().find_map(|text| self.torn(text)));
        let nested = torn.or_else(|| hints().find_map(|s| self.sequence(&s, &bounds(1, Tears::None))));
        let found = nested.or_else(|| if of_media { None } else { self.media() });
        found.or_else(|| self.sampled(&plan))
    }

    /// Lets two damaged replicas of the engine with the bug heal each other.
    fn replicas(&mut self) -> Option<Kill> {
        let bug = self.bug;
        let finding = bounded(HANG, move || with(Some(bug), || replicas::first_finding::<PlantedVfs>(2)))??;
        replicas::first_finding::<MemVfs>(2).is_none().then(|| self.kill("P13", finding))
    }

    fn sampled(&mut self, plan: &Plan) -> Option<Kill> {
        let mut number = plan.enumerated();
        while !self.late() {
            let bounds = bounds(u8::from(number.is_multiple_of(8)), Tears::None);
            if let Some(kill) = self.sequence(&plan.sequence(number), &bounds) {
                return Some(kill);
            }
            number += 1;
        }
        None
    }

    /// Tears every unit at every byte, also of what a recovery writes.
    fn torn(&mut self, text: &str) -> Option<Kill> {
        let sequence = Sequence::of(step::parse(text).expect("it is well-formed"));
        self.sequence(&sequence, &bounds(0, Tears::One))
    }

    /// Runs a sequence with the bug; if that is noticed, makes it small and runs it without.
    fn sequence(&mut self, sequence: &Sequence, bounds: &Bounds) -> Option<Kill> {
        if self.late() {
            return None;
        }
        let whole = Sequence { prefix_known: false, ..sequence.clone() };
        let bounds = *bounds;
        let (bug, steps) = (self.bug, whole.clone());
        let Some(run) = bounded(HANG, move || with(Some(bug), || execute::<PlantedVfs>(&steps))) else {
            let text = format!("{}, which never ends", sequence_text(&whole));
            return passes(&whole, &bounds)
                .then(|| Kill { operations: whole.steps.len(), ..self.kill("P22", text) });
        };
        let failure = with(Some(bug), || match run.wrong.first() {
            Some(violation) => Some((None, violation.clone(), 0)),
            None => crash_failure::<PlantedVfs>(&run, &bounds, None),
        });
        let (id, violation, states) = failure?;
        self.states += states;
        let (property, steps) = (violation.property, whole.clone());
        let small = bounded(PATIENCE, move || {
            with(Some(bug), || minimise::<PlantedVfs>(&steps, id, violation, &bounds)).sequence
        });
        let small = small.unwrap_or(whole);
        let operations = small.steps.len();
        passes(&small, &bounds).then(|| {
            let weaker = self.weaker(&small, &bounds);
            Kill { operations, weaker, ..self.kill(property, sequence_text(&small)) }
        })
    }

    /// The weaker methods that find the bug too, with this sequence.
    fn weaker(&self, sequence: &Sequence, bounds: &Bounds) -> Vec<Method> {
        let (bug, bounds, sequence) = (self.bug, *bounds, sequence.clone());
        let finds = move || {
            with(Some(bug), || {
                let run = execute::<PlantedVfs>(&sequence);
                let found = |method| {
                    let bounds = Bounds { method, ..bounds };
                    !run.wrong.is_empty() || crash_failure::<PlantedVfs>(&run, &bounds, None).is_some()
                };
                WEAKER.into_iter().filter(|method| found(*method)).collect()
            })
        };
        bounded(PATIENCE, finds).unwrap_or_default()
    }

    /// Damages the store that the engine with the bug makes, and lets that engine open it.
    fn media(&mut self) -> Option<Kill> {
        let stores = with(Some(self.bug), || {
            super::quiet_result(|| [Known::unclean::<PlantedVfs>(), Known::clean::<PlantedVfs>()])
        })?;
        let sound = [Known::unclean::<MemVfs>(), Known::clean::<MemVfs>()];
        let pairs = |search: &mut dyn FnMut(&Known, &Known) -> Option<Kill>| {
            stores.iter().zip(&sound).find_map(|(known, sound)| search(known, sound))
        };
        // Whole files are few. Every 67th bit reaches every part of a frame soon.
        pairs(&mut |known, sound| self.coarse(known, sound, Coarse::File))
            .or_else(|| pairs(&mut |known, sound| self.flips(known, sound, 67)))
            .or_else(|| pairs(&mut |known, sound| self.coarse(known, sound, Coarse::Sectors)))
            .or_else(|| pairs(&mut |known, sound| self.flips(known, sound, 1)))
    }

    fn coarse(&mut self, known: &Known, sound: &Known, kind: Coarse) -> Option<Kill> {
        let damages = with(Some(self.bug), || coarse::<PlantedVfs>(known, kind));
        // The same damage to the sound store.
        let mut sound_damages: Option<BTreeMap<String, Image>> = None;
        for (what, image) in damages {
            if self.late() {
                return None;
            }
            let all =
                sound_damages.get_or_insert_with(|| coarse::<MemVfs>(sound, kind).into_iter().collect());
            let same = all.get(&what);
            if self.shows(known, &image, sound, same) {
                return Some(self.kill("P13", format!("{what}, in the store {}", known.name)));
            }
        }
        None
    }

    fn flips(&mut self, known: &Known, sound: &Known, stride: usize) -> Option<Kill> {
        for (file, content) in &known.image.files {
            for (page, _) in content.pages.iter().enumerate().filter(|(_, p)| p.is_some()) {
                let first = page as u64 * 4096;
                let bits = (first..first + 4096).filter(|bit| bit / 8 < content.len);
                for bit in bits.skip(page % stride).step_by(stride) {
                    if self.late() {
                        return None;
                    }
                    let there = sound.image.files.get(file).is_some_and(|c| c.len > bit / 8);
                    let same = there.then(|| flip(&sound.image, file, bit));
                    if self.shows(known, &flip(&known.image, file, bit), sound, same.as_ref()) {
                        let by = format!("bit {bit} of {file} flipped, in the store {}", known.name);
                        return Some(self.kill("P13", by));
                    }
                }
            }
        }
        None
    }

    /// Whether damage shows the bug: it is wrong now and not so in the sound engine, or goes unnoticed, by
    /// the open and by a verification, and is noticed by the sound one. `sound` is the sound store with the
    /// same damage, if there is such a place in it.
    fn shows(&mut self, known: &Known, image: &Image, sound: &Known, same: Option<&Image>) -> bool {
        self.states += 1;
        let found = with(Some(self.bug), || known.probe::<PlantedVfs>(image.clone()));
        if found.is_wrong() {
            return same.is_none_or(|image| !sound.probe::<MemVfs>(image.clone()).is_wrong());
        }
        found == Outcome::Exact
            && with(Some(self.bug), || !known.is_noticed::<PlantedVfs>(image))
            && same.is_none_or(|image| sound.is_noticed::<MemVfs>(image))
    }

    fn kill(&self, property: &'static str, by: String) -> Kill {
        Kill { property, by, operations: 1, states: self.states, weaker: Vec::new() }
    }
}

/// Whether the unmodified engine passes a sequence.
fn passes(sequence: &Sequence, bounds: &Bounds) -> bool {
    let run = execute::<MemVfs>(sequence);
    run.wrong.is_empty() && crash_failure::<MemVfs>(&run, bounds, None).is_none()
}
