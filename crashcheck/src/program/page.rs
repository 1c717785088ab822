//! A page that explains what was found: one file that needs nothing else.
//!
//! I own the document. Every class is on it, with its chart (see `chart`), its timeline, what it takes to
//! see the state again and the sync that is missing. (P1) Nothing is fetched: no script, no font, no image;
//! style and drawings are in the file. (P2) All text is escaped
//! ([`escape`](mod@escape)), whatever a program calls its files. (P3)
//! Colour is never the only sign: each fate has a word. Nothing here decides anything (see [`report`]).

use std::ffi::OsStr;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::core::profile::Profile;
use crate::escape;
use crate::program::classes::{Class, Fate, Line};
use crate::program::explore::{Explored, Options};
use crate::program::ratchet::Compared;
use crate::program::report::{self, Verdict};

mod chart;

const STYLE: &str = include_str!("page/style.css");

/// What becomes of a step, in the words of the page, and what that means.
const FATES: [(Fate, &str); 8] = [
    (Fate::Durable, "a sync made it safe"),
    (Fate::Kept, "it reached the disk, although nothing made sure that it would"),
    (Fate::Partly, "some of it reached the disk"),
    (Fate::Lost, "it was done, and the disk has nothing of it"),
    (Fate::Sync, "a sync, where it returned"),
    (Fate::Ack, "the program said that something is durable"),
    (Fate::Begin, "the program said what it was about to do"),
    (Fate::After, "it comes after the crash"),
];

/// A fate's word, which is also its class in the style.
fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Durable => "durable",
        Fate::Kept => "kept",
        Fate::Partly => "partly",
        Fate::Lost => "lost",
        Fate::Sync => "sync",
        Fate::Ack => "ack",
        Fate::Begin => "begin",
        Fate::After => "after",
    }
}

/// The page.
#[must_use]
pub fn html(explored: &Explored, options: &Options, compared: Option<&Compared>) -> String {
    let verdict = report::verdict(explored);
    let command = escape::shell_of_names(&explored.recording.origin.command);
    let title = format!("{}: {command}", verdict.name());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(explored, options, verdict))
                main {
                    (overview(explored))
                    @for (number, class) in explored.classes.iter().enumerate() {
                        (finding(number + 1, &class.shown(), options, compared.is_some_and(|compared| compared.knows(class))))
                    }
                    (covered(explored, options))
                    (origin(explored, options))
                }
                footer { "crashcheck " (env!("CARGO_PKG_VERSION")) }
            }
        }
    };
    escape::lines(&page.into_string()).into_owned()
}

fn head(explored: &Explored, options: &Options, verdict: Verdict) -> Markup {
    let origin = &explored.recording.origin;
    let tone = match verdict {
        Verdict::Pass => "good",
        Verdict::Fail => "bad",
        Verdict::NotMeasured | Verdict::HarnessBroken => "unsure",
    };
    let rate = report::per_second(explored);
    let first = explored.first_failure.map_or("none".to_owned(), |first| format!("{first:.2} s"));
    html! {
        header class=(tone) {
            p.command { "Crash states of " code { (escape::shell_of_names(&origin.command)) } }
            h1 { span.badge { (verdict.name()) } " " (sentence(explored, options, verdict)) }
            dl.numbers {
                div { dt { "states checked" } dd { (explored.distinct) } }
                div { dt { "failed" } dd { (explored.failed) } }
                div { dt { "classes" } dd { (explored.classes.len()) } }
                div { dt { "first failure after" } dd { (first) } }
                div { dt { "states a second" } dd { (rate) } }
                div { dt { "profile" } dd { (options.profile.name()) } }
            }
        }
    }
}

