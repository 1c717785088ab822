//! The peers that only the full comparison has.
//!
//! I own their names. Databases get a row an entry, its key group and index; logs without groups get the
//! entries of all of them in one stream. An engine that has no group commit gets that of its host
//! ([`Grouped`]), as anybody would write who uses it under many callers.

mod fjall;
mod heed;
mod raft_log;
mod redb;
mod rusqlite;
mod sled;
mod wal_db;
mod walrus;

use std::path::Path;
use std::sync::Arc;

use seawall_bench::grouped::Grouped;
use seawall_bench::subject::Subject;

/// Opens an engine in a directory.
pub(crate) fn open(engine: &str, dir: &Path) -> anyhow::Result<Option<Arc<dyn Subject>>> {
    Ok(Some(match engine {
        "fjall" => Arc::new(fjall::Peer::open(dir)?),
        "lmdb" => Arc::new(Grouped::new(heed::Peer::open(dir)?)),
        "raft-log" => Arc::new(raft_log::Peer::open(dir)?),
        "redb" => Arc::new(Grouped::new(redb::Peer::open(dir)?)),
        "sqlite" => Arc::new(Grouped::new(rusqlite::Peer::open(dir)?)),
        "sled" => Arc::new(sled::Peer::open(dir)?),
        "wal-db" => Arc::new(wal_db::Peer::open(dir)?),
        "walrus" => Arc::new(walrus::Peer::open()?),
        _ => return Ok(None),
    }))
}

/// The key of an entry, in the order of groups and indexes.
fn key(group: u64, index: u64) -> [u8; 16] {
    (u128::from(group) << 64 | u128::from(index)).to_be_bytes()
}
