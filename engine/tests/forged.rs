//! Stores whose every checksum holds and that no writer made: records that do not follow from one another, and
//! numbers next to the end of all numbers. What an open takes is consistent and goes on; else it says so.

use seawall::checksum::crc;
use seawall::facts::{SegmentFact, look};
use seawall::frame::{self, Draft, FrameKind};
use seawall::highwater::HighWater;
use seawall::log::Shape;
use seawall::log::held::Shelf;
use seawall::record::{Kind, Name, Record};
use seawall::scan::Checkpoint;
use seawall::segment::{Header, file_name, parse_name};
use seawall::state::{Group, Groups};
use seawall::types::{Epoch, Incarnation, LeaderTag, Position, SegmentId};
use seawall::vfs::mem::MemVfs;
use seawall::vfs::{Access, File, Vfs, write_all_at};
use seawall::{
    CreateOptions, Digest, Driver, Engine, Entry, Error, GroupId, Index, LogId, Lost, Options, SnapshotOwner,
    SnapshotPointer, Store, Vote, evidence, highwater, hostile,
};

const G: GroupId = GroupId(1);
/// The first number that nothing on a disk has, and the first that no store is opened with for writing.
const END: u64 = 1 << 63;
const FULL: u64 = 1 << 62;

fn caller() -> Options {
    Options { driver: Driver::Caller, ..Options::default() }
}

fn created() -> (MemVfs, Shape) {
    let vfs = MemVfs::new();
    let create =
        CreateOptions { segment_bytes: 64 << 10, unit: 512, seed: Some([4; 16]), ..CreateOptions::new(1, 1) };
    let identity = Engine::create_in(&vfs, &create).unwrap();
    (vfs, Shape { identity, unit: 512, size: 64 << 10 })
}

/// A store that was not closed: entries 1 to 5 of term 2, the commit index 2, a vote.
fn left_open() -> (MemVfs, Shape) {
    let (vfs, shape) = created();
    let (engine, _) = Engine::open_in(vfs.clone(), caller()).unwrap();
    engine.create_group(G).unwrap();
    engine.save_vote(G, Vote::new(2, 7, *b"vote")).unwrap();
    for index in 1..=5 {
        engine.append(G, &[Entry::command(index, 2, *b"entry")]).unwrap();
    }
    engine.commit(G, Index(2)).unwrap();
    drop(engine);
    (vfs, shape)
}

fn newest(vfs: &MemVfs, shape: &Shape) -> SegmentFact<MemVfs> {
    let names = vfs.list("").unwrap();
    let name = names.iter().rfind(|name| parse_name(name).is_some()).unwrap();
    look(&Shelf::new(vfs), name, parse_name(name).unwrap(), shape, Position(0)).unwrap()
}

/// A store with a frame of each of these batches above the mark; the position of the first of their records.
fn with_frames(batches: &[Vec<Record>]) -> (MemVfs, Position) {
    let (vfs, shape) = left_open();
    let fact = newest(&vfs, &shape);
    let scan = fact.scan.unwrap();
    let place = scan.header.place();
    let (mut offset, mut position, mut chain) = (scan.offset, scan.position, scan.chain);
    let file = vfs.open(&file_name(fact.id), Access::ReadWrite).unwrap();
    for records in batches {
        let draft = Draft {
            kind: FrameKind::Batch,
            records,
            echo: &[],
            state: &[],
            first: position.next(),
            mark: scan.mark(),
            chain,
            offset,
            twin: false,
            apart: usize::MAX,
        };
        let mut encoded = frame::encode::<MemVfs>(&draft, &place);
        write_all_at::<MemVfs>(&file, &encoded.bytes, u64::from(offset)).unwrap();
        let header = encoded.header;
        if header.twin > 0 {
            encoded.make_twin::<MemVfs>(place.salt::<MemVfs>());
            write_all_at::<MemVfs>(&file, &encoded.bytes, u64::from(offset + header.twin)).unwrap();
        }
        (offset, position, chain) = (offset + header.span(), header.last(), header.chain_after());
    }
    (vfs, scan.position.next())
}

fn record(kind: Kind, index: u64, term: u64, data: &[u8]) -> Record {
    let name = Name {
        kind,
        group: G,
        incarnation: Incarnation(1),
        id: LogId::new(index, term),
        leader: LeaderTag::NONE,
    };
    Record { name, data: data.into() }
}

fn entry(index: u64) -> Record {
    record(Kind::Command, index, 2, b"forged")
}

