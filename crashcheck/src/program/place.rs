//! Where states are shown, and whose word that is.
//!
//! I own the choice of the directory. (L1) A recording names one, and is believed only if it was made by this user
//! on this machine: it bears a seal made with a key that lies in the user's own state directory and is in no
//! recording. (L2) Otherwise the user names the directory with `--at`. (L3) It is there already, and never one that the
//! system or this run lives on. I do not show anything (see present).

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{AtFlags, CWD, MemfdFlags, Mode, OFlags, linkat, memfd_create};
use rustix::io::Errno;

use crate::program::names;
use crate::program::recording::Recording;

/// What seals the recordings of a user.
pub type Key = [u8; 32];

/// Where nothing is shown: a program that runs beside would take it for the system's.
const SYSTEM: [&str; 11] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/sbin", "/sys", "/usr"];

/// The variables that name where programs and their parts are looked for.
const SEARCHED: [&str; 6] = ["PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "NODE_PATH", "PERL5LIB", "HOME"];

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
    match make_whole(&path, &key, false) {
        Ok(()) => Some(key),
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
    allow(&dir)?;
    Ok(dir)
}

/// Whether a directory may be mounted over.
///
/// # Errors
/// If it is not there (nothing is made to show states), or the system or this run needs what is in it.
pub fn allow(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    let real = fs::canonicalize(dir).with_context(|| format!("{shown} is to show states, or --at DIR"))?;
    let is_shared = real.starts_with("/dev/shm") && real.components().count() > 3;
    let is_systems = real.components().count() < 3 || SYSTEM.iter().any(|system| real.starts_with(system));
    if (is_systems && !is_shared) || !dir.is_absolute() || !real.is_dir() {
        bail!("{shown} is no place for states: name a directory of yours with --at DIR");
    }
    let searched = SEARCHED.iter().filter_map(std::env::var_os);
    let searched: Vec<PathBuf> =
        searched.flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>()).collect();
    for needed in searched.into_iter().chain(std::env::current_exe()).filter(|path| path.is_absolute()) {
        if fs::canonicalize(&needed).is_ok_and(|needed| needed.starts_with(&real)) {
            bail!("{shown} is no place for states: it holds {}, which this run needs", needed.display());
        }
    }
    Ok(())
}

/// Makes a new file that only its owner reads, of which a part is never seen: it replaces what had the name. Killed
/// meanwhile, it leaves nothing else behind, but maybe neither of the two under the name.
///
/// # Errors
/// If it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    make_whole(path, bytes, true)
}

fn make_whole(path: &Path, bytes: &[u8], replace: bool) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) else {
        // A file system on which every file has a name.
        let mut partial = tempfile::NamedTempFile::new_in(dir)?;
        partial.write_all(bytes)?;
        partial.as_file().sync_all()?;
        let done = if replace { partial.persist(path) } else { partial.persist_noclobber(path) };
        return Ok(done.map(drop)?);
    };
    let mut file = File::from(file);
    file.write_all(bytes)?;
    file.sync_all()?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = || linkat(CWD, &unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW);
    match link() {
        Err(Errno::EXIST) if replace => {
            fs::remove_file(path)?;
            Ok(link()?)
        }
        done => Ok(done?),
    }
}

/// Bytes that are in no directory and are gone with this process.
#[derive(Debug)]
pub struct Held(File);

impl Held {
    /// Holds some bytes.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(bytes: &[u8]) -> anyhow::Result<Self> {
        let file = memfd_create("crashcheck", MemfdFlags::CLOEXEC).context("a file in memory")?;
        let mut file = File::from(file);
        file.write_all(bytes).context("a file in memory")?;
        Ok(Self(file))
    }

    /// Where whoever sees this process finds them.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }
}
