//! `seawall-bench open`: what an open costs, by the size of the store.
//!
//! I own the stores that are opened and the process in which each open is measured: a process of its
//! own, because peak memory never falls. Files are in the page cache ("warm"). A store is measured
//! twice: closed cleanly, and left without a close.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context;
use seawall::{CreateOptions, Engine, Entry, GroupId, Options, WriteBatch};
use serde::{Deserialize, Serialize};

const ENTRY_BYTES: usize = 1024;
const BATCH_ENTRIES: u64 = 1000;
const GROUP: GroupId = GroupId(1);

/// Measure an open by the size of the store.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Sizes in MiB of 1 KiB entries.
    #[arg(long, value_delimiter = ',', default_value = "16,64,256")]
    sizes: Vec<u64>,
    /// A JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

/// Open the store, print one JSON object.
#[derive(clap::Args)]
pub(crate) struct One {
    dir: PathBuf,
}

/// What one open cost.
#[derive(Serialize, Deserialize)]
struct Cost {
    seconds: f64,
    base_kib: u64,
    peak_kib: u64,
}

#[derive(Serialize)]
struct Row {
    mib: u64,
    entries: u64,
    clean: bool,
    #[serde(flatten)]
    cost: Cost,
    bytes_per_entry: f64,
}

impl Args {
    /// Measures and prints each size.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if !self.json {
            writeln!(
                out,
                "{:>8} {:>10} {:>8} {:>9} {:>9} {:>9} {:>12}",
                "MiB", "entries", "closed", "ms", "base KiB", "peak KiB", "B per entry"
            )?;
        }
        for &mib in &self.sizes {
            for clean in [true, false] {
                let row = measure(dir, mib, clean)?;
                if self.json {
                    writeln!(out, "{}", serde_json::to_string(&row)?)?;
                } else {
                    row.print(&mut out)?;
                }
            }
        }
        Ok(())
    }
}

impl Row {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{:>8} {:>10} {:>8} {:>9.2} {:>9} {:>9} {:>12.1}",
            self.mib,
            self.entries,
            if self.clean { "yes" } else { "no" },
            self.cost.seconds * 1e3,
            self.cost.base_kib,
            self.cost.peak_kib,
            self.bytes_per_entry
        )
    }
}

impl One {
    /// Opens the store and prints the cost.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let base_kib = peak_kib()?;
        let begun = Instant::now();
        let (engine, _) = Engine::open(&self.dir, Options::default())?;
        let cost = Cost { seconds: begun.elapsed().as_secs_f64(), base_kib, peak_kib: peak_kib()? };
        anyhow::ensure!(engine.groups() == [GROUP], "the store has its group");
        writeln!(io::stdout(), "{}", serde_json::to_string(&cost)?)?;
        Ok(())
    }
}

fn measure(dir: &Path, mib: u64, clean: bool) -> anyhow::Result<Row> {
    let temporary = tempfile::tempdir_in(dir)?;
    let store = temporary.path().join("store");
    let entries = (mib << 20) / ENTRY_BYTES as u64;
    fill(&store, entries, clean)?;
    let output = Command::new(std::env::current_exe()?).arg("open-one").arg(&store).output()?;
    anyhow::ensure!(output.status.success(), "open failed: {}", String::from_utf8_lossy(&output.stderr));
    let cost: Cost = serde_json::from_slice(&output.stdout)?;
    let grown = u32::try_from(cost.peak_kib - cost.base_kib).map(f64::from)? * 1024.0;
    let bytes_per_entry = grown / u32::try_from(entries.max(1)).map(f64::from)?;
    Ok(Row { mib, entries, clean, cost, bytes_per_entry })
}

fn fill(store: &Path, entries: u64, clean: bool) -> anyhow::Result<()> {
    Engine::create(store, &CreateOptions::new(1, 1))?;
    let (engine, _) = Engine::open(store, Options::default())?;
    engine.create_group(GROUP)?;
    let data: std::sync::Arc<[u8]> = vec![0x5a; ENTRY_BYTES].into();
    let mut next = 1;
    while next <= entries {
        let mut batch = WriteBatch::new();
        let end = entries.min(next + BATCH_ENTRIES - 1);
        for index in next..=end {
            batch.append(GROUP, Entry::command(index, 1, data.clone()));
        }
        let outcome = engine.write(batch)?.wait();
        anyhow::ensure!(outcome == seawall::Outcome::Durable, "the outcome is {outcome:?}");
        next = end + 1;
    }
    if clean {
        engine.close()?;
    }
    Ok(())
}

/// The most memory that this process ever held.
fn peak_kib() -> anyhow::Result<u64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("peak memory is read from Linux's /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a line VmHWM")?;
    line.trim().trim_end_matches(" kB").parse().context("a number of KiB")
}
