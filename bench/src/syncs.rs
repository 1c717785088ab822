//! Counts the system calls that make a child's bytes durable.
//!
//! I own a ptrace loop over every thread of the child, from one request to its answer. (B4) A sync is
//! counted where the kernel sees it, whatever library asked: fsync, fdatasync, msync with MS_SYNC,
//! sync_file_range (apart: it makes nothing durable), and writes through a description with O_DSYNC or
//! with RWF_DSYNC. io_uring hides what it is asked, so its calls are counted as such. Tracing slows the
//! child, so nothing is timed meanwhile. I do not know which engine it is.
#![cfg(target_os = "linux")]

use std::fs;

use anyhow::Context;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// What was counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Syncs {
    pub(crate) fdatasync: u64,
    pub(crate) fsync: u64,
    pub(crate) msync: u64,
    /// Writes that are durable on return.
    pub(crate) synced_writes: u64,
    /// Not durable; shown to tell an engine that does nothing else.
    pub(crate) sync_file_range: u64,
    pub(crate) io_uring: u64,
}

impl Syncs {
    /// The calls after which bytes are durable.
    pub(crate) fn durable(&self) -> u64 {
        self.fdatasync + self.fsync + self.msync + self.synced_writes
    }
}

/// A system call as the kernel shows it of a stopped thread.
struct Call {
    number: i64,
    args: [u64; 6],
}

/// Traces every thread of a child.
pub(crate) struct Tracer {
    child: Pid,
}

impl Tracer {
    /// Stops the child's threads and begins to trace them.
    pub(crate) fn seize(child: u32) -> anyhow::Result<Self> {
        let child = Pid::from_raw(i32::try_from(child)?);
        for task in fs::read_dir(format!("/proc/{child}/task"))? {
            let name = task?.file_name();
            let thread = Pid::from_raw(name.to_str().context("a thread's number")?.parse()?);
            ptrace::seize(thread, Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACESYSGOOD)?;
            ptrace::interrupt(thread)?;
        }
        Ok(Self { child })
    }

    /// Counts until the child has written to standard output and asks for more input.
    pub(crate) fn count(self) -> anyhow::Result<Syncs> {
        let mut syncs = Syncs::default();
        let mut answered = false;
        loop {
            let status = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL))?;
            let (thread, signal) = match status {
                WaitStatus::PtraceSyscall(thread) => {
                    let enters = ptrace::syscall_info(thread)?.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
                    if let Some(call) = call_of(thread).filter(|_| enters) {
                        self.take(&call, &mut syncs);
                        let own = thread == self.child;
                        answered |= own && call.number == libc::SYS_write && call.args[0] == 1;
                        if own && answered && call.number == libc::SYS_read && call.args[0] == 0 {
                            return Ok(syncs);
                        }
                    }
                    (thread, None)
                }
                WaitStatus::PtraceEvent(thread, ..) => (thread, None),
                WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
                WaitStatus::Exited(thread, code) if thread == self.child => {
                    anyhow::bail!("the traced child ended with {code}")
                }
                _ => continue,
            };
            match ptrace::syscall(thread, signal) {
                // The thread ended meanwhile.
                Ok(()) | Err(nix::Error::ESRCH) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn take(&self, call: &Call, syncs: &mut Syncs) {
        const MS_SYNC: u64 = 4;
        const RWF_DSYNC: u64 = 2;
        const RWF_SYNC: u64 = 4;
        match call.number {
            libc::SYS_fdatasync => syncs.fdatasync += 1,
            libc::SYS_fsync => syncs.fsync += 1,
            libc::SYS_msync if call.args[2] & MS_SYNC != 0 => syncs.msync += 1,
            libc::SYS_sync_file_range => syncs.sync_file_range += 1,
            libc::SYS_io_uring_enter => syncs.io_uring += 1,
            libc::SYS_pwritev2 if call.args[5] & (RWF_DSYNC | RWF_SYNC) != 0 => syncs.synced_writes += 1,
            libc::SYS_write
            | libc::SYS_pwrite64
            | libc::SYS_writev
            | libc::SYS_pwritev
            | libc::SYS_pwritev2
                if self.is_synced(call.args[0]) =>
            {
                syncs.synced_writes += 1;
            }
            _ => {}
        }
    }

    /// Whether a descriptor was opened with O_DSYNC, of which O_SYNC is a part.
    fn is_synced(&self, descriptor: u64) -> bool {
        let flags = || {
            let info = fs::read_to_string(format!("/proc/{}/fdinfo/{descriptor}", self.child)).ok()?;
            let line = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            i32::from_str_radix(line.trim(), 8).ok()
        };
        flags().is_some_and(|flags| flags & libc::O_DSYNC != 0)
    }
}

impl Drop for Tracer {
    /// Ends the child. A thread that is traced is gone only when its tracer has been told, and until
    /// then nobody can wait for the process.
    fn drop(&mut self) {
        if kill(self.child, Signal::SIGKILL).is_err() {
            return;
        }
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL)) {
            let gone = matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
            if gone && status.pid() == Some(self.child) {
                return;
            }
        }
    }
}

fn call_of(thread: Pid) -> Option<Call> {
    let text = loop {
        let text = fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?;
        // The thread has told its tracer that it stops, and is not off its processor yet.
        if text.trim() != "running" {
            break text;
        }
        std::thread::yield_now();
    };
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    Some(Call { number, args })
}
