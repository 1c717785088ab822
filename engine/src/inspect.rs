//! A store that is looked at and not touched: read, list every record, verify every byte.
//!
//! I own the read-only handle. (K1) I change no byte and take no lock; beside a live writer I see
//! what was written when I looked. (K2) Each record is marked durable, unproven or damaged. I do not
//! repair (see recovery).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::checksum::crc;
use crate::error::{Error, Result};
use crate::evidence;
use crate::facts::{Facts, gather, is_overlong};
use crate::frame::{Frame, Place};
use crate::identity;
use crate::index::{Index as EntryIndex, Location};
use crate::log::held::Shelf;
use crate::log::{Readable, Shape};
use crate::record::Name;
use crate::recovery::{self, Plan, owned};
use crate::report::RecoveryReport;
use crate::scan::{Scan, Window, places, records};
use crate::segment::{EntryRef, file_name};
use crate::snapshot::reader::{Seen, SnapshotReader};
use crate::state::{Group, Groups};
use crate::status::GroupStatus;
use crate::types::{
    Entry, GroupId, Identity, Incarnation, Index, LogId, Position, SegmentId, SnapshotOwner, Term,
};
use crate::vfs::os::OsVfs;
use crate::vfs::{Access, File, Vfs};

mod history;

pub use history::{Membership, MembershipSource};

/// How sure a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// At or below the largest mark: it was acknowledged.
    Durable,
    /// Above the largest mark: it may have been acknowledged, or may go in the next recovery.
    Unproven,
    /// Named by a frame whose bytes do not hold.
    Damaged,
}

/// One record, as it stands in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpRecord {
    /// Its place in the stream.
    pub position: Position,
    /// Its group.
    pub group: GroupId,
    /// Which group of that id.
    pub incarnation: Incarnation,
    /// What it is, in one word.
    pub kind: &'static str,
    /// Index and term, as the kind says.
    pub id: LogId,
    /// The segment.
    pub segment: SegmentId,
    /// Where its frame starts.
    pub offset: u64,
    /// How sure it is.
    pub state: Proof,
    /// Its bytes; empty if damaged.
    pub data: Arc<[u8]>,
}

/// A range of bytes that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// The first byte.
    pub from: u64,
    /// The byte after the last.
    pub to: u64,
    /// What does not hold.
    pub what: String,
}

/// What a verification read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Segment files read.
    pub segments: u64,
    /// Records whose bytes hold.
    pub records: u64,
    /// Bytes of those records' frames.
    pub bytes: u64,
    /// Owned snapshots read.
    pub snapshots: u64,
    /// What does not hold.
    pub damage: Vec<Damage>,
}

/// A store, open for looking.
pub struct Store<V: Vfs = OsVfs> {
    vfs: V,
    shape: Shape,
    groups: Groups,
    index: EntryIndex,
    sealed: BTreeMap<SegmentId, Arc<Readable<V>>>,
    newest: Arc<Readable<V>>,
    report: RecoveryReport,
}

impl Store<OsVfs> {
    /// Opens a store for looking; works beside a writer and on a read-only mount.
    pub fn open_read_only(dir: impl AsRef<Path>) -> Result<(Self, RecoveryReport)> {
        Self::open_read_only_in(OsVfs::at(dir))
    }
}

/// How often a writer may move segments under our eyes before we give up.
const ATTEMPTS: u32 = 64;

/// An alarm, with the position of the snapshot pointer that it speaks of: a writer beside us replaces snapshots
/// and recycles segments while we look, so an alarm counts when two looks in a row agree on it.
type Alarm<T> = (T, Option<Position>);

/// Looks again until two looks in a row have an alarm in common, or one has none.
///
/// # Errors
/// Of a look, if the next one has the same, or if none agreed.
fn look_until_sure<T, A: Ord>(
    mut look: impl FnMut() -> Result<T>,
    alarms: impl Fn(&T) -> BTreeSet<Alarm<A>>,
) -> Result<T> {
    let (mut before, mut error) = (BTreeSet::new(), String::new());
    for attempt in 1.. {
        let found = look();
        let (now, text) = match &found {
            Ok(found) => (alarms(found), String::new()),
            Err(e) => (BTreeSet::new(), e.to_string()),
        };
        let sure = match &found {
            Ok(_) => now.is_empty() || !now.is_disjoint(&before),
            Err(Error::Io { source, .. }) if is_moving(source) => false,
            Err(Error::Corrupt { .. } | Error::Damaged { .. } | Error::Snapshot { .. }) => text == error,
            Err(_) => true,
        };
        if sure || attempt == ATTEMPTS {
            return found;
        }
        (before, error) = (now, text);
    }
    unreachable!("attempts are counted")
}

