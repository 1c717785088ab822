//! `crashcheck calibrate`: arguments, report, exit codes.
//!
//! I own what a user types and reads, and which profile a file system is held against. I compare nothing
//! myself.

use std::time::Instant;

use clap::Args;
use serde_json::json;

use crate::block::fs::FileSystem;
use crate::calibrate::campaign::{Settings, Total, run as calibrate};
use crate::calibrate::litmus::{LITMUS, Litmus};
use crate::cli::{Exit, bar, print, print_json};
use crate::core::profile::Profile;

/// Shows on the real file systems of this kernel that each profile predicts every outcome seen.
#[derive(Args, Debug)]
pub struct CalibrateArgs {
    /// The file system; several are done in turn
    #[arg(long, value_enum, required = true)]
    fs: Vec<FileSystem>,
    /// Hold it against this profile instead of its own
    #[arg(long, value_parser = Profile::parse)]
    profile: Option<Profile>,
    /// More options of mount; noauto_da_alloc and data=writeback choose the profile of ext4
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    mount_args: String,
    /// Of the litmus programs, this one
    #[arg(long, value_name = "NAME", value_parser = named)]
    litmus: Option<&'static Litmus>,
    /// The most states of one recorded run
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    states: u32,
    /// Record one in so many of the runs; 1 is all of them
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Names the choice of states
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Devices at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

fn named(name: &str) -> Result<&'static Litmus, String> {
    let found = LITMUS.iter().find(|litmus| litmus.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = LITMUS.iter().map(|litmus| litmus.name).collect();
        format!("the litmus programs are: {}", names.join("; "))
    })
}

/// The profile of a file system mounted with these options.
#[must_use]
pub fn profile_of(fs: FileSystem, mount_options: &str) -> Profile {
    let has = |option| mount_options.split(',').any(|one| one.trim() == option);
    match fs {
        FileSystem::Ext4 if has("data=writeback") => Profile::Ext4Writeback,
        FileSystem::Ext4 if has("noauto_da_alloc") => Profile::Ext4NoAutoDaAlloc,
        FileSystem::Ext4 => Profile::Ext4,
        FileSystem::Xfs => Profile::Xfs,
        FileSystem::Btrfs => Profile::Btrfs,
    }
}

/// Runs the command.
///
/// # Errors
/// If something that is needed is missing, or fails.
pub fn run(args: &CalibrateArgs) -> anyhow::Result<Exit> {
    let mut totals = Vec::new();
    for fs in &args.fs {
        let settings = Settings {
            fs: *fs,
            mount_options: args.mount_args.clone(),
            profile: args.profile.unwrap_or_else(|| profile_of(*fs, &args.mount_args)),
            litmus: args.litmus.map_or_else(|| LITMUS.iter().collect(), |one| vec![one]),
            states: args.states as usize,
            every: args.every as usize,
            seed: args.seed,
            jobs: usize::from(args.jobs),
        };
        let started = Instant::now();
        let bar = bar(settings.litmus.len() as u64);
        let rows = calibrate(&settings, &|row| {
            bar.inc(1);
            bar.set_message(row.litmus);
        })?;
        bar.finish_and_clear();
        let total = Total::new(&settings, rows, started);
        print(&text(&total))?;
        totals.push(total);
    }
    let passed = totals.iter().all(Total::is_contained);
    let verdict = if passed { "PASS" } else { "FAIL" };
    print(&format!("{verdict}\n"))?;
    print_json(args.json, &json!({ "verdict": verdict, "seed": args.seed, "fs": totals }))?;
    Ok(if passed { Exit::Pass } else { Exit::Finding })
}

fn text(total: &Total) -> String {
    let fs = total.fs.name();
    let mut text =
        format!("{fs:40} {:>5} {:>9} {:>6} {:>6} {:>6}\n", "seen", "predicted", "excess", "runs", "states");
    for row in &total.rows {
        text.push_str(&format!(
            "  {:38} {:5} {:9} {:6} {:6} {:6}{}\n",
            row.litmus,
            row.outcomes_seen,
            row.outcomes_predicted,
            row.excess,
            row.runs,
            row.states,
            if row.contained { "" } else { "  NOT CONTAINED" }
        ));
        for wrong in &row.violations {
            text.push_str(&format!(
                "    the profile {} forbids what was seen after {} operations, with {}:\n      {}\n",
                total.profile, wrong.returned, wrong.pushed, wrong.outcome
            ));
        }
    }
    text.push_str(&format!(
        "{fs} against the profile {}: {} of {} contained; outcomes: {} seen, {} predicted, excess {}; {} runs, {} \
         states, {:.1} s\n",
        total.profile,
        total.contained,
        total.litmus,
        total.outcomes_seen,
        total.outcomes_predicted,
        total.excess,
        total.runs,
        total.states,
        total.seconds
    ));
    text
}
