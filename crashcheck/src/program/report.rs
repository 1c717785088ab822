//! What an exploration says, to people and to machines.
//!
//! I own the words, the JSON's fields and the verdict, which is one of four. (V1) A pass is none unless the first
//! [`STAGES_OF_A_PASS`] stages came to their end, in the recoveries of the checker too, and everything was
//! recorded. A certificate says what was covered and what each bound cut.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use crate::escape;
use crate::program::classes::{Class, Fate};
use crate::program::explore::{Explored, Options, Progress};
use crate::program::ratchet::Compared;
use crate::program::recording::Gap;
use crate::program::search::{STAGES, Stage};

/// How many stages of the search a pass must have finished: every operation's end, and everything unsynced lost.
pub const STAGES_OF_A_PASS: usize = 2;

/// What an exploration comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum Verdict {
    /// No state failed.
    Pass,
    /// Some did.
    Fail,
    /// There is nothing to speak of, a part was not recorded, or the search ended before a pass is one.
    NotMeasured,
    /// The checker fails where nothing is lost.
    HarnessBroken,
}

impl Verdict {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::NotMeasured => "NOT-MEASURED",
            Self::HarnessBroken => "HARNESS-BROKEN",
        }
    }
}

/// The verdict. A failure is one, whatever was not recorded; a pass is none over what was not.
#[must_use]
pub fn verdict(explored: &Explored) -> Verdict {
    if explored.broken.is_some() {
        Verdict::HarnessBroken
    } else if explored.failed > 0 {
        Verdict::Fail
    } else if unmeasured(explored).is_some() {
        Verdict::NotMeasured
    } else {
        Verdict::Pass
    }
}

/// Why this is no pass although nothing failed; `None` if it is one.
#[must_use]
pub fn unmeasured(explored: &Explored) -> Option<String> {
    if let Some(gap) = explored.recording.gaps.first() {
        return Some(if gap.path.is_empty() {
            gap.reason.clone()
        } else {
            format!("{}: {}", gap.path, gap.reason)
        });
    }
    if let Some(stage) = unfinished(&explored.stages) {
        return Some(format!(
            "the search ended in the stage `{}`: give it more (--seconds, --states)",
            stage.name()
        ));
    }
    if explored.nested_short > 0 {
        return Some(format!(
            "{} recoveries of the checker were not tried as far as a pass needs",
            explored.nested_short
        ));
    }
    (explored.distinct == 0).then(|| "no state was checked".to_owned())
}

/// What was not recorded, in a line.
#[must_use]
pub fn gap(gap: &Gap) -> String {
    format!("not measured: {}: {}", escape::word(&gap.path), escape::word(&gap.reason))
}

/// The first stage that a pass needs and that did not come to its end.
fn unfinished(stages: &[Progress]) -> Option<Stage> {
    let is_done = |stage: &Stage| stages.iter().any(|done| done.stage == *stage && done.complete);
    STAGES[..STAGES_OF_A_PASS].iter().copied().find(|stage| !is_done(stage))
}

/// The whole as JSON.
#[must_use]
pub fn machine(explored: &Explored, options: &Options) -> Value {
    json!({
        "verdict": verdict(explored).name(),
        "reason": unmeasured(explored),
        "classes": explored.classes,
        "states": explored.states,
        "distinct_states": explored.distinct,
        "failed_states": explored.failed,
        "states_per_second": per_second(explored),
        "seconds": explored.seconds,
        "first_failure_seconds": explored.first_failure,
        "certificate": certificate(explored, options),
        "stages": explored.stages,
        "profile": options.profile.name(),
        "seed": options.reach.seed,
        "next": explored.next,
        "gaps": explored.recording.gaps,
        "broken": explored.broken,
    })
}

/// Different states a second, rounded.
#[must_use]
pub fn per_second(explored: &Explored) -> f64 {
    if explored.seconds > 0.0 { (explored.distinct as f64 / explored.seconds).round() } else { 0.0 }
}

