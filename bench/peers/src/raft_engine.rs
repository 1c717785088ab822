//! raft-engine: the log of TiKV, many groups in one stream.
//!
//! Chosen for speed where its defaults leave a choice: recycled files that are filled with zeros at the
//! start, 64 MiB each as seawall's, and no compression, which random payloads would only pay for.

use std::path::Path;

use ::raft_engine::env::DefaultFileSystem;
use ::raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use raft_proto::eraftpb::Entry;
use seawall_bench::subject::{Item, Subject};

/// An engine in a directory.
pub(crate) struct Peer(Engine<DefaultFileSystem>);

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

impl Peer {
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let config = Config {
            dir: dir.join("log").to_string_lossy().into_owned(),
            target_file_size: ReadableSize::mb(64),
            purge_threshold: ReadableSize::mb(256),
            batch_compression_threshold: ReadableSize::kb(0),
            enable_log_recycle: true,
            prefill_for_recycle: true,
            ..Config::default()
        };
        Ok(Self(Engine::open(config)?))
    }
}

impl Subject for Peer {
    fn append(&self, items: &[Item]) -> anyhow::Result<()> {
        let mut batch = LogBatch::with_capacity(items.len());
        for group in items.chunk_by(|a, b| a.group == b.group) {
            let entry = |item: &Item| Entry {
                index: item.index,
                term: 1,
                data: item.data.to_vec().into(),
                ..Entry::default()
            };
            let entries: Vec<Entry> = group.iter().map(entry).collect();
            batch.add_entries::<Entries>(group[0].group + 1, &entries)?;
        }
        self.0.write(&mut batch, true)?;
        Ok(())
    }

    fn read(&self, group: u64, first: u64, count: u64) -> anyhow::Result<u64> {
        let mut found: Vec<Entry> = Vec::new();
        self.0.fetch_entries_to::<Entries>(group + 1, first, first + count, None, &mut found)?;
        anyhow::ensure!(found.len() as u64 == count, "all that were asked for");
        Ok(found.iter().map(|entry| entry.data.len() as u64).sum())
    }

    fn forget(&self, upto: &[(u64, u64)]) -> anyhow::Result<()> {
        for (group, index) in upto {
            self.0.compact_to(group + 1, *index);
        }
        self.0.purge_expired_files()?;
        Ok(())
    }
}
