//! The dump of a consensus log against its history.
//!
//! I own what such a log promises. Operations are `vote TERM WHO`, `append INDEX TERM DATA` and
//! `truncate INDEX`; an append replaces what is at its index and after it, a truncation removes it. A dump
//! has at most one line `vote TERM WHO`, and `entry INDEX TERM DATA` for each entry. (C1) The vote is the
//! last acknowledged one or a later one. (C2) The entries are what some first part of the operations
//! makes of an empty log, and that part has every acknowledged one: none is missing, none is invented,
//! and there is no hole.

use std::collections::BTreeMap;

use anyhow::{Context, bail};

use super::{Operation, Verdict, promised};
use crate::program::checker::Reason;

type Vote<'t> = (u64, &'t str);
type Entries<'t> = BTreeMap<u64, (u64, &'t str)>;

#[derive(Clone, Copy, Debug)]
enum Change<'t> {
    Append(u64, u64, &'t str),
    Truncate(u64),
}

/// A word and what follows it.
fn word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

fn vote(text: &str) -> Option<Vote<'_>> {
    let (term, who) = word(text.strip_prefix("vote ")?);
    Some((term.parse().ok()?, who))
}

/// `INDEX TERM DATA`.
fn entry(text: &str) -> Option<(u64, u64, &str)> {
    let (index, rest) = word(text);
    let (term, data) = word(rest);
    Some((index.parse().ok()?, term.parse().ok()?, data))
}

fn change(text: &str) -> Option<Change<'_>> {
    if let Some(appended) = text.strip_prefix("append ") {
        return entry(appended).map(|(index, term, data)| Change::Append(index, term, data));
    }
    text.strip_prefix("truncate ")?.parse().ok().map(Change::Truncate)
}

impl<'t> Change<'t> {
    fn apply(self, entries: &mut Entries<'t>) {
        let (Self::Append(index, ..) | Self::Truncate(index)) = self;
        entries.split_off(&index);
        if let Self::Append(index, term, data) = self {
            entries.insert(index, (term, data));
        }
    }
}

