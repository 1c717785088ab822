//! Makes few explained findings of many failures.
//!
//! I own the grouping. Failures of one symptom (the reason with numbers and quotations left out) are divided by the
//! sync that is missing: the class's smallest state names what is lost too much, each sync of those files
//! and directories is put into the recording by way of trial, and the one after which no crash can leave
//! that state is the missing one; every failure that it rules out belongs to the class. The trial is made
//! at every place where the program does the same thing, so that a loop is one finding. Where no sync
//! helps, the operation itself is not atomic, and the class says so.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::core::minimise::ddmin;
use crate::core::profile::Profile;
use crate::core::replay::{Paths, step_text};
use crate::core::trace::{Ino, Op, Trace};
use crate::escape;
use crate::program::explore::{Failure, Options};
use crate::program::recording::Recording;
use crate::program::scene::{Loss, Scene, Script};
use crate::program::symbols::Symbols;
use crate::program::worker::{Outcome, unit};

mod about;

use about::about;

/// How many classes are told apart; what is left after that is one more.
const MOST_CLASSES: usize = 24;
/// How often the checker is asked to make one state smaller.
const PATIENCE: usize = 200;

/// A class of failures.
#[derive(Clone, Debug, Serialize)]
pub struct Class {
    /// The name of its smallest state, for `replay`.
    pub id: String,
    /// What the checker said of it.
    pub symptom: String,
    /// The sync that rules out every failure of the class.
    pub missing_sync: Option<String>,
    /// Where in the program the call is that it belongs after.
    pub call_site: Option<String>,
    /// The steps after which it belongs, the first of them in the smallest state.
    pub after: Vec<usize>,
    /// The profiles under which it fails.
    pub profiles: Vec<&'static str>,
    /// How many failures belong to it.
    pub states: u64,
    /// What the smallest state has lost, in words.
    pub lost: Vec<String>,
    /// What survived it, although it came later.
    pub survived: Vec<String>,
    /// The steps around it.
    pub timeline: Vec<Line>,
    /// The smallest state.
    #[serde(skip)]
    pub state: Loss,
}

impl Class {
    /// The class as a person reads it: every text of it within a line.
    #[must_use]
    pub fn shown(&self) -> Self {
        let all = |texts: &[String]| texts.iter().map(|text| word(text)).collect();
        let maybe = |text: &Option<String>| text.as_deref().map(word);
        let line = |line: &Line| Line {
            about: word(&line.about),
            call: word(&line.call),
            task: word(&line.task),
            text: word(&line.text),
            site: maybe(&line.site),
            stack: all(&line.stack),
            ..line.clone()
        };
        Self {
            symptom: word(&self.symptom),
            missing_sync: maybe(&self.missing_sync),
            call_site: maybe(&self.call_site),
            lost: all(&self.lost),
            survived: all(&self.survived),
            timeline: self.timeline.iter().map(line).collect(),
            ..self.clone()
        }
    }
}

fn word(text: &str) -> String {
    escape::word(text).into_owned()
}

/// A line of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The step.
    pub step: usize,
    /// What became of it.
    pub fate: Fate,
    /// The file that it is about, or the directory whose names change.
    pub about: String,
    /// The call.
    pub call: String,
    /// The process and thread.
    pub task: String,
    /// What it did.
    pub text: String,
    /// Where in the program, if that is known.
    pub site: Option<String>,
    /// The stack there, the innermost function first.
    pub stack: Vec<String>,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It is all there, and no crash loses it.
    Durable,
    /// It is there.
    Kept,
    /// Some of it is there.
    Partly,
    /// It is not there.
    Lost,
    /// It is a sync.
    Sync,
    /// It is an acknowledgement.
    Ack,
    /// It is an announcement.
    Begin,
    /// It comes after the crash.
    After,
}

/// Asks the checker about a state.
pub type Ask<'a> = dyn FnMut(&Loss) -> Outcome + 'a;

