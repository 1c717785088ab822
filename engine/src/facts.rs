//! What is on the disk, before anyone decides what it means.
//!
//! I own the look at every file of the directory. (A1) Looking never changes. (A2) A read error is an
//! error, never the end of a file. (A3) What is read is bounded by headers, trailers, run tables and
//! the segments without a good footer. I do not know what a fact means (see recovery).

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::evidence::{self, Evidence};
use crate::highwater::{self, HighWater};
use crate::log::held::{Held, Shelf};
use crate::log::{Shape, first_header};
use crate::log::{repair, spares};
use crate::planted::Bug;
use crate::quarantine;
use crate::scan::{Scan, Window, scan};
use crate::segment::{self, EntryRef, Header, HeaderFact, Run, Seal, Trailer};
use crate::state::{self, Groups};
use crate::types::{Epoch, Position, SegmentId};
use crate::vfs::{Access, File, Vfs, read_exact_at};

/// A footer that holds as far as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FooterFact {
    /// The trailer.
    pub trailer: Trailer,
    /// The runs.
    pub runs: Vec<Run>,
}

/// One segment file.
pub struct SegmentFact<V: Vfs> {
    /// What its name says.
    pub id: SegmentId,
    /// Its file.
    pub held: Arc<Held<V>>,
    /// Its length.
    pub len: u64,
    /// A position in it that the high-water file calls durable; 0 for none.
    pub floor: Position,
    /// What its first bytes are.
    pub header: HeaderFact,
    /// Its footer, if it is sealed and the run table holds.
    pub footer: Option<FooterFact>,
    /// Why it was sealed, if there is a trailer whose footer does not hold.
    pub bad_footer: Option<Seal>,
    /// Its frames, if it has no good footer.
    pub scan: Option<Scan>,
}

impl<V: Vfs> SegmentFact<V> {
    /// A description of its file.
    pub fn file(&self) -> Result<Arc<V::File>> {
        self.held.open().map_err(Error::io("open", self.held.path()))
    }

    /// The header, its own or put together from the checkpoint. Without either nothing is known of the
    /// segment's place in the log, whatever frames stand in it.
    #[must_use]
    pub fn known_header(&self) -> Option<&Header> {
        match (&self.header, &self.scan) {
            (HeaderFact::Ours(h), _) => Some(h),
            (_, Some(scan)) if scan.checkpoint.is_some() => Some(&scan.header),
            _ => None,
        }
    }

    /// The state at the end of a sealed segment.
    pub fn sealed_state(&self) -> Result<Option<Groups>> {
        let (Some(footer), HeaderFact::Ours(header)) = (&self.footer, &self.header) else { return Ok(None) };
        let [_, _, part] = footer.trailer.parts();
        let raw = read_part(&*self.file()?, self.id, part)?;
        let sum = crate::checksum::crc(crate::checksum::seed(header.place().salt::<V>()), &raw);
        let holds = sum == footer.trailer.state_crc || V::planted(Bug::StateUnchecked);
        Ok(holds.then(|| state::decode(&raw)).flatten())
    }

    /// What does not hold in a footer besides the trailer and the runs.
    pub fn footer_fault(&self, footer: &FooterFact) -> Result<Option<&'static str>> {
        let HeaderFact::Ours(header) = &self.header else { return Ok(None) };
        if self.entry_table(header, &footer.trailer)?.is_none() {
            return Ok(Some("the entry table does not hold"));
        }
        Ok(self.sealed_state()?.is_none().then_some("the state does not hold"))
    }

    /// Where the entries of a sealed segment are; `None` if its entry table does not hold.
    pub fn entry_table(&self, header: &Header, trailer: &Trailer) -> Result<Option<Vec<EntryRef>>> {
        let table = segment::read_table::<V>(&*self.file()?, trailer, &header.place());
        table.map_err(Error::io("read", segment::file_name(self.id)))
    }

    /// Walks the segment although it has a footer.
    pub fn rescan(&mut self, shape: &Shape) -> Result<()> {
        self.scan = walk::<V>(&*self.file()?, self.id, &self.header, shape, self.floor)?;
        Ok(())
    }
}

