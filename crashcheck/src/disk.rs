//! Crash states inside a test: a disk in memory, a store that writes to it, a check of what a crash leaves.
//!
//! I own the disk that a test sees, with files in the manner of `std::fs`, and the way from there to the
//! core, which makes the states and knows no store. [`record`] runs the store once; [`explore`] gives each
//! state in which a crash may leave the disk to a check, as a disk on which the store may recover, and
//! crashes in those recoveries too. One thread writes at a time. I have no links and rename files alone.
//!
//! ```
//! use crashcheck::disk::{Disk, explore, record};
//! use std::io::{self, Write};
//!
//! fn save(disk: &Disk, value: &str) -> io::Result<()> {
//!     let mut file = disk.create("conf.tmp")?;
//!     file.write_all(value.as_bytes())?;
//!     file.sync_all()?; // Without this, conf may be empty.
//!     disk.rename("conf.tmp", "conf")?;
//!     disk.sync_dir("")?; // Without this, what was acknowledged may be lost.
//!     disk.ack(value);
//!     Ok(())
//! }
//!
//! let recording = record(|disk| {
//!     save(disk, "one")?;
//!     save(disk, "two")
//! })?;
//! let report = explore(&recording, |disk, acks| match (disk.read("conf"), acks) {
//!     (Ok(value), []) if value == b"one" => Ok(()),
//!     (Ok(value), _) if value == b"two" || acks == ["one"] && value == b"one" => Ok(()),
//!     (Err(_), []) => Ok(()),
//!     (found, acks) => Err(format!("{found:?} after {acks:?}")),
//! });
//! assert!(report.passed(), "{report}");
//! # Ok::<(), io::Error>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::core::choices::{Bounds, Tears};
use crate::core::explore::{Sink, explore as explore_run};
use crate::core::image::Image;
use crate::core::minimise::minimise_state;
use crate::core::replay::replay;
use crate::core::subject::{Checked, Subject, Violation};
use crate::core::trace::{Cut, Ino, Op, Trace};

/// The one property: the check passes.
const CHECK: &str = "check";

/// A disk in memory, which its clones share. Paths are relative, with `/` between parts; the root is `""`.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    trace: Trace,
    acks: Vec<String>,
    dirs: BTreeSet<String>,
    names: BTreeMap<String, Ino>,
    /// The bytes of each file, by inode.
    files: Vec<Vec<u8>>,
}

/// An open file: read, written and sought as a `std::fs::File` is.
#[derive(Debug)]
pub struct File {
    disk: Disk,
    ino: Ino,
    at: u64,
}

