//! One segment file: a header, a checkpoint, batches back to back, and once sealed a footer.
//!
//! I own the layout of the header and of the footer. (S1) The header takes the first alignment unit
//! and names the cut of the predecessor: position and chain. (S2) The first frame is a checkpoint of
//! every group as of that cut, with a twin. (S3) Bytes below a durable mark never change while they
//! are needed. (S4) The footer's trailer is the last bytes of the file, which may be shorter than a segment
//! and is never longer. (S5) What a footer claims is checked as it is read, against the file and row against
//! row. I do not know other segments (see log) nor what a bad frame means (see recovery).

use std::ops::Range;

use crate::checksum::{crc, seed};
use crate::frame::{self, Place};
use crate::planted::Bug;
use crate::record::{Kind, Name};
use crate::types::{
    END, Epoch, GroupId, Identity, Incarnation, Index, LeaderTag, LogId, Position, SegmentId, Term,
};
use crate::vfs::{File, Vfs};

/// The newest version of the store's format that this program reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// Places of the header's fields, in bytes from the file's start.
pub mod header {
    use std::ops::Range;
    /// `SEAWSEG` and a zero.
    pub const MAGIC: Range<usize> = 0..8;
    /// The format version.
    pub const VERSION: Range<usize> = MAGIC.end..MAGIC.end + 4;
    /// Bytes of the header, with the checksum at their end.
    pub const LENGTH: Range<usize> = VERSION.end..VERSION.end + 4;
    /// The store.
    pub const STORE: Range<usize> = LENGTH.end..LENGTH.end + 16;
    /// The cluster.
    pub const CLUSTER: Range<usize> = STORE.end..STORE.end + 8;
    /// The node.
    pub const NODE: Range<usize> = CLUSTER.end..CLUSTER.end + 8;
    /// Bytes in a whole segment.
    pub const SIZE: Range<usize> = NODE.end..NODE.end + 8;
    /// This segment.
    pub const SEGMENT: Range<usize> = SIZE.end..SIZE.end + 8;
    /// Its epoch.
    pub const EPOCH: Range<usize> = SEGMENT.end..SEGMENT.end + 8;
    /// The predecessor; 0 for none.
    pub const PREVIOUS: Range<usize> = EPOCH.end..EPOCH.end + 8;
    /// The predecessor's cut: the last position that counts in it, and the mark.
    pub const CUT_POSITION: Range<usize> = PREVIOUS.end..PREVIOUS.end + 8;
    /// The chain value at the cut.
    pub const CUT_CHAIN: Range<usize> = CUT_POSITION.end..CUT_POSITION.end + 8;
    /// The last position that a recovery wrote again here; the cut if none.
    pub const RECOVERED_TO: Range<usize> = CUT_CHAIN.end..CUT_CHAIN.end + 8;
    /// The alignment unit in bytes.
    pub const UNIT: Range<usize> = RECOVERED_TO.end..RECOVERED_TO.end + 4;
    /// CRC-32 of all before.
    pub const CRC: Range<usize> = UNIT.end..UNIT.end + 4;
    /// The header's length.
    pub const LEN: usize = CRC.end;
}

