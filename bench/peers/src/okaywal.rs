//! okaywal: a write-ahead log with one stream. It fills its files with zeros and uses them again.
//!
//! Sizes as seawall's: files of 64 MiB, of which the last quarter is room for the batch that crosses
//! the checkpoint. An entry of okaywal is one batch, a chunk for each item. It gives up old entries by
//! itself, at its checkpoints.

use std::path::Path;

use ::okaywal::{Configuration, LogVoid, WriteAheadLog};
use seawall_bench::subject::{Item, Subject};

/// A log in a directory.
pub(crate) struct Peer(WriteAheadLog);

impl Peer {
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let sizes = Configuration::default_for(dir.join("log"));
        let sizes = sizes.preallocate_bytes(64 << 20).checkpoint_after_bytes(48 << 20);
        Ok(Self(sizes.open(LogVoid)?))
    }
}

impl Subject for Peer {
    fn append(&self, items: &[Item]) -> anyhow::Result<()> {
        let mut entry = self.0.begin_entry()?;
        for item in items {
            entry.write_chunk(&item.data)?;
        }
        entry.commit()?;
        Ok(())
    }

    fn forget(&self, _upto: &[(u64, u64)]) -> anyhow::Result<()> {
        Ok(())
    }
}
