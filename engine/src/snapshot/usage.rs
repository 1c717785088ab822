//! Who still needs which file of `snapshots/`.
//!
//! I own the counts. (U1) `live` of a manifest is the number of durable pointers that name it;
//! `live` of a chunk the number of live manifests that name the chunk. (U2) `held` is the number of
//! builders, sealed but not yet pointed snapshots and readers that need the file; a name is held
//! before the file is created. (U3) A name with neither is not in the table, and its file is nobody's.
//! (U4) At most one builder writes a file at a time; the others wait for it.
//!
//! I touch no file: who removes one asks me and does so before the lock is given back.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use crate::snapshot::format::Manifest;
use crate::snapshot::{FileName, SnapshotFault};
use crate::sync::lock;
use crate::types::Digest;
use crate::vfs::OutOfDescriptors;

/// What is known of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Durable: a pointer covers it, or a builder of this process synced it.
    Synced,
    /// A builder is about to write it, or does.
    Writing,
    /// Needed, but found missing or bad.
    Damaged,
}

/// One file's counts.
#[derive(Clone, Copy, Debug)]
struct Usage {
    live: u32,
    held: u32,
    content: Content,
}

/// The chunks of one manifest, each once.
#[derive(Clone, Debug)]
struct ChunkList {
    chunks: Vec<Digest>,
    /// Whether the chunks' `live` includes this manifest.
    counted: bool,
    /// Pointers that were retired before whoever made them durable said so.
    overtaken: u32,
}

/// The reference counts of the chunks and manifests; one for each store, under one lock.
#[derive(Debug, Default)]
pub struct ChunkUse {
    files: BTreeMap<FileName, Usage>,
    manifests: BTreeMap<Digest, ChunkList>,
    /// Of live manifests that could not be read: their chunks are not known.
    faults: Vec<SnapshotFault>,
    names_in_doubt: bool,
    changed: Arc<Condvar>,
}

/// What the builder that claims a name has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The file is durable; look whether it is sound.
    Trust,
    /// Write it; by a rename if `replace`. It is a repair if somebody needs the file already.
    Write { replace: bool, repair: bool },
}

impl ChunkUse {
    /// The faults of live manifests that [`load`](super::collect::load) could not read. While there
    /// is one, no chunk is removed, for it may belong to that manifest.
    #[must_use]
    pub fn faults(&self) -> &[SnapshotFault] {
        &self.faults
    }

    /// How many durable pointers name the manifest.
    #[must_use]
    pub fn pointers(&self, digest: Digest) -> u32 {
        self.files.get(&FileName::Manifest(digest)).map_or(0, |usage| usage.live)
    }

    /// How many live manifests name the chunk.
    #[must_use]
    pub fn chunk_count(&self, hash: Digest) -> u32 {
        self.files.get(&FileName::Chunk(hash)).map_or(0, |usage| usage.live)
    }

    /// The pointer record of a sealed snapshot is durable. Each pointer counts once, and
    /// [`retire`](super::collect::retire) is to be called once for each.
    ///
    /// # Panics
    /// If no builder of this process sealed the snapshot.
    pub fn point(&mut self, digest: Digest) {
        let list = self.manifests.get_mut(&digest).expect("a sealed snapshot has its chunks listed");
        if list.overtaken > 0 {
            // Retired already. The holds stay, and the next open sweeps the files.
            list.overtaken -= 1;
            return;
        }
        self.unhold(FileName::Manifest(digest));
        self.usage(FileName::Manifest(digest)).live += 1;
        let list = self.manifests.get_mut(&digest).expect("a sealed snapshot has its chunks listed");
        let first = !std::mem::replace(&mut list.counted, true);
        for hash in list.chunks.clone() {
            self.unhold(FileName::Chunk(hash));
            self.usage(FileName::Chunk(hash)).live += u32::from(first);
        }
    }

    /// Counts one more durable pointer found at open, if there was one to the same manifest before.
    pub(super) fn add_again(&mut self, digest: Digest) -> bool {
        let known = self.files.get_mut(&FileName::Manifest(digest));
        known.map(|usage| usage.live += 1).is_some()
    }

    /// Counts the first durable pointer found at open.
    pub(super) fn add_live(&mut self, digest: Digest, manifest: &Manifest) {
        let usage = Usage { live: 0, held: 0, content: Content::Synced };
        self.files.entry(FileName::Manifest(digest)).or_insert(usage).live += 1;
        let chunks = distinct(manifest);
        for hash in &chunks {
            self.files.entry(FileName::Chunk(*hash)).or_insert(usage).live += 1;
        }
        self.manifests.insert(digest, ChunkList { chunks, counted: true, overtaken: 0 });
    }

    /// Counts a durable pointer to a manifest that cannot be read.
    pub(super) fn add_damaged(&mut self, digest: Digest, fault: SnapshotFault) {
        let usage = Usage { live: 0, held: 0, content: Content::Damaged };
        self.files.entry(FileName::Manifest(digest)).or_insert(usage).live += 1;
        self.faults.push(fault);
    }

    /// A pointer is gone. Returns what nobody needs any more, the manifest first.
    pub(super) fn unpoint(&mut self, digest: Digest) -> Vec<FileName> {
        let name = FileName::Manifest(digest);
        let mut unneeded = Vec::new();
        let usage = self.usage(name);
        if usage.live == 0 {
            // Another thread made the pointer durable, and has yet to say so.
            let list = self.manifests.get_mut(&digest).expect("a sealed snapshot has its chunks listed");
            list.overtaken += 1;
            return unneeded;
        }
        usage.live -= 1;
        if usage.live > 0 {
            return unneeded;
        }
        let chunks = match self.manifests.get_mut(&digest) {
            Some(list) if list.counted => {
                list.counted = false;
                list.chunks.clone()
            }
            _ => Vec::new(),
        };
        unneeded.extend(self.forget_unused(name));
        for hash in chunks {
            self.usage(FileName::Chunk(hash)).live -= 1;
            unneeded.extend(self.forget_unused(FileName::Chunk(hash)));
        }
        unneeded
    }

