//! The files and directories of a mount by number, and what is open.
//!
//! I own the tables. A node's number is its inode's on the file system underneath, the root's is 1. A
//! node keeps its inode open, so that the number stays its own until the kernel has forgotten the node
//! and the inode has no name.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, SystemTime};

use fuser::{Errno, FileAttr, FileHandle, FileType, INodeNo};
use rustix::fs::{Mode, OFlags, Stat};

/// A file, directory or link of the mount.
#[derive(Debug)]
pub(super) struct Node {
    /// The inode, opened for nothing but its place.
    pub(super) fd: OwnedFd,
    /// The inode's number underneath.
    pub(super) host: u64,
    /// What it is.
    pub(super) kind: FileType,
    /// How often the kernel looked it up.
    lookups: Mutex<u64>,
}

/// Something that is open.
#[derive(Debug)]
pub(super) enum Handle {
    File(File),
    /// A directory's entries as they were when it was last read from its beginning.
    Dir(Mutex<Vec<(u64, FileType, std::ffi::OsString)>>),
}

/// All nodes and handles.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: RwLock<HashMap<u64, Arc<Node>>>,
    handles: RwLock<HashMap<u64, Arc<Handle>>>,
    next_handle: Mutex<u64>,
    root: u64,
    device: u64,
}

impl Node {
    /// The node's way in through the process's own descriptors.
    pub(super) fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    /// Opens the inode for reading or writing; flags that the recorder does itself are left out.
    pub(super) fn open(&self, flags: i32) -> io::Result<File> {
        let access = OFlags::from_bits_retain(flags.cast_unsigned()) & OFlags::ACCMODE;
        let (read, write) = (access != OFlags::WRONLY, access != OFlags::RDONLY);
        let mut options = OpenOptions::new();
        options.read(read).write(write).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        options.open(self.proc_path())
    }

    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::fstat(&self.fd).map_err(errno)
    }
}

impl Nodes {
    /// The tables of a mount over an open directory.
    pub(super) fn new(root: OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&root)?;
        let node = Node { fd: root, host: stat.st_ino, kind: FileType::Directory, lookups: Mutex::new(1) };
        Ok(Self {
            nodes: RwLock::new(HashMap::from([(1, Arc::new(node))])),
            handles: RwLock::default(),
            next_handle: Mutex::new(1),
            root: stat.st_ino,
            device: stat.st_dev,
        })
    }

    /// The node's number of an inode's.
    fn number(&self, host: u64) -> u64 {
        if host == self.root { 1 } else { host }
    }

    pub(super) fn get(&self, ino: INodeNo) -> Result<Arc<Node>, Errno> {
        self.nodes.read().expect("no thread panics here").get(&ino.0).cloned().ok_or(Errno::ESTALE)
    }

    /// Looks a name up and counts it.
    pub(super) fn find(&self, parent: &Node, name: &std::ffi::OsStr) -> Result<(Arc<Node>, FileAttr), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent.fd, name, flags, Mode::empty()).map_err(errno)?;
        let stat = rustix::fs::fstat(&fd).map_err(errno)?;
        if stat.st_dev != self.device {
            return Err(Errno::EXDEV);
        }
        let mut nodes = self.nodes.write().expect("no thread panics here");
        let node = nodes.entry(self.number(stat.st_ino)).or_insert_with(|| {
            Arc::new(Node { fd, host: stat.st_ino, kind: kind(&stat), lookups: Mutex::new(0) })
        });
        *lock(&node.lookups) += 1;
        Ok((Arc::clone(node), self.attr(&stat)))
    }

    /// The kernel forgets a node.
    pub(super) fn forget(&self, ino: INodeNo, count: u64) {
        let mut nodes = self.nodes.write().expect("no thread panics here");
        let Some(node) = nodes.get(&ino.0).cloned() else { return };
        let mut lookups = lock(&node.lookups);
        *lookups = lookups.saturating_sub(count);
        if *lookups == 0 && ino.0 != 1 {
            nodes.remove(&ino.0);
        }
    }

    pub(super) fn add_handle(&self, handle: Handle) -> FileHandle {
        let mut next = lock(&self.next_handle);
        *next += 1;
        self.handles.write().expect("no thread panics here").insert(*next, Arc::new(handle));
        FileHandle(*next)
    }

    pub(super) fn handle(&self, fh: FileHandle) -> Result<Arc<Handle>, Errno> {
        self.handles.read().expect("no thread panics here").get(&fh.0).cloned().ok_or(Errno::EBADF)
    }

    pub(super) fn drop_handle(&self, fh: FileHandle) {
        self.handles.write().expect("no thread panics here").remove(&fh.0);
    }

    pub(super) fn attr(&self, stat: &Stat) -> FileAttr {
        FileAttr {
            ino: INodeNo(self.number(stat.st_ino)),
            size: stat.st_size.cast_unsigned(),
            blocks: stat.st_blocks.cast_unsigned(),
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            crtime: SystemTime::UNIX_EPOCH,
            kind: kind(stat),
            perm: u16::try_from(stat.st_mode & 0o7777).expect("twelve bits"),
            nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: u32::try_from(stat.st_rdev).unwrap_or(0),
            blksize: 4096,
            flags: 0,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics here")
}

fn time(seconds: i64, nanos: u64) -> SystemTime {
    let nanos = Duration::from_nanos(nanos);
    match u64::try_from(seconds) {
        Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + nanos,
        Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()) + nanos,
    }
}

/// What a file is.
pub(super) fn kind(stat: &Stat) -> FileType {
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::NamedPipe,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

/// An error of a system call as the kernel wants it.
pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

/// An input or output error as the kernel wants it.
pub(super) fn io_errno(error: &io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(5))
}
