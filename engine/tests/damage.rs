//! Acknowledged bytes that rot: what open says, what the group may still do, and how a peer heals it.

use std::io::Write;

use seawall::vfs::mem::{Image, MemVfs};
use seawall::{
    Act, CreateOptions, Driver, Engine, Entry, Error, GroupId, Index, LogId, Lost, Options, Outcome, Proof,
    RecoveryPolicy, Store, Term, Vote, WriteBatch, checksum, frame, segment,
};

const G: GroupId = GroupId(1);
const OTHER: GroupId = GroupId(2);

fn options() -> Options {
    Options { driver: Driver::Caller, chunk_bytes: 512, ..Options::default() }
}

fn entry(index: u64) -> Entry {
    Entry::command(index, 1, format!("the bytes of entry {index}").into_bytes())
}

/// Two groups of five entries each, every one in a batch of its own.
fn store() -> (MemVfs, Engine<MemVfs>) {
    let vfs = MemVfs::new();
    let create =
        CreateOptions { segment_bytes: 32 << 10, unit: 512, seed: Some([5; 16]), ..CreateOptions::new(1, 1) };
    Engine::create_in(&vfs, &create).unwrap();
    let (engine, _) = Engine::open_in(vfs.clone(), options()).unwrap();
    for group in [G, OTHER] {
        engine.create_group(group).unwrap();
        (1..=5).for_each(|i| engine.append(group, &[entry(i)]).unwrap());
    }
    (vfs, engine)
}

/// Flips a bit of the first copy of some bytes, wherever they stand.
fn rot(image: &mut Image, bytes: &[u8]) {
    let names: Vec<String> = image.files.keys().cloned().collect();
    for name in names {
        let mut content = image.read(&name).unwrap();
        if let Some(at) = content.windows(bytes.len()).position(|w| w == bytes) {
            content[at + 3] ^= 4;
            image.put(&name, &content);
            return;
        }
    }
    panic!("the bytes are nowhere");
}

fn open(image: &Image) -> (MemVfs, Engine<MemVfs>, Vec<Lost>) {
    let vfs = MemVfs::from_image(image.clone());
    let (engine, report) = Engine::open_in(vfs.clone(), options()).unwrap();
    assert_eq!(report.lost, engine.lost());
    (vfs, engine, report.lost)
}

fn lost(from: u64, to: u64) -> Lost {
    Lost::Entries { group: G, from: Index(from), to: Index(to), term: Some(Term(1)) }
}

/// A store left open, with entries 2 and 3 of the first group rotten.
fn rotten() -> Image {
    let (vfs, engine) = store();
    drop(engine);
    let mut image = vfs.image();
    rot(&mut image, &entry(2).data);
    rot(&mut image, &entry(3).data);
    image
}

/// The newest segment of a store that was left open, changed.
fn changed_start(change: impl Fn(&mut Vec<u8>)) -> Image {
    let (vfs, engine) = store();
    drop(engine);
    let mut image = vfs.image();
    let name = image.files.keys().rfind(|name| name.ends_with(".seg")).unwrap().clone();
    let mut content = image.read(&name).unwrap();
    change(&mut content);
    image.put(&name, &content);
    image
}

fn assert_whole(image: &Image) {
    let (store, report) = Store::open_read_only_in(MemVfs::from_image(image.clone())).unwrap();
    assert_eq!(report.lost, []);
    assert!(report.repaired.iter().any(|r| r.what == "the header, from the checkpoint"), "{report}");
    assert_eq!(store.read(G, Index(1)..Index(6), u64::MAX).unwrap().len(), 5);
    assert_eq!(open(image).2, []);
}

#[test]
fn a_header_that_cuts_the_store_otherwise_is_damage() {
    assert_whole(&changed_start(|bytes| {
        bytes[segment::header::UNIT].fill(0);
        let sum = checksum::crc(0, &bytes[..segment::header::CRC.start]);
        bytes[segment::header::CRC].copy_from_slice(&sum.to_le_bytes());
    }));
}

