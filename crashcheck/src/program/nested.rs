//! Crashes within the recovery that the checker itself performs.
//!
//! I own the second level. A state that passed is laid out again, the checker is recorded over it as a
//! program of its own, and what it did becomes a recording with crash states: after each of them the checker
//! must pass as well, with the acknowledgements of the first crash. A checker that changes nothing has no
//! second level.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;

use crate::core::trace::Op;
use crate::program::explore::{self, Explored, Options};
use crate::program::place::Held;
use crate::program::present::Stage;
use crate::program::record::{self, End};
use crate::program::recording::{Note, Recording};
use crate::program::scene::{Loss, Scene, Script};
use crate::program::search::Reach;
use crate::program::tape::Onward;
use crate::program::{file, report, rights, sandbox};

/// How many states of each recovery are checked.
const STATES: u64 = 300;
/// How many bytes a recovery may write.
const LIMIT: u64 = 256 << 20;

/// Explores the recoveries of some states of a recording, and adds what fails to what was found.
///
/// # Errors
/// If a recovery cannot be recorded, or the checker cannot be asked.
pub fn descend(
    options: &Options,
    script: &Script,
    states: &[Loss],
    explored: &mut Explored,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    for outer in states {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let recording = recover(options, &explored.recording, script, outer, stop)?;
        let changes = |op: &Op| !matches!(op, Op::SyncAll { .. } | Op::SyncData { .. } | Op::SyncDir { .. });
        let Some(recording) = recording.filter(|r| r.trace.steps.iter().any(|step| changes(&step.op))) else {
            continue;
        };
        let held = file::held(&recording)?;
        let inner = Options {
            trace: held.path(),
            before: [&options.before[..], &explored.recording.told_before(outer.cut)].concat(),
            reach: Reach { omissions: 1, ..options.reach },
            seconds: None,
            states: Some(STATES),
            resume: 0,
            nested: 0,
            ..options.clone()
        };
        add(explored, outer, explore::explore(&inner, stop, &mut |_| ())?);
    }
    Ok(())
}

/// What the checker does to a state; `None` if it did not end.
fn recover(
    options: &Options,
    recording: &Recording,
    script: &Script,
    outer: &Loss,
    stop: &AtomicBool,
) -> anyhow::Result<Option<Recording>> {
    let dir = options.at.clone();
    let said = options.before.iter().chain(recording.said_before(outer.cut));
    let text: String = said.filter_map(Note::ack).flat_map(|ack| [ack, "\n"]).collect();
    let acks = Held::new(text.as_bytes()).context("the file of acknowledgements")?;
    let owner = options.checker.user;
    sandbox::mount_states(&dir, owner)?;
    let mut scene = Scene::new(script);
    scene.go(outer.cut);
    let laid_out = Stage::new(&dir, recording.modes.clone())
        .and_then(|stage| stage.owned_by(owner, false).show(&scene.state(outer)));
    let recorded = laid_out.context("laying out a state").and_then(|()| {
        let how = record::Options {
            dir: dir.clone(),
            command: options.checker.command.iter().map(Into::into).collect(),
            limit: LIMIT,
            patience: Some(Duration::from_millis(options.checker.limit_millis)),
            fault: None,
            output: [Onward::Nowhere, Onward::Nowhere],
            // A leak checker in the command would refuse to be traced.
            by: record::By::Fuse { traced: false },
            stacks: true,
            env: vec![
                ("CRASHCHECK_DIR".into(), dir.clone().into()),
                (rights::ACKS.into(), acks.path().into()),
            ],
            cwd: Some(dir.clone()),
            own_places: true,
        };
        record::record(&how, stop)
    });
    sandbox::unmount(&dir);
    let recorded = recorded?;
    Ok((recorded.end == End::Ended).then_some(recorded.recording))
}

/// Adds what a recovery's exploration found.
fn add(explored: &mut Explored, outer: &Loss, inner: Explored) {
    explored.nested += 1;
    explored.nested_states += inner.distinct;
    explored.nested_short += u64::from(inner.broken.is_none() && report::unmeasured(&inner).is_some());
    explored.failed += inner.failed;
    explored.distinct += inner.distinct;
    explored.states += inner.states;
    for mut class in inner.classes {
        class.id = format!("{outer}/{}", class.id);
        class.symptom = format!("after a crash within its own recovery: {}", class.symptom);
        let known = explored
            .classes
            .iter_mut()
            .find(|known| known.symptom == class.symptom && known.missing_sync == class.missing_sync);
        match known {
            Some(known) => known.states += class.states,
            None => explored.classes.push(class),
        }
    }
}
