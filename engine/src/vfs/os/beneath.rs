//! A directory that is opened once, and what is beneath it.
//!
//! I own how a name becomes a descriptor. (O1) Every call is relative to the descriptor of the directory: whatever
//! becomes of its name, the files are those of the directory that was opened. (O2) No link is followed, and what
//! is opened is a regular file with one name: nobody writes outside of the store through it. (O3) Nothing that
//! is opened blocks. (O4) Where no descriptor is free, nothing was done, and the error says so. I do not know what
//! the files hold.
//!
//! Each part of a path is opened by itself with `O_NOFOLLOW` (open(2)), which any Unix has; a path here has two
//! parts at most.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::vfs::{Access, OutOfDescriptors, Unusual};

const FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIRECTORY: Mode = Mode::RWXU;
const A_DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// A directory that is open.
#[derive(Debug)]
pub(super) struct Beneath(OwnedFd);

impl Beneath {
    /// Opens a directory, whose own name may be a link: that is the caller's choice.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self(fs::open(dir, A_DIRECTORY, Mode::empty()).map_err(refused)?))
    }

    /// A descriptor of its own of a directory beneath, or of the directory itself.
    pub(super) fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let mut dir = fs::openat(&self.0, ".", A_DIRECTORY, Mode::empty()).map_err(refused)?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let flags = A_DIRECTORY | OFlags::NOFOLLOW;
            dir = fs::openat(&dir, part, flags, Mode::empty()).map_err(|e| unusual(&dir, part, e))?;
        }
        Ok(dir)
    }

    /// Makes the names in a directory durable, through a description of its own, which meets no error of another. That
    /// of the directory itself does where there is none: what was renamed in it must not stay in doubt for a limit.
    pub(super) fn sync(&self, path: &str) -> io::Result<()> {
        match self.directory(path) {
            Err(e) if path.is_empty() && OutOfDescriptors::carried(&e).is_some() => Ok(fs::fsync(&self.0)?),
            directory => Ok(fs::fsync(directory?)?),
        }
    }

    /// Calls with the directory that holds a name, and the name.
    fn at<T>(&self, path: &str, call: impl FnOnce(BorrowedFd<'_>, &str) -> io::Result<T>) -> io::Result<T> {
        match path.rsplit_once('/') {
            None => call(self.0.as_fd(), path),
            Some((dir, name)) => call(self.directory(dir)?.as_fd(), name),
        }
    }

    /// Opens a file that is there.
    pub(super) fn file(&self, path: &str, access: Access) -> io::Result<OwnedFd> {
        let mode = if access == Access::ReadWrite { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = mode | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        self.at(path, |dir, name| {
            let file = fs::openat(dir, name, flags, Mode::empty()).map_err(|e| unusual(dir, name, e))?;
            let stat = fs::fstat(&file)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile if stat.st_nlink <= 1 || access == Access::Again => Ok(file),
                FileType::RegularFile => Err(Unusual("a file with a second name (hard link)").into()),
                FileType::Directory => Err(a_directory()),
                _ => Err(Unusual("no regular file").into()),
            }
        })
    }

    /// Makes a file that only its owner reads: whoever owns the directory, if that is another than root who asks.
    pub(super) fn create(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.at(path, |dir, name| {
            let file = fs::openat(dir, name, flags, FILE).map_err(refused)?;
            self.give_away(&file)?;
            Ok(file)
        })
    }

    pub(super) fn create_dir(&self, path: &str) -> io::Result<()> {
        self.at(path, |dir, name| Ok(fs::mkdirat(dir, name, DIRECTORY)?))?;
        self.give_away(&self.directory(path)?)
    }

    /// Root who looks after the store of another leaves nothing that the other cannot open.
    fn give_away(&self, made: impl AsFd) -> io::Result<()> {
        let owner = fs::fstat(&self.0)?;
        if rustix::process::geteuid().is_root() && owner.st_uid != 0 {
            let owner = (fs::Uid::from_raw(owner.st_uid), fs::Gid::from_raw(owner.st_gid));
            fs::fchown(made, Some(owner.0), Some(owner.1))?;
        }
        Ok(())
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.at(from, |old, from| self.at(to, |new, to| Ok(fs::renameat(old, from, new, to)?)))
    }

    pub(super) fn remove(&self, path: &str) -> io::Result<()> {
        self.at(path, |dir, name| Ok(fs::unlinkat(dir, name, AtFlags::empty())?))
    }

    /// Device and inode that a name stands for; a link stands for itself.
    pub(super) fn inode(&self, path: &str) -> io::Result<(u64, u64)> {
        self.at(path, |dir, name| {
            let stat = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            #[expect(clippy::useless_conversion, reason = "the width of a device number differs by system")]
            Ok((stat.st_dev.try_into().unwrap_or(u64::MAX), stat.st_ino.into()))
        })
    }

    /// Names in a directory; one that is not UTF-8 is not ours and has replacement characters.
    pub(super) fn names(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::Dir::new(self.directory(dir)?).map_err(refused)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if ![&b"."[..], b".."].contains(&name) {
                names.push(String::from_utf8_lossy(name).into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether the directory itself has no name any more: what is made in it goes with the last descriptor.
    pub(super) fn is_removed(&self) -> io::Result<bool> {
        Ok(fs::fstat(&self.0)?.st_nlink == 0)
    }

    /// Bytes that an unprivileged writer may still take.
    pub(super) fn available_space(&self) -> io::Result<u64> {
        let stat = fs::fstatvfs(&self.0)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn a_directory() -> io::Error {
    Unusual("a directory").of_kind(io::ErrorKind::IsADirectory)
}

/// The error of opening a name, which says so if it stands for what no store has there.
fn unusual(dir: impl AsFd, name: &str, error: Errno) -> io::Error {
    let kind =
        || fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|s| FileType::from_raw_mode(s.st_mode));
    match error {
        Errno::LOOP | Errno::NOTDIR if kind() == Ok(FileType::Symlink) => Unusual("a symbolic link").into(),
        Errno::NOTDIR => Unusual("no directory").of_kind(io::ErrorKind::NotADirectory),
        Errno::ISDIR => a_directory(),
        Errno::NXIO => Unusual("no regular file").into(),
        other => refused(other),
    }
}

/// The error of a call that opens.
fn refused(error: Errno) -> io::Error {
    OutOfDescriptors::of_opening(error.into())
}
