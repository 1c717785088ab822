//! Mutations that keep an input worth reading: after libFuzzer's own change, places, chains and checksums
//! are made to agree with whatever the bytes then say.
//!
//! I own what is stamped where, and forgeries: numbers at the ends of what they may be, and records that no
//! writer puts after one another. Lengths of files never change. Without this nearly every input ends at its first
//! checksum. What the checksums cover is known to the checker's second reader, whose code I share.

use std::ops::Range;

use seawall::checksum::mix;
use seawall::frame::{self, Place, field};
use seawall::record::{Item, Kind, put_items, take_items};
use seawall::segment::{self, header, trailer};
use seawall::types::{Epoch, SegmentId};
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
    mend::whole(bytes, &place);
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
                mend::whole(content, &Place { store, segment, epoch, unit: UNIT });
            }
        }
    }
}

/// Changes one number of one file of a directory, or the name of a record; [`directory`] makes it pass. Which one
/// it is follows from `draw`.
pub fn forge(bytes: &mut [u8], draw: u64) {
    let places = pack::places(bytes);
    if places.is_empty() {
        return;
    }
    let mut draw = Draw(draw);
    let (name, range) = draw.pick(&places).clone();
    let content = &mut bytes[range];
    let second = content.len() / 2;
    let fields: Vec<Range<usize>> = match name.as_str() {
        highwater::NAME => {
            use highwater::field::{EPOCH, EVIDENCE, POSITION, SEGMENT};
            [0, second]
                .iter()
                .flat_map(|at| [EPOCH, SEGMENT, POSITION, EVIDENCE].map(|f| shifted(&f, *at)))
                .collect()
        }
        evidence::NAME => {
            use evidence::slot::{EPOCH, LEN, POSITION, SEQUENCE};
            let slots = [0, LEN, second, second + LEN];
            slots.iter().flat_map(|at| [SEQUENCE, EPOCH, POSITION].map(|f| shifted(&f, *at))).collect()
        }
        _ if segment::parse_name(&name).is_none() || content.len() < header::LEN => return,
        _ => match draw.below(4) {
            0 => vec![header::EPOCH, header::PREVIOUS, header::CUT_POSITION, header::RECOVERED_TO],
            1 => {
                use trailer::{CUT, ENTRIES, FOOTER, LOST, NEXT, POSITION, RUNS, STATE_LEN};
                let Some(at) = content.len().checked_sub(trailer::LEN) else { return };
                [NEXT, POSITION, CUT, FOOTER, ENTRIES, RUNS, STATE_LEN, LOST]
                    .map(|f| shifted(&f, at))
                    .to_vec()
            }
            _ => {
                let frames =
                    (UNIT as usize..content.len().saturating_sub(frame::HEADER_LEN)).step_by(UNIT as usize);
                let frames: Vec<usize> = frames.filter(|at| content[*at..*at + 4] == frame::MAGIC).collect();
                if frames.is_empty() {
                    return;
                }
                let at = *draw.pick(&frames);
                if draw.below(4) > 0 {
                    return rename(&mut content[at..], &mut draw);
                }
                [field::FIRST, field::MARK, field::RECORDS, field::TWIN].map(|f| shifted(&f, at)).to_vec()
            }
        },
    };
    let chosen = draw.pick(&fields).clone();
    if let Some(raw) = content.get_mut(chosen) {
        let mut wide = [0; 8];
        wide[..raw.len()].copy_from_slice(raw);
        let value = draw.number(u64::from_le_bytes(wide), raw.len() as u32 * 8).to_le_bytes();
        raw.copy_from_slice(&value[..raw.len()]);
    }
}

fn shifted(field: &Range<usize>, by: usize) -> Range<usize> {
    field.start + by..field.end + by
}

/// Numbers that follow from a first one.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = mix(self.0, 1);
        (self.0 % end as u64) as usize
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A number of so many bits, next to what was there or to an end.
    fn number(&mut self, old: u64, bits: u32) -> u64 {
        let near = self.below(4) as u64;
        let whole = [0, u64::MAX, 1 << 63, 1 << 62, 1 << 32, 1 << 31, old];
        let value = *self.pick(&whole[..if bits > 32 { 7 } else { 2 }]);
        if self.below(2) == 0 { value.wrapping_add(near) } else { value.wrapping_sub(near) }
    }
}

/// Gives a record of a frame another index, term, incarnation or kind, if the frame has room for it.
fn rename(frame: &mut [u8], draw: &mut Draw) {
    let length =
        |field: Range<usize>| u32::from_le_bytes(frame[field].try_into().expect("four bytes")) as usize;
    let lengths = [field::DIRECTORY_LEN, field::ECHO_LEN, field::PAYLOAD_LEN, field::FRAME_LEN].map(length);
    let [names, echo, payload, whole] = lengths;
    let (begin, rest) = (frame::HEADER_LEN + names, echo.saturating_add(payload));
    let inner = frame.get(frame::HEADER_LEN..begin).zip(frame.get(begin..begin.saturating_add(rest)));
    let Some((Some(mut items), rest)) = inner.map(|(names, rest)| (take_items(names, false), rest.to_vec()))
    else {
        return;
    };
    if items.is_empty() {
        return;
    }
    let at = draw.below(items.len());
    let Item { name, .. } = &mut items[at];
    match draw.below(6) {
        0 => name.id.term.0 = draw.number(name.id.term.0, 64),
        1 => name.incarnation.0 = draw.number(name.incarnation.0, 64),
        2 if name.kind.is_entry() => {}
        2 => name.kind = *draw.pick(&Kind::ALL),
        _ => name.id.index.0 = draw.number(name.id.index.0, 64),
    }
    let mut coded = Vec::new();
    put_items(&mut coded, &items, false);
    let len = frame::HEADER_LEN + coded.len() + rest.len();
    if len.next_multiple_of(UNIT as usize) != whole || whole > frame.len() {
        return;
    }
    frame[field::DIRECTORY_LEN].copy_from_slice(&(coded.len() as u32).to_le_bytes());
    coded.extend_from_slice(&rest);
    coded.resize(whole - frame::HEADER_LEN, 0);
    frame[frame::HEADER_LEN..whole].copy_from_slice(&coded);
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use seawall::vfs::mem::MemVfs;

    use super::*;

    /// What stamps a segment makes of a golden one: a walk that takes all of its frames.
    #[test]
    fn a_stamped_segment_is_walked_to_its_end() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/golden/0000000000000003.seg");
        let mut bytes = std::fs::read(golden).expect("a golden file");
        scanned(&mut bytes);
        let place = Place { store: STORE, segment: SCANNED, epoch: Epoch(2), unit: UNIT };
        let frames = [512, 5120, 6144, 6656, 7168, 11776]
            .map(|at| mend::believed(&bytes, at, &place).expect("a frame"));
        assert!(frames.windows(2).all(|w| w[1].chain == w[0].chain_after()));
        for header in frames {
            let salt = place.salt::<MemVfs>();
            frame::open::<MemVfs>(&bytes[header.offset as usize..], &header, salt).expect("a valid frame");
        }
    }
}
