//! Sees the calls that no file system is told of: `sync` and `syncfs`.
//!
//! I own the traced program, as its supervisor in its process namespace. A seccomp filter stops it at those
//! calls and nowhere else; the recorder is told when one begins and when it returned, and the program goes
//! on when it has noted that (see [`desk`]). (T1) Forks, threads and new programs are followed. (T2)
//! `sync_file_range` promises nothing that outlives a crash, so it is no sync and is not looked at. (T3)
//! Where tracing is not permitted the program runs without, and the recorder is told that it does. What
//! being traced costs a program: it cannot trace another, set-user-id programs gain nothing, job control
//! does not stop it, and a real-time signal cannot be passed on, which the recorder is told. Programs of
//! another word size than ours are let through unseen.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
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
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use self::desk::Line;

pub mod desk;

/// What asks this program to become a traced one.
pub const TRACED: &str = "__traced";

/// Whether this machine's calls are known.
#[must_use]
pub fn is_supported() -> bool {
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64"))
}

/// Stops at the calls, and lets everything else through.
fn filter() -> anyhow::Result<BpfProgram> {
    let calls = BTreeMap::from([(libc::SYS_sync, Vec::new()), (libc::SYS_syncfs, Vec::new())]);
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, SeccompAction::Trace(0), arch)?;
    let mut program = BpfProgram::try_from(filter)?;
    // The library kills programs of another word size; ours are to run as they did.
    let kill = u32::from(SeccompAction::KillProcess);
    for instruction in program.iter_mut().filter(|instruction| instruction.k == kill) {
        instruction.k = u32::from(SeccompAction::Allow);
    }
    Ok(program)
}

/// Becomes a command that its parent traces.
///
/// # Errors
/// If it cannot be run.
pub fn traced(command: &[OsString]) -> anyhow::Result<i32> {
    let (program, arguments) = command.split_first().context("no command")?;
    if ptrace::traceme().is_ok() {
        // The tracer sets its options while this is stopped: without them a filtered call would fail.
        raise(Signal::SIGSTOP)?;
        seccompiler::apply_filter(&filter()?).context("a seccomp filter")?;
    }
    let e = Command::new(program).args(arguments).exec();
    bail!("{}: {e}", Path::new(program).display())
}

/// Runs a command traced, and gives its exit code; `line` leads to the recorder of `dir`.
///
/// # Errors
/// If it cannot be run.
pub fn supervise(command: &[OsString], line: Line, dir: &Path) -> anyhow::Result<i32> {
    let device = fs::metadata(dir).with_context(|| dir.display().to_string())?.dev();
    let child = Command::new("/proc/self/exe").arg(TRACED).args(command).spawn().context("starting")?;
    let child = Pid::from_raw(child.id().cast_signed());
    let mut tracer = Tracer { line, child, device, known: HashSet::new(), inside: HashMap::new() };
    tracer.run()
}

/// A call that has not returned.
#[derive(Clone, Copy, Debug)]
struct Inside {
    call: &'static str,
    /// How many steps there were when it began.
    entered: usize,
}

#[derive(Debug)]
struct Tracer {
    line: Line,
    child: Pid,
    /// The recorded directory's.
    device: u64,
    known: HashSet<Pid>,
    inside: HashMap<Pid, Inside>,
}

impl Tracer {
    fn run(&mut self) -> anyhow::Result<i32> {
        let all = WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());
        loop {
            let Some((pid, status)) = rustix::process::wait(all).context("waiting")? else { continue };
            let pid = Pid::from_raw(pid.as_raw_pid());
            if status.stopped() {
                // A thread that was killed while it was stopped is gone already; its end is yet to come.
                match self.stopped(pid, status) {
                    Ok(()) => {}
                    Err(e) if e.downcast_ref::<Errno>() == Some(&Errno::ESRCH) => {}
                    Err(e) => return Err(e),
                }
                continue;
            }
            self.known.remove(&pid);
            self.inside.remove(&pid);
            if pid == self.child {
                let signal = status.terminating_signal().map_or(0, |signal| 128 + signal);
                if !self.line.met() {
                    self.line.say_untraced()?;
                }
                return Ok(status.exit_status().unwrap_or(signal));
            }
        }
    }

    fn stopped(&mut self, pid: Pid, status: WaitStatus) -> anyhow::Result<()> {
        let signal = status.stopping_signal().unwrap_or(0);
        let event = status.as_raw().cast_unsigned() >> 16;
        if event == libc::PTRACE_EVENT_SECCOMP.cast_unsigned() {
            return self.begins(pid);
        }
        if event != 0 {
            return Ok(ptrace::cont(pid, None)?);
        }
        if signal == libc::SIGTRAP | 0x80 {
            return self.returned(pid);
        }
        if self.known.insert(pid) && signal == libc::SIGSTOP {
            return self.begin_tracing(pid);
        }
        // A stop of job control has no signal's particulars; it ends here.
        match (ptrace::getsiginfo(pid), Signal::try_from(signal)) {
            (Err(Errno::EINVAL), _) => Ok(ptrace::cont(pid, None)?),
            (_, Ok(signal)) => Ok(ptrace::cont(pid, signal)?),
            (_, Err(_)) => {
                self.line.say_signal(signal)?;
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
            self.line.meet();
        }
        Ok(ptrace::cont(pid, None)?)
    }

    /// A thread is about to make one of the calls.
    fn begins(&mut self, pid: Pid) -> anyhow::Result<()> {
        let Some(call) = self.call(pid) else { return Ok(ptrace::cont(pid, None)?) };
        let entered = self.line.begins()?;
        self.inside.insert(pid, Inside { call, entered });
        Ok(ptrace::syscall(pid, None)?)
    }

    fn returned(&mut self, pid: Pid) -> anyhow::Result<()> {
        if let Some(Inside { call, entered }) = self.inside.remove(&pid) {
            self.line.returned(pid.as_raw(), call, entered, result(pid)? < 0)?;
        }
        Ok(ptrace::cont(pid, None)?)
    }

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
