//! The table of verdicts: what is expected of each subject, what came out, and what that comes to.
//!
//! I own the manifest's shape and the table's. (T1) The whole is as expected only if every row is. (T2) A
//! pass is one only if the first two stages of the search were finished: a store that was hardly looked at
//! is not measured. I run nothing.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::escape;
use crate::program::report::Verdict;

/// How many classes of a subject are named to people; JSON has all.
const SHOWN_FINDINGS: usize = 3;

/// What is expected of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Expected {
    /// A control: no state may fail.
    Pass,
    /// It is known to lose data: a state must fail.
    Fail,
}

impl Expected {
    fn name(self) -> &'static str {
        self.verdict().name()
    }

    fn verdict(self) -> Verdict {
        match self {
            Self::Pass => Verdict::Pass,
            Self::Fail => Verdict::Fail,
        }
    }
}

/// A subject, as the manifest has it. Words in braces stand for what [`provide`](super::provide) finds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The library and its version.
    pub name: String,
    /// What is expected.
    pub expected: Expected,
    /// Whether the checker may be started once for all states: it is then given the word `--persistent`.
    #[serde(default)]
    pub persistent: bool,
    /// The package from npm.
    pub npm: Option<String>,
    /// The package from PyPI.
    pub pip: Option<String>,
    /// What fills the directory before the recording.
    #[serde(default)]
    pub prepare: Vec<String>,
    /// What is recorded.
    pub workload: Vec<String>,
    /// What checks a state.
    pub check: Vec<String>,
}

/// Reads a manifest.
///
/// # Errors
/// If it is none.
pub fn manifest(text: &str) -> serde_json::Result<Vec<Subject>> {
    serde_json::from_str(text)
}

/// What came out for a subject.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub subject: String,
    /// What was expected.
    pub expected: Expected,
    /// What came out.
    pub verdict: Verdict,
    /// The profiles under which a state failed.
    pub profiles: Vec<String>,
    /// How many classes of failures there are.
    pub classes: usize,
    /// How many different states were checked.
    pub states: u64,
    /// How long recording and exploring took.
    pub seconds: f64,
    /// Each class: its symptom, and the sync that is missing.
    pub findings: Vec<Finding>,
    /// Why there is no verdict, if there is none.
    pub reason: Option<String>,
}

/// A class of failures, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What the checker said.
    pub symptom: String,
    /// The sync that rules the class out, if one does.
    pub missing_sync: Option<String>,
}

/// What `explore --json` ends with, as far as the table needs it.
#[derive(Debug, Deserialize)]
struct Answer {
    verdict: String,
    classes: Vec<ClassAnswer>,
    distinct_states: u64,
    broken: Option<String>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ClassAnswer {
    #[serde(flatten)]
    finding: Finding,
    profiles: Vec<String>,
}

impl Row {
    /// A row without a verdict on the subject.
    #[must_use]
    pub fn without(subject: &Subject, verdict: Verdict, reason: String) -> Self {
        Self {
            subject: subject.name.clone(),
            expected: subject.expected,
            verdict,
            profiles: Vec::new(),
            classes: 0,
            states: 0,
            seconds: 0.0,
            findings: Vec::new(),
            reason: Some(reason),
        }
    }

    /// The row that an exploration's last line gives.
    #[must_use]
    pub fn of(subject: &Subject, line: &str, seconds: f64) -> Self {
        let answer = match serde_json::from_str::<Answer>(line) {
            Ok(answer) => answer,
            Err(e) => {
                let reason = format!("the exploration ended without a result: {e}");
                return Self::without(subject, Verdict::HarnessBroken, reason);
            }
        };
        let (verdict, reason) = judge(&answer);
        let mut profiles: Vec<String> = Vec::new();
        for profile in answer.classes.iter().flat_map(|class| &class.profiles) {
            if !profiles.contains(profile) {
                profiles.push(profile.clone());
            }
        }
        Self {
            profiles,
            classes: answer.classes.len(),
            states: answer.distinct_states,
            seconds,
            findings: answer.classes.into_iter().map(|class| class.finding).collect(),
            reason,
            ..Self::without(subject, verdict, String::new())
        }
    }

