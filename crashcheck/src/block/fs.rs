//! The file systems that block mode makes and mounts.
//!
//! I own what they are made with and how they are mounted: nobody gains rights by what is in one, and no device
//! in one is opened. I do not know what they promise (see [`crate::core::profile`]).

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;
use nix::mount::MsFlags;
use serde::Serialize;

use crate::block::disk::Disk;
use crate::block::room::Room;
use crate::block::tools::{AMPLE, run, tool};

/// A file system of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSystem {
    /// ext4
    Ext4,
    /// XFS
    Xfs,
    /// Btrfs
    Btrfs,
}

impl FileSystem {
    /// The name, as the kernel knows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Bytes of a device unless more are asked for: small, so that a state is quickly made.
    #[must_use]
    pub fn default_size(self) -> u64 {
        match self {
            Self::Ext4 => 16 << 20,
            Self::Xfs => 32 << 20,
            Self::Btrfs => 128 << 20,
        }
    }

    /// Whether several devices of one image can be mounted at once.
    #[must_use]
    pub fn mounts_copies(self) -> bool {
        self != Self::Btrfs
    }

    /// Makes it in a file of the room, and gives back the device's bytes.
    ///
    /// # Errors
    /// [`Missing`](crate::block::room::Missing) without its tool, or what the tool said.
    pub fn make(self, room: &Room, size: u64, args: &[String]) -> anyhow::Result<Disk> {
        let path = room.file("base.img");
        let file = File::create(&path)?;
        file.set_len(size)?;
        let (program, package, always): (_, _, &[&str]) = match self {
            // Nothing is left for the kernel to do in the background.
            Self::Ext4 => (
                "mkfs.ext4",
                "e2fsprogs",
                &["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            ),
            Self::Xfs => ("mkfs.xfs", "xfsprogs", &["-q", "-f"]),
            Self::Btrfs => ("mkfs.btrfs", "btrfs-progs", &["-q", "-f"]),
        };
        let mut command = Command::new(tool(program, package)?);
        command.args(always).args(args).arg(&path);
        // What mkfs.xfs wants to see before it makes one under 300 MB; it is what xfstests sets.
        command.envs([("TEST_DIR", "1"), ("TEST_DEV", "1"), ("QA_CHECK_FS", "1")]);
        run(&mut command, AMPLE)?;
        let disk = Disk::read(&File::open(&path)?)?;
        fs::remove_file(&path)?;
        Ok(disk)
    }

    /// What `mount -o` is given besides the user's options.
    fn own_options(self) -> &'static str {
        match self {
            // States of one image are mounted side by side.
            Self::Xfs => "nouuid",
            Self::Ext4 | Self::Btrfs => "",
        }
    }

    /// All options for `mount -o`: its own, then the user's, then those that nobody takes away.
    #[must_use]
    pub fn options(self, users: &str) -> String {
        let all = [self.own_options(), users.trim().trim_start_matches("-o").trim(), "nosuid,nodev"];
        all.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",")
    }

    /// The same for a device of a stranger: unless the user says so no program in it is run, and it does not say what
    /// the kernel does about its errors (an ext4 may ask for a panic).
    #[must_use]
    pub fn wary_options(self, users: &str) -> String {
        let has = |name: &str| users.split(',').any(|option| option.trim().starts_with(name));
        let no_exec = if has("exec") { "" } else { ",noexec" };
        let errors = if self != Self::Ext4 || has("errors=") { "" } else { ",errors=continue" };
        format!("{}{no_exec}{errors}", self.options(users))
    }

    /// Makes the kernel forget a device that is no longer mounted: btrfs remembers the newest state that it
    /// saw, and refuses older ones on other devices.
    pub(crate) fn forget(self, device: &Path) -> anyhow::Result<()> {
        if self != Self::Btrfs {
            return Ok(());
        }
        let mut command = Command::new(tool("btrfs", "btrfs-progs")?);
        run(command.args(["device", "scan", "--forget"]).arg(device), AMPLE).map(drop)
    }
}

/// The options of `mount -o` as mount(2) wants them.
#[must_use]
pub fn flags(options: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut rest: Vec<&str> = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "defaults" | "rw" | "async" | "exec" => {}
            "ro" => flags |= MsFlags::MS_RDONLY,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "dirsync" => flags |= MsFlags::MS_DIRSYNC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            other => rest.push(other),
        }
    }
    (flags, rest.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_and_data() {
        let (bits, data) = flags(&FileSystem::Xfs.options("-o noatime,logbsize=32k,ro"));
        let always = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        assert_eq!(bits, MsFlags::MS_NOATIME | MsFlags::MS_RDONLY | always);
        assert_eq!(data, "nouuid,logbsize=32k");
        let (bits, data) = flags(&FileSystem::Ext4.wary_options("exec,errors=remount-ro"));
        assert_eq!((bits, data.as_str()), (always, "errors=remount-ro"));
        let (bits, data) = flags(&FileSystem::Ext4.wary_options(""));
        assert_eq!((bits, data.as_str()), (always | MsFlags::MS_NOEXEC, "errors=continue"));
    }
}
