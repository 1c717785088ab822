//! Several flushes in flight, synced and acknowledged in any order.
//!
//! I own the order in which a host drives its flushes, as a salt says it. What a crash then leaves is
//! explored like that of any other step.

use seawall::Synced;

use super::Host;
use crate::engine::oracle::{Act, What};
use crate::engine::planted::Disk;

impl<V: Disk> Host<V> {
    /// Two flushes at once; which of them is synced and acknowledged first, the salt says.
    pub(in crate::engine) fn overlap(&mut self, salt: u8) {
        let mut flushes = Vec::new();
        let mut early = Vec::new();
        let mut before = None;
        for n in 0..2 {
            let mut acts = self.append_acts(salt.wrapping_add(n));
            if n == 1 && salt & 64 != 0 {
                // A batch without payload, in the group of the first.
                let id = before.take().expect("the first batch was taken");
                acts = vec![Act::new(id, What::Commit(self.fold.live().groups[&id].last.index))];
            }
            before = Some(acts[0].group());
            if !self.issue(acts) {
                break;
            }
            self.call_back();
            match self.engine().begin_flush() {
                // The first is synced before the second is written, and heard of after.
                Ok(Some(flush)) if n == 0 && salt & 32 != 0 => early.push(flush.sync()),
                Ok(flush) => flushes.extend(flush),
                Err(e) => self.surprise("begin_flush", &e),
            }
            self.poll();
        }
        if salt & 12 == 12 {
            // Nothing that is under way may be marked as durable.
            self.maintain(0);
        }
        self.acknowledge(&mut early);
        if salt & 8 != 0 {
            let acts = self.append_acts(salt);
            self.issue(acts);
        }
        if salt & 2 == 0 {
            flushes.reverse();
        }
        let mut synced = Vec::new();
        let mut third = Vec::new();
        let mut pending = flushes.len();
        for flush in flushes {
            pending -= 1;
            synced.push(flush.sync());
            self.poll();
            if salt & 4 != 0 {
                let (events, only) = (self.events(), pending > 0 && salt & 34 == 0);
                self.acknowledge(&mut synced);
                // The third is written while the first is not synced.
                if pending > 0 && salt & 128 != 0 {
                    match self.engine().begin_flush() {
                        Ok(flush) => third.extend(flush),
                        Err(e) => self.surprise("begin_flush", &e),
                    }
                }
                // L9: with both written and only the later one synced, nothing is settled.
                if only && !self.poisoned && self.events() > events {
                    self.fault("P16", "acknowledged before an earlier flush was synced".into());
                }
            }
        }
        synced.extend(third.into_iter().map(|flush| flush.sync()));
        if salt & 16 != 0 {
            synced.reverse();
        }
        self.acknowledge(&mut synced);
        self.settle();
    }

    pub(super) fn acknowledge(&mut self, synced: &mut Vec<Synced<V>>) {
        for one in synced.drain(..) {
            let result = one.acknowledge();
            self.poll();
            if let Err(e) = result {
                self.surprise("acknowledge", &e);
            }
        }
    }
}