fn vote(term: u64, rank: u128) -> Record {
    record(Kind::Vote, 0, term, &Record::vote_data(&Vote::new(term, rank, *b"forged")))
}

fn pointer(kind: Kind, index: u64, term: u64, keep_suffix: bool) -> Record {
    let (owner, digest) = (SnapshotOwner::External, Digest([3; 32]));
    let pointer = SnapshotPointer { id: LogId::new(index, term), owner, digest };
    record(kind, index, term, &Record::pointer_data(&pointer, keep_suffix))
}

fn of(change: impl Fn(&mut Name), mut record: Record) -> Record {
    change(&mut record.name);
    record
}

/// What may follow the store of [`left_open`], batch by batch.
fn sound() -> Vec<Vec<Vec<Record>>> {
    let cut = |from| record(Kind::Truncate, from, 2, b"");
    vec![
        vec![vec![entry(6), entry(7)], vec![record(Kind::Commit, 7, 0, b"")]],
        vec![vec![cut(3), entry(3)], vec![cut(3)], vec![entry(3), entry(4)]],
        vec![vec![vote(2, 8)], vec![vote(3, 0)]],
        vec![vec![pointer(Kind::Snapshot, 4, 2, false), record(Kind::Compact, 4, 2, b"")], vec![entry(6)]],
        vec![
            vec![pointer(Kind::Snapshot, 9, 5, false), record(Kind::Compact, 9, 5, b"")],
            vec![record(Kind::Command, 10, 5, b"")],
        ],
        vec![vec![pointer(Kind::Install, 4, 2, true)], vec![entry(6)]],
        vec![vec![pointer(Kind::Install, 4, 3, false)], vec![record(Kind::Command, 5, 3, b"")]],
        vec![vec![pointer(Kind::Install, 90, 3, false)], vec![record(Kind::Command, 91, 3, b"")]],
        vec![vec![record(Kind::RemoveGroup, 0, 0, b"")]],
    ]
}

/// What may not, and which of its records does not follow.
fn unsound() -> Vec<(&'static str, Vec<Vec<Record>>, u64)> {
    let cut = |from| record(Kind::Truncate, from, 2, b"");
    let commit = |index| record(Kind::Commit, index, 0, b"");
    let compact = |upto| record(Kind::Compact, upto, 2, b"");
    let one = |record: Record| vec![vec![record]];
    vec![
        ("a gap", vec![vec![entry(6)], vec![entry(100)]], 1),
        ("a gap in one frame", vec![vec![entry(6), entry(8)]], 1),
        ("a gap at once", one(entry(7)), 0),
        ("a gap after a truncation", vec![vec![cut(3)], vec![entry(6)]], 1),
        ("an entry again", one(entry(5)), 0),
        ("an entry of a lower term", one(of(|name| name.id.term.0 = 1, entry(6))), 0),
        ("an entry of another incarnation", one(of(|name| name.incarnation.0 = 99, entry(6))), 0),
        ("an entry of no group", one(of(|name| name.group.0 = 8, entry(6))), 0),
        ("a truncation above the last", vec![vec![entry(6)], vec![cut(50)]], 1),
        ("a truncation of what is committed", one(cut(2)), 0),
        ("a truncation of what is purged", vec![sound()[3][0].clone(), vec![cut(4)]], 2),
        ("a commit index above the last", one(commit(6)), 0),
        ("a commit index that goes back", one(commit(1)), 0),
        ("a compaction above the last", one(compact(9)), 0),
        ("a compaction that goes back", vec![sound()[3][0].clone(), vec![compact(3)]], 2),
        ("a group again", one(of(|name| name.incarnation.0 = 1, record(Kind::CreateGroup, 0, 0, b""))), 0),
        (
            "a group that claims another birth",
            one(of(|name| name.group.0 = 8, record(Kind::CreateGroup, 0, 0, b""))),
            0,
        ),
        ("a vote that is none", one(record(Kind::Vote, 0, 3, b"short")), 0),
        ("a vote that goes back", one(vote(2, 6)), 0),
        ("a pointer that is none", one(record(Kind::Snapshot, 4, 2, b"short")), 0),
        ("an install that keeps what is not there", one(pointer(Kind::Install, 9, 2, true)), 0),
        ("an install that drops what is committed", one(pointer(Kind::Install, 2, 3, false)), 0),
        (
            "an install below what is purged",
            vec![sound()[3][0].clone(), vec![pointer(Kind::Install, 3, 2, true)]],
            2,
        ),
    ]
}