/// The reason without what differs from state to state: numbers, and what is between double quotes.
#[must_use]
pub fn normalised(reason: &str) -> String {
    let quotes = reason.matches('"').count();
    let (mut out, mut in_number, mut quote) = (String::new(), false, 0);
    for c in reason.chars() {
        quote += usize::from(c == '"');
        if c != '"' && quote % 2 == 1 && quote < quotes {
            continue;
        }
        let is_number = c.is_ascii_digit() || (in_number && c.is_ascii_hexdigit());
        if !is_number {
            out.push(c);
        } else if !in_number {
            out.push('#');
        }
        in_number = is_number;
    }
    out
}

/// Makes classes of failures.
///
/// # Errors
/// If the checker cannot be asked.
pub fn classify(
    recording: &Recording,
    script: &Script,
    options: &Options,
    failures: &[Failure],
    ask: &mut Ask<'_>,
) -> anyhow::Result<Vec<Class>> {
    let mut symptoms: Vec<(String, Vec<&Failure>)> = Vec::new();
    for failure in failures {
        let symptom = normalised(&failure.reason);
        match symptoms.iter_mut().find(|(known, _)| *known == symptom) {
            Some((_, of)) => of.push(failure),
            None => symptoms.push((symptom, vec![failure])),
        }
    }
    let mut sorter = Sorter { recording, script, options, ask, symbols: Symbols::new(recording) };
    let mut classes = Vec::new();
    for (symptom, mut left) in symptoms {
        while !left.is_empty() {
            let last = classes.len() >= MOST_CLASSES;
            let class = sorter.class(&symptom, &mut left, last)?;
            classes.push(class);
        }
    }
    Ok(classes)
}

struct Sorter<'s, 'a> {
    recording: &'s Recording,
    script: &'s Script,
    options: &'s Options,
    ask: &'s mut Ask<'a>,
    symbols: Symbols<'s>,
}

/// Syncs put into a recording by way of trial.
struct Trial {
    /// What it is called.
    text: String,
    /// The step that it is called after.
    step: usize,
    /// The steps after which a sync is put, ascending.
    after: Vec<usize>,
    script: Script,
}

/// Something that can be synced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    File(Ino),
    Dir(String),
}

impl Sorter<'_, '_> {
    /// Takes the next class out of what is left of a symptom; all of it, if it is to be the last.
    fn class(&mut self, symptom: &str, left: &mut Vec<&Failure>, last: bool) -> anyhow::Result<Class> {
        let first = left.iter().min_by_key(|f| (f.loss.lost.len(), f.loss.torn.is_some(), f.loss.cut));
        let first = (*first.expect("there is one")).clone();
        let state = self.smallest(&first, symptom)?;
        let trial = self.missing(&state, left);
        let boundaries: BTreeSet<usize> =
            left.iter().filter(|f| f.loss.lost.is_empty()).map(|f| f.loss.cut).collect();
        let allowed: Vec<Loss> = trial.as_ref().map_or(Vec::new(), |trial| trial.allowed(left));
        let allowed: BTreeSet<&Loss> = allowed.iter().collect();
        let belongs = |failure: &Failure| {
            last || failure.loss == first.loss
                || match &trial {
                    Some(_) => !allowed.contains(&failure.loss),
                    None if state.lost.is_empty() => boundaries.contains(&failure.loss.cut),
                    None => state.lost.iter().all(|op| failure.loss.lost.binary_search(op).is_ok()),
                }
        };
        let (of, rest): (Vec<&Failure>, Vec<&Failure>) = left.iter().partition(|f| belongs(f));
        *left = rest;
        let profiles = self.profiles(&state, &of)?;
        let (lost, survived) = self.losses(&state);
        Ok(Class {
            id: state.to_string(),
            symptom: first.reason,
            missing_sync: trial.as_ref().map(|trial| trial.text.clone()),
            call_site: trial.as_ref().and_then(|trial| self.symbols.place(trial.step)),
            after: trial.map(|trial| trial.after).unwrap_or_default(),
            profiles,
            states: of.len() as u64,
            lost,
            survived,
            timeline: self.timeline(&state),
            state,
        })
    }

