//! From what is on the disk to a log: facts, one total decision table, plan, apply.
//!
//! I own the only code that cuts or removes files at open. (V1) What I return is durable before I
//! return it: records above the largest mark are written again into fresh space (L3). (V2) Below the
//! mark I rewrite nothing; what does not hold there is named in `lost`, and a writable open refuses.
//! (V3) A crash at any step leaves facts from which the next recovery reaches the same state. (V4)
//! Nothing is removed before the segment that makes it needless is durable. I do not know how a
//! frame is coded (see frame), nor what becomes of the log later (see engine).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;

mod apply;
mod rot;

pub use apply::apply;
use rot::{Rotten, keep_live_rot, repairable, rotten_by_table, rotten_frames};

use crate::error::{Error, Result};
use crate::evidence;
use crate::facts::{Facts, SNAPSHOTS, SegmentFact};
use crate::frame::Frame;
use crate::highwater;
use crate::index::Index;
use crate::log::Shape;
use crate::options::{RecoveryPolicy, Witness};
use crate::planted::Bug;
use crate::record::{Item, Kind, Record};
use crate::report::{Lost, MaybeAcked, RecoveryReport, Repair, Tail};
use crate::scan::{Later, Scan, Window, items};
use crate::segment::{Ending, EntryRef, Header, HeaderFact, Run, Seal, file_name};
use crate::snapshot::SnapshotFault;
use crate::snapshot::reader::SnapshotReader;
use crate::state::{self, Group, Groups};
use crate::types::{Digest, FULL, GroupId, Index as EntryNumber, Position, SegmentId, SnapshotOwner};
use crate::vfs::{File, Vfs};

/// What is known of a segment that may be the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// A good footer closes it.
    pub sealed: bool,
    /// Its checkpoint is there, and all that a recovery wrote again before exposing it.
    pub complete: bool,
    /// Something proves that it was exposed: a batch was submitted to it, or its predecessor was
    /// sealed by the recovery that made it.
    pub exposed: bool,
}

/// What a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The log ends in it.
    Newest,
    /// A rotation or a recovery was cut short before it was exposed; nothing in it counts.
    Unfinished,
    /// It was exposed and is no longer whole.
    Damaged,
}

/// The decision table of the newest segment, tried from the highest number down.
///
/// * sealed: a rotation, a close or a recovery ended it and synced it. Its state is in the footer.
/// * complete: the plain case after a crash, exposed or not. If it was not exposed, its predecessor
///   holds the same records, and either answer gives the same state; this one needs no removal.
/// * exposed but not complete: its start was synced before anything made it exposed (L11), so a
///   crash cannot have torn it. Damage.
/// * neither: the crash came while the segment was being started.
#[must_use]
pub fn standing(candidate: Candidate) -> Standing {
    match candidate {
        Candidate { sealed: true, .. } | Candidate { complete: true, .. } => Standing::Newest,
        Candidate { exposed: true, .. } => Standing::Damaged,
        Candidate { exposed: false, .. } => Standing::Unfinished,
    }
}

/// The standing, but for a planted bug.
fn standing_of<V: Vfs>(candidate: Candidate) -> Standing {
    match standing(candidate) {
        Standing::Unfinished if V::planted(Bug::InterruptedStartIsDamage) => Standing::Damaged,
        Standing::Damaged if V::planted(Bug::DamagedStartForgiven) => Standing::Unfinished,
        standing => standing,
    }
}

/// A segment without a good footer, read up to its cut.
struct Unsealed {
    /// Its place among the facts.
    at: usize,
    /// Its live entries at the cut, for the footer that it lacks.
    entries: Vec<EntryRef>,
    runs: Vec<Run>,
    ending: Ending,
    state: Vec<u8>,
}

/// What recovery decided to return, and what it takes.
pub struct Plan {
    /// The state at the mark.
    groups: Groups,
    /// The state after the last whole frame: what open returns.
    pub after: Groups,
    /// Where entries up to the mark are.
    index: Index,
    /// The newest segment's place among the facts.
    newest: usize,
    /// The position up to which nothing is rewritten.
    mark: Position,
    /// The chain value there.
    chain: u64,
    /// Frames of the newest segment above the mark.
    above: Vec<Frame>,
    unsealed: Vec<Unsealed>,
    /// Acknowledged entries whose bytes do not hold.
    rotten: Vec<Rotten>,
    /// Files that a crash left unfinished, by their place among the facts.
    unfinished: Vec<usize>,
    /// What will be reported.
    pub report: RecoveryReport,
}

