//! `seawall-bench`: what durable writes and an open cost, beside the raw disk and other engines.
//!
//! I own the command line. Absolute figures of a shared disk do not repeat; a ratio to the raw limit
//! of the same round does. I do not know how a workload is driven (see the library).

mod backends;
mod child;
mod compare;
mod engines;
mod environment;
mod facets;
mod groups;
mod instructions;
mod open;
mod plots;
mod reads;
mod results;
mod ring;
mod stalls;
mod stats;
mod syncs;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use seawall_bench::{reopen, serve};

/// Measures seawall beside the raw disk and other engines.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Where to put temporary stores; choose the disk to be measured [default: the system's
    /// temporary directory].
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Durable appends of seawall and its peers, as ratios to the raw limit of the same round.
    Compare(compare::Args),
    /// What a comparison kept, as a table.
    Table(compare::TableArgs),
    /// What a comparison kept, as plots.
    Plots(plots::Args),
    /// Compaction, truncation and snapshots of one store, each beside what bounds it.
    Facets(facets::Args),
    /// Votes, scrubs and looks in stores of many groups, beside one of few.
    Groups(groups::Args),
    /// The longest waits of callers while a sync stalls, and while segments are recycled.
    Stalls(stalls::Args),
    /// The time and the memory of an open, by the size of the store, beside other engines.
    Open(open::Args),
    /// Scans and random reads, beside other engines and memory.
    Reads(reads::Args),
    /// Ways to make bytes durable: descriptions that sync, direct I/O, a ring.
    Backends(backends::Args),
    /// Fills a store.
    #[command(hide = true)]
    Fill(reopen::Fill),
    /// Opens a store that was filled, and serves reads of it.
    #[command(hide = true)]
    Reopen(reopen::Reopen),
    /// User instructions of the hot paths, beside the stored baseline.
    Instructions(instructions::Args),
    /// One path, to be counted.
    #[command(hide = true)]
    InstructionsOne(instructions::One),
    /// Serves measurements of one engine on one workload.
    #[command(hide = true)]
    Serve(ServeArgs),
}

#[derive(clap::Args)]
struct ServeArgs {
    #[arg(long)]
    engine: String,
    #[arg(long)]
    workload: String,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let dir = cli.dir.unwrap_or_else(std::env::temp_dir);
    let result = match cli.command {
        Command::Compare(args) => args.run(&dir),
        Command::Table(args) => args.run(),
        Command::Plots(args) => args.run(),
        Command::Facets(args) => args.run(&dir),
        Command::Groups(args) => args.run(&dir),
        Command::Stalls(args) => args.run(&dir),
        Command::Open(args) => args.run(&dir),
        Command::Reads(args) => args.run(&dir),
        Command::Backends(args) => args.run(&dir),
        Command::Fill(args) => args.run(serve::open),
        Command::Reopen(args) => args.run(serve::open),
        Command::Instructions(args) => args.run(&dir),
        Command::InstructionsOne(args) => args.run(&dir),
        Command::Serve(ServeArgs { engine, workload }) => {
            serve::Args { engine, workload, dir }.run(serve::open)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("seawall-bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
