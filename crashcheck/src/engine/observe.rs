//! Reads everything that a reader of a store can see.
//!
//! I own the way from a handle to a [`State`]. I never change a store and judge nothing; a read that
//! fails is told as text, with what was being read.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

use seawall::types::{Entry, GroupId, Index, SnapshotOwner, Term};
use seawall::vfs::Vfs;
use seawall::{Engine, GroupStatus, SnapshotReader, Store};

use super::oracle::{Group, Snapshot, State};

/// A handle that can be read: a writable one or one that only looks.
pub trait View {
    /// The file system.
    type Disk: Vfs;
    /// The ids of the groups.
    fn groups(&self) -> Vec<GroupId>;
    /// One group.
    fn group(&self, group: GroupId) -> seawall::Result<GroupStatus>;
    /// Entries.
    fn read(&self, group: GroupId, range: Range<Index>) -> seawall::Result<Vec<Entry>>;
    /// A term.
    fn term(&self, group: GroupId, index: Index) -> seawall::Result<Term>;
    /// The owned snapshot.
    fn snapshot_reader(&self, group: GroupId) -> seawall::Result<SnapshotReader<Self::Disk>>;
}

/// Both handles have the same inherent methods.
macro_rules! view {
    ($handle:ident) => {
        impl<V: Vfs> View for $handle<V> {
            type Disk = V;

            fn groups(&self) -> Vec<GroupId> {
                $handle::groups(self)
            }

            fn group(&self, group: GroupId) -> seawall::Result<GroupStatus> {
                $handle::group(self, group)
            }

            fn read(&self, group: GroupId, range: Range<Index>) -> seawall::Result<Vec<Entry>> {
                $handle::read(self, group, range, u64::MAX)
            }

            fn term(&self, group: GroupId, index: Index) -> seawall::Result<Term> {
                $handle::term(self, group, index)
            }

            fn snapshot_reader(&self, group: GroupId) -> seawall::Result<SnapshotReader<V>> {
                $handle::snapshot_reader(self, group)
            }
        }
    };
}

view!(Engine);
view!(Store);

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// What was being read, and what came.
    pub text: String,
    /// Whether the engine said so itself; otherwise what it gave makes no sense.
    pub told: bool,
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn told(doing: impl std::fmt::Display) -> impl FnOnce(seawall::Error) -> Unread {
    move |e| Unread { text: format!("{doing}: {e}"), told: true }
}

fn nonsense(text: String) -> Unread {
    Unread { text, told: false }
}

/// Everything, or the first thing that could not be read.
pub fn observe(view: &impl View) -> Result<State, Unread> {
    let mut state = State::default();
    for (id, group) in observe_each(view) {
        state.groups.insert(id, group?);
    }
    Ok(state)
}

/// Each group, or what of it could not be read.
pub fn observe_each(view: &impl View) -> BTreeMap<GroupId, Result<Group, Unread>> {
    let one = |id| {
        let group = observe_group(view, id);
        (id, group.map_err(|e| Unread { text: format!("group {id}: {}", e.text), ..e }))
    };
    view.groups().into_iter().map(one).collect()
}

fn observe_group(view: &impl View, id: GroupId) -> Result<Group, Unread> {
    let status = view.group(id).map_err(told("status"))?;
    let mut group = Group {
        incarnation: Some(status.incarnation),
        first: status.first,
        purged: status.purged,
        last: status.last,
        entries: read_entries(view, id, status.first..status.last.index.next())?,
        vote: status.vote,
        commit: status.commit,
        snapshot: None,
    };
    if status.purged.index > Index(0) {
        let term = view.term(id, status.purged.index).map_err(told("the term of the purged boundary"))?;
        if term != status.purged.term {
            return Err(nonsense(format!("the term of the purged boundary {} reads {term}", status.purged)));
        }
    }
    if let Some(pointer) = status.snapshot {
        let mut snapshot = Snapshot::external(pointer.id, pointer.digest);
        snapshot.owner = pointer.owner;
        if pointer.owner == SnapshotOwner::Owned {
            read_snapshot(view, id, &mut snapshot)?;
        }
        group.snapshot = Some(snapshot);
    }
    Ok(group)
}

fn read_entries(
    view: &impl View,
    id: GroupId,
    range: Range<Index>,
) -> Result<BTreeMap<Index, Entry>, Unread> {
    let mut found = BTreeMap::new();
    let mut next = range.start;
    while next < range.end {
        let doing = format!("read {next}..{}", range.end);
        let entries = view.read(id, next..range.end).map_err(told(&doing))?;
        if entries.is_empty() {
            return Err(nonsense(format!("{doing}: nothing came")));
        }
        for entry in entries {
            if entry.id.index != next {
                return Err(nonsense(format!("{doing}: entry {} came", entry.id)));
            }
            next = next.next();
            found.insert(entry.id.index, entry);
        }
    }
    Ok(found)
}

fn read_snapshot(view: &impl View, id: GroupId, snapshot: &mut Snapshot) -> Result<(), Unread> {
    let doing = format!("snapshot {}", snapshot.id);
    let mut reader = view.snapshot_reader(id).map_err(told(&doing))?;
    if reader.id() != snapshot.id {
        return Err(nonsense(format!("{doing}: the manifest is of {}", reader.id())));
    }
    let mut content = Vec::new();
    let read = reader.read_to_end(&mut content);
    read.map_err(|e| Unread { text: format!("{doing}: {e}"), told: true })?;
    snapshot.membership = reader.membership().into();
    snapshot.content = content.into();
    Ok(())
}
