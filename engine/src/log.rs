//! The written log: which segments there are, what stands in them, and every byte that changes.
//!
//! I own the active segment, the sealed ones, the spares, and the state as of the last record
//! written. (G1) Frames are written in stream order, one after another. (G2) A segment is sealed only
//! after its data is synced and its successor's name is durable. (G3) No byte goes to a segment
//! before the directory sync that gave it its name returned. (G4) A segment is recycled only when
//! the record that emptied it is durable and a later segment's checkpoint is. I do not know what is
//! acknowledged (see engine), nor how a log is found after a crash (see recovery).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::by_group::ByGroup;
use crate::error::{Error, Result, is_full};
use crate::evidence::Journal;
use crate::frame::{self, Draft, Encoded, FrameKind, Room};
use crate::highwater::{self, HighWater};
use crate::index::{Index, Location};
use crate::options::{RESERVED_SEGMENTS, SEGMENTS_KEPT};
use crate::planted::Bug;
use crate::record::{Kind, Record};
use crate::scan::Checkpoint;
use crate::segment::{self, Ending, EntryRef, Footer, Header, Seal};
use crate::space::Space;
use crate::state::{self, Group, Groups, STATE_OVERHEAD};
use crate::types::{Digest, Epoch, Identity, Position, SegmentId, SnapshotOwner};
use crate::vfs::{Access, File, Vfs, write_all_at, write_parts_at};

pub mod held;
pub mod readable;
pub mod repair;
pub mod spares;

pub use readable::Readable;

use held::Shelf;
use spares::{free_name, settle};

/// What never changes about a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Whose it is.
    pub identity: Identity,
    /// The alignment unit.
    pub unit: u32,
    /// Bytes in a segment.
    pub size: u64,
}

/// The segment that is written.
pub struct Active<V: Vfs> {
    /// Its header.
    pub header: Header,
    /// Where the next frame starts.
    pub offset: u32,
    /// The chain value there.
    pub chain: u64,
    /// The directory of the last frame, as the next repeats it.
    pub echo: Vec<u8>,
    /// Descriptions that no sync holds, each opened before what it will cover (L9).
    pub free: Vec<Arc<V::File>>,
    /// The description that rotation and sealing use.
    pub file: Arc<V::File>,
    /// Reads it, through the same.
    pub reader: Arc<Readable<V>>,
    /// An upper bound of the state's bytes in the footer.
    pub state_bound: usize,
    /// What no state is larger than: admission sees to it.
    state_most: usize,
    runs_bound: usize,
}

impl<V: Vfs> Active<V> {
    /// Makes what was written so far durable.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("sync", &self.reader.path))
    }
}

/// What the next frames find in the log.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    /// The active segment.
    pub segment: SegmentId,
    /// Bytes taken of it, as [`Log::tail_bound`] says.
    pub tail: u64,
    /// Bytes in a segment.
    pub size: u64,
    /// Prepared segments.
    pub spares: usize,
}

/// The written log.
pub struct Log<V: Vfs> {
    /// The file system.
    pub vfs: V,
    /// The segments that are open to be read.
    pub shelf: Arc<Shelf<V>>,
    /// What never changes.
    pub shape: Shape,
    /// The state as of the last record written.
    pub(crate) groups: ByGroup<Group>,
    /// Where entries are, as of the last record written.
    pub index: Index,
    /// The last position written.
    pub position: Position,
    /// The segment that is written.
    pub active: Active<V>,
    /// The high-water file.
    pub high: Arc<highwater::Keeper<V>>,
    /// Where an act on stored bytes is written down before it is done.
    pub journal: Journal<V>,
    /// Sealed segments.
    pub sealed: BTreeMap<SegmentId, Arc<Readable<V>>>,
    /// Names of prepared segments whose names are durable.
    pub spares: Vec<String>,
    /// Of those, the ones that were there at open: their length may be in the cache only.
    pub unsettled: Vec<String>,
    /// The name of one that is being prepared.
    pub coming: Option<String>,
    /// The highest segment number ever used.
    pub newest: SegmentId,
    /// Segments without a live entry, and the position that made it so.
    pub dead: BTreeMap<SegmentId, Position>,
    /// Owned snapshots that no pointer names any more, and the position that made it so.
    pub retired: Vec<(Position, Digest)>,
    /// Open descriptions to have ready in each segment.
    pub descriptions: u32,
    /// Where the next frame is made.
    pub room: Room,
}

