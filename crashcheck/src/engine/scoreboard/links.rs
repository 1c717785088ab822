//! Links and other things in place of each file of a store, on a real file system: the simulated disk has none.
//!
//! I own what is put there, and the judgement. (U1) An open, or the read that needs the file, says so by its name.
//! (U2) Nothing outside of the store changes, comes or goes. (U3) Nothing waits for what never comes. (U4) When
//! the file is back, nothing is lost. Other directories are left as they were found: each case has its own.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use seawall::{
    CreateOptions, Driver, Engine, Entry, Error, GroupId, Index, LogId, Options, Store, Vote, highwater,
    quarantine,
};

use super::{Piece, Row};

/// What is put in place of a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    /// A symbolic link to the file itself, which was moved out of the store.
    LinkOutside,
    /// A symbolic link to another file beside it.
    LinkBeside,
    /// A symbolic link to nothing.
    LinkNowhere,
    /// The file itself, with a second name outside of the store.
    SecondName,
    /// A directory for a file, a file for a directory.
    Other,
    Pipe,
    Socket,
}

const ALL: [Instead; 7] = [
    Instead::LinkOutside,
    Instead::LinkBeside,
    Instead::LinkNowhere,
    Instead::SecondName,
    Instead::Other,
    Instead::Pipe,
    Instead::Socket,
];

const G: GroupId = GroupId(1);
const ENTRIES: u64 = 50;
/// What an open that waits is given.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn links(piece: &Piece) -> Row {
    let what =
        "each file of a store on a real disk replaced by links, a second name, a directory, a pipe, a socket";
    let mut row = Row::new("links and unusual files", what);
    let tried = (|| {
        let home = tempfile::tempdir().map_err(text)?;
        let sound = home.path().join("sound");
        make(&sound)?;
        let names = names(&sound).map_err(text)?;
        let all: Vec<_> = names.iter().flat_map(|name| ALL.map(|instead| (name.clone(), instead))).collect();
        let all: Vec<_> =
            all.into_iter().filter(|(n, i)| *i != Instead::SecondName || sound.join(n).is_file()).collect();
        let each = |number, (name, instead): (String, Instead), _: &_| {
            let place = home.path().join(format!("{number}"));
            Some(one(place, sound.clone(), name, instead))
        };
        piece.pool(&mut row, all.into_iter(), each, Row::merge);
        Ok(())
    })();
    if let Err(e) = tried {
        let e: String = e;
        row.tell(format!("the harness is broken: {e}"));
    }
    row
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

fn options() -> Options {
    Options { driver: Driver::Caller, zstd_level: None, chunk_bytes: 4096, ..Options::default() }
}

fn entry(index: u64) -> Entry {
    Entry::command(index, 1, vec![index.to_le_bytes()[0]; 2000])
}

fn snapshot() -> Vec<u8> {
    (0..1500_u32).flat_map(u32::to_le_bytes).collect()
}

/// A store with several segments, a snapshot and a place for damaged bytes, left open.
fn make(dir: &Path) -> Result<(), String> {
    Engine::create(dir, &CreateOptions { segment_bytes: 64 << 10, unit: 512, ..CreateOptions::new(1, 1) })
        .map_err(text)?;
    let (engine, _) = Engine::open(dir, options()).map_err(text)?;
    engine.create_group(G).map_err(text)?;
    engine.save_vote(G, Vote::new(1, 1, *b"vote")).map_err(text)?;
    for first in (1..ENTRIES).step_by(5) {
        engine.append(G, &(first..first + 5).map(entry).collect::<Vec<_>>()).map_err(text)?;
    }
    let mut writer = engine.snapshot_writer(G, LogId::new(10, 1), b"members").map_err(text)?;
    writer.write_all(&snapshot()).map_err(text)?;
    writer.publish().map_err(text)?;
    fs::create_dir(dir.join(quarantine::DIR)).map_err(text)
}

