//! A store on raft-log, used as its documentation teaches: every call is followed by a flush.
//!
//! I own the mapping of types. It works on a real directory only.

use std::io;
use std::sync::Arc;

use crate::cases::Subject;
use crate::place::Place;
use crate::store::{Done, Ends, Entry, Id, Store, Vote};
use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::{Config, RaftLog, Types};

/// A raft-log in a directory.
pub struct OfRaftLog;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plain;

/// Hands the result of a flush on.
struct Flushed(Done);

impl raft_log::Callback for Flushed {
    fn send(self, result: io::Result<()>) {
        (self.0)(result);
    }
}

impl Types for Plain {
    /// Term and index.
    type LogId = (u64, u64);
    type LogPayload = String;
    type Vote = (u64, u64);
    type UserData = String;
    type Callback = Flushed;

    fn log_index(id: &(u64, u64)) -> u64 {
        id.1
    }

    fn payload_size(payload: &String) -> u64 {
        payload.len() as u64
    }
}

impl Subject for OfRaftLog {
    fn place(&self) -> io::Result<Place> {
        Place::directory()
    }

    fn open(&self, place: &Place) -> io::Result<Box<dyn Store>> {
        open_dir(place.path()?)
    }
}

/// Opens the store in a directory.
///
/// # Errors
/// As raft-log says.
pub fn open_dir(dir: &std::path::Path) -> io::Result<Box<dyn Store>> {
    let dir = dir.to_str().ok_or_else(|| io::Error::other("the path is not UTF-8"))?;
    let log = RaftLog::<Plain>::open(Arc::new(Config::new(dir)))?;
    Ok(Box::new(Wrapped { log }))
}

struct Wrapped {
    log: RaftLog<Plain>,
}

impl Wrapped {
    fn flush(&mut self) -> io::Result<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        // Nobody listens any more if the flush was refused.
        self.log.flush(Flushed(Box::new(move |result| drop(sender.send(result)))))?;
        receiver.recv().map_err(io::Error::other)?
    }
}

fn id(found: &(u64, u64)) -> Id {
    Id { term: found.0, index: found.1 }
}

impl Store for Wrapped {
    fn append(&mut self, entries: Vec<Entry>, done: Done) -> io::Result<()> {
        let entries = entries.into_iter().map(|entry| ((entry.id.term, entry.id.index), entry.payload));
        self.log.append(entries)?;
        self.log.flush(Flushed(done))
    }

    fn save_vote(&mut self, vote: Vote) -> io::Result<()> {
        self.log.save_vote((vote.term, vote.node))?;
        self.flush()
    }

    fn vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log.log_state().vote().map(|vote| Vote { term: vote.0, node: vote.1 }))
    }

    fn truncate(&mut self, from: u64) -> io::Result<()> {
        // To openraft a truncation beyond the end is none; to raft-log it is an index that is not found.
        let (_, last) = self.ends()?;
        if last.is_none_or(|last| last.index < from) {
            return Ok(());
        }
        self.log.truncate(from).map(drop)
    }

    fn purge(&mut self, upto: Id) -> io::Result<()> {
        self.log.purge((upto.term, upto.index)).map(drop)
    }

    fn read(&mut self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let found = self.log.read(from, to.max(from));
        found.map(|item| item.map(|(at, payload)| Entry { id: id(&at), payload })).collect()
    }

    fn ends(&mut self) -> io::Result<Ends> {
        let state = self.log.log_state();
        Ok((state.purged().map(id), state.last().map(id)))
    }

    fn close(mut self: Box<Self>) -> io::Result<()> {
        self.flush()
    }
}
