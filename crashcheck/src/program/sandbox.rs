//! Namespaces that keep what we do to ourselves, and end it with us.
//!
//! I own what is left behind: nothing. (S1) Everything is mounted in a mount namespace of this process,
//! so that it is gone when the last process in there is, however that ends. (S2) A program that is run
//! has a process namespace of its own whose first process is this program again, as a [`supervise`]r: it
//! dies when the one that started it dies, and with it all that the program started. (S3) Who may not make
//! namespaces is told what is missing.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::{Context, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::program::own::Places;
use crate::program::rights::{self, Rights};
use crate::program::tracer::{desk::Line, syncs};

/// What asks this program to be a supervisor.
pub const SUPERVISE: &str = "__supervise";

/// Before a subcommand: it ends with the one who started it, and reads its output.
pub const TIED: &str = "__tied";

/// Gives this process a mount namespace of its own. To be called before any thread is made.
///
/// # Errors
/// If this process may not do that.
pub fn enter() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        enter_as_user()?;
    }
    unshare(CloneFlags::CLONE_NEWNS)
        .context("this needs a mount namespace of its own: run it as root, or allow user namespaces")?;
    make_private()
}

/// Becomes root of a user namespace in which nobody else is.
fn enter_as_user() -> anyhow::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER)
        .context("this needs root, or user namespaces, which this system does not give to this user")?;
    fs::write("/proc/self/setgroups", "deny").context("/proc/self/setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("/proc/self/uid_map")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("/proc/self/gid_map")
}

fn make_private() -> anyhow::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("making mounts private")
}

/// Mounts a file system in memory over a directory.
///
/// # Errors
/// If it cannot be mounted.
pub fn mount_memory(dir: &Path, options: &str) -> anyhow::Result<()> {
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    mount(Some("crashcheck"), dir, Some("tmpfs"), flags, Some(options))
        .with_context(|| format!("mounting a file system in memory over {}", dir.display()))
}

/// Mounts a file system in memory that shows states, which are a user's.
///
/// # Errors
/// As [`mount_memory`].
pub fn mount_states(dir: &Path, owner: Option<Rights>) -> anyhow::Result<()> {
    let whose = owner.map_or(String::new(), |Rights { uid, gid }| format!(",uid={uid},gid={gid}"));
    mount_memory(dir, &format!("mode=755{whose}"))
}

/// Takes a mount away, also while it is in use.
pub fn unmount(dir: &Path) {
    // It may be gone already; the namespace takes it along in any case.
    let _ = umount2(dir, MntFlags::MNT_DETACH);
}

/// A program in a process namespace of its own.
#[derive(Debug)]
pub struct Ward {
    pid: Pid,
    ended: Receiver<io::Result<ExitStatus>>,
}

impl Ward {
    /// Starts this program again as the first process of a namespace; `arguments` say what it is to do
    /// there, `prepare` sets its streams, and `attend` looks after it until it is to be waited for. It
    /// cannot make threads: the namespace is not theirs.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(
        arguments: Vec<OsString>,
        prepare: impl FnOnce(&mut Command) + Send + 'static,
        attend: impl FnOnce(&mut Child) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (tell, ended) = channel();
        let (tell_pid, pid) = channel();
        // The namespace is for the children of one thread, and they are told of that thread's end.
        thread::Builder::new().name("ward".to_owned()).spawn(move || {
            let spawn = || {
                unshare(CloneFlags::CLONE_NEWPID)?;
                let mut command = Command::new("/proc/self/exe");
                command.args(arguments);
                prepare(&mut command);
                command.spawn()
            };
            match spawn() {
                Ok(mut child) => {
                    let _ = tell_pid.send(Ok(child.id()));
                    attend(&mut child);
                    let _ = tell.send(child.wait());
                }
                Err(e) => {
                    let _ = tell_pid.send(Err(e));
                }
            }
        })?;
        let pid = pid.recv().context("the thread that starts a program")?.context("starting a program")?;
        Ok(Self { pid: Pid::from_raw(pid.cast_signed()), ended })
    }

    /// Its status, if it ended within a time.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn wait(&self, limit: std::time::Duration) -> io::Result<Option<ExitStatus>> {
        match self.ended.recv_timeout(limit) {
            Ok(status) => status.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Ends it and all that it started.
    pub fn kill(&self) {
        // It may have ended already.
        let _ = kill(self.pid, Signal::SIGKILL);
    }
}