#[test]
fn an_epoch_without_a_checksum_is_not_believed() {
    assert_whole(&changed_start(|bytes| {
        bytes[..512].fill(0xff);
        bytes[512 + frame::field::EPOCH.start] ^= 1;
    }));
}

#[test]
fn rotten_entries_are_named_and_block_their_group_alone() {
    let (_, engine, named) = open(&rotten());
    assert_eq!(named, [lost(2, 3)]);
    assert_eq!(engine.group(G).unwrap().lost, named);
    assert!(matches!(engine.read(G, Index(2)..Index(3), 1), Err(Error::Damaged { .. })));
    assert_eq!(engine.read(G, Index(4)..Index(6), u64::MAX).unwrap(), [entry(4), entry(5)]);
    assert!(matches!(engine.save_vote(G, Vote::new(2, 0, *b"v")), Err(Error::Blocked { group: G, .. })));
    assert!(matches!(engine.append(G, &[entry(6)]), Err(Error::Blocked { .. })));
    engine.commit(G, Index(1)).unwrap();
    engine.save_vote(OTHER, Vote::new(2, 0, *b"v")).unwrap();
    engine.append(OTHER, &[entry(6)]).unwrap();
}

#[test]
fn a_peer_gives_the_bytes_back_and_no_others() {
    let image = rotten();
    let (vfs, engine, _) = open(&image);
    let refused = |entry: &Entry| matches!(engine.repair(G, entry), Err(Error::RepairMismatch { .. }));
    assert!(refused(&Entry::command(2, 1, *b"not what was acknowledged")));
    assert!(refused(&Entry::command(2, 9, entry(2).data.to_vec())), "another term");
    assert!(matches!(engine.repair(G, &entry(9)), Err(Error::PastEnd { .. })));
    assert!(!engine.repair(G, &entry(4)).unwrap(), "its bytes hold");
    assert!(engine.repair(G, &entry(2)).unwrap());
    assert_eq!(engine.lost(), [lost(3, 3)]);
    assert_eq!(engine.read(G, Index(1)..Index(3), u64::MAX).unwrap(), [entry(1), entry(2)]);
    drop(engine);

    // What is not repaired yet is still known after a restart.
    let (vfs, engine, named) = open(&vfs.image());
    assert_eq!(named, [lost(3, 3)]);
    assert_eq!(engine.repair_range(G, &[entry(2), entry(3)]).unwrap(), 1);
    engine.save_vote(G, Vote::new(2, 0, *b"v")).unwrap();
    engine.append(G, &[entry(6)]).unwrap();
    let kept = vfs.image().files.keys().filter(|n| n.starts_with("quarantine/")).count();
    assert_eq!(kept, 2, "the damaged bytes were set aside");
    drop(engine);
    let (_, engine, named) = open(&vfs.image());
    assert_eq!(named, []);
    assert_eq!(engine.read(G, Index(1)..Index(7), u64::MAX).unwrap(), (1..=6).map(entry).collect::<Vec<_>>());
}

#[test]
fn a_crash_inside_a_repair_leaves_the_old_file_or_the_new() {
    let vfs = MemVfs::from_image(rotten());
    let (engine, _) = Engine::open_in(vfs.clone(), options()).unwrap();
    for calls in 0.. {
        let seen = std::sync::atomic::AtomicU64::new(0);
        let dies = move |_: &seawall::vfs::mem::Call| {
            let dead = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= calls;
            dead.then_some(seawall::vfs::mem::Fault::Errno(5))
        };
        let (copy, engine, _) = open(&vfs.image());
        copy.set_faults(Some(std::sync::Arc::new(dies)));
        let done = engine.repair(G, &entry(2));
        copy.set_faults(None);
        drop(engine);
        let (after, engine, named) = open(&copy.image());
        assert!(named == [lost(2, 3)] || named == [lost(3, 3)], "after {calls} calls: {named:?}");
        assert!(!after.image().files.contains_key("repair.new"));
        engine.repair_range(G, &[entry(2), entry(3)]).unwrap();
        assert_eq!(engine.lost(), []);
        if done.is_ok() {
            assert!(calls > 8, "a repair takes more than {calls} calls");
            break;
        }
    }
    drop(engine);
}

