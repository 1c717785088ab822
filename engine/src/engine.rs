//! The writable handle: create, open, submit, read, snapshot, close.
//!
//! I own the public face of a store and put its parts together. (E1) What I accept is readable at
//! once and durable when its ticket says so. (E2) A read never has a hole and is never short. (E3) A
//! refusal changes nothing. I do not know bytes on disk (see log), threads (see commit), nor the
//! rules of a batch (see submit).

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::commit::{Flush, Front, Queued, Shared, Ticket};
use crate::error::{Error, OverloadReason, Result};
use crate::facts::{SNAPSHOTS, gather};
use crate::frame;
use crate::identity;
use crate::log::Shape;
use crate::options::{CreateOptions, Options, RESERVED_SEGMENTS};
use crate::planted::Bug;
use crate::record::Record;
use crate::recovery::{self, owned};
use crate::report::RecoveryReport;
use crate::segment::Seal;
use crate::snapshot::builder::SnapshotBuilder;
use crate::snapshot::reader::SnapshotReader;
use crate::snapshot::{SnapshotFault, SnapshotSpec, collect};
use crate::state::Group;
use crate::status::{GroupStatus, Status};
use crate::submit::{Op, Present, Touched, WriteBatch, examine};
use crate::types::{
    Digest, Entry, Epoch, GroupId, Identity, Index, LogId, Outcome, SegmentId, SnapshotOwner,
    SnapshotPointer, Term, Vote,
};
use crate::vfs::Vfs;
use crate::vfs::os::OsVfs;

mod damage;
mod snapshots;
mod submitted;

pub use damage::Scrubbed;
pub use snapshots::SnapshotWriter;
use submitted::{Submitted, check_bounds};

/// The part of a segment that the state of all groups may take.
const STATE_SHARE: u64 = 16;
/// What a group takes of it at most, besides its vote's bytes.
const GROUP_STATE: u64 = 140;

/// A store, open for writing. Shared by reference between threads.
pub struct Engine<V: Vfs = OsVfs> {
    shared: Arc<Shared<V>>,
    shape: Shape,
    epoch: Epoch,
    /// Whether a clean close preceded, so that old files may be mapped.
    clean: bool,
    /// The entry that the last scrub ended with.
    scrubbed: Mutex<Option<(GroupId, Index)>>,
}

impl Engine<OsVfs> {
    /// Creates an empty store in a directory that is missing or empty. Durable on return.
    pub fn create(dir: impl AsRef<Path>, options: &CreateOptions) -> Result<Identity> {
        let dir = dir.as_ref();
        if !options.allow_any_file_system {
            crate::create::refuse_network(dir)?;
        }
        Self::create_in(&OsVfs::at(dir), options)
    }

    /// Opens a store for writing: recovers it and takes its lock. What it returns is durable.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<(Self, RecoveryReport)> {
        Self::open_in(OsVfs::at(dir), options)
    }
}

/// The bytes of batches that fit a segment of this shape beside two checkpoints and a footer.
fn frame_limit(shape: &Shape, options: &Options) -> u64 {
    let unit = u64::from(shape.unit);
    let state = (shape.size / STATE_SHARE + frame::HEADER_LEN as u64).next_multiple_of(unit);
    let start = unit + state.max(u64::from(frame::TWIN_DISTANCE)) + state;
    let footer = state + (shape.size / 16).next_multiple_of(unit);
    let left = (shape.size - start - footer) / 2 / unit * unit;
    left.min(shape.size / 4).min(u64::from(options.max_batch_bytes).next_multiple_of(unit))
}

impl<V: Vfs> Engine<V> {
    /// As [`Engine::create`], on any file system.
    ///
    /// Steps: the identity under another name; the prepared segments, the first segment and the
    /// snapshots' directory; then the identity's name, which is the commit point. A crash before it
    /// leaves [`Error::CreationIncomplete`].
    pub fn create_in(vfs: &V, options: &CreateOptions) -> Result<Identity> {
        crate::create::create(vfs, options)
    }

