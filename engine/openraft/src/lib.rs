//! A [`seawall`] store as the log storage of openraft: of 0.9 in [`v0_9`] (feature `v0_9`, on by default)
//! and of the pinned 0.10 alpha in [`v0_10`] (feature `v0_10`).
//!
//! One store, and one sync, serves every Raft group of a process: [`Node::create`] once in the life of a
//! node, [`Node::open`] at each start, then a `Log` and, for the state machine, `Snapshots` for each group.
//!
//! | what openraft asks | how it is kept |
//! | --- | --- |
//! | entries are readable when `append` returns | the batch is submitted; reads see it |
//! | the callback comes exactly once, when durable | [`seawall::Ticket::on_durable`], an error after a poison |
//! | a vote is durable on return | `save_vote` waits for its batch |
//! | votes, appends and truncations are one history | they are records of one stream |
//! | `truncate` is cheap | one record, not waited for: what follows it is durable only after it |
//! | `purge` may go beyond the last entry | the record says that a snapshot covers it; last = purged then |
//! | `save_committed` is cheap | it is noted, and goes along with the next batch or with the log |
//! | a reader sees later appends | it shares the handle |
//! | never a hole or a short read | [`Engine::read_present`] is one view of the log |
//! | a damaged group does not vote | [`seawall::Error::Blocked`] until `Log::repair` or `Snapshots::save` |
//!
//! An entry's index is stored plus one (seawall counts from 1, openraft from 0), its node id as the
//! leader tag, its payload as MessagePack, and membership entries as such. With 0.10 the source of an error is
//! the [`seawall::Error`]; 0.9 keeps the text of one.
#![deny(missing_docs)]

mod group;
mod kept;
#[cfg(feature = "v0_10")]
pub mod v0_10;
#[cfg(feature = "v0_9")]
pub mod v0_9;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seawall::vfs::Vfs;
use seawall::vfs::os::OsVfs;
use seawall::{CreateOptions, Engine, Error, Identity, Options, RecoveryReport, Result};

/// The store of one process, shared by all of its groups.
#[derive(Clone)]
pub struct Node<V: Vfs = OsVfs> {
    engine: Arc<Engine<V>>,
}

impl Node {
    /// Makes the store of a new node in a directory that is missing or empty. Once in the life of a node: a
    /// store that vanished must never come back as a fresh one, which would vote again.
    ///
    /// # Errors
    /// As [`Engine::create`].
    pub fn create(dir: impl AsRef<Path>, create: &CreateOptions) -> Result<Identity> {
        Engine::create(dir, create)
    }

    /// Opens the store of a node. The report says what recovery found.
    ///
    /// # Errors
    /// [`Error::WrongIdentity`] if it is the store of another node, [`Error::NotAStore`] if there is none;
    /// and as [`Engine::open`].
    pub fn open(
        dir: impl AsRef<Path>,
        cluster: u64,
        node: u64,
        options: Options,
    ) -> Result<(Self, RecoveryReport)> {
        Self::open_in(OsVfs::at(dir.as_ref()), cluster, node, options)
    }
}

impl<V: Vfs> Node<V> {
    /// As [`Node::open`], on any file system.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub fn open_in(vfs: V, cluster: u64, node: u64, options: Options) -> Result<(Self, RecoveryReport)> {
        let options = Options { expect: Some((cluster, node)), ..options };
        let (engine, report) = Engine::open_in(vfs, options)?;
        Ok((Self { engine: Arc::new(engine) }, report))
    }

    /// Closes the store: everything is made durable and the lock given back. Waits up to `patience` for the
    /// logs, readers and snapshots that still hold it, as tasks of a node that was shut down may for a
    /// moment; `false` if one goes on to, and then the store closes uncleanly with the last of them.
    ///
    /// # Errors
    /// As [`Engine::close`].
    pub async fn close(self, patience: Duration) -> Result<bool> {
        let deadline = Instant::now().checked_add(patience);
        let close = move || {
            let mut shared = self.engine;
            loop {
                shared = match Arc::try_unwrap(shared) {
                    Ok(engine) => return engine.close().map(|()| true),
                    Err(_) if deadline.is_some_and(|end| Instant::now() >= end) => return Ok(false),
                    Err(shared) => shared,
                };
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        tokio::task::spawn_blocking(close).await.unwrap_or(Err(Error::Closed))
    }

    /// The engine, for what every group shares: status, maintenance.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine<V>> {
        &self.engine
    }
}
