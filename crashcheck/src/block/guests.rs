//! Processes that are run in a room: a workload, a checker.
//!
//! I own their lives. (G1) They run in a PID namespace whose first process is this program, waiting for
//! the end of a pipe that only the tool holds: when the tool ends, by whatever signal, the first process
//! ends, and the kernel kills all others with it, daemons and escaped groups too. (G2) After a time limit
//! all of them are killed in the same way. (G3) They see a `/proc` of their own. I do not know what they do.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{WaitOptions, wait};

use crate::block::hands::bury;
use crate::block::room::Room;

/// The hidden subcommand that the first process of a namespace is.
pub const INIT: &str = "block-init";

/// A PID namespace, kept by its first process.
#[derive(Debug)]
pub struct Guests<'a> {
    room: &'a Room,
    init: Child,
    /// Its end is the first process's end.
    _leash: ChildStdin,
    theirs: File,
}

/// How a guest ended.
#[derive(Debug)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// It was killed: the time was up.
    TimedOut,
}

impl<'a> Guests<'a> {
    /// A new, empty namespace. As long as it lives, the room's `/proc` is theirs.
    ///
    /// # Errors
    /// If the kernel says no.
    pub fn new(room: &'a Room) -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWPID).context("a PID namespace of its own")?;
        let init = Command::new(&room.program)
            .arg(INIT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the first process of a PID namespace");
        setns(&room.pids, CloneFlags::CLONE_NEWPID).context("back to the PID namespace")?;
        let mut init = init?;
        let leash = init.stdin.take().expect("it is piped");
        let mut ready = [0];
        let out = init.stdout.as_mut().expect("it is piped");
        out.read_exact(&mut ready).context("the first process of a PID namespace did not start")?;
        let theirs = File::open("/proc/1/ns/pid").context("their PID namespace")?;
        Ok(Self { room, init, _leash: leash, theirs })
    }

    /// Starts a guest.
    ///
    /// # Errors
    /// If there is no such program.
    pub fn spawn(&self, command: &mut Command) -> anyhow::Result<Child> {
        setns(&self.theirs, CloneFlags::CLONE_NEWPID).context("into their PID namespace")?;
        let child = command.spawn();
        setns(&self.room.pids, CloneFlags::CLONE_NEWPID).context("back to the PID namespace")?;
        child.with_context(|| format!("{} does not start", command.get_program().display()))
    }

    /// Waits for a guest, for so long, and attends to what it says meanwhile and after its end.
    ///
    /// # Errors
    /// If it cannot be waited for, or attended to.
    pub fn wait(
        &mut self,
        child: &mut Child,
        limit: Duration,
        attend: &mut dyn FnMut() -> io::Result<()>,
    ) -> anyhow::Result<End> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_micros(200);
        loop {
            let ended = child.try_wait()?;
            attend()?;
            if let Some(status) = ended {
                return Ok(End::Exited(status));
            }
            if Instant::now() >= deadline {
                self.init.kill()?;
                // Before the first process: its end waits until every other one has been waited for.
                bury(child, "a process of the checker or the workload")?;
                bury(&mut self.init, "the first process of a PID namespace")?;
                return Ok(End::TimedOut);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// Whether there still is a first process: none after a time limit.
    pub fn is_alive(&mut self) -> bool {
        self.init.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Kills every guest.
    ///
    /// # Errors
    /// If the kernel says no.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.init.kill()?;
        bury(&mut self.init, "the first process of a PID namespace")
    }
}

impl Drop for Guests<'_> {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = umount2("/proc", MntFlags::MNT_DETACH);
    }
}

/// The first process of a namespace: a `/proc` for it, and then nothing but burying orphans until its
/// standard input ends.
///
/// # Errors
/// If it is not the first process of a namespace.
pub fn init() -> anyhow::Result<()> {
    anyhow::ensure!(std::process::id() == 1, "{INIT} is not for use by hand");
    let none = None::<&str>;
    mount(none, "/proc", Some("proc"), MsFlags::empty(), none).context("a /proc of its own")?;
    let mut out = io::stdout();
    out.write_all(b"!")?;
    out.flush()?;
    std::thread::spawn(|| {
        loop {
            while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let mut end = Vec::new();
    io::stdin().read_to_end(&mut end)?;
    Ok(())
}
