//! From submitted to durable: the queue, flushes, outcomes, callbacks.
//!
//! I own who may write and who is told. (C1) Positions are given under one lock, in the order of
//! submission. (C2) One thread writes at a time; syncs overlap, each on a description of its own that
//! was opened before the writes it covers (L9). (C3) A batch is acknowledged when its own sync and
//! those of all earlier ones returned success. (C4) The first failed write or sync poisons: what is
//! not acknowledged is Unknown, what was never written NotDurable, and this handle never says
//! Durable again. (C5) Every callback is called once, in position order, under no lock. I do not
//! know what a record means.
//!
//! Lock order: front, then log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;

use crate::error::{Error, Result};
use crate::frame::FrameKind;
use crate::log::Log;
use crate::options::{Driver, Options, RESERVED_SEGMENTS};
use crate::planted::Bug;
use crate::record::Record;
use crate::report::Lost;
use crate::snapshot::usage::ChunkUse;
use crate::snapshot::{self, collect};
use crate::state::Groups;
use crate::types::{Entry, GroupId, Outcome, Position, SegmentId};
use crate::vfs::{File, Vfs};

type Callback = Box<dyn FnOnce(Outcome) + Send>;
type Delivery = (mpsc::Sender<(Callback, Outcome)>, JoinHandle<()>);

/// A batch that waits to be written.
pub(crate) struct Queued {
    pub(crate) last: Position,
    pub(crate) records: Vec<Record>,
    /// An upper bound of the bytes that it takes in a frame.
    pub(crate) bound: u64,
    pub(crate) control: bool,
}

/// A frame that was written and is not acknowledged.
struct Flight {
    last: Position,
    span: u64,
    synced: bool,
    /// The host holds it, and may never sync it.
    by_host: bool,
}

/// What is in flight, for admission.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) groups: BTreeMap<GroupId, u64>,
}

/// The submitted state: what callers see at once.
pub(crate) struct Front {
    pub(crate) groups: Groups,
    /// Entries that are not durable yet, by group, ascending.
    pub(crate) pending: BTreeMap<GroupId, VecDeque<(Position, Entry)>>,
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) submitted: Position,
    /// Positions up to here may have reached the kernel.
    pub(crate) written: Position,
    pub(crate) durable: Position,
    flights: VecDeque<Flight>,
    writing: bool,
    pub(crate) poison: Option<String>,
    pub(crate) closed: bool,
    callbacks: BTreeMap<Position, Vec<Callback>>,
    pub(crate) load: Load,
    loads: VecDeque<(Position, GroupId, u64, u64)>,
    /// Something waits for durability that no caller waits for.
    unattended: bool,
    /// The reserve is to be filled.
    upkeep: bool,
    /// What groups lack of what was acknowledged.
    pub(crate) blocked: Vec<Lost>,
}

impl Front {
    pub(crate) fn new(groups: Groups, position: Position) -> Self {
        Self {
            groups,
            pending: BTreeMap::new(),
            queue: VecDeque::new(),
            submitted: position,
            written: position,
            durable: position,
            flights: VecDeque::new(),
            writing: false,
            poison: None,
            closed: false,
            callbacks: BTreeMap::new(),
            load: Load::default(),
            loads: VecDeque::new(),
            unattended: false,
            upkeep: false,
            blocked: Vec::new(),
        }
    }

