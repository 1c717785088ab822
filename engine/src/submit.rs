//! What a batch may say, and what it becomes: records of the stream. Pure but for look-ups.
//!
//! I own the rules of submission. (B1) A batch is let through whole or refused whole, before any
//! state changes. (B2) Each operation sees those before it in the batch. (B3) What is there already,
//! the same, becomes no record. I do not know positions, files or threads.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::planted::Bug;
use crate::record::{Kind, Name, Record};
use crate::state::{self, Group, Groups};
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

/// Operations over any groups that become durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    pub(crate) ops: Vec<(GroupId, Op)>,
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Payload bytes and entries, for admission.
    pub(crate) fn weight(&self) -> (u64, u64) {
        let entries = self.ops.iter().filter(|(_, op)| matches!(op, Op::Append(_))).count() as u64;
        let bytes = self.ops.iter().map(|(_, op)| op.payload() as u64).sum();
        (bytes, entries)
    }

    /// Whether it holds no entry, so that the reserve is open to it.
    pub(crate) fn is_control(&self) -> bool {
        !self.ops.iter().any(|(_, op)| matches!(op, Op::Append(_)))
    }

    /// The largest payload and what it belongs to, for the size checks.
    pub(crate) fn largest(&self) -> (usize, &'static str) {
        let what = |op: &Op| match op {
            Op::Append(_) => "entry",
            Op::Vote(_) => "vote",
            _ => "record",
        };
        let sizes = self.ops.iter().map(|(_, op)| (op.payload(), what(op)));
        sizes.max_by_key(|(size, _)| *size).unwrap_or((0, "batch"))
    }
}

/// Where submission finds entries that are there already.
pub(crate) trait Present {
    /// The term of an entry within first..=last, as submitted.
    fn term(&self, group: GroupId, index: Index) -> Result<Term>;
    /// An entry within first..=last, as submitted.
    fn entry(&self, group: GroupId, index: Index) -> Result<Entry>;
}

/// The groups that a batch touches, as it leaves them.
#[derive(Default)]
pub(crate) struct Touched {
    /// `None` for a group that is gone.
    pub(crate) groups: BTreeMap<GroupId, Option<Group>>,
}

/// A batch under examination.
struct Draft<'a, P> {
    base: &'a Groups,
    present: &'a P,
    next: Position,
    touched: Touched,
    /// Entries of this batch; where one is, it is newer than what is present.
    fresh: BTreeMap<(GroupId, Index), Entry>,
    records: Vec<Record>,
}

/// Checks a batch against the submitted state and turns it into records, the first of which gets
/// the position after `last`.
pub(crate) fn examine<V: Vfs, P: Present>(
    base: &Groups,
    present: &P,
    last: Position,
    batch: WriteBatch,
) -> Result<(Vec<Record>, Touched)> {
    let mut draft = Draft {
        base,
        present,
        next: last.next(),
        touched: Touched::default(),
        fresh: BTreeMap::new(),
        records: Vec::with_capacity(batch.ops.len()),
    };
    for (group, op) in batch.ops {
        match op {
            Op::Append(entry) => draft.append(group, entry)?,
            Op::Vote(vote) => draft.vote(group, &vote)?,
            Op::Commit(index) => draft.commit(group, index)?,
            Op::Truncate(from) => draft.truncate(group, from)?,
            Op::Compact(upto) => draft.compact::<V>(group, upto)?,
            Op::Create => draft.create(group)?,
            Op::Remove => draft.remove(group)?,
            Op::Snapshot(pointer) => draft.snapshot(group, pointer)?,
            Op::Install(pointer) => draft.install::<V>(group, pointer)?,
        }
    }
    Ok((draft.records, draft.touched))
}

const EMPTY: [u8; 0] = [];

