//! Where each live entry is. Pure.
//!
//! I own, for each group, runs of consecutive entries in sealed segments and in the active one. (I1)
//! Runs of a group do not overlap and ascend. (I2) An entry written at an index drops what was there
//! and above: the newest write wins. (I3) A sealed run costs one [`SealedRun`], whatever its entries:
//! their places stay on disk; of the active segment each entry costs its place. I do not know what a record means besides (see
//! state), and read no file.

use std::collections::{BTreeMap, BTreeSet};

use crate::by_group::ByGroup;
use crate::record::Name;
use crate::report::Lost;
use crate::segment::{EntryRef, Run};
use crate::state::Groups;
use crate::types::{GroupId, Index as EntryIndex, SegmentId};

/// A run in a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedRun {
    /// The segment.
    pub segment: SegmentId,
    /// The run.
    pub run: Run,
}

#[derive(Clone, Debug, Default)]
struct GroupIndex {
    sealed: Vec<SealedRun>,
    /// Runs in the active segment; they start within `places`.
    active: Vec<Run>,
    places: Vec<EntryRef>,
}

impl GroupIndex {
    #[inline]
    fn first(&self) -> Option<&Name> {
        self.sealed.first().map(|s| &s.run.name).or(self.active.first().map(|run| &run.name))
    }

    /// Drops what gives way to an entry of this name: its index and above, and other incarnations.
    fn make_way(&mut self, name: &Name, mut dropped: impl FnMut(&SealedRun)) {
        self.truncate(name.id.index, &mut dropped);
        if self.first().is_some_and(|first| first.incarnation != name.incarnation) {
            self.active.clear();
            self.places.clear();
            self.sealed.drain(..).for_each(|run| dropped(&run));
        }
    }

    #[inline]
    fn truncate(&mut self, from: EntryIndex, mut dropped: impl FnMut(&SealedRun)) {
        while let Some(last) = self.active.last_mut().filter(|run| run.last() >= from) {
            let kept = last.below(from);
            last.count = kept;
            self.places.truncate((last.start + kept) as usize);
            if kept > 0 {
                break;
            }
            self.active.pop();
        }
        while let Some(last) = self.sealed.last_mut().filter(|sealed| sealed.run.last() >= from) {
            let kept = last.run.below(from);
            if kept > 0 {
                last.run.count = kept;
                break;
            }
            dropped(last);
            self.sealed.pop();
        }
    }

    /// Drops the entries up to `upto`.
    fn compact(&mut self, upto: EntryIndex, mut dropped: impl FnMut(&SealedRun)) {
        self.active.drain(..self.active.partition_point(|run| run.last() <= upto));
        if let Some(first) = self.active.first_mut() {
            first.skip_to(upto.next());
        }
        let gone = self.active.first().map_or(self.places.len(), |first| first.start as usize);
        self.places.drain(..gone);
        self.active.iter_mut().for_each(|run| run.start -= count(gone));
        let gone = self.sealed.partition_point(|sealed| sealed.run.last() <= upto);
        self.sealed.drain(..gone).for_each(|run| dropped(&run));
        if let Some(first) = self.sealed.first_mut() {
            first.run.skip_to(upto.next());
        }
    }

    /// Takes entries of the active segment, which drop what was there and above.
    #[inline]
    fn push(
        &mut self,
        name: Name,
        places: impl IntoIterator<Item = EntryRef>,
        dropped: impl FnMut(&SealedRun),
    ) {
        let last = self.active.last();
        let goes_on = last.is_some_and(|last| last.name.at(last.count) == name);
        if !goes_on {
            self.make_way(&name, dropped);
            self.active.push(Run { name, count: 0, start: count(self.places.len()) });
        }
        let before = self.places.len();
        self.places.extend(places);
        let more = count(self.places.len() - before);
        self.active.last_mut().expect("there is one").count += more;
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("fits a segment")
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the active segment.
    Active(Name, EntryRef),
    /// In a sealed segment, at this place of its entry table.
    Sealed(Name, SegmentId, u32),
}

impl Location {
    /// The entry's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        match self {
            Location::Active(name, _) | Location::Sealed(name, ..) => name,
        }
    }
}

