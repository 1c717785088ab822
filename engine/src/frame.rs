//! A frame: the unit that is synced whole, found again and checked. Pure.
//!
//! I own the byte layout of frames. (F1) A frame starts on an alignment unit and fills whole ones.
//! (F2) It is valid if and only if its header's checksum, its place (store, segment, epoch, offset),
//! its contents' checksum, each payload's checksum and its zero padding all hold. (F3) Header and
//! payload are checked apart, so that a rotten payload still has a name. (F4) A frame that must not
//! be lost has a twin: the same frame again, at least [`TWIN_DISTANCE`] further. I do not know which
//! frame follows which (see segment), nor what a bad one means (see recovery).

use std::ops::Range;

use crate::checksum::{crc, mix, seed};
use crate::planted::Bug;
use crate::record::{Directory, Item, Name, Record, take_items};
use crate::types::{END, Epoch, Position, SegmentId};
use crate::vfs::Vfs;

/// The first four bytes of a frame.
pub const MAGIC: [u8; 4] = *b"SWFR";
/// The least distance between the starts of a frame and its twin: no single sector, page or
/// misdirected write reaches both.
pub const TWIN_DISTANCE: u32 = 4096;

/// Places of the header's fields, in bytes from the frame's start.
pub mod field {
    use std::ops::Range;
    /// `SWFR`.
    pub const MAGIC: Range<usize> = 0..4;
    /// CRC-32 of the rest of the header, seeded with the salt.
    pub const HEADER_CRC: Range<usize> = MAGIC.end..MAGIC.end + 4;
    /// 1 batch, 2 checkpoint, 3 batch written again by a recovery.
    pub const KIND: Range<usize> = HEADER_CRC.end..HEADER_CRC.end + 1;
    /// 0 the frame, 1 its twin.
    pub const COPY: Range<usize> = KIND.end..KIND.end + 1;
    /// Zero.
    pub const RESERVED: Range<usize> = COPY.end..COPY.end + 6;
    /// Bytes of the frame with its padding.
    pub const FRAME_LEN: Range<usize> = RESERVED.end..RESERVED.end + 4;
    /// Bytes of the directory.
    pub const DIRECTORY_LEN: Range<usize> = FRAME_LEN.end..FRAME_LEN.end + 4;
    /// Bytes of the echo of the previous frame's directory.
    pub const ECHO_LEN: Range<usize> = DIRECTORY_LEN.end..DIRECTORY_LEN.end + 4;
    /// Bytes of all payloads.
    pub const PAYLOAD_LEN: Range<usize> = ECHO_LEN.end..ECHO_LEN.end + 4;
    /// Records in the frame.
    pub const RECORDS: Range<usize> = PAYLOAD_LEN.end..PAYLOAD_LEN.end + 4;
    /// Bytes from the frame's start to its twin's; 0 for none.
    pub const TWIN: Range<usize> = RECORDS.end..RECORDS.end + 4;
    /// CRC-32 of directory and echo (of the payload in a checkpoint), seeded with the salt.
    pub const CONTENT_CRC: Range<usize> = TWIN.end..TWIN.end + 4;
    /// Where this copy starts in its segment.
    pub const OFFSET: Range<usize> = CONTENT_CRC.end..CONTENT_CRC.end + 4;
    /// The segment.
    pub const SEGMENT: Range<usize> = OFFSET.end..OFFSET.end + 8;
    /// The epoch of the segment.
    pub const EPOCH: Range<usize> = SEGMENT.end..SEGMENT.end + 8;
    /// The store.
    pub const STORE: Range<usize> = EPOCH.end..EPOCH.end + 16;
    /// The position of the first record.
    pub const FIRST: Range<usize> = STORE.end..STORE.end + 8;
    /// The mark: everything up to here had been acknowledged when this was written.
    pub const MARK: Range<usize> = FIRST.end..FIRST.end + 8;
    /// The chain value before this frame.
    pub const CHAIN: Range<usize> = MARK.end..MARK.end + 8;
    /// The header's length.
    pub const HEADER_LEN: usize = CHAIN.end;
}
pub use field::HEADER_LEN;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// One or more batches, as they were submitted.
    Batch = 1,
    /// The state of every group as of the segment's start.
    Checkpoint = 2,
    /// As a batch, but moved here by a recovery, with its old positions.
    Rewritten = 3,
}

/// Where a frame must stand to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The store.
    pub store: [u8; 16],
    /// The segment.
    pub segment: SegmentId,
    /// The segment's epoch.
    pub epoch: Epoch,
    /// The alignment unit in bytes.
    pub unit: u32,
}

