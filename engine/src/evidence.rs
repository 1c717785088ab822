//! The evidence file: what was done to stored bytes other than appending, written down before it was done.
//!
//! I own the file `EVIDENCE`, two rings of the same slots. (D1) An event is durable before the act that it
//! names: whoever cannot write it does not act. (D2) Each event stands in both rings, 32 KiB apart, in a
//! sector of its own, and holds the hash of the one before it: one fault takes no event, and one that is
//! gone or changed is noticed. After a loss the chain begins anew, and the first event says so. (D3) The rings are written zeros from the start: an event asks for no block,
//! and the number of crashes does not grow the file; the oldest event gives way. (D4) What a handle found
//! there it writes again with its first event, for it may be in the cache only (L3). I do not know which
//! acts need an event (see recovery, log and engine).
//!
//! What consensus asked for (a truncation, a compaction, an install) is its own evidence in the log.

use std::io;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::checksum::crc;
use crate::error::{Error, Result};
use crate::planted::Bug;
use crate::sync::lock;
use crate::types::{END, Epoch, GroupId, Index, Position};
use crate::vfs::{Access, File, Vfs, read_exact_at, write_all_at};

/// The file's name.
pub const NAME: &str = "EVIDENCE";
/// Events that are kept.
pub const SLOTS: u64 = 64;
/// Where the second ring starts.
pub const SECOND_RING: u64 = SLOTS * slot::LEN as u64;
/// The file's length.
pub const FILE_LEN: u64 = 2 * SECOND_RING;

/// Places of the fields, in bytes from the start of a slot.
pub mod slot {
    use std::ops::Range;
    /// `SEAWEVID`.
    pub const MAGIC: Range<usize> = 0..8;
    /// The store.
    pub const STORE: Range<usize> = MAGIC.end..MAGIC.end + 16;
    /// The event's number, from 1 on.
    pub const SEQUENCE: Range<usize> = STORE.end..STORE.end + 8;
    /// The epoch of the open that did it.
    pub const EPOCH: Range<usize> = SEQUENCE.end..SEQUENCE.end + 8;
    /// What was done.
    pub const ACT: Range<usize> = EPOCH.end..EPOCH.end + 4;
    /// Bytes of the text.
    pub const TEXT_LEN: Range<usize> = ACT.end..ACT.end + 4;
    /// The first byte in the file.
    pub const FROM: Range<usize> = TEXT_LEN.end..TEXT_LEN.end + 8;
    /// The byte after the last.
    pub const TO: Range<usize> = FROM.end..FROM.end + 8;
    /// The group, for an entry.
    pub const GROUP: Range<usize> = TO.end..TO.end + 8;
    /// The index, for an entry.
    pub const INDEX: Range<usize> = GROUP.end..GROUP.end + 8;
    /// The last position of the stream that is kept.
    pub const POSITION: Range<usize> = INDEX.end..INDEX.end + 8;
    /// BLAKE3 of the slot of the event before; zeros where a chain begins.
    pub const PREVIOUS: Range<usize> = POSITION.end..POSITION.end + 32;
    /// The file's name and what is said of it, then zeros.
    pub const TEXT: Range<usize> = PREVIOUS.end..508;
    /// CRC-32 of all before.
    pub const CRC: Range<usize> = TEXT.end..TEXT.end + 4;
    /// The length of a slot.
    pub const LEN: usize = CRC.end;
}

const MAGIC: [u8; 8] = *b"SEAWEVID";
type Slot = [u8; slot::LEN];
/// No event before.
const NOTHING: [u8; 32] = [0; 32];

/// What is done to bytes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The store is created; the text names options that are weaker than the defaults.
    Created,
    /// Bytes after the last whole batch are dropped: nothing says that they were acknowledged.
    Cut,
    /// Damage is made good from a second copy.
    Mended,
    /// A damaged entry gets back the bytes that a peer holds.
    Restored,
    /// A scrub found an entry whose bytes do not hold. Nothing is changed.
    Found,
    /// A chunk of a snapshot gets back the bytes that a peer holds.
    RestoredChunk,
}