/// Judges a dump.
///
/// # Errors
/// If an operation is none of a consensus log.
pub fn judge(operations: &[Operation<'_>], dump: &str) -> Verdict {
    let (mut votes, mut changes): (Vec<Operation<'_>>, Vec<Operation<'_>>) = Default::default();
    for operation in operations {
        match (vote(operation.text), change(operation.text)) {
            (Some(_), _) => votes.push(*operation),
            (_, Some(_)) => changes.push(*operation),
            _ => bail!(
                "the workload said {:?}, which is none of `vote TERM WHO`, `append INDEX TERM DATA` and \
                 `truncate INDEX`",
                operation.text
            ),
        }
    }
    let (mut voted, mut shown) = (None, Entries::new());
    for line in dump.lines() {
        let known = if let Some(vote) = vote(line) {
            voted.replace(vote).is_none()
        } else if let Some((index, term, data)) = line.strip_prefix("entry ").and_then(entry) {
            shown.insert(index, (term, data)).is_none()
        } else {
            return Ok(Err(format!("the dump has the line {line:?}")));
        };
        if !known {
            return Ok(Err(format!("the dump has {line:?} and another like it")));
        }
    }
    let (last, cast) = (promised(&votes), votes.iter().filter_map(|operation| vote(operation.text)));
    let cast: Vec<Vote<'_>> = cast.collect();
    if let Err(reason) = judge_vote(&cast, last, voted) {
        return Ok(Err(reason));
    }
    let done = promised(&changes);
    let changes = changes.iter().map(|operation| change(operation.text).context("it was one before"));
    Ok(judge_entries(&changes.collect::<anyhow::Result<Vec<_>>>()?, done, &shown))
}

/// `last` of the votes, and perhaps later ones, were cast.
fn judge_vote(votes: &[Vote<'_>], last: usize, shown: Option<Vote<'_>>) -> Result<(), Reason> {
    let acked = last.checked_sub(1).map(|at| votes[at]);
    let at_least = &votes[last.saturating_sub(1)..];
    match (shown, acked) {
        (None, None) => Ok(()),
        (None, Some((term, _))) => Err(format!("the acknowledged vote of term {term} is missing")),
        (Some(shown), _) if at_least.contains(&shown) => Ok(()),
        (Some((term, _)), Some((acked, _))) if term < acked => {
            Err(format!("the vote went back from term {acked} to term {term}"))
        }
        (Some((term, who)), _) => Err(format!("the vote of term {term} for {who:?} was never announced")),
    }
}

/// `done` of the changes, and perhaps later ones, were made.
fn judge_entries(changes: &[Change<'_>], done: usize, shown: &Entries<'_>) -> Result<(), Reason> {
    let (done, pending) = changes.split_at(done);
    let mut entries = Entries::new();
    done.iter().for_each(|change| change.apply(&mut entries));
    let least = entries.clone();
    let fits = entries == *shown
        || pending.iter().any(|change| {
            change.apply(&mut entries);
            entries == *shown
        });
    if fits {
        return Ok(());
    }
    for (index, (term, data)) in shown {
        let is_it = |change: &Change<'_>| matches!(change, Change::Append(i, t, d) if (i, t, d) == (index, term, data));
        if !changes.iter().any(is_it) {
            return Err(format!("entry {index} of term {term} with {data:?} was never announced"));
        }
    }
    let hole = shown.keys().zip(shown.keys().skip(1)).find(|(one, next)| *one + 1 != **next);
    if let Some((one, next)) = hole {
        return Err(format!("there is a hole between the entries {one} and {next}"));
    }
    let is_kept = |index: u64| {
        !pending.iter().any(|change| {
            let (Change::Append(from, ..) | Change::Truncate(from)) = change;
            *from <= index
        })
    };
    match least.iter().find(|(index, entry)| shown.get(index) != Some(entry) && is_kept(**index)) {
        Some((index, _)) => Err(format!("the acknowledged entry {index} is missing")),
        None => Err("the entries are not those of any moment of the history".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{history, operations};
    use super::*;

    const SAID: [&str; 6] =
        ["=vote 1 a", "=append 1 1 x", "=append 2 1 y", "+vote 2 b", "+append 3 2 z", "+append 4 2 w"];

    #[track_caller]
    fn check(said: &[&str], dump: &str, expected: &str) {
        let told = history(said);
        let verdict = judge(&operations(&told), &dump.replace("; ", "\n")).unwrap().err().unwrap_or_default();
        assert!(verdict.contains(expected) && verdict.is_empty() == expected.is_empty(), "{verdict:?}");
    }

    #[test]
    fn right_dumps_pass() {
        check(&[], "", "");
        check(&SAID, "vote 1 a; entry 1 1 x; entry 2 1 y", "");
        check(&SAID, "entry 1 1 x; entry 2 1 y; vote 2 b; entry 3 2 z", "");
        check(&["=append 1 1 x", "=append 2 1 y", "+truncate 2", "+append 2 2 z"], "entry 1 1 x", "");
        check(&["=append 1 1 x", "=append 2 1 y", "=append 2 2 z"], "entry 1 1 x; entry 2 2 z", "");
    }

    #[test]
    fn a_wrong_vote_is_told() {
        let entries = "entry 1 1 x; entry 2 1 y";
        check(&SAID, entries, "vote of term 1 is missing");
        check(&SAID, &format!("vote 1 b; {entries}"), "never announced");
        check(&["=vote 1 a", "=vote 2 b"], "vote 1 a", "went back from term 2 to term 1");
        check(&["=vote 1 a"], "vote 1 a; vote 1 a", "another like it");
    }

    #[test]
    fn wrong_entries_are_told() {
        check(&SAID, "vote 1 a; entry 1 1 x", "entry 2 is missing");
        check(&SAID, "vote 1 a; entry 2 1 y", "entry 1 is missing");
        check(&SAID, "vote 1 a; entry 1 1 x; entry 2 1 y; entry 4 2 w", "hole between the entries 2 and 4");
        check(&SAID, "vote 1 a; entry 1 1 x; entry 2 1 q", "\"q\" was never announced");
        check(&["=append 1 1 x", "=truncate 1", "=append 1 2 y"], "entry 1 1 x", "entry 1 is missing");
        check(&["=append 1 1 x", "=truncate 1"], "entry 1 1 x", "not those of any moment");
        check(&SAID, "hello", "the line \"hello\"");
    }

    #[test]
    fn a_history_that_is_none_is_no_finding() {
        let told = history(&["=append one 1 x"]);
        assert!(judge(&operations(&told), "").is_err());
    }
}
