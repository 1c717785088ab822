//! Who drives a group: one host object in a process at a time.
//!
//! I own the list of claims. (E8) A group is claimed at most once at a time; the engine itself asks for no
//! claim. I do not know what the claimer does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::Engine;
use crate::error::{Error, Result};
use crate::sync::lock;
use crate::types::GroupId;
use crate::vfs::Vfs;

/// The groups that are claimed.
pub(super) type Claims = Arc<Mutex<BTreeSet<GroupId>>>;

/// Says that its holder alone drives a group; dropping it gives the group up.
#[must_use = "the claim is given up when this is dropped"]
#[derive(Debug)]
pub struct Claim {
    claims: Claims,
    group: GroupId,
}

impl<V: Vfs> Engine<V> {
    /// Claims a group for one consensus instance, so that two that were given the same number by mistake do
    /// not write into one log. Writes nothing.
    ///
    /// # Errors
    /// [`Error::GroupInUse`] while an earlier claim lives.
    pub fn claim(&self, group: GroupId) -> Result<Claim> {
        let claims = self.claims.clone();
        if !lock(&claims).insert(group) {
            return Err(Error::GroupInUse { group });
        }
        Ok(Claim { claims, group })
    }
}

impl Claim {
    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.claims).remove(&self.group);
    }
}