impl Act {
    /// All of them, in the order of their numbers, which start at 1.
    pub const ALL: [Self; 6] =
        [Self::Created, Self::Cut, Self::Mended, Self::Restored, Self::Found, Self::RestoredChunk];

    fn number(self) -> u32 {
        let at = Self::ALL.iter().position(|act| *act == self).expect("all are listed");
        u32::try_from(at + 1).expect("a few")
    }

    fn of(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number.checked_sub(1)?).ok()?).copied()
    }
}

/// An act, and what it concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What is done.
    pub act: Act,
    /// To which bytes of the file.
    pub bytes: Range<u64>,
    /// The group and the index, for an entry; zeros for none.
    pub group: GroupId,
    /// The index, for an entry; 0 for none.
    pub index: Index,
    /// For a cut, the last position that is kept; else 0.
    pub position: Position,
    /// The file, and what is said of it.
    pub text: String,
}

impl Event {
    /// An act on a file that concerns no single entry.
    #[must_use]
    pub fn new(act: Act, text: impl Into<String>, bytes: Range<u64>) -> Self {
        let (group, index, position) = (GroupId(0), Index(0), Position(0));
        Self { act, bytes, group, index, position, text: text.into() }
    }
}

/// An event as it was written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Noted {
    /// Its number, from 1 on.
    pub sequence: u64,
    /// The epoch of the open that did it.
    pub epoch: Epoch,
    /// What was done.
    #[serde(flatten)]
    pub event: Event,
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The events, oldest first.
    pub events: Vec<Noted>,
    /// Numbers of events that must be there and are not, or do not follow from the one before.
    pub gone: Vec<u64>,
    /// Numbers of events of which one copy does not hold, but for the newest: a crash may do that to it.
    pub half: Vec<u64>,
    /// Whether the file is missing or too short.
    pub missing: bool,
    /// The bytes of each event.
    #[serde(skip)]
    slots: Vec<Slot>,
}

impl Evidence {
    /// The number of the newest event; 0 for none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.events.last().map_or(0, |noted| noted.sequence)
    }

    /// What must be said of it; nothing if it holds. `reached` is the number that the high-water file names.
    #[must_use]
    pub fn fault(&self, reached: u64) -> Option<&'static str> {
        if self.missing {
            Some("the file, empty: its events are gone")
        } else if !self.gone.is_empty() || self.newest() < reached {
            Some("the chain, from what is left: events are gone")
        } else if !self.half.is_empty() {
            Some("a copy of an event, from the other")
        } else {
            None
        }
    }
}

fn encode(noted: &Noted, store: &[u8; 16], previous: &[u8; 32]) -> Slot {
    let mut raw = [0; slot::LEN];
    let event = &noted.event;
    let mut text = event.text.len().min(slot::TEXT.len());
    while !event.text.is_char_boundary(text) {
        text -= 1;
    }
    let mut put = |at: Range<usize>, bytes: &[u8]| raw[at].copy_from_slice(bytes);
    put(slot::MAGIC, &MAGIC);
    put(slot::STORE, store);
    put(slot::SEQUENCE, &noted.sequence.to_le_bytes());
    put(slot::EPOCH, &noted.epoch.0.to_le_bytes());
    put(slot::ACT, &event.act.number().to_le_bytes());
    put(slot::TEXT_LEN, &u32::try_from(text).expect("below a slot").to_le_bytes());
    put(slot::FROM, &event.bytes.start.to_le_bytes());
    put(slot::TO, &event.bytes.end.to_le_bytes());
    put(slot::GROUP, &event.group.0.to_le_bytes());
    put(slot::INDEX, &event.index.0.to_le_bytes());
    put(slot::POSITION, &event.position.0.to_le_bytes());
    put(slot::PREVIOUS, previous);
    put(slot::TEXT.start..slot::TEXT.start + text, &event.text.as_bytes()[..text]);
    let sum = crc(0, &raw[..slot::CRC.start]);
    raw[slot::CRC].copy_from_slice(&sum.to_le_bytes());
    raw
}

