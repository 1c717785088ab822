//! Lets a user without rights reach what a subject needs, and nothing else of what is closed.
//!
//! I own a mount namespace. A checkout, an interpreter or a cache may lie below a directory that others may not search,
//! such as the home of root. Over such a directory one in memory is mounted, with the way to what is needed and nothing
//! beside it. Nobody outside sees that, and it is gone with this process. I do not know what a subject is.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::mount::{MsFlags, mount};
use rustix::fs::OFlags;

use crate::program::rights::Rights;
use crate::program::sandbox;

/// Makes directories reachable for a user, for this process and those that it starts.
///
/// # Errors
/// If it may not mount.
pub fn open_way(user: Rights, needed: &[PathBuf]) -> anyhow::Result<()> {
    sandbox::enter()?;
    let mut walls: BTreeMap<PathBuf, Vec<(PathBuf, File)>> = BTreeMap::new();
    for dir in needed {
        let dir = fs::canonicalize(dir).with_context(|| dir.display().to_string())?;
        if let Some(wall) = wall(user, &dir)? {
            // Before anything is mounted over it.
            let mut options = OpenOptions::new();
            let held = options.read(true).custom_flags(OFlags::PATH.bits().cast_signed()).open(&dir)?;
            walls.entry(wall).or_default().push((dir, held));
        }
    }
    walls.iter().try_for_each(|(wall, needed)| pass(wall, needed))
}

/// The first directory on the way that the user may not search.
fn wall(user: Rights, dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut above: Vec<&Path> = dir.ancestors().skip(1).collect();
    above.reverse();
    for dir in above {
        let meta = fs::metadata(dir)?;
        let shift = match () {
            () if meta.uid() == user.uid => 6,
            () if meta.gid() == user.gid => 3,
            () => 0,
        };
        if meta.mode() >> shift & 1 == 0 {
            return Ok(Some(dir.to_owned()));
        }
    }
    Ok(None)
}

/// Mounts a way through one of them.
fn pass(wall: &Path, needed: &[(PathBuf, File)]) -> anyhow::Result<()> {
    sandbox::mount_memory(wall, "mode=755")?;
    for (dir, held) in needed {
        let within: Vec<&Path> = dir.ancestors().take_while(|above| *above != wall).collect();
        for above in within.into_iter().rev() {
            match fs::create_dir(above) {
                // Whatever mask this process has.
                Ok(()) => fs::set_permissions(above, Permissions::from_mode(0o755))?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).with_context(|| above.display().to_string()),
            }
        }
        let held = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
        let none = None::<&str>;
        mount(Some(&held), dir, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
            .with_context(|| format!("mounting {} where the user reaches it", dir.display()))?;
    }
    Ok(())
}
