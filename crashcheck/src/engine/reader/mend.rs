//! Checksums that agree with whatever was changed, so that a change gets past them.
//!
//! I own where each checksum of the format stands and what it covers, and for a whole segment where its frames
//! stand and which follows which. I change nothing else.

use std::ops::Range;

use seawall::checksum::{crc, seed};
use seawall::frame::{self, FrameKind, Header, Place, Probe};
use seawall::record::{put_items, take_items};
use seawall::segment::{header, trailer};
use seawall::snapshot::format::{chunk, manifest};
use seawall::vfs::mem::MemVfs;
use seawall::{evidence, highwater, identity};

fn number(bytes: &[u8], at: usize, field: &Range<usize>) -> usize {
    let raw = bytes[at + field.start..at + field.end].try_into().expect("a field of four bytes");
    u32::from_le_bytes(raw) as usize
}

fn put(bytes: &mut [u8], at: usize, field: &Range<usize>, sum: u32) {
    bytes[at + field.start..at + field.end].copy_from_slice(&sum.to_le_bytes());
}

/// Sets `field` of the structure at `at` to the checksum of what is before it there.
fn seal(bytes: &mut [u8], at: usize, field: &Range<usize>, begun: u32) {
    if at + field.end <= bytes.len() {
        let sum = crc(begun, &bytes[at..at + field.start]);
        put(bytes, at, field, sum);
    }
}

/// A frame at `at`: its contents' checksum, then its header's.
pub(super) fn frame(bytes: &mut [u8], at: usize, place: &Place) {
    use frame::field as f;
    if bytes.len() < at + frame::HEADER_LEN {
        return;
    }
    let salt = seed(place.salt::<MemVfs>());
    let names = at + frame::HEADER_LEN;
    let payload = names + number(bytes, at, &f::DIRECTORY_LEN) + number(bytes, at, &f::ECHO_LEN);
    let end = payload + number(bytes, at, &f::PAYLOAD_LEN);
    let is_checkpoint = bytes[at + f::KIND.start] == FrameKind::Checkpoint as u8;
    let covered = if is_checkpoint { payload..end } else { names..payload };
    if let Some(covered) = bytes.get(covered) {
        let sum = crc(salt, covered);
        put(bytes, at, &f::CONTENT_CRC, sum);
    }
    let sum = crc(salt, &bytes[at + f::KIND.start..names]);
    put(bytes, at, &f::HEADER_CRC, sum);
}

/// A segment's header.
pub(super) fn segment_header(bytes: &mut [u8]) {
    seal(bytes, 0, &header::CRC, 0);
}

/// The footer at a file's end: its three parts, then the trailer.
pub(super) fn footer(bytes: &mut [u8], place: &Place) {
    use trailer as t;
    let Some(at) = bytes.len().checked_sub(t::LEN) else { return };
    let salt = seed(place.salt::<MemVfs>());
    let mut start = number(bytes, at, &t::FOOTER);
    let lengths = [
        (number(bytes, at, &t::ENTRIES) * 12, t::TABLE_CRC),
        (number(bytes, at, &t::RUNS) * 64, t::RUNS_CRC),
        (number(bytes, at, &t::STATE_LEN), t::STATE_CRC),
    ];
    for (len, field) in lengths {
        if let Some(part) = bytes.get(start..start + len) {
            let sum = crc(salt, part);
            put(bytes, at, &field, sum);
        }
        start += len;
    }
    seal(bytes, at, &t::CRC, salt);
}

/// Both copies of the identity.
pub(super) fn identity(bytes: &mut [u8]) {
    let second = usize::try_from(identity::SECOND_COPY).expect("small");
    [0, second].into_iter().for_each(|at| seal(bytes, at, &identity::field::CRC, 0));
}

/// Both slots of the high-water file.
pub(super) fn high_water(bytes: &mut [u8]) {
    let second = usize::try_from(highwater::SECOND_SLOT).expect("small");
    [0, second].into_iter().for_each(|at| seal(bytes, at, &highwater::field::CRC, 0));
}

/// Every slot of the evidence file.
pub(super) fn evidence(bytes: &mut [u8]) {
    use evidence::slot;
    (0..bytes.len()).step_by(slot::LEN).for_each(|at| seal(bytes, at, &slot::CRC, 0));
}

/// A chunk: its stored bytes' checksum, then its header's.
pub(super) fn chunk(bytes: &mut [u8]) {
    if let Some(stored) = bytes.get(chunk::LEN..) {
        let sum = crc(0, stored);
        put(bytes, 0, &chunk::STORED_CRC, sum);
    }
    seal(bytes, 0, &chunk::CRC, 0);
}