/// Places of the trailer's fields, in bytes from the trailer's start.
pub mod trailer {
    use std::ops::Range;
    /// `SEAWEND` and a zero.
    pub const MAGIC: Range<usize> = 0..8;
    /// The format version.
    pub const VERSION: Range<usize> = MAGIC.end..MAGIC.end + 4;
    /// Why it was sealed: 1 rotated, 2 closed, 3 by a recovery.
    pub const SEAL: Range<usize> = VERSION.end..VERSION.end + 4;
    /// The store.
    pub const STORE: Range<usize> = SEAL.end..SEAL.end + 16;
    /// This segment.
    pub const SEGMENT: Range<usize> = STORE.end..STORE.end + 8;
    /// Its epoch.
    pub const EPOCH: Range<usize> = SEGMENT.end..SEGMENT.end + 8;
    /// The successor, whose name is durable; 0 after a close.
    pub const NEXT: Range<usize> = EPOCH.end..EPOCH.end + 8;
    /// The last position in this segment.
    pub const POSITION: Range<usize> = NEXT.end..NEXT.end + 8;
    /// The chain value after it.
    pub const CHAIN: Range<usize> = POSITION.end..POSITION.end + 8;
    /// Where the frames end and the footer starts.
    pub const CUT: Range<usize> = CHAIN.end..CHAIN.end + 4;
    /// Where the footer starts.
    pub const FOOTER: Range<usize> = CUT.end..CUT.end + 4;
    /// Entries in the entry table.
    pub const ENTRIES: Range<usize> = FOOTER.end..FOOTER.end + 4;
    /// Runs in the run table.
    pub const RUNS: Range<usize> = ENTRIES.end..ENTRIES.end + 4;
    /// Bytes of the state.
    pub const STATE_LEN: Range<usize> = RUNS.end..RUNS.end + 4;
    /// CRC-32 of the entry table, seeded with the salt.
    pub const TABLE_CRC: Range<usize> = STATE_LEN.end..STATE_LEN.end + 4;
    /// CRC-32 of the run table, seeded with the salt.
    pub const RUNS_CRC: Range<usize> = TABLE_CRC.end..TABLE_CRC.end + 4;
    /// CRC-32 of the state, seeded with the salt.
    pub const STATE_CRC: Range<usize> = RUNS_CRC.end..RUNS_CRC.end + 4;
    /// Entries in the entry table whose bytes did not hold when it was sealed or last repaired.
    pub const LOST: Range<usize> = STATE_CRC.end..STATE_CRC.end + 4;
    /// CRC-32 of all before, seeded with the salt.
    pub const CRC: Range<usize> = LOST.end..LOST.end + 4;
    /// The trailer's length.
    pub const LEN: usize = CRC.end;
}

const HEADER_MAGIC: [u8; 8] = *b"SEAWSEG\0";
const TRAILER_MAGIC: [u8; 8] = *b"SEAWEND\0";
/// Bytes of an entry in the entry table: offset, length, checksum.
pub const ENTRY_LEN: usize = 12;
/// Bytes of a run in the run table.
pub const RUN_LEN: usize = 64;

/// The name of a segment's file.
#[must_use]
pub fn file_name(id: SegmentId) -> String {
    format!("{:016x}.seg", id.0)
}

/// The segment that a file name stands for.
#[must_use]
pub fn parse_name(name: &str) -> Option<SegmentId> {
    let hex = name.strip_suffix(".seg").filter(|h| h.len() == 16)?;
    let id = SegmentId(u64::from_str_radix(hex, 16).ok()?);
    (file_name(id) == name && id.0 < END).then_some(id)
}

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose it is.
    pub identity: Identity,
    /// Bytes in a whole segment.
    pub size: u64,
    /// Which segment.
    pub segment: SegmentId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The predecessor.
    pub previous: SegmentId,
    /// The predecessor's cut, which is also the mark.
    pub cut: Position,
    /// The chain value at the cut.
    pub chain: u64,
    /// The last position that a recovery wrote again here.
    pub recovered_to: Position,
    /// The alignment unit.
    pub unit: u32,
}

/// What the first bytes of a segment file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFact {
    /// The header that belongs here.
    Ours(Header),
    /// A header of this store for another segment: of an older one, a recycled file whose new header is not
    /// durable; of a newer one, a file in the wrong place.
    Recycled(SegmentId),
    /// A header of another store.
    Foreign(Identity),
    /// A header of a newer format.
    Newer(u32),
    /// Zeros.
    Blank,
    /// None of these.
    Damaged,
}

fn u32_at(raw: &[u8], at: Range<usize>) -> u32 {
    u32::from_le_bytes(raw[at].try_into().expect("a field of four bytes"))
}

fn u64_at(raw: &[u8], at: Range<usize>) -> u64 {
    u64::from_le_bytes(raw[at].try_into().expect("a field of eight bytes"))
}

fn len32(n: usize) -> u32 {
    u32::try_from(n).expect("a footer fits a segment")
}

