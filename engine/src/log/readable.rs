//! A segment that can be read: an open description, the tables that say where its entries are.
//!
//! I own how bytes of a segment come into memory, and that each entry is checked after it was read. (R1)
//! Bytes are read, never mapped: where a disk errs or a file became shorter, a read is an error and an access
//! through a mapping is the end of the process. I do not know which segments there are (see log).

use std::io;
use std::sync::Arc;

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

/// A segment that can be read.
pub struct Readable<V: Vfs> {
    /// Its file's name.
    pub path: String,
    /// Its salt.
    pub salt: u64,
    /// An open description.
    pub file: V::File,
    /// The trailer, if it is sealed.
    pub trailer: Option<Trailer>,
    /// The entry table of a segment that a recovery has not sealed yet.
    pub entries: Vec<EntryRef>,
}

impl<V: Vfs> Readable<V> {
    /// A segment to read from.
    #[must_use]
    pub fn new(path: String, salt: u64, file: V::File, trailer: Option<Trailer>) -> Self {
        Self { path, salt, file, trailer, entries: Vec::new() }
    }

    /// Reads bytes of the file in place of what `out` held.
    fn bytes_into(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        // Before much memory is taken for them.
        if len > UNASKED && offset + len as u64 > self.file.len().map_err(Error::io("stat", &self.path))? {
            return Err(self.damaged(offset, CUT));
        }
        out.clear();
        out.resize(len, 0);
        self.fill(offset, out)
    }

    fn fill(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        read_exact_at(&self.file, out, offset).map_err(|e| match e.kind() {
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

    /// Reads the bytes of the entry at a location in this segment, in place of what `data` held.
    pub fn read_into(&self, location: &Location, data: &mut Vec<u8>) -> Result<EntryKind> {
        let (name, at) = self.place(location)?;
        self.bytes_into(u64::from(at.offset), at.len as usize, data)?;
        self.check(name, at, data)
    }

    /// The place of an entry from the entry table.
    pub fn table(&self, n: u32) -> Result<EntryRef> {
        let Some(trailer) = &self.trailer else {
            return Ok(self.entries[n as usize]);
        };
        let [table, ..] = trailer.parts();
        let mut raw = [0; segment::ENTRY_LEN];
        self.fill(table.start + u64::from(n) * segment::ENTRY_LEN as u64, &mut raw)?;
        Ok(EntryRef::decode(&raw))
    }
}
