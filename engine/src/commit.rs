//! From submitted to durable: the queue, flushes, outcomes, callbacks.
//!
//! I own who may write and who is told. (C1) Positions are given under one lock, in the order of
//! submission. (C2) One thread writes at a time; syncs overlap, each on a description of its own that
//! was opened before the writes it covers (L9). (C3) A batch is acknowledged when its own sync and
//! those of all earlier ones returned success. (C4) The first failed write or sync poisons: what is
//! not acknowledged is Unknown, what was never written NotDurable, and this handle never says
//! Durable again. (C5) Every callback is called once, in position order, under no lock. (C6) The first
//! caller that waits for a frame leads it: it writes and syncs it; the others sleep until it is settled,
//! and all wake by one call. (C12) A thread that panics while it writes or syncs, or while it changes the state,
//! poisons like a failed write; nobody else panics for it, and nobody waits for ever. I do not know what a record means.
//!
//! Nobody waits for a write or a sync but who asked for durability, or for room: they are made under no lock but the
//! log's, which the writer alone takes (C13). Lock order: front, then catalog or delivery; log, then catalog.

use std::sync::{Arc, Condvar, LockResult, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::evidence::Journal;
use crate::frame::FrameKind;
use crate::highwater;
use crate::log::{Log, Outlook, Segments};
use crate::options::{Driver, Options};
use crate::planted::Bug;
use crate::record::{Kind, Record};
use crate::snapshot::usage::ChunkUse;
use crate::space::Space;
use crate::sync::{Process, Worker, lock, unwound};
use crate::types::{Entry, Epoch, GroupId, Outcome, Position, SegmentId};
use crate::vfs::{File, Vfs};

mod delivery;
mod front;
mod upkeep;

use delivery::{Delivery, call, call_all, call_waiting};
use front::{Flight, Forming, Frame, Gate, Settled};
pub(crate) use front::{Frames, Front};

type Callback = Box<dyn FnOnce(Outcome) + Send>;

/// A frame that is to be written now.
struct Taken {
    last: Position,
    mark: Position,
    control: bool,
    records: Arc<Vec<Record>>,
}

/// Everything that handles, tickets and threads share.
pub(crate) struct Shared<V: Vfs> {
    pub(crate) front: Mutex<Front>,
    /// For threads that wait for room or a turn, and the driver.
    changed: Condvar,
    work: Condvar,
    /// For the thread that does what takes long.
    upkeep: Condvar,
    /// Held by who writes, also over syncs: nobody else waits for it.
    log: Mutex<Log<V>>,
    pub(crate) segments: Arc<Segments<V>>,
    pub(crate) journal: Arc<Journal<V>>,
    high: Arc<highwater::Keeper<V>>,
    epoch: Epoch,
    pub(crate) options: Options,
    pub(crate) space: Space,
    pub(crate) snapshots: Arc<Mutex<ChunkUse>>,
    threads: Mutex<Threads>,
    process: Process,
    delivery: Mutex<Delivery>,
    /// Holds the lock of the store, until the handle goes.
    identity: Mutex<Option<V::File>>,
}

#[derive(Default)]
struct Threads {
    driver: Option<Worker>,
    upkeep: Option<Worker>,
}

impl<V: Vfs> Shared<V> {
    pub(crate) fn new(
        front: Front,
        log: Log<V>,
        options: Options,
        space: Space,
        snapshots: ChunkUse,
        identity: V::File,
    ) -> Self {
        Self {
            front: Mutex::new(front),
            changed: Condvar::new(),
            work: Condvar::new(),
            upkeep: Condvar::new(),
            segments: log.segments.clone(),
            journal: log.journal.clone(),
            high: log.high.clone(),
            epoch: log.active.header.epoch,
            log: Mutex::new(log),
            options,
            space,
            snapshots: Arc::new(Mutex::new(snapshots)),
            threads: Mutex::default(),
            process: Process::this(),
            delivery: Mutex::default(),
            identity: Mutex::new(Some(identity)),
        }
    }

    pub(crate) fn front(&self) -> MutexGuard<'_, Front> {
        self.unbroken(self.front.lock())
    }

    /// Whether the file that holds the lock still has this name.
    pub(crate) fn lock_is_named(&self, name: &str) -> bool {
        lock(&self.identity).as_ref().is_none_or(|file| file.is_named(name).unwrap_or(true))
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log<V>> {
        // A panic of who writes it poisons the handle (C12); what is read of it is checked.
        lock(&self.log)
    }

    /// The front, whose last holder may have panicked. What was under way is then in doubt: the handle is
    /// poisoned, and everybody is told.
    fn unbroken<'a>(&'a self, taken: LockResult<MutexGuard<'a, Front>>) -> MutexGuard<'a, Front> {
        let mut front = match taken {
            Ok(front) => return front,
            Err(broken) => broken.into_inner(),
        };
        self.front.clear_poison();
        front.draft.clear();
        front.poison("a thread panicked while it changed the state");
        self.announce(front);
        self.front()
    }

    /// Poisons if the error may come from a sync: only a full disk and a refusal say nothing about
    /// what is on disk.
    pub(crate) fn poison_on(&self, error: &Error) {
        if let Error::Io { .. } = error {
            self.poison(&error.to_string());
        }
    }

    pub(crate) fn poison(&self, cause: &str) {
        let mut front = self.front();
        front.poison(cause);
        self.announce(front);
    }

    /// Takes the batch that was examined into the queue.
    pub(crate) fn accept(&self, front: &mut Front) {
        front.accept(&self.space);
        if front.paused > 0 && front.may_write(self.options.max_syncs_in_flight as usize, &self.space, false)
        {
            self.changed.notify_all();
        }
    }

    /// Tells all who wait for what is settled now.
    fn announce(&self, mut front: MutexGuard<'_, Front>) {
        let settled = front.take_settled();
        self.notify(&front);
        self.tell(front, settled);
    }

    /// Tells all who wait for these frames, and drops their records, under no lock of the front: the next caller
    /// waits for that. Without a delivery thread callbacks are called here.
    fn tell(&self, front: MutexGuard<'_, Front>, mut settled: SmallVec<[Settled; 1]>) {
        let called = settled.iter().any(|(frame, _)| !frame.callbacks.is_empty());
        if called && self.options.driver == Driver::Threads {
            let mut delivery = self.delivery_after(front);
            let mut wait = false;
            for (frame, outcome) in &mut settled {
                wait |= delivery.take(frame.take_callbacks(), *outcome);
            }
            drop(delivery);
            if wait {
                call_waiting(&self.delivery);
            }
        } else {
            drop(front);
        }
        for (frame, outcome) in &settled {
            frame.gate.open(*outcome);
        }
        for (mut frame, outcome) in settled {
            call_all(frame.callbacks.drain(..), outcome);
            if let Some(frame) = frame.emptied() {
                self.front().reuse(frame);
            }
        }
    }

    /// The delivery, locked before the front is given back: callbacks are delivered in the order in which the
    /// front settled them.
    fn delivery_after(&self, front: MutexGuard<'_, Front>) -> MutexGuard<'_, Delivery> {
        let delivery = lock(&self.delivery);
        drop(front);
        delivery
    }

    /// Wakes the threads that wait for a change.
    fn notify(&self, front: &Front) {
        if front.paused > 0 {
            self.changed.notify_all();
        }
    }

    /// Waits for a change, or for as long as `most`.
    pub(crate) fn pause<'a>(
        &'a self,
        mut front: MutexGuard<'a, Front>,
        most: Option<Duration>,
    ) -> MutexGuard<'a, Front> {
        front.paused += 1;
        let mut front = match most {
            None => self.unbroken(self.changed.wait(front)),
            Some(most) => match self.changed.wait_timeout(front, most) {
                Ok((front, _)) => front,
                Err(broken) => self.unbroken(Err(PoisonError::new(broken.into_inner().0))),
            },
        };
        front.paused -= 1;
        front
    }

    /// Writes what is queued as one frame. `None` if nothing is queued, or as many flushes as are
    /// allowed are under way.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<Option<Flush<V>>> {
        let mut front = self.front();
        if let Some(cause) = &front.poison {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        let Some(taken) = self.take(&mut front, true) else { return Ok(None) };
        drop(front);
        self.write(taken)
    }

    /// Takes the first frame of the queue, if somebody may write now.
    fn take(&self, front: &mut Front, by_host: bool) -> Option<Taken> {
        if !front.may_write(self.options.max_syncs_in_flight as usize, &self.space, by_host) {
            return None;
        }
        let Forming { frame, control } = front.frames.queue.pop_front()?;
        if front.frames.queue.is_empty() {
            front.unattended = false;
        }
        let mark = if V::planted(Bug::MarkIsWritten) { front.written } else { front.durable };
        let (last, records) = (frame.last, frame.records.clone());
        front.written = last;
        front.writing = true;
        frame.gate.lead();
        front.frames.flights.push_back(Flight { frame, span: 0, synced: false, by_host });
        Some(Taken { last, mark, control, records })
    }

    fn write(self: &Arc<Self>, taken: Taken) -> Result<Option<Flush<V>>> {
        let Taken { last, mark, control, records } = taken;
        let result = unwound(|| self.write_frame(&records, mark, control));
        let result = result.unwrap_or_else(|e| Err(Error::io("write", "the log")(e)));
        let mut front = self.front();
        front.writing = false;
        let (file, segment, span) = match result {
            Ok((file, span, outlook)) => {
                front.outlook = outlook;
                self.look_ahead(&mut front, &outlook);
                (file, outlook.segment, span)
            }
            Err(e) => {
                if V::planted(Bug::WrittenTakenBack) {
                    front.written = front.durable;
                }
                front.poison(&e.to_string());
                self.announce(front);
                return Err(Error::Poisoned { cause: e.to_string() });
            }
        };
        let early = acked_early::<V>(&records);
        drop(records);
        let Frames { flights, unwritten, .. } = &mut front.frames;
        let flight = flights.back_mut().expect("it stays until it is acknowledged");
        flight.span = span;
        *unwritten = unwritten.without(&flight.frame.content);
        self.notify(&front);
        drop(front);
        if early {
            self.complete(last, Ok(()))?;
            return Ok(None);
        }
        Ok(Some(Flush(Some(Written { shared: self.clone(), file, segment, last }))))
    }

    fn write_frame(
        &self,
        records: &[Record],
        mark: Position,
        control: bool,
    ) -> Result<(Arc<V::File>, u64, Outlook)> {
        let mut log = self.log();
        let mut encoded = log.encode(records, FrameKind::Batch, mark);
        let before = log.active.reader.clone();
        if !log.has_room(&encoded, records) {
            log.rotate(control)?;
            encoded = log.encode(records, FrameKind::Batch, mark);
            assert!(log.has_room(&encoded, records), "a batch that was let through fits a fresh segment");
        }
        let file = log.description()?;
        let span = u64::from(encoded.header.span());
        if let Err(e) = log.put(encoded, records, &file) {
            return Err(Error::io("write", &log.active.reader.path)(e));
        }
        metrics::histogram!("seawall_frame_bytes").record(span as f64);
        if V::planted(Bug::SyncWrongFile) && before.path != log.active.reader.path {
            before.file()?.sync_data().map_err(Error::io("sync", &before.path))?;
            let (last, outlook) = (log.position, log.outlook());
            drop(log);
            self.front().durable = last;
            return Ok((file, span, Outlook { segment: SegmentId(0), ..outlook }));
        }
        Ok((file, span, log.outlook()))
    }

    /// The right to write, for what is no frame.
    ///
    /// # Errors
    /// The handle is poisoned or closed.
    pub(crate) fn turn(&self) -> Result<Turn<'_, V>> {
        let mut front = self.front();
        while front.writing {
            front = self.pause(front, None);
        }
        if let Some(cause) = &front.poison {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        if front.closed {
            return Err(Error::Closed);
        }
        front.writing = true;
        Ok(Turn(self))
    }

    /// Records that a flush was synced, and acknowledges what has no earlier one before it.
    fn complete(&self, last: Position, result: std::io::Result<()>) -> Result<()> {
        let mut front = self.front();
        let failed = match result {
            Err(_) if V::planted(Bug::SyncErrorIgnored) => None,
            Err(e) => Some(format!("a sync failed: {e}")),
            Ok(()) => None,
        };
        if let Some(cause) = &failed {
            if V::planted(Bug::NotPoisoned) {
                front.frames.flights.retain(|flight| flight.frame.last != last);
            } else {
                front.poison(cause);
            }
        } else if front.poison.is_none() {
            let covers = |at: Position| at == last || (at < last && V::planted(Bug::AckOutOfOrder));
            for flight in front.frames.flights.iter_mut().filter(|flight| covers(flight.frame.last)) {
                flight.synced = true;
            }
            if V::planted(Bug::AckLateWriter) {
                front.durable = front.written;
            }
            let marked = front.durable <= front.marked;
            front.advance();
            if marked && self.options.mark_when_idle.is_some() {
                self.work.notify_one();
            }
        }
        let poison = front.poison.clone();
        self.announce(front);
        poison.map_or(Ok(()), |cause| Err(Error::Poisoned { cause }))
    }

    /// Gives a description back for the next flush into the same segment.
    fn give_back(&self, file: Arc<V::File>, segment: SegmentId) {
        let mut catalog = self.segments.catalog();
        if catalog.active == segment && !V::planted(Bug::SharedDescription) {
            catalog.free.push(file);
            return;
        }
        // Closed under no lock.
        drop(catalog);
        drop(file);
    }

    /// Waits until the stream is settled up to a position, committing it on this thread if nobody
    /// else does.
    pub(crate) fn wait(self: &Arc<Self>, position: Position) -> Outcome {
        let front = self.front();
        let Some(gate) = front.gate(position) else {
            return front.outcome(position).expect("what has no gate is settled");
        };
        drop(front);
        self.follow(&gate, position)
    }

    /// Waits for a frame; whoever is the first to wait for it writes it.
    fn follow(self: &Arc<Self>, gate: &Gate, position: Position) -> Outcome {
        if gate.outcome().is_none() && gate.lead() {
            drop(self.lead(self.front(), position));
        }
        gate.wait()
    }

    /// Writes and syncs frames until the one with this position was taken.
    fn lead<'a>(
        self: &'a Arc<Self>,
        mut front: MutexGuard<'a, Front>,
        position: Position,
    ) -> MutexGuard<'a, Front> {
        while position > front.written && front.outcome(position).is_none() {
            let Some(taken) = self.take(&mut front, false) else {
                front = self.pause(front, None);
                continue;
            };
            drop(front);
            if let Ok(Some(flush)) = self.write(taken) {
                // An error has poisoned the store: everybody is told by outcomes.
                drop(flush.sync().acknowledge());
            }
            front = self.front();
        }
        front
    }

    /// Calls back when the stream is settled up to a position.
    pub(crate) fn on_durable(
        &self,
        mut front: MutexGuard<'_, Front>,
        position: Position,
        callback: Callback,
    ) {
        match front.call_back(position, callback) {
            None => self.attend_to(front),
            Some((callback, outcome)) if self.options.driver == Driver::Threads => {
                if self.delivery_after(front).take(vec![(position, callback)], outcome) {
                    call_waiting(&self.delivery);
                }
            }
            Some((callback, outcome)) => {
                drop(front);
                call(callback, outcome);
            }
        }
    }

    /// Sees to it that what is queued becomes durable although nobody waits.
    pub(crate) fn attend(&self) {
        self.attend_to(self.front());
    }

    fn attend_to(&self, mut front: MutexGuard<'_, Front>) {
        let led = front.frames.queue.back().is_none_or(|forming| forming.frame.gate.is_led());
        let idle = led || front.closed || front.unattended;
        if self.options.driver == Driver::Threads && !idle {
            front.unattended = true;
            drop(front);
            self.work.notify_one();
        }
    }

    fn start_driver(self: &Arc<Self>) -> std::io::Result<()> {
        let start = |name: &str, run: fn(Arc<Self>)| {
            let shared = self.clone();
            Worker::start(name, move || run(shared)).map(Some)
        };
        let mut threads = lock(&self.threads);
        threads.driver = start("seawall-driver", Self::drive)?;
        threads.upkeep = start("seawall-upkeep", Self::keep_up)?;
        Ok(())
    }

    /// Answers everything that is outstanding and ends the threads. In a forked child there is neither.
    pub(crate) fn shut(self: &Arc<Self>) {
        if !self.process.is_this() {
            return;
        }
        let mut front = self.front();
        front.closed = true;
        self.work.notify_all();
        self.upkeep.notify_all();
        self.announce(front);
        front = self.front();
        while front.writing || (front.poison.is_none() && front.frames.flights.iter().any(|f| !f.by_host)) {
            front = self.pause(front, None);
        }
        let held = std::mem::take(&mut front.frames.flights);
        let unsettled = held.into_iter().map(|flight| flight.frame).filter(|f| f.gate.outcome().is_none());
        let settle = |frame: Frame| {
            let outcome = front.outcome(frame.last).expect("the store is closed");
            (frame, outcome)
        };
        let settled = unsettled.map(settle).collect();
        self.tell(front, settled);
        let Threads { driver, upkeep } = std::mem::take(&mut *lock(&self.threads));
        let delivery = lock(&self.delivery).end();
        // A callback may itself drop the last handle: a thread does not wait for itself.
        for thread in [driver, upkeep, delivery].into_iter().flatten().filter(|t| !t.is_current()) {
            drop(thread.join());
        }
        lock(&self.identity).take();
    }
}

