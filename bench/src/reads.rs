//! `seawall-bench reads`: scans and random reads of a store in the page cache, beside other engines.
//!
//! I own W6. Every engine is filled, closed and opened again in a process of its own, which serves reads;
//! in a round each is measured once, and the first of a round is another in each. What bounds them is
//! memory of the same size, from which as many bytes are copied.

use std::io::{self, Write};
use std::path::Path;

use seawall_bench::reopen::{MEMORY, Request};
use serde::Serialize;

use crate::compare::executables;
use crate::environment::Environment;
use crate::open::{Filled, Opened, named};
use crate::stats::{Estimate, median};

/// Measure scans and random reads.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Engines.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "seawall,raft-engine,lmdb,redb,sqlite,fjall,raft-log,sled"
    )]
    engines: Vec<String>,
    /// MiB of entries of 1 KiB.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=16 << 10))]
    mib: u64,
    /// Entries that are scanned in a round; an eighth of them is read at random.
    #[arg(long, default_value_t = 1 << 17)]
    entries: u64,
    /// Rounds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

/// An engine on one kind of reads.
#[derive(Serialize)]
struct Row<'a> {
    workload: &'static str,
    what: &'static str,
    engine: &'a str,
    entries_per_second: f64,
    ratio_to_memory: Estimate,
    /// The process's own memory after all reads.
    anonymous_kib: f64,
}

/// An engine that is measured.
struct Measured<'a> {
    name: &'a str,
    opened: Opened,
    /// Entries a second of each round, scanned and at random.
    rates: [Vec<f64>; 2],
    _filled: Filled<'a>,
}

const WHAT: [&str; 2] = ["scan", "random reads"];

impl Args {
    /// Measures, then prints a row for each engine and kind.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        let mut engines = named(&self.engines)?;
        let environment = Environment::of(dir)?;
        let executables = executables(&engines, &mut Vec::new())?;
        engines.retain(|engine| executables.contains_key(engine.name));
        let own = std::env::current_exe()?;
        let mut all = vec![measured(MEMORY, &own, dir, self.mib)?];
        for engine in &engines {
            match measured(engine.name, &executables[engine.name], dir, self.mib) {
                Ok(one) => all.push(one),
                Err(e) => eprintln!("{} is left out: {e:#}", engine.name),
            }
        }
        let count = all.len();
        for round in 0..usize::try_from(self.rounds)? {
            for turn in 0..count {
                let one = &mut all[(round + turn) % count];
                one.rates[0].push(one.opened.ask(Request::Scan(self.entries))?);
                one.rates[1].push(one.opened.ask(Request::Random((self.entries / 8).max(1)))?);
            }
        }
        self.print(&environment, &mut all)
    }

    fn print(&self, environment: &Environment, all: &mut [Measured<'_>]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if !self.json {
            let Environment { date, kernel, processors, commit, .. } = environment;
            writeln!(
                out,
                "{date}, Linux {kernel}, {processors} processors, commit {commit}, {} MiB, {} rounds\n\n\
                 | workload | what | engine | entries/s | ratio to memory | 95 % | own memory KiB |\n\
                 |---|---|---|---:|---:|---|---:|",
                self.mib, self.rounds
            )?;
        }
        let memory = all[0].rates.clone();
        for (kind, what) in WHAT.into_iter().enumerate() {
            for one in &mut *all {
                let rates = &one.rates[kind];
                let ratios: Vec<f64> = rates.iter().zip(&memory[kind]).map(|(rate, of)| rate / of).collect();
                let row = Row {
                    workload: "W6",
                    what,
                    engine: one.name,
                    entries_per_second: median(rates),
                    ratio_to_memory: Estimate::of(&ratios),
                    anonymous_kib: one.opened.ask(Request::Memory)?,
                };
                if self.json {
                    writeln!(out, "{}", serde_json::to_string(&row)?)?;
                    continue;
                }
                let Row { workload, what, engine, entries_per_second, ratio_to_memory: ratio, anonymous_kib } =
                    row;
                writeln!(
                    out,
                    "| {workload} | {what} | {engine} | {entries_per_second:.0} | {:.3} | {:.3} to {:.3} | {anonymous_kib:.0} |",
                    ratio.median, ratio.low, ratio.high
                )?;
            }
        }
        Ok(())
    }
}

/// A store that is filled, opened again and warm; it has answered once.
fn measured<'a>(name: &'a str, executable: &'a Path, dir: &Path, mib: u64) -> anyhow::Result<Measured<'a>> {
    let filled = Filled::new(name, executable, dir, (mib, 1), false)?;
    let (_, mut opened) = filled.open()?;
    opened.ask(Request::Scan(mib << 10))?;
    opened.ask(Request::Random(1))?;
    Ok(Measured { name, opened, rates: Default::default(), _filled: filled })
}
