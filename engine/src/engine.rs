//! The writable handle: create, open, submit, read, snapshot, close.
//!
//! I own the public face of a store and put its parts together. (E1) What I accept is readable at
//! once and durable when its ticket says so. (E2) A read never has a hole and is never short. (E3) A
//! refusal changes nothing. I do not know bytes on disk (see log), threads (see commit), nor the
//! rules of a batch (see submit).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::commit::{Flush, Front, Shared, Ticket};
use crate::error::{Error, OverloadReason, Result};
use crate::evidence::{Act, Event};
use crate::facts::{SNAPSHOTS, gather};
use crate::identity;
use crate::log::{Log, Outlook, Shape};
use crate::options::{CreateOptions, Options};
use crate::planted::Bug;
use crate::quarantine;
use crate::recovery::{self, owned};
use crate::report::RecoveryReport;
use crate::segment::Seal;
use crate::snapshot::builder::SnapshotBuilder;
use crate::snapshot::reader::SnapshotReader;
use crate::snapshot::{SnapshotFault, SnapshotSpec, collect};
use crate::space::{Content, Space};
use crate::state::Group;
use crate::status::{GroupStatus, Status};
use crate::submit::{Line, Op, Weight, WriteBatch, examine};
use crate::types::{
    Digest, Entry, Epoch, GroupId, Identity, Index, LogId, Outcome, Position, SegmentId, SnapshotOwner,
    SnapshotPointer, Vote,
};
use crate::vfs::Vfs;
use crate::vfs::os::OsVfs;

mod claim;
mod damage;
mod reads;
mod snapshots;
mod submitted;

pub use claim::Claim;
pub use damage::Scrubbed;
use snapshots::Place;
pub use snapshots::SnapshotWriter;
use submitted::Written;

/// What is said of an open that found prepared segments with holes, and removed them.
const SPARSE: &str = "prepared segments had holes, as after a copy that leaves out zeros: until the reserve is made \
                      anew, a full disk may refuse votes too";

