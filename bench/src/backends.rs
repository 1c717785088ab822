//! `seawall-bench backends`: ways to make bytes durable in a file that was filled with zeros.
//!
//! I own what was weighed before the engine was given pwrite and fdatasync: a description with `O_DSYNC`,
//! one with `O_DIRECT` too, a ring, and the same by eight threads at once, each with a description of its
//! own. In a round each is measured once; ratios are to pwrite and fdatasync of the same round.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use nix::libc::{O_DIRECT, O_DSYNC};

use crate::ring::Ring;
use crate::stats::{Estimate, median};

/// Sizes of a write.
const SIZES: [usize; 3] = [512, 4096, 65536];
/// The threads.
const THREADS: [usize; 2] = [1, 8];
/// The part of the file that a thread has.
const PART: usize = 8 << 20;

/// A way to make bytes durable.
#[derive(Clone, Copy, Debug)]
enum Way {
    Sync,
    Dsync,
    DirectDsync,
    DirectSync,
    Ring,
}

const WAYS: [(Way, &str); 5] = [
    (Way::Sync, "pwrite, fdatasync"),
    (Way::Dsync, "O_DSYNC"),
    (Way::DirectSync, "O_DIRECT, fdatasync"),
    (Way::DirectDsync, "O_DIRECT, O_DSYNC"),
    (Way::Ring, "io_uring, write and fsync linked"),
];

/// Measure ways to make bytes durable.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Milliseconds of one measurement.
    #[arg(long, default_value_t = 100)]
    milliseconds: u64,
}

/// One thread's file.
enum Open {
    File { file: File, syncs: bool },
    Ring(Box<Ring>),
}

impl Way {
    fn open(self, path: &Path) -> io::Result<Open> {
        let (flags, syncs) = match self {
            Self::Sync | Self::Ring => (0, true),
            Self::Dsync => (O_DSYNC, false),
            Self::DirectDsync => (O_DIRECT | O_DSYNC, false),
            Self::DirectSync => (O_DIRECT, true),
        };
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
        Ok(match self {
            Self::Ring => Open::Ring(Box::new(Ring::new(file)?)),
            _ => Open::File { file, syncs },
        })
    }
}

impl Open {
    fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Ring(ring) => ring.write(bytes, offset),
            Self::File { file, syncs } => {
                file.write_all_at(bytes, offset)?;
                if *syncs { file.sync_data() } else { Ok(()) }
            }
        }
    }
}

impl Args {
    /// Measures, then prints a row for each way.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        let mut zeros = tempfile::NamedTempFile::new_in(dir)?;
        let piece = vec![0; 1 << 20];
        let most = THREADS[THREADS.len() - 1];
        (0..most * PART / piece.len()).try_for_each(|_| zeros.write_all(&piece))?;
        zeros.as_file().sync_all()?;
        let mut out = io::stdout().lock();
        writeln!(out, "| bytes | threads | way | writes/s | ratio | 95 % |\n|---:|---:|---|---:|---:|---|")?;
        for (bytes, threads) in SIZES.iter().flat_map(|bytes| THREADS.map(|threads| (*bytes, threads))) {
            let time = Duration::from_millis(self.milliseconds);
            let mut rates = WAYS.map(|_| Vec::new());
            for round in 0..usize::try_from(self.rounds)? {
                for turn in 0..WAYS.len() {
                    let at = (round + turn) % WAYS.len();
                    rates[at].push(rate(WAYS[at].0, zeros.path(), bytes, threads, time)?);
                }
            }
            for ((_, name), of) in WAYS.iter().zip(&rates) {
                let ratios: Vec<f64> = of.iter().zip(&rates[0]).map(|(rate, first)| rate / first).collect();
                let Estimate { median: ratio, low, high } = Estimate::of(&ratios);
                let rate = median(of);
                writeln!(
                    out,
                    "| {bytes} | {threads} | {name} | {rate:.0} | {ratio:.2} | {low:.2} to {high:.2} |"
                )?;
            }
        }
        Ok(())
    }
}

/// Writes a second, of all threads together.
fn rate(way: Way, path: &Path, bytes: usize, threads: usize, time: Duration) -> anyhow::Result<f64> {
    let together = Barrier::new(threads);
    let one = |thread: usize| -> anyhow::Result<f64> {
        let mut open = way.open(path)?;
        // A mapping begins with a page, as O_DIRECT asks.
        let mut buffer = MmapMut::map_anon(bytes)?;
        buffer.fill(7);
        together.wait();
        let (begun, mut count) = (Instant::now(), 0u32);
        while begun.elapsed() < time {
            let at = thread * PART + usize::try_from(count)? * bytes % PART;
            open.write(&buffer, at as u64)?;
            count += 1;
        }
        Ok(f64::from(count) / begun.elapsed().as_secs_f64())
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        running.into_iter().map(|one| one.join().expect("a thread of a measurement")).sum()
    })
}
