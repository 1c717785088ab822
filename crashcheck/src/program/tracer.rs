//! Stops a program at the calls that matter, and nowhere else.
//!
//! I own the traced program and its stops: a seccomp filter stops a thread at those calls, whoever watches
//! ([`Watch`]) is told when one begins and when it returned, and the thread goes on when that is noted. The
//! calls that no file system is told of are [`syncs`]' (`sync` and `syncfs`, beside a recording file
//! system); all that change a directory are [`calls`]'. (T1) Forks, threads and new programs
//! are followed. (T2) `sync_file_range` promises nothing that outlives a crash, so it is no sync and is not
//! looked at. (T3) Where tracing is not permitted the program runs without, and the watcher is told that it
//! does. What being traced costs a program: it cannot trace another, set-user-id programs gain nothing, job
//! control does not stop it, and a real-time signal cannot be passed on, which the watcher is told.
//! Programs of another word size than ours are let through unseen.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, raise};
use nix::unistd::Pid;
use rustix::process::{WaitOptions, WaitStatus};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};

use crate::program::{calls, sandbox};

pub mod desk;
pub mod syncs;

/// What asks this program to become a traced one.
pub const TRACED: &str = "__traced";

/// Whether this machine's calls are known.
#[must_use]
pub fn is_supported() -> bool {
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64"))
}

/// Which calls a program is stopped at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stops {
    /// Those that sync everything.
    Syncs,
    /// All that change a directory; rings are refused, as by a kernel that has none.
    Calls,
    /// The same, and those that set up a ring.
    CallsAndRings,
}

impl Stops {
    const ALL: [Self; 3] = [Self::Syncs, Self::Calls, Self::CallsAndRings];

    fn word(self) -> &'static str {
        match self {
            Self::Syncs => "syncs",
            Self::Calls => "calls",
            Self::CallsAndRings => "calls-and-rings",
        }
    }

    fn parse(word: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|stops| word == stops.word())
    }

    /// One filter for each thing that is done with a call.
    fn filters(self) -> anyhow::Result<Vec<BpfProgram>> {
        let syncs = [libc::SYS_sync, libc::SYS_syncfs];
        let refused = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        let trace = SeccompAction::Trace(0);
        match self {
            Self::Syncs => Ok(vec![filter(&syncs, trace)?]),
            Self::Calls => Ok(vec![filter(calls::RINGS, refused)?, filter(calls::SEEN, trace)?]),
            Self::CallsAndRings => {
                let all: Vec<i64> = calls::RINGS.iter().chain(calls::SEEN).copied().collect();
                Ok(vec![filter(&all, trace)?])
            }
        }
    }
}

/// Does something with some calls, and lets everything else through.
fn filter(calls: &[i64], action: SeccompAction) -> anyhow::Result<BpfProgram> {
    let calls: BTreeMap<i64, Vec<SeccompRule>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut program = BpfProgram::try_from(SeccompFilter::new(calls, SeccompAction::Allow, action, arch)?)?;
    // The library kills programs of another word size; ours are to run as they did.
    let kill = u32::from(SeccompAction::KillProcess);
    for instruction in program.iter_mut().filter(|instruction| instruction.k == kill) {
        instruction.k = u32::from(SeccompAction::Allow);
    }
    Ok(program)
}

/// The arguments with which this program becomes a command that is traced.
pub fn arguments(stops: Stops, command: &[OsString]) -> Vec<OsString> {
    let head = [TRACED, stops.word()].map(OsString::from);
    head.into_iter().chain(command.iter().cloned()).collect()
}

/// Becomes a command that its parent traces.
///
/// # Errors
/// If it cannot be run.
pub fn traced(arguments: &[OsString]) -> anyhow::Result<i32> {
    let (stops, command) = arguments.split_first().context("no stops")?;
    let stops = Stops::parse(stops).context("no such stops")?;
    let (program, arguments) = command.split_first().context("no command")?;
    // Until the tracer has set its options, its end would leave this stopped for good.
    sandbox::die_with_parent()?;
    if ptrace::traceme().is_ok() {
        // The tracer sets its options while this is stopped: without them a filtered call would fail.
        raise(Signal::SIGSTOP)?;
        for filter in stops.filters()? {
            seccompiler::apply_filter(&filter).context("a seccomp filter")?;
        }
    }
    let e = Command::new(program).args(arguments).exec();
    bail!("{}: {e}", Path::new(program).display())
}

/// What becomes of a thread that is about to make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// It goes on, and is not looked at when the call returns.
    On,
    /// It goes on, and stops again when the call returns.
    ToReturn,
    /// It waits until it is [`next`](Watch::next).
    Wait,
}

/// Watches a traced program.
pub trait Watch {
    /// A thread is traced from now on.
    fn met(&mut self, pid: Pid);
    /// A thread is about to make a call.
    ///
    /// # Errors
    /// If it cannot be told.
    fn begins(&mut self, pid: Pid) -> anyhow::Result<Go>;
    /// A call returned.
    ///
    /// # Errors
    /// If it cannot be told.
    fn returned(&mut self, pid: Pid, result: i64) -> anyhow::Result<()>;
    /// A thread ended, perhaps in a call.
    fn ended(&mut self, pid: Pid);
    /// A thread that waited and may begin its call now.
    fn next(&mut self) -> Option<Pid>;
    /// A signal was not passed on.
    ///
    /// # Errors
    /// If it cannot be told.
    fn lost(&mut self, signal: i32) -> anyhow::Result<()>;
}

