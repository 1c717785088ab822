//! What a call is about, before it is made, and what it did, after it returned.
//!
//! I own one kind of change for each kind of call. Before the call it is found out whether it is about the
//! recorded directory, and what stands there; after it, the directory itself says what was done: bytes are
//! read back from the file, new names are looked up. A call that failed did nothing, except that a failed
//! sync is noted as one.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::libc;
use nix::unistd::Pid;
use rustix::fs::{FallocateFlags, FileType, Stat};

use super::Calls;
use super::thread::{Open, Thread, descriptor};
use crate::core::trace::Op;
use crate::program::names;
use crate::program::recording::Note;
use crate::program::tape::tree::{At, kind};
use crate::program::tape::{ACK, Reel, Who};

/// The most that is read back at once.
const PIECE: u64 = 1 << 20;
/// `FICLONE` and `FICLONERANGE` (linux/fs.h): a file gets another's bytes without a write.
const CLONES: [u64; 2] = [0x4004_9409, 0x4020_940d];
/// Modes of `fallocate` that move what follows a range.
const MOVING: FallocateFlags = FallocateFlags::COLLAPSE_RANGE.union(FallocateFlags::INSERT_RANGE);

/// A call that has not returned.
#[derive(Debug)]
pub(super) struct Change {
    call: &'static str,
    /// How many steps there were when it began.
    entered: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    Open(Opening),
    Write { fd: i32, host: u64, place: Place, sync: Sync, from_memory: bool },
    Cut { host: u64, len: u64 },
    Allocate { fd: i32, host: u64, range: Range<u64>, mode: FallocateFlags, before: u64 },
    MakeDir(Name),
    MakeNode(Name),
    Link(Name),
    Symlink { name: Name, target: String },
    Remove { name: Name, was: Stat },
    Rename(Box<Renaming>),
    Mode { path: PathBuf },
    Sync { hosts: Vec<Stat>, data: bool },
    WholeSync,
    Map { fd: i32, host: u64 },
}

/// A file that may be new, or be cut to nothing; `was` is what had its name.
#[derive(Debug)]
struct Opening {
    path: PathBuf,
    was: Option<Stat>,
    flags: i32,
}

/// What has a new name: one of the two may be outside. `was` had the new one.
#[derive(Debug)]
struct Renaming {
    from: Option<Name>,
    to: Option<Name>,
    moved: Stat,
    was: Option<Stat>,
    exchanged: bool,
}

/// Where a write begins.
#[derive(Clone, Copy, Debug)]
enum Place {
    Offset(u64),
    /// Where the file's position is, and was moved from.
    Position,
    /// What a number in the thread's memory says, and was moved from.
    Pointer(u64),
}

/// What a write asks for besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    None,
    Data,
    All,
}

/// A name in the recorded directory.
#[derive(Debug)]
struct Name {
    dir: u64,
    name: String,
    /// Where we find it.
    path: PathBuf,
}

impl Name {
    fn at(&self) -> At<'_> {
        At { dir: self.dir, name: &self.name }
    }

    fn stat(&self) -> Option<Stat> {
        rustix::fs::lstat(&self.path).ok()
    }
}

impl Change {
    /// Whether no other change may be made meanwhile. A sync may take long; so may a write that waits for what
    /// it writes.
    pub(super) fn is_exclusive(&self) -> bool {
        match self.what {
            What::Sync { .. } | What::WholeSync | What::Map { .. } => false,
            What::Write { from_memory, .. } => from_memory,
            _ => true,
        }
    }
}

impl Calls {
    /// What a thread is about to change; `None` if it is not the recorded directory.
    pub(super) fn change(&mut self, thread: &Thread) -> Option<Change> {
        let what = self.what(thread)?;
        let call = name_of(thread);
        let tape = Arc::clone(&self.tape);
        let mut reel = tape.lock();
        self.mappings.scan(&mut reel);
        Some(Change { call, entered: reel.len(), what })
    }

