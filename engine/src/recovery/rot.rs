//! Acknowledged entries whose bytes do not hold while their names do.
//!
//! I own the search for them and what the report calls them. (V5) A segment that had such entries when it
//! was sealed says how many in its trailer, so that a later open looks again; one that says none is not
//! read. I do not know how they are given back (see the log's repair).

use super::{Plan, entries_above};
use crate::checksum::crc;
use crate::error::{Error, Result};
use crate::facts::{FooterFact, SegmentFact};
use crate::index::Location;
use crate::planted::Bug;
use crate::record::Name;
use crate::report::{Lost, Repair};
use crate::scan::{Scan, Window, places};
use crate::segment::{EntryRef, Header, HeaderFact, file_name};
use crate::types::SegmentId;
use crate::vfs::Vfs;

/// An entry whose name is known and whose bytes do not hold.
pub(super) struct Rotten {
    pub(super) segment: SegmentId,
    pub(super) name: Name,
}

/// Entries of a sealed segment that is known to have had some whose bytes do not hold.
pub(super) fn rotten_by_table<V: Vfs>(fact: &SegmentFact<V>, footer: &FooterFact) -> Result<Vec<Rotten>> {
    let mut rotten = Vec::new();
    let HeaderFact::Ours(header) = &fact.header else { return Ok(rotten) };
    if footer.trailer.lost == 0 {
        return Ok(rotten);
    }
    let table = fact.entry_table(header, &footer.trailer)?;
    let table = table.ok_or_else(|| Error::Damaged {
        file: file_name(fact.id),
        offset: u64::from(footer.trailer.footer),
        what: "the entry table does not hold",
    })?;
    let file = fact.file()?;
    let mut window = Window::new(&*file).map_err(Error::io("read", file_name(fact.id)))?;
    for run in &footer.runs {
        for n in 0..run.count {
            let (name, at) = (run.name.at(n), table[(run.start + n) as usize]);
            if !holds::<V>(&mut window, header, &name, at).map_err(Error::io("read", file_name(fact.id)))? {
                rotten.push(Rotten { segment: fact.id, name });
            }
        }
    }
    Ok(rotten)
}

fn holds<V: Vfs>(
    window: &mut Window<'_, V::File>,
    header: &Header,
    name: &Name,
    at: EntryRef,
) -> std::io::Result<bool> {
    let data = window.get(u64::from(at.offset), at.len as usize)?;
    Ok(data.len() == at.len as usize && crc(name.seed(header.place().salt::<V>()), data) == at.crc)
}

/// Notes the entries of the taken frames whose bytes do not hold and that the segment still owns; how
/// many they are.
pub(super) fn rotten_frames<V: Vfs>(
    fact: &SegmentFact<V>,
    scan: &Scan,
    taken: usize,
    plan: &mut Plan,
) -> Result<u32> {
    let before = plan.rotten.len();
    let failed = || Error::io("read", file_name(fact.id));
    let file = fact.file()?;
    let mut window = Window::new(&*file).map_err(failed())?;
    for frame in scan.hollow.iter().filter(|n| **n < taken).map(|n| &scan.frames[*n]) {
        let mut bad = 0;
        for (name, at) in places(frame) {
            if holds::<V>(&mut window, &scan.header, &name, at).map_err(failed())? {
                continue;
            }
            bad += 1;
            let there = plan.index.locate(name.group, name.id.index);
            if matches!(there, Some(Location::Sealed(n, s, _)) if n == name && s == fact.id) {
                plan.rotten.push(Rotten { segment: fact.id, name });
            }
        }
        if bad == 0 {
            let what = "a batch's padding, which holds nothing";
            plan.report.repaired.push(Repair { file: file_name(fact.id), what });
        }
    }
    if V::planted(Bug::RotForgotten) {
        return Ok(0);
    }
    Ok(u32::try_from(plan.rotten.len() - before).expect("fits a segment"))
}

/// Of the entries whose bytes do not hold, those that what open returns still has: they are lost until
/// a peer gives them back.
pub(super) fn keep_live_rot(plan: &mut Plan) {
    let above = entries_above(&plan.above);
    let (index, after) = (&plan.index, &plan.after);
    plan.rotten.retain(|Rotten { segment, name }| {
        let owned = matches!(index.locate(name.group, name.id.index),
            Some(Location::Sealed(n, s, _)) if n == *name && s == *segment);
        let overwritten =
            above.get(&(name.group, name.incarnation.0)).is_some_and(|low| *low <= name.id.index);
        let kept = after.get(&name.group).is_some_and(|g| {
            g.incarnation == name.incarnation && (g.first()..=g.last.index).contains(&name.id.index)
        });
        owned && kept && !overwritten
    });
}

/// The entries that are lost until a peer gives them back, by group.
pub(super) fn repairable(rotten: &[Rotten]) -> Vec<Lost> {
    let mut lost: Vec<Lost> = Vec::new();
    for name in rotten.iter().map(|r| &r.name) {
        match lost.last_mut() {
            Some(Lost::Entries { group, to, term, .. })
                if *group == name.group && to.next() == name.id.index && *term == Some(name.id.term) =>
            {
                *to = name.id.index;
            }
            _ => lost.push(Lost::Entries {
                group: name.group,
                from: name.id.index,
                to: name.id.index,
                term: Some(name.id.term),
            }),
        }
    }
    lost
}