/// Decides. Reads only what facts did not hold yet: states in footers and control records.
pub fn decide<V: Vfs>(facts: &mut Facts<V>, shape: &Shape) -> Result<Plan> {
    let mut report = RecoveryReport {
        caveat: None,
        epoch: facts.epoch,
        clean: false,
        tail: Tail::Sealed,
        position: Position(0),
        maybe_acked: None,
        lost: Vec::new(),
        repaired: Vec::new(),
        quarantined: Vec::new(),
        rewritten: 0,
        unknown: facts.unknown.clone(),
    };
    let mut unfinished = Vec::new();
    let mut found = None;
    for at in (0..facts.segments.len()).rev() {
        let (candidate, state) = candidate(facts, at, shape)?;
        match standing_of::<V>(candidate) {
            Standing::Newest => {
                found = Some((at, state));
                break;
            }
            Standing::Unfinished => unfinished.push(at),
            Standing::Damaged => {
                report.lost.push(Lost::State { segment: facts.segments[at].id });
                return refuse(report);
            }
        }
    }
    let Some((newest, state)) = found else {
        report.lost.push(Lost::File { name: "every segment".into() });
        return refuse(report);
    };
    let mut plan = Plan {
        groups: state.unwrap_or_default(),
        after: Groups::new(),
        index: Index::default(),
        newest,
        mark: Position(0),
        chain: 0,
        above: Vec::new(),
        unsealed: Vec::new(),
        rotten: Vec::new(),
        unfinished,
        report,
    };
    older_segments(facts, &mut plan)?;
    newest_segment(facts, &mut plan)?;
    successor_must_exist(facts, &mut plan);
    reach_high_water(facts, &mut plan);
    if let Some(what) = facts.evidence.fault(facts.evidence_reached()) {
        plan.report.repaired.push(Repair { file: evidence::NAME.into(), what });
    }
    plan.index.settle(&plan.groups);
    if !V::planted(Bug::HolesUnseen) {
        // Judged by the state that open returns: what its last records freed is recycled already.
        plan.report.lost.extend(plan.index.holes(&plan.after, &entries_above(&plan.above)));
    }
    note_repairs(facts, &mut plan);
    keep_live_rot(&mut plan);
    Ok(plan)
}

impl Plan {
    /// The newest segment's place among the facts. What comes after it a crash left unfinished.
    pub fn newest(&self) -> usize {
        self.newest
    }

    /// Whether open may go on: nothing is lost, or only what blocks single groups until a peer gives it
    /// back. The report then names that too.
    pub fn conclude(&mut self, policy: RecoveryPolicy, snapshots: Vec<Lost>) -> Result<Vec<Lost>> {
        let (files, snapshots): (Vec<Lost>, _) = snapshots.into_iter().partition(|l| l.group().is_none());
        self.report.lost.extend(files);
        let mut blocking = repairable(&self.rotten);
        blocking.extend(snapshots);
        let fatal =
            !self.report.lost.is_empty() || (policy == RecoveryPolicy::Refuse && !blocking.is_empty());
        self.report.lost.extend(blocking.iter().cloned());
        if fatal { Err(Error::Corrupt { report: Box::new(self.report.clone()) }) } else { Ok(blocking) }
    }
}

/// From which index on each group's entries stand above the mark.
fn entries_above(above: &[Frame]) -> BTreeMap<(GroupId, u64), EntryNumber> {
    let mut lowest = BTreeMap::new();
    let items = above.iter().flat_map(|f| &f.items).filter(|i| i.name.kind.is_entry());
    for name in items.map(|i| i.name) {
        let low = lowest.entry((name.group, name.incarnation.0)).or_insert(name.id.index);
        *low = name.id.index.min(*low);
    }
    lowest
}

/// Ends without a plan.
fn refuse(report: RecoveryReport) -> Result<Plan> {
    Err(Error::Corrupt { report: Box::new(report) })
}