impl<V: Vfs> Log<V> {
    /// Makes the bytes of the next frame of the active segment.
    #[must_use]
    pub fn encode(&mut self, records: &[Record], kind: FrameKind, mark: Position) -> Encoded {
        let draft = Draft {
            kind,
            records,
            echo: &self.active.echo,
            state: &[],
            first: self.position.next(),
            mark,
            chain: self.active.chain,
            offset: self.active.offset,
            twin: false,
            apart: V::PIECE,
        };
        frame::encode_in::<V>(std::mem::take(&mut self.room), &draft, &self.active.header.place())
    }

    /// Whether the frame of these records fits, with the footer that the segment will need after it.
    #[must_use]
    pub fn has_room(&self, encoded: &Encoded, records: &[Record]) -> bool {
        let more = Growth::of(encoded, records);
        let mut state = (self.active.state_bound + more.state).min(self.active.state_most);
        if V::planted(Bug::StateBoundOfFrame) {
            state += more.state * records.len();
        }
        let (entries, runs) =
            (self.index.active_entries() + more.entries, self.active.runs_bound + more.runs);
        let footer = segment::footer_bound(entries, runs, state, self.shape.unit);
        u64::from(self.active.offset) + u64::from(encoded.header.span()) + footer <= self.shape.size
    }

    /// Writes a frame through `file` and takes its records into state and index. Not durable until
    /// `file` is synced.
    pub fn put(&mut self, mut encoded: Encoded, records: &[Record], file: &V::File) -> io::Result<()> {
        let header = encoded.header;
        let (at, salt) = (u64::from(header.offset), self.active.header.place().salt::<V>());
        let adjacent = header.twin == header.frame_len;
        if adjacent {
            let mut both = encoded.bytes.clone();
            encoded.make_twin::<V>(salt);
            both.extend_from_slice(&encoded.bytes);
            write_all_at::<V>(file, &both, at)?;
        } else {
            write_parts_at::<V>(file, encoded.parts(records, V::PIECE), at)?;
            if header.twin > 0 {
                encoded.make_twin::<V>(salt);
                write_all_at::<V>(file, &encoded.bytes, at + u64::from(header.twin))?;
            }
        }
        self.active.offset += header.span();
        self.active.chain = header.chain_after();
        let more = Growth::of(&encoded, records);
        self.active.runs_bound += more.runs;
        self.active.state_bound = (self.active.state_bound + more.state).min(self.active.state_most);
        let mut offset = encoded.payload_offset();
        let (mut records, mut sizes) = (records, &encoded.directory.sizes[..]);
        for count in &encoded.directory.counts {
            let (run, later) = records.split_at(*count as usize);
            let (own, others) = sizes.split_at(run.len());
            (records, sizes) = (later, others);
            self.take(run, EntryRef::following(own, offset));
            offset += own.iter().map(|(len, _)| len).sum::<u32>();
        }
        std::mem::swap(&mut self.active.echo, &mut encoded.directory.echo);
        self.room = encoded.into_room();
        Ok(())
    }

    /// The state as of the last record written, in the order of the groups.
    #[must_use]
    pub fn states(&self) -> Groups {
        self.groups.ascending().map(|(id, group)| (id, group.clone())).collect()
    }

