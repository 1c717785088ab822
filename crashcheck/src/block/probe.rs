//! Looks at all of a mounted state, which a stranger may have made.
//!
//! I own what may be opened. (P1) A name is opened beneath the state's root alone, part by part, and no link is
//! followed: what is a link is read as one. (P2) Only regular files are read, of those only what has bytes on the disk,
//! and nothing that is opened is waited for. (P3) The file that is written is a new one, whatever names are taken.
//! (P4) Entries, bytes and depth are bounded, and a look that ends at a bound says so. I do not know how long a look may
//! take (see `hands`), nor which state it is.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom, fstat, open, openat, openat2, readlinkat,
    seek, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::block::check::Verdict;

/// The file that is written to see whether a write goes through.
const PROBE: &str = ".crashcheck-probe";

/// How many names are tried for it.
const NAMES: u32 = 1000;

/// How far a look goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Names in directories.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Directories in one another; each is open while it is looked through.
    pub depth: usize,
}

impl Bounds {
    /// For a device of so many bytes, which may show its bytes under many names.
    #[must_use]
    pub fn of(size: u64) -> Self {
        Self { entries: 1 << 20, bytes: size.saturating_mul(16), depth: 256 }
    }
}

/// Why a look ends before its end.
enum Stop {
    Fails(String),
    Bound(String),
}

/// Whether every file can be read, and a new one written, synced and removed.
#[must_use]
pub fn opens(root: &Path, bounds: &Bounds) -> Verdict {
    let how = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = match open(root, how, Mode::empty()) {
        Ok(root) => root,
        Err(e) => {
            return Verdict::Fails(format!("the state's directory cannot be read: {}", io::Error::from(e)));
        }
    };
    let mut walk = Walk { bounds: *bounds, left: *bounds, known: HashSet::new() };
    let read = walk.directory(root.as_fd(), "", 0);
    if let Err(Stop::Fails(reason)) = read {
        return Verdict::Fails(reason);
    }
    match (write(root.as_fd()), read) {
        (Err(e), _) => Verdict::Fails(format!("a write does not go through: {e}")),
        (Ok(_), Err(Stop::Bound(reason))) => Verdict::Unfinished(reason),
        (Ok(false), _) => Verdict::Unfinished(format!("no name beside {PROBE} is free for a write")),
        (Ok(true), _) => Verdict::Holds,
    }
}

/// A name in a directory, opened with all that keeps the open beneath it and from waiting.
fn beneath(dir: BorrowedFd<'_>, name: &CStr, how: OFlags) -> Result<OwnedFd, Errno> {
    let how = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // The kernel allows a mode where a file may be made, and nowhere else.
    let mode = if how.contains(OFlags::CREATE) { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    match openat2(dir, name, how, mode, resolve) {
        // A kernel before 5.6, or a filter that does not know the call: one part without a link is as safe.
        Err(Errno::NOSYS | Errno::PERM) if !name.to_bytes().contains(&b'/') => openat(dir, name, how, mode),
        opened => opened,
    }
}

struct Walk {
    bounds: Bounds,
    /// What is left of them.
    left: Bounds,
    /// Files with several names that were read.
    known: HashSet<(u64, u64)>,
}

impl Walk {
    fn directory(&mut self, dir: BorrowedFd<'_>, path: &str, depth: usize) -> Result<(), Stop> {
        let fails = |path: &str, e: Errno| {
            let shown = if path.is_empty() { "the state's directory" } else { path };
            Stop::Fails(format!("{shown} cannot be read: {}", io::Error::from(e)))
        };
        if depth > self.bounds.depth {
            return Err(Stop::Bound(format!(
                "no more than {} directories in one another are read",
                depth - 1
            )));
        }
        let mut entries = Dir::read_from(dir).map_err(|e| fails(path, e))?;
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(|e| fails(path, e))?;
            let most = self.bounds.entries;
            let left = self.left.entries.checked_sub(1);
            self.left.entries =
                left.ok_or_else(|| Stop::Bound(format!("no more than {most} names are read")))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let shown = name.to_string_lossy();
            let path = if path.is_empty() { shown.into_owned() } else { format!("{path}/{shown}") };
            self.entry(dir, name, &path, depth).map_err(|stop| stop.unwrap_or_else(|e| fails(&path, e)))?;
        }
        Ok(())
    }

    /// What a name stands for. A failure of a call has no words yet.
    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &str,
        depth: usize,
    ) -> Result<(), Result<Stop, Errno>> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Err)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let inner = beneath(dir, name, OFlags::RDONLY | OFlags::DIRECTORY).map_err(Err)?;
                self.directory(inner.as_fd(), path, depth + 1).map_err(Ok)
            }
            FileType::RegularFile if stat.st_nlink > 1 && !self.known.insert((stat.st_dev, stat.st_ino)) => {
                Ok(())
            }
            FileType::RegularFile => {
                let file = beneath(dir, name, OFlags::RDONLY).map_err(Err)?;
                let stat = fstat(&file).map_err(Err)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(Err(Errno::INVAL));
                }
                self.bytes(&File::from(file))
            }
            FileType::Symlink => readlinkat(dir, name, Vec::new()).map(drop).map_err(Err),
            // A pipe, a socket, a device: there are no bytes of the state in it.
            _ => Ok(()),
        }
    }

    /// Reads what a file has on the disk. Its holes are none of it, however long.
    fn bytes(&mut self, file: &File) -> Result<(), Result<Stop, Errno>> {
        let mut buffer = vec![0; 1 << 16];
        let mut at = 0;
        loop {
            let start = match seek(file, SeekFrom::Data(at)) {
                Ok(start) => start,
                Err(Errno::NXIO) => return Ok(()),
                Err(e) => return Err(Err(e)),
            };
            let end = seek(file, SeekFrom::Hole(start)).map_err(Err)?;
            at = start;
            while at < end {
                let most = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
                let most_bytes = self.bounds.bytes;
                let left = self.left.bytes.checked_sub(most as u64);
                let bound = || Ok(Stop::Bound(format!("no more than {most_bytes} bytes of files are read")));
                self.left.bytes = left.ok_or_else(bound)?;
                match file.read_at(&mut buffer[..most], at) {
                    Ok(0) => return Ok(()),
                    Ok(n) => at += n as u64,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(Err(Errno::from_io_error(&e).unwrap_or(Errno::IO))),
                }
            }
        }
    }
}