/// What is known of a segment, and the state that its footer holds.
fn candidate<V: Vfs>(facts: &mut Facts<V>, at: usize, shape: &Shape) -> Result<(Candidate, Option<Groups>)> {
    let id = facts.segments[at].id;
    let named = at
        .checked_sub(1)
        .and_then(|p| facts.segments[p].footer.as_ref())
        .is_some_and(|f| f.trailer.seal == Seal::Recovered && f.trailer.next == id);
    // The high-water file is raised to a segment before anything is exposed in it. A segment's file is whole,
    // durably, before it gets its name. A number is given once, and never to a file of a higher one.
    let high = facts.high;
    let marked = |fact: &SegmentFact<V>| {
        let misplaced = matches!(fact.header, HeaderFact::Recycled(from) if from > fact.id);
        // An open sets the length of an unfinished one anew, by way of one byte more.
        let whole = (shape.size..=shape.size + 1).contains(&fact.len);
        misplaced || !whole || high.is_some_and(|high| high.segment >= fact.id)
    };
    let fact = &mut facts.segments[at];
    let state = fact.sealed_state()?;
    let sealed = state.is_some();
    if !sealed && let Some(footer) = fact.footer.take() {
        // The footer's state does not hold, though its trailer and runs do: walk the segment.
        fact.bad_footer = Some(footer.trailer.seal);
        fact.rescan(shape)?;
    }
    let scan = fact.scan.as_ref();
    let candidate = Candidate {
        sealed,
        complete: scan.is_some_and(|s| {
            s.is_complete() || (V::planted(Bug::RecoveredToIgnored) && s.checkpoint.is_some())
        }),
        exposed: named || scan.is_some_and(Scan::was_live) || fact.bad_footer.is_some() || marked(fact),
    };
    Ok((candidate, state))
}

/// Takes the runs of all segments before the newest; those without a footer are read to the cut
/// that their successor names.
fn older_segments<V: Vfs>(facts: &Facts<V>, plan: &mut Plan) -> Result<()> {
    for at in 0..plan.newest {
        let fact = &facts.segments[at];
        if let Some(footer) = &fact.footer {
            plan.index.add_sealed(fact.id, &footer.runs);
            plan.rotten.extend(rotten_by_table(fact, footer)?);
            continue;
        }
        let Some(scan) = fact.scan.as_ref().filter(|_| fact.known_header().is_some()) else {
            // Whatever it was to be, its start is not there. What it owned, if anything, is a hole.
            plan.unfinished.push(at);
            continue;
        };
        let successor = facts.segments[at + 1..=plan.newest].iter().find_map(SegmentFact::known_header);
        let cut = successor.map_or(scan.position, |h| h.cut);
        let next = successor.map_or(SegmentId(0), |h| h.segment);
        let (offset, chain, taken) = take_frames(scan, cut, &mut plan.index);
        let (entries, runs) = plan.index.tables();
        plan.index.seal(fact.id, &runs);
        let lost = rotten_frames(fact, scan, taken, plan)?;
        let ending = Ending { seal: Seal::Recovered, next, position: cut, chain, cut: offset, lost };
        // The state at this cut is in the successor's checkpoint; without one here, this segment is
        // walked again should it ever be the newest.
        plan.unsealed.push(Unsealed { at, entries, runs, ending, state: Vec::new() });
    }
    Ok(())
}

/// Puts the entries of the frames up to `cut` into the index; says where they end.
fn take_frames(scan: &Scan, cut: Position, index: &mut Index) -> (u32, u64, usize) {
    let mut taken = 0;
    let (mut offset, mut chain) = (scan.offset, scan.chain);
    for frame in &scan.frames {
        if frame.header.first > cut {
            offset = frame.header.offset - if frame.header.is_twin { frame.header.twin } else { 0 };
            chain = frame.header.chain;
            break;
        }
        take_entries(frame, index);
        taken += 1;
    }
    (offset, chain, taken)
}

/// Puts the entries of a frame into the index.
fn take_entries(frame: &Frame, index: &mut Index) {
    for (Item { name, sizes, .. }, begin) in items(frame) {
        match name.kind {
            Kind::Command | Kind::Membership => index.push(*name, EntryRef::following(sizes, begin)),
            Kind::Truncate => index.truncate(name.group, name.id.index),
            _ => {}
        }
    }
}

