//! Every single flipped bit and every truncation of a small store.
//!
//! I own the enumeration and the counts: every bit of every file and every length shorter than the file,
//! of a store that was closed and of one that was left open. I do not own the judgement (see media).

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use seawall::vfs::mem::{self, MemVfs};
use serde::Serialize;

use super::media::{Known, Outcome, flip, truncate};
use crate::core::pool::{Progress, pool};

/// What became of every flip and truncation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Bits flipped, one at a time.
    pub flips: u64,
    /// Lengths tried.
    pub truncations: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Everything there, nothing said (unused bytes).
    pub exact: u64,
    /// Everything there, the damage named.
    pub repaired: u64,
    /// What is missing named, or inside `maybe_acked`, or told by the read.
    pub reported: u64,
    /// Open gave a typed error.
    pub refused: u64,
    /// Wrong, and nothing said so.
    pub silent: u64,
    /// More lost than one sector may cost.
    pub unhealed: u64,
    /// Panics.
    pub panics: u64,
    /// Opens that took longer than [`HANG`].
    pub hangs: u64,
    /// Seconds.
    pub seconds: f64,
    /// The first few that are wrong.
    pub findings: Vec<String>,
}

/// An open of 100 KiB that takes longer hangs.
pub const HANG: Duration = Duration::from_secs(10);
/// How many findings are told.
const TOLD: usize = 10;

impl Counts {
    /// Whether nothing was silent or unhealed, and nothing panicked or hung.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.silent + self.unhealed + self.panics + self.hangs == 0
    }

    fn note(&mut self, outcome: Outcome, what: impl FnOnce() -> String) {
        match outcome {
            Outcome::Exact => self.exact += 1,
            Outcome::Repaired => self.repaired += 1,
            Outcome::Reported => self.reported += 1,
            Outcome::Refused(_) => self.refused += 1,
            Outcome::Silent(text) => {
                self.silent += 1;
                self.tell(format!("SILENT {}: {text}", what()));
            }
            Outcome::Unhealed(text) => {
                self.unhealed += 1;
                self.tell(format!("UNHEALED {}: {text}", what()));
            }
            Outcome::Panic(text) => {
                self.panics += 1;
                self.tell(format!("PANIC {}: {text}", what()));
            }
        }
    }

    fn tell(&mut self, text: String) {
        if self.findings.len() < TOLD {
            self.findings.push(text);
        }
    }

    fn merge(&mut self, other: Self) {
        self.flips += other.flips;
        self.truncations += other.truncations;
        self.exact += other.exact;
        self.repaired += other.repaired;
        self.reported += other.reported;
        self.refused += other.refused;
        self.silent += other.silent;
        self.unhealed += other.unhealed;
        self.panics += other.panics;
        self.hangs += other.hangs;
        other.findings.into_iter().for_each(|text| self.tell(text));
    }
}

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Threads.
    pub jobs: usize,
    /// The first sector.
    pub first: u64,
    /// When to stop.
    pub limit: Option<Duration>,
}

/// A sector of one file: its bits, and the lengths that end in it.
#[derive(Clone, Copy)]
struct Stretch<'a> {
    known: &'a Known,
    file: &'a str,
    from: u64,
    to: u64,
}

/// Bytes in a stretch.
const STRETCH: u64 = 512;

/// Tries them, and says how far it came; `progress` hears of bytes done and bytes in all.
///
/// # Errors
/// If a store that nothing was done to is not found exact: the harness is broken.
pub fn run(
    settings: &Settings,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<(Counts, Progress), String> {
    let begun = Instant::now();
    let stores = [Known::clean::<MemVfs>(), Known::unclean::<MemVfs>()];
    for known in &stores {
        match known.probe::<MemVfs>(known.image.clone()) {
            Outcome::Exact => {}
            other => return Err(format!("the store {}, undamaged, is {other:?}", known.name)),
        }
    }
    let stretches = stores.iter().flat_map(stretches).collect::<Vec<_>>();
    let mut counts = Counts { bytes: stores.iter().map(|s| s.image.bytes()).sum(), ..Counts::default() };
    let all = counts.bytes;
    let done = AtomicU64::new(0);
    let first = usize::try_from(settings.first).expect("64 bits");
    let reached = pool(
        settings.jobs,
        settings.first,
        stretches.into_iter().skip(first),
        settings.limit,
        |_, stretch, _| Some(stretch.run()),
        |_, one| {
            counts.merge(one);
            progress(done.fetch_add(STRETCH, Ordering::Relaxed).min(all), all);
            ControlFlow::Continue(())
        },
    );
    counts.seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    Ok((counts, reached))
}

fn stretches(known: &Known) -> Vec<Stretch<'_>> {
    let mut all = Vec::new();
    for (file, content) in &known.image.files {
        let mut from = 0;
        while from < content.len {
            let to = content.len.min(from + STRETCH);
            all.push(Stretch { known, file, from, to });
            from = to;
        }
    }
    all
}

/// What this thread has used: it may be stopped for as long as it likes.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("it does not go back before 0")
}

impl Stretch<'_> {
    fn run(self) -> Counts {
        let mut counts = Counts::default();
        let image = &self.known.image;
        counts.flips = 8 * (self.to - self.from);
        for bit in self.from * 8..self.to * 8 {
            self.probe(&mut counts, flip(image, self.file, bit), || format!("bit {bit}"));
        }
        counts.truncations = self.to - self.from;
        for len in self.from..self.to {
            self.probe(&mut counts, truncate(image, self.file, len), || format!("length {len}"));
        }
        counts
    }

    fn probe(&self, counts: &mut Counts, image: mem::Image, what: impl Fn() -> String) {
        let begun = processor_time();
        let outcome = self.known.probe::<MemVfs>(image);
        let name = || format!("{} of {} in the store {}", what(), self.file, self.known.name);
        counts.note(outcome, name);
        if processor_time() - begun > HANG {
            counts.hangs += 1;
            counts.tell(format!("HANG {}", name()));
        }
    }
}
