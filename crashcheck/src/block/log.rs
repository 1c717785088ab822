//! What a device was told, in order, and the format in which dm-log-writes keeps the same.
//!
//! I own the bytes of a log file, as the kernel's Documentation/admin-guide/device-mapper/log-writes.rst
//! and drivers/md/dm-log-writes.c describe them: a super block of one sector (magic, version, number of
//! entries, bytes in a sector), then entries, each a header in a sector of its own (sector, number of
//! sectors, flags, length of a text), followed by the data of a write; the text of a mark is in the
//! header's sector. All numbers are 64 bits (the sector's size 32), little endian.
//!
//! A mark that begins [`ACK`] is an acknowledgement; one too long for a sector is written in pieces, of
//! which all but the last begin [`ACK_PART`]. [`START`] stands where the workload began and [`END`] where
//! it had ended. I do not know what a crash leaves (see `states`).

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Arc;

/// Bytes in a sector.
pub const SECTOR: usize = 512;

/// The text before an acknowledgement, on the workload's output and in a mark.
pub const ACK: &str = "durable-ack ";

/// The text before a piece of an acknowledgement that is not its last.
pub const ACK_PART: &str = "durable-ack+";

/// The mark where the workload begins.
pub const START: &str = "crashcheck-start";

/// The mark where the workload has ended.
pub const END: &str = "crashcheck-end";

/// The mark where recording stopped because the log was full.
pub const FULL: &str = "crashcheck-full";

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;
const METADATA: u64 = 1 << 4;

const ENTRY_SECTOR: Range<usize> = 0..8;
const ENTRY_COUNT: Range<usize> = ENTRY_SECTOR.end..ENTRY_SECTOR.end + 8;
const ENTRY_FLAGS: Range<usize> = ENTRY_COUNT.end..ENTRY_COUNT.end + 8;
const ENTRY_TEXT: Range<usize> = ENTRY_FLAGS.end..ENTRY_FLAGS.end + 8;
const HEADER: usize = ENTRY_TEXT.end;

/// One thing that a device was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Bytes written.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// What.
        data: Arc<[u8]>,
    },
    /// Bytes given up: zeros, or what was there.
    Discard {
        /// Where, in bytes.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// What was written before is on the disk.
    Flush,
    /// A note in the order of things.
    Mark(String),
}

impl Entry {
    /// Whether the device's bytes are others after it.
    pub(crate) fn changes(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Discard { .. })
    }
}

