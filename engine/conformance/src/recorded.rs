//! What a power loss leaves of a store on real files: the store runs in a recorded directory, and every
//! crash state that is tried is judged by a process of its own.
//!
//! I own the processes: `crashcheck record` and `crashcheck explore`, the workload and the checker, all of
//! them this program started again with other arguments ([`role`]). What is judged is what
//! `cases` judges on the simulated disk. (R1) Where nothing can be recorded, which needs root and FUSE, a case is
//! not measured. (R2) Before the store was first opened nothing was promised: then it may fail to open.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};

use serde::Deserialize;

use crate::cases::{CRASHES, Crash, Subject};
use crate::outcome::{Miss, Tally, Verdict, caught};
use crate::place::Place;
use crate::store::Store;

/// The arguments that start this program as crashcheck.
const CRASHCHECK: &[&str] = &[
    "record",
    "explore",
    crashcheck::program::sandbox::SUPERVISE,
    crashcheck::program::tracer::TRACED,
    crashcheck::program::worker::WORK,
];
const WORKLOAD: &str = "__workload";
const CHECK: &str = "__check";
/// How many crash states of a case are tried.
const STATES: &str = "500";
/// How many seconds a workload may run.
const SECONDS: &str = "60";

/// The stores that a program can run, by name.
pub type Stores<'a> = &'a dyn Fn(&str) -> Option<&'static dyn Subject>;

/// What this program does if it was started by itself. To be asked first in `main`, before any thread is
/// made.
#[must_use]
pub fn role(stores: Stores) -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        [first, ..] if CRASHCHECK.contains(&first) => return Some(crashcheck::cli::main()),
        [WORKLOAD, store, case, dir] => told(|| {
            let (subject, case) = named(stores, store, case)?;
            workload(subject, case, dir)
        }),
        [CHECK, store, case] => told(|| {
            let (subject, case) = named(stores, store, case)?;
            check(subject, case)
        }),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // The last line is what crashcheck takes for the reason.
            let _ = writeln!(io::stderr(), "{}", reason.replace('\n', " "));
            ExitCode::FAILURE
        }
    })
}

/// Runs what may panic; the panic is told as a failure is.
fn told(run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    std::panic::set_hook(Box::new(|_| {}));
    caught(run).and_then(|done| done)
}

fn named(stores: Stores, store: &str, case: &str) -> Result<(&'static dyn Subject, &'static Crash), String> {
    let found = CRASHES.iter().find(|known| known.name == case);
    stores(store).zip(found).ok_or_else(|| format!("no store {store} or no case {case}"))
}

/// Runs the cases whose fault is a crash over a store that lives in a directory; this program must know it by
/// this name.
pub fn run(store: &str, subject: &dyn Subject) -> Tally {
    let mut tally = Tally::default();
    let keeps_snapshots = keeps_snapshots(subject);
    for case in CRASHES {
        tally.run(case.name, || {
            if case.snapshots && !keeps_snapshots.clone()? {
                return Err(Miss::NotMeasured("the store keeps no snapshots".into()));
            }
            judge(store, case.name)
        });
    }
    tally
}

fn keeps_snapshots(subject: &dyn Subject) -> Result<bool, String> {
    let place = Place::directory().map_err(|e| e.to_string())?;
    subject.open(&place).map(|store| store.keeps_snapshots()).map_err(|e| format!("open: {e}"))
}

/// What the last line of an exploration says.
#[derive(Deserialize)]
struct Explored {
    verdict: String,
    classes: Vec<Class>,
    distinct_states: u64,
    failed_states: u64,
    broken: Option<String>,
}

#[derive(Deserialize)]
struct Class {
    symptom: String,
    missing_sync: Option<String>,
    profiles: Vec<String>,
}

fn broken(e: impl std::fmt::Display) -> Miss {
    Miss::Failed(format!("the judge failed: {e}"))
}

