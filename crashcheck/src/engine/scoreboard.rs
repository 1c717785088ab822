//! The scoreboard: every kind of fault that is tried, row by row, with what came of it.
//!
//! I own the rows, their sizes and their order. A row says how many cases it tried, how many of them ended
//! silent, in a false alarm or in a panic, and names the first few with the command that shows them again.
//! Its cases are numbered, so that it can be tried piece by piece ([`Piece`]) and go on another day.
//! I judge nothing myself: crash states are judged by the properties (see judge), damage by what open says
//! of it (see media).

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use seawall::vfs::mem::{self, MemVfs};
use serde::{Deserialize, Serialize};

use super::campaign::{self, Options};
use super::certificate::{parse_replay, replay_command};
use super::execute::execute;
use super::flip;
use super::generate::Random;
use super::kill;
use super::media::{self, Known, Outcome};
use super::replicas;
use super::subject::EngineSubject;
use super::swept::Swept;
use crate::core::choices::{Bounds, Tears};
use crate::core::counts::Counters;
use crate::core::explore::{Sink, explore};
use crate::core::pool::pool;

mod bytes;
mod links;
mod matrix;
mod versions;

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// Minutes.
    Gate,
    /// Hours.
    Full,
}

impl Size {
    fn pick<T>(self, gate: T, full: T) -> T {
        match self {
            Self::Gate => gate,
            Self::Full => full,
        }
    }
}

/// The part of a row that is tried in one go.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// How large the whole row is.
    pub size: Size,
    /// Threads.
    pub jobs: usize,
    /// The first number that no earlier piece did.
    pub first: u64,
    /// Cases of the earlier pieces.
    pub cases: u64,
    /// When to stop.
    pub limit: Option<Duration>,
}

/// One kind of fault.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// What it is called.
    pub name: Cow<'static, str>,
    /// Crash states, damaged stores, or damaged frames.
    pub cases: u64,
    /// Wrong, and nothing said so.
    pub silent: u64,
    /// An alarm that no fault explains.
    pub false_alarms: u64,
    /// Panics, and opens that took too long.
    pub panics: u64,
    /// Seconds taken.
    pub seconds: f64,
    /// What exactly was tried.
    pub what: String,
    /// The first few that are wrong.
    pub findings: Vec<String>,
    /// The first number that was not tried.
    pub next: u64,
    /// Whether everything was tried.
    pub finished: bool,
}

/// How many findings a row tells.
const TOLD: usize = 5;

impl Row {
    fn new(name: &'static str, what: impl Into<String>) -> Self {
        Self { name: name.into(), what: what.into(), ..Self::default() }
    }

    /// Whether something was wrong.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.silent + self.false_alarms + self.panics > 0 || !self.findings.is_empty()
    }

    fn tell(&mut self, text: String) {
        if self.findings.len() < TOLD {
            self.findings.push(text);
        }
    }

    fn crashes(&mut self, counters: &Counters) {
        self.cases += counters.distinct;
        self.silent += counters.silent;
        self.false_alarms += counters.false_alarms;
        self.panics += counters.panics;
    }

    fn damage(&mut self, outcome: Outcome, what: impl FnOnce() -> String) {
        self.cases += 1;
        match outcome {
            Outcome::Silent(text) => {
                self.silent += 1;
                self.tell(format!("{}: {text}", what()));
            }
            Outcome::Unhealed(text) => self.tell(format!("{}: more lost than it may cost: {text}", what())),
            Outcome::Panic(text) => {
                self.panics += 1;
                self.tell(format!("{}: panic: {text}", what()));
            }
            _ => {}
        }
    }

    /// Adds what the next piece found.
    pub fn go_on(&mut self, piece: Self) {
        (self.next, self.finished, self.seconds) = (piece.next, piece.finished, self.seconds + piece.seconds);
        (self.name, self.what) = (piece.name.clone(), piece.what.clone());
        self.merge(piece);
    }

    fn merge(&mut self, other: Self) {
        self.cases += other.cases;
        self.silent += other.silent;
        self.false_alarms += other.false_alarms;
        self.panics += other.panics;
        other.findings.into_iter().for_each(|text| self.tell(text));
    }
}

type Make = fn(&Piece) -> Row;

/// The rows, in the order of the model's table.
pub const ROWS: &[(&str, Make)] = &[
    ("power loss", power_loss),
    ("tears", tears),
    ("nested crash", nested),
    ("one flipped bit, every truncation", bits),
    ("two flipped bits", bytes::two_bits),
    ("extension", extension),
    ("sectors", sectors),
    ("files", files),
    ("sync failure", sync_failure),
    ("errors", errors),
    ("two errors", two_errors),
    ("full disk", full_disk),
    ("torn, rotten, maybe", matrix::matrix),
    ("replicas", heal),
    ("kill -9", kill),
    ("hostile bytes", bytes::hostile),
    ("links and unusual files", links::links),
    ("versions", versions::versions),
];

