//! Restarts of the running engine: a dropped handle, a close, an open.
//!
//! I own what a run does between two handles, and what the model says of each. I do not know crashes
//! (see the core): here the disk keeps everything.

use std::io::Write;

use seawall::types::Epoch;
use seawall::{Engine, Error, RecoveryReport};

use super::{Host, SEGMENT_BYTES, open_options};
use crate::engine::judge::difference;
use crate::engine::observe::observe;
use crate::engine::oracle::Event;
use crate::engine::planted::Disk;
use crate::engine::step::{GROUPS, content};

/// How often a loop of restarts closes and opens again.
const RESTARTS: usize = 8;

impl<V: Disk> Host<V> {
    /// Drops the handle with nothing queued.
    pub(in crate::engine) fn close_quietly(&mut self) {
        self.engine = None;
        self.poll();
    }

    /// A restart, perhaps in the middle of a snapshot.
    pub(in crate::engine) fn restart(&mut self, salt: u8) {
        if salt & 2 != 0 {
            let id = self.fold.live().groups[&GROUPS[1]].last;
            let written = self.engine().snapshot_writer(GROUPS[1], id, b"cut short").map(|mut writer| {
                let written = writer.write_all(&content(0, 1500));
                // As a killed process leaves it: nothing is cleaned up.
                std::mem::forget(writer);
                written
            });
            if !matches!(written, Ok(Ok(()))) {
                self.fault("P12", format!("a snapshot could not be written: {written:?}"));
            }
        }
        self.reopen(salt & 1 == 1);
    }

    /// Drops the handle, perhaps with a batch queued, and opens again.
    pub(in crate::engine) fn reopen(&mut self, queued: bool) {
        if queued && !self.poisoned {
            let acts = self.append_acts(1);
            self.issue(acts);
        }
        self.engine = None;
        self.poll();
        if !self.tickets.is_empty() || self.uncalled > 0 {
            self.fault("P16", "a dropped handle left a ticket without an answer".into());
        }
        self.open();
    }

    /// Closes with a batch queued, and opens again.
    pub(in crate::engine) fn close(&mut self, salt: u8) {
        if !self.poisoned && salt & 1 == 0 {
            let acts = self.append_acts(salt);
            self.issue(acts);
        }
        self.event(Event::Closing);
        let closed = self.engine.take().expect("a handle is open").close();
        self.poll();
        match closed {
            Ok(()) if self.tickets.is_empty() && self.uncalled == 0 => self.event(Event::Closed),
            Ok(()) => self.fault("P1", "close succeeded and a batch has no outcome".into()),
            Err(e) => self.surprise("close", &e),
        }
        self.disarm();
        self.open();
    }

    /// Closes and opens again and again, with an entry each: what each takes is what it wrote, and no segment.
    pub(in crate::engine) fn restarts(&mut self) {
        let taken = |host: &Self| host.disk.mem().image().files.values().map(|file| file.len).sum::<u64>();
        let mut after = Vec::new();
        for _ in 0..RESTARTS {
            if self.poisoned || self.engine.is_none() {
                return;
            }
            self.close(0);
            after.push(taken(self));
        }
        // The first few take what was prepared beyond the reserve.
        let half = RESTARTS / 2;
        let grown = after[RESTARTS - 1].saturating_sub(after[half - 1]);
        if !self.poisoned && grown > half as u64 * SEGMENT_BYTES * 3 / 4 {
            self.fault("P11", format!("{half} restarts with an entry each took {grown} bytes: {after:?}"));
        }
    }

    /// Opens, and settles what is unknown by what is there.
    pub(in crate::engine) fn open(&mut self) {
        self.tickets.clear();
        self.called.lock().expect("no panic under the lock").clear();
        self.uncalled = 0;
        match self.try_open() {
            Ok((engine, report)) => self.opened(engine, &report),
            // After a sync that lied the error may come now, and a refusal is an answer.
            Err(_) if self.fold.moment().lied => {}
            Err(e) => self.fault("P12", format!("open refused: {e}")),
        }
    }

    pub(in crate::engine) fn try_open(&mut self) -> Result<(Engine<V>, RecoveryReport), Error> {
        Engine::open_in(self.disk.clone(), open_options())
    }

    pub(in crate::engine) fn opened(&mut self, engine: Engine<V>, report: &RecoveryReport) {
        let moment = self.fold.moment();
        if moment.lied {
            self.poisoned = false;
            self.engine = Some(engine);
            return;
        }
        let seen = match observe(&engine) {
            Ok(seen) => seen,
            Err(e) => return self.fault("P12", format!("after an open, {e}")),
        };
        if report.is_alarm() {
            self.fault("P12", format!("open raised an alarm without a media fault: {report}"));
        }
        if report.epoch <= moment.epoch {
            self.fault("P20", format!("epoch {} after epoch {}", report.epoch, moment.epoch));
        }
        let Some(n) = moment.allowed.iter().position(|s| s.admits(&seen)) else {
            let text = difference(&moment.allowed, &seen);
            return self.fault("P1", format!("reopened without a power loss, and {text}"));
        };
        self.poisoned = false;
        self.engine = Some(engine);
        self.event(Event::Opened { kept: moment.unknown[..n].to_vec(), epoch: Epoch(report.epoch.0) });
    }
}
