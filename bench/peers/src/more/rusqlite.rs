//! SQLite through rusqlite: a write-ahead log, synced on each commit (`synchronous=FULL`).

use std::path::Path;

use ::rusqlite::Connection;
use seawall_bench::grouped::Writer;
use seawall_bench::subject::Item;

/// A connection to a database with one table.
pub(crate) struct Peer(Connection);

impl Peer {
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(dir.join("db"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS entries (grp INTEGER, idx INTEGER, data BLOB, PRIMARY KEY (grp, idx)) WITHOUT ROWID",
        )?;
        Ok(Self(connection))
    }
}

impl Writer for Peer {
    fn write(&mut self, items: &[Item]) -> anyhow::Result<()> {
        let txn = self.0.transaction()?;
        let mut insert = txn.prepare_cached("INSERT INTO entries VALUES (?, ?, ?)")?;
        for item in items {
            insert.execute((i64::try_from(item.group)?, i64::try_from(item.index)?, &*item.data))?;
        }
        drop(insert);
        Ok(txn.commit()?)
    }

    fn read(&mut self, group: u64, first: u64, count: u64) -> anyhow::Result<u64> {
        let range = (i64::try_from(group)?, i64::try_from(first)?, i64::try_from(first + count)?);
        let select = "SELECT data FROM entries WHERE grp = ? AND idx >= ? AND idx < ?";
        let mut select = self.0.prepare_cached(select)?;
        let mut rows = select.query(range)?;
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            bytes += row.get_ref(0)?.as_blob()?.len() as u64;
        }
        Ok(bytes)
    }

    fn forget(&mut self, upto: &[(u64, u64)]) -> anyhow::Result<()> {
        let txn = self.0.transaction()?;
        let mut delete = txn.prepare_cached("DELETE FROM entries WHERE grp = ? AND idx <= ?")?;
        for (group, index) in upto {
            delete.execute((i64::try_from(*group)?, i64::try_from(*index)?))?;
        }
        drop(delete);
        Ok(txn.commit()?)
    }
}