    /// Claims a name for a builder, which then holds it; `None` while another one writes the file.
    fn claim(&mut self, name: FileName) -> Option<Claim> {
        let replace = self.is_incomplete();
        let fresh = Usage { live: 0, held: 0, content: Content::Damaged };
        let known = self.files.contains_key(&name);
        let usage = self.files.entry(name).or_insert(fresh);
        let claim = match usage.content {
            Content::Writing => return None,
            Content::Synced => Claim::Trust,
            Content::Damaged => Claim::Write { replace: known || replace, repair: known },
        };
        usage.held += 1;
        if claim != Claim::Trust {
            usage.content = Content::Writing;
        }
        Some(claim)
    }

    /// The claimed file is written and synced.
    pub(super) fn written(&mut self, name: FileName) {
        let usage = self.usage(name);
        assert_eq!(usage.content, Content::Writing, "only the claimant writes");
        usage.content = Content::Synced;
        self.changed.notify_all();
    }

    /// A claimed and trusted file is not sound: the hold is given back, and who claims it next
    /// replaces it.
    pub(super) fn distrust(&mut self, name: FileName) {
        self.unhold(name);
        let usage = self.usage(name);
        if usage.content == Content::Synced {
            usage.content = Content::Damaged;
        }
        // Not forgotten even if nobody else needs it: the claim that follows finds it damaged.
    }

    /// Gives a hold back; returns whether nobody needs the file any more. `unwritten` is said by the
    /// builder that claimed the file and did not finish writing it.
    pub(super) fn release(&mut self, name: FileName, unwritten: bool) -> bool {
        self.unhold(name);
        let usage = self.usage(name);
        if unwritten {
            assert_eq!(usage.content, Content::Writing, "only the claimant writes");
            usage.content = Content::Damaged;
            self.changed.notify_all();
        }
        self.forget_unused(name).is_some()
    }

    /// A builder has sealed a snapshot; its holds are now the sealed snapshot's.
    pub(super) fn sealed(&mut self, digest: Digest, manifest: &Manifest) {
        self.manifests.entry(digest).or_insert_with(|| ChunkList {
            chunks: distinct(manifest),
            counted: false,
            overtaken: 0,
        });
    }

    /// The manifest's name and those of its chunks.
    pub(super) fn names_of(&self, digest: Digest) -> Vec<FileName> {
        let chunks = self.manifests.get(&digest).map_or(&[][..], |list| &list.chunks);
        std::iter::once(FileName::Manifest(digest))
            .chain(chunks.iter().copied().map(FileName::Chunk))
            .collect()
    }

    /// Holds a live snapshot for a reader; `false` if it is not (wholly) known.
    pub(super) fn hold(&mut self, digest: Digest) -> bool {
        let names = self.names_of(digest);
        let known = self.manifests.contains_key(&digest) && names.iter().all(|name| self.needs(*name));
        if known {
            names.iter().for_each(|name| self.usage(*name).held += 1);
        }
        known
    }

    /// Whether the table knows the file.
    pub(super) fn needs(&self, name: FileName) -> bool {
        self.files.contains_key(&name)
    }

    /// All files that a pointer names, in order.
    pub(super) fn live_names(&self) -> impl Iterator<Item = FileName> {
        self.files.iter().filter(|(_, usage)| usage.live > 0).map(|(name, _)| *name)
    }

    /// Whether some live manifest's chunks are not known.
    pub(super) fn is_incomplete(&self) -> bool {
        !self.faults.is_empty()
    }

    /// A sync of the directory failed: which names are durable is not known, and a later success
    /// would say nothing about those that this one covered; unless it did not even begin.
    pub(super) fn doubt_names(&mut self, error: &io::Error) {
        self.names_in_doubt |= OutOfDescriptors::carried(error).is_none();
    }

    /// Whether a sync of the directory failed since the store was opened.
    #[must_use]
    pub fn names_in_doubt(&self) -> bool {
        self.names_in_doubt
    }

    fn usage(&mut self, name: FileName) -> &mut Usage {
        self.files.get_mut(&name).expect("a needed file is in the table")
    }

    fn unhold(&mut self, name: FileName) {
        let usage = self.usage(name);
        assert!(usage.held > 0, "a hold is given back once");
        usage.held -= 1;
    }

    /// Drops the name if nobody needs it, and returns it if its file may go.
    fn forget_unused(&mut self, name: FileName) -> Option<FileName> {
        let usage = self.usage(name);
        if usage.live > 0 || usage.held > 0 {
            return None;
        }
        self.files.remove(&name);
        match name {
            FileName::Manifest(digest) => {
                self.manifests.remove(&digest);
                Some(name)
            }
            FileName::Chunk(_) => (!self.is_incomplete()).then_some(name),
        }
    }
}

/// A manifest's chunks, each once, in order.
fn distinct(manifest: &Manifest) -> Vec<Digest> {
    let mut chunks: Vec<Digest> = manifest.chunks.iter().map(|chunk| chunk.hash).collect();
    chunks.sort_unstable();
    chunks.dedup();
    chunks
}

/// Claims a name; waits while another builder writes the file.
pub(super) fn claim(known: &Mutex<ChunkUse>, name: FileName) -> Claim {
    let mut table = lock(known);
    let changed = Arc::clone(&table.changed);
    loop {
        if let Some(claim) = table.claim(name) {
            return claim;
        }
        table = changed.wait(table).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
}
