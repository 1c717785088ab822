//! The submitted state, the queue and what is in flight: everything under the front's lock.
//!
//! I own the order of the stream and what became of it. (C7) What is submitted joins the last frame that
//! forms, or begins one. (C8) Outcomes are settled in position order. I do not know locks, files or threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use smallvec::SmallVec;

use super::Callback;
use crate::by_group::ByGroup;
use crate::log::Outlook;
use crate::record::Record;
use crate::report::Lost;
use crate::space::{Content, Space};
use crate::state::{Group, Groups};
use crate::submit::{Draft, Line, Lines};
use crate::types::{GroupId, Outcome, Position, SegmentId};

/// Opens when a frame is settled, for all who wait for it at once.
#[derive(Default)]
pub(crate) struct Gate {
    /// Somebody has taken it upon himself to write the frame.
    led: AtomicBool,
    outcome: OnceLock<Outcome>,
}

impl Gate {
    /// Takes the frame over; says whether nobody had.
    pub(super) fn lead(&self) -> bool {
        !self.led.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_led(&self) -> bool {
        self.led.load(Ordering::Relaxed)
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.outcome.get().copied()
    }

    pub(super) fn wait(&self) -> Outcome {
        *self.outcome.wait()
    }

    /// An outcome that is settled stays: two threads that find it may both say so.
    pub(super) fn open(&self, outcome: Outcome) {
        let said = self.outcome.get_or_init(|| outcome);
        assert_eq!(*said, outcome, "an outcome never changes");
    }
}

/// Callbacks by the positions that they wait for.
pub(super) type Callbacks = Vec<(Position, Callback)>;

/// A frame from its first record until it is settled.
#[derive(Default)]
pub(crate) struct Frame {
    pub(super) last: Position,
    /// Changed while the frame forms; then its writer reads them too.
    pub(super) records: Arc<Vec<Record>>,
    pub(crate) content: Content,
    pub(super) gate: Arc<Gate>,
    pub(super) callbacks: Callbacks,
    /// What its batches ask of the admission window, by the group that each began with.
    loads: Vec<(GroupId, Load)>,
}

impl Frame {
    /// A record of it.
    fn record(&self, position: Position) -> &Record {
        let back = usize::try_from(self.last.0 - position.0).expect("in memory");
        &self.records[self.records.len() - 1 - back]
    }

    /// Takes a batch in.
    fn take(&mut self, draft: &mut Draft, group: GroupId, last: Position) {
        self.content = self.content.and(&draft.content());
        let records = Arc::get_mut(&mut self.records).expect("nobody writes a frame that forms");
        if records.is_empty() {
            std::mem::swap(records, &mut draft.records);
        } else {
            records.append(&mut draft.records);
        }
        self.last = last;
        let load = Load { bytes: draft.bytes, entries: draft.entries };
        match self.loads.last_mut().filter(|(of, _)| *of == group) {
            Some((_, known)) => known.add(&load),
            None => self.loads.push((group, load)),
        }
    }

    /// The frame with room for as much, and nothing in it; `None` if somebody reads its records. Their memory
    /// may take long to give back.
    pub(super) fn emptied(mut self) -> Option<Self> {
        Arc::get_mut(&mut self.records)?.clear();
        Some(Self { content: Content::default(), gate: Arc::default(), ..self })
    }

    /// Its callbacks, for whose successors there is room.
    pub(super) fn take_callbacks(&mut self) -> Callbacks {
        let room = Vec::with_capacity(self.callbacks.len());
        std::mem::replace(&mut self.callbacks, room)
    }

    fn call_back(&mut self, position: Position, callback: Callback) {
        if self.callbacks.last().is_none_or(|(last, _)| *last <= position) {
            return self.callbacks.push((position, callback));
        }
        let at = self.callbacks.partition_point(|(before, _)| *before <= position);
        self.callbacks.insert(at, (position, callback));
    }
}

/// A frame that forms.
pub(crate) struct Forming {
    pub(crate) frame: Frame,
    /// Whether it holds no entry.
    pub(super) control: bool,
}

/// A frame that was taken to be written and is not acknowledged.
pub(super) struct Flight {
    pub(super) frame: Frame,
    /// The bytes that it takes, of which [`Space::taken`] is an upper bound.
    pub(super) span: u64,
    pub(super) synced: bool,
    /// The host holds it, and may never sync it.
    pub(super) by_host: bool,
}

/// The end of the stream that is not durable.
#[derive(Default)]
pub(crate) struct Frames {
    pub(crate) queue: VecDeque<Forming>,
    pub(super) flights: VecDeque<Flight>,
    /// What the frames hold that are queued or being written.
    pub(super) unwritten: Content,
}

impl Frames {
    /// A record that is not durable.
    pub(crate) fn record(&self, position: Position) -> &Record {
        self.iter().find(|frame| frame.last >= position).expect("it is queued or in flight").record(position)
    }

