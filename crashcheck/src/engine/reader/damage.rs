//! Damage to one file, as a disk or an enemy would do it.
//!
//! I own the kinds: bits, bytes, sectors of zeros, of ones, stale or from another place, other lengths, and
//! numbers that decoders fear. Which kind is drawn from the numbers that the caller brings. I do not know
//! what the bytes mean.

use std::ops::Range;

use seawall::vfs::mem::{Content, Image, PAGE};

use super::super::generate::Random;

/// An index below `end`, which is not zero.
pub(super) fn below(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).expect("below a length")
}

/// One of several.
pub(super) fn pick<'a, T>(random: &mut Random, all: &'a [T]) -> &'a T {
    &all[below(random, all.len())]
}

/// Bytes that nobody wrote.
pub(super) fn noise(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.next().to_le_bytes()[3]).collect()
}

/// Numbers at the edges of lengths, counts and positions.
const EDGES: [u64; 15] = [
    0,
    1,
    2,
    127,
    128,
    511,
    512,
    4096,
    1 << 31,
    u32::MAX as u64,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Changes some bytes of a range: a bit, a byte, or a number of 1 to 8 bytes.
pub(super) fn poke(random: &mut Random, bytes: &mut [u8], range: Range<usize>) {
    let range = range.start..range.end.min(bytes.len());
    if range.is_empty() {
        return;
    }
    let at = range.start + below(random, range.len());
    match random.below(4) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next().to_le_bytes()[3],
        2 => {
            let value = pick(random, &EDGES).to_le_bytes();
            let width = [1, 2, 4, 8][below(random, 4)].min(range.end - at);
            bytes[at..at + width].copy_from_slice(&value[..width]);
        }
        _ => bytes[at] = bytes[at].wrapping_add(if random.below(2) == 0 { 1 } else { 255 }),
    }
}

/// A sector of the file that holds something, or any if none does.
fn used_sector(random: &mut Random, content: &Content) -> usize {
    let used: Vec<usize> = (0..content.pages.len()).filter(|n| content.pages[*n].is_some()).collect();
    if used.is_empty() { below(random, content.pages.len().max(1)) } else { *pick(random, &used) }
}

/// Writes whole sectors without making the file longer.
fn overwrite(content: &mut Content, sector: usize, bytes: &[u8]) {
    let at = (sector * PAGE) as u64;
    let room = usize::try_from(content.len.saturating_sub(at)).expect("a small file").min(bytes.len());
    content.write(at, &bytes[..room]);
}

fn sectors(content: &Content, sector: usize, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count * PAGE];
    content.read((sector * PAGE) as u64, &mut bytes);
    bytes
}

/// Damages one file once; `others` are the stores whose bytes may turn up in it.
pub(super) fn damage(random: &mut Random, file: &str, content: &mut Content, others: &[&Image]) {
    let sector = used_sector(random, content);
    match random.below(9) {
        0 => flip(random, content, sector),
        1 => overwrite(content, sector, &[0; PAGE]),
        2 => overwrite(content, sector, &[0xff; PAGE]),
        3 => {
            if let Some(older) = pick(random, others).files.get(file) {
                overwrite(content, sector, &sectors(older, sector, 1));
            }
        }
        4 | 5 => {
            let files = &pick(random, others).files;
            let from = files.values().nth(below(random, files.len())).expect("one of the files");
            let source = used_sector(random, from);
            let bytes = sectors(from, source, 1 + below(random, 4));
            overwrite(content, sector, &bytes);
        }
        6 => content.set_len(random.below(content.len.max(1))),
        7 => {
            let most = [600, 20_000][below(random, 2)];
            let more = 1 + random.below(most);
            let (len, byte) = (content.len, [0, 0xa5, 0xff][below(random, 3)]);
            content.set_len(len + more);
            content.write(len, &vec![byte; usize::try_from(more).expect("small")]);
        }
        _ => (0..=random.below(16)).for_each(|_| flip(random, content, sector)),
    }
}

fn flip(random: &mut Random, content: &mut Content, sector: usize) {
    let at = (sector * PAGE) as u64 + random.below(PAGE as u64);
    flip_bit(content, at * 8 + random.below(8));
}

/// Turns one bit of a file, if the file reaches so far.
pub(super) fn flip_bit(content: &mut Content, bit: u64) {
    let mut value = [0];
    if content.read(bit / 8, &mut value) == 1 {
        content.write(bit / 8, &[value[0] ^ 1 << (bit % 8)]);
    }
}
