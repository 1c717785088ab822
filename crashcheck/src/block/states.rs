//! The crash states of a device that was told what a log says.
//!
//! I own what a disk with a volatile write cache may hold: at a place in the log all that was written
//! before the last flush, and of the writes since then any subset, applied in their order (so that of two
//! writes of one block the later wins if it is kept). With tears one write of a state is cut at a multiple
//! of the tear unit, the first part new and the rest old, or the reverse. The choices are listed by
//! [`choices`], each for the first place at which it is possible, and once more after each mark, which
//! changes what may be asked of the state. I do not know what a file system makes of it.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::block::disk::Disk;
use crate::block::log::{END, Entry, START};
use crate::core::choices::{self, Bounds, Choice, MAX_FREE, Order, Tears};

/// Where writes are torn.
pub type TearUnit = Option<usize>;

/// A place in a log.
#[derive(Clone, Debug)]
pub struct Place {
    /// How many entries are done.
    pub at: usize,
    /// How many marks of the workload are among them.
    pub marks: usize,
    /// The first entry after the last flush.
    since: usize,
    durable: Arc<Disk>,
    /// Whether the last entry is a write, so that a state without it belongs to an earlier place.
    fresh: bool,
}

/// A log over the device on which it began.
#[derive(Debug)]
pub struct Timeline {
    entries: Vec<Entry>,
    /// The places between the marks [`START`] and [`END`], or all without them.
    pub places: Vec<Place>,
    /// The marks of the workload, in order.
    pub marks: Vec<String>,
    tear: TearUnit,
}

impl Timeline {
    /// Walks a log.
    #[must_use]
    pub fn new(base: &Disk, entries: Vec<Entry>, tear: TearUnit) -> Self {
        let is = |text: &str| entries.iter().position(|e| matches!(e, Entry::Mark(mark) if mark == text));
        let (start, end) = (is(START).unwrap_or(0), is(END).unwrap_or(entries.len()));
        let mut durable = Arc::new(base.clone());
        let (mut since, mut places, mut marks) = (0, Vec::new(), Vec::new());
        for at in 0..=end {
            let last = at.checked_sub(1).map(|last| &entries[last]);
            match last {
                Some(Entry::Flush) => {
                    // A disk is copied only where it becomes another.
                    for entry in entries[since..at].iter().filter(|entry| entry.changes()) {
                        apply(Arc::make_mut(&mut durable), entry);
                    }
                    since = at;
                }
                Some(Entry::Mark(text)) if at > start && text != START => marks.push(text.clone()),
                _ => {}
            }
            if at >= start {
                let fresh = at > start && matches!(last, Some(Entry::Write { .. } | Entry::Discard { .. }));
                places.push(Place { at, marks: marks.len(), since, durable: Arc::clone(&durable), fresh });
            }
        }
        Self { entries, places, marks, tear }
    }

    /// The entries between the first place and the last.
    pub(crate) fn entries_between(&self) -> impl Iterator<Item = &Entry> {
        let of = |place: Option<&Place>| place.map_or(0, |place| place.at);
        self.entries[of(self.places.first())..of(self.places.last())].iter()
    }

    /// The writes and discards in doubt at a place.
    fn pending(&self, place: &Place) -> impl Iterator<Item = &Entry> {
        let since = self.entries[place.since..place.at].iter();
        since.filter(|entry| entry.changes())
    }

    /// How many writes and discards are in doubt at a place.
    #[must_use]
    pub fn in_doubt(&self, place: &Place) -> usize {
        self.pending(place).count()
    }

    /// The device's bytes in a state; `None` if there is no such state.
    #[must_use]
    pub fn disk(&self, place: &Place, choice: &Choice) -> Option<Disk> {
        let count = self.in_doubt(place);
        if choice.kept.last().max(choice.tear.map(|tear| tear.bit)).is_some_and(|bit| bit >= count) {
            return None;
        }
        let mut disk = Disk::clone(&place.durable);
        for (bit, entry) in self.pending(place).enumerate() {
            match (choice.tear.filter(|tear| tear.bit == bit), entry) {
                (Some(tear), Entry::Write { offset, data }) => {
                    let (first, second) = data.split_at_checked(tear.at)?;
                    if tear.new_first {
                        disk.write(*offset, first);
                    } else {
                        disk.write(offset + tear.at as u64, second);
                    }
                }
                (Some(_), _) => return None,
                (None, entry) if choice.kept.has(bit) => apply(&mut disk, entry),
                (None, _) => {}
            }
        }
        Some(disk)
    }

    /// The device's bytes at the log's end with nothing lost: after a clean unmount.
    #[must_use]
    pub fn whole(&self) -> Disk {
        let (since, mut disk) = match self.places.last() {
            Some(place) => (place.since, Disk::clone(&place.durable)),
            None => (0, Disk::default()),
        };
        self.entries[since..].iter().for_each(|entry| apply(&mut disk, entry));
        disk
    }

