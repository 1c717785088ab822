//! The engine through its public face, on the simulated disk and on a real one.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use seawall::vfs::mem::{CallKind, MemVfs, Op};
use seawall::vfs::{File, Vfs};
use seawall::{
    CreateOptions, Digest, Driver, Engine, Entry, Error, GroupId, Index, LogId, Options, Outcome, Store,
    Vote, Witness, WriteBatch,
};

const G: GroupId = GroupId(1);

fn small() -> CreateOptions {
    CreateOptions { segment_bytes: 16 << 10, unit: 512, seed: Some([9; 16]), ..CreateOptions::new(1, 1) }
}

fn caller() -> Options {
    Options { driver: Driver::Caller, chunk_bytes: 512, ..Options::default() }
}

fn fresh() -> (MemVfs, Engine<MemVfs>) {
    let vfs = MemVfs::new();
    Engine::create_in(&vfs, &small()).unwrap();
    let (engine, report) = Engine::open_in(vfs.clone(), caller()).unwrap();
    assert!(report.clean && !report.is_alarm(), "{report:?}");
    engine.create_group(G).unwrap();
    (vfs, engine)
}

fn reopen(vfs: &MemVfs, engine: Engine<MemVfs>) -> Engine<MemVfs> {
    drop(engine);
    let (engine, report) = Engine::open_in(vfs.clone(), caller()).unwrap();
    assert!(!report.is_alarm(), "{report:?}");
    engine
}

fn entry(index: u64, term: u64) -> Entry {
    Entry::command(index, term, format!("entry {index} of term {term}").into_bytes())
}

fn texts(engine: &Engine<MemVfs>) -> Vec<String> {
    let status = engine.group(G).unwrap();
    let entries = engine.read(G, status.first..status.last.index.next(), u64::MAX).unwrap();
    entries.iter().map(|e| String::from_utf8(e.data.to_vec()).unwrap()).collect()
}

#[test]
fn what_was_acknowledged_is_there_after_reopen() {
    let (vfs, engine) = fresh();
    engine.append(G, &[entry(1, 1), entry(2, 1), entry(3, 1)]).unwrap();
    engine.save_vote(G, Vote::new(2, 5, *b"candidate")).unwrap();
    engine.commit(G, Index(2)).unwrap();
    engine.truncate_suffix(G, Index(3)).unwrap();
    engine.append(G, &[entry(3, 2)]).unwrap();
    let before = engine.group(G).unwrap();
    let lines = texts(&engine);
    let engine = reopen(&vfs, engine);
    assert_eq!(engine.group(G).unwrap(), before);
    assert_eq!(texts(&engine), lines);
    let engine = reopen(&vfs, engine);
    assert_eq!(engine.group(G).unwrap(), before);
    engine.close().unwrap();
    let (engine, report) = Engine::open_in(vfs.clone(), caller()).unwrap();
    assert!(report.clean && report.maybe_acked.is_none());
    assert_eq!(texts(&engine), lines);
}

#[test]
fn many_segments_rotate_reopen_and_recycle() {
    let (vfs, mut engine) = fresh();
    for i in 1..=400 {
        engine.append(G, &[entry(i, 1)]).unwrap();
        if i % 37 == 0 {
            engine = reopen(&vfs, engine);
        }
        if i % 90 == 0 {
            engine.save_vote(G, Vote::new(i, 0, *b"v")).unwrap();
        }
    }
    assert_eq!(texts(&engine).len(), 400);
    assert!(engine.status().segments > 5);
    engine.record_external_snapshot(G, LogId::new(390, 1), Digest([1; 32])).unwrap();
    engine.compact_prefix(G, Index(390)).unwrap();
    assert!(engine.status().segments <= 2, "{:?}", engine.status().segments);
    let engine = reopen(&vfs, engine);
    assert_eq!(texts(&engine).len(), 10);
    assert_eq!(engine.group(G).unwrap().vote.unwrap().key.term.0, 360);
    assert!(matches!(engine.read(G, Index(3)..Index(4), 9), Err(Error::Compacted { .. })));
    assert!(matches!(engine.read(G, Index(400)..Index(402), 999), Err(Error::PastEnd { .. })));
}

