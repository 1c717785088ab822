//! What a comparison measured, as a file, as rows and as a table.
//!
//! I own the form in which results are kept: for each engine on each workload the rate of every round and
//! one histogram of all latencies. (B6) A ratio divides by the raw limit of its own round. (B7) An engine
//! that acknowledged a lone caller without a sync is listed apart: it did other work. I measure nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use seawall_bench::sample::{Latencies, Sample};
use seawall_bench::workload::{Shape, Workload};
use serde::{Deserialize, Serialize};

use crate::engines::RAW;
use crate::environment::Environment;
use crate::stats::{Estimate, median};
use crate::syncs::Syncs;

/// A comparison.
#[derive(Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) environment: Environment,
    pub(crate) rounds: u32,
    pub(crate) milliseconds: u64,
    #[serde(default)]
    pub(crate) conditions: Conditions,
    #[serde(default)]
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) records: Vec<Record>,
}

/// What made it harder for all alike.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Conditions {
    /// How many microseconds longer each sync took.
    pub(crate) slow_us: Option<u32>,
    /// Whether a neighbour wrote and synced.
    pub(crate) neighbour: bool,
}

/// An engine that was not measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    pub(crate) engine: String,
    /// The workload, if not all.
    pub(crate) workload: Option<String>,
    pub(crate) why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = self.workload.as_ref().map_or(String::new(), |workload| format!(" on {workload}"));
        write!(f, "{} is left out{on}: {}", self.engine, self.why)
    }
}

/// One engine on one workload.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) workload: String,
    pub(crate) engine: String,
    /// Acknowledgements and seconds of each round.
    rounds: Vec<(u64, f64)>,
    /// Latencies of all rounds in nanoseconds, and how often each was seen.
    latencies: Vec<(u64, u64)>,
    /// The acknowledgements of a measurement apart, and the syncs that it made; `None` without ptrace.
    counted: Option<(u64, Syncs)>,
}

/// What is said of one engine on one workload.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) engine: String,
    /// The median of the rounds' ratios.
    pub(crate) ratio_to_raw: f64,
    /// In this interval lie 95 % of the medians of resampled rounds.
    pub(crate) ratio_low: f64,
    pub(crate) ratio_high: f64,
    /// Medians of the rounds.
    acks_per_second: f64,
    entries_per_second: f64,
    /// Over all rounds.
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    /// Calls that make bytes durable for each acknowledgement; `None` where ptrace is not allowed.
    syncs_per_ack: Option<f64>,
    syncs: Option<Syncs>,
    /// Whether the engine synced for each acknowledgement of a lone caller.
    pub(crate) synced: bool,
}

fn number(n: u64) -> f64 {
    u32::try_from(n).map_or(f64::INFINITY, f64::from)
}

impl Record {
    pub(crate) fn new(
        workload: &Workload,
        engine: &str,
        rounds: &[Sample],
        counted: Option<(u64, Syncs)>,
    ) -> anyhow::Result<Self> {
        let mut all = Latencies::default();
        for sample in rounds {
            all.add(&sample.latencies()?);
        }
        Ok(Self {
            workload: workload.name.to_owned(),
            engine: engine.to_owned(),
            rounds: rounds.iter().map(|sample| (sample.acks, sample.seconds)).collect(),
            latencies: all.counts(),
            counted,
        })
    }

    /// The rate of each round.
    fn rates(&self) -> Vec<f64> {
        self.rounds.iter().map(|(acks, seconds)| number(*acks) / seconds).collect()
    }

    pub(crate) fn latencies(&self) -> anyhow::Result<Latencies> {
        Latencies::from_counts(&self.latencies)
    }

    fn syncs_per_ack(&self) -> Option<f64> {
        self.counted.as_ref().map(|(acks, syncs)| number(syncs.durable()) / number(*acks))
    }
}

impl Results {
    /// Reads a file that a comparison kept.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not what `compare --keep` wrote", path.display()))
    }

    /// Keeps them in a file.
    pub(crate) fn write(&self, path: &PathBuf) -> anyhow::Result<()> {
        std::fs::write(path, serde_json::to_string(self)?)
            .with_context(|| format!("writing {}", path.display()))
    }

    /// A row for each record.
    pub(crate) fn rows(&self) -> anyhow::Result<Vec<Row>> {
        self.records.iter().map(|record| self.row(record)).collect()
    }

    fn row(&self, record: &Record) -> anyhow::Result<Row> {
        let of =
            |engine: &str| self.records.iter().find(|r| r.workload == record.workload && r.engine == engine);
        let raw = of(RAW).context("the raw limit was measured")?.rates();
        let workload = Workload::named(&record.workload).context("a workload that is known")?;
        let rates = record.rates();
        let ratios: Vec<f64> = rates.iter().zip(raw).map(|(rate, raw)| rate / raw).collect();
        let (ratio, rate, all) = (Estimate::of(&ratios), median(&rates), record.latencies()?);
        let entries = match workload.shape {
            Shape::Callers(_) => workload.batch_entries(),
            Shape::Deep(_) => 1,
        };
        Ok(Row {
            workload: record.workload.clone(),
            engine: record.engine.clone(),
            ratio_to_raw: ratio.median,
            ratio_low: ratio.low,
            ratio_high: ratio.high,
            acks_per_second: rate,
            entries_per_second: rate * number(entries),
            p50_us: all.quantile_us(0.5),
            p99_us: all.quantile_us(0.99),
            p999_us: all.quantile_us(0.999),
            max_us: all.max_us(),
            syncs_per_ack: record.syncs_per_ack(),
            syncs: record.counted.as_ref().map(|(_, syncs)| syncs.clone()),
            synced: self.synced(&record.engine),
        })
    }

    /// Whether no workload shows that an engine acknowledged a lone caller without a sync.
    fn synced(&self, engine: &str) -> bool {
        let alone = |r: &&Record| Workload::named(&r.workload).is_some_and(|w| w.shape == Shape::Callers(1));
        let own = self.records.iter().filter(|r| r.engine == engine).filter(alone);
        own.filter_map(Record::syncs_per_ack).all(|syncs| syncs > 0.99)
    }
}

