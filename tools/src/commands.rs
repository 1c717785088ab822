//! The subcommands, one file each.
//!
//! I own what they share: opening a store for looking, and the bounds of a read. Only `create` and
//! `append` open a store for writing; every other subcommand uses [`look`], which cannot write.

pub(crate) mod append;
pub(crate) mod create;
pub(crate) mod dump;
pub(crate) mod history;
pub(crate) mod read;
pub(crate) mod status;
pub(crate) mod verify;

use std::path::Path;

use seawall::{GroupId, GroupStatus, RecoveryReport, Store};

use crate::exit::Failure;

/// How many bytes of entries one call of the library may return.
pub(crate) const READ_BYTES: u64 = 1 << 20;

/// Opens the store for looking. Writes nothing, and works beside a live writer.
pub(crate) fn look(dir: &Path) -> Result<(Store, RecoveryReport), Failure> {
    Store::open_read_only(dir).map_err(|e| Failure::store(dir, e))
}

/// The group's state, or a message that names the groups there are.
pub(crate) fn group_of(store: &Store, dir: &Path, group: GroupId) -> Result<GroupStatus, Failure> {
    let groups = store.groups();
    if !groups.contains(&group) {
        let known: Vec<String> = groups.iter().map(ToString::to_string).collect();
        return Err(Failure::usage(
            format!("{}: there is no group {group}", dir.display()),
            if known.is_empty() {
                "the store has no group yet; `seawall append` creates one".to_owned()
            } else {
                format!("pass one of these to --group: {}", known.join(", "))
            },
        ));
    }
    store.group(group).map_err(|e| Failure::store(dir, e))
}
