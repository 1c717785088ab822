//! A seawall store as a subject.
//!
//! I own how the workloads' items become batches of seawall, with the options that a user gets by
//! default. I do not know the other engines.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use seawall::{CreateOptions, Digest, Engine, Entry, GroupId, Index, LogId, Options, Outcome, WriteBatch};

use crate::drive::Done;
use crate::subject::{Item, Subject};

/// A store, open for writing; it is closed when it is dropped.
pub struct Store {
    engine: Option<Engine>,
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(Err(e)) = self.engine.take().map(Engine::close) {
            eprintln!("seawall: {e}");
        }
    }
}

impl Store {
    /// The store in a directory; a new one has groups 0 to `groups`, and alignment units of `unit` bytes.
    pub fn open(dir: &Path, groups: u64, unit: u32) -> anyhow::Result<Self> {
        if dir.exists() {
            let (engine, _) = Engine::open(dir, Options::default())?;
            return Ok(Self { engine: Some(engine) });
        }
        Engine::create(dir, &CreateOptions { unit, ..CreateOptions::new(1, 1) })?;
        let (engine, _) = Engine::open(dir, Options::default())?;
        let mut batch = WriteBatch::new();
        for group in 0..groups {
            batch.create_group(GroupId(group));
        }
        anyhow::ensure!(engine.write(batch)?.wait() == Outcome::Durable, "the groups are durable");
        // The spares that rotation takes are made before the clock starts, as at any node's start.
        engine.maintain()?;
        Ok(Self { engine: Some(engine) })
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it is open until it is dropped")
    }
}

fn settled(outcome: Outcome) -> anyhow::Result<()> {
    anyhow::ensure!(outcome == Outcome::Durable, "the outcome is {outcome:?}");
    Ok(())
}

fn append(batch: &mut WriteBatch, item: Item) {
    batch.append(GroupId(item.group), Entry::command(item.index, 1, item.data));
}

impl Subject for Store {
    fn append(&self, items: &[Item]) -> anyhow::Result<()> {
        let mut batch = WriteBatch::with_capacity(items.len());
        items.iter().for_each(|item| append(&mut batch, item.clone()));
        settled(self.engine().write(batch)?.wait())
    }

    fn forget(&self, upto: &[(u64, u64)]) -> anyhow::Result<()> {
        let mut batch = WriteBatch::new();
        for (group, index) in upto {
            batch.external_snapshot(GroupId(*group), LogId::new(*index, 1), Digest([1; 32]));
            batch.compact_prefix(GroupId(*group), Index(*index));
        }
        settled(self.engine().write(batch)?.wait())
    }

    fn read(&self, group: u64, first: u64, count: u64) -> anyhow::Result<u64> {
        let mut bytes = 0;
        self.engine().scan(GroupId(group), Index(first)..Index(first + count), |entry| {
            bytes += entry.data.len() as u64;
            ControlFlow::Continue(())
        })?;
        Ok(bytes)
    }

    fn submit(&self, item: Item, done: Done) -> Result<(), (Item, Done)> {
        let mut batch = WriteBatch::new();
        append(&mut batch, item);
        if let Err(e) = self.engine().write_then(batch, move |outcome| done.call(settled(outcome))) {
            eprintln!("seawall: {e}");
        }
        Ok(())
    }
}

/// A store with one group whose host batches what waits, as it would for an engine without callbacks.
pub struct Batched {
    store: Store,
    /// The last index that is durable: what waits is not to be given up.
    last: AtomicU64,
}

impl Batched {
    /// Puts a host before a store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, last: AtomicU64::new(0) }
    }
}

impl Subject for Batched {
    fn append(&self, items: &[Item]) -> anyhow::Result<()> {
        self.store.append(items)?;
        self.last.store(items.last().map_or(0, |item| item.index), Ordering::Relaxed);
        Ok(())
    }

    fn forget(&self, upto: &[(u64, u64)]) -> anyhow::Result<()> {
        let last = self.last.load(Ordering::Relaxed);
        let upto: Vec<_> = upto.iter().map(|(group, index)| (*group, *index.min(&last))).collect();
        if last == 0 { Ok(()) } else { self.store.forget(&upto) }
    }
}
