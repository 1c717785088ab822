//! One file of a simulated disk: its bytes in the cache and, apart from them, those on disk.
//!
//! I own what a sync makes durable and what a failed one leaves behind. Invariants: every page that
//! the cache and the disk may differ in is in `dirty`, unless a failed sync dropped it; the pages of
//! both contents are exactly those of their lengths. I know no name.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::fault::SyncFailure;
use super::image::{Content, PAGE, pages_of, usize_of};

/// A file.
#[derive(Debug, Default)]
pub(super) struct Inode {
    /// What a reader sees.
    pub(super) live: Content,
    /// Pages that the file spans but that were never written: they take no block.
    holes: BTreeSet<usize>,
    /// What is on disk; `None` while it is what `live` says.
    kept: Option<Content>,
    dirty: BTreeSet<usize>,
    len_dirty: bool,
    /// How many syncs failed, and whether the last failure was reported to anyone (errseq_t).
    errors: u64,
    reported: bool,
    /// Whether a name leads here.
    pub(super) linked: bool,
    /// How many descriptions are open.
    pub(super) open: u32,
    /// The description that holds the lock.
    pub(super) lock: Option<u32>,
}

impl Inode {
    pub(super) fn new(mut live: Content) -> Self {
        live.pages.resize(pages_of(live.len), None);
        Self { live, linked: true, reported: true, ..Self::default() }
    }

    /// The same bytes in a file of another disk, all durable; nothing, if no name leads here.
    pub(super) fn fork(&self) -> Self {
        if !self.linked {
            return Self::default();
        }
        Self { holes: self.holes.clone(), ..Self::new(self.live.clone()) }
    }

    pub(super) fn durable(&self) -> &Content {
        self.kept.as_ref().unwrap_or(&self.live)
    }

    /// Counts everything as durable.
    pub(super) fn settle(&mut self) {
        self.kept = None;
        self.dirty.clear();
        self.len_dirty = false;
    }

    /// Gives up the bytes of a file that nothing leads to.
    pub(super) fn drop_bytes(&mut self) {
        *self = Self::default();
    }

    /// Blocks that the file takes.
    pub(super) fn blocks(&self) -> u64 {
        (self.live.pages.len() - self.holes.len()) as u64
    }

    /// Whether a page takes no block.
    pub(super) fn has_hole(&self) -> bool {
        !self.holes.is_empty()
    }

    /// How many of `len` bytes at `offset` can be written if only `free` more blocks can be taken.
    pub(super) fn fits(&self, offset: u64, len: usize, mut free: u64) -> usize {
        let end = offset + len as u64;
        for page in usize_of(offset / PAGE as u64)..pages_of(end) {
            if page < self.live.pages.len() && !self.holes.contains(&page) {
                continue;
            }
            if free == 0 {
                return usize_of(((page * PAGE) as u64).saturating_sub(offset));
            }
            free -= 1;
        }
        len
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], tracking: bool) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        let pages = usize_of(offset / PAGE as u64)..pages_of(end);
        let old_end = self.live.pages.len();
        self.holes.extend(old_end..pages.start.max(old_end));
        if !self.holes.is_empty() {
            self.holes.retain(|page| !pages.contains(page));
        }
        if tracking {
            let kept = self.kept.get_or_insert_with(|| self.live.clone());
            self.len_dirty |= end > self.live.len || end > kept.len;
            self.dirty.extend(pages);
        }
        self.live.write(offset, bytes);
    }

    pub(super) fn set_len(&mut self, len: u64, tracking: bool) {
        let (old, new) = (self.live.pages.len(), pages_of(len));
        self.holes.extend(old..new.max(old));
        if tracking && len != self.live.len {
            self.kept.get_or_insert_with(|| self.live.clone());
            self.len_dirty = true;
            // What is cut off, and the rest of the page that the cut goes through.
            self.dirty.extend(usize_of(len / PAGE as u64)..old);
        }
        self.live.set_len(len);
        if !self.holes.is_empty() {
            self.holes.retain(|page| *page < new);
        }
    }

    /// The error count that a new description starts from. An error that nobody has seen is
    /// reported to the next opener too, as the kernel does.
    pub(super) fn errors_seen_at_open(&self) -> u64 {
        if self.reported || self.errors == 0 { self.errors } else { self.errors - 1 }
    }

    /// fsync (`all`) or fdatasync; `false` is an error. `seen` is the caller's description's.
    pub(super) fn sync(&mut self, all: bool, failure: Option<SyncFailure>, seen: &AtomicU64) -> bool {
        match failure {
            None => self.write_back(all),
            Some(failure) => self.fail(all, failure),
        }
        // What fails late is told next time.
        let late = u64::from(failure == Some(SyncFailure::Late));
        let told = self.errors - late;
        let ok = seen.swap(told, Ordering::Relaxed) == told;
        self.reported |= !ok && late == 0;
        ok
    }

    fn fail(&mut self, all: bool, failure: SyncFailure) {
        match failure {
            SyncFailure::KeptClean | SyncFailure::Late => {}
            SyncFailure::Reverted => self.revert(),
            SyncFailure::Partial => {
                let skipped: Vec<usize> = self.dirty.iter().copied().step_by(2).collect();
                for page in skipped {
                    self.dirty.remove(&page);
                }
                self.write_back(all);
            }
        }
        self.dirty.clear();
        self.len_dirty = false;
        self.errors += 1;
        self.reported = false;
    }

    fn write_back(&mut self, all: bool) {
        let Some(kept) = &mut self.kept else { return };
        let shrunk = self.live.len < kept.len;
        if self.len_dirty && (all || !shrunk) {
            kept.set_len(self.live.len);
            self.len_dirty = false;
        }
        let shrink_waits = self.len_dirty;
        let pages = self.live.pages.len();
        for &page in self.dirty.iter().filter(|page| **page < pages) {
            if let Some(slot) = kept.pages.get_mut(page) {
                slot.clone_from(&self.live.pages[page]);
            }
        }
        kept.clear_tail();
        // fdatasync leaves a cut undone, and with it what was cut off.
        self.dirty.retain(|page| shrink_waits && *page >= pages);
    }

    fn revert(&mut self) {
        let Some(kept) = &self.kept else { return };
        if self.len_dirty {
            self.live.set_len(kept.len);
        }
        let pages = self.live.pages.len();
        for &page in self.dirty.iter().filter(|page| **page < pages) {
            self.live.pages[page] = kept.pages.get(page).cloned().flatten();
        }
        self.live.clear_tail();
        self.holes.retain(|page| *page < pages);
    }
}
