//! The simulated disk behind its lock: files, names, capacity, faults and the recording.
//!
//! I own what each call does, the kernel's error numbers for what cannot be done, and the order of
//! the recording. Invariants: a file's number is its place in `inodes` and never changes. I do not
//! know who calls.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::fault::{Fault, Faults, SyncFailure};
use super::image::{Content, Image, PAGE};
use super::inode::Inode;
use super::names::{Change, Names, Tree, parent};
use super::trace::{Ino, Op, Recorded, Trace};

/// The kernel's numbers, the same on Linux and macOS.
mod errno {
    pub(super) const ENOENT: i32 = 2;
    pub(super) const EIO: i32 = 5;
    pub(super) const EEXIST: i32 = 17;
    pub(super) const ENOTDIR: i32 = 20;
    pub(super) const EISDIR: i32 = 21;
    pub(super) const EFBIG: i32 = 27;
    pub(super) const ENOSPC: i32 = 28;
}

/// Free blocks of a disk without a limit.
const PLENTY: u64 = 1 << 31;

/// No file grows longer; the table of its pages stays small.
const MAX_LEN: u64 = 4 << 30;

/// A disk.
#[derive(Default)]
pub(super) struct Disk {
    names: Names,
    inodes: Vec<Inode>,
    /// Whether what is durable is kept apart.
    tracking: bool,
    pub(super) recording: bool,
    pub(super) trace: Option<Trace>,
    pub(super) faults: Option<Faults>,
    pub(super) calls: u64,
    pub(super) capacity: Option<u64>,
    descriptions: u32,
    pub(super) entropy_drawn: u64,
}

/// An error of the kernel.
fn error<T>(number: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(number))
}

/// For a call that can only fail whole.
pub(super) fn fail_whole(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        None => Ok(()),
        Some(Fault::Errno(number)) => error(number),
        Some(other) => panic!("{other:?} does not fit this call"),
    }
}

impl Disk {
    pub(super) fn from_image(image: Image) -> Self {
        let mut inodes = Vec::with_capacity(image.files.len() + 4);
        let add = |(path, content)| {
            inodes.push(Inode::new(content));
            (path, Ino(number(inodes.len() - 1)))
        };
        let files = image.files.into_iter().map(add).collect();
        let dirs = image.dirs;
        Self { names: Names::new(Tree { dirs, files }), inodes, ..Self::default() }
    }

    /// An independent disk with the same names, bytes and limit.
    pub(super) fn fork(&self) -> Self {
        Self {
            names: Names::new(self.names.live.clone()),
            inodes: self.inodes.iter().map(Inode::fork).collect(),
            capacity: self.capacity,
            entropy_drawn: self.entropy_drawn,
            ..Self::default()
        }
    }

    pub(super) fn image(&self) -> Image {
        self.image_of(&self.names.live, |inode| &inode.live)
    }

    pub(super) fn durable_image(&self) -> Image {
        assert!(self.tracking, "what is durable is not kept apart: record, set faults or call track first");
        self.image_of(self.names.durable(), Inode::durable)
    }

    fn image_of<'a>(&'a self, tree: &Tree, content: impl Fn(&'a Inode) -> &'a Content) -> Image {
        let files = tree.files.iter().filter(|(path, _)| tree.reaches(path));
        let dirs = tree.dirs.iter().filter(|path| tree.reaches(path));
        Image {
            dirs: dirs.cloned().collect(),
            files: files.map(|(path, ino)| (path.clone(), content(self.inode(*ino)).clone())).collect(),
        }
    }

    /// Keeps what is durable apart from now on; what is there counts as durable.
    pub(super) fn track(&mut self, afresh: bool) {
        if afresh || !self.tracking {
            self.names.settle();
            self.inodes.iter_mut().for_each(Inode::settle);
            self.tracking = true;
        }
    }

    pub(super) fn record(&mut self) {
        self.track(true);
        self.recording = true;
        self.trace =
            Some(Trace { initial: self.image(), inos: self.names.live.files.clone(), ops: Vec::new() });
    }

    pub(super) fn note(&mut self, op: impl FnOnce() -> Op) {
        self.note_sync(op, false, None);
    }

