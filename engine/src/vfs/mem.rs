//! A simulated disk: mechanism only; which crashes and errors to try is its user's business.
//!
//! I own one machine's view of one directory tree. A write changes the volatile state; what is
//! durable is kept apart and changes only by a sync, as fsync(2) says: names with their directory,
//! data and a grown length with fdatasync, a shrunk length with fsync. Keeping the two apart costs
//! something, so it begins with the first [`MemVfs::record`], [`MemVfs::set_faults`] or
//! [`MemVfs::track`]; before that everything counts as durable and [`MemVfs::durable_image`] is not
//! to be had. Every call may be recorded, and may be made to fail. Nothing here draws on a clock or
//! on chance. The root directory is always there, and durable. I know nothing of logs.
//!
//! Everything is behind one lock, held for one call.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::os::is_plain;
use super::{Access, File, OutOfDescriptors, Vfs};

mod disk;
mod fault;
mod image;
mod inode;
mod names;
mod trace;

pub use fault::{Call, CallKind, Fault, Faults, SyncFailure};
pub use image::{Content, Image, PAGE, Page};
pub use trace::{Ino, Op, Recorded, Trace};

use disk::{Disk, fail_whole};

/// Writing through a description that only reads.
const EBADF: i32 = 9;
/// Setting the length through one.
const EINVAL: i32 = 22;

/// A store's directory on a simulated disk. A clone is the same disk.
#[derive(Clone)]
pub struct MemVfs {
    disk: Arc<Mutex<Disk>>,
}

impl Default for MemVfs {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemVfs").finish_non_exhaustive()
    }
}

impl MemVfs {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::from_image(Image::default())
    }

    /// A disk that holds `image`. Every page of a file counts as written (see
    /// [`MemVfs::set_capacity`]).
    #[must_use]
    pub fn from_image(image: Image) -> Self {
        Self::of(Disk::from_image(image))
    }

    fn of(disk: Disk) -> Self {
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// An independent disk with the same names, bytes and capacity: no file is open or locked on
    /// it, nothing is recorded or made to fail, and everything counts as durable.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::of(self.lock().fork())
    }

    /// What a reader sees now: what a killed process leaves behind.
    #[must_use]
    pub fn image(&self) -> Image {
        self.lock().image()
    }

    /// What a power loss leaves that keeps nothing but what is synced.
    ///
    /// # Panics
    /// If the disk never recorded, had faults or was tracked.
    #[must_use]
    pub fn durable_image(&self) -> Image {
        self.lock().durable_image()
    }

    /// Keeps what is durable apart from now on. What is there when this begins counts as durable.
    pub fn track(&self) {
        self.lock().track(false);
    }

    /// Begins a recording (what is there counts as durable, and an earlier recording is dropped),
    /// or stops it.
    pub fn record(&self, on: bool) {
        let mut disk = self.lock();
        if on {
            disk.record();
        } else {
            disk.recording = false;
        }
    }

    /// Ends the recording and hands it out.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn take_trace(&self) -> Trace {
        let mut disk = self.lock();
        disk.recording = false;
        disk.trace.take().expect("nothing was recorded")
    }

    /// Puts a mark into the recording, if there is one.
    pub fn mark(&self, mark: u32) {
        self.lock().note(|| Op::Mark(mark));
    }

    /// Asks `faults` before every call from now on, and counts calls from 0; or stops asking.
    /// What a failed sync put in doubt stays so.
    pub fn set_faults(&self, faults: Option<Faults>) {
        let mut disk = self.lock();
        if faults.is_some() {
            disk.track(false);
        }
        disk.faults = faults;
        disk.calls = 0;
    }

    /// Limits the disk to this many blocks of [`PAGE`] bytes. A block is taken by a page that was
    /// written, if only with zeros, and given back when the file is cut or is neither named nor
    /// open. A write that does not fit is short, and ENOSPC if nothing of it fits.
    pub fn set_capacity(&self, blocks: Option<u64>) {
        self.lock().capacity = blocks;
    }

    /// A panic inside the lock is a failed assertion; the disk's state is of no use after it, but
    /// descriptions must still close.
    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the disk for one call, after asking what shall go wrong with it.
    fn enter(&self, what: Asked<'_>) -> (MutexGuard<'_, Disk>, Option<Fault>) {
        let mut disk = self.lock();
        let Some(faults) = disk.faults.clone() else {
            return (disk, None);
        };
        let call = Call {
            number: disk.calls,
            kind: what.kind,
            path: what.ino.map_or_else(|| what.path.to_owned(), |ino| disk.name_of(ino)),
            ino: what.ino,
            offset: what.offset,
            bytes: what.bytes,
        };
        disk.calls += 1;
        drop(disk);
        let fault = faults(&call);
        (self.lock(), fault)
    }

    /// As `enter`, for a call on a path that can only fail whole.
    fn enter_path(&self, kind: CallKind, path: &str) -> io::Result<MutexGuard<'_, Disk>> {
        assert!(is_plain(path), "not a path inside the store: {path:?}");
        let (disk, fault) = self.enter(Asked { path, ..Asked::of(kind) });
        let opens = matches!(kind, CallKind::Create | CallKind::Open | CallKind::List);
        fail_whole(fault).map_err(|e| if opens { OutOfDescriptors::of_opening(e) } else { e })?;
        Ok(disk)
    }

    fn describe(&self, mut disk: MutexGuard<'_, Disk>, ino: Ino, access: Access) -> MemFile {
        let (description, seen) = disk.describe(ino);
        MemFile { vfs: self.clone(), ino, description, access, seen: AtomicU64::new(seen) }
    }
}

