//! The cases over the stores of the command: seawall passes, a store with any one flaw is found out.

use std::io;

use seawall_conformance::cases::{self, Subject};
use seawall_conformance::outcome::{Miss, Tally};
use seawall_conformance::place::Place;
use seawall_conformance::store::{Done, Ends, Entry, Id, Store, Vote};
use seawall_conformance::subjects::memory::Memory;
use seawall_conformance::subjects::of_openraft::{Nine, Ten};
use seawall_conformance::subjects::of_raft::OfRaft;
use seawall_conformance::subjects::redb::{self, Redb};

#[track_caller]
fn passes(subject: &dyn Subject) {
    let tally = cases::run(subject);
    assert_eq!((tally.cases, tally.passed), (12, 12), "{tally:#?}");
}

#[test]
fn seawall_passes_as_openraft_0_9() {
    passes(&Nine);
}

#[test]
fn seawall_passes_as_openraft_0_10() {
    passes(&Ten);
}

#[test]
fn seawall_passes_as_raft_rs() {
    passes(&OfRaft);
}

#[track_caller]
fn fails(subject: &dyn Subject, expected: &[&str]) {
    let failed: Vec<String> = cases::run(subject).failed.into_iter().map(|missed| missed.case).collect();
    for case in expected {
        assert!(failed.iter().any(|name| name == case), "{case} is not among {failed:?}");
    }
}

#[test]
fn a_store_in_memory_is_found_out() {
    fails(&Memory, &["acknowledged_from_cache", "vote_lost", "truncation_resurrected", "purge_forgotten"]);
}

#[test]
fn a_store_that_leaves_its_syncs_out_is_found_out_and_the_same_with_them_is_not() {
    let crashes = ["acknowledged_from_cache", "vote_lost", "truncation_resurrected", "history_reordered"];
    fails(&Redb { syncs: false }, &crashes);
    let failed = cases::run(&Redb { syncs: true }).failed;
    assert!(!failed.iter().any(|missed| crashes.contains(&&*missed.case)), "{failed:#?}");
}

#[test]
fn a_store_in_a_real_file_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let vote = Vote { term: 2, node: 1 };
    redb::open_dir(dir.path()).unwrap().save_vote(vote).unwrap();
    assert_eq!(redb::open_dir(dir.path()).unwrap().vote().unwrap(), Some(vote));
}

/// What is wrong with a store that is seawall otherwise.
#[derive(Clone, Copy)]
enum Flaw {
    /// A truncation waits for the next append.
    LateTruncation,
    /// Entries are read when the next call comes.
    LateReads,
    /// Snapshots are in memory.
    SnapshotsInMemory,
    /// A purge removes nothing.
    NoPurge,
    /// A failed append is called durable.
    Deaf,
    /// The callback of a failed append never comes.
    Mute,
    /// A callback is dropped with the store if it is among the last.
    Forgetful,
    /// What cannot be read is left out.
    ShortReads,
    /// It writes when it opens.
    WritesAtOpen,
}

struct Flawed(Flaw);

struct Open {
    flaw: Flaw,
    store: Box<dyn Store>,
    truncation: Option<u64>,
    late: u64,
    snapshot: Option<(Id, String)>,
    outstanding: Vec<Done>,
}

impl Subject for Flawed {
    fn place(&self) -> io::Result<Place> {
        Ok(Place::simulated())
    }

    fn open(&self, place: &Place) -> io::Result<Box<dyn Store>> {
        let mut store = Ten.open(place)?;
        if matches!(self.0, Flaw::WritesAtOpen) && store.vote()?.is_some() {
            let (purged, last) = store.ends()?;
            let next = last.or(purged).map_or(0, |id| id.index + 1);
            let (done, answer) = std::sync::mpsc::channel();
            let entries = (next..next + 64)
                .map(|index| Entry { id: Id { term: 9, index }, payload: "x".repeat(8 << 10) });
            store.append(entries.collect(), Box::new(move |result| done.send(result).unwrap()))?;
            answer.recv().map_err(io::Error::other)??;
            store.truncate(next)?;
        }
        let (flaw, truncation, snapshot) = (self.0, None, None);
        Ok(Box::new(Open { flaw, store, truncation, late: 0, snapshot, outstanding: Vec::new() }))
    }
}