    fn what(&mut self, thread: &Thread) -> Option<What> {
        let [_, b, c, d, _, _] = thread.arguments;
        match thread.call {
            libc::SYS_openat => self.opening(thread, thread.int(2)),
            libc::SYS_openat2 => {
                // The first field of `struct open_how`.
                let flags = i32::try_from(thread.word(c)?).ok()?;
                self.opening(thread, flags)
            }
            libc::SYS_write | libc::SYS_writev => self.writing(thread, 0, Place::Position, 0),
            libc::SYS_pwrite64 | libc::SYS_pwritev => self.writing(thread, 0, Place::Offset(d), 0),
            libc::SYS_pwritev2 if d == u64::MAX => self.writing(thread, 0, Place::Position, thread.int(5)),
            libc::SYS_pwritev2 => self.writing(thread, 0, Place::Offset(d), thread.int(5)),
            libc::SYS_sendfile => self.writing(thread, 0, Place::Position, 0),
            libc::SYS_splice | libc::SYS_copy_file_range => {
                let place = if d == 0 { Place::Position } else { Place::Pointer(d) };
                self.writing(thread, 2, place, 0)
            }
            libc::SYS_ftruncate => self.file(&thread.stat(0)?).map(|host| What::Cut { host, len: b }),
            libc::SYS_truncate => {
                let there = Thread { arguments: [at_here(), thread.arguments[0], b, 0, 0, 0], ..*thread };
                let file = rustix::fs::stat(there.path(0, 1)?).ok()?;
                self.file(&file).map(|host| What::Cut { host, len: b })
            }
            libc::SYS_fallocate => {
                let stat = thread.stat(0)?;
                let mode = FallocateFlags::from_bits_retain(thread.int(1).cast_unsigned());
                let before = stat.st_size.cast_unsigned();
                let (fd, host, range) = (thread.int(0), self.file(&stat)?, c..c.saturating_add(d));
                Some(What::Allocate { fd, host, range, mode, before })
            }
            libc::SYS_mkdirat => self.name(thread.path(0, 1)?).map(What::MakeDir),
            libc::SYS_mknodat => self.name(thread.path(0, 1)?).map(What::MakeNode),
            libc::SYS_linkat => self.name(thread.path(2, 3)?).map(What::Link),
            libc::SYS_symlinkat => {
                let (target, name) = (names::text(&thread.string(0)?), self.name(thread.path(1, 2)?)?);
                Some(What::Symlink { name, target })
            }
            libc::SYS_unlinkat => {
                let name = self.name(thread.path(0, 1)?)?;
                let was = name.stat()?;
                Some(What::Remove { name, was })
            }
            libc::SYS_renameat2 => self.renaming(thread),
            libc::SYS_fchmod => {
                let path = descriptor(thread.pid, thread.int(0));
                self.file(&thread.stat(0)?).map(|_| What::Mode { path })
            }
            libc::SYS_fchmodat => {
                let path = thread.path(0, 1)?;
                self.file(&rustix::fs::stat(&path).ok()?).map(|_| What::Mode { path })
            }
            libc::SYS_fsync | libc::SYS_fdatasync => {
                let stat = thread.stat(0).filter(|stat| self.is_ours(stat))?;
                Some(What::Sync { hosts: vec![stat], data: thread.call == libc::SYS_fdatasync })
            }
            libc::SYS_sync => Some(What::WholeSync),
            libc::SYS_syncfs => (thread.stat(0)?.st_dev == self.device).then_some(What::WholeSync),
            libc::SYS_msync if thread.int(2) & libc::MS_SYNC != 0 => self.syncing_stores(thread),
            libc::SYS_mmap => self.mapping(thread),
            libc::SYS_ioctl if CLONES.contains(&b) => {
                self.file(&thread.stat(0)?)?;
                self.gap(&descriptor(thread.pid, thread.int(0)), "a range was cloned into it");
                None
            }
            libc::SYS_newfstatat | libc::SYS_statx | libc::SYS_faccessat | libc::SYS_faccessat2 => {
                self.hear(&thread.path(0, 1)?);
                None
            }
            libc::SYS_io_uring_setup | libc::SYS_io_setup => {
                let reason = "the program has a ring, through which writes go that no call tells of";
                self.tape.lock().gap(String::new(), reason);
                None
            }
            _ => None,
        }
    }

    /// The inode number of a file that is recorded, or would be if it had a name.
    fn file(&self, stat: &Stat) -> Option<u64> {
        let is_file = kind(stat) == FileType::RegularFile && stat.st_dev == self.device;
        (is_file && self.tape.lock().ino(stat.st_ino).is_some()).then_some(stat.st_ino)
    }

