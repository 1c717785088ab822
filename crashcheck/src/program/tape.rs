//! Where a recorder writes what happened, as it happens.
//!
//! I own the order. Whoever holds the tape's lock does an operation and notes it, so the steps are in the
//! order in which the file system did them. (T1) What the program said before an
//! operation began is noted before it: the pipes are drained whenever the lock is taken. (T2) A sync is
//! noted where it returned, with the number of steps when it began. (T3) Files go by the host's inode
//! numbers, which become [`Ino`]s that are never used twice. (T4) A tape that is full says so and takes
//! nothing more.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::core::trace::{Ino, Op, Step};
use crate::program::recording::{Gap, Meta, Note, Recording, Task};
use crate::program::sites::Sites;
use crate::program::stream::{Lines, MOST_LINE, read_present, unwaiting};

pub mod tree;
mod whole;
mod written;

use written::Written;

/// What begins a line that is an acknowledgement.
pub const ACK: &str = "durable-ack ";
/// What begins a line that announces what is about to be done.
pub const BEGIN: &str = "durable-begin ";

/// A tape, shared by the threads of a recorder.
#[derive(Debug)]
pub struct Tape {
    inner: Mutex<Reel>,
    pipes: Mutex<Vec<Pipe>>,
}

/// What is on a tape; held under its lock.
#[derive(Debug)]
pub struct Reel {
    recording: Recording,
    /// The file of each of the host's inode numbers.
    inos: HashMap<u64, Ino>,
    /// Each directory's own directory and name there, by the host's inode numbers.
    dirs: HashMap<u64, (u64, String)>,
    root: u64,
    next: u32,
    calls: HashMap<&'static str, u32>,
    tasks: HashMap<u32, u32>,
    sites: Sites,
    written: Written,
    bytes: u64,
    limit: u64,
    full: bool,
    started: Instant,
}

/// Who does something.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    /// The call's name.
    pub call: &'static str,
    /// The thread, or 0 if the kernel does it for nobody.
    pub tid: u32,
    /// How many steps there were when the call began.
    pub entered: usize,
}

/// A stream of the program's output: passed on, and read for what the program says of itself.
#[derive(Debug)]
pub struct Pipe {
    from: File,
    to: Onward,
    lines: Lines,
    closed: bool,
}

/// Where a stream goes on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// Our standard output.
    Stdout,
    /// Our standard error.
    Stderr,
    /// Nowhere.
    Nowhere,
}

impl Pipe {
    /// A stream; it is read without waiting.
    ///
    /// # Errors
    /// If the pipe cannot be set up.
    pub fn new(from: io::PipeReader, to: Onward) -> io::Result<Self> {
        Ok(Self { from: unwaiting(from)?, to, lines: Lines::default(), closed: false })
    }

    /// Passes on what is there, and gives what is said in it. A stream that cannot be read has ended.
    fn drain(&mut self, said: &mut Vec<Said>) {
        let Self { from, to, lines, closed } = self;
        *closed = *closed
            || read_present(from, &mut |bytes| {
                to.pass_on(bytes);
                lines.take(bytes, &mut |line, over| said.extend(says(line, over)));
            })
            .unwrap_or(true);
    }
}

impl Onward {
    /// What the program prints is its own: if nobody takes it, the recording goes on.
    fn pass_on(self, bytes: &[u8]) {
        let _ = match self {
            Self::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
            Self::Stderr => io::stderr().write_all(bytes),
            Self::Nowhere => Ok(()),
        };
    }
}

/// What a line says.
#[derive(Debug)]
enum Said {
    Note(Note),
    /// It would have said something, and is too long.
    TooMuch,
}

/// What a line says, of which there was more if it is `over`.
fn says(line: &str, over: bool) -> Option<Said> {
    let ack = line.strip_prefix(ACK).map(|text| Note::Ack(text.to_owned()));
    let note = ack.or_else(|| line.strip_prefix(BEGIN).map(|text| Note::Begin(text.to_owned())))?;
    Some(if over { Said::TooMuch } else { Said::Note(note) })
}

impl Tape {
    /// A tape that begins with a recording's initial tree, and takes so many bytes; `sites` says whether call
    /// sites are looked for.
    #[must_use]
    pub fn new(start: Start, limit: u64, sites: bool) -> Self {
        let next = start.inos.values().map(|ino| ino.0 + 1).max().unwrap_or(0);
        let reel = Reel {
            recording: start.recording,
            inos: start.inos,
            dirs: start.dirs,
            root: start.root,
            next,
            calls: HashMap::new(),
            tasks: HashMap::new(),
            sites: Sites::new(sites),
            written: Written::default(),
            bytes: 0,
            limit,
            full: false,
            started: Instant::now(),
        };
        Self { inner: Mutex::new(reel), pipes: Mutex::default() }
    }

    /// Adds a stream to read for what the program says.
    pub fn listen(&self, pipe: Pipe) {
        lock(&self.pipes).push(pipe);
    }

