//! `seawall-bench`: what durable writes and an open cost, beside the raw disk in the same run.
//!
//! I own the command line. Absolute figures of a shared disk do not repeat; a ratio to the raw limit
//! of the same round does. I do not know how a workload is driven (see `workload`).

mod open;
mod quick;
mod raw;
mod sample;
mod workload;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures seawall beside the raw disk.
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
    /// One-by-one and 64-caller durable appends of seawall, with the ratio to raw.
    Quick(quick::Args),
    /// One thread, pwrite and fdatasync into a zero-filled file: the limit.
    Raw(raw::Args),
    /// The time and the peak memory of an open, by the size of the store.
    Open(open::Args),
    /// One open in a process of its own.
    #[command(hide = true)]
    OpenOne(open::One),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let dir = cli.dir.unwrap_or_else(std::env::temp_dir);
    let result = match cli.command {
        Command::Quick(args) => args.run(&dir),
        Command::Raw(args) => args.run(&dir),
        Command::Open(args) => args.run(&dir),
        Command::OpenOne(args) => args.run(),
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
