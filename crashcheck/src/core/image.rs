//! A tree of files as bytes on a disk, and its hash.
//!
//! I own the shape: pages of 512 bytes shared by reference count, `None` for zeros, so that a copy of
//! a tree costs no bytes. A file's `pages` cover its length; what lies past the length is zero. The
//! hash depends on the bytes alone, not on how they are shared nor on whether zeros are stored.
//!
//! The hash of a tree is the sum over its files of a mix of (path, the sum over the file's pages of a
//! mix of (index, bytes), length), over its directories of their paths, and over its symbolic links of
//! (path, target). Two names of one file count as two files of the same bytes. Sums are 128 bits and
//! wrap, so that a change of one page changes the hash by the difference of two terms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes in a page: the smallest tear unit.
pub const PAGE: usize = 512;

/// A page's bytes, shared.
pub type Page = Arc<[u8; PAGE]>;

/// A file's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The length in bytes.
    pub len: u64,
    /// The pages, at least as many as the length needs; `None` is zeros.
    pub pages: Vec<Option<Page>>,
}

/// A tree; paths are relative to its root, with `/` between parts. The root itself is not listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The directories.
    pub dirs: BTreeSet<String>,
    /// The files.
    pub files: BTreeMap<String, Content>,
    /// The symbolic links, and what they say.
    pub links: BTreeMap<String, String>,
}

impl Content {
    /// A file of the given bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let pages = bytes.chunks(PAGE).map(page_of).collect();
        Self { len: bytes.len() as u64, pages }
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let len = usize::try_from(self.len).expect("a file fits in memory");
        let mut out = Vec::with_capacity(self.pages.len() * PAGE);
        for page in &self.pages {
            out.extend_from_slice(bytes_of(page.as_ref()));
        }
        out.resize(len, 0);
        out
    }
}

impl Image {
    /// The bytes of a file, if it is there.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.files.get(path).map(Content::bytes)
    }

    /// The tree's hash.
    #[must_use]
    pub fn hash(&self) -> u128 {
        let files = self.files.iter().map(|(path, content)| {
            let pages = content.pages.iter().enumerate().map(|(i, p)| page_term(i, page_hash(p.as_ref())));
            let sum = pages.fold(0u128, u128::wrapping_add);
            file_term(path_hash(path), sum, content.len)
        });
        let dirs = self.dirs.iter().map(|path| dir_term(path_hash(path)));
        let links = self.links.iter().map(|(path, target)| link_term(path_hash(path), target));
        files.chain(dirs).chain(links).fold(0, u128::wrapping_add)
    }
}

/// The page of at most 512 bytes, filled up with zeros; `None` if all are zero.
#[must_use]
pub fn page_of(bytes: &[u8]) -> Option<Page> {
    if bytes.iter().all(|b| *b == 0) {
        return None;
    }
    let mut page = [0; PAGE];
    page[..bytes.len()].copy_from_slice(bytes);
    Some(Arc::new(page))
}

/// A page's bytes, zeros for `None`.
#[must_use]
pub fn bytes_of(page: Option<&Page>) -> &[u8; PAGE] {
    const ZEROS: [u8; PAGE] = [0; PAGE];
    page.map_or(&ZEROS, |p| p)
}

/// The hash of a page's bytes; zero for zeros, stored or not.
#[must_use]
pub fn page_hash(page: Option<&Page>) -> u128 {
    let Some(page) = page else { return 0 };
    hash_bytes(page)
}

/// The hash of 512 bytes; zero for zeros.
#[must_use]
pub fn hash_bytes(bytes: &[u8; PAGE]) -> u128 {
    let mut lanes = [K[0], K[1], K[2], K[3]];
    let mut any = 0;
    for block in bytes.chunks_exact(32) {
        let word = |i: usize| u64::from_le_bytes(block[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
        let words = [word(0), word(1), word(2), word(3)];
        any |= words[0] | words[1] | words[2] | words[3];
        // Each word enters two lanes under different keys, so that the two halves of the hash are
        // independent of one another.
        for i in 0..4 {
            lanes[i] = fold(lanes[i] ^ words[i], K[i] ^ words[(i + 1) % 4].rotate_left(17));
        }
    }
    if any == 0 {
        return 0;
    }
    let low = fold(lanes[0] ^ K[2], lanes[1] ^ K[3]) ^ lanes[2].rotate_left(29);
    let high = fold(lanes[2] ^ K[0], lanes[3] ^ K[1]) ^ lanes[0].rotate_left(31);
    mix(pair(high, low), 512)
}

/// The part of a file's sum that one page makes.
#[must_use]
pub fn page_term(index: usize, hash: u128) -> u128 {
    if hash == 0 { 0 } else { mix(hash, index as u64 + 1) }
}

/// The part of a tree's hash that a file makes: its path's hash, the sum over its pages, its length.
#[must_use]
pub fn file_term(path: u128, pages: u128, len: u64) -> u128 {
    mix(path.rotate_left(64) ^ mix(pages, len), K[3])
}

/// The part of a tree's hash that a directory makes.
#[must_use]
pub fn dir_term(path: u128) -> u128 {
    mix(path, K[2])
}

/// The part of a tree's hash that a symbolic link makes.
#[must_use]
pub fn link_term(path: u128, target: &str) -> u128 {
    mix(path.rotate_left(32) ^ path_hash(target), K[1])
}

/// The hash of a path.
#[must_use]
pub fn path_hash(path: &str) -> u128 {
    path_hash_from(u128::from(K[1]), path)
}

/// The hash of a path whose first part, up to `rest`, has the given hash.
#[must_use]
pub fn path_hash_from(start: u128, rest: &str) -> u128 {
    rest.as_bytes().iter().fold(start, |hash, byte| mix(hash, u64::from(*byte)))
}

/// Mixes a number into a hash.
#[must_use]
#[inline]
pub fn mix(hash: u128, number: u64) -> u128 {
    let (high, low) = halves(hash);
    let a = fold(low ^ number ^ K[0], high ^ K[1]);
    let b = fold(high.rotate_left(32) ^ number ^ K[2], low ^ K[3]);
    pair(a ^ low.rotate_left(23), b ^ high.rotate_left(41))
}

/// Odd constants with balanced bits (digits of pi).
const K: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1, 0x082e_fa98_ec4e_6c89];

/// The two halves of a 128-bit product, folded.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let (high, low) = halves(u128::from(a) * u128::from(b));
    high ^ low
}

#[inline]
fn halves(n: u128) -> (u64, u64) {
    ((n >> 64) as u64, n as u64)
}

#[inline]
fn pair(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
