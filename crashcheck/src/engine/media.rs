//! Media faults: damage a store that is known, open it, and say whether the damage was told.
//!
//! I own the kinds of damage and the judgement (P13): what comes back is exact, or repaired, or what is
//! missing of it is inside `lost` or `maybe_acked`, or a read says so, or open refuses with a typed
//! error. Anything else is silent. (D1) An excuse covers only what it names: a lost vote excuses a vote.
//! (D2) Nothing below a mark that still stands is excused by `maybe_acked` (P14). (D3) A store that was
//! repaired or has a loss is opened again, and must not be silent then. (D4) One sector costs entries,
//! commit indexes and removals at most, each by name: votes, groups, the state and the identity are healed.
//! I do not choose how much is tried (see flip and mutants).

use std::collections::BTreeSet;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use seawall::types::{self, Entry, GroupId, Index, Position};
use seawall::vfs::mem::{self, MemVfs, PAGE};
use seawall::{CreateOptions, Engine, Error, Lost, RecoveryReport, Store, WriteBatch};

use super::execute::{create_options, execute, open_options, write_batch};
use super::generate::Sequence;
use super::observe::{observe, observe_each};
use super::oracle::{Act, Group, State, What};
use super::planted::Disk;
use super::step::{self, GROUPS, payload};
use super::truth::{Marks, one_sector};

/// A store whose contents are known.
#[derive(Clone, Debug)]
pub struct Known {
    /// What it is called.
    pub name: &'static str,
    /// Its bytes.
    pub image: mem::Image,
    /// The state after all batches, then after all but the last, and so on, each with the position of
    /// the first batch that is missing from it.
    states: Vec<(Arc<State>, Option<Position>)>,
    /// What its bytes prove.
    marks: Marks,
    /// Its bytes before the last batch.
    before: Option<mem::Image>,
}

/// The steps of the stores that are damaged: several groups, votes, an overwritten suffix, owned
/// snapshots with and without a compaction, a recreated group.
const STEPS: &str = "batch.0,publish.4,overwrite.1,group.1,compact-owned.3,large.1,vote.0,batch.1,group.2,append.2,append.0,append.1";

impl Known {
    /// A store that was left open.
    pub fn unclean<V: Disk>() -> Self {
        let steps = step::parse(STEPS).expect("the steps are well-formed");
        let run = execute::<V>(&Sequence::of(steps));
        let moments = &run.moments;
        let last = moments.last().expect("never empty");
        let mut states = vec![(last.allowed[0].clone(), None)];
        let mut missing = run.positions.len();
        while let Some(number) = missing.checked_sub(1) {
            missing = number;
            let Some(before) = moments.iter().rev().find(|m| m.issued == number) else { break };
            let Some(position) = run.positions[number] else { break };
            states.push((before.allowed.last().expect("never empty").clone(), Some(position)));
        }
        let marks = Marks::of(&run.image, None);
        Self { name: "left open", image: run.image, states, marks, before: None }
    }

    /// The same store, closed.
    ///
    /// # Panics
    /// If it cannot be opened or closed.
    pub fn clean<V: Disk>() -> Self {
        let open = Self::unclean::<V>();
        let mem = MemVfs::from_image(open.image.clone());
        let (engine, _) = Engine::open_in(V::over(mem.clone()), open_options()).expect("it was left open");
        let before = mem.image();
        let mut state = State::clone(&open.states[0].0);
        let (group, last) = (GROUPS[1], state.groups[&GROUPS[1]].last);
        let next = Entry::command(last.index.0 + 1, last.term.0, payload(7, 60));
        let acts = [Act::new(group, What::Append(next))];
        state.apply(&acts).expect("it follows the last");
        let ticket = engine.write(write_batch(&acts)).expect("it follows the last");
        assert_eq!(ticket.wait(), types::Outcome::Durable, "nothing fails");
        let last = ticket.position();
        engine.close().expect("nothing fails");
        let image = mem.image();
        let mut states = vec![(Arc::new(state), None)];
        states.extend(open.states.iter().map(|(state, missing)| (state.clone(), missing.or(Some(last)))));
        Self { name: "closed", marks: Marks::of(&image, Some(last)), image, states, before: Some(before) }
    }

