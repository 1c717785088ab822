//! Syncs of everything at once.
//!
//! I own what such a sync means on a tape: a sync of each file and of each directory that was changed since
//! it was last synced. While it goes on, some of them may be on disk and others not, as in life.

use std::collections::BTreeMap;

use super::{Reel, Who};
use crate::core::trace::{Ino, Op, Step};

impl Reel {
    /// Notes a sync of everything that returned; it began when there were `who.entered` steps.
    pub fn note_whole_sync(&mut self, who: Who, failed: bool) {
        let unsynced = Unsynced::after(&self.recording.trace.steps);
        for op in unsynced.syncs() {
            self.note_sync(who, op, failed);
        }
    }
}

/// What was changed and not synced since, with the step that changed it last.
#[derive(Debug, Default)]
struct Unsynced {
    files: BTreeMap<Ino, usize>,
    dirs: BTreeMap<String, usize>,
}

impl Unsynced {
    fn after(steps: &[Step]) -> Self {
        let mut unsynced = Self::default();
        steps.iter().enumerate().for_each(|(at, step)| unsynced.pass(at, step));
        unsynced
    }

    fn syncs(&self) -> impl Iterator<Item = Op> + use<> {
        let files: Vec<Ino> = self.files.keys().copied().collect();
        let dirs: Vec<String> = self.dirs.keys().cloned().collect();
        let files = files.into_iter().map(|ino| Op::SyncAll { ino });
        files.chain(dirs.into_iter().map(|path| Op::SyncDir { path }))
    }

    fn pass(&mut self, at: usize, step: &Step) {
        let covered = step.since.unwrap_or(at);
        match &step.op {
            Op::Write { ino, .. }
            | Op::SetLen { ino, .. }
            | Op::Zero { ino, .. }
            | Op::CreateUnnamed { ino } => {
                self.files.insert(*ino, at);
            }
            Op::Create { path, ino } | Op::Link { path, ino } => {
                self.files.insert(*ino, at);
                self.named(path, at);
            }
            Op::CreateDir { path } => {
                self.dirs.insert(path.clone(), at);
                self.named(path, at);
            }
            Op::RemoveDir { path } => {
                self.dirs.remove(path);
                self.named(path, at);
            }
            Op::Symlink { path, .. } | Op::Remove { path } => self.named(path, at),
            Op::Rename { from, to } => {
                self.take(to);
                let moved = self.take(from);
                self.put(to, moved);
                self.named(from, at);
                self.named(to, at);
            }
            Op::Exchange { one, other } => {
                let (first, second) = (self.take(one), self.take(other));
                self.put(other, first);
                self.put(one, second);
                self.named(one, at);
                self.named(other, at);
            }
            Op::SyncAll { ino } if !step.failed => {
                self.files.retain(|file, changed| file != ino || *changed >= covered);
            }
            Op::SyncDir { path } if !step.failed => {
                self.dirs.retain(|dir, changed| dir != path || *changed >= covered);
            }
            Op::SyncData { .. } | Op::SyncAll { .. } | Op::SyncDir { .. } | Op::Mark(_) => {}
        }
    }

    /// A name was changed: its directory was.
    fn named(&mut self, path: &str, at: usize) {
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        self.dirs.insert(dir.to_owned(), at);
    }

    /// Takes out a directory and what is under it, with what follows its path in theirs.
    fn take(&mut self, path: &str) -> Vec<(String, usize)> {
        let is_in = |dir: &str| dir.strip_prefix(path).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        let dirs: Vec<String> = self.dirs.keys().filter(|dir| is_in(dir)).cloned().collect();
        dirs.into_iter()
            .map(|dir| (dir[path.len()..].to_owned(), self.dirs.remove(&dir).expect("it is there")))
            .collect()
    }

    fn put(&mut self, path: &str, dirs: Vec<(String, usize)>) {
        self.dirs.extend(dirs.into_iter().map(|(rest, at)| (format!("{path}{rest}"), at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> String {
        path.to_owned()
    }

    fn left(steps: &[Step]) -> Vec<Op> {
        Unsynced::after(steps).syncs().collect()
    }

    #[test]
    fn what_was_synced_since_is_left_out() {
        let write = |n| Step::from(Op::Write { ino: Ino(n), offset: 0, data: b"x"[..].into() });
        let sync = |n| Step::from(Op::SyncAll { ino: Ino(n) });
        assert_eq!(left(&[write(1), write(2), sync(1)]), [Op::SyncAll { ino: Ino(2) }]);
        assert_eq!(left(&[write(1), sync(1), write(1)]), [Op::SyncAll { ino: Ino(1) }]);
        let failed = Step { failed: true, ..sync(1) };
        assert_eq!(left(&[write(1), failed]), [Op::SyncAll { ino: Ino(1) }]);
        // It began before the write.
        let early = Step { since: Some(0), ..sync(1) };
        assert_eq!(left(&[write(1), early]), [Op::SyncAll { ino: Ino(1) }]);
    }

    #[test]
    fn a_directory_that_moved_is_synced_where_it_is() {
        let steps = [
            Op::CreateDir { path: path("a") },
            Op::Create { path: path("a/f"), ino: Ino(7) },
            Op::Rename { from: path("a"), to: path("b") },
        ];
        let steps = steps.map(Step::from);
        let dirs = ["", "b"].map(|dir| Op::SyncDir { path: path(dir) });
        assert_eq!(left(&steps), [&[Op::SyncAll { ino: Ino(7) }][..], &dirs].concat());
    }
}
