//! Groups with damage: what they may not do, and how they are healed.
//!
//! I own the list of what single groups lack. (E6) A group that lacks something takes no vote and no entry.
//! (E7) Something is off the list when a repair wrote it, or an operation that was let through made it
//! needless. I do not know how damage is found (see recovery) or written over (see log).

use super::Engine;
use super::submitted::check_bounds;
use crate::commit::Front;
use crate::error::{Error, Result};
use crate::evidence::{Act, Event};
use crate::planted::Bug;
use crate::record::Kind;
use crate::report::Lost;
use crate::sync::lock;
use crate::types::{Entry, GroupId, Index};
use crate::vfs::Vfs;

/// A round of scrubbing: the groups that were there when it began and are not done, the next last, and where
/// it goes on in that one.
pub(super) struct Scrub {
    groups: Vec<GroupId>,
    next: Index,
}

/// What a scrub read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Payload bytes that hold.
    pub bytes: u64,
    /// Entries read.
    pub entries: u64,
    /// What does not hold and was not known.
    pub lost: Vec<Lost>,
    /// The last entry was reached; the next call begins with the first.
    pub wrapped: bool,
}

impl<V: Vfs> Engine<V> {
    /// What groups lack of what was acknowledged, since the open or a repair. Empty for a sound store.
    #[must_use]
    pub fn lost(&self) -> Vec<Lost> {
        self.shared.front().blocked.clone()
    }

    /// Gives back an entry whose bytes were damaged, as a peer has it. Taken only if identity, length and
    /// checksum are those of the entry that was acknowledged; `false` if the bytes hold already.
    /// **The peer must be trusted**: of an entry the store keeps a CRC-32, which finds accidents, and other
    /// bytes of the same length with the same CRC-32 are easily made. A host whose peers may lie checks the
    /// entry itself, or installs a snapshot. Durable on return. The damaged bytes are kept in `quarantine/`. Writes the whole segment again.
    pub fn repair(&self, group: GroupId, entry: &Entry) -> Result<bool> {
        let turn = self.shared.turn()?;
        let index = entry.id.index;
        {
            let front = self.shared.front();
            let line = front.groups.get(group).ok_or(Error::UnknownGroup { group })?;
            check_bounds(group, &line.state, index)?;
            if line.pending(index, front.durable).is_some() {
                return Ok(false);
            }
        }
        let repaired = turn.repair(group, entry);
        if repaired.is_ok() {
            let mut front = self.shared.front();
            front.blocked = front.blocked.iter().flat_map(|lost| without(lost, group, index)).collect();
        }
        drop(turn);
        repaired.inspect_err(|e| self.shared.poison_on(e))
    }

    /// Reads entries again, about `max_bytes` of them, and checks them; goes on where the last call ended.
    /// What does not hold is added to [`Engine::lost`], blocks its group and is written down as evidence.
    /// Call it at the rate that the
    /// disk can spare. It sees what the kernel gives: bytes in the page cache are not fetched anew.
    pub fn scrub(&self, max_bytes: u64) -> Result<Scrubbed> {
        let mut done = Scrubbed::default();
        let mut scrub = lock(&self.scrubbed);
        while done.bytes < max_bytes {
            let Some((group, index)) = self.next_entry(&mut scrub) else {
                done.wrapped = true;
                break;
            };
            match self.entry(group, index) {
                Ok(entry) => done.bytes += entry.data.len() as u64,
                Err(Error::Damaged { .. }) => done.lost.extend(self.found_rotten(group, index)?),
                // Compacted, truncated or removed since.
                Err(Error::Compacted { .. } | Error::PastEnd { .. } | Error::UnknownGroup { .. }) => continue,
                Err(e) => {
                    // The next call tries it again.
                    if let Some(scrub) = scrub.as_mut() {
                        scrub.next = index;
                    }
                    return Err(e);
                }
            }
            done.entries += 1;
        }
        metrics::counter!("seawall_scrubbed_bytes").increment(done.bytes);
        Ok(done)
    }

    /// The next entry, in the order of groups and indexes; `None` after the last, and then a round begins anew.
    fn next_entry(&self, scrub: &mut Option<Scrub>) -> Option<(GroupId, Index)> {
        let Scrub { groups, next } = scrub.get_or_insert_with(|| {
            let mut groups = self.groups();
            groups.reverse();
            Scrub { groups, next: Index(0) }
        });
        while let Some(group) = groups.last().copied() {
            let bounds = self.shared.front().groups.get(group).map(|l| (l.state.first(), l.state.last.index));
            if let Some((first, last)) = bounds
                && first.max(*next) <= last
            {
                let index = first.max(*next);
                *next = index.next();
                return Some((group, index));
            }
            groups.pop();
            *next = Index(0);
        }
        *scrub = None;
        None
    }

    /// Blocks the group of an entry whose bytes do not hold.
    fn found_rotten(&self, group: GroupId, index: Index) -> Result<Option<Lost>> {
        let term = Some(self.term(group, index)?);
        let mut front = self.shared.front();
        let known = |lost: &Lost| matches!(lost, Lost::Entries { group: of, from, to, .. } if *of == group && (*from..=*to).contains(&index));
        if front.blocked.iter().any(known) {
            return Ok(None);
        }
        metrics::counter!("seawall_scrub_damaged").increment(1);
        tracing::error!(group = group.0, index = index.0, "an entry does not hold");
        let lost = Lost::Entries { group, from: index, to: index, term };
        front.blocked.push(lost.clone());
        let poisoned = front.poison.is_some();
        drop(front);
        if !poisoned {
            let found = self.shared.segments.catalog().locate(group, index);
            let file = found.map(|(reader, _)| reader.path.clone()).unwrap_or_default();
            let noted =
                self.shared.journal.note(Event { group, index, ..Event::new(Act::Found, file, 0..0) });
            noted.inspect_err(|e| self.shared.poison_on(e))?;
        }
        Ok(Some(lost))
    }

    /// Repairs entries one by one, from a peer that must be trusted; says how many were written. Those before an error stay repaired.
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

/// What groups still lack after the batch that is examined; refuses one with a vote or an entry for such a
/// group.
pub(super) fn still_lost<V: Vfs>(front: &Front) -> Result<Vec<Lost>> {
    if front.blocked.is_empty() {
        return Ok(Vec::new());
    }
    let is_left = |lost: &&Lost| !is_healed(front, lost);
    let left: Vec<Lost> = front.blocked.iter().filter(is_left).cloned().collect();
    if left.is_empty() || V::planted(Bug::BlockedVotes) {
        return Ok(left);
    }
    for record in front.draft.records.iter().filter(|r| r.name.kind.is_entry() || r.name.kind == Kind::Vote) {
        let group = record.name.group;
        if let Some(lost) = left.iter().find(|lost| lost.group() == Some(group)) {
            return Err(Error::Blocked { group, lost: lost.clone() });
        }
    }
    Ok(left)
}

fn is_healed(front: &Front, lost: &Lost) -> bool {
    let mut own = front.draft.records.iter().filter(|r| Some(r.name.group) == lost.group()).peekable();
    let Some(first) = own.peek() else { return false };
    let Some(after) = front.groups.get(first.name.group) else { return true };
    match lost {
        Lost::Entries { from, to, .. } => {
            after.state.purged.index >= *to
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
