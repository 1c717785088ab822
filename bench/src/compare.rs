//! `seawall-bench compare`: engines side by side, as ratios to the raw limit of the same round.
//!
//! I own the order of measurements. (B5) In a round every engine is measured once on the workload, one
//! after the other, and the first of a round is another in each. Absolute figures of a shared disk do not
//! repeat; ratios within a round do.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use seawall_bench::sample::Sample;
use seawall_bench::workload::{APPENDS, Workload};
use serde::Serialize;

use crate::child::{self, Served};
use crate::engines::{ENGINES, Engine, HEAVY, Home, RAW};
use crate::environment::Environment;
use crate::results::{Conditions, LeftOut, Record, Results, Row, Table};
use crate::syncs::Syncs;

/// Engines of `--quick`.
const QUICK: &[&str] =
    &["raw", "raw-8", "seawall", "seawall-512", "seawall-batched", "raft-engine", "okaywal"];
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
    /// Engines; the raw limit is always measured [default: all but rocksdb].
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// With rocksdb, which takes ten minutes to build and needs libclang.
    #[arg(long)]
    heavy: bool,
    /// Workloads.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Rounds.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Milliseconds of one measurement.
    #[arg(long)]
    milliseconds: Option<u64>,
    /// Every sync takes so many microseconds longer, as on a slow disk; needs strace.
    #[arg(long, value_name = "MICROSECONDS")]
    slow: Option<u32>,
    /// A neighbour writes and syncs a MiB over and over on the same disk.
    #[arg(long)]
    neighbour: bool,
    /// Keeps what was measured in this file, for `table` and `plots`.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    environment: &'a Environment,
    rounds: u32,
    milliseconds: u64,
    conditions: &'a Conditions,
    left_out: &'a [LeftOut],
    rows: &'a [Row],
}

/// Show what a comparison kept as a table.
#[derive(clap::Args)]
pub(crate) struct TableArgs {
    /// What `compare --keep` wrote.
    results: PathBuf,
}

impl TableArgs {
    /// Prints the table.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let results = Results::read(&self.results)?;
        Ok(write!(io::stdout(), "{}", Table(&results, &results.rows()?))?)
    }
}

impl Args {
    /// Measures, then prints a row for each engine and workload.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        let (engines, workloads) = (self.engines()?, self.workloads()?);
        let (rounds, milliseconds) = self.effort();
        let environment = Environment::of(dir)?;
        let conditions = Conditions { slow_us: self.slow, neighbour: self.neighbour };
        let mut left_out = Vec::new();
        let executables = executables(&engines, &mut left_out)?;
        let neighbour = self.neighbour.then(|| Neighbour::start(dir)).transpose()?;
        let mut records = Vec::new();
        for workload in workloads {
            let takes = |e: &&Engine| executables.contains_key(e.name) && e.takes(workload);
            let mut engines: Vec<Engine> = engines.iter().filter(takes).copied().collect();
            let mut served = Vec::new();
            engines.retain(|engine| {
                match start(engine, workload, &executables[engine.name], dir, self.slow) {
                    Ok(one) => {
                        served.push(one);
                        true
                    }
                    Err(e) => {
                        leave_out(engine.name, Some(workload.name), &e, &mut left_out);
                        false
                    }
                }
            });
            let time = Duration::from_millis(milliseconds);
            let measured = measure(workload, &mut served, rounds, time)?;
            for ((engine, served), samples) in engines.iter().zip(served).zip(measured) {
                // Under strace nobody else may trace.
                let counted = if self.slow.is_some() { None } else { count(engine, served) };
                records.push(Record::new(workload, engine.name, &samples, counted)?);
            }
        }
        drop(neighbour);
        let results = Results { environment, rounds, milliseconds, conditions, left_out, records };
        if let Some(path) = &self.keep {
            results.write(path)?;
        }
        let rows = results.rows()?;
        let mut out = io::stdout().lock();
        if self.json {
            let Results { environment, conditions, left_out, .. } = &results;
            let report = Report { environment, rounds, milliseconds, conditions, left_out, rows: &rows };
            writeln!(out, "{}", serde_json::to_string(&report)?)?;
        } else {
            write!(out, "{}", Table(&results, &rows))?;
        }
        Ok(())
    }

    fn engines(&self) -> anyhow::Result<Vec<Engine>> {
        let all: Vec<String> = ENGINES.iter().map(|e| e.name.to_owned()).collect();
        let usual: Vec<String> = all.iter().filter(|name| self.heavy || *name != HEAVY).cloned().collect();
        let quick: Vec<String> = QUICK.iter().map(|&name| name.to_owned()).collect();
        let wanted = match &self.engines[..] {
            [] if self.quick => &quick,
            [] => &usual,
            _ => &self.engines,
        };
        for name in wanted {
            anyhow::ensure!(all.contains(name), "no engine {name:?}; there are {}", all.join(", "));
        }
        Ok(ENGINES.iter().filter(|e| e.name == RAW || wanted.iter().any(|w| w == e.name)).copied().collect())
    }

    fn workloads(&self) -> anyhow::Result<Vec<&'static Workload>> {
        if self.workloads.is_empty() {
            return Ok(APPENDS.iter().filter(|w| w.quick || !self.quick).collect());
        }
        let named = |name: &String| Workload::named(name).with_context(|| format!("no workload {name:?}"));
        self.workloads.iter().map(named).collect()
    }

    fn effort(&self) -> (u32, u64) {
        let (rounds, milliseconds) = if self.quick { (40, 100) } else { (60, 300) };
        (self.rounds.unwrap_or(rounds), self.milliseconds.unwrap_or(milliseconds))
    }
}