impl Place {
    /// The segment's salt.
    #[must_use]
    pub fn salt<V: Vfs>(&self) -> u64 {
        if V::planted(Bug::StaleFramePasses) {
            return 0;
        }
        crate::checksum::salt(self.store, self.segment.0, self.epoch.0)
    }
}

/// A frame's header, believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame holds.
    pub kind: FrameKind,
    /// Whether this is the twin.
    pub is_twin: bool,
    /// Bytes with padding.
    pub frame_len: u32,
    /// Bytes of the directory.
    pub directory_len: u32,
    /// Bytes of the echo.
    pub echo_len: u32,
    /// Bytes of all payloads.
    pub payload_len: u32,
    /// Records.
    pub records: u32,
    /// Bytes to the twin, 0 for none.
    pub twin: u32,
    /// CRC of the contents.
    pub content_crc: u32,
    /// Where this copy starts.
    pub offset: u32,
    /// The segment.
    pub segment: SegmentId,
    /// The segment's epoch.
    pub epoch: Epoch,
    /// Position of the first record.
    pub first: Position,
    /// The mark.
    pub mark: Position,
    /// The chain value before this frame.
    pub chain: u64,
}

impl Header {
    /// The position of the last record; of a checkpoint, the position before it.
    #[must_use]
    pub fn last(&self) -> Position {
        Position(self.first.0 + u64::from(self.records) - 1)
    }

    /// Bytes from the frame's start to the end of its twin, or of itself without one.
    #[must_use]
    pub fn span(&self) -> u32 {
        self.twin + self.frame_len
    }

    /// The chain value after this frame.
    #[must_use]
    pub fn chain_after(&self) -> u64 {
        let value = mix(mix(self.chain, u64::from(self.content_crc)), self.first.0);
        mix(mix(value, u64::from(self.records)), self.mark.0)
    }

    fn payload(&self) -> Range<usize> {
        let start = HEADER_LEN + self.directory_len as usize + self.echo_len as usize;
        start..start + self.payload_len as usize
    }
}

/// What stands at an alignment unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A header of this segment. Its contents may still be bad.
    Frame(Box<Header>),
    /// Zeros.
    Blank,
    /// Neither: another life of the file, the middle of a frame, or damage.
    Other,
}

/// Reads the header at the start of `bytes`, of which at least one unit must be there.
#[must_use]
pub fn probe<V: Vfs>(bytes: &[u8], place: &Place, offset: u32) -> Probe {
    let Some(raw) = bytes.first_chunk::<HEADER_LEN>() else { return Probe::Other };
    if raw[field::MAGIC] != MAGIC {
        let unit = &bytes[..bytes.len().min(place.unit as usize)];
        return if is_zero(unit) { Probe::Blank } else { Probe::Other };
    }
    match believe::<V>(raw, place, offset) {
        Some(header) => Probe::Frame(Box::new(header)),
        None => Probe::Other,
    }
}

/// As many as the largest alignment unit has.
static ZEROS: [u8; 4096] = [0; 4096];

/// Whether there is no other byte. A comparison of blocks, for most of a segment may be blank.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|block| *block == ZEROS[..block.len()])
}

fn u32_at(raw: &[u8], at: Range<usize>) -> u32 {
    u32::from_le_bytes(raw[at].try_into().expect("a field of four bytes"))
}

fn u64_at(raw: &[u8], at: Range<usize>) -> u64 {
    u64::from_le_bytes(raw[at].try_into().expect("a field of eight bytes"))
}

fn believe<V: Vfs>(raw: &[u8; HEADER_LEN], place: &Place, offset: u32) -> Option<Header> {
    let salt = place.salt::<V>();
    if u32_at(raw, field::HEADER_CRC) != header_crc::<V>(raw, salt) {
        return None;
    }
    let kind = match raw[field::KIND.start] {
        1 => FrameKind::Batch,
        2 => FrameKind::Checkpoint,
        3 => FrameKind::Rewritten,
        _ => return None,
    };
    let header = Header {
        kind,
        is_twin: raw[field::COPY.start] == 1,
        frame_len: u32_at(raw, field::FRAME_LEN),
        directory_len: u32_at(raw, field::DIRECTORY_LEN),
        echo_len: u32_at(raw, field::ECHO_LEN),
        payload_len: u32_at(raw, field::PAYLOAD_LEN),
        records: u32_at(raw, field::RECORDS),
        twin: u32_at(raw, field::TWIN),
        content_crc: u32_at(raw, field::CONTENT_CRC),
        offset: u32_at(raw, field::OFFSET),
        segment: SegmentId(u64_at(raw, field::SEGMENT)),
        epoch: Epoch(u64_at(raw, field::EPOCH)),
        first: Position(u64_at(raw, field::FIRST)),
        mark: Position(u64_at(raw, field::MARK)),
        chain: u64_at(raw, field::CHAIN),
    };
    (sizes_agree(&header, place.unit) && stands_here::<V>(&header, raw, place, offset)).then_some(header)
}

