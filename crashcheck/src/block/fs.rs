//! The file systems that block mode makes and mounts.
//!
//! I own their tools and options. A tool that is missing is named with the Debian package that has it. I
//! do not know what they promise (see [`crate::core::profile`]).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::ValueEnum;
use nix::mount::MsFlags;
use serde::Serialize;

use crate::block::disk::Disk;
use crate::block::room::{Missing, Room};

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
    /// [`Missing`] without its tool, or what the tool said.
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
        let output = command.output().with_context(|| format!("{program} does not start"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{program}: {}", said.trim());
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

    /// All options for `mount -o`: its own, then the user's.
    #[must_use]
    pub fn options(self, users: &str) -> String {
        let all = [self.own_options(), users.trim().trim_start_matches("-o").trim()];
        all.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",")
    }

    /// Makes the kernel forget a device that is no longer mounted: btrfs remembers the newest state that it
    /// saw, and refuses older ones on other devices.
    pub(crate) fn forget(self, device: &Path) -> anyhow::Result<()> {
        if self != Self::Btrfs {
            return Ok(());
        }
        let output = Command::new(tool("btrfs", "btrfs-progs")?)
            .args(["device", "scan", "--forget"])
            .arg(device)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "btrfs device scan --forget: {}", said.trim());
        Ok(())
    }
}

/// The path of a program, looked for where root's are too.
///
/// # Errors
/// [`Missing`], with the Debian package that has it.
pub fn tool(program: &str, package: &str) -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places.map(|dir| dir.join(program)).find(|path| path.is_file());
    found.ok_or_else(|| {
        Missing(format!("{program} is missing; install it with apt-get install {package} (Debian's package)"))
    })
}

/// The options of `mount -o` as mount(2) wants them.
#[must_use]
pub fn flags(options: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut rest: Vec<&str> = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "defaults" | "rw" | "async" => {}
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
        assert_eq!(bits, MsFlags::MS_NOATIME | MsFlags::MS_RDONLY);
        assert_eq!(data, "nouuid,logbsize=32k");
    }

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        let missing = tool("mkfs.nothing", "nothing-progs").unwrap_err();
        assert!(missing.0.contains("mkfs.nothing") && missing.0.contains("nothing-progs"), "{missing}");
    }
}