    /// As [`Engine::open`], on any file system.
    pub fn open_in(vfs: V, options: Options) -> Result<(Self, RecoveryReport)> {
        options.check()?;
        let _span = tracing::info_span!("open").entered();
        let (lock, found) = identity::lock(&vfs)?;
        let shape = found.shape;
        check_expected(&shape.identity, options.expect)?;
        let mut facts = gather(&vfs, &shape)?;
        let mut plan = recovery::decide(&mut facts, &shape)?;
        let snapshots = recovery::check_snapshots(&vfs, &shape, &plan.after, facts.has_snapshots)?;
        let blocking = plan.conclude(options.recovery, snapshots)?;
        if let Some(witness) = &options.witness {
            recovery::check_witness(&facts, &plan, witness)?;
        }
        let (mut log, mut report) = recovery::apply(&vfs, facts, plan, &shape, options.max_syncs_in_flight)?;
        if found.mend {
            identity::mend::<V>(&lock, &shape)?;
            let what = "a copy of the identity, from the other";
            report.repaired.push(crate::report::Repair { file: identity::NAME.into(), what });
        }
        let live: Vec<Digest> = owned(&log.groups).map(|(_, digest, _)| digest).collect();
        let mut usage = collect::load(&vfs, &shape.identity, &live);
        if let Some(fault) = usage.faults().iter().find(|f| matches!(f, SnapshotFault::Unreadable { .. })) {
            return Err(Error::Snapshot { fault: fault.clone() });
        }
        collect::sweep(&vfs, &mut usage).map_err(Error::io("sweep", SNAPSHOTS))?;
        // The sweep took what the records above the mark made needless.
        log.retired.clear();
        metrics::gauge!("commit_index_monotonic").set(1.0);
        metrics::counter!("seawall_invariant_violations").absolute(0);
        tracing::info!(epoch = report.epoch.0, position = report.position.0, "opened");
        let epoch = report.epoch;
        let mut front = Front::new(log.groups.clone(), log.position);
        front.blocked = blocking;
        let limit = frame_limit(&shape, &options);
        let shared = Arc::new(Shared::new(front, log, options, limit, usage, lock));
        shared.attend_reserve();
        let clean = report.clean;
        Ok((Self { shared, shape, epoch, clean, scrubbed: Mutex::default() }, report))
    }