    /// Takes the next records of the stream into state and index: one, or a run of entries.
    fn take(&mut self, run: &[Record], places: impl Iterator<Item = EntryRef>) {
        let record = run.last().expect("an item names a record");
        let position = Position(self.position.0 + run.len() as u64);
        self.position = position;
        let name = &record.name;
        self.retire(position, record);
        match name.kind {
            Kind::Command | Kind::Membership => self.index.push(run[0].name, places),
            Kind::Truncate => self.index.truncate(name.group, name.id.index),
            Kind::Compact => self.index.compact(name.group, name.id.index),
            Kind::Install => match record.pointer() {
                Some((_, true)) => self.index.compact(name.group, name.id.index),
                _ => self.index.clear(name.group),
            },
            Kind::RemoveGroup => self.index.clear(name.group),
            _ => {}
        }
        // Of a run of entries the last alone is seen in the state.
        state::apply(&mut self.groups, position, record);
        if self.index.has_emptied() {
            self.dead.extend(self.index.take_emptied().into_iter().map(|segment| (segment, position)));
        }
    }

    /// Remembers an owned snapshot that this record makes needless.
    fn retire(&mut self, position: Position, record: &Record) {
        if !matches!(record.name.kind, Kind::Snapshot | Kind::Install | Kind::RemoveGroup) {
            return;
        }
        let old = self.groups.get(record.name.group).and_then(|g| g.snapshot);
        let new = record.pointer().map(|(p, _)| p.digest);
        if let Some((_, p)) = old.filter(|(_, p)| p.owner == SnapshotOwner::Owned && Some(p.digest) != new) {
            self.retired.push((position, p.digest));
        }
    }

    /// An open description for a flush, opened before the writes that it will cover.
    pub fn description(&mut self) -> Result<Arc<V::File>> {
        if V::planted(Bug::SharedDescription)
            && let Some(file) = self.active.free.first()
        {
            return Ok(file.clone());
        }
        match self.active.free.pop() {
            Some(file) => Ok(file),
            None => self.fresh_description(),
        }
    }

    /// One more description of the active segment.
    pub fn fresh_description(&self) -> Result<Arc<V::File>> {
        open_description(&self.vfs, self.active.header.segment)
    }

    /// How many prepared segments a batch leaves alone: entries all of the reserve, control records the
    /// last.
    pub fn reserve(control: bool) -> usize {
        if control || V::planted(Bug::ReserveSpent) { 1 } else { RESERVED_SEGMENTS }
    }

    /// Whether a batch may take a spare: entries leave the reserve alone, control records all but
    /// the last.
    fn take_spare(&mut self, control: bool) -> Result<String> {
        let keep = Self::reserve(control);
        if self.spares.len() <= keep
            && let Err(e) = self.add_spare()
            && self.spares.len() <= keep
        {
            return Err(e);
        }
        let spare = self.spares.pop().expect("more than are kept");
        if self.unsettled.contains(&spare) {
            settle(&self.vfs, &spare, self.shape.size)?;
            self.unsettled.retain(|s| *s != spare);
        }
        Ok(spare)
    }

    /// Goes on in a fresh segment. `NoSpace` changes nothing; any other error leaves the files in
    /// doubt.
    pub fn rotate(&mut self, control: bool) -> Result<()> {
        let _span = tracing::debug_span!("rotate", from = self.active.header.segment.0).entered();
        let spare = self.take_spare(control)?;
        let old = self.active.header.segment;
        if V::planted(Bug::HighWaterTooEarly) {
            let Header { epoch, .. } = self.active.header;
            self.write_high_water(self.high_water(epoch, old.next()))?;
        }
        let next = if V::planted(Bug::SegmentIdReused) { SegmentId(old.0 ^ 1) } else { self.newest.next() };
        // The name first: a durable seal then proves that the successor must be there.
        self.place_segment(&spare, next)?;
        self.seal(Seal::Rotated, next)?;
        let header = Header {
            segment: next,
            previous: old,
            cut: self.position,
            chain: self.active.chain,
            recovered_to: self.position,
            ..self.active.header
        };
        self.active = start_segment(&self.vfs, &self.shelf, header, &self.states(), self.descriptions)?;
        if !V::planted(Bug::HeaderNotSynced) {
            self.active.sync()?;
        }
        self.raise_high_water()?;
        metrics::counter!("seawall_rotations").increment(1);
        Ok(())
    }

