//! `seawall`: the operator's command.
//!
//! I own the command line and the way out of the process: one exit code, one message, and an end
//! without noise when the reader of my output has gone away. I do not know what a subcommand does
//! (see [`commands`]) nor what the bytes of a store mean (see the library).

mod commands;
mod exit;
mod print;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::{Exit, Failure};

/// Looks into a seawall store, and writes to one only where the subcommand's name says so.
#[derive(Parser)]
#[command(version, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Status(commands::status::Args),
    Dump(commands::dump::Args),
    Verify(commands::verify::Args),
    History(commands::history::Args),
    Read(commands::read::Args),
    Append(commands::append::Args),
    Create(commands::create::Args),
}

impl Command {
    fn run(&self, out: &mut impl Write) -> Result<Exit, Failure> {
        match self {
            Self::Status(args) => args.run(out),
            Self::Dump(args) => args.run(out),
            Self::Verify(args) => args.run(out),
            Self::History(args) => args.run(out),
            Self::Read(args) => args.run(out),
            Self::Append(args) => args.run(out),
            Self::Create(args) => args.run(out),
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() => {
            // It quotes arguments, which may be the names of files.
            e.render().to_string().lines().for_each(|line| eprintln!("{}", print::word(line)));
            return Exit::Usage.into();
        }
        Err(e) => e.exit(),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = cli.command.run(&mut out).and_then(|exit| {
        out.flush().map_err(Failure::output)?;
        Ok(exit)
    });
    match result {
        Ok(exit) => exit.into(),
        Err(failure) if failure.is_closed_pipe() => Exit::Ok.into(),
        Err(failure) => {
            // What was written so far is true, and belongs before the message.
            let _ = out.flush();
            eprintln!("seawall: {failure}");
            failure.exit().into()
        }
    }
}