fn error(kind: ErrorKind, path: &str) -> io::Error {
    io::Error::new(kind, path.to_owned())
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Inner {
    fn on(image: Image) -> Self {
        let mut inner = Self { dirs: image.dirs.clone(), ..Self::default() };
        for (path, content) in &image.files {
            let ino = inner.new_ino(content.bytes());
            inner.names.insert(path.clone(), ino);
        }
        inner.trace = Trace { initial: image, inos: inner.names.clone(), steps: Vec::new() };
        inner
    }

    fn new_ino(&mut self, bytes: Vec<u8>) -> Ino {
        self.files.push(bytes);
        Ino(u32::try_from(self.files.len() - 1).expect("fewer files than 2^32"))
    }

    fn step(&mut self, op: Op) {
        self.trace.steps.push(op.into());
    }

    fn has_dir(&self, path: &str) -> bool {
        path.is_empty() || self.dirs.contains(path)
    }

    /// Whether a path may get a name: it has a directory, and is none itself.
    fn need_place(&self, path: &str) -> io::Result<()> {
        if self.has_dir(path) {
            return Err(error(ErrorKind::IsADirectory, path));
        }
        if self.has_dir(parent(path)) { Ok(()) } else { Err(error(ErrorKind::NotFound, parent(path))) }
    }

    fn ino(&self, path: &str) -> io::Result<Ino> {
        self.names.get(path).copied().ok_or_else(|| error(ErrorKind::NotFound, path))
    }

    fn bytes(&mut self, ino: Ino) -> &mut Vec<u8> {
        &mut self.files[ino.0 as usize]
    }

    fn set_len(&mut self, ino: Ino, len: u64) {
        self.bytes(ino).resize(usize::try_from(len).expect("a file fits in memory"), 0);
        self.step(Op::SetLen { ino, len });
    }
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread panics while it holds the disk")
    }

    /// Another disk with the same files. A check that goes on to write does so there: what it writes to its
    /// own disk is taken for a recovery, in which a crash may come.
    #[must_use]
    pub fn copy(&self) -> Self {
        let inner = self.lock();
        let (dirs, names, files) = (inner.dirs.clone(), inner.names.clone(), inner.files.clone());
        Self { inner: Arc::new(Mutex::new(Inner { dirs, names, files, ..Inner::default() })) }
    }

    fn file(&self, ino: Ino) -> File {
        File { disk: self.clone(), ino, at: 0 }
    }

    /// A new, empty directory.
    ///
    /// # Errors
    /// If its parent is not there, or its name is taken.
    pub fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.need_place(path)?;
        if inner.names.contains_key(path) {
            return Err(error(ErrorKind::AlreadyExists, path));
        }
        inner.dirs.insert(path.to_owned());
        inner.step(Op::CreateDir { path: path.to_owned() });
        Ok(())
    }

    /// A file to write: a new one, or an old one cut to nothing.
    ///
    /// # Errors
    /// If there is no such directory.
    pub fn create(&self, path: &str) -> io::Result<File> {
        let mut inner = self.lock();
        inner.need_place(path)?;
        if let Ok(ino) = inner.ino(path) {
            inner.set_len(ino, 0);
            return Ok(self.file(ino));
        }
        let ino = inner.new_ino(Vec::new());
        inner.names.insert(path.to_owned(), ino);
        inner.step(Op::Create { path: path.to_owned(), ino });
        Ok(self.file(ino))
    }

    /// A file that is there, to read and to write, from its start.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(&self, path: &str) -> io::Result<File> {
        let ino = self.lock().ino(path)?;
        Ok(self.file(ino))
    }

    /// All bytes of a file.
    ///
    /// # Errors
    /// If it is not there.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut inner = self.lock();
        let ino = inner.ino(path)?;
        Ok(inner.bytes(ino).clone())
    }

    /// The paths of all files and directories, ascending.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let inner = self.lock();
        let all: BTreeSet<&String> = inner.names.keys().chain(&inner.dirs).collect();
        all.into_iter().cloned().collect()
    }

    /// Renames a file, over another if there is one.
    ///
    /// # Errors
    /// If it is not there, or the new directory is not.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let ino = inner.ino(from)?;
        inner.need_place(to)?;
        if from != to {
            inner.names.remove(from);
            inner.names.insert(to.to_owned(), ino);
            inner.step(Op::Rename { from: from.to_owned(), to: to.to_owned() });
        }
        Ok(())
    }

    /// Removes a file; who has it open keeps it.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.ino(path)?;
        inner.names.remove(path);
        inner.step(Op::Remove { path: path.to_owned() });
        Ok(())
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// If it is not there.
    pub fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut inner = self.lock();
        if !inner.has_dir(path) {
            return Err(error(ErrorKind::NotFound, path));
        }
        inner.step(Op::SyncDir { path: path.to_owned() });
        Ok(())
    }

    /// The store says that something is durable.
    ///
    /// # Panics
    /// If it said so 2^32 times.
    pub fn ack(&self, text: impl Into<String>) {
        let mut inner = self.lock();
        let number = u32::try_from(inner.acks.len()).expect("fewer acknowledgements than 2^32");
        inner.acks.push(text.into());
        inner.step(Op::Mark(number));
    }
}

#[expect(clippy::len_without_is_empty, reason = "as std::fs::Metadata")]
impl File {
    /// The length.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.disk.lock().bytes(self.ino).len() as u64
    }

    /// Sets the length; what a longer one adds is zero.
    ///
    /// # Errors
    /// Never, as it is now.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.lock().set_len(self.ino, len);
        Ok(())
    }

    /// fdatasync.
    ///
    /// # Errors
    /// Never, as it is now.
    pub fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().step(Op::SyncData { ino: self.ino });
        Ok(())
    }

    /// fsync.
    ///
    /// # Errors
    /// Never, as it is now.
    pub fn sync_all(&self) -> io::Result<()> {
        self.disk.lock().step(Op::SyncAll { ino: self.ino });
        Ok(())
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.disk.lock();
        let bytes = inner.bytes(self.ino);
        let start = usize::try_from(self.at).unwrap_or(usize::MAX).min(bytes.len());
        let n = (&bytes[start..]).read(buffer)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Write for File {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let mut inner = self.disk.lock();
        let start = usize::try_from(self.at).map_err(|_| error(ErrorKind::FileTooLarge, ""))?;
        let bytes = inner.bytes(self.ino);
        let end = start + data.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[start..end].copy_from_slice(data);
        inner.step(Op::Write { ino: self.ino, offset: self.at, data: data.into() });
        self.at = end as u64;
        Ok(data.len())
    }

    /// Does nothing: what is written is written, and durable when it is synced.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.len().checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| error(ErrorKind::InvalidInput, "a place before the start"))?;
        Ok(self.at)
    }
}