/// Tries a piece of a row.
#[must_use]
pub fn row(make: Make, piece: &Piece) -> Row {
    let begun = Instant::now();
    let mut row = make(piece);
    row.seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    row
}

impl Piece {
    /// Does the numbers of this piece, of `work` that begins at 0.
    fn pool<W, R>(
        &self,
        row: &mut Row,
        work: impl Iterator<Item = W> + Send,
        each: impl Fn(u64, W, &AtomicBool) -> Option<R> + Sync,
        mut take: impl FnMut(&mut Row, R) + Send,
    ) where
        R: Send,
    {
        let work = work.skip(usize::try_from(self.first).expect("64 bits"));
        let reached = pool(self.jobs, self.first, work, self.limit, each, |_, one| {
            take(row, one);
            ControlFlow::Continue(())
        });
        (row.next, row.finished) = (reached.next, reached.finished);
    }
}

fn campaign_row(row: Row, piece: &Piece, options: &Options) -> Row {
    let options = Options {
        first: piece.first,
        states: options.states.map(|most| most.saturating_sub(piece.cases).max(1)),
        seconds: piece.limit.map(|limit| limit.as_secs().max(1)),
        ..options.clone()
    };
    let summary = campaign::campaign(&options, |_| {});
    let mut row = row;
    row.crashes(&summary.counters);
    for found in &summary.found {
        row.tell(format!("{}: {}; {}", found.property, found.text, replay_command(found, &options)));
    }
    if let Some(broken) = &summary.broken {
        row.tell(format!("the harness is broken: {broken}"));
    }
    row.next = summary.resume;
    row.finished = match options.states {
        Some(most) => row.cases >= most,
        None => summary.resume >= summary.enumerated,
    };
    let length = campaign::complete_length(&options, summary.resume);
    row.what.push_str(&format!("; {} sequences, every one of up to {length} operations", summary.resume));
    row
}

fn options(jobs: usize, bounds: Bounds) -> Options {
    Options {
        seed: 1,
        length: 3,
        groups: 2,
        bounds,
        nested_every: 16,
        seconds: None,
        states: None,
        complete: false,
        jobs,
        first: 0,
    }
}

fn power_loss(piece: &Piece) -> Row {
    let bounds = Bounds { nested_depth: 1, ..Bounds::default() };
    let states = Some(piece.size.pick(1_000_000, 1_000_000_000));
    let row = Row::new("power loss", "every set of up to 10 unsynced units, recoveries of one run in 16 cut");
    let length = piece.size.pick(3, 4);
    campaign_row(row, piece, &Options { states, length, ..options(piece.jobs, bounds) })
}

fn tears(piece: &Piece) -> Row {
    let bounds = Bounds { tears: Tears::One, ..Bounds::default() };
    let row = Row::new("tears", "each unsynced unit torn at every byte");
    let length = piece.size.pick(1, 3);
    campaign_row(row, piece, &Options { complete: true, length, ..options(piece.jobs, bounds) })
}

fn nested(piece: &Piece) -> Row {
    let depth = piece.size.pick(2, 3);
    let units = piece.size.pick(6, 3);
    let bounds = Bounds { nested_depth: depth, max_subset_units: units, omissions: 1, ..Bounds::default() };
    let what =
        format!("{depth} recoveries in a row cut at every step, every set of up to {units} unsynced units");
    let row = Row::new("nested crash", what);
    let states = Some(piece.size.pick(500_000, 100_000_000));
    campaign_row(row, piece, &Options { states, length: 1, nested_every: 1, ..options(piece.jobs, bounds) })
}

fn bits(piece: &Piece) -> Row {
    let what = "of every file of a store closed and left open";
    let mut row = Row::new("one flipped bit, every truncation", what);
    let settings = flip::Settings { jobs: piece.jobs, first: piece.first, limit: piece.limit };
    match flip::run(&settings, |_, _| {}) {
        Ok((counts, reached)) => {
            row.cases = counts.flips + counts.truncations;
            row.silent = counts.silent;
            row.panics = counts.panics + counts.hangs;
            counts.findings.into_iter().for_each(|text| row.tell(text));
            (row.next, row.finished) = (reached.next, reached.finished);
        }
        Err(e) => row.tell(e),
    }
    row
}