#[test]
fn a_log_that_is_compacted_as_it_grows_removes_no_segment() {
    let vfs = MemVfs::new();
    Engine::create_in(&vfs, &small()).unwrap();
    let (engine, _) = Engine::open_in(vfs.clone(), Options::default()).unwrap();
    engine.create_group(G).unwrap();
    vfs.record(true);
    for index in 1..=600 {
        engine.append(G, &[entry(index, 1)]).unwrap();
        if index % 8 == 0 {
            // Time for the driver to prepare what it would.
            std::thread::sleep(Duration::from_millis(2));
            engine.record_external_snapshot(G, LogId::new(index, 1), Digest([1; 32])).unwrap();
            engine.compact_prefix(G, Index(index)).unwrap();
        }
    }
    drop(engine);
    let (mut rotations, mut removed) = (0, Vec::new());
    for recorded in vfs.take_trace().ops {
        match recorded.op {
            Op::Rename { to, .. } => rotations += u32::from(to.ends_with(".seg")),
            Op::Remove { path, .. } => removed.push(path),
            _ => {}
        }
    }
    assert!(rotations > 20, "{rotations}");
    assert_eq!(removed, Vec::<String>::new(), "beside them others are filled with zeros");
}

#[test]
fn files_that_are_named_nearly_as_ours_are_left_alone() {
    let (vfs, mut engine) = fresh();
    let names = ["spare-", "spare-0000000000000001.old", "spare-00000000000000FF", "spare-notes"];
    let size = usize::try_from(small().segment_bytes).unwrap();
    for (name, len) in names.into_iter().zip([0, 10, size, size]) {
        vfs.create(name).unwrap().write_at(&vec![7; len], 0).unwrap();
    }
    for index in 1..=2000 {
        engine.append(G, &[entry(index, 1)]).unwrap();
        if index % 500 == 0 {
            engine = reopen(&vfs, engine);
        }
    }
    drop(engine);
    let (engine, report) = Engine::open_in(vfs.clone(), caller()).unwrap();
    assert!(report.unknown.iter().map(String::as_str).eq(names), "{report:?}");
    drop(engine);
    for (name, len) in names.into_iter().zip([0, 10, size, size]) {
        assert!(vfs.image().files[name].to_bytes() == vec![7; len], "{name} was changed");
    }
}

#[test]
fn reopening_for_ever_takes_no_space() {
    let (vfs, mut engine) = fresh();
    engine.append(G, &[entry(1, 1)]).unwrap();
    engine = reopen(&vfs, engine);
    let before = vfs.image().files.len();
    for _ in 0..20 {
        engine = reopen(&vfs, engine);
    }
    assert_eq!(vfs.image().files.len(), before);
    engine.maintain().unwrap();
    assert_eq!(engine.status().reserve, 4);
}

#[test]
fn snapshots_are_published_read_installed_and_retired() {
    let (vfs, engine) = fresh();
    engine.append(G, &[entry(1, 1), entry(2, 1), entry(3, 1)]).unwrap();
    assert!(matches!(engine.compact_prefix(G, Index(2)), Err(Error::NotCovered { .. })));
    let bytes: Vec<u8> = (0..2000u32).map(|n| (n % 251) as u8).collect();
    let mut writer = engine.snapshot_writer(G, LogId::new(2, 1), b"members").unwrap();
    writer.write_all(&bytes).unwrap();
    writer.publish().unwrap();
    engine.compact_prefix(G, Index(2)).unwrap();
    let engine = reopen(&vfs, engine);
    let mut reader = engine.snapshot_reader(G).unwrap();
    let mut back = Vec::new();
    reader.read_to_end(&mut back).unwrap();
    assert_eq!((back, reader.membership()), (bytes, &b"members"[..]));
    drop(reader);

    let mut writer = engine.snapshot_writer(G, LogId::new(10, 3), b"").unwrap();
    writer.write_all(b"from the leader").unwrap();
    writer.install().unwrap();
    let status = engine.group(G).unwrap();
    assert_eq!((status.first, status.last), (Index(11), LogId::new(10, 3)));
    let engine = reopen(&vfs, engine);
    assert_eq!(engine.group(G).unwrap(), status);
    let files = vfs.image().files.keys().filter(|n| n.starts_with("snapshots/")).count();
    assert_eq!(files, 2, "one chunk and one manifest");
    let stale = engine.snapshot_writer(G, LogId::new(4, 1), b"").unwrap();
    assert!(matches!(stale.install(), Err(Error::StaleSnapshot { .. })));
}

