//! Any program, end to end: this file is the harness, the recorded programs and the checkers at once.
//!
//! I own the cases and one line that counts them. Started with a role in the environment, this program is
//! a workload or a checker; else it runs each case against the real `crashcheck`, which needs root and
//! /dev/fuse. Where these are not to be had the cases are counted as ignored, and the line says why.

use std::env;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

#[path = "program/alone.rs"]
mod alone;
#[path = "program/apart.rs"]
mod apart;
#[path = "program/attacks.rs"]
mod attacks;
#[path = "program/cases.rs"]
mod cases;
#[path = "program/hostile.rs"]
mod hostile;
#[path = "program/killed.rs"]
mod killed;
#[path = "program/others.rs"]
mod others;
#[path = "program/pages.rs"]
mod pages;
#[path = "program/promises.rs"]
mod promises;
#[path = "program/roles.rs"]
mod roles;
#[path = "program/talk.rs"]
mod talk;
#[path = "program/tool.rs"]
mod tool;
#[path = "program/words.rs"]
mod words;

/// Names the role in the environment.
pub(crate) const ROLE: &str = "CRASHCHECK_TEST_ROLE";

/// Cases that could not be run.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Says that a case cannot be run here.
pub(crate) fn skip(why: &str) {
    SKIPPED.fetch_add(1, Ordering::Relaxed);
    println!("  not run, because {why}");
}

fn main() -> ExitCode {
    if let Some(role) = env::args().nth(1).filter(|_| env::var_os(ROLE).is_some()) {
        return roles::play(&role);
    }
    let filter = env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let cases: Vec<_> = cases::CASES.iter().filter(|(name, _)| name.contains(&filter)).collect();
    if let Some(missing) = missing() {
        println!("not run, because {missing}: {} cases", cases.len());
        println!("test result: ok. 0 passed; 0 failed; {} ignored; 0 measured; 0 filtered out", cases.len());
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let mut failed: Vec<&str> = Vec::new();
    for (name, case) in &cases {
        let skipped = SKIPPED.load(Ordering::Relaxed);
        let passed = catch_unwind(case).is_ok();
        let verdict = match passed {
            false => "FAILED",
            true if SKIPPED.load(Ordering::Relaxed) > skipped => "ignored",
            true => "ok",
        };
        println!("test {name} ... {verdict}");
        failed.extend((!passed).then_some(*name));
    }
    let ignored = SKIPPED.load(Ordering::Relaxed);
    let passed = cases.len() - failed.len() - ignored;
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        failed.len(),
        cases::CASES.len() - cases.len(),
        begun.elapsed().as_secs_f64()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the cases need and is not here.
fn missing() -> Option<&'static str> {
    if !Path::new("/dev/fuse").exists() {
        return Some("there is no /dev/fuse");
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t0"));
    (!is_root).then_some("this is not root")
}