#[test]
fn rot_in_a_sealed_segment_is_found_by_reading_and_repaired() {
    let (vfs, engine) = store();
    engine.close().unwrap();
    let mut image = vfs.image();
    rot(&mut image, &entry(2).data);
    let (vfs, engine, named) = open(&image);
    assert_eq!(named, [], "sealed segments are not read at open");
    assert!(matches!(engine.read(G, Index(1)..Index(4), u64::MAX), Err(Error::Damaged { .. })));
    assert!(engine.repair(G, &entry(2)).unwrap());
    assert_eq!(engine.read(G, Index(1)..Index(4), u64::MAX).unwrap(), [entry(1), entry(2), entry(3)]);
    drop(engine);
    assert_eq!(open(&vfs.image()).2, []);
}

#[test]
fn a_scrub_finds_what_rotted_and_goes_on_where_it_ended() {
    let (vfs, engine) = store();
    engine.close().unwrap();
    let mut image = vfs.image();
    rot(&mut image, &entry(2).data);
    let (_, engine, _) = open(&image);
    let (mut entries, mut found) = (0, Vec::new());
    let mut calls = 0;
    loop {
        let scrubbed = engine.scrub(30).unwrap();
        entries += scrubbed.entries;
        found.extend(scrubbed.lost);
        calls += 1;
        if scrubbed.wrapped {
            break;
        }
    }
    assert_eq!((entries, found), (10, vec![lost(2, 2)]));
    assert!(calls > 4, "30 bytes are about two entries");
    assert_eq!(engine.lost(), [lost(2, 2)]);
    assert!(matches!(engine.append(G, &[entry(6)]), Err(Error::Blocked { .. })));
    assert_eq!(engine.scrub(u64::MAX).unwrap().lost, [], "it is known");
    assert!(engine.repair(G, &entry(2)).unwrap());
    engine.append(G, &[entry(6)]).unwrap();
}

#[test]
fn a_damaged_chunk_is_named_with_its_bytes() {
    let (vfs, engine) = store();
    let mut writer = engine.snapshot_writer(G, LogId::new(3, 1), b"members").unwrap();
    writer.write_all(&[7; 300]).unwrap();
    writer.publish().unwrap();
    engine.close().unwrap();
    let mut image = vfs.image();
    let chunk = image.files.keys().find(|n| n.ends_with(".chunk")).unwrap().clone();
    let mut bytes = image.read(&chunk).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    image.put(&chunk, &bytes);
    let (store, _) = Store::open_read_only_in(MemVfs::from_image(image)).unwrap();
    let damage = store.verify().unwrap().damage;
    assert!(
        damage.iter().any(|d| d.file == chunk && (d.from, d.to) == (0, bytes.len() as u64)),
        "{damage:?}"
    );
}

#[test]
fn a_read_only_look_marks_what_is_damaged() {
    let (store, report) = Store::open_read_only_in(MemVfs::from_image(rotten())).unwrap();
    assert_eq!(report.lost, [lost(2, 3)]);
    let records: Vec<_> = store.records().unwrap().map(Result::unwrap).collect();
    let damaged: Vec<u64> =
        records.iter().filter(|r| r.state == Proof::Damaged).map(|r| r.id.index.0).collect();
    assert_eq!(damaged, [2, 3]);
    let damage = store.verify().unwrap().damage;
    assert_eq!(damage.len(), 2, "{damage:?}");
    assert!(damage.iter().all(|d| d.to - d.from == entry(2).data.len() as u64), "{damage:?}");
}

#[test]
fn the_strict_policy_refuses() {
    let strict = Options { recovery: RecoveryPolicy::Refuse, ..options() };
    let refused = Engine::open_in(MemVfs::from_image(rotten()), strict).map(|_| ()).unwrap_err();
    let Error::Corrupt { report } = refused else { panic!("{refused}") };
    assert_eq!(report.lost, [lost(2, 3)]);
}

