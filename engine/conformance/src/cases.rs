//! The cases that the suites of the frameworks do not have.
//!
//! I own what each case does and what it takes for a fault. A case makes a store in a new place, does
//! something that was acknowledged, lets the power go, opens what is left and asks for what was
//! acknowledged. I know stores by their trait alone.

use std::io;
use std::sync::Arc;

use seawall::vfs::mem::{CallKind, Fault, SyncFailure};

use crate::history::{History, PATIENCE, Step, append, entries, entry, text, watched};
use crate::outcome::{Miss, Tally, Verdict, caught};
use crate::place::Place;
use crate::store::{Entry, Id, Store, Vote};

/// How a store under test is made.
pub trait Subject: Sync {
    /// An empty place of the kind that the store lives in.
    ///
    /// # Errors
    /// Of making it.
    fn place(&self) -> io::Result<Place>;

    /// Opens the store in a place; makes it if the place is empty.
    ///
    /// # Errors
    /// As the store says.
    fn open(&self, place: &Place) -> io::Result<Box<dyn Store>>;
}

/// A case whose fault is a crash: what the store does until then.
pub(crate) struct Crash {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its steps.
    pub(crate) history: fn() -> History,
    /// Whether it is about snapshots alone.
    pub(crate) snapshots: bool,
}

/// The cases whose fault is a crash, after each step.
pub(crate) const CRASHES: &[Crash] = &[
    Crash { name: "acknowledged_from_cache", history: acknowledged_from_cache, snapshots: false },
    Crash { name: "vote_lost", history: vote_lost, snapshots: false },
    Crash { name: "truncation_resurrected", history: truncation_resurrected, snapshots: false },
    Crash { name: "history_reordered", history: history_reordered, snapshots: false },
    Crash { name: "purge_forgotten", history: purge_forgotten, snapshots: false },
    Crash { name: "purge_before_snapshot", history: purge_before_snapshot, snapshots: true },
];