    /// Opens the damaged bytes, reads everything and judges; then once more, if something was lost.
    pub fn probe<V: Disk>(&self, image: mem::Image) -> Outcome {
        let _quiet = super::quiet();
        let proven = self.marks.proven(&image);
        let sector = one_sector(&self.image, &image);
        let strange = self.strange(&image);
        let asked = AssertUnwindSafe(|| {
            let mem = MemVfs::from_image(image);
            let first = self.open::<V>(&mem, proven, None, sector.as_deref());
            if let Some(text) = mistaken(&strange, &first, &mem) {
                return Outcome::Silent(text);
            }
            let Some(lost) = first.alarm.filter(|_| !first.outcome.is_wrong()) else { return first.outcome };
            let second = self.open::<V>(&mem, proven, first.above, sector.as_deref());
            match (second.outcome, second.alarm) {
                (Outcome::Silent(text), _) => Outcome::Silent(format!("at the second open: {text}")),
                (Outcome::Refused(text), _) => Outcome::Unhealed(format!("at the second open: {text}")),
                (_, again) if again.as_ref().unwrap_or(&Vec::new()) != &lost => {
                    Outcome::Silent(format!("lost {lost:?}, and at the second open {again:?}"))
                }
                _ => first.outcome,
            }
        });
        catch_unwind(asked).unwrap_or_else(|cause| Outcome::Panic(super::panic_text(&*cause)))
    }

    /// Files that are not the store's.
    fn strange(&self, image: &mem::Image) -> Vec<(String, mem::Content)> {
        if image.files.len() <= self.image.files.len() {
            return Vec::new();
        }
        let strange = image.files.iter().filter(|(name, _)| !self.image.files.contains_key(*name));
        strange.map(|(name, content)| (name.clone(), content.clone())).collect()
    }

    /// Opens once; `above` is what an earlier open said.
    fn open<V: Disk>(
        &self,
        mem: &MemVfs,
        proven: Position,
        above: Option<Position>,
        sector: Option<&str>,
    ) -> Opened {
        let (engine, report) = match Engine::open_in(V::over(mem.clone()), open_options()) {
            Ok(opened) => opened,
            Err(e) => {
                let minor = |file| matches!(&e, Error::Corrupt { report } if is_minor(&report.lost, file));
                let text = e.to_string();
                let unhealed = sector.is_some_and(|file| !minor(file));
                let outcome = if unhealed { Outcome::Unhealed(text) } else { Outcome::Refused(text) };
                return Opened { outcome, alarm: None, above, unknown: None };
            }
        };
        // Not dropped in a panic: that may panic again.
        let engine = ManuallyDrop::new(engine);
        let above = above.or(report.maybe_acked.map(|m| m.above.max(proven)));
        let outcome = match self.compare(&engine, &report, above) {
            Outcome::Reported if sector.is_some_and(|file| !is_minor(&report.lost, file)) => {
                Outcome::Unhealed(report.to_string())
            }
            outcome => outcome,
        };
        drop(ManuallyDrop::into_inner(engine));
        let unknown = Some(report.unknown.clone());
        Opened { outcome, alarm: report.is_alarm().then_some(report.lost), above, unknown }
    }

    /// All that it holds.
    pub fn state(&self) -> &State {
        &self.states[0].0
    }

    /// The highest position that damaged bytes still prove to have been acknowledged.
    pub fn proven(&self, damaged: &mem::Image) -> Position {
        self.marks.proven(damaged)
    }

    /// Whether damage is noticed: it is not wrong, and the open or else a verification says something.
    pub fn is_noticed<V: Disk>(&self, image: &mem::Image) -> bool {
        let verify = || {
            let looked = Store::open_read_only_in(V::over(MemVfs::from_image(image.clone())));
            looked.and_then(|(store, _)| store.verify()).map_or(true, |report| !report.damage.is_empty())
        };
        match self.probe::<V>(image.clone()) {
            Outcome::Exact => super::quiet_result(verify).unwrap_or(false),
            outcome => !outcome.is_wrong(),
        }
    }

