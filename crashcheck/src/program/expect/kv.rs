//! A map's dump against its history.
//!
//! I own what a map promises: it is what some first part of the operations makes of an empty map, and that
//! part has every acknowledged one. Operations are `set KEY VALUE` and `del KEY`; a dump has a line
//! `KEY VALUE` for each pair, in any order. A key has no space.

use std::collections::BTreeMap;

use anyhow::bail;

use super::{Operation, Verdict, promised};

type Map<'t> = BTreeMap<&'t str, &'t str>;

#[derive(Clone, Copy, Debug)]
enum Change<'t> {
    Set(&'t str, &'t str),
    Del(&'t str),
}

impl<'t> Change<'t> {
    fn parse(text: &'t str) -> anyhow::Result<Self> {
        if let Some(pair) = text.strip_prefix("set ") {
            let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
            return Ok(Self::Set(key, value));
        }
        match text.strip_prefix("del ") {
            Some(key) => Ok(Self::Del(key)),
            None => bail!("the workload said {text:?}, which is neither `set KEY VALUE` nor `del KEY`"),
        }
    }

    fn apply(self, map: &mut Map<'t>) {
        match self {
            Self::Set(key, value) => map.insert(key, value),
            Self::Del(key) => map.remove(key),
        };
    }

    fn key(self) -> &'t str {
        match self {
            Self::Set(key, _) | Self::Del(key) => key,
        }
    }
}

/// Judges a dump.
///
/// # Errors
/// If an operation is none of a map.
pub fn judge(operations: &[Operation<'_>], dump: &str) -> Verdict {
    let changes: Vec<Change<'_>> =
        operations.iter().map(|operation| Change::parse(operation.text)).collect::<anyhow::Result<_>>()?;
    let mut shown = Map::new();
    for line in dump.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        if shown.insert(key, value).is_some() {
            return Ok(Err(format!("the key {key:?} is there twice")));
        }
    }
    let (done, pending) = changes.split_at(promised(operations));
    let mut map = Map::new();
    done.iter().for_each(|change| change.apply(&mut map));
    let least = map.clone();
    let fits = map == shown
        || pending.iter().any(|change| {
            change.apply(&mut map);
            map == shown
        });
    Ok(if fits { Ok(()) } else { Err(difference(&changes, pending, &least, &shown)) })
}

/// The first thing that is wrong, in words.
fn difference(changes: &[Change<'_>], pending: &[Change<'_>], least: &Map<'_>, shown: &Map<'_>) -> String {
    let is_pending = |key: &str| pending.iter().any(|change| change.key() == key);
    for (key, value) in shown {
        let is_write = |change: &Change<'_>| matches!(change, Change::Set(k, v) if (k, v) == (key, value));
        if !changes.iter().any(is_write) {
            return format!("the key {key:?} has {value:?}, which was never announced");
        }
        match least.get(key) {
            None if !is_pending(key) => return format!("the deleted key {key:?} is back"),
            Some(last) if last != value && !is_pending(key) => {
                return format!("the key {key:?} has {value:?}, acknowledged is {last:?}");
            }
            _ => {}
        }
    }
    match least.keys().find(|key| !shown.contains_key(*key) && !is_pending(key)) {
        Some(key) => format!("the acknowledged key {key:?} is missing"),
        None => "a later operation is there and an earlier one is not".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{history, operations};
    use super::*;

    #[track_caller]
    fn check(said: &[&str], dump: &str, expected: &str) {
        let told = history(said);
        let verdict = judge(&operations(&told), dump).unwrap().err().unwrap_or_default();
        assert!(verdict.contains(expected) && verdict.is_empty() == expected.is_empty(), "{verdict:?}");
    }

    #[test]
    fn right_dumps_pass() {
        check(&[], "", "");
        check(&["+set a 1", "=set a 1", "+set a 2"], "a 1\n", "");
        check(&["+set a 1", "=set a 1", "+set a 2"], "a 2\n", "");
        check(&["=set b x y", "=set a", "+del b"], "b x y\na\n", "");
        check(&["=set b x y", "=set a", "+del b"], "a \n", "");
        check(&["=set a 1", "=del a"], "", "");
    }

    #[test]
    fn wrong_dumps_are_told() {
        check(&["=set a 1", "=set b 1"], "a 1\n", "\"b\" is missing");
        check(&["=set a 1", "=set a 2"], "a 1\n", "\"a\" has \"1\", acknowledged is \"2\"");
        check(&["=set a 1", "=del a"], "a 1\n", "\"a\" is back");
        check(&["=set a 1"], "a 1\na 1\n", "twice");
        check(&["=set a 1"], "a 1\nb 1\n", "never announced");
        check(&["+set a 1", "+set b 1"], "b 1\n", "a later operation is there");
        check(&["=set a 1", "+set b 1", "+del a"], "", "a later operation is there");
    }

    #[test]
    fn a_history_that_is_none_is_no_finding() {
        let told = history(&["=put a 1"]);
        let refused = judge(&operations(&told), "").unwrap_err();
        assert!(refused.to_string().contains("\"put a 1\""), "{refused}");
    }
}