    /// What became of the stream up to a position, if it is settled.
    pub(crate) fn outcome(&self, position: Position) -> Option<Outcome> {
        if position <= self.durable {
            Some(Outcome::Durable)
        } else if self.poison.is_none() && !self.closed {
            None
        } else if position > self.written {
            Some(Outcome::NotDurable)
        } else if self.poison.is_some() || self.flights.is_empty() {
            Some(Outcome::Unknown)
        } else {
            None
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Counts what a batch adds, until it is settled.
    pub(crate) fn carry(&mut self, last: Position, group: GroupId, bytes: u64, entries: u64) {
        self.load.bytes += bytes;
        self.load.entries += entries;
        *self.load.groups.entry(group).or_default() += bytes;
        self.loads.push_back((last, group, bytes, entries));
    }

    fn settle_loads(&mut self) {
        while self.loads.front().is_some_and(|(last, ..)| *last <= self.durable) {
            let (_, group, bytes, entries) = self.loads.pop_front().expect("just seen");
            self.load.bytes -= bytes;
            self.load.entries -= entries;
            // A batch without payload has no share, and may outlast those that have one.
            if let Some(share) = self.load.groups.get_mut(&group) {
                *share -= bytes;
                if *share == 0 {
                    self.load.groups.remove(&group);
                }
            }
        }
        self.pending.retain(|_, entries| {
            while entries.front().is_some_and(|(position, _)| *position <= self.durable) {
                entries.pop_front();
            }
            !entries.is_empty()
        });
    }

    /// Takes the callbacks that are settled, in position order.
    fn take_callbacks(&mut self) -> Vec<(Callback, Outcome)> {
        let mut ready = Vec::new();
        while let Some(first) = self.callbacks.first_entry() {
            let position = *first.key();
            let callbacks =
                if self.outcome(position).is_some() { self.callbacks.remove(&position) } else { None };
            let Some(callbacks) = callbacks else { break };
            let outcome = self.outcome(position).expect("just asked");
            ready.extend(callbacks.into_iter().map(|c| (c, outcome)));
        }
        ready
    }

    pub(crate) fn poison(&mut self, cause: &str) {
        if self.poison.is_none() {
            tracing::error!(cause, "poisoned");
            metrics::counter!("seawall_poisoned").increment(1);
            self.poison = Some(cause.to_owned());
        }
    }
}

/// Everything that handles, tickets and threads share.
pub(crate) struct Shared<V: Vfs> {
    pub(crate) front: Mutex<Front>,
    pub(crate) changed: Condvar,
    pub(crate) log: Mutex<Log<V>>,
    pub(crate) options: Options,
    /// The largest frame that entries may ask for.
    pub(crate) frame_limit: u64,
    pub(crate) snapshots: Arc<Mutex<ChunkUse>>,
    threads: Mutex<Threads>,
    /// Holds the lock of the store, until the handle goes.
    identity: Mutex<Option<V::File>>,
}

#[derive(Default)]
struct Threads {
    driver: Option<JoinHandle<()>>,
    delivery: Option<Delivery>,
}

impl<V: Vfs> Shared<V> {
    pub(crate) fn new(
        front: Front,
        log: Log<V>,
        options: Options,
        frame_limit: u64,
        snapshots: ChunkUse,
        identity: V::File,
    ) -> Self {
        Self {
            front: Mutex::new(front),
            changed: Condvar::new(),
            log: Mutex::new(log),
            options,
            frame_limit,
            snapshots: Arc::new(Mutex::new(snapshots)),
            threads: Mutex::default(),
            identity: Mutex::new(Some(identity)),
        }
    }

    pub(crate) fn front(&self) -> MutexGuard<'_, Front> {
        self.front.lock().expect("no panic under the lock")
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log<V>> {
        self.log.lock().expect("no panic under the lock")
    }

    /// Recycles what is dead and durable, drops retired snapshots, then fills the reserve.
    pub(crate) fn maintain(&self) -> Result<()> {
        if let Some(cause) = &self.front().poison {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        let filled = self.reclaim().and_then(|()| {
            let mut log = self.log();
            while log.spares.len() < RESERVED_SEGMENTS {
                log.add_spare()?;
            }
            Ok(())
        });
        filled.inspect_err(|e| self.poison_on(e))
    }

    /// Recycles what is dead and durable, and drops retired snapshots.
    pub(crate) fn reclaim(&self) -> Result<()> {
        let durable = self.front().durable;
        let mut log = self.log();
        log.recycle(durable)?;
        while let Some((_, digest)) = log.retired.first().filter(|(at, _)| *at <= durable).copied() {
            log.retired.remove(0);
            collect::retire(&log.vfs, &self.snapshots, digest).map_err(Error::io("drop", snapshot::DIR))?;
        }
        Ok(())
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
        self.changed.notify_all();
        self.deliver(&mut front);
    }

    /// Writes what is queued as one frame. `None` if nothing is queued, or as many flushes as are
    /// allowed are under way.
    pub(crate) fn begin(self: &Arc<Self>, by_host: bool) -> Result<Option<Flush<V>>> {
        let mut front = self.front();
        if let Some(cause) = &front.poison {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        let Some(batches) = self.take_batches(&mut front) else { return Ok(None) };
        let last = batches.last().expect("at least one").last;
        let mark = match batches.first() {
            Some(first) if V::planted(Bug::MarkIsWritten) => {
                Position(first.last.0 - first.records.len() as u64)
            }
            _ => front.durable,
        };
        front.written = last;
        front.writing = true;
        drop(front);

        let control = batches.iter().all(|b| b.control);
        let records: Vec<Record> = batches.into_iter().flat_map(|b| b.records).collect();
        let result = self.write_frame(&records, mark, control);
        let mut front = self.front();
        front.writing = false;
        self.changed.notify_all();
        match result {
            Ok((file, segment, span)) => {
                front.flights.push_back(Flight { last, span, synced: false, by_host });
                Ok(Some(Flush { shared: self.clone(), file, segment, last, done: false }))
            }
            Err(e) => {
                front.poison(&e.to_string());
                self.deliver(&mut front);
                Err(Error::Poisoned { cause: e.to_string() })
            }
        }
    }

    /// Takes whole batches from the queue, up to a frame's size, if somebody may write now.
    fn take_batches(&self, front: &mut Front) -> Option<Vec<Queued>> {
        let busy = front.flights.len() >= self.options.max_syncs_in_flight as usize;
        if front.writing || busy || front.queue.is_empty() {
            return None;
        }
        // What is written above the mark must fit a fresh segment, should a recovery write it again.
        let above: u64 = front.flights.iter().map(|f| f.span).sum();
        let mut batches = Vec::new();
        let mut bound = 0;
        while let Some(next) = front.queue.front() {
            let fits = batches.is_empty() || bound + next.bound <= self.frame_limit;
            let alone = batches.is_empty() && front.flights.is_empty();
            if !fits || (!alone && above + 2 * (bound + next.bound) > 2 * self.frame_limit) {
                break;
            }
            bound += next.bound;
            batches.extend(front.queue.pop_front());
        }
        if front.queue.is_empty() {
            front.unattended = false;
        }
        (!batches.is_empty()).then_some(batches)
    }

    fn write_frame(
        &self,
        records: &[Record],
        mark: Position,
        control: bool,
    ) -> Result<(Arc<V::File>, SegmentId, u64)> {
        let mut log = self.log();
        let mut encoded = log.encode(records, FrameKind::Batch, mark);
        let before = log.active.reader.clone();
        if !log.has_room(&encoded) {
            log.rotate(control)?;
            encoded = log.encode(records, FrameKind::Batch, mark);
            assert!(log.has_room(&encoded), "a batch that was let through fits a fresh segment");
        }
        let file = log.description()?;
        let span = u64::from(encoded.header.span());
        log.put(encoded, records, &file).map_err(Error::io("write", &log.active.reader.path))?;
        metrics::histogram!("seawall_frame_bytes").record(span as f64);
        if V::planted(Bug::SyncWrongFile) && before.path != log.active.reader.path {
            before.file.sync_data().map_err(Error::io("sync", &before.path))?;
            let last = log.position;
            drop(log);
            self.front().durable = last;
            return Ok((file, SegmentId(0), span));
        }
        Ok((file, log.active.header.segment, span))
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
                front.flights.retain(|f| f.last != last);
            } else {
                front.poison(cause);
            }
        } else if front.poison.is_none() {
            if let Some(flight) = front.flights.iter_mut().find(|f| f.last == last) {
                flight.synced = true;
            }
            if V::planted(Bug::AckOutOfOrder) {
                front.durable = front.durable.max(last);
            }
            while front.flights.front().is_some_and(|f| f.synced) {
                let flight = front.flights.pop_front().expect("just seen");
                front.durable = front.durable.max(flight.last);
            }
            if V::planted(Bug::AckLateWriter) {
                front.durable = front.written;
            }
            front.settle_loads();
        }
        self.changed.notify_all();
        let poison = front.poison.clone();
        self.deliver(&mut front);
        let inline = self.take_inline(&mut front);
        drop(front);
        inline.into_iter().for_each(|(callback, outcome)| self.call(callback, outcome));
        poison.map_or(Ok(()), |cause| Err(Error::Poisoned { cause }))
    }

    /// Gives a description back for the next flush into the same segment.
    fn give_back(&self, file: Arc<V::File>, segment: SegmentId) {
        let mut log = self.log();
        if log.active.header.segment == segment && !V::planted(Bug::SharedDescription) {
            log.active.free.push(file);
        }
    }

    /// Waits until the stream is settled up to a position, committing it on this thread if nobody
    /// else does.
    pub(crate) fn wait(self: &Arc<Self>, position: Position) -> Outcome {
        loop {
            if let Some(outcome) = self.front().outcome(position) {
                return outcome;
            }
            match self.begin(false) {
                Ok(Some(flush)) => drop(flush.sync().acknowledge()),
                Err(_) => {}
                Ok(None) => {
                    let front = self.front();
                    let idle = front.queue.is_empty() || front.writing || !front.flights.is_empty();
                    if front.outcome(position).is_none() && idle {
                        drop(self.changed.wait(front).expect("no panic under the lock"));
                    }
                }
            }
        }
    }

    /// Calls back when the stream is settled up to a position.
    pub(crate) fn on_durable(self: &Arc<Self>, position: Position, callback: Callback) {
        let mut front = self.front();
        front.callbacks.entry(position).or_default().push(callback);
        self.deliver(&mut front);
        let inline = self.take_inline(&mut front);
        drop(front);
        inline.into_iter().for_each(|(callback, outcome)| self.call(callback, outcome));
        self.attend();
    }

    /// Sees to it that what is queued becomes durable although nobody waits.
    pub(crate) fn attend(self: &Arc<Self>) {
        if self.options.driver == Driver::Caller {
            return;
        }
        let mut front = self.front();
        if front.closed || front.queue.is_empty() {
            return;
        }
        front.unattended = true;
        drop(front);
        self.start_driver();
    }

    /// Fills the reserve in the background, if there is one.
    pub(crate) fn attend_reserve(self: &Arc<Self>) {
        if self.options.driver == Driver::Threads {
            self.front().upkeep = true;
            self.start_driver();
        }
    }

    fn start_driver(self: &Arc<Self>) {
        let mut threads = self.threads.lock().expect("no panic under the lock");
        if threads.driver.is_none() {
            let shared = self.clone();
            let spawned =
                std::thread::Builder::new().name("seawall-driver".into()).spawn(move || shared.drive());
            threads.driver = spawned.inspect_err(|e| tracing::error!(%e, "no driver thread")).ok();
        }
        self.changed.notify_all();
    }

    fn drive(self: Arc<Self>) {
        let mut front = self.front();
        while !front.closed {
            let alive = front.poison.is_none();
            if alive && front.unattended {
                let last = front.submitted;
                drop(front);
                self.wait(last);
                front = self.front();
            } else if alive && front.upkeep {
                front.upkeep = false;
                drop(front);
                if let Err(e) = self.maintain() {
                    tracing::warn!(%e, "the reserve is not full");
                }
                front = self.front();
            } else {
                front = self.changed.wait(front).expect("no panic under the lock");
            }
        }
    }

    /// Hands settled callbacks to the delivery thread. The front's lock keeps their order.
    fn deliver(&self, front: &mut Front) {
        if self.options.driver == Driver::Caller {
            return;
        }
        let ready = front.take_callbacks();
        if ready.is_empty() {
            return;
        }
        let mut threads = self.threads.lock().expect("no panic under the lock");
        let (sender, _) = threads.delivery.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel::<(Callback, Outcome)>();
            let run =
                move || receiver.into_iter().for_each(|(callback, outcome)| call_caught(callback, outcome));
            let thread = std::thread::Builder::new().name("seawall-delivery".into()).spawn(run);
            (sender, thread.expect("a thread can be started"))
        });
        for pair in ready {
            sender.send(pair).expect("the delivery thread outlives its sender");
        }
    }

