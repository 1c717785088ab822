//! A record, and how a frame's directory names it. Pure.
//!
//! I own the kinds of record and the run-length coding of their identities. (R1) A directory names
//! every record of its frame, in order. (R2) An item with a count above one is a run of entries of
//! one group, term and leader with consecutive indexes. I do not know frames or files.

use std::sync::Arc;

use crate::checksum::{crc, mix, seed};
use crate::types::{
    Digest, END, Entry, EntryKind, GroupId, Incarnation, Index, LeaderTag, LogId, SnapshotOwner,
    SnapshotPointer, Term, Vote, VoteKey,
};

/// What a record is. The numbers are the format's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// An entry for the state machine.
    Command = 1,
    /// An entry that changes who is a member.
    Membership = 2,
    /// A vote; the term is the vote's.
    Vote = 3,
    /// A commit index.
    Commit = 4,
    /// Removes the entries from the index on; the term is that of the last entry kept.
    Truncate = 5,
    /// Removes the entries up to the index; the term is that of the last one removed.
    Compact = 6,
    /// Creates a group; its incarnation is this record's position.
    CreateGroup = 7,
    /// Removes a group.
    RemoveGroup = 8,
    /// Points to a snapshot.
    Snapshot = 9,
    /// Points to a snapshot and replaces the log below it, or all of it, in one step.
    Install = 10,
}

impl Kind {
    /// All kinds, by number.
    pub const ALL: [Kind; 10] = [
        Kind::Command,
        Kind::Membership,
        Kind::Vote,
        Kind::Commit,
        Kind::Truncate,
        Kind::Compact,
        Kind::CreateGroup,
        Kind::RemoveGroup,
        Kind::Snapshot,
        Kind::Install,
    ];

    /// The kind of a number.
    #[must_use]
    pub fn from_number(n: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|k| *k as u8 == n)
    }

    /// Whether it is an entry of a log.
    #[must_use]
    #[inline]
    pub fn is_entry(self) -> bool {
        matches!(self, Kind::Command | Kind::Membership)
    }

    /// Whether a batch that holds one is written twice: what no later record of the log repeats,
    /// and what a node must not forget.
    #[must_use]
    #[inline]
    pub fn wants_twin(self) -> bool {
        matches!(self, Kind::Vote | Kind::CreateGroup | Kind::RemoveGroup | Kind::Snapshot | Kind::Install)
    }

    /// The kind as one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Command => "command",
            Kind::Membership => "membership",
            Kind::Vote => "vote",
            Kind::Commit => "commit",
            Kind::Truncate => "truncate",
            Kind::Compact => "compact",
            Kind::CreateGroup => "create_group",
            Kind::RemoveGroup => "remove_group",
            Kind::Snapshot => "snapshot",
            Kind::Install => "install",
        }
    }

    /// The kind of an entry.
    #[must_use]
    #[inline]
    pub fn of_entry(kind: EntryKind) -> Self {
        match kind {
            EntryKind::Command => Kind::Command,
            EntryKind::Membership => Kind::Membership,
        }
    }

    /// The entry kind, if it is an entry.
    #[must_use]
    pub fn entry(self) -> Option<EntryKind> {
        match self {
            Kind::Command => Some(EntryKind::Command),
            Kind::Membership => Some(EntryKind::Membership),
            _ => None,
        }
    }
}

/// Who a record is about: everything but its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// What it is.
    pub kind: Kind,
    /// Its group.
    pub group: GroupId,
    /// Which group of that id.
    pub incarnation: Incarnation,
    /// Index and term, as [`Kind`] says.
    pub id: LogId,
    /// Who led, for entries.
    pub leader: LeaderTag,
}

impl Name {
    /// The seed of the payload's checksum: bytes pass under no other name and in no other segment.
    #[must_use]
    #[inline]
    pub fn seed(&self, salt: u64) -> u32 {
        self.seed_in(self.group_salt(salt))
    }

    /// What the seeds of a group's records have in common.
    fn group_salt(&self, salt: u64) -> u64 {
        mix(mix(salt, self.group.0), self.incarnation.0)
    }

    #[inline]
    fn seed_in(&self, group_salt: u64) -> u32 {
        seed(mix(mix(mix(group_salt, self.id.index.0), self.id.term.0), self.kind as u64))
    }

    /// Whether each of so many records in a run has an index that a log can have.
    #[must_use]
    pub fn fits(&self, count: u32) -> bool {
        self.id.index.0.checked_add(u64::from(count)).is_some_and(|end| end <= END)
    }

    /// The name `n` places further in a run.
    #[must_use]
    #[inline]
    pub fn at(&self, n: u32) -> Self {
        let index = Index(self.id.index.0 + u64::from(n));
        Self { id: LogId { index, ..self.id }, ..*self }
    }
}