/// A manifest: its header's checksum, then the hash at its end; gives the name that it now has.
pub(super) fn manifest(bytes: &mut [u8]) -> [u8; 32] {
    seal(bytes, 0, &manifest::CRC, 0);
    if let Some(end) = bytes.len().checked_sub(manifest::TRAILER_LEN) {
        let hash = blake3::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(hash.as_bytes());
    }
    *blake3::hash(bytes).as_bytes()
}

/// Header, frames and footer; the frames that follow each other are chained.
pub(super) fn whole(bytes: &mut [u8], place: &Place) {
    segment_header(bytes);
    let mut next = place.unit as usize;
    let wide = |at: &Range<usize>| u64::from_le_bytes(bytes[at.clone()].try_into().expect("eight bytes"));
    let (mut first, mut chain) = (wide(&header::CUT_POSITION).wrapping_add(1), wide(&header::CUT_CHAIN));
    for at in (next..bytes.len().saturating_sub(frame::HEADER_LEN)).step_by(place.unit as usize) {
        if bytes[at..at + 4] != frame::MAGIC {
            continue;
        }
        stand(bytes, at, place);
        if at == next {
            bytes[at..][frame::field::FIRST].copy_from_slice(&first.to_le_bytes());
            bytes[at..][frame::field::CHAIN].copy_from_slice(&chain.to_le_bytes());
        }
        payloads(bytes, at, place);
        frame(bytes, at, place);
        let Some(header) = believed(bytes, at, place).filter(|_| at == next) else { continue };
        first = header.first.0.wrapping_add(u64::from(header.records));
        chain = header.chain_after();
        next = at + header.span() as usize;
    }
    stamp_trailer(bytes, place);
    footer(bytes, place);
}

/// Says of a frame that it stands where it does.
fn stand(bytes: &mut [u8], at: usize, place: &Place) {
    let raw = &mut bytes[at..];
    raw[frame::field::STORE].copy_from_slice(&place.store);
    raw[frame::field::SEGMENT].copy_from_slice(&place.segment.0.to_le_bytes());
    raw[frame::field::EPOCH].copy_from_slice(&place.epoch.0.to_le_bytes());
    let offset = u32::try_from(at).unwrap_or(u32::MAX);
    raw[frame::field::OFFSET].copy_from_slice(&offset.to_le_bytes());
}

pub(super) fn believed(bytes: &[u8], at: usize, place: &Place) -> Option<Header> {
    let offset = u32::try_from(at).ok()?;
    match frame::probe::<MemVfs>(&bytes[at..], place, offset) {
        Probe::Frame(header) => Some(*header),
        _ => None,
    }
}

/// Makes the checksums that a frame's directory gives hold, if it parses and is as long afterwards.
fn payloads(bytes: &mut [u8], at: usize, place: &Place) {
    let length = |field: std::ops::Range<usize>| {
        u32::from_le_bytes(bytes[at..][field].try_into().expect("four bytes")) as usize
    };
    let names = frame::HEADER_LEN..frame::HEADER_LEN.saturating_add(length(frame::field::DIRECTORY_LEN));
    let mut payload = names.end.saturating_add(length(frame::field::ECHO_LEN));
    let raw = &mut bytes[at..];
    let Some(mut items) = raw.get(names.clone()).and_then(|names| take_items(names, false)) else { return };
    let salt = place.salt::<MemVfs>();
    for item in &mut items {
        for (n, (len, sum)) in (0..).zip(&mut item.sizes) {
            let end = payload.saturating_add(*len as usize);
            let Some(data) = raw.get(payload..end) else { return };
            *sum = crc(seed(u64::from(item.name.at(n).seed(salt))), data);
            payload = end;
        }
    }
    let mut coded = Vec::new();
    put_items(&mut coded, &items, false);
    if coded.len() == names.len() {
        raw[names].copy_from_slice(&coded);
    }
}

fn stamp_trailer(bytes: &mut [u8], place: &Place) {
    let Some(at) = bytes.len().checked_sub(trailer::LEN) else { return };
    let raw = &mut bytes[at..];
    if raw[trailer::MAGIC] == *b"SEAWEND\0" {
        raw[trailer::STORE].copy_from_slice(&place.store);
        raw[trailer::SEGMENT].copy_from_slice(&place.segment.0.to_le_bytes());
        raw[trailer::EPOCH].copy_from_slice(&place.epoch.0.to_le_bytes());
    }
}