    fn is_ours(&self, stat: &Stat) -> bool {
        let is_dir = || kind(stat) == FileType::Directory && stat.st_dev == self.device;
        self.file(stat).is_some() || (is_dir() && self.tape.lock().dir_path(stat.st_ino).is_some())
    }

    /// A name in the recorded directory; `None` if a path leads elsewhere.
    fn name(&self, path: PathBuf) -> Option<Name> {
        let dir = rustix::fs::stat(path.parent()?).ok().filter(|dir| self.is_ours(dir))?;
        let name = names::text(path.file_name()?);
        Some(Name { dir: dir.st_ino, name, path })
    }

    /// A lookup of a name in `.crashcheck/ack` is an acknowledgement.
    fn hear(&self, path: &Path) {
        let dir = path.parent().filter(|dir| dir.ends_with(".crashcheck/ack"));
        let root = dir.and_then(|dir| rustix::fs::stat(dir.parent()?.parent()?).ok());
        if let (Some(root), Some(text)) = (root, path.file_name())
            && root.st_dev == self.device
        {
            let mut reel = self.tape.lock();
            if reel.dir_path(root.st_ino).is_some_and(|path| path.is_empty()) {
                reel.say(Note::Ack(names::text(text)));
            }
        }
    }

    fn opening(&mut self, thread: &Thread, flags: i32) -> Option<What> {
        let path = thread.path(0, 1)?;
        self.hear(&path);
        let is_unnamed = flags & libc::O_TMPFILE == libc::O_TMPFILE;
        if flags & (libc::O_CREAT | libc::O_TRUNC) == 0 && !is_unnamed {
            return None;
        }
        let was = rustix::fs::stat(&path).ok();
        let above = || rustix::fs::stat(path.parent()?).ok();
        let near = was.or_else(above).filter(|near| near.st_dev == self.device)?;
        // What is neither a file nor to become one may keep the thread waiting.
        let is_file = |kind| matches!(kind, FileType::RegularFile | FileType::Directory);
        is_file(kind(&near)).then_some(What::Open(Opening { path, was, flags }))
    }

    fn writing(&mut self, thread: &Thread, number: usize, place: Place, asked: i32) -> Option<What> {
        let fd = thread.int(number);
        let Some(stat) = thread.stat(number) else {
            // A write to a closed descriptor says something.
            if thread.call == libc::SYS_write {
                let len = usize::try_from(thread.arguments[2]).unwrap_or(0).min(4096);
                let text = thread.memory(thread.arguments[1], len)?;
                let text = String::from_utf8_lossy(&text);
                let ack = text.lines().next()?.strip_prefix(ACK)?.to_owned();
                self.tape.lock().say(Note::Ack(ack));
            }
            return None;
        };
        let host = self.file(&stat)?;
        let flags = Open::of(thread.pid, fd)?.flags;
        let appends = flags & libc::O_APPEND != 0 || asked & libc::RWF_APPEND != 0;
        // The offset of a call is not looked at then (pwrite(2), "BUGS"), and the position may stay.
        let place = if appends { Place::Offset(stat.st_size.cast_unsigned()) } else { place };
        let has = |flag: i32| flags & flag == flag;
        let sync = match () {
            () if has(libc::O_SYNC) || asked & libc::RWF_SYNC != 0 => Sync::All,
            () if has(libc::O_DSYNC) || asked & libc::RWF_DSYNC != 0 => Sync::Data,
            () => Sync::None,
        };
        let from_file = [libc::SYS_sendfile, libc::SYS_splice, libc::SYS_copy_file_range];
        let from_memory = !from_file.contains(&thread.call);
        Some(What::Write { fd, host, place, sync, from_memory })
    }

    fn renaming(&self, thread: &Thread) -> Option<What> {
        let (from, to) = (thread.path(0, 1)?, thread.path(2, 3)?);
        let moved = rustix::fs::lstat(&from).ok()?;
        let was = rustix::fs::lstat(&to).ok();
        let exchanged = thread.int(4).cast_unsigned() & libc::RENAME_EXCHANGE != 0;
        let (from, to) = (self.name(from), self.name(to));
        let is_ours = from.is_some() || to.is_some();
        is_ours.then(|| What::Rename(Box::new(Renaming { from, to, moved, was, exchanged })))
    }

