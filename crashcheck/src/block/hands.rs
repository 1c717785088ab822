//! The process that touches a state: it mounts, looks and unmounts.
//!
//! I own one conversation with it, a line of JSON each way, and its time. (H1) No thread of the tool mounts a state or
//! looks at it: whatever a file system does to who asks it something, it does to a process that can be ended. (H2) What
//! takes longer than its time is ended with the process, and the next task gets a new one. A process that the kernel
//! does not let go within [`GRACE`] is an error. (H3) It is gone with the tool, whatever ends that. I do not know what a
//! state is.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

use crate::block::check::Verdict;
use crate::block::probe::{self, Bounds};
use crate::block::room::Room;
use crate::program::sandbox::die_with_parent;
use crate::program::stream::{Inlet, Keep, ready};

/// The hidden subcommand that the process is.
pub const HANDS: &str = "block-hands";

/// How long the kernel may take to let a killed process go.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long an unmount is tried again while something still uses the mount.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most bytes of an answer.
const MOST_ANSWER: usize = 1 << 16;

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Task {
    /// Mount a device.
    Mount {
        /// The device.
        device: PathBuf,
        /// Where.
        point: PathBuf,
        /// The kernel's name of the file system.
        kind: String,
        /// Flags of mount(2).
        flags: u64,
        /// Options of the file system.
        data: String,
    },
    /// Look whether all can be read and a write goes through.
    Look {
        /// Where it is mounted.
        point: PathBuf,
        /// How far.
        bounds: Bounds,
    },
    /// Unmount, if nothing uses it.
    Unmount {
        /// Where it is mounted.
        point: PathBuf,
        /// Wait for those that use it, and detach it if they stay.
        detach: bool,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Did {
    /// It is done.
    Done,
    /// What is mounted is still in use; it is detached, if that was asked for.
    InUse,
    /// The kernel said no, with the number of an error.
    Refused(i32),
    /// What was seen.
    Saw(Verdict),
}

/// The process, and the time that it has for a task.
#[derive(Debug)]
pub struct Hands {
    program: PathBuf,
    limit: Duration,
    process: Option<Process>,
    /// Whether a task was ended by its time.
    late: bool,
}

#[derive(Debug)]
struct Process {
    child: Child,
    input: ChildStdin,
    output: Inlet,
}

impl Hands {
    /// Hands in a room, to be used by its thread alone.
    #[must_use]
    pub fn new(room: &Room, limit: Duration) -> Self {
        Self { program: room.program.clone(), limit, process: None, late: false }
    }

    /// How long a task may take.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether a task was ended by its time: what it has done is not known.
    #[must_use]
    pub fn was_late(&self) -> bool {
        self.late
    }

    /// Does a task; nothing is known if its time was up.
    ///
    /// # Errors
    /// If there is no process for it, or the kernel does not let it go.
    pub fn ask(&mut self, task: &Task) -> anyhow::Result<Option<Did>> {
        let more = if matches!(task, Task::Unmount { .. }) { PATIENCE } else { Duration::ZERO };
        let until = Instant::now() + self.limit + more;
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(Process::start(&self.program)?),
        };
        // It waits for a line, and a task is shorter than what a pipe holds.
        writeln!(process.input, "{}", serde_json::to_string(task)?).context("the process that mounts")?;
        loop {
            process.output.take()?;
            if let Some(line) = process.output.line() {
                return Ok(Some(serde_json::from_str(&line).context("the process that mounts")?));
            }
            if process.output.is_closed() {
                bail!("the process that mounts ended: {}", process.child.wait()?);
            }
            if !ready(&[process.output.wanted()], until)? {
                break;
            }
        }
        self.late = true;
        let mut process = self.process.take().expect("it was asked");
        process.child.kill()?;
        bury(&mut process.child, "the process that mounts")?;
        Ok(None)
    }
}

/// Waits for a process that was killed.
///
/// # Errors
/// If the kernel does not let it go.
pub fn bury(child: &mut Child, who: &str) -> anyhow::Result<()> {
    let until = Instant::now() + GRACE;
    while child.try_wait()?.is_none() {
        if Instant::now() >= until {
            bail!("{who} was killed and does not end: the kernel holds it in a call");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

impl Drop for Hands {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.child.kill();
            let _ = bury(&mut process.child, "the process that mounts");
        }
    }
}

impl Process {
    fn start(program: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .arg(HANDS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the process that mounts")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = Inlet::new(output.expect("it is piped"), Keep::First(MOST_ANSWER))?;
        Ok(Self { child, input: input.expect("it is piped"), output })
    }
}

/// Does tasks until no more are told.
///
/// # Errors
/// If one cannot be understood or answered.
pub fn serve() -> anyhow::Result<()> {
    die_with_parent()?;
    for line in io::stdin().lines() {
        let did = work(&serde_json::from_str(&line?)?);
        let mut out = io::stdout();
        writeln!(out, "{}", serde_json::to_string(&did)?)?;
        out.flush()?;
    }
    Ok(())
}

fn work(task: &Task) -> Did {
    match task {
        Task::Mount { device, point, kind, flags, data } => {
            let flags = MsFlags::from_bits_truncate(*flags);
            match mount(Some(device), point, Some(kind.as_str()), flags, Some(data.as_str())) {
                Ok(()) => Did::Done,
                Err(e) => Did::Refused(e as i32),
            }
        }
        Task::Look { point, bounds } => Did::Saw(probe::opens(point, bounds).shortened(MOST_ANSWER / 8)),
        Task::Unmount { point, detach } => unmount(point, *detach),
    }
}

fn unmount(point: &Path, detach: bool) -> Did {
    let until = Instant::now() + PATIENCE;
    loop {
        match umount2(point, MntFlags::empty()) {
            Ok(()) => return Did::Done,
            Err(Errno::EBUSY) if !detach => return Did::InUse,
            Err(Errno::EBUSY) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            Err(Errno::EBUSY) => {
                return match umount2(point, MntFlags::MNT_DETACH) {
                    Ok(()) => Did::InUse,
                    Err(e) => Did::Refused(e as i32),
                };
            }
            Err(e) => return Did::Refused(e as i32),
        }
    }
}