impl Header {
    /// Where frames must stand to belong to this segment.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { store: self.identity.store, segment: self.segment, epoch: self.epoch, unit: self.unit }
    }

    /// The header's bytes, one alignment unit.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut raw = vec![0; self.unit as usize];
        raw[header::MAGIC].copy_from_slice(&HEADER_MAGIC);
        raw[header::VERSION].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        raw[header::LENGTH].copy_from_slice(&len32(header::LEN).to_le_bytes());
        raw[header::STORE].copy_from_slice(&self.identity.store);
        for (at, n) in [
            (header::CLUSTER, self.identity.cluster),
            (header::NODE, self.identity.node),
            (header::SIZE, self.size),
            (header::SEGMENT, self.segment.0),
            (header::EPOCH, self.epoch.0),
            (header::PREVIOUS, self.previous.0),
            (header::CUT_POSITION, self.cut.0),
            (header::CUT_CHAIN, self.chain),
            (header::RECOVERED_TO, self.recovered_to.0),
        ] {
            raw[at].copy_from_slice(&n.to_le_bytes());
        }
        raw[header::UNIT].copy_from_slice(&self.unit.to_le_bytes());
        let sum = crc(0, &raw[..header::CRC.start]);
        raw[header::CRC].copy_from_slice(&sum.to_le_bytes());
        raw
    }

    /// Reads the first bytes of the file that is named for `segment` in the store of `identity`.
    #[must_use]
    pub fn decode<V: Vfs>(raw: &[u8], segment: SegmentId, identity: &Identity) -> HeaderFact {
        let Some(magic) = raw.get(header::MAGIC) else { return HeaderFact::Damaged };
        if frame::is_zero(raw) {
            return HeaderFact::Blank;
        }
        if magic != HEADER_MAGIC || raw.len() < header::LEN {
            return HeaderFact::Damaged;
        }
        // The version counts only under a checksum that holds, at the length that the header gives.
        let version = u32_at(raw, header::VERSION);
        let length = u32_at(raw, header::LENGTH) as usize;
        let Some(body) = raw.get(..length).filter(|b| b.len() >= header::LEN) else {
            return HeaderFact::Damaged;
        };
        let (checked, sum) = body.split_at(length - 4);
        if crc(0, checked) != u32_at(sum, 0..4) && !V::planted(Bug::HeaderUnchecked) {
            return HeaderFact::Damaged;
        }
        if version != FORMAT_VERSION {
            return HeaderFact::Newer(version);
        }
        let found = Self::fields(raw);
        let numbers = [found.segment.0, found.epoch.0, found.previous.0, found.cut.0, found.recovered_to.0];
        if numbers.iter().any(|n| *n >= END) {
            return HeaderFact::Damaged;
        }
        if found.identity != *identity {
            return HeaderFact::Foreign(found.identity);
        }
        if found.segment != segment { HeaderFact::Recycled(found.segment) } else { HeaderFact::Ours(found) }
    }

    fn fields(raw: &[u8]) -> Self {
        let store = raw[header::STORE].try_into().expect("sixteen bytes");
        let identity =
            Identity { cluster: u64_at(raw, header::CLUSTER), node: u64_at(raw, header::NODE), store };
        Self {
            identity,
            size: u64_at(raw, header::SIZE),
            segment: SegmentId(u64_at(raw, header::SEGMENT)),
            epoch: Epoch(u64_at(raw, header::EPOCH)),
            previous: SegmentId(u64_at(raw, header::PREVIOUS)),
            cut: Position(u64_at(raw, header::CUT_POSITION)),
            chain: u64_at(raw, header::CUT_CHAIN),
            recovered_to: Position(u64_at(raw, header::RECOVERED_TO)),
            unit: u32_at(raw, header::UNIT),
        }
    }
}

/// Why a segment was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Seal {
    /// It was full; the successor's name is durable.
    Rotated = 1,
    /// The store was closed.
    Closed = 2,
    /// A recovery cut it; the successor is durable.
    Recovered = 3,
}

/// Where an entry's bytes are in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef {
    /// Offset in the file.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
    /// Checksum, seeded with the entry's name and the segment's salt.
    pub crc: u32,
}

impl EntryRef {
    /// Where the entry's bytes end in the file.
    fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.len)
    }

    /// Reads one of the entry table.
    #[must_use]
    pub fn decode(raw: &[u8; ENTRY_LEN]) -> Self {
        Self { offset: u32_at(raw, 0..4), len: u32_at(raw, 4..8), crc: u32_at(raw, 8..12) }
    }

    /// Those of entries that follow one another from an offset on, with these lengths and checksums.
    pub fn following(sizes: &[(u32, u32)], mut offset: u32) -> impl Iterator<Item = Self> {
        sizes.iter().map(move |(len, crc)| {
            let at = Self { offset, len: *len, crc: *crc };
            offset += len;
            at
        })
    }
}

