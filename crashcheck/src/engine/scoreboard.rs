//! The scoreboard: every kind of fault that is tried, row by row, with what came of it.
//!
//! I own the rows, their sizes and their order. A row says how many cases it tried, how many of them ended
//! silent, in a false alarm or in a panic, and names the first few with the command that shows them again.
//! I judge nothing myself: crash states are judged by the properties (see judge), damage by what open says
//! of it (see media).

use std::ops::ControlFlow;
use std::time::Instant;

use seawall::vfs::mem::{self, MemVfs};
use serde::Serialize;

use super::campaign::{self, Options};
use super::certificate::{parse_replay, replay_command};
use super::execute::execute;
use super::flip;
use super::media::{self, Known, Outcome};
use super::subject::EngineSubject;
use crate::core::choices::{Bounds, Tears};
use crate::core::counts::Counters;
use crate::core::explore::{Sink, explore};
use crate::core::pool::pool;

mod bytes;

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// One kind of fault.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// What it is called.
    pub name: &'static str,
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
}

/// How many findings a row tells.
const TOLD: usize = 5;

impl Row {
    fn new(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, what: what.into(), ..Self::default() }
    }

    /// Whether nothing was wrong and something was tried.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.silent + self.false_alarms + self.panics == 0 && self.findings.is_empty() && self.cases > 0
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
            Outcome::Panic(text) => {
                self.panics += 1;
                self.tell(format!("{}: panic: {text}", what()));
            }
            _ => {}
        }
    }

    fn merge(&mut self, other: Self) {
        self.cases += other.cases;
        self.silent += other.silent;
        self.false_alarms += other.false_alarms;
        self.panics += other.panics;
        other.findings.into_iter().for_each(|text| self.tell(text));
    }
}

type Make = fn(Size, usize) -> Row;

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
    ("full disk", full_disk),
    ("hostile bytes", bytes::hostile),
];

/// Makes one row.
#[must_use]
pub fn row(make: Make, size: Size, jobs: usize) -> Row {
    let begun = Instant::now();
    let mut row = make(size, jobs);
    row.seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    row
}

