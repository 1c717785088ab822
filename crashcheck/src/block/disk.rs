//! The bytes of a device, sparse, with their hash.
//!
//! I own the sum: it is always that of the blocks' terms, and a block of zeros is the same whether it is
//! stored or not. Copies share their blocks. I do not know who wrote them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::core::image::page_term;

/// Bytes in a block of a [`Disk`].
pub const BLOCK: usize = 4096;

const ZEROS: [u8; BLOCK] = [0; BLOCK];

#[derive(Clone, Debug)]
struct Block {
    bytes: Arc<[u8; BLOCK]>,
    term: u128,
}

/// A device's bytes.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    size: u64,
    blocks: BTreeMap<u64, Block>,
    sum: u128,
}

impl Disk {
    /// A device of zeros.
    #[must_use]
    pub fn zeros(size: u64) -> Self {
        Self { size, ..Self::default() }
    }

    /// The bytes of a sparse file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(file: &File) -> io::Result<Self> {
        let mut disk = Self::zeros(file.metadata()?.len());
        for range in stored(file, disk.size)? {
            for at in range.step_by(BLOCK) {
                let mut bytes = ZEROS;
                let len = usize::try_from(disk.size - at).map_or(BLOCK, |left| left.min(BLOCK));
                file.read_exact_at(&mut bytes[..len], at)?;
                disk.set(at / BLOCK as u64, bytes);
            }
        }
        Ok(disk)
    }

    /// The size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A hash of the bytes.
    #[must_use]
    pub fn hash(&self) -> u128 {
        self.sum
    }

    /// The stored blocks: where, and their bytes.
    pub fn blocks(&self) -> impl Iterator<Item = (u64, &[u8; BLOCK])> {
        self.blocks.iter().map(|(number, block)| (number * BLOCK as u64, &*block.bytes))
    }

    /// Writes bytes; what lies past the end is left out.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() && at < self.size {
            let (number, within) = (at / BLOCK as u64, usize::try_from(at % BLOCK as u64).expect("small"));
            let (now, later) = rest.split_at(rest.len().min(BLOCK - within));
            let mut bytes = self.blocks.get(&number).map_or(ZEROS, |block| *block.bytes);
            bytes[within..within + now.len()].copy_from_slice(now);
            self.set(number, bytes);
            at += now.len() as u64;
            rest = later;
        }
    }

    /// Zeros a range; what lies past the end is left out.
    pub fn zero(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.size);
        if offset >= end {
            return;
        }
        let block = |byte: u64| byte / BLOCK as u64;
        let touched: Vec<u64> =
            self.blocks.range(block(offset)..=block(end)).map(|(number, _)| number * BLOCK as u64).collect();
        for start in touched {
            let (from, to) = (offset.max(start), end.min(start + BLOCK as u64));
            if from < to {
                let len = usize::try_from(to - from).expect("within a block");
                self.write(from, &ZEROS[..len]);
            }
        }
    }

    fn set(&mut self, number: u64, bytes: [u8; BLOCK]) {
        let old = if bytes == ZEROS {
            self.blocks.remove(&number)
        } else {
            let hash = blake3::hash(&bytes);
            let half = hash.as_bytes()[..16].try_into().expect("sixteen bytes");
            let index = usize::try_from(number).expect("64 bits");
            let term = page_term(index, u128::from_le_bytes(half));
            self.sum = self.sum.wrapping_add(term);
            self.blocks.insert(number, Block { bytes: Arc::new(bytes), term })
        };
        if let Some(old) = old {
            self.sum = self.sum.wrapping_sub(old.term);
        }
    }

    /// Makes a file of the same size hold these bytes, whatever it held before.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn store(&self, file: &File) -> io::Result<()> {
        for range in stored(file, self.size)? {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("fits in memory")];
            file.read_exact_at(&mut bytes, range.start)?;
            for (at, there) in (range.start..).step_by(BLOCK).zip(bytes.chunks(BLOCK)) {
                let wanted = self.blocks.get(&(at / BLOCK as u64)).map_or(&ZEROS, |block| &block.bytes);
                if wanted[..there.len()] != *there {
                    file.write_all_at(&wanted[..there.len()], at)?;
                }
            }
        }
        // What the file did not store is zeros there, and maybe not here.
        let stored = stored(file, self.size)?;
        let mut ranges = stored.iter().peekable();
        for (at, bytes) in self.blocks() {
            while ranges.peek().is_some_and(|range| range.end <= at) {
                ranges.next();
            }
            if ranges.peek().is_none_or(|range| at < range.start) {
                let len = usize::try_from(self.size - at).map_or(BLOCK, |left| left.min(BLOCK));
                file.write_all_at(&bytes[..len], at)?;
            }
        }
        Ok(())
    }
}

/// The ranges of a file that are not holes, widened to whole blocks.
fn stored(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start - start % BLOCK as u64,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = seek(file, SeekFrom::Hole(start.max(at)))?.next_multiple_of(BLOCK as u64).min(size);
        ranges.push(start..end);
        at = end;
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 64 << 10;

    /// A log of a stranger may say so.
    #[test]
    fn what_lies_past_the_end_changes_nothing() {
        let mut disk = Disk::zeros(SIZE);
        disk.write(0, &[7; 100]);
        let before = disk.hash();
        for offset in [SIZE, SIZE + 4096, SIZE * 9, u64::MAX - 511] {
            disk.zero(offset, 512);
            disk.zero(offset, u64::MAX);
            disk.write(offset, &[1; 512]);
        }
        assert_eq!(disk.hash(), before);
    }

    proptest! {
        #[test]
        fn a_disk_is_its_bytes(writes in proptest::collection::vec((0..SIZE, 0..9000usize, 0..3u8, any::<bool>()), 0..20)) {
            let mut disk = Disk::zeros(SIZE);
            let mut plain = vec![0; SIZE as usize];
            for (offset, len, fill, zero) in writes {
                let end = (offset as usize + len).min(SIZE as usize);
                if zero {
                    disk.zero(offset, len as u64);
                    plain[offset as usize..end].fill(0);
                } else {
                    disk.write(offset, &vec![fill; len]);
                    plain[offset as usize..end].fill(fill);
                }
            }
            let mut all = vec![0; SIZE as usize];
            disk.blocks().for_each(|(at, bytes)| all[at as usize..at as usize + BLOCK].copy_from_slice(bytes));
            prop_assert_eq!(&all, &plain);
            let mut again = Disk::zeros(SIZE);
            again.write(0, &plain);
            prop_assert_eq!(again.hash(), disk.hash());

            let file = tempfile::tempfile().unwrap();
            file.set_len(SIZE).unwrap();
            file.write_all_at(&[9; 5000], 3 * BLOCK as u64).unwrap();
            disk.store(&file).unwrap();
            let read = Disk::read(&file).unwrap();
            prop_assert_eq!(read.hash(), disk.hash());
            let mut stored = vec![0; SIZE as usize];
            file.read_exact_at(&mut stored, 0).unwrap();
            prop_assert_eq!(stored, plain);
        }
    }
}