    fn iter(&self) -> impl Iterator<Item = &Frame> {
        let flights = self.flights.iter().map(|flight| &flight.frame);
        flights.chain(self.queue.iter().map(|forming| &forming.frame))
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Frame> {
        let flights = self.flights.iter_mut().map(|flight| &mut flight.frame);
        flights.chain(self.queue.iter_mut().map(|forming| &mut forming.frame))
    }

    /// The frame of a position that is not settled.
    fn holding(&mut self, position: Position) -> &mut Frame {
        self.iter_mut().find(|frame| frame.last >= position).expect("it is queued or in flight")
    }
}

/// What is in flight, for admission.
#[derive(Clone, Copy, Default)]
pub(crate) struct Load {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

impl Load {
    fn add(&mut self, more: &Load) {
        self.bytes += more.bytes;
        self.entries += more.entries;
    }
}

/// A frame of which nothing more is needed than who is to be told, and what became of it.
pub(super) type Settled = (Frame, Outcome);

/// Bytes of a frame that gains more from a sync at once than from the company of the next batches.
const WORTH_A_SYNC: u64 = 64 << 10;

/// Frames whose memory is kept for the next ones: of one that forms, one that is written, one that is synced.
const KEPT_FRAMES: usize = 3;

/// The submitted state: what callers see at once.
pub(crate) struct Front {
    pub(crate) groups: Lines,
    /// The batch that is examined.
    pub(crate) draft: Draft,
    pub(crate) frames: Frames,
    pub(crate) submitted: Position,
    /// Positions up to here may have reached the kernel.
    pub(crate) written: Position,
    pub(crate) durable: Position,
    pub(super) writing: bool,
    pub(crate) poison: Option<String>,
    pub(crate) closed: bool,
    pub(crate) load: Load,
    /// What the state of all groups weighs.
    pub(crate) state: u64,
    /// Memory for the next frames.
    spare: Vec<Frame>,
    /// What the next frames find, as of the last one that was written; there may be more spares by now.
    pub(crate) outlook: Outlook,
    /// Threads that wait for any change.
    pub(super) paused: usize,
    /// Something waits for durability that no caller waits for.
    pub(super) unattended: bool,
    /// The reserve is to be filled.
    pub(super) upkeep: bool,
    /// The segment whose successors were asked for.
    pub(super) provided: SegmentId,
    /// What groups lack of what was acknowledged.
    pub(crate) blocked: Vec<Lost>,
    /// Positions up to here are under a mark of the high-water file.
    pub(super) marked: Position,
}

impl Front {
    pub(crate) fn new(groups: &ByGroup<Group>, position: Position, outlook: Outlook) -> Self {
        Self {
            groups: groups.iter().map(|(id, group)| (*id, Line::new(group.clone()))).collect(),
            draft: Draft::default(),
            frames: Frames::default(),
            submitted: position,
            written: position,
            durable: position,
            writing: false,
            poison: None,
            closed: false,
            load: Load::default(),
            state: groups.iter().map(|(_, group)| group.weight()).sum(),
            spare: Vec::new(),
            outlook,
            paused: 0,
            unattended: false,
            upkeep: false,
            provided: SegmentId(0),
            blocked: Vec::new(),
            marked: position,
        }
    }

    /// The state of every group, as submitted.
    pub(crate) fn states(&self) -> Groups {
        self.groups.ascending().map(|(id, line)| (id, line.state.clone())).collect()
    }

