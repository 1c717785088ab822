//! Mutations that keep an input worth reading: after libFuzzer's own change, places, chains and checksums
//! are made to agree with whatever the bytes then say.
//!
//! I own what is stamped where. Lengths never change. Without this nearly every input ends at its first
//! checksum. What the checksums cover is known to the checker's second reader, whose code I share.

use seawall::checksum::{crc, seed};
use seawall::frame::{self, Header, Place, Probe};
use seawall::record::{put_items, take_items};
use seawall::segment::{self, header, trailer};
use seawall::types::{Epoch, SegmentId};
use seawall::vfs::mem::MemVfs;
use seawall::{evidence, highwater, identity};

use crate::{mend, pack};

/// The store, cluster, node and segment that `segment_scan` gives its input.
const STORE: [u8; 16] = [7; 16];
const SCANNED: SegmentId = SegmentId(1);
const UNIT: u32 = 512;
const SIZE: u64 = 16 << 10;

/// A segment of the store that `segment_scan` looks at.
pub fn scanned(bytes: &mut [u8]) {
    if bytes.len() < header::LEN {
        return;
    }
    bytes[header::MAGIC].copy_from_slice(b"SEAWSEG\0");
    bytes[header::VERSION].copy_from_slice(&segment::FORMAT_VERSION.to_le_bytes());
    bytes[header::LENGTH].copy_from_slice(&112_u32.to_le_bytes());
    bytes[header::STORE].copy_from_slice(&STORE);
    for (field, n) in [(header::CLUSTER, 1), (header::NODE, 1), (header::SIZE, SIZE), (header::SEGMENT, 1)] {
        bytes[field].copy_from_slice(&n.to_le_bytes());
    }
    bytes[header::UNIT].copy_from_slice(&UNIT.to_le_bytes());
    let place = Place {
        store: STORE,
        segment: SCANNED,
        epoch: Epoch(number(bytes, header::EPOCH.start)),
        unit: UNIT,
    };
    whole(bytes, &place);
}

/// The files of a directory, each as what its name says.
pub fn directory(bytes: &mut [u8]) {
    for (name, range) in pack::places(bytes) {
        let content = &mut bytes[range];
        match name.as_str() {
            identity::NAME => mend::identity(content),
            highwater::NAME => mend::high_water(content),
            evidence::NAME => mend::evidence(content),
            _ if name.ends_with(".chunk") && content.len() > 88 => mend::chunk(content),
            _ => {
                let (Some(segment), true) = (segment::parse_name(&name), content.len() >= header::LEN) else {
                    continue;
                };
                let store = content[header::STORE].try_into().expect("sixteen bytes");
                let epoch = Epoch(number(content, header::EPOCH.start));
                whole(content, &Place { store, segment, epoch, unit: UNIT });
            }
        }
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Header, frames and footer; the frames that follow each other are chained.
fn whole(bytes: &mut [u8], place: &Place) {
    mend::segment_header(bytes);
    let mut next = UNIT as usize;
    let (mut first, mut chain) =
        (number(bytes, header::CUT_POSITION.start).wrapping_add(1), number(bytes, header::CUT_CHAIN.start));
    for at in (next..bytes.len().saturating_sub(frame::HEADER_LEN)).step_by(UNIT as usize) {
        if bytes[at..at + 4] != frame::MAGIC {
            continue;
        }
        stand(bytes, at, place);
        if at == next {
            bytes[at..][frame::field::FIRST].copy_from_slice(&first.to_le_bytes());
            bytes[at..][frame::field::CHAIN].copy_from_slice(&chain.to_le_bytes());
        }
        payloads(bytes, at, place);
        mend::frame(bytes, at, place);
        let Some(header) = believed(bytes, at, place).filter(|_| at == next) else { continue };
        first = header.first.0.wrapping_add(u64::from(header.records));
        chain = header.chain_after();
        next = at + header.span() as usize;
    }
    stamp_trailer(bytes, place);
    mend::footer(bytes, place);
}

/// Says of a frame that it stands where it does.
fn stand(bytes: &mut [u8], at: usize, place: &Place) {
    let frame = &mut bytes[at..];
    frame[frame::field::STORE].copy_from_slice(&place.store);
    frame[frame::field::SEGMENT].copy_from_slice(&place.segment.0.to_le_bytes());
    frame[frame::field::EPOCH].copy_from_slice(&place.epoch.0.to_le_bytes());
    let offset = u32::try_from(at).unwrap_or(u32::MAX);
    frame[frame::field::OFFSET].copy_from_slice(&offset.to_le_bytes());
}

fn believed(bytes: &[u8], at: usize, place: &Place) -> Option<Header> {
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
    let frame = &mut bytes[at..];
    let Some(mut items) = frame.get(names.clone()).and_then(|raw| take_items(raw, false)) else { return };
    let salt = place.salt::<MemVfs>();
    for item in &mut items {
        for (n, (len, sum)) in (0..).zip(&mut item.sizes) {
            let end = payload.saturating_add(*len as usize);
            let Some(data) = frame.get(payload..end) else { return };
            *sum = crc(seed(u64::from(item.name.at(n).seed(salt))), data);
            payload = end;
        }
    }
    let mut coded = Vec::new();
    put_items(&mut coded, &items, false);
    if coded.len() == names.len() {
        frame[names].copy_from_slice(&coded);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What stamps a segment makes of a golden one: a walk that takes all of its frames.
    #[test]
    fn a_stamped_segment_is_walked_to_its_end() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/golden/0000000000000003.seg");
        let mut bytes = std::fs::read(golden).expect("a golden file");
        scanned(&mut bytes);
        let place = Place { store: STORE, segment: SCANNED, epoch: Epoch(2), unit: UNIT };
        let frames =
            [512, 5120, 6144, 6656, 7168, 11776].map(|at| believed(&bytes, at, &place).expect("a frame"));
        assert!(frames.windows(2).all(|w| w[1].chain == w[0].chain_after()));
        for header in frames {
            let salt = place.salt::<MemVfs>();
            frame::open::<MemVfs>(&bytes[header.offset as usize..], &header, salt).expect("a valid frame");
        }
    }
}
