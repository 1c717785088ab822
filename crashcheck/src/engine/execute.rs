//! Runs a sequence of steps on the real engine over a recorded disk.
//!
//! I own one run: its trace, its history with a mark in the trace for each event, and what the living
//! handle did that the model does not allow. (X1) A batch is marked as issued before the engine hears
//! of it, and as acknowledged after the engine said so. (X2) After every step the whole readable state
//! is compared with the model's. I do not explore crashes (see the core) nor judge what comes back
//! after one (see judge).

mod overlap;
mod restart;

use std::io::Write;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use seawall::types::{Entry, GroupId, Index, Outcome, Position, SnapshotPointer};
use seawall::vfs::mem::MemVfs;
use seawall::{CreateOptions, Driver, Engine, Error, Options, Ticket, WriteBatch};

use super::convert;
use super::generate::Sequence;
use super::observe::observe;
use super::oracle::{Act, Event, Fold, History, Moment, Refusal, What};
use super::planted::Disk;
use super::step::{GROUPS, Kind, Plan, Planner, Step, payload};
use crate::core::subject::Violation;
use crate::core::trace::Trace;

/// The value of every mark: they are counted, not read.
const MARK: u32 = 0;
/// Bytes in a segment of the store under test.
pub const SEGMENT_BYTES: u64 = 16 << 10;

/// One executed sequence.
#[derive(Debug)]
pub struct Run {
    /// What was run.
    pub sequence: Sequence,
    /// What was done to the disk.
    pub trace: Trace,
    /// What was called and what came back.
    pub history: History,
    /// Events that happened before the recording began.
    pub before: usize,
    /// What the history allows after each event.
    pub moments: Vec<Moment>,
    /// A number for each of them, equal for equal histories.
    pub keys: Vec<u64>,
    /// The stream position of each batch, where the engine told it.
    pub positions: Vec<Option<Position>>,
    /// The last event before the last step began.
    pub last_step_at: usize,
    /// What the living handle did wrong.
    pub wrong: Vec<Violation>,
    /// The disk at the end.
    pub image: seawall::vfs::mem::Image,
    /// Whether an error was injected.
    pub faulty: bool,
}

/// The creation options of the store under test: everything fixed.
#[must_use]
pub fn create_options() -> CreateOptions {
    CreateOptions {
        segment_bytes: SEGMENT_BYTES,
        unit: 512,
        seed: Some(*b"crashcheck seed!"),
        ..CreateOptions::new(11, 3)
    }
}

/// The options of every open.
#[must_use]
pub fn open_options() -> Options {
    Options {
        driver: Driver::Caller,
        chunk_bytes: 512,
        zstd_level: None,
        max_syncs_in_flight: 3,
        ..Options::default()
    }
}

/// The refusal that an error stands for, if it stands for one.
#[must_use]
pub fn refusal(error: &Error) -> Option<Refusal> {
    Some(match error {
        Error::UnknownGroup { .. } => Refusal::NoGroup,
        Error::GroupExists { .. } => Refusal::GroupExists,
        Error::Compacted { .. } => Refusal::Compacted,
        Error::Gap { .. } => Refusal::Gap,
        Error::Conflict { .. } => Refusal::Conflict,
        Error::WouldOverwrite { .. } => Refusal::WouldOverwrite,
        Error::TermRegression { .. } => Refusal::TermRegression,
        Error::StaleVote { .. } => Refusal::StaleVote,
        Error::CommitOutOfRange { .. } => Refusal::CommitOutOfRange,
        Error::PastEnd { .. } => Refusal::PastEnd,
        Error::Committed { .. } => Refusal::Committed,
        Error::NotCovered { .. } => Refusal::NotCovered,
        Error::StaleSnapshot { .. } => Refusal::Stale,
        Error::OutOfRange { .. } => Refusal::OutOfRange,
        _ => return None,
    })
}

/// Runs a sequence.
pub fn execute<V: Disk>(sequence: &Sequence) -> Run {
    let mut host = Host::<V>::create(sequence);
    let mut last_step_at = 0;
    for step in &sequence.steps {
        if host.engine.is_none() {
            break;
        }
        last_step_at = host.history.events.len();
        let _quiet = super::quiet();
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| host.step(*step))) {
            host.panicked(&super::panic_text(&*cause));
        }
    }
    host.finish(sequence, last_step_at)
}

