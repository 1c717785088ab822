//! A store that is filled, opened again in a process of its own, and read.
//!
//! I own what an open costs: its time, and the memory that the process holds then, of which only its own
//! (anonymous) counts against an engine: pages of files are the kernel's to take back. After the open the
//! process serves reads, as [`serve`](crate::serve) serves appends. I do not know who asks.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::serve::Open;
use crate::subject::{Item, Subject};
use crate::workload::{Shape, Workload};

/// Bytes in an entry.
pub const ENTRY_BYTES: u64 = 1024;
/// The engine that is no engine: memory, read as a store would be, which bounds a scan.
pub const MEMORY: &str = "memory";
/// Entries in a batch while a store is filled, and in one call of a scan.
const BATCH: u64 = 1000;

/// Which store.
#[derive(Clone, Debug, clap::Args)]
pub struct Of {
    /// The engine.
    #[arg(long)]
    pub engine: String,
    /// Its directory.
    #[arg(long)]
    pub dir: PathBuf,
    /// MiB of entries of 1 KiB.
    #[arg(long)]
    pub mib: u64,
    /// Groups, which have the entries in turns of a batch.
    #[arg(long, default_value_t = 1)]
    pub groups: u64,
}

/// Fills a store.
#[derive(clap::Args)]
pub struct Fill {
    /// Which.
    #[command(flatten)]
    pub of: Of,
    /// Leave it without a close, as a process that is killed does.
    #[arg(long)]
    pub leave: bool,
}

/// Opens a store that was filled, says what that cost, and serves reads.
#[derive(clap::Args)]
pub struct Reopen {
    /// Which.
    #[command(flatten)]
    pub of: Of,
}

/// What an open cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// How long it took.
    pub seconds: f64,
    /// The process's own memory after it, above what it held before.
    pub anonymous_kib: u64,
    /// Pages of files that were mapped by then.
    pub file_kib: u64,
    /// The most memory of both kinds that the process ever held.
    pub peak_kib: u64,
}

/// What is asked of an open store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// So many entries in order, from the first on and from the first again.
    Scan(u64),
    /// So many entries, one by one, anywhere.
    Random(u64),
    /// How much memory of its own the process holds.
    Memory,
}

/// What is answered: entries a second, or KiB.
pub type Answer = f64;

impl Of {
    /// How many entries there are in each group.
    #[must_use]
    pub fn entries(&self) -> u64 {
        ((self.mib << 20) / ENTRY_BYTES / self.groups).max(1)
    }

    fn open(&self, open: Open) -> anyhow::Result<Arc<dyn Subject>> {
        if self.engine == MEMORY {
            return Ok(Arc::new(InMemory(vec![0x5a; usize::try_from(self.mib << 20)?])));
        }
        let workload = Workload {
            name: "W5",
            what: "a store that is filled and opened again",
            shape: Shape::Callers(1),
            groups: self.groups,
            entries: BATCH,
            bytes: usize::try_from(ENTRY_BYTES)?,
            quick: false,
            target: None,
        };
        open(&self.engine, &self.dir, &workload)?.with_context(|| format!("no engine {:?}", self.engine))
    }
}

impl Fill {
    /// Fills it.
    pub fn run(&self, open: Open) -> anyhow::Result<()> {
        let subject = self.of.open(open)?;
        let mut random = fastrand::Rng::with_seed(1);
        let data: Vec<Arc<[u8]>> =
            (0..64).map(|_| (0..ENTRY_BYTES).map(|_| random.u8(..)).collect()).collect();
        let entries = self.of.entries();
        for first in (1..=entries).step_by(usize::try_from(BATCH)?) {
            let indexes = first..(first + BATCH).min(entries + 1);
            let mut items = Vec::new();
            for group in 0..self.of.groups {
                let at = |index: u64| usize::try_from((group + index) % 64).expect("few");
                items.extend(indexes.clone().map(|index| Item {
                    group,
                    index,
                    data: data[at(index)].clone(),
                }));
                if items.len() as u64 >= BATCH || group + 1 == self.of.groups {
                    subject.append(&items)?;
                    items.clear();
                }
            }
        }
        if self.leave {
            std::process::exit(0);
        }
        Ok(())
    }
}

impl Reopen {
    /// Opens it, says what that cost, and serves reads until standard input ends.
    pub fn run(&self, open: Open) -> anyhow::Result<()> {
        let before = memory("RssAnon")?;
        let begun = Instant::now();
        let subject = self.of.open(open)?;
        let seconds = begun.elapsed().as_secs_f64();
        let cost = Cost {
            seconds,
            anonymous_kib: memory("RssAnon")?.saturating_sub(before),
            file_kib: memory("RssFile")?,
            peak_kib: memory("VmHWM")?,
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&cost)?)?;
        out.flush()?;
        let mut reader =
            Reader { subject, entries: self.of.entries(), next: 1, random: fastrand::Rng::with_seed(2) };
        for line in std::io::stdin().lock().lines() {
            let answer = reader.answer(serde_json::from_str(&line?)?)?;
            writeln!(out, "{}", serde_json::to_string(&answer)?)?;
            out.flush()?;
        }
        Ok(())
    }
}

struct Reader {
    subject: Arc<dyn Subject>,
    entries: u64,
    next: u64,
    random: fastrand::Rng,
}

impl Reader {
    fn answer(&mut self, request: Request) -> anyhow::Result<Answer> {
        match request {
            Request::Scan(count) => {
                let mut left = count;
                timed(count, || {
                    while left > 0 {
                        let many = BATCH.min(left).min(self.entries + 1 - self.next);
                        self.read(self.next, many)?;
                        left -= many;
                        self.next = if self.next + many > self.entries { 1 } else { self.next + many };
                    }
                    Ok(())
                })
            }
            Request::Random(count) => timed(count, || {
                (0..count).try_for_each(|_| {
                    let index = self.random.u64(1..=self.entries);
                    self.read(index, 1)
                })
            }),
            Request::Memory => Ok(u32::try_from(memory("RssAnon")?).map(f64::from)?),
        }
    }

    fn read(&self, first: u64, count: u64) -> anyhow::Result<()> {
        let bytes = black_box(self.subject.read(0, first, count)?);
        anyhow::ensure!(bytes == count * ENTRY_BYTES, "{bytes} bytes of {count} entries");
        Ok(())
    }
}

fn timed(count: u64, run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Answer> {
    let begun = Instant::now();
    run()?;
    Ok(f64::from(u32::try_from(count)?) / begun.elapsed().max(Duration::from_nanos(1)).as_secs_f64())
}

/// A line of `/proc/self/status` (proc_pid_status(5)), in KiB.
fn memory(name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("memory is read from Linux's /proc")?;
    let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let found = found.with_context(|| format!("a line {name}"))?;
    found.trim().trim_end_matches(" kB").parse().context("a number of KiB")
}

/// The entries, one after the other.
struct InMemory(Vec<u8>);

impl Subject for InMemory {
    fn append(&self, _items: &[Item]) -> anyhow::Result<()> {
        Ok(())
    }

    fn forget(&self, _upto: &[(u64, u64)]) -> anyhow::Result<()> {
        Ok(())
    }

    fn read(&self, _group: u64, first: u64, count: u64) -> anyhow::Result<u64> {
        let at = |index: u64| usize::try_from((index - 1) * ENTRY_BYTES).expect("it is in memory");
        let copy = black_box(self.0[at(first)..at(first + count)].to_vec());
        Ok(copy.len() as u64)
    }
}