/// What was covered.
#[must_use]
pub fn certificate(explored: &Explored, options: &Options) -> String {
    let steps = explored.recording.trace.steps.len();
    let unit = if options.block_units { 4096 } else { 512 };
    let mut text = format!(
        "{} different states of {} cuts under {}, units of {unit} bytes, at most {} in doubt at once: ",
        explored.distinct,
        steps + 1,
        options.profile.name(),
        explored.most_free
    );
    let parts = explored.stages.iter().map(|progress| {
        let what = match progress.stage {
            Stage::Several => format!("up to {} operations lost", options.reach.omissions),
            Stage::Torn => format!("torn last write (tears {})", options.reach.tears),
            Stage::Operation => "1 operation lost".to_owned(),
            Stage::Random => format!("random with seed {}", options.reach.seed),
            stage => stage.name().to_owned(),
        };
        match (progress.complete, progress.stage) {
            (true, Stage::Random) => format!("{what} {}, then {}", progress.checked, progress.end()),
            (false, Stage::Random) => format!("{what} {}", progress.checked),
            _ => format!("{what} {}", progress.end()),
        }
    });
    text.push_str(&parts.collect::<Vec<_>>().join(", "));
    if explored.nested > 0 {
        let _ = write!(
            text,
            "; crashes within {} recoveries of the checker: {} states",
            explored.nested, explored.nested_states
        );
    }
    let missing = STAGES.len().saturating_sub(explored.stages.len());
    if missing > 0 {
        let _ = write!(text, "; {missing} stages not begun");
    }
    if let Some(next) = explored.next {
        let _ = write!(text, "; go on with --resume {next}");
    }
    if options.resume > 0 {
        let _ = write!(text, "; the first {} states were left to an earlier run", options.resume);
    }
    if explored.interrupted {
        text.push_str("; interrupted");
    }
    if explored.recording.origin.exit != 0 {
        let _ = write!(text, "; the recorded command ended with {}", explored.recording.origin.exit);
    }
    text
}

/// The whole as a JUnit report: a test for each class, and one for all the rest. What the ratchet knows is
/// skipped.
#[must_use]
pub fn junit(explored: &Explored, compared: Option<&Compared>) -> String {
    let is_known = |class: &Class| compared.is_some_and(|compared| compared.knows(class));
    let known = explored.classes.iter().filter(|class| is_known(class)).count();
    // What is known is skipped, and hides nothing of what was not tried.
    let why = explored
        .broken
        .clone()
        .or_else(|| unmeasured(explored).map(|why| format!("{}: {why}", Verdict::NotMeasured.name())));
    let escaped = |text: &str| escape::xml(&escape::word(text));
    let error = why.map_or(String::new(), |why| format!("<error message=\"{}\"/>", escaped(&why)));
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{known}\">\n\
         <testcase classname=\"crashcheck\" name=\"{} states\">{error}</testcase>\n",
        escape::xml(&escape::shell_of_names(&explored.recording.origin.command)),
        explored.classes.len() + 1,
        explored.classes.len() - known,
        u8::from(!error.is_empty()),
        explored.distinct,
    );
    for (number, class) in explored.classes.iter().enumerate() {
        let mut words = String::new();
        class_text(&mut words, number + 1, class);
        let (symptom, words) = (escaped(&class.symptom), escape::xml(&words));
        let said = match is_known(class) {
            true => format!("<skipped message=\"known: {symptom}\"/><system-out>{words}</system-out>"),
            false => format!("<failure message=\"{symptom}\">{words}</failure>"),
        };
        let name = escaped(&class.id);
        let _ = writeln!(text, "<testcase classname=\"crashcheck\" name=\"{name}\">{said}</testcase>");
    }
    text.push_str("</testsuite>\n");
    text
}

