//! What is expected of a program without a script of its user's.
//!
//! I own the promises that need no knowledge of the program: that it opens, that an SQLite file is whole,
//! and three oracles that hold the program's dump against what it said while it was recorded. An oracle
//! is a pure function of the history and the dump. (X1) What was acknowledged is there. (X2) What is there
//! was announced. (X3) A history that an oracle cannot read is the harness's fault, no finding. I run
//! nothing (see `checker`).

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::program::checker::Reason;
use crate::program::recording::Note;

pub mod consensus;
pub mod kv;
pub mod log;

/// What is expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// The command succeeds, twice, and says the same.
    Opens,
    /// The SQLite file at this path in the directory is whole.
    Sqlite(String),
    /// The command prints a log, a line each.
    Log,
    /// The command prints a map, a pair in each line.
    Kv,
    /// The command prints the votes and entries of a consensus log.
    Consensus,
}

/// Something that the program did, or was about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'n> {
    /// What.
    pub text: &'n str,
    /// When it was announced, as a place in the history.
    pub begun: usize,
    /// When it was acknowledged, if it was.
    pub acked: Option<usize>,
}

/// What an oracle says: nothing of a history that it cannot read.
pub type Verdict = anyhow::Result<Result<(), Reason>>;

impl Expect {
    /// Reads what stands on the command line.
    ///
    /// # Errors
    /// If it is none of them: which there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "opens" => Ok(Self::Opens),
            "log" => Ok(Self::Log),
            "kv" => Ok(Self::Kv),
            "consensus" => Ok(Self::Consensus),
            _ => match text.strip_prefix("sqlite=").filter(|path| !path.is_empty()) {
                Some(path) => Ok(Self::Sqlite(path.to_owned())),
                None => Err("it is one of opens, sqlite=PATH, log, kv, consensus".to_owned()),
            },
        }
    }

    /// Whether it is judged by what the program said.
    #[must_use]
    pub fn needs_history(&self) -> bool {
        matches!(self, Self::Log | Self::Kv | Self::Consensus)
    }

    /// Holds what a command printed against a history.
    ///
    /// # Errors
    /// If the history is not one of this kind of program.
    pub fn judge(&self, told: &[Note], dump: &str) -> Verdict {
        let operations = operations(told);
        match self {
            Self::Opens => Ok(Ok(())),
            Self::Sqlite(_) if dump.trim() == "ok" => Ok(Ok(())),
            Self::Sqlite(_) => Ok(Err(format!("integrity check: {}", dump.lines().next().unwrap_or("")))),
            Self::Log => Ok(log::judge(&operations, dump)),
            Self::Kv => kv::judge(&operations, dump),
            Self::Consensus => consensus::judge(&operations, dump),
        }
    }
}

/// The operations of a history, in the order in which they were announced. An acknowledgement is of the
/// oldest announcement of the same text that has none; of none at all, it announces itself.
#[must_use]
pub fn operations(told: &[Note]) -> Vec<Operation<'_>> {
    let mut operations: Vec<Operation<'_>> = Vec::new();
    let mut open: HashMap<&str, VecDeque<usize>> = HashMap::new();
    for (at, note) in told.iter().enumerate() {
        let text = note.text();
        let known = note.ack().and_then(|text| open.get_mut(text)?.pop_front());
        if let Some(known) = known {
            operations[known].acked = Some(at);
            continue;
        }
        let acked = note.ack().map(|_| at);
        if acked.is_none() {
            open.entry(text).or_default().push_back(operations.len());
        }
        operations.push(Operation { text, begun: at, acked });
    }
    operations
}

/// How many of the operations are there at least, if what is done is done in their order.
fn promised(operations: &[Operation<'_>]) -> usize {
    operations.iter().rposition(|operation| operation.acked.is_some()).map_or(0, |last| last + 1)
}

/// A history for tests: `+text` is announced, `=text` acknowledged.
#[cfg(test)]
fn history(words: &[&str]) -> Vec<Note> {
    let note = |word: &&str| match word.split_at(1) {
        ("+", text) => Note::Begin(text.to_owned()),
        ("=", text) => Note::Ack(text.to_owned()),
        _ => panic!("{word}"),
    };
    words.iter().map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_of_the_oldest_announcement_without_one() {
        let told = history(&["+a", "+a", "=a", "=b", "+c"]);
        let seen: Vec<_> = operations(&told).into_iter().map(|op| (op.text, op.begun, op.acked)).collect();
        assert_eq!(
            seen,
            [("a", 0, Some(2)), ("a", 1, None), ("b", 3, Some(3)), ("c", 4, None)],
            "in the order of their announcements"
        );
    }

    #[test]
    fn what_is_expected_is_read() {
        assert_eq!(Expect::parse("sqlite=a b.db"), Ok(Expect::Sqlite("a b.db".to_owned())));
        assert_eq!(Expect::parse("kv"), Ok(Expect::Kv));
        for wrong in ["", "sqlite", "sqlite=", "logs"] {
            assert!(Expect::parse(wrong).is_err(), "{wrong}");
        }
        let whole = Expect::Sqlite("db".to_owned());
        assert_eq!(whole.judge(&[], "ok\n").unwrap(), Ok(()));
        assert!(whole.judge(&[], "row 3 missing from index i\n").unwrap().is_err());
    }
}
