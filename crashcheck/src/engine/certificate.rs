//! What a campaign says at its end: for people, and as one line of JSON.
//!
//! I own the words. A claim is never wider than what was done: each bound that cut something short is
//! named, with how often it did. I run nothing.

use std::fmt::Write;

use serde_json::{Value, json};

use super::campaign::{Found, Options, Summary};
use super::generate::{EXHAUSTIVE, Sequence};
use super::step;
use super::subject::SAMPLE;
use crate::core::choices::Tears;

/// The text of a sequence in a replay id: steps, with `!` before them if it starts from nothing, and
/// before that the number of groups and `:` if they are not two.
#[must_use]
pub fn sequence_text(sequence: &Sequence) -> String {
    let groups = if sequence.groups == 2 { String::new() } else { format!("{}:", sequence.groups) };
    let nothing = if sequence.from_nothing { "!" } else { "" };
    format!("{groups}{nothing}{}", step::text(&sequence.steps))
}

/// Reads a replay id: a sequence, and after `@` the state in it.
pub fn parse_replay(text: &str) -> Result<(Sequence, Option<crate::core::replay::Id>), String> {
    let (steps, state) = text.split_once('@').map_or((text, None), |(steps, state)| (steps, Some(state)));
    let (groups, steps) = match steps.split_once(':') {
        None => (2, steps),
        Some((groups @ ("3" | "4"), steps)) => (groups.parse().expect("a digit"), steps),
        Some((other, _)) => {
            return Err(format!("{other:?} is no number of groups: 3 or 4, or nothing for 2"));
        }
    };
    let (from_nothing, steps) = steps.strip_prefix('!').map_or((false, steps), |rest| (true, rest));
    let sequence = Sequence { groups, from_nothing, ..Sequence::of(step::parse(steps)?) };
    let id = state.map(|s| crate::core::replay::Id::parse(s).ok_or_else(|| format!("{s:?} names no state")));
    Ok((sequence, id.transpose()?))
}

/// The command that shows a finding again.
#[must_use]
pub fn replay_command(found: &Found, options: &Options) -> String {
    let state = found.id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
    format!(
        "crashcheck engine --profile {} --replay '{}{state}'",
        options.bounds.profile.name(),
        sequence_text(&found.sequence)
    )
}

/// The certificate for people.
#[must_use]
pub fn text(summary: &Summary, options: &Options) -> String {
    let mut out = String::new();
    for found in &summary.found {
        finding(&mut out, found, options).expect("a string takes all");
    }
    body(&mut out, summary, options).expect("a string takes all");
    out
}

fn finding(out: &mut String, found: &Found, options: &Options) -> std::fmt::Result {
    let class = match (found.silent, found.false_alarm) {
        (true, _) => "SILENT",
        (_, true) => "FALSE ALARM",
        _ => "WRONG",
    };
    writeln!(out, "{class} {}", found.property)?;
    writeln!(out, "  operations: {}", sequence_text(&found.sequence))?;
    writeln!(out, "  again with: {}", replay_command(found, options))?;
    found.text.lines().try_for_each(|line| writeln!(out, "  {line}"))?;
    writeln!(out)
}