/// Entries of one group, kind, term and leader with consecutive indexes in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The name of the first entry.
    pub name: Name,
    /// How many entries.
    pub count: u32,
    /// The first entry's place in the entry table.
    pub start: u32,
}

impl Run {
    /// The last index.
    #[must_use]
    pub fn last(&self) -> Index {
        Index(self.name.id.index.0 + u64::from(self.count) - 1)
    }

    /// How many of its entries are below an index.
    #[must_use]
    pub fn below(&self, index: Index) -> u32 {
        let below = index.0.saturating_sub(self.name.id.index.0);
        u32::try_from(below).map_or(self.count, |n| n.min(self.count))
    }

    /// Which of its entries has an index, counted from 0.
    #[must_use]
    pub fn number(&self, index: Index) -> Option<u32> {
        let n = u32::try_from(index.0.checked_sub(self.name.id.index.0)?).ok()?;
        (n < self.count).then_some(n)
    }

    /// Drops the entries below an index, which is not above the last.
    pub fn skip_to(&mut self, index: Index) {
        let gone = self.below(index);
        *self = Self { name: self.name.at(gone), count: self.count - gone, start: self.start + gone };
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let n = &self.name;
        for v in [n.group.0, n.incarnation.0, n.id.index.0, n.id.term.0] {
            out.extend_from_slice(&v.to_le_bytes());
        }
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.start.to_le_bytes());
        let tag = n.leader.as_bytes();
        let mut rest = [0; 24];
        rest[0] = n.kind as u8;
        rest[1] = u8::try_from(tag.len()).expect("a tag has up to 16 bytes");
        rest[8..8 + tag.len()].copy_from_slice(tag);
        out.extend_from_slice(&rest);
    }

    fn decode(raw: &[u8; RUN_LEN], entries: u32) -> Option<Self> {
        let tag_len = usize::from(raw[41]);
        let name = Name {
            kind: Kind::from_number(raw[40]).filter(|k| k.is_entry())?,
            group: GroupId(u64_at(raw, 0..8)),
            incarnation: Incarnation(u64_at(raw, 8..16)),
            id: LogId { index: Index(u64_at(raw, 16..24)), term: Term(u64_at(raw, 24..32)) },
            leader: LeaderTag::new(raw.get(48..48 + tag_len)?)?,
        };
        let run = Self { name, count: u32_at(raw, 32..36), start: u32_at(raw, 36..40) };
        let fits = run.start.checked_add(run.count).is_some_and(|end| end <= entries);
        (run.count > 0 && fits && name.fits(run.count)).then_some(run)
    }
}

/// A trailer, believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Why the segment was sealed.
    pub seal: Seal,
    /// The successor.
    pub next: SegmentId,
    /// The last position.
    pub position: Position,
    /// The chain value after it.
    pub chain: u64,
    /// Where the frames end.
    pub cut: u32,
    /// Where the footer starts.
    pub footer: u32,
    /// Entries in the entry table.
    pub entries: u32,
    /// Runs in the run table.
    pub runs: u32,
    /// Bytes of the state.
    pub state_len: u32,
    /// CRC of the entry table.
    pub table_crc: u32,
    /// CRC of the run table.
    pub runs_crc: u32,
    /// CRC of the state.
    pub state_crc: u32,
    /// Entries whose bytes did not hold.
    pub lost: u32,
}

impl Trailer {
    /// Where the parts of the footer are in the file: entries, runs, state.
    #[must_use]
    pub fn parts(&self) -> [Range<u64>; 3] {
        let table =
            u64::from(self.footer)..u64::from(self.footer) + u64::from(self.entries) * ENTRY_LEN as u64;
        let runs = table.end..table.end + u64::from(self.runs) * RUN_LEN as u64;
        let state = runs.end..runs.end + u64::from(self.state_len);
        [table, runs, state]
    }