    fn note_sync(&mut self, op: impl FnOnce() -> Op, failed: bool, failure: Option<SyncFailure>) {
        if self.recording
            && let Some(trace) = &mut self.trace
        {
            let op = op();
            trace.ops.push(Recorded { op, failed, failure });
        }
    }

    pub(super) fn inode(&self, ino: Ino) -> &Inode {
        &self.inodes[ino.0 as usize]
    }

    fn inode_mut(&mut self, ino: Ino) -> &mut Inode {
        &mut self.inodes[ino.0 as usize]
    }

    /// The name that a file has now.
    pub(super) fn name_of(&self, ino: Ino) -> String {
        let mut names = self.names.live.files.iter();
        let named = names.find(|(_, i)| **i == ino);
        named.map_or_else(String::new, |(path, _)| path.clone())
    }

    pub(super) fn lookup(&self, path: &str) -> io::Result<Ino> {
        match self.names.live.files.get(path) {
            Some(ino) => Ok(*ino),
            None if self.names.has_dir(path) => error(errno::EISDIR),
            None => self.need_parent(path).and(error(errno::ENOENT)),
        }
    }

    /// That the directory of a path is there.
    fn need_parent(&self, path: &str) -> io::Result<()> {
        self.need_dir(parent(path))
    }

    fn need_dir(&self, dir: &str) -> io::Result<()> {
        if self.names.has_dir(dir) {
            Ok(())
        } else if self.names.live.files.contains_key(dir) {
            error(errno::ENOTDIR)
        } else {
            error(errno::ENOENT)
        }
    }

    fn need_free_name(&self, path: &str) -> io::Result<()> {
        self.need_parent(path)?;
        if self.names.has_dir(path) || self.names.live.files.contains_key(path) {
            return error(errno::EEXIST);
        }
        Ok(())
    }