/// A record: a name and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who it is about.
    pub name: Name,
    /// Its bytes.
    pub data: Arc<[u8]>,
}

impl Record {
    /// The entry, if it is one.
    #[must_use]
    pub fn entry(&self) -> Option<Entry> {
        let kind = self.name.kind.entry()?;
        Some(Entry { id: self.name.id, leader: self.name.leader, kind, data: self.data.clone() })
    }

    /// The vote, if it is a well-formed one.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        let (rank, data) = self.data.split_first_chunk::<16>()?;
        let key = VoteKey { term: self.name.id.term, rank: u128::from_le_bytes(*rank) };
        (self.name.kind == Kind::Vote).then(|| Vote { key, data: data.into() })
    }

    /// The bytes of a vote record.
    #[must_use]
    pub fn vote_data(vote: &Vote) -> Arc<[u8]> {
        [&vote.key.rank.to_le_bytes()[..], &vote.data].concat().into()
    }

    /// The snapshot pointer, and for an install whether the suffix is kept.
    #[must_use]
    pub fn pointer(&self) -> Option<(SnapshotPointer, bool)> {
        let [owner, keep, digest @ ..] = &self.data[..] else { return None };
        let owner = match owner {
            1 => SnapshotOwner::Owned,
            2 => SnapshotOwner::External,
            _ => return None,
        };
        let digest = Digest(digest.try_into().ok()?);
        let pointer = SnapshotPointer { id: self.name.id, owner, digest };
        matches!(self.name.kind, Kind::Snapshot | Kind::Install).then_some((pointer, *keep == 1))
    }

    /// The bytes of a snapshot or install record.
    #[must_use]
    pub fn pointer_data(pointer: &SnapshotPointer, keep_suffix: bool) -> Arc<[u8]> {
        let owner = match pointer.owner {
            SnapshotOwner::Owned => 1,
            SnapshotOwner::External => 2,
        };
        [&[owner, u8::from(keep_suffix)][..], &pointer.digest.0].concat().into()
    }
}

/// One item of a directory: a record, or a run of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The name of the first record.
    pub name: Name,
    /// Length and checksum of each record's bytes; empty in an echo.
    pub sizes: Vec<(u32, u32)>,
    /// How many records.
    pub count: u32,
}

/// What a writer makes of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// How many records each item names.
    pub counts: Vec<u32>,
    /// Length and checksum of each record's bytes.
    pub sizes: Vec<(u32, u32)>,
    /// The directory without lengths and checksums, for the next frame to repeat.
    pub echo: Vec<u8>,
    /// Whether there is a record that is no entry.
    pub control: bool,
    /// Whether a record wants the frame to be written twice.
    pub wants_twin: bool,
}

impl Directory {
    /// Bytes of all records.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.sizes.iter().map(|(len, _)| *len as usize).sum()
    }

    /// Writes the directory of these records to `out` and remembers it instead of the last one.
    pub fn write(&mut self, out: &mut Vec<u8>, records: &[Record], salt: u64) {
        let Self { counts, sizes, echo, control, wants_twin } = self;
        counts.clear();
        sizes.clear();
        echo.clear();
        (*control, *wants_twin) = (false, false);
        for run in records.chunk_by(|a, b| a.name.kind.is_entry() && a.name.at(1) == b.name) {
            let count = u32::try_from(run.len()).expect("admission bounds the records of a frame");
            let start = out.len();
            put_name(out, &run[0].name, count);
            echo.extend_from_slice(&out[start..]);
            counts.push(count);
            *control |= !run[0].name.kind.is_entry();
            *wants_twin |= run[0].name.kind.wants_twin();
            let salt = run[0].name.group_salt(salt);
            for record in run {
                let size = u32::try_from(record.data.len()).expect("admission bounds a record's length");
                let sum = crc(record.name.seed_in(salt), &record.data);
                put_size(out, size, sum);
                sizes.push((size, sum));
            }
        }
    }
}

/// Writes a directory; an echo leaves lengths and checksums out.
pub fn put_items(out: &mut Vec<u8>, items: &[Item], echo: bool) {
    for item in items {
        put_name(out, &item.name, item.count);
        let sizes = if echo { &[][..] } else { &item.sizes };
        sizes.iter().for_each(|(len, sum)| put_size(out, *len, *sum));
    }
}

fn put_name(out: &mut Vec<u8>, name: &Name, count: u32) {
    let Name { kind, group, incarnation, id, leader } = name;
    out.push(*kind as u8);
    for n in [group.0, incarnation.0, id.index.0, id.term.0] {
        put_varint(out, n);
    }
    out.push(u8::try_from(leader.as_bytes().len()).expect("a tag has up to 16 bytes"));
    out.extend_from_slice(leader.as_bytes());
    put_varint(out, u64::from(count));
}