/// The right to write; nobody else begins a frame meanwhile.
pub(crate) struct Turn<'a, V: Vfs>(&'a Shared<V>);

impl<V: Vfs> Turn<'_, V> {
    /// As [`Log::repair`].
    pub(crate) fn repair(&self, group: GroupId, entry: &Entry) -> Result<bool> {
        let mut log = self.0.log();
        let repaired = unwound(|| log.repair(group, entry));
        // It may go on in a fresh segment.
        let outlook = log.outlook();
        drop(log);
        self.0.front().outlook = outlook;
        repaired.unwrap_or_else(|e| Err(Error::io("repair", "a segment")(e)))
    }
}

impl<V: Vfs> Drop for Turn<'_, V> {
    fn drop(&mut self) {
        let mut front = self.0.front();
        front.writing = false;
        self.0.notify(&front);
    }
}

/// Whether a planted bug acknowledges these records as they are written.
fn acked_early<V: Vfs>(records: &[Record]) -> bool {
    let only = |kind| records.iter().all(|r| r.name.kind == kind);
    (V::planted(Bug::TruncateAckedEarly) && only(Kind::Truncate))
        || (V::planted(Bug::VoteAckedEarly) && only(Kind::Vote))
}

/// A frame that was written.
struct Written<V: Vfs> {
    shared: Arc<Shared<V>>,
    file: Arc<V::File>,
    segment: SegmentId,
    last: Position,
}