    /// Compares what can be read with what may be there if all is there up to `above`.
    fn compare<V: Disk>(
        &self,
        engine: &Engine<V>,
        report: &RecoveryReport,
        above: Option<Position>,
    ) -> Outcome {
        let mut unread = BTreeSet::new();
        let mut seen = State::default();
        for (id, group) in observe_each(engine) {
            match group {
                Ok(group) => drop(seen.groups.insert(id, group)),
                Err(e) if e.told => drop(unread.insert(id)),
                Err(e) => return Outcome::Silent(e.text),
            }
        }
        let possible = |missing: Option<Position>| missing.is_none_or(|p| above.is_some_and(|a| p > a));
        let mut first = None;
        for (state, missing) in self.states.iter().filter(|(_, missing)| possible(*missing)) {
            match unexcused(state, &seen, &unread, &report.lost) {
                None if missing.is_some() || !unread.is_empty() || !report.lost.is_empty() => {
                    return Outcome::Reported;
                }
                None if report.is_alarm() => return Outcome::Repaired,
                None => return Outcome::Exact,
                Some(text) => first = first.or(Some(text)),
            }
        }
        Outcome::Silent(format!(
            "{}; the report: {report}",
            first.expect("the whole state is always possible")
        ))
    }
}

/// What one open gave.
struct Opened {
    outcome: Outcome,
    /// What is lost, if it raised an alarm.
    alarm: Option<Vec<Lost>>,
    /// Above which position something may be missing.
    above: Option<Position>,
    /// The files that an open named as not ours; `None` if it refused.
    unknown: Option<Vec<String>>,
}

/// What came of damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is there and nothing was said.
    Exact,
    /// Everything is there, and the damage was named.
    Repaired,
    /// What is missing was named, or may be missing by `maybe_acked`, or its read says so.
    Reported,
    /// Open gave a typed error.
    Refused(String),
    /// Something is wrong and nothing says so.
    Silent(String),
    /// More is lost than this damage may cost.
    Unhealed(String),
    /// Open or a read panicked.
    Panic(String),
}

impl Outcome {
    /// Whether it must not happen.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        matches!(self, Outcome::Silent(_) | Outcome::Unhealed(_) | Outcome::Panic(_))
    }
}

/// Whether a loss is one that a single sector of a file may cost (D4).
fn is_minor(lost: &[Lost], file: &str) -> bool {
    lost.iter().all(|lost| match lost {
        Lost::Entries { term, .. } => term.is_some(),
        Lost::Commit { .. } | Lost::Truncate { .. } | Lost::Purge { .. } => true,
        Lost::SnapshotPointer { .. } => file.starts_with("snapshots/"),
        _ => false,
    })
}

/// The first difference that neither a report nor a failed read excuses.
fn unexcused(wanted: &State, seen: &State, unread: &BTreeSet<GroupId>, lost: &[Lost]) -> Option<String> {
    if lost.iter().any(|l| matches!(l, Lost::Unnamed { .. } | Lost::State { .. } | Lost::File { .. })) {
        return invented(wanted, seen);
    }
    let ids: BTreeSet<_> = wanted.groups.keys().chain(seen.groups.keys()).copied().collect();
    ids.into_iter().filter(|id| !unread.contains(id)).find_map(|id| {
        let event = lost.iter().any(|l| matches!(l, Lost::GroupEvent { group } if *group == id));
        match (wanted.groups.get(&id), seen.groups.get(&id)) {
            _ if event => None,
            (Some(wanted), Some(seen)) => group_unexcused(id, wanted, seen, lost),
            (wanted, _) => {
                Some(format!("group {id} is {}", if wanted.is_some() { "missing" } else { "there" }))
            }
        }
    })
}

/// Even where anything may be lost, nothing may be made up.
fn invented(wanted: &State, seen: &State) -> Option<String> {
    seen.groups.iter().find_map(|(id, group)| {
        let known = wanted.groups.get(id)?;
        let other = |e: &&Entry| known.entries.get(&e.id.index).is_some_and(|k| k.id == e.id && k != *e);
        group.entries.values().find(other).map(|e| format!("group {id}: entry {} has other bytes", e.id))
    })
}

