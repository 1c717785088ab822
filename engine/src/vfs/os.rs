//! The real file system.
//!
//! I own every use of `std::fs` and the only `unsafe` of the project. Each call is one system call,
//! or the few that its contract needs; nothing is retried here, least of all a sync. Descriptions
//! are close-on-exec (the standard library's default). A sync is fsync or fdatasync on Linux; on
//! macOS the standard library's `sync_all` and `sync_data` both issue `F_FULLFSYNC`, without which
//! that system leaves the data in the drive's cache. I do not know what the files hold.
#![expect(unsafe_code, reason = "sync_file_range has no safe wrapper")]

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::process::{Pid, getpid};

use super::{Access, File, Vfs};

mod beneath;

use beneath::Beneath;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("seawall needs a 64-bit target: lengths of files are counted in usize");

#[cfg(not(unix))]
compile_error!("seawall needs fsync of a directory, which Windows does not offer");

/// A store's directory on the real file system. It is opened at the first call that needs it, once: from then on
/// the store is that directory, whatever becomes of its name or of the process's own directory.
#[derive(Clone, Debug)]
pub struct OsVfs {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    dir: OnceLock<Beneath>,
    /// Who may write: a forked child may not.
    owner: Pid,
}

impl Root {
    fn dir(&self) -> io::Result<&Beneath> {
        if let Some(dir) = self.dir.get() {
            return Ok(dir);
        }
        let dir = Beneath::open(&self.path)?;
        Ok(self.dir.get_or_init(|| dir))
    }

    /// The directory, for a change of it.
    fn own(&self) -> io::Result<&Beneath> {
        self.check_owner()?;
        let dir = self.dir()?;
        if dir.is_removed()? {
            let why =
                "the store's directory was removed under the handle: what is written to it is gone with it";
            return Err(io::Error::other(why));
        }
        Ok(dir)
    }

    fn check_owner(&self) -> io::Result<()> {
        if getpid() == self.owner {
            return Ok(());
        }
        let why = "a forked child writes nothing: the store belongs to its parent";
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    }
}

impl OsVfs {
    /// The store in `dir`, which need not be there yet.
    pub fn at(dir: impl AsRef<Path>) -> Self {
        let path = std::path::absolute(&dir).unwrap_or_else(|_| dir.as_ref().to_path_buf());
        Self { root: Arc::new(Root { path, dir: OnceLock::new(), owner: getpid() }) }
    }

    /// The name that the store's directory had when it was given.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root.path
    }

    fn opened(&self, file: io::Result<std::os::fd::OwnedFd>) -> io::Result<OsFile> {
        Ok(OsFile { file: fs::File::from(file?), root: self.root.clone(), locked: AtomicBool::new(false) })
    }
}

/// The path, which is ours: a bad one is our own fault.
fn plain(path: &str) -> &str {
    assert!(is_plain(path), "not a path inside the store: {path:?}");
    path
}

/// Whether a path stays inside the store: `""`, or parts between single slashes.
pub(crate) fn is_plain(path: &str) -> bool {
    path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
}

/// Makes the names in a directory outside of the store durable.
fn sync_directory(dir: &Path) -> io::Result<()> {
    let directory = i32::try_from(rustix::fs::OFlags::DIRECTORY.bits()).expect("a flag of open(2)");
    fs::File::options().read(true).custom_flags(directory).open(dir)?.sync_all()
}

impl Vfs for OsVfs {
    type File = OsFile;

    const PIECE: usize = 1 << 20;

    /// Of the 1,024 that a process has by default on Linux, and the 256 that it has on macOS.
    const HELD: usize = 128;