/// Where each live entry of every group is.
#[derive(Clone, Debug, Default)]
pub struct Index {
    groups: ByGroup<GroupIndex>,
    /// Live runs in each sealed segment.
    live: BTreeMap<SegmentId, usize>,
    emptied: BTreeSet<SegmentId>,
}

impl Index {
    /// Sealed segments that lost their last live run since the last call.
    pub fn take_emptied(&mut self) -> BTreeSet<SegmentId> {
        std::mem::take(&mut self.emptied)
    }

    /// Whether there are any.
    #[must_use]
    pub fn has_emptied(&self) -> bool {
        !self.emptied.is_empty()
    }

    /// Whether a sealed segment holds a live entry.
    #[must_use]
    pub fn is_live(&self, segment: SegmentId) -> bool {
        self.live.get(&segment).is_some_and(|n| *n > 0)
    }

    /// Entries with consecutive indexes were written to the active segment; `name` is the first's.
    pub fn push(&mut self, name: Name, places: impl IntoIterator<Item = EntryRef>) {
        let Self { groups, live, emptied } = self;
        groups.get_or_default(name.group).push(name, places, |run| Self::drop_run(live, emptied, run));
    }

    /// A sealed segment's runs were read, in ascending order of segments.
    pub fn add_sealed(&mut self, segment: SegmentId, runs: &[Run]) {
        let Self { groups, live, emptied } = self;
        // Counted before any of them can be dropped.
        if !runs.is_empty() {
            live.insert(segment, runs.len());
        }
        for run in runs {
            let group = groups.get_or_default(run.name.group);
            group.make_way(&run.name, |run| Self::drop_run(live, emptied, run));
            group.sealed.push(SealedRun { segment, run: *run });
        }
    }

    fn drop_run(live: &mut BTreeMap<SegmentId, usize>, emptied: &mut BTreeSet<SegmentId>, run: &SealedRun) {
        let count = live.get_mut(&run.segment).expect("a run's segment is counted");
        *count -= 1;
        if *count == 0 {
            live.remove(&run.segment);
            emptied.insert(run.segment);
        }
    }

    /// Drops the entries from `from` on.
    pub fn truncate(&mut self, group: GroupId, from: EntryIndex) {
        let Self { groups, live, emptied } = self;
        if let Some(g) = groups.get_mut(group) {
            g.truncate(from, |run| Self::drop_run(live, emptied, run));
        }
    }

    /// Drops the entries up to `upto`.
    pub fn compact(&mut self, group: GroupId, upto: EntryIndex) {
        let Self { groups, live, emptied } = self;
        if let Some(g) = groups.get_mut(group) {
            g.compact(upto, |run| Self::drop_run(live, emptied, run));
        }
    }

    /// Drops every entry of a group.
    pub fn clear(&mut self, group: GroupId) {
        if let Some(g) = self.groups.remove(group) {
            for run in &g.sealed {
                Self::drop_run(&mut self.live, &mut self.emptied, run);
            }
        }
    }

    /// The active segment's live entries, as its footer holds them: their places, and the runs over these.
    #[must_use]
    pub fn tables(&self) -> (Vec<EntryRef>, Vec<Run>) {
        let (mut entries, mut runs) = (Vec::new(), Vec::new());
        let written = self.groups.iter().filter(|(_, g)| !g.active.is_empty());
        let mut written: Vec<_> = written.collect();
        written.sort_unstable_by_key(|(group, _)| **group);
        for (_, g) in written {
            let before = count(entries.len());
            runs.extend(g.active.iter().map(|run| Run { start: before + run.start, ..*run }));
            entries.extend_from_slice(&g.places);
        }
        (entries, runs)
    }

    /// The active segment's live entries are those of the sealed segment `segment`, whose runs [`Index::tables`]
    /// gave.
    pub fn seal(&mut self, segment: SegmentId, runs: &[Run]) {
        for run in runs {
            let g = self.groups.get_or_default(run.name.group);
            g.active.clear();
            g.places.clear();
            g.sealed.push(SealedRun { segment, run: *run });
        }
        if runs.is_empty() {
            self.emptied.insert(segment);
        } else {
            self.live.insert(segment, runs.len());
        }
    }

