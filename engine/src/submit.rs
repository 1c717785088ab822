//! What a batch may say, and what it becomes: records of the stream. Pure but for look-ups.
//!
//! I own the rules of submission, and the state that they change: what callers see. (B1) A batch is let
//! through whole or refused whole: what a refused one changed is put back under the same lock. (B2) Each
//! operation sees those before it in the batch. (B3) What is there already, the same, becomes no record. I
//! do not know files or threads.

use smallvec::SmallVec;

use crate::by_group::ByGroup;
use crate::error::{Error, Result};
use crate::planted::Bug;
use crate::record::{Kind, Name, Record};
use crate::space::Content;
use crate::state::{self, Group};
use crate::types::{
    Digest, Entry, GroupId, Incarnation, Index, LeaderTag, LogId, Position, SnapshotOwner, SnapshotPointer,
    Term, Vote,
};
use crate::vfs::Vfs;

/// One operation of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Append(Entry),
    Vote(Vote),
    Commit(Index),
    Truncate(Index),
    Compact(Index),
    Create,
    Remove,
    Snapshot(SnapshotPointer),
    Install(SnapshotPointer),
}

impl Op {
    /// Bytes of the record's data.
    fn payload(&self) -> usize {
        match self {
            Op::Append(entry) => entry.data.len(),
            Op::Vote(vote) => vote.data.len() + 16,
            Op::Snapshot(_) | Op::Install(_) => 34,
            _ => 0,
        }
    }
}

/// Operations in their order, of which one takes no memory of its own.
type Ops = [(GroupId, Op); 1];

/// Operations over any groups that become durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    pub(crate) ops: SmallVec<Ops>,
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with memory for so many operations.
    #[must_use]
    pub fn with_capacity(operations: usize) -> Self {
        Self { ops: SmallVec::with_capacity(operations) }
    }

    pub(crate) fn push(&mut self, group: GroupId, op: Op) -> &mut Self {
        self.ops.push((group, op));
        self
    }

    /// Appends an entry at last + 1; the same entry again changes nothing.
    pub fn append(&mut self, group: GroupId, entry: Entry) -> &mut Self {
        self.push(group, Op::Append(entry))
    }

    /// Stores a vote whose key is above the stored one; the same vote again changes nothing.
    pub fn vote(&mut self, group: GroupId, vote: Vote) -> &mut Self {
        self.push(group, Op::Vote(vote))
    }

    /// Raises the commit index, up to the last index.
    pub fn commit(&mut self, group: GroupId, index: Index) -> &mut Self {
        self.push(group, Op::Commit(index))
    }

    /// Removes the entries from `from` on; none of them may be committed.
    pub fn truncate_suffix(&mut self, group: GroupId, from: Index) -> &mut Self {
        self.push(group, Op::Truncate(from))
    }

    /// Removes the entries up to `upto`, which a snapshot pointer must cover. Beyond the last entry
    /// only the snapshot's own index is allowed; the next entry is then the one after it.
    pub fn compact_prefix(&mut self, group: GroupId, upto: Index) -> &mut Self {
        self.push(group, Op::Compact(upto))
    }

    /// Creates a group.
    pub fn create_group(&mut self, group: GroupId) -> &mut Self {
        self.push(group, Op::Create)
    }

    /// Removes a group with its log, vote and snapshot.
    pub fn remove_group(&mut self, group: GroupId) -> &mut Self {
        self.push(group, Op::Remove)
    }

    /// Records that the host holds a durable snapshot of its own.
    pub fn external_snapshot(&mut self, group: GroupId, id: LogId, digest: Digest) -> &mut Self {
        self.push(group, Op::Snapshot(SnapshotPointer { id, owner: SnapshotOwner::External, digest }))
    }

    /// How many operations it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Takes the operations from `at` on out, as a batch of their own.
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use = "what was taken out is no longer part of the batch"]
    pub fn split_off(&mut self, at: usize) -> Self {
        Self { ops: self.ops.drain(at..).collect() }
    }

    /// Adds the operations of another batch behind its own.
    pub fn join(&mut self, later: Self) -> &mut Self {
        self.ops.extend(later.ops);
        self
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// What it asks for, for admission.
    pub(crate) fn weight(&self) -> Weight {
        let mut weight = Weight::default();
        weight.content.records = self.ops.len() as u64;
        for (_, op) in &self.ops {
            let bytes = op.payload() as u64;
            weight.content.payload += bytes;
            weight.largest = weight.largest.max(bytes);
            weight.content.entries += u64::from(matches!(op, Op::Append(_)));
        }
        weight
    }

    /// The largest payload and what it belongs to.
    pub(crate) fn largest(&self) -> (u64, &'static str) {
        let what = |op: &Op| match op {
            Op::Append(_) => "entry",
            Op::Vote(_) => "vote",
            _ => "record",
        };
        let sizes = self.ops.iter().map(|(_, op)| (op.payload() as u64, what(op)));
        sizes.max_by_key(|(size, _)| *size).unwrap_or((0, "batch"))
    }
}

