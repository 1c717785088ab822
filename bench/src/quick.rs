//! `seawall-bench quick`: seawall and raw in interleaved rounds.
//!
//! I own the order of measurements and the ratio: seawall divided by raw of the same round, then the
//! median over the rounds. Ratios that differ by less than 15 % are a tie on a shared disk.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::raw;
use crate::sample::{Figures, median};
use crate::workload::{self, QUICK};

/// Measure durable appends beside raw.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds; each measures every workload once with raw and once with seawall.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    workload: &'static str,
    raw: Figures,
    seawall: Figures,
    ratio: f64,
}

impl Args {
    /// Measures, then prints the medians.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        let time = Duration::try_from_secs_f64(self.seconds)?;
        let mut rounds: Vec<Vec<(Figures, Figures)>> = QUICK.iter().map(|_| Vec::new()).collect();
        for round in 0..self.rounds {
            for (workload, seen) in QUICK.iter().zip(&mut rounds) {
                eprintln!("round {} of {}: {}", round + 1, self.rounds, workload.name);
                // Who goes first changes, so that neither always meets the disk as the other left it.
                let pair = if round % 2 == 0 {
                    let raw = raw::measure(dir, workload, time)?;
                    (raw, workload::seawall(dir, workload, time)?)
                } else {
                    let seawall = workload::seawall(dir, workload, time)?;
                    (raw::measure(dir, workload, time)?, seawall)
                };
                seen.push((pair.0.figures(), pair.1.figures()));
            }
        }
        let rows: Vec<Row> =
            QUICK.iter().zip(&rounds).map(|(workload, seen)| Row::new(workload.name, seen)).collect();
        self.print(&rows)?;
        Ok(())
    }

    fn print(&self, rows: &[Row]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            let value = serde_json::json!({ "rounds": self.rounds, "seconds": self.seconds, "rows": rows });
            return writeln!(out, "{value}");
        }
        writeln!(
            out,
            "{:<22} {:>12} {:>12} {:>7} {:>10} {:>10}",
            "", "raw/s", "seawall/s", "ratio", "p50 us", "p99 us"
        )?;
        for row in rows {
            writeln!(
                out,
                "{:<22} {:>12.0} {:>12.0} {:>7.2} {:>10.0} {:>10.0}",
                row.workload,
                row.raw.per_second,
                row.seawall.per_second,
                row.ratio,
                row.seawall.p50_us,
                row.seawall.p99_us
            )?;
        }
        writeln!(out, "medians of {} rounds; the ratio is that of each round, then its median", self.rounds)
    }
}

impl Row {
    fn new(workload: &'static str, rounds: &[(Figures, Figures)]) -> Self {
        let of = |pick: fn(&(Figures, Figures)) -> f64| median(rounds.iter().map(pick));
        Self {
            workload,
            raw: Figures {
                per_second: of(|r| r.0.per_second),
                p50_us: of(|r| r.0.p50_us),
                p99_us: of(|r| r.0.p99_us),
            },
            seawall: Figures {
                per_second: of(|r| r.1.per_second),
                p50_us: of(|r| r.1.p50_us),
                p99_us: of(|r| r.1.p99_us),
            },
            ratio: of(|r| r.1.per_second / r.0.per_second),
        }
    }
}