impl<P: Present> Draft<'_, P> {
    fn group(&self, id: GroupId) -> Result<&Group> {
        let touched = self.touched.groups.get(&id).map(Option::as_ref);
        touched.unwrap_or_else(|| self.base.get(&id)).ok_or(Error::UnknownGroup { group: id })
    }

    fn emit(&mut self, group: GroupId, kind: Kind, id: LogId, leader: LeaderTag, data: std::sync::Arc<[u8]>) {
        let position = self.next;
        self.next = position.next();
        let incarnation = match kind {
            Kind::CreateGroup => Incarnation(position.0),
            _ => self.group(group).expect("checked by the caller").incarnation,
        };
        let record = Record { name: Name { kind, group, incarnation, id, leader }, data };
        let mut one = Groups::new();
        if let Ok(g) = self.group(group) {
            one.insert(group, g.clone());
        }
        state::apply(&mut one, position, &record);
        self.touched.groups.insert(group, one.remove(&group));
        self.records.push(record);
    }

    fn emit_control(&mut self, group: GroupId, kind: Kind, id: LogId, data: impl Into<std::sync::Arc<[u8]>>) {
        self.emit(group, kind, id, LeaderTag::NONE, data.into());
    }

    /// The term at an index within purged..=last.
    fn term(&self, group: GroupId, index: Index) -> Result<Term> {
        let g = self.group(group)?;
        if index == g.purged.index {
            return Ok(g.purged.term);
        }
        if index == g.last.index {
            return Ok(g.last.term);
        }
        match self.fresh.get(&(group, index)) {
            Some(entry) => Ok(entry.id.term),
            None => self.present.term(group, index),
        }
    }

    fn append(&mut self, group: GroupId, entry: Entry) -> Result<()> {
        let g = self.group(group)?;
        let (first, last, index) = (g.first(), g.last, entry.id.index);
        if index < first {
            return Err(Error::Compacted { group, index, first });
        }
        if index > last.index.next() {
            return Err(Error::Gap { group, index, expected: last.index.next() });
        }
        if index <= last.index {
            return self.append_again(group, &entry);
        }
        if entry.id.term < last.term {
            return Err(Error::TermRegression { group, offered: entry.id, last });
        }
        let kind = Kind::of_entry(entry.kind);
        self.emit(group, kind, entry.id, entry.leader, entry.data.clone());
        self.fresh.insert((group, index), entry);
        Ok(())
    }

    fn append_again(&mut self, group: GroupId, entry: &Entry) -> Result<()> {
        let present = self.term(group, entry.id.index)?;
        if present != entry.id.term {
            return Err(Error::WouldOverwrite { group, offered: entry.id, present });
        }
        let there = match self.fresh.get(&(group, entry.id.index)) {
            Some(fresh) => fresh.clone(),
            None => self.present.entry(group, entry.id.index)?,
        };
        if there == *entry { Ok(()) } else { Err(Error::Conflict { group, id: entry.id }) }
    }

    fn vote(&mut self, group: GroupId, vote: &Vote) -> Result<()> {
        if let Some((_, present)) = &self.group(group)?.vote {
            if present == vote {
                return Ok(());
            }
            if vote.key <= present.key {
                return Err(Error::StaleVote { group, offered: vote.key, present: present.key });
            }
        }
        let id = LogId { index: Index(0), term: vote.key.term };
        self.emit_control(group, Kind::Vote, id, Record::vote_data(vote));
        Ok(())
    }

    fn commit(&mut self, group: GroupId, index: Index) -> Result<()> {
        let g = self.group(group)?;
        if index < g.commit || index > g.last.index {
            let (present, last) = (g.commit, g.last.index);
            return Err(Error::CommitOutOfRange { group, offered: index, present, last });
        }
        if index > g.commit {
            self.emit_control(group, Kind::Commit, LogId { index, term: Term(0) }, EMPTY);
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
        self.emit_control(group, Kind::Truncate, LogId { index: from, term }, EMPTY);
        self.fresh.retain(|(g, index), _| *g != group || *index < from);
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
        self.emit_control(group, Kind::Compact, LogId { index: upto, term }, EMPTY);
        Ok(())
    }

    fn create(&mut self, group: GroupId) -> Result<()> {
        if self.group(group).is_ok() {
            return Err(Error::GroupExists { group });
        }
        self.emit_control(group, Kind::CreateGroup, LogId::default(), EMPTY);
        Ok(())
    }

    fn remove(&mut self, group: GroupId) -> Result<()> {
        self.group(group)?;
        self.emit_control(group, Kind::RemoveGroup, LogId::default(), EMPTY);
        self.fresh.retain(|(g, _), _| *g != group);
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

    fn snapshot(&mut self, group: GroupId, pointer: SnapshotPointer) -> Result<()> {
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
        self.emit_control(group, Kind::Snapshot, pointer.id, Record::pointer_data(&pointer, false));
        Ok(())
    }

    fn install<V: Vfs>(&mut self, group: GroupId, pointer: SnapshotPointer) -> Result<()> {
        let keep = self.agrees(group, pointer.id)?;
        let g = self.group(group)?;
        if keep == Some(false) && pointer.id.index <= g.commit {
            return Err(Error::Committed { group, index: pointer.id.index, commit: g.commit });
        }
        let keep = keep == Some(true) || (keep == Some(false) && V::planted(Bug::SuffixKept));
        self.emit_control(group, Kind::Install, pointer.id, Record::pointer_data(&pointer, keep));
        if !keep {
            self.fresh.retain(|(g, _), _| *g != group);
        }
        Ok(())
    }
}