/// A frame that was written and must be synced.
#[must_use = "what it wrote is not durable until it is synced and acknowledged"]
pub struct Flush<V: Vfs>(Option<Written<V>>);

impl<V: Vfs> Flush<V> {
    /// Makes the frame durable. Several flushes may be synced at once, in any order.
    pub fn sync(mut self) -> Synced<V> {
        let mut written = self.0.take().expect("taken once");
        if V::planted(Bug::AckBeforeSync) {
            drop(written.shared.complete(written.last, Ok(())));
        }
        let begun = std::time::Instant::now();
        if V::planted(Bug::DescriptionTooLate)
            && let Ok(late) = written.shared.log().fresh_description()
        {
            written.file = late;
        }
        let sync = || unwound(|| written.file.sync_data()).flatten();
        let mut result = if V::planted(Bug::AckWithoutSync) { Ok(()) } else { sync() };
        if result.is_err() && V::planted(Bug::SyncRetried) {
            result = sync();
        }
        metrics::histogram!("seawall_sync_seconds").record(begun.elapsed());
        Synced(Some((written, result)))
    }
}

impl<V: Vfs> Drop for Flush<V> {
    fn drop(&mut self) {
        if let Some(written) = self.0.take() {
            let abandoned = std::io::Error::other("a flush was dropped before its sync");
            drop(written.shared.complete(written.last, Err(abandoned)));
        }
    }
}

