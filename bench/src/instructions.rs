//! `seawall-bench instructions`: user instructions of the hot paths, counted by valgrind.
//!
//! I own the paths that are counted and the comparison with the counts in `instructions.json`. A path runs
//! twice in processes of their own, once with twice the work; the difference is what the work costs,
//! without opening and closing. Instructions repeat on a noisy machine where times do not. valgrind shows
//! no AVX-512, so checksums count for more here than they cost.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::Context;
use seawall::{CreateOptions, Engine, Entry, GroupId, Index, Options, Outcome, Store, WriteBatch};

const GROUP: GroupId = GroupId(1);
const BYTES: usize = 256;

/// A path that is counted: its name, how much of it is run, and what one unit is.
struct Counted {
    name: &'static str,
    units: u64,
    what: &'static str,
}

const PATHS: &[Counted] = &[
    Counted { name: "append-64", units: 12_800, what: "entry of 256 B, in batches of 64" },
    Counted { name: "append-1", units: 2_000, what: "entry of 256 B, a batch each" },
    Counted { name: "groups-1000", units: 20_000, what: "entry of 256 B, in batches over 1,000 groups" },
    Counted { name: "callback", units: 8_192, what: "entry of 256 B, acknowledged by a callback" },
    Counted { name: "scan", units: 16_384, what: "entry of 256 B, read in order, checked" },
    Counted { name: "random", units: 8_192, what: "entry of 256 B, read alone, checked" },
    Counted { name: "decode", units: 16_384, what: "entry of 256 B, verified as frames" },
];

/// Count the instructions of the hot paths.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Writes the counts as the new baseline.
    #[arg(long)]
    write: bool,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs one path.
#[derive(clap::Args)]
pub(crate) struct One {
    path: String,
    units: u64,
}

fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

impl Args {
    /// Counts, then prints each path beside its baseline.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        let before: BTreeMap<String, u64> = match std::fs::read_to_string(baseline()) {
            Ok(text) => serde_json::from_str(&text).context("the baseline")?,
            Err(_) => BTreeMap::new(),
        };
        let mut now = BTreeMap::new();
        let mut out = io::stdout().lock();
        if !self.json {
            writeln!(out, "{:<12} {:>8} {:>9} {:>8}  per", "path", "now", "baseline", "change")?;
        }
        for Counted { name, units, what } in PATHS {
            let cost = (count(dir, name, 2 * units)? - count(dir, name, *units)?) / units;
            now.insert((*name).to_owned(), cost);
            if !self.json {
                let before = before.get(*name).copied();
                let change = before.map_or("new".to_owned(), |before| change(before, cost));
                let before = before.map_or("-".to_owned(), |n| n.to_string());
                writeln!(out, "{name:<12} {cost:>8} {before:>9} {change:>8}  {what}")?;
            }
        }
        if self.json {
            writeln!(out, "{}", serde_json::json!({ "instructions": now, "baseline": before }))?;
        }
        if self.write {
            std::fs::write(baseline(), serde_json::to_string_pretty(&now)? + "\n")?;
        }
        Ok(())
    }
}

fn change(before: u64, now: u64) -> String {
    let number = |n: u64| u32::try_from(n).map_or(f64::INFINITY, f64::from);
    format!("{:+.1} %", (number(now) / number(before) - 1.0) * 100.0)
}

/// The instructions of a process that runs the path.
fn count(dir: &Path, name: &str, units: u64) -> anyhow::Result<u64> {
    let temporary = tempfile::tempdir_in(dir)?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["instructions-one", name, &units.to_string(), "--dir"])
        .arg(temporary.path())
        .output()
        .context("valgrind runs (Debian's package of that name)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{name} failed: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, number) = collected.with_context(|| format!("a count in {said}"))?;
    Ok(number.trim().parse()?)
}