/// Reads a slot; `None` unless it holds and is this store's.
fn decode(raw: &Slot, store: &[u8; 16]) -> Option<Noted> {
    let number = |at: Range<usize>| u64::from_le_bytes(raw[at].try_into().expect("eight bytes"));
    let short = |at: Range<usize>| u32::from_le_bytes(raw[at].try_into().expect("four bytes"));
    let ours = raw[slot::MAGIC] == MAGIC && raw[slot::STORE] == *store;
    if !ours || raw[slot::CRC] != crc(0, &raw[..slot::CRC.start]).to_le_bytes() {
        return None;
    }
    if number(slot::SEQUENCE).max(number(slot::EPOCH)) >= END {
        return None;
    }
    let text = raw[slot::TEXT].get(..usize::try_from(short(slot::TEXT_LEN)).ok()?)?;
    let event = Event {
        act: Act::of(short(slot::ACT))?,
        bytes: number(slot::FROM)..number(slot::TO),
        group: GroupId(number(slot::GROUP)),
        index: Index(number(slot::INDEX)),
        position: Position(number(slot::POSITION)),
        text: String::from_utf8_lossy(text).into_owned(),
    };
    Some(Noted { sequence: number(slot::SEQUENCE), epoch: Epoch(number(slot::EPOCH)), event })
}

/// Where an event's slot is in its ring.
fn place(sequence: u64) -> u64 {
    (sequence - 1) % SLOTS * slot::LEN as u64
}

/// Reads the file. What does not hold is in the answer, not an error.
pub fn read<V: Vfs>(vfs: &V, store: &[u8; 16]) -> Result<Evidence> {
    let file = match vfs.open(NAME, Access::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(missing()),
        other => other.map_err(Error::io("open", NAME))?,
    };
    let mut raw = vec![0; usize::try_from(FILE_LEN).expect("small")];
    match read_exact_at(&file, &mut raw, 0) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(missing()),
        other => other.map_err(Error::io("read", NAME))?,
    }
    Ok(examine(&raw, store))
}

fn missing() -> Evidence {
    Evidence { missing: true, ..Evidence::default() }
}

/// Puts the events in order and looks for what does not hold.
fn examine(raw: &[u8], store: &[u8; 16]) -> Evidence {
    let (slots, _) = raw.as_chunks::<{ slot::LEN }>();
    let half = slots.len() / 2;
    let good = |slot: &Slot, at: usize| {
        let noted = decode(slot, store)?;
        let placed = noted.sequence > 0 && place(noted.sequence) == (at % half * slot::LEN) as u64;
        placed.then_some((noted, *slot))
    };
    let copies: Vec<_> = slots.iter().enumerate().map(|(at, slot)| good(slot, at)).collect();
    let newest = copies.iter().flatten().map(|(noted, _)| noted.sequence).max().unwrap_or(0);
    let begins = copies.iter().flatten().filter(|(_, slot)| slot[slot::PREVIOUS] == NOTHING);
    let begun = begins.map(|(noted, _)| noted.sequence).max().unwrap_or(1);
    let mut out = Evidence::default();
    let mut before: Option<Slot> = None;
    for sequence in newest.saturating_sub(SLOTS - 1).max(1)..=newest {
        // What was lost before the chain began was said then.
        let counts = sequence >= begun;
        let at = usize::try_from(place(sequence)).expect("small") / slot::LEN;
        let mut own =
            [&copies[at], &copies[at + half]].into_iter().flatten().filter(|(n, _)| n.sequence == sequence);
        let Some((noted, slot)) = own.next() else {
            out.gone.extend(counts.then_some(sequence));
            before = None;
            continue;
        };
        if counts && own.next().is_none() && sequence < newest {
            out.half.push(sequence);
        }
        let follows = before.is_none_or(|before| slot[slot::PREVIOUS] == *blake3::hash(&before).as_bytes());
        if counts && sequence > begun && !follows {
            out.gone.push(sequence);
        }
        out.events.push(noted.clone());
        out.slots.push(*slot);
        before = Some(*slot);
    }
    out
}