/// The two stores that are damaged.
fn stores() -> [Known; 2] {
    [Known::clean::<MemVfs>(), Known::unclean::<MemVfs>()]
}

type Damaged<'a> = Box<dyn Iterator<Item = (String, mem::Image)> + Send + 'a>;

/// Opens every damaged store and judges it.
fn probe_all(row: &mut Row, piece: &Piece, damages: fn(&Known, Size) -> Damaged<'_>) {
    let stores = stores();
    let all = stores.iter().flat_map(|known| damages(known, piece.size).map(move |damage| (known, damage)));
    let each = |_, (known, (what, image)): (&Known, (String, mem::Image)), _: &_| {
        Some((known.name, what, known.probe::<MemVfs>(image)))
    };
    piece.pool(row, all, each, |row, (name, what, outcome)| {
        row.damage(outcome, || format!("{what}, in the store {name}"));
    });
}

fn extension(piece: &Piece) -> Row {
    const MOST: [u64; 2] = [600, 20_000];
    let most = piece.size.pick(MOST[0], MOST[1]);
    let mut row =
        Row::new("extension", format!("every file longer by 1 to {most} bytes, of zeros and of others"));
    probe_all(&mut row, piece, |known, size| {
        let longer = move |name: &'_ String, more| {
            let extended = |byte: u8| {
                let what = format!("{name} longer by {more} bytes of {byte:#04x}");
                (what, media::extend(&known.image, name, more, byte))
            };
            [extended(0), extended(0xa5)]
        };
        let names = known.image.files.keys();
        Box::new(
            names.flat_map(move |name| {
                (1..=size.pick(MOST[0], MOST[1])).flat_map(move |more| longer(name, more))
            }),
        )
    });
    row
}

fn sectors(piece: &Piece) -> Row {
    const LONGEST: [usize; 2] = [16, 64];
    let longest = piece.size.pick(LONGEST[0], LONGEST[1]);
    let what = format!("zeroed, filled with ones, as before, or from any other place, 1 to {longest} long");
    let mut row = Row::new("sectors", what);
    probe_all(&mut row, piece, |known, size| {
        Box::new(media::damaged_sectors::<MemVfs>(known, size.pick(LONGEST[0], LONGEST[1])).into_iter())
    });
    row
}

fn files(piece: &Piece) -> Row {
    let mut row = Row::new(
        "files",
        "missing, empty, swapped, rolled back, of another store, not ours: one and two at a time",
    );
    probe_all(&mut row, piece, |known, _| {
        let single = media::damaged_files::<MemVfs>(known);
        let pairs = single.iter().enumerate().flat_map(|(n, one)| {
            single[n + 1..].iter().filter(|two| !two.meets(one)).map(|two| one.with(two))
        });
        let all: Vec<_> = single.iter().cloned().chain(pairs).collect();
        Box::new(all.into_iter().map(|damage| (damage.what.clone(), damage.on(&known.image))))
    });
    row
}

/// Runs sequences and explores the crashes of each.
fn sequences(row: &mut Row, piece: &Piece, texts: impl Iterator<Item = String> + Send) {
    let bounds = Bounds { max_subset_units: 5, omissions: 1, ..Bounds::default() };
    let each = |number, text: String, _: &AtomicBool| {
        let (sequence, _) = parse_replay(&text).expect("it is well-formed");
        let run = execute::<MemVfs>(&sequence);
        let mut one = Row { cases: 1, ..Row::default() };
        for wrong in &run.wrong {
            one.silent += u64::from(wrong.silent);
            one.false_alarms += u64::from(wrong.false_alarm);
            one.tell(format!("{text}: {}: {}", wrong.property, wrong.text));
        }
        let mut sink = Sink { max_findings: 1, ..Sink::new(0, number) };
        explore(&EngineSubject::<MemVfs>::default(), &run, &bounds, &mut sink);
        one.crashes(&sink.counters);
        let found = sink.findings.into_iter();
        found.for_each(|f| one.tell(format!("{text}@{}: {}: {}", f.id, f.property, f.text)));
        Some(one)
    };
    piece.pool(row, texts, each, Row::merge);
}

fn sync_failure(piece: &Piece) -> Row {
    let what =
        "4 behaviours at each of 8 syncs of 8 operations, then go on, restart, and power loss at every step";
    let mut row = Row::new("sync failure", what);
    let before = piece.size.pick(vec![""], vec!["", "rotate.0,", "publish.0,", "reopen.1,"]);
    let texts = before.iter().flat_map(|b| (0..=255).map(move |salt| format!("{b}fail-sync.{salt}")));
    sequences(&mut row, piece, texts);
    row
}