    /// What became of the stream up to a position, if it is settled.
    pub(crate) fn outcome(&self, position: Position) -> Option<Outcome> {
        if position <= self.durable {
            Some(Outcome::Durable)
        } else if self.poison.is_none() && !self.closed {
            None
        } else if position > self.written {
            Some(Outcome::NotDurable)
        } else if self.poison.is_some() || self.frames.flights.is_empty() {
            Some(Outcome::Unknown)
        } else {
            None
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.frames.flights.len()
    }

    /// What is not in the active segment yet.
    pub(crate) fn unwritten(&self) -> Content {
        self.frames.unwritten
    }

    /// Whether the first frame of the queue may be written now. Unless the host says when, one that is
    /// smaller than the one before it, or small at all, waits while that is synced: others will join it.
    pub(super) fn may_write(&self, syncs: usize, space: &Space, by_host: bool) -> bool {
        let Frames { queue, flights, .. } = &self.frames;
        let Some(Forming { frame: next, .. }) = queue.front().filter(|_| !self.writing) else { return false };
        let Some(before) = flights.back() else { return true };
        // What is written above the mark must fit a fresh segment, should a recovery write it again.
        let spans: u64 = flights.iter().map(|flight| flight.span).sum();
        let tables: u64 = flights.iter().map(|flight| flight.frame.content.tables()).sum();
        let spanned = spans + tables + before.frame.content.echo();
        flights.len() < syncs
            && space.spare(&next.content, spanned).is_some()
            && (by_host || next.content.bytes() >= before.frame.content.bytes().max(WORTH_A_SYNC))
    }

    /// Takes the batch that was examined into the queue; no frame that forms outgrows a fresh
    /// segment.
    pub(crate) fn accept(&mut self, space: &Space) {
        let Self { draft, frames: Frames { queue, unwritten, .. }, .. } = self;
        let Some(first) = draft.records.first() else { return draft.clear() };
        let (group, control) = (first.name.group, draft.entries == 0);
        self.submitted = Position(self.submitted.0 + draft.records.len() as u64);
        let content = draft.content();
        self.state = self.state.checked_add_signed(draft.growth).expect("no group weighs less than nothing");
        self.load.add(&Load { bytes: draft.bytes, entries: draft.entries });
        // The batch may have removed its first group.
        if let Some(line) = self.groups.get_mut(group) {
            line.share += draft.bytes;
        }
        if queue.back().is_none_or(|forming| !space.fits(&forming.frame.content.and(&content))) {
            let frame = self.spare.pop().unwrap_or_default();
            queue.push_back(Forming { frame, control: true });
        }
        *unwritten = unwritten.and(&content);
        let forming = queue.back_mut().expect("just seen to");
        forming.control &= control;
        forming.frame.take(draft, group, self.submitted);
        draft.clear();
    }

    /// The gate of the frame that holds a position, unless it is settled.
    pub(super) fn gate(&self, position: Position) -> Option<Arc<Gate>> {
        if self.outcome(position).is_some() {
            return None;
        }
        let holding = self.frames.iter().find(|frame| frame.last >= position);
        Some(holding.expect("what is not settled is queued or in flight").gate.clone())
    }

    /// Raises what is durable over the flights that are synced.
    pub(super) fn advance(&mut self) {
        let durable = self.durable;
        let rest = self.frames.flights.iter().skip_while(|flight| flight.frame.last <= durable);
        if let Some(flight) = rest.take_while(|flight| flight.synced).last() {
            self.durable = flight.frame.last;
        }
    }

    /// The frames that are settled and were not, in order. Forgets the flights that are durable, and what a
    /// closed store will never write.
    pub(super) fn take_settled(&mut self) -> SmallVec<[Settled; 1]> {
        let mut settled = SmallVec::new();
        let durable = |flight: &Flight, durable| flight.synced && flight.frame.last <= durable;
        while self.frames.flights.front().is_some_and(|flight| durable(flight, self.durable)) {
            let Flight { mut frame, .. } = self.frames.flights.pop_front().expect("just seen");
            self.forget(&mut frame);
            settled.push((frame, Outcome::Durable));
        }
        if self.poison.is_some() || self.closed {
            let outcomes: Vec<_> = self.frames.iter().map(|frame| self.outcome(frame.last)).collect();
            for (frame, outcome) in self.frames.iter_mut().zip(outcomes) {
                let Some(outcome) = outcome.filter(|_| frame.gate.outcome().is_none()) else { continue };
                let callbacks = std::mem::take(&mut frame.callbacks);
                settled.push((Frame { gate: frame.gate.clone(), callbacks, ..Frame::default() }, outcome));
            }
        }
        if self.closed {
            self.frames.queue.clear();
        }
        settled
    }

    /// Forgets what was kept for a frame that is durable.
    fn forget(&mut self, frame: &mut Frame) {
        for (group, Load { bytes, entries }) in frame.loads.drain(..) {
            self.load.bytes -= bytes;
            self.load.entries -= entries;
            if let Some(line) = self.groups.get_mut(group) {
                // The group may have been removed and created again.
                line.share = line.share.saturating_sub(bytes);
            }
        }
    }

    /// Keeps the memory of an empty frame for the next ones.
    pub(super) fn reuse(&mut self, frame: Frame) {
        if self.spare.len() < KEPT_FRAMES {
            self.spare.push(frame);
        }
    }

    /// Keeps a callback until its position is settled; gives it back with the outcome if it is.
    pub(super) fn call_back(
        &mut self,
        position: Position,
        callback: Callback,
    ) -> Option<(Callback, Outcome)> {
        match self.outcome(position) {
            Some(outcome) => Some((callback, outcome)),
            None => {
                self.frames.holding(position).call_back(position, callback);
                None
            }
        }
    }

    pub(crate) fn poison(&mut self, cause: &str) {
        if self.poison.is_none() {
            tracing::error!(cause, "poisoned");
            metrics::counter!("seawall_poisoned").increment(1);
            self.poison = Some(cause.to_owned());
        }
    }
}