/// The verdict as a sentence.
fn sentence(explored: &Explored, options: &Options, verdict: Verdict) -> String {
    match verdict {
        Verdict::Pass => "No crash state within the bounds fails the checker.".to_owned(),
        Verdict::NotMeasured => {
            let why = report::unmeasured(explored).unwrap_or_default();
            format!("Nothing failed, but not enough was measured: {}.", escape::word(&why))
        }
        Verdict::HarnessBroken => format!(
            "The checker fails on the complete state, in which nothing is lost: {}",
            escape::word(explored.broken.as_deref().unwrap_or_default())
        ),
        Verdict::Fail => {
            let classes = explored.classes.len();
            let unit = if classes == 1 { "reason" } else { "reasons" };
            let syncs = explored.classes.iter().filter(|class| class.missing_sync.is_some()).count();
            let profile = options.profile.name();
            let cured = match syncs {
                0 => "no sync helps".to_owned(),
                _ if syncs == classes => "a missing sync for each".to_owned(),
                _ => format!("a missing sync for {syncs} of them"),
            };
            format!("A crash under {profile} breaks this program for {classes} {unit}: {cured}.")
        }
    }
}

fn overview(explored: &Explored) -> Markup {
    if explored.classes.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "What was found" }
            div.scroll { table.overview {
                thead { tr { th { "" } th { "symptom" } th { "missing" } th { "profiles" } th.number { "states" } } }
                tbody {
                    @for (number, class) in explored.classes.iter().enumerate() {
                        tr {
                            td.number { (number + 1) }
                            td { a href=(format!("#class-{}", number + 1)) { (escape::word(&class.symptom)) } }
                            td { (escape::word(class.missing_sync.as_deref().unwrap_or("no sync helps"))) }
                            td { (class.profiles.join(", ")) }
                            td.number { (class.states) }
                        }
                    }
                }
            } }
        }
    }
}

fn finding(number: usize, class: &Class, options: &Options, is_known: bool) -> Markup {
    // A crash within the checker's recovery begins in the state that it recovered from.
    let (id, is_nested) = class.id.split_once('/').map_or((&*class.id, false), |(outer, _)| (outer, true));
    let replay = replay(id, options);
    html! {
        article id=(format!("class-{number}")) {
            h2 { span.ordinal { (number) } (class.symptom) @if is_known { " " span.known { "known" } } }
            p.facts {
                (class.states) @if class.states == 1 { " state fails" } @else { " states fail" }
                " like this, under " (class.profiles.join(", "))
                ". The smallest is " code { (class.id) } ", a crash after step " (class.state.cut)
                @if is_nested { " of what the checker itself does" } "."
            }
            (cure(class))
            div.columns {
                (list("Lost", "lost", &class.lost, "Nothing: the program was only cut short."))
                (list("Survived, although it came later", "kept", &class.survived, "Nothing that came later."))
            }
            (chart::chart(class))
            (timeline(class))
            p.replay {
                @if is_nested { "See the state in which the checker begins: " } @else { "See this state: " }
                code { (replay) }
            }
        }
    }
}

/// The command that lays a state out.
fn replay(id: &str, options: &Options) -> String {
    let trace = options.trace.as_os_str();
    let mut words = ["crashcheck", "replay", id].map(OsStr::new).to_vec();
    words.extend([trace, OsStr::new("--into"), OsStr::new("state")]);
    if options.profile != Profile::PosixStrict {
        words.extend(["--profile", options.profile.name()].map(OsStr::new));
    }
    words.extend(options.block_units.then_some(OsStr::new("--blocks")));
    escape::shell(words)
}

fn cure(class: &Class) -> Markup {
    let more = class.after.len().saturating_sub(1);
    html! {
        @match &class.missing_sync {
            Some(sync) => div.cure {
                p.label { "The sync that is missing" }
                p { (sync) @if more > 0 { ", and at " (more) " more places alike" } "." }
                @if let Some(site) = &class.call_site { p.why { "That call is made in " code { (site) } "." } }
                p.why { "With it put into this recording, no crash can leave any of these states." }
            },
            None => div.cure.none {
                p.label { "No sync helps" }
                p {
                    @if class.lost.is_empty() {
                        "Nothing is lost here. The program was cut short between two steps, and what it had "
                        "done by then is what the checker refuses."
                    } @else {
                        "What is lost and what is kept are parts of one operation, or of the last: the "
                        "operation is not atomic, and a sync comes too late."
                    }
                }
            }
        }
    }
}