fn group_unexcused(id: GroupId, wanted: &Group, seen: &Group, lost: &[Lost]) -> Option<String> {
    let is_lost = |ask: &dyn Fn(&Lost) -> bool| lost.iter().any(ask);
    let missing = |index: Index| {
        is_lost(
            &|l| matches!(l, Lost::Entries { group, from, to, .. } if *group == id && (*from..=*to).contains(&index)),
        )
    };
    for (index, entry) in &seen.entries {
        if wanted.entries.get(index) != Some(entry) {
            let back = is_lost(
                &|l| matches!(l, Lost::Truncate { group, .. } | Lost::Purge { group, .. } if *group == id),
            );
            let known = wanted.entries.get(index).is_some_and(|w| w.id == entry.id);
            if !back || known {
                return Some(format!("group {id}: entry {} is not what was stored", entry.id));
            }
        }
    }
    if let Some(index) = wanted.entries.keys().find(|i| !seen.entries.contains_key(i) && !missing(**i)) {
        return Some(format!("group {id}: entry {index} is missing"));
    }
    if wanted.vote != seen.vote && !is_lost(&|l| matches!(l, Lost::Vote { group } if *group == id)) {
        return Some(format!("group {id}: another vote"));
    }
    if wanted.commit != seen.commit && !is_lost(&|l| matches!(l, Lost::Commit { group, .. } if *group == id))
    {
        return Some(format!("group {id}: commit index {} for {}", seen.commit, wanted.commit));
    }
    let pointer = is_lost(&|l| matches!(l, Lost::SnapshotPointer { group, .. } if *group == id));
    if wanted.snapshot.as_ref().map(|s| (s.id, &s.content))
        != seen.snapshot.as_ref().map(|s| (s.id, &s.content))
        && !pointer
    {
        return Some(format!("group {id}: another snapshot"));
    }
    let moved = is_lost(&|l| match l {
        Lost::Entries { group, .. } | Lost::Truncate { group, .. } | Lost::Purge { group, .. } => {
            *group == id
        }
        _ => false,
    });
    if (wanted.first, wanted.purged, wanted.last) != (seen.first, seen.purged, seen.last) && !moved {
        return Some(format!(
            "group {id}: {}..={} for {}..={}",
            seen.first, seen.last, wanted.first, wanted.last
        ));
    }
    let same = wanted.incarnation.is_none() || wanted.incarnation == seen.incarnation;
    (!same).then(|| format!("group {id}: another incarnation"))
}

/// One flipped bit of a file.
#[must_use]
pub fn flip(image: &mem::Image, file: &str, bit: u64) -> mem::Image {
    let mut image = image.clone();
    let content = image.files.get_mut(file).expect("a file of the image");
    let byte = bit / 8;
    let mut value = [0];
    content.read(byte, &mut value);
    content.write(byte, &[value[0] ^ 1 << (bit % 8)]);
    image
}

/// A file cut to a length.
#[must_use]
pub fn truncate(image: &mem::Image, file: &str, len: u64) -> mem::Image {
    let mut image = image.clone();
    image.files.get_mut(file).expect("a file of the image").set_len(len);
    image
}

/// A file made longer by `more` bytes of one value.
#[must_use]
pub fn extend(image: &mem::Image, file: &str, more: u64, byte: u8) -> mem::Image {
    let mut image = image.clone();
    let content = image.files.get_mut(file).expect("a file of the image");
    let len = content.len;
    content.set_len(len + more);
    content.write(len, &vec![byte; usize::try_from(more).expect("a small file")]);
    image
}

/// What became of files that are not the store's, if it is not that they were named and left alone.
fn mistaken(strange: &[(String, mem::Content)], opened: &Opened, mem: &MemVfs) -> Option<String> {
    let now = mem.image();
    strange.iter().find_map(|(name, content)| match (now.files.get(name), &opened.unknown) {
        (None, _) => Some(format!("{name}, which is not ours, was removed")),
        (Some(now), _) if now != content => Some(format!("{name}, which is not ours, was changed")),
        (_, Some(unknown)) if !unknown.contains(name) => {
            Some(format!("{name}, which is not ours, is not named"))
        }
        _ => None,
    })
}

/// Names that are nearly ours.
const STRANGE: [&str; 6] =
    ["spare-", "spare-notes", "spare-00000000000000FF", "0000000000000001.seg.old", "1.seg", "identity~"];