    /// Whose store it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.shape.identity
    }

    /// The epoch of this open.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Submits a batch. It is readable on return and durable when the ticket says so. Refused whole,
    /// with nothing changed, if a rule, a size or the admission window forbids it.
    pub fn write(&self, batch: WriteBatch) -> Result<Ticket<V>> {
        self.try_write(batch).map_err(|(_, e)| e)
    }

    /// As [`Engine::write`], but waits for admission.
    pub fn write_timeout(&self, batch: WriteBatch, timeout: Duration) -> Result<Ticket<V>> {
        let deadline = Instant::now() + timeout;
        let mut batch = batch;
        loop {
            batch = match self.try_write(batch) {
                Err((batch, Error::Overloaded { .. })) => batch,
                other => return other.map_err(|(_, e)| e),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut { waited: timeout });
            }
            self.shared.attend();
            let front = self.shared.front();
            if front.in_flight() > 0 {
                drop(self.shared.changed.wait_timeout(front, left).expect("no panic under the lock"));
            } else {
                let last = front.submitted;
                drop(front);
                let _ = self.shared.wait(last);
            }
        }
    }

    fn try_write(&self, batch: WriteBatch) -> std::result::Result<Ticket<V>, (WriteBatch, Error)> {
        if let Err(e) = self.check_sizes(&batch) {
            return Err((batch, e));
        }
        let mut front = self.shared.front();
        if let Err(e) = self.admit(&mut front, &batch) {
            drop(front);
            self.shared.poison_on(&e);
            return Err((batch, e));
        }
        let view = Submitted { shared: &self.shared, front: &front };
        let examined = examine::<V, _>(&front.groups, &view, front.submitted, batch.clone());
        let (records, touched) = examined.inspect_err(count_regression).map_err(|e| (batch.clone(), e))?;
        let left = damage::still_lost(&front, &records, &touched).map_err(|e| (batch.clone(), e))?;
        self.check_state(&front, &touched).map_err(|e| (batch, e))?;
        front.blocked = left;
        accept(&mut front, records, touched);
        Ok(Ticket::new(self.shared.clone(), front.submitted))
    }

    fn check_sizes(&self, batch: &WriteBatch) -> Result<()> {
        let (size, what) = batch.largest();
        let limit = u64::from(self.shared.options.max_entry_bytes).min(self.shape.size / 4);
        if size as u64 > limit {
            return Err(Error::TooLarge { what, size: size as u64, limit });
        }
        let (size, limit) = (self.bound(batch), self.shared.frame_limit);
        if size > limit {
            return Err(Error::TooLarge { what: "batch", size, limit });
        }
        Ok(())
    }

    fn bound(&self, batch: &WriteBatch) -> u64 {
        let (bytes, _) = batch.weight();
        let payload = usize::try_from(bytes).expect("in memory");
        frame::bound(batch.ops.len(), payload, 0, self.shape.unit, false)
    }

    /// Admission: handle alive, window, and room on disk, in this order.
    fn admit(&self, front: &mut Front, batch: &WriteBatch) -> Result<()> {
        if let Some(cause) = &front.poison {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        if front.closed {
            return Err(Error::Closed);
        }
        let (bytes, entries) = batch.weight();
        let options = &self.shared.options;
        let reserve = if batch.is_control() { 4 } else { 0 };
        let widen = |limit: u64| limit + limit.checked_div(reserve).unwrap_or(0);
        let load = &front.load;
        let max = widen(options.max_in_flight_bytes);
        let overloaded = |reason, until_admission| {
            metrics::counter!("rejected_requests_due_to_admission_control").increment(1);
            Err(Error::Overloaded { reason, in_flight: load.bytes, until_admission })
        };
        if load.bytes + bytes > max && load.bytes > 0 {
            return overloaded(OverloadReason::Bytes, load.bytes + bytes - max);
        }
        if load.entries + entries > widen(options.max_in_flight_entries) && load.entries > 0 {
            return overloaded(OverloadReason::Entries, 1);
        }
        let group = batch.ops.first().map(|(g, _)| *g).unwrap_or_default();
        let share = load.groups.get(&group).copied().unwrap_or(0);
        let several = front.groups.len() > 1 && !batch.is_control();
        if several && share > 0 && share + bytes > options.max_in_flight_bytes / 2 {
            return overloaded(OverloadReason::GroupShare, share + bytes - options.max_in_flight_bytes / 2);
        }
        self.reserve_room(front, batch)
    }

    /// Sees to it that what is queued and this batch find prepared segments, before anything changes.
    fn reserve_room(&self, front: &Front, batch: &WriteBatch) -> Result<()> {
        let control = batch.is_control();
        let queued: u64 = front.queue.iter().map(|q| 2 * q.bound).sum();
        let need = queued + 2 * self.bound(batch);
        let mut log = self.shared.log();
        // The frame that fits the active segment needs no other.
        if need + log.tail_bound() <= self.shape.size {
            return Ok(());
        }
        let fresh = need.div_ceil(2 * self.shared.frame_limit) + u64::from(!front.queue.is_empty());
        let keep = if control { 1 } else { RESERVED_SEGMENTS };
        while (log.spares.len() as u64) < keep as u64 + fresh {
            log.recycle(front.durable)?;
            if (log.spares.len() as u64) < keep as u64 + fresh {
                log.add_spare()?;
            }
        }
        Ok(())
    }

    /// The state of all groups must fit a checkpoint.
    fn check_state(&self, front: &Front, touched: &Touched) -> Result<()> {
        let weigh = |g: &Group| GROUP_STATE + g.vote.as_ref().map_or(0, |(_, v)| v.data.len() as u64);
        let grows = touched
            .groups
            .iter()
            .any(|(id, new)| new.as_ref().map_or(0, weigh) > front.groups.get(id).map_or(0, weigh));
        if !grows {
            return Ok(());
        }
        let kept = front.groups.iter().filter(|(id, _)| !touched.groups.contains_key(id)).map(|(_, g)| g);
        let size: u64 = kept.chain(touched.groups.values().flatten()).map(weigh).sum();
        let limit = self.shape.size / STATE_SHARE;
        if size > limit { Err(Error::TooLarge { what: "group state", size, limit }) } else { Ok(()) }
    }

    fn durably(&self, group: GroupId, op: Op) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.push(group, op);
        self.commit_batch(batch)
    }

    fn commit_batch(&self, batch: WriteBatch) -> Result<()> {
        let ticket = self.write(batch)?;
        let outcome = ticket.wait();
        if outcome == Outcome::Durable {
            self.tidy();
            return Ok(());
        }
        let front = self.shared.front();
        let cause = front.poison.clone().unwrap_or_else(|| "the handle was closed".into());
        Err(Error::NotAcknowledged { outcome, cause })
    }

    /// After an acknowledgement: recycles what it freed. What was acknowledged stands whatever comes
    /// of this; an error poisons, and the next call says so.
    fn tidy(&self) {
        let durable = self.shared.front().durable;
        let waiting = {
            let log = self.shared.log();
            log.has_dead(durable) || log.retired.first().is_some_and(|(at, _)| *at <= durable)
        };
        if waiting && let Err(e) = self.shared.reclaim() {
            self.shared.poison_on(&e);
            metrics::counter!("seawall_reclaim_failures").increment(1);
            tracing::warn!(%e, "space was not reclaimed");
        }
    }

    /// Creates a group. Durable on return.
    pub fn create_group(&self, group: GroupId) -> Result<()> {
        self.durably(group, Op::Create)
    }

    /// Removes a group. Durable on return.
    pub fn remove_group(&self, group: GroupId) -> Result<()> {
        self.durably(group, Op::Remove)
    }

    /// Appends entries as one batch. Durable on return.
    pub fn append(&self, group: GroupId, entries: &[Entry]) -> Result<()> {
        let mut batch = WriteBatch::new();
        for entry in entries {
            batch.append(group, entry.clone());
        }
        self.commit_batch(batch)
    }

    /// Stores a vote. Durable on return.
    pub fn save_vote(&self, group: GroupId, vote: Vote) -> Result<()> {
        metrics::counter!("seawall_vote_writes").increment(1);
        self.durably(group, Op::Vote(vote))
    }

    /// Raises the commit index. Durable on return.
    pub fn commit(&self, group: GroupId, index: Index) -> Result<()> {
        self.durably(group, Op::Commit(index))
    }

    /// Removes the entries from `from` on. Durable on return.
    pub fn truncate_suffix(&self, group: GroupId, from: Index) -> Result<()> {
        self.durably(group, Op::Truncate(from))
    }

    /// Removes the entries up to `upto`, and recycles the segments that nothing needs any more.
    pub fn compact_prefix(&self, group: GroupId, upto: Index) -> Result<()> {
        let _span = tracing::debug_span!("compact", group = group.0, upto = upto.0).entered();
        self.durably(group, Op::Compact(upto))
    }

    /// Records a snapshot that the host keeps. Durable on return.
    pub fn record_external_snapshot(&self, group: GroupId, id: LogId, digest: Digest) -> Result<()> {
        self.durably(group, Op::Snapshot(SnapshotPointer { id, owner: SnapshotOwner::External, digest }))
    }

    /// The groups, ascending.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared.front().groups.keys().copied().collect()
    }

    /// A group as submitted, and how far it is durable.
    pub fn group(&self, group: GroupId) -> Result<GroupStatus> {
        let front = self.shared.front();
        let g = front.groups.get(&group).ok_or(Error::UnknownGroup { group })?;
        Ok(group_status(&front, group, g))
    }

    /// Reads a range of entries: all of it, or as many from its start as fit `max_bytes`, at least
    /// one.
    pub fn read(&self, group: GroupId, range: Range<Index>, max_bytes: u64) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in range.start.0..range.end.0 {
            let entry = self.entry(group, Index(index))?;
            bytes += entry.data.len() as u64;
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn entry(&self, group: GroupId, index: Index) -> Result<Entry> {
        let source = {
            let front = self.shared.front();
            let g = front.groups.get(&group).ok_or(Error::UnknownGroup { group })?;
            check_bounds(group, g, index)?;
            Submitted { shared: &self.shared, front: &front }.find(group, index)?
        };
        source.read()
    }

    /// The term of an entry, or of the last one that was compacted away.
    pub fn term(&self, group: GroupId, index: Index) -> Result<Term> {
        let front = self.shared.front();
        let g = front.groups.get(&group).ok_or(Error::UnknownGroup { group })?;
        if index == g.purged.index {
            return Ok(g.purged.term);
        }
        check_bounds(group, g, index)?;
        Submitted { shared: &self.shared, front: &front }.term(group, index)
    }

    /// Writes what is queued as one frame, to be synced by the caller. `None` if nothing is queued
    /// or as many flushes as allowed are under way.
    pub fn begin_flush(&self) -> Result<Option<Flush<V>>> {
        self.shared.begin(true)
    }

    /// Recycles dead segments, keeps the reserve filled and drops snapshots that no pointer names.
    /// `NoSpace` changes nothing; any other error poisons.
    pub fn maintain(&self) -> Result<()> {
        self.shared.maintain()
    }

    /// A writer for a snapshot of a group at `id`. Nothing counts until it is published or installed.
    pub fn snapshot_writer(
        &self,
        group: GroupId,
        id: LogId,
        membership: &[u8],
    ) -> Result<SnapshotWriter<'_, V>> {
        let incarnation = self.group(group)?.incarnation;
        let Identity { cluster, node, store } = self.shape.identity;
        let spec =
            SnapshotSpec { store, cluster, node, group, incarnation, id, membership: membership.to_vec() };
        let vfs = self.shared.log().vfs.clone();
        let options = &self.shared.options;
        let known = self.shared.snapshots.clone();
        let builder = SnapshotBuilder::new(vfs, spec, options.zstd_level, options.chunk_bytes, known);
        let builder = builder.map_err(Error::io("start", SNAPSHOTS))?;
        Ok(SnapshotWriter { engine: self, builder, group, id })
    }

    /// The pointer to a group's snapshot.
    pub fn snapshot(&self, group: GroupId) -> Result<Option<SnapshotPointer>> {
        Ok(self.group(group)?.snapshot)
    }

    /// A reader of a group's owned snapshot.
    pub fn snapshot_reader(&self, group: GroupId) -> Result<SnapshotReader<V>> {
        let pointer = self.snapshot(group)?.filter(|p| p.owner == SnapshotOwner::Owned);
        let pointer = pointer.ok_or(Error::NoSnapshot { group })?;
        let vfs = self.shared.log().vfs.clone();
        let known = &self.shared.snapshots;
        let reader =
            SnapshotReader::open_pinned(&vfs, &self.shape.identity, pointer.digest, self.clean, known);
        reader.map_err(|fault| Error::Snapshot { fault })
    }

    /// How the store stands; works on a poisoned handle too.
    #[must_use]
    pub fn status(&self) -> Status {
        let front = self.shared.front();
        let log = self.shared.log();
        Status {
            identity: self.shape.identity,
            epoch: self.epoch,
            format: crate::segment::FORMAT_VERSION,
            unit: self.shape.unit,
            segment_bytes: self.shape.size,
            segments: log.sealed.len() + 1,
            reserve: log.spares.len(),
            submitted: front.submitted,
            durable: front.durable,
            in_flight_bytes: front.load.bytes,
            poison: front.poison.clone(),
            groups: front.groups.iter().map(|(id, g)| (*id, group_status(&front, *id, g))).collect(),
        }
    }

    /// Makes everything durable, seals the store and gives the lock back. An error leaves an unclean
    /// store, which the next open settles.
    pub fn close(self) -> Result<()> {
        let last = self.shared.front().submitted;
        if self.shared.wait(last) != Outcome::Durable {
            if V::planted(Bug::CloseErrorLost) {
                return Ok(());
            }
            let front = self.shared.front();
            let cause = front.poison.clone().unwrap_or_else(|| "the handle was closed".into());
            return Err(Error::Poisoned { cause });
        }
        self.shared.front().closed = true;
        let mut log = self.shared.log();
        log.seal(Seal::Closed, SegmentId(0))?;
        log.raise_high_water()
    }
}

