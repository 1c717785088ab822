//! One loop device, and the file systems that are mounted from it.
//!
//! I own the loop device. (M1) It is attached by mount(8), with autoclear, and held open for as long as it
//! is needed: it is gone with its last user, whatever ends that. (M2) Before each mount the device's bytes
//! are those of the state, and nothing of an earlier one is left in a cache. I do not know which states
//! there are.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{Advice, fadvise};

use crate::block::disk::Disk;
use crate::block::fs::{FileSystem, flags, tool};
use crate::block::room::Room;

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
    /// What mount(8) said.
    pub fn mount(room: &Room, image: &Path, fs: FileSystem, options: &str) -> anyhow::Result<Self> {
        let options = if options.is_empty() { "loop".to_owned() } else { format!("loop,{options}") };
        let output = Command::new(tool("mount", "mount")?)
            .args(["-t", fs.name(), "-o", &options])
            .arg(image)
            .arg(room.mount_point())
            .output()
            .context("mount(8) does not start")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "mount: {}", said.trim());
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
    let listed = Command::new(tool("losetup", "mount")?)
        .args(["--noheadings", "--output", "NAME", "--associated"])
        .arg(image)
        .output()
        .context("losetup does not start")?;
    let listed = String::from_utf8_lossy(&listed.stdout);
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
}

impl<'a> Presenter<'a> {
    /// Attaches a device that first holds `base`, which must be mountable.
    ///
    /// # Errors
    /// If it cannot be attached and mounted.
    pub fn new(room: &'a Room, fs: FileSystem, options: &str, base: &Disk) -> anyhow::Result<Self> {
        let path = room.file("state.img");
        let image = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .context("an image")?;
        image.set_len(base.size())?;
        base.store(&image)?;
        let on = Loop::mount(room, &path, fs, options)?;
        room.unmount(&room.mount_point())?;
        Ok(Self { room, fs, options: options.to_owned(), image, on })
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
        let flags = flags | more;
        let point = self.room.mount_point();
        match mount(Some(&self.on.device), &point, Some(self.fs.name()), flags, Some(data.as_str())) {
            Ok(()) => Ok(Ok(())),
            Err(e @ (Errno::ENOMEM | Errno::EPERM | Errno::EMFILE | Errno::EBUSY)) => {
                Err(e).with_context(|| format!("mounting {}", self.on.device.display()))
            }
            Err(e) => Ok(Err(e.desc().to_owned())),
        }
    }

    /// Unmounts the state if nothing uses it; `false` if something does.
    ///
    /// # Errors
    /// If the kernel says no.
    pub fn unmount_now(&self) -> anyhow::Result<bool> {
        match umount2(&self.room.mount_point(), MntFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::EBUSY) => Ok(false),
            Err(e) => Err(e).context("unmounting a state"),
        }
    }

    /// Unmounts the state. `false` if something still uses it: it is then detached, and this presenter must
    /// be dropped.
    ///
    /// # Errors
    /// If the kernel says no.
    pub fn unmount(&self) -> anyhow::Result<bool> {
        self.room.unmount(&self.room.mount_point()).context("unmounting a state")
    }
}

impl Drop for Presenter<'_> {
    fn drop(&mut self) {
        let _ = self.fs.forget(&self.on.device);
    }
}
