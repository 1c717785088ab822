//! The control state of every group, and how records change it. Pure.
//!
//! I own what a group is besides its entries. (T1) `apply` takes only records that submission let
//! through or recovery read back; it never fails. (T2) The state after a prefix of the stream is a
//! function of that prefix alone, so that a checkpoint and a replay agree. (T3) What is carried
//! forward in a checkpoint keeps its position. (T4) Neither the purged nor the commit index is above
//! the last. I do not know where entries are (see index).

use std::collections::BTreeMap;

use crate::by_group::ByGroup;
use crate::record::{Kind, Name, Record, put_varint, take_varint};
use crate::types::{
    Digest, END, GroupId, Incarnation, Index, LogId, Position, SnapshotOwner, SnapshotPointer, Term, Vote,
    VoteKey,
};

/// What a group takes of a coded state at most, besides the bytes of its vote.
const GROUP_MOST: usize = 176;
/// Bytes of a vote that each group has room for.
pub const VOTE_ROOM: usize = 64;
/// What a coded state takes besides its groups, in a checkpoint or a footer.
pub const STATE_OVERHEAD: u64 = 32;

/// One group, without its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Tells it from an earlier group of the same id.
    pub incarnation: Incarnation,
    /// The last entry compacted away; the first index is the next.
    pub purged: LogId,
    /// The last entry, or `purged` if there is none.
    pub last: LogId,
    /// The commit index.
    pub commit: Index,
    /// The newest vote and its position.
    pub vote: Option<(Position, Vote)>,
    /// The newest snapshot pointer and its position.
    pub snapshot: Option<(Position, SnapshotPointer)>,
}

impl Group {
    /// A group without entries, vote or snapshot.
    #[must_use]
    pub fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            purged: LogId::default(),
            last: LogId::default(),
            commit: Index(0),
            vote: None,
            snapshot: None,
        }
    }

    /// An upper bound of the bytes that it takes of a coded state, with room for a vote of [`VOTE_ROOM`]: a
    /// group that was taken can vote.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let vote = self.vote.as_ref().map_or(0, |(_, vote)| vote.data.len());
        (GROUP_MOST + vote.max(VOTE_ROOM)) as u64
    }

    /// The first index of the log.
    #[must_use]
    #[inline]
    pub fn first(&self) -> Index {
        self.purged.index.next()
    }
}

/// Every group by its id.
pub type Groups = BTreeMap<GroupId, Group>;

/// What keeps groups by their ids.
pub trait Table {
    /// A group.
    fn group(&mut self, id: GroupId) -> Option<&mut Group>;
    /// A group is created.
    fn create(&mut self, id: GroupId, group: Group);
    /// A group is removed.
    fn remove(&mut self, id: GroupId);
}

impl Table for Groups {
    fn group(&mut self, id: GroupId) -> Option<&mut Group> {
        self.get_mut(&id)
    }

    fn create(&mut self, id: GroupId, group: Group) {
        self.insert(id, group);
    }

    fn remove(&mut self, id: GroupId) {
        Self::remove(self, &id);
    }
}

impl Table for ByGroup<Group> {
    fn group(&mut self, id: GroupId) -> Option<&mut Group> {
        self.get_mut(id)
    }

    fn create(&mut self, id: GroupId, group: Group) {
        self.insert(id, group);
    }

    fn remove(&mut self, id: GroupId) {
        Self::remove(self, id);
    }
}

/// Whether submission lets a record through at `position`, where its group is like this. What follows leaves no
/// gap among entries, and (T4).
#[must_use]
pub fn follows(group: Option<&Group>, position: Position, record: &Record) -> bool {
    let Name { kind, incarnation, id, .. } = record.name;
    let Some(g) = group else { return kind == Kind::CreateGroup && incarnation.0 == position.0 };
    let there = g.purged.index < id.index && id.index <= g.last.index;
    let possible = match kind {
        Kind::Command | Kind::Membership => id.index == g.last.index.next() && id.term >= g.last.term,
        Kind::Vote => {
            let above = |new: Vote| g.vote.as_ref().is_none_or(|(_, old)| new.key > old.key);
            record.vote().is_some_and(above)
        }
        Kind::Commit => g.commit < id.index && id.index <= g.last.index,
        Kind::Truncate => there && id.index > g.commit,
        Kind::Compact => there || (id.index > g.last.index && g.snapshot.is_some_and(|(_, p)| p.id == id)),
        Kind::CreateGroup => false,
        Kind::RemoveGroup => true,
        Kind::Snapshot => record.pointer().is_some(),
        Kind::Install => record.pointer().is_some_and(|(_, keeps_suffix)| {
            g.purged.index <= id.index
                && if keeps_suffix { id.index <= g.last.index } else { id.index > g.commit }
        }),
    };
    possible && incarnation == g.incarnation
}

