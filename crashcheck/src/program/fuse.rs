//! A file system that does everything to a directory underneath, and notes it on a tape.
//!
//! I own the way from the kernel's requests to steps. (F1) A change is done and noted under the tape's
//! lock, so the tape has the order of the disk. (F2) A sync is really done, outside the lock, and noted
//! when it returned; what others did meanwhile it does not cover. (F3) Stores into a shared mapping come
//! as writes from the page cache, at the latest before the sync that covers them. (F4) A write through a
//! descriptor or a call that asks for `O_DSYNC` is a write and a sync: the kernel asks for both, one by one. (F5) A lookup of a name in
//! `.crashcheck/ack` is an acknowledgement; the name is never there. Sockets, pipes and devices, modes,
//! owners, times and extended attributes are passed on and are not part of the trace. What the kernel
//! does without me is not either: `sync` and `syncfs` do not reach a FUSE mount (see `tracer`).
//! `copy_file_range` and locks are the kernel's own work, on my reads and writes.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use rustix::fs::{AtFlags, FallocateFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use crate::core::trace::Op;
use crate::program::names;
use crate::program::recording::Note;
use crate::program::tape::Tape;

mod changes;
mod nodes;

use nodes::{Handle, Node, Nodes, errno, io_errno};

/// Nobody but the mount changes the directory, so what the kernel knows stays true.
const TTL: Duration = Duration::from_secs(3600);
/// The number of the directory `.crashcheck`, and of `ack` in it.
const VIRTUAL: [u64; 2] = [u64::MAX - 2, u64::MAX - 3];
const VIRTUAL_NAMES: [&str; 2] = [".crashcheck", "ack"];

/// An error to put in the place of a call's result.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The call: `write`, `fsync`, `fdatasync`, `rename` and so on, as in a report.
    pub call: String,
    /// The error's number; 0 is no error but a write of which only a half is done.
    pub errno: i32,
    /// Which call, from 1.
    pub nth: u64,
}

/// The file system.
#[derive(Debug)]
pub struct Recorder {
    tape: Arc<Tape>,
    nodes: Nodes,
    fault: Option<Fault>,
    /// How many calls there were of the kind that a fault is for.
    met: Arc<AtomicU64>,
}

type Done<T> = Result<T, Errno>;

impl Recorder {
    /// A recorder over an open directory; `met` counts the calls that a fault is for.
    ///
    /// # Errors
    /// If the directory cannot be looked at.
    pub fn new(
        root: OwnedFd,
        tape: Arc<Tape>,
        fault: Option<Fault>,
        met: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        Ok(Self { tape, nodes: Nodes::new(root)?, fault, met })
    }

    /// The error that is to be put in this call's place.
    fn fail(&self, call: &str) -> Done<()> {
        match self.meet(call) {
            Some(errno) if errno != 0 => Err(Errno::from_i32(errno)),
            _ => Ok(()),
        }
    }

    /// The fault of this call, if it is the one that has a fault.
    fn meet(&self, call: &str) -> Option<i32> {
        let fault = self.fault.as_ref().filter(|fault| fault.call == call)?;
        let nth = self.met.fetch_add(1, Ordering::Relaxed) + 1;
        (fault.nth == nth).then_some(fault.errno)
    }

    fn file(&self, fh: FileHandle) -> Done<Arc<Handle>> {
        self.nodes.handle(fh)
    }

    /// The virtual directory with a name in a directory.
    fn virtual_child(parent: INodeNo, name: &OsStr) -> Option<u64> {
        let above = [1, VIRTUAL[0]];
        (0..2).find(|i| parent.0 == above[*i] && name == VIRTUAL_NAMES[*i]).map(|i| VIRTUAL[i])
    }