/// The exit code of a status: its own, or 128 and the signal's number.
#[must_use]
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Makes this process die with the one that started it, which reads its standard output by a pipe.
///
/// # Errors
/// If that one is dead already: the kernel would not tell.
pub fn die_with_parent() -> anyhow::Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("dying with the one who started this")?;
    // Its descriptors are closed before anybody is told of its end, so one of the two is seen here.
    let out = io::stdout();
    let mut polled = [PollFd::new(out.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).context("looking whether anybody listens")?;
    if polled[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLERR)) {
        bail!("the one who started this is gone");
    }
    Ok(())
}

/// Makes this process, which dies with its parent already, see its own processes alone.
///
/// # Errors
/// If the namespace cannot be set up.
pub fn become_first() -> anyhow::Result<()> {
    if std::process::id() != 1 {
        bail!("this is for crashcheck itself");
    }
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
    make_private()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let none: Option<&str> = None;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).context("mounting /proc")
}

/// The supervisor: runs a command as the first process of its namespace, and ends with its exit code.
///
/// # Errors
/// If it cannot be run.
pub fn supervise(arguments: &[OsString]) -> anyhow::Result<i32> {
    die_with_parent()?;
    // It may be named among the processes of whoever started this, who are not seen from the next line on.
    let acks = std::env::var_os(rights::ACKS).and_then(|acks| File::open(acks).ok());
    become_first()?;
    let [mask, desk, dir, own, cwd, command @ ..] = arguments else { bail!("no command") };
    let mask = mask.to_str().and_then(|mask| mask.parse().ok()).context("a umask")?;
    umask(Mode::from_bits_truncate(mask));
    let _places = (!own.is_empty()).then(|| Places::new(Path::new(dir)));
    if !cwd.is_empty() {
        std::env::set_current_dir(cwd).with_context(|| Path::new(cwd).display().to_string())?;
    }
    if !desk.is_empty() {
        return syncs::supervise(command, Line::call(desk)?, Path::new(dir));
    }
    let (program, arguments) = command.split_first().context("no command")?;
    let acks = acks.as_ref().map(|acks| (rights::ACKS, format!("/proc/1/fd/{}", acks.as_raw_fd())));
    let child = match Command::new(program).args(arguments).envs(acks).spawn() {
        Ok(child) => Pid::from_raw(child.id().cast_signed()),
        Err(e) => bail!("{}: {e}", Path::new(program).display()),
    };
    loop {
        match waitpid(None, None)? {
            WaitStatus::Exited(pid, code) if pid == child => return Ok(code),
            WaitStatus::Signaled(pid, signal, _) if pid == child => return Ok(128 + signal as i32),
            _ => {}
        }
    }
}

/// Ends every other process of this namespace; only for its first process. Gives how many there were.
pub fn end_all_others() -> usize {
    let mut ended = 0;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {
                let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
                ended += usize::from(waitpid(None, None).is_ok());
            }
            Ok(_) => {}
            Err(_) => return ended,
        }
    }
}

/// What a supervisor needs to know beside the command.
#[derive(Clone, Copy, Debug)]
pub struct Supervision<'s> {
    /// The command's umask.
    pub mask: u32,
    /// With a desk the command is traced, and its syncs of everything are told there if they are about `dir`.
    pub desk: Option<&'s str>,
    /// The recorded directory.
    pub dir: &'s Path,
    /// Whether its places for temporary files are its own.
    pub own_places: bool,
    /// Its working directory; ours unless given. The supervisor goes there: whoever is forked here has our files
    /// until it runs another program, and must not ask a file system that we serve.
    pub cwd: Option<&'s Path>,
}

impl Supervision<'_> {
    /// The arguments with which this program supervises a command.
    #[must_use]
    pub fn arguments(self, command: &[OsString]) -> Vec<OsString> {
        let [mask, desk] = [self.mask.to_string(), self.desk.unwrap_or_default().to_owned()];
        let own = if self.own_places { "own" } else { "" };
        let cwd = self.cwd.map_or(OsString::new(), OsString::from);
        let head = [SUPERVISE.into(), mask.into(), desk.into(), self.dir.into(), own.into(), cwd];
        head.into_iter().chain(command.iter().cloned()).collect()
    }
}