/// Changes one group, or creates or removes it, as the record at `position` says.
pub fn apply(groups: &mut impl Table, position: Position, record: &Record) {
    let name = &record.name;
    match name.kind {
        Kind::CreateGroup => {
            groups.create(name.group, Group::new(name.incarnation));
            return;
        }
        Kind::RemoveGroup => {
            groups.remove(name.group);
            return;
        }
        _ => {}
    }
    if let Some(group) = groups.group(name.group).filter(|g| g.incarnation == name.incarnation) {
        change(group, position, record);
    }
}

/// Changes a group as a record of its incarnation says that neither creates nor removes it.
#[inline]
pub fn change(group: &mut Group, position: Position, record: &Record) {
    let name = &record.name;
    match name.kind {
        Kind::Command | Kind::Membership => group.last = name.id,
        Kind::Vote => group.vote = record.vote().map(|v| (position, v)),
        Kind::Commit => group.commit = group.commit.max(name.id.index),
        Kind::Truncate => {
            group.last = LogId { index: Index(name.id.index.0.saturating_sub(1)), term: name.id.term };
        }
        Kind::Compact => compact(group, name.id),
        Kind::Snapshot => group.snapshot = record.pointer().map(|(p, _)| (position, p)),
        Kind::Install => {
            if let Some((pointer, keep_suffix)) = record.pointer() {
                install(group, position, pointer, keep_suffix);
            }
        }
        Kind::CreateGroup | Kind::RemoveGroup => unreachable!("no change of a group"),
    }
}

fn compact(group: &mut Group, upto: LogId) {
    group.purged = upto;
    if group.last.index <= upto.index {
        group.last = upto;
    }
}

fn install(group: &mut Group, position: Position, pointer: SnapshotPointer, keep_suffix: bool) {
    group.snapshot = Some((position, pointer));
    group.commit = group.commit.max(pointer.id.index);
    group.purged = pointer.id;
    if !keep_suffix {
        group.last = pointer.id;
    }
}

/// Codes the state of every group.
#[must_use]
pub fn encode(groups: &Groups) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + groups.len() * 64);
    put_varint(&mut out, groups.len() as u64);
    for (id, g) in groups {
        let numbers = [
            id.0,
            g.incarnation.0,
            g.purged.index.0,
            g.purged.term.0,
            g.last.index.0,
            g.last.term.0,
            g.commit.0,
        ];
        numbers.iter().for_each(|n| put_varint(&mut out, *n));
        out.push(u8::from(g.vote.is_some()) | u8::from(g.snapshot.is_some()) << 1);
        if let Some((position, vote)) = &g.vote {
            put_varint(&mut out, position.0);
            put_varint(&mut out, vote.key.term.0);
            out.extend_from_slice(&vote.key.rank.to_le_bytes());
            put_varint(&mut out, vote.data.len() as u64);
            out.extend_from_slice(&vote.data);
        }
        if let Some((position, pointer)) = &g.snapshot {
            put_varint(&mut out, position.0);
            put_varint(&mut out, pointer.id.index.0);
            put_varint(&mut out, pointer.id.term.0);
            out.push(if pointer.owner == SnapshotOwner::Owned { 1 } else { 2 });
            out.extend_from_slice(&pointer.digest.0);
        }
    }
    out
}

/// Reads the state of every group; `None` if the bytes are not exactly one.
#[must_use]
pub fn decode(mut bytes: &[u8]) -> Option<Groups> {
    let count = take_varint(&mut bytes)?;
    // One by one: a map that is made of all at once takes as much memory again.
    let mut groups = Groups::new();
    for _ in 0..count {
        let (id, group) = take_group(&mut bytes)?;
        groups.insert(id, group);
    }
    bytes.is_empty().then_some(groups)
}

/// Takes a number that has an end.
fn take_bounded(bytes: &mut &[u8]) -> Option<u64> {
    take_varint(bytes).filter(|n| *n < END)
}