/// Damage to whole files.
#[derive(Clone, Debug)]
pub struct FileDamage {
    /// What is done.
    pub what: String,
    /// The files that change, and what they hold then; nothing if they are gone.
    changes: Vec<(String, Option<mem::Content>)>,
}

impl FileDamage {
    fn new(what: String, file: &str, content: Option<mem::Content>) -> Self {
        Self { what, changes: vec![(file.to_owned(), content)] }
    }

    /// Whether both change the same file.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.changes.iter().any(|(file, _)| other.changes.iter().any(|(f, _)| f == file))
    }

    /// The store with this damage and another's.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let what = format!("{}, {}", self.what, other.what);
        Self { what, changes: [self.changes.clone(), other.changes.clone()].concat() }
    }

    /// The store with this damage.
    #[must_use]
    pub fn on(&self, image: &mem::Image) -> mem::Image {
        let mut image = image.clone();
        for (file, content) in &self.changes {
            match content {
                Some(content) => drop(image.files.insert(file.clone(), content.clone())),
                None => drop(image.files.remove(file)),
            }
        }
        image
    }
}

/// Every file missing, empty, swapped with each other, rolled back, or another store's; and files that are
/// not the store's, with nothing in them or what each of its own has.
pub fn damaged_files<V: Disk>(known: &Known) -> Vec<FileDamage> {
    let mut all = Vec::new();
    let image = &known.image;
    let older = known.older::<V>();
    for (name, content) in &image.files {
        all.push(FileDamage::new(format!("{name} missing"), name, None));
        all.push(FileDamage::new(format!("{name} empty"), name, Some(mem::Content::from_bytes(&[]))));
        for (other, theirs) in image.files.iter().filter(|(other, _)| *other > name) {
            let ours = FileDamage::new(String::new(), other, Some(content.clone()));
            let swapped = FileDamage::new(String::new(), name, Some(theirs.clone())).with(&ours);
            all.push(FileDamage { what: format!("{name} and {other} swapped"), ..swapped });
        }
        for (n, old) in older.iter().enumerate() {
            if let Some(old) = old.files.get(name).filter(|old| *old != content) {
                all.push(FileDamage::new(format!("{name} rolled back to {n}"), name, Some(old.clone())));
            }
        }
    }
    for name in STRANGE {
        let contents = image.files.iter().map(|(own, content)| (format!("with the bytes of {own}"), content));
        for (what, content) in contents.chain([("empty".to_owned(), &mem::Content::from_bytes(&[]))]) {
            all.push(FileDamage::new(format!("{name} there, {what}"), name, Some(content.clone())));
        }
    }
    for (n, other) in foreign::<V>().into_iter().enumerate() {
        for (name, content) in other.files.into_iter().filter(|(name, _)| image.files.contains_key(name)) {
            all.push(FileDamage::new(format!("{name} of another store at {n}"), &name, Some(content)));
        }
    }
    all
}

/// Every used sector zeroed, filled with ones, as it was before, or with the bytes of any other place, up to
/// `longest` sectors of them.
pub fn damaged_sectors<V: Disk>(known: &Known, longest: usize) -> Vec<(String, mem::Image)> {
    let mut all = Vec::new();
    sectors(&known.image, &known.older::<V>(), longest, &mut all);
    all
}

/// How much of a file is damaged at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coarse {
    /// All of it.
    File,
    /// Up to four sectors.
    Sectors,
}

/// Damage of more than a bit, in an order that does not depend on anything but the stores.
pub fn coarse<V: Disk>(known: &Known, kind: Coarse) -> Vec<(String, mem::Image)> {
    match kind {
        Coarse::File => {
            let files = damaged_files::<V>(known).into_iter();
            files.map(|damage| (damage.what.clone(), damage.on(&known.image))).collect()
        }
        Coarse::Sectors => damaged_sectors::<V>(known, 4),
    }
}