/// The whole for people.
#[must_use]
pub fn text(explored: &Explored, options: &Options) -> String {
    let mut text = String::new();
    if let Some(reason) = &explored.broken {
        let (reason, command) = (escape::word(reason), escape::shell(&options.checker.command));
        let _ = writeln!(
            text,
            "HARNESS-BROKEN: the checker fails on the complete state, in which nothing is lost: {reason}\n\
             it was run as: {command}"
        );
        return text;
    }
    for (number, class) in explored.classes.iter().enumerate() {
        class_text(&mut text, number + 1, class);
    }
    for gap in &explored.recording.gaps {
        let _ = writeln!(text, "{}", self::gap(gap));
    }
    let classes = explored.classes.len();
    let _ = writeln!(
        text,
        "{}: {} of {} states failed, in {classes} {}; {:.1} s, {} states a second",
        verdict(explored).name(),
        explored.failed,
        explored.distinct,
        if classes == 1 { "class" } else { "classes" },
        explored.seconds,
        per_second(explored)
    );
    if verdict(explored) == Verdict::NotMeasured
        && let Some(why) = unmeasured(explored)
    {
        let _ = writeln!(text, "no verdict: {}", escape::word(&why));
    }
    let _ = writeln!(text, "certificate: {}", certificate(explored, options));
    text
}

fn class_text(text: &mut String, number: usize, class: &Class) {
    let class = &class.shown();
    let profiles = class.profiles.join(", ");
    let _ = writeln!(text, "class {number}: {}", class.symptom);
    let _ = writeln!(text, "  {} states, under {profiles}; the smallest is {}", class.states, class.id);
    match (&class.missing_sync, class.lost.is_empty()) {
        (Some(sync), _) => {
            let places = class.after.len();
            let again =
                if places > 1 { format!(", and at {} more places alike", places - 1) } else { String::new() };
            let _ = writeln!(text, "  missing: {sync}{again}");
            if let Some(site) = &class.call_site {
                let _ = writeln!(text, "  called from: {site}");
            }
        }
        (None, true) => {
            let _ = writeln!(
                text,
                "  missing: no sync helps: nothing is lost here, the program was only cut short"
            );
        }
        (None, false) => {
            let _ = writeln!(
                text,
                "  missing: no sync helps: what is lost and what is kept is one operation, or the last"
            );
        }
    }
    for lost in &class.lost {
        let _ = writeln!(text, "  lost: {lost}");
    }
    for kept in &class.survived {
        let _ = writeln!(text, "  survived: {kept}");
    }
    for line in &class.timeline {
        let fate = match line.fate {
            Fate::Durable => "durable",
            Fate::Kept => "kept",
            Fate::Partly => "PARTLY",
            Fate::Lost => "LOST",
            Fate::Sync => "sync",
            Fate::Ack => "ack",
            Fate::Begin => "begin",
            Fate::After => "not yet",
        };
        if line.fate == Fate::After {
            text.push_str("    ------ crash ------\n");
        }
        let site = line.site.as_ref().map_or(String::new(), |site| format!(" at {site}"));
        let (step, call) = (line.step, &line.call);
        let _ = writeln!(text, "    {step:5} {fate:8} {call:9} {} {}{site}", line.text, line.task);
    }
    if class.timeline.last().is_none_or(|line| line.fate != Fate::After) {
        text.push_str("    ------ crash ------\n");
    }
}

#[cfg(test)]
mod tests {
    use super::unfinished;
    use crate::program::explore::Progress;
    use crate::program::search::STAGES;

    #[test]
    fn a_pass_needs_the_first_two_stages() {
        let check = |finished: usize, begun: usize, missing: Option<usize>| {
            let stages = STAGES[..begun].iter().enumerate();
            let stages: Vec<Progress> = stages
                .map(|(n, stage)| Progress { stage: *stage, checked: 1, complete: n < finished })
                .collect();
            assert_eq!(unfinished(&stages), missing.map(|at| STAGES[at]), "{finished} of {begun} stages");
        };
        check(8, 8, None);
        check(2, 3, None);
        check(1, 2, Some(1));
        check(0, 1, Some(0));
        check(0, 0, Some(0));
    }
}
