//! The engine as a subject of the core.
//!
//! I own one check: recover an image with the engine, read everything, ask every property. (E1) A check
//! is a function of its arguments. (E2) The dear properties (P11, P19, P25, P27) are asked at every
//! [`SAMPLE`]-th cut of a run. I do not explore and do not know what a property says.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use seawall::vfs::mem::{self, MemVfs};
use seawall::{Engine, Store};

use super::convert;
use super::execute::{Run, open_options};
use super::judge::{self, Case, Exposed};
use super::observe::observe;
use super::oracle::State;
use super::planted::Disk;
use super::quiet;
use crate::core::image::Image;
use crate::core::subject::{Checked, Subject, Violation};
use crate::core::trace::{Cut, Op, Trace};

/// One cut in so many is checked for the dear properties too.
pub const SAMPLE: usize = 32;

/// The engine over some disk.
#[derive(Debug)]
pub struct EngineSubject<V>(PhantomData<fn() -> V>);

impl<V> Default for EngineSubject<V> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<V: Disk> Subject for EngineSubject<V> {
    type Run = Run;
    type Exposed = Exposed;

    fn trace<'a>(&self, run: &'a Run) -> &'a Trace {
        &run.trace
    }

    fn history_key(&self, run: &Run, cut: Cut) -> u64 {
        run.keys[run.before + cut.marks]
    }

    fn exposed_key(&self, exposed: &Exposed) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (&exposed.state, exposed.epoch).hash(&mut hasher);
        hasher.finish()
    }

    fn first_cut(&self, run: &Run) -> usize {
        if !run.sequence.prefix_known {
            return 0;
        }
        let mut events = run.before;
        let reached = run.trace.steps.iter().position(|step| {
            events += usize::from(matches!(step.op, Op::Mark(_)));
            events > run.last_step_at
        });
        // The mark belongs to the step: the cuts before it are those of the shorter sequence.
        reached.unwrap_or(run.trace.steps.len())
    }

    fn check(
        &self,
        run: &Run,
        cut: Cut,
        image: Image,
        exposed: Option<&Exposed>,
        record: bool,
    ) -> Checked<Exposed> {
        let _quiet = quiet();
        let events = run.before + cut.marks;
        let moment = &run.moments[events];
        let before = convert::to_disk(image);
        let dear = exposed.is_none() && !moment.lied && cut.steps % SAMPLE == SAMPLE / 2;
        let kept = dear.then(|| before.clone());
        let mem = MemVfs::from_image(before);
        mem.record(record);
        let opened = Engine::open_in(V::over(mem.clone()), open_options());
        let (engine, report) = match opened {
            // After a panic it is left where it is: dropping it may panic again.
            Ok((engine, report)) => (ManuallyDrop::new(engine), report),
            Err(e) => {
                let violations = judge::refused(moment, &e).into_iter().collect();
                return Checked { violations, trace: trace(&mem, record), exposed: None };
            }
        };
        let state = match observe(&*engine) {
            Ok(state) => state,
            Err(e) => {
                drop(ManuallyDrop::into_inner(engine));
                let violations = judge::unreadable(moment, &e.text).into_iter().collect();
                return Checked { violations, trace: trace(&mem, record), exposed: None };
            }
        };
        let trace = trace(&mem, record);
        let case = Case { run, events, moment, state: &state, report: &report, exposed };
        let mut violations = judge::judge(&case);
        if let Some(trace) = &trace {
            let evidence = Store::evidence_in(&V::over(mem.clone())).map_err(|e| e.to_string());
            let wrong = judge::p23(trace, &report, &evidence).map(|text| ("P23", text));
            violations.extend(wrong.map(silent));
        }
        let engine = ManuallyDrop::into_inner(engine);
        if let Some(before) = kept {
            violations.extend(ask_dear::<V>(before, &mem, engine, &state));
        }
        Checked { violations, trace, exposed: Some(Exposed { state: Arc::new(state), epoch: report.epoch }) }
    }
}

fn trace(mem: &MemVfs, record: bool) -> Option<Trace> {
    record.then(|| convert::trace(mem.take_trace()))
}

/// P11, P19, P25 and P27 of a state that was opened.
fn ask_dear<V: Disk>(before: mem::Image, mem: &MemVfs, engine: Engine<V>, state: &State) -> Vec<Violation> {
    mem.record(false);
    let after = mem.image();
    let second = Engine::open_in(V::over(mem.clone()), open_options()).map(drop);
    let p19 = judge::p19(&second, mem.image() != after);
    drop((second, engine));

    let (mut states, mut bytes) = (Vec::new(), vec![after.bytes()]);
    for _ in 0..4 {
        match Engine::open_in(V::over(mem.clone()), open_options()) {
            Ok((engine, _)) => states.extend(observe(&engine)),
            Err(e) => return vec![judge::false_alarm(format!("another open refused: {e}"))],
        }
        bytes.push(mem.image().bytes());
    }
    let p11 = judge::p11(state, &states, &bytes);

    let again = MemVfs::from_image(before.clone());
    let opened = Engine::open_in(V::over(again.clone()), open_options());
    let same = opened.is_ok_and(|(engine, _)| observe(&engine).as_ref() == Ok(state));
    let p25 = judge::p25(same, again.image() == after);

    let looked = MemVfs::from_image(before.clone());
    let seen = Store::open_read_only_in(V::over(looked.clone()));
    let verified = seen.as_ref().ok().map(|(store, _)| store.verify().map_err(|e| e.to_string()));
    let seen = seen.map_err(|e| e.to_string()).and_then(|(store, _)| observe(&store).map_err(|e| e.text));
    let p27 = judge::p27(&seen, state, looked.image() != before);
    let p12 = verified.and_then(|verified| judge::p12_verify(&verified)).map(judge::false_alarm);

    let asked = [("P11", p11), ("P19", p19), ("P25", p25), ("P27", p27)];
    asked.into_iter().filter_map(|(property, text)| Some(silent((property, text?)))).chain(p12).collect()
}

fn silent((property, text): (&'static str, String)) -> Violation {
    Violation { property, silent: true, false_alarm: false, text }
}