#[test]
fn what_is_truncated_or_covered_is_no_loss_any_more() {
    let (_, engine, _) = open(&rotten());
    let mut batch = WriteBatch::new();
    batch.truncate_suffix(G, Index(3)).append(G, entry(3));
    assert!(matches!(engine.write(batch), Err(Error::Blocked { .. })), "entry 2 is still lost");
    let mut batch = WriteBatch::new();
    batch.truncate_suffix(G, Index(2)).append(G, entry(2));
    assert_eq!(engine.write(batch).unwrap().wait(), Outcome::Durable);
    assert_eq!(engine.lost(), []);

    let (_, engine, _) = open(&rotten());
    engine.record_external_snapshot(G, LogId::new(3, 1), seawall::Digest([1; 32])).unwrap();
    engine.compact_prefix(G, Index(3)).unwrap();
    engine.save_vote(G, Vote::new(2, 0, *b"v")).unwrap();
}

#[test]
fn a_missing_chunk_blocks_its_group_until_a_snapshot_is_installed() {
    let (vfs, engine) = store();
    let mut writer = engine.snapshot_writer(G, LogId::new(3, 1), b"members").unwrap();
    writer.write_all(&[7; 2000]).unwrap();
    writer.publish().unwrap();
    engine.compact_prefix(G, Index(3)).unwrap();
    drop(engine);
    let mut image = vfs.image();
    let chunk = image.files.keys().find(|n| n.ends_with(".chunk")).unwrap().clone();
    image.files.remove(&chunk);
    let (vfs, engine, named) = open(&image);
    assert_eq!(named, [Lost::SnapshotPointer { group: G, index: Index(3) }]);
    assert!(matches!(engine.save_vote(G, Vote::new(2, 0, *b"v")), Err(Error::Blocked { .. })));
    let mut writer = engine.snapshot_writer(G, LogId::new(4, 1), b"members").unwrap();
    writer.write_all(&[8; 2000]).unwrap();
    writer.install().unwrap();
    engine.save_vote(G, Vote::new(2, 0, *b"v")).unwrap();
    drop(engine);
    let (_, engine, named) = open(&vfs.image());
    assert_eq!((named, engine.group(G).unwrap().first), (vec![], Index(5)));
}

fn acts(vfs: &MemVfs) -> Vec<Act> {
    let evidence = Store::evidence_in(vfs).unwrap();
    assert_eq!(evidence.fault(0), None);
    evidence.events.into_iter().map(|noted| noted.event.act).collect()
}

#[test]
fn what_is_done_to_stored_bytes_is_in_evidence() {
    let (vfs, engine, _) = open(&rotten());
    assert_eq!(acts(&vfs), [Act::Created]);
    engine.repair(G, &entry(2)).unwrap();
    assert_eq!(acts(&vfs), [Act::Created, Act::Restored]);
    let event = Store::evidence_in(&vfs).unwrap().events.pop().unwrap().event;
    assert_eq!((event.group, event.index), (G, Index(2)));
    drop(engine);

    // A copy of the identity rots: mended, set aside, and written down once.
    let mut image = vfs.image();
    rot(&mut image, b"SEAWALL\0");
    let vfs = MemVfs::from_image(image);
    let (engine, report) = Engine::open_in(vfs.clone(), options()).unwrap();
    assert!(report.is_alarm() && report.quarantined.len() == 1, "{report}");
    assert_eq!(acts(&vfs), [Act::Created, Act::Restored, Act::Mended]);
    drop(engine);
    drop(Engine::open_in(vfs.clone(), options()).unwrap());
    assert_eq!(acts(&vfs), [Act::Created, Act::Restored, Act::Mended]);
}

#[test]
fn a_scrub_writes_down_what_it_finds() {
    let (vfs, engine) = store();
    engine.close().unwrap();
    let mut image = vfs.image();
    rot(&mut image, &entry(3).data);
    let (vfs, engine, named) = open(&image);
    assert_eq!(named, [], "a sealed segment's entries are not read at open");
    assert_eq!(engine.scrub(u64::MAX).unwrap().lost, [lost(3, 3)]);
    assert_eq!(acts(&vfs), [Act::Created, Act::Found]);
    engine.scrub(u64::MAX).unwrap();
    assert_eq!(acts(&vfs), [Act::Created, Act::Found], "what is known is not written down again");
}

