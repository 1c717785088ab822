//! Reads of a group's log.
//!
//! I own what a reader sees while others append, truncate and compact. (E9) A read without a limit is one
//! view of the log: every entry of the range as of one moment. It is looked up in rounds, so that nobody waits
//! for a long one, and begun again if the group's entries were replaced meanwhile. (E10) An entry that went away between the
//! view and the read of its bytes is missing, never damaged. I do not know where an entry is (see
//! submitted).

use std::ops::{ControlFlow, Range};

use super::Engine;
use super::submitted::{Source, check_bounds, find};
use crate::error::{Error, Result};
use crate::log::readable::Ahead;
use crate::planted::Bug;
use crate::types::{Entry, EntryView, GroupId, Index, LeaderTag, LogId, Position, Term};
use crate::vfs::Vfs;

/// Entries that are looked up at once.
const ROUND: u64 = 1024;

/// The last record that may have replaced entries of the group, and where each entry is.
type View<V> = (Option<Position>, Vec<(Index, Result<Source<V>>)>);

impl<V: Vfs> Engine<V> {
    /// Reads a range of entries: all of it, or as many from its start as fit `max_bytes`, at least
    /// one. Each counts as its bytes and [`Entry::OVERHEAD`], so that many empty ones are bounded too.
    pub fn read(&self, group: GroupId, range: Range<Index>, max_bytes: u64) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut ahead = Ahead::default();
        let mut left = max_bytes;
        let mut at = range.start;
        let mut first_cut = None;
        while at < range.end {
            let to = Index(range.end.0.min(at.0.saturating_add(ROUND)));
            let (cut, sources) = self.view(group, at..to);
            if max_bytes == u64::MAX && cut != *first_cut.get_or_insert(cut) {
                entries.clear();
                (at, first_cut) = (range.start, None);
                continue;
            }
            at = to;
            for (index, source) in sources {
                let entry = match self.settle(group, index, source?.take(&mut ahead)) {
                    Err(Error::Damaged { .. }) if V::planted(Bug::DamageEndsRead) => return Ok(entries),
                    entry => entry?,
                };
                let size = entry.cost();
                if size > left && !entries.is_empty() {
                    return Ok(entries);
                }
                left = left.saturating_sub(size);
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// Reads a range of entries one after the other into the same memory, until `each` breaks: for who looks
    /// at many and keeps few. The log is viewed 1,024 entries at a time; entries that were truncated or
    /// compacted away meanwhile end it with an error.
    ///
    /// # Errors
    /// As [`Engine::read`], after the entries before.
    pub fn scan(
        &self,
        group: GroupId,
        range: Range<Index>,
        mut each: impl FnMut(EntryView<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let (mut ahead, mut again) = <(Ahead, Ahead)>::default();
        let mut at = range.start;
        while at < range.end {
            let to = Index(range.end.0.min(at.0.saturating_add(ROUND)));
            let (_, sources) = self.view(group, at..to);
            at = to;
            for (index, source) in sources {
                let source = source?;
                let flow = match source.view(&mut ahead) {
                    // Recycled, or damaged: see `settle`.
                    Err(Error::Damaged { .. }) => each(self.source(group, index)?.view(&mut again)?),
                    view => each(view?),
                };
                if flow.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// As [`Engine::read`], of what the log holds of the range: nothing where it ends before the range or
    /// begins after it.
    pub fn read_present(&self, group: GroupId, range: Range<Index>, max_bytes: u64) -> Result<Vec<Entry>> {
        loop {
            let status = self.group(group)?;
            let present = range.start.max(status.first)..range.end.min(status.last.index.next());
            match self.read(group, present, max_bytes) {
                // The log became shorter since.
                Err(Error::Compacted { .. } | Error::PastEnd { .. }) => {}
                other => return other,
            }
        }
    }

    /// Where the entries of a range are, as of one moment, and the last record that may have replaced any; ends
    /// with the first that is nowhere.
    fn view(&self, group: GroupId, range: Range<Index>) -> View<V> {
        let front = self.shared.front();
        let find = |index| {
            let line = front.groups.get(group).ok_or(Error::UnknownGroup { group })?;
            check_bounds(group, &line.state, index)?;
            find(&self.shared, &front, group, index)
        };
        let mut sources = Vec::new();
        for index in (range.start.0..range.end.0).map(Index) {
            let source = find(index);
            let ends = source.is_err();
            sources.push((index, source));
            if ends {
                break;
            }
        }
        (front.groups.get(group).map(|line| line.cut), sources)
    }

    fn source(&self, group: GroupId, index: Index) -> Result<Source<V>> {
        let front = self.shared.front();
        let line = front.groups.get(group).ok_or(Error::UnknownGroup { group })?;
        check_bounds(group, &line.state, index)?;
        find(&self.shared, &front, group, index)
    }

    /// What became of an entry whose bytes were read after the view: its segment may have been recycled.
    fn settle(&self, group: GroupId, index: Index, read: Result<Entry>) -> Result<Entry> {
        if !matches!(read, Err(Error::Damaged { .. })) {
            return read;
        }
        // Still there: the damage is real, or the second look finds where it is now.
        self.source(group, index)?.read()
    }

    pub(super) fn entry(&self, group: GroupId, index: Index) -> Result<Entry> {
        let source = self.source(group, index)?;
        self.settle(group, index, source.read())
    }

    /// The term of an entry, or of the last one that was compacted away.
    pub fn term(&self, group: GroupId, index: Index) -> Result<Term> {
        let front = self.shared.front();
        let g = &front.groups.get(group).ok_or(Error::UnknownGroup { group })?.state;
        if index == g.purged.index {
            return Ok(g.purged.term);
        }
        drop(front);
        self.name(group, index).map(|(id, _)| id.term)
    }

    /// The identity of an entry and who led then. Reads no byte of the entry, so that rot in it is no
    /// obstacle.
    pub fn name(&self, group: GroupId, index: Index) -> Result<(LogId, LeaderTag)> {
        Ok(self.source(group, index)?.name())
    }
}