type Case = (&'static str, fn(&dyn Subject) -> Verdict);

/// The other cases that run in any place.
const CASES: &[Case] = &[
    ("readable_before_durable", readable_before_durable),
    ("callback_dropped_with_the_store", callback_dropped_with_the_store),
    ("hole_or_short_read_after_damage", damage),
];

/// The cases that need a disk that fails on request.
const DISK_CASES: &[Case] = &[
    ("error_swallowed", error_swallowed),
    ("callback_dropped_after_an_error", callback_dropped_after_an_error),
    ("restart_on_a_full_disk", restart_on_a_full_disk),
];

/// Runs the cases over a store in its kind of place.
pub fn run(subject: &dyn Subject) -> Tally {
    let mut tally = Tally::default();
    let simulated = matches!(subject.place(), Ok(Place::Simulated(_)));
    for case in CRASHES {
        tally.run(case.name, || crash(subject, case));
    }
    for (name, case) in CASES {
        tally.run(*name, || case(subject));
    }
    for (name, case) in DISK_CASES {
        let real = || Err(Miss::NotMeasured("a real disk does not fail on request".into()));
        tally.run(*name, || if simulated { case(subject) } else { real() });
    }
    tally
}

/// Takes each step and after it, in copies, everything that may be left.
fn crash(subject: &dyn Subject, case: &Crash) -> Verdict {
    let place = text("place", subject.place())?;
    let mut store = text("open", subject.open(&place))?;
    if case.snapshots && !store.keeps_snapshots() {
        return Err(Miss::NotMeasured("the store keeps no snapshots".into()));
    }
    let history = (case.history)();
    let mut acknowledged = 0;
    for (at, step) in history.0.iter().enumerate() {
        if step.run(&mut *store)? {
            acknowledged = at + 1;
        }
        after_loss(subject, &place, |left| history.judge(acknowledged, left))?;
    }
    Ok(())
}

/// Opens everything that may be left of a place and asks each.
fn after_loss(
    subject: &dyn Subject,
    place: &Place,
    mut ask: impl FnMut(&mut dyn Store) -> Result<(), String>,
) -> Result<(), String> {
    for (what, left) in text("what is left", place.remains())? {
        let mut store = subject.open(&left).map_err(|e| format!("after {what}: open: {e}"))?;
        ask(&mut *store).map_err(|e| format!("after {what}: {e}"))?;
    }
    Ok(())
}

/// What was called durable is there, whatever else a power loss takes.
fn acknowledged_from_cache() -> History {
    History((0..4).map(|round| Step::Append(entries(1, round * 3..round * 3 + 3))).collect())
}

/// A vote that returned is there; a node that forgets it votes twice.
fn vote_lost() -> History {
    let votes = [Vote { term: 1, node: 2 }, Vote { term: 3, node: 1 }, Vote { term: 4, node: 3 }];
    History(votes.map(Step::Vote).into())
}

/// Entries that were replaced stay away.
fn truncation_resurrected() -> History {
    History(vec![Step::Append(entries(1, 0..8)), Step::Truncate(4), Step::Append(vec![entry(2, 4)])])
}

/// A vote that returned came after a truncation: with it there, the truncation is too.
fn history_reordered() -> History {
    let vote = Vote { term: 2, node: 1 };
    History(vec![Step::Append(entries(1, 0..6)), Step::Truncate(3), Step::Vote(vote)])
}

/// After a purge the log begins where it says that it begins, and what follows is there.
fn purge_forgotten() -> History {
    let upto = Id { term: 1, index: 3 };
    History(vec![
        Step::Append(entries(1, 0..6)),
        // What a framework does before it lets a log be purged.
        Step::Snapshot(upto, "up to three"),
        Step::Purge(upto),
        Step::Append(entries(1, 6..8)),
    ])
}

/// Wherever entries are gone, a snapshot that covers them is there.
fn purge_before_snapshot() -> History {
    let upto = Id { term: 1, index: 4 };
    History(vec![Step::Append(entries(1, 0..6)), Step::Snapshot(upto, "up to four"), Step::Purge(upto)])
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn all(store: &mut dyn Store) -> Result<Vec<Entry>, String> {
    text("read", store.read(0, u64::MAX))
}

fn ids(entries: &[Entry]) -> Vec<(u64, u64)> {
    entries.iter().map(|e| (e.id.term, e.id.index)).collect()
}

fn expect_entries(store: &mut dyn Store, expected: &[Entry]) -> Result<(), String> {
    let found = all(store)?;
    ensure(found == expected, || format!("acknowledged {:?}, found {:?}", ids(expected), ids(&found)))
}

/// An entry is read as soon as `append` returned.
fn readable_before_durable(subject: &dyn Subject) -> Verdict {
    let place = text("place", subject.place())?;
    let mut store = text("open", subject.open(&place))?;
    let (done, answer) = watched();
    text("append", store.append(entries(1, 0..3), done))?;
    expect_entries(&mut *store, &entries(1, 0..3))?;
    Ok(answer.recv_timeout(PATIENCE).map_err(|_| "the callback never came")?.map_err(|e| e.to_string())?)
}

/// Every hundredth byte of every file flipped, one at a time: an error, or everything as it was.
fn damage(subject: &dyn Subject) -> Verdict {
    let place = text("place", subject.place())?;
    let mut store = text("open", subject.open(&place))?;
    append(&mut *store, entries(1, 0..12))?;
    let vote = Vote { term: 3, node: 2 };
    text("save_vote", store.save_vote(vote))?;
    text("close", store.close())?;
    let judge = |flipped: &Place| {
        let Ok(mut store) = subject.open(flipped) else { return Ok(()) };
        if let (Ok(found), Ok((_, last))) = (store.read(0, u64::MAX), store.ends()) {
            let whole = found == entries(1, 0..12) && last == Some(Id { term: 1, index: 11 });
            ensure(whole, || format!("read {:?}", ids(&found)))?;
        }
        match store.vote() {
            Ok(found) => ensure(found == Some(vote), || format!("the vote is {found:?}")),
            Err(_) => Ok(()),
        }
    };
    let (_, closed) = text("what is left", place.remains())?.pop().expect("one at least");
    let (mut flips, mut silent, mut panicked) = (0, Vec::new(), Vec::new());
    for (name, bytes) in text("what is left", closed.contents())? {
        // Pre-filled space is not data.
        for at in (0..bytes.len()).step_by(FLIP_STEP).filter(|at| near_data(&bytes, *at)) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let flipped = text("flip", closed.with(&name, flipped))?;
            flips += 1;
            match caught(|| judge(&flipped)) {
                Ok(Ok(())) => {}
                Ok(Err(found)) => silent.push(format!("{name} byte {at}: {found}")),
                Err(panic) => panicked.push(format!("{name} byte {at}: {panic}")),
            }
        }
    }
    let told = |what: &str, list: &[String]| {
        list.first().map_or(String::new(), |first| format!("; {} {what}, such as {first}", list.len()))
    };
    Ok(ensure(silent.is_empty() && panicked.is_empty(), || {
        let silent = told("changed what is read and no call said so", &silent);
        format!("{flips} flips{silent}{}", told("made the store panic", &panicked))
    })?)
}

const FLIP_STEP: usize = 101;

/// Whether a byte other than zero is within a step.
fn near_data(bytes: &[u8], at: usize) -> bool {
    let around = at.saturating_sub(FLIP_STEP)..bytes.len().min(at + FLIP_STEP);
    bytes[around].iter().any(|byte| *byte != 0)
}

fn is_sync(kind: CallKind) -> bool {
    matches!(kind, CallKind::SyncData | CallKind::SyncAll | CallKind::SyncDir)
}

fn fail_syncs(place: &Place) -> Result<(), String> {
    let disk = text("place", place.disk())?;
    disk.set_faults(Some(Arc::new(|call| {
        is_sync(call.kind).then_some(Fault::FailSync(SyncFailure::KeptClean))
    })));
    Ok(())
}

/// After a failed sync nothing is called durable that is not, also when later syncs succeed.
fn error_swallowed(subject: &dyn Subject) -> Verdict {
    let place = text("place", subject.place())?;
    let mut store = text("open", subject.open(&place))?;
    append(&mut *store, entries(1, 0..3))?;
    fail_syncs(&place)?;
    let mut acknowledged = entries(1, 0..3);
    if append(&mut *store, entries(1, 3..5)).is_ok() {
        acknowledged.extend(entries(1, 3..5));
    }
    text("place", place.disk())?.set_faults(None);
    if acknowledged.len() == 5 || all(&mut *store).is_ok_and(|found| found.len() == 5) {
        // The store goes on as if nothing had been; then what it acknowledges now must be there.
        if append(&mut *store, entries(1, 5..7)).is_ok() {
            acknowledged = entries(1, 0..7);
        }
    }
    let (what, left) = text("what is left", place.remains())?.swap_remove(0);
    let mut left = subject.open(&left).map_err(|e| format!("after {what}: open: {e}"))?;
    let found = all(&mut *left)?;
    Ok(ensure(found.starts_with(&acknowledged), || {
        format!("after {what}: acknowledged {:?}, found {:?}", ids(&acknowledged), ids(&found))
    })?)
}

/// A failed sync is told to the callback, once, and no vote returns without an error.
fn callback_dropped_after_an_error(subject: &dyn Subject) -> Verdict {
    let place = text("place", subject.place())?;
    let mut store = text("open", subject.open(&place))?;
    append(&mut *store, entries(1, 0..3))?;
    fail_syncs(&place)?;
    let (done, answer) = watched();
    let returned = store.append(entries(1, 3..5), done);
    match answer.recv_timeout(PATIENCE) {
        Ok(Ok(())) => Err("a failed sync was called durable".to_owned()),
        Ok(Err(_)) => ensure(answer.recv().is_err(), || "the callback came twice".into()),
        // An error on return is an answer too.
        Err(_) => ensure(returned.is_err(), || "the callback never came".into()),
    }?;
    Ok(ensure(store.save_vote(Vote { term: 9, node: 1 }).is_err(), || "a vote returned well".into())?)
}

/// A store that is dropped answers what is outstanding.
fn callback_dropped_with_the_store(subject: &dyn Subject) -> Verdict {
    let place = text("place", subject.place())?;
    let mut store = text("open", subject.open(&place))?;
    let mut answers = Vec::new();
    for index in 0..10 {
        let (done, answer) = watched();
        text("append", store.append(vec![entry(1, index)], done))?;
        answers.push(answer);
    }
    drop(store);
    let mut durable = 0;
    for answer in answers {
        match answer.recv_timeout(PATIENCE) {
            Ok(result) => durable += usize::from(result.is_ok()),
            Err(_) => return Err("a callback never came".into()),
        }
    }
    Ok(after_loss(subject, &place, |left| {
        let found = all(left)?.len();
        ensure(found >= durable, || format!("{durable} were called durable, {found} are there"))
    })?)
}

/// A store opens on a full disk, shows what it has, and a vote is durable or refused.
fn restart_on_a_full_disk(subject: &dyn Subject) -> Verdict {
    let place = text("place", subject.place())?;
    let mut store = text("open", subject.open(&place))?;
    append(&mut *store, entries(1, 0..12))?;
    text("save_vote", store.save_vote(Vote { term: 2, node: 1 }))?;
    drop(store);
    for (what, left) in text("what is left", place.remains())? {
        text("place", left.disk())?.set_capacity(Some(0));
        let mut store =
            subject.open(&left).map_err(|e| format!("after {what}, on a full disk: open: {e}"))?;
        expect_entries(&mut *store, &entries(1, 0..12))?;
        let vote = Vote { term: 3, node: 2 };
        let saved = store.save_vote(vote).is_ok();
        drop(store);
        let expected = if saved { vote } else { Vote { term: 2, node: 1 } };
        after_loss(subject, &left, |again| {
            let found = text("vote", again.vote())?;
            ensure(found == Some(expected), || format!("voted {expected:?}, found {found:?}"))
        })?;
    }
    Ok(())
}