    fn is_as_expected(&self) -> bool {
        self.verdict == self.expected.verdict()
    }
}

/// The verdict, and why it is none.
fn judge(answer: &Answer) -> (Verdict, Option<String>) {
    match answer.verdict.as_str() {
        "FAIL" => (Verdict::Fail, None),
        "PASS" => (Verdict::Pass, None),
        "NOT-MEASURED" => {
            let why = answer.reason.clone();
            (Verdict::NotMeasured, Some(why.unwrap_or_else(|| "no reason was given".to_owned())))
        }
        _ => {
            let why = answer.broken.as_deref().unwrap_or("no reason was given");
            (Verdict::HarnessBroken, Some(format!("the checker fails on the complete state: {why}")))
        }
    }
}

/// What a table comes to. `Pass` is: every verdict is the expected one; `Fail`: one is the other.
#[must_use]
pub fn verdict(rows: &[Row]) -> Verdict {
    let wrong = |verdict: Verdict| rows.iter().any(|row| !row.is_as_expected() && row.verdict == verdict);
    if wrong(Verdict::Pass) || wrong(Verdict::Fail) {
        Verdict::Fail
    } else if wrong(Verdict::HarnessBroken) {
        Verdict::HarnessBroken
    } else if rows.is_empty() || wrong(Verdict::NotMeasured) {
        Verdict::NotMeasured
    } else {
        Verdict::Pass
    }
}

/// The table as JSON.
#[must_use]
pub fn machine(rows: &[Row]) -> Value {
    json!({ "verdict": verdict(rows).name(), "subjects": rows })
}

/// The first profile, and how many more there are; JSON names all.
fn profiles(row: &Row) -> String {
    match row.profiles.as_slice() {
        [first, more @ ..] if !more.is_empty() => format!("{first} +{}", more.len()),
        few => few.concat(),
    }
}

/// The table for people.
#[must_use]
pub fn text(rows: &[Row]) -> String {
    let mut text = format!(
        "{:20} {:8} {:14} {:19} {:>7} {:>7} {:>7}\n",
        "subject", "expected", "verdict", "profiles", "classes", "states", "seconds"
    );
    for row in rows {
        let mark = if row.is_as_expected() { "" } else { "  <- not as expected" };
        let _ = writeln!(
            text,
            "{:20} {:8} {:14} {:19} {:7} {:7} {:7.1}{mark}",
            escape::word(&row.subject),
            row.expected.name(),
            row.verdict.name(),
            profiles(row),
            row.classes,
            row.states,
            row.seconds
        );
        if let Some(reason) = &row.reason {
            let _ = writeln!(text, "    {}", escape::word(reason));
        }
        for finding in row.findings.iter().take(SHOWN_FINDINGS) {
            let sync = finding.missing_sync.as_deref().unwrap_or("no single sync helps");
            let (symptom, sync) = (escape::word(&finding.symptom), escape::word(sync));
            let _ = writeln!(text, "    {symptom}; missing: {sync}");
        }
        if let Some(more @ 1..) = row.findings.len().checked_sub(SHOWN_FINDINGS) {
            let _ = writeln!(text, "    and {more} more classes");
        }
    }
    let expected = rows.iter().filter(|row| row.is_as_expected()).count();
    let _ = writeln!(text, "{}: {expected} of {} verdicts as expected", verdict(rows).name(), rows.len());
    text
}

#[cfg(test)]
mod tests {
    use super::{Expected, Finding, Row, Subject, machine, manifest, text, verdict};
    use crate::program::report::Verdict;

    fn subject(expected: Expected) -> Subject {
        let verdict = expected.name();
        let text = format!(
            r#"[{{"name": "a-1.0", "expected": "{verdict}", "workload": ["w", "{{dir}}"], "check": ["c"]}}]"#
        );
        manifest(&text).expect("a manifest").remove(0)
    }

    /// An exploration's last line: the verdict and the classes.
    fn line(verdict: &str, classes: &str) -> String {
        format!(
            r#"{{"verdict": "{verdict}", "reason": null, "classes": [{classes}], "distinct_states": 7, "broken": null}}"#
        )
    }

    fn row(expected: Expected, verdict: Verdict) -> Row {
        Row { verdict, ..Row::without(&subject(expected), Verdict::Pass, String::new()) }
    }

    #[test]
    fn a_failure_gives_its_classes() {
        let classes = r#"{"symptom": "gone", "missing_sync": "fsync of a", "profiles": ["posix-strict", "ext4"], "states": 3},
            {"symptom": "torn", "missing_sync": null, "profiles": ["posix-strict"], "states": 1}"#;
        let row = Row::of(&subject(Expected::Fail), &line("FAIL", classes), 2.5);
        assert_eq!(row.verdict, Verdict::Fail);
        assert_eq!((row.classes, row.states, row.seconds), (2, 7, 2.5));
        assert_eq!(row.profiles, ["posix-strict", "ext4"]);
        let first = Finding { symptom: "gone".to_owned(), missing_sync: Some("fsync of a".to_owned()) };
        assert_eq!(row.findings[0], first);
        assert_eq!(row.findings[1].missing_sync, None);
        assert_eq!(row.reason, None);
    }