/// What is wrong with a log file.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It does not begin as one.
    #[error("this is not a log of dm-log-writes: it begins with other bytes")]
    NotALog,
    /// A newer format.
    #[error("a log of version {0}; this program reads version {VERSION}")]
    Version(u64),
    /// Something that no log has.
    #[error("entry {entry}: {what}")]
    Damaged {
        /// Which entry.
        entry: u64,
        /// What about it.
        what: &'static str,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes a log file, entry by entry.
#[derive(Debug)]
pub struct LogWriter<W> {
    out: W,
    entries: u64,
    bytes: u64,
}

impl<W: Write + Seek> LogWriter<W> {
    /// Begins a log.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&super_block(0))?;
        Ok(Self { out, entries: 0, bytes: SECTOR as u64 })
    }

    /// How many bytes the log has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A write, of whole sectors.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let sectors = (data.len() / SECTOR) as u64;
        self.entry(offset / SECTOR as u64, sectors, 0, "")?;
        self.bytes += data.len() as u64;
        self.out.write_all(data)
    }

    /// A discard, of whole sectors.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.entry(offset / SECTOR as u64, len / SECTOR as u64, DISCARD, "")
    }

    /// A flush.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.entry(0, 0, FLUSH, "")
    }

    /// A mark; of an acknowledgement as many as it needs.
    ///
    /// # Errors
    /// If it cannot be written, or is no acknowledgement and longer than a sector holds.
    pub fn mark(&mut self, text: &str) -> io::Result<()> {
        const ROOM: usize = SECTOR - HEADER;
        let Some(mut ack) = text.strip_prefix(ACK).filter(|_| text.len() > ROOM) else {
            return self.entry(0, 0, MARK, text);
        };
        while ACK.len() + ack.len() > ROOM {
            let fits = (0..=ROOM - ACK_PART.len()).rev();
            let cut = fits.into_iter().find(|at| ack.is_char_boundary(*at)).expect("zero is a boundary");
            self.entry(0, 0, MARK, &format!("{ACK_PART}{}", &ack[..cut]))?;
            ack = &ack[cut..];
        }
        self.entry(0, 0, MARK, &format!("{ACK}{ack}"))
    }

    /// An entry as it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        match entry {
            Entry::Write { offset, data } => self.write(*offset, data),
            Entry::Discard { offset, len } => self.discard(*offset, *len),
            Entry::Flush => self.flush(),
            Entry::Mark(text) => self.mark(text),
        }
    }

    fn entry(&mut self, sector: u64, sectors: u64, flags: u64, text: &str) -> io::Result<()> {
        let mut header = [0; SECTOR];
        if text.len() > SECTOR - HEADER {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a mark is longer than a sector holds"));
        }
        header[ENTRY_SECTOR].copy_from_slice(&sector.to_le_bytes());
        header[ENTRY_COUNT].copy_from_slice(&sectors.to_le_bytes());
        header[ENTRY_FLAGS].copy_from_slice(&flags.to_le_bytes());
        header[ENTRY_TEXT].copy_from_slice(&(text.len() as u64).to_le_bytes());
        header[HEADER..HEADER + text.len()].copy_from_slice(text.as_bytes());
        self.entries += 1;
        self.bytes += SECTOR as u64;
        self.out.write_all(&header)
    }

    /// Ends the log: the super block says how many entries there are.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&super_block(self.entries))?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn super_block(entries: u64) -> [u8; SECTOR] {
    let mut block = [0; SECTOR];
    block[0..8].copy_from_slice(&MAGIC.to_le_bytes());
    block[8..16].copy_from_slice(&VERSION.to_le_bytes());
    block[16..24].copy_from_slice(&entries.to_le_bytes());
    block[24..28].copy_from_slice(&(SECTOR as u32).to_le_bytes());
    block
}

/// Reads a log file whole. A write that was flagged FLUSH or FUA gives a flush before or after it.
///
/// # Errors
/// If it is no log, or damaged.
pub fn read(input: &mut impl Read) -> Result<Vec<Entry>, LogError> {
    let mut start = [0; SECTOR];
    input.read_exact(&mut start).map_err(|_| LogError::NotALog)?;
    if number(&start, 0..8) != MAGIC {
        return Err(LogError::NotALog);
    }
    if number(&start, 8..16) != VERSION {
        return Err(LogError::Version(number(&start, 8..16)));
    }
    let sector = u32::from_le_bytes(start[24..28].try_into().expect("four bytes")) as usize;
    let damaged = |entry, what| LogError::Damaged { entry, what };
    if !(SECTOR..=1 << 16).contains(&sector) || !sector.is_power_of_two() {
        return Err(damaged(0, "a sector of an impossible size"));
    }
    io::copy(&mut input.by_ref().take((sector - SECTOR) as u64), &mut io::sink())?;
    let mut reader = Reader { input, sector, entries: Vec::new(), part: String::new() };
    for at in 0..number(&start, 16..24) {
        reader.entry().map_err(|e| match e {
            LogError::Damaged { what, .. } => damaged(at, what),
            LogError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => damaged(at, "the file ends in it"),
            other => other,
        })?;
    }
    Ok(reader.entries)
}

fn number(bytes: &[u8], at: Range<usize>) -> u64 {
    u64::from_le_bytes(bytes[at].try_into().expect("eight bytes"))
}

struct Reader<'a, R> {
    input: &'a mut R,
    sector: usize,
    entries: Vec<Entry>,
    /// The pieces of an acknowledgement so far.
    part: String,
}

