//! Descriptors that run out: a store needs few, however many segments it has, and where there is none a call is
//! refused and the handle goes on.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seawall::vfs::mem::{Call, CallKind, Fault, MemVfs};
use seawall::{
    CreateOptions, Digest, Driver, Engine, Entry, Error, GroupId, Index, LogId, Options, Outcome, WriteBatch,
};

const G: GroupId = GroupId(1);
/// Tells a child what to do, and where.
const TASK: &str = "SEAWALL_TEST_TASK";
const HOME: &str = "SEAWALL_TEST_HOME";
const SEGMENTS: usize = 1_500;

fn options() -> Options {
    Options { driver: Driver::Caller, ..Options::default() }
}

fn small() -> CreateOptions {
    CreateOptions { segment_bytes: 16 << 10, unit: 512, seed: Some([3; 16]), ..CreateOptions::new(1, 1) }
}

/// The largest that such segments take: few of them fill one.
fn entry(index: u64) -> Entry {
    let mut data = vec![7; 3_500];
    data[..8].copy_from_slice(&index.to_le_bytes());
    Entry::command(index, 1, data)
}

/// Segment files in a directory.
fn segments(home: &Path) -> usize {
    let files = std::fs::read_dir(home).unwrap();
    files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().ends_with(".seg")).count()
}

/// Descriptors of this process that lead to segments.
fn open_segments() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    targets.filter(|target| target.to_string_lossy().ends_with(".seg")).count()
}

fn read_all(engine: &Engine) -> u64 {
    let group = engine.group(G).unwrap();
    let mut next = group.first;
    let seen = engine.scan(G, group.first..group.last.index.next(), |read| {
        assert_eq!((read.id.index, read.data), (next, &entry(next.0).data[..]));
        next = next.next();
        ControlFlow::Continue(())
    });
    seen.unwrap();
    // One by one, and not in their order.
    for n in (group.first.0..=group.last.index.0).rev().step_by(7) {
        assert_eq!(engine.read(G, Index(n)..Index(n + 1), 0).unwrap(), [entry(n)]);
    }
    next.0 - group.first.0
}

fn append(engine: &Engine, more: impl Fn() -> bool) {
    while more() {
        let next = engine.group(G).unwrap().last.index.0 + 1;
        let entries: Vec<Entry> = (next..next + 20).map(entry).collect();
        for entry in entries {
            let mut batch = WriteBatch::new();
            batch.append(G, entry);
            assert_eq!(engine.write(batch).unwrap().wait(), Outcome::Durable);
        }
    }
}

/// Makes a store of so many segments in one life.
fn build(home: &Path) {
    Engine::create(home, &small()).unwrap();
    let (engine, _) = Engine::open(home, options()).unwrap();
    engine.create_group(G).unwrap();
    append(&engine, || segments(home) < SEGMENTS);
    assert_eq!(read_all(&engine), engine.group(G).unwrap().last.index.0);
    assert!(open_segments() < 150, "{} of {} segments are open", open_segments(), segments(home));
    engine.close().unwrap();
}

/// Opens such a store, uses it, and opens it again.
fn live(home: &Path) {
    let (engine, report) = Engine::open(home, Options::default()).unwrap();
    assert!(!report.is_alarm(), "{report}");
    let last = engine.group(G).unwrap().last;
    assert_eq!(read_all(&engine), last.index.0);
    append(&engine, || engine.group(G).unwrap().last.index.0 < last.index.0 + 60);
    engine
        .record_external_snapshot(G, LogId { index: Index(last.index.0 / 2), ..last }, Digest([1; 32]))
        .unwrap();
    engine.compact_prefix(G, Index(last.index.0 / 2)).unwrap();
    engine.maintain().unwrap();
    assert!(segments(home) < SEGMENTS / 2 + 60);
    append(&engine, || engine.group(G).unwrap().last.index.0 < last.index.0 + 120);
    read_all(&engine);
    drop(engine);
    let (store, report) = seawall::Store::open_read_only(home).unwrap();
    assert!(!report.is_alarm(), "{report}");
    assert_eq!(store.verify().unwrap().damage, []);
    let one = store.read(G, Index(last.index.0)..last.index.next(), 0).unwrap();
    assert_eq!(one, [entry(last.index.0)]);
    drop(store);
    let (engine, report) = Engine::open(home, options()).unwrap();
    assert!(!report.is_alarm(), "{report}");
    read_all(&engine);
    assert!(open_segments() < 150, "{} of {} segments are open", open_segments(), segments(home));
    engine.close().unwrap();
}