    /// Reads the last bytes of a file of `file_len` bytes; `None` unless they are the trailer of
    /// this segment.
    #[must_use]
    pub fn decode<V: Vfs>(raw: &[u8; trailer::LEN], place: &Place, file_len: u64) -> Option<Self> {
        let salt = seed(place.salt::<V>());
        let ours = raw[trailer::MAGIC] == TRAILER_MAGIC
            && u32_at(raw, trailer::VERSION) == FORMAT_VERSION
            && crc(salt, &raw[..trailer::CRC.start]) == u32_at(raw, trailer::CRC)
            && raw[trailer::STORE] == place.store
            && u64_at(raw, trailer::SEGMENT) == place.segment.0
            && u64_at(raw, trailer::EPOCH) == place.epoch.0;
        if !ours {
            return None;
        }
        let seal = match u32_at(raw, trailer::SEAL) {
            1 => Seal::Rotated,
            2 => Seal::Closed,
            3 => Seal::Recovered,
            _ => return None,
        };
        let found = Self {
            seal,
            next: SegmentId(u64_at(raw, trailer::NEXT)),
            position: Position(u64_at(raw, trailer::POSITION)),
            chain: u64_at(raw, trailer::CHAIN),
            cut: u32_at(raw, trailer::CUT),
            footer: u32_at(raw, trailer::FOOTER),
            entries: u32_at(raw, trailer::ENTRIES),
            runs: u32_at(raw, trailer::RUNS),
            state_len: u32_at(raw, trailer::STATE_LEN),
            table_crc: u32_at(raw, trailer::TABLE_CRC),
            runs_crc: u32_at(raw, trailer::RUNS_CRC),
            state_crc: u32_at(raw, trailer::STATE_CRC),
            lost: u32_at(raw, trailer::LOST),
        };
        let [_, _, state] = found.parts();
        let fits = state.end + trailer::LEN as u64 <= file_len && found.cut <= found.footer;
        (fits && found.position.0.max(found.next.0) < END).then_some(found)
    }
}

/// What a footer is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// Where each live entry is, in the order of the runs.
    pub entries: Vec<EntryRef>,
    /// The live runs.
    pub runs: Vec<Run>,
    /// The state of every group at the end of the segment.
    pub state: Vec<u8>,
}

/// An upper bound of a footer's bytes.
#[must_use]
pub fn footer_bound(entries: usize, runs: usize, state: usize, unit: u32) -> u64 {
    ((entries * ENTRY_LEN + runs * RUN_LEN + state + trailer::LEN) as u64).next_multiple_of(u64::from(unit))
}

/// How a segment ends: what its trailer says besides the footer's parts.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Why it is sealed.
    pub seal: Seal,
    /// The successor.
    pub next: SegmentId,
    /// The last position.
    pub position: Position,
    /// The chain value after it.
    pub chain: u64,
    /// Where the frames end.
    pub cut: u32,
    /// Entries whose bytes do not hold.
    pub lost: u32,
}

impl Footer {
    /// The footer's bytes, whole units, and its trailer; it starts at `at`.
    #[must_use]
    pub fn encode<V: Vfs>(&self, place: &Place, ending: &Ending, at: u32) -> (Vec<u8>, Trailer) {
        let salt = seed(place.salt::<V>());
        let mut out = Vec::new();
        for e in &self.entries {
            [e.offset, e.len, e.crc].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        }
        let runs = out.len();
        self.runs.iter().for_each(|r| r.encode(&mut out));
        let state = out.len();
        out.extend_from_slice(&self.state);
        let trailer = Trailer {
            seal: ending.seal,
            next: ending.next,
            position: ending.position,
            chain: ending.chain,
            cut: ending.cut,
            footer: at,
            entries: len32(self.entries.len()),
            runs: len32(self.runs.len()),
            state_len: len32(self.state.len()),
            table_crc: crc(salt, &out[..runs]),
            runs_crc: crc(salt, &out[runs..state]),
            state_crc: crc(salt, &out[state..]),
            lost: ending.lost,
        };
        out.resize((out.len() + trailer::LEN).next_multiple_of(place.unit as usize), 0);
        let start = out.len() - trailer::LEN;
        put_trailer(&mut out[start..], &trailer, place, salt);
        (out, trailer)
    }
}

