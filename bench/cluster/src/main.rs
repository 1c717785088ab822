//! `seawall-bench-cluster`: a cluster of openraft 0.10 on seawall beside the same cluster on other stores.
//!
//! I own the table of stores and what is compared: in each round every store runs once, one after the other,
//! and what counts is its ratio to seawall in the same round. I do not know how a cluster is run.

mod cluster;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use cluster::{Load, Sample};
use seawall::{CreateOptions, Options};
use seawall_conformance::cases::Subject;
use seawall_conformance::for_openraft::{Log, Types};
use seawall_conformance::place::Place;
use seawall_conformance::subjects::raft_log::OfRaftLog;
use seawall_conformance::subjects::redb::Redb;
use seawall_openraft::{Node, v0_10};
use serde::Serialize;

/// Measures clusters of openraft over several stores.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to put temporary stores; choose the disk to be measured [default: the system's temporary
    /// directory].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// How many rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long a run of one store is measured
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Bytes of an entry
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    /// How many clients write; may be given several times
    #[arg(long, default_values_t = [1, 64])]
    clients: Vec<usize>,
    /// Ends with one JSON object
    #[arg(long)]
    json: bool,
}

/// The stores; the first is what the others are compared with.
const STORES: [&str; 3] = ["seawall", "raft-log", "redb"];

/// What a store came to under a load: the medians over the rounds.
#[derive(Serialize)]
struct Line {
    store: &'static str,
    version: String,
    load: Load,
    writes_per_second: f64,
    p50_micros: f64,
    p99_micros: f64,
    /// To seawall in the same round: median, least and greatest.
    throughput_ratio: [f64; 3],
    p50_ratio: [f64; 3],
    p99_ratio: [f64; 3],
    samples: Vec<Sample>,
}

async fn run(store: &str, dir: &Path, load: Load) -> Result<Sample> {
    let of_kit = |subject: &'static dyn Subject| {
        move |_, dir: &Path| {
            std::fs::create_dir_all(dir)?;
            Ok(Log::new(subject.open(&Place::at(dir))?))
        }
    };
    match store {
        "raft-log" => cluster::run(dir, load, of_kit(&OfRaftLog)).await,
        "redb" => cluster::run(dir, load, of_kit(&Redb { syncs: true })).await,
        _ => {
            let open = |id, dir: &Path| {
                Node::create(dir, &CreateOptions::new(1, id))?;
                let (node, _) = Node::open(dir, 1, id, Options::default())?;
                Ok(v0_10::Log::<Types>::open(&node, 1)?)
            };
            cluster::run(dir, load, open).await
        }
    }
}

/// Runs every store once, in an order that turns from round to round.
fn round(number: usize, dir: &Path, load: Load) -> Result<[Sample; STORES.len()]> {
    let mut samples = [None; STORES.len()];
    for at in 0..STORES.len() {
        let at = (at + number) % STORES.len();
        let work = tempfile::tempdir_in(dir)?;
        // A runtime for each run: no task of one store is left when the next begins.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build()?;
        samples[at] = Some(runtime.block_on(run(STORES[at], work.path(), load))?);
    }
    Ok(samples.map(|sample| sample.expect("each store ran")))
}

/// Median, least and greatest.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let median = f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    [median, sorted[0], sorted[sorted.len() - 1]]
}

/// The version of a package in the lock file that this was built with.
fn version(package: &str) -> String {
    let entries = include_str!("../Cargo.lock").split("[[package]]");
    let entry = entries.into_iter().find(|entry| entry.contains(&format!("name = \"{package}\"\n")));
    let version = entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next());
    version.unwrap_or("unknown").to_owned()
}

fn line(at: usize, load: Load, rounds: &[[Sample; STORES.len()]]) -> Line {
    let figure = |of: fn(&Sample) -> f64| {
        let [median, ..] = spread(rounds.iter().map(|round| of(&round[at])));
        (median, spread(rounds.iter().map(|round| of(&round[at]) / of(&round[0]))))
    };
    let (writes_per_second, throughput_ratio) = figure(|sample| sample.writes_per_second);
    let (p50_micros, p50_ratio) = figure(|sample| sample.p50_micros as f64);
    let (p99_micros, p99_ratio) = figure(|sample| sample.p99_micros as f64);
    let (store, samples) = (STORES[at], rounds.iter().map(|round| round[at]).collect());
    Line {
        store,
        version: version(store),
        load,
        writes_per_second,
        p50_micros,
        p99_micros,
        throughput_ratio,
        p50_ratio,
        p99_ratio,
        samples,
    }
}

fn print(line: &Line) {
    let ratio = |[median, low, high]: [f64; 3]| format!("{median:.2} ({low:.2} to {high:.2})");
    println!(
        "{:>3} clients  {:<9} {:<8} {:>7.0} writes/s {}  p50 {:>6.0} us {}  p99 {:>6.0} us {}",
        line.load.clients,
        line.store,
        line.version,
        line.writes_per_second,
        ratio(line.throughput_ratio),
        line.p50_micros,
        ratio(line.p50_ratio),
        line.p99_micros,
        ratio(line.p99_ratio),
    );
}

fn measure(arguments: &Arguments) -> Result<()> {
    let dir = arguments.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut lines = Vec::new();
    for clients in &arguments.clients {
        let load = Load { clients: *clients, bytes: arguments.bytes, seconds: arguments.seconds };
        let rounds = (0..arguments.rounds.max(1)).map(|number| round(number, &dir, load));
        let rounds = rounds.collect::<Result<Vec<_>>>()?;
        for at in 0..STORES.len() {
            let line = line(at, load, &rounds);
            if !arguments.json {
                print(&line);
            }
            lines.push(line);
        }
    }
    if arguments.json {
        println!("{}", serde_json::json!({ "openraft": version("openraft"), "lines": lines }));
    }
    Ok(())
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("seawall-bench-cluster: {e:#}");
            ExitCode::FAILURE
        }
    }
}
