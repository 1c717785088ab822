//! Reads of the submitted state: what is pending, and under it what is written.
//!
//! I own where an entry that a caller may see is found. (E4) Pending entries of a poisoned handle are
//! not shown: they may be gone after the next open. I do not know batches.

use std::sync::Arc;

use crate::commit::{Front, Shared};
use crate::error::{Error, Result};
use crate::index::Location;
use crate::log::Readable;
use crate::state::Group;
use crate::submit::Present;
use crate::types::{Entry, GroupId, Index, Term};
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
    pub(super) fn read(&self) -> Result<Entry> {
        match self {
            Source::Memory(entry) => Ok(entry.clone()),
            Source::Disk(reader, location) => reader.read(location),
        }
    }
}

/// The submitted state: what is pending, and under it what is written.
pub(super) struct Submitted<'a, V: Vfs> {
    pub(super) shared: &'a Shared<V>,
    pub(super) front: &'a Front,
}

impl<V: Vfs> Submitted<'_, V> {
    pub(super) fn find(&self, group: GroupId, index: Index) -> Result<Source<V>> {
        let pending = self.front.pending.get(&group);
        if let Some((_, first)) = pending.and_then(|p| p.front()).filter(|(_, e)| e.id.index <= index) {
            let pending = pending.expect("it has a first");
            let n = usize::try_from(index.0 - first.id.index.0).expect("in memory");
            let (_, entry) = pending.get(n).expect("pending entries reach to the last");
            if let Some(cause) = &self.front.poison {
                return Err(Error::Poisoned { cause: cause.clone() });
            }
            return Ok(Source::Memory(entry.clone()));
        }
        match self.shared.log().locate(group, index) {
            Some((reader, location)) => Ok(Source::Disk(reader, location)),
            // Written but not durable operations of a poisoned handle took it away.
            None => match &self.front.poison {
                Some(cause) => Err(Error::Poisoned { cause: cause.clone() }),
                None => panic!("entry {index} of group {group} is within its bounds and nowhere"),
            },
        }
    }
}

impl<V: Vfs> Present for Submitted<'_, V> {
    fn term(&self, group: GroupId, index: Index) -> Result<Term> {
        Ok(match self.find(group, index)? {
            Source::Memory(entry) => entry.id.term,
            Source::Disk(_, location) => location.name().id.term,
        })
    }

    fn entry(&self, group: GroupId, index: Index) -> Result<Entry> {
        self.find(group, index)?.read()
    }
}