    /// With no background threads, the caller delivers.
    fn take_inline(&self, front: &mut Front) -> Vec<(Callback, Outcome)> {
        if self.options.driver == Driver::Caller { front.take_callbacks() } else { Vec::new() }
    }

    fn call(&self, callback: Callback, outcome: Outcome) {
        call_caught(callback, outcome);
    }

    /// Answers everything that is outstanding and ends the threads.
    pub(crate) fn shut(self: &Arc<Self>) {
        let mut front = self.front();
        front.closed = true;
        front.queue.clear();
        self.changed.notify_all();
        while front.writing || (front.poison.is_none() && front.flights.iter().any(|f| !f.by_host)) {
            front = self.changed.wait(front).expect("no panic under the lock");
        }
        front.flights.clear();
        self.deliver(&mut front);
        let inline = self.take_inline(&mut front);
        drop(front);
        inline.into_iter().for_each(|(callback, outcome)| self.call(callback, outcome));
        let Threads { driver, delivery } =
            std::mem::take(&mut *self.threads.lock().expect("no panic under the lock"));
        let delivery = delivery.map(|(sender, thread)| {
            drop(sender);
            thread
        });
        // A callback may itself drop the last handle: a thread does not wait for itself.
        let own = std::thread::current().id();
        for thread in [driver, delivery].into_iter().flatten().filter(|t| t.thread().id() != own) {
            drop(thread.join());
        }
        self.identity.lock().expect("no panic under the lock").take();
    }
}

