//! What a store is made to do, step by step, and what it may hold after a crash.
//!
//! I own the model: a store holds what it held after some step of its history, an append being a step for
//! each of its entries, and never less than what was acknowledged. I know neither places nor how a crash is
//! made.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::store::{Done, Entry, Id, Store, Vote};

/// How long a callback may take. Only a store that never calls back waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One call of a store.
pub(crate) enum Step {
    /// Acknowledged by its callback.
    Append(Vec<Entry>),
    /// Acknowledged on return.
    Vote(Vote),
    /// Durable with what follows.
    Truncate(u64),
    /// Acknowledged on return. A store that keeps no snapshots does without.
    Snapshot(Id, &'static str),
    /// Durable with what follows.
    Purge(Id),
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    entries: Vec<Entry>,
    purged: Option<Id>,
    last: Option<Id>,
    vote: Option<Vote>,
    snapshot: Option<(Id, String)>,
}

/// The steps of a case.
pub(crate) struct History(pub(crate) Vec<Step>);

pub(crate) fn text<T>(what: &str, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {e}"))
}

pub(crate) fn entry(term: u64, index: u64) -> Entry {
    Entry { id: Id { term, index }, payload: format!("entry {index} of term {term}") }
}

pub(crate) fn entries(term: u64, indexes: Range<u64>) -> Vec<Entry> {
    indexes.map(|index| entry(term, index)).collect()
}

/// A callback, and where its answer comes.
pub(crate) fn watched() -> (Done, Receiver<io::Result<()>>) {
    let (sender, answer) = channel();
    // Nobody listens any more when a case gave up.
    let done = move |result| drop(sender.send(result));
    (Box::new(done), answer)
}

/// Appends and waits until the store says that it is durable.
pub(crate) fn append(store: &mut dyn Store, entries: Vec<Entry>) -> Result<(), String> {
    let (done, answer) = watched();
    text("append", store.append(entries, done))?;
    match answer.recv_timeout(PATIENCE) {
        Ok(result) => text("the callback of append", result),
        Err(_) => Err("the callback of append never came".into()),
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<(u64, u64)> = self.entries.iter().map(|e| (e.id.term, e.id.index)).collect();
        write!(f, "entries {ids:?}")?;
        if let Some(purged) = self.purged {
            write!(f, ", purged up to {}", purged.index)?;
        }
        if let Some(vote) = self.vote {
            write!(f, ", a vote of term {}", vote.term)?;
        }
        if let Some((upto, _)) = &self.snapshot {
            write!(f, ", a snapshot up to {}", upto.index)?;
        }
        Ok(())
    }
}

impl State {
    /// Asks a store what it holds.
    pub(crate) fn of(store: &mut dyn Store) -> Result<Self, String> {
        let (purged, last) = text("ends", store.ends())?;
        Ok(Self {
            entries: text("read", store.read(0, u64::MAX))?,
            purged,
            last,
            vote: text("vote", store.vote())?,
            snapshot: text("snapshot", store.snapshot())?,
        })
    }

    /// Takes one step that is done as a whole or not at all.
    fn take(&mut self, step: &Step, keeps_snapshots: bool) {
        match step {
            Step::Append(entries) => self.entries.extend_from_slice(entries),
            Step::Vote(vote) => self.vote = Some(*vote),
            Step::Truncate(from) => self.entries.retain(|entry| entry.id.index < *from),
            Step::Snapshot(upto, content) if keeps_snapshots => {
                self.snapshot = Some((*upto, (*content).to_owned()));
            }
            Step::Snapshot(..) => {}
            Step::Purge(upto) => {
                self.purged = Some(*upto);
                self.entries.retain(|entry| entry.id.index > upto.index);
            }
        }
        self.last = self.entries.last().map(|entry| entry.id).or(self.purged);
    }
}

impl Step {
    /// Does the step; whether it is acknowledged.
    pub(crate) fn run(&self, store: &mut dyn Store) -> Result<bool, String> {
        match self {
            Self::Append(entries) => append(store, entries.clone()).map(|()| true),
            Self::Vote(vote) => text("save_vote", store.save_vote(*vote)).map(|()| true),
            Self::Truncate(from) => text("truncate", store.truncate(*from)).map(|()| false),
            Self::Snapshot(upto, content) if store.keeps_snapshots() => {
                text("save_snapshot", store.save_snapshot(*upto, content)).map(|()| true)
            }
            Self::Snapshot(..) => Ok(false),
            Self::Purge(upto) => text("purge", store.purge(*upto)).map(|()| false),
        }
    }
}

impl History {
    /// Each state that the history goes through, with how many steps are done in it.
    fn states(&self, keeps_snapshots: bool) -> Vec<(usize, State)> {
        let mut now = State::default();
        let mut states = vec![(0, now.clone())];
        for (done, step) in self.0.iter().enumerate() {
            if let Step::Append(entries) = step {
                for entry in &entries[..entries.len() - 1] {
                    let mut partly = now.clone();
                    let upto = entries.iter().take_while(|e| e.id.index <= entry.id.index);
                    partly.take(&Step::Append(upto.cloned().collect()), keeps_snapshots);
                    states.push((done, partly));
                }
            }
            now.take(step, keeps_snapshots);
            states.push((done + 1, now.clone()));
        }
        states
    }

    /// Fails unless what a crash left is a state of the history in which at least the first `acknowledged`
    /// steps are done, and the store goes on from there.
    pub(crate) fn judge(&self, acknowledged: usize, store: &mut dyn Store) -> Result<(), String> {
        let found = State::of(store)?;
        let states = self.states(store.keeps_snapshots());
        let mut alike = states.iter().filter(|(_, state)| *state == found).map(|(done, _)| *done);
        match alike.clone().max() {
            None => return Err(format!("it holds what it never held: {found}")),
            Some(_) if !alike.any(|done| done >= acknowledged) => {
                return Err(format!("what was acknowledged is gone; left are {found}"));
            }
            Some(_) => {}
        }
        let next = entry(9, found.last.map_or(0, |last| last.index + 1));
        append(store, vec![next.clone()]).map_err(|e| format!("it does not go on: {e}"))?;
        let again = text("read", store.read(next.id.index, next.id.index + 1))?;
        if again == [next] { Ok(()) } else { Err(format!("it goes on, but reads {again:?}")) }
    }
}