/// A store, open for writing. Shared by reference between threads.
pub struct Engine<V: Vfs = OsVfs> {
    shared: Arc<Shared<V>>,
    shape: Shape,
    epoch: Epoch,
    /// Where the last scrub ended; held by the one that runs.
    scrubbed: Mutex<Option<damage::Scrub>>,
    /// Unfinished snapshot writers.
    writers: Arc<AtomicUsize>,
    claims: claim::Claims,
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
        recovery::check_numbers(&facts, &plan)?;
        if let Some(witness) = &options.witness {
            recovery::check_witness(&facts, &plan, witness)?;
        }
        let space = Space::new(shape.size, shape.unit, u64::from(options.max_batch_bytes));
        check_state(plan.after.values().map(Group::weight).sum(), &space)?;
        let identity = 0..identity::FILE_LEN as u64;
        // Before anything is taken of the reserve: there may be no room for it.
        let copy =
            found.mend.as_ref().map(|_| quarantine::keep(&vfs, identity::NAME, &lock, identity.clone()));
        let copy = copy.transpose()?;
        let sparse = facts.has_holes.then_some(SPARSE);
        let (log, mut report) = recovery::apply(&vfs, facts, plan, &shape, options.max_syncs_in_flight)?;
        if let Some(whole) = &found.mend {
            let what = "a copy of the identity, from the other";
            report.quarantined.extend(copy);
            log.journal.note(Event::new(Act::Mended, format!("{}: {what}", identity::NAME), identity))?;
            identity::mend::<V>(&lock, whole)?;
            report.repaired.push(crate::report::Repair { file: identity::NAME.into(), what });
        }
        let live: Vec<Digest> = owned(log.groups.ascending()).map(|(_, digest, _)| digest).collect();
        let mut usage = collect::load(&vfs, &shape.identity, &live);
        if let Some(fault) = usage.faults().iter().find(|f| matches!(f, SnapshotFault::Unreadable { .. })) {
            return Err(Error::Snapshot { fault: fault.clone() });
        }
        collect::sweep(&vfs, &mut usage).map_err(Error::io("sweep", SNAPSHOTS))?;
        // The sweep took what the records above the mark made needless.
        log.segments.catalog().retired.clear();
        metrics::gauge!("commit_index_monotonic").set(1.0);
        metrics::counter!("seawall_invariant_violations").absolute(0);
        tracing::info!(epoch = report.epoch.0, position = report.position.0, "opened");
        let epoch = report.epoch;
        let mut front = Front::new(&log.groups, log.position, log.outlook());
        front.blocked = blocking;
        let shared = Arc::new(Shared::new(front, log, options, space, usage, lock));
        shared.attend_reserve().inspect_err(|_| shared.shut())?;
        let caveat = shared.segments.vfs.caveat().map_err(Error::io("look at", "the file system"))?;
        report.caveat = caveat.or(sparse);
        let (scrubbed, writers, claims) = Default::default();
        Ok((Self { shared, shape, epoch, scrubbed, writers, claims }, report))
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
        let mut batch = batch;
        self.try_write(&mut batch)
    }

    /// Whether a batch is small enough to be written as one. What does not fit is refused as
    /// [`Error::TooLarge`], now and later.
    #[must_use]
    pub fn fits(&self, batch: &WriteBatch) -> bool {
        self.check_sizes(batch, &batch.weight()).is_ok()
    }

    /// As [`Engine::write`] and then [`Ticket::on_durable`] in one step, for a host that keeps many small batches
    /// in flight: gives the batch's last position. Nobody is called back for a batch that is refused.
    pub fn write_then(
        &self,
        batch: WriteBatch,
        callback: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<Position> {
        let (mut batch, callback) = (batch, Box::new(callback));
        let front = self.submit(&mut batch)?;
        let position = front.submitted;
        self.shared.on_durable(front, position, callback);
        Ok(position)
    }

    /// As [`Engine::write`], but waits for admission.
    pub fn write_timeout(&self, batch: WriteBatch, timeout: Duration) -> Result<Ticket<V>> {
        // None for a time that no clock reaches.
        let deadline = Instant::now().checked_add(timeout);
        let mut batch = batch;
        loop {
            match self.try_write(&mut batch) {
                Err(Error::Overloaded { .. }) => {}
                other => return other,
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Error::TimedOut { waited: timeout });
            }
            self.shared.attend();
            let front = self.shared.front();
            if front.in_flight() > 0 {
                drop(self.shared.pause(front, left));
            } else {
                let last = front.submitted;
                drop(front);
                let _ = self.shared.wait(last);
            }
        }
    }

    /// Takes the batch if there is room for it.
    fn try_write(&self, batch: &mut WriteBatch) -> Result<Ticket<V>> {
        let front = self.submit(batch)?;
        Ok(Ticket::new(self.shared.clone(), &front))
    }

    fn submit(&self, batch: &mut WriteBatch) -> Result<MutexGuard<'_, Front>> {
        let weight = batch.weight();
        self.check_sizes(batch, &weight)?;
        let group = batch.ops.first().map(|(group, _)| *group).unwrap_or_default();
        let mut guard = self.admitted(group, &weight)?;
        let front = &mut *guard;
        let (written, batch) =
            (Written { shared: &self.shared, frames: &front.frames }, std::mem::take(batch));
        let Front { groups, draft, durable, submitted, .. } = front;
        let examined = examine::<V, _>(groups, &written, *durable, *submitted, batch, draft);
        examined.inspect_err(count_regression)?;
        let passes = damage::still_lost::<V>(front).and_then(|left| {
            self.check_state(front)?;
            Ok(left)
        });
        front.blocked = passes.inspect_err(|_| front.draft.take_back(&mut front.groups))?;
        self.shared.accept(front);
        Ok(guard)
    }

    fn check_sizes(&self, batch: &WriteBatch, weight: &Weight) -> Result<()> {
        let limit = u64::from(self.shared.options.max_entry_bytes).min(self.shape.size / 4);
        if weight.largest > limit {
            let (size, what) = batch.largest();
            return Err(Error::TooLarge { what, size, limit });
        }
        let space = &self.shared.space;
        if !space.fits(&weight.content) {
            let (size, limit) = space.excess(&weight.content);
            return Err(Error::TooLarge { what: "batch", size, limit });
        }
        Ok(())
    }

    /// Waits for no place in the window, but for room on disk; that is made while others go on.
    fn admitted(&self, group: GroupId, weight: &Weight) -> Result<MutexGuard<'_, Front>> {
        loop {
            let mut front = self.shared.front();
            let Some((most, open)) = self.admit(&mut front, group, weight)? else { return Ok(front) };
            let durable = front.durable;
            drop(front);
            let provided = self.shared.segments.provide(most, open, durable);
            provided.inspect_err(|e| self.shared.poison_on(e))?;
        }
    }

    /// Admission: handle alive, window, and room on disk, in this order. Says how many prepared segments it takes,
    /// and how many of them open, if there are too few.
    fn admit(&self, front: &mut Front, group: GroupId, weight: &Weight) -> Result<Option<(usize, usize)>> {
        if let Some(cause) = &front.poison {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        if front.closed {
            return Err(Error::Closed);
        }
        let Content { payload: bytes, entries, .. } = weight.content;
        let options = &self.shared.options;
        let reserve = if weight.content.is_control() { 4 } else { 0 };
        let widen = |limit: u64| limit.saturating_add(limit.checked_div(reserve).unwrap_or(0));
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
        let share = front.groups.get(group).map_or(0, |line| line.share);
        let several = front.groups.len() > 1 && entries > 0;
        if several && share > 0 && share + bytes > options.max_in_flight_bytes / 2 {
            return overloaded(OverloadReason::GroupShare, share + bytes - options.max_in_flight_bytes / 2);
        }
        Ok(self.missing_room(front, &weight.content))
    }

    /// How many segments must be prepared for what is queued and this batch, and how many of them open, if there are
    /// not as many.
    fn missing_room(&self, front: &mut Front, batch: &Content) -> Option<(usize, usize)> {
        let control = batch.is_control();
        let content = front.unwritten().and(batch);
        let need = self.shared.space.taken(&content, 1 + front.frames.queue.len() as u64);
        let keep = Log::<V>::reserve(control);
        // The frame that fits the active segment needs no other, but an entry there keeps the segment from
        // being used again: the whole reserve must be behind it.
        let behind =
            |outlook: &Outlook| control || V::planted(Bug::ReserveNotBehindEntries) || outlook.spares >= keep;
        let outlook = &mut front.outlook;
        let fits = need + outlook.tail <= outlook.size;
        if fits && behind(outlook) {
            return None;
        }
        // There may be more by now.
        let (spares, open) = self.shared.segments.catalog().prepared();
        outlook.spares = spares;
        let more = self.shared.space.segments(need) + u64::from(!front.frames.queue.is_empty());
        let fresh = if fits { 0 } else { usize::try_from(more).expect("a batch is in memory") };
        let are_open = open >= fresh || V::planted(Bug::OpenedWhenWritten);
        let enough = if fits { behind(outlook) } else { spares >= keep + fresh && are_open };
        (!enough).then_some((keep + fresh, fresh))
    }

    /// The state of all groups must fit a checkpoint.
    fn check_state(&self, front: &Front) -> Result<()> {
        if front.draft.growth <= 0 {
            return Ok(());
        }
        check_state(front.state.saturating_add_signed(front.draft.growth), &self.shared.space)
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
    /// of this; an error poisons, and the next call says so. A replaced snapshot may have thousands of files:
    /// they go in the background, if there is one.
    fn tidy(&self) {
        let durable = self.shared.front().durable;
        let (dead, retired) = {
            let catalog = self.shared.segments.catalog();
            (catalog.has_dead(durable), catalog.has_retired(durable))
        };
        let retired = retired && !self.shared.ask_for_upkeep();
        let recycled = if dead { self.shared.recycle() } else { Ok(()) };
        let dropped = recycled.and_then(|()| if retired { self.shared.drop_retired() } else { Ok(()) });
        if let Err(e) = dropped {
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
        let mut batch = WriteBatch::with_capacity(entries.len());
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
        let mut groups: Vec<GroupId> = self.shared.front().groups.iter().map(|(id, _)| *id).collect();
        groups.sort_unstable();
        groups
    }

    /// A group as submitted, and how far it is durable.
    pub fn group(&self, group: GroupId) -> Result<GroupStatus> {
        let front = self.shared.front();
        let line = front.groups.get(group).ok_or(Error::UnknownGroup { group })?;
        Ok(group_status(&front, group, line))
    }

    /// Writes what is queued as one frame, to be synced by the caller. `None` if nothing is queued
    /// or as many flushes as allowed are under way.
    pub fn begin_flush(&self) -> Result<Option<Flush<V>>> {
        self.shared.begin()
    }

    /// Recycles dead segments, keeps the reserve filled, drops snapshots that no pointer names, and, if nothing
    /// is under way, marks all that is durable. `NoSpace` changes nothing; any other error poisons.
    pub fn maintain(&self) -> Result<()> {
        self.shared.maintain()
    }

    /// A writer for a snapshot of a group at `id`. Nothing counts until it is published or installed. At most 64
    /// may be unfinished, and the first four of them have threads of their own.
    ///
    /// # Errors
    /// `Overloaded` if there are as many already.
    pub fn snapshot_writer(
        &self,
        group: GroupId,
        id: LogId,
        membership: &[u8],
    ) -> Result<SnapshotWriter<'_, V>> {
        let incarnation = self.group(group)?.incarnation;
        let (place, threads) = Place::take(&self.writers)?;
        let Identity { cluster, node, store } = self.shape.identity;
        let spec =
            SnapshotSpec { store, cluster, node, group, incarnation, id, membership: membership.to_vec() };
        let vfs = self.shared.segments.vfs.clone();
        let options = &self.shared.options;
        let known = self.shared.snapshots.clone();
        let builder = SnapshotBuilder::new(vfs, spec, options.zstd_level, options.chunk_bytes, known);
        let builder = builder.map_err(Error::io("start", SNAPSHOTS))?;
        let builder = builder.on_threads(if threads { options.packing_threads() } else { 0 });
        Ok(SnapshotWriter { engine: self, builder, group, id, _place: place })
    }

    /// The pointer to a group's snapshot.
    pub fn snapshot(&self, group: GroupId) -> Result<Option<SnapshotPointer>> {
        Ok(self.group(group)?.snapshot)
    }

    /// A reader of a group's owned snapshot.
    pub fn snapshot_reader(&self, group: GroupId) -> Result<SnapshotReader<V>> {
        let pointer = self.snapshot(group)?.filter(|p| p.owner == SnapshotOwner::Owned);
        let pointer = pointer.ok_or(Error::NoSnapshot { group })?;
        let vfs = self.shared.segments.vfs.clone();
        let known = &self.shared.snapshots;
        let reader = SnapshotReader::open_pinned(&vfs, &self.shape.identity, pointer.digest, known);
        let reader = reader.map_err(|fault| Error::Snapshot { fault })?;
        Ok(reader.on_threads(self.shared.options.unpacking_threads()))
    }

    /// How the store stands; works on a poisoned handle too.
    #[must_use]
    pub fn status(&self) -> Status {
        let front = self.shared.front();
        let groups: Vec<_> = front.groups.iter().map(|(id, g)| (*id, group_status(&front, *id, g))).collect();
        let (segments, reserve) = {
            let catalog = self.shared.segments.catalog();
            (catalog.sealed.len() + 1, catalog.prepared().0)
        };
        let mut status = Status {
            identity: self.shape.identity,
            epoch: self.epoch,
            format: crate::segment::FORMAT_VERSION,
            unit: self.shape.unit,
            segment_bytes: self.shape.size,
            segments,
            reserve,
            submitted: front.submitted,
            durable: front.durable,
            in_flight_bytes: front.load.bytes,
            removed: false,
            poison: front.poison.clone(),
            groups: BTreeMap::new(),
        };
        drop(front);
        // Nobody waits for the disk, nor while they are sorted.
        status.removed = !self.shared.lock_is_named(identity::NAME);
        status.groups = groups.into_iter().collect();
        status
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
        self.shared.drop_retired()?;
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

/// The state of all groups must fit a checkpoint.
fn check_state(size: u64, space: &Space) -> Result<()> {
    let limit = space.state();
    if size > limit { Err(Error::StateFull { size, limit }) } else { Ok(()) }
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

fn group_status(front: &Front, id: GroupId, line: &Line) -> GroupStatus {
    let g = &line.state;
    GroupStatus {
        incarnation: g.incarnation,
        first: g.first(),
        last: g.last,
        purged: g.purged,
        vote: g.vote.as_ref().map(|(_, v)| v.clone()),
        commit: g.commit,
        snapshot: g.snapshot.map(|(_, p)| p),
        durable_last: line.durable_last(front.durable),
        lost: front.blocked.iter().filter(|lost| lost.group() == Some(id)).cloned().collect(),
    }
}
