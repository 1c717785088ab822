//! Records a program by its system calls alone: no file system of ours, no root, no namespace.
//!
//! I own the recorder. A thread stops at each call that changes a directory ([`SEEN`]); what the call did is
//! read back from the directory when it has returned, and noted. (C1) One change at a time: while one is
//! being made, a thread that is about to make another waits, so the steps are in the order of the disk.
//! Syncs go on beside, and cover what was noted before they began. (C2) What was stored into a shared
//! mapping is found by comparing the file with what it held (see `mapped`). (C3) What these calls cannot
//! tell is a gap: a ring that the user lets through, a range that was cloned, collapsed or inserted, a file
//! that cannot be read back. (C4) However it ends, all that the program has started ends with it, and with
//! us.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread as threads;
use std::time::Duration;

use anyhow::{Context, anyhow};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::program::tape::Tape;
use crate::program::tracer::{Go, Stops, Tracer, Watch, arguments};

mod changes;
mod mapped;
mod thread;

use changes::Change;
use mapped::Mappings;
use thread::Thread;

/// The calls at which a program stops.
pub const SEEN: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_copy_file_range,
    libc::SYS_ftruncate,
    libc::SYS_truncate,
    libc::SYS_fallocate,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_renameat2,
    libc::SYS_renameat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_msync,
    libc::SYS_mmap,
    libc::SYS_ioctl,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
];

/// The calls that set up a ring, through which writes go that no call tells of.
pub const RINGS: &[i64] = &[libc::SYS_io_uring_setup, libc::SYS_io_setup];

/// What becomes of a program that asks for a ring (`io_uring`, or the older `io_submit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rings {
    /// It is told that there are none (ENOSYS), and does without.
    Refuse,
    /// It gets one, and nothing is measured.
    Let,
}

/// A program that is recorded.
#[derive(Debug)]
pub struct Traced {
    /// The threads that are alive.
    threads: Arc<Mutex<HashSet<Pid>>>,
    ended: Receiver<anyhow::Result<i32>>,
}

impl Traced {
    /// Starts a command; `prepare` sets its streams. What it does to `dir` goes to the tape.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(
        command: &[OsString],
        rings: Rings,
        dir: &Path,
        tape: Arc<Tape>,
        prepare: impl FnOnce(&mut Command) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let stops = if rings == Rings::Refuse { Stops::Calls } else { Stops::CallsAndRings };
        let threads = Arc::new(Mutex::new(HashSet::new()));
        let device = fs::metadata(dir).with_context(|| dir.display().to_string())?.dev();
        let calls = Calls {
            tape,
            dir: dir.to_owned(),
            device,
            threads: Arc::clone(&threads),
            changing: None,
            waiting: VecDeque::new(),
            met: false,
            begun: HashMap::new(),
            files: HashMap::new(),
            mappings: Mappings::default(),
        };
        let (tell, ended) = channel();
        let arguments = arguments(stops, command);
        // A program is traced by the thread that starts it.
        threads::Builder::new().name("tracer".to_owned()).spawn(move || {
            let mut command = Command::new("/proc/self/exe");
            command.args(arguments);
            prepare(&mut command);
            let _ = tell.send(trace(command, calls));
        })?;
        Ok(Self { threads, ended })
    }

    /// Its exit code, if it ended within a time.
    ///
    /// # Errors
    /// If it could not be traced.
    pub fn wait(&self, limit: Duration) -> anyhow::Result<Option<i32>> {
        match self.ended.recv_timeout(limit) {
            Ok(ended) => ended.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Ends it and all that it started.
    pub fn kill(&self) {
        kill_all(&lock(&self.threads));
    }
}

/// A thread that is told of its end may have ended already.
fn kill_all(threads: &HashSet<Pid>) {
    for pid in threads {
        let _ = kill(*pid, Signal::SIGKILL);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds this")
}

/// Runs a program to its end, and ends what it leaves behind.
fn trace(mut command: Command, calls: Calls) -> anyhow::Result<i32> {
    let child = Pid::from_raw(command.spawn().context("starting")?.id().cast_signed());
    lock(&calls.threads).insert(child);
    let mut tracer = Tracer::new(child, calls);
    let code = tracer.run()?;
    if !tracer.watch().met {
        return Err(anyhow!(
            "the program may not be traced here (ptrace): record it as root, or without --by ptrace"
        ));
    }
    while !tracer.threads().is_empty() {
        kill_all(tracer.threads());
        tracer.step()?;
    }
    let calls = tracer.watch();
    let tape = Arc::clone(&calls.tape);
    calls.mappings.scan(&mut tape.lock());
    Ok(code)
}

/// Watches a program's calls, and notes what they did.
#[derive(Debug)]
struct Calls {
    tape: Arc<Tape>,
    dir: PathBuf,
    device: u64,
    threads: Arc<Mutex<HashSet<Pid>>>,
    /// The thread that makes a change.
    changing: Option<Pid>,
    /// Those that are about to make one, in order.
    waiting: VecDeque<Pid>,
    /// Whether the program was ever traced.
    met: bool,
    begun: HashMap<Pid, Change>,
    /// The files that were written, by the host's inode numbers, to read them back.
    files: HashMap<u64, Arc<fs::File>>,
    mappings: Mappings,
}

impl Watch for Calls {
    fn met(&mut self, pid: Pid) {
        self.met = true;
        lock(&self.threads).insert(pid);
    }

    fn begins(&mut self, pid: Pid) -> anyhow::Result<Go> {
        let thread = Thread::stopped(pid)?;
        let Some(change) = self.change(&thread) else { return Ok(Go::On) };
        if change.is_exclusive() {
            if self.changing.is_some() {
                self.waiting.push_back(pid);
                return Ok(Go::Wait);
            }
            self.changing = Some(pid);
        }
        self.begun.insert(pid, change);
        Ok(Go::ToReturn)
    }

    fn returned(&mut self, pid: Pid, result: i64) -> anyhow::Result<()> {
        if let Some(change) = self.begun.remove(&pid) {
            self.note(pid, change, result);
        }
        self.changing.take_if(|changing| *changing == pid);
        Ok(())
    }

    fn ended(&mut self, pid: Pid) {
        lock(&self.threads).remove(&pid);
        self.begun.remove(&pid);
        self.waiting.retain(|waiting| *waiting != pid);
        self.changing.take_if(|changing| *changing == pid);
    }

    fn next(&mut self) -> Option<Pid> {
        if self.changing.is_some() { None } else { self.waiting.pop_front() }
    }

    fn lost(&mut self, signal: i32) -> anyhow::Result<()> {
        let reason = format!("real-time signal {signal} was not passed on: record without --by ptrace");
        self.tape.lock().gap(String::new(), &reason);
        Ok(())
    }
}
