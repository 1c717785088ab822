//! The properties of the model, one function each.
//!
//! I own what each property means for one recovered state. A property says what is wrong, or nothing.
//! (J1) P1 compares the whole readable state byte for byte, so P2 to P5 and P7 follow from it; those
//! are asked when P1 fails, to name what broke. The cheap ones are asked of every state. (J2) I know
//! the disk only as "before" and "after". (J3) After a sync that lied (success now, nothing on disk) P13
//! takes the place of P1, P10, P12, P14, P16 and P20: the state is that after some prefix of what was
//! issued since, or the report names a loss, or open refuses. Media faults are judged elsewhere (see
//! media).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use seawall::evidence::{self, Act, Evidence, Noted};
use seawall::types::{Epoch, GroupId, Index, SnapshotOwner, Term};
use seawall::{Error, RecoveryReport, Tail, VerifyReport};

use super::execute::Run;
use super::oracle::{Group, Moment, State, What};
use crate::core::subject::Violation;
use crate::core::trace::{Op, Trace};

/// What a completed recovery showed.
#[derive(Clone, Debug)]
pub struct Exposed {
    /// The state.
    pub state: Arc<State>,
    /// Its epoch.
    pub epoch: Epoch,
}

/// One recovered state and all that it is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The run that crashed.
    pub run: &'a Run,
    /// How many of its events had happened.
    pub events: usize,
    /// What its history allows.
    pub moment: &'a Moment,
    /// What was read.
    pub state: &'a State,
    /// What the open reported.
    pub report: &'a RecoveryReport,
    /// What an earlier recovery showed just before this crash.
    pub exposed: Option<&'a Exposed>,
}

/// A property's function: what is wrong, if something is.
pub type Property = fn(&Case<'_>) -> Option<String>;

/// Asked of every state.
pub const ALWAYS: &[(&str, Property)] = &[
    ("P1", p1),
    ("P6", p6),
    ("P8", p8),
    ("P9", p9),
    ("P10", p10),
    ("P12", p12),
    ("P14", p14),
    ("P15", p15),
    ("P16", p16),
    ("P20", p20),
];

/// Asked of every state after a sync that lied.
pub const AFTER_A_LIE: &[(&str, Property)] = &[("P13", p13), ("P8", p8), ("P9", p9)];

/// Follow from P1; asked when it fails.
pub const IMPLIED: &[(&str, Property)] = &[("P2", p2), ("P3", p3), ("P4", p4), ("P5", p5), ("P7", p7)];

/// Judges a state that was opened and read.
#[must_use]
pub fn judge(case: &Case<'_>) -> Vec<Violation> {
    if case.moment.lied {
        return ask(case, AFTER_A_LIE);
    }
    let mut found = ask(case, ALWAYS);
    if found.iter().any(|v| v.property == "P1") {
        found.extend(ask(case, IMPLIED));
    }
    found
}

fn ask(case: &Case<'_>, properties: &[(&'static str, Property)]) -> Vec<Violation> {
    let alarm = case.report.is_alarm();
    let failed = properties.iter().filter_map(|(name, property)| Some((*name, property(case)?)));
    failed
        .map(|(property, text)| {
            let false_alarm = property == "P12";
            Violation { property, silent: !alarm && !false_alarm, false_alarm, text }
        })
        .collect()
}

/// Judges an open that refused.
#[must_use]
pub fn refused(moment: &Moment, error: &Error) -> Option<Violation> {
    let unborn = matches!(error, Error::NotAStore { .. } | Error::CreationIncomplete);
    if !moment.exists && unborn || moment.lied {
        return None;
    }
    Some(false_alarm(format!("open refused: {error}")))
}

/// Judges a state that was opened and could not be read.
#[must_use]
pub fn unreadable(moment: &Moment, what: &str) -> Option<Violation> {
    (!moment.lied).then(|| false_alarm(format!("after the open, {what}")))
}

