//! sled 0.34: a tree over a log. Its `flush` calls sync_file_range, which makes nothing durable.

use std::path::Path;

use ::sled::{Batch, Db};
use seawall_bench::subject::{Item, Subject};

use super::key;

/// A database.
pub(crate) struct Peer(Db);

impl Peer {
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self(::sled::open(dir.join("db"))?))
    }
}

impl Subject for Peer {
    fn append(&self, items: &[Item]) -> anyhow::Result<()> {
        let mut batch = Batch::default();
        for item in items {
            batch.insert(&key(item.group, item.index), &*item.data);
        }
        self.0.apply_batch(batch)?;
        self.0.flush()?;
        Ok(())
    }

    fn read(&self, group: u64, first: u64, count: u64) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for found in self.0.range(key(group, first)..key(group, first + count)) {
            bytes += found?.1.len() as u64;
        }
        Ok(bytes)
    }

    fn forget(&self, upto: &[(u64, u64)]) -> anyhow::Result<()> {
        for (group, index) in upto {
            for found in self.0.range(key(*group, 0)..=key(*group, *index)) {
                self.0.remove(found?.0)?;
            }
        }
        Ok(())
    }
}
