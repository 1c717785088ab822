//! The file-system seam: every byte that the engine reads or writes passes here.
//!
//! I own the list of calls and, for each, what a crash may undo. I know nothing of logs. A path is
//! relative to the store's directory, with `/` between parts; the store's directory itself is `""`.
//! The two implementations are [`os`] (the only user of `std::fs` and of `unsafe`) and [`mem`]
//! (volatile and durable state apart, every operation recorded, errors injected on request).
//!
//! Sources: fsync(2), rename(2), open(2); Rebello et al., "Can Applications Recover from fsync
//! Failures?", USENIX ATC 2020, for what a failed sync leaves behind.

use std::fmt;
use std::io::{self, IoSlice};

use smallvec::SmallVec;

pub mod mem;
pub mod os;

use crate::planted::Bug;

/// What stands where a store has a regular file with one name, or a directory. Carried by an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusual(pub &'static str);

impl Unusual {
    /// The error of a call, where the system has a kind of its own for it.
    #[must_use]
    pub fn of_kind(self, kind: io::ErrorKind) -> io::Error {
        io::Error::new(kind, self)
    }
}

impl fmt::Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is {}", self.0)
    }
}

impl std::error::Error for Unusual {}

impl From<Unusual> for io::Error {
    fn from(unusual: Unusual) -> Self {
        unusual.of_kind(io::ErrorKind::InvalidData)
    }
}

/// A call that found no file descriptor free, and did nothing. Carried by an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfDescriptors(&'static str);

/// The kernel's numbers, the same on Linux and macOS.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

impl OutOfDescriptors {
    /// The error of a call that opens or makes a file or lists a directory, and that did nothing if it found no
    /// descriptor. Of other calls a number says nothing: they may have done half.
    #[must_use]
    pub fn of_opening(error: io::Error) -> io::Error {
        let limit = match error.raw_os_error() {
            Some(EMFILE) => "this process has as many files open as `ulimit -n` (RLIMIT_NOFILE) allows",
            Some(ENFILE) => "the system has as many files open as the sysctl fs.file-max allows",
            _ => return error,
        };
        io::Error::other(Self(limit))
    }

    /// What an error carries, itself or in what it wraps.
    #[must_use]
    pub fn carried(error: &io::Error) -> Option<Self> {
        let mut inner = error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
        while let Some(error) = inner {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(*found);
            }
            inner = match error.downcast_ref::<io::Error>() {
                Some(wrapped) => wrapped.get_ref().map(|inner| inner as _),
                None => error.source(),
            };
        }
        None
    }

    /// Which limit was reached, in words for an operator.
    #[must_use]
    pub fn limit(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for OutOfDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for OutOfDescriptors {}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only; works on a read-only mount.
    Read,
    /// As `Read`, of a file that was open before, or written: it may have got a second name since.
    Again,
    /// Reads and writes.
    ReadWrite,
}

/// A directory tree that holds one store. What opens or makes a file or lists a directory says that no descriptor was
/// free by [`OutOfDescriptors`], and has then done nothing.
pub trait Vfs: Clone + Send + Sync + 'static {
    /// An open file description.
    type File: File;

    /// Bytes that are worth a call of their own: a larger frame is written in pieces of so many, each on
    /// its way to the disk while the next is written.
    const PIECE: usize;

    /// Descriptions of segments that are written no more and may be read again, that are open at once.
    const HELD: usize;

    /// Creates the store's directory if it is not there, and makes its name durable.
    fn create_root(&self) -> io::Result<()>;

    /// Creates a subdirectory; `AlreadyExists` if there is one. A crash may undo it until the
    /// parent is synced.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// The names of the entries of a directory, sorted. `NotFound` if there is no such directory.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Creates an empty file that must not exist. A crash may undo the name until its directory is
    /// synced, whatever was synced of the file.
    fn create(&self, path: &str) -> io::Result<Self::File>;

    /// Opens an existing regular file with one name, but for [`Access::Again`], as a *new open file description*: the kernel reports a writeback
    /// error once for each description that was open before the write.
    fn open(&self, path: &str, access: Access) -> io::Result<Self::File>;

    /// Renames a file within the store, replacing `to`. Atomic; a crash may undo it until the
    /// directories of both names are synced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. A crash may undo it until its directory is synced.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a directory durable. After an error they are in doubt for good.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Bytes that an unprivileged writer may still take.
    fn available_space(&self) -> io::Result<u64>;

    /// What this file system cannot promise whatever is synced, in words for an operator.
    fn caveat(&self) -> io::Result<Option<&'static str>> {
        Ok(None)
    }

    /// Sixteen bytes that no other store has. Called by `create` only.
    fn entropy(&self) -> io::Result<[u8; 16]>;

    /// Whether a planted bug is switched on. Only the checker's own wrapper says yes; everywhere
    /// else this is a constant `false` that the compiler removes.
    #[doc(hidden)]
    #[inline(always)]
    #[must_use]
    fn planted(_bug: Bug) -> bool {
        false
    }
}