/// What a batch asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weight {
    pub(crate) content: Content,
    /// Payload bytes of the largest record.
    pub(crate) largest: u64,
}

/// A group as callers see it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) state: Group,
    /// Its newest entries, among them all that are not durable, as the starts of runs: entries with consecutive
    /// indexes and positions.
    pub(crate) pending: Runs,
    /// Bytes of batches in flight that began with this group.
    pub(crate) share: u64,
    /// The last record that may have replaced entries.
    pub(crate) cut: Position,
}

/// Index and position of the first entry of a run.
pub(crate) type Start = (Index, Position);

/// Runs, of which a group seldom has more than one.
type Runs = SmallVec<[Start; 1]>;

/// Runs that a group keeps room for while it has none.
const KEPT_ROOM: usize = 16;

impl Line {
    pub(crate) fn new(state: Group) -> Self {
        let cut = Position(state.incarnation.0);
        Self { state, pending: Runs::new(), share: 0, cut }
    }

    /// How many runs begin below an index.
    fn runs_below(&self, index: Index) -> usize {
        self.pending.partition_point(|(first, _)| *first < index)
    }

    /// Where an entry that is not durable is in the stream.
    pub(crate) fn pending(&self, index: Index, durable: Position) -> Option<Position> {
        let run = self.runs_below(index.next()).checked_sub(1)?;
        let (first, at) = self.pending[run];
        let position = Position(at.0 + (index.0 - first.0));
        (index <= self.state.last.index && position > durable).then_some(position)
    }

    /// The last entry that is durable.
    pub(crate) fn durable_last(&self, durable: Position) -> Index {
        let (runs, rest) = self.durable_runs(durable);
        let pending = rest.or(self.pending.get(runs).copied());
        pending.map_or(self.state.last.index, |(first, _)| Index(first.0 - 1))
    }

    /// How many runs are durable, and what is not of the one that is so in part.
    fn durable_runs(&self, durable: Position) -> (usize, Option<Start>) {
        let begun = self.pending.partition_point(|(_, at)| *at <= durable);
        let Some(runs) = begun.checked_sub(1) else { return (0, None) };
        let (first, at) = self.pending[runs];
        let end = self.pending.get(begun).map_or(self.state.last.index.next(), |(next, _)| *next);
        let settled = durable.next().0 - at.0;
        let next = Index(first.0 + settled);
        if next < end { (runs, Some((next, Position(at.0 + settled)))) } else { (begun, None) }
    }

    /// The next entry is pending.
    fn push(&mut self, index: Index, at: Position) {
        match self.pending.last() {
            Some((first, of)) if at.0 - of.0 == index.0 - first.0 => {}
            _ => self.pending.push((index, at)),
        }
    }

    /// Forgets the pending entries that are durable now.
    fn settle(&mut self, durable: Position) {
        let (runs, rest) = self.durable_runs(durable);
        if let Some(rest) = rest {
            self.pending[runs] = rest;
        }
        if runs > 0 {
            self.pending.drain(..runs);
        }
        if self.pending.is_empty() && self.pending.capacity() > KEPT_ROOM {
            self.pending.shrink_to_fit();
        }
    }
}