/// The files and directories of a store, relative to it.
fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let (entry, path) = (entry.as_ref().map(|e| e.file_name()), entry.as_ref().map(|e| e.path()));
        let (Ok(name), Ok(path)) = (entry, path) else { continue };
        let name = name.to_string_lossy().into_owned();
        if path.is_dir() {
            all.extend(names(&path)?.into_iter().map(|inner| format!("{name}/{inner}")));
        }
        all.push(name);
    }
    all.sort();
    Ok(all)
}

/// One case, in a thread of its own: one that waits for ever is left behind.
fn one(place: PathBuf, sound: PathBuf, name: String, instead: Instead) -> Row {
    let mut one = Row { cases: 1, ..Row::default() };
    let what = format!("{name}, {instead:?}");
    let (done, answer) = channel();
    std::thread::spawn(move || {
        let _quiet = crate::engine::quiet();
        // Nobody listens any more to one that took too long.
        let _ = done.send(judge(&place, &sound, &name, instead));
    });
    match answer.recv_timeout(PATIENCE) {
        Ok(Ok(())) => {}
        Ok(Err(text)) => {
            one.silent = 1;
            one.tell(format!("{what}: {text}"));
        }
        Err(RecvTimeoutError::Timeout) => {
            one.panics = 1;
            one.tell(format!("{what}: no answer within {PATIENCE:?}"));
        }
        Err(RecvTimeoutError::Disconnected) => {
            one.panics = 1;
            one.tell(format!("{what}: a panic"));
        }
    }
    one
}

fn judge(place: &Path, sound: &Path, name: &str, instead: Instead) -> Result<(), String> {
    let (store, outside) = (place.join("store"), place.join("outside"));
    for dir in [&outside, &store.join("snapshots"), &store.join(quarantine::DIR)] {
        fs::create_dir_all(dir).map_err(text)?;
    }
    for file in names(sound).map_err(text)?.iter().filter(|file| sound.join(file).is_file()) {
        fs::copy(sound.join(file), store.join(file)).map_err(text)?;
    }
    if name == quarantine::DIR {
        // Now it is needed.
        fs::write(store.join(highwater::NAME), [0; 8192]).map_err(text)?;
    }
    let (path, original) = (store.join(name), outside.join("original"));
    fs::rename(&path, &original).map_err(text)?;
    put(&path, &original, instead)?;
    let before = tree(&outside)?;
    written(&store, name)?;
    if name != quarantine::DIR {
        looked_at(&store, name)?;
    }
    let after = tree(&outside)?;
    if after != before {
        return Err(format!("outside of the store {before:?} became {after:?}"));
    }
    let gone =
        if path.is_dir() && !path.is_symlink() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
    gone.and_then(|()| fs::rename(&original, &path)).map_err(text)?;
    whole(&store)?;
    fs::remove_dir_all(place).map_err(text)
}

fn put(path: &Path, original: &Path, instead: Instead) -> Result<(), String> {
    let beside = || {
        let others = fs::read_dir(path.parent().expect("it is in the store")).map_err(text)?;
        let mut others: Vec<_> =
            others.map(|other| other.map(|o| o.file_name())).collect::<Result<_, _>>().map_err(text)?;
        others.sort();
        others.first().cloned().ok_or_else(|| "there is no other file".to_owned())
    };
    match instead {
        Instead::LinkOutside => symlink(original, path),
        Instead::LinkBeside => symlink(beside()?, path),
        Instead::LinkNowhere => symlink(original.with_file_name("absent"), path),
        Instead::SecondName => fs::hard_link(original, path),
        Instead::Other if original.is_dir() => fs::write(path, b"no directory"),
        Instead::Other => fs::create_dir(path),
        Instead::Pipe => mkfifo(path, Mode::S_IRWXU).map_err(Into::into),
        Instead::Socket => {
            // The path of a socket is short.
            let made = original.with_file_name("socket");
            UnixListener::bind(&made).and_then(|_| fs::rename(&made, path))
        }
    }
    .map_err(text)
}