impl<V: Vfs> Store<V> {
    /// As [`Store::open_read_only`], on any file system. Damage is in the report, not an error.
    pub fn open_read_only_in(vfs: V) -> Result<(Self, RecoveryReport)> {
        let shape = shape_of(&vfs)?;
        let alarms = |(store, report): &(Self, RecoveryReport)| {
            report.lost.iter().map(|lost| (lost.clone(), store.pointer_of(lost.group()))).collect()
        };
        look_until_sure(|| Self::look(&vfs, &shape), alarms)
    }

    /// The position of a group's snapshot pointer.
    fn pointer_of(&self, group: Option<GroupId>) -> Option<Position> {
        self.groups.get(&group?)?.snapshot.map(|(position, _)| position)
    }

    fn look(vfs: &V, shape: &Shape) -> Result<(Self, RecoveryReport)> {
        let mut facts = gather(vfs, shape)?;
        let plan = recovery::decide(&mut facts, shape)?;
        let mut view = recovery::view(&facts, plan)?;
        let lost = recovery::check_snapshots(vfs, shape, &view.groups, facts.has_snapshots)?;
        view.report.lost.extend(lost);
        let newest_id = facts.segments[view.newest].id;
        let mut sealed = BTreeMap::new();
        for fact in facts.segments {
            let Some(header) = fact.known_header() else { continue };
            let salt = header.place().salt::<V>();
            let mut readable = Readable::new(fact.held, salt, fact.footer.map(|f| f.trailer));
            readable.entries = view.tables.remove(&fact.id).unwrap_or_default();
            sealed.insert(fact.id, Arc::new(readable));
        }
        let newest = sealed[&newest_id].clone();
        let (groups, index) = (view.groups, view.index);
        let report = view.report;
        let store =
            Self { vfs: vfs.clone(), shape: *shape, groups, index, sealed, newest, report: report.clone() };
        Ok((store, report))
    }

    /// Whose store it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.shape.identity
    }

    /// The alignment unit and the segment size in bytes.
    #[must_use]
    pub fn sizes(&self) -> (u32, u64) {
        (self.shape.unit, self.shape.size)
    }

    /// What was found at open.
    #[must_use]
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// The groups, ascending.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    fn known(&self, group: GroupId) -> Result<&Group> {
        self.groups.get(&group).ok_or(Error::UnknownGroup { group })
    }

    /// A group as it was when the store was opened.
    pub fn group(&self, group: GroupId) -> Result<GroupStatus> {
        let g = self.known(group)?;
        Ok(GroupStatus {
            incarnation: g.incarnation,
            first: g.first(),
            last: g.last,
            purged: g.purged,
            vote: g.vote.as_ref().map(|(_, v)| v.clone()),
            commit: g.commit,
            snapshot: g.snapshot.map(|(_, p)| p),
            durable_last: g.last.index,
            lost: self.report.lost.iter().filter(|lost| lost.group() == Some(group)).cloned().collect(),
        })
    }

    fn locate(&self, group: GroupId, index: Index) -> Result<Location> {
        let g = self.known(group)?;
        if index < g.first() {
            return Err(Error::Compacted { group, index, first: g.first() });
        }
        if index > g.last.index {
            return Err(Error::PastEnd { group, index, last: g.last.index });
        }
        let what = "an entry is not where the log says";
        let damaged = || Error::Damaged { file: self.newest.path.clone(), offset: 0, what };
        self.index.locate(group, index).ok_or_else(damaged)
    }

    /// Reads a range of entries: all of it, or as many from its start as fit `max_bytes`, at least
    /// one. Each counts as its bytes and [`Entry::OVERHEAD`].
    pub fn read(&self, group: GroupId, range: Range<Index>, max_bytes: u64) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0_u64;
        for index in range.start.0..range.end.0 {
            let location = self.locate(group, Index(index))?;
            let reader = match &location {
                Location::Sealed(_, segment, _) => &self.sealed[segment],
                Location::Active(..) => &self.newest,
            };
            let entry = reader.read(&location)?;
            bytes = bytes.saturating_add(entry.cost());
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The term of an entry, or of the last one that was compacted away.
    pub fn term(&self, group: GroupId, index: Index) -> Result<Term> {
        let g = self.known(group)?;
        if index == g.purged.index {
            return Ok(g.purged.term);
        }
        Ok(self.locate(group, index)?.name().id.term)
    }

    /// A reader of a group's owned snapshot.
    pub fn snapshot_reader(&self, group: GroupId) -> Result<SnapshotReader<V>> {
        let pointer = self.known(group)?.snapshot.map(|(_, p)| p).filter(|p| p.owner == SnapshotOwner::Owned);
        let pointer = pointer.ok_or(Error::NoSnapshot { group })?;
        let reader = SnapshotReader::open(&self.vfs, &self.shape.identity, pointer.digest);
        reader.map_err(|fault| Error::Snapshot { fault })
    }

    /// Every record that stands in a segment, live or not, in the order of the stream. Records that
    /// a recovery wrote again come once.
    pub fn records(&self) -> Result<Records<V>> {
        let mark = self.report.maybe_acked.map_or(self.report.position, |m| m.above);
        Ok(Records::new(&self.vfs, self.shape, segment_names(&self.vfs)?, mark))
    }

    /// Reads every frame, footer, snapshot and the identity, and names each range that does not hold.
    pub fn verify(&self) -> Result<VerifyReport> {
        let mut first = true;
        let look = || {
            let again = if first { None } else { Some(Self::look(&self.vfs, &self.shape)?.0.groups) };
            first = false;
            verify_in(&self.vfs, &self.shape, again.as_ref().unwrap_or(&self.groups))
        };
        let (report, _) = look_until_sure(look, |(_, alarms)| alarms.clone())?;
        Ok(report)
    }
}

