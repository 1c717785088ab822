//! A [`seawall`] store as the log storage of [`openraft`] 0.9.
//!
//! One store, and one sync, serves every Raft group of a process: [`Node::open`] once, then
//! [`Node::log`] and [`Node::snapshots`] for each group.
//!
//! | what openraft asks | how it is kept |
//! | --- | --- |
//! | entries are readable when `append` returns | the batch is submitted; reads see it |
//! | the callback comes exactly once, when durable | [`seawall::Ticket::on_durable`], an error after a poison |
//! | a vote is durable on return | `save_vote` waits for its batch |
//! | votes, appends and truncations are one history | they are records of one stream |
//! | `truncate` takes the given entry too, and is cheap | one record, not waited for: what follows it is durable only after it |
//! | `purge` may go beyond the last entry | the record says that a snapshot covers it; last = purged then |
//! | a reader sees later appends | it shares the handle |
//! | a damaged group does not vote | [`seawall::Error::Blocked`] as a storage error until [`Log::repair`] |
//!
//! An entry's index is stored plus one (seawall counts from 1, openraft from 0), its node id as the
//! leader tag, its payload as MessagePack, and membership entries as such.
#![deny(missing_docs)]

mod log;
mod snapshots;

use std::path::Path;
use std::sync::Arc;

use openraft::RaftTypeConfig;
use seawall::{CreateOptions, Engine, Error, GroupId, Options, RecoveryReport};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use log::Log;
pub use snapshots::Snapshots;

/// The store of one process, shared by all of its groups.
#[derive(Clone)]
pub struct Node {
    engine: Arc<Engine>,
}

/// Groups whose numbers have this bit hold snapshots.
const SNAPSHOTS: u64 = 1 << 63;

impl Node {
    /// Opens the store in a directory; makes it if the directory is missing or empty. The report says
    /// what recovery found.
    pub fn open(
        dir: impl AsRef<Path>,
        create: &CreateOptions,
        options: Options,
    ) -> seawall::Result<(Self, RecoveryReport)> {
        let dir = dir.as_ref();
        let opened = match Engine::open(dir, options.clone()) {
            Err(Error::NotAStore { .. }) => {
                Engine::create(dir, create)?;
                Engine::open(dir, options)
            }
            other => other,
        };
        opened.map(|(engine, report)| (Self { engine: Arc::new(engine) }, report))
    }

    /// Closes the store: everything is made durable and the lock given back. `false` if a log, a reader or
    /// the snapshots of a group still hold it; it closes uncleanly with the last of them.
    pub fn close(self) -> seawall::Result<bool> {
        match Arc::into_inner(self.engine) {
            Some(engine) => engine.close().map(|()| true),
            None => Ok(false),
        }
    }

    /// The engine, for what every group shares: status, maintenance.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The log of a group, which is made if it is new.
    ///
    /// # Errors
    /// If the number's highest bit is set ([`Error::InvalidOption`]), or of writing.
    pub fn log<C>(&self, group: u64) -> seawall::Result<Log<C>>
    where
        C: Config,
    {
        Ok(Log::new(self.engine.clone(), self.group(group, 0)?))
    }

    /// The snapshots of a group's state machine.
    ///
    /// # Errors
    /// As [`Node::log`].
    pub fn snapshots<C>(&self, group: u64) -> seawall::Result<Snapshots<C>>
    where
        C: Config,
    {
        Ok(Snapshots::new(self.engine.clone(), self.group(group, SNAPSHOTS)?))
    }

    fn group(&self, group: u64, kind: u64) -> seawall::Result<GroupId> {
        if group & SNAPSHOTS != 0 {
            let why = "must be below 2^63: the highest bit marks the groups that hold snapshots";
            return Err(Error::InvalidOption { option: "group", why });
        }
        let id = GroupId(group | kind);
        match self.engine.create_group(id) {
            Ok(()) | Err(Error::GroupExists { .. }) => Ok(id),
            Err(e) => Err(e),
        }
    }
}

/// What this adapter needs of a type configuration: `u64` node ids, openraft's own entry type, and data
/// that can be serialized.
pub trait Config:
    RaftTypeConfig<NodeId = u64, Entry = openraft::Entry<Self>, D: Serialize + DeserializeOwned>
{
}

impl<C> Config for C where
    C: RaftTypeConfig<NodeId = u64, Entry = openraft::Entry<C>, D: Serialize + DeserializeOwned>
{
}
