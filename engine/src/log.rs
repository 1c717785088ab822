//! The written log: which segments there are, what stands in them, and every byte that changes.
//!
//! I own the active segment and the state as of the last record written; what others than the writer ask for is
//! in [`Segments`]. (G1) Frames are written in stream order, one after another. (G2) A segment is sealed only
//! after its data is synced and its successor's name is durable. (G3) No byte goes to a segment
//! before the directory sync that gave it its name returned. (G4) A segment is recycled only when
//! the record that emptied it is durable and a later segment's checkpoint is. I do not know what is
//! acknowledged (see engine), nor how a log is found after a crash (see recovery).

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use crate::by_group::ByGroup;
use crate::error::{Error, Result, is_full};
use crate::evidence::Journal;
use crate::frame::{self, Draft, Encoded, FrameKind, Room};
use crate::highwater::{self, HighWater};
use crate::options::RESERVED_SEGMENTS;
use crate::planted::Bug;
use crate::record::{Kind, Record};
use crate::scan::Checkpoint;
use crate::segment::{self, Ending, EntryRef, Footer, Header, Seal};
use crate::space::Space;
use crate::state::{self, Group, Groups, STATE_OVERHEAD};
use crate::types::{Digest, Epoch, Identity, Position, SegmentId, SnapshotOwner};
use crate::vfs::{File, Vfs, write_all_at, write_parts_at};

pub mod held;
pub mod readable;
pub mod repair;
mod segments;
pub mod spares;

pub use readable::Readable;
pub use segments::{Catalog, Segments};

use held::Shelf;
use spares::{Opened, description};

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
    /// The description that rotation and sealing use.
    pub file: Arc<V::File>,
    /// Reads it, through the same.
    pub reader: Arc<Readable<V>>,
    /// An upper bound of the state's bytes in the footer.
    pub state_bound: usize,
    /// What no state is larger than: admission sees to it.
    state_most: usize,
    runs_bound: usize,
    /// Entries in it, live or dropped since: an upper bound for its footer.
    entries: usize,
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
    /// What others than the writer ask for.
    pub segments: Arc<Segments<V>>,
    /// What never changes.
    pub shape: Shape,
    /// The state as of the last record written.
    pub(crate) groups: ByGroup<Group>,
    /// The last position written.
    pub position: Position,
    /// The segment that is written.
    pub active: Active<V>,
    /// The high-water file.
    pub high: Arc<highwater::Keeper<V>>,
    /// Where an act on stored bytes is written down before it is done.
    pub journal: Arc<Journal<V>>,
    /// The highest segment number ever used.
    pub newest: SegmentId,
    /// Where the next frame is made.
    pub room: Room,
}

