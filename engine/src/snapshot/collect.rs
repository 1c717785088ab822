//! Removal of snapshot files that nobody needs.
//!
//! I own the order: a manifest goes before its chunks, and everything goes under the table's lock, so
//! that no builder can take a file for present while it is being removed. A removal that a crash
//! undoes leaves a left-over, which [`sweep`] removes at the next open. I never read a chunk.

use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;

use crate::planted::Bug;
use crate::snapshot::reader::read_manifest;
use crate::snapshot::usage::ChunkUse;
use crate::snapshot::{DIR, FileName, PART, SnapshotFault, SnapshotIo};
use crate::sync::lock;
use crate::types::{Digest, Identity};
use crate::vfs::{OutOfDescriptors, Vfs};

/// What [`sweep`] did and saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many left-overs were removed.
    pub removed: u64,
    /// Names that are not ours; they were left alone.
    pub unknown: Vec<String>,
    /// Files that a live manifest needs and that are not there.
    pub missing: Vec<SnapshotFault>,
}

/// Builds the reference counts from the manifests that durable pointers name, each as often as it is
/// named. What cannot be read is in [`ChunkUse::faults`].
pub fn load<V: Vfs>(vfs: &V, identity: &Identity, live: &[Digest]) -> ChunkUse {
    let mut table = ChunkUse::default();
    for &digest in live {
        // Not read twice because it is named twice.
        if table.add_again(digest) {
            continue;
        }
        match read_manifest(vfs, identity, digest) {
            Ok(manifest) => table.add_live(digest, &manifest),
            Err(fault) => table.add_damaged(digest, fault),
        }
    }
    table
}

/// Removes what no live manifest names, at open, before any builder exists. If a live manifest could
/// not be read, chunks stay, for they may be its own.
///
/// # Errors
/// Of listing, removing or syncing, with the name.
pub fn sweep<V: Vfs>(vfs: &V, table: &mut ChunkUse) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let mut present = BTreeSet::new();
    for entry in vfs.list(DIR).map_err(|error| SnapshotIo::named(DIR, error))? {
        let whole = entry.strip_suffix(PART);
        let Some(name) = FileName::parse(whole.unwrap_or(&entry)) else {
            swept.unknown.push(entry);
            continue;
        };
        let is_chunk = whole.is_none() && matches!(name, FileName::Chunk(_));
        let stays = whole.is_none() && table.needs(name)
            || is_chunk && (table.is_incomplete() || V::planted(Bug::StaleChunkReused));
        if stays {
            present.insert(name);
        } else {
            remove(vfs, &format!("{DIR}/{entry}"))?;
            swept.removed += 1;
        }
    }
    swept.missing = table
        .live_names()
        .filter(|name| !present.contains(name))
        .map(|name| SnapshotFault::Missing { file: name.path() })
        .collect();
    if swept.removed > 0 {
        sync_names(vfs, table)?;
    }
    Ok(swept)
}

/// A pointer to the snapshot is durably gone: removes what nobody needs any more.
///
/// # Errors
/// The first of removing or syncing. The counts are right all the same, and what could not be removed
/// is swept at the next open.
///
/// A snapshot that is sealed and whose [`ChunkUse::point`] is still to come may be retired, too: then
/// its files stay until the next open.
///
/// # Panics
/// If the table does not know the snapshot.
pub fn retire<V: Vfs>(vfs: &V, known: &Mutex<ChunkUse>, digest: Digest) -> io::Result<()> {
    let mut table = lock(known);
    let unneeded = table.unpoint(digest);
    let removed = remove_all(vfs, &unneeded);
    left_over(sync_if(vfs, known, table, !unneeded.is_empty(), removed))
}

/// Gives up a sealed snapshot whose pointer record was certainly not written.
///
/// # Errors
/// As [`retire`].
///
/// # Panics
/// If no builder of this process sealed it.
pub fn discard<V: Vfs>(vfs: &V, known: &Mutex<ChunkUse>, digest: Digest) -> io::Result<()> {
    let mut table = lock(known);
    let names = table.names_of(digest);
    let (any, removed) = match release_all(vfs, &mut table, &names) {
        Ok(count) => (count > 0, Ok(())),
        Err(error) => (true, Err(error)),
    };
    left_over(sync_if(vfs, known, table, any, removed))
}

/// What no descriptor was free for is left to the next open, which sweeps it: nobody waits for it.
fn left_over(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if OutOfDescriptors::carried(&e).is_some() => Ok(()),
        removed => removed,
    }
}

/// Gives holds back and removes what nobody needs any more; returns how many files that were.
pub(super) fn release_all<V: Vfs>(vfs: &V, table: &mut ChunkUse, names: &[FileName]) -> io::Result<usize> {
    let unneeded: Vec<_> = names.iter().copied().filter(|name| table.release(*name, false)).collect();
    remove_all(vfs, &unneeded)?;
    Ok(unneeded.len())
}

/// Tries to remove each of the files; returns the first error.
fn remove_all<V: Vfs>(vfs: &V, names: &[FileName]) -> io::Result<()> {
    let mut result = Ok(());
    for name in names {
        result = result.and(remove(vfs, &name.path()));
    }
    result
}

/// Removes a file if it is there.
fn remove<V: Vfs>(vfs: &V, path: &str) -> io::Result<()> {
    match vfs.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SnapshotIo::named(path, error)),
        _ => Ok(()),
    }
}

/// Syncs the directory without the lock, if something was removed.
fn sync_if<V: Vfs>(
    vfs: &V,
    known: &Mutex<ChunkUse>,
    table: std::sync::MutexGuard<'_, ChunkUse>,
    any: bool,
    removed: io::Result<()>,
) -> io::Result<()> {
    drop(table);
    if any && let Err(error) = vfs.sync_dir(DIR) {
        lock(known).doubt_names(&error);
        return removed.and(Err(SnapshotIo::named(DIR, error)));
    }
    removed
}

fn sync_names<V: Vfs>(vfs: &V, table: &mut ChunkUse) -> io::Result<()> {
    vfs.sync_dir(DIR).map_err(|error| {
        table.doubt_names(&error);
        SnapshotIo::named(DIR, error)
    })
}