/// An open file description.
pub trait File: Send + Sync + 'static {
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads up to `buf.len()` bytes; fewer is not an error, zero is the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes up to `buf.len()` bytes; fewer is not an error. A crash may keep any of the
    /// alignment units that were written since the last sync, in any order, each old, new or torn.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// As [`File::write_at`] of these slices after one another (pwritev(2)); a system without such a call
    /// writes the first that is not empty.
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.write_at(slices.iter().find(|slice| !slice.is_empty()).map_or(&[], |slice| slice), offset)
    }

    /// Begins to move what was written in a range towards the disk, so that a sync finds less to do. A
    /// hint: it promises nothing, reports nothing, and hides no error from a later sync.
    fn begin_sync(&self, _offset: u64, _len: u64) {}

    /// Sets the length. A crash may undo it until [`File::sync_all`] returns.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the file's data durable, and a length that grew (fdatasync). After an error each
    /// covered write may or may not be durable, and a later success says nothing about it.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the file's data and all attributes durable (fsync). Errors as for `sync_data`.
    fn sync_all(&self) -> io::Result<()>;

    /// Takes the exclusive lock of the file's inode, or says `false` at once. Given back when the
    /// description closes; not inherited through exec.
    fn try_lock(&self) -> io::Result<bool>;

    /// Whether the file has another name besides, through which others see what is written.
    fn is_shared(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Whether there is a place in the file that takes no room on the disk, so that a write may find none (lseek(2),
    /// `SEEK_HOLE`); `false` where the system does not say.
    fn has_hole(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Whether `path` still names this file's inode.
    fn is_named(&self, path: &str) -> io::Result<bool>;
}

/// Reads exactly `buf.len()` bytes; goes on after `EINTR` and short counts; `UnexpectedEof` if the
/// file is shorter.
pub fn read_exact_at(file: &impl File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.read_at(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                offset += n as u64;
                buf = &mut buf[n..];
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Writes all of `buf` at `offset`; goes on at the same offsets after `EINTR` and short counts.
pub fn write_all_at<V: Vfs>(file: &V::File, buf: &[u8], offset: u64) -> io::Result<()> {
    write_slices_at::<V>(file, &mut [IoSlice::new(buf)], offset)
}

/// As [`write_all_at`], of these slices after one another, which are used up.
pub fn write_slices_at<V: Vfs>(
    file: &V::File,
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    // Leaves out empty ones at the front.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let written = match slices {
            [slice] => file.write_at(slice, offset),
            _ => file.write_vectored_at(slices, offset),
        };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) if V::planted(Bug::ShortWriteIgnored) => return Ok(()),
            Ok(n) => {
                offset += n as u64;
                IoSlice::advance_slices(&mut slices, n);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                if V::planted(Bug::OffsetLostAfterInterrupt) {
                    offset += slices.iter().map(|slice| slice.len() as u64).sum::<u64>();
                }
            }
            Err(_) if V::planted(Bug::WriteErrorIgnored) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// So many bytes are on their way to the disk while more are written, or taken into state and index; for
/// fewer the call costs more than it saves.
const WORTH_A_HINT: usize = 32 << 10;

/// Writes parts after one another, a piece of them with each call, and begins to sync what was written.
pub fn write_parts_at<'p, V: Vfs>(
    file: &V::File,
    parts: impl IntoIterator<Item = &'p [u8]>,
    mut offset: u64,
) -> io::Result<()> {
    let mut parts = parts.into_iter();
    let mut piece = SmallVec::<[IoSlice<'_>; 1]>::new();
    loop {
        let mut len = 0;
        while len < V::PIECE
            && let Some(part) = parts.next()
        {
            len += part.len();
            piece.push(IoSlice::new(part));
        }
        if len == 0 {
            return Ok(());
        }
        write_slices_at::<V>(file, &mut piece, offset)?;
        if len >= WORTH_A_HINT {
            file.begin_sync(offset, len as u64);
        }
        if V::planted(Bug::FirstPieceOnly) {
            return Ok(());
        }
        offset += len as u64;
        piece.clear();
    }
}
