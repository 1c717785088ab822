//! The high-water file: how far the store had come when it last opened, rotated or closed.
//!
//! I own the file `HIGHWATER`. (H1) What it names was durable before it was written, so a store that
//! shows less has lost something, even if all that it shows is whole: a file was rolled back, or the
//! newest one is gone. (H2) It has two slots 4 KiB apart, written and synced one after the other; the
//! higher that holds counts, so neither a crash nor one fault takes both. I do not know what a segment
//! holds, nor what to make of a gap (see recovery). (H3) Its position is a mark like those in frames.

use std::io;
use std::ops::Range;
use std::sync::Mutex;

use crate::checksum::crc;
use crate::error::{Error, Result};
use crate::planted::Bug;
use crate::sync::lock;
use crate::types::{END, Epoch, Position, SegmentId};
use crate::vfs::{Access, File, Vfs, read_exact_at, write_all_at};

/// The file's name.
pub const NAME: &str = "HIGHWATER";
/// Where the second slot starts.
pub const SECOND_SLOT: u64 = 4096;
/// The file's length.
pub const FILE_LEN: u64 = 8192;

/// Places of the fields, in bytes from the start of a slot.
pub mod field {
    use std::ops::Range;
    /// `SEAWHIGH`.
    pub const MAGIC: Range<usize> = 0..8;
    /// The store.
    pub const STORE: Range<usize> = MAGIC.end..MAGIC.end + 16;
    /// The newest epoch.
    pub const EPOCH: Range<usize> = STORE.end..STORE.end + 8;
    /// The newest segment.
    pub const SEGMENT: Range<usize> = EPOCH.end..EPOCH.end + 8;
    /// The last position that was durable.
    pub const POSITION: Range<usize> = SEGMENT.end..SEGMENT.end + 8;
    /// The number of the newest event of the evidence file.
    pub const EVIDENCE: Range<usize> = POSITION.end..POSITION.end + 8;
    /// CRC-32 of all before.
    pub const CRC: Range<usize> = EVIDENCE.end..EVIDENCE.end + 4;
    /// The length of a slot.
    pub const LEN: usize = CRC.end;
}

const MAGIC: [u8; 8] = *b"SEAWHIGH";

/// How far a store had come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HighWater {
    /// The newest epoch.
    pub epoch: Epoch,
    /// The newest segment.
    pub segment: SegmentId,
    /// The last position that was durable.
    pub position: Position,
    /// The number of the newest event of the evidence file.
    pub evidence: u64,
}

impl HighWater {
    /// The bytes of a slot.
    #[must_use]
    pub fn encode(&self, store: &[u8; 16]) -> [u8; field::LEN] {
        let mut raw = [0; field::LEN];
        raw[field::MAGIC].copy_from_slice(&MAGIC);
        raw[field::STORE].copy_from_slice(store);
        raw[field::EPOCH].copy_from_slice(&self.epoch.0.to_le_bytes());
        raw[field::SEGMENT].copy_from_slice(&self.segment.0.to_le_bytes());
        raw[field::POSITION].copy_from_slice(&self.position.0.to_le_bytes());
        raw[field::EVIDENCE].copy_from_slice(&self.evidence.to_le_bytes());
        let sum = crc(0, &raw[..field::CRC.start]);
        raw[field::CRC].copy_from_slice(&sum.to_le_bytes());
        raw
    }

    /// Reads a slot; `None` unless it holds and is this store's.
    #[must_use]
    pub fn decode<V: Vfs>(raw: &[u8; field::LEN], store: &[u8; 16]) -> Option<Self> {
        let number = |at: Range<usize>| u64::from_le_bytes(raw[at].try_into().expect("eight bytes"));
        let sum = crc(0, &raw[..field::CRC.start]).to_le_bytes();
        let holds = raw[field::CRC] == sum || V::planted(Bug::HighWaterUnchecked);
        if raw[field::MAGIC] != MAGIC || !holds || raw[field::STORE] != *store {
            return None;
        }
        let [epoch, segment, position, evidence] =
            [field::EPOCH, field::SEGMENT, field::POSITION, field::EVIDENCE].map(number);
        [epoch, segment, position, evidence].iter().all(|n| *n < END).then_some(Self {
            epoch: Epoch(epoch),
            segment: SegmentId(segment),
            position: Position(position),
            evidence,
        })
    }
}

/// Reads the file; `None` if it is missing or neither slot holds.
pub fn read<V: Vfs>(vfs: &V, store: &[u8; 16]) -> Result<Option<HighWater>> {
    let file = match vfs.open(NAME, Access::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", NAME))?,
    };
    let slot = |at| {
        let mut raw = [0; field::LEN];
        match read_exact_at(&file, &mut raw, at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(Error::io("read", NAME)(e)),
            Ok(()) => Ok(HighWater::decode::<V>(&raw, store)),
        }
    };
    Ok(slot(0)?.max(slot(SECOND_SLOT)?))
}

/// The open file. Raised by whoever knows of more, in any order; it never goes back.
pub struct Keeper<V: Vfs> {
    file: V::File,
    store: [u8; 16],
    reached: Mutex<HighWater>,
}

impl<V: Vfs> Keeper<V> {
    /// Makes the file with both slots; durable on return but for its name.
    pub fn create(vfs: &V, store: &[u8; 16], high: &HighWater) -> io::Result<Self> {
        let file = vfs.create(NAME)?;
        file.set_len(FILE_LEN)?;
        let keeper = Self { file, store: *store, reached: Mutex::default() };
        keeper.raise(high)?;
        keeper.file.sync_all()?;
        Ok(keeper)
    }

    /// Opens the file for writing; makes it again, durably, if it is missing. The next raise writes it
    /// whatever it holds.
    pub fn open(vfs: &V, store: &[u8; 16], high: &HighWater) -> io::Result<Self> {
        match vfs.open(NAME, Access::ReadWrite) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let keeper = Self::create(vfs, store, high)?;
                vfs.sync_dir("")?;
                Ok(keeper)
            }
            other => Ok(Self { file: other?, store: *store, reached: Mutex::default() }),
        }
    }

    /// Writes one slot and syncs it, then the other, unless more is written there already. What `high`
    /// names must be durable.
    pub fn raise(&self, high: &HighWater) -> io::Result<()> {
        let mut reached = lock(&self.reached);
        if *high <= *reached {
            return Ok(());
        }
        let raw = high.encode(&self.store);
        for at in [0, SECOND_SLOT] {
            write_all_at::<V>(&self.file, &raw, at)?;
            self.file.sync_data()?;
        }
        *reached = *high;
        Ok(())
    }
}
