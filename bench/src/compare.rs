//! `seawall-bench compare`: engines side by side, as ratios to the raw limit of the same round.
//!
//! I own the order of measurements. (B5) In a round every engine is measured once on the workload, one
//! after the other, and the first of a round is another in each. (B6) A ratio divides by the raw limit of
//! its own round. Absolute figures of a shared disk do not repeat; these ratios do.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use seawall_bench::sample::{Latencies, Sample};
use seawall_bench::workload::{APPENDS, Workload};
use serde::{Deserialize, Serialize};

use crate::child::{self, Served};
use crate::engines::{ENGINES, Engine, Home};
use crate::environment::Environment;
use crate::stats::{Estimate, median};
use crate::syncs::Syncs;

/// Engines of `--quick`.
const QUICK: &[&str] = &["raw", "raw-8", "seawall", "seawall-512", "raft-engine", "okaywal"];
/// How long the syncs of an engine are counted.
const COUNTED: Duration = Duration::from_millis(50);
/// What an engine writes before it is measured, so that none is measured cold.
const WARM_UP: Duration = Duration::from_millis(50);

/// Compare engines on durable appends.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Under five minutes: raw, seawall, raft-engine and okaywal, 40 rounds of 0.1 s.
    #[arg(long)]
    quick: bool,
    /// Engines; the raw limit is always measured.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// Workloads.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Rounds.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Milliseconds of one measurement.
    #[arg(long)]
    milliseconds: Option<u64>,
    /// Keeps every sample in this file, as JSON.
    #[arg(long)]
    samples: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// One engine on one workload.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    workload: &'static str,
    engine: &'static str,
    /// The median of the rounds' ratios.
    ratio_to_raw: f64,
    /// In this interval lie 95 % of the medians of resampled rounds.
    ratio_low: f64,
    ratio_high: f64,
    /// Medians of the rounds.
    acks_per_second: f64,
    entries_per_second: f64,
    /// Over all rounds.
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
    /// Calls that make bytes durable for each acknowledgement; `None` where ptrace is not allowed.
    syncs_per_ack: Option<f64>,
    syncs: Option<Syncs>,
}

/// Everything that is known of one engine on one workload.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) workload: String,
    pub(crate) engine: String,
    rounds: Vec<Sample>,
}

#[derive(Serialize)]
struct Report<'a> {
    environment: &'a Environment,
    rounds: u32,
    milliseconds: u64,
    rows: &'a [Row],
}

/// Every sample of a comparison.
#[derive(Serialize, Deserialize)]
pub(crate) struct Samples {
    pub(crate) environment: Environment,
    pub(crate) records: Vec<Record>,
}

impl Args {
    /// Measures, then prints a row for each engine and workload.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        let (engines, workloads) = (self.engines()?, self.workloads()?);
        let (rounds, milliseconds) = self.effort();
        let environment = Environment::of(dir)?;
        let executables = executables(&engines)?;
        let mut rows = Vec::new();
        let mut records = Vec::new();
        for workload in workloads {
            let engines: Vec<Engine> = engines.iter().filter(|e| e.takes(workload)).copied().collect();
            let time = Duration::from_millis(milliseconds);
            let start = |e: &Engine| start(e, workload, &executables[e.name], dir);
            let mut served = engines.iter().map(start).collect::<anyhow::Result<Vec<Served>>>()?;
            let measured = measure(&engines, workload, &mut served, rounds, time)?;
            for (engine, served) in engines.iter().zip(served) {
                rows.push(Row::new(workload, engine, &measured, count(engine, served))?);
            }
            records.extend(measured);
        }
        if let Some(path) = &self.samples {
            let samples = Samples { environment: environment.clone(), records };
            let text = serde_json::to_string(&samples)?;
            std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        self.print(&Report { environment: &environment, rounds, milliseconds, rows: &rows })?;
        Ok(())
    }

    fn engines(&self) -> anyhow::Result<Vec<Engine>> {
        let all: Vec<String> = ENGINES.iter().map(|e| e.name.to_owned()).collect();
        let quick: Vec<String> = QUICK.iter().map(|&name| name.to_owned()).collect();
        let wanted = match &self.engines[..] {
            [] if self.quick => &quick,
            [] => &all,
            _ => &self.engines,
        };
        for name in wanted {
            anyhow::ensure!(all.contains(name), "no engine {name:?}; there are {}", all.join(", "));
        }
        let raw = ENGINES[0].name;
        Ok(ENGINES.iter().filter(|e| e.name == raw || wanted.iter().any(|w| w == e.name)).copied().collect())
    }