/// An alarm that nothing explains.
#[must_use]
pub fn false_alarm(text: String) -> Violation {
    Violation { property: "P12", silent: false, false_alarm: true, text }
}

/// P23 Evidence: the chain holds, and when an open calls the tail torn, an event that says so is durable
/// before a byte of that segment changes. Asked where the open itself was recorded.
#[must_use]
pub fn p23(trace: &Trace, report: &RecoveryReport, evidence: &Result<Evidence, String>) -> Option<String> {
    let evidence = match evidence {
        Ok(evidence) => evidence,
        Err(e) => return Some(format!("the evidence cannot be read: {e}")),
    };
    if let Some(fault) = evidence.fault(0) {
        return Some(format!("the evidence was made good without a media fault: {fault}"));
    }
    if report.tail != Tail::Torn {
        return None;
    }
    let is_cut = |noted: &&Noted| noted.epoch == report.epoch && noted.event.act == Act::Cut;
    let Some(cut) = evidence.events.iter().find(is_cut) else {
        return Some("a torn tail was cut, and no evidence says so".into());
    };
    let (file, written) = (trace.inos.get(&cut.event.text), trace.inos.get(evidence::NAME));
    let changes = |op: &Op| match op {
        Op::Write { ino, .. } | Op::SetLen { ino, .. } => Some(ino) == file,
        Op::Remove { path } | Op::Rename { from: path, .. } => *path == cut.event.text,
        _ => false,
    };
    let changed = trace.steps.iter().position(|step| changes(&step.op))?;
    let syncs = |op: &Op| matches!(op, Op::SyncData { ino } | Op::SyncAll { ino } if Some(ino) == written);
    let noted = trace.steps[..changed].iter().any(|step| !step.failed && syncs(&step.op));
    (!noted).then(|| format!("{} was changed before the evidence of it was durable", cut.event.text))
}

/// P1 Durability: for all s in Crash(h), R(s).state is in A(h).
pub fn p1(case: &Case<'_>) -> Option<String> {
    let fits = case.moment.allowed.iter().any(|s| s.admits(case.state));
    (!fits).then(|| difference(&case.moment.allowed, case.state))
}

/// P2 Prefix: no hole; an atomic batch is all or nothing.
pub fn p2(case: &Case<'_>) -> Option<String> {
    for (id, group) in &case.state.groups {
        let indexes = group.entries.keys().map(|i| i.0);
        if !indexes.eq(group.first.0..=group.last.index.0) && !group.entries.is_empty() {
            return Some(format!("group {id} has a hole"));
        }
    }
    for (n, pair) in case.moment.allowed.windows(2).enumerate() {
        if is_half(&pair[0], &pair[1], case.state) {
            return Some(format!("batch {} came back in part", case.moment.unknown[n]));
        }
    }
    None
}

/// Whether each group is as before or as after, and not all the same.
fn is_half(before: &State, after: &State, seen: &State) -> bool {
    let ids: BTreeSet<_> =
        before.groups.keys().chain(after.groups.keys()).chain(seen.groups.keys()).collect();
    let one = |state: &State, id| {
        let mut only = State::default();
        only.groups.extend(state.groups.get_key_value(id).map(|(k, v)| (*k, v.clone())));
        only
    };
    ids.iter().all(|id| one(before, id).admits(&one(seen, id)) || one(after, id).admits(&one(seen, id)))
        && !before.admits(seen)
        && !after.admits(seen)
}

/// P3 NoResurrect: an entry whose truncation was acknowledged never returns.
pub fn p3(case: &Case<'_>) -> Option<String> {
    let allowed = &case.moment.allowed;
    for (id, group) in &case.state.groups {
        for entry in group.entries.values() {
            let stays = |s: &Arc<State>| {
                s.groups.get(id).is_some_and(|g| g.entries.get(&entry.id.index) == Some(entry))
            };
            if !allowed.iter().any(stays) && was_issued(case, &What::Append(entry.clone())) {
                return Some(format!("group {id}: entry {} was removed and is back", entry.id));
            }
        }
    }
    None
}

