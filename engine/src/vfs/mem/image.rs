//! What a simulated disk holds: pages, contents and names, as plain values.
//!
//! I own the shape: a content's `pages` cover its `len`, `None` is a page of zeros, and bytes past
//! `len` in the last page are zero. Copies share pages until one of them writes. I know neither
//! inodes nor what is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes in a page, the smallest thing that a simulated crash keeps or loses whole.
pub const PAGE: usize = 512;

/// A page, shared until written.
pub type Page = Arc<[u8; PAGE]>;

/// The bytes of one file.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// The length in bytes.
    pub len: u64,
    /// The pages; `None` is all zeros.
    pub pages: Vec<Option<Page>>,
}

/// A whole directory tree; paths are relative to the store's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The directories below the root.
    pub dirs: BTreeSet<String>,
    /// The files.
    pub files: BTreeMap<String, Content>,
}

/// How many pages hold `len` bytes.
pub(super) fn pages_of(len: u64) -> usize {
    usize_of(len.div_ceil(PAGE as u64))
}

/// A length or offset in memory; every target is 64-bit.
pub(super) fn usize_of(n: u64) -> usize {
    usize::try_from(n).expect("64-bit target")
}

impl Content {
    /// A file of the given bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    /// All bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize_of(self.len)];
        let n = self.read(0, &mut bytes);
        assert_eq!(n, bytes.len());
        bytes
    }

    /// Copies bytes from `offset` on into `buf`; returns how many there were.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let n = usize_of(self.len.saturating_sub(offset)).min(buf.len());
        let mut at = usize_of(offset.min(self.len));
        let mut rest = &mut buf[..n];
        while !rest.is_empty() {
            let start = at % PAGE;
            let (part, next) = rest.split_at_mut((PAGE - start).min(rest.len()));
            match self.pages.get(at / PAGE) {
                Some(Some(page)) => part.copy_from_slice(&page[start..start + part.len()]),
                _ => part.fill(0),
            }
            at += part.len();
            rest = next;
        }
        n
    }

    /// Writes `bytes` at `offset`; what lies between the old end and `offset` becomes zeros. A page
    /// that is nothing but zeros and was so before stays `None`.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.len = self.len.max(offset + bytes.len() as u64);
        self.pages.resize(pages_of(self.len), None);
        let mut at = usize_of(offset);
        let mut rest = bytes;
        while !rest.is_empty() {
            let start = at % PAGE;
            let (part, next) = rest.split_at((PAGE - start).min(rest.len()));
            write_page(&mut self.pages[at / PAGE], start, part);
            at += part.len();
            rest = next;
        }
    }

    /// Cuts the content, or grows it with zeros.
    pub fn set_len(&mut self, len: u64) {
        self.len = len;
        self.pages.resize(pages_of(len), None);
        self.clear_tail();
    }

    /// Zeroes what lies past `len` in the last page.
    pub(super) fn clear_tail(&mut self) {
        let tail = usize_of(self.len % PAGE as u64);
        if tail > 0
            && let Some(Some(page)) = self.pages.last_mut()
            && page[tail..].iter().any(|&b| b != 0)
        {
            Arc::make_mut(page)[tail..].fill(0);
        }
    }
}

/// Writes part of one page.
fn write_page(page: &mut Option<Page>, start: usize, part: &[u8]) {
    let zeros = || part == &[0; PAGE][..part.len()];
    if let Ok(whole) = <&[u8; PAGE]>::try_from(part) {
        match page {
            _ if zeros() => *page = None,
            Some(old) => match Arc::get_mut(old) {
                Some(bytes) => *bytes = *whole,
                None => *old = Arc::new(*whole),
            },
            None => *page = Some(Arc::new(*whole)),
        }
        return;
    }
    match page {
        None if zeros() => {}
        None => {
            let mut bytes = [0; PAGE];
            bytes[start..start + part.len()].copy_from_slice(part);
            *page = Some(Arc::new(bytes));
        }
        Some(old) => Arc::make_mut(old)[start..start + part.len()].copy_from_slice(part),
    }
}

/// Equal bytes are equal, whether a page of zeros is held or not.
impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        let page = |content: &Self, n: usize| content.pages.get(n).cloned().flatten();
        self.len == other.len
            && (0..pages_of(self.len)).all(|n| match (page(self, n), page(other, n)) {
                (None, None) => true,
                (Some(a), Some(b)) => Arc::ptr_eq(&a, &b) || a == b,
                (Some(a), None) | (None, Some(a)) => *a == [0; PAGE],
            })
    }
}

impl Eq for Content {}

impl Image {
    /// All bytes of a file, or `None` if there is none of that name.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.files.get(path).map(Content::to_bytes)
    }

    /// Puts a file of the given bytes, and the directories that it lies in.
    pub fn put(&mut self, path: &str, bytes: &[u8]) {
        for (at, _) in path.match_indices('/') {
            self.dirs.insert(path[..at].to_owned());
        }
        self.files.insert(path.to_owned(), Content::from_bytes(bytes));
    }

    /// The sum of all lengths.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|content| content.len).sum()
    }
}
