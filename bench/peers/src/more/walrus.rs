//! walrus: topics in files that are synced on each append (`FsyncSchedule::SyncEach`). It deletes what was
//! read, and nothing is read here: it never gives up anything.

use ::walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};
use seawall_bench::subject::{Item, Subject};

/// As many entries as one of its batches may have.
const BATCH: usize = 2000;

/// A log with one topic, in the process's own directory: walrus takes no other.
pub(crate) struct Peer(Walrus);

impl Peer {
    pub(crate) fn open() -> anyhow::Result<Self> {
        let consistency = ReadConsistency::StrictlyAtOnce;
        Ok(Self(Walrus::with_consistency_and_schedule(consistency, FsyncSchedule::SyncEach)?))
    }
}

impl Subject for Peer {
    fn append(&self, items: &[Item]) -> anyhow::Result<()> {
        if let [one] = items {
            return Ok(self.0.append_for_topic("log", &one.data)?);
        }
        for part in items.chunks(BATCH) {
            let data: Vec<&[u8]> = part.iter().map(|item| &*item.data).collect();
            self.0.batch_append_for_topic("log", &data)?;
        }
        Ok(())
    }

    fn forget(&self, _upto: &[(u64, u64)]) -> anyhow::Result<()> {
        Ok(())
    }
}