/// The host of a store: the engine's caller and the model beside it.
pub(super) struct Host<V: Disk> {
    pub(super) disk: V,
    pub(super) engine: Option<Engine<V>>,
    history: History,
    fold: Fold,
    before: usize,
    recording: bool,
    positions: Vec<Option<Position>>,
    /// Batches whose outcome is not known yet, with their tickets.
    tickets: Vec<(usize, Ticket<V>)>,
    /// What callbacks said and was not taken notice of, in their order. They have marked the trace.
    called: Arc<Mutex<Vec<(usize, Outcome)>>>,
    /// How many callbacks are to come.
    uncalled: usize,
    /// The handle said that it is poisoned, or a batch ended Unknown.
    pub(super) poisoned: bool,
    pub(super) faulty: bool,
    /// Which error the next `fail` gives.
    pub(super) errno: u8,
    /// Which error follows that one, and when.
    pub(super) second: Option<u8>,
    serial: u64,
    wrong: Vec<Violation>,
}

impl<V: Disk> Host<V> {
    fn create(sequence: &Sequence) -> Self {
        let from_nothing = sequence.from_nothing;
        let mut host = Self {
            disk: V::over(MemVfs::new()),
            engine: None,
            history: History::default(),
            fold: Fold::default(),
            before: 0,
            recording: from_nothing,
            positions: Vec::new(),
            tickets: Vec::new(),
            called: Arc::default(),
            uncalled: 0,
            poisoned: false,
            faulty: false,
            errno: 0,
            second: None,
            serial: 0,
            wrong: Vec::new(),
        };
        host.disk.mem().record(from_nothing);
        match Engine::create_in(&host.disk, &create_options()) {
            Ok(_) => host.event(Event::Created),
            Err(e) => host.fault("P1", format!("create failed without a reason: {e}")),
        }
        host.open();
        if host.engine.is_some() {
            host.prelude(sequence.groups);
        }
        if !from_nothing {
            host.disk.mem().record(true);
            host.recording = true;
            host.before = host.history.events.len();
        }
        host
    }

    fn prelude(&mut self, groups: usize) {
        for (n, id) in GROUPS.into_iter().take(groups).enumerate() {
            let vote = What::Vote(seawall::types::Vote::new(2, 0, payload(900 + n as u64, 8)));
            let entries =
                (1..=3).map(|index| What::Append(Entry::command(index, 2, payload(index + 10, 30))));
            let whats = [What::Create(None), vote].into_iter().chain(entries).chain([What::Commit(Index(1))]);
            self.batch(whats.map(|what| Act::new(id, what)).collect());
        }
    }

    /// A handle that panicked may hold its locks: it is left where it is, with all that hangs on it.
    fn panicked(&mut self, text: &str) {
        self.wrong.push(super::judge::p22(text));
        std::mem::forget(self.engine.take());
        std::mem::forget(std::mem::take(&mut self.tickets));
    }

    fn finish(mut self, sequence: &Sequence, last_step_at: usize) -> Run {
        self.engine = None;
        self.poll();
        let trace = convert::trace(self.disk.mem().take_trace());
        let moments = self.history.moments();
        let keys = moments.iter().map(history_key).collect();
        Run {
            sequence: sequence.clone(),
            trace,
            moments,
            keys,
            history: self.history,
            before: self.before,
            positions: self.positions,
            last_step_at,
            wrong: self.wrong,
            image: self.disk.mem().image(),
            faulty: self.faulty,
        }
    }

    /// Notes what the living handle did wrong.
    pub(super) fn fault(&mut self, property: &'static str, text: String) {
        let silent = property != "P12";
        self.wrong.push(Violation { property, silent, false_alarm: !silent, text });
    }

    pub(super) fn event(&mut self, event: Event) {
        self.hear();
        self.note(event);
        if self.recording {
            self.disk.mem().mark(MARK);
        }
    }

    fn note(&mut self, event: Event) {
        self.fold.step(&event);
        self.history.events.push(event);
    }

    /// Asks to be called back with a batch's outcome: the mark is then in the trace at the very moment.
    fn call_back(&mut self) {
        let (number, ticket) = self.tickets.pop().expect("a batch was taken");
        let (called, mem) = (self.called.clone(), self.disk.mem().clone());
        let recording = self.recording;
        self.uncalled += 1;
        ticket.on_durable(move |outcome| {
            called.lock().expect("no panic under the lock").push((number, outcome));
            if recording && outcome != Outcome::Unknown {
                mem.mark(MARK);
            }
        });
    }