fn header_crc<V: Vfs>(raw: &[u8], salt: u64) -> u32 {
    if V::planted(Bug::FramesUnchecked) || V::planted(Bug::FrameHeaderUnchecked) {
        return u32_at(raw, field::HEADER_CRC);
    }
    crc(seed(salt), &raw[field::KIND.start..HEADER_LEN])
}

/// The lengths add up, in 64 bits, so that no later arithmetic on them can wrap.
fn sizes_agree(h: &Header, unit: u32) -> bool {
    let inner =
        HEADER_LEN as u64 + u64::from(h.directory_len) + u64::from(h.echo_len) + u64::from(h.payload_len);
    let batch = h.kind != FrameKind::Checkpoint;
    let end = u64::from(h.offset) + u64::from(h.twin) + u64::from(h.frame_len);
    h.frame_len.is_multiple_of(unit)
        && inner.next_multiple_of(u64::from(unit)) == u64::from(h.frame_len)
        && (h.twin == 0 || (h.twin.is_multiple_of(unit) && h.twin >= h.frame_len.max(TWIN_DISTANCE)))
        && (h.records > 0) == batch
        && h.first.0 > 0
        && h.first.0.checked_add(u64::from(h.records)).is_some_and(|end| end <= END)
        && h.epoch.0 < END
        && h.mark < h.first
        && end <= u64::from(u32::MAX)
}

fn stands_here<V: Vfs>(h: &Header, raw: &[u8], place: &Place, offset: u32) -> bool {
    if V::planted(Bug::StaleFramePasses) {
        return true;
    }
    h.offset == offset
        && h.segment == place.segment
        && h.epoch == place.epoch
        && raw[field::STORE] == place.store
        && (!h.is_twin || h.twin > 0 && h.twin <= offset)
}

/// A frame whose every byte was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header of the copy that was read.
    pub header: Header,
    /// The directory.
    pub items: Vec<Item>,
    /// The previous frame's directory, without lengths.
    pub echo: Vec<Item>,
    /// Where the payload starts in the segment, in the copy that was read.
    pub payload_offset: u32,
}

/// Why a frame with a valid header is bad, with the names that its directory still gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFrame {
    /// What does not hold.
    pub what: &'static str,
    /// The records that it names; empty if the directory itself is bad.
    pub items: Vec<Item>,
    /// The frame, if all that does not hold are payloads of entries, or padding: every name is known.
    pub hollow: Option<Box<Frame>>,
}

/// Checks the contents of a frame; `bytes` start with it and hold all of it.
pub fn open<V: Vfs>(bytes: &[u8], header: &Header, salt: u64) -> Result<Frame, BadFrame> {
    let bad = |what| BadFrame { what, items: Vec::new(), hollow: None };
    let bytes = bytes.get(..header.frame_len as usize).ok_or(bad("the frame is cut short"))?;
    let (inner, padding) = bytes.split_at(header.payload().end);
    let directory = HEADER_LEN..HEADER_LEN + header.directory_len as usize;
    let echo = directory.end..directory.end + header.echo_len as usize;
    let checked =
        if header.kind == FrameKind::Checkpoint { header.payload() } else { directory.start..echo.end };
    let unchecked = V::planted(Bug::FramesUnchecked) || V::planted(Bug::DirectoryUnchecked);
    if crc(seed(salt), &inner[checked]) != header.content_crc && !unchecked {
        return Err(bad("the directory's checksum does not hold"));
    }
    let items = take_items(&inner[directory], false).ok_or(bad("the directory does not parse"))?;
    let echo = take_items(&inner[echo], true).ok_or(bad("the echo does not parse"))?;
    let sized: u64 = items.iter().flat_map(|i| &i.sizes).map(|(len, _)| u64::from(*len)).sum();
    let count: u64 = items.iter().map(|i| u64::from(i.count)).sum();
    if count != u64::from(header.records) || (sized != u64::from(header.payload_len) && count > 0) {
        return Err(bad("the directory does not agree with the header"));
    }
    let what = if !is_zero(padding) {
        assert!(!V::planted(Bug::PaddingAsserted), "padding is zero");
        Some("the padding is not zero")
    } else {
        None
    };
    let bad = bad_payloads::<V>(&items, &inner[header.payload()], salt);
    let what = if bad.is_empty() { what } else { Some("a payload's checksum does not hold") };
    let payload_offset = header.offset + u32::try_from(header.payload().start).expect("within the frame");
    let frame = Frame { header: *header, items, echo, payload_offset };
    let Some(what) = what else { return Ok(frame) };
    let items = frame.items.clone();
    let named = header.kind != FrameKind::Checkpoint && bad.iter().all(|name| name.kind.is_entry());
    Err(BadFrame { what, items, hollow: named.then(|| Box::new(frame)) })
}

