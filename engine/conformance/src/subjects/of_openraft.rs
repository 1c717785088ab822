//! Seawall through its adapters for openraft, on the simulated disk or in a directory.
//!
//! I own the way from the cases' trait to openraft's. The callback of 0.9 cannot be made outside of openraft:
//! an append waits there for its answer.

use std::io;
use std::time::Duration;

use crate::cases::Subject;
use crate::for_openraft::Types;
use crate::place::Place;
use crate::store::{Done, Ends, Entry, Id, Store, Vote};
use openraft_0_9::storage::RaftLogStorageExt as _;
use openraft_0_10::RaftLogReader;
use openraft_0_10::storage::{IOFlushed, RaftLogStorage};
use openraft_0_10::type_config::TypeConfigExt;
use openraft_0_10::type_config::alias::{EntryOf, LogIdOf, SnapshotMetaOf, VoteOf};
use openraft_0_10::vote::{RaftVote, leader_id_std};
use seawall::vfs::Vfs;
use seawall::vfs::os::OsVfs;
use seawall::{CreateOptions, Engine, Options};
use seawall_openraft::{Node, v0_9, v0_10};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(10);

mod stable {
    openraft_0_9::declare_raft_types!(
        /// Texts as commands.
        pub(crate) Types: D = String, R = (), SnapshotData = std::io::Cursor<Vec<u8>>
    );
}

/// Makes the store if there is none.
fn prepare<V: Vfs>(vfs: &V) -> io::Result<()> {
    if vfs.list("").is_ok_and(|names| !names.is_empty()) {
        return Ok(());
    }
    let create = CreateOptions { segment_bytes: 64 << 10, unit: 512, ..CreateOptions::new(1, 1) };
    Engine::create_in(vfs, &create).map(drop).map_err(io::Error::other)
}

fn open_node<V: Vfs>(vfs: V) -> io::Result<Node<V>> {
    prepare(&vfs)?;
    let opened = Node::open_in(vfs, 1, 1, Options::default());
    opened.map(|(node, _)| node).map_err(io::Error::other)
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().build()
}

fn close<V: Vfs>(node: Node<V>, runtime: &Runtime) -> io::Result<()> {
    match runtime.block_on(node.close(PATIENCE)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(io::Error::other("somebody still holds the store")),
        Err(e) => Err(io::Error::other(e)),
    }
}

/// The adapter for 0.10.
pub struct Ten;

struct OpenTen<V: Vfs> {
    log: v0_10::Log<Types, V>,
    snapshots: v0_10::Snapshots<Types, V>,
    node: Node<V>,
    runtime: Runtime,
}

fn log_id(id: Id) -> LogIdOf<Types> {
    LogIdOf::<Types>::new(leader_id_std::CommittedLeaderId::new(id.term), id.index)
}

fn id(found: LogIdOf<Types>) -> Id {
    Id { term: found.committed_leader_id().term, index: found.index() }
}

impl Subject for Ten {
    fn place(&self) -> io::Result<Place> {
        Ok(Place::simulated())
    }

    fn open(&self, place: &Place) -> io::Result<Box<dyn Store>> {
        match place {
            Place::Simulated(disk) => open_ten(disk.clone()),
            Place::Directory { path, .. } => open_ten(OsVfs::at(path)),
        }
    }
}

fn open_ten<V: Vfs>(vfs: V) -> io::Result<Box<dyn Store>> {
    let node = open_node(vfs)?;
    let log = v0_10::Log::open(&node, 1).map_err(io::Error::other)?;
    let snapshots = v0_10::Snapshots::open(&node, 1).map_err(io::Error::other)?;
    Ok(Box::new(OpenTen { log, snapshots, node, runtime: runtime()? }))
}