    /// A state of the same cut and symptom that has lost as little as can be.
    fn smallest(&mut self, failure: &Failure, symptom: &str) -> anyhow::Result<Loss> {
        let mut scene = Scene::new(self.script);
        scene.go(failure.loss.cut);
        let (mut asked, mut broken) = (0, None);
        let torn = failure.loss.torn;
        let ask = &mut *self.ask;
        let mut fails = |lost: &[u32]| {
            let Some(mut loss) = scene.losing(lost.iter().copied()) else { return false };
            loss.torn = torn.filter(|torn| lost.contains(&torn.op));
            asked += 1;
            if asked > PATIENCE || broken.is_some() {
                return false;
            }
            match ask(&loss) {
                Ok(outcome) => outcome.is_err_and(|reason| normalised(&reason) == symptom),
                Err(e) => {
                    broken = Some(e);
                    false
                }
            }
        };
        let few =
            if failure.loss.lost.is_empty() { Vec::new() } else { ddmin(&failure.loss.lost, &mut fails) };
        if let Some(e) = broken {
            return Err(e);
        }
        let mut loss = scene.losing(few.iter().copied()).unwrap_or_else(|| failure.loss.clone());
        loss.torn = torn.filter(|torn| few.contains(&torn.op));
        Ok(loss)
    }

    /// The sync that rules the state out, and with it the most failures.
    fn missing(&self, state: &Loss, failures: &[&Failure]) -> Option<Trial> {
        let objects = self.objects(state);
        let singles: Vec<Vec<(Object, usize)>> = objects.iter().map(|object| vec![object.clone()]).collect();
        let together = if objects.len() > 1 { vec![objects] } else { Vec::new() };
        for sets in [singles, together] {
            let trials = sets.iter().map(|set| self.trial(set)).filter(|trial| !trial.allows(state));
            let best = trials.min_by_key(|trial| trial.allowed(failures).len());
            if best.is_some() {
                return best;
            }
        }
        None
    }

    /// What of a state would have to be synced, and the last lost step of each.
    fn objects(&self, state: &Loss) -> Vec<(Object, usize)> {
        let mut objects: Vec<(Object, usize)> = Vec::new();
        for number in &state.lost {
            let op = self.script.op(*number);
            let found = match op.effect.file() {
                Some(ino) => vec![Object::File(ino)],
                None => dirs(&self.script.steps[op.step].op).into_iter().map(Object::Dir).collect(),
            };
            for object in found {
                match objects.iter_mut().find(|(known, _)| *known == object) {
                    Some((_, step)) => *step = op.step,
                    None => objects.push((object, op.step)),
                }
            }
        }
        objects
    }

    /// The recording with a sync of each object after its step, and wherever the same is done again.
    fn trial(&self, set: &[(Object, usize)]) -> Trial {
        let steps = &self.script.steps;
        let mut texts = Vec::new();
        let mut syncs: Vec<(usize, Op)> = Vec::new();
        let kinds = signatures(&self.recording.trace);
        for (object, step) in set {
            let mut paths = Paths::new(&self.recording.trace);
            steps[..=*step].iter().for_each(|step| paths.pass(step));
            let what = match object {
                Object::File(ino) => format!("fsync of {}", paths.of(*ino)),
                Object::Dir(path) if path.is_empty() => "fsync of the directory itself".to_owned(),
                Object::Dir(path) => format!("fsync of the directory {path}"),
            };
            texts.push(format!("{what} after step {step} ({})", self.words(*step)));
            for at in 0..steps.len() {
                let ends = kinds[at] == kinds[*step] && kinds.get(at + 1) != Some(&kinds[*step]);
                if at == *step || ends {
                    syncs.extend(sync_of(object, &steps[at].op).map(|op| (at, op)));
                }
            }
        }
        syncs.sort_by_key(|(at, _)| *at);
        let mut trace = self.recording.trace.clone();
        for (at, op) in syncs.iter().rev() {
            trace = trace.with_step(at + 1, op.clone());
        }
        let script = Script::new(&trace, self.options.profile, unit(self.options.block_units));
        let step = set.iter().map(|(_, step)| *step).max().expect("a trial is of something");
        Trial {
            text: texts.join(" and "),
            step,
            after: syncs.into_iter().map(|(at, _)| at).collect(),
            script,
        }
    }