fn is_moving(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof)
}

fn shape_of<V: Vfs>(vfs: &V) -> Result<Shape> {
    let file = match vfs.open(identity::NAME, Access::Read) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(identity::missing(vfs)),
        other => other.map_err(Error::io("open", identity::NAME))?,
    };
    Ok(identity::read::<V>(&file).map_err(|e| identity::beside_segments(vfs, e))?.shape)
}

fn segment_names<V: Vfs>(vfs: &V) -> Result<Vec<SegmentId>> {
    let names = vfs.list("").map_err(Error::io("list", "."))?;
    Ok(names.iter().filter_map(|n| crate::segment::parse_name(n)).collect())
}

/// What does not hold, once.
type Verified = (VerifyReport, BTreeSet<Alarm<(String, u64, String)>>);

/// Reads everything, and names what does not hold, with the snapshots that these groups have.
fn verify_in<V: Vfs>(vfs: &V, shape: &Shape, groups: &Groups) -> Result<Verified> {
    let mut out = VerifyReport::default();
    let file = vfs.open(identity::NAME, Access::Read).map_err(Error::io("open", identity::NAME))?;
    if identity::read::<V>(&file)?.mend.is_some() {
        let what = "a copy of the identity does not hold".into();
        out.damage.push(Damage { file: identity::NAME.into(), from: 0, to: identity::FILE_LEN as u64, what });
    }
    let mut facts = gather(vfs, shape)?;
    // Where nothing can be decided, nothing is excused.
    let plan = recovery::decide(&mut facts, shape).ok().filter(|plan| plan.report.lost.is_empty());
    if let Some(what) = facts.evidence.fault(facts.evidence_reached()) {
        let what = what.into();
        out.damage.push(Damage { file: evidence::NAME.into(), from: 0, to: evidence::FILE_LEN, what });
    }
    out.segments = facts.segments.len() as u64;
    for at in 0..facts.segments.len() {
        verify_segment(&facts, at, plan.as_ref(), shape, &mut out)?;
    }
    let alarm = |damage: &Damage, at| ((damage.file.clone(), damage.from, damage.what.clone()), at);
    let mut alarms: BTreeSet<_> = out.damage.iter().map(|damage| alarm(damage, None)).collect();
    // Nothing is read or named twice because two pointers name it.
    let (mut seen, mut known, mut files) = (Seen::default(), BTreeMap::new(), BTreeSet::new());
    for (group, digest, _) in owned(groups.iter().map(|(id, g)| (*id, g))) {
        out.snapshots += 1;
        let pointer = groups[&group].snapshot.map(|(position, _)| position);
        if let Some(first) = known.get(&digest) {
            alarms.extend(Option::as_ref(first).map(|damage| alarm(damage, pointer)));
            continue;
        }
        let mut first = None;
        for fault in seen.verify(vfs, &shape.identity, digest) {
            // A file that is gone has no bytes to name.
            let len = vfs.open(fault.file(), Access::Read).and_then(|file| file.len()).unwrap_or(0);
            let file = fault.file().to_owned();
            let damage = Damage { file, from: 0, to: len, what: fault.to_string() };
            alarms.insert(alarm(&damage, pointer));
            first.get_or_insert_with(|| damage.clone());
            if files.insert(damage.file.clone()) {
                out.damage.push(damage);
            }
        }
        known.insert(digest, first);
    }
    Ok((out, alarms))
}