    fn mapping(&self, thread: &Thread) -> Option<What> {
        const SHARED: [i32; 2] = [libc::MAP_SHARED, libc::MAP_SHARED_VALIDATE];
        let is_shared = SHARED.contains(&(thread.int(3) & 0xf)) && thread.int(3) & libc::MAP_ANONYMOUS == 0;
        let stat = thread.stat(4).filter(|_| is_shared)?;
        let (fd, host) = (thread.int(4), self.file(&stat)?);
        let can_write = Open::of(thread.pid, fd)?.flags & libc::O_ACCMODE == libc::O_RDWR;
        can_write.then_some(What::Map { fd, host })
    }

    /// The mapped files in a range of a thread's memory.
    fn syncing_stores(&self, thread: &Thread) -> Option<What> {
        let [from, len, ..] = thread.arguments;
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", thread.pid)).ok()?;
        let inside = maps.lines().filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (start, end) = words.next()?.split_once('-')?;
            let number = |hex| u64::from_str_radix(hex, 16).ok();
            let overlaps = number(start)? < from.saturating_add(len) && number(end)? > from;
            let host: u64 = words.nth(3)?.parse().ok()?;
            (overlaps && self.mappings.has(host)).then_some(host)
        });
        let mut hosts: Vec<u64> = inside.collect();
        hosts.sort_unstable();
        hosts.dedup();
        let stat = |host: u64| rustix::fs::fstat(self.files.get(&host)?.as_ref()).ok();
        let hosts: Vec<Stat> = hosts.into_iter().filter_map(stat).collect();
        (!hosts.is_empty()).then_some(What::Sync { hosts, data: true })
    }

    /// Notes what a call did that gave `result`.
    pub(super) fn note(&mut self, pid: Pid, change: Change, result: i64) {
        let tape = Arc::clone(&self.tape);
        let mut reel = tape.lock();
        let tid = pid.as_raw().cast_unsigned();
        let who = Who { call: change.call, tid, entered: change.entered };
        // Beyond these the call begins anew, and nobody is told.
        const RESTARTS: i64 = -512;
        let failed = result < 0;
        match change.what {
            What::Sync { .. } | What::WholeSync if result <= RESTARTS => {}
            What::Sync { hosts, data } => {
                hosts.iter().for_each(|host| note_sync(&mut reel, who, host, data, failed));
            }
            What::WholeSync => reel.note_whole_sync(who, failed),
            what if !failed => self.note_done(&mut reel, pid, who, what, result.cast_unsigned()),
            _ => {}
        }
    }

    fn note_done(&mut self, reel: &mut Reel, pid: Pid, who: Who, what: What, result: u64) {
        match what {
            What::Open(opening) => self.opened(reel, pid, who, result, &opening),
            What::Write { fd, host, place, sync, .. } => {
                let Some(file) = self.readable(reel, pid, fd, host) else { return };
                let moved = |to: u64| to.saturating_sub(result);
                let at = match place {
                    Place::Offset(at) => Some(at),
                    Place::Position => Open::of(pid, fd).map(|open| moved(open.position)),
                    Place::Pointer(at) => {
                        let thread = Thread { pid, call: 0, arguments: [0; 6] };
                        thread.word(at).map(moved)
                    }
                };
                if let Some(at) = at {
                    self.wrote(reel, who, host, &file, at..at + result);
                }
                if sync != Sync::None
                    && let Some(ino) = reel.ino(host)
                {
                    let op = if sync == Sync::All { Op::SyncAll { ino } } else { Op::SyncData { ino } };
                    let entered = reel.len();
                    reel.note_sync(Who { entered, ..who }, op, false);
                }
            }
            What::Cut { host, len } => {
                reel.cut(who, host, len);
                self.mappings.cut(host, len);
            }
            What::Allocate { fd, host, range, mode, before } => {
                let path = descriptor(pid, fd);
                if mode.intersects(MOVING) {
                    return gap(reel, &self.dir, &path, "a range of it was collapsed or inserted");
                }
                let after = rustix::fs::stat(&path).map_or(before, |stat| stat.st_size.cast_unsigned());
                reel.allocated(who, host, range.clone(), mode, [before, after]);
                self.mappings.cut(host, after);
                if mode.intersects(FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE) {
                    let len = usize::try_from(range.end.min(after).saturating_sub(range.start));
                    self.mappings.wrote(host, range.start, &vec![0; len.unwrap_or(0)]);
                }
            }
            What::MakeDir(name) => {
                name.stat().iter().for_each(|stat| reel.made_dir(who, name.at(), stat));
            }
            What::MakeNode(name) => {
                let file = name.stat().filter(|stat| kind(stat) == FileType::RegularFile);
                file.iter().for_each(|stat| self.made(reel, who, &name, stat));
            }
            What::Link(name) => self.linked(reel, who, &name),
            What::Symlink { name, target } => reel.made_symlink(who, name.at(), target),
            What::Remove { name, was } => reel.removed(who, name.at(), &was),
            What::Rename(renaming) => self.renamed(reel, who, &renaming),
            What::Mode { path } => {
                if let Ok(stat) = rustix::fs::stat(&path)
                    && let Some(ino) = reel.ino(stat.st_ino)
                {
                    reel.set_mode(ino, stat.st_mode);
                }
            }
            What::Map { fd, host } => {
                let file = self.readable(reel, pid, fd, host);
                if file.is_some_and(|file| !self.mappings.add(host, file)) {
                    let reason = "it is mapped shared, and too large to be compared at each call";
                    gap(reel, &self.dir, &descriptor(pid, fd), reason);
                }
            }
            What::Sync { .. } | What::WholeSync => {}
        }
    }

    fn renamed(&mut self, reel: &mut Reel, who: Who, renaming: &Renaming) {
        let Renaming { from, to, moved, was, exchanged } = renaming;
        if let (Some(from), Some(to)) = (from, to) {
            return reel.renamed(who, [from.at(), to.at()], moved, was.as_ref(), *exchanged);
        }
        // It left the directory, or came into it; so did the other one, if they were exchanged.
        if let Some(name) = from {
            reel.removed(who, name.at(), moved);
        }
        if let (Some(name), Some(was)) = (to, was) {
            reel.removed(who, name.at(), was);
        }
        let come = to.iter().chain(from.iter().filter(|_| *exchanged));
        come.for_each(|name| self.linked(reel, who, name));
    }

    /// A file was opened that is new, or was cut to nothing.
    fn opened(&mut self, reel: &mut Reel, pid: Pid, who: Who, fd: u64, opening: &Opening) {
        let Opening { path, was, flags } = opening;
        let Ok(fd) = i32::try_from(fd) else { return };
        let at = descriptor(pid, fd);
        let Ok(file) = rustix::fs::stat(&at) else { return };
        if kind(&file) != FileType::RegularFile || file.st_dev != self.device {
            return;
        }
        if flags & libc::O_TMPFILE == libc::O_TMPFILE {
            // It may get a name in the recorded directory; whoever else it belongs to does not matter then.
            let dir = rustix::fs::stat(path).ok();
            if dir.is_some_and(|dir| reel.dir_path(dir.st_ino).is_some()) {
                self.forget(file.st_ino);
                reel.made_unnamed(who, &file);
            }
        } else if was.is_some() {
            if flags & libc::O_TRUNC != 0 {
                reel.cut(who, file.st_ino, 0);
                self.mappings.cut(file.st_ino, 0);
            }
        } else if let Ok(real) = std::fs::read_link(&at)
            && let (Some(dir), Some(name)) = (real.parent(), real.file_name())
            && let Ok(dir) = rustix::fs::stat(dir)
            && dir.st_dev == self.device
        {
            let name = Name { dir: dir.st_ino, name: names::text(name), path: real.clone() };
            self.made(reel, who, &name, &file);
        }
    }

    fn made(&mut self, reel: &mut Reel, who: Who, name: &Name, file: &Stat) {
        self.forget(file.st_ino);
        reel.made_file(who, name.at(), file);
    }

    /// Something has a new name: a file that is known, or one that comes from outside.
    fn linked(&mut self, reel: &mut Reel, who: Who, name: &Name) {
        let Some(stat) = name.stat() else { return };
        match kind(&stat) {
            FileType::Symlink => {
                if let Ok(target) = std::fs::read_link(&name.path) {
                    reel.made_symlink(who, name.at(), names::text(target.as_os_str()));
                }
            }
            FileType::RegularFile if reel.ino(stat.st_ino).is_some() => reel.linked(who, name.at(), &stat),
            FileType::RegularFile => {
                self.made(reel, who, name, &stat);
                match File::open(&name.path) {
                    Ok(file) => self.wrote(reel, who, stat.st_ino, &file, 0..stat.st_size.cast_unsigned()),
                    Err(_) => gap(reel, &self.dir, &name.path, "it came from outside and cannot be read"),
                }
            }
            _ => gap(reel, &self.dir, &name.path, "it came from outside"),
        }
    }

    /// Notes what a range of a file holds since it was written.
    fn wrote(&mut self, reel: &mut Reel, who: Who, host: u64, file: &File, range: Range<u64>) {
        let Some(ino) = reel.ino(host) else { return };
        let mut from = range.start;
        while from < range.end {
            let len = usize::try_from(PIECE.min(range.end - from)).expect("a piece is short");
            let mut bytes = vec![0; len];
            let read = file.read_at(&mut bytes, from).unwrap_or(0);
            if read == 0 {
                return;
            }
            reel.note_write(who, ino, from, &bytes[..read]);
            self.mappings.wrote(host, from, &bytes[..read]);
            from += read as u64;
        }
    }

    /// A file of a thread, opened by us.
    fn readable(&mut self, reel: &mut Reel, pid: Pid, fd: i32, host: u64) -> Option<Arc<File>> {
        if let Some(file) = self.files.get(&host) {
            return Some(Arc::clone(file));
        }
        let path = descriptor(pid, fd);
        match File::open(&path) {
            Ok(file) => {
                let file = Arc::new(file);
                self.files.insert(host, Arc::clone(&file));
                Some(file)
            }
            Err(_) => {
                gap(reel, &self.dir, &path, "it was written and cannot be read back: make it readable");
                None
            }
        }
    }

    /// An inode number has another file by now.
    fn forget(&mut self, host: u64) {
        self.files.remove(&host);
        self.mappings.remove(host);
    }

    fn gap(&self, path: &Path, reason: &str) {
        gap(&mut self.tape.lock(), &self.dir, path, reason);
    }
}