/// The state at the mark, and what lies above it.
fn newest_segment<V: Vfs>(facts: &Facts<V>, plan: &mut Plan) -> Result<()> {
    let fact = &facts.segments[plan.newest];
    if let Some(footer) = &fact.footer {
        plan.index.add_sealed(fact.id, &footer.runs);
        plan.rotten.extend(rotten_by_table(fact, footer)?);
        plan.mark = footer.trailer.position;
        plan.chain = footer.trailer.chain;
        plan.report.clean = true;
        if footer.trailer.seal != Seal::Closed {
            plan.report.tail = Tail::Ended;
        }
        plan.report.position = plan.mark;
        plan.after = plan.groups.clone();
        return Ok(());
    }
    let scan = fact.scan.as_ref().expect("a candidate that is not sealed was walked");
    let checkpoint = scan.checkpoint.as_ref().expect("a complete candidate has a checkpoint");
    plan.mark = scan.mark();
    if plan.mark > scan.position && !V::planted(Bug::RotTakenForTorn) {
        plan.report.lost.extend(name_lost(scan, plan.mark));
        plan.mark = scan.position;
    }
    plan.mark = plan.mark.min(scan.position);
    if V::planted(Bug::CacheExposed) || V::planted(Bug::SyncedNotRewritten) {
        plan.mark = scan.position;
    }
    if V::planted(Bug::SyncedNotRewritten) {
        fact.file()?.sync_data().map_err(Error::io("sync", file_name(fact.id)))?;
    }
    let (offset, chain, taken) = take_frames(scan, plan.mark, &mut plan.index);
    plan.chain = chain;
    plan.above = scan.frames[taken..].to_vec();
    plan.groups = checkpoint.groups.clone();
    let file = fact.file()?;
    let mut window = Window::new(&*file).map_err(Error::io("read", file_name(fact.id)))?;
    let mut unsound = None;
    for frame in &scan.frames[..taken] {
        unsound = unsound.or(replay(&mut window, frame, &mut plan.groups, fact.id)?);
        // A frame is taken whole, wherever in it the mark is.
        plan.mark = frame.header.last();
    }
    plan.after = plan.groups.clone();
    for frame in &plan.above {
        unsound = unsound.or(replay(&mut window, frame, &mut plan.after, fact.id)?);
    }
    plan.report.lost.extend(unsound);
    // Installs and removals dropped entries that the index has just taken.
    plan.index.settle(&plan.groups);
    let (entries, runs) = plan.index.tables();
    plan.index.seal(fact.id, &runs);
    let lost = rotten_frames(fact, scan, taken, plan)?;
    let (next, position) = (SegmentId(0), plan.mark);
    let ending = Ending { seal: Seal::Recovered, next, position, chain, cut: offset, lost };
    let state = state::encode(&plan.groups);
    plan.unsealed.push(Unsealed { at: plan.newest, entries, runs, ending, state });
    plan.report.position = scan.position;
    let torn = scan.broken.is_some() || !scan.later.is_empty();
    plan.report.tail = if torn { Tail::Torn } else { Tail::Whole };
    let maybe = MaybeAcked { above: scan.mark(), observed: scan.observed().max(scan.mark()) };
    plan.report.maybe_acked = (!V::planted(Bug::MaybeAckedUnsaid)).then_some(maybe);
    if V::planted(Bug::TornCalledCorrupt) && torn {
        plan.report.lost.push(Lost::Unnamed { from: scan.position.next(), to: scan.observed() });
    }
    Ok(())
}

/// Applies the records of a frame to the state, which sees of a run of entries the last name and no bytes; gives
/// the first record that does not follow from the state before it.
fn replay<F: File>(
    window: &mut Window<'_, F>,
    frame: &Frame,
    groups: &mut Groups,
    id: SegmentId,
) -> Result<Option<Lost>> {
    let mut unsound = None;
    let mut first = frame.header.first;
    for (Item { name, sizes, count }, begin) in items(frame) {
        let data = match sizes[..] {
            [(len, _)] if !name.kind.is_entry() => {
                let bytes = window.get(u64::from(begin), len as usize);
                bytes.map_err(Error::io("read", file_name(id)))?.into()
            }
            _ => Arc::default(),
        };
        let mut record = Record { name: *name, data };
        let group = name.group;
        if unsound.is_none() && !state::follows(groups.get(&group), first, &record) {
            unsound = Some(Lost::Unsound { position: first, group });
        }
        let last = Position(first.0 + u64::from(count - 1));
        record.name = name.at(count - 1);
        state::apply(groups, last, &record);
        first = last.next();
    }
    Ok(unsound)
}