fn call_caught(callback: Callback, outcome: Outcome) {
    let run = std::panic::AssertUnwindSafe(|| callback(outcome));
    if std::panic::catch_unwind(run).is_err() {
        tracing::error!("a callback panicked");
        metrics::counter!("seawall_callback_panics").increment(1);
    }
}

/// A frame that was written and must be synced.
#[must_use = "what it wrote is not durable until it is synced and acknowledged"]
pub struct Flush<V: Vfs> {
    shared: Arc<Shared<V>>,
    file: Arc<V::File>,
    segment: SegmentId,
    last: Position,
    done: bool,
}

impl<V: Vfs> Flush<V> {
    /// Makes the frame durable. Several flushes may be synced at once, in any order.
    pub fn sync(mut self) -> Synced<V> {
        self.done = true;
        if V::planted(Bug::AckBeforeSync) {
            drop(self.shared.complete(self.last, Ok(())));
        }
        let begun = std::time::Instant::now();
        let mut result = if V::planted(Bug::AckWithoutSync) { Ok(()) } else { self.file.sync_data() };
        if result.is_err() && V::planted(Bug::SyncRetried) {
            result = self.file.sync_data();
        }
        metrics::histogram!("seawall_sync_seconds").record(begun.elapsed());
        Synced {
            shared: self.shared.clone(),
            file: self.file.clone(),
            segment: self.segment,
            last: self.last,
            result: Some(result),
        }
    }
}

