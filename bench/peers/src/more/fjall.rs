//! fjall: a tree of sorted runs; its journal is synced on each commit (`PersistMode::SyncAll`).

use std::path::Path;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use seawall_bench::subject::{Item, Subject};

use super::key;

/// A database with one keyspace.
pub(crate) struct Peer {
    database: Database,
    entries: Keyspace,
}

impl Peer {
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let database = Database::builder(dir.join("db")).open()?;
        let entries = database.keyspace("entries", KeyspaceCreateOptions::default)?;
        Ok(Self { database, entries })
    }
}

impl Subject for Peer {
    fn append(&self, items: &[Item]) -> anyhow::Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for item in items {
            batch.insert(&self.entries, key(item.group, item.index), &*item.data);
        }
        Ok(batch.commit()?)
    }

    fn read(&self, group: u64, first: u64, count: u64) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for guard in self.entries.range(key(group, first)..key(group, first + count)) {
            bytes += guard.value()?.len() as u64;
        }
        Ok(bytes)
    }

    fn forget(&self, upto: &[(u64, u64)]) -> anyhow::Result<()> {
        for (group, index) in upto {
            let mut batch = self.database.batch();
            for guard in self.entries.range(key(*group, 0)..=key(*group, *index)) {
                batch.remove(&self.entries, guard.key()?);
            }
            batch.commit()?;
        }
        Ok(())
    }
}
