//! What a store knows of its segments in memory, and the segments that are dead or prepared.
//!
//! I own where each written entry is, which segments can be read, and which are prepared: what the writer, the
//! readers and who fills the reserve share. (G8) The catalog is locked for look-ups and changes in memory, never
//! over a call of the file system: whoever looks waits for no sync. (G9) One thread at a time prepares or recycles
//! segments, and nobody else waits for it but who needs what it makes. I do not write frames (see log).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::held::Shelf;
use super::readable::Readable;
use super::spares::{Opened, Spare, free_name, prepare, settle};
use crate::error::{Error, Result};
use crate::index::{Index, Location};
use crate::options::SEGMENTS_KEPT;
use crate::planted::Bug;
use crate::segment;
use crate::sync::lock;
use crate::types::{Digest, GroupId, Index as EntryIndex, Position, SegmentId};
use crate::vfs::{File, Vfs};

/// Segments that no live entry needs, and the positions that made it so.
type Dead<V> = Vec<(SegmentId, Position, Arc<Readable<V>>)>;

/// What is known in memory.
pub struct Catalog<V: Vfs> {
    /// Where entries are, as of the last record written.
    pub index: Index,
    /// The segment that is written. Behind a rotation until its start is durable.
    pub active: SegmentId,
    /// Reads it.
    pub reader: Arc<Readable<V>>,
    /// Descriptions of it that no sync holds, each opened before what it will cover (L9).
    pub free: Vec<Arc<V::File>>,
    /// Sealed segments, and one that is being sealed.
    pub sealed: BTreeMap<SegmentId, Arc<Readable<V>>>,
    /// Prepared segments.
    spares: Vec<Spare<V>>,
    /// Names of prepared segments that come or go.
    moving: Vec<String>,
    /// Segments without a live entry, and the position that made it so.
    pub dead: BTreeMap<SegmentId, Position>,
    /// Owned snapshots that no pointer names any more, and the position that made it so.
    pub retired: Vec<(Position, Digest)>,
}

impl<V: Vfs> Catalog<V> {
    /// Goes on from what a recovery found: the entries of other segments, and prepared segments.
    pub fn begin(&mut self, index: Index, spares: Vec<String>) {
        self.index = index;
        self.spares = spares.into_iter().map(|name| Spare { name, settled: false, opened: None }).collect();
    }

    /// How many segments are prepared, and how many of them are open.
    #[must_use]
    pub fn prepared(&self) -> (usize, usize) {
        (self.spares.len(), self.spares.iter().filter(|spare| spare.opened.is_some()).count())
    }

    /// Where an entry can be read.
    #[must_use]
    pub fn locate(&self, group: GroupId, index: EntryIndex) -> Option<(Arc<Readable<V>>, Location)> {
        let location = self.index.locate(group, index)?;
        let reader = match &location {
            Location::Active(..) => self.reader.clone(),
            Location::Sealed(_, segment, _) => self.sealed.get(segment)?.clone(),
        };
        Some((reader, location))
    }

    /// Whether a segment can be recycled.
    #[must_use]
    pub fn has_dead(&self, durable: Position) -> bool {
        self.dead.iter().any(|(id, at)| *id != self.active && *at <= durable && self.sealed.contains_key(id))
    }

    /// Whether there are files of a snapshot that no pointer names any more.
    #[must_use]
    pub fn has_retired(&self, durable: Position) -> bool {
        self.retired.first().is_some_and(|(at, _)| *at <= durable)
    }

    /// Notes which segments were left without a live entry by the record at this position.
    pub fn note_emptied(&mut self, position: Position) {
        if self.index.has_emptied() {
            self.dead.extend(self.index.take_emptied().into_iter().map(|segment| (segment, position)));
        }
    }

