//! Stores into shared mappings, of which no call tells.
//!
//! I own the comparison. A store is in the file's own pages at once, so that reading the file shows it: at
//! each recorded call, each file that was mapped shared and writable is compared with what it held, page by
//! page, and what differs is noted as a store that happened just before. Where it happened since the call
//! before is not known, nor what a page held in between: both are as free on a disk, because no sync stands
//! between the two. This needs nothing of the kernel (userfaultfd, soft-dirty bits) and takes the time of
//! reading the file; a file that is too large for that is a gap.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::program::tape::Reel;

/// A page.
const PAGE: usize = 4096;
/// How many bytes all mapped files may have.
const MOST: u64 = 256 << 20;
/// How much is compared at once.
const PIECE: usize = 1 << 20;

/// The files that were mapped, by the host's inode numbers.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    files: BTreeMap<u64, Mapped>,
}

#[derive(Debug)]
struct Mapped {
    file: Arc<File>,
    /// What it held.
    held: Vec<u8>,
}

impl Mappings {
    /// Whether a file was mapped.
    pub(super) fn has(&self, host: u64) -> bool {
        self.files.contains_key(&host)
    }

    /// A file is mapped. `false` if it cannot be compared.
    pub(super) fn add(&mut self, host: u64, file: Arc<File>) -> bool {
        if self.has(host) {
            return true;
        }
        let all: u64 = self.files.values().map(|mapped| mapped.held.len() as u64).sum();
        let Ok(len) = file.metadata().map(|meta| meta.len()) else { return false };
        if all + len > MOST {
            return false;
        }
        let mut held = vec![0; usize::try_from(len).expect("it is not larger than the most")];
        if file.read_exact_at(&mut held, 0).is_err() {
            return false;
        }
        self.files.insert(host, Mapped { file, held });
        true
    }

    /// A file is no longer what the inode number stands for.
    pub(super) fn remove(&mut self, host: u64) {
        self.files.remove(&host);
    }

    /// A file was written by a call.
    pub(super) fn wrote(&mut self, host: u64, offset: u64, bytes: &[u8]) {
        let Some(mapped) = self.files.get_mut(&host) else { return };
        let Ok(from) = usize::try_from(offset) else { return };
        let to = from + bytes.len();
        if mapped.held.len() < to {
            mapped.held.resize(to, 0);
        }
        mapped.held[from..to].copy_from_slice(bytes);
    }

    /// A file has another length.
    pub(super) fn cut(&mut self, host: u64, len: u64) {
        if let (Some(mapped), Ok(len)) = (self.files.get_mut(&host), usize::try_from(len)) {
            mapped.held.resize(len, 0);
        }
    }

    /// Notes what was stored since the last time.
    pub(super) fn scan(&mut self, reel: &mut Reel) {
        for (host, mapped) in &mut self.files {
            let Some(ino) = reel.ino(*host) else { continue };
            for (offset, bytes) in mapped.stores() {
                let who = reel.who("store", 0);
                reel.note_write(who, ino, offset, &bytes);
            }
        }
    }
}

impl Mapped {
    /// Runs of pages that hold something else by now.
    fn stores(&mut self) -> Vec<(u64, Vec<u8>)> {
        let mut stores: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut now = vec![0; PIECE.min(self.held.len())];
        for from in (0..self.held.len()).step_by(PIECE) {
            let to = self.held.len().min(from + PIECE);
            let held = &mut self.held[from..to];
            let now = &mut now[..held.len()];
            if self.file.read_exact_at(now, from as u64).is_err() || now == held {
                continue;
            }
            for (at, (old, new)) in held.chunks_mut(PAGE).zip(now.chunks(PAGE)).enumerate() {
                if old == new {
                    continue;
                }
                old.copy_from_slice(new);
                let offset = (from + at * PAGE) as u64;
                match stores.last_mut() {
                    Some((start, bytes)) if *start + bytes.len() as u64 == offset => {
                        bytes.extend_from_slice(new);
                    }
                    _ => stores.push((offset, new.to_vec())),
                }
            }
        }
        stores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_changed_pages_are_stores_and_are_told_once() {
        let file = tempfile::tempfile().unwrap();
        let len = PIECE + 3 * PAGE + 7;
        file.write_all_at(&vec![1; len], 0).unwrap();
        let mut mapped = Mapped { file: Arc::new(file), held: vec![1; len] };
        assert_eq!(mapped.stores(), []);
        let write = |at: usize| mapped.file.write_all_at(b"x", at as u64).unwrap();
        // The last page of one piece and the first of the next are one run; the end of the file is short.
        [5, PIECE - 1, PIECE + 1, len - 1].into_iter().for_each(write);
        let stores = mapped.stores();
        let found: Vec<(u64, usize)> = stores.iter().map(|(at, bytes)| (*at, bytes.len())).collect();
        let at = |at: usize| at as u64;
        assert_eq!(found, [(0, PAGE), (at(PIECE - PAGE), 2 * PAGE), (at(PIECE + 3 * PAGE), 7)]);
        assert_eq!((stores[0].1[5], stores[2].1[6]), (b'x', b'x'));
        assert_eq!(mapped.stores(), []);
    }
}
