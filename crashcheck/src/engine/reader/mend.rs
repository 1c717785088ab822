//! Checksums that agree with whatever was changed, so that a change gets past them.
//!
//! I own where each checksum of the format stands and what it covers. I change nothing else.

use std::ops::Range;

use seawall::checksum::{crc, seed};
use seawall::frame::{self, FrameKind, Place};
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