fn was_issued(case: &Case<'_>, what: &What) -> bool {
    case.run.history.batches().take(case.moment.issued).flatten().any(|act| act.what == *what)
}

/// P4 NoInvention: every entry returned was issued, byte for byte, with that identity.
pub fn p4(case: &Case<'_>) -> Option<String> {
    for (id, group) in &case.state.groups {
        let created = case.run.history.batches().take(case.moment.issued).flatten().any(|act| {
            act.group() == *id && matches!(act.what, What::Create(i) if i.is_none() || i == group.incarnation)
        });
        if !created {
            return Some(format!("group {id} of incarnation {:?} was never created", group.incarnation));
        }
        let invented = group.entries.values().find(|e| !was_issued(case, &What::Append((*e).clone())));
        if let Some(entry) = invented {
            return Some(format!(
                "group {id}: entry {} of {} bytes was never issued",
                entry.id,
                entry.data.len()
            ));
        }
    }
    None
}

/// P5 Vote: the key never falls, equal keys have equal bytes; its term is at least that of every entry
/// for hosts that wrote a vote of that term earlier or in the same batch (this one always does).
pub fn p5(case: &Case<'_>) -> Option<String> {
    each_survivor(case, |id, old, new| match (&old.vote, &new.vote) {
        (Some(old), None) => Some(format!("group {id}: the vote of term {} is gone", old.key.term)),
        (Some(old), Some(new)) if new.key < old.key => {
            Some(format!("group {id}: the vote fell from {:?} to {:?}", old.key, new.key))
        }
        (Some(old), Some(new)) if new.key == old.key && new != old => {
            Some(format!("group {id}: the vote {:?} has other bytes", old.key))
        }
        _ => None,
    })
    .or_else(|| vote_behind(case))
}

/// An entry that came back without the vote of its term, which was written before it or with it.
fn vote_behind(case: &Case<'_>) -> Option<String> {
    let mut voted: BTreeMap<GroupId, Term> = BTreeMap::new();
    for batch in case.run.history.batches().take(case.moment.issued) {
        for act in batch {
            match &act.what {
                What::Vote(vote) => drop(voted.insert(act.group(), vote.key.term)),
                What::Create(_) => drop(voted.remove(&act.group())),
                _ => {}
            }
        }
        for act in batch {
            let What::Append(entry) = &act.what else { continue };
            let Some(group) = case.state.groups.get(&act.group()) else { continue };
            let there = group.entries.get(&entry.id.index) == Some(entry);
            let term = group.vote.as_ref().map_or(Term(0), |v| v.key.term);
            if there && term < entry.id.term && voted.get(&act.group()).is_some_and(|v| *v >= entry.id.term) {
                return Some(format!(
                    "group {}: entry {} is there, its vote is of term {term}",
                    act.group(),
                    entry.id
                ));
            }
        }
    }
    None
}

/// Asks about each group that is the same in the acknowledged state and in what came back.
fn each_survivor(case: &Case<'_>, ask: impl Fn(u64, &Group, &Group) -> Option<String>) -> Option<String> {
    let acked = &case.moment.allowed[0];
    acked.groups.iter().find_map(|(id, old)| {
        let new = case.state.groups.get(id)?;
        let same = old.incarnation.is_none() || old.incarnation == new.incarnation;
        if same { ask(id.0, old, new) } else { None }
    })
}

/// P6 Commit: the recovered commit index is monotone over restarts and at most the last index.
pub fn p6(case: &Case<'_>) -> Option<String> {
    let beyond = case.state.groups.iter().find(|(_, g)| g.commit > g.last.index);
    if let Some((id, g)) = beyond {
        return Some(format!("group {id}: commit index {} is past the last, {}", g.commit, g.last.index));
    }
    each_survivor(case, |id, old, new| {
        (new.commit < old.commit)
            .then(|| format!("group {id}: commit index fell from {} to {}", old.commit, new.commit))
    })
}