#[test]
fn lost_evidence_is_said_once_and_the_chain_begins_anew() {
    let (vfs, engine) = store();
    engine.close().unwrap();
    let mut image = vfs.image();
    image.files.remove(seawall::evidence::NAME);
    let vfs = MemVfs::from_image(image);
    let (engine, report) = Engine::open_in(vfs.clone(), options()).unwrap();
    assert!(report.is_alarm() && report.lost.is_empty(), "{report}");
    assert_eq!(acts(&vfs), [Act::Mended]);
    drop(engine);
    let (_, report) = Engine::open_in(vfs, options()).unwrap();
    assert!(!report.is_alarm(), "{report}");
}

#[test]
fn memberships_are_told_by_a_store_that_refuses() {
    let (vfs, engine) = store();
    let member =
        |index, data: &[u8]| Entry { kind: seawall::EntryKind::Membership, ..Entry::command(index, 1, data) };
    engine.append(G, &[member(6, b"a b c"), member(7, b"a b d")]).unwrap();
    let mut writer = engine.snapshot_writer(G, LogId::new(6, 1), b"a b c").unwrap();
    writer.write_all(b"content").unwrap();
    writer.publish().unwrap();
    drop(engine);
    let told = |vfs: &MemVfs| -> Vec<(u64, Vec<u8>)> {
        let all = Store::memberships_in(vfs).unwrap();
        all.into_iter().map(|m| (m.id.index.0, m.data)).collect()
    };
    let all = [(6, b"a b c".to_vec()), (6, b"a b c".to_vec()), (7, b"a b d".to_vec())];
    assert_eq!(told(&vfs), all);
    let mut image = vfs.image();
    image.files.remove("HIGHWATER");
    image.dirs.remove("snapshots");
    let snapshots: Vec<String> =
        image.files.keys().filter(|n| n.starts_with("snapshots/")).cloned().collect();
    snapshots.iter().for_each(|n| drop(image.files.remove(n)));
    let vfs = MemVfs::from_image(image);
    assert!(matches!(Engine::open_in(vfs.clone(), options()), Err(Error::Corrupt { .. })));
    assert_eq!(told(&vfs), all[1..]);
}

/// The last entry of a group rots in a store that was left open.
fn last_entry_rots(vfs: &MemVfs) -> (Vec<Lost>, Option<seawall::MaybeAcked>) {
    let mut image = vfs.image();
    rot(&mut image, &entry(5).data);
    let (_, report) = Engine::open_in(MemVfs::from_image(image), options()).unwrap();
    (report.lost, report.maybe_acked)
}

/// The first group's five entries alone.
fn one_group(options: Options) -> (MemVfs, Engine<MemVfs>) {
    let (vfs, engine) = store();
    engine.remove_group(G).unwrap();
    engine.remove_group(OTHER).unwrap();
    engine.close().unwrap();
    let (engine, _) = Engine::open_in(vfs.clone(), options).unwrap();
    engine.create_group(G).unwrap();
    (1..=5).for_each(|i| engine.append(G, &[entry(i)]).unwrap());
    (vfs, engine)
}

#[test]
fn an_idle_store_leaves_nothing_in_doubt() {
    // Nothing proves that the last entry was acknowledged: it goes, and the report says that it may.
    let (vfs, _engine) = one_group(options());
    let (named, maybe) = last_entry_rots(&vfs);
    let maybe = maybe.unwrap();
    assert!(named.is_empty() && maybe.above < maybe.observed, "{maybe:?}");

    // Marked, it is named, and nothing is in doubt.
    let (vfs, engine) = one_group(options());
    engine.maintain().unwrap();
    let (named, maybe) = last_entry_rots(&vfs);
    let maybe = maybe.unwrap();
    assert_eq!((named, maybe.above), (vec![lost(5, 5)], maybe.observed));
}

