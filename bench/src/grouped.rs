//! Group commit for an engine that has none: its host writes what waits as one batch.
//!
//! I own the queue in front of one writer. The first caller of a batch leads it: it waits until the writer
//! is free, takes all who joined meanwhile, and wakes them by one call. I do not know what is written.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::subject::{Item, Subject};

/// An engine with one writer.
pub trait Writer: Send {
    /// Writes the items as one batch; durable on return.
    fn write(&mut self, items: &[Item]) -> anyhow::Result<()>;

    /// What is at or below the index is needed no more, in each of these groups.
    fn forget(&mut self, upto: &[(u64, u64)]) -> anyhow::Result<()>;

    /// Reads entries of a group, and gives how many bytes they have.
    fn read(&mut self, group: u64, first: u64, count: u64) -> anyhow::Result<u64>;
}

/// Many callers of one writer.
pub struct Grouped<W> {
    writer: Mutex<W>,
    forming: Mutex<Forming>,
}

#[derive(Default)]
struct Forming {
    items: Vec<Item>,
    outcome: Arc<OnceLock<Result<(), String>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W: Writer> Grouped<W> {
    /// Callers in front of a writer.
    pub fn new(writer: W) -> Self {
        Self { writer: Mutex::new(writer), forming: Mutex::default() }
    }
}

impl<W: Writer> Subject for Grouped<W> {
    fn append(&self, items: &[Item]) -> anyhow::Result<()> {
        let mut forming = lock(&self.forming);
        let leads = forming.items.is_empty();
        forming.items.extend_from_slice(items);
        let outcome = forming.outcome.clone();
        drop(forming);
        if leads {
            let mut writer = lock(&self.writer);
            let Forming { items, outcome } = std::mem::take(&mut *lock(&self.forming));
            let result = writer.write(&items).map_err(|e| format!("{e:#}"));
            outcome.set(result).expect("one caller leads a batch");
        }
        outcome.wait().clone().map_err(anyhow::Error::msg)
    }

    fn forget(&self, upto: &[(u64, u64)]) -> anyhow::Result<()> {
        lock(&self.writer).forget(upto)
    }

    fn read(&self, group: u64, first: u64, count: u64) -> anyhow::Result<u64> {
        lock(&self.writer).read(group, first, count)
    }
}

/// How far each group is given up, for an engine with one log for all of them: it may give up what is
/// below the least.
#[derive(Default)]
pub struct Floors(std::collections::BTreeMap<u64, u64>);

impl Floors {
    /// These groups will not need what stands before `place`. The least place of all groups.
    pub fn raise(&mut self, groups: &[(u64, u64)], place: u64) -> u64 {
        self.0.extend(groups.iter().map(|(group, _)| (*group, place)));
        self.0.values().min().copied().unwrap_or(0)
    }
}
