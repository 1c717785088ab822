//! The inputs that both readers are asked about, each from its number alone.
//!
//! I own the mix: whole directories, segments, frames, the small files, snapshots, and bare codings; damaged
//! as a disk does it, changed under checksums that are made to hold again, or never written by anybody. (C1)
//! A case depends on the seed and its number alone. (C2) Every kind of case comes in every sixteen.

use seawall::frame::{HEADER_LEN, Place};
use seawall::record;
use seawall::segment;
use seawall::types::{Digest, Epoch, SegmentId};
use seawall::vfs::mem::{Content, Image};
use seawall::{evidence, highwater, identity, state};

use super::super::generate::Random;
use super::bases::{Bases, PLAIN, Standing};
use super::damage::{below, damage, flip_bit, noise, pick, poke};
use super::mend;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// The whole directory.
    Directory,
    /// One segment file.
    Segment(String),
    /// The identity file.
    Identity,
    /// The high-water file.
    HighWater,
    /// The evidence file.
    Evidence,
    /// One owned snapshot.
    Snapshot(Digest),
    /// Bytes as a frame.
    Frame { place: Place, at: u32, bytes: Vec<u8> },
    /// Bytes as a state.
    State(Vec<u8>),
    /// Bytes as a directory of a frame, or as an echo.
    Items { bytes: Vec<u8>, is_echo: bool },
}

/// One input.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// The kind that it is counted under.
    pub(super) kind: &'static str,
    /// The store that it came from.
    pub(super) base: usize,
    /// The store's bytes as they are asked about.
    pub(super) image: Image,
    /// What is asked.
    pub(super) ask: Ask,
}

/// A step through all bits of a store that meets each once: no multiple of any length here.
const STRIDE: u64 = 1_000_003;

