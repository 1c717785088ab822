//! A store in memory: what it acknowledges is gone with the process.
//!
//! I am what the kit must find guilty: openraft's own suite passes over me.

use std::collections::BTreeMap;
use std::io;

use crate::cases::Subject;
use crate::place::Place;
use crate::store::{Done, Ends, Entry, Id, Store, Vote};

/// Opens an empty one each time.
pub struct Memory;

#[derive(Default)]
struct InMemory {
    entries: BTreeMap<u64, Entry>,
    purged: Option<Id>,
    vote: Option<Vote>,
}

impl Subject for Memory {
    fn place(&self) -> io::Result<Place> {
        Ok(Place::simulated())
    }

    fn open(&self, _: &Place) -> io::Result<Box<dyn Store>> {
        Ok(Box::<InMemory>::default())
    }
}

impl Store for InMemory {
    fn append(&mut self, entries: Vec<Entry>, done: Done) -> io::Result<()> {
        self.entries.extend(entries.into_iter().map(|entry| (entry.id.index, entry)));
        done(Ok(()));
        Ok(())
    }

    fn save_vote(&mut self, vote: Vote) -> io::Result<()> {
        self.vote = Some(vote);
        Ok(())
    }

    fn vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.vote)
    }

    fn truncate(&mut self, from: u64) -> io::Result<()> {
        self.entries.split_off(&from);
        Ok(())
    }

    fn purge(&mut self, upto: Id) -> io::Result<()> {
        self.entries = self.entries.split_off(&(upto.index + 1));
        self.purged = Some(upto);
        Ok(())
    }

    fn read(&mut self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        Ok(self.entries.range(from..to.max(from)).map(|(_, entry)| entry.clone()).collect())
    }

    fn ends(&mut self) -> io::Result<Ends> {
        let last = self.entries.values().next_back().map(|entry| entry.id);
        Ok((self.purged, last.or(self.purged)))
    }
}
