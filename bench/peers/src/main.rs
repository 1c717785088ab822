//! The engines that seawall is measured beside, each driven through the same lines.
//!
//! I own the table of engines. A process of mine serves one measurement (see `seawall_bench::serve`). I
//! do not know what is compared with what.

#[cfg(feature = "more")]
mod more;
mod okaywal;
mod raft_engine;
#[cfg(feature = "rocksdb")]
mod rocksdb;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use seawall_bench::reopen;
use seawall_bench::serve;
use seawall_bench::subject::Subject;
use seawall_bench::workload::Workload;

/// Measures the peers of seawall.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves measurements of one engine on one workload.
    Serve(serve::Args),
    /// Fills a store.
    Fill(reopen::Fill),
    /// Opens a store that was filled, and serves reads of it.
    Reopen(reopen::Reopen),
}

fn open(engine: &str, dir: &Path, _workload: &Workload) -> anyhow::Result<Option<Arc<dyn Subject>>> {
    Ok(Some(match engine {
        "raft-engine" => Arc::new(raft_engine::Peer::open(dir)?),
        "okaywal" => Arc::new(okaywal::Peer::open(dir)?),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => Arc::new(rocksdb::Peer::open(dir)?),
        #[cfg(feature = "more")]
        other => return more::open(other, dir),
        #[cfg(not(feature = "more"))]
        _ => return Ok(None),
    }))
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => args.run(open),
        Command::Fill(args) => args.run(open),
        Command::Reopen(args) => args.run(open),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("seawall-bench-peers: {e:#}");
            ExitCode::FAILURE
        }
    }
}