fn errors(piece: &Piece) -> Row {
    let calls = piece.size.pick(96, 512);
    let what = "seven error numbers and short counts, once and from then on, then a restart and power loss";
    let mut row = Row::new("errors", format!("{what}: the first {calls} calls of 8 operations"));
    let one_call = |call| {
        (0..16).flat_map(move |error| {
            (0..8).map(move |inner| {
                let (errno, fail) = (call / 32 * 16 + error, call % 32 * 8 + inner);
                format!("errno.{errno},fail.{fail}")
            })
        })
    };
    sequences(&mut row, piece, (0..calls).flat_map(one_call));
    row
}

fn two_errors(piece: &Piece) -> Row {
    let runs: u64 = piece.size.pick(6_000, 100_000);
    let what =
        format!("{runs} pairs of errors at two calls of one of 8 operations, then a restart and power loss");
    let mut row = Row::new("two errors", what);
    let mut random = Random::new(1);
    let pair = |_| {
        let (first, second) = (random.below(3) << 4 | random.below(8), random.below(256));
        format!("errno.{first},second-errno.{second},fail.{}", random.below(256))
    };
    sequences(&mut row, piece, (0..runs).map(pair));
    row
}

/// The cases of 3 replicas come first, then those of 5.
fn heal(piece: &Piece) -> Row {
    let begun = Instant::now();
    let [three, of] = [3, 5].map(replicas::all_cases);
    let five = piece.size.pick(50_000, of);
    let mut row = Row::new("replicas", "every damage of the copies of 4 entries in 3 replicas");
    row.next = piece.first;
    for (replicas, from, to) in [(3, 0, three), (5, three, three + five)] {
        let settings = replicas::Settings {
            replicas,
            first: row.next.saturating_sub(from),
            cases: to.saturating_sub(row.next),
            seed: 1,
            jobs: piece.jobs,
            limit: piece.limit.map(|limit| limit.saturating_sub(begun.elapsed())),
        };
        if row.next < from || settings.cases == 0 {
            continue;
        }
        let counts = replicas::run::<MemVfs>(&settings, |_| {});
        row.cases += counts.cases;
        row.silent += counts.wrong;
        counts.findings.into_iter().for_each(|text| row.tell(text));
        row.next = from + counts.next;
    }
    row.finished = row.next == three + five;
    row.what.push_str(&format!("; {} of {of} in 5", row.next.saturating_sub(three)));
    row
}

/// Cycles of one store; the next store has another seed.
const KILLS: u64 = 500;

fn kill(piece: &Piece) -> Row {
    let begun = Instant::now();
    let stores = piece.size.pick(1, 200);
    let mut row =
        Row::new("kill -9", "a real process on a real directory, a tenth of the kills during recovery");
    for store in piece.first..stores {
        let counts = std::env::current_exe().map_err(anyhow::Error::from).and_then(|program| {
            let swept = Swept::new(&program)?;
            let (dir, seed) = (swept.path().join("store"), 1 + store);
            kill::run(&kill::Settings { program, cycles: KILLS, dir, segment_bytes: 1 << 20, seed }, |_| {})
        });
        match counts {
            Ok(counts) => {
                row.cases += counts.cycles;
                row.silent += counts.lost + counts.resurrected;
                row.false_alarms += counts.false_alarms;
                row.panics += counts.failures;
                counts.findings.into_iter().for_each(|text| row.tell(format!("seed {}: {text}", 1 + store)));
            }
            Err(e) => row.tell(format!("the harness is broken: {e:#}")),
        }
        (row.next, row.finished) = (store + 1, store + 1 == stores);
        if piece.limit.is_some_and(|limit| begun.elapsed() >= limit) {
            break;
        }
    }
    row
}

fn full_disk(piece: &Piece) -> Row {
    let mut row = Row::new(
        "full disk",
        "0 to 255 free blocks of 512 bytes, then entries, votes, snapshots and a restart",
    );
    let before = piece
        .size
        .pick(vec!["", "rotate.0,"], vec!["", "rotate.0,", "publish.0,", "rotate.0,compact-owned.1,"]);
    let texts = before.iter().flat_map(|b| (0..=255).map(move |blocks| format!("{b}no-space.{blocks}")));
    sequences(&mut row, piece, texts);
    let votes = piece.size.pick(1_000_000, 10_000_000);
    row.what.push_str(&format!("; {votes} votes on a full disk"));
    if row.finished {
        row.merge(bytes::votes_on_a_full_disk(votes));
    }
    row
}