    /// Writes down how far the log has come, all of which is durable.
    pub fn raise_high_water(&self) -> Result<()> {
        let Header { epoch, segment, .. } = self.active.header;
        if V::planted(Bug::HighWaterNotRaised) {
            return Ok(());
        }
        self.write_high_water(self.high_water(epoch, segment))
    }

    /// How far the log has come when all that was written is durable.
    #[must_use]
    pub fn high_water(&self, epoch: Epoch, segment: SegmentId) -> HighWater {
        HighWater { epoch, segment, position: self.position, evidence: self.journal.newest() }
    }

    fn write_high_water(&self, high: HighWater) -> Result<()> {
        self.high.raise(&high).map_err(Error::io("write", highwater::NAME))
    }

    /// Gives a prepared segment its name, durably.
    fn place_segment(&mut self, spare: &str, id: SegmentId) -> Result<()> {
        let path = segment::file_name(id);
        self.vfs.rename(spare, &path).map_err(Error::io("rename to", &path))?;
        if !V::planted(Bug::RotationNameNotSynced) {
            self.vfs.sync_dir("").map_err(Error::io("sync the directory for", &path))?;
        }
        self.newest = self.newest.max(id);
        Ok(())
    }

    /// Writes the footer's tables and syncs them with the data; then the trailer, which makes them count,
    /// and syncs that. The footer of a segment that is left for good ends it: a close shortens the file, so that a
    /// restart costs no more space than what was written. One that no live entry needs keeps its length: the next
    /// open uses it again, and restarts on a full disk do not eat the reserve. So does one that a rotation ends, for
    /// a sync of the length would cost more, and it will be used again.
    pub fn seal(&mut self, seal: Seal, next: SegmentId) -> Result<()> {
        let (file, reader) = (self.active.file.clone(), self.active.reader.clone());
        let sync = || file.sync_data().map_err(Error::io("sync", &reader.path));
        let id = self.active.header.segment;
        let (entries, runs) = self.index.seal(id);
        let footer = Footer { entries, runs, state: state::encode(&self.states()) };
        let (position, chain, cut) = (self.position, self.active.chain, self.active.offset);
        let ending = Ending { seal, next, position, chain, cut, lost: 0 };
        let place = self.active.header.place();
        let size = self.shape.size;
        let (mut bytes, mut trailer) = footer.encode::<V>(&place, &ending, ending.cut);
        let last_place = u32::try_from(size - bytes.len() as u64).expect("a segment has 32-bit offsets");
        assert!(last_place >= ending.cut, "the footer's room was kept free");
        let needed = !footer.runs.is_empty();
        let shortened = seal == Seal::Closed && needed && !V::planted(Bug::ClosedAtFullLength);
        let at = if shortened { ending.cut } else { last_place };
        if !shortened {
            (bytes, trailer) = footer.encode::<V>(&place, &ending, at);
        }
        let len = u64::from(at) + bytes.len() as u64;
        let write = |bytes: &[u8], at: u64| {
            write_all_at::<V>(&file, bytes, at).map_err(Error::io("write the footer of", &reader.path))
        };
        let (tables, last) = bytes.split_at(bytes.len() - segment::trailer::LEN);
        write(tables, u64::from(at))?;
        if !V::planted(Bug::SealedBeforeData) {
            sync()?;
        }
        write(last, len - last.len() as u64)?;
        if shortened {
            let cut = file.set_len(len).and_then(|()| file.sync_all());
            cut.map_err(Error::io("shorten", &reader.path))?;
        } else {
            sync()?;
        }
        let sealed = Readable::new(self.shelf.hold(reader.path.clone()), reader.salt, Some(trailer));
        self.sealed.insert(id, Arc::new(sealed));
        for segment in self.index.take_emptied() {
            self.dead.insert(segment, self.position);
        }
        Ok(())
    }

