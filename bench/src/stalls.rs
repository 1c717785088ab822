//! `seawall-bench stalls`: how long a call waits while something else takes long, beside the same without it.
//!
//! I own the situations: a sync of a batch that does not return for as long as is asked for, the same of a rotation,
//! and a compaction that frees segments; and the callers, who go on meanwhile, each with a call every millisecond.
//! A figure is the longest wait of a caller that began or ended while it lasted. I do not know how a disk stalls.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use seawall::vfs::os::{OsFile, OsVfs};
use seawall::vfs::{Access, File, Vfs};
use seawall::{CreateOptions, Digest, Engine, Entry, GroupId, Index, LogId, Options, WriteBatch};
use serde::Serialize;

/// Measure the longest waits of callers while a sync stalls, and while segments are recycled.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long a sync stalls, in milliseconds.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    stall: u64,
    /// Segments that a compaction frees.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..))]
    segments: u64,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

/// Who calls.
const CALLERS: [&str; 3] = ["read of an entry", "append, taken", "append, durable"];
/// The groups of the two that append; the first is read as well.
const TAKEN: GroupId = GroupId(1);
const DURABLE: GroupId = GroupId(2);
const SEGMENT: u64 = 16 << 20;
const PACE: Duration = Duration::from_millis(1);
/// How long callers go on without anything else.
const CALM: Duration = Duration::from_secs(2);

/// A caller in a situation.
#[derive(Serialize)]
struct Row {
    situation: &'static str,
    caller: &'static str,
    beside_ms: f64,
    during_ms: f64,
    lasted_ms: f64,
}

impl Args {
    /// Measures and prints each situation.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        let temporary = tempfile::tempdir_in(dir)?;
        let mut out = io::stdout().lock();
        if !self.json {
            writeln!(out, "| while | it lasted, ms | call | longest wait, ms | beside, ms |")?;
            writeln!(out, "|---|---:|---|---:|---:|")?;
        }
        for situation in ["a batch's sync stalls", "a rotation's sync stalls", "segments are recycled"] {
            let (lasted, waits) = self.measure(&temporary.path().join("store"), situation)?;
            for (caller, [during, beside]) in CALLERS.into_iter().zip(waits) {
                let ms = |time: Duration| time.as_secs_f64() * 1e3;
                let (beside_ms, during_ms, lasted_ms) = (ms(beside), ms(during), ms(lasted));
                let row = Row { situation, caller, beside_ms, during_ms, lasted_ms };
                if self.json {
                    writeln!(out, "{}", serde_json::to_string(&row)?)?;
                } else {
                    writeln!(
                        out,
                        "| {situation} | {lasted_ms:.0} | {caller} | {during_ms:.2} | {beside_ms:.2} |"
                    )?;
                }
            }
        }
        Ok(())
    }

    /// How long the situation lasted, and for each caller the longest wait then and before.
    fn measure(&self, store: &Path, situation: &str) -> anyhow::Result<(Duration, [[Duration; 2]; 3])> {
        let vfs = StallingVfs { inner: OsVfs::at(store), next: Arc::default() };
        let create = CreateOptions { segment_bytes: SEGMENT, ..CreateOptions::new(1, 1) };
        Engine::create_in(&vfs, &create)?;
        let (engine, _) = Engine::open_in(vfs.clone(), Options::default())?;
        engine.create_group(TAKEN)?;
        engine.create_group(DURABLE)?;
        let filled = self.fill(&engine)?;
        engine.maintain()?;
        let over = AtomicBool::new(false);
        let stall = Duration::from_millis(self.stall);
        let (began, ended, calls) = thread::scope(|scope| {
            let (engine, over, vfs) = (&engine, &over, &vfs);
            let reader = scope.spawn(move || {
                paced(over, |n| {
                    let index = Index(filled - n % 1_000);
                    ensure!(engine.read(TAKEN, index..index.next(), 0)?.len() == 1, "an entry is gone");
                    Ok(())
                })
            });
            let taken = scope.spawn(move || {
                paced(over, |n| {
                    // Until it is time for a rotation.
                    let bytes = if vfs.awaits_names() { 64 << 10 } else { 256 };
                    let mut batch = WriteBatch::new();
                    batch.append(TAKEN, Entry::command(filled + 1 + n, 1, vec![7; bytes]));
                    engine.write(batch)?.on_durable(drop);
                    Ok(())
                })
            });
            let durable = scope.spawn(move || {
                paced(over, |n| Ok(engine.append(DURABLE, &[Entry::command(1 + n, 1, vec![7; 256])])?))
            });
            thread::sleep(CALM);
            let begun = Instant::now();
            let lasted = match situation {
                "segments are recycled" => compact(engine, filled).map(|()| (begun, Instant::now())),
                "a batch's sync stalls" => vfs.stall(Sync::Data, stall),
                _ => vfs.stall(Sync::Names, stall),
            };
            over.store(true, Ordering::Relaxed);
            let calls = [reader, taken, durable].map(|caller| caller.join().expect("a caller panicked"));
            lasted.map(|(began, ended)| (began, ended, calls))
        })?;
        engine.close()?;
        std::fs::remove_dir_all(store)?;
        let mut waits = [[Duration::ZERO; 2]; 3];
        for (calls, [during, beside]) in calls.into_iter().zip(&mut waits) {
            for (begun, wait) in calls? {
                let meets = begun < ended && begun + wait > began;
                let longest = if meets { &mut *during } else { &mut *beside };
                *longest = wait.max(*longest);
            }
        }
        Ok((ended - began, waits))
    }

    /// Entries until more segments are full than a compaction is to free; the last of them.
    fn fill(&self, engine: &Engine<StallingVfs>) -> anyhow::Result<u64> {
        let entries = (self.segments + 1) * SEGMENT / (64 << 10);
        for first in (1..=entries).step_by(32) {
            let some = (first..first + 32).map(|index| Entry::command(index, 1, vec![7; 64 << 10]));
            engine.append(TAKEN, &some.collect::<Vec<_>>())?;
        }
        let last = entries.next_multiple_of(32);
        for index in last + 1..=last + 1_000 {
            let mut batch = WriteBatch::new();
            batch.append(TAKEN, Entry::command(index, 1, vec![7; 256]));
            engine.write(batch)?.on_durable(drop);
        }
        Ok(last + 1_000)
    }
}

