//! A log's dump against its history.
//!
//! I own what a log of lines promises: every acknowledged line is there, no line is there that was not
//! announced or more often than it was, and a line that was announced when another had been acknowledged
//! comes after that. Lines that were under way at the same time may be in any order.

use std::collections::{HashMap, VecDeque};

use super::Operation;
use crate::program::checker::Reason;

/// Judges a dump, whose lines are the log's.
///
/// # Errors
/// If it breaks the promise: how.
pub fn judge(operations: &[Operation<'_>], dump: &str) -> Result<(), Reason> {
    let mut left: HashMap<&str, VecDeque<usize>> = HashMap::new();
    for (at, operation) in operations.iter().enumerate() {
        left.entry(operation.text).or_default().push_back(at);
    }
    // The one of the lines so far that was announced last.
    let mut newest: Option<&Operation<'_>> = None;
    for line in dump.lines() {
        let Some(places) = left.get_mut(line) else {
            return Err(format!("the line {line:?} was never announced"));
        };
        let Some(at) = places.pop_front() else {
            return Err(format!("the line {line:?} is there more often than it was announced"));
        };
        let here = &operations[at];
        if let Some(newest) = newest.filter(|newest| here.acked.is_some_and(|acked| acked < newest.begun)) {
            let after = newest.text;
            return Err(format!("the line {line:?} comes after {after:?}, which was announced later"));
        }
        newest = Some(newest.map_or(here, |newest| if newest.begun > here.begun { newest } else { here }));
    }
    let mut missing: Vec<usize> = left.into_values().flatten().collect();
    missing.sort_unstable();
    match missing.into_iter().find(|at| operations[*at].acked.is_some()) {
        Some(at) => Err(format!("the acknowledged line {:?} is missing", operations[at].text)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{history, operations};
    use super::*;

    #[track_caller]
    fn check(said: &[&str], dump: &str, expected: &str) {
        let told = history(said);
        let verdict = judge(&operations(&told), dump).err().unwrap_or_default();
        assert!(verdict.contains(expected) && verdict.is_empty() == expected.is_empty(), "{verdict:?}");
    }

    #[test]
    fn right_dumps_pass() {
        check(&[], "", "");
        check(&["+a", "=a", "+b"], "a\n", "");
        check(&["+a", "=a", "+b"], "a\nb\n", "");
        check(&["+a", "=a", "+a"], "a\na\n", "");
        check(&["=a", "=b"], "a\nb\n", "");
        // Both were under way.
        check(&["+a", "+b", "=b"], "b\na\n", "");
    }

    #[test]
    fn wrong_dumps_are_told() {
        check(&["+a", "=a", "+b", "=b"], "a\n", "\"b\" is missing");
        check(&["+a", "=a", "+b", "=b"], "b\n", "\"a\" is missing");
        check(&["+a", "=a", "+b", "=b"], "b\na\n", "\"a\" comes after \"b\"");
        check(&["+a", "=a"], "a\nc\n", "\"c\" was never announced");
        check(&["+a", "=a"], "a\na\n", "more often");
        check(&["+a"], "a\n\n", "\"\" was never announced");
    }
}