impl<R: Read> Reader<'_, R> {
    fn entry(&mut self) -> Result<(), LogError> {
        let wrong = |what| LogError::Damaged { entry: 0, what };
        let mut header = vec![0; self.sector];
        self.input.read_exact(&mut header)?;
        let flags = number(&header, ENTRY_FLAGS);
        if flags & !(FLUSH | FUA | DISCARD | MARK | METADATA) != 0 {
            return Err(wrong("unknown flags"));
        }
        let bytes = |n: u64| n.checked_mul(self.sector as u64).ok_or_else(|| wrong("numbers past all disks"));
        let (offset, len) = (bytes(number(&header, ENTRY_SECTOR))?, bytes(number(&header, ENTRY_COUNT))?);
        if flags & MARK != 0 {
            let text = usize::try_from(number(&header, ENTRY_TEXT)).ok();
            let text = text.and_then(|n| header.get(HEADER..HEADER.checked_add(n)?));
            let text = String::from_utf8_lossy(text.ok_or_else(|| wrong("a mark longer than its sector"))?);
            self.mark(&text);
            return Ok(());
        }
        if flags & FLUSH != 0 {
            self.entries.push(Entry::Flush);
        }
        if flags & DISCARD != 0 {
            self.entries.push(Entry::Discard { offset, len });
        } else if len > 0 {
            // Read as it comes, so that a length that lies costs no memory.
            let mut data = Vec::new();
            self.input.by_ref().take(len).read_to_end(&mut data)?;
            if data.len() as u64 != len {
                return Err(wrong("the file ends in its data"));
            }
            self.entries.push(Entry::Write { offset, data: data.into() });
        }
        if flags & FUA != 0 {
            self.entries.push(Entry::Flush);
        }
        Ok(())
    }

    fn mark(&mut self, text: &str) {
        if let Some(part) = text.strip_prefix(ACK_PART) {
            self.part.push_str(part);
        } else if let Some(rest) = text.strip_prefix(ACK) {
            let whole = format!("{ACK}{}{rest}", std::mem::take(&mut self.part));
            self.entries.push(Entry::Mark(whole));
        } else {
            self.entries.push(Entry::Mark(text.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn log() -> Vec<Entry> {
        vec![
            Entry::Write { offset: 4096, data: vec![7; 1024].into() },
            Entry::Flush,
            Entry::Discard { offset: 512, len: 8192 },
            Entry::Mark(START.to_owned()),
            Entry::Mark(format!("{ACK}{}", "é".repeat(700))),
            Entry::Mark(format!("{ACK}short")),
        ]
    }

    fn bytes(entries: &[Entry]) -> Vec<u8> {
        let mut writer = LogWriter::new(Cursor::new(Vec::new())).unwrap();
        entries.iter().for_each(|entry| writer.append(entry).unwrap());
        let length = writer.bytes();
        let bytes = writer.finish().unwrap().into_inner();
        assert_eq!(bytes.len() as u64, length);
        bytes
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = bytes(&log());
        assert_eq!(read(&mut &bytes[..]).unwrap(), log());
        assert_eq!(bytes.len() % SECTOR, 0);
    }

    #[test]
    fn the_first_bytes_are_those_of_the_kernel() {
        let bytes = bytes(&log());
        assert_eq!(bytes[..8], *b"rhswfsj\0");
        // The first entry: sector 8, two sectors, no flag, and then its data.
        assert_eq!(bytes[512..544], [[8u64, 2, 0, 0].map(u64::to_le_bytes)].concat().concat());
        assert_eq!(bytes[1024..2048], [7; 1024]);
        assert_eq!(bytes[2048 + 16], 1, "the flush");
    }

    #[test]
    fn a_write_that_is_flushed_is_three_entries() {
        let mut bytes = bytes(&[Entry::Write { offset: 0, data: vec![1; 512].into() }]);
        bytes[512 + 16] = (FLUSH | FUA | METADATA) as u8;
        let entries = read(&mut &bytes[..]).unwrap();
        assert_eq!(entries.len(), 3);
        assert_eq!((&entries[0], &entries[2]), (&Entry::Flush, &Entry::Flush));
    }

    #[test]
    fn every_cut_and_every_flip_ends_in_words() {
        let good = bytes(&log());
        for end in 0..good.len() {
            read(&mut &good[..end]).unwrap_err();
        }
        for at in 0..SECTOR * 2 {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let _ = read(&mut &bad[..]);
            }
        }
    }
}