/// Writes, syncs and removes a new file; `false` if every name for it is taken.
fn write(root: BorrowedFd<'_>) -> io::Result<bool> {
    for number in 0..NAMES {
        let name = if number == 0 { format!("{PROBE}\0") } else { format!("{PROBE}-{number}\0") };
        let name = CStr::from_bytes_with_nul(name.as_bytes()).expect("it ends in the one zero");
        let mut file = match beneath(root, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL) {
            Ok(file) => File::from(file),
            Err(Errno::EXIST) => continue,
            Err(e) => return Err(e.into()),
        };
        file.write_all(b"probe")?;
        file.sync_all()?;
        unlinkat(root, name, AtFlags::empty())?;
        return Ok(true);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A tree with something of everything, and a file beside it that nobody may touch.
    fn tree() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("state");
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::write(home.path().join("host"), "mine").unwrap();
        fs::write(root.join("a/file"), vec![7; 100_000]).unwrap();
        fs::hard_link(root.join("a/file"), root.join("a/b/again")).unwrap();
        (home, root)
    }

    #[test]
    fn every_bound_is_said_and_none_is_a_pass() {
        let (_home, root) = tree();
        let wide = Bounds { entries: 1000, bytes: 150_000, depth: 3 };
        assert_eq!(opens(&root, &wide), Verdict::Holds);
        for (narrow, says) in [
            (Bounds { entries: 6, ..wide }, "6 names"),
            (Bounds { bytes: 99_999, ..wide }, "99999 bytes"),
            (Bounds { depth: 2, ..wide }, "2 directories"),
        ] {
            let Verdict::Unfinished(reason) = opens(&root, &narrow) else { panic!("{says}") };
            assert!(reason.contains(says), "{reason}");
        }
    }

    #[test]
    fn a_taken_name_and_a_link_are_left_as_they_are() {
        let (home, root) = tree();
        let host = home.path().join("host");
        symlink(&host, root.join(PROBE)).unwrap();
        symlink(&host, root.join(format!("{PROBE}-1"))).unwrap();
        symlink("/", root.join("a/everything")).unwrap();
        fs::create_dir(root.join(format!("{PROBE}-2"))).unwrap();
        assert_eq!(opens(&root, &Bounds::of(1 << 20)), Verdict::Holds);
        assert_eq!(fs::read_to_string(&host).unwrap(), "mine");
        assert!(root.join(PROBE).is_symlink() && !root.join(format!("{PROBE}-3")).exists());
    }

    #[test]
    fn pipes_and_holes_hold_nobody_up() {
        let (_home, root) = tree();
        nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let sparse = File::create(root.join("sparse")).unwrap();
        sparse.set_len(4 << 40).unwrap();
        sparse.write_all_at(b"end", (3 << 40) + 5).unwrap();
        assert_eq!(opens(&root, &Bounds::of(1 << 20)), Verdict::Holds);
    }
}
