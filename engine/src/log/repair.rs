//! Gives a damaged entry its bytes back.
//!
//! I own the exchange of a sealed segment's file for one that holds. (G5) Only bytes that have the length
//! and the checksum of what was acknowledged are taken; a CRC-32 finds accidents, not forgeries. (G6) The damaged bytes are in quarantine and the act
//! is in evidence, durably, before the file changes. (G7) The new file is whole and
//! synced before it takes the name, so a crash leaves the one or the other. I do not know who asks.

use super::{Log, Readable};
use crate::checksum::{crc, seed};
use crate::error::{Error, Result};
use crate::evidence::{Act, Event};
use crate::index::Location;
use crate::planted::Bug;
use crate::quarantine;
use crate::record::Kind;
use crate::segment::{self, EntryRef, Header, HeaderFact, Trailer, put_trailer, trailer};
use crate::types::{Entry, GroupId, SegmentId};
use crate::vfs::{File, Vfs, read_exact_at, write_all_at};

/// The name of a repaired segment until it is whole.
pub const NEW_NAME: &str = "repair.new";
/// Bytes copied at once.
const WINDOW: u64 = 1 << 20;
const DOING: &str = "repairing a segment";

impl<V: Vfs> Log<V> {
    /// Writes an entry's bytes again if they do not hold; says whether it did. Durable on return.
    /// `NoSpace` and a refusal change nothing.
    pub fn repair(&mut self, group: GroupId, entry: &Entry) -> Result<bool> {
        let mismatch = |why| Error::RepairMismatch { group, offered: entry.id, why };
        let missing = || mismatch("no such entry is in the log");
        let (mut reader, mut location) =
            self.segments.catalog().locate(group, entry.id.index).ok_or_else(missing)?;
        let name = *location.name();
        if (name.id, name.leader, name.kind) != (entry.id, entry.leader, Kind::of_entry(entry.kind)) {
            return Err(mismatch("an entry of another term, leader or kind is at this index"));
        }
        match reader.read(&location) {
            Ok(present) if present == *entry => return Ok(false),
            Ok(_) => return Err(Error::Conflict { group, id: entry.id }),
            Err(Error::Damaged { .. }) => {}
            Err(e) => return Err(e),
        }
        if matches!(location, Location::Active(..)) {
            self.rotate(false)?;
            (reader, location) = self.segments.catalog().locate(group, entry.id.index).ok_or_else(missing)?;
        }
        let Location::Sealed(_, segment, n) = location else { return Err(missing()) };
        let at = reader.table(n)?;
        let holds = crc(name.seed(reader.salt), &entry.data) == at.crc || V::planted(Bug::RepairUnchecked);
        if at.len as usize != entry.data.len() || !holds {
            return Err(mismatch("these are not the bytes that were acknowledged"));
        }
        let bytes = u64::from(at.offset)..u64::from(at.offset) + u64::from(at.len);
        quarantine::keep(&self.segments.vfs, &reader.path, &*reader.file()?, bytes.clone())?;
        let (group, index) = (name.group, name.id.index);
        self.journal.note(Event { group, index, ..Event::new(Act::Restored, &reader.path, bytes) })?;
        self.exchange(&reader, segment, at, &entry.data)?;
        metrics::counter!("seawall_entries_repaired").increment(1);
        tracing::warn!(group = group.0, index = entry.id.index.0, segment = segment.0, "repaired an entry");
        Ok(true)
    }

    /// Puts a copy of the segment, with the entry's bytes, in its place.
    fn exchange(&self, reader: &Readable<V>, segment: SegmentId, at: EntryRef, data: &[u8]) -> Result<()> {
        let path = segment::file_name(segment);
        let vfs = &self.segments.vfs;
        match vfs.remove(NEW_NAME) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", NEW_NAME)(e));
            }
            _ => {}
        }
        let file = vfs.create(NEW_NAME).map_err(Error::space(DOING, NEW_NAME))?;
        copy::<V>(&*reader.file()?, &file).map_err(Error::space(DOING, &path))?;
        let trailer = reader.trailer.map(|t| Trailer { lost: t.lost.saturating_sub(1), ..t });
        let patched = write_all_at::<V>(&file, data, u64::from(at.offset))
            .and_then(|()| self.renew_trailer(&file, reader, segment, trailer.as_ref()))
            .and_then(|()| file.sync_all());
        patched.map_err(Error::space(DOING, NEW_NAME))?;
        vfs.rename(NEW_NAME, &path).map_err(Error::io("rename to", &path))?;
        vfs.sync_dir("").map_err(Error::io("sync the directory for", &path))?;
        // Not through the description of the damaged file.
        let stale = V::planted(Bug::StaleDescription);
        let held = if stale { reader.held.clone() } else { self.segments.shelf.hold(path) };
        let readable = Readable::new(held, reader.salt, trailer);
        let before = self.segments.catalog().sealed.insert(segment, std::sync::Arc::new(readable));
        drop(before);
        Ok(())
    }

    /// One damaged entry less.
    fn renew_trailer(
        &self,
        file: &V::File,
        reader: &Readable<V>,
        segment: SegmentId,
        trailer: Option<&Trailer>,
    ) -> std::io::Result<()> {
        let Some(trailer) = trailer else { return Ok(()) };
        let mut unit = vec![0; self.shape.unit as usize];
        read_exact_at(file, &mut unit, 0)?;
        // A segment whose header does not hold is found by its frames, and its trailer not believed.
        let HeaderFact::Ours(header) = Header::decode::<V>(&unit, segment, &self.shape.identity) else {
            return Ok(());
        };
        let mut raw = [0; trailer::LEN];
        put_trailer(&mut raw, trailer, &header.place(), seed(reader.salt));
        write_all_at::<V>(file, &raw, file.len()? - trailer::LEN as u64)
    }
}

fn copy<V: Vfs>(from: &V::File, to: &V::File) -> std::io::Result<()> {
    let len = from.len()?;
    let mut buffer = vec![0; usize::try_from(len.min(WINDOW)).expect("small")];
    let mut at = 0;
    while at < len {
        let n = usize::try_from((len - at).min(WINDOW)).expect("small");
        read_exact_at(from, &mut buffer[..n], at)?;
        write_all_at::<V>(to, &buffer[..n], at)?;
        at += n as u64;
    }
    Ok(())
}
