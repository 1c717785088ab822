//! What a caller may choose: once at creation, and again at each open.
//!
//! I own the defaults and the checks. I know no file.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::space::Space;
use crate::types::{Epoch, GroupId, Index};

/// The smallest segment: a header, a checkpoint with its twin 4 KiB further, and some batches.
pub const MIN_SEGMENT_BYTES: u64 = 16 << 10;
/// The largest segment: offsets within one are 32 bits wide.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// Prepared segments that stand behind every entry: one for the next recovery, one that it may fill with
/// entries of an unfinished frame, two that control records use in turn on a full disk.
pub const RESERVED_SEGMENTS: usize = 4;
/// Segments prepared before a batch needs them, beside the reserve.
pub const SEGMENTS_AHEAD: usize = 2;
/// So many prepared segments are kept when others are dead. More than are prepared ahead: a log that is
/// compacted as it grows then neither fills segments nor removes any, whichever comes first.
pub const SEGMENTS_KEPT: usize = RESERVED_SEGMENTS + 2 * SEGMENTS_AHEAD;

/// Chunks of a snapshot that are packed or unpacked at once, if there are as many processors.
pub const SNAPSHOT_THREADS: usize = 2;

/// What `create` fixes for the life of a store.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// The cluster that the store belongs to.
    pub cluster: u64,
    /// The node within the cluster.
    pub node: u64,
    /// Bytes in a segment file. 64 MiB by default.
    pub segment_bytes: u64,
    /// The alignment unit in bytes, 4096 or 512: a batch starts on a fresh one, and it is what a
    /// power loss is assumed to write whole. 512 writes less, and trusts the disk's sectors more.
    pub unit: u32,
    /// The store's sixteen bytes of identity; drawn at random when absent. Fix it to get the same
    /// bytes for the same operations.
    pub seed: Option<[u8; 16]>,
    /// Accepts a network file system, on which the durability of a sync is the server's word.
    pub allow_any_file_system: bool,
}

impl CreateOptions {
    /// The defaults for a node of a cluster.
    #[must_use]
    pub fn new(cluster: u64, node: u64) -> Self {
        Self { cluster, node, segment_bytes: 64 << 20, unit: 4096, seed: None, allow_any_file_system: false }
    }

    /// Whether the format allows this unit and this size of a segment.
    pub(crate) fn is_possible(unit: u32, segment_bytes: u64) -> bool {
        Self { unit, segment_bytes, ..Self::new(0, 0) }.check_format().is_ok()
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.check_format()?;
        if Space::is_possible(self.segment_bytes, self.unit) {
            return Ok(());
        }
        let why = "no room for a vote and an entry in units of this size; 40 KiB and more have it";
        Err(Error::InvalidOption { option: "segment_bytes", why })
    }

    fn check_format(&self) -> Result<()> {
        if self.unit != 512 && self.unit != 4096 {
            return Err(Error::InvalidOption { option: "unit", why: "must be 4096 or 512" });
        }
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes) {
            return Err(Error::InvalidOption { option: "segment_bytes", why: "must be 16 KiB to 1 GiB" });
        }
        if !self.segment_bytes.is_multiple_of(4096) {
            return Err(Error::InvalidOption { option: "segment_bytes", why: "must be a multiple of 4096" });
        }
        Ok(())
    }
}

/// Who does the work that no caller waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// Background threads: one commits what nobody waits for, one prepares and recycles segments, one
    /// delivers callbacks once there are any; up to three more while a snapshot is written, up to two while one is streamed.
    #[default]
    Threads,
    /// Nothing runs in the background: `wait`, `begin_flush` and `maintain` do everything on the
    /// caller's thread. For hosts with a loop of their own, and for deterministic tests.
    Caller,
}

/// What an open does about acknowledged entries or a snapshot that are damaged while all their names are
/// known. Any other loss refuses a writable open, whatever the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveryPolicy {
    /// The open goes on and the report names them. The groups that they belong to take no vote and no
    /// entry until a peer gave them back ([`Engine::repair`](crate::Engine::repair)) or a truncation, a
    /// compaction or an installed snapshot made them needless.
    #[default]
    Block,
    /// The open refuses.
    Refuse,
}