impl<V: Vfs> Store for OpenTen<V> {
    fn append(&mut self, entries: Vec<Entry>, done: Done) -> io::Result<()> {
        use openraft_0_10::entry::RaftEntry as _;
        let (sender, told) = Types::oneshot();
        let handle = self.runtime.handle().clone();
        let wait = async { told.await.unwrap_or_else(|_| Err(io::Error::other("the callback was dropped"))) };
        std::thread::spawn(move || done(handle.block_on(wait)));
        let entries = entries.into_iter().map(|e| EntryOf::<Types>::new_normal(log_id(e.id), e.payload));
        self.runtime.block_on(self.log.append(entries, IOFlushed::signal(sender)))
    }

    fn save_vote(&mut self, vote: Vote) -> io::Result<()> {
        let leader = leader_id_std::LeaderId { term: vote.term, voted_for: vote.node };
        let vote = VoteOf::<Types>::from_leader_id(leader, false);
        self.runtime.block_on(self.log.save_vote(&vote))
    }

    fn vote(&mut self) -> io::Result<Option<Vote>> {
        let found = self.runtime.block_on(self.log.read_vote())?;
        Ok(found.map(|vote| Vote { term: vote.leader_id().term, node: vote.leader_id().voted_for }))
    }

    fn truncate(&mut self, from: u64) -> io::Result<()> {
        // Only the index counts.
        let last = from.checked_sub(1).map(|index| log_id(Id { term: 1, index }));
        self.runtime.block_on(self.log.truncate_after(last))
    }

    fn purge(&mut self, upto: Id) -> io::Result<()> {
        self.runtime.block_on(self.log.purge(log_id(upto)))
    }

    fn read(&mut self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let found = self.runtime.block_on(self.log.try_get_log_entries(from..to))?;
        let entry = |e: EntryOf<Types>| match e.payload {
            openraft_0_10::EntryPayload::Normal(payload) => Ok(Entry { id: id(e.log_id), payload }),
            _ => Err(io::Error::other("not the entry that was appended")),
        };
        found.into_iter().map(entry).collect()
    }

    fn ends(&mut self) -> io::Result<Ends> {
        let state = self.runtime.block_on(self.log.get_log_state())?;
        Ok((state.last_purged_log_id.map(id), state.last_log_id.map(id)))
    }

    fn keeps_snapshots(&self) -> bool {
        true
    }

    fn save_snapshot(&mut self, upto: Id, content: &str) -> io::Result<()> {
        let meta = SnapshotMetaOf::<Types> { last_log_id: Some(log_id(upto)), ..Default::default() };
        self.snapshots.save(&meta, content.as_bytes()).map(drop)
    }

    fn snapshot(&mut self) -> io::Result<Option<(Id, String)>> {
        let Some((meta, content)) = self.snapshots.load()? else { return Ok(None) };
        let content = String::from_utf8(content).map_err(io::Error::other)?;
        Ok(meta.last_log_id.map(|last| (id(last), content)))
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        let Self { log, snapshots, node, runtime } = *self;
        drop((log, snapshots));
        close(node, &runtime)
    }
}

/// The adapter for 0.9.
pub struct Nine;

struct OpenNine<V: Vfs> {
    log: v0_9::Log<stable::Types, V>,
    snapshots: v0_9::Snapshots<stable::Types, V>,
    node: Node<V>,
    runtime: Runtime,
}

type StableId = openraft_0_9::LogId<u64>;

fn stable_id(id: Id) -> StableId {
    StableId::new(openraft_0_9::LeaderId::new(id.term, 1), id.index)
}

fn id_of(found: StableId) -> Id {
    Id { term: found.leader_id.term, index: found.index }
}

impl Subject for Nine {
    fn place(&self) -> io::Result<Place> {
        Ok(Place::simulated())
    }

    fn open(&self, place: &Place) -> io::Result<Box<dyn Store>> {
        match place {
            Place::Simulated(disk) => open_nine(disk.clone()),
            Place::Directory { path, .. } => open_nine(OsVfs::at(path)),
        }
    }
}