/// Names what was acknowledged between the end of the walk and the mark.
fn name_lost(scan: &Scan, mark: Position) -> Vec<Lost> {
    let mut named: BTreeMap<Position, Vec<Item>> = BTreeMap::new();
    if let Some(broken) = &scan.broken {
        named.insert(scan.position.next(), broken.items.clone());
    }
    for Later { header, items, echo, .. } in &scan.later {
        named.entry(header.first).or_insert_with(|| items.clone());
        let before: u64 = echo.iter().map(|i| u64::from(i.count)).sum();
        if let Some(first) = header.first.0.checked_sub(before).filter(|_| before > 0) {
            let slot = named.entry(Position(first)).or_default();
            if slot.is_empty() {
                slot.clone_from(echo);
            }
        }
    }
    let mut lost = Vec::new();
    let mut next = scan.position.next();
    for (first, items) in named.into_iter().filter(|(_, items)| !items.is_empty()) {
        if first < next || first > mark {
            continue;
        }
        if first > next {
            lost.push(Lost::Unnamed { from: next, to: Position(first.0 - 1) });
        }
        next = Position(first.0 + items.iter().map(|i| u64::from(i.count)).sum::<u64>());
        lost.extend(items.iter().map(lost_item));
    }
    if next <= mark {
        lost.push(Lost::Unnamed { from: next, to: mark });
    }
    lost
}

fn lost_item(item: &Item) -> Lost {
    let name = &item.name;
    let (group, index) = (name.group, name.id.index);
    match name.kind {
        Kind::Command | Kind::Membership => Lost::Entries {
            group,
            from: index,
            to: name.at(item.count - 1).id.index,
            term: Some(name.id.term),
        },
        Kind::Vote => Lost::Vote { group },
        Kind::Commit => Lost::Commit { group, index },
        Kind::Truncate => Lost::Truncate { group, from: index },
        Kind::Compact => Lost::Purge { group, to: index },
        Kind::Snapshot | Kind::Install => Lost::SnapshotPointer { group, index },
        Kind::CreateGroup | Kind::RemoveGroup => Lost::GroupEvent { group },
    }
}

/// A rotated or recovered segment was sealed after its successor's name was durable.
fn successor_must_exist<V: Vfs>(facts: &Facts<V>, plan: &mut Plan) {
    let Some(footer) = &facts.segments[plan.newest].footer else { return };
    let next = footer.trailer.next;
    let highest = facts.segments.last().expect("there is a newest").id;
    if next.0 > 0 && highest < next && !V::planted(Bug::MissingLastUnseen) {
        plan.report.lost.push(Lost::File { name: file_name(next) });
    }
}

/// What the high-water file names was durable: a log that ends before it has lost its end.
fn reach_high_water<V: Vfs>(facts: &Facts<V>, plan: &mut Plan) {
    let report = &mut plan.report;
    let Some(high) = facts.high else {
        // Nothing says any more that this is the end.
        report.repaired.push(Repair { file: highwater::NAME.into(), what: "both slots, from the log" });
        let ends = MaybeAcked { above: report.position, observed: report.position };
        report.maybe_acked.get_or_insert(ends);
        return;
    };
    if V::planted(Bug::MissingLastUnseen) || V::planted(Bug::DamagedStartForgiven) {
        return;
    }
    let gone = Lost::File { name: file_name(high.segment) };
    if facts.segments[plan.newest].id < high.segment && !report.lost.contains(&gone) {
        report.lost.push(gone);
    }
    // A segment becomes a spare only when a later one has taken its place.
    let stray = Lost::File { name: file_name(facts.stray) };
    if facts.segments[plan.newest].id < facts.stray && !report.lost.contains(&stray) {
        report.lost.push(stray);
    }
    let reached = report.position.max(plan.mark);
    if reached < high.position && report.lost.is_empty() {
        report.lost.push(Lost::Unnamed { from: reached.next(), to: high.position });
    }
}

