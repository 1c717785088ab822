//! Groups with damage: what they may not do, and how they are healed.
//!
//! I own the list of what single groups lack. (E6) A group that lacks something takes no vote and no entry.
//! (E7) Something is off the list when a repair wrote it, or an operation that was let through made it
//! needless. I do not know how damage is found (see recovery) or written over (see log).

use super::{Engine, check_bounds};
use crate::commit::Front;
use crate::error::{Error, Result};
use crate::record::{Kind, Record};
use crate::report::Lost;
use crate::submit::Touched;
use crate::types::{Entry, GroupId, Index};
use crate::vfs::Vfs;

impl<V: Vfs> Engine<V> {
    /// What groups lack of what was acknowledged, since the open or a repair. Empty for a sound store.
    #[must_use]
    pub fn lost(&self) -> Vec<Lost> {
        self.shared.front().blocked.clone()
    }

    /// Gives back an entry whose bytes were damaged, as a peer has it. Taken only if identity, length and
    /// checksum are those of the entry that was acknowledged; `false` if the bytes hold already. Durable
    /// on return. The damaged bytes are kept in `quarantine/`. Writes the whole segment again.
    pub fn repair(&self, group: GroupId, entry: &Entry) -> Result<bool> {
        let repaired = {
            let mut front = self.shared.front();
            if let Some(cause) = &front.poison {
                return Err(Error::Poisoned { cause: cause.clone() });
            }
            if front.closed {
                return Err(Error::Closed);
            }
            let index = entry.id.index;
            check_bounds(group, front.groups.get(&group).ok_or(Error::UnknownGroup { group })?, index)?;
            let pending = front.pending.get(&group).and_then(|p| p.front());
            if pending.is_some_and(|(_, first)| first.id.index <= index) {
                return Ok(false);
            }
            let repaired = self.shared.log().repair(group, entry);
            if repaired.is_ok() {
                front.blocked = front.blocked.iter().flat_map(|lost| without(lost, group, index)).collect();
            }
            repaired
        };
        repaired.inspect_err(|e| self.shared.poison_on(e))
    }

    /// Repairs entries one by one; says how many were written. Those before an error stay repaired.
    pub fn repair_range(&self, group: GroupId, entries: &[Entry]) -> Result<u64> {
        entries.iter().try_fold(0, |done, entry| Ok(done + u64::from(self.repair(group, entry)?)))
    }
}

/// What is left of a loss when one entry is back.
fn without(lost: &Lost, group: GroupId, index: Index) -> Vec<Lost> {
    match lost {
        Lost::Entries { group: of, from, to, term } if *of == group && (*from..=*to).contains(&index) => {
            let parts = [(*from, Index(index.0 - 1)), (index.next(), *to)];
            let left = parts.into_iter().filter(|(from, to)| from <= to);
            left.map(|(from, to)| Lost::Entries { group, from, to, term: *term }).collect()
        }
        other => vec![other.clone()],
    }
}

/// What groups still lack after a batch; refuses a batch with a vote or an entry for such a group.
pub(super) fn still_lost(front: &Front, records: &[Record], touched: &Touched) -> Result<Vec<Lost>> {
    let left: Vec<Lost> =
        front.blocked.iter().filter(|lost| !is_healed(lost, records, touched)).cloned().collect();
    for record in records.iter().filter(|r| r.name.kind.is_entry() || r.name.kind == Kind::Vote) {
        let group = record.name.group;
        if let Some(lost) = left.iter().find(|lost| lost.group() == Some(group)) {
            return Err(Error::Blocked { group, lost: lost.clone() });
        }
    }
    Ok(left)
}

fn is_healed(lost: &Lost, records: &[Record], touched: &Touched) -> bool {
    let Some(after) = lost.group().and_then(|group| touched.groups.get(&group)) else { return false };
    let Some(after) = after else { return true };
    let mut own = records.iter().filter(|r| Some(r.name.group) == lost.group());
    match lost {
        Lost::Entries { from, to, .. } => {
            after.purged.index >= *to
                || own.any(|r| match r.name.kind {
                    Kind::Truncate => r.name.id.index <= *from,
                    Kind::Install => r.pointer().is_some_and(|(_, keep)| !keep),
                    _ => false,
                })
        }
        Lost::SnapshotPointer { .. } => own.any(|r| matches!(r.name.kind, Kind::Snapshot | Kind::Install)),
        _ => false,
    }
}