/// The case of a number.
pub(super) fn make(bases: &Bases, seed: u64, number: u64) -> Case {
    let mut random = Random::new(seed.rotate_left(32) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let r = &mut random;
    let round = number / 16;
    match number % 16 {
        0 => bit_of_a_store(bases, round),
        1 => coarse(bases, r),
        2 => several(bases, r),
        3 => changed_store(bases, r),
        4 => segment_of(bases, r, "segment, one bit", |r, content, _, _| {
            let bits = content.len * 8;
            flip_bit(content, r.below(bits.max(1)));
        }),
        5 => segment_of(bases, r, "segment, sectors and lengths", |r, content, file, others| {
            (0..=r.below(2)).for_each(|_| damage(r, file, content, others));
        }),
        6 | 7 => mended_segment(bases, r),
        8 => hostile_segment(bases, r),
        9 => frame(bases, r, "frame, damaged", false),
        10 | 11 => frame(bases, r, "frame, checksums made to hold", true),
        12 => small_file(bases, r),
        13 => snapshot(bases, r),
        14 => coded_state(bases, r),
        _ => coded_items(bases, r),
    }
}

fn bit_of_a_store(bases: &Bases, round: u64) -> Case {
    let base = usize::try_from(round).expect("64-bit target") % PLAIN;
    let mut image = bases.images[base].clone();
    let bits = image.bytes() * 8;
    let mut bit = (round / PLAIN as u64).wrapping_mul(STRIDE) % bits;
    for content in image.files.values_mut() {
        if bit < content.len * 8 {
            flip_bit(content, bit);
            break;
        }
        bit -= content.len * 8;
    }
    Case { kind: "directory, one bit", base, image, ask: Ask::Directory }
}

fn coarse(bases: &Bases, r: &mut Random) -> Case {
    let kind = "directory, files and sectors";
    if r.below(3) == 0 {
        let (base, image) = pick(r, &bases.coarse).clone();
        return Case { kind, base, image, ask: Ask::Directory };
    }
    let base = below(r, bases.images.len());
    let mut image = bases.images[base].clone();
    damage_any(bases, r, &mut image);
    Case { kind, base, image, ask: Ask::Directory }
}

fn damage_any(bases: &Bases, r: &mut Random, image: &mut Image) {
    let others = [&bases.images[0], pick(r, &bases.images), &image.clone()];
    let file = image.files.keys().nth(below(r, image.files.len())).expect("one of the files").clone();
    damage(r, &file, image.files.get_mut(&file).expect("it is there"), &others);
}

/// Two or three things at once: damage, names that are gone, come or change places.
fn several(bases: &Bases, r: &mut Random) -> Case {
    let base = below(r, bases.images.len());
    let mut image = bases.images[base].clone();
    for _ in 0..2 + r.below(2) {
        let names: Vec<String> = image.files.keys().cloned().collect();
        match r.below(8) {
            0 => drop(image.files.remove(pick(r, &names))),
            1 => {
                let (one, two) = (pick(r, &names).clone(), pick(r, &names).clone());
                let (first, second) = (image.files[&one].clone(), image.files[&two].clone());
                image.files.extend([(one, second), (two, first)]);
            }
            2 => {
                let names: Vec<&String> = names.iter().filter(|n| segment::parse_name(n).is_some()).collect();
                if let Some(content) = names.first().map(|_| image.files[*pick(r, &names)].clone()) {
                    let name = segment::file_name(SegmentId(1 + r.below(40)));
                    image.files.insert(name, content);
                }
            }
            3 if r.below(4) == 0 => {
                image.dirs.clear();
                image.files.retain(|name, _| !name.contains('/'));
            }
            3 => image.put("a file of somebody else", b"not ours"),
            _ => damage_any(bases, r, &mut image),
        }
        if image.files.is_empty() {
            break;
        }
    }
    Case { kind: "directory, several faults", base, image, ask: Ask::Directory }
}

/// A store one of whose files says something else, under checksums that hold.
fn changed_store(bases: &Bases, r: &mut Random) -> Case {
    let base = below(r, bases.images.len());
    let mut image = bases.images[base].clone();
    let kind = "directory, checksums made to hold";
    match r.below(8) {
        0 => change_file(r, &mut image, identity::NAME, identity::field::LEN, mend::identity),
        1 if r.below(2) == 0 => {
            change_file(r, &mut image, evidence::NAME, evidence::slot::LEN, mend::evidence);
        }
        1 => change_file(r, &mut image, highwater::NAME, highwater::field::LEN, mend::high_water),
        _ => {
            if let Some(standing) = a_frame(bases, r, Some(base)) {
                change_segment(bases, r, &mut image, &standing);
            }
        }
    }
    Case { kind, base, image, ask: Ask::Directory }
}

fn change_file(r: &mut Random, image: &mut Image, file: &str, len: usize, mend: fn(&mut [u8])) {
    let Some(content) = image.files.get_mut(file) else { return };
    let mut bytes = content.to_bytes();
    let distance = if file == evidence::NAME { bytes.len() / 2 } else { 4096 };
    // Of the evidence, any of the first events.
    let first = if file == evidence::NAME { below(r, 4) * len } else { 0 };
    for copy in 0..=below(r, 2) {
        let at = first + copy * distance;
        (0..=r.below(2)).for_each(|_| poke(r, &mut bytes, at..at + len));
    }
    mend(&mut bytes);
    *content = Content::from_bytes(&bytes);
}

fn a_frame(bases: &Bases, r: &mut Random, base: Option<usize>) -> Option<Standing> {
    let all: Vec<&Standing> = bases.frames.iter().filter(|f| base.is_none_or(|b| f.base == b)).collect();
    if all.is_empty() { None } else { Some((*pick(r, &all)).clone()) }
}

/// Changes the segment in which a frame stands: that frame and its neighbours, the header or the footer.
fn change_segment(bases: &Bases, r: &mut Random, image: &mut Image, standing: &Standing) {
    let content = image.files.get_mut(&standing.file).expect("the frame stands in it");
    let mut bytes = content.to_bytes();
    let len = bytes.len();
    match r.below(6) {
        0 => {
            poke(r, &mut bytes, 16..112);
            mend::segment_header(&mut bytes);
        }
        1 | 2 => {
            let tables = len.saturating_sub(600)..len;
            let trailer = len.saturating_sub(segment::trailer::LEN)..len;
            (0..=r.below(2)).for_each(|_| {
                let range = if r.below(2) == 0 { tables.clone() } else { trailer.clone() };
                poke(r, &mut bytes, range);
            });
            mend::footer(&mut bytes, &standing.place);
        }
        _ => {
            let frames: Vec<&Standing> = bases
                .frames
                .iter()
                .filter(|f| (f.base, &f.file) == (standing.base, &standing.file))
                .collect();
            for _ in 0..=r.below(3) {
                let at = pick(r, &frames).at as usize;
                change_frame(r, &mut bytes, at);
                mend::frame(&mut bytes, at, &standing.place);
            }
            if r.below(2) == 0 {
                mend::whole(&mut bytes, &standing.place);
            }
        }
    }
    *content = Content::from_bytes(&bytes);
}

/// Changes a frame's header or what follows it.
fn change_frame(r: &mut Random, bytes: &mut [u8], at: usize) {
    let range = match r.below(4) {
        0 => at + 8..at + HEADER_LEN,
        1 => at + HEADER_LEN..at + HEADER_LEN + 40,
        2 => at + HEADER_LEN..at + 512,
        _ => at..at + 1024,
    };
    (0..=r.below(2)).for_each(|_| poke(r, bytes, range.clone()));
}

fn segment_of(
    bases: &Bases,
    r: &mut Random,
    kind: &'static str,
    change: impl Fn(&mut Random, &mut Content, &str, &[&Image]),
) -> Case {
    let base = below(r, bases.images.len());
    let mut image = bases.images[base].clone();
    let names: Vec<String> =
        image.files.keys().filter(|name| segment::parse_name(name).is_some()).cloned().collect();
    let file = pick(r, &names).clone();
    let others = [&bases.images[0], pick(r, &bases.images), &bases.images[base]];
    change(r, image.files.get_mut(&file).expect("it is there"), &file, &others);
    Case { kind, base, image, ask: Ask::Segment(file) }
}

fn mended_segment(bases: &Bases, r: &mut Random) -> Case {
    let standing = a_frame(bases, r, None).expect("there are frames");
    let mut image = bases.images[standing.base].clone();
    change_segment(bases, r, &mut image, &standing);
    let ask = Ask::Segment(standing.file);
    Case { kind: "segment, checksums made to hold", base: standing.base, image, ask }
}

/// A segment put together from units of others and from noise, some with checksums that hold.
fn hostile_segment(bases: &Bases, r: &mut Random) -> Case {
    segment_of(bases, r, "segment, hostile", |r, content, file, others| {
        let mut bytes = content.to_bytes();
        for _ in 0..1 + r.below(12) {
            if bytes.len() < 1024 {
                break;
            }
            let at = (1 + below(r, bytes.len() / 512 - 1)) * 512;
            let len = (512 << r.below(3)).min(bytes.len() - at);
            let from = pick(r, others).files.values().nth(below(r, 3)).expect("a store has three files");
            let from = from.to_bytes();
            match r.below(3) {
                0 => bytes[at..at + len].copy_from_slice(&noise(r, len)),
                1 if from.len() > 512 => {
                    let source = below(r, from.len() / 512) * 512;
                    let len = len.min(from.len() - source);
                    bytes[at..at + len].copy_from_slice(&from[source..source + len]);
                }
                _ => {
                    let source = below(r, bytes.len() / 512) * 512;
                    let len = len.min(bytes.len() - source);
                    bytes.copy_within(source..source + len, at);
                    let id = segment::parse_name(file).expect("a segment's name");
                    if let Some(place) = own_place(&bytes, id) {
                        let offset = u32::try_from(at).expect("within a segment").to_le_bytes();
                        bytes[at + 44..at + 48].copy_from_slice(&offset);
                        mend::frame(&mut bytes, at, &place);
                    }
                }
            }
        }
        *content = Content::from_bytes(&bytes);
    })
}

/// What a segment's header says of where its frames stand, believed or not.
fn own_place(bytes: &[u8], segment: SegmentId) -> Option<Place> {
    let store = bytes.get(segment::header::STORE)?.try_into().ok()?;
    let epoch = u64::from_le_bytes(bytes.get(segment::header::EPOCH)?.try_into().ok()?);
    Some(Place { store, segment, epoch: Epoch(epoch), unit: 512 })
}

fn frame(bases: &Bases, r: &mut Random, kind: &'static str, holds: bool) -> Case {
    let Standing { base, file, at, place } = a_frame(bases, r, None).expect("there are frames");
    let mut bytes = vec![0; 2048];
    let room = bases.images[base].files[&file].read(u64::from(at), &mut bytes);
    bytes.truncate(room.max(512));
    if holds {
        change_frame(r, &mut bytes, 0);
        mend::frame(&mut bytes, 0, &place);
    } else if r.below(8) == 0 {
        bytes = noise(r, 512);
        bytes[..4].copy_from_slice(b"SWFR");
    } else {
        let bits = bytes.len() as u64 * 8;
        for _ in 0..=r.below(2) {
            let bit = if r.below(2) == 0 { r.below(2400) } else { r.below(bits) };
            bytes[usize::try_from(bit / 8).expect("small")] ^= 1 << (bit % 8);
        }
    }
    let image = bases.images[base].clone();
    Case { kind, base, image, ask: Ask::Frame { place, at, bytes } }
}

fn small_file(bases: &Bases, r: &mut Random) -> Case {
    let base = below(r, bases.images.len());
    let mut image = bases.images[base].clone();
    let (kind, file, ask, len, mend): (_, _, _, _, fn(&mut [u8])) = match r.below(3) {
        0 => ("identity", identity::NAME, Ask::Identity, identity::field::LEN, mend::identity),
        1 => ("high-water file", highwater::NAME, Ask::HighWater, highwater::field::LEN, mend::high_water),
        _ => ("evidence", evidence::NAME, Ask::Evidence, evidence::slot::LEN, mend::evidence),
    };
    let others = [pick(r, &bases.images), &bases.images[base]];
    match (r.below(3), image.files.get_mut(file)) {
        (0, Some(_)) => change_file(r, &mut image, file, len, mend),
        (1, Some(content)) => (0..=r.below(3)).for_each(|_| damage(r, file, content, &others)),
        (_, Some(content)) => {
            let second = if file == evidence::NAME { content.len / 2 } else { 4096 };
            for at in [0, second] {
                (0..=r.below(2)).for_each(|_| flip_bit(content, (at + r.below(len as u64)) * 8 + r.below(8)));
            }
        }
        (_, None) => return Case { kind, base, image, ask: Ask::Directory },
    }
    Case { kind, base, image, ask }
}

/// A manifest or a chunk that is damaged, or says something else under another name.
fn snapshot(bases: &Bases, r: &mut Random) -> Case {
    let with: Vec<usize> = (0..bases.images.len())
        .filter(|n| {
            let has = |end: &str| bases.images[*n].files.keys().any(|name| name.ends_with(end));
            has(".manifest") && has(".chunk")
        })
        .collect();
    let base = *pick(r, &with);
    let mut image = bases.images[base].clone();
    let ending = |name: &String, end: &str| name.starts_with("snapshots/") && name.ends_with(end);
    let manifests: Vec<String> = image.files.keys().filter(|n| ending(n, ".manifest")).cloned().collect();
    let chunks: Vec<String> = image.files.keys().filter(|n| ending(n, ".chunk")).cloned().collect();
    let named = pick(r, &manifests).clone();
    let mut digest = digest_of(&named);
    match r.below(6) {
        0 => {
            let mut bytes = image.files[&named].to_bytes();
            let range = if r.below(2) == 0 { 8..100 } else { 0..bytes.len() };
            poke(r, &mut bytes, range);
            digest = mend::manifest(&mut bytes);
            image.put(&format!("snapshots/{}.manifest", Digest(digest)), &bytes);
        }
        1 => drop(image.files.remove(pick(r, &chunks))),
        2 => {
            let chunk = pick(r, &chunks);
            let mut bytes = image.files[chunk].to_bytes();
            poke(r, &mut bytes, 0..88);
            mend::chunk(&mut bytes);
            image.put(chunk, &bytes);
        }
        n => {
            let file = if n == 3 { named } else { pick(r, &chunks).clone() };
            damage(r, &file, image.files.get_mut(&file).expect("it is there"), &[&bases.images[base]]);
        }
    }
    Case { kind: "snapshot", base, image, ask: Ask::Snapshot(Digest(digest)) }
}

fn digest_of(path: &str) -> [u8; 32] {
    let digits = path.trim_start_matches("snapshots/").as_bytes();
    std::array::from_fn(|n| {
        let digit = |c: u8| if c.is_ascii_digit() { c - b'0' } else { c - b'a' + 10 };
        digit(digits[2 * n]) << 4 | digit(digits[2 * n + 1])
    })
}

/// The coded state of a segment's checkpoint, or another, changed; or noise.
fn coded_state(bases: &Bases, r: &mut Random) -> Case {
    let standing = a_frame(bases, r, None).expect("there are frames");
    let (base, image) = (standing.base, bases.images[standing.base].clone());
    let mut bytes = vec![0; 400];
    let skipped = u64::from(standing.at) + HEADER_LEN as u64 + r.below(3);
    let read = image.files[&standing.file].read(skipped, &mut bytes);
    bytes.truncate(read);
    while bytes.last() == Some(&0) && r.below(64) > 0 {
        bytes.pop();
    }
    // A state whose groups are known to parse more often than bytes at random.
    if r.below(2) == 0 {
        let mut groups = state::Groups::new();
        for _ in 0..r.below(4) {
            groups.extend(state::decode(&one_group(r)).into_iter().flatten());
        }
        bytes = state::encode(&groups);
    }
    let changes = r.below(3);
    for _ in 0..changes {
        let range = 0..bytes.len();
        poke(r, &mut bytes, range);
    }
    if r.below(8) == 0 {
        let len = below(r, 40);
        bytes = noise(r, len);
    }
    Case { kind: "state", base, image, ask: Ask::State(bytes) }
}

/// A state of one group with numbers of all sizes.
fn one_group(r: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    let number = |bytes: &mut Vec<u8>, r: &mut Random| {
        let bits = r.below(64);
        record::put_varint(bytes, r.next() >> bits);
    };
    record::put_varint(&mut bytes, 1);
    (0..7).for_each(|_| number(&mut bytes, r));
    let flags = r.below(4);
    bytes.push(flags.to_le_bytes()[0]);
    if flags & 1 != 0 {
        (0..2).for_each(|_| number(&mut bytes, r));
        bytes.extend(noise(r, 16));
        let len = below(r, 20);
        record::put_varint(&mut bytes, len as u64);
        bytes.extend(noise(r, len));
    }
    if flags & 2 != 0 {
        (0..3).for_each(|_| number(&mut bytes, r));
        bytes.push(1 + r.below(2).to_le_bytes()[0]);
        bytes.extend(noise(r, 32));
    }
    bytes
}

/// The directory of a frame, changed; or one made up; or noise.
fn coded_items(bases: &Bases, r: &mut Random) -> Case {
    let standing = a_frame(bases, r, None).expect("there are frames");
    let (base, image) = (standing.base, bases.images[standing.base].clone());
    let is_echo = r.below(2) == 0;
    let mut header = vec![0; HEADER_LEN];
    let start = u64::from(standing.at);
    image.files[&standing.file].read(start, &mut header);
    let length = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (directory, echo) = (length(20).min(4096), length(24).min(4096));
    let (skip, len) = if is_echo { (directory, echo) } else { (0, directory) };
    let mut bytes = vec![0; len as usize];
    image.files[&standing.file].read(start + HEADER_LEN as u64 + u64::from(skip), &mut bytes);
    if r.below(4) == 0 {
        bytes = made_up(r, is_echo);
    }
    let changes = r.below(3);
    for _ in 0..changes {
        let range = 0..bytes.len();
        poke(r, &mut bytes, range);
    }
    if r.below(8) == 0 {
        let len = below(r, 40);
        bytes = noise(r, len);
    }
    Case { kind: "directory of a frame", base, image, ask: Ask::Items { bytes, is_echo } }
}

fn made_up(r: &mut Random, is_echo: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..r.below(4) {
        bytes.push(1 + r.below(10).to_le_bytes()[0]);
        for _ in 0..4 {
            let bits = r.below(64);
            record::put_varint(&mut bytes, r.next() >> bits);
        }
        let tag = below(r, 18);
        bytes.push(u8::try_from(tag).expect("small"));
        bytes.extend(noise(r, tag));
        let count = r.below(4);
        record::put_varint(&mut bytes, count);
        for _ in 0..if is_echo { 0 } else { count } {
            let bits = 30 + r.below(34);
            record::put_varint(&mut bytes, r.next() >> bits);
            bytes.extend(noise(r, 4));
        }
    }
    bytes
}