fn note_repairs<V: Vfs>(facts: &Facts<V>, plan: &mut Plan) {
    for (at, fact) in facts.segments.iter().enumerate().take(plan.newest + 1) {
        let Some(scan) = &fact.scan else { continue };
        let mut last = "";
        for (_, what) in mended(facts, at, plan.newest, scan) {
            // A name once for all batches.
            if what != last {
                plan.report.repaired.push(Repair { file: file_name(fact.id), what });
            }
            last = what;
        }
    }
}

/// What stands in for a footer, or for its trailer alone.
pub const FOOTER_MENDED: &str = "the footer, from the segment's frames";

/// Damage of a segment up to the newest that redundancy makes good: bytes that do not hold where a crash
/// cannot have been, and what stands in for them. `scan` is the segment's.
pub fn mended<V: Vfs>(
    facts: &Facts<V>,
    at: usize,
    newest: usize,
    scan: &Scan,
) -> Vec<(Range<u64>, &'static str)> {
    let fact = &facts.segments[at];
    let unit = scan.header.unit;
    let mut mended = Vec::new();
    let next = facts.segments.get(at + 1).filter(|_| at < newest).and_then(SegmentFact::known_header);
    // Of a segment without a header the footer was not looked for. A dead one on its way to be a spare again may
    // have got another length, and its old name back by a crash.
    let looked = matches!(&fact.header, HeaderFact::Ours(header) if header.size == fact.len);
    if looked && fact.footer.is_none() && was_rotated(fact, next) {
        mended.push((u64::from(scan.offset)..fact.len, FOOTER_MENDED));
    }
    let exposed = fact.footer.is_some() || scan.was_live();
    if exposed && !scan.header_good && !matches!(fact.header, HeaderFact::Recycled(_)) {
        mended.push((0..u64::from(unit), "the header, from the checkpoint"));
    }
    let unit_at = |offset: u32| u64::from(offset)..u64::from(offset + unit);
    if exposed && scan.from_twin.contains(&unit) {
        mended.push((unit_at(unit), "the checkpoint, from its twin"));
    }
    let limit = proven(fact, scan, next);
    let twins = scan.frames.iter().filter(|f| f.header.is_twin && f.header.last() <= limit);
    let first_copy = |frame: &Frame| frame.header.offset - frame.header.twin;
    mended.extend(twins.map(|twin| (unit_at(first_copy(twin)), "a batch, from its twin")));
    mended
}

/// Whether a segment was ended by a rotation, which syncs the footer before the successor, of the same epoch,
/// gets its first byte. Any other footer a crash may have torn.
pub fn was_rotated<V: Vfs>(fact: &SegmentFact<V>, next: Option<&Header>) -> bool {
    next.zip(fact.known_header()).is_some_and(|(next, header)| next.epoch == header.epoch)
}

/// The last position of a segment that a crash cannot have torn. Above the successor's cut a recovery may
/// have written a footer over it.
pub fn proven<V: Vfs>(fact: &SegmentFact<V>, scan: &Scan, next: Option<&Header>) -> Position {
    let mark = fact.footer.as_ref().map_or(scan.mark(), |footer| footer.trailer.position);
    next.map_or(mark, |next| next.cut.min(mark))
}

/// Refuses to write where no number is left for all that a handle may do.
pub fn check_numbers<V: Vfs>(facts: &Facts<V>, plan: &Plan) -> Result<()> {
    let newest = facts.segments.last().expect("there is a newest").id;
    let event = facts.evidence.newest().max(facts.evidence_reached());
    let numbers = [
        ("epoch", facts.epoch.0),
        ("segment", newest.0),
        ("position", plan.report.position.0),
        ("event", event),
    ];
    match numbers.into_iter().find(|(_, found)| *found >= FULL) {
        Some((what, found)) => Err(Error::NumbersSpent { what, found }),
        None => Ok(()),
    }
}

