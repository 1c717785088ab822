//! What order a file system keeps between what was not synced.
//!
//! I own the two profiles. A profile only *adds* order to `posix-strict`: each of its crash states is
//! one of `posix-strict` as well. I do not know micro-operations; `micro` asks me and draws the edges.
//!
//! What a sync makes durable is the same in both: `sync_data` the file's data and a length that grew,
//! `sync_all` any length too, `sync_dir` the names in that directory; with each of them all that must
//! not be lost before it. A failed sync makes nothing durable and leaves what it covered in doubt for
//! good: only a later write of the same page, a later length of the same file or a later use of the
//! same name, durable by a sync of its own, settles it.

use serde::Serialize;

/// The order that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Anything since the last covering sync may be lost or reordered: data, sizes, names, renames.
    /// Kept in order are only the writes of one page (the later one holds the earlier), the lengths of
    /// one file, the uses of one name, and a name after the directory that it is in.
    PosixStrict,
    /// ext4 in its default mode, `data=ordered` with `auto_da_alloc`, in addition:
    ///
    /// - names and lengths are journalled: a crash keeps a prefix of them in the order in which they
    ///   were done;
    /// - a length that grew is kept only with the data written into the new part ("all data are forced
    ///   directly out to the main file system prior to its metadata being committed to the journal");
    /// - a rename over an existing file is kept only with the data of the file renamed ("the data
    ///   blocks of the new file are forced to disk before the `rename()` operation is committed").
    ///
    /// Source of both quotations: the kernel's Documentation/admin-guide/ext4.rst, `data=ordered` and
    /// `auto_da_alloc`. What the same place says of replace-by-truncate takes hold when the file is
    /// closed, which a trace does not show, and is left out: a state more, never one less. Data written
    /// over data is not ordered at all.
    Ext4,
}

impl Profile {
    /// The name, as on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PosixStrict => "posix-strict",
            Self::Ext4 => "ext4",
        }
    }

    /// Whether names and lengths are kept in the order in which they were done.
    pub(crate) fn journals_metadata(self) -> bool {
        self == Self::Ext4
    }

    /// Whether a growth, or a rename over a file, is kept only with the data before it.
    pub(crate) fn orders_data(self) -> bool {
        self == Self::Ext4
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