#[test]
fn a_closed_store_has_no_file_of_a_replaced_snapshot() {
    for driver in [Driver::Caller, Driver::Threads] {
        let (vfs, engine) = fresh();
        drop(engine);
        let options = Options { driver, ..caller() };
        let (engine, _) = Engine::open_in(vfs.clone(), options).unwrap();
        engine.append(G, &[entry(1, 1)]).unwrap();
        for byte in 0..4 {
            let mut writer = engine.snapshot_writer(G, LogId::new(1, 1), b"").unwrap();
            let bytes: Vec<u8> = (0..40 * 512u32).map(|n| ((n / 512) as u8) ^ (64 * byte)).collect();
            writer.write_all(&bytes).unwrap();
            writer.publish().unwrap();
            let mut back = Vec::new();
            engine.snapshot_reader(G).unwrap().read_to_end(&mut back).unwrap();
            assert_eq!(back, bytes);
        }
        engine.close().unwrap();
        let files = vfs.image().files.keys().filter(|n| n.starts_with("snapshots/")).count();
        assert_eq!(files, 41, "forty chunks and one manifest with {driver:?}");
    }
}

#[test]
fn a_batch_is_refused_whole() {
    let (_vfs, engine) = fresh();
    let mut batch = WriteBatch::new();
    batch.append(G, entry(1, 1)).append(G, entry(3, 1));
    assert!(matches!(engine.write(batch), Err(Error::Gap { .. })));
    assert_eq!(engine.group(G).unwrap().last, LogId::default());
    engine.append(G, &[entry(1, 2)]).unwrap();
    engine.append(G, &[entry(1, 2)]).unwrap();
    let other = Entry::command(1, 2, *b"other");
    assert!(matches!(engine.append(G, &[other]), Err(Error::Conflict { .. })));
    assert!(matches!(engine.append(G, &[entry(1, 3)]), Err(Error::WouldOverwrite { .. })));
    assert!(matches!(engine.append(G, &[entry(2, 1)]), Err(Error::TermRegression { .. })));
    engine.save_vote(G, Vote::new(3, 1, *b"a")).unwrap();
    assert!(matches!(engine.save_vote(G, Vote::new(3, 0, *b"b")), Err(Error::StaleVote { .. })));
    assert!(matches!(engine.commit(G, Index(2)), Err(Error::CommitOutOfRange { .. })));
    engine.commit(G, Index(1)).unwrap();
    assert!(matches!(engine.truncate_suffix(G, Index(1)), Err(Error::Committed { .. })));
    let big = Entry::command(2, 3, vec![0; 5000]);
    assert!(matches!(engine.append(G, &[big]), Err(Error::TooLarge { .. })));
}

#[test]
fn a_second_writer_is_locked_out_and_a_reader_is_not() {
    let (vfs, engine) = fresh();
    engine.append(G, &[entry(1, 1)]).unwrap();
    assert!(matches!(Engine::open_in(vfs.clone(), caller()), Err(Error::Locked)));
    let before = vfs.image();
    let (store, report) = Store::open_read_only_in(vfs.clone()).unwrap();
    assert!(report.lost.is_empty());
    assert_eq!(store.read(G, Index(1)..Index(2), 99).unwrap(), [entry(1, 1)]);
    let records: Vec<_> = store.records().unwrap().map(|r| r.unwrap().kind).collect();
    assert_eq!(records, ["create_group", "command"]);
    assert_eq!(store.verify().unwrap().damage, []);
    assert_eq!(vfs.image().files, before.files);
}

#[test]
fn a_group_made_again_sees_nothing_of_the_old_one() {
    let (vfs, engine) = fresh();
    engine.append(G, &[entry(1, 1), entry(2, 1)]).unwrap();
    engine.remove_group(G).unwrap();
    assert!(matches!(engine.group(G), Err(Error::UnknownGroup { .. })));
    engine.create_group(G).unwrap();
    let engine = reopen(&vfs, engine);
    assert_eq!(engine.group(G).unwrap().last, LogId::default());
    engine.append(G, &[entry(1, 7)]).unwrap();
    let engine = reopen(&vfs, engine);
    assert_eq!(texts(&engine), ["entry 1 of term 7"]);
}

#[test]
fn flushes_overlap_and_acknowledge_in_order() {
    let (vfs, engine) = fresh();
    let write = |i| {
        let mut batch = WriteBatch::new();
        batch.append(G, entry(i, 1));
        engine.write(batch).unwrap()
    };
    let (one, first) = (write(1), engine.begin_flush().unwrap().unwrap());
    let (two, second) = (write(2), engine.begin_flush().unwrap().unwrap());
    second.sync().acknowledge().unwrap();
    assert_eq!((one.outcome(), two.outcome()), (None, None));
    first.sync().acknowledge().unwrap();
    assert_eq!((one.outcome(), two.outcome()), (Some(Outcome::Durable), Some(Outcome::Durable)));
    assert_eq!(engine.group(G).unwrap().durable_last, Index(2));
    let engine = reopen(&vfs, engine);
    assert_eq!(texts(&engine).len(), 2);
}