/// Reads all that a handle has.
fn read_all(engine: &Engine<MemVfs>) {
    for group in engine.groups() {
        let status = engine.group(group).unwrap();
        let entries = engine.read(group, status.first..status.last.index.next(), u64::MAX).unwrap();
        assert_eq!(entries.len() as u64, status.last.index.0 - status.purged.index.0);
    }
}

#[test]
fn records_above_the_mark_that_follow_are_taken() {
    for batches in sound() {
        let (vfs, _) = with_frames(&batches);
        let (engine, report) = Engine::open_in(vfs.clone(), caller()).unwrap();
        assert!(!report.is_alarm(), "{batches:?}: {report}");
        read_all(&engine);
        engine.close().unwrap();
        let (_, report) = Store::open_read_only_in(vfs).unwrap();
        assert!(report.clean && !report.is_alarm(), "{batches:?}: {report}");
    }
}

#[test]
fn records_above_the_mark_that_do_not_follow_are_named() {
    for (what, batches, which) in unsound() {
        let (vfs, first) = with_frames(&batches);
        let position = Position(first.0 + which);
        let named = |lost: &[Lost]| {
            assert!(
                matches!(lost.first(), Some(Lost::Unsound { position: at, .. }) if *at == position),
                "{what}: {lost:?}"
            );
        };
        let before = vfs.image();
        match Engine::open_in(vfs.fork(), caller()) {
            Err(Error::Corrupt { report }) => named(&report.lost),
            Err(e) => panic!("{what}: {e}"),
            Ok((engine, report)) => {
                println!("{what}: {report}");
                read_all(&engine);
                panic!("{what} was taken");
            }
        }
        let (store, report) = Store::open_read_only_in(vfs.clone()).unwrap();
        named(&report.lost);
        drop(store.verify().unwrap());
        assert!(store.records().unwrap().all(|record| record.is_ok()));
        assert_eq!(vfs.image(), before);
    }
}

/// A mark within a frame, which no writer gives: the frame is below it, whole.
#[test]
fn a_mark_within_a_frame_covers_all_of_it() {
    let (vfs, first) = with_frames(&[vec![entry(6), entry(7), entry(8)], vec![entry(9)]]);
    let (store, segment) = (Store::open_read_only_in(vfs.clone()).unwrap().0.identity().store, SegmentId(2));
    let high = HighWater { epoch: Epoch(2), segment, position: first.next(), evidence: 1 };
    let file = vfs.open(highwater::NAME, Access::ReadWrite).unwrap();
    write_all_at::<MemVfs>(&file, &high.encode(&store), 0).unwrap();
    for _ in 0..2 {
        let (engine, report) = Engine::open_in(vfs.clone(), caller()).unwrap();
        assert!(!report.is_alarm(), "{report}");
        assert_eq!(engine.group(G).unwrap().last.index, Index(9));
        read_all(&engine);
    }
}

/// Where a number stands.
#[derive(Clone, Copy, Debug)]
enum At {
    Segment,
    Epoch,
    Position,
    Event,
}

/// A store that came so far. Of its own files all but the segments are there.
fn come_to(at: At, number: u64) -> MemVfs {
    let (vfs, shape) = created();
    vfs.remove(&file_name(SegmentId(1))).unwrap();
    let (mut segment, mut epoch, mut cut) = (SegmentId(1), Epoch(1), Position(9));
    match at {
        At::Segment => segment = SegmentId(number),
        At::Epoch => epoch = Epoch(number),
        At::Position => cut = Position(number),
        At::Event => {
            let file = vfs.open(evidence::NAME, Access::ReadWrite).unwrap();
            let mut raw = [0; evidence::slot::LEN];
            file.read_at(&mut raw, 0).unwrap();
            raw[evidence::slot::SEQUENCE].copy_from_slice(&number.to_le_bytes());
            let sum = crc(0, &raw[..evidence::slot::CRC.start]);
            raw[evidence::slot::CRC].copy_from_slice(&sum.to_le_bytes());
            let place = number.wrapping_sub(1) % evidence::SLOTS * evidence::slot::LEN as u64;
            write_all_at::<MemVfs>(&file, &raw, place).unwrap();
            write_all_at::<MemVfs>(&file, &raw, evidence::SECOND_RING + place).unwrap();
        }
    }
    let high = HighWater { epoch, segment, position: cut, evidence: 1 };
    let file = vfs.open(highwater::NAME, Access::ReadWrite).unwrap();
    for slot in [0, highwater::SECOND_SLOT] {
        write_all_at::<MemVfs>(&file, &high.encode(&shape.identity.store), slot).unwrap();
    }
    vfs.create(&file_name(segment)).unwrap().set_len(shape.size).unwrap();
    let header = Header {
        identity: shape.identity,
        size: shape.size,
        segment,
        epoch,
        previous: SegmentId(0),
        cut,
        chain: 5,
        recovered_to: cut,
        unit: shape.unit,
    };
    let groups = Groups::from([(G, Group::new(Incarnation(1)))]);
    let state = Checkpoint::encode(header.previous, cut, &groups);
    let draft = Draft {
        kind: FrameKind::Checkpoint,
        records: &[],
        echo: &[],
        state: &state,
        first: Position(cut.0.saturating_add(1)),
        mark: cut,
        chain: header.chain,
        offset: header.unit,
        twin: true,
        apart: usize::MAX,
    };
    let place = header.place();
    let mut encoded = frame::encode::<MemVfs>(&draft, &place);
    let file = vfs.open(&file_name(segment), Access::ReadWrite).unwrap();
    write_all_at::<MemVfs>(&file, &header.encode(), 0).unwrap();
    write_all_at::<MemVfs>(&file, &encoded.bytes, u64::from(header.unit)).unwrap();
    encoded.make_twin::<MemVfs>(place.salt::<MemVfs>());
    write_all_at::<MemVfs>(&file, &encoded.bytes, u64::from(header.unit + encoded.header.twin)).unwrap();
    vfs
}