impl<V: Vfs> Drop for Engine<V> {
    fn drop(&mut self) {
        self.shared.shut();
    }
}

/// A host whose commit index goes back has broken its own invariant: operators are told.
fn count_regression(error: &Error) {
    if let Error::CommitOutOfRange { offered, present, .. } = error
        && offered < present
    {
        metrics::gauge!("commit_index_monotonic").set(0.0);
        metrics::counter!("seawall_invariant_violations").increment(1);
    }
}

fn check_expected(found: &Identity, expect: Option<(u64, u64)>) -> Result<()> {
    match expect {
        Some(expected) if expected != (found.cluster, found.node) => {
            Err(Error::WrongIdentity { expected, found: *found })
        }
        _ => Ok(()),
    }
}

/// Takes records that were let through into the submitted state and the queue.
fn accept(front: &mut Front, records: Vec<Record>, touched: Touched) {
    if records.is_empty() {
        return;
    }
    let mut bytes = 0;
    let mut entries = 0;
    let control = !records.iter().any(|r| r.name.kind.is_entry());
    let group = records[0].name.group;
    for record in &records {
        front.submitted = front.submitted.next();
        bytes += record.data.len() as u64;
        let name = &record.name;
        let pending = front.pending.entry(name.group).or_default();
        match record.entry() {
            Some(entry) => {
                entries += 1;
                pending.push_back((front.submitted, entry));
            }
            None => match name.kind {
                crate::record::Kind::Truncate => {
                    pending.truncate(pending.partition_point(|(_, e)| e.id.index < name.id.index));
                }
                crate::record::Kind::RemoveGroup => pending.clear(),
                crate::record::Kind::Install if record.pointer().is_some_and(|(_, keep)| !keep) => {
                    pending.clear()
                }
                _ => {}
            },
        }
    }
    for (id, group) in touched.groups {
        match group {
            Some(group) => drop(front.groups.insert(id, group)),
            None => drop(front.groups.remove(&id)),
        }
    }
    let bound = frame::bound(records.len(), usize::try_from(bytes).expect("in memory"), 0, 1, false);
    front.carry(front.submitted, group, bytes, entries);
    front.queue.push_back(Queued { last: front.submitted, records, bound, control });
}

fn group_status(front: &Front, id: GroupId, g: &Group) -> GroupStatus {
    let pending = front.pending.get(&id).and_then(|p| p.front()).map(|(_, e)| Index(e.id.index.0 - 1));
    GroupStatus {
        incarnation: g.incarnation,
        first: g.first(),
        last: g.last,
        purged: g.purged,
        vote: g.vote.as_ref().map(|(_, v)| v.clone()),
        commit: g.commit,
        snapshot: g.snapshot.map(|(_, p)| p),
        durable_last: pending.unwrap_or(g.last.index),
        lost: front.blocked.iter().filter(|lost| lost.group() == Some(id)).cloned().collect(),
    }
}
