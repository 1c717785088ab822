//! The small trait that every store is driven through, whatever framework it is for.
//!
//! I own what a case may ask of a store. One log of one group, driven by one caller; indexes begin where the
//! caller begins. I judge nothing.

use std::io;

/// The identity of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Its term.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its identity.
    pub id: Id,
    /// The application's command.
    pub payload: String,
}

/// A vote: later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// Who was voted for.
    pub node: u64,
}

/// Told once what became of an append.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The purged and the last id of a log.
pub type Ends = (Option<Id>, Option<Id>);

/// A store under test.
pub trait Store: Send {
    /// Appends entries that follow the last. Readable on return; `done` is told when they are durable.
    fn append(&mut self, entries: Vec<Entry>, done: Done) -> io::Result<()>;

    /// Stores a vote. Durable on return.
    fn save_vote(&mut self, vote: Vote) -> io::Result<()>;

    /// The stored vote.
    fn vote(&mut self) -> io::Result<Option<Vote>>;

    /// Removes the entries from an index on. Durable at the latest with what follows it.
    fn truncate(&mut self, from: u64) -> io::Result<()>;

    /// Removes the entries up to an id, which may be beyond the last. Durable at the latest with what follows.
    fn purge(&mut self, upto: Id) -> io::Result<()>;

    /// What the log holds of a range.
    fn read(&mut self, from: u64, to: u64) -> io::Result<Vec<Entry>>;

    /// The purged and the last id; the last is the purged one if the log is empty.
    fn ends(&mut self) -> io::Result<Ends>;

    /// Whether the store keeps snapshots.
    fn keeps_snapshots(&self) -> bool {
        false
    }

    /// Stores a snapshot of what was applied up to an id. Durable on return.
    fn save_snapshot(&mut self, _upto: Id, _content: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The newest snapshot.
    fn snapshot(&mut self) -> io::Result<Option<(Id, String)>> {
        Ok(None)
    }

    /// Closes the store as a program that ends well does.
    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}