    /// Turns segments without a live entry into spares, oldest first, if what emptied them is
    /// durable. Removes them when there are spares enough.
    pub fn recycle(&mut self, durable: Position) -> Result<()> {
        let any = V::planted(Bug::RecycledBeforeDurable);
        let active = self.active.header.segment;
        let dead: Vec<SegmentId> = self
            .dead
            .iter()
            .filter(|(id, at)| **id != active && (**at <= durable || any) && !self.index.is_live(**id))
            .map(|(id, _)| *id)
            .collect();
        let known = self.spares.len();
        let mut spares = self.spares.clone();
        for id in dead {
            let path = segment::file_name(id);
            let Some(sealed) = self.sealed.get(&id) else { continue };
            let stat = Error::io("stat", &path);
            let file = sealed.file()?;
            let whole = file.len().and_then(|len| Ok(len == self.shape.size && !file.is_shared()?));
            // Others see through a second name what is written into a file.
            let whole = whole.map_err(stat)?;
            if whole && spares.len() < SEGMENTS_KEPT {
                let spare = free_name(&spares, self.coming.as_ref());
                self.vfs.rename(&path, &spare).map_err(Error::io("rename", &path))?;
                spares.push(spare);
            } else {
                self.vfs.remove(&path).map_err(Error::io("remove", &path))?;
            }
            self.sealed.remove(&id);
            self.dead.remove(&id);
            metrics::counter!("seawall_segments_recycled").increment(1);
        }
        if spares.len() > known {
            self.vfs.sync_dir("").map_err(Error::io("sync", "the directory"))?;
            self.spares = spares;
        }
        Ok(())
    }

    /// Bytes of the active segment that are taken, with the footer that it needs as it stands.
    #[must_use]
    pub fn tail_bound(&self) -> u64 {
        let footer = segment::footer_bound(
            self.index.active_entries(),
            self.active.runs_bound,
            self.active.state_bound,
            self.shape.unit,
        );
        // With room for what the next batches add to the state, which has an eighth of the segment.
        u64::from(self.active.offset) + self.active.echo.len() as u64 + footer + self.shape.size / 8
    }

    /// What the next frames find.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        let (segment, size) = (self.active.header.segment, self.shape.size);
        Outlook { segment, tail: self.tail_bound(), size, spares: self.spares.len() }
    }

    /// Whether a segment can be recycled.
    #[must_use]
    pub fn has_dead(&self, durable: Position) -> bool {
        let active = self.active.header.segment;
        self.dead.iter().any(|(id, at)| *id != active && *at <= durable && self.sealed.contains_key(id))
    }

    /// Whether there are files of a snapshot that no pointer names any more.
    #[must_use]
    pub fn has_retired(&self, durable: Position) -> bool {
        self.retired.first().is_some_and(|(at, _)| *at <= durable)
    }

    /// Where an entry can be read.
    #[must_use]
    pub fn locate(
        &self,
        group: crate::types::GroupId,
        index: crate::types::Index,
    ) -> Option<(Arc<Readable<V>>, Location)> {
        let location = self.index.locate(group, index)?;
        let reader = match &location {
            Location::Active(..) => self.active.reader.clone(),
            Location::Sealed(_, segment, _) => self.sealed.get(segment)?.clone(),
        };
        Some((reader, location))
    }
}

/// How much a frame may add to the footer.
struct Growth {
    entries: usize,
    runs: usize,
    state: usize,
}

impl Growth {
    fn of(encoded: &Encoded, records: &[Record]) -> Self {
        let (records_len, items) = (records.len(), encoded.directory.counts.len());
        if !encoded.directory.control {
            return Self { entries: records_len, runs: items, state: 0 };
        }
        let state = |record: &Record| match record.name.kind {
            Kind::Command | Kind::Membership | Kind::Commit | Kind::Truncate | Kind::Compact => 0,
            Kind::Vote => 64 + record.data.len(),
            _ => 128,
        };
        let entries = records.iter().filter(|record| record.name.kind.is_entry()).count();
        Self { entries, runs: items.min(entries), state: records.iter().map(state).sum() }
    }
}