    /// Where an entry is.
    #[must_use]
    pub fn locate(&self, group: GroupId, index: EntryIndex) -> Option<Location> {
        let g = self.groups.get(group)?;
        if g.active.first().is_some_and(|first| first.name.id.index <= index) {
            let run = g.active[g.active.partition_point(|run| run.name.id.index <= index) - 1];
            let n = run.number(index)?;
            return Some(Location::Active(run.name.at(n), g.places[(run.start + n) as usize]));
        }
        let after = g.sealed.partition_point(|s| s.run.name.id.index <= index);
        let SealedRun { segment, run } = g.sealed.get(after.checked_sub(1)?)?;
        let n = run.number(index)?;
        Some(Location::Sealed(run.name.at(n), *segment, run.start + n))
    }

    /// Drops what no group owns any more.
    pub fn settle(&mut self, groups: &Groups) {
        let ids = self.groups.iter().map(|(id, _)| *id);
        let gone: Vec<GroupId> = ids.filter(|id| !groups.contains_key(id)).collect();
        gone.into_iter().for_each(|id| self.clear(id));
        for (id, group) in groups {
            if self.incarnation(*id).is_some_and(|i| i != group.incarnation.0) {
                self.clear(*id);
            }
            self.truncate(*id, group.last.index.next());
            self.compact(*id, group.purged.index);
        }
    }

    /// Names what is missing of what the groups say. `above` gives, for a group of an incarnation,
    /// the index from which on its entries are known to come from elsewhere.
    #[must_use]
    pub fn holes(&self, groups: &Groups, above: &BTreeMap<(GroupId, u64), EntryIndex>) -> Vec<Lost> {
        let mut lost = Vec::new();
        for (id, group) in groups {
            let incarnation = group.incarnation.0;
            let above = above
                .get(&(*id, incarnation))
                .map_or(group.last.index, |a| EntryIndex(a.0.saturating_sub(1)));
            let end = group.last.index.min(above);
            let mut next = group.first();
            let mut hole = |from: EntryIndex, to: EntryIndex| {
                if from <= to {
                    lost.push(Lost::Entries { group: *id, from, to, term: None });
                }
            };
            if self.incarnation(*id) == Some(incarnation) {
                for (first, last) in self.spans(*id).into_iter().filter(|(_, last)| *last >= group.first()) {
                    hole(next, EntryIndex(first.0.saturating_sub(1)).min(end));
                    next = next.max(last.next());
                }
            }
            hole(next, end);
        }
        lost
    }

    fn incarnation(&self, group: GroupId) -> Option<u64> {
        Some(self.groups.get(group)?.first()?.incarnation.0)
    }