    pub(super) fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.need_dir(dir)?;
        Ok(self.names.list(dir))
    }

    pub(super) fn create_dir(&mut self, path: &str) -> io::Result<()> {
        self.need_free_name(path)?;
        self.names.change(Change::Dir(path.to_owned()), self.tracking);
        self.note(|| Op::CreateDir { path: path.to_owned() });
        Ok(())
    }

    pub(super) fn create(&mut self, path: &str) -> io::Result<Ino> {
        self.need_free_name(path)?;
        let ino = Ino(number(self.inodes.len()));
        self.inodes.push(Inode::new(Content::default()));
        self.names.change(Change::Add(path.to_owned(), ino), self.tracking);
        self.note(|| Op::Create { path: path.to_owned(), ino });
        Ok(ino)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.need_parent(from)?;
        self.need_parent(to)?;
        let ino = self.lookup(from)?;
        if self.names.has_dir(to) {
            // The kernel's answer for a directory above the file; its number differs by system.
            let above = from.strip_prefix(to).is_some_and(|rest| rest.starts_with('/') || to.is_empty());
            return if above { Err(io::ErrorKind::DirectoryNotEmpty.into()) } else { error(errno::EISDIR) };
        }
        if from == to {
            return Ok(());
        }
        let replaced = self.names.live.files.get(to).copied();
        let change = Change::Move { from: from.to_owned(), to: to.to_owned(), ino };
        self.names.change(change, self.tracking);
        self.note(|| Op::Rename { from: from.to_owned(), to: to.to_owned(), ino, replaced });
        if let Some(replaced) = replaced {
            self.inode_mut(replaced).linked = false;
            self.reclaim(replaced);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        let ino = self.lookup(path)?;
        self.names.change(Change::Remove(path.to_owned()), self.tracking);
        self.note(|| Op::Remove { path: path.to_owned(), ino });
        self.inode_mut(ino).linked = false;
        self.reclaim(ino);
        Ok(())
    }

    /// Gives up a file that has no name and no description, unless a crash may bring it back.
    fn reclaim(&mut self, ino: Ino) {
        let tracking = self.tracking;
        let inode = self.inode_mut(ino);
        if !tracking && !inode.linked && inode.open == 0 {
            inode.drop_bytes();
        }
    }

    pub(super) fn sync_dir(&mut self, dir: &str, fault: Option<Fault>) -> io::Result<()> {
        self.need_dir(dir)?;
        if let Some(Fault::Errno(_)) = fault {
            return sync_result(false, fault);
        }
        let failure = sync_failure(fault);
        let ok = self.names.sync(dir, failure);
        let op = || Op::SyncDir { path: dir.to_owned() };
        self.note_sync(op, !ok || failure.is_some(), failure);
        sync_result(ok, fault)
    }

    /// A new description: its number, and the count of errors that it has not missed.
    pub(super) fn describe(&mut self, ino: Ino) -> (u32, u64) {
        self.descriptions += 1;
        let inode = self.inode_mut(ino);
        inode.open += 1;
        let seen = inode.errors_seen_at_open();
        (self.descriptions, seen)
    }

    pub(super) fn close(&mut self, ino: Ino, description: u32) {
        let inode = self.inode_mut(ino);
        inode.open -= 1;
        if inode.lock == Some(description) {
            inode.lock = None;
        }
        self.reclaim(ino);
    }

    pub(super) fn try_lock(&mut self, ino: Ino, description: u32) -> bool {
        *self.inode_mut(ino).lock.get_or_insert(description) == description
    }

    /// Blocks that may still be taken.
    fn free(&self) -> u64 {
        let Some(capacity) = self.capacity else {
            return PLENTY;
        };
        let taken = self.inodes.iter().filter(|i| i.linked || i.open > 0);
        capacity.saturating_sub(taken.map(Inode::blocks).sum())
    }

    pub(super) fn available_space(&self) -> u64 {
        self.free() * PAGE as u64
    }

    pub(super) fn write(&mut self, ino: Ino, mut bytes: &[u8], offset: u64) -> io::Result<usize> {
        if MAX_LEN.saturating_sub(offset) < bytes.len() as u64 {
            return error(errno::EFBIG);
        }
        if self.capacity.is_some() && !bytes.is_empty() {
            let fits = self.inode(ino).fits(offset, bytes.len(), self.free());
            if fits == 0 {
                return error(errno::ENOSPC);
            }
            bytes = &bytes[..fits];
        }
        if !bytes.is_empty() {
            let tracking = self.tracking;
            self.inode_mut(ino).write(offset, bytes, tracking);
            self.note(|| Op::Write { ino, offset, data: Arc::from(bytes) });
        }
        Ok(bytes.len())
    }

    pub(super) fn set_len(&mut self, ino: Ino, len: u64) -> io::Result<()> {
        if len > MAX_LEN {
            return error(errno::EFBIG);
        }
        let tracking = self.tracking;
        self.inode_mut(ino).set_len(len, tracking);
        self.note(|| Op::SetLen { ino, len });
        Ok(())
    }

    pub(super) fn sync(
        &mut self,
        (ino, file): (Ino, u32),
        all: bool,
        fault: Option<Fault>,
        seen: &AtomicU64,
    ) -> io::Result<()> {
        if let Some(Fault::Errno(_)) = fault {
            return sync_result(false, fault);
        }
        let failure = sync_failure(fault);
        let ok = self.inode_mut(ino).sync(all, failure, seen);
        let op = || match all {
            true => Op::SyncAll { ino, file },
            false => Op::SyncData { ino, file },
        };
        self.note_sync(op, !ok || failure.is_some(), failure);
        sync_result(ok, fault)
    }

    pub(super) fn read(&self, ino: Ino, buf: &mut [u8], offset: u64) -> usize {
        self.inode(ino).live.read(offset, buf)
    }
}

/// How a sync is to fail.
fn sync_failure(fault: Option<Fault>) -> Option<SyncFailure> {
    match fault {
        None | Some(Fault::Errno(_)) => None,
        Some(Fault::FailSync(failure)) => Some(failure),
        Some(other) => panic!("{other:?} does not fit a sync"),
    }
}

fn sync_result(ok: bool, fault: Option<Fault>) -> io::Result<()> {
    match fault {
        Some(Fault::Errno(number)) => error(number),
        _ if ok => Ok(()),
        _ => error(errno::EIO),
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).expect("fewer than 2^32 files")
}