fn list(title: &str, kind: &str, lines: &[String], none: &str) -> Markup {
    html! {
        div.list.(kind) {
            h3 { (title) }
            @if lines.is_empty() { p { (none) } }
            @else { ul { @for line in lines { li { (line) } } } }
        }
    }
}

fn timeline(class: &Class) -> Markup {
    let cut = class.state.cut;
    html! {
        div.scroll { table.timeline {
            thead { tr { th.number { "step" } th { "fate" } th { "call" } th { "what" } th { "who" } th { "where" } } }
            tbody {
                @for (at, line) in class.timeline.iter().enumerate() {
                    @if at > 0 && class.timeline[at - 1].step + 1 < line.step {
                        tr.gap { td colspan="6" { "steps without a loss are left out" } }
                    }
                    @if line.step == cut { (crash()) }
                    (row(line))
                    @if class.after.first() == Some(&line.step) && class.missing_sync.is_some() {
                        tr.cure { td {} td colspan="5" { "the missing sync belongs here" } }
                    }
                }
                @if class.timeline.last().is_none_or(|line| line.step < cut) { (crash()) }
            }
        } }
    }
}

fn crash() -> Markup {
    html! { tr.crash { td colspan="6" { "crash" } } }
}

fn row(line: &Line) -> Markup {
    html! {
        tr {
            td.number { (line.step) }
            td { span.fate.(word(line.fate)) { (word(line.fate)) } }
            td { code { (line.call) } }
            td { (line.text) }
            td.who { (line.task) }
            td.site { @if let Some(site) = &line.site {
                details { summary { (site) } ol { @for frame in &line.stack { li { (frame) } } } }
            } }
        }
    }
}

fn covered(explored: &Explored, options: &Options) -> Markup {
    html! {
        section {
            h2 { "What was covered" }
            p { (report::certificate(explored, options)) "." }
            div.scroll { table.stages {
                thead { tr { th { "stage" } th.number { "states checked" } th { "" } } }
                tbody {
                    @for progress in &explored.stages {
                        tr {
                            td { (progress.stage.name()) }
                            td.number { (progress.checked) }
                            td { (progress.end()) }
                        }
                    }
                }
            } }
            @if !explored.recording.gaps.is_empty() {
                h3 { "Not measured" }
                ul { @for gap in &explored.recording.gaps { li { code { (escape::word(&gap.path)) } ": " (escape::word(&gap.reason)) } } }
            }
        }
    }
}

fn origin(explored: &Explored, options: &Options) -> Markup {
    let origin = &explored.recording.origin;
    let recording = &explored.recording;
    let syncs = recording.syncs();
    let operations = recording.trace.steps.len() - recording.notes.len() - syncs;
    html! {
        section {
            h2 { "Where this is from" }
            dl.origin {
                dt { "command" } dd { code { (escape::shell_of_names(&origin.command)) } }
                dt { "directory" } dd { code { (escape::word(&origin.dir)) } }
                dt { "checker" } dd { code { (escape::shell(&options.checker.command)) } }
                dt { "recording" } dd {
                    code { (escape::path(&options.trace)) } ": " (operations) " operations, " (syncs) " syncs, "
                    (recording.acks().count()) " acknowledgements, by " (escape::word(&origin.recorder)) " on Linux " (escape::word(&origin.kernel))
                }
                dt { "seed" } dd { (options.reach.seed) }
            }
            h3 { "The words" }
            dl.legend {
                @for (fate, means) in FATES {
                    dt { span.fate.(word(fate)) { (word(fate)) } } dd { (means) }
                }
            }
        }
    }
}