    fn virtual_attr(ino: u64) -> FileAttr {
        let epoch = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: INodeNo(ino),
            size: 0,
            blocks: 0,
            atime: epoch,
            mtime: epoch,
            ctime: epoch,
            crtime: epoch,
            kind: FileType::Directory,
            perm: 0o555,
            nlink: 2,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn look_up(&self, parent: INodeNo, name: &OsStr) -> Done<FileAttr> {
        if parent.0 == VIRTUAL[1] {
            self.tape.lock().say(Note::Ack(names::text(name)));
            return Err(Errno::ENOENT);
        }
        if let Some(ino) = Self::virtual_child(parent, name) {
            return Ok(Self::virtual_attr(ino));
        }
        if parent.0 == VIRTUAL[0] {
            return Err(Errno::ENOENT);
        }
        Ok(self.nodes.find(&*self.nodes.get(parent)?, name)?.1)
    }

    fn get_attr(&self, ino: INodeNo) -> Done<FileAttr> {
        if VIRTUAL.contains(&ino.0) {
            return Ok(Self::virtual_attr(ino.0));
        }
        Ok(self.nodes.attr(&self.nodes.get(ino)?.stat()?))
    }

    fn open_file(&self, ino: INodeNo, flags: OpenFlags) -> Done<FileHandle> {
        let file = self.nodes.get(ino)?.open(flags.0).map_err(|e| io_errno(&e))?;
        Ok(self.nodes.add_handle(Handle::File(file)))
    }

    fn read_at(&self, fh: FileHandle, offset: u64, size: u32) -> Done<Vec<u8>> {
        let handle = self.file(fh)?;
        let Handle::File(file) = &*handle else { return Err(Errno::EISDIR) };
        let mut bytes = vec![0; size as usize];
        let mut have = 0;
        while have < bytes.len() {
            match file.read_at(&mut bytes[have..], offset + have as u64) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io_errno(&e)),
            }
        }
        bytes.truncate(have);
        Ok(bytes)
    }

    /// Syncs a file or directory for real, and notes it once it returned.
    fn sync(&self, req: &Request, node: &Node, fh: FileHandle, call: &'static str) -> Done<()> {
        let who = self.tape.lock().who(call, req.pid());
        let done = self.fail(call).and_then(|()| match &*self.file(fh)? {
            Handle::File(file) if call == "fdatasync" => file.sync_data().map_err(|e| io_errno(&e)),
            Handle::File(file) => file.sync_all().map_err(|e| io_errno(&e)),
            Handle::Dir(_) => node.open(0).and_then(|dir| dir.sync_all()).map_err(|e| io_errno(&e)),
        });
        let mut reel = self.tape.lock();
        let op = if node.kind == FileType::Directory {
            reel.dir_path(node.host).map(|path| Op::SyncDir { path })
        } else {
            let sync = |ino| if call == "fdatasync" { Op::SyncData { ino } } else { Op::SyncAll { ino } };
            reel.ino(node.host).map(sync)
        };
        op.into_iter().for_each(|op| reel.note_sync(who, op, done.is_err()));
        done
    }

    fn read_dir(&self, ino: INodeNo, fh: FileHandle, offset: u64, reply: &mut ReplyDirectory) -> Done<()> {
        let handle = self.file(fh)?;
        let Handle::Dir(entries) = &*handle else { return Err(Errno::ENOTDIR) };
        let mut entries = entries.lock().expect("no thread panics here");
        if offset == 0 && !VIRTUAL.contains(&ino.0) {
            let node = self.nodes.get(ino)?;
            entries.clear();
            for entry in rustix::fs::Dir::read_from(node.open(0).map_err(|e| io_errno(&e))?).map_err(errno)? {
                let entry = entry.map_err(errno)?;
                let name = std::os::unix::ffi::OsStrExt::from_bytes(entry.file_name().to_bytes());
                let kind = match entry.file_type() {
                    rustix::fs::FileType::Directory => FileType::Directory,
                    rustix::fs::FileType::Symlink => FileType::Symlink,
                    _ => FileType::RegularFile,
                };
                entries.push((entry.ino(), kind, OsStr::to_owned(name)));
            }
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(entries.len());
        for (i, (host, kind, name)) in entries.iter().enumerate().skip(from) {
            if reply.add(INodeNo(*host), i as u64 + 1, *kind, name) {
                break;
            }
        }
        Ok(())
    }
}