impl<V: Vfs> Drop for Flush<V> {
    fn drop(&mut self) {
        if !self.done {
            let abandoned = std::io::Error::other("a flush was dropped before its sync");
            drop(self.shared.complete(self.last, Err(abandoned)));
        }
    }
}

/// A frame whose sync has returned.
#[must_use = "nobody is told until it is acknowledged"]
pub struct Synced<V: Vfs> {
    shared: Arc<Shared<V>>,
    file: Arc<V::File>,
    segment: SegmentId,
    last: Position,
    result: Option<std::io::Result<()>>,
}

impl<V: Vfs> Synced<V> {
    /// Acknowledges it, and all that only waited for it; an error poisons the store.
    pub fn acknowledge(mut self) -> Result<()> {
        let result = self.result.take().expect("taken once");
        if result.is_ok() {
            self.shared.give_back(self.file.clone(), self.segment);
        }
        self.shared.complete(self.last, result)
    }
}

impl<V: Vfs> Drop for Synced<V> {
    fn drop(&mut self) {
        if let Some(result) = self.result.take() {
            drop(self.shared.complete(self.last, result));
        }
    }
}

/// A submitted batch. Dropping it cancels nothing.
#[must_use = "the batch may be lost in a crash until the ticket says Durable"]
pub struct Ticket<V: Vfs> {
    shared: Arc<Shared<V>>,
    position: Position,
    attended: bool,
}

impl<V: Vfs> Ticket<V> {
    pub(crate) fn new(shared: Arc<Shared<V>>, position: Position) -> Self {
        Self { shared, position, attended: false }
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
        self.shared.wait(self.position)
    }

    /// Calls back once with the outcome: on the delivery thread, in position order, under no lock.
    /// A panic in the callback is caught and counted.
    pub fn on_durable(mut self, callback: impl FnOnce(Outcome) + Send + 'static) {
        self.attended = true;
        self.shared.on_durable(self.position, Box::new(callback));
    }
}

impl<V: Vfs> Drop for Ticket<V> {
    fn drop(&mut self) {
        if !self.attended && self.outcome().is_none() {
            self.shared.attend();
        }
    }
}
