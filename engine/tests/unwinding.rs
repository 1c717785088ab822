//! A thread that panics in the middle of a write or a sync: the handle is poisoned, everybody is answered, and
//! nobody hangs or panics for it.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use seawall::vfs::mem::{MemFile, MemVfs};
use seawall::vfs::{Access, File, Vfs};
use seawall::{CreateOptions, Driver, Engine, Entry, Error, GroupId, Index, Options, Outcome, WriteBatch};

const G: GroupId = GroupId(1);
/// How long a caller may wait before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(30);

const QUIET: u8 = 0;
const WRITE: u8 = 1;
const SYNC: u8 = 2;

/// A file system whose next write or sync of a segment panics.
#[derive(Clone)]
struct Broken {
    inner: MemVfs,
    at: Arc<AtomicU8>,
}

struct BrokenFile {
    inner: MemFile,
    at: Arc<AtomicU8>,
    segment: bool,
}

impl Broken {
    fn file(&self, path: &str, inner: MemFile) -> BrokenFile {
        BrokenFile { inner, at: self.at.clone(), segment: path.ends_with(".seg") }
    }
}

impl Vfs for Broken {
    type File = BrokenFile;
    const PIECE: usize = MemVfs::PIECE;
    const HELD: usize = MemVfs::HELD;

    fn create_root(&self) -> io::Result<()> {
        self.inner.create_root()
    }
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.inner.create_dir(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn create(&self, path: &str) -> io::Result<BrokenFile> {
        Ok(self.file(path, self.inner.create(path)?))
    }
    fn open(&self, path: &str, access: Access) -> io::Result<BrokenFile> {
        Ok(self.file(path, self.inner.open(path, access)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn available_space(&self) -> io::Result<u64> {
        self.inner.available_space()
    }
    fn entropy(&self) -> io::Result<[u8; 16]> {
        self.inner.entropy()
    }
}

impl BrokenFile {
    fn pass(&self, call: u8) {
        if self.segment && self.at.compare_exchange(call, QUIET, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            panic!("a planted panic");
        }
    }
}

impl File for BrokenFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.pass(WRITE);
        self.inner.write_at(buf, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.pass(SYNC);
        self.inner.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.inner.sync_all()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
    fn is_named(&self, path: &str) -> io::Result<bool> {
        self.inner.is_named(path)
    }
}

fn entry(index: u64) -> Entry {
    Entry::command(index, 1, *b"an entry")
}

fn batch(index: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.append(G, entry(index));
    batch
}

/// Waiting callers, callbacks and a late caller meet the panic of whoever writes.
fn check(driver: Driver, call: u8, expected: Outcome) {
    let vfs = Broken { inner: MemVfs::new(), at: Arc::default() };
    let create = CreateOptions { segment_bytes: 64 << 10, ..CreateOptions::new(1, 1) };
    Engine::create_in(&vfs, &create).unwrap();
    let (engine, _) = Engine::open_in(vfs.clone(), Options { driver, ..Options::default() }).unwrap();
    engine.create_group(G).unwrap();
    engine.append(G, &[entry(1)]).unwrap();
    let tickets: Vec<_> = (2..=5).map(|index| engine.write(batch(index)).unwrap()).collect();
    let (told, outcomes) = mpsc::channel();
    let also = told.clone();
    engine.write_then(batch(6), move |outcome| also.send(outcome).unwrap()).unwrap();
    vfs.at.store(call, Ordering::SeqCst);
    std::thread::scope(|scope| {
        for ticket in tickets {
            let told = told.clone();
            scope.spawn(move || told.send(ticket.wait()).unwrap());
        }
    });
    for _ in 2..=6 {
        let outcome = outcomes.recv_timeout(PATIENCE).expect("somebody hangs");
        // Frames that settled before the panic are durable; none is said to be after it.
        assert!(outcome == expected || outcome == Outcome::Durable || outcome == Outcome::NotDurable);
    }
    vfs.at.store(QUIET, Ordering::SeqCst);
    // The driver may have written what was queued before the panic was planted: then the next write meets it.
    if engine.status().poison.is_none() {
        vfs.at.store(call, Ordering::SeqCst);
        assert_eq!(engine.write(batch(7)).unwrap().wait(), expected);
    }
    assert!(engine.status().poison.unwrap().contains("panicked"));
    assert!(matches!(engine.write(batch(9)), Err(Error::Poisoned { .. })));
    assert_eq!(engine.read(G, Index(1)..Index(2), 100).unwrap(), [entry(1)]);
    assert!(engine.close().is_err());
    let (engine, report) = Engine::open_in(vfs, Options { driver, ..Options::default() }).unwrap();
    assert!(!report.is_alarm(), "{report:?}");
    assert_eq!(engine.read(G, Index(1)..Index(2), 100).unwrap(), [entry(1)]);
}

#[test]
fn a_write_that_panics_poisons_and_hangs_nobody() {
    check(Driver::Caller, WRITE, Outcome::Unknown);
    check(Driver::Threads, WRITE, Outcome::Unknown);
}

#[test]
fn a_sync_that_panics_poisons_and_hangs_nobody() {
    check(Driver::Caller, SYNC, Outcome::Unknown);
    check(Driver::Threads, SYNC, Outcome::Unknown);
}