#[test]
fn the_driver_marks_when_nothing_happens() {
    let idle = Some(std::time::Duration::from_millis(1));
    let options = Options { driver: Driver::Threads, mark_when_idle: idle, ..options() };
    let (vfs, engine) = one_group(options);
    let position = engine.status().durable;
    let store = engine.identity().store;
    let reached = || seawall::highwater::read(&vfs, &store).unwrap().unwrap().position >= position;
    let waited = (0..2000).find(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        reached()
    });
    assert!(waited.is_some(), "nothing was marked");
}

/// A store with an owned snapshot of the first group in three chunks.
fn with_snapshot() -> (MemVfs, Engine<MemVfs>) {
    let (vfs, engine) = store();
    let mut writer = engine.snapshot_writer(G, LogId::new(4, 1), b"a b c").unwrap();
    let content: Vec<u8> = (0..1300_u32).map(|n| n.to_le_bytes()[n as usize % 2]).collect();
    writer.write_all(&content).unwrap();
    writer.publish().unwrap();
    (vfs, engine)
}

#[test]
fn a_snapshot_is_healed_chunk_by_chunk() {
    let (peer, peers) = with_snapshot();
    let whole = peers.snapshot_reader(G).unwrap();
    assert_eq!(whole.chunks().len(), 3);
    let mut image = peer.image();
    let chunks: Vec<String> = image.files.keys().filter(|n| n.ends_with(".chunk")).cloned().collect();
    image.files.remove(&chunks[0]);
    let mut bytes = image.read(&chunks[1]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    image.put(&chunks[1], &bytes);

    let (vfs, engine, named) = open(&image);
    assert!(matches!(named[..], [Lost::SnapshotPointer { group: G, .. }]), "{named:?}");
    assert!(matches!(engine.save_vote(G, Vote::new(2, 0, *b"v")), Err(Error::Blocked { .. })));
    let refused = engine.repair_chunk(G, b"not a chunk");
    assert!(matches!(refused, Err(Error::RepairMismatch { .. })), "{refused:?}");
    let damaged = engine.snapshot_reader(G).unwrap().damaged_chunks();
    assert_eq!(damaged.len(), 2);
    for (part, _) in &damaged {
        let raw = whole.read_chunk(part).unwrap();
        assert!(engine.repair_chunk(G, &raw).unwrap());
        assert!(!engine.repair_chunk(G, &raw).unwrap(), "it holds already");
    }
    assert_eq!(engine.lost(), []);
    engine.save_vote(G, Vote::new(2, 0, *b"v")).unwrap();
    assert_eq!(acts(&vfs), [Act::Created, Act::RestoredChunk, Act::RestoredChunk]);
    let kept = vfs.image().files.keys().filter(|n| n.starts_with("quarantine/")).count();
    assert_eq!(kept, 1, "the one that was there is set aside");
    drop(engine);
    let (_, engine, named) = open(&vfs.image());
    assert_eq!(named, []);
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut engine.snapshot_reader(G).unwrap(), &mut content).unwrap();
    assert_eq!(content.len(), 1300);
}

/// Any byte of the trailer of a segment that a rotation sealed is named by a verification, and made good by an open.
#[test]
fn a_rotten_trailer_is_named_and_made_good() {
    let (vfs, engine) = store();
    let first = engine.status().segments;
    let mut index = 5;
    while engine.status().segments == first {
        index += 1;
        engine.append(G, &[Entry::command(index, 1, vec![9; 3_000])]).unwrap();
    }
    drop(engine);
    let image = vfs.image();
    let name = format!("{:016x}.seg", 2);
    let whole = image.read(&name).unwrap();
    for at in whole.len() - segment::trailer::LEN..whole.len() {
        let (mut image, mut bytes) = (image.clone(), whole.clone());
        bytes[at] ^= 16;
        image.put(&name, &bytes);
        let vfs = MemVfs::from_image(image);
        let (looking, _) = Store::open_read_only_in(vfs.clone()).unwrap();
        let damage = looking.verify().unwrap().damage;
        assert!(damage.iter().any(|d| d.file == name && d.what.contains("the footer")), "{at}: {damage:?}");
        let (engine, report) = Engine::open_in(vfs.clone(), options()).unwrap();
        assert!(report.lost.is_empty() && report.repaired.iter().any(|r| r.file == name), "{at}: {report:?}");
        assert_eq!(report.quarantined.len(), 1, "{report:?}");
        assert_eq!(engine.read(G, Index(1)..Index(index), u64::MAX).unwrap().len() as u64, index - 1);
        drop(engine);
        let (looking, report) = Store::open_read_only_in(vfs).unwrap();
        assert_eq!(looking.verify().unwrap().damage, [], "{at}");
        assert!(!report.is_alarm(), "{at}: {report:?}");
    }
}

