//! Steps that inject an error and look at how the living handle takes it.
//!
//! I own which call fails, and what must hold right after. What a crash then leaves is explored like
//! that of any other step. I do not own how a disk fails (see the engine's simulated one).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use seawall::Error;
use seawall::types::Vote;
use seawall::vfs::mem::{Call, CallKind, Fault, SyncFailure};
use seawall::vfs::{Access, File, Vfs};

use super::execute::Host;
use super::oracle::{Act, Event, What};
use super::planted::Disk;
use super::step::{GROUPS, Kind, Step, payload};

const EINTR: i32 = 4;
const EIO: i32 = 5;
const EMFILE: i32 = 24;
/// EIO, ENOSPC, EDQUOT, EINTR, EROFS, EMFILE, ENOMEM; the last stands for short reads and writes.
const ERRORS: [Option<i32>; 8] =
    [Some(EIO), Some(28), Some(122), Some(EINTR), Some(30), Some(EMFILE), Some(12), None];
/// Calls that need a descriptor.
const OPENING: [CallKind; 3] = [CallKind::Create, CallKind::Open, CallKind::List];
/// More blocks of 512 bytes than any run takes.
const MANY_BLOCKS: u64 = 1 << 30;

/// The ways in which a sync fails, by the low bits of a step's salt.
const FAILURES: [SyncFailure; 4] =
    [SyncFailure::KeptClean, SyncFailure::Reverted, SyncFailure::Late, SyncFailure::Partial];

impl<V: Disk> Host<V> {
    /// Runs a step that injects an error.
    pub(super) fn inject(&mut self, step: Step) {
        self.faulty = true;
        match step.kind {
            Kind::FailSync => self.fail_sync(step.salt),
            Kind::Interrupt => self.disturb_write(step.salt, Fault::Errno(EINTR)),
            Kind::ShortWrite => self.disturb_write(step.salt, Fault::ShortWrite(700)),
            Kind::NoSpace => self.no_space(step.salt),
            Kind::ReadError => self.read_error(step.salt),
            Kind::Errno => self.errno = step.salt,
            Kind::SecondErrno => self.second = Some(step.salt),
            Kind::Fail => self.fail(step.salt),
            other => unreachable!("{other:?} injects nothing"),
        }
    }

    /// Lets the `n`-th call of some kinds from now on fail, once.
    fn arm(&self, n: u64, kinds: &'static [CallKind], fault: Fault) {
        let seen = AtomicU64::new(0);
        let faults = move |call: &Call| {
            (kinds.contains(&call.kind) && seen.fetch_add(1, Ordering::Relaxed) == n).then_some(fault)
        };
        self.disk.mem().set_faults(Some(Arc::new(faults)));
    }

    pub(super) fn disarm(&self) {
        self.disk.mem().set_faults(None);
    }

    /// What runs while an error is armed.
    fn inner(&mut self, choice: u8) {
        let step = |kind| Step::new(kind, choice);
        match choice % 8 {
            0 => self.overlap(16),
            1 => self.overlap(choice),
            2 => self.rotate(0),
            3 => self.planned(Step::new(Kind::Publish, 7)),
            4 => self.planned(step(Kind::Overwrite)),
            5 => self.planned(step(Kind::AppendLarge)),
            6 => self.planned(step(Kind::Batch)),
            _ => self.close(0),
        }
    }

    /// One sync fails. The handle may then say nothing durable, and the next open settles.
    fn fail_sync(&mut self, salt: u8) {
        let behaviour = FAILURES[usize::from(salt & 3)];
        if behaviour == SyncFailure::Late {
            self.event(Event::Lied);
        }
        let kinds = &[CallKind::SyncData, CallKind::SyncAll, CallKind::SyncDir];
        self.arm(u64::from(salt >> 2 & 7), kinds, Fault::FailSync(behaviour));
        self.inner(salt >> 5);
        if self.engine.is_some() && self.poisoned {
            self.go_on();
        }
        self.disarm();
        if self.engine.is_none() || self.poisoned {
            self.reopen(false);
        }
        if behaviour == SyncFailure::Late {
            // What came back is judged; what a host would do next depends on what it lost.
            self.engine = None;
        }
    }

    /// A handle that has failed must refuse.
    fn go_on(&mut self) {
        for _ in 0..2 {
            let term = 1 + self.live_term();
            let vote = Vote::new(term, 0, payload(term, 6));
            self.batch(vec![Act::new(GROUPS[1], What::Vote(vote))]);
        }
    }

    /// One write is interrupted or short: nothing may come of it.
    fn disturb_write(&mut self, salt: u8, fault: Fault) {
        self.arm(u64::from(salt & 3), &[CallKind::Write], fault);
        self.inner(2 + (salt >> 2) % 6);
        self.disarm();
        if self.poisoned || self.engine.is_none() {
            self.fault("P12", format!("{fault:?} on a write is no failure, and the handle failed"));
            self.reopen(false);
        }
    }

    /// The disk is full: entries are refused and nothing changes; a vote and a restart still work.
    fn no_space(&mut self, salt: u8) {
        if salt & 0x80 != 0 {
            self.copy_sparsely();
        }
        // The reserve is filled ahead of need; what is tested is that it lasts.
        self.maintain(0);
        let mem = self.disk.mem().clone();
        mem.set_capacity(Some(MANY_BLOCKS));
        let used = MANY_BLOCKS - mem.available_space().expect("no fault is armed") / 512;
        mem.set_capacity(Some(used + u64::from(salt)));
        for n in 0..6 {
            let kind = if n % 3 == 2 { Kind::Publish } else { Kind::AppendLarge };
            self.planned(Step::new(kind, salt.wrapping_add(n * 2)));
            if self.poisoned {
                break;
            }
        }
        if salt & 4 != 0 && !self.poisoned {
            self.rotate_or_refuse();
        }
        // Votes go on for ever, also between refused entries and after any number of restarts.
        for n in 0..3 {
            self.votes_on_full_disk();
            self.entry_on_full_disk(n);
            self.votes_on_full_disk();
            self.reopen(false);
        }
        mem.set_capacity(None);
        if self.engine.is_none() {
            self.reopen(false);
        }
    }