    /// Takes notice of what callbacks said.
    fn hear(&mut self) {
        let called = std::mem::take(&mut *self.called.lock().expect("no panic under the lock"));
        for (number, outcome) in called {
            self.uncalled -= 1;
            if let Some(event) = self.settled(number, outcome) {
                self.note(event);
            }
        }
    }

    /// The event that an outcome is, if it is one.
    fn settled(&mut self, number: usize, outcome: Outcome) -> Option<Event> {
        match outcome {
            Outcome::Durable => {
                if self.poisoned {
                    self.fault("P16", format!("batch {number} was called durable by a poisoned handle"));
                }
                Some(Event::Ack(number))
            }
            Outcome::NotDurable => Some(Event::Never(number)),
            Outcome::Unknown => {
                if !self.faulty {
                    self.fault("P12", format!("batch {number} ended unknown without a fault"));
                }
                self.poisoned = true;
                None
            }
        }
    }

    pub(super) fn engine(&self) -> &Engine<V> {
        self.engine.as_ref().expect("steps run while a handle is open")
    }

    pub(super) fn step(&mut self, step: Step) {
        match step.kind {
            Kind::Rotate => self.rotate(step.salt),
            Kind::Reopen => self.restart(step.salt),
            Kind::Close => self.close(step.salt),
            Kind::Restarts => self.restarts(),
            Kind::Overlap => self.overlap(step.salt),
            Kind::Maintain => self.maintain(step.salt),
            kind if kind.is_fault() => self.inject(step),
            _ => self.planned(step),
        }
        if self.engine.is_some() && !self.poisoned {
            self.compare();
        }
    }

    /// Recycles; with an odd salt while a compaction is written and not yet durable.
    pub(super) fn maintain(&mut self, salt: u8) {
        let mut flush = None;
        if salt & 1 == 1 {
            let state = self.fold.live().clone();
            let plans = Planner::new(&state, &mut self.serial, salt & !1).compact_to_commit();
            for plan in plans {
                // With 16 the pointer is not durable either.
                if salt & 16 == 0 {
                    self.settle();
                }
                let Plan::Batch(acts) = plan else { unreachable!("an external pointer is a batch") };
                if !self.issue(acts) {
                    return;
                }
            }
            flush = match self.engine().begin_flush() {
                Ok(flush) => flush,
                Err(e) => return self.surprise("begin_flush", &e),
            };
        }
        if let Err(e) = self.engine().maintain() {
            self.surprise("maintain", &e);
        }
        if let Some(flush) = flush {
            let synced = flush.sync();
            self.poll();
            self.acknowledge(&mut vec![synced]);
            self.settle();
        }
    }

    /// Runs a step that the planner turns into batches and snapshots.
    pub(super) fn planned(&mut self, step: Step) {
        let state = self.fold.live().clone();
        let mut planner = Planner::new(&state, &mut self.serial, step.salt);
        let plans = match step.kind {
            Kind::Append => planner.append(),
            Kind::AppendLarge => planner.large(),
            Kind::Batch => planner.batch(),
            Kind::Vote => planner.vote(),
            Kind::Storm => planner.storm(),
            Kind::Commit => planner.commit(),
            Kind::Truncate => planner.truncate(),
            Kind::Overwrite => planner.overwrite(),
            Kind::CompactExternal => planner.compact_external(),
            Kind::CompactOwned => planner.compact_owned(),
            Kind::Publish => planner.publish(),
            Kind::Install => planner.install(),
            Kind::Group => planner.guest(),
            Kind::Refused => planner.refused(),
            other => unreachable!("{other:?} is not planned"),
        };
        for plan in plans {
            match plan {
                Plan::Batch(acts) => drop(self.batch(acts)),
                Plan::Snapshot(act) => self.snapshot(act),
            }
        }
    }

    /// Hands a batch over and waits for it. Says whether it is durable.
    pub(super) fn batch(&mut self, acts: Vec<Act>) -> bool {
        if !self.issue(acts) {
            return false;
        }
        let number = self.fold.issued() - 1;
        self.settle();
        self.history.events.contains(&Event::Ack(number))
    }

    /// Commits what is queued, until every outcome is there or the handle has failed. With an error
    /// armed the host drives the flushes itself, so that a handle that loses count cannot hang it.
    fn settle(&mut self) {
        if !self.faulty {
            if let Some((_, ticket)) = self.tickets.last() {
                // `poll` asks every ticket.
                let _ = ticket.wait();
            }
            return self.poll();
        }
        loop {
            match self.engine().begin_flush() {
                Ok(Some(flush)) => self.acknowledge(&mut vec![flush.sync()]),
                Ok(None) => return self.poll(),
                Err(e) => {
                    self.poll();
                    return self.surprise("begin_flush", &e);
                }
            }
        }
    }