    /// The store's directory is its owner's alone; parents are made as the process makes any.
    fn create_root(&self) -> io::Result<()> {
        let path = &self.root.path;
        let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.is_dir()).collect();
        // Who may not read a directory may sync the whole file system, once all is made.
        let mut denied = false;
        let mut sync_names_in = |dir: &Path| match sync_directory(dir) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                denied = true;
                Ok(())
            }
            other => other,
        };
        for dir in missing.iter().rev() {
            let mode = if dir == path { 0o700 } else { 0o777 };
            match DirBuilder::new().mode(mode).create(dir) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
                other => other?,
            }
            if dir != path {
                sync_names_in(&parent(dir))?;
            }
        }
        // A run that died between mkdir and its sync left a name that looks like any other but may
        // not be durable: so the store's own name is synced even if it was there.
        sync_names_in(&parent(path))?;
        if denied { sync_all_of(self.root.dir()?) } else { Ok(()) }
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.root.own()?.create_dir(plain(path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let dir = plain(dir);
        self.root.dir()?.names(dir)
    }

    fn create(&self, path: &str) -> io::Result<OsFile> {
        self.opened(self.root.own()?.create(plain(path)))
    }

    fn open(&self, path: &str, access: Access) -> io::Result<OsFile> {
        let dir = if access == Access::ReadWrite { self.root.own()? } else { self.root.dir()? };
        self.opened(dir.file(plain(path), access))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.root.own()?.rename(plain(from), plain(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.root.own()?.remove(plain(path))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.root.dir()?.sync(plain(dir))
    }

    fn available_space(&self) -> io::Result<u64> {
        self.root.dir()?.available_space()
    }

    fn caveat(&self) -> io::Result<Option<&'static str>> {
        Ok(match kind_of_open(self.root.dir()?)? {
            FileSystemKind::Tmpfs => Some("the files are in memory: nothing survives a power loss"),
            FileSystemKind::Nfs => Some("a sync is as durable as the server makes it"),
            FileSystemKind::Btrfs | FileSystemKind::Zfs => {
                Some("the file system copies on write: the reserve may not last on a full disk")
            }
            _ => None,
        })
    }

    fn entropy(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// The directory that holds the name of `dir`.
fn parent(dir: &Path) -> PathBuf {
    // The root of all names has no parent; its own sync is the nearest thing.
    dir.parent().unwrap_or(dir).to_path_buf()
}

#[cfg(target_os = "linux")]
fn sync_all_of(dir: &Beneath) -> io::Result<()> {
    Ok(rustix::fs::syncfs(dir.as_fd())?)
}

#[cfg(not(target_os = "linux"))]
fn sync_all_of(_dir: &Beneath) -> io::Result<()> {
    Err(io::ErrorKind::PermissionDenied.into())
}

/// An open file description of the real file system.
#[derive(Debug)]
pub struct OsFile {
    file: fs::File,
    root: Arc<Root>,
    locked: AtomicBool,
}

impl Drop for OsFile {
    /// A child that was forked meanwhile shares the description, and would keep the lock.
    fn drop(&mut self) {
        if self.locked.load(Ordering::Relaxed) && self.root.check_owner().is_ok() {
            drop(fs2::FileExt::unlock(&self.file));
        }
    }
}

impl File for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.root.check_owner()?;
        self.file.write_at(buf, offset)
    }

    #[cfg(target_os = "linux")]
    fn write_vectored_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.root.check_owner()?;
        // As many as one call takes (`IOV_MAX`).
        Ok(rustix::io::pwritev(&self.file, &slices[..slices.len().min(1024)], offset)?)
    }

    /// sync_file_range(2) with `SYNC_FILE_RANGE_WRITE` alone, which starts write-out and waits for none.
    #[cfg(target_os = "linux")]
    fn begin_sync(&self, offset: u64, len: u64) {
        use std::os::fd::AsRawFd;
        if let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) {
            // SAFETY: the call takes a descriptor that is open and no address.
            unsafe { libc::sync_file_range(self.file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.root.check_owner()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match fs2::FileExt::try_lock_exclusive(&self.file) {
            Ok(()) => {
                self.locked.store(true, Ordering::Relaxed);
                Ok(true)
            }
            Err(e) if e.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn is_shared(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 1)
    }

    #[cfg(target_os = "linux")]
    fn has_hole(&self) -> io::Result<bool> {
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(0)) {
            // One that copies on write reserves nothing either way, and says so; some leave out zeros.
            Ok(hole) if hole < self.len()? => {
                let kind = kind_of_open(self.root.dir()?)?;
                Ok(!matches!(kind, FileSystemKind::Btrfs | FileSystemKind::Zfs))
            }
            Ok(_) => Ok(false),
            // There is no byte, or the file system knows of no holes.
            Err(rustix::io::Errno::NXIO | rustix::io::Errno::INVAL) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn is_named(&self, path: &str) -> io::Result<bool> {
        let mine = self.file.metadata()?;
        match self.root.dir()?.inode(plain(path)) {
            Ok(named) => Ok((mine.dev(), mine.ino()) == named),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// What a directory lies on, as far as durability differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileSystemKind {
    /// ext4, or ext2 and ext3, which carry the same magic number.
    Ext4,
    /// xfs.
    Xfs,
    /// btrfs: copy on write, so that a written zero reserves nothing.
    Btrfs,
    /// ZFS: as btrfs.
    Zfs,
    /// A disk in memory: a sync keeps nothing.
    Tmpfs,
    /// A server's disk: locks and syncs mean what the server says.
    Nfs,
    /// Any other.
    Other,
}

impl fmt::Display for FileSystemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Zfs => "zfs",
            Self::Tmpfs => "tmpfs",
            Self::Nfs => "nfs",
            Self::Other => "other",
        })
    }
}

/// The kind of file system that holds `path`, or its nearest parent that is there.
pub fn file_system_kind(path: impl AsRef<Path>) -> io::Result<FileSystemKind> {
    let path = path.as_ref();
    let there = path.ancestors().find(|dir| dir.exists());
    kind_of(match there {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    })
}

#[cfg(target_os = "linux")]
fn kind_of(path: &Path) -> io::Result<FileSystemKind> {
    Ok(kind(&rustix::fs::statfs(path)?))
}

#[cfg(target_os = "linux")]
fn kind_of_open(dir: &Beneath) -> io::Result<FileSystemKind> {
    Ok(kind(&rustix::fs::fstatfs(dir.as_fd())?))
}

#[cfg(target_os = "linux")]
fn kind(stat: &rustix::fs::StatFs) -> FileSystemKind {
    // linux/magic.h, XFS_SUPER_MAGIC from the xfs headers, ZFS_SUPER_MAGIC from those of OpenZFS.
    match stat.f_type {
        0xEF53 => FileSystemKind::Ext4,
        0x5846_5342 => FileSystemKind::Xfs,
        0x9123_683E => FileSystemKind::Btrfs,
        0x2FC1_2FC1 => FileSystemKind::Zfs,
        0x0102_1994 => FileSystemKind::Tmpfs,
        0x6969 => FileSystemKind::Nfs,
        _ => FileSystemKind::Other,
    }
}

#[cfg(not(target_os = "linux"))]
fn kind_of(_path: &Path) -> io::Result<FileSystemKind> {
    Ok(FileSystemKind::Other)
}

#[cfg(not(target_os = "linux"))]
fn kind_of_open(_dir: &Beneath) -> io::Result<FileSystemKind> {
    Ok(FileSystemKind::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a forked child has: the same descriptors, and another process id.
    fn forked(vfs: &OsVfs) -> OsVfs {
        let Root { path, .. } = &*vfs.root;
        let dir = OnceLock::from(Beneath::open(path).unwrap());
        OsVfs { root: Arc::new(Root { path: path.clone(), dir, owner: Pid::INIT }) }
    }

    #[test]
    fn a_forked_child_writes_nothing_and_lets_the_lock_be() {
        let home = tempfile::tempdir().unwrap();
        let vfs = OsVfs::at(home.path());
        let file = vfs.create("f").unwrap();
        assert_eq!(file.write_at(b"mine", 0).unwrap(), 4);
        assert!(file.try_lock().unwrap());
        let child = forked(&vfs);
        let shared = OsFile {
            file: file.file.try_clone().unwrap(),
            root: child.root.clone(),
            locked: AtomicBool::new(true),
        };
        let refused = |result: io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        };
        refused(shared.write_at(b"child", 0).map(drop));
        #[cfg(target_os = "linux")]
        refused(shared.write_vectored_at(&[io::IoSlice::new(b"child")], 0).map(drop));
        refused(shared.set_len(0));
        refused(child.create("g").map(drop));
        refused(child.create_dir("d"));
        refused(child.rename("f", "g"));
        refused(child.remove("f"));
        drop(shared);
        let other = vfs.open("f", Access::ReadWrite).unwrap();
        assert!(!other.try_lock().unwrap(), "the child gave the lock back");
        // A descriptor that a child still holds does not keep it.
        let kept = file.file.try_clone().unwrap();
        drop(file);
        assert!(other.try_lock().unwrap());
        drop(kept);
    }
}
