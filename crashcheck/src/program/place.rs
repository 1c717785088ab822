//! Where states are shown, and whose word that is.
//!
//! I own the choice of the directory. (L1) A recording names one, and is believed only if it was made by this user
//! on this machine: it bears a seal made with a key that lies in the user's own state directory and is in no
//! recording. (L2) Otherwise the user names the directory with `--at`. (L3) It is never one that programs of the
//! system are in. I do not show anything (see present).

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::program::names;
use crate::program::recording::Recording;

/// What seals the recordings of a user.
pub type Key = [u8; 32];

/// Where nothing is shown: a program that runs beside would take it for the system's.
const SYSTEM: [&str; 10] =
    ["/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/sbin", "/sys", "/usr"];

/// The key of this user; `None` if there is none, or none can be made.
#[must_use]
pub fn key(make: bool) -> Option<Key> {
    let home = || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir);
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state =
        set("XDG_STATE_HOME").or_else(|| set("HOME").or_else(home).map(|home| home.join(".local/state")))?;
    let dir = state.join("crashcheck");
    let path = dir.join("key");
    let mut key = Key::default();
    if let Ok(mut file) = File::open(&path) {
        return file.read_exact(&mut key).is_ok().then_some(key);
    }
    if !make {
        return None;
    }
    File::open("/dev/urandom").ok()?.read_exact(&mut key).ok()?;
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    let mut partial = tempfile::NamedTempFile::new_in(&dir).ok()?;
    partial.write_all(&key).ok()?;
    match partial.persist_noclobber(&path) {
        Ok(_) => Some(key),
        // Another recorder was first.
        Err(_) => self::key(false),
    }
}

/// The directory in which the states of a recording are shown.
///
/// # Errors
/// If the recording is somebody else's and none is named, or it is one of the system's.
pub fn choose(recording: &Recording, trace: &Path, at: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = match at {
        Some(dir) => {
            fs::canonicalize(dir).with_context(|| format!("--at {}: it must be there", dir.display()))?
        }
        None if recording.origin.here => PathBuf::from(names::name(&recording.origin.dir)),
        None => bail!(
            "{} was not recorded by this user on this machine: name a directory of yours, in which its states are \
             shown, with --at DIR",
            trace.display()
        ),
    };
    let real = fs::canonicalize(&dir).unwrap_or_else(|_| dir.clone());
    let is_systems = real.parent().is_none() || SYSTEM.iter().any(|system| real.starts_with(system));
    if is_systems || !dir.is_absolute() {
        bail!("{} is no place for states: name a directory of yours with --at DIR", dir.display());
    }
    Ok(dir)
}

/// Makes a new file that only its owner reads, of which a part is never seen: it replaces what had the name.
///
/// # Errors
/// If it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut partial = tempfile::NamedTempFile::new_in(dir)?;
    partial.write_all(bytes)?;
    partial.as_file().sync_all()?;
    partial.persist(path)?;
    Ok(())
}