/// Answers with what a function gave.
macro_rules! answer {
    ($reply:ident, $done:expr, $value:ident => $good:expr) => {
        match $done {
            Ok($value) => $good,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Recorder {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What the kernel does not offer is done without.
        let _ = config.add_capabilities(InitFlags::FUSE_HANDLE_KILLPRIV_V2);
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.look_up(parent, name), attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn forget(&self, _req: &Request, ino: INodeNo, count: u64) {
        self.nodes.forget(ino, count);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.get_attr(ino), attr => reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = || {
            let node = self.nodes.get(ino)?;
            if let Some(len) = size {
                self.set_len(req, &node, len)?;
            }
            self.set_owner_and_mode(&node, mode, uid, gid)?;
            set_times(&node, atime, mtime)?;
            self.get_attr(ino)
        };
        answer!(reply, set(), attr => reply.attr(&TTL, &attr));
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        let read = || rustix::fs::readlinkat(&self.nodes.get(ino)?.fd, "", Vec::new()).map_err(errno);
        answer!(reply, read(), target => reply.data(target.as_bytes()));
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let made = self.make_node(req, parent, name, mode, rdev);
        answer!(reply, made, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let made = self.make_dir(req, parent, name, mode);
        answer!(reply, made, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove(req, parent, name, false), _done => reply.ok());
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove(req, parent, name, true), _done => reply.ok());
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let made = self.make_symlink(req, parent, name, target);
        answer!(reply, made, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.move_name(req, (parent, name), (newparent, newname), flags);
        answer!(reply, done, _done => reply.ok());
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let made = self.make_link(req, ino, newparent, newname);
        answer!(reply, made, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        answer!(reply, self.open_file(ino, flags), fh => reply.opened(fh, FopenFlags::FOPEN_KEEP_CACHE));
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(reply, self.read_at(fh, offset, size), bytes => reply.data(&bytes));
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        bytes: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let store = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let write = || self.write_at(req, &*self.nodes.get(ino)?, fh, offset, bytes, store);
        answer!(reply, write(), written => reply.written(written));
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        // The kernel asks once and never again: a close has no effect of its own.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.nodes.drop_handle(fh);
        reply.ok();
    }

    fn fsync(&self, req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let call = if datasync { "fdatasync" } else { "fsync" };
        let done = self.nodes.get(ino).and_then(|node| self.sync(req, &node, fh, call));
        answer!(reply, done, _done => reply.ok());
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(self.nodes.add_handle(Handle::Dir(std::sync::Mutex::default())), FopenFlags::empty());
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        answer!(reply, self.read_dir(ino, fh, offset, &mut reply), _done => reply.ok());
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.nodes.drop_handle(fh);
        reply.ok();
    }

    fn fsyncdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let done = self.nodes.get(ino).and_then(|node| self.sync(req, &node, fh, "fsync"));
        answer!(reply, done, _done => reply.ok());
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let stat = self.nodes.get(INodeNo(1)).and_then(|root| rustix::fs::fstatvfs(&root.fd).map_err(errno));
        answer!(reply, stat, s => reply.statfs(
            s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree,
            u32::try_from(s.f_bsize).unwrap_or(4096), u32::try_from(s.f_namemax).unwrap_or(255),
            u32::try_from(s.f_frsize).unwrap_or(4096),
        ));
    }

    fn setxattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let flags = rustix::fs::XattrFlags::from_bits_retain(flags.cast_unsigned());
        let set =
            || rustix::fs::setxattr(self.nodes.get(ino)?.proc_path(), name, value, flags).map_err(errno);
        answer!(reply, set(), _done => reply.ok());
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let mut bytes = vec![0; size as usize];
        let mut get = || {
            let node = self.nodes.get(ino)?;
            rustix::fs::getxattr(node.proc_path(), name, &mut bytes[..]).map_err(errno)
        };
        reply_xattr(get(), size, &bytes, reply);
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let mut bytes = vec![0; size as usize];
        let mut list = || {
            let node = self.nodes.get(ino)?;
            rustix::fs::listxattr(node.proc_path(), &mut bytes[..]).map_err(errno)
        };
        reply_xattr(list(), size, &bytes, reply);
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = || rustix::fs::removexattr(self.nodes.get(ino)?.proc_path(), name).map_err(errno);
        answer!(reply, remove(), _done => reply.ok());
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.make_file(req, parent, name, mode, flags);
        answer!(reply, made, made => {
            reply.created(&TTL, &made.0, Generation(0), made.1, FopenFlags::FOPEN_KEEP_CACHE);
        });
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        answer!(reply, self.allocate(req, ino, fh, offset..offset.saturating_add(length), mode), _done => reply.ok());
    }
}

fn reply_xattr(done: Done<usize>, size: u32, bytes: &[u8], reply: ReplyXattr) {
    match done {
        Ok(len) if size == 0 => reply.size(u32::try_from(len).unwrap_or(u32::MAX)),
        Ok(len) => reply.data(&bytes[..len]),
        Err(error) => reply.error(error),
    }
}

fn set_times(node: &Node, atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>) -> Done<()> {
    // A link's own times cannot be set through its descriptor; nothing depends on them.
    if (atime.is_none() && mtime.is_none()) || node.kind == FileType::Symlink {
        return Ok(());
    }
    let spec = |time: Option<TimeOrNow>| match time {
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        Some(TimeOrNow::Now) => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        Some(TimeOrNow::SpecificTime(time)) => {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            Timespec { tv_sec: since.as_secs().cast_signed(), tv_nsec: i64::from(since.subsec_nanos()) }
        }
    };
    let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
    rustix::fs::utimensat(rustix::fs::CWD, node.proc_path(), &times, AtFlags::empty()).map_err(errno)
}
