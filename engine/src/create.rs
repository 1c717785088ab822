//! Makes an empty store.
//!
//! I own the order in which its files come to be. (Z1) The identity's name comes last: a directory
//! without it was never a store. (Z2) Nothing that is there already is touched. I do not know how a
//! store is opened (see recovery).

use std::path::Path;

use crate::error::{Error, Result};
use crate::evidence::{self, Act, Event, Journal};
use crate::facts::{LOST_AND_FOUND, SNAPSHOTS};
use crate::highwater::{self, HighWater};
use crate::identity;
use crate::log::held::Shelf;
use crate::log::spares::{description, spare_name, zero_fill};
use crate::log::{Log, Shape, first_header, start_segment};
use crate::options::{CreateOptions, RESERVED_SEGMENTS};
use crate::planted::Bug;
use crate::segment::{Seal, file_name};
use crate::state::Groups;
use crate::types::{Identity, SegmentId};
use crate::vfs::os::{FileSystemKind, file_system_kind};
use crate::vfs::{File, Vfs, write_all_at};

/// Creates an empty store; its steps are in the model's table.
pub(crate) fn create<V: Vfs>(vfs: &V, options: &CreateOptions) -> Result<Identity> {
    options.check()?;
    vfs.create_root().map_err(Error::io("create", "the directory"))?;
    let found = vfs.list("").map_err(Error::io("list", "the directory"))?;
    if let Some(first) = found.iter().find(|name| *name != LOST_AND_FOUND) {
        let is_there = |name: &str| found.iter().any(|n| n == name);
        let cut_short = is_there(identity::NEW_NAME) && !is_there(identity::NAME);
        let not_empty = || Error::NotEmpty { found: first.clone() };
        return Err(if cut_short { identity::unfinished(vfs) } else { not_empty() });
    }
    let store = match options.seed {
        Some(seed) => seed,
        None => vfs.entropy().map_err(Error::io("read", "entropy"))?,
    };
    let identity = Identity { cluster: options.cluster, node: options.node, store };
    let shape = Shape { identity, unit: options.unit, size: options.segment_bytes };
    let sync_names = || vfs.sync_dir("").map_err(Error::io("sync", "the directory"));
    let doing = "creating a store";
    let file = match vfs.create(identity::NEW_NAME) {
        // Somebody else began meanwhile.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Err(Error::Locked),
        file => file.map_err(Error::space(doing, identity::NEW_NAME))?,
    };
    // Held until the store is made, so that others do not take it for one that was cut short.
    identity::lock_new::<V>(&file)?;
    let written = write_all_at::<V>(&file, &identity::encode(&shape), 0).and_then(|()| file.sync_all());
    written.map_err(Error::space(doing, identity::NEW_NAME))?;
    sync_names()?;

    vfs.create_dir(SNAPSHOTS).map_err(Error::space(doing, SNAPSHOTS))?;
    for n in 1..=RESERVED_SEGMENTS as u64 {
        zero_fill(vfs, &spare_name(n), shape.size)?;
    }
    let first = first_header(&shape);
    zero_fill(vfs, &file_name(first.segment), shape.size)?;
    let journal = Journal::create(vfs, &identity.store, first.epoch);
    let journal = journal.map_err(Error::space(doing, evidence::NAME))?;
    let text = if options.allow_any_file_system { "created with allow_any_file_system" } else { "created" };
    journal.note(Event::new(Act::Created, text, 0..0))?;
    let evidence = journal.newest();
    let mark = HighWater { epoch: first.epoch, segment: first.segment, position: first.cut, evidence };
    let high = highwater::Keeper::create(vfs, &identity.store, &mark);
    let high = high.map_err(Error::space(doing, highwater::NAME))?;
    sync_names()?;
    let shelf = Shelf::new(vfs);
    let file = description(&shelf, &file_name(first.segment))?;
    let active = start_segment(&shelf, file, first, &Groups::new())?;
    Log::new(shelf, active, 0, high, journal)?.seal(Seal::Closed, SegmentId(0))?;

    vfs.rename(identity::NEW_NAME, identity::NAME).map_err(Error::io("rename", identity::NAME))?;
    if !V::planted(Bug::CreateNamesNotSynced) {
        sync_names()?;
    }
    Ok(identity)
}

/// A sync on a network file system is the server's word; that must be said aloud.
pub(crate) fn refuse_network(dir: &Path) -> Result<()> {
    let there = dir.ancestors().find(|a| a.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let kind = file_system_kind(there).map_err(Error::io("look at", there.display().to_string()))?;
    if kind == FileSystemKind::Nfs {
        let why = "must be set to use a network file system";
        return Err(Error::InvalidOption { option: "allow_any_file_system", why });
    }
    Ok(())
}