/// Names what does not hold of a segment, where a crash cannot have been. Without a plan, nothing is excused.
fn verify_segment<V: Vfs>(
    facts: &Facts<V>,
    at: usize,
    plan: Option<&Plan>,
    shape: &Shape,
    out: &mut VerifyReport,
) -> Result<()> {
    let newest = plan.map_or(facts.segments.len() - 1, Plan::newest);
    if at > newest {
        return Ok(());
    }
    let fact = &facts.segments[at];
    let path = file_name(fact.id);
    let mut damage = |range: Range<u64>, what: &str| {
        let (from, to) = (range.start, range.end);
        out.damage.push(Damage { file: path.clone(), from, to, what: what.to_owned() });
    };
    if is_overlong(fact.len, shape) {
        damage(shape.size..fact.len, "the file is longer than a segment");
    }
    let scan = match &fact.scan {
        Some(scan) => Some(scan.clone()),
        None => crate::facts::walk::<V>(&*fact.file()?, fact.id, &fact.header, shape, fact.floor)?,
    };
    let Some(scan) = scan else {
        if plan.is_none() {
            damage(0..fact.len, "no byte of this segment was found");
        }
        return Ok(());
    };
    for (range, what) in recovery::mended(facts, at, newest, &scan) {
        damage(range, &format!("does not hold; it can be made good: {what}"));
    }
    let next = facts.segments.get(at + 1).filter(|_| at < newest).and_then(|fact| fact.known_header());
    let proven = recovery::proven(fact, &scan, next);
    let file = fact.file()?;
    let mut window = Window::new(&*file).map_err(Error::io("read", &path))?;
    let hollow = scan.hollow.iter().map(|n| &scan.frames[*n]).filter(|f| f.header.last() <= proven);
    for frame in hollow {
        let bad = bad_in::<V>(&mut window, frame, scan.header.place().salt::<V>());
        let bad = bad.map_err(Error::io("read", &path))?;
        if bad.is_empty() {
            let from = u64::from(frame.header.offset);
            damage(from..from + u64::from(frame.header.frame_len), "a batch's padding does not hold");
        }
        for (name, range) in bad {
            damage(range, &format!("entry {} of group {} does not hold", name.id, name.group));
        }
    }
    // Without a footer, what its successors do not hold would be lost, and there would be no plan.
    if scan.position < proven && (fact.footer.is_some() || plan.is_none()) {
        let to = fact.footer.as_ref().map_or(fact.len, |f| u64::from(f.trailer.cut));
        damage(u64::from(scan.offset)..to, "acknowledged records do not hold");
    }
    out.records += scan.frames.iter().map(|f| u64::from(f.header.records)).sum::<u64>();
    out.bytes += scan.frames.iter().map(|f| u64::from(f.header.frame_len)).sum::<u64>();
    if let Some(footer) = fact.footer.as_ref().filter(|_| recovery::was_rotated(fact, next))
        && let Some(what) = fact.footer_fault(footer)?
    {
        damage(u64::from(footer.trailer.footer)..fact.len, what);
    }
    Ok(())
}