/// P7 SnapshotAtomic: an owned snapshot is the acknowledged one or a later complete one, its digest
/// equal to what was published and its bytes read back.
pub fn p7(case: &Case<'_>) -> Option<String> {
    let issued: Vec<_> = case.run.history.batches().take(case.moment.issued).flatten().collect();
    for (id, group) in &case.state.groups {
        let Some(seen) = group.snapshot.as_ref().filter(|s| s.owner == SnapshotOwner::Owned) else {
            continue;
        };
        let known = issued.iter().any(|act| match &act.what {
            What::Snapshot(s) | What::Install(s) => {
                (s.id, &s.content, &s.membership) == (seen.id, &seen.content, &seen.membership)
                    && (s.digest.is_none() || s.digest == seen.digest)
            }
            _ => false,
        });
        if !known {
            return Some(format!("group {id}: snapshot {} was never published as it is", seen.id));
        }
    }
    each_survivor(case, |id, old, new| {
        let index = |g: &Group| g.snapshot.as_ref().map_or(Index(0), |s| s.id.index);
        (index(new) < index(old))
            .then(|| format!("group {id}: snapshot {} is back, {} was acknowledged", index(new), index(old)))
    })
}

/// P8 Continuity: first index = purge index + 1 with its term known, and the log has no hole to its
/// last entry. (That the term reads back is checked while observing.)
pub fn p8(case: &Case<'_>) -> Option<String> {
    case.state.groups.iter().find_map(|(id, g)| {
        let last = g.entries.values().next_back().map_or(g.purged, |e| e.id);
        let whole = g.entries.len() as u64 == g.last.index.0 - g.purged.index.0;
        let fits = g.first == g.purged.index.next() && last == g.last && whole;
        (!fits).then(|| {
            format!(
                "group {id}: first {}, purged {}, last {}, {} entries",
                g.first,
                g.purged,
                g.last,
                g.entries.len()
            )
        })
    })
}

/// P9 PurgeSafe: an index missing at the front implies a snapshot pointer that covers it.
pub fn p9(case: &Case<'_>) -> Option<String> {
    case.state.groups.iter().find_map(|(id, g)| {
        let covered = g.snapshot.as_ref().map_or(Index(0), |s| s.id.index);
        (g.purged.index > covered)
            .then(|| format!("group {id}: purged to {}, and a snapshot covers {covered}", g.purged))
    })
}

/// P10 ExposedIsDurable: what a writable open returned survives an immediate power loss.
pub fn p10(case: &Case<'_>) -> Option<String> {
    let exposed = case.exposed?;
    (*exposed.state != *case.state).then(|| {
        format!(
            "an open had shown its result, and after a power loss {}",
            difference(std::slice::from_ref(&exposed.state), case.state)
        )
    })
}

/// P11 Idempotent: opening again without a crash gives the same state, and the space used does not
/// grow with the number of opens. `states` and `bytes` are those of repeated opens, in order.
#[must_use]
pub fn p11(first: &State, states: &[State], bytes: &[u64]) -> Option<String> {
    if let Some(other) = states.iter().find(|s| *s != first) {
        return Some(format!(
            "another open gives another state: {}",
            difference(&[Arc::new(first.clone())], other)
        ));
    }
    // The first few opens may settle what a crash left; a spare may be made once.
    let (last, before) = bytes.split_last()?;
    let grew = before.iter().all(|b| b < last) && bytes.len() > 2;
    grew.then(|| format!("space used grows with every open: {bytes:?} bytes"))
}

/// P12 NoFalseAlarm: without a media fault no alarm. (A refusal and a read error are one as well; they
/// are caught before there is a state to judge.)
pub fn p12(case: &Case<'_>) -> Option<String> {
    case.report.is_alarm().then(|| format!("an alarm without a media fault: {}", case.report))
}

/// P13 DetectOrRepair, after a sync that lied: what came back is the state after some prefix, or the
/// report says that something is lost.
pub fn p13(case: &Case<'_>) -> Option<String> {
    if case.report.is_alarm() { None } else { p1(case) }
}

