//! Makes a plan true on disk.
//!
//! I own the order of the writes of an open: fresh space and its name, the carried state and the
//! records above the mark, their sync, and only then whatever the new segment makes needless. I decide
//! nothing.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::{FOOTER_MENDED, Plan, Unsealed};
use crate::error::{Error, Result};
use crate::evidence::{self, Act, Event, Journal};
use crate::facts::{Facts, SegmentFact};
use crate::frame::{Frame, FrameKind};
use crate::highwater::{self, HighWater};
use crate::log::spares::{description, prepare, settle, spare_name, zero_fill};
use crate::log::{Log, Readable, Segments, Shape, start_segment};
use crate::options::SEGMENTS_KEPT;
use crate::planted::Bug;
use crate::quarantine;
use crate::record::Record;
use crate::report::{RecoveryReport, Tail};
use crate::scan::{Window, records};
use crate::segment::{Ending, Footer, Header, HeaderFact, file_name, trailer};
use crate::types::{Epoch, Position, SegmentId};
use crate::vfs::{Access, File, Vfs, write_all_at};
/// Makes the plan true on disk and returns the log. Nothing it returns can be lost by a crash.
pub fn apply<V: Vfs>(
    vfs: &V,
    facts: Facts<V>,
    plan: Plan,
    shape: &Shape,
    descriptions: u32,
) -> Result<(Log<V>, RecoveryReport)> {
    let Plan { groups, index, newest, mark, chain, above, unsealed, unfinished, mut report, .. } = plan;
    let epoch = Epoch(facts.epoch.0 + u64::from(!V::planted(Bug::EpochNotRaised)));
    let highest = facts.segments.last().expect("there is a newest").id;
    let id = highest.next();
    let mut spares = facts.spares.clone();
    // A crash cut its making short, or it was copied without its zeros: it is absent until it is written again.
    for name in &facts.stunted {
        vfs.remove(name).map_err(Error::io("remove", name))?;
    }
    // What may find no room comes before anything is taken of the reserve: an open that fails leaves it whole.
    let journal = open_journal(vfs, &facts, shape, epoch)?;
    let reached = HighWater {
        epoch: facts.epoch,
        segment: facts.segments[newest].id,
        position: mark,
        evidence: journal.newest(),
    };
    let store = &shape.identity.store;
    let high =
        highwater::Keeper::open(vfs, store, &reached).map_err(Error::space("opening", highwater::NAME))?;
    if !V::planted(Bug::EvidenceAfterAct) {
        set_aside(vfs, &journal, &facts, &unsealed, &mut report)?;
    }
    let reused = place_fresh(vfs, &facts, &unfinished, &mut spares, id, shape)?;
    let recovered_to = above.last().map_or(mark, |f| f.header.last());
    let header = Header {
        identity: shape.identity,
        size: shape.size,
        segment: id,
        epoch,
        previous: facts.segments[newest].id,
        cut: mark,
        chain,
        recovered_to,
        unit: shape.unit,
    };
    let file = description(&facts.shelf, &file_name(id))?;
    let active = start_segment(&facts.shelf, file, header, &groups)?;
    let mut log = Log::new(facts.shelf.clone(), active, descriptions, high, journal)?;
    log.groups = groups.into_iter().collect();
    log.segments.catalog().begin(index, spares);
    rewrite(&mut log, &facts.segments[newest], &above, mark, &mut report)?;
    if V::planted(Bug::ResealedBeforeCarry) {
        for old in &unsealed {
            reseal(&log, &facts.segments[old.at], old, id)?;
        }
    }
    if V::planted(Bug::RecycledBeforeCarry) {
        adopt(&log, facts.segments.iter().take(newest + 1), mark)?;
        log.segments.recycle(log.position)?;
    }
    if !V::planted(Bug::CutNotSynced) {
        log.active.sync()?;
    }
    log.raise_high_water()?;
    // From here on the new segment alone carries the state; what it replaces may go.
    log.segments.catalog().note_emptied(mark);
    for old in &unsealed {
        reseal(&log, &facts.segments[old.at], old, id)?;
    }
    let kept = facts.segments.iter().enumerate().filter(|(at, _)| !unfinished.contains(at)).map(|(_, f)| f);
    adopt(&log, kept, mark)?;
    log.segments.recycle(log.position)?;
    clear_unfinished(&log, &facts, &unfinished, reused)?;
    if V::planted(Bug::EvidenceAfterAct) {
        set_aside(vfs, &log.journal, &facts, &unsealed, &mut report)?;
    }
    report.epoch = epoch;
    report.position = log.position;
    Ok((log, report))
}