/// A call, before it has a number.
struct Asked<'a> {
    kind: CallKind,
    path: &'a str,
    ino: Option<Ino>,
    offset: u64,
    bytes: usize,
}

impl Asked<'_> {
    fn of(kind: CallKind) -> Self {
        Self { kind, path: "", ino: None, offset: 0, bytes: 0 }
    }
}

impl Vfs for MemVfs {
    type File = MemFile;

    /// As small as an entry that a test calls large.
    /// Less than an entry that the checker calls large, so that its frames are torn between pieces too.
    const PIECE: usize = 1 << 10;

    /// So few that small stores open segments again, too.
    const HELD: usize = 2;

    fn create_root(&self) -> io::Result<()> {
        self.enter_path(CallKind::CreateRoot, "").map(drop)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.enter_path(CallKind::CreateDir, path)?.create_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.enter_path(CallKind::List, dir)?.list(dir)
    }

    fn create(&self, path: &str) -> io::Result<MemFile> {
        let mut disk = self.enter_path(CallKind::Create, path)?;
        let ino = disk.create(path)?;
        Ok(self.describe(disk, ino, Access::ReadWrite))
    }

    fn open(&self, path: &str, access: Access) -> io::Result<MemFile> {
        let disk = self.enter_path(CallKind::Open, path)?;
        let ino = disk.lookup(path)?;
        Ok(self.describe(disk, ino, access))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        assert!(is_plain(to), "not a path inside the store: {to:?}");
        self.enter_path(CallKind::Rename, from)?.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.enter_path(CallKind::Remove, path)?.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        assert!(is_plain(dir), "not a path inside the store: {dir:?}");
        let (mut disk, fault) = self.enter(Asked { path: dir, ..Asked::of(CallKind::SyncDir) });
        disk.sync_dir(dir, fault)
    }

    fn available_space(&self) -> io::Result<u64> {
        Ok(self.enter_path(CallKind::AvailableSpace, "")?.available_space())
    }

    /// The same on every run: "mem" and how often it was asked for.
    fn entropy(&self) -> io::Result<[u8; 16]> {
        let mut disk = self.enter_path(CallKind::Entropy, "")?;
        disk.entropy_drawn += 1;
        let mut bytes = *b"mem\0\0\0\0\0........";
        bytes[8..].copy_from_slice(&disk.entropy_drawn.to_le_bytes());
        Ok(bytes)
    }
}

/// An open file description on a simulated disk. Works on after its name is gone.
pub struct MemFile {
    vfs: MemVfs,
    ino: Ino,
    description: u32,
    access: Access,
    /// How many of the file's sync errors it was told of, or came after.
    seen: AtomicU64,
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFile")
            .field("ino", &self.ino)
            .field("description", &self.description)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl MemFile {
    /// The file's number in a [`Trace`].
    #[must_use]
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// The description's number in a [`Trace`].
    #[must_use]
    pub fn description(&self) -> u32 {
        self.description
    }

    fn enter(&self, kind: CallKind, offset: u64, bytes: usize) -> (MutexGuard<'_, Disk>, Option<Fault>) {
        let (path, ino) = ("", Some(self.ino));
        self.vfs.enter(Asked { kind, path, ino, offset, bytes })
    }

    /// As `enter`, for a call that can only fail whole.
    fn enter_whole(&self, kind: CallKind, offset: u64) -> io::Result<MutexGuard<'_, Disk>> {
        let (disk, fault) = self.enter(kind, offset, 0);
        fail_whole(fault)?;
        Ok(disk)
    }

    fn need_write(&self, otherwise: i32) -> io::Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::Read | Access::Again => Err(io::Error::from_raw_os_error(otherwise)),
        }
    }

    fn sync(&self, kind: CallKind, all: bool) -> io::Result<()> {
        let (mut disk, fault) = self.enter(kind, 0, 0);
        disk.sync((self.ino, self.description), all, fault, &self.seen)
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        self.vfs.lock().close(self.ino, self.description);
    }
}

impl File for MemFile {
    fn len(&self) -> io::Result<u64> {
        let disk = self.enter_whole(CallKind::Len, 0)?;
        Ok(disk.inode(self.ino).live.len)
    }

    fn read_at(&self, mut buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let (disk, fault) = self.enter(CallKind::Read, offset, buf.len());
        if let Some(Fault::ShortRead(most)) = fault {
            let n = most.min(buf.len());
            buf = &mut buf[..n];
        } else {
            fail_whole(fault)?;
        }
        Ok(disk.read(self.ino, buf, offset))
    }

    fn write_at(&self, mut buf: &[u8], offset: u64) -> io::Result<usize> {
        self.need_write(EBADF)?;
        let (mut disk, fault) = self.enter(CallKind::Write, offset, buf.len());
        if let Some(Fault::ShortWrite(most)) = fault {
            buf = &buf[..most.min(buf.len())];
        } else {
            fail_whole(fault)?;
        }
        disk.write(self.ino, buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.need_write(EINVAL)?;
        self.enter_whole(CallKind::SetLen, len)?.set_len(self.ino, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(CallKind::SyncData, false)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(CallKind::SyncAll, true)
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut disk = self.enter_whole(CallKind::TryLock, 0)?;
        Ok(disk.try_lock(self.ino, self.description))
    }

    fn has_hole(&self) -> io::Result<bool> {
        let disk = self.enter_whole(CallKind::Len, 0)?;
        Ok(disk.inode(self.ino).has_hole())
    }

    fn is_named(&self, path: &str) -> io::Result<bool> {
        assert!(is_plain(path), "not a path inside the store: {path:?}");
        let disk = self.enter_whole(CallKind::IsNamed, 0)?;
        Ok(disk.lookup(path).ok() == Some(self.ino))
    }
}