/// What a child does, with as many descriptors as its parent says.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let home = std::env::var_os(HOME).unwrap();
    let (task, most) = task.split_once(' ').unwrap();
    let most = most.parse().unwrap();
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: hard }).unwrap();
    match task {
        "build" => build(home.as_ref()),
        "live" => live(home.as_ref()),
        other => panic!("{other}"),
    }
}

fn run(task: &str, home: &Path) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(TASK, task)
        .env(HOME, home)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{task}: {}{said}", String::from_utf8_lossy(&child.stdout));
}

#[test]
fn a_store_of_many_segments_needs_few_descriptors() {
    // In memory where there is such a place: thousands of syncs are not what is tried.
    let shm = Path::new("/dev/shm");
    for most in [1024, 256] {
        let home = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        let home = home.unwrap();
        run(&format!("build {most}"), home.path());
        assert!(segments(home.path()) >= SEGMENTS);
        run(&format!("live {most}"), home.path());
    }
}

/// Whichever call finds no descriptor, the batch is refused with nothing changed, and the handle goes on.
#[test]
fn a_want_of_descriptors_is_a_refusal_and_no_doubt() {
    let vfs = MemVfs::new();
    Engine::create_in(&vfs, &small()).unwrap();
    let (engine, _) = Engine::open_in(vfs.clone(), options()).unwrap();
    engine.create_group(G).unwrap();
    let (mut refused, mut last) = (0, 0);
    for turn in 0..200 {
        // Half of the time there is none; of the calls that open something in between, each other one finds one.
        let opens = AtomicUsize::new(0);
        let faults = move |call: &Call| {
            let needs = matches!(call.kind, CallKind::Create | CallKind::Open | CallKind::List);
            let none = turn % 4 < 2 || (turn % 4 == 2 && opens.fetch_add(1, Ordering::Relaxed) % 2 == 1);
            (needs && none).then_some(Fault::Errno(24))
        };
        vfs.set_faults(Some(Arc::new(faults)));
        for _ in 0..3 {
            match engine.append(G, &[entry(last + 1)]) {
                Ok(()) => last += 1,
                Err(Error::OutOfDescriptors { .. }) => refused += 1,
                Err(e) => panic!("turn {turn}: {e}"),
            }
        }
        if turn % 20 == 3 && last > 20 {
            engine.record_external_snapshot(G, LogId::new(last - 4, 1), Digest([1; 32])).unwrap();
            engine.compact_prefix(G, Index(last - 4)).unwrap();
        }
    }
    assert!(refused > 50 && last > 200, "{refused} refused, {last} taken");
    vfs.set_faults(None);
    engine.append(G, &[entry(last + 1)]).unwrap();
    drop(engine);
    let (engine, report) = Engine::open_in(vfs, options()).unwrap();
    assert!(!report.is_alarm(), "{report}");
    assert_eq!(engine.group(G).unwrap().last.index.0, last + 1);
}

/// Segments that are recycled and written again while a reader has looked them up and not read them.
#[test]
fn a_reader_never_meets_another_segment_in_place_of_its_own() {
    let vfs = MemVfs::new();
    Engine::create_in(&vfs, &small()).unwrap();
    let (engine, _) = Engine::open_in(vfs, options()).unwrap();
    engine.create_group(G).unwrap();
    let put = |index| engine.append(G, &[entry(index)]).unwrap();
    (1..=60).for_each(put);
    let mut next = 1;
    let read = engine.scan(G, Index(1)..Index(61), |read| {
        assert_eq!((read.id.index.0, read.data), (next, &entry(next).data[..]));
        if next == 20 {
            engine.record_external_snapshot(G, LogId::new(40, 1), Digest([1; 32])).unwrap();
            engine.compact_prefix(G, Index(40)).unwrap();
            (61..=120).for_each(put);
        }
        next += 1;
        ControlFlow::Continue(())
    });
    // What it had read ahead it still had; then it is told that they are gone, and not that they are damaged.
    assert!(matches!(read, Err(Error::Compacted { first: Index(41), .. })), "{read:?}");
    assert!((21..=40).contains(&next), "{next}");
    for index in 41..=120 {
        assert_eq!(engine.read(G, Index(index)..Index(index + 1), 0).unwrap(), [entry(index)]);
    }
}