/// Every group as callers see it.
pub(crate) type Lines = ByGroup<Line>;

/// Where submission finds what was submitted before.
pub(crate) trait Present {
    /// A record that is not durable yet.
    fn pending(&self, position: Position) -> &Record;
    /// The term of an entry that is not pending.
    fn term(&self, group: GroupId, index: Index) -> Result<Term>;
    /// An entry that is not pending.
    fn entry(&self, group: GroupId, index: Index) -> Result<Entry>;
}

/// How a group was before an operation, or before several appends.
enum Before {
    Absent,
    /// Its last entry, and how many runs were pending.
    Appended(LogId, usize),
    /// Its state, how many pending runs the operation left, and those that it took away.
    Changed(Box<Group>, usize, Runs),
    Removed(Box<Line>),
}

/// What a batch became, until it is taken for good.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) records: Vec<Record>,
    /// Entries among the records.
    pub(crate) entries: u64,
    /// Payload bytes of the records.
    pub(crate) bytes: u64,
    /// Bytes that the records add to the state of all groups.
    pub(crate) growth: i64,
    undo: Vec<(GroupId, Before)>,
}

impl Draft {
    /// Ready for the next batch.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.undo.clear();
        (self.entries, self.bytes, self.growth) = (0, 0, 0);
    }

    /// Puts back what the batch changed.
    pub(crate) fn take_back(&mut self, groups: &mut Lines) {
        for (group, before) in self.undo.drain(..).rev() {
            match before {
                Before::Appended(last, kept) => {
                    let line = groups.get_mut(group).expect("nothing removed it since");
                    line.state.last = last;
                    line.pending.truncate(kept);
                }
                Before::Changed(state, kept, cut) => {
                    let line = groups.get_mut(group).expect("nothing removed it since");
                    line.state = *state;
                    line.pending.truncate(kept);
                    line.pending.extend(cut);
                }
                Before::Absent => drop(groups.remove(group)),
                Before::Removed(line) => groups.insert(group, *line),
            }
        }
        self.clear();
    }

    /// What a frame of the records holds.
    pub(crate) fn content(&self) -> Content {
        Content { records: self.records.len() as u64, entries: self.entries, payload: self.bytes }
    }
}

/// A batch under examination.
struct Examined<'a, P> {
    groups: &'a mut Lines,
    present: &'a P,
    durable: Position,
    next: Position,
    draft: &'a mut Draft,
}

/// Checks a batch against the submitted state, changes it and makes the records, the first of which gets
/// the position after `last`; what is `durable` is not pending. A refusal changes nothing.
pub(crate) fn examine<V: Vfs, P: Present>(
    groups: &mut Lines,
    present: &P,
    durable: Position,
    last: Position,
    batch: WriteBatch,
    draft: &mut Draft,
) -> Result<()> {
    let mut examined = Examined { groups, present, durable, next: last.next(), draft };
    examined.all::<V>(batch.ops.into_iter()).inspect_err(|_| draft.take_back(groups))
}

const EMPTY: [u8; 0] = [];

