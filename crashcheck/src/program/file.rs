//! Recordings as files.
//!
//! I own the format: eight bytes of magic, a version of 4 bytes, the BLAKE3 hash of the rest (32 bytes), a seal
//! (32 bytes: the hash again, keyed with the user's key, or zeros), then one zstd frame with the recording in
//! postcard's encoding. Little-endian. A reader knows one version: a file of another one is refused as such, a file
//! whose hash does not fit as damaged, any other file as no recording. A file is written beside its name and
//! renamed over it once it is synced. What cannot have been recorded is neither believed nor written.
//! (F1) A file unpacks to at most 4 MiB, and so many bytes for each of its own; its writer fills up one that would
//! unpack to more with a zstd frame that says nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::image::{Content, Image};
use crate::core::sound;
use crate::core::trace::{Ino, Step, Trace};
use crate::program::place::{self, Key};
use crate::program::recording::{Frame, Gap, Meta, Module, Note, Origin, Recording, Task};

const MAGIC: [u8; 8] = *b"ccTRACE\n";
const VERSION: u32 = 3;
const VERSION_AT: Range<usize> = MAGIC.len()..MAGIC.len() + 4;
const HASH_AT: Range<usize> = VERSION_AT.end..VERSION_AT.end + 32;
const SEAL_AT: Range<usize> = HASH_AT.end..HASH_AT.end + 32;
/// The compression that costs little time.
const LEVEL: i32 = 3;
/// The most bytes that one byte of a file may unpack to, beyond the first few MiB.
const UNPACKS: usize = 64;
const FREE: usize = 4 << 20;
/// What a zstd frame that says nothing begins with, before the four bytes of its length.
const SILENT: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();
/// The most that a file may unpack to.
const MOST: usize = 8 << 30;

/// Why a file is not a recording that can be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It does not begin as one.
    #[error("{path} is not a crashcheck recording")]
    NotOne {
        /// The file.
        path: String,
    },
    /// A newer program wrote it.
    #[error(
        "{path} is a recording of format {version}; this program reads format {VERSION}: use a newer one"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        version: u32,
    },
    /// An older program wrote it.
    #[error(
        "{path} is a recording of format {version}, which this program does not read any more: record it again"
    )]
    Older {
        /// The file.
        path: String,
        /// Its version.
        version: u32,
    },
    /// What was recorded is more than a recording may hold, or contradicts itself.
    #[error("{path}: this cannot be kept as a recording: {what}")]
    Unsound {
        /// The file.
        path: String,
        /// What does not hold.
        what: String,
    },
    /// Its bytes are not those that were written.
    #[error("{path} is damaged: {what}; record it again")]
    Damaged {
        /// The file.
        path: String,
        /// What does not hold.
        what: String,
    },
}

/// A recording's parts, as stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    dirs: Vec<String>,
    names: BTreeMap<String, Ino>,
    files: BTreeMap<Ino, Arc<[u8]>>,
    links: BTreeMap<String, String>,
    steps: Vec<Step>,
    metas: Vec<Meta>,
    notes: Vec<Note>,
    calls: Vec<String>,
    tasks: Vec<Task>,
    sites: Vec<Vec<Frame>>,
    modules: Vec<Module>,
    modes: BTreeMap<Ino, u32>,
    gaps: Vec<Gap>,
    origin: Origin,
}

/// The bytes of a recording's file.
///
/// # Panics
/// If memory runs out.
#[must_use]
pub fn encode(recording: &Recording) -> Vec<u8> {
    let bytes = postcard::to_allocvec(&Stored::from(recording)).expect("a recording has an encoding");
    let mut packed = zstd::bulk::compress(&bytes, LEVEL).expect("memory is compressed into memory");
    let mut out = MAGIC.to_vec();
    let need = bytes.len().saturating_sub(FREE).div_ceil(UNPACKS);
    if let Some(more @ 1..) = need.checked_sub(packed.len()) {
        packed.extend_from_slice(&SILENT);
        packed.extend_from_slice(&u32::try_from(more).expect("a part of 8 GiB").to_le_bytes());
        packed.resize(packed.len() + more, 0);
    }
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(blake3::hash(&packed).as_bytes());
    out.extend_from_slice(&[0; 32]);
    out.extend_from_slice(&packed);
    out
}

/// What only who has the key can say of a file's hash.
fn seal(key: &Key, hash: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(key, hash).as_bytes()
}

