//! From what was done to the simulated disk to the events of the specification.
//!
//! I own what an operation stands for: bytes are decoded with the engine's own formats and become names,
//! heads, frames, footers. (L1) A position becomes a number of frames, and one that is not the end of a
//! frame is an error. (L2) What the specification does not know (lengths, twins, snapshots, other files)
//! leaves no event. I judge nothing.

use std::collections::{BTreeMap, BTreeSet};

use seawall::frame::{self, FrameKind, Probe};
use seawall::highwater::{self, HighWater};
use seawall::record::{Item, Kind};
use seawall::segment::{Header, HeaderFact, Seal, Trailer, parse_name, trailer};
use seawall::types::{GroupId, Identity, Position, SegmentId};
use seawall::vfs::mem::MemVfs;

use super::event::Event;
use crate::core::trace::{Ino, Op};
use crate::engine::execute::Run;
use crate::engine::oracle::Event as Told;

/// A trace for the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Its events.
    pub events: Vec<Event>,
    /// For each frame, those after which none of its entries is needed.
    pub kills: Vec<BTreeSet<usize>>,
    /// Files in it.
    pub files: usize,
}

/// A frame of the stream.
struct Written {
    first: Position,
    last: Position,
    changes: Vec<Change>,
}

/// What a record does to entries.
#[derive(Clone, Copy)]
enum Change {
    Put(GroupId, u64),
    /// Removes the entries of a group within these indexes.
    Drop(GroupId, u64, u64),
}

/// Tells a run, from the moment at which its store was created.
///
/// # Errors
/// If an operation failed, or a mark or a cut lies within a frame.
pub fn translate(run: &Run) -> Result<Recording, String> {
    let mut telling = Telling::default();
    let mut told = run.history.events.iter();
    let begins = epochs(run);
    for (at, step) in run.trace.steps.iter().enumerate() {
        if step.failed {
            return Err(format!("operation {at} failed: {:?}", step.op));
        }
        if let Op::Mark(_) = step.op {
            let event = told.next().ok_or("a mark without an event")?;
            telling.tell(event, run)?;
        } else {
            if telling.begun && begins.contains(&at) {
                telling.events.push(Event::Die);
            }
            telling.done(&step.op)?;
        }
    }
    // The first open finds what `create` left.
    if telling.events.first() == Some(&Event::Die) {
        telling.events.remove(0);
    }
    Ok(Recording { events: telling.events, kills: telling.kills, files: telling.files.len() })
}

/// The renames with which an open begins: the header that follows has a higher epoch.
fn epochs(run: &Run) -> BTreeSet<usize> {
    let mut named: BTreeMap<Ino, (usize, SegmentId)> = BTreeMap::new();
    let mut inos = run.trace.inos.clone();
    let (mut epoch, mut begins) = (1, BTreeSet::new());
    for (at, step) in run.trace.steps.iter().enumerate() {
        match &step.op {
            Op::Create { path, ino } => drop(inos.insert(path.clone(), *ino)),
            Op::Rename { from, to } => {
                let Some(ino) = inos.remove(from) else { continue };
                inos.insert(to.clone(), ino);
                if let Some(id) = parse_name(to) {
                    named.insert(ino, (at, id));
                }
            }
            Op::Write { ino, offset: 0, data } => {
                let header = named.get(ino).and_then(|(_, id)| decode(data, *id));
                if let Some(header) = header.filter(|h| h.epoch.0 > epoch) {
                    epoch = header.epoch.0;
                    begins.insert(named[ino].0);
                }
            }
            _ => {}
        }
    }
    begins
}

/// A segment's header, whatever its store.
fn decode(data: &[u8], id: SegmentId) -> Option<Header> {
    let nobody = Identity { cluster: 0, node: 0, store: [0; 16] };
    let identity = match Header::decode::<MemVfs>(data, id, &nobody) {
        HeaderFact::Foreign(identity) => identity,
        _ => nobody,
    };
    match Header::decode::<MemVfs>(data, id, &identity) {
        HeaderFact::Ours(header) => Some(header),
        _ => None,
    }
}

#[derive(Default)]
struct Telling {
    events: Vec<Event>,
    kills: Vec<BTreeSet<usize>>,
    paths: BTreeMap<Ino, String>,
    files: BTreeMap<Ino, usize>,
    headers: BTreeMap<Ino, Header>,
    stream: Vec<Written>,
    /// Of frames that take several writes, what there is: where it begins, and the bytes.
    unfinished: BTreeMap<Ino, (u64, Vec<u8>)>,
    /// Whether the store's name is durable.
    begun: bool,
    identified: bool,
}