impl<P: Present> Examined<'_, P> {
    fn all<V: Vfs>(&mut self, mut ops: smallvec::IntoIter<Ops>) -> Result<()> {
        while let Some((group, op)) = ops.next() {
            match op {
                Op::Append(entry) => self.append(group, entry, &mut ops),
                Op::Vote(vote) => self.vote::<V>(group, &vote),
                Op::Commit(index) => self.commit(group, index),
                Op::Truncate(from) => self.truncate(group, from),
                Op::Compact(upto) => self.compact::<V>(group, upto),
                Op::Create => self.create(group),
                Op::Remove => self.remove(group),
                Op::Snapshot(pointer) => self.snapshot::<V>(group, pointer),
                Op::Install(pointer) => self.install::<V>(group, pointer),
            }?;
        }
        Ok(())
    }

    fn line(&self, id: GroupId) -> Result<&Line> {
        self.groups.get(id).ok_or(Error::UnknownGroup { group: id })
    }

    fn group(&self, id: GroupId) -> Result<&Group> {
        Ok(&self.line(id)?.state)
    }

    /// Makes a control record and changes the group as it says.
    fn emit(&mut self, group: GroupId, kind: Kind, id: LogId, data: impl Into<std::sync::Arc<[u8]>>) {
        let position = self.next;
        self.next = position.next();
        let line = self.groups.get_mut(group);
        let incarnation = line.as_ref().map_or(Incarnation(position.0), |line| line.state.incarnation);
        let record = Record {
            name: Name { kind, group, incarnation, id, leader: LeaderTag::NONE },
            data: data.into(),
        };
        let weight = |state: &Group| state.weight().cast_signed();
        let before = match line {
            None => {
                let state = Group::new(incarnation);
                self.draft.growth += weight(&state);
                self.groups.insert(group, Line::new(state));
                Before::Absent
            }
            Some(_) if kind == Kind::RemoveGroup => {
                let line = self.groups.remove(group).expect("just seen");
                self.draft.growth -= weight(&line.state);
                Before::Removed(Box::new(line))
            }
            Some(line) => {
                let state = Box::new(line.state.clone());
                let below = if kind == Kind::Truncate { line.runs_below(id.index) } else { 0 };
                if matches!(kind, Kind::Truncate | Kind::Install) {
                    line.cut = position;
                }
                state::change(&mut line.state, position, &record);
                self.draft.growth += weight(&line.state) - weight(&state);
                // An install or a compaction beyond the log: the next entry does not follow these.
                let kept = if line.state.last == state.last { line.pending.len() } else { below };
                Before::Changed(state, kept, line.pending.drain(kept..).collect())
            }
        };
        self.draft.undo.push((group, before));
        self.draft.bytes += record.data.len() as u64;
        self.draft.records.push(record);
    }

    /// The term at an index within purged..=last.
    fn term(&self, group: GroupId, index: Index) -> Result<Term> {
        let line = self.line(group)?;
        let g = &line.state;
        if index == g.purged.index {
            return Ok(g.purged.term);
        }
        if index == g.last.index {
            return Ok(g.last.term);
        }
        match line.pending(index, self.durable) {
            Some(position) => Ok(self.pending(position).name.id.term),
            None => self.present.term(group, index),
        }
    }

    /// A record that is not durable yet, of this batch or of one before.
    fn pending(&self, position: Position) -> &Record {
        let records = &self.draft.records;
        let back = usize::try_from(self.next.0 - position.0).expect("in memory");
        match records.len().checked_sub(back) {
            Some(n) => &records[n],
            None => self.present.pending(position),
        }
    }

    /// Appends an entry, and those that come next in the batch if they are of the same group.
    fn append(&mut self, group: GroupId, mut entry: Entry, ops: &mut smallvec::IntoIter<Ops>) -> Result<()> {
        let Some(line) = self.groups.get_mut(group) else { return Err(Error::UnknownGroup { group }) };
        let Draft { records, entries, bytes, undo, .. } = &mut *self.draft;
        if undo.last().is_none_or(|(of, _)| *of != group) {
            line.settle(self.durable);
            undo.push((group, Before::Appended(line.state.last, line.pending.len())));
        }
        let (first, incarnation) = (line.state.first(), line.state.incarnation);
        loop {
            let Entry { id, leader, kind, data } = entry;
            let last = line.state.last;
            if id.index < first {
                return Err(Error::Compacted { group, index: id.index, first });
            }
            if id.index > last.index.next() {
                return Err(Error::Gap { group, index: id.index, expected: last.index.next() });
            }
            check_index(group, id.index)?;
            if id.index <= last.index {
                return self.append_again(group, &Entry { id, leader, kind, data });
            }
            if id.term < last.term {
                return Err(Error::TermRegression { group, offered: id, last });
            }
            line.push(id.index, self.next);
            line.state.last = id;
            *entries += 1;
            *bytes += data.len() as u64;
            let name = Name { kind: Kind::of_entry(kind), group, incarnation, id, leader };
            records.push(Record { name, data });
            self.next = self.next.next();
            match ops.as_slice().first() {
                Some((of, Op::Append(_))) if *of == group => {}
                _ => return Ok(()),
            }
            let Some((_, Op::Append(next))) = ops.next() else { unreachable!("just seen") };
            entry = next;
        }
    }

    fn append_again(&self, group: GroupId, entry: &Entry) -> Result<()> {
        let present = self.term(group, entry.id.index)?;
        if present != entry.id.term {
            return Err(Error::WouldOverwrite { group, offered: entry.id, present });
        }
        let same = match self.line(group)?.pending(entry.id.index, self.durable) {
            Some(position) => self.pending(position).entry().as_ref() == Some(entry),
            None => self.present.entry(group, entry.id.index)? == *entry,
        };
        if same { Ok(()) } else { Err(Error::Conflict { group, id: entry.id }) }
    }

    fn vote<V: Vfs>(&mut self, group: GroupId, vote: &Vote) -> Result<()> {
        if let Some((_, present)) = &self.group(group)?.vote {
            if present == vote {
                return Ok(());
            }
            if vote.key <= present.key && !V::planted(Bug::VoteGoesBack) {
                return Err(Error::StaleVote { group, offered: vote.key, present: present.key });
            }
        }
        let id = LogId { index: Index(0), term: vote.key.term };
        self.emit(group, Kind::Vote, id, Record::vote_data(vote));
        Ok(())
    }

    fn commit(&mut self, group: GroupId, index: Index) -> Result<()> {
        let g = self.group(group)?;
        if index < g.commit || index > g.last.index {
            let (present, last) = (g.commit, g.last.index);
            return Err(Error::CommitOutOfRange { group, offered: index, present, last });
        }
        if index > g.commit {
            self.emit(group, Kind::Commit, LogId { index, term: Term(0) }, EMPTY);
        }
        Ok(())
    }

    fn truncate(&mut self, group: GroupId, from: Index) -> Result<()> {
        let g = self.group(group)?;
        if from < g.first() {
            return Err(Error::Compacted { group, index: from, first: g.first() });
        }
        if from <= g.commit {
            return Err(Error::Committed { group, index: from, commit: g.commit });
        }
        if from > g.last.index {
            return Ok(());
        }
        let term = self.term(group, Index(from.0 - 1))?;
        self.emit(group, Kind::Truncate, LogId { index: from, term }, EMPTY);
        Ok(())
    }

    fn compact<V: Vfs>(&mut self, group: GroupId, upto: Index) -> Result<()> {
        let g = self.group(group)?;
        if upto <= g.purged.index {
            return Ok(());
        }
        let covered = g.snapshot.map(|(_, p)| p.id);
        let Some(snapshot) = covered.filter(|c| c.index >= upto || V::planted(Bug::CompactedUncovered))
        else {
            return Err(Error::NotCovered { group, index: upto, covered });
        };
        let term = match upto {
            _ if upto <= g.last.index => self.term(group, upto)?,
            _ if upto == snapshot.index => snapshot.term,
            _ => return Err(Error::PastEnd { group, index: upto, last: g.last.index }),
        };
        self.emit(group, Kind::Compact, LogId { index: upto, term }, EMPTY);
        Ok(())
    }

    fn create(&mut self, group: GroupId) -> Result<()> {
        if self.group(group).is_ok() {
            return Err(Error::GroupExists { group });
        }
        self.emit(group, Kind::CreateGroup, LogId::default(), EMPTY);
        Ok(())
    }

    fn remove(&mut self, group: GroupId) -> Result<()> {
        self.group(group)?;
        self.emit(group, Kind::RemoveGroup, LogId::default(), EMPTY);
        Ok(())
    }

    /// Whether a snapshot's last entry is the one that the log has there; `None` above the log.
    fn agrees(&self, group: GroupId, id: LogId) -> Result<Option<bool>> {
        let g = self.group(group)?;
        let floor = g.snapshot.map_or(g.purged, |(_, p)| p.id.max(g.purged));
        if id.index < floor.index {
            return Err(Error::StaleSnapshot { group, offered: id, present: floor });
        }
        if id.index > g.last.index {
            return Ok(None);
        }
        Ok(Some(self.term(group, id.index)? == id.term))
    }

    fn snapshot<V: Vfs>(&mut self, group: GroupId, pointer: SnapshotPointer) -> Result<()> {
        if !V::planted(Bug::NoLastIndex) {
            check_index(group, pointer.id.index)?;
        }
        let known = self.agrees(group, pointer.id)?;
        let g = self.group(group)?;
        if g.snapshot.is_some_and(|(_, p)| p == pointer) {
            return Ok(());
        }
        match known {
            Some(false) => return Err(Error::Conflict { group, id: pointer.id }),
            // What we made ourselves covers only what we have; a host may hold more.
            None if pointer.owner == SnapshotOwner::Owned => {
                return Err(Error::PastEnd { group, index: pointer.id.index, last: g.last.index });
            }
            _ => {}
        }
        self.emit(group, Kind::Snapshot, pointer.id, Record::pointer_data(&pointer, false));
        Ok(())
    }

    fn install<V: Vfs>(&mut self, group: GroupId, pointer: SnapshotPointer) -> Result<()> {
        check_index(group, pointer.id.index)?;
        let keep = self.agrees(group, pointer.id)?;
        let g = self.group(group)?;
        if keep == Some(false) && pointer.id.index <= g.commit {
            return Err(Error::Committed { group, index: pointer.id.index, commit: g.commit });
        }
        let keep = keep == Some(true) || (keep == Some(false) && V::planted(Bug::SuffixKept));
        self.emit(group, Kind::Install, pointer.id, Record::pointer_data(&pointer, keep));
        Ok(())
    }
}