/// Names, kinds, times of change and bytes of all that is in a directory.
fn tree(dir: &Path) -> Result<String, String> {
    let mut all = String::new();
    for name in names(dir).map_err(text)? {
        let path = dir.join(&name);
        let meta = path.symlink_metadata().map_err(text)?;
        let bytes = if meta.is_file() { fs::read(&path).map_err(text)? } else { Vec::new() };
        let sum = seawall::checksum::crc(0, &bytes);
        let when = (meta.mtime(), meta.mtime_nsec());
        let _ = write!(all, "{name} {:o} {} {when:?} {sum:x}; ", meta.mode(), bytes.len());
    }
    Ok(all)
}

/// Whether an error names the file. What it says first is kept: later ones are of the poisoned handle.
fn said(name: &str, error: &impl ToString) -> Result<(), String> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let error = error.to_string();
    if error.contains(last) { Ok(()) } else { Err(format!("what it says does not name the file: {error}")) }
}

/// Whether an open that refuses says that this file is no file of the store's.
fn refused(name: &str, error: &Error) -> Result<(), String> {
    match error {
        Error::Unusual { .. } | Error::Snapshot { .. } => said(name, error),
        other => Err(format!("refused, and not for what stands there: {other}")),
    }
}

/// An open for writing, and whatever needs each file of the store.
fn written(store: &Path, name: &str) -> Result<(), String> {
    let engine = match Engine::open(store, options()) {
        Err(e) => return refused(name, &e),
        Ok((engine, _)) => engine,
    };
    let mut bytes = Vec::new();
    let entries = engine.read(G, Index(1)..Index(ENTRIES + 1), u64::MAX);
    let read = engine.snapshot_reader(G).map(|mut reader| reader.read_to_end(&mut bytes));
    let appended = (ENTRIES + 1..ENTRIES + 60).find_map(|index| engine.append(G, &[entry(index)]).err());
    let closed = engine.close();
    match (entries, read, appended, closed) {
        (Err(e), ..) | (_, Err(e), ..) | (_, _, Some(e), _) | (.., Err(e)) => said(name, &e),
        (_, Ok(Err(e)), ..) => said(name, &e),
        _ => Err("silent: all was read and written as if nothing were".into()),
    }
}

fn looked_at(store: &Path, name: &str) -> Result<(), String> {
    let looked = match Store::open_read_only(store) {
        Err(e) => return refused(name, &e),
        Ok((store, report)) => store.verify().map(|verified| (report, verified)),
    };
    match looked {
        Err(e) => said(name, &e),
        Ok((report, verified)) if verified.damage.is_empty() => Err(format!("silent to who looks: {report}")),
        Ok((_, verified)) => said(name, &format!("{:?}", verified.damage)),
    }
}

/// All that was acknowledged.
fn whole(store: &Path) -> Result<(), String> {
    let (engine, report) = Engine::open(store, options()).map_err(|e| format!("put back, and: {e}"))?;
    if !report.lost.is_empty() {
        return Err(format!("put back, and: {report}"));
    }
    let entries = engine.read(G, Index(1)..Index(ENTRIES + 1), u64::MAX).map_err(text)?;
    if !entries.into_iter().eq((1..=ENTRIES).map(entry)) {
        return Err("put back, and entries differ".into());
    }
    let vote = engine.group(G).map_err(text)?.vote;
    if vote != Some(Vote::new(1, 1, *b"vote")) {
        return Err(format!("put back, and the vote is {vote:?}"));
    }
    let mut bytes = Vec::new();
    engine.snapshot_reader(G).map_err(text)?.read_to_end(&mut bytes).map_err(text)?;
    if bytes != snapshot() {
        return Err("put back, and the snapshot differs".into());
    }
    engine.close().map_err(text)
}
