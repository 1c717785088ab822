//! `seawall-bench groups`: what a call costs in a store of many groups, beside the same in one of few.
//!
//! I own the sizes and the calls: a first vote of each group, one after the other, as in an election storm; a
//! scrub; a look at all groups. A figure is of one call, its ratio to that at the smallest size, the median of the
//! rounds. What grows with the number of groups is seen here and nowhere else.

use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::ensure;
use seawall::{CreateOptions, Engine, Entry, GroupId, Options, Outcome, Vote, WriteBatch};
use serde::Serialize;

use crate::stats::Estimate;

/// Measure votes, scrubs and looks in stores of many groups.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Groups, the fewest first.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 20_000])]
    groups: Vec<u64>,
    /// Rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

/// A call at a size.
#[derive(Serialize)]
struct Row {
    groups: u64,
    call: &'static str,
    micros: f64,
    ratio_to_fewest: f64,
}

/// Microseconds of each call, in the order of [`CALLS`].
type Costs = [f64; 3];
const CALLS: [&str; 3] = ["vote, a group", "scrub, a group", "status, a group"];

impl Args {
    /// Measures and prints each call.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        ensure!(self.groups.iter().all(|n| *n > 0), "a store of no groups tells nothing");
        let temporary = tempfile::tempdir_in(dir)?;
        let mut out = io::stdout().lock();
        if !self.json {
            writeln!(out, "| groups | call | us | ratio to the fewest |\n|---:|---|---:|---:|")?;
        }
        let mut fewest = None;
        for groups in &self.groups {
            let one = |round| measure(&temporary.path().join(format!("{groups}-{round}")), *groups);
            let rounds = (0..self.rounds).map(one).collect::<anyhow::Result<Vec<Costs>>>()?;
            let median = |call: usize| {
                Estimate::of(&rounds.iter().map(|costs| costs[call]).collect::<Vec<_>>()).median
            };
            let costs: Costs = std::array::from_fn(median);
            let base = *fewest.get_or_insert(costs);
            for (n, call) in CALLS.into_iter().enumerate() {
                let row =
                    Row { groups: *groups, call, micros: costs[n], ratio_to_fewest: costs[n] / base[n] };
                if self.json {
                    writeln!(out, "{}", serde_json::to_string(&row)?)?;
                } else {
                    writeln!(out, "| {groups} | {call} | {:.2} | {:.2} |", row.micros, row.ratio_to_fewest)?;
                }
            }
        }
        Ok(())
    }
}

/// A store of so many groups with an entry each; then each call, and its microseconds a group.
fn measure(store: &Path, groups: u64) -> anyhow::Result<Costs> {
    Engine::create(store, &CreateOptions::new(1, 1))?;
    let (engine, _) = Engine::open(store, Options::default())?;
    let ids: Vec<u64> = (1..=groups).collect();
    for some in ids.chunks(500) {
        let mut batch = WriteBatch::new();
        for id in some {
            batch.create_group(GroupId(*id)).append(GroupId(*id), Entry::command(1, 1, vec![7; 64]));
        }
        ensure!(engine.write(batch)?.wait() == Outcome::Durable, "the store failed");
    }
    let each = |begun: Instant| begun.elapsed().as_secs_f64() * 1e6 / groups as f64;
    let begun = Instant::now();
    let mut last = None;
    for id in &ids {
        let mut batch = WriteBatch::new();
        batch.vote(GroupId(*id), Vote::new(2, 0, *b"candidate 1"));
        last = Some(engine.write_timeout(batch, std::time::Duration::from_secs(60))?);
    }
    let settled = last.map(|ticket| ticket.wait());
    ensure!(settled == Some(Outcome::Durable), "the store failed");
    let vote = each(begun);
    let begun = Instant::now();
    ensure!(engine.scrub(u64::MAX)?.entries == groups, "an entry was passed over");
    let scrub = each(begun);
    let begun = Instant::now();
    ensure!(engine.status().groups.len() as u64 == groups, "a group was passed over");
    let status = each(begun);
    engine.close()?;
    std::fs::remove_dir_all(store)?;
    Ok([vote, scrub, status])
}