impl Store for Open {
    fn append(&mut self, entries: Vec<Entry>, done: Done) -> io::Result<()> {
        if let Some(from) = self.truncation.take() {
            self.store.truncate(from)?;
        }
        self.late = u64::from(matches!(self.flaw, Flaw::LateReads));
        let done: Done = match self.flaw {
            Flaw::Deaf => Box::new(|_| done(Ok(()))),
            Flaw::Mute => Box::new(|result: io::Result<()>| {
                if result.is_ok() {
                    done(result);
                }
            }),
            // Nobody who waits for each answer notices: one of many entries at once is kept.
            Flaw::Forgetful if entries.len() == 1 && entries[0].id == (Id { term: 1, index: 9 }) => {
                self.outstanding.push(done);
                Box::new(|_| ())
            }
            _ => done,
        };
        match self.store.append(entries, done) {
            Err(_) if matches!(self.flaw, Flaw::Deaf | Flaw::Mute) => Ok(()),
            other => other,
        }
    }

    fn save_vote(&mut self, vote: Vote) -> io::Result<()> {
        self.store.save_vote(vote)
    }

    fn vote(&mut self) -> io::Result<Option<Vote>> {
        self.store.vote()
    }

    fn truncate(&mut self, from: u64) -> io::Result<()> {
        if matches!(self.flaw, Flaw::LateTruncation) {
            self.truncation = Some(from);
            return Ok(());
        }
        self.store.truncate(from)
    }

    fn purge(&mut self, upto: Id) -> io::Result<()> {
        if matches!(self.flaw, Flaw::NoPurge) { Ok(()) } else { self.store.purge(upto) }
    }

    fn read(&mut self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let late = std::mem::take(&mut self.late);
        match self.store.read(from, to) {
            Err(_) if matches!(self.flaw, Flaw::ShortReads) => Ok(Vec::new()),
            found if late == 0 => found,
            found => found.map(|mut entries| {
                entries.pop();
                entries
            }),
        }
    }

    fn ends(&mut self) -> io::Result<Ends> {
        self.store.ends()
    }

    fn keeps_snapshots(&self) -> bool {
        true
    }

    fn save_snapshot(&mut self, upto: Id, content: &str) -> io::Result<()> {
        if matches!(self.flaw, Flaw::SnapshotsInMemory) {
            self.snapshot = Some((upto, content.to_owned()));
            return Ok(());
        }
        self.store.save_snapshot(upto, content)
    }

    fn snapshot(&mut self) -> io::Result<Option<(Id, String)>> {
        if self.snapshot.is_some() { Ok(self.snapshot.clone()) } else { self.store.snapshot() }
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.store.close()
    }
}

#[test]
fn each_flaw_fails_the_case_that_is_for_it() {
    for (flaw, case) in [
        (Flaw::LateTruncation, "history_reordered"),
        (Flaw::LateReads, "readable_before_durable"),
        (Flaw::SnapshotsInMemory, "purge_before_snapshot"),
        (Flaw::NoPurge, "purge_forgotten"),
        (Flaw::Deaf, "error_swallowed"),
        (Flaw::Mute, "callback_dropped_after_an_error"),
        (Flaw::Forgetful, "callback_dropped_with_the_store"),
        (Flaw::ShortReads, "hole_or_short_read_after_damage"),
        (Flaw::WritesAtOpen, "restart_on_a_full_disk"),
    ] {
        fails(&Flawed(flaw), &[case]);
    }
}

#[test]
fn a_panic_is_a_failure_with_its_text_and_what_cannot_be_asked_is_neither() {
    let mut tally = Tally::default();
    tally.run("good", || Ok(()));
    tally.run("bad", || Err("no".into()));
    tally.run("worse", || panic!("gone {}", 1));
    tally.run("absent", || Err(Miss::NotMeasured("no disk".into())));
    assert_eq!((tally.cases, tally.passed), (3, 1));
    assert_eq!(tally.failed[0].reason, "no");
    assert_eq!(tally.failed[1].reason, "panicked: gone 1");
    assert_eq!(tally.not_measured[0].case, "absent");
}
