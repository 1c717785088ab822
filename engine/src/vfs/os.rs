//! The real file system.
//!
//! I own every use of `std::fs` and the only `unsafe` of the project. Each call is one system call,
//! or the few that its contract needs; nothing is retried here, least of all a sync. Descriptions
//! are close-on-exec (the standard library's default). A sync is fsync or fdatasync on Linux; on
//! macOS the standard library's `sync_all` and `sync_data` both issue `F_FULLFSYNC`, without which
//! that system leaves the data in the drive's cache. I do not know what the files hold.
#![expect(
    unsafe_code,
    reason = "a mapping is unsafe by nature: another process may shorten the file; libc has one safe call"
)]

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Access, File, Vfs};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("seawall needs a 64-bit target: segments and snapshots are mapped whole");

#[cfg(not(unix))]
compile_error!("seawall needs fsync of a directory, which Windows does not offer");

/// A store's directory on the real file system.
#[derive(Clone, Debug)]
pub struct OsVfs {
    root: Arc<Path>,
}

impl OsVfs {
    /// The store in `dir`, which need not be there yet.
    pub fn at(dir: impl AsRef<Path>) -> Self {
        Self { root: Arc::from(dir.as_ref()) }
    }

    /// The store's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Where `path` is. The parts are ours, so a bad one is our own fault.
fn resolve(root: &Path, path: &str) -> PathBuf {
    assert!(is_plain(path), "not a path inside the store: {path:?}");
    if path.is_empty() { root.to_path_buf() } else { root.join(path) }
}

/// Whether a path stays inside the store: `""`, or parts between single slashes.
pub(crate) fn is_plain(path: &str) -> bool {
    path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
}

/// Makes the names in a directory durable.
fn sync_directory(dir: &Path) -> io::Result<()> {
    let directory = i32::try_from(rustix::fs::OFlags::DIRECTORY.bits()).expect("a flag of open(2)");
    fs::File::options().read(true).custom_flags(directory).open(dir)?.sync_all()
}

impl Vfs for OsVfs {
    type File = OsFile;

    const PIECE: usize = 1 << 20;

    fn create_root(&self) -> io::Result<()> {
        // The current directory has no name of its own to create.
        let named = |dir: &&Path| !dir.as_os_str().is_empty();
        let missing = |dir: &&Path| !dir.is_dir();
        let parts = self.root.ancestors().filter(named);
        let missing: Vec<&Path> = parts.take_while(missing).collect();
        for dir in missing.iter().rev() {
            match fs::create_dir(dir) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
                other => other?,
            }
            sync_directory(&parent(dir))?;
        }
        // A run that died between mkdir and its sync left a name that looks like any other but may
        // not be durable: so the store's own name is synced even if it was there.
        if missing.is_empty() {
            sync_directory(&parent(&self.root))?;
        }
        Ok(())
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        fs::create_dir(resolve(&self.root, path))
    }

    /// A name that is not UTF-8 is not ours; it is listed with replacement characters.
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(resolve(&self.root, dir))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &str) -> io::Result<OsFile> {
        let file =
            fs::File::options().read(true).write(true).create_new(true).open(resolve(&self.root, path))?;
        Ok(OsFile { file, root: self.root.clone() })
    }

    fn open(&self, path: &str, access: Access) -> io::Result<OsFile> {
        let file = fs::File::options()
            .read(true)
            .write(access == Access::ReadWrite)
            .open(resolve(&self.root, path))?;
        Ok(OsFile { file, root: self.root.clone() })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(resolve(&self.root, from), resolve(&self.root, to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(resolve(&self.root, path))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync_directory(&resolve(&self.root, dir))
    }

    fn available_space(&self) -> io::Result<u64> {
        fs2::available_space(&self.root)
    }

    fn entropy(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// The directory that holds the name of `dir`.
fn parent(dir: &Path) -> PathBuf {
    match dir.parent() {
        Some(p) if p.as_os_str().is_empty() => PathBuf::from("."),
        Some(p) => p.to_path_buf(),
        // The root of all names has no parent; its own sync is the nearest thing.
        None => dir.to_path_buf(),
    }
}

/// An open file description of the real file system.
#[derive(Debug)]
pub struct OsFile {
    file: fs::File,
    root: Arc<Path>,
}

impl File for OsFile {
    type Map = OsMap;

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }

    #[cfg(target_os = "linux")]
    fn write_vectored_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<usize> {
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
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn is_named(&self, path: &str) -> io::Result<bool> {
        let mine = self.file.metadata()?;
        match fs::metadata(resolve(&self.root, path)) {
            Ok(named) => Ok((mine.dev(), mine.ino()) == (named.dev(), named.ino())),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn map(&self) -> io::Result<OsMap> {
        // SAFETY: the mapping is read-only and lives as long as its OsMap. The caller keeps the
        // contract of `File::map`: only files that this store never writes again are mapped, and
        // the store's lock keeps other writers of ours away.
        unsafe { memmap2::Mmap::map(&self.file) }.map(OsMap)
    }
}

/// A read-only mapping of a whole file.
#[derive(Debug)]
pub struct OsMap(memmap2::Mmap);

impl AsRef<[u8]> for OsMap {
    fn as_ref(&self) -> &[u8] {
        &self.0
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
    // linux/magic.h, and XFS_SUPER_MAGIC from the xfs headers.
    Ok(match rustix::fs::statfs(path)?.f_type {
        0xEF53 => FileSystemKind::Ext4,
        0x5846_5342 => FileSystemKind::Xfs,
        0x9123_683E => FileSystemKind::Btrfs,
        0x0102_1994 => FileSystemKind::Tmpfs,
        0x6969 => FileSystemKind::Nfs,
        _ => FileSystemKind::Other,
    })
}

#[cfg(not(target_os = "linux"))]
fn kind_of(_path: &Path) -> io::Result<FileSystemKind> {
    Ok(FileSystemKind::Other)
}
