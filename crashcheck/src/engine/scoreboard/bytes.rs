//! Rows below the store: damaged frames, any bytes at all, and a disk that stays full.

use std::panic::{AssertUnwindSafe, catch_unwind};

use seawall::frame::{self, Draft, FrameKind, Place, Probe};
use seawall::record::{Kind, Name, Record};
use seawall::types::{Epoch, GroupId, Incarnation, LeaderTag, LogId, Position, SegmentId, Vote};
use seawall::vfs::mem::MemVfs;
use seawall::{Engine, hostile};

use super::{Piece, Row, matrix};
use crate::engine::execute::{create_options, open_options};
use crate::engine::generate::Random;
use crate::engine::media::{Known, Outcome, flip};
use crate::engine::truth::frames;

const PLACE: Place = Place { store: [3; 16], segment: SegmentId(9), epoch: Epoch(4), unit: 512 };
/// The bytes at a frame's start of which every pair of bits is flipped.
const BYTES: usize = 256;
/// The bytes of a segment of which every pair of bits is flipped, through open.
const OPENED: usize = 2048;

/// A frame of one record of a kind, with data that fills it up to [`BYTES`].
fn frame_of(kind: Kind) -> Vec<u8> {
    let name = Name {
        kind,
        group: GroupId(5),
        incarnation: Incarnation(2),
        id: LogId::new(17, 3),
        leader: LeaderTag::new(b"leader").expect("short"),
    };
    let records = [Record { name, data: (0..110_u8).collect::<Vec<_>>().into() }];
    let draft = Draft {
        kind: FrameKind::Batch,
        records: &records,
        echo: &[],
        state: &[],
        first: Position(40),
        mark: Position(39),
        chain: 77,
        offset: 1024,
        twin: false,
        apart: usize::MAX,
    };
    frame::encode::<MemVfs>(&draft, &PLACE).bytes
}

fn holds(bytes: &[u8]) -> bool {
    let Probe::Frame(header) = frame::probe::<MemVfs>(bytes, &PLACE, 1024) else { return false };
    frame::open::<MemVfs>(bytes, &header, PLACE.salt::<MemVfs>()).is_ok()
}

/// Every pair of bits in the first 256 bytes of a frame of each kind of record, in the decoder; at full size
/// also of 2 KiB of a store, through open.
pub(super) fn two_bits(piece: &Piece) -> Row {
    let kinds = (1..=10).map(|n| Kind::from_number(n).expect("ten kinds"));
    let through_open = piece.size.pick("", "; every pair in 2 KiB of a segment, through open");
    let what = format!("every pair in the first 256 bytes of a frame of each of 10 kinds{through_open}");
    let mut row = Row::new("two flipped bits", what);
    let sound = kinds.map(|kind| (kind, frame_of(kind))).collect::<Vec<_>>();
    for (kind, bytes) in sound.iter().filter(|(_, bytes)| !holds(bytes)) {
        row.tell(format!("a frame of {} with {} bytes does not hold unharmed", kind.name(), bytes.len()));
    }
    let known = Known::unclean::<MemVfs>();
    let decoded = sound.iter().flat_map(|frame| (0..BYTES * 8).map(move |bit| (Some(frame), bit)));
    let opened = (0..piece.size.pick(0, OPENED * 8)).map(|bit| (None, bit));
    let each = |_, (frame, first): (Option<&(Kind, Vec<u8>)>, usize), _: &_| {
        Some(match frame {
            Some((kind, bytes)) => decode_pairs(*kind, bytes, first),
            None => open_pairs(&known, first as u64),
        })
    };
    piece.pool(&mut row, decoded.chain(opened), each, Row::merge);
    row
}

/// A bit of a frame with each later one.
fn decode_pairs(kind: Kind, bytes: &[u8], first: usize) -> Row {
    let mut one = Row::default();
    let mut bytes = bytes.to_vec();
    bytes[first / 8] ^= 1 << (first % 8);
    for second in first + 1..BYTES * 8 {
        bytes[second / 8] ^= 1 << (second % 8);
        one.cases += 1;
        if holds(&bytes) {
            one.silent += 1;
            one.tell(format!("{}: bits {first} and {second}", kind.name()));
        }
        bytes[second / 8] ^= 1 << (second % 8);
    }
    one
}