/// The records of a frame whose payload does not hold, and where they stand.
fn bad_in<V: Vfs>(
    window: &mut Window<'_, V::File>,
    frame: &Frame,
    salt: u64,
) -> std::io::Result<Vec<(Name, Range<u64>)>> {
    let mut bad = Vec::new();
    for (name, EntryRef { offset, len, crc: sum }) in places(frame) {
        let data = window.get(u64::from(offset), len as usize)?;
        if data.len() < len as usize || crc(name.seed(salt), data) != sum {
            bad.push((name, u64::from(offset)..u64::from(offset) + u64::from(len)));
        }
    }
    Ok(bad)
}

/// Every record of a store, segment by segment.
pub struct Records<V: Vfs> {
    shelf: Arc<Shelf<V>>,
    shape: Shape,
    /// The segments that are still to come, the next one last.
    segments: Vec<SegmentId>,
    ready: Vec<DumpRecord>,
    mark: Position,
    last: Position,
}

impl<V: Vfs> Records<V> {
    fn new(vfs: &V, shape: Shape, segments: Vec<SegmentId>, mark: Position) -> Self {
        let segments = segments.into_iter().rev().collect();
        Self { shelf: Shelf::new(vfs), shape, segments, ready: Vec::new(), mark, last: Position(0) }
    }

    fn fill(&mut self, id: SegmentId) -> Result<()> {
        let path = file_name(id);
        let mut fact = match crate::facts::look(&self.shelf, &path, id, &self.shape, Position(0)) {
            Err(Error::Io { source, .. }) if is_moving(&source) => return Ok(()),
            other => other?,
        };
        let scan = match fact.scan.take() {
            Some(scan) => Some(scan),
            None => crate::facts::walk::<V>(&*fact.file()?, id, &fact.header, &self.shape, Position(0))?,
        };
        let Some(scan) = scan else { return Ok(()) };
        let sealed_to = fact.footer.as_ref().map(|f| f.trailer.position);
        let file = fact.file()?;
        let mut window = Window::new(&*file).map_err(Error::io("read", &path))?;
        for frame in &scan.frames {
            if sealed_to.is_some_and(|to| frame.header.first > to) {
                break;
            }
            self.take(&mut window, frame, id)?;
        }
        self.take_damaged(&scan, id);
        self.ready.reverse();
        Ok(())
    }

    fn take(&mut self, window: &mut Window<'_, V::File>, frame: &Frame, segment: SegmentId) -> Result<()> {
        let offset = u64::from(frame.header.offset);
        let mut position = frame.header.first;
        let place = Place {
            store: self.shape.identity.store,
            segment,
            epoch: frame.header.epoch,
            unit: self.shape.unit,
        };
        let salt = place.salt::<V>();
        let bad = bad_in::<V>(window, frame, salt).map_err(Error::io("read", file_name(segment)))?;
        for mut record in records(window, frame).map_err(Error::io("read", file_name(segment)))? {
            if position > self.last {
                self.last = position;
                let name = record.name;
                let state = match position <= self.mark {
                    _ if bad.iter().any(|(n, _)| *n == name) => Proof::Damaged,
                    true => Proof::Durable,
                    false => Proof::Unproven,
                };
                if state == Proof::Damaged {
                    record.data = [].into();
                }
                self.ready.push(DumpRecord {
                    position,
                    group: name.group,
                    incarnation: name.incarnation,
                    kind: name.kind.name(),
                    id: name.id,
                    segment,
                    offset,
                    state,
                    data: record.data,
                });
            }
            position = position.next();
        }
        Ok(())
    }

    /// What a frame that does not hold still names.
    fn take_damaged(&mut self, scan: &Scan, segment: SegmentId) {
        let Some(broken) = &scan.broken else { return };
        let mut position = scan.position.next();
        for item in &broken.items {
            for n in 0..item.count {
                let name = item.name.at(n);
                self.ready.push(DumpRecord {
                    position,
                    group: name.group,
                    incarnation: name.incarnation,
                    kind: name.kind.name(),
                    id: name.id,
                    segment,
                    offset: u64::from(scan.offset),
                    state: Proof::Damaged,
                    data: [].into(),
                });
                position = position.next();
            }
        }
    }
}

impl<V: Vfs> Iterator for Records<V> {
    type Item = Result<DumpRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.pop() {
                return Some(Ok(record));
            }
            let id = self.segments.pop()?;
            if let Err(e) = self.fill(id) {
                return Some(Err(e));
            }
        }
    }
}