/// What a host has seen of a store and keeps elsewhere. A directory that was rolled back as a whole is
/// consistent in itself; only a witness from outside tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// The newest epoch that an open returned.
    pub epoch: Epoch,
    /// Commit indexes that were reached, by group.
    pub commits: BTreeMap<GroupId, Index>,
}

/// What each open may choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Cluster and node that the store must belong to; unchecked when absent.
    pub expect: Option<(u64, u64)>,
    /// What the host knows of the store's past; unchecked when absent.
    pub witness: Option<Witness>,
    /// What to do about damage that single groups can be healed of.
    pub recovery: RecoveryPolicy,
    /// The largest entry in bytes. 8 MiB by default; at most a quarter of a segment in any case.
    pub max_entry_bytes: u32,
    /// The largest batch in bytes. 16 MiB by default; at most a quarter of a segment in any case.
    pub max_batch_bytes: u32,
    /// Bytes that may wait for durability at once. 64 MiB by default.
    pub max_in_flight_bytes: u64,
    /// Entries that may wait for durability at once. 65,536 by default.
    pub max_in_flight_entries: u64,
    /// Syncs that may run at once. 2 by default.
    pub max_syncs_in_flight: u32,
    /// When nothing happened for so long, all that is durable is marked so: a stop after that leaves no
    /// [`maybe_acked`](crate::RecoveryReport::maybe_acked) entries behind. Costs two small writes and syncs,
    /// for which no append waits. `None` by default; needs [`Driver::Threads`], elsewhere `maintain` does it.
    pub mark_when_idle: Option<Duration>,
    /// Who does the work that no caller waits for.
    pub driver: Driver,
    /// Level of zstd for snapshot chunks, or `None` to store them as they are. 1 by default.
    pub zstd_level: Option<i32>,
    /// Bytes in a snapshot chunk before compression. 1 MiB by default. While a snapshot is written there is memory
    /// for about ten chunks, and for six while one is streamed; with [`Driver::Caller`] for two.
    pub chunk_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            expect: None,
            witness: None,
            recovery: RecoveryPolicy::default(),
            max_entry_bytes: 8 << 20,
            max_batch_bytes: 16 << 20,
            max_in_flight_bytes: 64 << 20,
            max_in_flight_entries: 65_536,
            max_syncs_in_flight: 2,
            mark_when_idle: None,
            driver: Driver::Threads,
            zstd_level: Some(1),
            chunk_bytes: 1 << 20,
        }
    }
}

impl Options {
    /// Threads beside the host's own that pack a snapshot: one more than work at once, for one waits for a sync.
    pub(crate) fn packing_threads(&self) -> usize {
        self.threads().map_or(0, |threads| threads + 1)
    }

    /// Threads beside the host's own that unpack a snapshot.
    pub(crate) fn unpacking_threads(&self) -> usize {
        self.threads().unwrap_or(0)
    }

    fn threads(&self) -> Option<usize> {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        (self.driver == Driver::Threads).then(|| processors().min(SNAPSHOT_THREADS))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let bad = |option, why| Err(Error::InvalidOption { option, why });
        if !(1..=64).contains(&self.max_syncs_in_flight) {
            return bad("max_syncs_in_flight", "must be 1 to 64");
        }
        if !(512..=64 << 20).contains(&self.chunk_bytes) {
            return bad("chunk_bytes", "must be 512 to 64 MiB");
        }
        if self.max_batch_bytes == 0 || self.max_in_flight_bytes < u64::from(self.max_batch_bytes) {
            return bad("max_in_flight_bytes", "must be at least max_batch_bytes");
        }
        if self.max_in_flight_entries == 0 {
            return bad("max_in_flight_entries", "must be at least 1");
        }
        Ok(())
    }
}
