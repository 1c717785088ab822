//! The files of owned snapshots: content-addressed chunks and one manifest for each snapshot.
//!
//! I own the directory `snapshots/`: its names, and the faults that a reader of it may meet. The
//! layout of the two files is in [`mod@format`], writing in [`builder`], reading in [`reader`], who still
//! needs which file in [`usage`], and removal in [`collect`].
//!
//! (N1) A pointer record may be written only after [`builder::SnapshotBuilder::finish`] returned:
//! then every chunk, the manifest and their names are durable. (N2) A file is trusted only if a
//! durable pointer covers it or a builder of this process synced it; anything else with the same
//! name is a left-over and is written anew. (N3) A file that a pointer names or may name is never
//! removed, and is only replaced by a rename of a synced file of the same content.
//!
//! I do not know the log, nor whether a pointer became durable: the engine tells [`usage::ChunkUse`].

mod ahead;
pub mod builder;
pub mod collect;
pub mod format;
pub mod reader;
pub mod usage;
mod writer;

#[cfg(test)]
mod tests;

use std::io;

use serde::Serialize;

use crate::types::{Digest, GroupId, Identity, Incarnation, LogId};

/// The directory, relative to the store's. `create` makes it and syncs its name.
pub const DIR: &str = "snapshots";

/// What is added to the name of a file that replaces another, until it is synced and renamed.
const PART: &str = ".part";

/// What a snapshot is of, as its manifest says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// The store that keeps it.
    pub store: [u8; 16],
    /// The store's cluster.
    pub cluster: u64,
    /// The store's node.
    pub node: u64,
    /// The group.
    pub group: GroupId,
    /// Which group of that id.
    pub incarnation: Incarnation,
    /// The last entry that the snapshot covers.
    pub id: LogId,
    /// The membership at that entry: the host's bytes, unread.
    pub membership: Vec<u8>,
}

impl SnapshotSpec {
    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { cluster: self.cluster, node: self.node, store: self.store }
    }
}

/// What is wrong with one file of a snapshot. The file's name is relative to the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SnapshotFault {
    /// There is no such file.
    #[error("{file} is missing")]
    Missing {
        /// The file.
        file: String,
    },
    /// The magic is not one of ours.
    #[error("{file} is not a snapshot file of this engine: unknown magic")]
    NotOurs {
        /// The file.
        file: String,
    },
    /// A newer program wrote it.
    #[error("{file} has format version {version}, and this program reads up to {supported}")]
    Unsupported {
        /// The file.
        file: String,
        /// Its version.
        version: u32,
        /// The newest version that this program reads.
        supported: u32,
    },
    /// The bytes are sound, but of another store or of another place.
    #[error("{file} does not belong here: {reason}")]
    Foreign {
        /// The file.
        file: String,
        /// What differs.
        reason: &'static str,
    },
    /// The bytes are not those that were written.
    #[error("{file} is corrupt: {reason}")]
    Corrupt {
        /// The file.
        file: String,
        /// The first check that failed.
        reason: &'static str,
    },
    /// The file system would not give the bytes.
    #[error("{file} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// The error's kind.
        #[serde(serialize_with = "kind_name")]
        kind: io::ErrorKind,
        /// The error's text.
        reason: String,
    },
}

impl SnapshotFault {
    /// The file, relative to the store.
    #[must_use]
    pub fn file(&self) -> &str {
        match self {
            Self::Missing { file }
            | Self::NotOurs { file }
            | Self::Unsupported { file, .. }
            | Self::Foreign { file, .. }
            | Self::Corrupt { file, .. }
            | Self::Unreadable { file, .. } => file,
        }
    }

    /// What to do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "mend that, then try again",
            _ => "fetch the snapshot from a peer",
        }
    }

    /// The fault of a read that failed with `error`.
    fn unreadable(file: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { file: file.to_owned() },
            kind => Self::Unreadable { file: file.to_owned(), kind, reason: error.to_string() },
        }
    }
}

impl From<SnapshotFault> for io::Error {
    fn from(fault: SnapshotFault) -> Self {
        let kind = match &fault {
            SnapshotFault::Missing { .. } => io::ErrorKind::NotFound,
            SnapshotFault::Unsupported { .. } => io::ErrorKind::Unsupported,
            SnapshotFault::Unreadable { kind, .. } => not_retried(*kind),
            SnapshotFault::NotOurs { .. } | SnapshotFault::Foreign { .. } | SnapshotFault::Corrupt { .. } => {
                io::ErrorKind::InvalidData
            }
        };
        io::Error::new(kind, fault)
    }
}

fn kind_name<S: serde::Serializer>(kind: &io::ErrorKind, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(kind)
}

/// An error of writing, syncing or removing, with the file's name; the `io::Error` around it has the
/// kind of the first, so that a full disk is still `StorageFull`.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {source}")]
pub struct SnapshotIo {
    /// The file, relative to the store.
    pub file: String,
    /// What the file system said.
    pub source: io::Error,
}

impl SnapshotIo {
    fn named(file: &str, source: io::Error) -> io::Error {
        io::Error::new(not_retried(source.kind()), Self { file: file.to_owned(), source })
    }
}

/// `Interrupted` invites `write_all` and `read_to_end` to call again; a failed sync must not be.
fn not_retried(kind: io::ErrorKind) -> io::ErrorKind {
    if kind == io::ErrorKind::Interrupted { io::ErrorKind::Other } else { kind }
}

/// The name of one of our files. Manifests sort first, and so are removed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FileName {
    /// By the hash of the file's bytes.
    Manifest(Digest),
    /// By the hash of the raw bytes.
    Chunk(Digest),
}

impl FileName {
    fn path(self) -> String {
        match self {
            Self::Manifest(digest) => format!("{DIR}/{digest}.manifest"),
            Self::Chunk(hash) => format!("{DIR}/{hash}.chunk"),
        }
    }

    /// Where a replacement of the file is written.
    fn part_path(self) -> String {
        self.path() + PART
    }

    /// Reads a name as `list` gives it; `None` if we never give such a name.
    fn parse(name: &str) -> Option<Self> {
        let (stem, kind) = name.split_once('.')?;
        let hash = Digest::parse(stem)?;
        match kind {
            "manifest" => Some(Self::Manifest(hash)),
            "chunk" => Some(Self::Chunk(hash)),
            _ => None,
        }
    }
}

/// The BLAKE3 hash of some bytes.
pub(crate) fn hash_of(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}
