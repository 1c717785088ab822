//! The submitted state, the queue and what is in flight: everything under the front's lock.
//!
//! I own the order of the stream and what became of it. (C7) What is submitted joins the last frame that
//! forms, or begins one. (C8) Outcomes are settled in position order. I do not know locks, files or threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::Callback;
use crate::frame;
use crate::log::Outlook;
use crate::record::Record;
use crate::report::Lost;
use crate::state::Groups;
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

/// A frame that forms.
pub(crate) struct Forming {
    pub(super) last: Position,
    pub(super) records: Vec<Record>,
    /// An upper bound of the bytes that it takes.
    pub(crate) bound: u64,
    pub(super) control: bool,
    pub(super) gate: Arc<Gate>,
}

/// A frame that was taken to be written and is not acknowledged.
pub(super) struct Flight {
    pub(super) last: Position,
    /// The bytes that it takes, of which [`Forming::bound`] is an upper bound.
    pub(super) span: u64,
    pub(super) bound: u64,
    pub(super) synced: bool,
    /// The host holds it, and may never sync it.
    pub(super) by_host: bool,
    pub(super) records: Vec<Record>,
    pub(super) gate: Arc<Gate>,
}

/// What is in flight, for admission.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// Bytes of a frame that gains more from a sync at once than from the company of the next batches.
const WORTH_A_SYNC: u64 = 64 << 10;

/// Frames whose memory is kept for the next ones: of one that forms, one that is written, one that is synced.
const KEPT_FRAMES: usize = 3;