/// P14 TornSplit, for plain crashes: what is dropped as torn lies above every acknowledged position.
pub fn p14(case: &Case<'_>) -> Option<String> {
    let acked = last_acked(case)?;
    (case.report.position.0 < acked)
        .then(|| format!("the log ends at position {} and {acked} was acknowledged", case.report.position))
}

fn last_acked(case: &Case<'_>) -> Option<u64> {
    case.moment.acked.iter().filter_map(|n| case.run.positions[*n]).map(|p| p.0).max()
}

/// Batches that the host has in flight at most.
const IN_FLIGHT: usize = 3;

/// P15 BoundedAmbiguity: `maybe_acked` is there unless a seal or a clean close preceded, the truth lies
/// inside, and at most the batches in flight together plus one are above its mark.
pub fn p15(case: &Case<'_>) -> Option<String> {
    let Some(maybe) = case.report.maybe_acked else {
        return (!case.report.clean).then(|| "no seal preceded and maybe_acked is missing".into());
    };
    if case.report.clean {
        return Some("a seal preceded and maybe_acked is there".into());
    }
    if case.moment.closed && case.exposed.is_none() && case.report.epoch.0 == case.moment.epoch.0 + 1 {
        return Some("a clean close preceded and maybe_acked is there".into());
    }
    let acked = case.moment.acked.iter().filter_map(|n| case.run.positions[*n]);
    let open = acked.filter(|p| *p > maybe.above).count();
    if open > IN_FLIGHT + 1 {
        return Some(format!("{open} acknowledged batches are above the mark {}", maybe.above));
    }
    let acked = last_acked(case).filter(|acked| *acked > maybe.observed.0)?;
    Some(format!("position {acked} was acknowledged, and maybe_acked ends at {}", maybe.observed))
}

/// P16 Unknown: the next open settles each unknown operation once and for good.
pub fn p16(case: &Case<'_>) -> Option<String> {
    let exposed = case.exposed?;
    let which = |state: &State| case.moment.allowed.iter().position(|s| s.admits(state));
    let (then, now) = (which(&exposed.state)?, which(case.state)?);
    (then != now).then(|| format!("{then} unknown batches were in at one open and {now} at the next"))
}

/// P19 SingleWriter: the second writer gets Locked before any write.
#[must_use]
pub fn p19(second: &Result<(), Error>, changed: bool) -> Option<String> {
    match second {
        Err(Error::Locked) if !changed => None,
        Err(Error::Locked) => Some("a second writer was refused after it had written".into()),
        Err(e) => Some(format!("a second writer got another error than Locked: {e}")),
        Ok(()) => Some("a second writer was let in".into()),
    }
}

/// P20 Epoch: each writable open gets a higher epoch than any that was shown.
pub fn p20(case: &Case<'_>) -> Option<String> {
    let shown = case.exposed.map_or(case.moment.epoch, |e| e.epoch.max(case.moment.epoch));
    (case.report.epoch <= shown).then(|| format!("epoch {} after epoch {shown}", case.report.epoch))
}

/// P22 Total: open ends on any bytes. `panic` is what a panic said.
#[must_use]
pub fn p22(panic: &str) -> Violation {
    Violation { property: "P22", silent: false, false_alarm: false, text: format!("panic: {panic}") }
}

/// P25 TimeFree: no clock is in files or decisions: a second recovery of the same bytes, at another
/// time, gives the same state and leaves the same bytes. (The order of directory listings is outside:
/// the seam sorts them.)
#[must_use]
pub fn p25(same_state: bool, same_bytes: bool) -> Option<String> {
    (!same_state || !same_bytes).then(|| {
        format!("a second recovery of the same bytes: same state {same_state}, same bytes {same_bytes}")
    })
}

