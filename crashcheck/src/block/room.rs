//! The private place in which devices are made and file systems are mounted.
//!
//! I own the mount namespace of a thread. (R1) Nothing that is mounted here is seen outside. (R2) When
//! the last process in it is gone, by whatever signal, the kernel unmounts everything, and a loop device
//! that was attached with autoclear goes with its last user. (R3) Every file of a run is in a tmpfs of
//! the room, so that nothing is left on a disk either. The one thing outside is an empty directory,
//! [`ROOT`], which all rooms mount over. I do not know what is mounted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Where every room is, in its own namespace.
pub const ROOT: &str = "/run/crashcheck";

/// How long an unmount is tried again while something still uses the mount.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is missing here for block mode; the program ends with exit code 4 and these words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

/// A thread's private mounts. Made by [`within`] alone, and not sent to another thread.
#[derive(Debug)]
pub struct Room {
    /// This program; `/proc` may be that of guests later.
    pub(crate) program: PathBuf,
    /// The PID namespace outside of which guests are.
    pub(crate) pids: fs::File,
    /// Not `Send`: the namespace is the thread's.
    thread: std::marker::PhantomData<*const ()>,
}

/// Runs `work` in a new room, on a thread of its own, and takes the room down.
///
/// # Errors
/// [`Missing`] without root or without a kernel that has what is needed, and whatever `work` returns.
///
/// # Panics
/// If `work` does.
pub fn within<T: Send>(work: impl FnOnce(&Room) -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let room = Room::enter()?;
            let done = work(&room);
            let left = room.leave();
            done.and_then(|done| left.map(|()| done))
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Why there can be no room here, if so.
#[must_use]
pub fn missing() -> Option<Missing> {
    if !rustix::process::geteuid().is_root() {
        return Some(Missing("block mode needs root, to mount file systems; run it with sudo".to_owned()));
    }
    [("/dev/fuse", "fuse"), ("/dev/loop-control", "loop")]
        .into_iter()
        .find(|(path, _)| !Path::new(path).exists())
        .map(|(path, module)| Missing(format!("{path} is missing; load it with modprobe {module}")))
}

impl Room {
    fn enter() -> anyhow::Result<Self> {
        if let Some(missing) = missing() {
            return Err(missing.into());
        }
        unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|e| Missing(format!("a mount namespace of its own cannot be had: {e}")))?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("private mounts")?;
        fs::create_dir_all(ROOT).with_context(|| format!("the directory {ROOT}"))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("crashcheck"), ROOT, Some("tmpfs"), flags, Some("mode=0755,size=75%"))
            .with_context(|| format!("a tmpfs on {ROOT}"))?;
        let program = std::env::current_exe().context("the path of this program")?;
        let pids = fs::File::open("/proc/thread-self/ns/pid").context("the PID namespace")?;
        let room = Self { program, pids, thread: std::marker::PhantomData };
        for dir in [room.device_dir(), room.mount_point()] {
            fs::create_dir(&dir)?;
        }
        Ok(room)
    }

    /// The path of a file of the room.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        Path::new(ROOT).join(name)
    }

    /// Where the recording device is.
    #[must_use]
    pub fn device_dir(&self) -> PathBuf {
        self.file("device")
    }

    /// Where the file system under test is mounted, while it is recorded and in each crash state.
    #[must_use]
    pub fn mount_point(&self) -> PathBuf {
        self.file("mnt")
    }

    /// Unmounts; waits for those that still use it for a moment, and if they stay, detaches.
    /// `false` if it was detached.
    ///
    /// # Errors
    /// If it was not mounted, or the kernel says no.
    pub fn unmount(&self, path: &Path) -> io::Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match umount2(path, MntFlags::empty()) {
                Ok(()) => return Ok(true),
                Err(Errno::EBUSY) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(Errno::EBUSY) => {
                    return umount2(path, MntFlags::MNT_DETACH).map(|()| false).map_err(Into::into);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn leave(self) -> anyhow::Result<()> {
        for path in [self.mount_point(), self.device_dir()] {
            // What the work left mounted; nothing is the rule.
            while umount2(&path, MntFlags::MNT_DETACH).is_ok() {}
        }
        umount2(ROOT, MntFlags::MNT_DETACH).context("the room's tmpfs")
    }
}