    /// Takes out the segments that are dead by what is durable. The active one stays, and with it all that a
    /// rotation that is under way needs.
    fn take_dead(&mut self, durable: Position) -> Dead<V> {
        let any = V::planted(Bug::RecycledBeforeDurable);
        let is_due = |id: &SegmentId, at: &Position| *id != self.active && (*at <= durable || any);
        let due = self.dead.iter().filter(|(id, at)| is_due(id, at) && !self.index.is_live(**id));
        let due: Vec<_> = due.map(|(id, at)| (*id, *at)).collect();
        let mut taken = Vec::new();
        for (id, at) in due {
            let Some(sealed) = self.sealed.remove(&id) else { continue };
            self.dead.remove(&id);
            taken.push((id, at, sealed));
        }
        taken
    }

    /// A name for a prepared segment, which no other gets until it is given back.
    pub fn name_spare(&mut self) -> String {
        let is_spare = |name: &String| self.spares.iter().any(|spare| spare.name == *name);
        let path = free_name(|name| is_spare(name) || self.moving.contains(name));
        self.moving.push(path.clone());
        path
    }

    /// Takes a prepared segment that is open; nobody else gets its name until it is given back.
    pub fn take_spare(&mut self) -> Option<(String, Opened<V>)> {
        let at = self.spares.iter().rposition(|spare| spare.opened.is_some())?;
        let Spare { name, opened, .. } = self.spares.remove(at);
        self.moving.push(name.clone());
        Some((name, opened?))
    }

    /// Takes a prepared segment in, whose name is durable now; its length may not be if it is not `settled`.
    pub fn add(&mut self, name: String, settled: bool) {
        self.give_back(&name);
        self.spares.push(Spare { name, settled, opened: None });
    }

    /// A name of a prepared segment is free again.
    pub fn give_back(&mut self, path: &str) {
        self.moving.retain(|name| name != path);
    }
}

/// The segments of a store, for who writes, reads, prepares and recycles.
pub struct Segments<V: Vfs> {
    /// The file system.
    pub vfs: V,
    /// The segments that are open to be read.
    pub shelf: Arc<Shelf<V>>,
    size: u64,
    /// Descriptions to have ready in each segment.
    descriptions: u32,
    catalog: Mutex<Catalog<V>>,
    /// Held by who prepares or recycles.
    keeping: Mutex<()>,
    /// Held by who opens prepared ones.
    opening: Mutex<()>,
}

impl<V: Vfs> Segments<V> {
    /// Nothing but an active segment.
    pub fn new(
        shelf: Arc<Shelf<V>>,
        size: u64,
        active: SegmentId,
        reader: Arc<Readable<V>>,
        descriptions: u32,
    ) -> Result<Self> {
        let Opened { free, .. } = Opened::of(&shelf, &reader.path, descriptions)?;
        let catalog = Catalog {
            index: Index::default(),
            active,
            reader,
            free,
            sealed: BTreeMap::new(),
            spares: Vec::new(),
            moving: Vec::new(),
            dead: BTreeMap::new(),
            retired: Vec::new(),
        };
        let (vfs, catalog) = (shelf.vfs.clone(), Mutex::new(catalog));
        let (keeping, opening) = Default::default();
        Ok(Self { vfs, shelf, size, descriptions, catalog, keeping, opening })
    }

