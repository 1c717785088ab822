//! The plain types of the public interface: newtypes for every number, entries, votes, outcomes.
//!
//! I own what a host says and hears. I hold no logic but order and display, and know no file.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// What counts from 1 on is below this, in a file, a message or a call: positions, indexes, epochs, and the
/// numbers of segments and events. Decoders and submission take no other, so that no sum of one and of what a
/// file or a batch can hold overflows.
pub(crate) const END: u64 = 1 << 63;
/// A store that came so far is not opened for writing: no handle lives long enough to count from here to [`END`].
pub(crate) const FULL: u64 = END / 2;

/// Declares a newtype over `u64`.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number one higher.
            ///
            /// # Panics
            /// At `u64::MAX`, which no store holds: what reads and what takes numbers stops at 2^63.
            #[inline]
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("number overflow"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(n: u64) -> Self {
                Self(n)
            }
        }
    };
}

number! {
    /// A consensus group; any value.
    GroupId
}
number! {
    /// An entry's place in its group's log; the first is 1, and 0 means "before the first".
    Index
}
impl Index {
    /// The highest that an entry or a snapshot may have.
    pub const LAST: Self = Self(END - 1);
}
number! {
    /// A consensus term.
    Term
}
number! {
    /// A record's place in the store's one stream; the first is 1. Fixed when it is submitted.
    Position
}
number! {
    /// Tells a group from an earlier one of the same id: the position of its creation record.
    Incarnation
}
number! {
    /// A segment file; never used twice.
    SegmentId
}
number! {
    /// Counts the writable opens of a store.
    Epoch
}

/// The identity of an entry within a group: index and term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct LogId {
    /// The entry's index.
    pub index: Index,
    /// The entry's term.
    pub term: Term,
}

impl LogId {
    /// An index and a term.
    #[must_use]
    pub fn new(index: u64, term: u64) -> Self {
        Self { index: Index(index), term: Term(term) }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// Up to sixteen opaque bytes that say who led when an entry was made.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaderTag {
    len: u8,
    bytes: [u8; 16],
}

impl LeaderTag {
    /// The empty tag.
    pub const NONE: Self = Self { len: 0, bytes: [0; 16] };

    /// A tag of the given bytes, or `None` if there are more than sixteen.
    #[must_use]
    pub fn new(tag: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        bytes.get_mut(..tag.len())?.copy_from_slice(tag);
        Some(Self { len: u8::try_from(tag.len()).ok()?, bytes })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for LeaderTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaderTag(")?;
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        write!(f, ")")
    }
}

/// What an entry is to the consensus layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Applied to the state machine.
    Command,
    /// Changes who is a member.
    Membership,
}

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Index and term.
    pub id: LogId,
    /// Who led.
    pub leader: LeaderTag,
    /// Command or membership.
    pub kind: EntryKind,
    /// The host's bytes, unread by the engine.
    pub data: Arc<[u8]>,
}

impl Entry {
    /// What an entry counts in a read with a limit besides its bytes: about what it takes in memory.
    pub const OVERHEAD: u64 = 64;

    /// What it counts in a read with a limit.
    pub(crate) fn cost(&self) -> u64 {
        self.data.len() as u64 + Self::OVERHEAD
    }

    /// A command of the given index and term.
    #[must_use]
    pub fn command(index: u64, term: u64, data: impl Into<Arc<[u8]>>) -> Self {
        Self {
            id: LogId::new(index, term),
            leader: LeaderTag::NONE,
            kind: EntryKind::Command,
            data: data.into(),
        }
    }
}

/// An entry while it is read: its bytes are borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// Index and term.
    pub id: LogId,
    /// Who led.
    pub leader: LeaderTag,
    /// Command or membership.
    pub kind: EntryKind,
    /// The host's bytes, unread by the engine.
    pub data: &'a [u8],
}

/// Orders votes: a vote may only be followed by one with a higher key, or by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct VoteKey {
    /// The term that was voted in.
    pub term: Term,
    /// The host's order within a term, for example (candidate, committed) packed.
    pub rank: u128,
}

/// A vote: the host's bytes under an order key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Vote {
    /// Where it stands among votes.
    pub key: VoteKey,
    /// The host's bytes, unread by the engine.
    pub data: Arc<[u8]>,
}

impl Vote {
    /// A vote of the given term and rank.
    #[must_use]
    pub fn new(term: u64, rank: u128, data: impl Into<Arc<[u8]>>) -> Self {
        Self { key: VoteKey { term: Term(term), rank }, data: data.into() }
    }
}

/// A 32-byte BLAKE3 hash, or whatever 32 bytes an external snapshot is known by.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads exactly 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        fn digit(c: u8) -> Option<u8> {
            match c {
                b'0'..=b'9' => Some(c - b'0'),
                b'a'..=b'f' => Some(c - b'a' + 10),
                _ => None,
            }
        }
        let mut hash = [0; 32];
        if text.len() != 2 * hash.len() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Who keeps a snapshot's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotOwner {
    /// This store: the digest is that of the manifest file.
    Owned,
    /// The host: the digest is the host's.
    External,
}

/// The durable pointer to a snapshot; it alone authorises a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct SnapshotPointer {
    /// The last entry that the snapshot covers.
    pub id: LogId,
    /// Who keeps it.
    pub owner: SnapshotOwner,
    /// What it is known by.
    pub digest: Digest,
}

/// What became of a batch. Settled once and for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It survives everything in the fault model.
    Durable,
    /// No byte of it was given to the kernel; it can never appear after a restart.
    NotDurable,
    /// A sync failed or was cut short: the next open settles it.
    Unknown,
}

/// Who a store belongs to. Written once by `create`, checked by every open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: u64,
    /// The node within the cluster.
    pub node: u64,
    /// Drawn at random when the store was created.
    #[serde(serialize_with = "hex")]
    pub store: [u8; 16],
}

fn hex<S: serde::Serializer>(bytes: &[u8; 16], s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("{:032x}", u128::from_be_bytes(*bytes)))
}