fn put_size(out: &mut Vec<u8>, len: u32, sum: u32) {
    put_varint(out, u64::from(len));
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Reads a directory that fills `bytes`; `None` if it is not one.
#[must_use]
pub fn take_items(mut bytes: &[u8], echo: bool) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        bytes = rest;
        let kind = Kind::from_number(*kind)?;
        let group = GroupId(take_varint(&mut bytes)?);
        let incarnation = Incarnation(take_varint(&mut bytes)?);
        let id = LogId { index: Index(take_varint(&mut bytes)?), term: Term(take_varint(&mut bytes)?) };
        let (len, rest) = bytes.split_first()?;
        let (tag, rest) = rest.split_at_checked(usize::from(*len))?;
        bytes = rest;
        let name = Name { kind, group, incarnation, id, leader: LeaderTag::new(tag)? };
        let count = u32::try_from(take_varint(&mut bytes)?).ok()?;
        // Each size takes five bytes at least: bounded before anything is allocated.
        let fits = echo || count as usize <= bytes.len() / 5;
        if count == 0 || (count > 1 && !kind.is_entry()) || !fits || !name.fits(count) {
            return None;
        }
        let sizes = if echo { Vec::new() } else { take_sizes(&mut bytes, count)? };
        items.push(Item { name, sizes, count });
    }
    Some(items)
}

fn take_sizes(bytes: &mut &[u8], count: u32) -> Option<Vec<(u32, u32)>> {
    let mut sizes = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let len = u32::try_from(take_varint(bytes)?).ok()?;
        let (sum, rest) = bytes.split_first_chunk::<4>()?;
        *bytes = rest;
        sizes.push((len, u32::from_le_bytes(*sum)));
    }
    Some(sizes)
}

/// Writes an unsigned LEB128 number.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads an unsigned LEB128 number; `None` if it is cut short or over 64 bits.
pub fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        n |= part << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, index: u64, data: &[u8]) -> Record {
        let name = Name {
            kind,
            group: GroupId(300),
            incarnation: Incarnation(1),
            id: LogId::new(index, 7),
            leader: LeaderTag::new(b"n1").unwrap(),
        };
        Record { name, data: data.into() }
    }

    #[test]
    fn runs_are_joined_and_read_back() {
        let records = [
            record(Kind::Command, 5, b"a"),
            record(Kind::Command, 6, b""),
            record(Kind::Membership, 7, b"m"),
            record(Kind::Commit, 6, b""),
            record(Kind::Command, 8, b"b"),
        ];
        let (mut directory, mut whole) = (Directory::default(), Vec::new());
        directory.write(&mut whole, &records, 9);
        assert_eq!(directory.counts, [2, 1, 1, 1]);
        let items = take_items(&whole, false).unwrap();
        let sizes: Vec<_> = items.iter().flat_map(|i| i.sizes.clone()).collect();
        assert_eq!(sizes, directory.sizes);
        let sum = |r: &Record| (u32::try_from(r.data.len()).unwrap(), crc(r.name.seed(9), &r.data));
        assert_eq!(sizes, records.iter().map(sum).collect::<Vec<_>>());
        let first = |item: &Item| (item.name, item.count);
        let names = [(0, 2), (2, 1), (3, 1), (4, 1)].map(|(n, count)| (records[n].name, count));
        assert_eq!(items.iter().map(first).collect::<Vec<_>>(), names);
        for (echo, bytes) in [(false, &whole), (true, &directory.echo)] {
            let back = take_items(bytes, echo).unwrap();
            assert_eq!(back.iter().map(first).collect::<Vec<_>>(), names);
            assert!(back.iter().all(|item| item.sizes.is_empty() == echo));
            let mut again = Vec::new();
            put_items(&mut again, &items, echo);
            assert_eq!(&again, bytes);
            for cut in 1..bytes.len() {
                let short = take_items(&bytes[..cut], echo);
                assert!(short.is_none_or(|s| s.len() < items.len()));
            }
        }
    }

    #[test]
    fn varints_at_their_edges() {
        for n in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, n);
            assert_eq!(take_varint(&mut &bytes[..]), Some(n));
            assert_eq!(take_varint(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take_varint(&mut &[0xff; 11][..]), None);
    }

    #[test]
    fn a_huge_count_is_refused_before_allocation() {
        let mut bytes = vec![Kind::Command as u8];
        [1, 1, 1, 1].iter().for_each(|n| put_varint(&mut bytes, *n));
        bytes.push(0);
        put_varint(&mut bytes, u64::from(u32::MAX));
        assert_eq!(take_items(&bytes, false), None);
    }
}
