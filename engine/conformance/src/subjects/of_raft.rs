//! Seawall through its adapter for raft-rs, on the simulated disk or in a directory.
//!
//! I own the way from the cases' trait to the adapter. A log of raft-rs begins at 1 with the first
//! configuration, so the cases' index 0 is 2 there. raft-rs truncates by appending; here the record alone is
//! written.
#![expect(
    clippy::field_reassign_with_default,
    reason = "the codecs generate different structs, which are made alike only this way"
)]

use std::io;
use std::sync::Arc;

use crate::cases::Subject;
use crate::place::Place;
use crate::store::{Done, Ends, Entry, Id, Store, Vote};
use raft::Storage;
use raft::eraftpb::{ConfState, HardState};
use seawall::vfs::Vfs;
use seawall::vfs::os::OsVfs;
use seawall::{Engine, GroupId, Index, WriteBatch};
use seawall_raft::{Group, Writer};

use super::of_openraft::open_engine;

/// Where the cases' index 0 is.
const BASE: u64 = 2;

/// The adapter for raft-rs.
pub struct OfRaft;

struct Open<V: Vfs> {
    group: Group<V>,
    engine: Arc<Engine<V>>,
    conf: ConfState,
}

impl Subject for OfRaft {
    fn place(&self) -> io::Result<Place> {
        Ok(Place::simulated())
    }

    fn open(&self, place: &Place) -> io::Result<Box<dyn Store>> {
        match place {
            Place::Simulated(disk) => open(disk.clone()),
            Place::Directory { path, .. } => open(OsVfs::at(path)),
        }
    }
}

fn open<V: Vfs>(vfs: V) -> io::Result<Box<dyn Store>> {
    let engine = Arc::new(open_engine(vfs)?);
    let group = Group::open(&engine, 1).map_err(io::Error::other)?;
    let mut conf = ConfState::default();
    conf.voters = vec![1, 2, 3];
    group.bootstrap(&conf, b"").map_err(io::Error::other)?;
    Ok(Box::new(Open { group, engine, conf }))
}

impl<V: Vfs> Open<V> {
    fn id(&self, index: u64) -> io::Result<Option<Id>> {
        if index < BASE {
            return Ok(None);
        }
        let term = self.group.term(index).map_err(io::Error::other)?;
        Ok(Some(Id { term, index: index - BASE }))
    }
}

impl<V: Vfs> Store for Open<V> {
    fn append(&mut self, entries: Vec<Entry>, done: Done) -> io::Result<()> {
        let entry = |e: Entry| {
            let mut entry = raft::eraftpb::Entry::default();
            (entry.term, entry.index) = (e.id.term, e.id.index + BASE);
            entry.data = e.payload.into_bytes().into();
            entry
        };
        let entries: Vec<_> = entries.into_iter().map(entry).collect();
        let mut writer = Writer::new(&self.engine);
        writer.entries(&self.group, &entries).map_err(io::Error::other)?;
        let written = writer.submit().map_err(io::Error::other)?;
        written.on_durable(move |result| done(result.map_err(io::Error::other)));
        Ok(())
    }

    fn save_vote(&mut self, vote: Vote) -> io::Result<()> {
        let mut hard = HardState::default();
        (hard.term, hard.vote) = (vote.term, vote.node);
        let mut writer = Writer::new(&self.engine);
        writer.hard_state(&self.group, &hard).map_err(io::Error::other)?;
        writer.submit().and_then(seawall_raft::Written::wait).map_err(io::Error::other)
    }

    fn vote(&mut self) -> io::Result<Option<Vote>> {
        let hard = self.group.initial_state().map_err(io::Error::other)?.hard_state;
        Ok((hard.term > 0).then_some(Vote { term: hard.term, node: hard.vote }))
    }

    fn truncate(&mut self, from: u64) -> io::Result<()> {
        let mut batch = WriteBatch::new();
        batch.truncate_suffix(GroupId(1), Index(from + BASE));
        self.engine.write(batch).map(drop).map_err(io::Error::other)
    }

    fn purge(&mut self, upto: Id) -> io::Result<()> {
        self.group.compact(upto.index + BASE).map_err(io::Error::other)
    }

    fn read(&mut self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let first = self.group.first_index().map_err(io::Error::other)?;
        let end = self.group.last_index().map_err(io::Error::other)? + 1;
        let (low, high) = (first.max(from + BASE), end.min(to.saturating_add(BASE)));
        if low >= high {
            return Ok(Vec::new());
        }
        let context = raft::GetEntriesContext::empty(false);
        let found = self.group.entries(low, high, None, context).map_err(io::Error::other)?;
        let entry = |e: raft::eraftpb::Entry| {
            let payload = String::from_utf8(e.data.to_vec()).map_err(io::Error::other)?;
            Ok(Entry { id: Id { term: e.term, index: e.index - BASE }, payload })
        };
        found.into_iter().map(entry).collect()
    }

    fn ends(&mut self) -> io::Result<Ends> {
        let first = self.group.first_index().map_err(io::Error::other)?;
        let last = self.group.last_index().map_err(io::Error::other)?;
        Ok((self.id(first - 1)?, self.id(last)?))
    }

    fn keeps_snapshots(&self) -> bool {
        true
    }

    fn save_snapshot(&mut self, upto: Id, content: &str) -> io::Result<()> {
        let saved = self.group.save_snapshot(upto.index + BASE, &self.conf, content.as_bytes());
        saved.map_err(io::Error::other)
    }

    fn snapshot(&mut self) -> io::Result<Option<(Id, String)>> {
        let found = self.group.snapshot(0, 1).map_err(io::Error::other)?;
        let metadata = found.get_metadata();
        if metadata.index < BASE {
            return Ok(None);
        }
        let content = String::from_utf8(found.data.to_vec()).map_err(io::Error::other)?;
        Ok(Some((Id { term: metadata.term, index: metadata.index - BASE }, content)))
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        let Self { group, engine, .. } = *self;
        drop(group);
        let engine = Arc::into_inner(engine).ok_or_else(|| io::Error::other("somebody holds the store"))?;
        engine.close().map_err(io::Error::other)
    }
}
