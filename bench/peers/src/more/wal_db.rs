//! wal-db: a write-ahead log with one stream, in segments of 64 MiB. A batch is several records and one sync.

use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};

use ::wal_db::{Lsn, SegmentedStore, Wal};
use seawall_bench::grouped::Floors;
use seawall_bench::subject::{Item, Subject};

/// A log. Cutting it excludes appends, as its documentation asks.
pub(crate) struct Peer {
    log: RwLock<Wal<SegmentedStore>>,
    floors: Mutex<Floors>,
}

impl Peer {
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let log = Wal::open_segmented(dir.join("log"), 64 << 20)?;
        Ok(Self { log: RwLock::new(log), floors: Mutex::default() })
    }
}

impl Subject for Peer {
    fn append(&self, items: &[Item]) -> anyhow::Result<()> {
        let log = self.log.read().unwrap_or_else(PoisonError::into_inner);
        for item in items {
            let _: Lsn = log.append(&item.data)?;
        }
        Ok(log.sync()?)
    }

    fn forget(&self, upto: &[(u64, u64)]) -> anyhow::Result<()> {
        let log = self.log.write().unwrap_or_else(PoisonError::into_inner);
        let mut floors = self.floors.lock().unwrap_or_else(PoisonError::into_inner);
        let _: Lsn = log.truncate_before(Lsn::new(floors.raise(upto, log.len())))?;
        Ok(())
    }
}