/// A traced program and who watches it.
#[derive(Debug)]
pub struct Tracer<W> {
    child: Pid,
    known: HashSet<Pid>,
    watch: W,
}

impl<W: Watch> Tracer<W> {
    /// A program that is about to say that it may be traced; this thread must have started it.
    pub fn new(child: Pid, watch: W) -> Self {
        Self { child, known: HashSet::new(), watch }
    }

    /// Whoever watches.
    pub fn watch(&mut self) -> &mut W {
        &mut self.watch
    }

    /// The threads that were met and have not ended.
    pub fn threads(&self) -> &HashSet<Pid> {
        &self.known
    }

    /// Attends to the program until it ends, and gives its exit code; what it has started may go on.
    ///
    /// # Errors
    /// If it cannot be waited for or watched.
    pub fn run(&mut self) -> anyhow::Result<i32> {
        loop {
            if let Some((pid, status)) = self.step()?
                && pid == self.child
            {
                let signal = status.terminating_signal().map_or(0, |signal| 128 + signal);
                return Ok(status.exit_status().unwrap_or(signal));
            }
        }
    }

    /// Attends to one stop or end; gives it, if it was an end.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn step(&mut self) -> anyhow::Result<Option<(Pid, WaitStatus)>> {
        let all = WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());
        let Some((pid, status)) = rustix::process::wait(all).context("waiting")? else { return Ok(None) };
        let pid = Pid::from_raw(pid.as_raw_pid());
        let ended = !status.stopped();
        if ended {
            self.known.remove(&pid);
            self.watch.ended(pid);
        } else {
            unless_gone(self.stopped(pid, status))?;
        }
        while let Some(waiting) = self.watch.next() {
            unless_gone(self.begins(waiting))?;
        }
        Ok(ended.then_some((pid, status)))
    }

    fn stopped(&mut self, pid: Pid, status: WaitStatus) -> anyhow::Result<()> {
        let signal = status.stopping_signal().unwrap_or(0);
        let event = status.as_raw().cast_unsigned() >> 16;
        if event == libc::PTRACE_EVENT_SECCOMP.cast_unsigned() {
            return self.begins(pid);
        }
        if event == libc::PTRACE_EVENT_EXEC.cast_unsigned() {
            // Whichever thread has called it goes by its process's number from now on.
            let former = Pid::from_raw(i32::try_from(ptrace::getevent(pid)?)?);
            if former != pid {
                self.known.remove(&former);
                self.watch.ended(former);
            }
        }
        if event != 0 {
            return Ok(ptrace::cont(pid, None)?);
        }
        if signal == libc::SIGTRAP | 0x80 {
            self.watch.returned(pid, result(pid)?)?;
            return Ok(ptrace::cont(pid, None)?);
        }
        if self.known.insert(pid) && signal == libc::SIGSTOP {
            return self.begin_tracing(pid);
        }
        // A stop of job control has no signal's particulars; it ends here.
        match (ptrace::getsiginfo(pid), Signal::try_from(signal)) {
            (Err(Errno::EINVAL), _) => Ok(ptrace::cont(pid, None)?),
            (_, Ok(signal)) => Ok(ptrace::cont(pid, signal)?),
            (_, Err(_)) => {
                self.watch.lost(signal)?;
                Ok(ptrace::cont(pid, None)?)
            }
        }
    }

    fn begin_tracing(&mut self, pid: Pid) -> anyhow::Result<()> {
        if pid == self.child {
            let follow = Options::PTRACE_O_TRACEFORK
                | Options::PTRACE_O_TRACEVFORK
                | Options::PTRACE_O_TRACECLONE
                | Options::PTRACE_O_TRACEEXEC;
            let stops =
                Options::PTRACE_O_TRACESECCOMP | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
            ptrace::setoptions(pid, follow | stops)?;
        }
        self.watch.met(pid);
        Ok(ptrace::cont(pid, None)?)
    }

    /// A thread is about to make one of the calls.
    fn begins(&mut self, pid: Pid) -> anyhow::Result<()> {
        match self.watch.begins(pid)? {
            Go::On => Ok(ptrace::cont(pid, None)?),
            Go::ToReturn => Ok(ptrace::syscall(pid, None)?),
            Go::Wait => Ok(()),
        }
    }
}

/// A thread that was killed while it was stopped is gone already; its end is yet to come.
fn unless_gone(done: anyhow::Result<()>) -> anyhow::Result<()> {
    match done {
        Err(e) if e.downcast_ref::<Errno>() == Some(&Errno::ESRCH) => Ok(()),
        done => done,
    }
}

/// What a call gave.
#[cfg(target_arch = "x86_64")]
fn result(pid: Pid) -> anyhow::Result<i64> {
    Ok(ptrace::getregs(pid)?.rax.cast_signed())
}

/// What a call gave.
#[cfg(target_arch = "aarch64")]
fn result(pid: Pid) -> anyhow::Result<i64> {
    Ok(ptrace::getregs(pid)?.regs[0].cast_signed())
}

/// What a call gave; such a machine is not supported, and nothing is traced there.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn result(_pid: Pid) -> anyhow::Result<i64> {
    bail!("the calls of this machine are not known")
}