const HEAD: &str = "\
| workload | engine | ratio to raw | 95 % | entries/s | p50 us | p99 us | p99.9 us | max us | syncs/ack |
|---|---|---:|---|---:|---:|---:|---:|---:|---:|";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, engine, ratio_to_raw, ratio_low, ratio_high, .. } = self;
        let syncs = self.syncs_per_ack.map_or_else(|| "not measured".to_owned(), |n| format!("{n:.3}"));
        write!(
            f,
            "| {workload} | {engine} | {ratio_to_raw:.2} | {ratio_low:.2} to {ratio_high:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {syncs} |",
            self.entries_per_second, self.p50_us, self.p99_us, self.p999_us, self.max_us
        )
    }
}

/// The results as a page.
pub(crate) struct Table<'a>(pub(crate) &'a Results, pub(crate) &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Results { environment, rounds, milliseconds, conditions, left_out, .. }, rows) = self;
        let Environment { kernel, file_system, device, processors, commit, date } = environment;
        writeln!(
            f,
            "{date}, Linux {kernel}, {file_system} on {device}, {processors} processors, commit {commit}, {rounds} rounds of {milliseconds} ms"
        )?;
        if let Some(micros) = conditions.slow_us {
            writeln!(f, "Each sync took {micros} microseconds longer (strace).")?;
        }
        if conditions.neighbour {
            writeln!(f, "A neighbour wrote and synced a MiB over and over on the same disk.")?;
        }
        left_out.iter().try_for_each(|left| writeln!(f, "{left}."))?;
        if conditions.slow_us.is_none() && !conditions.neighbour {
            targets(f, rows)?;
        }
        writeln!(f)?;
        let (synced, apart): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.synced);
        writeln!(f, "{HEAD}")?;
        synced.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        if !apart.is_empty() {
            writeln!(f, "\nNot comparable: acknowledged without a sync.\n\n{HEAD}")?;
            apart.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        }
        Ok(())
    }
}

/// What seawall reached of what it is to reach, and the best of the others that sync.
fn targets(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    let of = |row: &&Row| row.engine == "seawall";
    if !rows.iter().any(|row| of(&row)) {
        return Ok(());
    }
    writeln!(
        f,
        "\n| workload | target | reached | missed by | best of the others |\n|---|---:|---:|---:|---|"
    )?;
    for row in rows.iter().filter(of) {
        let Some(target) = Workload::named(&row.workload).and_then(|w| w.target) else { continue };
        let is_other = |other: &&Row| {
            let own =
                [RAW, "raw-8", "seawall", "seawall-512", "seawall-batched"].contains(&other.engine.as_str());
            other.workload == row.workload && other.synced && !own
        };
        let best = rows.iter().filter(is_other).max_by(|a, b| a.ratio_to_raw.total_cmp(&b.ratio_to_raw));
        let best = best.map_or_else(String::new, |best| format!("{} {:.2}", best.engine, best.ratio_to_raw));
        let missed = target - row.ratio_to_raw;
        let missed = if missed < 0.005 { "-".to_owned() } else { format!("{missed:.2}") };
        writeln!(f, "| {} | {target:.2} | {:.2} | {missed} | {best} |", row.workload, row.ratio_to_raw)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(workload: &str, engine: &str, acks: u64, syncs: u64) -> Record {
        let counted = Some((acks, Syncs { fdatasync: syncs, ..Syncs::default() }));
        let latencies = vec![(100_000, acks)];
        Record {
            workload: workload.to_owned(),
            engine: engine.to_owned(),
            rounds: vec![(acks, 1.0); 3],
            latencies,
            counted,
        }
    }

    #[test]
    fn who_does_not_sync_stands_apart() {
        let environment = Environment::of(&std::env::temp_dir()).expect("Linux tells");
        let records = vec![
            record("W1-256", RAW, 100, 100),
            record("W2", RAW, 1000, 20),
            record("W1-256", "honest", 50, 50),
            record("W2", "honest", 500, 10),
            record("W1-256", "quick", 200, 0),
            record("W2", "quick", 2000, 20),
        ];
        let (conditions, left_out) = (Conditions::default(), Vec::new());
        let results = Results { environment, rounds: 3, milliseconds: 1000, conditions, left_out, records };
        let rows = results.rows().expect("raw is there");
        let ratios: Vec<f64> = rows.iter().map(|row| row.ratio_to_raw).collect();
        assert_eq!(
            ratios.iter().map(|r| format!("{r:.1}")).collect::<Vec<_>>(),
            ["1.0", "1.0", "0.5", "0.5", "2.0", "2.0"]
        );
        let page = Table(&results, &rows).to_string();
        let (synced, apart) = page.split_once("Not comparable").expect("one does not sync");
        assert!(synced.contains("| W2 | honest |") && !synced.contains("quick"), "{page}");
        assert!(apart.contains("| W1-256 | quick |") && apart.contains("| W2 | quick |"), "{page}");
    }
}