    /// The tape's lock, with everything noted that the program said before.
    pub fn lock(&self) -> MutexGuard<'_, Reel> {
        let mut reel = lock(&self.inner);
        let mut said = Vec::new();
        lock(&self.pipes).iter_mut().for_each(|pipe| pipe.drain(&mut said));
        for said in said {
            match said {
                Said::Note(note) => reel.say(note),
                Said::TooMuch => reel.gap(
                    String::new(),
                    &format!("what the program said of itself in a line of more than {MOST_LINE} bytes is not known"),
                ),
            }
        }
        reel
    }

    /// Does beforehand what a recorder would have to wait for.
    pub fn prepare(&self) {
        if lock(&self.inner).written.wants_piece() {
            let piece = written::piece();
            lock(&self.inner).written.take_piece(piece);
        }
    }

    /// Whether every stream has ended.
    pub fn is_silent(&self) -> bool {
        lock(&self.pipes).iter().all(|pipe| pipe.closed)
    }

    /// The recording so far.
    pub fn take(&self) -> Recording {
        let mut reel = self.lock();
        let Reel { sites, written, recording, .. } = &mut *reel;
        written.give_to(&mut recording.trace.steps);
        let (sites, modules) = sites.list();
        Recording { sites, modules, ..std::mem::take(recording) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds the tape")
}

/// What a tape begins with.
#[derive(Debug, Default)]
pub struct Start {
    /// A recording without steps.
    pub recording: Recording,
    /// The file of each of the host's inode numbers.
    pub inos: HashMap<u64, Ino>,
    /// Each directory but the root: its own directory and its name there.
    pub dirs: HashMap<u64, (u64, String)>,
    /// The root's inode number.
    pub root: u64,
}

impl Reel {
    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.recording.trace.steps.len()
    }

    /// Whether nothing was noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the limit was reached and something is missing.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// A thread that begins a call now.
    #[must_use]
    pub fn who(&self, call: &'static str, tid: u32) -> Who {
        Who { call, tid, entered: self.len() }
    }

    /// Notes an operation that was done, other than a write.
    pub fn note(&mut self, who: Who, op: Op) {
        self.push(who, op.into());
    }

    /// Notes what was written to a file.
    pub fn note_write(&mut self, who: Who, ino: Ino, offset: u64, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let step = self.len();
        self.push(who, Op::Write { ino, offset, data: Arc::default() }.into());
        if !self.full {
            self.written.take(step, bytes);
        }
    }

    /// Notes a sync that returned; it began when there were `who.entered` steps.
    pub fn note_sync(&mut self, who: Who, op: Op, failed: bool) {
        let since = (who.entered < self.len()).then_some(who.entered);
        self.push(who, Step { op, failed, since });
    }

    fn push(&mut self, who: Who, step: Step) {
        self.bytes += 64;
        self.full |= self.bytes > self.limit;
        if self.full {
            return;
        }
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (call, task) = (self.call(who.call), self.task(who.tid));
        // It waits in its call until this is noted.
        let site = self.sites.of(who.tid);
        self.recording.metas.push(Meta { call, task, entered: who.entered as u64, micros, site });
        self.recording.trace.steps.push(step);
    }

    /// Notes what the program says of itself.
    pub fn say(&mut self, note: Note) {
        let number = u32::try_from(self.recording.notes.len()).expect("fewer notes than 2^32");
        let call = if note.ack().is_some() { "ack" } else { "begin" };
        self.recording.notes.push(note);
        let who = self.who(call, 0);
        self.push(who, Op::Mark(number).into());
    }

    /// Notes what could not be recorded, once for each file and reason.
    pub fn gap(&mut self, path: String, reason: &str) {
        let gap = Gap { path, reason: reason.to_owned() };
        if !self.recording.gaps.contains(&gap) {
            self.recording.gaps.push(gap);
        }
    }

    fn call(&mut self, name: &'static str) -> u32 {
        let calls = &mut self.recording.calls;
        *self.calls.entry(name).or_insert_with(|| {
            calls.push(name.to_owned());
            u32::try_from(calls.len() - 1).expect("few calls have names")
        })
    }

    fn task(&mut self, tid: u32) -> u32 {
        let tasks = &mut self.recording.tasks;
        *self.tasks.entry(tid).or_insert_with(|| {
            tasks.push(task(tid));
            u32::try_from(tasks.len() - 1).expect("fewer threads than 2^32")
        })
    }

    /// A new file with the host's inode number, whatever had it before.
    pub fn new_ino(&mut self, host: u64, mode: u32) -> Ino {
        let ino = Ino(self.next);
        self.next += 1;
        self.inos.insert(host, ino);
        self.set_mode(ino, mode);
        ino
    }

    /// The file of one of the host's inode numbers.
    #[must_use]
    pub fn ino(&self, host: u64) -> Option<Ino> {
        self.inos.get(&host).copied()
    }

    /// Notes a file's mode.
    pub fn set_mode(&mut self, ino: Ino, mode: u32) {
        self.recording.modes.insert(ino, mode & 0o7777);
    }

    /// The path of a name in a directory; `None` if the directory itself has lost its name.
    #[must_use]
    pub fn path(&self, dir: u64, name: &str) -> Option<String> {
        let above = self.dir_path(dir)?;
        Some(if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") })
    }

    /// A directory's path; the root's is empty.
    #[must_use]
    pub fn dir_path(&self, dir: u64) -> Option<String> {
        if dir == self.root {
            return Some(String::new());
        }
        let (parent, name) = self.dirs.get(&dir)?;
        self.path(*parent, name)
    }

    /// Notes where a directory is now.
    pub fn place_dir(&mut self, dir: u64, parent: u64, name: &str) {
        self.dirs.insert(dir, (parent, name.to_owned()));
    }

    /// Forgets where a directory was.
    pub fn drop_dir(&mut self, dir: u64) {
        self.dirs.remove(&dir);
    }
}

/// What is known of a thread.
fn task(tid: u32) -> Task {
    if tid == 0 {
        return Task::default();
    }
    let read = |what: &str| fs::read_to_string(format!("/proc/{tid}/{what}")).unwrap_or_default();
    let status = read("status");
    let pid =
        status.lines().find_map(|line| line.strip_prefix("Tgid:")).and_then(|pid| pid.trim().parse().ok());
    Task { tid, pid: pid.unwrap_or(tid), name: read("comm").trim_end().to_owned() }
}
