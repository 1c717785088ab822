//! What order a file system keeps between what was not synced.
//!
//! I own the profiles. A profile only *adds* order to `posix-strict`: each of its crash states is one of
//! `posix-strict` as well. I do not know micro-operations; `micro` asks me and draws the edges.
//!
//! What a sync makes durable is the same in all: `sync_data` the file's data and a length that grew,
//! `sync_all` any length too, `sync_dir` the names in that directory; with each of them all that must
//! not be lost before it. A failed sync makes nothing durable and leaves what it covered in doubt for
//! good: only a later write of the same page, a later length of the same file or a later use of the
//! same name, durable by a sync of its own, settles it.
//!
//! What a document promises and what a kernel does are two things. `crashcheck calibrate` does small
//! programs on the real file systems, mounts what crashes leave, and fails if one of the outcomes is not
//! among those that the profile has. Where it found a documented order broken (Linux 6.18), the order is
//! not in the profile, and the variant below says so.
//!
//! The persistence properties that tell file systems apart are those of T. S. Pillai et al., "All File
//! Systems Are Not Created Equal" (OSDI 2014), table 1; to state them as litmus programs and to hold a model
//! against what is seen is the method of J. Bornholt et al., "Specifying and Checking File System
//! Crash-Consistency Models" (ASPLOS 2016).

use serde::Serialize;

/// The order that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Anything since the last covering sync may be lost or reordered: data, sizes, names, renames.
    /// Kept in order are only the writes of one page (the later one holds the earlier), the lengths of
    /// one file, the uses of one name, and a name after the directory that it is in. A rename within a
    /// directory is one step; a file that is renamed to another directory may be in both for a while, but
    /// never in none.
    ///
    /// POSIX.1-2024, fsync: without it nothing is promised. That a file can be in both directories was
    /// seen on btrfs, when the new directory is synced and the old one is not.
    PosixStrict,
    /// ext4 in its default mode, `data=ordered` with `auto_da_alloc`, in addition:
    ///
    /// - changes of names, and lengths that were set (ftruncate, fallocate), are journalled: a crash keeps a
    ///   prefix of them in the order in which they were done;
    /// - a growth by a write is written back when the data is ("delayed allocation"), so it comes after the
    ///   names before it and waits for no later one;
    /// - a rename over an existing file is kept only with the data and the length of the file renamed ("the
    ///   data blocks of the new file are forced to disk before the `rename()` operation is committed").
    ///
    /// Sources: the kernel's Documentation/admin-guide/ext4.rst, `data=ordered`, `delalloc` and
    /// `auto_da_alloc`; Documentation/filesystems/ext4/journal.rst. Not in the profile, because calibration
    /// saw it broken: that a length that grew is kept only with its data. A tail within a block that is
    /// allocated, and blocks allocated as unwritten extents (`dioread_nolock`, the default), grow with zeros.
    /// What is said of replace-by-truncate takes hold when the file is closed, which a trace does not show,
    /// and is left out: a state more, never one less. Data written over data is not ordered at all.
    Ext4,
    /// ext4 with `noauto_da_alloc`: as [`Profile::Ext4`], but a rename over a file is a name like any other,
    /// so that the file renamed may be empty. Source: as above.
    #[serde(rename = "ext4-noauto_da_alloc")]
    Ext4NoAutoDaAlloc,
    /// ext4 with `data=writeback`: "data ordering is not preserved, data may be written into the main file
    /// system after its metadata has been committed to the journal"; names and lengths that were set keep
    /// their order. Source: as above. That a growth can show stale bytes of the disk where blocks are
    /// allocated as written extents (`dioread_lock`) is not in the profile: such bytes have no name in a trace.
    Ext4Writeback,
    /// XFS, in addition to `posix-strict`:
    ///
    /// - changes of names, and lengths that were set, are logged in order;
    /// - a growth by a write is logged when its own data is on the disk, whatever became of data before it
    ///   in the file: it never shows zeros or stale bytes in its own place.
    ///
    /// A rename over a file waits for nothing: the file renamed may be empty. Sources: the kernel's
    /// Documentation/filesystems/xfs/xfs-delayed-logging-design.rst (the order of the log); the comments on
    /// `XFS_ITRUNCATED` and on the size in the end of an I/O, fs/xfs/xfs_inode.c, xfs_iops.c and xfs_aops.c.
    Xfs,
    /// Btrfs, in addition to `posix-strict`: nothing. A sync writes a log of the one file or directory that it
    /// is of, which overtakes whatever waits for the next commit, and a length may come before data in the
    /// middle of the file. Source: btrfs(5), `flushoncommit` and `notreelog`. That data written over data is
    /// never torn within a block is not used: the tear unit says that.
    Btrfs,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::PosixStrict, Self::Ext4, Self::Ext4NoAutoDaAlloc, Self::Ext4Writeback, Self::Xfs, Self::Btrfs];

    /// The name, as on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PosixStrict => "posix-strict",
            Self::Ext4 => "ext4",
            Self::Ext4NoAutoDaAlloc => "ext4-noauto_da_alloc",
            Self::Ext4Writeback => "ext4-writeback",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// If there is no such profile: which there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|profile| profile.name() == name);
        found.ok_or_else(|| format!("the profiles are {}", Self::ALL.map(Self::name).join(", ")))
    }

    /// Whether changes of names, and lengths that were set, are kept in the order in which they were done,
    /// and a growth by a write only with those done before it.
    pub(crate) fn journals_metadata(self) -> bool {
        !matches!(self, Self::PosixStrict | Self::Btrfs)
    }

    /// Whether a growth by a write is kept only with the data of that write, whatever became of an earlier
    /// growth of the same file.
    pub(crate) fn orders_growth(self) -> bool {
        self == Self::Xfs
    }

    /// Whether a rename over a file is kept only with the data and the growth of the file renamed.
    pub(crate) fn orders_renames(self) -> bool {
        self == Self::Ext4
    }

    /// Whether a file that is renamed to another directory is never in both.
    pub(crate) fn moves_at_once(self) -> bool {
        self.journals_metadata()
    }
}

/// The tear unit: what a disk writes as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Unit {
    /// 512 bytes.
    Sector,
    /// 4096 bytes.
    Block,
}

impl Unit {
    /// Pages in a unit.
    #[must_use]
    pub fn pages(self) -> usize {
        match self {
            Self::Sector => 1,
            Self::Block => 8,
        }
    }
}