/// The records of a directory whose payload does not hold.
#[must_use]
pub fn bad_payloads<V: Vfs>(items: &[Item], mut payload: &[u8], salt: u64) -> Vec<Name> {
    let mut bad = Vec::new();
    if V::planted(Bug::PayloadUnchecked) || V::planted(Bug::FramesUnchecked) {
        return bad;
    }
    for item in items {
        for (n, (len, sum)) in (0u32..).zip(&item.sizes) {
            let (data, rest) = payload.split_at(*len as usize);
            payload = rest;
            let name = item.name.at(n);
            if crc(name.seed(salt), data) != *sum {
                bad.push(name);
            }
        }
    }
    bad
}

/// What a frame is made of.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// What it holds.
    pub kind: FrameKind,
    /// The records; none in a checkpoint.
    pub records: &'a [Record],
    /// The previous frame's directory in the same segment, without lengths and checksums.
    pub echo: &'a [u8],
    /// The bytes of a checkpoint.
    pub state: &'a [u8],
    /// The position of the first record.
    pub first: Position,
    /// The mark.
    pub mark: Position,
    /// The chain value before it.
    pub chain: u64,
    /// Where it starts.
    pub offset: u32,
    /// Whether it gets a twin although no record wants one.
    pub twin: bool,
    /// Payloads of so many bytes are not copied, unless they are many small ones or written twice.
    pub apart: usize,
}

/// Records of less than the 512th part of a piece are copied: a slice for each costs more than that.
const SLICES: usize = 512;

/// Memory for the bytes of frames, used for one after the other.
#[derive(Clone, Debug, Default)]
pub struct Room {
    directory: Directory,
    bytes: Vec<u8>,
}

/// A frame ready to be written.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The header of the first copy.
    pub header: Header,
    /// The directory.
    pub directory: Directory,
    /// The first copy; without payload and padding if those are apart.
    pub bytes: Vec<u8>,
    apart: bool,
}

impl Encoded {
    /// The bytes of the first copy, no part larger than a piece.
    pub fn parts<'e>(&'e self, records: &'e [Record], piece: usize) -> impl Iterator<Item = &'e [u8]> {
        let (records, padding) = if self.apart {
            (records, self.header.frame_len as usize - self.header.payload().end)
        } else {
            (&[][..], 0)
        };
        let payloads = records.iter().flat_map(move |record| record.data.chunks(piece));
        self.bytes.chunks(piece).chain(payloads).chain(ZEROS[..padding].chunks(piece))
    }

    /// Where the payload starts in the segment.
    #[must_use]
    pub fn payload_offset(&self) -> u32 {
        self.header.offset + u32::try_from(self.header.payload().start).expect("within the frame")
    }

    /// Turns the bytes into those of the twin.
    pub fn make_twin<V: Vfs>(&mut self, salt: u64) {
        assert!(self.header.twin > 0, "a frame without a twin");
        let offset = self.header.offset + self.header.twin;
        self.bytes[field::COPY.start] = 1;
        self.bytes[field::OFFSET].copy_from_slice(&offset.to_le_bytes());
        stamp(&mut self.bytes, salt);
    }

    /// Gives the memory back for the next frame.
    #[must_use]
    pub fn into_room(self) -> Room {
        let Self { directory, bytes, .. } = self;
        Room { directory, bytes }
    }
}

fn stamp(bytes: &mut [u8], salt: u64) {
    let sum = crc(seed(salt), &bytes[field::KIND.start..HEADER_LEN]);
    bytes[field::HEADER_CRC].copy_from_slice(&sum.to_le_bytes());
}

fn len32(n: usize) -> u32 {
    u32::try_from(n).expect("a frame fits a segment")
}

/// Makes a frame's bytes.
#[must_use]
pub fn encode<V: Vfs>(draft: &Draft<'_>, place: &Place) -> Encoded {
    encode_in::<V>(Room::default(), draft, place)
}