    /// What is known in memory. Held for no call of the file system.
    pub fn catalog(&self) -> MutexGuard<'_, Catalog<V>> {
        lock(&self.catalog)
    }

    /// Prepares one more segment, unless there are as many, and makes its name durable. Says whether there are.
    pub fn add_spare(&self, most: usize) -> Result<bool> {
        let _alone = lock(&self.keeping);
        let path = {
            let mut catalog = self.catalog();
            if catalog.spares.len() >= most {
                return Ok(true);
            }
            catalog.name_spare()
        };
        let prepared = prepare(&self.vfs, &path, self.size);
        let mut catalog = self.catalog();
        if prepared.is_err() {
            catalog.give_back(&path);
        }
        prepared?;
        catalog.add(path, true);
        Ok(catalog.spares.len() >= most)
    }

    /// Sees to it that so many prepared segments are open, if there are as many. Waits for nobody who prepares one.
    pub fn open_spares(&self, most: usize) -> Result<()> {
        let _alone = lock(&self.opening);
        loop {
            let next = {
                let catalog = self.catalog();
                let closed = catalog.spares.iter().rfind(|spare| spare.opened.is_none());
                closed
                    .filter(|_| catalog.prepared().1 < most)
                    .map(|spare| (spare.name.clone(), spare.settled))
            };
            let Some((path, settled)) = next else { return Ok(()) };
            let opened = Opened::of(&self.shelf, &path, self.descriptions)?;
            if !settled {
                settle::<V>(&opened.file, &path, self.size)?;
            }
            let mut catalog = self.catalog();
            // Whoever takes one takes one that is open.
            let spare = catalog.spares.iter_mut().find(|spare| spare.name == path).expect("it was not open");
            (spare.settled, spare.opened) = (true, Some(opened));
        }
    }

    /// As [`Segments::open_spares`], before a batch is taken that may go there.
    pub fn open_ahead(&self, most: usize) -> Result<()> {
        if V::planted(Bug::OpenedWhenWritten) { Ok(()) } else { self.open_spares(most) }
    }

    /// Sees to it that so many segments are prepared, of those that are dead and then new ones, and so many of them
    /// open.
    pub fn provide(&self, most: usize, open: usize, durable: Position) -> Result<()> {
        loop {
            // Waits for nobody who makes one if there are enough.
            if self.catalog().prepared().0 >= most {
                return self.open_ahead(open);
            }
            self.recycle(durable)?;
            self.add_spare(most)?;
        }
    }

    /// Turns segments without a live entry into prepared ones, oldest first, if what emptied them is
    /// durable. Removes them when there are enough.
    pub fn recycle(&self, durable: Position) -> Result<()> {
        let _alone = lock(&self.keeping);
        let (dead, mut kept) = {
            let mut catalog = self.catalog();
            (catalog.take_dead(durable), catalog.spares.len())
        };
        let mut renamed = Vec::new();
        let mut result = Ok(());
        let mut dead = dead.into_iter();
        for (id, at, sealed) in dead.by_ref() {
            result = self.retire(id, &sealed, kept < SEGMENTS_KEPT).map(|spare| {
                kept += usize::from(spare.is_some());
                renamed.extend(spare);
            });
            if result.is_err() {
                let mut catalog = self.catalog();
                catalog.dead.insert(id, at);
                catalog.sealed.insert(id, sealed);
                break;
            }
            metrics::counter!("seawall_segments_recycled").increment(1);
        }
        // Those before one that could not be opened are prepared all the same.
        let synced = if renamed.is_empty() { Ok(()) } else { self.vfs.sync_dir("") };
        let mut catalog = self.catalog();
        for (id, at, sealed) in dead {
            catalog.dead.insert(id, at);
            catalog.sealed.insert(id, sealed);
        }
        synced.map_err(Error::io("sync", "the directory"))?;
        renamed.into_iter().for_each(|path| catalog.add(path, true));
        result
    }

    /// Gives a dead segment the name of a prepared one, or removes it. The name is not durable yet.
    fn retire(&self, id: SegmentId, sealed: &Readable<V>, keep: bool) -> Result<Option<String>> {
        let path = segment::file_name(id);
        // Others see through a second name what is written into a file.
        let file = sealed.file()?;
        let whole =
            file.len().and_then(|len| Ok(len == self.size && !file.is_shared()? && !file.has_hole()?));
        if !whole.map_err(Error::io("stat", &path))? || !keep {
            self.vfs.remove(&path).map_err(Error::io("remove", &path))?;
            return Ok(None);
        }
        let spare = self.catalog().name_spare();
        self.vfs.rename(&path, &spare).map_err(Error::io("rename", &path))?;
        Ok(Some(spare))
    }
}