    /// The profiles under which one of the failures, or the smallest state, can come about.
    fn profiles(&mut self, state: &Loss, of: &[&Failure]) -> anyhow::Result<Vec<&'static str>> {
        let mut names = Vec::new();
        for profile in Profile::ALL {
            if profile == self.options.profile {
                names.push(profile.name());
                continue;
            }
            let script = Script::new(&self.recording.trace, profile, unit(self.options.block_units));
            let mut scene = Scene::new(&script);
            let mut sorted: Vec<&&Failure> = of.iter().collect();
            sorted.sort_by_key(|f| f.loss.cut);
            let mut fails = sorted.iter().any(|f| {
                scene.go(f.loss.cut);
                self.script.translate(&f.loss, &script).is_some_and(|loss| scene.allows(&loss))
            });
            scene.go(state.cut);
            // What is lost may take more with it here.
            let least = self.script.translate(state, &script).filter(|_| !fails);
            let wider = least.and_then(|least| scene.losing(least.lost));
            if let Some(wider) = wider.and_then(|wider| script.translate(&wider, self.script)) {
                fails = (self.ask)(&wider)?.is_err();
            }
            names.extend(fails.then(|| profile.name()));
        }
        Ok(names)
    }

    fn words(&self, step: usize) -> String {
        let mut paths = Paths::new(&self.recording.trace);
        self.script.steps[..step].iter().for_each(|step| paths.pass(step));
        words(self.recording, &self.script.steps[step].op, step, &paths)
    }

    /// What a state has lost, and what of the later steps it has not.
    fn losses(&self, state: &Loss) -> (Vec<String>, Vec<String>) {
        let mut scene = Scene::new(self.script);
        scene.go(state.cut);
        let free: BTreeSet<u32> = scene.free().into_iter().collect();
        let steps =
            |ops: Vec<u32>| ops.iter().map(|op| self.script.op(*op).step).collect::<BTreeSet<usize>>();
        let lost = steps(state.lost.clone());
        let first = lost.first().copied().unwrap_or(state.cut);
        let kept = free.iter().copied().filter(|op| state.lost.binary_search(op).is_err()).collect();
        let kept: Vec<usize> =
            steps(kept).into_iter().filter(|step| *step > first && !lost.contains(step)).collect();
        let text = |step: &usize| format!("step {step}: {}", self.words(*step));
        (lost.iter().take(16).map(text).collect(), kept.iter().take(16).map(text).collect())
    }

    /// The steps around a state's losses, up to the one after its cut.
    fn timeline(&self, state: &Loss) -> Vec<Line> {
        const BEFORE: usize = 3;
        const MOST: usize = 40;
        let mut scene = Scene::new(self.script);
        scene.go(state.cut);
        let free: BTreeSet<u32> = scene.free().into_iter().collect();
        let first = state.lost.first().map_or(state.cut.saturating_sub(1), |op| self.script.op(*op).step);
        let from = first.saturating_sub(BEFORE).max(state.cut.saturating_sub(MOST));
        let from = from.min(first);
        let mut paths = Paths::new(&self.recording.trace);
        self.script.steps[..from].iter().for_each(|step| paths.pass(step));
        let mut lines = Vec::new();
        for at in from..(state.cut + 1).min(self.script.steps.len()) {
            let step = &self.script.steps[at];
            paths.pass(step);
            let fate = if at >= state.cut { Fate::After } else { self.fate(state, at, &free) };
            let is_near = at < first + MOST / 2 || at + MOST / 2 > state.cut;
            if is_near || fate == Fate::Lost || fate == Fate::Partly {
                let task = self.recording.who(at);
                let call = self.recording.call(at).to_owned();
                let text = match &step.op {
                    Op::Mark(n) => self.recording.notes[*n as usize].text().to_owned(),
                    _ => step_text(step, &paths),
                };
                let about = about(&step.op, &paths);
                let (site, stack) = (self.symbols.place(at), self.symbols.stack(at));
                lines.push(Line { step: at, fate, about, call, task, text, site, stack });
            }
        }
        lines
    }

    fn fate(&self, state: &Loss, at: usize, free: &BTreeSet<u32>) -> Fate {
        match &self.script.steps[at].op {
            Op::SyncAll { .. } | Op::SyncData { .. } | Op::SyncDir { .. } => return Fate::Sync,
            Op::Mark(n) if self.recording.notes[*n as usize].ack().is_none() => return Fate::Begin,
            Op::Mark(_) => return Fate::Ack,
            _ => {}
        }
        let ops = self.script.micro.starts[at]..self.script.micro.starts[at + 1];
        let ops: Vec<u32> = ops.filter_map(|op| u32::try_from(op).ok()).collect();
        let lost = ops.iter().filter(|op| state.lost.binary_search(op).is_ok()).count();
        match lost {
            0 if ops.iter().all(|op| !free.contains(op)) => Fate::Durable,
            0 => Fate::Kept,
            _ if lost == ops.len() && state.torn.is_none_or(|torn| !ops.contains(&torn.op)) => Fate::Lost,
            _ => Fate::Partly,
        }
    }
}

