//! One loop device, and the file systems that are mounted from it.
//!
//! I own the loop device. (M1) It is attached by mount(8), with autoclear, and held open for as long as it
//! is needed: it is gone with its last user, whatever ends that. (M2) Before each mount the device's bytes
//! are those of the state, and nothing of an earlier one is left in a cache. (M3) Each step that a state may hold
//! up has a limit. I do not know which states there are.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::mount::MsFlags;
use rustix::fs::{Advice, fadvise};

use crate::block::check::Verdict;
use crate::block::disk::Disk;
use crate::block::fs::{FileSystem, flags};
use crate::block::hands::{Did, Hands, Task};
use crate::block::probe::Bounds;
use crate::block::room::Room;
use crate::block::tools::{AMPLE, run, tool};

/// A loop device that is there until this is dropped.
#[derive(Debug)]
pub struct Loop {
    /// Its path.
    pub device: PathBuf,
    held: File,
}

impl Loop {
    /// Attaches a file and mounts it on the room's mount point.
    ///
    /// # Errors
    /// What mount(8) said, or that it took too long.
    pub fn mount(
        room: &Room,
        image: &Path,
        fs: FileSystem,
        options: &str,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(tool("mount", "mount")?);
        command.args(["-t", fs.name(), "-o", &format!("loop,{options}")]);
        run(command.arg(image).arg(room.mount_point()), limit)?;
        let device = device_of(room, image)?;
        let held = File::open(&device).with_context(|| format!("{}", device.display()))?;
        Ok(Self { device, held })
    }

    /// Drops what is cached of the device.
    fn forget(&self) -> anyhow::Result<()> {
        Ok(fadvise(&self.held, 0, None, Advice::DontNeed)?)
    }
}

/// The major number of loop devices.
const LOOP_MAJOR: u32 = 7;

/// The loop device that is mounted: the number of the device is that of the file system, but on btrfs.
fn device_of(room: &Room, image: &Path) -> anyhow::Result<PathBuf> {
    let number = rustix::fs::stat(room.mount_point())?.st_dev;
    if rustix::fs::major(number) == LOOP_MAJOR {
        return Ok(PathBuf::from(format!("/dev/loop{}", rustix::fs::minor(number))));
    }
    let mut command = Command::new(tool("losetup", "mount")?);
    let listed = run(command.args(["--noheadings", "--output", "NAME", "--associated"]).arg(image), AMPLE)?;
    Ok(PathBuf::from(listed.lines().next().context("losetup lists no device")?.trim()))
}

/// Mounts one state after another.
#[derive(Debug)]
pub struct Presenter<'a> {
    room: &'a Room,
    fs: FileSystem,
    options: String,
    image: File,
    on: Loop,
    hands: RefCell<Hands>,
}

impl<'a> Presenter<'a> {
    /// Attaches a device that first holds `base`, which must be mountable.
    ///
    /// # Errors
    /// If it cannot be attached and mounted within `limit`, which each later step has too.
    pub fn new(
        room: &'a Room,
        fs: FileSystem,
        options: &str,
        base: &Disk,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let path = room.file("state.img");
        // A device that is in use still, though nobody should, keeps its own.
        let _ = std::fs::remove_file(&path);
        let image = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .context("an image")?;
        image.set_len(base.size())?;
        base.store(&image)?;
        let on = Loop::mount(room, &path, fs, options, limit)?;
        let hands = RefCell::new(Hands::new(room, limit));
        let made = Self { room, fs, options: options.to_owned(), image, on, hands };
        made.unmount()?;
        Ok(made)
    }

    /// Whether a step was ended by its time: this presenter must be dropped then.
    #[must_use]
    pub fn was_late(&self) -> bool {
        self.hands.borrow().was_late()
    }

    fn too_long(&self, what: &str) -> String {
        format!("{what} took longer than {} s", self.hands.borrow().limit().as_secs())
    }

