//! `seawall-bench facets`: what a store does besides durable appends, each beside what bounds it.
//!
//! I own W7 to W9: appends under compaction, truncation, snapshots. Each is measured in turns with
//! its bound, round by round; a ratio divides within a round. Sizes are small by default and are options.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use seawall::{CreateOptions, Digest, Engine, Entry, GroupId, Index, LogId, Options, Outcome, WriteBatch};
use serde::Serialize;

use crate::stats::Estimate;

const GROUP: GroupId = GroupId(1);
const KIB: usize = 1024;
/// Entries of a batch that is truncated and appended again.
const TRUNCATED: u64 = 1000;
/// Entries between two compactions, in batches of 64.
const COMPACTED: u64 = 64 * 64;

/// Measure compaction, truncation and snapshots.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// MiB of a snapshot.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=16 << 10))]
    mib: u64,
    /// Rounds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

/// One figure: the medians of the rounds, and of their ratios.
#[derive(Serialize)]
struct Facet {
    workload: &'static str,
    what: &'static str,
    unit: &'static str,
    value: f64,
    bound: &'static str,
    bound_value: f64,
    ratio: Estimate,
}

impl Facet {
    /// From pairs of a value and its bound.
    fn new(
        workload: &'static str,
        what: &'static str,
        unit: &'static str,
        bound: &'static str,
        pairs: &[(f64, f64)],
    ) -> Self {
        let column = |of: fn(&(f64, f64)) -> f64| Estimate::of(&pairs.iter().map(of).collect::<Vec<_>>());
        let (value, bound_value) = (column(|p| p.0).median, column(|p| p.1).median);
        Self { workload, what, unit, value, bound, bound_value, ratio: column(|p| p.0 / p.1) }
    }
}

impl Args {
    /// Measures and prints each facet.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        let temporary = tempfile::tempdir_in(dir)?;
        let mut facets = Vec::new();
        facets.extend(self.compaction(temporary.path())?);
        facets.push(self.truncation(&temporary.path().join("truncation"))?);
        facets.extend(self.snapshots(temporary.path())?);
        let mut out = io::stdout().lock();
        if !self.json {
            writeln!(
                out,
                "| workload | what | | bound | | ratio | 95 % |\n|---|---|---:|---|---:|---:|---|"
            )?;
        }
        for facet in &facets {
            if self.json {
                writeln!(out, "{}", serde_json::to_string(facet)?)?;
                continue;
            }
            let Facet { workload, what, unit, value, bound, bound_value, ratio } = facet;
            writeln!(
                out,
                "| {workload} | {what} | {value:.0} {unit} | {bound} | {bound_value:.0} {unit} | {:.2} | {:.2} to {:.2} |",
                ratio.median, ratio.low, ratio.high
            )?;
        }
        Ok(())
    }

    fn pairs(&self, mut one: impl FnMut() -> anyhow::Result<(f64, f64)>) -> anyhow::Result<Vec<(f64, f64)>> {
        (0..self.rounds).map(|_| one()).collect()
    }

    /// W7: batches of 64 x 256 B with a compaction every 4,096 entries, beside the same without.
    fn compaction(&self, dir: &Path) -> anyhow::Result<[Facet; 2]> {
        let data = payloads(256);
        let names = ["compacted", "kept"];
        let engines = names.map(|name| create(&dir.join(name)));
        let [compacted, kept] = engines;
        let (compacted, kept) = (compacted?, kept?);
        let mut next = 1;
        let mut rates = Vec::new();
        let mut worst = Vec::new();
        for _ in 0..self.rounds {
            let range = next..next + 16 * COMPACTED;
            next = range.end;
            let (rate_of, worst_of) = appends(&compacted, range.clone(), &data, true)?;
            let (rate_without, worst_without) = appends(&kept, range, &data, false)?;
            rates.push((rate_of, rate_without));
            worst.push((worst_of, worst_without));
        }
        let what = "64 x 256 B a batch, compacted";
        Ok([
            Facet::new("W7", what, "entries/s", "never compacted", &rates),
            Facet::new("W7", "the worst of those appends", "us", "never compacted", &worst),
        ])
    }

    /// W8: a batch that truncates 1,000 entries and appends them again, beside a batch that appends them.
    fn truncation(&self, store: &Path) -> anyhow::Result<Facet> {
        let engine = create(store)?;
        let data = payloads(256);
        let mut last = 0;
        let mut term = 1;
        let mut append = |term: u64, from: Option<u64>| -> anyhow::Result<f64> {
            let mut batch = WriteBatch::new();
            if let Some(from) = from {
                batch.truncate_suffix(GROUP, Index(from));
                last = from - 1;
            }
            for index in last + 1..=last + TRUNCATED {
                batch.append(GROUP, Entry::command(index, term, data[at(index)].clone()));
            }
            last += TRUNCATED;
            let begun = Instant::now();
            durable(&engine, batch)?;
            Ok(micros(begun.elapsed()))
        };
        append(term, None)?;
        let mut next = TRUNCATED + 1;
        let pairs = self.pairs(|| {
            let mut both = (f64::INFINITY, f64::INFINITY);
            for _ in 0..20 {
                both.1 = both.1.min(append(term, None)?);
                term += 1;
                both.0 = both.0.min(append(term, Some(next))?);
                next += TRUNCATED;
            }
            Ok(both)
        })?;
        let what = "truncate 1,000 x 256 B and append them again (the best of 20)";
        Ok(Facet::new("W8", what, "us", "append alone", &pairs))
    }

    /// W9: a snapshot out and in, beside zstd and one file, on as many chunks of the same size.
    fn snapshots(&self, dir: &Path) -> anyhow::Result<[Facet; 2]> {
        let engine = create(&dir.join("snapshots"))?;
        append(&engine, 1..2, &payloads(KIB))?;
        let (level, chunk) = (Options::default().zstd_level, Options::default().chunk_bytes as usize);
        let level = level.context("chunks are compressed by default")?;
        let count = usize::try_from(self.mib << 20)? / chunk;
        let mib = f64::from(u32::try_from((count * chunk) >> 20)?);
        let plain = dir.join("plain");
        let mut random = fastrand::Rng::with_seed(2);
        let mut chunks: Vec<Vec<u8>> = (0..count).map(|_| half_random(&mut random, chunk)).collect();
        let mut ins = Vec::new();
        let outs = self.pairs(|| {
            // No chunk is one that the store has already.
            chunks.iter_mut().for_each(|chunk| random.fill(&mut chunk[..16]));
            let begun = Instant::now();
            let mut writer = engine.snapshot_writer(GROUP, LogId::new(1, 1), b"")?;
            chunks.iter().try_for_each(|chunk| writer.write_all(chunk))?;
            writer.publish()?;
            let out = mib / begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            let mut file = File::create(&plain)?;
            for chunk in &chunks {
                file.write_all(&zstd::bulk::compress(chunk, level)?)?;
            }
            file.sync_all()?;
            let bound = mib / begun.elapsed().as_secs_f64();
            ins.push(self.read_back(&engine, &plain, mib, chunk)?);
            Ok((out, bound))
        })?;
        Ok([
            Facet::new("W9", "snapshot out", "MiB/s", "zstd and a file", &outs),
            Facet::new("W9", "snapshot in", "MiB/s", "a file and zstd", &ins),
        ])
    }

    fn read_back(&self, engine: &Engine, plain: &Path, mib: f64, chunk: usize) -> anyhow::Result<(f64, f64)> {
        let begun = Instant::now();
        let mut reader = engine.snapshot_reader(GROUP)?;
        while let piece @ [_, ..] = black_box(reader.fill_buf()?) {
            let len = piece.len();
            reader.consume(len);
        }
        let read = mib / begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let mut decoder = zstd::Decoder::new(File::open(plain)?)?;
        let mut buffer = vec![0; chunk];
        while decoder.read(&mut buffer)? > 0 {
            black_box(&buffer);
        }
        Ok((read, mib / begun.elapsed().as_secs_f64()))
    }
}