/// The open file, ready to take the next event from whoever has one.
pub struct Journal<V: Vfs> {
    file: V::File,
    store: [u8; 16],
    epoch: Epoch,
    newest: AtomicU64,
    /// Held while an event is written and synced.
    end: Mutex<End>,
}

/// What the next event goes on from.
struct End {
    head: [u8; 32],
    /// Events that were there at open, by number.
    unsettled: Vec<(u64, Slot)>,
}

impl<V: Vfs> Journal<V> {
    /// Makes the file; durable on return but for its name.
    pub fn create(vfs: &V, store: &[u8; 16], epoch: Epoch) -> io::Result<Self> {
        let file = vfs.create(NAME)?;
        write_all_at::<V>(&file, &vec![0; usize::try_from(FILE_LEN).expect("small")], 0)?;
        file.sync_all()?;
        Ok(Self::after(file, store, epoch, 0, End { head: NOTHING, unsettled: Vec::new() }))
    }

    /// Opens the file to go on after `found`; makes it again, durably, if it is missing. `reached` is the
    /// highest number that was ever given.
    pub fn open(vfs: &V, store: &[u8; 16], epoch: Epoch, found: &Evidence, reached: u64) -> io::Result<Self> {
        let newest = found.newest().max(reached);
        if found.missing {
            match vfs.remove(NAME) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let made = Self::create(vfs, store, epoch)?;
            vfs.sync_dir("")?;
            return Ok(Self { newest: newest.into(), ..made });
        }
        let file = vfs.open(NAME, Access::ReadWrite)?;
        let numbers = found.events.iter().map(|noted| noted.sequence);
        let unsettled: Vec<_> = numbers.zip(found.slots.iter().copied()).collect();
        let whole = found.gone.is_empty() && found.newest() == newest;
        let last = unsettled.last().filter(|_| whole);
        let head = last.map_or(NOTHING, |(_, slot)| *blake3::hash(slot).as_bytes());
        Ok(Self::after(file, store, epoch, newest, End { head, unsettled }))
    }

    fn after(file: V::File, store: &[u8; 16], epoch: Epoch, newest: u64, end: End) -> Self {
        Self { file, store: *store, epoch, newest: newest.into(), end: end.into() }
    }

    /// The number of the newest event, which is durable.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Writes an event down. Durable on return; only then may the act be done.
    pub fn note(&self, event: Event) -> Result<()> {
        tracing::warn!(act = ?event.act, what = event.text, "evidence");
        metrics::counter!("seawall_evidence_events").increment(1);
        let mut end = lock(&self.end);
        let noted = Noted { sequence: self.newest() + 1, epoch: self.epoch, event };
        let raw = encode(&noted, &self.store, &end.head);
        // What was there is whole in both rings before anything follows it.
        let again = std::mem::take(&mut end.unsettled);
        let written = self.write(&again).and_then(|()| self.write(&[(noted.sequence, raw)]));
        written.map_err(Error::space("writing evidence", NAME))?;
        self.newest.store(noted.sequence, Ordering::Release);
        end.head = *blake3::hash(&raw).as_bytes();
        Ok(())
    }