/// Everything that was found in a store's directory.
pub struct Facts<V: Vfs> {
    /// The segments that are open.
    pub shelf: Arc<Shelf<V>>,
    /// The segments, ascending.
    pub segments: Vec<SegmentFact<V>>,
    /// Names of prepared segments of the right length.
    pub spares: Vec<String>,
    /// Names of prepared segments of another length or with holes, and of a repaired one: their making was cut short,
    /// or they are sparse copies.
    pub stunted: Vec<String>,
    /// Whether any of them has holes.
    pub has_holes: bool,
    /// The highest segment whose header stands in a spare; 0 for none.
    pub stray: SegmentId,
    /// Names that are not ours.
    pub unknown: Vec<String>,
    /// Whether the snapshots' directory is there.
    pub has_snapshots: bool,
    /// The newest epoch in any header.
    pub epoch: Epoch,
    /// What the high-water file says; `None` if it does not say.
    pub high: Option<HighWater>,
    /// What the evidence file says.
    pub evidence: Evidence,
}

impl<V: Vfs> Facts<V> {
    /// The number of the newest event of the evidence file that the high-water file names.
    #[must_use]
    pub fn evidence_reached(&self) -> u64 {
        self.high.map_or(0, |high| high.evidence)
    }
}

/// The name of the snapshots' directory.
pub const SNAPSHOTS: &str = "snapshots";

/// Names that are neither segments nor spares.
const OTHERS: [&str; 5] =
    [crate::identity::NAME, crate::identity::NEW_NAME, highwater::NAME, evidence::NAME, quarantine::DIR];

/// A directory that a fresh volume has, and that is nobody's.
pub const LOST_AND_FOUND: &str = "lost+found";

/// Looks at every file of the directory.
pub fn gather<V: Vfs>(vfs: &V, shape: &Shape) -> Result<Facts<V>> {
    let mut facts = Facts {
        shelf: Shelf::new(vfs),
        segments: Vec::new(),
        spares: Vec::new(),
        stunted: Vec::new(),
        has_holes: false,
        stray: SegmentId(0),
        unknown: Vec::new(),
        has_snapshots: false,
        epoch: Epoch(0),
        // Before the segments, and the evidence after: a writer beside us may raise it meanwhile.
        high: highwater::read(vfs, &shape.identity.store)?,
        evidence: evidence::read(vfs, &shape.identity.store)?,
    };
    for name in vfs.list("").map_err(Error::io("list", "."))? {
        if let Some(id) = segment::parse_name(&name) {
            let own = facts.high.filter(|high| high.segment == id);
            let floor = own.map_or(Position(0), |high| high.position);
            let fact = look(&facts.shelf, &name, id, shape, floor)?;
            facts.epoch = fact.known_header().map_or(facts.epoch, |h| h.epoch.max(facts.epoch));
            facts.segments.push(fact);
        } else if spares::is_spare(&name) {
            let file = match vfs.open(&name, Access::Read) {
                // Another user made it, who ran a command on the store: it is of no use, and is made anew.
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                    facts.stunted.push(name);
                    continue;
                }
                file => file.map_err(Error::io("open", &name))?,
            };
            let len = file.len().map_err(Error::io("stat", &name))?;
            let header = read_header::<V>(&file, &name, len, SegmentId(0), shape)?;
            if let HeaderFact::Recycled(from) = header {
                facts.stray = facts.stray.max(from);
            }
            let has_hole =
                file.has_hole().map_err(Error::io("stat", &name))? && !V::planted(Bug::HolesBelieved);
            facts.has_holes |= has_hole && len == shape.size;
            let whole = len == shape.size && !has_hole;
            if whole { &mut facts.spares } else { &mut facts.stunted }.push(name);
        } else if name == repair::NEW_NAME {
            facts.stunted.push(name);
        } else if name == SNAPSHOTS {
            facts.has_snapshots = true;
        } else if !OTHERS.contains(&name.as_str()) && name != LOST_AND_FOUND {
            facts.unknown.push(name);
        }
    }
    Ok(facts)
}

