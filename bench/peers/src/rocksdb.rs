//! RocksDB: a tree of sorted runs; its log is synced on each write (`sync = true`).

use std::path::Path;

use ::rocksdb::{DB, Options, WriteBatch, WriteOptions};
use seawall_bench::subject::{Item, Subject};

/// A database.
pub(crate) struct Peer(DB);

/// The key of an entry, in the order of groups and indexes.
fn key(group: u64, index: u64) -> [u8; 16] {
    (u128::from(group) << 64 | u128::from(index)).to_be_bytes()
}

impl Peer {
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        Ok(Self(DB::open(&options, dir.join("db"))?))
    }
}

impl Subject for Peer {
    fn append(&self, items: &[Item]) -> anyhow::Result<()> {
        let mut batch = WriteBatch::default();
        for item in items {
            batch.put(key(item.group, item.index), &item.data);
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.0.write_opt(batch, &options)?)
    }

    fn read(&self, group: u64, first: u64, count: u64) -> anyhow::Result<u64> {
        let mut bytes = 0;
        let mut found = self.0.raw_iterator();
        found.seek(key(group, first));
        for _ in 0..count {
            bytes += found.value().map(|value| value.len() as u64).unwrap_or(0);
            found.next();
        }
        found.status()?;
        Ok(bytes)
    }

    fn forget(&self, upto: &[(u64, u64)]) -> anyhow::Result<()> {
        let mut batch = WriteBatch::default();
        for (group, index) in upto {
            batch.delete_range(key(*group, 0), key(*group, index + 1));
        }
        Ok(self.0.write(batch)?)
    }
}
