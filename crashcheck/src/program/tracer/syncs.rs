//! Sees the calls that no file system is told of: `sync` and `syncfs`.
//!
//! I own the supervisor of a program that runs on a recording file system, in the program's process
//! namespace: the recorder is told of these calls over a line (see [`desk`](super::desk)).

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use nix::libc;
use nix::unistd::Pid;

use super::desk::Line;
use super::{Go, Stops, Tracer, Watch, arguments};

/// Runs a command traced, and gives its exit code; `line` leads to the recorder of `dir`.
///
/// # Errors
/// If it cannot be run.
pub fn supervise(command: &[OsString], line: Line, dir: &Path) -> anyhow::Result<i32> {
    let device = fs::metadata(dir).with_context(|| dir.display().to_string())?.dev();
    let child = Command::new("/proc/self/exe").args(arguments(Stops::Syncs, command)).spawn();
    let child = Pid::from_raw(child.context("starting")?.id().cast_signed());
    let mut tracer = Tracer::new(child, Syncs { line, device, inside: HashMap::new(), met: false });
    let code = tracer.run()?;
    let Syncs { line, met, .. } = tracer.watch();
    if !*met {
        line.say_untraced()?;
    }
    Ok(code)
}

#[derive(Debug)]
struct Syncs {
    line: Line,
    /// The recorded directory's.
    device: u64,
    inside: HashMap<Pid, Inside>,
    /// Whether the program was ever traced.
    met: bool,
}

/// A call that has not returned.
#[derive(Clone, Copy, Debug)]
struct Inside {
    call: &'static str,
    /// How many steps there were when it began.
    entered: usize,
}

impl Watch for Syncs {
    fn met(&mut self, _pid: Pid) {
        self.met = true;
    }

    fn begins(&mut self, pid: Pid) -> anyhow::Result<Go> {
        let Some(call) = self.call(pid) else { return Ok(Go::On) };
        let entered = self.line.begins()?;
        self.inside.insert(pid, Inside { call, entered });
        Ok(Go::ToReturn)
    }

    fn returned(&mut self, pid: Pid, result: i64) -> anyhow::Result<()> {
        match self.inside.remove(&pid) {
            Some(Inside { call, entered }) => self.line.returned(pid.as_raw(), call, entered, result < 0),
            None => Ok(()),
        }
    }

    fn ended(&mut self, pid: Pid) {
        self.inside.remove(&pid);
    }

    fn next(&mut self) -> Option<Pid> {
        None
    }

    fn lost(&mut self, signal: i32) -> anyhow::Result<()> {
        self.line.say_signal(signal)
    }
}

impl Syncs {
    /// Which call it is, if it is about the recorded directory.
    fn call(&self, pid: Pid) -> Option<&'static str> {
        let text = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
        let mut words = text.split(' ');
        let number: i64 = words.next()?.parse().ok()?;
        if number == libc::SYS_sync {
            return Some("sync");
        }
        let fd = u64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok()?;
        let meta = fs::metadata(format!("/proc/{pid}/fd/{}", fd & 0xffff_ffff)).ok()?;
        (number == libc::SYS_syncfs && meta.dev() == self.device).then_some("syncfs")
    }
}
