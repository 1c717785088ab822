//! The litmus programs: what is done to a small tree.
//!
//! I own the list. Each is short enough that the core tries every set of what a crash keeps of it. I do not
//! know how an operation is done (see `interpret`) nor what may come of it (see `model`).

/// One operation. Paths are relative, the root is `""`; bytes are runs of one letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A new, empty file.
    Create(&'static str),
    /// Bytes written: path, offset, letter, length.
    Write(&'static str, u64, u8, usize),
    /// The same through a description opened with `O_DSYNC`.
    WriteDsync(&'static str, u64, u8, usize),
    /// The same through a shared mapping.
    MapWrite(&'static str, u64, u8, usize),
    /// msync of a whole file with `MS_SYNC`.
    MapSync(&'static str),
    /// ftruncate.
    SetLen(&'static str, u64),
    /// fallocate of so many bytes from the start.
    Allocate(&'static str, u64),
    /// A hole punched: path, offset, length.
    Punch(&'static str, u64, u64),
    /// rename.
    Rename(&'static str, &'static str),
    /// rename with `RENAME_EXCHANGE`.
    Exchange(&'static str, &'static str),
    /// link: old path, new path.
    Link(&'static str, &'static str),
    /// unlink.
    Remove(&'static str),
    /// mkdir.
    MakeDir(&'static str),
    /// rmdir.
    RemoveDir(&'static str),
    /// fsync.
    Sync(&'static str),
    /// fdatasync.
    SyncData(&'static str),
    /// fsync of a directory.
    SyncDir(&'static str),
}

/// A litmus program.
#[derive(Clone, Copy, Debug)]
pub struct Litmus {
    /// Its name.
    pub name: &'static str,
    /// What is there before, durable: made by [`Act::Create`], [`Act::Write`] and [`Act::MakeDir`] alone.
    pub setup: &'static [Act],
    /// What is done.
    pub acts: &'static [Act],
}

use Act::*;

const B: usize = 4096;

/// All of them.
pub const LITMUS: &[Litmus] = &[
    Litmus {
        name: "rename over, no sync",
        setup: &[Create("a"), Write("a", 0, b'A', B)],
        acts: &[Create("t"), Write("t", 0, b'B', B), Rename("t", "a")],
    },
    Litmus {
        name: "rename over, file synced",
        setup: &[Create("a"), Write("a", 0, b'A', B)],
        acts: &[Create("t"), Write("t", 0, b'B', B), Sync("t"), Rename("t", "a")],
    },
    Litmus {
        name: "rename over, file and directory synced",
        setup: &[Create("a"), Write("a", 0, b'A', B)],
        acts: &[Create("t"), Write("t", 0, b'B', B), Sync("t"), Rename("t", "a"), SyncDir("")],
    },
    Litmus {
        name: "rename to a new name",
        setup: &[],
        acts: &[Create("t"), Write("t", 0, b'B', B), Rename("t", "a"), SyncDir("")],
    },
    Litmus {
        name: "append, then sync of another file",
        setup: &[Create("a"), Write("a", 0, b'A', B), Create("b"), Write("b", 0, b'B', B)],
        acts: &[Write("a", 4096, b'C', B), Write("b", 4096, b'D', B), Sync("b")],
    },
    Litmus {
        name: "append of two blocks, then a name",
        setup: &[Create("a"), Write("a", 0, b'A', B)],
        acts: &[Write("a", 4096, b'B', 2 * B), Create("b")],
    },
    Litmus {
        name: "two appends, each synced",
        setup: &[Create("a")],
        acts: &[Write("a", 0, b'A', 100), SyncData("a"), Write("a", 100, b'B', 100), SyncData("a")],
    },
    Litmus {
        name: "overwrite in place",
        setup: &[Create("a"), Write("a", 0, b'A', 2 * B)],
        acts: &[Write("a", 0, b'B', B), Write("a", 4096, b'C', B)],
    },
    Litmus {
        name: "overwrite, sync, overwrite",
        setup: &[Create("a"), Write("a", 0, b'A', 2 * B)],
        acts: &[Write("a", 0, b'B', B), SyncData("a"), Write("a", 4096, b'C', B)],
    },
    Litmus {
        name: "create, file synced, directory not",
        setup: &[],
        acts: &[Create("a"), Write("a", 0, b'A', B), Sync("a"), Create("b")],
    },
    Litmus {
        name: "create, directory synced",
        setup: &[],
        acts: &[Create("a"), Write("a", 0, b'A', B), Sync("a"), SyncDir(""), Create("b")],
    },
    Litmus {
        name: "unlink, then create another",
        setup: &[Create("a"), Write("a", 0, b'A', B)],
        acts: &[Remove("a"), Create("b"), Write("b", 0, b'B', B)],
    },
    Litmus {
        name: "unlink, then create again",
        setup: &[Create("a"), Write("a", 0, b'A', B)],
        acts: &[Remove("a"), Create("a"), Write("a", 0, b'B', B), Sync("a"), SyncDir("")],
    },
    Litmus {
        name: "rewrite with O_TRUNC",
        setup: &[Create("a"), Write("a", 0, b'A', 2 * B)],
        acts: &[SetLen("a", 0), Write("a", 0, b'B', B), Sync("a")],
    },
    Litmus {
        name: "fallocate, then O_DSYNC",
        setup: &[],
        acts: &[
            Create("a"),
            SyncDir(""),
            Allocate("a", 8192),
            WriteDsync("a", 0, b'A', B),
            WriteDsync("a", 4096, b'B', B),
        ],
    },
    Litmus {
        name: "grow, then overwrite the header",
        setup: &[Create("a"), Write("a", 0, b'A', B)],
        acts: &[Write("a", 4096, b'B', B), Write("a", 0, b'C', B), SyncData("a")],
    },
    Litmus {
        name: "append, then a longer length",
        setup: &[Create("a"), Write("a", 0, b'A', B)],
        acts: &[Write("a", 4096, b'B', B), SetLen("a", 12288), Create("b")],
    },
    Litmus {
        name: "a longer length, then a write into it",
        setup: &[Create("a"), Write("a", 0, b'A', B)],
        acts: &[SetLen("a", 12288), Write("a", 8192, b'B', B), Create("b")],
    },
    Litmus {
        name: "link",
        setup: &[Create("a"), Write("a", 0, b'A', B)],
        acts: &[Link("a", "b"), Write("a", 0, b'B', B), Remove("a"), SyncDir("")],
    },
    Litmus {
        name: "rename to another directory",
        setup: &[MakeDir("d"), MakeDir("e"), Create("d/a"), Write("d/a", 0, b'A', B)],
        acts: &[Rename("d/a", "e/a"), Create("d/b"), SyncDir("e"), SyncDir("d")],
    },
    Litmus {
        name: "punch a hole and fill it",
        setup: &[Create("a"), Write("a", 0, b'A', 3 * B)],
        acts: &[Punch("a", 4096, 4096), Write("a", 4096, b'B', B), SyncData("a")],
    },
    Litmus {
        name: "mmap and msync",
        setup: &[Create("a"), Write("a", 0, b'A', 2 * B)],
        acts: &[
            MapWrite("a", 0, b'B', B),
            MapWrite("a", 4096, b'C', B),
            MapSync("a"),
            MapWrite("a", 0, b'D', B),
        ],
    },
    Litmus {
        name: "a tree of directories",
        setup: &[],
        acts: &[MakeDir("d"), MakeDir("d/e"), Create("d/e/f"), Write("d/e/f", 0, b'A', B), SyncDir("d/e")],
    },
    Litmus {
        name: "a directory renamed",
        setup: &[MakeDir("d"), Create("d/a"), Write("d/a", 0, b'A', B)],
        acts: &[Create("d/b"), Rename("d", "e"), Create("e/c"), SyncDir("")],
    },
    Litmus {
        name: "a directory emptied and removed",
        setup: &[MakeDir("d"), Create("d/a"), Write("d/a", 0, b'A', B)],
        acts: &[Remove("d/a"), RemoveDir("d"), Create("d"), SyncDir("")],
    },
    Litmus {
        name: "two files, one sync",
        setup: &[],
        acts: &[Create("a"), Write("a", 0, b'A', B), Create("b"), Write("b", 0, b'B', B), Sync("b")],
    },
    Litmus {
        name: "rotate",
        setup: &[Create("a"), Write("a", 0, b'A', B), Create("b"), Write("b", 0, b'B', B)],
        acts: &[Rename("a", "b"), Create("a"), Write("a", 0, b'C', B), Sync("a"), SyncDir("")],
    },
    Litmus {
        name: "exchange",
        setup: &[Create("a"), Write("a", 0, b'A', B), Create("b"), Write("b", 0, b'B', B)],
        acts: &[Exchange("a", "b"), Write("a", 0, b'C', B), SyncDir("")],
    },
];

impl Litmus {
    /// The files that are written or made: path, and the range that is written last of each.
    #[must_use]
    pub fn written(&self) -> Vec<(&'static str, u64, u64)> {
        let mut files: Vec<(&'static str, u64, u64)> = Vec::new();
        for act in self.acts {
            let (Write(path, offset, _, len) | MapWrite(path, offset, _, len)) = *act else { continue };
            let last = (offset + len as u64).saturating_sub(1) / 4096 * 4096;
            let ranges = [(path, 0, 0), (path, last, 4096)];
            // Of a file of one block the last block is the file.
            for range in &ranges[..if last == 0 { 1 } else { 2 }] {
                if !files.contains(range) {
                    files.push(*range);
                }
            }
        }
        files
    }
}