    /// Writes slots into both rings and syncs them.
    fn write(&self, slots: &[(u64, Slot)]) -> io::Result<()> {
        for (sequence, slot) in slots {
            write_all_at::<V>(&self.file, slot, place(*sequence))?;
            write_all_at::<V>(&self.file, slot, SECOND_RING + place(*sequence))?;
        }
        if slots.is_empty() || V::planted(Bug::EvidenceNotSynced) { Ok(()) } else { self.file.sync_data() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::mem::MemVfs;

    const STORE: [u8; 16] = *b"evidence's store";

    fn journal(events: u64) -> (MemVfs, Journal<MemVfs>) {
        let vfs = MemVfs::new();
        let journal = Journal::create(&vfs, &STORE, Epoch(3)).unwrap();
        (1..=events)
            .for_each(|n| journal.note(Event::new(Act::Cut, format!("number {n}"), n..n + 9)).unwrap());
        (vfs, journal)
    }

    fn damaged(vfs: &MemVfs, at: u64) -> Evidence {
        let file = vfs.open(NAME, Access::ReadWrite).unwrap();
        let mut byte = [0];
        read_exact_at(&file, &mut byte, at).unwrap();
        write_all_at::<MemVfs>(&file, &[byte[0] ^ 1], at).unwrap();
        read(vfs, &STORE).unwrap()
    }

    #[test]
    fn events_come_back_in_order_and_the_oldest_gives_way() {
        for events in [0, 1, 5, SLOTS - 1, SLOTS, SLOTS + 1, 3 * SLOTS + 7] {
            let (vfs, _) = journal(events);
            let found = read(&vfs, &STORE).unwrap();
            assert_eq!(found.fault(events), None, "{events}");
            assert_eq!(found.newest(), events);
            assert_eq!(found.events.len() as u64, events.min(SLOTS));
            assert!(found.events.iter().all(|n| n.event.text == format!("number {}", n.sequence)));
        }
    }

    #[test]
    fn any_flipped_bit_leaves_every_event_and_is_noticed() {
        let (vfs, _) = journal(5);
        for bit in 0..4 * slot::LEN as u64 * 8 {
            let copy = MemVfs::from_image(vfs.image());
            let file = copy.open(NAME, Access::ReadWrite).unwrap();
            let mut byte = [0];
            read_exact_at(&file, &mut byte, bit / 8).unwrap();
            write_all_at::<MemVfs>(&file, &[byte[0] ^ 1 << (bit % 8)], bit / 8).unwrap();
            let found = read(&copy, &STORE).unwrap();
            assert_eq!(found.events.len(), 5, "bit {bit}");
            assert_eq!(found.half, [bit / 8 / slot::LEN as u64 + 1], "bit {bit}");
        }
    }

    #[test]
    fn what_is_gone_is_said() {
        let (vfs, _) = journal(5);
        let two = 2 * slot::LEN as u64 + 50;
        damaged(&vfs, two);
        let found = damaged(&vfs, SECOND_RING + two);
        assert_eq!((found.gone.clone(), found.newest()), (vec![3], 5));
        assert!(found.fault(5).is_some_and(|what| what.contains("gone")));
        // An older copy of the whole file is noticed by who knows how far it had come.
        let (older, _) = journal(4);
        let found = read(&older, &STORE).unwrap();
        assert!(found.fault(4).is_none() && found.fault(5).is_some());
        assert!(read(&MemVfs::new(), &STORE).unwrap().missing);
        assert_eq!(read(&older, b"some other store").unwrap().events, []);
    }

    #[test]
    fn it_goes_on_after_a_gap_and_after_a_loss() {
        let (vfs, journal) = journal(3);
        drop(journal);
        let found = read(&vfs, &STORE).unwrap();
        let next = Journal::open(&vfs, &STORE, Epoch(4), &found, 5).unwrap();
        next.note(Event::new(Act::Mended, "after", 0..1)).unwrap();
        next.note(Event::new(Act::Mended, "and on", 0..1)).unwrap();
        let found = read(&vfs, &STORE).unwrap();
        assert_eq!((found.fault(7), found.newest(), found.events.len()), (None, 7, 5));
        vfs.remove(NAME).unwrap();
        let found = read(&vfs, &STORE).unwrap();
        Journal::open(&vfs, &STORE, Epoch(5), &found, 7)
            .unwrap()
            .note(Event::new(Act::Cut, "", 0..0))
            .unwrap();
        let found = read(&vfs, &STORE).unwrap();
        assert_eq!((found.fault(8), found.newest(), found.events.len()), (None, 8, 1));
    }

    #[test]
    fn a_copy_that_was_lost_is_back_with_the_next_event() {
        let (vfs, journal) = journal(4);
        drop(journal);
        let found = damaged(&vfs, slot::LEN as u64 + 9);
        assert_eq!(found.fault(4), Some("a copy of an event, from the other"));
        let next = Journal::open(&vfs, &STORE, Epoch(4), &found, 4).unwrap();
        next.note(Event::new(Act::Mended, NAME, 0..FILE_LEN)).unwrap();
        assert_eq!(read(&vfs, &STORE).unwrap().fault(5), None);
    }
}
