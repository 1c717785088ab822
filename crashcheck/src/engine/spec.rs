//! Traces of the engine as data for the specification.
//!
//! I own which runs become traces, the modules that hold them, and the ways in which a trace is made wrong.
//! (S1) A module has at most [`BATCH`] traces, so that one run of the model checker takes many. (S2) Each
//! trace has a wrong twin, which no behaviour of the specification leaves. I do not know what the
//! specification says (see `engine/spec/SeawallTrace.tla`), nor what an operation stands for (see
//! `translate`).

mod event;
mod translate;
mod wrong;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use seawall::vfs::mem::MemVfs;
use serde::Serialize;

use super::execute::execute;
use super::generate::{Plan, Random, Sequence};
pub use event::Event;
pub use translate::{Recording, translate};
pub use wrong::{Wrong, spoil};

/// Traces in a module.
pub const BATCH: usize = 500;
/// A longer trace is left to the simulator.
const LONGEST: usize = 160;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Traces that must be accepted; as many must be refused.
    pub traces: usize,
    /// Events in those.
    pub events: usize,
    /// Frames in those.
    pub frames: usize,
    /// Restarts in those.
    pub restarts: usize,
    /// Rotations in those.
    pub rotations: usize,
}

/// Runs sequences without injected errors until there are `count` traces, and writes them into modules
/// below `dir`: `accept-0`, `refuse-0` and so on.
///
/// # Errors
/// Of writing, and of a run that cannot be told as a trace.
pub fn write(seed: u64, count: usize, dir: &Path) -> io::Result<Written> {
    let mut written = Written::default();
    let mut random = Random::new(seed);
    let mut batch = Vec::new();
    for sequence in sequences(seed) {
        let recording = translate(&execute::<MemVfs>(&sequence)).map_err(io::Error::other)?;
        if recording.events.len() > LONGEST {
            continue;
        }
        written.count(&recording);
        batch.push(recording);
        if batch.len() == BATCH || written.traces == count {
            let number = (written.traces - 1) / BATCH;
            let wrong: Vec<Recording> = batch.iter().map(|r| spoil(r, &mut random).1).collect();
            save(&dir.join(format!("accept-{number}")), &batch)?;
            save(&dir.join(format!("refuse-{number}")), &wrong)?;
            batch.clear();
        }
        if written.traces == count {
            break;
        }
    }
    Ok(written)
}

/// Every sequence of a campaign that injects no error, from the creation of the store on.
fn sequences(seed: u64) -> impl Iterator<Item = Sequence> {
    let plan = Plan::new(seed, 2, 2);
    let all = (0..).map(move |number| plan.sequence(number));
    let sound = all.filter(|s| s.steps.iter().all(|step| !step.kind.is_fault()));
    sound.map(|s| Sequence { from_nothing: true, prefix_known: false, ..s })
}

impl Written {
    fn count(&mut self, recording: &Recording) {
        let of = |wanted: fn(&Event) -> bool| recording.events.iter().filter(|e| wanted(e)).count();
        self.traces += 1;
        self.events += recording.events.len();
        self.frames += of(|e| matches!(e, Event::Frame { again: false, .. }));
        self.restarts += of(|e| matches!(e, Event::Opened(_))) - 1;
        self.rotations += of(|e| matches!(e, Event::Foot { by: "rot", .. }));
    }
}

fn save(dir: &Path, batch: &[Recording]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("TraceData.tla"), module(batch))
}

/// The module of some traces.
fn module(batch: &[Recording]) -> String {
    let mut text = String::from("------ MODULE TraceData ------\nEXTENDS Integers\n");
    let files = batch.iter().map(|r| r.files).max().unwrap_or(1);
    let _ = writeln!(text, "Count == {}\nTraceFiles == 1..{files}\nTraces == <<", batch.len());
    for (n, recording) in batch.iter().enumerate() {
        let events: Vec<String> = recording.events.iter().map(Event::to_string).collect();
        let comma = if n + 1 < batch.len() { "," } else { "" };
        let _ = writeln!(text, "<<{}>>{comma}", events.join(", "));
    }
    text.push_str(">>\nKills == <<\n");
    for (n, recording) in batch.iter().enumerate() {
        let frames = recording.kills.iter().enumerate().map(|(frame, killers)| {
            let killers: Vec<String> = killers.iter().map(|k| format!("\"f{k}\"")).collect();
            format!("f{frame} |-> {{{}}}", killers.join(", "))
        });
        let comma = if n + 1 < batch.len() { "," } else { "" };
        let _ = writeln!(text, "[{}]{comma}", frames.collect::<Vec<_>>().join(", "));
    }
    text.push_str(">>\n====\n");
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn recordings(count: usize) -> Vec<Recording> {
        let runs = sequences(3).take(count).map(|s| execute::<MemVfs>(&s));
        runs.map(|run| translate(&run).expect("a sound run is a trace")).collect()
    }

    #[test]
    fn runs_become_traces_that_begin_with_an_open() {
        for recording in recordings(40) {
            assert!(matches!(recording.events[0], Event::Name { .. }), "{:?}", recording.events[0]);
            assert!(recording.events.iter().any(|e| matches!(e, Event::Ack(_))));
            let frames = recording.events.iter().filter(|e| matches!(e, Event::Frame { again: false, .. }));
            assert_eq!(frames.count(), recording.kills.len());
        }
    }

    #[test]
    fn a_wrong_twin_differs_and_every_way_is_used() {
        let mut random = Random::new(1);
        let mut ways = BTreeSet::new();
        for recording in recordings(200) {
            let (way, wrong) = spoil(&recording, &mut random);
            assert_ne!(wrong.events, recording.events);
            ways.insert(way);
        }
        assert_eq!(ways.len(), Wrong::ALL.len(), "{ways:?}");
    }

    #[test]
    fn a_module_holds_each_trace_once() {
        let batch = recordings(3);
        let text = module(&batch);
        assert_eq!(text.matches("<<\"opened\", 0>>").count(), 3);
        assert_eq!(text.matches("f0 |->").count(), 3);
    }
}