    #[test]
    fn no_result_is_a_broken_harness() {
        for line in ["", "{}", "crashcheck: no such file", &line("HARNESS-BROKEN", "")] {
            let row = Row::of(&subject(Expected::Fail), line, 1.0);
            assert_eq!(row.verdict, Verdict::HarnessBroken, "{line}");
            assert!(row.reason.is_some(), "{line}");
        }
    }

    #[test]
    fn what_is_not_measured_says_why() {
        let line = line("NOT-MEASURED", "").replace(r#""reason": null"#, r#""reason": "db-shm: a mapping""#);
        let row = Row::of(&subject(Expected::Pass), &line, 1.0);
        assert_eq!(row.verdict, Verdict::NotMeasured);
        assert_eq!(row.reason.as_deref(), Some("db-shm: a mapping"));
    }

    #[test]
    fn the_table_passes_only_if_every_row_is_as_expected() {
        use Expected::{Fail, Pass};
        let good = [row(Pass, Verdict::Pass), row(Fail, Verdict::Fail)];
        let check = |other: Option<Row>, expected| {
            let rows: Vec<Row> = good.iter().cloned().chain(other).collect();
            assert_eq!(verdict(&rows), expected, "{rows:?}");
            assert_eq!(machine(&rows)["verdict"], expected.name());
        };
        check(None, Verdict::Pass);
        check(Some(row(Pass, Verdict::Fail)), Verdict::Fail);
        check(Some(row(Fail, Verdict::Pass)), Verdict::Fail);
        check(Some(row(Pass, Verdict::HarnessBroken)), Verdict::HarnessBroken);
        check(Some(row(Fail, Verdict::NotMeasured)), Verdict::NotMeasured);
        let both = [row(Pass, Verdict::NotMeasured), row(Pass, Verdict::HarnessBroken)];
        assert_eq!(verdict(&both), Verdict::HarnessBroken);
        let both = [row(Pass, Verdict::NotMeasured), row(Fail, Verdict::Pass)];
        assert_eq!(verdict(&both), Verdict::Fail);
        assert_eq!(verdict(&[]), Verdict::NotMeasured, "no row says nothing");
    }

    #[test]
    fn json_has_a_row_for_each_subject_with_its_fields() {
        let rows = [row(Expected::Pass, Verdict::Pass), row(Expected::Fail, Verdict::NotMeasured)];
        let json = machine(&rows);
        for field in ["subject", "expected", "verdict", "profiles", "classes", "states", "seconds"] {
            assert!(json["subjects"][1].get(field).is_some(), "{field}");
        }
        assert_eq!(json["subjects"][0]["expected"], "PASS");
        assert_eq!(json["subjects"][1]["verdict"], "NOT-MEASURED");
    }

    #[test]
    fn a_row_that_is_not_as_expected_is_marked() {
        let told = text(&[row(Expected::Pass, Verdict::Pass), row(Expected::Pass, Verdict::Fail)]);
        let marked: Vec<bool> = told
            .lines()
            .filter(|line| line.starts_with("a-1.0"))
            .map(|line| line.ends_with("<- not as expected"))
            .collect();
        assert_eq!(marked, [false, true]);
        assert!(told.ends_with("FAIL: 1 of 2 verdicts as expected\n"), "{told}");
    }

    #[test]
    fn the_manifest_of_this_project_holds_what_must_be_found_and_the_controls() {
        let subjects = manifest(include_str!("../../subjects/subjects.json")).expect("a manifest");
        let names = |expected| -> Vec<&str> {
            subjects.iter().filter(|s| s.expected == expected).map(|s| s.name.as_str()).collect()
        };
        let found = ["nedb-1.1.1", "tinydb-4.9.0", "dbm.dumb", "simple_wal-0.3.0", "commitlog-0.2.0"];
        let controls = [
            "nedb-1.8.0",
            "sqlite3-rollback",
            "sqlite3-wal",
            "atomicwrites-1.4.1",
            "okaywal-0.3.1",
            "seawall",
        ];
        assert_eq!(names(Expected::Fail), found);
        assert_eq!(names(Expected::Pass), controls);
    }

    #[test]
    fn an_unknown_field_is_no_manifest() {
        let text = r#"[{"name": "a", "expected": "PASS", "workload": [], "check": [], "skip": true}]"#;
        assert!(manifest(text).is_err());
        assert!(manifest(r#"[{"name": "a", "expected": "MAYBE", "workload": [], "check": []}]"#).is_err());
    }
}
