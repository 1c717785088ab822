//! A segment that can be read: its file, and the tables that say where its entries are.
//!
//! I own how bytes of a segment come into memory, and that each entry is checked after it was read. (R1)
//! Bytes are read, never mapped: where a disk errs or a file became shorter, a read is an error and an access
//! through a mapping is the end of the process. (R2) Where there is no file of its name any more it was recycled since
//! it was looked up, like one whose bytes were overwritten: whoever reads looks again. I do not know which
//! segments there are (see log), nor which are open (see held).

use std::io;
use std::sync::Arc;

use super::held::Held;
use crate::checksum::crc;
use crate::error::{Error, Result};
use crate::index::Location;
use crate::planted::Bug;
use crate::record::Name;
use crate::segment::{self, EntryRef, Trailer};
use crate::types::{Entry, EntryKind};
use crate::vfs::{File, Vfs, read_exact_at};

/// So many bytes are read without a look at the file's length before.
const UNASKED: usize = 64 << 10;
const CUT: &str = "the file is shorter";
const GONE: &str = "there is no such file";

/// A segment that can be read.
pub struct Readable<V: Vfs> {
    /// Its file's name.
    pub path: String,
    /// Its salt.
    pub salt: u64,
    /// Its file.
    pub held: Arc<Held<V>>,
    /// The trailer, if it is sealed.
    pub trailer: Option<Trailer>,
    /// The entry table of a segment that a recovery has not sealed yet.
    pub entries: Vec<EntryRef>,
}

impl<V: Vfs> Readable<V> {
    /// A segment to read from.
    #[must_use]
    pub fn new(held: Arc<Held<V>>, salt: u64, trailer: Option<Trailer>) -> Self {
        Self { path: held.path().to_owned(), salt, held, trailer, entries: Vec::new() }
    }

    /// A description of its file.
    pub fn file(&self) -> Result<Arc<V::File>> {
        self.held.open().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => self.damaged(0, GONE),
            _ => Error::io("open", &self.path)(e),
        })
    }

    /// Reads bytes of the file in place of what `out` held.
    fn bytes_into(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        self.bytes_of(&*self.file()?, offset, len, out)
    }

    fn bytes_of(&self, file: &V::File, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        // Before much memory is taken for them.
        if len > UNASKED && offset + len as u64 > file.len().map_err(Error::io("stat", &self.path))? {
            return Err(self.damaged(offset, CUT));
        }
        out.clear();
        out.resize(len, 0);
        self.fill(file, offset, out)
    }

    fn fill(&self, file: &V::File, offset: u64, out: &mut [u8]) -> Result<()> {
        read_exact_at(file, out, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(offset, CUT),
            _ => Error::Io { doing: "read", path: self.path.clone(), source: e },
        })
    }

    fn damaged(&self, offset: u64, what: &'static str) -> Error {
        Error::Damaged { file: self.path.clone(), offset, what }
    }

    /// Reads an entry and checks it against its name.
    pub fn entry(&self, name: &Name, at: EntryRef) -> Result<Entry> {
        let mut data = Vec::new();
        self.bytes_into(u64::from(at.offset), at.len as usize, &mut data)?;
        let data: Arc<[u8]> = data.into();
        let kind = self.check(name, at, &data)?;
        Ok(Entry { id: name.id, leader: name.leader, kind, data })
    }

    fn check(&self, name: &Name, at: EntryRef, data: &[u8]) -> Result<EntryKind> {
        if crc(name.seed(self.salt), data) != at.crc
            && !V::planted(Bug::ReadUnchecked)
            && !V::planted(Bug::FramesUnchecked)
        {
            return Err(self.damaged(u64::from(at.offset), "an entry's checksum does not hold"));
        }
        Ok(name.kind.entry().expect("the index holds entries"))
    }

    fn place<'l>(&self, location: &'l Location) -> Result<(&'l Name, EntryRef)> {
        match location {
            Location::Active(name, at) => Ok((name, *at)),
            Location::Sealed(name, _, n) => Ok((name, self.table(*n)?)),
        }
    }

    /// Reads the entry at a location in this segment.
    pub fn read(&self, location: &Location) -> Result<Entry> {
        let (name, at) = self.place(location)?;
        self.entry(name, at)
    }

    /// As [`Readable::read`], of the bytes alone, for who reads entries one after the other.
    pub fn read_ahead<'a>(&self, location: &Location, ahead: &'a mut Ahead) -> Result<(EntryKind, &'a [u8])> {
        let (name, at) = match location {
            Location::Sealed(name, _, n) if self.trailer.is_some() => {
                let raw = ahead.table.get(self, self.row(*n), segment::ENTRY_LEN)?;
                (name, EntryRef::decode(raw.try_into().expect("as many as were asked for")))
            }
            other => self.place(other)?,
        };
        let data = ahead.data.get(self, u64::from(at.offset), at.len as usize)?;
        Ok((self.check(name, at, data)?, data))
    }

    /// Where a row of the entry table starts in the file.
    fn row(&self, n: u32) -> u64 {
        let table = self.trailer.as_ref().map_or(0, |trailer| trailer.parts()[0].start);
        table + u64::from(n) * segment::ENTRY_LEN as u64
    }

    /// The place of an entry from the entry table.
    pub fn table(&self, n: u32) -> Result<EntryRef> {
        if self.trailer.is_none() {
            return Ok(self.entries[n as usize]);
        }
        let mut raw = [0; segment::ENTRY_LEN];
        self.fill(&*self.file()?, self.row(n), &mut raw)?;
        Ok(EntryRef::decode(&raw))
    }

    /// Reads as many bytes as are asked for, or as there are and are needed, in place of what `out` held.
    fn read_up_to(&self, offset: u64, needed: usize, asked: usize, out: &mut Vec<u8>) -> Result<()> {
        let file = self.file()?;
        self.bytes_of(&file, offset, needed, out)?;
        let mut len = needed;
        out.resize(asked.max(needed), 0);
        // What was not needed was not asked for: an error of it is that of who needs it.
        while let Ok(more @ 1..) = file.read_at(&mut out[len..], offset + len as u64) {
            len += more;
        }
        out.truncate(len);
        Ok(())
    }
}

/// What was read of segments ahead of need. Bytes that were overwritten since do not pass the check of their entry.
#[derive(Default)]
pub struct Ahead {
    table: Block,
    data: Block,
}

/// Bytes read at once, of who reads one after the other.
const BLOCK: usize = 64 << 10;
/// So many bytes between two entries are a frame's own.
const GAP: u64 = 8 << 10;

/// Bytes of one segment.
#[derive(Default)]
struct Block {
    salt: u64,
    offset: u64,
    bytes: Vec<u8>,
    /// Where what was asked for last ended.
    end: u64,
}

impl Block {
    fn get<V: Vfs>(&mut self, of: &Readable<V>, offset: u64, len: usize) -> Result<&[u8]> {
        let same = self.salt == of.salt;
        let held = self.offset + self.bytes.len() as u64;
        if !same || offset < self.offset || offset + len as u64 > held {
            let follows = same && (self.end..self.end + GAP).contains(&offset);
            self.salt = 0;
            of.read_up_to(offset, len, if follows { BLOCK } else { len }, &mut self.bytes)?;
            (self.salt, self.offset) = (of.salt, offset);
        }
        self.end = offset + len as u64;
        let at = usize::try_from(offset - self.offset).expect("within what was read");
        Ok(&self.bytes[at..at + len])
    }
}