    fn workloads(&self) -> anyhow::Result<Vec<&'static Workload>> {
        if self.workloads.is_empty() {
            return Ok(APPENDS.iter().collect());
        }
        let named = |name: &String| Workload::named(name).with_context(|| format!("no workload {name:?}"));
        self.workloads.iter().map(named).collect()
    }

    fn effort(&self) -> (u32, u64) {
        let (rounds, milliseconds) = if self.quick { (40, 100) } else { (60, 300) };
        (self.rounds.unwrap_or(rounds), self.milliseconds.unwrap_or(milliseconds))
    }

    fn print(&self, report: &Report<'_>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            return writeln!(out, "{}", serde_json::to_string(report)?);
        }
        let Environment { kernel, file_system, device, processors, commit, .. } = report.environment;
        writeln!(
            out,
            "Linux {kernel}, {file_system} on {device}, {processors} processors, commit {commit}, {} rounds of {} ms\n",
            report.rounds, report.milliseconds
        )?;
        writeln!(
            out,
            "| workload | engine | ratio to raw | 95 % | entries/s | p50 us | p99 us | max us | syncs/ack |"
        )?;
        writeln!(out, "|---|---|---:|---|---:|---:|---:|---:|---:|")?;
        report.rows.iter().try_for_each(|row| row.print(&mut out))
    }
}

impl Row {
    fn new(
        workload: &Workload,
        engine: &Engine,
        measured: &[Record],
        syncs: Option<(Sample, Syncs)>,
    ) -> anyhow::Result<Self> {
        let of = |name| measured.iter().find(|r| r.engine == name).context("every engine was measured");
        let (mine, raw) = (of(engine.name)?, of(ENGINES[0].name)?);
        let rates: Vec<f64> = mine.rounds.iter().map(Sample::per_second).collect();
        let ratios: Vec<f64> =
            rates.iter().zip(&raw.rounds).map(|(rate, raw)| rate / raw.per_second()).collect();
        let ratio = Estimate::of(&ratios);
        let mut all = Latencies::default();
        for sample in &mine.rounds {
            all.add(&sample.latencies()?);
        }
        let rate = median(&rates);
        let per_ack = |(sample, syncs): &(Sample, Syncs)| {
            let number = |n: u64| u32::try_from(n).map_or(f64::INFINITY, f64::from);
            number(syncs.durable()) / number(sample.acks)
        };
        let entries = match workload.shape {
            seawall_bench::workload::Shape::Callers(_) => workload.batch_entries(),
            seawall_bench::workload::Shape::Deep(_) => 1,
        };
        Ok(Self {
            workload: workload.name,
            engine: engine.name,
            ratio_to_raw: ratio.median,
            ratio_low: ratio.low,
            ratio_high: ratio.high,
            acks_per_second: rate,
            entries_per_second: rate * f64::from(u32::try_from(entries)?),
            p50_us: all.quantile_us(0.5),
            p99_us: all.quantile_us(0.99),
            max_us: all.max_us(),
            syncs_per_ack: syncs.as_ref().map(per_ack),
            syncs: syncs.map(|(_, syncs)| syncs),
        })
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { workload, engine, ratio_to_raw, ratio_low, ratio_high, .. } = self;
        let syncs = self.syncs_per_ack.map_or_else(|| "not measured".to_owned(), |n| format!("{n:.3}"));
        writeln!(
            out,
            "| {workload} | {engine} | {ratio_to_raw:.2} | {ratio_low:.2} to {ratio_high:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {syncs} |",
            self.entries_per_second, self.p50_us, self.p99_us, self.max_us
        )
    }
}

/// The executable of each home that the engines need.
fn executables(engines: &[Engine]) -> anyhow::Result<BTreeMap<&'static str, PathBuf>> {
    let own = std::env::current_exe()?;
    let needed = engines.iter().any(|e| e.home == Home::Peers);
    let peers = if needed { Some(child::build_peers()?) } else { None };
    let of = |engine: &Engine| match engine.home {
        Home::Here => own.clone(),
        Home::Peers => peers.clone().expect("built for it"),
    };
    Ok(engines.iter().map(|e| (e.name, of(e))).collect())
}

fn start(engine: &Engine, workload: &Workload, executable: &Path, dir: &Path) -> anyhow::Result<Served> {
    let mut served = Served::start(executable, engine, workload, dir)?;
    served.measure(WARM_UP)?;
    Ok(served)
}

fn measure(
    engines: &[Engine],
    workload: &Workload,
    served: &mut [Served],
    rounds: u32,
    time: Duration,
) -> anyhow::Result<Vec<Record>> {
    eprintln!("{}: {}", workload.name, workload.what);
    let (name, empty) = (workload.name.to_owned(), Vec::new);
    let record = |e: &Engine| Record { workload: name.clone(), engine: e.name.to_owned(), rounds: empty() };
    let mut records: Vec<Record> = engines.iter().map(record).collect();
    for round in 0..usize::try_from(rounds)? {
        for turn in 0..engines.len() {
            let at = (round + turn) % engines.len();
            records[at].rounds.push(served[at].measure(time)?);
        }
    }
    Ok(records)
}

/// Counts an engine's syncs, after it was measured. `None` where that is not allowed.
fn count(engine: &Engine, served: Served) -> Option<(Sample, Syncs)> {
    let counted = served.count_syncs(COUNTED);
    counted.inspect_err(|e| eprintln!("{}: syncs are not counted: {e:#}", engine.name)).ok()
}