/// The submitted state: what callers see at once.
pub(crate) struct Front {
    pub(crate) groups: Lines,
    /// The batch that is examined.
    pub(crate) draft: Draft,
    pub(crate) queue: VecDeque<Forming>,
    pub(crate) submitted: Position,
    /// Positions up to here may have reached the kernel.
    pub(crate) written: Position,
    pub(crate) durable: Position,
    pub(super) flights: VecDeque<Flight>,
    pub(super) writing: bool,
    pub(crate) poison: Option<String>,
    pub(crate) closed: bool,
    pub(super) callbacks: VecDeque<(Position, Callback)>,
    pub(crate) load: Load,
    loads: VecDeque<(Position, GroupId, u64, u64)>,
    /// Memory for the records of the next frames.
    spare: Vec<Vec<Record>>,
    /// What the next frames find, as of the last one that was written; there may be more spares by now.
    pub(crate) outlook: Option<Outlook>,
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
    pub(crate) fn new(groups: &Groups, position: Position) -> Self {
        Self {
            groups: groups.iter().map(|(id, group)| (*id, Line::new(group.clone()))).collect(),
            draft: Draft::default(),
            queue: VecDeque::new(),
            submitted: position,
            written: position,
            durable: position,
            flights: VecDeque::new(),
            writing: false,
            poison: None,
            closed: false,
            callbacks: VecDeque::new(),
            load: Load::default(),
            loads: VecDeque::new(),
            spare: Vec::new(),
            outlook: None,
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
        } else if self.poison.is_some() || self.flights.is_empty() {
            Some(Outcome::Unknown)
        } else {
            None
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Upper bound of the bytes that are not in the active segment yet.
    pub(crate) fn unwritten(&self) -> u64 {
        let writing = self.flights.back().filter(|_| self.writing).map_or(0, |flight| flight.bound);
        2 * (writing + self.queue.iter().map(|forming| forming.bound).sum::<u64>())
    }

    /// Whether the first frame of the queue may be written now. Unless the host says when, one that is
    /// smaller than the one before it, or small at all, waits while that is synced: others will join it.
    pub(super) fn may_write(&self, syncs: usize, limit: u64, by_host: bool) -> bool {
        let Some(next) = self.queue.front().filter(|_| !self.writing) else { return false };
        let Some(before) = self.flights.back() else { return true };
        // What is written above the mark must fit a fresh segment, should a recovery write it again.
        let above: u64 = self.flights.iter().map(|flight| flight.span).sum();
        self.flights.len() < syncs
            && above + 2 * next.bound <= 2 * limit
            && (by_host || next.bound >= before.bound.max(WORTH_A_SYNC))
    }

    /// Takes the batch that was examined into the queue; no frame that forms grows beyond `limit`.
    pub(crate) fn accept(&mut self, limit: u64) {
        let Draft { records, entries, bytes, .. } = &mut self.draft;
        let Some(first) = records.first() else { return self.draft.clear() };
        let (group, control) = (first.name.group, *entries == 0);
        self.submitted = Position(self.submitted.0 + records.len() as u64);
        let last = self.submitted;
        let bound = frame::bound(records.len(), usize::try_from(*bytes).expect("in memory"), 0, 1, false);
        self.load.bytes += *bytes;
        self.load.entries += *entries;
        self.loads.push_back((last, group, *bytes, *entries));
        // The batch may have removed its first group.
        if let Some(line) = self.groups.get_mut(group) {
            line.share += *bytes;
        }
        match self.queue.back_mut().filter(|forming| forming.bound + bound <= limit) {
            Some(forming) => {
                forming.records.append(records);
                forming.bound += bound;
                forming.control &= control;
                forming.last = last;
            }
            None => {
                let mut roomy = self.spare.pop().unwrap_or_default();
                roomy.append(records);
                self.queue.push_back(Forming { last, records: roomy, bound, control, gate: Arc::default() });
            }
        }
        self.draft.clear();
    }

    /// The gate of the frame that holds a position, unless it is settled.
    pub(super) fn gate(&self, position: Position) -> Option<Arc<Gate>> {
        if self.outcome(position).is_some() {
            return None;
        }
        let gate = if position > self.written {
            self.queue.iter().find(|forming| forming.last >= position).map(|f| &f.gate)
        } else {
            self.flights.iter().find(|flight| flight.last >= position).map(|f| &f.gate)
        };
        Some(gate.expect("what is not settled is queued or in flight").clone())
    }

    /// Raises what is durable over the flights that are synced, and forgets what was kept for them.
    pub(super) fn advance(&mut self) {
        while let Some(flight) = self.flights.iter().find(|f| f.last > self.durable).filter(|f| f.synced) {
            self.durable = flight.last;
        }
        while self.loads.front().is_some_and(|(last, ..)| *last <= self.durable) {
            let (_, group, bytes, entries) = self.loads.pop_front().expect("just seen");
            self.load.bytes -= bytes;
            self.load.entries -= entries;
            if let Some(line) = self.groups.get_mut(group) {
                // The group may have been removed and created again.
                line.share = line.share.saturating_sub(bytes);
            }
        }
    }

    /// The gates whose frames are settled and were not, in order. Drops the flights that are durable, and
    /// what a closed store will never write.
    pub(super) fn take_gates(&mut self) -> Vec<(Arc<Gate>, Outcome)> {
        let mut gates = Vec::new();
        while self.flights.front().is_some_and(|f| f.synced && f.last <= self.durable) {
            let flight = self.flights.pop_front().expect("just seen");
            gates.push((flight.gate, Outcome::Durable));
            self.forget(&flight.records);
            if self.spare.len() < KEPT_FRAMES {
                let mut records = flight.records;
                records.clear();
                self.spare.push(records);
            }
        }
        if self.poison.is_some() || self.closed {
            let flights = self.flights.iter().map(|f| (f.last, &f.gate));
            let held = flights.chain(self.queue.iter().map(|f| (f.last, &f.gate)));
            let settled = held.filter_map(|(last, gate)| Some((gate.clone(), self.outcome(last)?)));
            gates.extend(settled.filter(|(gate, _)| gate.outcome().is_none()));
        }
        if self.closed {
            self.queue.clear();
        }
        gates
    }

    /// Forgets pending entries that are durable.
    fn forget(&mut self, records: &[Record]) {
        for run in records.chunk_by(|a, b| a.name.group == b.name.group) {
            if let Some(line) = self.groups.get_mut(run[0].name.group) {
                line.settle(self.durable);
            }
        }
    }

    /// Takes the callbacks that are settled, in position order.
    pub(super) fn take_callbacks(&mut self) -> Vec<(Callback, Outcome)> {
        let mut ready = Vec::new();
        while let Some(outcome) = self.callbacks.front().and_then(|(position, _)| self.outcome(*position)) {
            ready.extend(self.callbacks.pop_front().map(|(_, callback)| (callback, outcome)));
        }
        ready
    }

    /// Keeps a callback until its position is settled.
    pub(super) fn call_back(&mut self, position: Position, callback: Callback) {
        if self.callbacks.back().is_none_or(|(last, _)| *last <= position) {
            return self.callbacks.push_back((position, callback));
        }
        let at = self.callbacks.partition_point(|(p, _)| *p <= position);
        self.callbacks.insert(at, (position, callback));
    }

    pub(crate) fn poison(&mut self, cause: &str) {
        if self.poison.is_none() {
            tracing::error!(cause, "poisoned");
            metrics::counter!("seawall_poisoned").increment(1);
            self.poison = Some(cause.to_owned());
        }
    }
}
