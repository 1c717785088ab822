//! What is done for the store when nobody waits for it.
//!
//! I own the loops of two threads. The driver commits what no caller waits for, and marks what is durable once
//! nothing happens; the other fills the reserve and removes what is needed no more. (C9) Nothing here holds the
//! front for the length of a write or a sync. (C10) No batch waits for the second thread.

use std::sync::{Arc, MutexGuard};

use super::{Front, Shared};
use crate::error::{Error, Result};
use crate::highwater::{self, HighWater};
use crate::log::Outlook;
use crate::options::{Driver, RESERVED_SEGMENTS, SEGMENTS_AHEAD};
use crate::planted::Bug;
use crate::snapshot::{self, collect};
use crate::sync::unwound;
use crate::types::{Digest, Position, SegmentId};
use crate::vfs::Vfs;

impl<V: Vfs> Shared<V> {
    /// Recycles what is dead and durable, drops retired snapshots, then fills the reserve.
    pub(crate) fn maintain(&self) -> Result<()> {
        self.provide(RESERVED_SEGMENTS)
    }

    /// As [`Shared::maintain`], until so many segments are prepared.
    fn provide(&self, most: usize) -> Result<()> {
        if let Some(cause) = &self.front().poison {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        let provided = self.reclaim().and_then(|()| self.prepare(most)).and_then(|()| self.mark_idle());
        provided.inspect_err(|e| self.poison_on(e))
    }

    /// Prepares segments, and opens the one that is needed next.
    fn prepare(&self, most: usize) -> Result<()> {
        while !self.segments.add_spare(most)? {}
        self.segments.open_ahead(1)
    }

    /// Asks for the successors of a segment when half of it is written.
    pub(super) fn look_ahead(&self, front: &mut Front, outlook: &Outlook) {
        let due = outlook.tail > outlook.size / 2 && outlook.spares < RESERVED_SEGMENTS + SEGMENTS_AHEAD;
        if due && front.provided != outlook.segment && self.options.driver == Driver::Threads {
            (front.provided, front.upkeep) = (outlook.segment, true);
            self.upkeep.notify_one();
        }
    }

    /// If nothing is under way, writes a mark of all that is durable into the high-water file: after an
    /// unclean stop nothing below it is then in doubt. No append waits for it, unless it has to rotate.
    fn mark_idle(&self) -> Result<()> {
        let front = self.front();
        let idle = front.frames.queue.is_empty() && !front.writing && front.frames.flights.is_empty();
        if front.poison.is_some() || !(idle || V::planted(Bug::IdleMarkTooEarly)) {
            return Ok(());
        }
        // Nobody writes: all that was written stands in the segment that the catalog says.
        let high = HighWater {
            epoch: self.epoch,
            segment: self.segments.catalog().active,
            position: front.written,
            evidence: self.journal.newest(),
        };
        drop(front);
        self.high.raise(&high).map_err(Error::io("write", highwater::NAME))?;
        let mut front = self.front();
        front.marked = front.marked.max(high.position);
        Ok(())
    }

    /// Recycles what is dead and durable, and drops retired snapshots.
    fn reclaim(&self) -> Result<()> {
        self.recycle()?;
        self.drop_retired()
    }

    /// Recycles the segments that are dead and durable.
    pub(crate) fn recycle(&self) -> Result<()> {
        let durable = self.front().durable;
        // A panic in the middle leaves names and what we know of them apart.
        let recycled = unwound(|| self.segments.recycle(durable));
        recycled.unwrap_or_else(|e| Err(Error::io("recycle", "segments")(e)))
    }

    /// Removes the files of retired snapshots. No append waits for it.
    pub(crate) fn drop_retired(&self) -> Result<()> {
        let durable = self.front().durable;
        while let Some(digest) = self.next_retired(durable) {
            collect::retire(&self.segments.vfs, &self.snapshots, digest)
                .map_err(Error::io("drop", snapshot::DIR))?;
        }
        Ok(())
    }

    /// Takes an owned snapshot off the list of those that no pointer names any more, durably.
    fn next_retired(&self, durable: Position) -> Option<Digest> {
        let retired = &mut self.segments.catalog().retired;
        let any = V::planted(Bug::OldSnapshotDroppedEarly);
        retired.first().filter(|(at, _)| *at <= durable || any)?;
        Some(retired.remove(0).1)
    }

    /// Lets a thread do what [`Shared::maintain`] does; `false` if there is none.
    pub(crate) fn ask_for_upkeep(&self) -> bool {
        let background = self.options.driver == Driver::Threads;
        if background {
            self.front().upkeep = true;
            self.upkeep.notify_one();
        }
        background
    }

    /// Fills the reserve in the background, if there is one.
    pub(crate) fn attend_reserve(self: &Arc<Self>) -> Result<()> {
        if !self.ask_for_upkeep() {
            return Ok(());
        }
        self.start_driver().map_err(Error::io("start", "the background threads"))
    }

    pub(super) fn drive(self: Arc<Self>) {
        let mut front = self.front();
        while !front.closed {
            let alive = front.poison.is_none();
            if alive && front.unattended {
                let last = front.submitted;
                drop(front);
                self.wait(last);
                front = self.front();
            } else {
                front = self.rest(front);
            }
        }
    }

    /// As [`Shared::drive`], for what takes long and nobody waits for.
    pub(super) fn keep_up(self: Arc<Self>) {
        let mut front = self.front();
        while !front.closed {
            if front.poison.is_some() || !front.upkeep {
                front = self.unbroken(self.upkeep.wait(front));
                continue;
            }
            front.upkeep = false;
            let ahead = if front.provided > SegmentId(0) { SEGMENTS_AHEAD } else { 0 };
            drop(front);
            match unwound(|| self.provide(RESERVED_SEGMENTS + ahead)) {
                Ok(Ok(())) => {}
                Ok(Err(e)) => tracing::warn!(%e, "the reserve is not full"),
                Err(e) => self.poison(&e.to_string()),
            }
            front = self.front();
        }
    }

    /// Waits for something to do; marks what is durable when nothing happens for as long as the host says.
    fn rest<'a>(&'a self, front: MutexGuard<'a, Front>) -> MutexGuard<'a, Front> {
        let unmarked = front.poison.is_none() && front.durable > front.marked;
        let Some(idle) = self.options.mark_when_idle.filter(|_| unmarked) else {
            return self.unbroken(self.work.wait(front));
        };
        let seen = (front.submitted, front.durable);
        let Ok((front, waited)) = self.work.wait_timeout(front, idle) else { return self.front() };
        if !waited.timed_out() || seen != (front.submitted, front.durable) {
            return front;
        }
        drop(front);
        match unwound(|| self.mark_idle()) {
            Ok(Ok(())) => {}
            Ok(Err(e)) => self.poison_on(&e),
            Err(e) => self.poison(&e.to_string()),
        }
        self.front()
    }
}