impl Telling {
    fn done(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Create { path, ino } => {
                self.paths.insert(*ino, path.clone());
                if is_spare(path) {
                    let file = self.file(*ino);
                    self.push(Event::Made(file));
                }
            }
            Op::Write { ino, offset, data } => self.wrote(*ino, *offset, data)?,
            Op::Rename { from, to } => {
                let ino = self.named(from)?;
                self.renamed(from, to, ino);
            }
            Op::Remove { path } => {
                let ino = self.named(path)?;
                self.paths.remove(&ino);
                if is_spare(path) || parse_name(path).is_some() {
                    let file = self.file(ino);
                    self.push(Event::Gone(file));
                }
            }
            Op::SyncData { ino } | Op::SyncAll { ino } => self.synced(*ino),
            Op::SyncDir { path } if path.is_empty() => {
                if self.begun {
                    self.push(Event::Dir);
                } else if self.identified {
                    self.begin();
                }
            }
            Op::CreateDir { .. } | Op::SetLen { .. } | Op::SyncDir { .. } | Op::Mark(_) => {}
            other => return Err(format!("the engine does no {other:?}")),
        }
        Ok(())
    }

    /// The store is there: its first segment is file 1, its spares follow.
    fn begin(&mut self) {
        self.begun = true;
        self.files.clear();
        self.events.clear();
        let mut inos: Vec<(bool, String, Ino)> =
            self.paths.iter().map(|(ino, path)| (is_spare(path), path.clone(), *ino)).collect();
        inos.retain(|(spare, path, _)| *spare || parse_name(path).is_some());
        inos.sort();
        for (.., ino) in inos {
            self.file(ino);
        }
    }

    /// The file that has a name.
    fn named(&self, path: &str) -> Result<Ino, String> {
        let found = self.paths.iter().find(|(_, own)| *own == path);
        found.map(|(ino, _)| *ino).ok_or_else(|| format!("{path} was never made"))
    }

    fn push(&mut self, event: Event) {
        if self.begun {
            self.events.push(event);
        }
    }

    fn file(&mut self, ino: Ino) -> usize {
        let next = self.files.len() + 1;
        *self.files.entry(ino).or_insert(next)
    }

    fn renamed(&mut self, from: &str, to: &str, ino: Ino) {
        self.paths.insert(ino, to.to_owned());
        self.identified |= to == seawall::identity::NAME;
        let ours = is_spare(from) || parse_name(from).is_some();
        match parse_name(to) {
            Some(id) if ours => {
                let file = self.file(ino);
                self.push(Event::Name { file, segment: id.0 });
            }
            None if ours && is_spare(to) => {
                let file = self.file(ino);
                self.push(Event::Spare(file));
            }
            _ => {}
        }
    }

    fn synced(&mut self, ino: Ino) {
        let path = self.paths.get(&ino).map(String::as_str).unwrap_or_default();
        if path == highwater::NAME {
            self.push(Event::HighSync);
        } else if parse_name(path).is_some() {
            let file = self.file(ino);
            self.push(Event::Sync(file));
        }
    }

    fn wrote(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<(), String> {
        let path = self.paths.get(&ino).cloned().unwrap_or_default();
        if path == highwater::NAME {
            return self.wrote_high(data);
        }
        let Some(id) = parse_name(&path) else { return Ok(()) };
        if let Some((start, mut bytes)) = self.unfinished.remove(&ino) {
            if start + bytes.len() as u64 != offset {
                return Err("a frame's pieces do not follow one another".to_owned());
            }
            bytes.extend_from_slice(data);
            return self.wrote(ino, start, &bytes);
        }
        if data.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let file = self.file(ino);
        if offset == 0 {
            let header = decode(data, id).ok_or("a segment begins without a header")?;
            self.headers.insert(ino, header);
            let (cut, recovered_to) = (self.frames(header.cut)?, self.frames(header.recovered_to)?);
            self.push(Event::Head { file, segment: id.0, cut, recovered_to });
            return Ok(());
        }
        let place = self.headers.get(&ino).ok_or("a segment is written before its header")?.place();
        let at = u32::try_from(offset).map_err(|e| e.to_string())?;
        if let Probe::Frame(header) = frame::probe::<MemVfs>(data, &place, at) {
            if data.len() < header.frame_len as usize {
                self.unfinished.insert(ino, (offset, data.to_vec()));
                return Ok(());
            }
            return if header.is_twin { Ok(()) } else { self.wrote_frame(file, &header, data, &place) };
        }
        let raw = data.last_chunk::<{ trailer::LEN }>();
        let end = offset + data.len() as u64;
        match raw.and_then(|raw| Trailer::decode::<MemVfs>(raw, &place, end)) {
            Some(trailer) => {
                let by = match trailer.seal {
                    Seal::Rotated => "rot",
                    Seal::Closed => "close",
                    Seal::Recovered => "rec",
                };
                let position = self.frames(trailer.position)?;
                self.push(Event::Foot { file, segment: id.0, position, by, next: trailer.next.0 });
            }
            None => self.push(Event::Tables(file)),
        }
        Ok(())
    }

    fn wrote_high(&mut self, data: &[u8]) -> Result<(), String> {
        let Some(raw) = data.first_chunk::<{ highwater::field::LEN }>() else { return Ok(()) };
        let store = raw[highwater::field::STORE].try_into().expect("sixteen bytes");
        let high = HighWater::decode::<MemVfs>(raw, &store).ok_or("a slot that does not hold was written")?;
        let position = self.frames(high.position)?;
        self.push(Event::High { segment: high.segment.0, position });
        Ok(())
    }

    fn wrote_frame(
        &mut self,
        file: usize,
        header: &frame::Header,
        data: &[u8],
        place: &frame::Place,
    ) -> Result<(), String> {
        let again = match header.kind {
            FrameKind::Checkpoint => return Ok(()),
            FrameKind::Batch => false,
            FrameKind::Rewritten => true,
        };
        let mark = self.frames(header.mark)?;
        let frame = if again {
            let same = self.stream.iter().position(|f| (f.first, f.last) == (header.first, header.last()));
            same.ok_or("a frame is written again that was never written")?
        } else {
            let opened = frame::open::<MemVfs>(data, header, place.salt::<MemVfs>());
            let opened = opened.map_err(|bad| format!("a bad frame was written: {}", bad.what))?;
            let payload = (opened.payload_offset - header.offset) as usize;
            let changes = changes(&opened.items, &data[payload..]);
            self.stream.push(Written { first: header.first, last: header.last(), changes });
            self.kills.push(BTreeSet::new());
            self.bury();
            self.stream.len() - 1
        };
        let (segment, position) = (header.segment.0, frame + 1);
        self.push(Event::Frame { file, segment, position, mark, frame, again });
        Ok(())
    }

    /// How many frames end at a position.
    fn frames(&self, position: Position) -> Result<usize, String> {
        let frames = self.stream.iter().filter(|f| f.last <= position).count();
        let end = frames.checked_sub(1).map_or(Position(0), |n| self.stream[n].last);
        if end == position { Ok(frames) } else { Err(format!("position {} is within a frame", position.0)) }
    }

    /// Says of which frames the last one left nothing.
    fn bury(&mut self) {
        let newest = self.stream.len() - 1;
        let mut entries: BTreeMap<(GroupId, u64), usize> = BTreeMap::new();
        for (n, frame) in self.stream.iter().enumerate() {
            for change in &frame.changes {
                match *change {
                    Change::Put(group, index) => drop(entries.insert((group, index), n)),
                    Change::Drop(group, from, to) => {
                        entries.retain(|(g, i), _| *g != group || *i < from || *i > to);
                    }
                }
            }
        }
        let live: BTreeSet<usize> = entries.into_values().collect();
        for n in (0..=newest).filter(|n| !live.contains(n)) {
            if self.kills[n].is_empty() {
                self.kills[n].insert(newest);
            }
        }
    }

    fn tell(&mut self, event: &Told, run: &Run) -> Result<(), String> {
        if !self.begun {
            return Ok(());
        }
        match event {
            Told::Ack(batch) => {
                let Some(Some(position)) = run.positions.get(*batch) else { return Ok(()) };
                let frames = self.stream.iter().filter(|f| f.first <= *position).count();
                self.push(Event::Ack(frames));
            }
            Told::Opened { .. } => {
                let frames = self.stream.len();
                self.push(Event::Opened(frames));
            }
            _ => {}
        }
        Ok(())
    }
}

fn is_spare(path: &str) -> bool {
    path.starts_with("spare-")
}

/// What the records of a frame do to entries.
fn changes(items: &[Item], mut payload: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    for item in items {
        let (name, index) = (&item.name, item.name.id.index.0);
        for (n, (len, _)) in (0..).zip(&item.sizes) {
            let (data, rest) = payload.split_at(*len as usize);
            payload = rest;
            match name.kind {
                Kind::Command | Kind::Membership => {
                    changes.push(Change::Put(name.group, index + n));
                }
                Kind::Truncate => changes.push(Change::Drop(name.group, index, u64::MAX)),
                Kind::Compact => changes.push(Change::Drop(name.group, 0, index)),
                // The second byte says whether the entries after the index are kept.
                Kind::Install if data[1] == 1 => changes.push(Change::Drop(name.group, 0, index)),
                Kind::Install | Kind::RemoveGroup => changes.push(Change::Drop(name.group, 0, u64::MAX)),
                Kind::Vote | Kind::Commit | Kind::CreateGroup | Kind::Snapshot => {}
            }
        }
    }
    changes
}