/// As [`encode`], in memory that was used before.
#[must_use]
pub fn encode_in<V: Vfs>(room: Room, draft: &Draft<'_>, place: &Place) -> Encoded {
    let salt = place.salt::<V>();
    let Room { mut directory, mut bytes } = room;
    bytes.clear();
    bytes.extend_from_slice(&[0; HEADER_LEN]);
    directory.write(&mut bytes, draft.records, salt);
    let directory_len = bytes.len() - HEADER_LEN;
    bytes.extend_from_slice(draft.echo);
    let payload = bytes.len();
    let payload_len = directory.payload_len() + draft.state.len();
    let content = payload + payload_len;
    let frame_len = content.next_multiple_of(place.unit as usize);
    let twin = draft.twin || (directory.wants_twin && !V::planted(Bug::OneVoteCopy));
    let apart =
        payload_len >= draft.apart && !twin && draft.records.len() <= payload_len / draft.apart * SLICES;
    if !apart {
        bytes.reserve(frame_len - payload);
        draft.records.iter().for_each(|record| bytes.extend_from_slice(&record.data));
        bytes.extend_from_slice(draft.state);
        // In steps that stay in vector code: what fills more at once takes longer to begin.
        while bytes.len() < frame_len {
            bytes.resize(frame_len.min(bytes.len() + 1024), 0);
        }
    }
    let checked = if draft.kind == FrameKind::Checkpoint { payload..content } else { HEADER_LEN..payload };
    let content_crc = crc(seed(salt), &bytes[checked]);
    let frame_len = len32(frame_len);
    let header = Header {
        kind: draft.kind,
        is_twin: false,
        frame_len,
        directory_len: len32(directory_len),
        echo_len: len32(draft.echo.len()),
        payload_len: len32(payload_len),
        records: len32(draft.records.len()),
        twin: if twin { frame_len.max(TWIN_DISTANCE) } else { 0 },
        content_crc,
        offset: draft.offset,
        segment: place.segment,
        epoch: place.epoch,
        first: draft.first,
        mark: draft.mark,
        chain: draft.chain,
    };
    put_header(&mut bytes, &header, place.store);
    stamp(&mut bytes, salt);
    Encoded { header, directory, bytes, apart }
}

fn put_header(bytes: &mut [u8], h: &Header, store: [u8; 16]) {
    bytes[field::MAGIC].copy_from_slice(&MAGIC);
    bytes[field::KIND.start] = h.kind as u8;
    bytes[field::STORE].copy_from_slice(&store);
    for (at, n) in [
        (field::FRAME_LEN, h.frame_len),
        (field::DIRECTORY_LEN, h.directory_len),
        (field::ECHO_LEN, h.echo_len),
        (field::PAYLOAD_LEN, h.payload_len),
        (field::RECORDS, h.records),
        (field::TWIN, h.twin),
        (field::CONTENT_CRC, h.content_crc),
        (field::OFFSET, h.offset),
    ] {
        bytes[at].copy_from_slice(&n.to_le_bytes());
    }
    for (at, n) in [
        (field::SEGMENT, h.segment.0),
        (field::EPOCH, h.epoch.0),
        (field::FIRST, h.first.0),
        (field::MARK, h.mark.0),
        (field::CHAIN, h.chain),
    ] {
        bytes[at].copy_from_slice(&n.to_le_bytes());
    }
}

/// Makes a frame's checksums and place agree with whatever it says, for fuzzers.
pub fn mend(bytes: &mut [u8], place: &Place, salt: u64) {
    if bytes.len() < HEADER_LEN {
        return;
    }
    bytes[field::MAGIC].copy_from_slice(&MAGIC);
    bytes[field::SEGMENT].copy_from_slice(&place.segment.0.to_le_bytes());
    bytes[field::EPOCH].copy_from_slice(&place.epoch.0.to_le_bytes());
    bytes[field::STORE].copy_from_slice(&place.store);
    bytes[field::OFFSET].copy_from_slice(&512u32.to_le_bytes());
    let frame_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[field::FRAME_LEN].copy_from_slice(&frame_len.to_le_bytes());
    let content =
        HEADER_LEN + u32_at(bytes, field::DIRECTORY_LEN) as usize + u32_at(bytes, field::ECHO_LEN) as usize;
    if let Some(content) = bytes.get(HEADER_LEN..content) {
        let sum = crc(seed(salt), content);
        bytes[field::CONTENT_CRC].copy_from_slice(&sum.to_le_bytes());
    }
    stamp(bytes, salt);
}
