//! Acknowledged bytes that rot: what open says, what the group may still do, and how a peer heals it.

use std::io::Write;

use seawall::vfs::mem::{Image, MemVfs};
use seawall::{
    CreateOptions, Driver, Engine, Entry, Error, GroupId, Index, LogId, Lost, Options, Outcome, Proof,
    RecoveryPolicy, Store, Term, Vote, WriteBatch,
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