/// Compacts all that is large away, and gives it back.
fn compact(engine: &Engine<StallingVfs>, filled: u64) -> anyhow::Result<()> {
    let upto = filled - 1_000;
    engine.record_external_snapshot(TAKEN, LogId::new(upto, 1), Digest([1; 32]))?;
    engine.compact_prefix(TAKEN, Index(upto))?;
    Ok(engine.maintain()?)
}

type Calls = Vec<(Instant, Duration)>;

/// Calls at a pace until it is over: when each began and how long it took.
fn paced(over: &AtomicBool, mut call: impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<Calls> {
    let mut calls = Vec::new();
    for n in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        call(n)?;
        calls.push((begun, begun.elapsed()));
        thread::sleep(PACE.saturating_sub(begun.elapsed()));
    }
    Ok(calls)
}

/// A sync of data, or of the names in a directory.
#[derive(Clone, Copy, PartialEq)]
enum Sync {
    Data,
    Names,
}

/// The sync that stalls, how long, and then when it did.
#[derive(Default)]
enum Next {
    #[default]
    None,
    Stall(Sync, Duration),
    Stalled(Instant, Instant),
}

/// The real file system, of which one sync takes long.
#[derive(Clone)]
struct StallingVfs {
    inner: OsVfs,
    next: Arc<Mutex<Next>>,
}

impl StallingVfs {
    /// Lets the next such sync stall; when it began to and when it returned.
    fn stall(&self, sync: Sync, long: Duration) -> anyhow::Result<(Instant, Instant)> {
        *self.next.lock().expect("nobody panics with it") = Next::Stall(sync, long);
        let until = Instant::now() + long + Duration::from_secs(60);
        while Instant::now() < until {
            thread::sleep(PACE);
            if let Next::Stalled(began, ended) = *self.next.lock().expect("nobody panics with it") {
                return Ok((began, ended));
            }
        }
        anyhow::bail!("no such sync came in a minute")
    }

    /// Whether the sync of names that is to stall has not come yet.
    fn awaits_names(&self) -> bool {
        matches!(*self.next.lock().expect("nobody panics with it"), Next::Stall(Sync::Names, _))
    }

    fn pass(&self, sync: Sync) {
        let mut next = self.next.lock().expect("nobody panics with it");
        let Next::Stall(stalls, long) = *next else { return };
        if stalls == sync {
            *next = Next::None;
            drop(next);
            let began = Instant::now();
            thread::sleep(long);
            *self.next.lock().expect("nobody panics with it") = Next::Stalled(began, Instant::now());
        }
    }

    fn opened(&self, inner: OsFile) -> StallingFile {
        StallingFile { inner, vfs: self.clone() }
    }
}

struct StallingFile {
    inner: OsFile,
    vfs: StallingVfs,
}

impl Vfs for StallingVfs {
    type File = StallingFile;
    const PIECE: usize = OsVfs::PIECE;
    const HELD: usize = OsVfs::HELD;

    fn create_root(&self) -> io::Result<()> {
        self.inner.create_root()
    }
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.inner.create_dir(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn create(&self, path: &str) -> io::Result<StallingFile> {
        Ok(self.opened(self.inner.create(path)?))
    }
    fn open(&self, path: &str, access: Access) -> io::Result<StallingFile> {
        Ok(self.opened(self.inner.open(path, access)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.pass(Sync::Names);
        self.inner.sync_dir(dir)
    }
    fn available_space(&self) -> io::Result<u64> {
        self.inner.available_space()
    }
    fn entropy(&self) -> io::Result<[u8; 16]> {
        self.inner.entropy()
    }
}

impl File for StallingFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.inner.write_at(buf, offset)
    }
    fn write_vectored_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.inner.write_vectored_at(slices, offset)
    }
    fn begin_sync(&self, offset: u64, len: u64) {
        self.inner.begin_sync(offset, len);
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.vfs.pass(Sync::Data);
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