    fn spans(&self, group: GroupId) -> Vec<(EntryIndex, EntryIndex)> {
        let Some(g) = self.groups.get(group) else { return Vec::new() };
        let sealed = g.sealed.iter().map(|s| (s.run.name.id.index, s.run.last()));
        sealed.chain(g.active.iter().map(|run| (run.name.id.index, run.last()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::Kind;
    use crate::types::{Incarnation, LeaderTag, LogId};

    fn name(index: u64, term: u64) -> Name {
        Name {
            kind: Kind::Command,
            group: GroupId(1),
            incarnation: Incarnation(1),
            id: LogId::new(index, term),
            leader: LeaderTag::NONE,
        }
    }

    fn seal(index: &mut Index, segment: SegmentId) -> Vec<EntryRef> {
        let (entries, runs) = index.tables();
        index.seal(segment, &runs);
        entries
    }

    fn filled(range: std::ops::RangeInclusive<u64>, segment: u64) -> Index {
        let mut index = Index::default();
        for i in range {
            index.push(name(i, 1), [EntryRef { offset: u32::try_from(i).unwrap(), len: 0, crc: 0 }]);
        }
        seal(&mut index, SegmentId(segment));
        index
    }

    fn at(index: &Index, i: u64) -> Option<u64> {
        index.locate(GroupId(1), EntryIndex(i)).map(|l| match l {
            Location::Active(..) => 0,
            Location::Sealed(_, segment, _) => segment.0,
        })
    }

    #[test]
    fn the_newest_write_of_an_index_wins() {
        let mut index = filled(1..=10, 5);
        index.push(name(4, 2), [EntryRef { offset: 0, len: 0, crc: 0 }]);
        assert_eq!([3, 4, 5].map(|i| at(&index, i)), [Some(5), Some(0), None]);
        seal(&mut index, SegmentId(6));
        assert_eq!([3, 4, 5].map(|i| at(&index, i)), [Some(5), Some(6), None]);
    }

    #[test]
    fn a_segment_is_emptied_when_its_last_run_goes() {
        let mut index = filled(1..=10, 5);
        index.compact(GroupId(1), EntryIndex(9));
        assert!(index.take_emptied().is_empty() && index.is_live(SegmentId(5)));
        index.truncate(GroupId(1), EntryIndex(10));
        assert!(index.take_emptied().contains(&SegmentId(5)) && !index.is_live(SegmentId(5)));
    }

    /// What is done to one group: an append of so many entries, each so far above the last; a truncation
    /// or a compaction so far from the first; a sealing.
    #[derive(Clone, Debug)]
    enum Step {
        Append { skipped: u64, count: u32, term: u64 },
        Truncate(u64),
        Compact(u64),
        Seal,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let append = (prop_oneof![9 => Just(0), 1 => 1u64..5], 1u32..6, 1u64..3);
        let step = prop_oneof![
            4 => append.prop_map(|(skipped, count, term)| Step::Append { skipped, count, term }),
            1 => (0u64..20).prop_map(Step::Truncate),
            1 => (0u64..20).prop_map(Step::Compact),
            1 => Just(Step::Seal),
        ];
        proptest::collection::vec(step, 1..30)
    }

    proptest! {
        /// Against a map of every entry. The place's offset counts the entries that were ever pushed.
        #[test]
        fn every_entry_is_where_it_was_put(steps in steps()) {
            let mut index = Index::default();
            let mut model = BTreeMap::<u64, (u64, u32)>::new();
            let (mut pushed, mut next, mut sealed) = (0u32, 1u64, Vec::new());
            for step in steps {
                let first = model.keys().next().copied().unwrap_or(next);
                match step {
                    Step::Append { skipped, count, term } => {
                        next += skipped;
                        let places = (pushed..pushed + count).map(|n| EntryRef { offset: n, len: 0, crc: 0 });
                        index.push(name(next, term), places);
                        model.extend((0..count).map(|n| (next + u64::from(n), (term, pushed + n))));
                        (pushed, next) = (pushed + count, next + u64::from(count));
                    }
                    Step::Truncate(far) => {
                        index.truncate(GroupId(1), EntryIndex(first + far));
                        drop(model.split_off(&(first + far)));
                        next = next.min(first + far);
                    }
                    Step::Compact(far) => {
                        index.compact(GroupId(1), EntryIndex(first + far));
                        model = model.split_off(&(first + far + 1));
                        next = next.max(first + far + 1);
                    }
                    Step::Seal => sealed.push(seal(&mut index, SegmentId(sealed.len() as u64))),
                }
            }
            for i in 0..next + 3 {
                let found = index.locate(GroupId(1), EntryIndex(i)).map(|found| {
                    let at = match found {
                        Location::Active(_, at) => at,
                        Location::Sealed(_, segment, n) => sealed[usize::try_from(segment.0).unwrap()][n as usize],
                    };
                    assert_eq!(found.name().id.index, EntryIndex(i));
                    (found.name().id.term.0, at.offset)
                });
                prop_assert_eq!(found, model.get(&i).copied(), "at {}", i);
            }
        }
    }

    #[test]
    fn settle_names_every_hole() {
        let mut index = filled(3..=5, 5);
        let mut groups = Groups::new();
        let record = crate::record::Record {
            name: Name { kind: Kind::CreateGroup, id: LogId::default(), ..name(0, 0) },
            data: [].into(),
        };
        crate::state::apply(&mut groups, crate::types::Position(1), &record);
        groups.get_mut(&GroupId(1)).unwrap().last = LogId::new(7, 1);
        let hole = |from, to| Lost::Entries {
            group: GroupId(1),
            from: EntryIndex(from),
            to: EntryIndex(to),
            term: None,
        };
        index.settle(&groups);
        assert_eq!(index.holes(&groups, &BTreeMap::new()), [hole(1, 2), hole(6, 7)]);
        let above = BTreeMap::from([((GroupId(1), 1), EntryIndex(7))]);
        assert_eq!(index.holes(&groups, &above), [hole(1, 2), hole(6, 6)]);
    }
}