    /// More votes than the active segment takes: the reserve is needed.
    fn votes_on_full_disk(&mut self) {
        if self.poisoned || self.engine.is_none() {
            return;
        }
        for _ in 0..4 {
            let term = 1 + self.live_term();
            let vote = Vote::new(term, 0, payload(term, 6));
            if !self.batch(vec![Act::new(GROUPS[1], What::Vote(vote))]) {
                return self.fault("P17", "a vote was refused on a full disk".into());
            }
        }
    }

    /// An entry is taken or refused; taking it must not use up what the votes need.
    fn entry_on_full_disk(&mut self, n: u8) {
        if !self.poisoned && self.engine.is_some() {
            self.planned(Step::new(Kind::AppendLarge, n));
        }
    }

    /// Appends until the disk is full.
    fn rotate_or_refuse(&mut self) {
        for n in 0..16 {
            let before = self.events();
            self.planned(Step::new(Kind::AppendLarge, 4 + n % 2));
            if self.poisoned || self.refused_since(before) {
                return;
            }
        }
    }

    /// A read fails during open: refused with that error or unharmed, and the next open is exact. Nothing
    /// is lost, so nothing may be called lost.
    fn read_error(&mut self, salt: u8) {
        self.close_quietly();
        self.arm(u64::from(salt & 63), &[CallKind::Read, CallKind::List], Fault::Errno(EIO));
        self.open_twice();
    }

    /// Opens with an error armed; without it if that was refused. Nothing is lost, so nothing may be
    /// called lost.
    fn open_twice(&mut self) {
        let first = self.try_open();
        self.disarm();
        let alarm = match &first {
            Err(e @ Error::Corrupt { .. }) => Some(e.to_string()),
            Ok((_, report)) if report.is_alarm() => Some(report.to_string()),
            _ => None,
        };
        if let Some(alarm) = alarm {
            self.fault("P12", format!("a call failed, and open said {alarm}"));
        }
        match first {
            Ok((engine, report)) => self.opened(engine, &report),
            Err(_) => self.open(),
        }
    }

    /// One call fails, of whatever kind, or that one and all after it. The next open is exact.
    fn fail(&mut self, salt: u8) {
        let error = ERRORS[usize::from(self.errno & 7)];
        let sticky = self.errno & 8 != 0 && error != Some(EINTR) && error.is_some();
        let nth = u64::from(self.errno >> 4) * 32 + u64::from(salt >> 3);
        let second = self.second.take().map(|s| (ERRORS[usize::from(s & 7)], nth + 1 + u64::from(s >> 3)));
        let seen = [AtomicU64::new(0), AtomicU64::new(0)];
        let no_descriptor = error == Some(EMFILE) && second.is_none_or(|(error, _)| error == Some(EMFILE));
        let strike = move |call: &Call, error: Option<i32>, seen: &AtomicU64, hit: &dyn Fn(u64) -> bool| {
            let fault = match (error, call.kind) {
                (Some(EMFILE), kind) if !OPENING.contains(&kind) => return None,
                (Some(errno), _) => Fault::Errno(errno),
                (None, CallKind::Write) => Fault::ShortWrite(100),
                (None, CallKind::Read) => Fault::ShortRead(100),
                _ => return None,
            };
            hit(seen.fetch_add(1, Ordering::Relaxed)).then_some(fault)
        };
        let faults = move |call: &Call| {
            let first = strike(call, error, &seen[0], &|n| n == nth || sticky && n > nth);
            let second = second.and_then(|(error, at)| strike(call, error, &seen[1], &|n| n == at));
            first.or(second)
        };
        self.disk.mem().set_faults(Some(Arc::new(faults)));
        match salt & 7 {
            0 => self.overlap(16),
            1 => {
                self.close_quietly();
                self.open_twice();
            }
            2 => self.rotate(0),
            3 => self.planned(Step::new(Kind::Publish, 7)),
            4 => self.planned(Step::new(Kind::CompactOwned, 3)),
            5 => self.maintain(1),
            6 => self.planned(Step::new(Kind::Install, 1)),
            _ => self.close(0),
        }
        if self.engine.is_some() && self.poisoned {
            self.go_on();
            if no_descriptor {
                self.fault("P17", "a call found no descriptor free, and the handle failed".into());
            }
        }
        self.disarm();
        if self.engine.is_none() || self.poisoned {
            self.reopen(false);
        }
    }

    /// Someone copies the store and leaves out what is zero, or all that nobody reads: prepared segments are holes.
    fn copy_sparsely(&mut self) {
        self.close_quietly();
        let mem = self.disk.mem().clone();
        for name in mem.list("").expect("no fault is armed").iter().filter(|name| name.starts_with("spare-"))
        {
            let file = mem.open(name, Access::ReadWrite).expect("it is there");
            let len = file.len().expect("it is open");
            let copied = file.set_len(0).and_then(|()| file.set_len(len)).and_then(|()| file.sync_all());
            copied.expect("no fault is armed");
        }
        self.open();
    }
}
