//! Errors that a simulated disk gives on request.
//!
//! I own the words for a call and for what may go wrong with it. When to inject what is the
//! business of whoever sets the faults.
//!
//! Source of the four behaviours of a failed sync: Rebello et al., "Can Applications Recover from
//! fsync Failures?", USENIX ATC 2020.

use std::sync::Arc;

use super::trace::Ino;

/// The calls of the seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallKind {
    /// `Vfs::create_root`.
    CreateRoot,
    /// `Vfs::create_dir`.
    CreateDir,
    /// `Vfs::list`.
    List,
    /// `Vfs::create`.
    Create,
    /// `Vfs::open`.
    Open,
    /// `Vfs::rename`.
    Rename,
    /// `Vfs::remove`.
    Remove,
    /// `Vfs::sync_dir`.
    SyncDir,
    /// `Vfs::available_space`.
    AvailableSpace,
    /// `Vfs::entropy`.
    Entropy,
    /// `File::len`.
    Len,
    /// `File::read_at`.
    Read,
    /// `File::write_at`.
    Write,
    /// `File::set_len`.
    SetLen,
    /// `File::sync_data`.
    SyncData,
    /// `File::sync_all`.
    SyncAll,
    /// `File::try_lock`.
    TryLock,
    /// `File::is_named`.
    IsNamed,
}

/// A call that is about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Counts every call since the faults were set, from 0.
    pub number: u64,
    /// Which call.
    pub kind: CallKind,
    /// The path given (the old one of a rename), or the name that the file has now; `""` if none.
    pub path: String,
    /// The file, for a call on an open file.
    pub ino: Option<Ino>,
    /// Where a read or write begins; the new length of `SetLen`.
    pub offset: u64,
    /// How many bytes a read or write asks for.
    pub bytes: usize,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The call changes nothing and returns this error number. On a sync it loses nothing either:
    /// what was unsynced stays so.
    Errno(i32),
    /// A write takes at most this many bytes.
    ShortWrite(usize),
    /// A read gives at most this many bytes.
    ShortRead(usize),
    /// A sync fails as file systems do.
    FailSync(SyncFailure),
}

/// What a failed sync leaves behind. What it covered stays in doubt until it is written again,
/// whatever a later sync says. The error is EIO, once for each description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SyncFailure {
    /// The new bytes stay in the cache, clean, and are not on disk (ext4 ordered, xfs).
    KeptClean,
    /// The cache goes back to the bytes and length on disk (btrfs). Names are kept as they are.
    Reverted,
    /// Success now, with nothing on disk, and the error at the next sync (ext4 data=journal).
    Late,
    /// Every second page or name reaches the disk, the first does not; the rest as `KeptClean`.
    Partial,
}

impl SyncFailure {
    /// All four.
    pub const ALL: [Self; 4] = [Self::KeptClean, Self::Reverted, Self::Late, Self::Partial];
}

/// Decides for each call whether it fails. Runs outside the disk's lock.
pub type Faults = Arc<dyn Fn(&Call) -> Option<Fault> + Send + Sync>;