/// A frame whose sync has returned.
#[must_use = "nobody is told until it is acknowledged"]
pub struct Synced<V: Vfs>(Option<(Written<V>, std::io::Result<()>)>);

impl<V: Vfs> Synced<V> {
    /// Acknowledges it, and all that only waited for it; an error poisons the store.
    pub fn acknowledge(mut self) -> Result<()> {
        let (Written { shared, file, segment, last }, result) = self.0.take().expect("taken once");
        if result.is_ok() {
            shared.give_back(file, segment);
        }
        shared.complete(last, result)
    }
}

impl<V: Vfs> Drop for Synced<V> {
    fn drop(&mut self) {
        if let Some((written, result)) = self.0.take() {
            drop(written.shared.complete(written.last, result));
        }
    }
}

/// A submitted batch. Dropping it cancels nothing.
#[must_use = "the batch may be lost in a crash until the ticket says Durable"]
pub struct Ticket<V: Vfs> {
    shared: Arc<Shared<V>>,
    position: Position,
    /// `None` if it was settled from the start, or is attended.
    gate: Option<Arc<Gate>>,
}

impl<V: Vfs> Ticket<V> {
    /// For what was submitted last.
    pub(crate) fn new(shared: Arc<Shared<V>>, front: &Front) -> Self {
        Self { shared, position: front.submitted, gate: front.gate(front.submitted) }
    }

    /// The last position that must be durable for this batch to be.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The outcome, if it is settled.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.shared.front().outcome(self.position)
    }

    /// Waits for the outcome. A lone caller writes and syncs on its own thread.
    #[must_use]
    pub fn wait(&self) -> Outcome {
        match &self.gate {
            Some(gate) => self.shared.follow(gate, self.position),
            None => self.shared.wait(self.position),
        }
    }

    /// Calls back once with the outcome: on the delivery thread, in position order, under no lock.
    /// A panic in the callback is caught and counted.
    pub fn on_durable(mut self, callback: impl FnOnce(Outcome) + Send + 'static) {
        self.gate = None;
        self.shared.on_durable(self.shared.front(), self.position, Box::new(callback));
    }
}

impl<V: Vfs> Drop for Ticket<V> {
    fn drop(&mut self) {
        if self.gate.take().is_some_and(|gate| !gate.is_led()) {
            self.shared.attend();
        }
    }
}