#[test]
fn a_store_next_to_the_end_of_numbers_is_looked_at_and_not_written() {
    for at in [At::Segment, At::Epoch, At::Position, At::Event] {
        let (engine, _) = Engine::open_in(come_to(at, FULL - 1), caller()).unwrap();
        for index in 1..100 {
            engine.append(G, &[Entry::command(index, 1, vec![1; 3000])]).unwrap();
        }
        read_all(&engine);
        engine.close().unwrap();
        for number in [FULL, FULL + 1, END - 2, END - 1] {
            let vfs = come_to(at, number);
            let before = vfs.image();
            let refused = Engine::open_in(vfs.clone(), caller()).err();
            assert!(
                matches!(refused, Some(Error::NumbersSpent { found, .. }) if found == number),
                "{at:?} {number}: {refused:?}"
            );
            assert_eq!(vfs.image(), before);
            let (store, report) = Store::open_read_only_in(vfs).unwrap();
            assert!(report.lost.is_empty(), "{at:?} {number}: {report}");
            assert_eq!(store.group(G).unwrap().last.index, Index(0));
        }
    }
}

#[test]
fn no_number_on_a_disk_is_at_the_end() {
    for at in [At::Segment, At::Epoch, At::Position, At::Event] {
        for number in [END, END + 1, u64::MAX - 2, u64::MAX - 1, u64::MAX] {
            let vfs = come_to(at, number);
            let writable = Engine::open_in(vfs.fork(), caller());
            match at {
                // A slot that holds no event.
                At::Event => assert!(writable.is_ok(), "{at:?} {number}"),
                _ => assert!(writable.is_err(), "{at:?} {number}"),
            }
            let files = vfs.image();
            let files: Vec<_> = files.files.iter().map(|(name, f)| (name.as_str(), f.to_bytes())).collect();
            let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
            hostile::open_directory(&files);
        }
    }
}

/// The last index of all, and what follows it.
#[test]
fn an_index_at_the_end_is_the_last() {
    let last = Index::LAST.0;
    let above = |index| vec![vec![pointer(Kind::Install, index, 3, false)]];
    let (vfs, _) = with_frames(&above(last));
    let (engine, report) = Engine::open_in(vfs, caller()).unwrap();
    assert!(!report.is_alarm(), "{report}");
    let refused = engine.append(G, &[Entry::command(last + 1, 3, *b"")]);
    assert!(matches!(refused, Err(Error::OutOfRange { .. })), "{refused:?}");
    assert!(engine.read(G, Index::LAST..Index(u64::MAX), 1).is_err());
    assert_eq!(engine.read_present(G, Index(0)..Index(u64::MAX), 1).unwrap(), []);
    drop(engine);
    for index in [last + 1, u64::MAX - 1, u64::MAX] {
        // The frame's directory is none, so the log ends before it.
        let (vfs, first) = with_frames(&above(index));
        let (engine, report) = Engine::open_in(vfs, caller()).unwrap();
        assert_eq!(report.position, Position(first.0 - 1));
        assert_eq!(engine.group(G).unwrap().last, LogId::new(5, 2));
        read_all(&engine);
    }
}