fn open_journal<V: Vfs>(vfs: &V, facts: &Facts<V>, shape: &Shape, epoch: Epoch) -> Result<Journal<V>> {
    let store = &shape.identity.store;
    let journal = Journal::open(vfs, store, epoch, &facts.evidence, facts.evidence_reached());
    journal.map_err(Error::space("opening", evidence::NAME))
}

/// Keeps what this open will write over: the torn tail by its name, damaged bytes as they are.
fn set_aside<V: Vfs>(
    vfs: &V,
    journal: &Journal<V>,
    facts: &Facts<V>,
    unsealed: &[Unsealed],
    report: &mut RecoveryReport,
) -> Result<()> {
    let newest = unsealed.last().filter(|_| report.tail == Tail::Torn);
    if let Some(Unsealed { at, ending, .. }) = newest {
        let fact = &facts.segments[*at];
        let event = Event::new(Act::Cut, file_name(fact.id), u64::from(ending.cut)..fact.len);
        journal.note(Event { position: report.position, ..event })?;
    }
    for repair in &report.repaired {
        let segment = unsealed.iter().find(|old| file_name(facts.segments[old.at].id) == repair.file);
        let bytes = match segment {
            Some(old) => damaged_part(&facts.segments[old.at], old, repair.what == FOOTER_MENDED),
            None if [highwater::NAME, evidence::NAME].contains(&repair.file.as_str()) => 0..u64::MAX,
            None => 0..0,
        };
        if !bytes.is_empty() {
            match vfs.open(&repair.file, Access::Read) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("open", &repair.file)(e)),
                Ok(file) => {
                    let copy = quarantine::keep(vfs, &repair.file, &file, bytes.clone())?;
                    report.quarantined.push(copy);
                }
            }
        }
        journal.note(Event::new(Act::Mended, format!("{}: {}", repair.file, repair.what), bytes))?;
    }
    Ok(())
}

/// The bytes of a segment that do not hold and that its new footer, or its new header, replaces.
fn damaged_part<V: Vfs>(fact: &SegmentFact<V>, old: &Unsealed, footer: bool) -> Range<u64> {
    match (&fact.header, footer || fact.bad_footer.is_some()) {
        (HeaderFact::Ours(_), true) => u64::from(old.ending.cut)..fact.len,
        (HeaderFact::Ours(_), false) => 0..0,
        _ => 0..fact.len,
    }
}

/// Gives a file without meaning the new segment's name, durably: what an interrupted start left, or
/// a spare, or a new file. Says which unfinished one it took.
fn place_fresh<V: Vfs>(
    vfs: &V,
    facts: &Facts<V>,
    unfinished: &[usize],
    spares: &mut Vec<String>,
    id: SegmentId,
    shape: &Shape,
) -> Result<Option<usize>> {
    let mut whole = None;
    for &at in unfinished {
        if facts.segments[at].is_whole(shape)? {
            whole = Some(at);
            break;
        }
    }
    let from = match (whole, spares.pop()) {
        (Some(at), spare) => {
            spares.extend(spare);
            file_name(facts.segments[at].id)
        }
        (None, Some(spare)) => spare,
        (None, None) => {
            let path = spare_name(0);
            zero_fill(vfs, &path, shape.size)?;
            path
        }
    };
    let open = || vfs.open(&from, Access::ReadWrite).map_err(Error::io("open", &from));
    match open().and_then(|file| settle::<V>(&file, &from, shape.size)) {
        // Another user made it, who ran a command on the store: it holds nothing, and is made anew.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            prepare(vfs, &from, shape.size)?;
        }
        settled => settled?,
    }
    let path = file_name(id);
    vfs.rename(&from, &path).map_err(Error::io("rename to", &path))?;
    // L11: no byte goes to the file before its name is durable.
    vfs.sync_dir("").map_err(Error::io("sync the directory for", &path))?;
    Ok(whole)
}

/// Writes the frames above the mark again, with their positions.
fn rewrite<V: Vfs>(
    log: &mut Log<V>,
    from: &SegmentFact<V>,
    above: &[Frame],
    mark: Position,
    report: &mut RecoveryReport,
) -> Result<()> {
    let path = file_name(from.id);
    let read = from.file()?;
    let mut window = Window::new(&*read).map_err(Error::io("read", &path))?;
    let (file, reader) = (log.active.file.clone(), log.active.reader.clone());
    for frame in above {
        let records: Vec<Record> = records(&mut window, frame).map_err(Error::io("read", &path))?;
        report.rewritten += records.len() as u64;
        let encoded = log.encode(&records, FrameKind::Rewritten, mark);
        if !log.has_room(&encoded, &records) {
            return Err(Error::NoSpace { doing: "writing records above the mark again" });
        }
        log.put(encoded, &records, &file).map_err(Error::io("write", &reader.path))?;
    }
    Ok(())
}

