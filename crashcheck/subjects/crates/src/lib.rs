//! What the workloads and checkers of the crates share: entries with a number, and how a state is asked for.
//!
//! I own the conversation with crashcheck: a program is run as `NAME prepare DIR`, before the recording, as
//! `NAME workload DIR`, and with the directory in `CRASHCHECK_DIR` as `NAME check`. I know none of the crates.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How many entries a workload appends.
pub const ENTRIES: usize = 6;

/// The bytes of an entry.
#[must_use]
pub fn entry(number: usize) -> Vec<u8> {
    format!("entry {number} ").into_bytes().into_iter().chain([b'x'; 300]).collect()
}

/// Says that all entries up to this one are durable.
pub fn acknowledge(number: usize) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "durable-ack {number}").and_then(|()| out.flush()).map_err(|e| e.to_string())
}

/// Fails unless the entries are the first that were appended, each acknowledged one among them.
pub fn judge(found: &[Vec<u8>], acknowledged: usize) -> Result<(), String> {
    if let Some(at) = found.iter().enumerate().position(|(number, bytes)| *bytes != entry(number)) {
        return Err(format!("entry {at} has other bytes than were written"));
    }
    if found.len() < acknowledged {
        return Err(format!("{} entries are there, {acknowledged} were acknowledged", found.len()));
    }
    Ok(())
}

/// Runs what the arguments say; `find` gives the entries that are in the directory.
pub fn main(
    prepare: fn(&Path) -> Result<(), String>,
    workload: fn(&Path) -> Result<(), String>,
    find: fn(&Path) -> Result<Vec<Vec<u8>>, String>,
) -> ExitCode {
    // A panic of the crate is a failure whose reason is one line.
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map_or(String::new(), |at| format!(" in line {}", at.line()));
        let text = panic.payload().downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.payload().downcast_ref::<&str>().copied()).unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "it panics{at}: {text}");
    }));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["prepare", dir] => prepare(Path::new(dir)),
        ["workload", dir] => workload(Path::new(dir)),
        ["check"] => check(find),
        _ => Err("usage: prepare DIR, workload DIR, or check".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "{}", reason.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn check(find: fn(&Path) -> Result<Vec<Vec<u8>>, String>) -> Result<(), String> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).ok_or(format!("{name} is not set"));
    let acks = std::fs::read_to_string(named("CRASHCHECK_ACKS")?).map_err(|e| e.to_string())?;
    judge(&find(&named("CRASHCHECK_DIR")?)?, acks.lines().count())
}