impl Trial {
    /// Whether a crash can still leave a state.
    fn allows(&self, loss: &Loss) -> bool {
        self.allows_at(&mut Scene::new(&self.script), loss)
    }

    fn allows_at(&self, scene: &mut Scene<'_>, loss: &Loss) -> bool {
        let shift = self.after.iter().filter(|at| **at + 1 < loss.cut).count();
        let cut = loss.cut + shift;
        scene.go(cut);
        scene.allows(&Loss { cut, ..loss.clone() })
    }

    /// The failures that a crash can still leave.
    fn allowed(&self, failures: &[&Failure]) -> Vec<Loss> {
        let mut losses: Vec<&Loss> = failures.iter().map(|failure| &failure.loss).collect();
        losses.sort_unstable();
        let mut scene = Scene::new(&self.script);
        losses.into_iter().filter(|loss| self.allows_at(&mut scene, loss)).cloned().collect()
    }
}

/// A step in words, with its call.
#[must_use]
pub fn words(recording: &Recording, op: &Op, at: usize, paths: &Paths) -> String {
    let step = &recording.trace.steps[at];
    match op {
        Op::Mark(n) => format!("{} {}", recording.call(at), recording.notes[*n as usize].text()),
        _ => match recording.call(at) {
            "" => step_text(step, paths),
            call => format!("{call}: {}", step_text(step, paths)),
        },
    }
}

/// The directories whose names an operation changes.
fn dirs(op: &Op) -> Vec<String> {
    let parent = |path: &String| path.rsplit_once('/').map_or("", |(dir, _)| dir).to_owned();
    match op {
        Op::CreateDir { path }
        | Op::RemoveDir { path }
        | Op::Create { path, .. }
        | Op::Link { path, .. }
        | Op::Symlink { path, .. }
        | Op::Remove { path } => vec![parent(path)],
        Op::Rename { from: one, to: other } | Op::Exchange { one, other } => {
            let mut both = vec![parent(other), parent(one)];
            both.dedup();
            both
        }
        _ => Vec::new(),
    }
}

/// The sync of what an operation changes, of the kind of an object.
fn sync_of(object: &Object, op: &Op) -> Option<Op> {
    match object {
        Object::File(_) => match op {
            Op::Write { ino, .. } | Op::SetLen { ino, .. } | Op::Zero { ino, .. } => {
                Some(Op::SyncAll { ino: *ino })
            }
            _ => None,
        },
        // The directory of the new name comes first.
        Object::Dir(path) => {
            let dirs = dirs(op);
            let dir = if dirs.contains(path) { Some(path.clone()) } else { dirs.into_iter().next() };
            dir.map(|path| Op::SyncDir { path })
        }
    }
}

/// What each step does, without the numbers in names and the places in files.
fn signatures(trace: &Trace) -> Vec<String> {
    let mut paths = Paths::new(trace);
    let mut out = Vec::with_capacity(trace.steps.len());
    for step in &trace.steps {
        paths.pass(step);
        let text = match &step.op {
            Op::Write { ino, .. } => format!("write {}", paths.of(*ino)),
            Op::SetLen { ino, .. } => format!("length {}", paths.of(*ino)),
            Op::Zero { ino, .. } => format!("zero {}", paths.of(*ino)),
            Op::SyncAll { .. } | Op::SyncData { .. } | Op::SyncDir { .. } => "sync".to_owned(),
            Op::Mark(_) => "ack".to_owned(),
            _ => step_text(step, &paths),
        };
        out.push(normalised(&text));
    }
    out
}
