//! Two readers of the format, written apart, asked about the same bytes.
//!
//! I own the comparison: the engine's own readers here, and the one in `engine/spec/reader`, which was written
//! in another language from FORMAT.md, answer each case with a line of text, and the lines must be equal. (R1)
//! A disagreement is a bug in one of the readers or in the document; none is excused. (R2) A case is known by
//! the seed and its number, so that it can be shown again. (R3) Bugs planted in the engine's readers must show
//! as disagreements, or nothing is concluded. I do not judge what an answer means.

mod answer;
mod bases;
mod cases;
mod control;
mod damage;
mod mend;
mod pipe;

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use seawall::vfs::mem::MemVfs;
use serde::Serialize;

use bases::Bases;
use cases::{Ask, Case};
use pipe::Reader;

use super::planted::Disk;

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many cases.
    pub cases: u64,
    /// The first one's number.
    pub first: u64,
    /// Names the cases.
    pub seed: u64,
    /// Threads, each with a process of the second reader.
    pub jobs: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Cases asked.
    pub cases: u64,
    /// Both gave the same answer.
    pub agreed: u64,
    /// They did not.
    pub disagreed: u64,
    /// The second reader lacks zstd, which the bytes ask for.
    pub undecided: u64,
    /// The engine panicked.
    pub panics: u64,
    /// Cases of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// What the answers about whole directories amount to.
    pub answers: BTreeMap<String, u64>,
    /// The planted bugs of the engine's readers that these cases tell apart, each by the first case that does.
    pub controls: BTreeMap<&'static str, u64>,
    /// Names the cases.
    pub seed: u64,
    /// Seconds.
    pub seconds: f64,
    /// The first few disagreements.
    pub findings: Vec<String>,
}

/// How many disagreements are told.
const TOLD: usize = 10;
/// Cases that are sent at once.
const BATCH: u64 = 256;

impl Counts {
    /// Whether they agreed on all.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.disagreed + self.panics == 0
    }

    fn merge(&mut self, other: Self) {
        self.cases += other.cases;
        self.agreed += other.agreed;
        self.disagreed += other.disagreed;
        self.undecided += other.undecided;
        self.panics += other.panics;
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        for (answer, count) in other.answers {
            *self.answers.entry(answer).or_default() += count;
        }
        self.findings.extend(other.findings);
        self.findings.truncate(TOLD);
    }

    fn note(&mut self, case: &Case, number: u64, ours: &str, theirs: &str) {
        self.cases += 1;
        *self.kinds.entry(case.kind).or_default() += 1;
        if matches!(case.ask, Ask::Directory) {
            *self.answers.entry(amount(ours)).or_default() += 1;
        }
        self.panics += u64::from(ours.starts_with("panic"));
        if ours == theirs {
            self.agreed += 1;
        } else if theirs.contains("packed") {
            self.undecided += 1;
        } else {
            self.disagreed += 1;
            if self.findings.len() < TOLD {
                let seed = self.seed;
                self.findings.push(format!(
                    "{}: replay with `crashcheck engine --second-reader --cases 1 --resume {number} --seed {seed}`\n  \
                     engine: {ours}\n  reader: {theirs}",
                    case.kind
                ));
            }
        }
    }
}

/// What a directory's answer amounts to.
fn amount(answer: &str) -> String {
    match answer {
        _ if answer.starts_with("panic") => "panic".into(),
        _ if answer.starts_with("refused") => answer.split(' ').take(2).collect::<Vec<_>>().join(" "),
        _ if !answer.contains(" lost [] ") => "open, something lost".into(),
        _ if !answer.contains(" repaired [] ") => "open, something made good".into(),
        _ => "open, nothing said".into(),
    }
}

/// Asks both readers; `progress` hears how many cases are done.
///
/// # Errors
/// If the second reader cannot be started, or ends; if a bug planted in the engine's readers goes unseen.
pub fn run(settings: &Settings, progress: impl Fn(u64) + Sync) -> Result<Counts, String> {
    let begun = Instant::now();
    let bases = Bases::make(settings.seed)?;
    let controls =
        if settings.cases < control::LEAST { BTreeMap::new() } else { control::run(settings, &bases)? };
    let counts = Mutex::new(Counts { controls, seed: settings.seed, ..Counts::default() });
    let next = AtomicU64::new(0);
    let worker = || -> io::Result<()> {
        let mut reader = Reader::start(&bases)?;
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            if from >= settings.cases {
                return Ok(());
            }
            let numbers = from..settings.cases.min(from + BATCH);
            let done = batch(settings, &bases, &mut reader, numbers)?;
            let mut all = counts.lock().expect("no worker panics here");
            all.merge(done);
            progress(all.cases);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..settings.jobs).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|w| w.join().expect("a worker tells, it does not panic"))
    })
    .map_err(|e| unavailable(&e))?;
    let mut counts = counts.into_inner().expect("no worker panics here");
    counts.seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    Ok(counts)
}

fn unavailable(e: &io::Error) -> String {
    format!("the second reader (python3 with engine/spec/reader/serve.py): {e}")
}

fn batch(
    settings: &Settings,
    bases: &Bases,
    reader: &mut Reader,
    numbers: std::ops::Range<u64>,
) -> io::Result<Counts> {
    let made: Vec<(u64, Case)> = numbers
        .map(|n| settings.first + n)
        .map(|number| (number, cases::make(bases, settings.seed, number)))
        .collect();
    let coded: Vec<Vec<u8>> =
        made.iter().map(|(_, case)| pipe::encode(case, &bases.images[case.base])).collect();
    reader.ask(&coded)?;
    let ours: Vec<String> = made.iter().map(|(_, case)| answer_of::<MemVfs>(bases, case)).collect();
    let theirs = reader.answers(made.len())?;
    let mut counts = Counts { seed: settings.seed, ..Counts::default() };
    for (((number, case), ours), theirs) in made.iter().zip(&ours).zip(&theirs) {
        counts.note(case, *number, ours, theirs);
    }
    Ok(counts)
}

/// The engine's answer, over a disk that may have a bug planted.
fn answer_of<V: Disk>(bases: &Bases, case: &Case) -> String {
    let _quiet = super::quiet();
    let shape = &bases.shapes[case.base];
    let disk = || V::over(MemVfs::from_image(case.image.clone()));
    let asked = AssertUnwindSafe(|| match &case.ask {
        Ask::Directory => answer::store(disk()),
        Ask::Segment(name) => answer::segment(&disk(), name, shape),
        Ask::Identity => answer::identity(&disk()),
        Ask::HighWater => answer::high_water(&disk(), &shape.identity.store),
        Ask::Evidence => answer::events(&disk(), &shape.identity.store),
        Ask::Snapshot(digest) => answer::snapshot(&disk(), shape, *digest),
        Ask::Frame { place, at, bytes } => answer::frame::<V>(bytes, place, *at),
        Ask::State(bytes) => answer::coded_state(bytes),
        Ask::Items { bytes, is_echo } => answer::directory(bytes, *is_echo),
    });
    catch_unwind(asked).unwrap_or_else(|cause| format!("panic: {}", super::panic_text(&*cause)))
}