fn campaign_row(row: Row, options: &Options) -> Row {
    let summary = campaign::campaign(options, |_| {});
    let mut row = row;
    row.crashes(&summary.counters);
    for found in &summary.found {
        row.tell(format!("{}: {}; {}", found.property, found.text, replay_command(found, options)));
    }
    if let Some(broken) = &summary.broken {
        row.tell(format!("the harness is broken: {broken}"));
    }
    let length = summary.complete_length;
    row.what.push_str(&format!("; {} sequences, every one of up to {length} operations", summary.sequences));
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

fn power_loss(size: Size, jobs: usize) -> Row {
    let bounds = Bounds { nested_depth: 1, ..Bounds::default() };
    let states = Some(size.pick(1_000_000, 1_000_000_000));
    let row = Row::new("power loss", "every set of up to 10 unsynced units, recoveries of one run in 16 cut");
    campaign_row(row, &Options { states, length: size.pick(3, 4), ..options(jobs, bounds) })
}

fn tears(size: Size, jobs: usize) -> Row {
    let bounds = Bounds { tears: Tears::One, ..Bounds::default() };
    let row = Row::new("tears", "each unsynced unit torn at every byte");
    campaign_row(row, &Options { complete: true, length: size.pick(1, 3), ..options(jobs, bounds) })
}

fn nested(size: Size, jobs: usize) -> Row {
    let depth = size.pick(2, 3);
    let bounds = Bounds { nested_depth: depth, max_subset_units: 6, omissions: 1, ..Bounds::default() };
    let row = Row::new("nested crash", format!("{depth} recoveries in a row cut at every step"));
    let states = Some(size.pick(500_000, 100_000_000));
    campaign_row(row, &Options { states, length: 1, nested_every: 1, ..options(jobs, bounds) })
}

fn bits(_: Size, jobs: usize) -> Row {
    let mut row =
        Row::new("one flipped bit, every truncation", "of every file of a store closed and left open");
    match flip::run(jobs, |_, _| {}) {
        Ok(counts) => {
            row.cases = counts.flips + counts.truncations;
            row.silent = counts.silent;
            row.panics = counts.panics + counts.hangs;
            counts.findings.into_iter().for_each(|text| row.tell(text));
        }
        Err(e) => row.tell(e),
    }
    row
}

/// The two stores that are damaged.
fn stores() -> [Known; 2] {
    [Known::clean::<MemVfs>(), Known::unclean::<MemVfs>()]
}

/// Opens every damaged store and judges it.
fn probe_all(
    row: &mut Row,
    jobs: usize,
    known: &Known,
    damages: impl Iterator<Item = (String, mem::Image)> + Send,
) {
    let each = |_, (what, image): (String, mem::Image), _: &_| Some((what, known.probe::<MemVfs>(image)));
    pool(jobs, 0, damages, None, each, |_, (what, outcome)| {
        row.damage(outcome, || format!("{what}, in the store {}", known.name));
        ControlFlow::Continue(())
    });
}

fn extension(size: Size, jobs: usize) -> Row {
    let most = size.pick(600, 20_000);
    let mut row =
        Row::new("extension", format!("every file longer by 1 to {most} bytes, of zeros and of others"));
    for known in stores() {
        let names: Vec<&String> = known.image.files.keys().collect();
        let longer = names.into_iter().flat_map(|name| {
            let image = &known.image;
            (1..=most).flat_map(move |more: u64| {
                [0_u8, 0xa5].into_iter().map(move |byte| {
                    let what = format!("{name} longer by {more} bytes of {byte:#04x}");
                    (what, media::extend(image, name, more, byte))
                })
            })
        });
        probe_all(&mut row, jobs, &known, longer);
    }
    row
}

fn sectors(_: Size, jobs: usize) -> Row {
    let mut row =
        Row::new("sectors", "zeroed, filled with ones, as before, or from any other place, one to four long");
    for known in stores() {
        probe_all(&mut row, jobs, &known, media::damaged_sectors::<MemVfs>(&known).into_iter());
    }
    row
}

fn files(_: Size, jobs: usize) -> Row {
    let mut row =
        Row::new("files", "missing, empty, swapped, rolled back, of another store: one and two at a time");
    for known in stores() {
        let single = media::damaged_files::<MemVfs>(&known);
        let pairs = single.iter().enumerate().flat_map(|(n, one)| {
            single[n + 1..].iter().filter(|two| !two.meets(one)).map(|two| one.with(two))
        });
        let all =
            single.iter().cloned().chain(pairs).map(|damage| (damage.what.clone(), damage.on(&known.image)));
        probe_all(&mut row, jobs, &known, all);
    }
    row
}

/// Runs sequences and explores the crashes of each.
fn sequences(row: &mut Row, jobs: usize, texts: Vec<String>) {
    let bounds = Bounds { max_subset_units: 5, omissions: 1, ..Bounds::default() };
    let each = |number, text: String, _: &_| {
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
    pool(jobs, 0, texts.into_iter(), None, each, |_, one| {
        row.merge(one);
        ControlFlow::Continue(())
    });
}

fn sync_failure(size: Size, jobs: usize) -> Row {
    let what =
        "4 behaviours at each of 8 syncs of 8 operations, then go on, restart, and power loss at every step";
    let mut row = Row::new("sync failure", what);
    let before = size.pick(vec![""], vec!["", "rotate.0,", "publish.0,", "reopen.1,"]);
    let texts = before.iter().flat_map(|b| (0..=255).map(move |salt| format!("{b}fail-sync.{salt}")));
    sequences(&mut row, jobs, texts.collect());
    row
}

fn errors(size: Size, jobs: usize) -> Row {
    let calls = size.pick(96, 512);
    let what = "seven error numbers and short counts, once and from then on, then a restart and power loss";
    let mut row = Row::new("errors", format!("{what}: the first {calls} calls of 8 operations"));
    let mut texts = Vec::new();
    for call in 0..calls {
        for error in 0..16 {
            for inner in 0..8 {
                let (errno, fail) = (call / 32 * 16 + error, call % 32 * 8 + inner);
                texts.push(format!("errno.{errno},fail.{fail}"));
            }
        }
    }
    sequences(&mut row, jobs, texts);
    row
}

fn full_disk(size: Size, jobs: usize) -> Row {
    let mut row = Row::new(
        "full disk",
        "0 to 255 free blocks of 512 bytes, then entries, votes, snapshots and a restart",
    );
    let before =
        size.pick(vec!["", "rotate.0,"], vec!["", "rotate.0,", "publish.0,", "rotate.0,compact-owned.1,"]);
    let texts = before.iter().flat_map(|b| (0..=255).map(move |blocks| format!("{b}no-space.{blocks}")));
    sequences(&mut row, jobs, texts.collect());
    let votes = size.pick(100_000, 1_000_000);
    row.what.push_str(&format!("; {votes} votes on a full disk"));
    row.merge(bytes::votes_on_a_full_disk(votes));
    row
}