    /// Whether everything in the mounted state can be read and a write goes through.
    ///
    /// # Errors
    /// If there is nobody to look.
    pub fn look(&self) -> anyhow::Result<Verdict> {
        let bounds = Bounds::of(self.image.metadata()?.len());
        let task = Task::Look { point: self.room.mount_point(), bounds };
        match self.hands.borrow_mut().ask(&task)? {
            Some(Did::Saw(verdict)) => return Ok(verdict),
            Some(other) => anyhow::bail!("a look gives no {other:?}"),
            None => {}
        }
        Ok(Verdict::Unfinished(self.too_long("to read all files")))
    }

    /// Mounts a state on the room's mount point; the kernel's words if it refuses.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub fn mount(&self, state: &Disk) -> anyhow::Result<Result<(), String>> {
        self.mount_with(state, MsFlags::empty())
    }

    /// The same for reading alone: the journal is replayed all the same.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub fn mount_to_read(&self, state: &Disk) -> anyhow::Result<Result<(), String>> {
        self.mount_with(state, MsFlags::MS_RDONLY)
    }

    /// What the device holds now that nothing is mounted.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn disk(&self) -> anyhow::Result<Disk> {
        Disk::read(&self.image).context("the device's bytes")
    }

    /// Makes the kernel forget what it knows of the device's file system.
    ///
    /// # Errors
    /// If it does not.
    pub fn forget(&self) -> anyhow::Result<()> {
        self.fs.forget(&self.on.device)
    }

    fn mount_with(&self, state: &Disk, more: MsFlags) -> anyhow::Result<Result<(), String>> {
        state.store(&self.image).context("the state's bytes")?;
        self.on.forget()?;
        let (flags, data) = flags(&self.options);
        let (device, point) = (self.on.device.clone(), self.room.mount_point());
        let kind = self.fs.name().to_owned();
        let task = Task::Mount { device, point, kind, flags: (flags | more).bits(), data };
        let did = self.hands.borrow_mut().ask(&task)?;
        match did {
            Some(Did::Refused(number)) => match Errno::from_raw(number) {
                e @ (Errno::ENOMEM | Errno::EPERM | Errno::EMFILE | Errno::EBUSY) => {
                    Err(e).with_context(|| format!("mounting {}", self.on.device.display()))
                }
                e => Ok(Err(e.desc().to_owned())),
            },
            Some(_) => Ok(Ok(())),
            None => Ok(Err(self.too_long("to mount it"))),
        }
    }

    /// Unmounts the state if nothing uses it; `false` if something does.
    ///
    /// # Errors
    /// If the kernel says no.
    pub fn unmount_now(&self) -> anyhow::Result<bool> {
        self.take_down(false)
    }

    /// Unmounts the state. `false` if something still uses it: it is then detached, and this presenter must
    /// be dropped.
    ///
    /// # Errors
    /// If the kernel says no.
    pub fn unmount(&self) -> anyhow::Result<bool> {
        self.take_down(true)
    }

    fn take_down(&self, detach: bool) -> anyhow::Result<bool> {
        let task = Task::Unmount { point: self.room.mount_point(), detach };
        let did = self.hands.borrow_mut().ask(&task)?;
        match did {
            Some(Did::Refused(number)) => {
                Err(io::Error::from_raw_os_error(number)).context("unmounting a state")
            }
            Some(did) => Ok(did == Did::Done),
            None => anyhow::bail!("unmounting a state: {}", self.too_long("it")),
        }
    }

    /// Unmounts what is there after a step that was ended by its time, mounted or not.
    ///
    /// # Errors
    /// If that takes too long as well.
    pub fn abandon(self) -> anyhow::Result<()> {
        match self.take_down(true) {
            Err(e)
                if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::InvalidInput) =>
            {
                Ok(())
            }
            done => done.map(drop),
        }
    }
}

impl Drop for Presenter<'_> {
    fn drop(&mut self) {
        let _ = self.fs.forget(&self.on.device);
    }
}