fn sectors(image: &mem::Image, older: &[mem::Image], longest: usize, all: &mut Vec<(String, mem::Image)>) {
    let used: Vec<(&String, usize)> = image
        .files
        .iter()
        .flat_map(|(name, content)| {
            content.pages.iter().enumerate().filter(|(_, p)| p.is_some()).map(move |(i, _)| (name, i))
        })
        .collect();
    for &(name, page) in &used {
        for (bytes, what) in [([0; PAGE], "zeroed"), ([0xff; PAGE], "filled with ones")] {
            let mut filled = image.clone();
            write_page(&mut filled, name, page, &bytes);
            all.push((format!("sector {page} of {name} {what}"), filled));
        }
        for (n, old) in older.iter().enumerate() {
            let before = old.files.get(name).map(|c| read_pages(c, page, 1));
            if let Some(bytes) = before.filter(|b| *b != read_pages(&image.files[name], page, 1)) {
                let mut stale = image.clone();
                write_page(&mut stale, name, page, &bytes);
                all.push((format!("sector {page} of {name} as in {n}"), stale));
            }
        }
    }
    for length in 1..=longest {
        for &(from, source) in &used {
            let bytes = read_pages(&image.files[from], source, length);
            for &(to, target) in &used {
                let targets = [target, target + 1];
                for target in targets.into_iter().filter(|t| (from, source) != (to, *t)) {
                    let mut misdirected = image.clone();
                    write_page(&mut misdirected, to, target, &bytes);
                    all.push((
                        format!("{length} sectors from {source} of {from} at {target} of {to}"),
                        misdirected,
                    ));
                }
            }
        }
    }
}

fn read_pages(content: &mem::Content, page: usize, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count * PAGE];
    content.read((page * PAGE) as u64, &mut bytes);
    bytes
}

/// Writes into a file without making it longer.
fn write_page(image: &mut mem::Image, file: &str, page: usize, bytes: &[u8]) {
    let content = image.files.get_mut(file).expect("a file of the image");
    let at = (page * PAGE) as u64;
    let room = usize::try_from(content.len.saturating_sub(at)).expect("a small file").min(bytes.len());
    content.write(at, &bytes[..room]);
}

impl Known {
    /// The same store after fewer steps.
    fn older<V: Disk>(&self) -> Vec<mem::Image> {
        let steps = step::parse(STEPS).expect("the steps are well-formed");
        let ends = [2, 5, steps.len() - 1];
        let older = ends.map(|n| execute::<V>(&Sequence::of(steps[..n].to_vec())).image);
        older.into_iter().chain(self.before.clone()).collect()
    }
}

/// The store with one more batch written and not synced, and the state without it.
///
/// # Panics
/// If the store cannot be opened or written to.
pub fn torn_tail<V: Disk>(known: &Known) -> (mem::Image, State) {
    let mem = MemVfs::from_image(known.image.clone());
    let (engine, _) = Engine::open_in(V::over(mem.clone()), open_options()).expect("it is sound");
    let state = known.state();
    let last = state.groups[&GROUPS[1]].last;
    let next = Entry::command(last.index.0 + 1, last.term.0, payload(8, 1500));
    let ticket = engine.write(write_batch(&[Act::new(GROUPS[1], What::Append(next))])).expect("it follows");
    let flush = engine.begin_flush().expect("nothing fails").expect("a batch is queued");
    let image = mem.image();
    drop((flush, ticket));
    (image, state.clone())
}

/// Another store of the same cluster and node, with the same groups and other entries, after each of some
/// opens: its newest segment has every number that the known store's may have.
fn foreign<V: Disk>() -> Vec<mem::Image> {
    let mem = MemVfs::new();
    let options = CreateOptions { seed: Some(*b"some other store"), ..create_options() };
    Engine::create_in(&V::over(mem.clone()), &options).expect("an empty disk");
    let (engine, _) = Engine::open_in(V::over(mem.clone()), open_options()).expect("just created");
    for group in GROUPS {
        let mut batch = WriteBatch::new();
        batch.create_group(group);
        for index in 1..=6 {
            batch.append(group, Entry::command(index, 3, payload(index + 70_000, 80)));
        }
        let outcome = engine.write(batch).expect("taken").wait();
        assert_eq!(outcome, types::Outcome::Durable, "nothing fails");
    }
    assert!(observe(&engine).is_ok(), "the other store is whole");
    drop(engine);
    let reopen = |_| {
        let (engine, _) = Engine::open_in(V::over(mem.clone()), open_options()).expect("nothing was damaged");
        drop(engine);
        mem.image()
    };
    (0..8).map(reopen).collect()
}
