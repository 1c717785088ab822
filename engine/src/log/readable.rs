//! A segment that can be read: an open description, the tables that say where its entries are, a mapping.
//!
//! I own how bytes of a segment come into memory, and that each entry is checked after it was copied. I do
//! not know which segments there are (see log).

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, OnceLock};

use crate::checksum::crc;
use crate::error::{Error, Result};
use crate::index::Location;
use crate::planted::Bug;
use crate::record::Name;
use crate::segment::{self, EntryRef, Trailer};
use crate::types::{Entry, EntryKind};
use crate::vfs::{File, Vfs, read_exact_at};

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
    /// Whether it may be mapped: sealed, and known to be readable since the last unclean exit.
    pub mappable: bool,
    map: OnceLock<<V::File as File>::Map>,
}

impl<V: Vfs> Readable<V> {
    /// A segment to read from.
    #[must_use]
    pub fn new(path: String, salt: u64, file: V::File, trailer: Option<Trailer>, mappable: bool) -> Self {
        Self { path, salt, file, trailer, entries: Vec::new(), mappable, map: OnceLock::new() }
    }

    /// Bytes of the file: of the mapping if there may be one, else read.
    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        let cut = || self.damaged(offset, "the file is shorter");
        if self.mappable {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = start.checked_add(len).ok_or_else(cut)?;
            return self.mapped()?.get(start..end).map(Cow::Borrowed).ok_or_else(cut);
        }
        // Before memory is taken for them.
        if offset + len as u64 > self.file.len().map_err(Error::io("stat", &self.path))? {
            return Err(cut());
        }
        let mut bytes = vec![0; len];
        read_exact_at(&self.file, &mut bytes, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => cut(),
            _ => Error::Io { doing: "read", path: self.path.clone(), source: e },
        })?;
        Ok(Cow::Owned(bytes))
    }

    fn mapped(&self) -> Result<&[u8]> {
        if let Some(map) = self.map.get() {
            return Ok(map.as_ref());
        }
        let map = self.file.map().map_err(Error::io("map", &self.path))?;
        Ok(self.map.get_or_init(|| map).as_ref())
    }

    fn damaged(&self, offset: u64, what: &'static str) -> Error {
        Error::Damaged { file: self.path.clone(), offset, what }
    }

    /// Reads an entry and checks it against its name.
    pub fn entry(&self, name: &Name, at: EntryRef) -> Result<Entry> {
        // A copy, which is then checked: a mapped segment may be recycled at any moment.
        let data: Arc<[u8]> = self.bytes(u64::from(at.offset), at.len as usize)?.into();
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
        data.clear();
        data.extend_from_slice(&self.bytes(u64::from(at.offset), at.len as usize)?);
        self.check(name, at, data)
    }

    /// The place of an entry from the entry table.
    pub fn table(&self, n: u32) -> Result<EntryRef> {
        let Some(trailer) = &self.trailer else {
            return Ok(self.entries[n as usize]);
        };
        let [table, ..] = trailer.parts();
        let raw = self.bytes(table.start + u64::from(n) * segment::ENTRY_LEN as u64, segment::ENTRY_LEN)?;
        Ok(EntryRef::decode(raw.as_ref().try_into().expect("as many as were asked for")))
    }
}
