//! Reads of the submitted state: what is pending, and under it what is written.
//!
//! I own where an entry that a caller may see is found. (E4) Pending entries of a poisoned handle are
//! not shown: they may be gone after the next open. I do not know batches.

use std::sync::Arc;

use crate::commit::{Frames, Front, Shared};
use crate::error::{Error, Result};
use crate::index::Location;
use crate::log::Readable;
use crate::log::readable::Ahead;
use crate::record::Record;
use crate::state::Group;
use crate::submit::Present;
use crate::types::{Entry, EntryView, GroupId, Index, LeaderTag, LogId, Position, Term};
use crate::vfs::Vfs;

pub(super) fn check_bounds(group: GroupId, g: &Group, index: Index) -> Result<()> {
    if index < g.first() {
        return Err(Error::Compacted { group, index, first: g.first() });
    }
    if index > g.last.index {
        return Err(Error::PastEnd { group, index, last: g.last.index });
    }
    Ok(())
}

/// Where an entry of the submitted state is.
pub(super) enum Source<V: Vfs> {
    Memory(Entry),
    Disk(Arc<Readable<V>>, Location),
}

impl<V: Vfs> Source<V> {
    pub(super) fn name(&self) -> (LogId, LeaderTag) {
        match self {
            Source::Memory(entry) => (entry.id, entry.leader),
            Source::Disk(_, location) => (location.name().id, location.name().leader),
        }
    }

    /// The entry, with bytes in `ahead` if they are on disk.
    pub(super) fn view<'a>(&'a self, ahead: &'a mut Ahead) -> Result<EntryView<'a>> {
        match self {
            Source::Memory(entry) => {
                let Entry { id, leader, kind, data } = entry;
                Ok(EntryView { id: *id, leader: *leader, kind: *kind, data })
            }
            Source::Disk(reader, location) => {
                let (kind, data) = reader.read_ahead(location, ahead)?;
                let (id, leader) = self.name();
                Ok(EntryView { id, leader, kind, data })
            }
        }
    }

    /// As [`Source::read`], for who reads entries one after the other.
    pub(super) fn take(&self, ahead: &mut Ahead) -> Result<Entry> {
        let Source::Disk(reader, location) = self else { return self.read() };
        let (kind, data) = reader.read_ahead(location, ahead)?;
        let (id, leader) = self.name();
        Ok(Entry { id, leader, kind, data: data.into() })
    }

    pub(super) fn read(&self) -> Result<Entry> {
        match self {
            Source::Memory(entry) => Ok(entry.clone()),
            Source::Disk(reader, location) => reader.read(location),
        }
    }
}

/// Finds an entry of the submitted state.
pub(super) fn find<V: Vfs>(
    shared: &Shared<V>,
    front: &Front,
    group: GroupId,
    index: Index,
) -> Result<Source<V>> {
    let frames = &front.frames;
    if let Some(position) = front.groups.get(group).and_then(|line| line.pending(index, front.durable)) {
        return match &front.poison {
            Some(cause) => Err(Error::Poisoned { cause: cause.clone() }),
            None => Ok(Source::Memory(frames.record(position).entry().expect("an entry is pending"))),
        };
    }
    match (Written { shared, frames }).find(group, index) {
        Some(source) => Ok(source),
        // Written but not durable operations of a poisoned handle took it away.
        None => match &front.poison {
            Some(cause) => Err(Error::Poisoned { cause: cause.clone() }),
            None => panic!("entry {index} of group {group} is within its bounds and nowhere"),
        },
    }
}

/// What was submitted before.
pub(super) struct Written<'a, V: Vfs> {
    pub(super) shared: &'a Shared<V>,
    pub(super) frames: &'a Frames,
}

impl<V: Vfs> Written<'_, V> {
    fn find(&self, group: GroupId, index: Index) -> Option<Source<V>> {
        let (reader, location) = self.shared.segments.catalog().locate(group, index)?;
        Some(Source::Disk(reader, location))
    }

    /// Submission asks for nothing else, and of a handle that is not poisoned.
    fn known(&self, group: GroupId, index: Index) -> Source<V> {
        let source = self.find(group, index);
        source.unwrap_or_else(|| panic!("entry {index} of group {group} is within its bounds and nowhere"))
    }
}

impl<V: Vfs> Present for Written<'_, V> {
    fn pending(&self, position: Position) -> &Record {
        self.frames.record(position)
    }

    fn term(&self, group: GroupId, index: Index) -> Result<Term> {
        Ok(self.known(group, index).name().0.term)
    }

    fn entry(&self, group: GroupId, index: Index) -> Result<Entry> {
        self.known(group, index).read()
    }
}