/// P26 Determinism: same operations, same batch boundaries, same creation seed: same bytes.
#[must_use]
pub fn p26(first: &Run, second: &Run) -> Option<String> {
    (first.image != second.image || first.trace != second.trace)
        .then(|| "the same steps left other bytes".into())
}

/// P12 NoFalseAlarm, of a verification: what a crash leaves is not damage.
#[must_use]
pub fn p12_verify(verified: &Result<VerifyReport, String>) -> Option<String> {
    match verified {
        Ok(report) => report.damage.first().map(|damage| format!("a verification finds {damage:?}")),
        Err(e) => Some(format!("a verification ends in: {e}")),
    }
}

/// P27 ReadOnly: a read-only open changes no byte and reads what a writable one reads.
#[must_use]
pub fn p27(seen: &Result<State, String>, writable: &State, changed: bool) -> Option<String> {
    match seen {
        _ if changed => Some("a read-only open changed the disk".into()),
        Err(e) => Some(format!("a read-only open fails: {e}")),
        Ok(state) if state == writable => None,
        Ok(state) => Some(format!(
            "a read-only open reads another state: {}",
            difference(&[Arc::new(writable.clone())], state)
        )),
    }
}

/// Says how a state differs from the nearest of those allowed.
#[must_use]
pub fn difference(allowed: &[Arc<State>], seen: &State) -> String {
    let mut best = allowed.iter().map(|s| differences(s, seen)).min_by_key(Vec::len).unwrap_or_default();
    let more = best.len().saturating_sub(4);
    best.truncate(4);
    let mut text = best.join("; ");
    if more > 0 {
        write!(text, "; and {more} more").expect("a string takes all");
    }
    format!("the state is none of the {} allowed; nearest: {text}", allowed.len())
}

fn differences(wanted: &State, seen: &State) -> Vec<String> {
    let mut found = Vec::new();
    for id in wanted.groups.keys().chain(seen.groups.keys()).collect::<BTreeSet<_>>() {
        match (wanted.groups.get(id), seen.groups.get(id)) {
            (Some(_), None) => found.push(format!("group {id} is missing")),
            (None, Some(_)) => found.push(format!("group {id} is there")),
            (Some(wanted), Some(seen)) => group_differences(&id.to_string(), wanted, seen, &mut found),
            (None, None) => unreachable!("the id is of one of them"),
        }
    }
    found
}

fn group_differences(id: &str, wanted: &Group, seen: &Group, found: &mut Vec<String>) {
    let mut note = |name: &str, wanted: String, seen: String| {
        if wanted != seen {
            found.push(format!("group {id}: {name} is {seen}, not {wanted}"));
        }
    };
    if let Some(incarnation) = wanted.incarnation {
        note("incarnation", format!("{:?}", Some(incarnation)), format!("{:?}", seen.incarnation));
    }
    note("first", wanted.first.to_string(), seen.first.to_string());
    note("purged", wanted.purged.to_string(), seen.purged.to_string());
    note("last", wanted.last.to_string(), seen.last.to_string());
    note("commit", wanted.commit.to_string(), seen.commit.to_string());
    let vote = |g: &Group| format!("{:?}", g.vote.as_ref().map(|v| (v.key.term.0, v.key.rank)));
    note("vote", vote(wanted), vote(seen));
    let snapshot = |g: &Group| {
        g.snapshot
            .as_ref()
            .map_or("none".into(), |s| format!("{} {:?} of {} bytes", s.id, s.owner, s.content.len()))
    };
    note("snapshot", snapshot(wanted), snapshot(seen));
    let indexes: BTreeSet<_> = wanted.entries.keys().chain(seen.entries.keys()).collect();
    for index in indexes {
        let entry = |g: &Group| {
            g.entries.get(index).map_or("missing".into(), |e| {
                format!(
                    "{} of {} bytes, {}",
                    e.id,
                    e.data.len(),
                    String::from_utf8_lossy(&e.data).chars().take_while(|c| *c != ':').collect::<String>()
                )
            })
        };
        note(&format!("entry {index}"), entry(wanted), entry(seen));
    }
}
