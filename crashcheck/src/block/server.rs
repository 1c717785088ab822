//! The device that records: a FUSE file system with one file, under a loop device.
//!
//! I own a process of its own and the order of things. (V1) A request is answered before the next is
//! read, so what was answered before a flush was asked for is covered by it: the log's order is the
//! device's. (V2) Before each write, discard and flush is stamped, the workload's output is read: an
//! acknowledgement written before the request began stands before it in the log. (V3) I leave the room's
//! mount namespace at once: a process that must answer a file system's last writes must not be the one
//! whose end unmounts it. (V4) I end when the file system is unmounted, or when the tool is gone.
//!
//! A process apart because the tool waits, uninterruptibly, for unmounts that need my answers.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use clap::Args;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    Session, WriteFlags,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{FallocateFlags, OFlags, fallocate};

use crate::block::log::{ACK, FULL, LogWriter, SECTOR};
use crate::program::stream::{Lines, MOST_LINE, read_present};

/// The hidden subcommand that the server is.
pub const SERVER: &str = "block-server";

/// The name of the one file.
pub const DISK: &str = "disk";

/// What is remembered of names and attributes, by the kernel: nothing changes them.
const FOREVER: Duration = Duration::from_secs(3600);

/// The most bytes of one write.
const MAX_WRITE: u32 = 1 << 20;

/// Where the server finds what it needs.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// The device's bytes
    #[arg(long)]
    pub image: PathBuf,
    /// The log to write
    #[arg(long)]
    pub log: PathBuf,
    /// Where to mount
    #[arg(long)]
    pub mount: PathBuf,
    /// A FIFO of marks, a line each
    #[arg(long)]
    pub marks: PathBuf,
    /// FIFOs of the workload's output
    #[arg(long)]
    pub output: Vec<PathBuf>,
    /// The most bytes of the log
    #[arg(long)]
    pub max_log: u64,
}

/// Serves until the file system is unmounted.
///
/// # Errors
/// If it cannot be mounted, or the log cannot be written.
pub fn serve(args: &ServerArgs) -> anyhow::Result<()> {
    let image = OpenOptions::new().read(true).write(true).open(&args.image).context("the image")?;
    let size = image.metadata()?.len();
    let recorder = Arc::new(Mutex::new(Recorder::new(args)?));
    let device = Device { image, size, recorder: Arc::clone(&recorder) };
    let session = Session::new(device, &args.mount, &Config::default()).context("mounting over FUSE")?;
    leave_room(args)?;
    std::thread::spawn(|| {
        let mut end = Vec::new();
        let _ = io::stdin().read_to_end(&mut end);
        std::process::exit(1);
    });
    let drained = Arc::clone(&recorder);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(2));
            lock(&drained).drain();
        }
    });
    let mut out = io::stdout();
    out.write_all(b"!")?;
    out.flush()?;
    match session.run() {
        // How an unmount ends what is being read at that moment.
        Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
        done => done.context("serving")?,
    }
    lock(&recorder).finish()
}

/// Into a mount namespace of my own, without what I serve.
fn leave_room(args: &ServerArgs) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of its own")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("private mounts")?;
    umount2(&args.mount, MntFlags::MNT_DETACH).context("the copy of what is served")
}

fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().expect("no panic while it is held")
}

/// A FIFO of lines.
#[derive(Debug)]
struct Fifo {
    from: File,
    lines: Lines,
}

impl Fifo {
    /// A FIFO that never ends: it is open for writing too.
    fn open(path: &PathBuf) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        Ok(Self { from: options.open(path).context("a FIFO")?, lines: Lines::default() })
    }

    /// The lines that are there now; of one that is too long, its beginning.
    fn take(&mut self) -> Vec<String> {
        let Self { from, lines } = self;
        let mut whole = Vec::new();
        let read = read_present(from, &mut |piece| {
            lines.take(piece, &mut |line, over| {
                if over {
                    let _ = writeln!(io::stderr(), "crashcheck: a line was cut after {MOST_LINE} bytes");
                }
                whole.push(line.to_owned());
            });
        });
        if let Err(e) = read {
            let _ = writeln!(io::stderr(), "crashcheck: the output of the workload cannot be read: {e}");
        }
        whole
    }
}

/// The log and what is ordered in it.
#[derive(Debug)]
struct Recorder {
    log: Option<LogWriter<BufWriter<File>>>,
    max_log: u64,
    full: bool,
    marks: Fifo,
    output: Vec<Fifo>,
}