/// Writes a trailer into its place.
pub(crate) fn put_trailer(raw: &mut [u8], t: &Trailer, place: &Place, salt: u32) {
    raw[trailer::MAGIC].copy_from_slice(&TRAILER_MAGIC);
    raw[trailer::STORE].copy_from_slice(&place.store);
    for (at, n) in [
        (trailer::VERSION, FORMAT_VERSION),
        (trailer::SEAL, t.seal as u32),
        (trailer::CUT, t.cut),
        (trailer::FOOTER, t.footer),
        (trailer::ENTRIES, t.entries),
        (trailer::RUNS, t.runs),
        (trailer::STATE_LEN, t.state_len),
        (trailer::TABLE_CRC, t.table_crc),
        (trailer::RUNS_CRC, t.runs_crc),
        (trailer::STATE_CRC, t.state_crc),
        (trailer::LOST, t.lost),
    ] {
        raw[at].copy_from_slice(&n.to_le_bytes());
    }
    for (at, n) in [
        (trailer::SEGMENT, place.segment.0),
        (trailer::EPOCH, place.epoch.0),
        (trailer::NEXT, t.next.0),
        (trailer::POSITION, t.position.0),
        (trailer::CHAIN, t.chain),
    ] {
        raw[at].copy_from_slice(&n.to_le_bytes());
    }
    let sum = crc(salt, &raw[..trailer::CRC.start]);
    raw[trailer::CRC].copy_from_slice(&sum.to_le_bytes());
}

/// Reads the trailer of a file; `None` unless it is that of this segment.
pub fn read_trailer<V: Vfs>(file: &V::File, place: &Place) -> std::io::Result<Option<Trailer>> {
    let len = file.len()?;
    let Some(at) = len.checked_sub(trailer::LEN as u64) else { return Ok(None) };
    let mut raw = [0; trailer::LEN];
    crate::vfs::read_exact_at(file, &mut raw, at)?;
    Ok(Trailer::decode::<V>(&raw, place, len))
}

/// How many rows of a footer's table are read at once.
const ROWS: u64 = 1024;

/// Reads a table of a footer some rows at a time, until one of them is refused; what its checksum is, or
/// `None` after a refusal. Memory is taken only for rows that were taken: a claim alone costs none.
fn read_rows<const LEN: usize>(
    file: &impl File,
    part: Range<u64>,
    seed: u32,
    mut take: impl FnMut(&[u8; LEN]) -> bool,
) -> std::io::Result<Option<u32>> {
    let mut raw = Vec::new();
    let (mut at, mut sum) = (part.start, seed);
    while at < part.end {
        let len = (part.end - at).min(ROWS * LEN as u64);
        raw.resize(usize::try_from(len).expect("some rows"), 0);
        crate::vfs::read_exact_at(file, &mut raw, at)?;
        if !raw.as_chunks::<LEN>().0.iter().all(&mut take) {
            return Ok(None);
        }
        sum = crc(sum, &raw);
        at += len;
    }
    Ok(Some(sum))
}

/// Reads a run table; `None` if its checksum or a run does not hold, or two runs share entries.
pub fn read_runs<V: Vfs>(
    file: &V::File,
    trailer: &Trailer,
    place: &Place,
) -> std::io::Result<Option<Vec<Run>>> {
    let [_, part, _] = trailer.parts();
    let unchecked = V::planted(Bug::RunsUnchecked);
    let (mut runs, mut end) = (Vec::new(), 0);
    let sum = read_rows(file, part, seed(place.salt::<V>()), |raw| {
        let run = Run::decode(raw, trailer.entries).filter(|run| run.start >= end || unchecked);
        end = run.map_or(end, |run| run.start + run.count);
        runs.extend(run);
        run.is_some()
    })?;
    Ok((sum.is_some_and(|sum| sum == trailer.runs_crc || unchecked)).then_some(runs))
}

/// Reads an entry table; `None` if its checksum does not hold, or if entries lie outside of the frames or
/// share bytes.
pub fn read_table<V: Vfs>(
    file: &V::File,
    trailer: &Trailer,
    place: &Place,
) -> std::io::Result<Option<Vec<EntryRef>>> {
    let [part, ..] = trailer.parts();
    let frames = u64::from(place.unit)..=u64::from(trailer.cut);
    let mut table = Vec::new();
    let sum = read_rows(file, part, seed(place.salt::<V>()), |raw| {
        let at = EntryRef::decode(raw);
        table.push(at);
        frames.contains(&u64::from(at.offset)) && frames.contains(&at.end())
    })?;
    if sum != Some(trailer.table_crc) {
        return Ok(None);
    }
    let mut places: Vec<_> = table.iter().map(|at| (u64::from(at.offset), at.end())).collect();
    places.sort_unstable();
    let apart = places.is_sorted_by(|(_, end), (next, _)| end <= next);
    Ok(apart.then_some(table))
}