impl One {
    /// Runs the path once.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        let store = dir.join("store");
        Engine::create(&store, &CreateOptions::new(1, 1))?;
        let (engine, _) = Engine::open(&store, Options::default())?;
        match self.path.as_str() {
            "append-64" => append(&engine, self.units, 64),
            "append-1" => append(&engine, self.units, 1),
            "groups-1000" => groups(&engine, self.units),
            "callback" => callbacks(&engine, self.units),
            "scan" => read(&store, engine, self.units, 1024),
            "random" => read(&store, engine, self.units, 1),
            "decode" => decode(dir, self.units),
            other => anyhow::bail!("no path {other:?}"),
        }
    }
}

fn data() -> Arc<[u8]> {
    vec![0x5a; BYTES].into()
}

fn durable(engine: &Engine, batch: WriteBatch) -> anyhow::Result<()> {
    let outcome = engine.write(batch)?.wait();
    anyhow::ensure!(outcome == Outcome::Durable, "the outcome is {outcome:?}");
    Ok(())
}

fn append(engine: &Engine, units: u64, each: u64) -> anyhow::Result<()> {
    engine.create_group(GROUP)?;
    let data = data();
    for first in (1..=units).step_by(usize::try_from(each)?) {
        let mut batch = WriteBatch::with_capacity(usize::try_from(each)?);
        for index in first..first + each {
            batch.append(GROUP, Entry::command(index, 1, data.clone()));
        }
        durable(engine, batch)?;
    }
    Ok(())
}

fn groups(engine: &Engine, units: u64) -> anyhow::Result<()> {
    const GROUPS: u64 = 1000;
    let mut batch = WriteBatch::new();
    for group in 0..GROUPS {
        batch.create_group(GroupId(group));
    }
    durable(engine, batch)?;
    let data = data();
    for index in 1..=units / GROUPS {
        let mut batch = WriteBatch::with_capacity(usize::try_from(GROUPS)?);
        for group in 0..GROUPS {
            batch.append(GroupId(group), Entry::command(index, 1, data.clone()));
        }
        durable(engine, batch)?;
    }
    Ok(())
}

fn callbacks(engine: &Engine, units: u64) -> anyhow::Result<()> {
    engine.create_group(GROUP)?;
    let data = data();
    let (sender, receiver) = std::sync::mpsc::channel();
    for index in 1..=units {
        let mut batch = WriteBatch::new();
        batch.append(GROUP, Entry::command(index, 1, data.clone()));
        let sender = sender.clone();
        engine.write_then(batch, move |outcome| sender.send(outcome).expect("somebody listens"))?;
    }
    drop(sender);
    let durable = receiver.iter().filter(|outcome| *outcome == Outcome::Durable).count();
    anyhow::ensure!(durable as u64 == units, "{durable} of {units} are durable");
    Ok(())
}

/// Appends, then reads what a sealed segment holds, as many at once as `each` says.
fn read(store: &Path, engine: Engine, units: u64, each: u64) -> anyhow::Result<()> {
    append(&engine, PATHS[4].units * 2, 64)?;
    engine.close()?;
    let (engine, _) = Engine::open(store, Options::default())?;
    let all = PATHS[4].units * 2;
    for n in 0..units / each {
        let first = if each == 1 { n * 7919 % all + 1 } else { n * each + 1 };
        let entries = engine.read(GROUP, Index(first)..Index(first + each), u64::MAX)?;
        anyhow::ensure!(black_box(entries).len() as u64 == each, "all that were asked for");
    }
    Ok(())
}

/// Verifies every frame of a store as often as makes the units.
fn decode(dir: &Path, units: u64) -> anyhow::Result<()> {
    let each = PATHS[6].units;
    let store = dir.join("small-segments");
    Engine::create(&store, &CreateOptions { segment_bytes: 1 << 20, ..CreateOptions::new(1, 1) })?;
    let (engine, _) = Engine::open(&store, Options::default())?;
    append(&engine, each, 64)?;
    engine.close()?;
    let (store, _) = Store::open_read_only(store)?;
    for _ in 0..units / each {
        anyhow::ensure!(black_box(store.verify()?).damage.is_empty(), "the store is whole");
    }
    Ok(())
}