/// Records and explores one case.
fn judge(store: &str, case: &str) -> Verdict {
    let work = tempfile::tempdir().map_err(broken)?;
    let (dir, trace) = (work.path().join("store"), work.path().join("trace"));
    std::fs::create_dir(&dir).map_err(broken)?;
    let own = std::env::current_exe().map_err(broken)?;
    let mut record = Command::new(&own);
    record.arg("record").arg("--dir").arg(&dir).arg("--output").arg(&trace);
    record.args(["--time-limit", SECONDS, "--quiet", "--"]).arg(&own);
    let done = output(record.args([WORKLOAD, store, case]).arg(&dir))?;
    match done.status.code() {
        Some(0) => {}
        Some(3 | 4) => return Err(Miss::NotMeasured(format!("it cannot be recorded here: {}", said(&done)))),
        _ => return Err(Miss::Failed(format!("the workload failed: {}", said(&done)))),
    }
    let mut explore = Command::new(&own);
    let check = shell(&[own.into_os_string(), CHECK.into(), store.into(), case.into()]);
    explore.arg("explore").arg(&trace).arg("--check").arg(check).args(["--states", STATES, "--json"]);
    let done = output(&mut explore)?;
    let lines = String::from_utf8_lossy(&done.stdout);
    let last = lines.lines().last().ok_or_else(|| broken(said(&done)))?;
    verdict(&serde_json::from_str(last).map_err(broken)?)
}

fn verdict(explored: &Explored) -> Verdict {
    match explored.verdict.as_str() {
        "PASS" => Ok(()),
        "FAIL" => Err(Miss::Failed(findings(explored))),
        _ => Err(broken(explored.broken.as_deref().unwrap_or("nothing was measured"))),
    }
}

/// The classes of failures in a line, those that differ in details as one.
fn findings(explored: &Explored) -> String {
    let mut told: Vec<String> = Vec::new();
    for class in &explored.classes {
        let symptom = class.symptom.split(": ").take(2).collect::<Vec<_>>().join(": ");
        let sync = class.missing_sync.as_deref().unwrap_or("no sync helps");
        let text = format!("{symptom} ({sync}; under {})", class.profiles.join(", "));
        if !told.contains(&text) {
            told.push(text);
        }
    }
    let Explored { failed_states: failed, distinct_states: all, .. } = explored;
    format!("{failed} of {all} crash states: {}", told.join("; "))
}

fn output(command: &mut Command) -> Result<Output, Miss> {
    command.stdin(Stdio::null()).output().map_err(broken)
}

/// The last thing that a process said.
fn said(done: &Output) -> String {
    let errors = String::from_utf8_lossy(&done.stderr);
    errors.lines().last().map_or_else(|| done.status.to_string(), str::to_owned)
}

/// The words as one line for the shell.
fn shell(words: &[OsString]) -> OsString {
    let quoted = words.iter().map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")));
    quoted.collect::<Vec<_>>().join(" ").into()
}

/// Says that so many steps are durable.
fn acknowledge(steps: usize) -> Result<(), String> {
    let mut out = io::stdout().lock();
    writeln!(out, "durable-ack {steps}").and_then(|()| out.flush()).map_err(|e| e.to_string())
}

/// The recorded process: the steps of a case, each acknowledged when the store has acknowledged it.
fn workload(subject: &dyn Subject, case: &Crash, dir: &str) -> Result<(), String> {
    let mut store = open(subject, Path::new(dir))?;
    acknowledge(0)?;
    for (at, step) in (case.history)().0.iter().enumerate() {
        if step.run(&mut *store)? {
            acknowledge(at + 1)?;
        }
    }
    store.close().map_err(|e| format!("close: {e}"))
}

/// The judging process: the store in a crash state, and what was acknowledged before.
fn check(subject: &dyn Subject, case: &Crash) -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).map_err(|e| format!("{name}: {e}"));
    let acks = std::fs::read_to_string(variable("CRASHCHECK_ACKS")?).map_err(|e| e.to_string())?;
    let last = acks.lines().last().map(|line| line.parse().map_err(|e| format!("an acknowledgement: {e}")));
    match (last.transpose()?, open(subject, Path::new(&variable("CRASHCHECK_DIR")?))) {
        (None, Err(_)) => Ok(()),
        (acknowledged, opened) => (case.history)().judge(acknowledged.unwrap_or(0), &mut *opened?),
    }
}

fn open(subject: &dyn Subject, dir: &Path) -> Result<Box<dyn Store>, String> {
    subject.open(&Place::at(dir)).map_err(|e| format!("open: {e}"))
}
