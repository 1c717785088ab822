//! Exit codes and failures.
//!
//! I own the table of exit codes, which scripts rely on, and which code an error of the library
//! becomes. Every failure carries a next step. I do not print.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use seawall::{Error, Outcome};

use crate::print::word;

/// The table of exit codes, as `--help` shows it.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done; also when the reader of the output has gone away
  1  the store is damaged
  2  the command line asks for something that cannot be done
  3  not a store, or the store refuses: locked, of another node, made by a newer program, in the way
  4  an input or output error";

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// The store is damaged.
    Damage = 1,
    /// The command line asks for something that cannot be done. clap uses the same number.
    Usage = 2,
    /// Not a store, or the store refuses.
    Refused = 3,
    /// An input or output error.
    Io = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a subcommand could not do what it was asked, and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
    next: String,
    closed_pipe: bool,
}

impl Failure {
    fn new(exit: Exit, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { exit, what: what.into(), next: next.into(), closed_pipe: false }
    }

    /// The command line asks for something that cannot be done.
    pub(crate) fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, next)
    }

    /// The store refuses.
    pub(crate) fn refused(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Exit::Refused, what, next)
    }

    /// A batch was written, and the store does not say that it is durable.
    pub(crate) fn unconfirmed(dir: &Path, outcome: Outcome) -> Self {
        Self::new(
            Exit::Io,
            format!("{}: a batch is not confirmed (its outcome is {outcome:?})", dir.display()),
            "mend the disk, then look with `seawall status` at what is there before going on",
        )
    }

    /// Reading the input failed.
    pub(crate) fn input(name: &str, error: &io::Error) -> Self {
        Self::new(Exit::Io, format!("{name}: {error}"), "check that the file is there and readable")
    }

    /// Writing the output failed.
    pub(crate) fn output(error: io::Error) -> Self {
        let mut failure = Self::new(
            Exit::Io,
            format!("standard output: {error}"),
            "check what the output is redirected to; the store itself is not affected",
        );
        failure.closed_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        failure
    }

    /// The library said no.
    pub(crate) fn store(dir: &Path, error: Error) -> Self {
        let (exit, next) = advice(&error);
        Self::new(exit, format!("{}: {}", dir.display(), chain(&error)), next)
    }

    /// The same failure with more to say about what happened before it.
    pub(crate) fn after(mut self, fact: &str) -> Self {
        self.what = format!("{}; {fact}", self.what);
        self
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether the reader of the output has gone away.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.closed_pipe
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  next: {}", word(&self.what), word(&self.next))
    }
}

impl From<io::Error> for Failure {
    /// Commands use `?` on nothing but their output.
    fn from(error: io::Error) -> Self {
        Self::output(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::output(error.into())
    }
}

/// The error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The exit code of an error, and what to do about it where its own words do not say.
fn advice(error: &Error) -> (Exit, &'static str) {
    match error {
        Error::Corrupt { .. } | Error::Damaged { .. } | Error::Snapshot { .. } | Error::Unusual { .. } => {
            (Exit::Damage, "keep a copy of the directory; `seawall verify` names the damaged bytes")
        }
        Error::Io { .. } => (Exit::Io, "mend the file system or the permissions, then run it again"),
        Error::NoSpace { .. } => (Exit::Io, "free space on the file system, then run it again"),
        Error::OutOfDescriptors { .. } => (Exit::Io, "`ulimit -n 1024` is enough for any store"),
        Error::Poisoned { .. } | Error::NotAcknowledged { .. } => {
            (Exit::Io, "mend the disk, then look with `seawall status` at what is there before going on")
        }
        Error::TooLarge { .. } => (Exit::Usage, "cut the input into smaller entries"),
        Error::StateFull { .. } => (Exit::Usage, "remove groups, or create a store with larger segments"),
        Error::InvalidOption { .. } => (Exit::Usage, "change the option; `--help` names the defaults"),
        Error::Compacted { .. } | Error::PastEnd { .. } | Error::UnknownGroup { .. } => {
            (Exit::Usage, "run `seawall status` to see which groups and indexes there are")
        }
        Error::CreationIncomplete => {
            (Exit::Refused, "remove the directory, then create it again with `seawall create`")
        }
        Error::NotEmpty { .. } => (Exit::Refused, "name a new directory, or an empty one"),
        Error::NotAStore { .. } => (Exit::Refused, "check the path; `seawall create` makes a store"),
        _ => (Exit::Refused, "run `seawall status` on the directory to see what is there"),
    }
}