    /// Hands a batch over; says whether it was taken.
    pub(super) fn issue(&mut self, acts: Vec<Act>) -> bool {
        let expected = refuses(&self.fold, &acts);
        let batch = write_batch(&acts);
        if let Some(refusal) = expected {
            self.expect_refusal(refusal, batch);
            return false;
        }
        let number = self.fold.issued();
        let created = acts.iter().rfind(|a| a.what == What::Create(None)).map(Act::group);
        self.event(Event::Issue(acts));
        let result = self.engine().write(batch);
        match result {
            Ok(ticket) => {
                self.positions.push(Some(ticket.position()));
                self.tickets.push((number, ticket));
                if let Some(group) = created {
                    self.learn_incarnation(number, group);
                }
                true
            }
            Err(e) => {
                self.positions.push(None);
                self.event(Event::Never(number));
                self.surprise("write", &e);
                false
            }
        }
    }

    fn expect_refusal(&mut self, expected: Refusal, batch: WriteBatch) {
        let result = self.engine().write(batch);
        match result {
            Ok(_) => self.fault("P4", format!("a batch was taken that must be refused as {expected}")),
            Err(e) if refusal(&e) == Some(expected) || self.poisoned => {}
            Err(e) => {
                self.fault("P4", format!("a batch must be refused as {expected} and was refused so: {e}"))
            }
        }
    }

    fn learn_incarnation(&mut self, number: usize, group: GroupId) {
        let Ok(status) = self.engine().group(group) else { return };
        self.history.learn(number, |acts| {
            for act in acts.iter_mut().filter(|a| a.group() == group) {
                if let What::Create(incarnation) = &mut act.what {
                    *incarnation = Some(status.incarnation);
                }
            }
        });
        self.fold = Fold::of(&self.history);
    }

    /// An error that no refusal of the model explains: a poisoned handle, a full disk, or a finding.
    pub(super) fn surprise(&mut self, doing: &str, error: &Error) {
        match error {
            Error::NoSpace { .. } | Error::OutOfDescriptors { .. } if self.faulty => {}
            Error::Poisoned { .. } | Error::NotAcknowledged { .. } if self.faulty => self.poisoned = true,
            // A failed read or a refused file fails that call only.
            Error::Io { .. } if self.faulty => {
                self.poisoned |= self.engine.as_ref().is_none_or(|e| e.status().poison.is_some());
            }
            e => self.fault("P12", format!("{doing} failed without a reason: {e}")),
        }
    }

    /// Takes notice of every outcome that is there.
    pub(super) fn poll(&mut self) {
        self.hear();
        let tickets = std::mem::take(&mut self.tickets);
        for (number, ticket) in tickets {
            match ticket.outcome() {
                None => self.tickets.push((number, ticket)),
                Some(outcome) => {
                    if let Some(event) = self.settled(number, outcome) {
                        self.event(event);
                    }
                }
            }
        }
    }

    /// Publishes or installs a snapshot.
    pub(super) fn snapshot(&mut self, act: Act) {
        // The writer borrows the handle, which is not dropped in a panic: that may panic again.
        let engine = ManuallyDrop::new(self.engine.take().expect("a handle is open"));
        let expected = refuses(&self.fold, std::slice::from_ref(&act));
        let number = self.fold.issued();
        let result = self.write_snapshot(&engine, act, expected);
        self.engine = Some(ManuallyDrop::into_inner(engine));
        self.poll();
        match (result, expected) {
            (Ok(pointer), None) => {
                self.history.learn(number, |acts| {
                    if let What::Snapshot(s) | What::Install(s) = &mut acts[0].what {
                        s.digest = Some(pointer.digest);
                    }
                });
                self.fold = Fold::of(&self.history);
                if self.poisoned {
                    self.fault("P16", "a snapshot was published by a poisoned handle".into());
                }
                self.event(Event::Ack(number));
            }
            (Ok(_), Some(expected)) => {
                self.fault("P7", format!("a snapshot was taken that must be refused as {expected}"))
            }
            (Err(e), Some(expected)) if refusal(&e) == Some(expected) || self.faulty => {}
            (Err(e), Some(expected)) => {
                self.fault("P7", format!("a snapshot must be refused as {expected}: {e}"))
            }
            (Err(e), None) => {
                let refused = matches!(e, Error::NoSpace { .. } | Error::OutOfDescriptors { .. });
                let never = refused || refusal(&e).is_some();
                if never && self.fold.issued() > number {
                    self.event(Event::Never(number));
                }
                self.surprise("publish", &e);
            }
        }
    }

