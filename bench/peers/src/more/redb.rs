//! redb: a copy-on-write tree in a file; a commit of default durability syncs.

use std::path::Path;

use ::redb::{Database, ReadableDatabase, TableDefinition};
use seawall_bench::grouped::Writer;
use seawall_bench::subject::Item;

const ENTRIES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("entries");

/// A database with one table.
pub(crate) struct Peer(Database);

impl Peer {
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self(Database::create(dir.join("db"))?))
    }
}

impl Writer for Peer {
    fn write(&mut self, items: &[Item]) -> anyhow::Result<()> {
        let txn = self.0.begin_write()?;
        let mut table = txn.open_table(ENTRIES)?;
        for item in items {
            table.insert((item.group, item.index), &*item.data)?;
        }
        drop(table);
        Ok(txn.commit()?)
    }

    fn read(&mut self, group: u64, first: u64, count: u64) -> anyhow::Result<u64> {
        let table = self.0.begin_read()?.open_table(ENTRIES)?;
        let mut bytes = 0;
        for found in table.range((group, first)..(group, first + count))? {
            bytes += found?.1.value().len() as u64;
        }
        Ok(bytes)
    }

    fn forget(&mut self, upto: &[(u64, u64)]) -> anyhow::Result<()> {
        let txn = self.0.begin_write()?;
        let mut table = txn.open_table(ENTRIES)?;
        for (group, index) in upto {
            table.retain_in((*group, 0)..=(*group, *index), |_, _| false)?;
        }
        drop(table);
        Ok(txn.commit()?)
    }
}