/// A bit of the newest segment's frames with each later one.
fn open_pairs(known: &Known, first: u64) -> Row {
    let mut one = Row::default();
    let file = matrix::newest(&known.image);
    let start = frames(&known.image, &file).first().expect("it has frames").at * 8;
    let once = flip(&known.image, &file, start + first);
    for second in first + 1..OPENED as u64 * 8 {
        one.cases += 1;
        let told = || format!("{file}: bits {} and {}", start + first, start + second);
        match known.probe::<MemVfs>(flip(&once, &file, start + second)) {
            Outcome::Silent(text) => {
                one.silent += 1;
                one.tell(format!("{}: {text}", told()));
            }
            Outcome::Panic(text) => {
                one.panics += 1;
                one.tell(format!("{}: panic: {text}", told()));
            }
            // Two sectors may cost what one may not.
            _ => {}
        }
    }
    one
}

/// Bytes that nobody wrote, and stores with many changes at once: no panic.
pub(super) fn hostile(piece: &Piece) -> Row {
    let cases: u64 = piece.size.pick(60_000, 10_000_000);
    let mut row = Row::new(
        "hostile bytes",
        "random frames and segments, and stores with up to 64 changed bytes, seed 1",
    );
    let known = Known::unclean::<MemVfs>();
    let files: Vec<(String, Vec<u8>)> = known
        .image
        .files
        .keys()
        .map(|name| (name.clone(), known.image.read(name).expect("it is there")))
        .collect();
    let each = |number, _, _: &_| {
        let _quiet = crate::engine::quiet();
        let tried = catch_unwind(AssertUnwindSafe(|| attack(number, &files)));
        let mut one = Row { cases: 1, ..Row::default() };
        if let Err(cause) = tried {
            one.panics = 1;
            one.tell(format!("case {number}: {}", crate::engine::panic_text(&*cause)));
        }
        Some(one)
    };
    piece.pool(&mut row, 0..cases, each, Row::merge);
    row
}

fn attack(number: u64, files: &[(String, Vec<u8>)]) {
    let mut random = Random::new(number ^ 0x5eed);
    let mut bytes = |most: u64| -> Vec<u8> {
        let len = random.below(most);
        (0..len).map(|_| random.next().to_le_bytes()[3]).collect()
    };
    match number % 3 {
        0 => hostile::decode_frame(&bytes(2048)),
        1 => hostile::scan_segment(&bytes(4096)),
        _ => {
            let mut files = files.to_vec();
            let mut random = Random::new(number);
            for _ in 0..=random.below(64) {
                let file = usize::try_from(random.below(files.len() as u64)).expect("few");
                let content = &mut files[file].1;
                if let Some(len) = std::num::NonZeroU64::new(content.len() as u64) {
                    let at = usize::try_from(random.below(len.get())).expect("small");
                    content[at] = random.next().to_le_bytes()[3];
                }
            }
            let named: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
            hostile::open_directory(&named);
        }
    }
}

/// Votes for ever inside the reserve, then a restart that shows the last.
pub(super) fn votes_on_a_full_disk(votes: u64) -> Row {
    let mut row = Row::default();
    let group = GroupId(1);
    let mem = MemVfs::new();
    let vote = |n: u64| Vote::new(n, 0, n.to_le_bytes());
    let tried = || -> seawall::Result<Option<Vote>> {
        Engine::create_in(&mem, &create_options())?;
        let (engine, _) = Engine::open_in(mem.clone(), open_options())?;
        engine.create_group(group)?;
        engine.maintain()?;
        mem.set_capacity(Some(0));
        for n in 1..=votes {
            engine.save_vote(group, vote(n))?;
        }
        drop(engine);
        let (engine, _) = Engine::open_in(mem.clone(), open_options())?;
        Ok(engine.group(group)?.vote)
    };
    row.cases = votes;
    match tried() {
        Ok(last) if last == Some(vote(votes)) => {}
        Ok(last) => {
            row.silent += 1;
            row.tell(format!("vote {votes} on a full disk, and after the restart {last:?}"));
        }
        Err(e) => {
            row.false_alarms += 1;
            row.tell(format!("a vote on a full disk: {e}"));
        }
    }
    row
}