/// A process that died in a rotation did not close the store.
#[test]
fn a_store_that_a_rotation_left_is_not_closed() {
    let (vfs, engine) = store();
    drop(engine);
    // The active segment's end as a rotation seals it, without a successor's start.
    let (engine, _) = Engine::open_in(vfs.clone(), options()).unwrap();
    vfs.set_faults(Some(std::sync::Arc::new(|call| {
        let starts = call.kind == seawall::vfs::mem::CallKind::Write && call.path.ends_with("4.seg");
        starts.then_some(seawall::vfs::mem::Fault::Errno(5))
    })));
    let mut index = 5;
    while engine.status().poison.is_none() {
        index += 1;
        drop(engine.append(G, &[Entry::command(index, 1, vec![9; 3_000])]));
        assert!(index < 60, "no rotation");
    }
    drop(engine);
    vfs.set_faults(None);
    let (_, report) = Store::open_read_only_in(vfs.clone()).unwrap();
    assert!(report.clean && report.tail == seawall::report::Tail::Ended, "{report:?}");
    let (engine, report) = Engine::open_in(vfs.clone(), options()).unwrap();
    assert!(!report.is_alarm(), "{report:?}");
    engine.close().unwrap();
    assert_eq!(Store::open_read_only_in(vfs).unwrap().1.tail, seawall::report::Tail::Sealed);
}

/// On a full disk a repair that must keep damaged bytes is put off, as often as it is tried, and takes nothing.
#[test]
fn an_open_that_finds_no_room_for_a_repair_leaves_the_reserve() {
    let (vfs, engine) = store();
    for index in 6..=60 {
        engine.append(G, &[Entry::command(index, 1, vec![9; 3_000])]).unwrap();
    }
    engine.close().unwrap();
    let mut image = vfs.image();
    let name = format!("{:016x}.seg", 2);
    let whole = image.read(&name).unwrap();
    let mut rotten = whole.clone();
    rotten[40] ^= 1;
    image.put(&name, &rotten);
    let vfs = MemVfs::from_image(image);
    let many = 1 << 30;
    vfs.set_capacity(Some(many));
    let used = many - seawall::vfs::Vfs::available_space(&vfs).unwrap() / 512;
    vfs.set_capacity(Some(used));
    let before: Vec<_> = vfs.image().files.keys().cloned().collect();
    for _ in 0..10 {
        let refused = Engine::open_in(vfs.clone(), options()).map(drop);
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        assert_eq!(vfs.image().files.keys().cloned().collect::<Vec<_>>(), before);
    }
    // Mended, it opens on the full disk; so it does, mending it, on one with room.
    let mut mended = vfs.image();
    mended.put(&name, &whole);
    let full = MemVfs::from_image(mended);
    full.set_capacity(Some(used));
    let (engine, report) = Engine::open_in(full, options()).unwrap();
    assert!(!report.is_alarm(), "{report:?}");
    engine.save_vote(G, Vote::new(9, 0, *b"me")).unwrap();
    drop(engine);
    vfs.set_capacity(None);
    let (engine, report) = Engine::open_in(vfs, options()).unwrap();
    assert_eq!((report.repaired.len(), report.quarantined.len()), (1, 1), "{report:?}");
    assert_eq!(engine.read(G, Index(1)..Index(61), u64::MAX).unwrap().len(), 60);
}