#[test]
fn threads_share_syncs_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let create = CreateOptions { segment_bytes: 1 << 20, ..CreateOptions::new(1, 1) };
    Engine::create(dir.path().join("s"), &create).unwrap();
    let (engine, _) = Engine::open(dir.path().join("s"), Options::default()).unwrap();
    let called = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for g in 0..8 {
            let engine = &engine;
            scope.spawn(move || {
                let group = GroupId(g);
                engine.create_group(group).unwrap();
                for i in 1..=50 {
                    engine.append(group, &[entry(i, 1)]).unwrap();
                }
            });
        }
    });
    for i in 51..=60 {
        let mut batch = WriteBatch::new();
        batch.append(GroupId(0), entry(i, 1));
        let called = called.clone();
        let callback = move |o| called.lock().unwrap().push((i, o));
        if i % 2 == 0 {
            assert_eq!(engine.write_then(batch, callback).unwrap(), engine.status().submitted);
        } else {
            engine.write(batch).unwrap().on_durable(callback);
        }
    }
    let mut gap = WriteBatch::new();
    gap.append(GroupId(0), entry(99, 1));
    let refused = engine.write_then(gap, |_| panic!("nobody is called back for a refused batch"));
    assert!(matches!(refused, Err(Error::Gap { .. })));
    let mut batch = WriteBatch::new();
    batch.append(GroupId(0), entry(61, 1));
    assert_eq!(engine.write(batch).unwrap().wait(), Outcome::Durable);
    engine.close().unwrap();
    let expected: Vec<_> = (51..=60).map(|i| (i, Outcome::Durable)).collect();
    assert_eq!(*called.lock().unwrap(), expected);
    let (engine, report) = Engine::open(dir.path().join("s"), Options::default()).unwrap();
    assert!(report.clean);
    assert_eq!(engine.groups().len(), 8);
    assert_eq!(engine.group(GroupId(0)).unwrap().last.index, Index(61));
}

/// Small entries are copied into a frame, large ones are written from where they are, both in pieces.
#[test]
fn a_frame_of_several_pieces_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [vec![0, 3 << 20, 1, 40_000, 0], vec![300; 9000], std::iter::repeat_n(65_537, 40).collect()];
    for unit in [512, 4096] {
        let store = dir.path().join(unit.to_string());
        Engine::create(&store, &CreateOptions { segment_bytes: 16 << 20, unit, ..CreateOptions::new(1, 1) })
            .unwrap();
        let (engine, _) = Engine::open(&store, Options::default()).unwrap();
        engine.create_group(G).unwrap();
        let mut all = Vec::new();
        for sizes in &sizes {
            let next = all.len() as u64 + 1;
            let entries = (next..).zip(sizes).map(|(index, size)| {
                let data: Vec<u8> = (index..).map(|n| (n % 251) as u8).take(*size).collect();
                Entry::command(index, 1, data)
            });
            let entries: Vec<_> = entries.collect();
            engine.append(G, &entries).unwrap();
            all.extend(entries);
        }
        let present =
            |engine: &Engine| engine.read(G, Index(1)..engine.group(G).unwrap().last.index.next(), u64::MAX);
        assert!(present(&engine).unwrap() == all);
        drop(engine);
        let (engine, report) = Engine::open(&store, Options::default()).unwrap();
        assert!(!report.clean, "{report:?}");
        assert!(present(&engine).unwrap() == all);
        engine.close().unwrap();
    }
}

/// The disk takes for ever to prepare a segment: what is committed by callbacks goes on.
#[test]
fn no_batch_waits_for_the_preparing_of_segments() {
    let vfs = MemVfs::new();
    Engine::create_in(&vfs, &CreateOptions { segment_bytes: 256 << 10, ..small() }).unwrap();
    let (engine, _) = Engine::open_in(vfs.clone(), Options::default()).unwrap();
    engine.create_group(G).unwrap();
    let (began, preparing) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    vfs.set_faults(Some(Arc::new(move |call| {
        if call.path.starts_with("spare-") && call.kind == CallKind::Write {
            let _ = began.send(());
            // Until the other end is dropped.
            let _ = wait.lock().unwrap().recv();
        }
        None
    })));
    for index in 1..=8 {
        engine.append(G, &[Entry::command(index, 1, vec![7; 16 << 10])]).unwrap();
    }
    preparing.recv_timeout(Duration::from_secs(60)).expect("half of the segment is written");
    let (done, outcome) = mpsc::channel();
    let mut batch = WriteBatch::new();
    batch.append(G, entry(9, 1));
    engine.write_then(batch, move |outcome| done.send(outcome).unwrap()).unwrap();
    assert_eq!(outcome.recv_timeout(Duration::from_secs(60)), Ok(Outcome::Durable));
    drop(go_on);
    engine.close().unwrap();
}