fn open_description<V: Vfs>(vfs: &V, id: SegmentId) -> Result<Arc<V::File>> {
    let path = segment::file_name(id);
    let file = vfs.open(&path, Access::ReadWrite).map_err(Error::io("open", path))?;
    Ok(Arc::new(file))
}

/// Writes header and checkpoint of a segment whose name is durable. Not synced.
pub fn start_segment<V: Vfs>(
    vfs: &V,
    shelf: &Arc<Shelf<V>>,
    header: Header,
    groups: &Groups,
    descriptions: u32,
) -> Result<Active<V>> {
    let id = header.segment;
    let path = segment::file_name(id);
    let fail = |e| Error::Io { doing: "write the start of", path: path.clone(), source: e };
    let file = open_description(vfs, id)?;
    let free = (0..descriptions).map(|_| open_description(vfs, id)).collect::<Result<_>>()?;
    let place = header.place();
    let weight: u64 = groups.values().map(Group::weight).sum();
    let most = weight.max(Space::new(header.size, header.unit, 0).state());
    let payload = Checkpoint::encode(header.previous, header.recovered_to, &carried::<V>(groups));
    let draft = Draft {
        kind: FrameKind::Checkpoint,
        records: &[],
        echo: &[],
        state: &payload,
        first: header.cut.next(),
        mark: header.cut,
        chain: header.chain,
        offset: header.unit,
        twin: !V::planted(Bug::OneCarriedCopy),
        apart: usize::MAX,
    };
    let mut encoded = frame::encode::<V>(&draft, &place);
    let mut start = header.encode();
    start.extend_from_slice(&encoded.bytes);
    write_all_at::<V>(&file, &start, 0).map_err(fail)?;
    if encoded.header.twin > 0 {
        let at = u64::from(encoded.header.offset + encoded.header.twin);
        encoded.make_twin::<V>(place.salt::<V>());
        write_all_at::<V>(&file, &encoded.bytes, at).map_err(fail)?;
    }
    Ok(Active {
        header,
        offset: encoded.header.offset + encoded.header.span(),
        chain: encoded.header.chain_after(),
        echo: Vec::new(),
        free,
        reader: Arc::new(Readable::new(shelf.pin(path, file.clone()), place.salt::<V>(), None)),
        file,
        // Numbers of a group may grow while the segment is active.
        state_bound: payload.len() + groups.len() * 48 + 16,
        state_most: usize::try_from(most + STATE_OVERHEAD).expect("a segment is in memory"),
        runs_bound: 0,
    })
}

/// The state that a checkpoint carries: all of it.
fn carried<V: Vfs>(groups: &Groups) -> Cow<'_, Groups> {
    let forgets = [
        V::planted(Bug::CarryForgetsVote),
        V::planted(Bug::CarryForgetsCommit),
        V::planted(Bug::CarryForgetsSnapshot),
    ];
    let mut carried = Cow::Borrowed(groups);
    if forgets.contains(&true) {
        for group in carried.to_mut().values_mut() {
            let [vote, commit, snapshot] = forgets;
            group.vote.take_if(|_| vote);
            group.snapshot.take_if(|_| snapshot);
            group.commit = if commit { group.purged.index } else { group.commit };
        }
    }
    carried
}

/// The header of a segment that nothing precedes.
#[must_use]
pub fn first_header(shape: &Shape) -> Header {
    Header {
        identity: shape.identity,
        size: shape.size,
        segment: SegmentId(1),
        epoch: Epoch(1),
        previous: SegmentId(0),
        cut: Position(0),
        chain: 0,
        recovered_to: Position(0),
        unit: shape.unit,
    }
}

/// Whether an error of preparing is a full disk.
#[must_use]
pub fn is_no_space(e: &Error) -> bool {
    match e {
        Error::NoSpace { .. } => true,
        Error::Io { source, .. } => is_full(source),
        _ => false,
    }
}