fn create(store: &Path) -> anyhow::Result<Engine> {
    Engine::create(store, &CreateOptions::new(1, 1))?;
    let (engine, _) = Engine::open(store, Options::default())?;
    engine.create_group(GROUP)?;
    engine.maintain()?;
    Ok(engine)
}

/// Different payloads of random bytes.
fn payloads(bytes: usize) -> Vec<Arc<[u8]>> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..PAYLOADS).map(|_| (0..bytes).map(|_| random.u8(..)).collect()).collect()
}

const PAYLOADS: u64 = 1024;

/// Which payload an entry has.
fn at(index: u64) -> usize {
    usize::try_from(index % PAYLOADS).expect("few")
}

/// Bytes of which zstd saves a part, as it does of a state machine's.
fn half_random(random: &mut fastrand::Rng, bytes: usize) -> Vec<u8> {
    let mut all = vec![0; bytes];
    random.fill(&mut all);
    all.chunks_mut(64).for_each(|part| part.iter_mut().skip(32).for_each(|byte| *byte = 0));
    all
}

fn durable(engine: &Engine, batch: WriteBatch) -> anyhow::Result<()> {
    let outcome = engine.write(batch)?.wait();
    anyhow::ensure!(outcome == Outcome::Durable, "the outcome is {outcome:?}");
    Ok(())
}

fn append(engine: &Engine, indexes: std::ops::Range<u64>, data: &[Arc<[u8]>]) -> anyhow::Result<()> {
    let mut batch = WriteBatch::new();
    for index in indexes {
        batch.append(GROUP, Entry::command(index, 1, data[at(index)].clone()));
    }
    durable(engine, batch)
}

/// Entries a second, and the worst batch in microseconds.
fn appends(
    engine: &Engine,
    indexes: std::ops::Range<u64>,
    data: &[Arc<[u8]>],
    compacts: bool,
) -> anyhow::Result<(f64, f64)> {
    let mut worst = Duration::ZERO;
    let entries = indexes.end - indexes.start;
    let rate = rate(entries, || {
        for first in indexes.step_by(64) {
            let begun = Instant::now();
            append(engine, first..first + 64, data)?;
            worst = worst.max(begun.elapsed());
            if compacts && first % COMPACTED == 1 && first > 1 {
                let upto = Index(first - 1);
                let mut batch = WriteBatch::new();
                batch
                    .external_snapshot(GROUP, LogId::new(upto.0, 1), Digest([1; 32]))
                    .compact_prefix(GROUP, upto);
                drop(engine.write(batch)?);
            }
        }
        Ok(())
    })?;
    Ok((rate, micros(worst)))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// So many in the time that it takes, a second.
fn rate(count: u64, run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let begun = Instant::now();
    run()?;
    Ok(f64::from(u32::try_from(count)?) / begun.elapsed().as_secs_f64())
}