/// A batch without payload behind one with it, both in flight: the first to settle took the count of both.
#[test]
fn a_batch_without_payload_settles_after_one_with_it() {
    let (_, engine) = fresh();
    let mut flushes = Vec::new();
    let mut submit = |batch: &mut WriteBatch| {
        let batch = std::mem::take(batch);
        let ticket = engine.write(batch).unwrap();
        flushes.push(engine.begin_flush().unwrap().unwrap());
        ticket
    };
    let append = submit(WriteBatch::new().append(G, entry(1, 1)));
    let commit = submit(WriteBatch::new().commit(G, Index(1)));
    flushes.into_iter().for_each(|flush| flush.sync().acknowledge().unwrap());
    assert_eq!([append.wait(), commit.wait()], [Outcome::Durable; 2]);
    assert_eq!(engine.status().in_flight_bytes, 0);
}

/// The newest segment of a store that was opened, used and lost it again.
#[test]
fn a_newest_segment_that_vanished_is_named() {
    let (vfs, engine) = fresh();
    engine.append(G, &[entry(1, 1)]).unwrap();
    engine.close().unwrap();
    let (engine, _) = Engine::open_in(vfs.clone(), caller()).unwrap();
    engine.append(G, &[entry(2, 1)]).unwrap();
    drop(engine);
    let mut image = vfs.image();
    let newest = image.files.keys().rfind(|n| n.ends_with(".seg")).unwrap().clone();
    image.files.remove(&newest);
    let refused = Engine::open_in(MemVfs::from_image(image.clone()), caller()).map(|_| ()).unwrap_err();
    let Error::Corrupt { report } = refused else { panic!("{refused}") };
    assert_eq!(report.lost, [seawall::Lost::File { name: newest }]);
    // Without the high-water file too, nothing says where the log ended: it is said so.
    image.files.remove("HIGHWATER");
    let (_, report) = Engine::open_in(MemVfs::from_image(image), caller()).unwrap();
    assert!(report.is_alarm() && report.maybe_acked.is_some(), "{report:?}");
}

#[test]
fn a_witness_refuses_a_directory_that_was_rolled_back() {
    let (vfs, engine) = fresh();
    engine.append(G, &[entry(1, 1)]).unwrap();
    let old = vfs.image();
    engine.append(G, &[entry(2, 1)]).unwrap();
    let seen = Witness { epoch: engine.epoch(), commits: [(G, Index(2))].into() };
    drop(engine);
    let open = |image, witness: &Witness| {
        let options = Options { witness: Some(witness.clone()), ..caller() };
        Engine::open_in(MemVfs::from_image(image), options).map(|(engine, _)| engine.epoch())
    };
    let next = open(vfs.image(), &seen).unwrap();
    assert!(next > seen.epoch);
    let refused = open(old, &seen).unwrap_err();
    assert!(
        matches!(refused, Error::RolledBack { what: "commit index", witnessed: 2, found: 1, .. }),
        "{refused}"
    );
    let refused = open(vfs.image(), &Witness { epoch: next, ..Witness::default() }).unwrap_err();
    assert!(matches!(refused, Error::RolledBack { what: "epoch", .. }), "{refused}");
}

/// Dropping a handle ends its threads, whatever they are about to do; a driver that looked for work
/// just before and went to sleep just after was waited for without end.
#[test]
fn drop_never_waits_for_a_sleeping_driver() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (vfs, engine) = fresh();
        drop(engine);
        let threads = Options { chunk_bytes: 512, ..Options::default() };
        for index in 1..=1_000 {
            let (engine, _) = Engine::open_in(vfs.clone(), threads.clone()).unwrap();
            let mut batch = WriteBatch::new();
            batch.append(G, entry(index, 1));
            let ticket = engine.write(batch).unwrap();
            // The dropped ticket leaves the batch to the driver, which ends at a moment of its own.
            let position = ticket.position();
            drop(ticket);
            while index % 2 == 0 && engine.status().durable < position {
                std::thread::yield_now();
            }
            drop(engine);
            let (engine, _) = Engine::open_in(vfs.clone(), caller()).unwrap();
            if engine.group(G).unwrap().last.index != Index(index) {
                engine.append(G, &[entry(index, 1)]).unwrap();
            }
        }
        done.send(()).unwrap();
    });
    ended.recv_timeout(std::time::Duration::from_secs(300)).expect("every drop returns");
}