/// Refuses a directory that shows less than the host has seen of it.
pub fn check_witness<V: Vfs>(facts: &Facts<V>, plan: &Plan, witness: &Witness) -> Result<()> {
    if facts.epoch < witness.epoch {
        let (witnessed, found) = (witness.epoch.0, facts.epoch.0);
        return Err(Error::RolledBack { what: "epoch", group: None, witnessed, found });
    }
    for (id, commit) in &witness.commits {
        let last = plan.after.get(id).map_or(EntryNumber(0), |g| g.last.index);
        if last < *commit {
            let (witnessed, found) = (commit.0, last.0);
            return Err(Error::RolledBack { what: "commit index", group: Some(*id), witnessed, found });
        }
    }
    Ok(())
}

/// Checks that every owned snapshot's manifest holds and its chunks are there; names those that are
/// not. The chunks' bytes are checked when they are read.
pub fn check_snapshots<V: Vfs>(
    vfs: &V,
    shape: &Shape,
    groups: &Groups,
    has_directory: bool,
) -> Result<Vec<Lost>> {
    if !has_directory {
        return Ok(vec![Lost::File { name: SNAPSHOTS.into() }]);
    }
    let mut names = None;
    let mut lost = Vec::new();
    // Nothing is read twice because it is named twice.
    let mut whole = BTreeMap::new();
    for (group, digest, index) in owned(groups.iter().map(|(id, g)| (*id, g))) {
        if names.is_none() {
            names = Some(vfs.list(SNAPSHOTS).map_err(Error::io("list", SNAPSHOTS))?);
        }
        let names: &Vec<String> = names.as_ref().expect("just listed");
        let there = |hash: &Digest| names.binary_search(&format!("{hash}.chunk")).is_ok();
        if let Entry::Vacant(unknown) = whole.entry(digest) {
            unknown.insert(match SnapshotReader::open(vfs, &shape.identity, digest) {
                Ok(reader) => reader.chunks().iter().all(|c| there(&c.hash)),
                Err(fault @ SnapshotFault::Unreadable { .. }) => return Err(Error::Snapshot { fault }),
                Err(_) => false,
            });
        }
        if !whole[&digest] {
            lost.push(Lost::SnapshotPointer { group, index });
        }
    }
    Ok(lost)
}

/// The owned snapshots that pointers name.
pub fn owned<'a>(
    groups: impl Iterator<Item = (GroupId, &'a Group)>,
) -> impl Iterator<Item = (GroupId, Digest, EntryNumber)> {
    groups.filter_map(|(id, g)| {
        let (_, p) = g.snapshot.filter(|(_, p)| p.owner == SnapshotOwner::Owned)?;
        Some((id, p.digest, p.id.index))
    })
}

/// What a read-only open sees: the state with everything that was written, marked by the reader.
pub struct View {
    /// The state after the last whole frame.
    pub groups: Groups,
    /// Where entries are; those above the mark are "active".
    pub index: Index,
    /// The newest segment's place among the facts.
    pub newest: usize,
    /// The entry tables of segments that have none on disk.
    pub tables: BTreeMap<SegmentId, Vec<EntryRef>>,
    /// The report.
    pub report: RecoveryReport,
}

/// Builds the view of a plan without touching anything.
pub fn view<V: Vfs>(facts: &Facts<V>, plan: Plan) -> Result<View> {
    let Plan { after: groups, mut index, newest, above, unsealed, rotten, mut report, .. } = plan;
    report.lost.extend(repairable(&rotten));
    for frame in &above {
        take_entries(frame, &mut index);
    }
    index.settle(&groups);
    let tables = unsealed.into_iter().map(|u| (facts.segments[u.at].id, u.entries)).collect();
    Ok(View { groups, index, newest, tables, report })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decision_table_is_total() {
        let mut counts = [0; 3];
        for bits in 0..8 {
            let candidate =
                Candidate { sealed: bits & 1 != 0, complete: bits & 2 != 0, exposed: bits & 4 != 0 };
            let expected = if bits & 3 != 0 {
                Standing::Newest
            } else if bits & 4 != 0 {
                Standing::Damaged
            } else {
                Standing::Unfinished
            };
            assert_eq!(standing(candidate), expected, "{candidate:?}");
            counts[expected as usize] += 1;
        }
        assert_eq!(counts, [6, 1, 1]);
    }
}