/// What has no next index is refused, as a decoder does.
fn check_index(group: GroupId, index: Index) -> Result<()> {
    if index > Index::LAST { Err(Error::OutOfRange { group, index }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens to a group: entries behind so many records of others; a truncation of so many entries; so
    /// many records more are durable; what is durable is forgotten.
    #[derive(Clone, Debug)]
    enum Step {
        Append { skipped: u64, count: u64 },
        Truncate(u64),
        Durable(u64),
        Settle,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let append = (0u64..3, 1u64..5).prop_map(|(skipped, count)| Step::Append { skipped, count });
        let step = prop_oneof![
            3 => append,
            1 => (1u64..6).prop_map(Step::Truncate),
            2 => (1u64..9).prop_map(Step::Durable),
            1 => Just(Step::Settle),
        ];
        proptest::collection::vec(step, 1..30)
    }

    proptest! {
        /// Against the position of every entry.
        #[test]
        fn what_is_not_durable_is_pending(steps in steps()) {
            let mut line = Line::new(Group::new(Incarnation(1)));
            let mut positions = Vec::<u64>::new();
            let (mut next, mut durable) = (1, 0);
            for step in steps {
                match step {
                    Step::Append { skipped, count } => {
                        next += skipped;
                        for _ in 0..count {
                            positions.push(next);
                            let index = Index(positions.len() as u64);
                            line.push(index, Position(next));
                            line.state.last.index = index;
                            next += 1;
                        }
                    }
                    Step::Truncate(count) => {
                        positions.truncate(positions.len().saturating_sub(usize::try_from(count).unwrap()));
                        let last = Index(positions.len() as u64);
                        line.pending.truncate(line.runs_below(last.next()));
                        line.state.last.index = last;
                        next += 1;
                    }
                    Step::Durable(count) => durable = (durable + count).min(next - 1),
                    Step::Settle => line.settle(Position(durable)),
                }
                let last = positions.iter().take_while(|at| **at <= durable).count();
                prop_assert_eq!(line.durable_last(Position(durable)), Index(last as u64));
                for index in 0..positions.len() + 2 {
                    let at = index.checked_sub(1).and_then(|n| positions.get(n)).copied();
                    let expected = at.filter(|at| *at > durable).map(Position);
                    prop_assert_eq!(line.pending(Index(index as u64), Position(durable)), expected);
                }
            }
        }
    }
}
