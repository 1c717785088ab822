//! The names of a simulated disk, volatile and durable apart.
//!
//! I own which path names which file, and which changes of names a power loss would undo. A change
//! becomes durable when every directory that it touches was synced, a rename in one piece, and
//! never before an earlier change of the same path. I know no bytes.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::SyncFailure;
use super::trace::Ino;

/// Directories and files by path.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub(super) dirs: BTreeSet<String>,
    pub(super) files: BTreeMap<String, Ino>,
}

/// A change of names.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Dir(String),
    Add(String, Ino),
    Move { from: String, to: String, ino: Ino },
    Remove(String),
}

impl Change {
    fn paths(&self) -> Vec<&str> {
        match self {
            Self::Dir(path) | Self::Add(path, _) | Self::Remove(path) => vec![path],
            Self::Move { from, to, .. } => vec![from, to],
        }
    }

    fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Dir(path) => {
                tree.dirs.insert(path.clone());
            }
            Self::Add(path, ino) => {
                tree.files.insert(path.clone(), *ino);
            }
            Self::Move { from, to, ino } => {
                tree.files.remove(from);
                tree.files.insert(to.clone(), *ino);
            }
            Self::Remove(path) => {
                tree.files.remove(path);
            }
        }
    }
}

/// A change that is not durable yet.
#[derive(Debug)]
struct Pending {
    change: Change,
    /// The directories that were not synced since.
    waits: BTreeSet<String>,
    /// A sync of one of them failed, and it waits for that one for good: only a later change of the
    /// same path makes it durable.
    doomed: bool,
}

/// The volatile names, and what of them is durable.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) live: Tree,
    /// The durable names; `None` while they are the live ones.
    kept: Option<Tree>,
    pending: Vec<Pending>,
    /// Directories whose next sync reports an earlier failure.
    late: BTreeSet<String>,
}

/// The directory that a path lies in.
pub(super) fn parent(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..at])
}

impl Names {
    pub(super) fn new(live: Tree) -> Self {
        Self { live, ..Self::default() }
    }

    pub(super) fn has_dir(&self, path: &str) -> bool {
        path.is_empty() || self.live.dirs.contains(path)
    }

    /// The entries of a directory, sorted.
    pub(super) fn list(&self, dir: &str) -> Vec<String> {
        let entry = |path: &String| (parent(path) == dir).then(|| last_part(path).to_owned());
        let files = self.live.files.keys().filter_map(entry);
        let mut names: Vec<String> = files.chain(self.live.dirs.iter().filter_map(entry)).collect();
        names.sort_unstable();
        names
    }

    /// Makes a change; when `tracking`, it waits for the directories that it touches.
    pub(super) fn change(&mut self, change: Change, tracking: bool) {
        if tracking {
            self.kept.get_or_insert_with(|| self.live.clone());
        }
        change.apply(&mut self.live);
        if tracking {
            let paths = change.paths().into_iter();
            let waits = paths.map(|path| parent(path).to_owned()).collect();
            self.pending.push(Pending { change, waits, doomed: false });
        }
    }

    /// Counts everything as durable.
    pub(super) fn settle(&mut self) {
        self.kept = None;
        self.pending.clear();
        self.late.clear();
    }

    pub(super) fn durable(&self) -> &Tree {
        self.kept.as_ref().unwrap_or(&self.live)
    }

    /// Syncs a directory; `false` is an error.
    pub(super) fn sync(&mut self, dir: &str, failure: Option<SyncFailure>) -> bool {
        let mut nth = 0_usize;
        for pending in &mut self.pending {
            if pending.doomed || !pending.waits.contains(dir) {
                continue;
            }
            nth += 1;
            pending.doomed = match failure {
                None => false,
                Some(SyncFailure::Partial) => nth % 2 == 1,
                Some(_) => true,
            };
            if !pending.doomed {
                pending.waits.remove(dir);
            }
        }
        self.keep_what_is_ready();
        let was_late = self.late.remove(dir);
        match failure {
            None => !was_late,
            Some(SyncFailure::Late) => {
                self.late.insert(dir.to_owned());
                !was_late
            }
            Some(_) => false,
        }
    }

    /// Applies every change that waits for nothing, with all earlier ones of the same paths.
    fn keep_what_is_ready(&mut self) {
        let Some(kept) = &mut self.kept else { return };
        let mut touched = BTreeSet::new();
        let mut ready = vec![false; self.pending.len()];
        for (pending, ready) in self.pending.iter().zip(&mut ready).rev() {
            let paths = pending.change.paths();
            *ready = pending.waits.is_empty() || paths.iter().any(|path| touched.contains(*path));
            if *ready {
                touched.extend(paths);
            }
        }
        for (pending, _) in self.pending.iter().zip(&ready).filter(|(_, ready)| **ready) {
            pending.change.apply(kept);
        }
        let mut ready = ready.into_iter();
        self.pending.retain(|_| !ready.next().expect("one for each"));
    }
}

impl Tree {
    /// Whether a path can be reached: all directories above it are there.
    pub(super) fn reaches(&self, path: &str) -> bool {
        path.match_indices('/').all(|(at, _)| self.dirs.contains(&path[..at]))
    }
}

fn last_part(path: &str) -> &str {
    path.rfind('/').map_or(path, |at| &path[at + 1..])
}