fn take_log_id(bytes: &mut &[u8]) -> Option<LogId> {
    Some(LogId { index: Index(take_bounded(bytes)?), term: Term(take_varint(bytes)?) })
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*array)
}

fn take_group(bytes: &mut &[u8]) -> Option<(GroupId, Group)> {
    let id = GroupId(take_varint(bytes)?);
    let incarnation = Incarnation(take_bounded(bytes)?);
    let (purged, last) = (take_log_id(bytes)?, take_log_id(bytes)?);
    let commit = Index(take_bounded(bytes)?);
    // (T4)
    if purged.index.max(commit) > last.index {
        return None;
    }
    let [flags] = take_array::<1>(bytes)?;
    let mut group = Group { incarnation, purged, last, commit, vote: None, snapshot: None };
    if flags & 1 != 0 {
        let position = Position(take_bounded(bytes)?);
        let term = Term(take_varint(bytes)?);
        let rank = u128::from_le_bytes(take_array(bytes)?);
        let len = usize::try_from(take_varint(bytes)?).ok()?;
        let (data, rest) = bytes.split_at_checked(len)?;
        *bytes = rest;
        group.vote = Some((position, Vote { key: VoteKey { term, rank }, data: data.into() }));
    }
    if flags & 2 != 0 {
        let position = Position(take_bounded(bytes)?);
        let id = take_log_id(bytes)?;
        let owner = match take_array::<1>(bytes)? {
            [1] => SnapshotOwner::Owned,
            [2] => SnapshotOwner::External,
            _ => return None,
        };
        group.snapshot = Some((position, SnapshotPointer { id, owner, digest: Digest(take_array(bytes)?) }));
    }
    Some((id, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Groups {
        let mut groups = Groups::new();
        for id in [0, 7, u64::MAX] {
            let mut group = Group::new(Incarnation(id / 2));
            group.last = LogId::new(9, 3);
            group.commit = Index(4);
            if id != 0 {
                group.vote = Some((Position(12), Vote::new(3, u128::MAX, *b"me")));
            }
            if id != 7 {
                let pointer = SnapshotPointer {
                    id: LogId::new(2, 1),
                    owner: SnapshotOwner::External,
                    digest: Digest([5; 32]),
                };
                group.snapshot = Some((Position(8), pointer));
            }
            groups.insert(GroupId(id), group);
        }
        groups
    }

    #[test]
    fn a_checkpoint_reads_back_and_no_prefix_passes() {
        let bytes = encode(&sample());
        assert_eq!(decode(&bytes), Some(sample()));
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None, "cut at {cut}");
        }
        let mut groups = sample();
        groups.get_mut(&GroupId(7)).unwrap().last.index = Index(END);
        assert_eq!(decode(&encode(&groups)), None, "no index is so high");
        groups.get_mut(&GroupId(7)).unwrap().last.index = Index(3);
        assert_eq!(decode(&encode(&groups)), None, "no commit index is above the last");
    }

    #[test]
    fn no_group_takes_more_than_its_weight() {
        let most = LogId::new(u64::MAX - 1, u64::MAX);
        let pointer = SnapshotPointer { id: most, owner: SnapshotOwner::External, digest: Digest([255; 32]) };
        let mut group = Group {
            incarnation: Incarnation(u64::MAX),
            purged: most,
            last: most,
            commit: Index(u64::MAX),
            vote: None,
            snapshot: Some((Position(u64::MAX), pointer)),
        };
        for len in [None, Some(0), Some(VOTE_ROOM), Some(300), Some(70_000)] {
            group.vote = len.map(|len| (Position(u64::MAX), Vote::new(u64::MAX, u128::MAX, vec![255; len])));
            let coded = encode(&Groups::from([(GroupId(u64::MAX), group.clone())]));
            assert!(coded.len() as u64 <= group.weight() + STATE_OVERHEAD, "a vote of {len:?} bytes");
        }
    }

    #[test]
    fn purge_beyond_last_survives_a_checkpoint() {
        let mut groups = sample();
        compact(groups.get_mut(&GroupId(7)).unwrap(), LogId::new(100, 5));
        let back = decode(&encode(&groups)).unwrap();
        assert_eq!(back[&GroupId(7)].last, LogId::new(100, 5));
        assert_eq!(back[&GroupId(7)].first(), Index(101));
    }
}