/// The recording of a file's bytes; `path` is for messages.
///
/// # Errors
/// If it is not one, a newer one, or damaged.
pub fn decode(bytes: &[u8], path: &Path) -> Result<Recording, FileError> {
    let path = || path.display().to_string();
    let damaged = |what: &str| FileError::Damaged { path: path(), what: what.to_owned() };
    if bytes.get(..MAGIC.len()) != Some(&MAGIC) {
        return Err(FileError::NotOne { path: path() });
    }
    let version = bytes.get(VERSION_AT).ok_or_else(|| damaged("it ends in its header"))?;
    let version = u32::from_le_bytes(version.try_into().expect("four bytes"));
    if version > VERSION {
        return Err(FileError::Newer { path: path(), version });
    }
    let hash = bytes.get(HASH_AT).ok_or_else(|| damaged("it ends in its header"))?;
    let packed = bytes.get(SEAL_AT.end..).ok_or_else(|| damaged("it ends in its header"));
    if version < VERSION {
        return Err(FileError::Older { path: path(), version });
    }
    let packed = packed?;
    if blake3::hash(packed).as_bytes() != hash {
        return Err(damaged("its checksum does not fit"));
    }
    let most = MOST.min(packed.len().saturating_mul(UNPACKS).saturating_add(FREE));
    let bytes = zstd::bulk::Decompressor::upper_bound(packed).filter(|bound| *bound <= most);
    let bytes = bytes.ok_or_else(|| damaged("it would unpack to too much"))?;
    let bytes = zstd::bulk::decompress(packed, bytes).map_err(|e| damaged(&e.to_string()))?;
    let stored: Stored = postcard::from_bytes(&bytes).map_err(|e| damaged(&e.to_string()))?;
    let recording = Recording::from(stored);
    check(&recording).map_err(|what| damaged(&what))?;
    Ok(recording)
}

/// What does not hold of a recording that a file may hold.
fn check(recording: &Recording) -> Result<(), String> {
    sound::check(&recording.trace, recording.notes.len())?;
    if recording.metas.len() != recording.trace.steps.len() {
        return Err("its parts do not belong together".to_owned());
    }
    Ok(())
}

/// Reads a recording.
///
/// # Errors
/// If there is none, or it cannot be used.
pub fn read(path: &Path) -> Result<Recording, FileError> {
    let bytes =
        fs::read(path).map_err(|source| FileError::Io { path: path.display().to_string(), source })?;
    let mut recording = decode(&bytes, path)?;
    recording.origin.here =
        place::key(false).is_some_and(|key| bytes[SEAL_AT] == seal(&key, &bytes[HASH_AT]));
    Ok(recording)
}

/// Writes a recording, over an older one, with this user's seal if it was made here.
///
/// # Errors
/// If it cannot be written.
pub fn write(recording: &Recording, path: &Path) -> Result<u64, FileError> {
    let bytes = sealed(recording, path)?;
    place::write_whole(path, &bytes)
        .map_err(|source| FileError::Io { path: path.display().to_string(), source })?;
    Ok(bytes.len() as u64)
}

fn sealed(recording: &Recording, path: &Path) -> Result<Vec<u8>, FileError> {
    check(recording).map_err(|what| FileError::Unsound { path: path.display().to_string(), what })?;
    let mut bytes = encode(recording);
    if let Some(key) = place::key(true).filter(|_| recording.origin.here) {
        let seal = seal(&key, &bytes[HASH_AT]);
        bytes[SEAL_AT].copy_from_slice(&seal);
    }
    Ok(bytes)
}

/// A recording in memory that is gone with this process: what it starts reads it while it lives.
///
/// # Errors
/// If there is no memory.
pub fn held(recording: &Recording) -> anyhow::Result<place::Held> {
    place::Held::new(&sealed(recording, Path::new("a recording in memory"))?)
}

impl From<&Recording> for Stored {
    fn from(recording: &Recording) -> Self {
        let Recording { trace, metas, notes, calls, tasks, sites, modules, modes, gaps, origin } = recording;
        let bytes = |path: &String| Arc::from(trace.initial.files[path].bytes());
        Self {
            dirs: trace.initial.dirs.iter().cloned().collect(),
            names: trace.inos.clone(),
            files: trace.inos.iter().map(|(path, ino)| (*ino, bytes(path))).collect(),
            links: trace.initial.links.clone(),
            steps: trace.steps.clone(),
            metas: metas.clone(),
            notes: notes.clone(),
            calls: calls.clone(),
            tasks: tasks.clone(),
            sites: sites.clone(),
            modules: modules.clone(),
            modes: modes.clone(),
            gaps: gaps.clone(),
            origin: origin.clone(),
        }
    }
}

impl From<Stored> for Recording {
    fn from(stored: Stored) -> Self {
        let contents: BTreeMap<Ino, Content> =
            stored.files.iter().map(|(ino, bytes)| (*ino, Content::of(bytes))).collect();
        let content = |ino: &Ino| contents.get(ino).cloned().unwrap_or_default();
        let initial = Image {
            dirs: stored.dirs.into_iter().collect(),
            files: stored.names.iter().map(|(path, ino)| (path.clone(), content(ino))).collect(),
            links: stored.links,
        };
        Self {
            trace: Trace { initial, inos: stored.names, steps: stored.steps },
            metas: stored.metas,
            notes: stored.notes,
            calls: stored.calls,
            tasks: stored.tasks,
            sites: stored.sites,
            modules: stored.modules,
            // A state that is laid out gives nobody another's rights.
            modes: stored.modes.into_iter().map(|(ino, mode)| (ino, mode & 0o777)).collect(),
            gaps: stored.gaps,
            origin: stored.origin,
        }
    }
}