/// Writes the footer that a segment lacks, at its cut, and shortens the file to it. The tables are
/// durable before the trailer that vouches for them: a crash never leaves it with torn ones.
fn reseal<V: Vfs>(log: &Log<V>, fact: &SegmentFact<V>, old: &Unsealed, next: SegmentId) -> Result<()> {
    {
        let mut catalog = log.segments.catalog();
        if !catalog.index.is_live(fact.id) {
            catalog.dead.entry(fact.id).or_insert(old.ending.position);
            return Ok(());
        }
    }
    let path = file_name(fact.id);
    let header = fact.known_header().expect("a walked segment has a header");
    let footer = Footer { entries: old.entries.clone(), runs: old.runs.clone(), state: old.state.clone() };
    let ending = Ending { next, ..old.ending };
    let (bytes, _) = footer.encode::<V>(&header.place(), &ending, ending.cut);
    let file = log.segments.vfs.open(&path, Access::ReadWrite).map_err(Error::io("open", &path))?;
    let write = |file: &V::File| {
        if !fact.header_is_ours() {
            write_all_at::<V>(file, &header.encode(), 0)?;
        }
        let (tables, last) = bytes.split_at(bytes.len() - trailer::LEN);
        let len = u64::from(ending.cut) + bytes.len() as u64;
        if V::planted(Bug::TrailerWithTables) {
            write_all_at::<V>(file, &bytes, u64::from(ending.cut))?;
        } else {
            write_all_at::<V>(file, tables, u64::from(ending.cut))?;
            file.sync_data()?;
        }
        write_all_at::<V>(file, last, len - last.len() as u64)?;
        file.set_len(len)?;
        file.sync_all()
    };
    write(&file).map_err(Error::space("sealing a segment", &path))
}

impl<V: Vfs> SegmentFact<V> {
    /// Whether it can become a prepared one.
    fn is_whole(&self, shape: &Shape) -> Result<bool> {
        let has_hole = || self.file()?.has_hole().map_err(Error::io("stat", file_name(self.id)));
        Ok(self.len == shape.size && !has_hole()?)
    }

    fn header_is_ours(&self) -> bool {
        matches!(self.header, HeaderFact::Ours(_))
    }
}

/// Takes the segments that hold live entries as sealed ones; the others are dead.
fn adopt<'a, V: Vfs>(
    log: &Log<V>,
    facts: impl Iterator<Item = &'a SegmentFact<V>>,
    mark: Position,
) -> Result<()> {
    for fact in facts {
        let path = file_name(fact.id);
        let Some(header) = fact.known_header() else { continue };
        let salt = header.place().salt::<V>();
        let trailer = match &fact.footer {
            Some(footer) => Some(footer.trailer),
            None => crate::segment::read_trailer::<V>(&*fact.file()?, &header.place())
                .map_err(Error::io("read", &path))?,
        };
        let readable = Readable::new(fact.held.clone(), salt, trailer);
        let mut catalog = log.segments.catalog();
        if !catalog.index.is_live(fact.id) {
            catalog.dead.entry(fact.id).or_insert(mark);
        }
        catalog.sealed.insert(fact.id, Arc::new(readable));
    }
    Ok(())
}

/// What interrupted starts left becomes spare, or goes.
fn clear_unfinished<V: Vfs>(
    log: &Log<V>,
    facts: &Facts<V>,
    unfinished: &[usize],
    reused: Option<usize>,
) -> Result<()> {
    let Segments { vfs, .. } = &*log.segments;
    let mut renamed = Vec::new();
    for at in unfinished.iter().filter(|at| Some(**at) != reused) {
        let fact = &facts.segments[*at];
        let path = file_name(fact.id);
        let kept = log.segments.catalog().prepared().0 + renamed.len();
        if kept < SEGMENTS_KEPT && fact.is_whole(&log.shape)? {
            let spare = log.segments.catalog().name_spare();
            vfs.rename(&path, &spare).map_err(Error::io("rename", &path))?;
            renamed.push(spare);
        } else {
            vfs.remove(&path).map_err(Error::io("remove", &path))?;
        }
    }
    if !renamed.is_empty() {
        vfs.sync_dir("").map_err(Error::io("sync", "the directory"))?;
    }
    let mut catalog = log.segments.catalog();
    renamed.into_iter().for_each(|spare| catalog.add(spare, false));
    Ok(())
}