fn at_here() -> u64 {
    i64::from(libc::AT_FDCWD).cast_unsigned()
}

/// Notes that something about a file, which we find under a path, is not known.
fn gap(reel: &mut Reel, dir: &Path, path: &Path, reason: &str) {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    reel.gap(names::text(real.strip_prefix(dir).unwrap_or(&real).as_os_str()), reason);
}

fn note_sync(reel: &mut Reel, who: Who, of: &Stat, data: bool, failed: bool) {
    let op = if kind(of) == FileType::Directory {
        reel.dir_path(of.st_ino).map(|path| Op::SyncDir { path })
    } else {
        let sync = |ino| if data { Op::SyncData { ino } } else { Op::SyncAll { ino } };
        reel.ino(of.st_ino).map(sync)
    };
    op.into_iter().for_each(|op| reel.note_sync(who, op, failed));
}

/// What a call is called in a report.
fn name_of(thread: &Thread) -> &'static str {
    let removes_dir = thread.call == libc::SYS_unlinkat && thread.int(2) & libc::AT_REMOVEDIR != 0;
    match thread.call {
        libc::SYS_openat | libc::SYS_openat2 => "open",
        libc::SYS_sendfile => "sendfile",
        libc::SYS_splice => "splice",
        libc::SYS_copy_file_range => "copy_file_range",
        libc::SYS_ftruncate | libc::SYS_truncate => "truncate",
        libc::SYS_fallocate => "fallocate",
        libc::SYS_mkdirat => "mkdir",
        libc::SYS_mknodat => "mknod",
        libc::SYS_unlinkat if removes_dir => "rmdir",
        libc::SYS_unlinkat => "unlink",
        libc::SYS_linkat => "link",
        libc::SYS_symlinkat => "symlink",
        libc::SYS_renameat2 => "rename",
        libc::SYS_fsync => "fsync",
        libc::SYS_fdatasync => "fdatasync",
        libc::SYS_sync => "sync",
        libc::SYS_syncfs => "syncfs",
        libc::SYS_msync => "msync",
        _ => "write",
    }
}