    /// Writes the bytes, then publishes or installs; that is when the batch counts as issued.
    fn write_snapshot(
        &mut self,
        engine: &Engine<V>,
        act: Act,
        expected: Option<Refusal>,
    ) -> Result<SnapshotPointer, Error> {
        let (What::Snapshot(snapshot) | What::Install(snapshot)) = act.what.clone() else {
            unreachable!("only snapshots are planned so");
        };
        let install = matches!(act.what, What::Install(_));
        let mut writer = engine.snapshot_writer(act.group(), snapshot.id, &snapshot.membership)?;
        writer.write_all(&snapshot.content).map_err(|source| Error::Io {
            doing: "write",
            path: String::new(),
            source,
        })?;
        if expected.is_none() {
            self.event(Event::Issue(vec![act]));
            self.positions.push(None);
        }
        if install { writer.install() } else { writer.publish() }
    }

    /// Appends until the directory shows that another segment was begun.
    pub(super) fn rotate(&mut self, salt: u8) {
        let names = |host: &Self| host.disk.mem().image().files.into_keys().collect::<Vec<_>>();
        let before = names(self);
        for _ in 0..8 {
            let state = self.fold.live().clone();
            let acts = Planner::new(&state, &mut self.serial, salt).filler();
            if !self.batch(acts) || names(self) != before {
                return;
            }
        }
        self.fault("P17", "eight batches of 1,900 bytes fit into a segment of 16 KiB".into());
    }

    fn append_acts(&mut self, salt: u8) -> Vec<Act> {
        let state = self.fold.live().clone();
        match Planner::new(&state, &mut self.serial, salt).append().pop() {
            Some(Plan::Batch(acts)) => acts,
            other => unreachable!("an append is one batch, not {other:?}"),
        }
    }

    /// The term that the second group's host is in.
    pub(super) fn live_term(&self) -> u64 {
        super::step::term_of(&self.fold.live().groups[&GROUPS[1]])
    }

    /// How many events there are.
    pub(super) fn events(&self) -> usize {
        self.history.events.len()
    }

    /// Whether a batch was refused since there were `events` events.
    pub(super) fn refused_since(&self, events: usize) -> bool {
        self.history.events[events..].iter().any(|e| matches!(e, Event::Never(_)))
    }

    /// Compares all that can be read with the model.
    pub(super) fn compare(&mut self) {
        let wanted = self.fold.live().clone();
        match observe(self.engine()) {
            Ok(seen) if wanted.admits(&seen) => {}
            Ok(seen) => {
                let text = super::judge::difference(&[wanted], &seen);
                self.fault("P1", format!("the living handle: {text}"));
            }
            Err(e) => self.fault("P12", format!("the living handle: {e}")),
        }
    }
}

/// What the model says of a batch.
fn refuses(fold: &Fold, acts: &[Act]) -> Option<Refusal> {
    let mut next = super::oracle::State::clone(fold.live());
    next.apply(acts).err()
}

/// The engine's batch of a list of operations.
pub(super) fn write_batch(acts: &[Act]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for act in acts {
        let group = act.group();
        match &act.what {
            What::Create(_) => batch.create_group(group),
            What::Remove => batch.remove_group(group),
            What::Append(entry) => batch.append(group, entry.clone()),
            What::Vote(vote) => batch.vote(group, vote.clone()),
            What::Commit(index) => batch.commit(group, *index),
            What::Truncate(from) => batch.truncate_suffix(group, *from),
            What::Compact(upto) => batch.compact_prefix(group, *upto),
            What::Snapshot(s) => {
                batch.external_snapshot(group, s.id, s.digest.expect("external ones are known"))
            }
            What::Install(_) => unreachable!("an install is not part of a batch"),
        };
    }
    batch
}

/// A number for a moment; equal for equal histories.
fn history_key(moment: &Moment) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    moment.allowed.hash(&mut hasher);
    (moment.exists, moment.closed, moment.epoch, moment.issued, moment.lied).hash(&mut hasher);
    hasher.finish()
}