/// Looks at one segment file; `floor` is a position in it that is known to be durable.
pub fn look<V: Vfs>(
    shelf: &Arc<Shelf<V>>,
    name: &str,
    id: SegmentId,
    shape: &Shape,
    floor: Position,
) -> Result<SegmentFact<V>> {
    let held = shelf.find(name.into()).map_err(Error::io("open", name))?;
    let file = held.open().map_err(Error::io("open", name))?;
    let len = file.len().map_err(Error::io("stat", name))?;
    let header = read_header::<V>(&file, name, len, id, shape)?;
    match header {
        HeaderFact::Newer(found) => {
            let file = name.into();
            return Err(Error::UnsupportedVersion { file, found, supported: segment::FORMAT_VERSION });
        }
        HeaderFact::Foreign(found) => {
            let expected = (shape.identity.cluster, shape.identity.node);
            return Err(Error::WrongIdentity { expected, found });
        }
        _ => {}
    }
    let mut fact = SegmentFact { id, held, len, floor, header, footer: None, bad_footer: None, scan: None };
    if let HeaderFact::Ours(header) = header
        && !is_overlong(len, shape)
    {
        read_footer(&mut fact, &header)?;
    }
    if fact.footer.is_none() {
        fact.rescan(shape)?;
    }
    Ok(fact)
}

fn read_header<V: Vfs>(
    file: &V::File,
    name: &str,
    len: u64,
    id: SegmentId,
    shape: &Shape,
) -> Result<HeaderFact> {
    let mut raw = vec![0; usize::try_from(len.min(u64::from(shape.unit))).expect("a unit is small")];
    read_exact_at(file, &mut raw, 0).map_err(Error::io("read", name))?;
    Ok(match Header::decode::<V>(&raw, id, &shape.identity) {
        // The identity says how the store is cut; a header that says otherwise was not written by it.
        HeaderFact::Ours(h) if (h.unit, h.size) != (shape.unit, shape.size) => HeaderFact::Damaged,
        fact => fact,
    })
}

fn read_footer<V: Vfs>(fact: &mut SegmentFact<V>, header: &Header) -> Result<()> {
    let file = fact.file()?;
    let trailer = segment::read_trailer::<V>(&file, &header.place());
    let Some(trailer) = trailer.map_err(Error::io("read", segment::file_name(fact.id)))? else {
        return Ok(());
    };
    let runs = segment::read_runs::<V>(&file, &trailer, &header.place());
    let runs = runs.map_err(Error::io("read", segment::file_name(fact.id)))?;
    // Of a segment with damaged entries every entry is looked at, by way of the table.
    let listed = trailer.lost == 0 || fact.entry_table(header, &trailer)?.is_some();
    match runs.filter(|_| listed) {
        Some(runs) => fact.footer = Some(FooterFact { trailer, runs }),
        None => fact.bad_footer = Some(trailer.seal),
    }
    Ok(())
}

/// Whether a file is longer than a segment ever is. An open sets the length of an unfinished one anew, by way
/// of one byte more.
#[must_use]
pub fn is_overlong(len: u64, shape: &Shape) -> bool {
    len > shape.size.saturating_add(1)
}

/// Reads a part of a footer.
fn read_part<F: File>(file: &F, id: SegmentId, part: std::ops::Range<u64>) -> Result<Vec<u8>> {
    // The trailer was believed and its parts lie within the file, which is not longer than a segment.
    let mut raw = vec![0; usize::try_from(part.end - part.start).expect("within a segment")];
    read_exact_at(file, &mut raw, part.start).map_err(Error::io("read", segment::file_name(id)))?;
    Ok(raw)
}

/// Walks one segment file.
pub fn walk<V: Vfs>(
    file: &V::File,
    id: SegmentId,
    header: &HeaderFact,
    shape: &Shape,
    floor: Position,
) -> Result<Option<Scan>> {
    let template = Header { segment: id, ..first_header(shape) };
    let result =
        Window::up_to(file, shape.size).and_then(|mut w| scan::<V>(&mut w, header, &template, floor));
    match result {
        Err(_) if V::planted(Bug::ReadErrorIsEnd) => Ok(None),
        other => other.map_err(Error::io("read", segment::file_name(id))),
    }
}