fn body(out: &mut String, summary: &Summary, options: &Options) -> std::fmt::Result {
    let counters = &summary.counters;
    let bounds = &options.bounds;
    writeln!(out, "{}", if summary.is_pass() { "PASS" } else { "FAIL" })?;
    writeln!(
        out,
        "sequences run      {} (seed {}, next {})",
        summary.sequences, options.seed, summary.resume
    )?;
    writeln!(out, "states judged      {} of {} generated", counters.distinct, counters.generated)?;
    let (different, all) = summary.seen;
    writeln!(out, "different states   {}{different}", if all { "" } else { "at least " })?;
    writeln!(
        out,
        "nested             {} states of crashes inside recovery, in {} of the runs",
        counters.nested, summary.nested_runs
    )?;
    writeln!(out, "silent             {}", silent(summary))?;
    writeln!(out, "false alarms       {}", false_alarms(summary))?;
    writeln!(out, "panics             {}", counters.panics)?;
    writeln!(out, "states a second    {:.0}", rate(summary))?;
    writeln!(
        out,
        "complete           every sequence of at most {} of {} operations (plus every single one of {}), every crash point",
        summary.complete_length,
        EXHAUSTIVE.len(),
        step::Kind::ALL.len()
    )?;
    writeln!(
        out,
        "                   with every set of up to {} unsynced units under {}; {} of {} crash points had more (at most {}):",
        bounds.max_subset_units,
        bounds.profile.name(),
        counters.cut_bounds.wide_cuts,
        counters.cuts,
        counters.cut_bounds.most_free
    )?;
    writeln!(
        out,
        "                   there all with at most {0} omitted, at most {0} kept, and every prefix",
        bounds.omissions
    )?;
    let tears = match bounds.tears {
        Tears::None => "none; each unit of 512 bytes is old or new".into(),
        Tears::One => format!(
            "one unit torn inside; {} states with some of the others only",
            counters.cut_bounds.torn_partly
        ),
    };
    writeln!(out, "tears              {tears}")?;
    writeln!(out, "nested depth       {}, in one run of {}", bounds.nested_depth, options.nested_every)?;
    if bounds.tears == Tears::One && bounds.nested_depth > 0 {
        writeln!(
            out,
            "                   there a unit is torn at up to five places, in the run or in its recovery"
        )?;
    }
    writeln!(
        out,
        "sampled            P11, P19, P25, P27 at one crash point of {SAMPLE}; P26 in one run of 8; sequences of 3 to 10 after the complete ones"
    )?;
    let structural: u64 = share(summary);
    writeln!(out, "mix                {structural} % of the steps truncate, compact, publish or install")
}

/// Structural steps among all, in percent.
fn share(summary: &Summary) -> u64 {
    let all: u64 = summary.kinds.values().sum();
    let kinds = step::Kind::ALL.iter().filter(|k| k.is_structural());
    let structural: u64 = kinds.filter_map(|k| summary.kinds.get(k.name())).sum();
    (structural * 100).checked_div(all).unwrap_or(0)
}

fn live(summary: &Summary, alarm: bool) -> u64 {
    summary.live.iter().filter(|(property, _)| (**property == "P12") == alarm).map(|(_, n)| n).sum()
}

fn silent(summary: &Summary) -> u64 {
    summary.counters.silent + live(summary, false)
}

fn false_alarms(summary: &Summary) -> u64 {
    summary.counters.false_alarms + live(summary, true)
}

fn rate(summary: &Summary) -> f64 {
    if summary.seconds > 0.0 { summary.counters.distinct as f64 / summary.seconds } else { 0.0 }
}

/// The certificate for machines.
#[must_use]
pub fn machine(summary: &Summary, options: &Options) -> Value {
    let counters = &summary.counters;
    let mut violations = counters.violations.clone();
    for (property, n) in &summary.live {
        *violations.entry(property).or_default() += n;
    }
    let findings: Vec<Value> = summary.found.iter().map(|f| {
        json!({
            "property": f.property, "silent": f.silent, "false_alarm": f.false_alarm,
            "operations": sequence_text(&f.sequence), "replay": replay_command(f, options), "text": f.text,
        })
    }).collect();
    json!({
        "verdict": verdict(summary),
        "distinct_states": counters.distinct,
        "different_states": summary.seen.0,
        "nested_states": counters.nested,
        "silent": silent(summary),
        "false_alarms": false_alarms(summary),
        "panics": counters.panics,
        "states_per_second": rate(summary).round(),
        "complete_bounds": {
            "length": summary.complete_length,
            "groups": options.groups,
            "operations": EXHAUSTIVE.iter().map(|k| k.name()).collect::<Vec<_>>(),
            "bounds": options.bounds,
            "nested_every": options.nested_every,
            "crash_points": counters.cuts,
            "cut_short": counters.cut_bounds,
        },
        "violations": violations,
        "generated": counters.generated,
        "sequences": summary.sequences,
        "steps": summary.kinds,
        "structural_percent": share(summary),
        "seed": options.seed,
        "resume": summary.resume,
        "seconds": (summary.seconds * 10.0).round() / 10.0,
        "findings": findings,
    })
}

fn verdict(summary: &Summary) -> &'static str {
    match summary {
        s if s.broken.is_some() => "HARNESS-BROKEN",
        s if !s.is_pass() => "FAIL",
        s if s.counters.distinct == 0 => "NOT-MEASURED",
        _ => "PASS",
    }
}
