//! How a change of the tree becomes steps, whoever saw it.
//!
//! I own the meaning of each call on names and lengths, once it was done. What is no file, directory or
//! symbolic link is not part of a trace: its names come and go unseen. A directory that has lost its name
//! has no more steps.

use std::ops::Range;

use rustix::fs::{FallocateFlags, FileType, Stat};

use super::{Reel, Who};
use crate::core::trace::Op;

/// A name in a directory, which goes by the host's inode number.
#[derive(Clone, Copy, Debug)]
pub struct At<'n> {
    /// The directory.
    pub dir: u64,
    /// The name's text.
    pub name: &'n str,
}

/// What something is.
#[must_use]
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn is_told(stat: &Stat) -> bool {
    matches!(kind(stat), FileType::Directory | FileType::RegularFile | FileType::Symlink)
}

impl Reel {
    /// A new file.
    pub fn made_file(&mut self, who: Who, at: At<'_>, file: &Stat) {
        if let Some(path) = self.path(at.dir, at.name) {
            let ino = self.new_ino(file.st_ino, file.st_mode);
            self.note(who, Op::Create { path, ino });
        }
    }

    /// A new file without a name.
    pub fn made_unnamed(&mut self, who: Who, file: &Stat) {
        let ino = self.new_ino(file.st_ino, file.st_mode);
        self.note(who, Op::CreateUnnamed { ino });
    }

    /// A new directory.
    pub fn made_dir(&mut self, who: Who, at: At<'_>, dir: &Stat) {
        if let Some(path) = self.path(at.dir, at.name) {
            self.place_dir(dir.st_ino, at.dir, at.name);
            self.note(who, Op::CreateDir { path });
        }
    }

    /// A new symbolic link, or a further name of one.
    pub fn made_symlink(&mut self, who: Who, at: At<'_>, target: String) {
        if let Some(path) = self.path(at.dir, at.name) {
            self.note(who, Op::Symlink { path, target });
        }
    }

    /// A further name of a file, or its first.
    pub fn linked(&mut self, who: Who, at: At<'_>, file: &Stat) {
        if let (Some(path), Some(ino)) = (self.path(at.dir, at.name), self.ino(file.st_ino)) {
            self.note(who, Op::Link { path, ino });
        }
    }

    /// A name is gone; `was` is what it named.
    pub fn removed(&mut self, who: Who, at: At<'_>, was: &Stat) {
        let Some(path) = self.path(at.dir, at.name) else { return };
        match kind(was) {
            FileType::Directory => {
                self.note(who, Op::RemoveDir { path });
                self.drop_dir(was.st_ino);
            }
            FileType::RegularFile | FileType::Symlink => self.note(who, Op::Remove { path }),
            _ => {}
        }
    }

    /// Something has another name; `was` is what had that before, and has the old one now if they were
    /// exchanged.
    pub fn renamed(
        &mut self,
        who: Who,
        [from, to]: [At<'_>; 2],
        moved: &Stat,
        was: Option<&Stat>,
        exchanged: bool,
    ) {
        let paths = (self.path(from.dir, from.name), self.path(to.dir, to.name));
        let (Some(old), Some(new)) = paths else { return };
        let is_dir = |stat: &Stat| kind(stat) == FileType::Directory;
        if exchanged {
            self.note(who, Op::Exchange { one: old, other: new });
            let dir = was.filter(|was| is_dir(was));
            dir.into_iter().for_each(|was| self.place_dir(was.st_ino, from.dir, from.name));
        } else if was.is_some_and(|was| was.st_ino == moved.st_ino) {
            // Two names of one file: nothing happens.
            return;
        } else if is_told(moved) {
            self.note(who, Op::Rename { from: old, to: new });
        } else if was.is_some_and(is_told) {
            self.note(who, Op::Remove { path: new });
        }
        if is_dir(moved) {
            self.place_dir(moved.st_ino, to.dir, to.name);
        }
    }

    /// A file has another length.
    pub fn cut(&mut self, who: Who, host: u64, len: u64) {
        if let Some(ino) = self.ino(host) {
            self.note(who, Op::SetLen { ino, len });
        }
    }

    /// A range was allocated, zeroed or punched; the lengths are those before and after.
    pub fn allocated(
        &mut self,
        who: Who,
        host: u64,
        range: Range<u64>,
        mode: FallocateFlags,
        [before, after]: [u64; 2],
    ) {
        let Some(ino) = self.ino(host) else { return };
        if mode.intersects(FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE) {
            let len = range.end.min(before).saturating_sub(range.start);
            self.note(who, Op::Zero { ino, offset: range.start, len });
        }
        if after != before {
            self.note(who, Op::SetLen { ino, len: after });
        }
    }
}