impl Recorder {
    fn new(args: &ServerArgs) -> anyhow::Result<Self> {
        let log = LogWriter::new(BufWriter::new(File::create(&args.log).context("the log")?))?;
        let output = args.output.iter().map(Fifo::open).collect::<anyhow::Result<Vec<_>>>()?;
        let marks = Fifo::open(&args.marks)?;
        Ok(Self { log: Some(log), max_log: args.max_log, full: false, marks, output })
    }

    /// Notes what was said so far.
    fn drain(&mut self) {
        for text in self.marks.take() {
            let _ = self.stamp(0, |log| log.mark(&text));
        }
        for text in self.output.iter_mut().flat_map(Fifo::take).collect::<Vec<_>>() {
            if text.starts_with(ACK) {
                let _ = self.stamp(0, |log| log.mark(&text));
            } else {
                let _ = writeln!(io::stderr(), "{text}");
            }
        }
    }

    /// Adds to the log, which must not grow by more than there is room for.
    fn stamp(
        &mut self,
        bytes: usize,
        add: impl FnOnce(&mut LogWriter<BufWriter<File>>) -> io::Result<()>,
    ) -> Result<(), Errno> {
        let Some(log) = self.log.as_mut().filter(|_| !self.full) else { return Err(Errno::EIO) };
        if log.bytes() + bytes as u64 <= self.max_log && add(log).is_ok() {
            return Ok(());
        }
        self.full = true;
        let _ = log.mark(FULL);
        Err(Errno::EIO)
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.drain();
        let log = self.log.take().context("the log is finished once")?;
        log.finish().context("the end of the log").map(|_| ())
    }
}

/// The file system.
struct Device {
    image: File,
    size: u64,
    recorder: Arc<Mutex<Recorder>>,
}

const FILE: INodeNo = INodeNo(2);

impl Device {
    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        let (kind, size, perm) = match ino {
            INodeNo::ROOT => (FileType::Directory, 0, 0o700),
            FILE => (FileType::RegularFile, self.size, 0o600),
            _ => return None,
        };
        Some(FileAttr {
            ino,
            size,
            blocks: size / SECTOR as u64,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// A change: stamped, then done.
    fn change(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let within = offset.checked_add(data.len() as u64).is_some_and(|end| end <= self.size);
        if !within || !offset.is_multiple_of(SECTOR as u64) || !data.len().is_multiple_of(SECTOR) {
            return Err(Errno::EINVAL);
        }
        let mut recorder = lock(&self.recorder);
        recorder.drain();
        recorder.stamp(data.len() + SECTOR, |log| log.write(offset, data))?;
        self.image.write_all_at(data, offset).map_err(|_| Errno::EIO)
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let mut recorder = lock(&self.recorder);
        recorder.drain();
        recorder.stamp(SECTOR, |log| log.discard(offset, len))?;
        fallocate(&self.image, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)
            .map_err(|_| Errno::EIO)
    }

    fn zero(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let zeros = vec![0; MAX_WRITE as usize];
        let mut at = offset;
        while at < offset + len {
            let now = (offset + len - at).min(u64::from(MAX_WRITE));
            self.change(at, &zeros[..usize::try_from(now).expect("at most a megabyte")])?;
            at += now;
        }
        Ok(())
    }
}

impl Filesystem for Device {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // The kernel may allow less.
        let _ = config.set_max_write(MAX_WRITE);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attr(FILE).filter(|_| parent == INodeNo::ROOT && name == DISK) {
            Some(attr) => reply.entry(&FOREVER, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Some(attr) => reply.attr(&FOREVER, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = u64::from(size).min(self.size.saturating_sub(offset));
        let mut data = vec![0; usize::try_from(len).expect("as many as were asked for")];
        match self.image.read_exact_at(&mut data, offset) {
            Ok(()) => reply.data(&data),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.change(offset, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("at most a megabyte")),
            Err(e) => reply.error(e),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut recorder = lock(&self.recorder);
        recorder.drain();
        match recorder.stamp(SECTOR, LogWriter::flush) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        let done = if mode.contains(FallocateFlags::PUNCH_HOLE) {
            self.discard(offset, length)
        } else if mode.contains(FallocateFlags::ZERO_RANGE) {
            self.zero(offset, length)
        } else {
            Err(Errno::EOPNOTSUPP)
        };
        match done {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }
}