fn open_nine<V: Vfs>(vfs: V) -> io::Result<Box<dyn Store>> {
    let node = open_node(vfs)?;
    let log = v0_9::Log::open(&node, 1).map_err(io::Error::other)?;
    let snapshots = v0_9::Snapshots::open(&node, 1).map_err(io::Error::other)?;
    Ok(Box::new(OpenNine { log, snapshots, node, runtime: runtime()? }))
}

impl<V: Vfs> Store for OpenNine<V> {
    fn append(&mut self, entries: Vec<Entry>, done: Done) -> io::Result<()> {
        let entry = |e: Entry| openraft_0_9::Entry {
            log_id: stable_id(e.id),
            payload: openraft_0_9::EntryPayload::Normal(e.payload),
        };
        let appended = self.runtime.block_on(self.log.blocking_append(entries.into_iter().map(entry)));
        done(appended.map_err(io::Error::other));
        Ok(())
    }

    fn save_vote(&mut self, vote: Vote) -> io::Result<()> {
        use openraft_0_9::storage::RaftLogStorage as _;
        let vote = openraft_0_9::Vote::new(vote.term, vote.node);
        self.runtime.block_on(self.log.save_vote(&vote)).map_err(io::Error::other)
    }

    fn vote(&mut self) -> io::Result<Option<Vote>> {
        use openraft_0_9::storage::RaftLogStorage as _;
        let found = self.runtime.block_on(self.log.read_vote()).map_err(io::Error::other)?;
        Ok(found.map(|vote| Vote { term: vote.leader_id.term, node: vote.leader_id.node_id }))
    }

    fn truncate(&mut self, from: u64) -> io::Result<()> {
        use openraft_0_9::storage::RaftLogStorage as _;
        let from = stable_id(Id { term: 1, index: from });
        self.runtime.block_on(self.log.truncate(from)).map_err(io::Error::other)
    }

    fn purge(&mut self, upto: Id) -> io::Result<()> {
        use openraft_0_9::storage::RaftLogStorage as _;
        self.runtime.block_on(self.log.purge(stable_id(upto))).map_err(io::Error::other)
    }

    fn read(&mut self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        use openraft_0_9::RaftLogReader as _;
        let found = self.runtime.block_on(self.log.try_get_log_entries(from..to));
        let entry = |e: openraft_0_9::Entry<stable::Types>| match e.payload {
            openraft_0_9::EntryPayload::Normal(payload) => Ok(Entry { id: id_of(e.log_id), payload }),
            _ => Err(io::Error::other("not the entry that was appended")),
        };
        found.map_err(io::Error::other)?.into_iter().map(entry).collect()
    }

    fn ends(&mut self) -> io::Result<Ends> {
        use openraft_0_9::storage::RaftLogStorage as _;
        let state = self.runtime.block_on(self.log.get_log_state()).map_err(io::Error::other)?;
        Ok((state.last_purged_log_id.map(id_of), state.last_log_id.map(id_of)))
    }

    fn keeps_snapshots(&self) -> bool {
        true
    }

    fn save_snapshot(&mut self, upto: Id, content: &str) -> io::Result<()> {
        let meta = openraft_0_9::SnapshotMeta { last_log_id: Some(stable_id(upto)), ..Default::default() };
        self.snapshots.save(&meta, content.as_bytes()).map(drop).map_err(io::Error::other)
    }

    fn snapshot(&mut self) -> io::Result<Option<(Id, String)>> {
        let Some((meta, content)) = self.snapshots.load().map_err(io::Error::other)? else { return Ok(None) };
        let content = String::from_utf8(content).map_err(io::Error::other)?;
        Ok(meta.last_log_id.map(|last| (id_of(last), content)))
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        let Self { log, snapshots, node, runtime } = *self;
        drop((log, snapshots));
        close(node, &runtime)
    }
}

/// An engine for the adapter of raft-rs.
pub(super) fn open_engine<V: Vfs>(vfs: V) -> io::Result<Engine<V>> {
    prepare(&vfs)?;
    let options = Options { expect: Some((1, 1)), ..Options::default() };
    Engine::open_in(vfs, options).map(|(engine, _)| engine).map_err(io::Error::other)
}
