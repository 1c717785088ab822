//! LMDB through heed: a copy-on-write tree in a mapping; a commit writes the changed pages and syncs.

use std::ops::Bound;
use std::path::Path;

use ::heed::types::Bytes;
use ::heed::{Database, Env, EnvOpenOptions};
use seawall_bench::grouped::Writer;
use seawall_bench::subject::Item;

use super::key;

/// How far the map may grow.
const MAP_BYTES: usize = 16 << 30;

/// An environment with one database.
pub(crate) struct Peer {
    env: Env,
    entries: Database<Bytes, Bytes>,
}

impl Peer {
    #[expect(unsafe_code, reason = "a mapping is unsafe by nature; nobody else opens this directory")]
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        // SAFETY: the directory is this process's own, and it is opened once.
        let env = unsafe { EnvOpenOptions::new().map_size(MAP_BYTES).open(dir)? };
        let mut txn = env.write_txn()?;
        let entries = env.create_database(&mut txn, None)?;
        txn.commit()?;
        Ok(Self { env, entries })
    }
}

impl Writer for Peer {
    fn write(&mut self, items: &[Item]) -> anyhow::Result<()> {
        let mut txn = self.env.write_txn()?;
        for item in items {
            self.entries.put(&mut txn, &key(item.group, item.index), &item.data)?;
        }
        Ok(txn.commit()?)
    }

    fn read(&mut self, group: u64, first: u64, count: u64) -> anyhow::Result<u64> {
        let txn = self.env.read_txn()?;
        let (from, to) = (key(group, first), key(group, first + count));
        let range = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let mut bytes = 0;
        for found in self.entries.range(&txn, &range)? {
            bytes += found?.1.len() as u64;
        }
        Ok(bytes)
    }

    fn forget(&mut self, upto: &[(u64, u64)]) -> anyhow::Result<()> {
        let mut txn = self.env.write_txn()?;
        for (group, index) in upto {
            let (from, to) = (key(*group, 0), key(*group, *index));
            let range = (Bound::Included(&from[..]), Bound::Included(&to[..]));
            self.entries.delete_range(&mut txn, &range)?;
        }
        Ok(txn.commit()?)
    }
}