/// The executable of each engine; one that does not build is left out.
pub(crate) fn executables(
    engines: &[Engine],
    left_out: &mut Vec<LeftOut>,
) -> anyhow::Result<BTreeMap<&'static str, PathBuf>> {
    let own = std::env::current_exe()?;
    let here = engines.iter().filter(|e| e.home == Home::Here).map(|e| (e.name, own.clone()));
    let mut found: BTreeMap<&'static str, PathBuf> = here.collect();
    let mut peers: Vec<&Engine> = engines.iter().filter(|e| e.home != Home::Here).collect();
    // All at once; if that fails, without those that take the most.
    while let Some(last) = peers.iter().filter_map(|e| e.home.feature()).max() {
        let features: BTreeSet<Option<&str>> = peers.iter().filter_map(|e| e.home.feature()).collect();
        match child::build_peers(features) {
            Ok(built) => {
                found.extend(peers.iter().map(|e| (e.name, built.clone())));
                break;
            }
            Err(e) => peers.retain(|engine| {
                let is_last = engine.home.feature() == Some(last);
                if is_last {
                    leave_out(engine.name, None, &e, left_out);
                }
                !is_last
            }),
        }
    }
    Ok(found)
}

/// Says that an engine is not measured, and why.
fn leave_out(engine: &str, workload: Option<&str>, why: &anyhow::Error, left_out: &mut Vec<LeftOut>) {
    let workload = workload.map(str::to_owned);
    let left = LeftOut { engine: engine.to_owned(), workload, why: format!("{why:#}") };
    eprintln!("{left}");
    left_out.push(left);
}

/// Another process's load on the disk: a MiB is written and synced over and over.
struct Neighbour {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Neighbour {
    fn start(dir: &Path) -> anyhow::Result<Self> {
        let file = tempfile::tempfile_in(dir)?;
        let done = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            let bytes = vec![7; 1 << 20];
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                file.write_all_at(&bytes, (turn % 64) << 20)?;
                file.sync_data()?;
            }
            Ok(())
        });
        Ok(Self { done, thread: Some(thread) })
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !matches!(ended, Some(Ok(Ok(())))) {
            eprintln!("the neighbour did not write to the end: {ended:?}");
        }
    }
}

fn start(
    engine: &Engine,
    workload: &Workload,
    executable: &Path,
    dir: &Path,
    slow: Option<u32>,
) -> anyhow::Result<Served> {
    let mut served = Served::start(executable, engine, workload, dir, slow)?;
    served.measure(WARM_UP)?;
    Ok(served)
}

/// The samples of each engine.
fn measure(
    workload: &Workload,
    served: &mut [Served],
    rounds: u32,
    time: Duration,
) -> anyhow::Result<Vec<Vec<Sample>>> {
    eprintln!("{}: {}", workload.name, workload.what);
    let mut samples = vec![Vec::new(); served.len()];
    for round in 0..usize::try_from(rounds)? {
        for turn in 0..served.len() {
            let at = (round + turn) % served.len();
            samples[at].push(served[at].measure(time)?);
        }
    }
    Ok(samples)
}

/// Counts an engine's syncs, after it was measured. `None` where that is not allowed.
fn count(engine: &Engine, served: Served) -> Option<(u64, Syncs)> {
    let counted = served.count_syncs(COUNTED);
    let counted = counted.inspect_err(|e| eprintln!("{}: syncs are not counted: {e:#}", engine.name)).ok();
    counted.map(|(sample, syncs)| (sample.acks, syncs))
}