/// What a store did to its disk.
#[derive(Clone, Debug)]
pub struct Recording {
    trace: Trace,
    acks: Vec<String>,
}

/// Runs a store on an empty disk.
///
/// # Errors
/// That of the store.
pub fn record<E>(run: impl FnOnce(&Disk) -> Result<(), E>) -> Result<Recording, E> {
    let disk = Disk::default();
    run(&disk)?;
    let inner = disk.lock();
    Ok(Recording { trace: inner.trace.clone(), acks: inner.acks.clone() })
}

/// What became of an exploration.
#[derive(Clone, Debug)]
pub struct Report {
    /// Different states, each of which was checked.
    pub states: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The first failure, made as small as it goes: what was kept and lost, and what the check said.
    pub example: Option<String>,
}

impl Report {
    /// Whether no state failed. None is no state failing either: a recording has at least one.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failed == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} crash states failed", self.failed, self.states)?;
        self.example.as_ref().map_or(Ok(()), |example| write!(f, "; the first:\n{example}"))
    }
}

/// The bounds of [`explore`]: one unit torn in a state, recoveries crashed once.
#[must_use]
pub fn bounds() -> Bounds {
    Bounds { tears: Tears::One, nested_depth: 1, ..Bounds::default() }
}

/// Checks every crash state of a recording, and those of the recoveries that the check performs. The check
/// gets a disk of its own for each, and what had been acknowledged before the crash; what it writes there is
/// a recovery, so what must still work after that is tried on a [`Disk::copy`].
pub fn explore(
    recording: &Recording,
    check: impl Fn(&Disk, &[String]) -> Result<(), String> + Sync,
) -> Report {
    explore_within(recording, &bounds(), check)
}

/// The same, within other bounds: another profile, fewer states.
pub fn explore_within(
    recording: &Recording,
    bounds: &Bounds,
    check: impl Fn(&Disk, &[String]) -> Result<(), String> + Sync,
) -> Report {
    let (subject, mut sink) = (Checks(check), Sink::new(0, 0));
    explore_run(&subject, recording, bounds, &mut sink);
    let example = sink.findings.first().map(|finding| {
        let id = minimise_state(&subject, recording, bounds, &finding.id, finding.property);
        replay(&subject, recording, bounds, &id).map_or_else(|e| e.to_string(), |replayed| replayed.text)
    });
    let failed = sink.counters.violations.values().sum();
    Report { states: sink.counters.distinct, failed, example }
}

/// A check as a subject of the core.
struct Checks<F>(F);

impl<F: Fn(&Disk, &[String]) -> Result<(), String> + Sync> Subject for Checks<F> {
    type Run = Recording;
    type Exposed = ();

    fn trace<'a>(&self, run: &'a Recording) -> &'a Trace {
        &run.trace
    }

    fn history_key(&self, _: &Recording, cut: Cut) -> u64 {
        cut.marks as u64
    }

    fn exposed_key(&self, (): &()) -> u64 {
        0
    }

    fn check(&self, run: &Recording, cut: Cut, image: Image, _: Option<&()>, record: bool) -> Checked<()> {
        let disk = Disk { inner: Arc::new(Mutex::new(Inner::on(image))) };
        let said = (self.0)(&disk, &run.acks[..cut.marks]);
        let violation = |text| Violation { property: CHECK, silent: false, false_alarm: false, text };
        let violations = said.err().map(violation).into_iter().collect();
        let trace = record.then(|| disk.lock().trace.clone());
        Checked { violations, trace, exposed: None }
    }
}