impl<V: Vfs> Log<V> {
    /// A log of nothing but its active segment, and without a group.
    pub fn new(
        shelf: Arc<Shelf<V>>,
        active: Active<V>,
        descriptions: u32,
        high: highwater::Keeper<V>,
        journal: Journal<V>,
    ) -> Result<Self> {
        let Header { identity, size, segment, cut, unit, .. } = active.header;
        let segments = Segments::new(shelf, size, segment, active.reader.clone(), descriptions)?;
        Ok(Self {
            segments: segments.into(),
            shape: Shape { identity, unit, size },
            groups: ByGroup::default(),
            position: cut,
            newest: segment,
            active,
            high: high.into(),
            journal: journal.into(),
            room: Room::default(),
        })
    }

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
        let (entries, runs) = (self.active.entries + more.entries, self.active.runs_bound + more.runs);
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
        self.active.entries += more.entries;
        self.active.state_bound = (self.active.state_bound + more.state).min(self.active.state_most);
        let mut offset = encoded.payload_offset();
        let (mut records, mut sizes) = (records, &encoded.directory.sizes[..]);
        let Self { segments, groups, position, .. } = self;
        let mut catalog = segments.catalog();
        for count in &encoded.directory.counts {
            let (run, later) = records.split_at(*count as usize);
            let (own, others) = sizes.split_at(run.len());
            (records, sizes) = (later, others);
            *position = take(&mut catalog, groups, *position, run, EntryRef::following(own, offset));
            offset += own.iter().map(|(len, _)| len).sum::<u32>();
        }
        drop(catalog);
        std::mem::swap(&mut self.active.echo, &mut encoded.directory.echo);
        self.room = encoded.into_room();
        Ok(())
    }

    /// The state as of the last record written, in the order of the groups.
    #[must_use]
    pub fn states(&self) -> Groups {
        self.groups.ascending().map(|(id, group)| (id, group.clone())).collect()
    }

    /// An open description for a flush, opened before the writes that it will cover.
    pub fn description(&self) -> Result<Arc<V::File>> {
        let free = {
            let free = &mut self.segments.catalog().free;
            if V::planted(Bug::SharedDescription) { free.first().cloned() } else { free.pop() }
        };
        free.map_or_else(|| self.fresh_description(), Ok)
    }

    /// One more description of the active segment.
    pub fn fresh_description(&self) -> Result<Arc<V::File>> {
        description(&self.segments.shelf, &self.active.reader.path)
    }

    /// How many prepared segments a batch leaves alone: entries all of the reserve, control records the
    /// last.
    pub fn reserve(control: bool) -> usize {
        if control || V::planted(Bug::ReserveSpent) { 1 } else { RESERVED_SEGMENTS }
    }

    /// Takes a prepared segment that is open: entries leave the reserve alone, control records all but the last.
    /// Admission has seen to it that there is one; who comes without it makes one here.
    fn take_spare(&self, control: bool) -> Result<(String, Opened<V>)> {
        let keep = Self::reserve(control);
        let segments = &self.segments;
        let (spares, open) = segments.catalog().prepared();
        if spares <= keep || open == 0 {
            segments.add_spare(keep + 1)?;
            segments.open_spares(1)?;
        }
        Ok(segments.catalog().take_spare().expect("the writer alone takes one"))
    }

    /// Goes on in a fresh segment. `NoSpace` and a want of descriptors change nothing; any other error leaves the
    /// files in doubt.
    pub fn rotate(&mut self, control: bool) -> Result<()> {
        let _span = tracing::debug_span!("rotate", from = self.active.header.segment.0).entered();
        let (spare, Opened { file, free }) = self.take_spare(control)?;
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
        let segments = &self.segments;
        self.active = start_segment(&segments.shelf, file, header, &self.states())?;
        let reader = self.active.reader.clone();
        if !V::planted(Bug::HeaderNotSynced) {
            self.active.sync()?;
        }
        self.raise_high_water()?;
        let before = {
            let mut catalog = self.segments.catalog();
            catalog.active = next;
            catalog.reader = reader;
            std::mem::replace(&mut catalog.free, free)
        };
        // Closed under no lock.
        drop(before);
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
        let vfs = &self.segments.vfs;
        vfs.rename(spare, &path).map_err(Error::io("rename to", &path))?;
        self.segments.catalog().give_back(spare);
        if !V::planted(Bug::RotationNameNotSynced) {
            vfs.sync_dir("").map_err(Error::io("sync the directory for", &path))?;
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
        let (entries, runs) = self.segments.catalog().index.tables();
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
        let held = self.segments.shelf.hold(reader.path.clone());
        let sealed = Readable::new(held, reader.salt, Some(trailer));
        let mut catalog = self.segments.catalog();
        catalog.index.seal(id, &footer.runs);
        catalog.sealed.insert(id, Arc::new(sealed));
        catalog.note_emptied(self.position);
        Ok(())
    }

    /// Bytes of the active segment that are taken, with the footer that it needs as it stands.
    #[must_use]
    pub fn tail_bound(&self) -> u64 {
        let footer = segment::footer_bound(
            self.active.entries,
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
        Outlook { segment, tail: self.tail_bound(), size, spares: self.segments.catalog().prepared().0 }
    }
}

/// Takes the next records of the stream into state and index: one, or a run of entries. Gives the last position.
fn take<V: Vfs>(
    catalog: &mut Catalog<V>,
    groups: &mut ByGroup<Group>,
    before: Position,
    run: &[Record],
    places: impl Iterator<Item = EntryRef>,
) -> Position {
    let record = run.last().expect("an item names a record");
    let position = Position(before.0 + run.len() as u64);
    let name = &record.name;
    catalog.retired.extend(retired(groups, record).map(|digest| (position, digest)));
    let index = &mut catalog.index;
    match name.kind {
        Kind::Command | Kind::Membership => index.push(run[0].name, places),
        Kind::Truncate => index.truncate(name.group, name.id.index),
        Kind::Compact => index.compact(name.group, name.id.index),
        Kind::Install => match record.pointer() {
            Some((_, true)) => index.compact(name.group, name.id.index),
            _ => index.clear(name.group),
        },
        Kind::RemoveGroup => index.clear(name.group),
        _ => {}
    }
    // Of a run of entries the last alone is seen in the state.
    state::apply(groups, position, record);
    catalog.note_emptied(position);
    position
}

/// An owned snapshot that this record makes needless.
fn retired(groups: &ByGroup<Group>, record: &Record) -> Option<Digest> {
    if !matches!(record.name.kind, Kind::Snapshot | Kind::Install | Kind::RemoveGroup) {
        return None;
    }
    let new = record.pointer().map(|(pointer, _)| pointer.digest);
    let (_, old) = groups.get(record.name.group).and_then(|group| group.snapshot)?;
    (old.owner == SnapshotOwner::Owned && Some(old.digest) != new).then_some(old.digest)
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

/// Writes header and checkpoint of a segment whose name is durable, through a description that stays. Not synced.
pub fn start_segment<V: Vfs>(
    shelf: &Arc<Shelf<V>>,
    file: Arc<V::File>,
    header: Header,
    groups: &Groups,
) -> Result<Active<V>> {
    let path = segment::file_name(header.segment);
    let fail = |e| Error::Io { doing: "write the start of", path: path.clone(), source: e };
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
        reader: Arc::new(Readable::new(shelf.pin(path, file.clone()), place.salt::<V>(), None)),
        file,
        // Numbers of a group may grow while the segment is active.
        state_bound: payload.len() + groups.len() * 48 + 16,
        state_most: usize::try_from(most + STATE_OVERHEAD).expect("a segment is in memory"),
        runs_bound: 0,
        entries: 0,
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