    /// Calls `visit` with every choice at a place under the bounds that no earlier place has.
    pub fn each(
        &self,
        place: &Place,
        bounds: &Bounds,
        visit: &mut dyn FnMut(&Choice) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let pending: Vec<&Entry> = self.pending(place).take(MAX_FREE).collect();
        let fresh = (place.fresh && pending.len() < MAX_FREE).then(|| pending.len() - 1);
        let order = Order::new(&vec![Vec::new(); pending.len()]);
        let places = |bit: usize| match (pending[bit], self.tear) {
            (Entry::Write { data, .. }, Some(unit)) => (unit..data.len()).step_by(unit).collect(),
            _ => Vec::new(),
        };
        choices::each(&order, bounds, fresh, &places, visit)
    }

    /// The bounds of each pass: what is likely to break first comes first.
    #[must_use]
    pub fn passes(&self, most: &Bounds) -> Vec<Bounds> {
        let pass =
            |max_subset_units, omissions| Bounds { max_subset_units, omissions, tears: Tears::None, ..*most };
        let mut passes = vec![pass(0, 0)];
        passes.extend((1..=most.omissions.min(1)).map(|omissions| pass(0, omissions)));
        passes.push(pass(most.max_subset_units, most.omissions.min(1)));
        if self.tear.is_some() {
            passes.push(Bounds { tears: Tears::One, ..pass(0, 0) });
        }
        passes.push(Bounds { tears: if self.tear.is_some() { Tears::One } else { Tears::None }, ..*most });
        passes
    }
}

fn apply(disk: &mut Disk, entry: &Entry) {
    match entry {
        Entry::Write { offset, data } => disk.write(*offset, data),
        Entry::Discard { offset, len } => disk.zero(*offset, *len),
        Entry::Flush | Entry::Mark(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn write(block: u64, fill: u8, blocks: usize) -> Entry {
        Entry::Write { offset: block * 4096, data: vec![fill; blocks * 4096].into() }
    }

    fn states(entries: Vec<Entry>, tear: TearUnit) -> BTreeSet<Vec<u8>> {
        let timeline = Timeline::new(&Disk::zeros(4 * 4096), entries, tear);
        let tears = if tear.is_some() { Tears::One } else { Tears::None };
        let bounds = Bounds { tears, ..Bounds::default() };
        let mut found = BTreeSet::new();
        for place in &timeline.places {
            let _ = timeline.each(place, &bounds, &mut |choice| {
                let disk = timeline.disk(place, choice).unwrap();
                let mut bytes = vec![0; 4];
                // The first byte of each block stands for it.
                disk.blocks().for_each(|(at, block)| bytes[at as usize / 4096] = block[0]);
                found.insert(bytes);
                ControlFlow::Continue(())
            });
        }
        found
    }

    /// The newest of more writes in doubt than a state can choose of are lost in each.
    #[test]
    fn any_number_of_writes_may_be_in_doubt() {
        let log: Vec<Entry> = (0..700).map(|n| write(n % 4, u8::try_from(n % 250).unwrap(), 1)).collect();
        let timeline = Timeline::new(&Disk::zeros(4 * 4096), log, None);
        let place = timeline.places.last().unwrap();
        let mut states = 0;
        let _ = timeline.each(place, &Bounds { omissions: 1, ..Bounds::default() }, &mut |choice| {
            assert!(timeline.disk(place, choice).is_some());
            states += 1;
            if states < 50 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert!(states > 1);
    }

    #[test]
    fn all_subsets_between_flushes_and_nothing_older() {
        let log = vec![write(0, 1, 1), Entry::Flush, write(1, 2, 1), write(1, 3, 1), write(2, 4, 1)];
        let expected: &[&[u8]] = &[
            &[0, 0, 0, 0],
            &[1, 0, 0, 0],
            &[1, 2, 0, 0],
            &[1, 3, 0, 0],
            &[1, 0, 4, 0],
            &[1, 2, 4, 0],
            &[1, 3, 4, 0],
        ];
        assert_eq!(states(log, None), expected.iter().map(|s| s.to_vec()).collect());
    }

    #[test]
    fn a_long_write_is_torn_at_the_unit() {
        let expected: &[&[u8]] = &[&[0; 4], &[7, 7, 0, 0], &[7, 0, 0, 0], &[0, 7, 0, 0]];
        assert_eq!(states(vec![write(0, 7, 2)], Some(4096)), expected.iter().map(|s| s.to_vec()).collect());
    }

    #[test]
    fn marks_are_counted_and_the_start_is_not() {
        let mark = |text: &str| Entry::Mark(text.to_owned());
        let log = vec![
            write(0, 1, 1),
            mark(START),
            write(1, 1, 1),
            mark("durable-ack a"),
            mark(END),
            write(2, 1, 1),
        ];
        let timeline = Timeline::new(&Disk::zeros(4 * 4096), log, None);
        assert_eq!(timeline.marks, ["durable-ack a"]);
        let marks: Vec<(usize, usize)> = timeline.places.iter().map(|p| (p.at, p.marks)).collect();
        assert_eq!(marks, [(1, 0), (2, 0), (3, 0), (4, 1)]);
    }
}
