//! A disk whose sync does not return: whoever asked for durability waits, and nobody else does.

use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use seawall::vfs::mem::{Call, CallKind, MemVfs};
use seawall::vfs::{Access, File, Vfs, read_exact_at, write_all_at};
use seawall::{
    CreateOptions, Digest, Driver, Engine, Entry, GroupId, Index, LogId, Options, Term, Vote, WriteBatch,
};

const G: GroupId = GroupId(1);
const OTHER: GroupId = GroupId(2);
/// How long a caller may wait before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the next syncs do.
#[derive(Default)]
struct State {
    /// The sync that stalls, counted from the next one on.
    nth: Option<u32>,
    /// What stalls.
    held: Option<String>,
    done: bool,
}

/// A simulated disk of which one sync does not return until it is let go.
#[derive(Default)]
struct Stalls {
    disk: MemVfs,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Stalls {
    fn new() -> Self {
        let stalls = Self::default();
        let state = stalls.state.clone();
        stalls.disk.set_faults(Some(Arc::new(move |call: &Call| {
            match call.kind {
                CallKind::SyncDir => pass(&state, "the directory"),
                CallKind::SyncData | CallKind::SyncAll => pass(&state, &call.path),
                _ => {}
            }
            None
        })));
        stalls
    }

    /// The n-th sync from now on stalls.
    fn arm(&self, nth: u32) {
        *self.state.0.lock().unwrap() = State { nth: Some(nth), ..State::default() };
    }

    /// Waits until a sync stalls, and says which; `None` if what runs is done.
    fn held(&self) -> Option<String> {
        let (state, changed) = &*self.state;
        let state = changed.wait_while(state.lock().unwrap(), |state| state.held.is_none() && !state.done);
        state.unwrap().held.clone()
    }

    fn let_go(&self) {
        *self.state.0.lock().unwrap() = State::default();
        self.state.1.notify_all();
    }

    fn say_done(&self) {
        self.state.0.lock().unwrap().done = true;
        self.state.1.notify_all();
    }
}

fn pass((state, changed): &(Mutex<State>, Condvar), what: &str) {
    let mut state = state.lock().unwrap();
    let Some(nth) = &mut state.nth else { return };
    *nth -= 1;
    if *nth == 0 {
        state.nth = None;
        state.held = Some(what.into());
        changed.notify_all();
        drop(changed.wait_while(state, |state| state.held.is_some()).unwrap());
    }
}

fn entry(index: u64) -> Entry {
    Entry::command(index, 1, vec![u8::try_from(index % 251).unwrap(); 1_000])
}

fn append(engine: &Engine<MemVfs>, group: GroupId, indexes: std::ops::RangeInclusive<u64>) {
    for index in indexes {
        engine.append(group, &[entry(index)]).unwrap();
    }
}

/// A store of small segments with 300 entries of one group, an entry of another, and a snapshot.
fn started(driver: Driver) -> (Stalls, Engine<MemVfs>) {
    let vfs = Stalls::new();
    let create = CreateOptions { segment_bytes: 64 << 10, ..CreateOptions::new(1, 1) };
    Engine::create_in(&vfs.disk, &create).unwrap();
    let (engine, _) = Engine::open_in(vfs.disk.clone(), Options { driver, ..Options::default() }).unwrap();
    for group in [G, OTHER] {
        engine.create_group(group).unwrap();
        append(&engine, group, 1..=1);
    }
    append(&engine, G, 2..=300);
    engine.snapshot_writer(OTHER, LogId::new(1, 1), b"").unwrap().publish().unwrap();
    engine.maintain().unwrap();
    (vfs, engine)
}

/// What a host asks for that is no durability.
fn look(engine: &Engine<MemVfs>) {
    // The first half may be compacted away meanwhile.
    let read = engine.read(G, Index(200)..Index(251), u64::MAX).unwrap();
    assert!(read.iter().enumerate().all(|(at, read)| *read == entry(200 + at as u64)));
    assert_eq!(engine.read(OTHER, Index(1)..Index(2), u64::MAX).unwrap(), [entry(1)]);
    assert!(engine.group(G).unwrap().last.index >= Index(300));
    assert_eq!(engine.status().groups.len(), 2);
    assert_eq!(engine.term(OTHER, Index(1)).unwrap(), Term(1));
    assert_eq!(engine.groups(), [G, OTHER]);
    drop(engine.lost());
    assert_eq!(engine.snapshot_reader(OTHER).unwrap().id(), LogId::new(1, 1));
    // A batch is taken, and can be read, before anything of it is durable.
    let mut batch = WriteBatch::new();
    batch.vote(OTHER, Vote::new(9, 9, *b"taken"));
    engine.write(batch).unwrap().on_durable(drop);
    assert_eq!(engine.group(OTHER).unwrap().vote.unwrap(), Vote::new(9, 9, *b"taken"));
}

/// Lets each sync of an act stall in turn, and looks meanwhile; where `beside` says so of what stalls, a vote becomes
/// durable too. Gives what stalled.
fn check(
    driver: Driver,
    before: impl Fn(&Stalls, &Engine<MemVfs>),
    act: impl Fn(&Engine<MemVfs>) + Sync,
    beside: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut stalled = Vec::new();
    for nth in 1.. {
        let (vfs, engine) = started(driver);
        before(&vfs, &engine);
        vfs.arm(nth);
        let more = std::thread::scope(|scope| {
            let (act, engine, vfs) = (&act, &engine, &vfs);
            scope.spawn(move || {
                act(engine);
                vfs.say_done();
            });
            let Some(what) = vfs.held() else { return false };
            let votes = beside(&what);
            let (done, wait) = mpsc::channel();
            scope.spawn(move || {
                look(engine);
                if votes {
                    engine.save_vote(OTHER, Vote::new(10, 1, *b"durable")).unwrap();
                }
                done.send(()).unwrap();
            });
            let seen = wait.recv_timeout(PATIENCE);
            vfs.let_go();
            assert!(seen.is_ok(), "somebody waits for sync {nth} of {what}");
            stalled.push(what);
            true
        });
        vfs.let_go();
        engine.close().unwrap();
        if !more {
            break;
        }
    }
    stalled
}

fn nothing(_: &Stalls, _: &Engine<MemVfs>) {}

#[test]
fn a_rotation_that_stalls_is_waited_for_by_who_appends() {
    let act = |engine: &Engine<_>| append(engine, G, 301..=330);
    // Of a prepared segment only who needs it, and that is no vote.
    let is_spare = |what: &str| what.starts_with("spare-");
    let stalled = check(Driver::Caller, nothing, act, is_spare);
    assert!(stalled.iter().any(|what| is_spare(what)), "{stalled:?}");
    for what in ["the directory", "HIGHWATER"] {
        assert!(stalled.iter().any(|stalled| stalled == what), "{stalled:?}");
    }
}

#[test]
fn a_background_thread_that_stalls_is_waited_for_by_nobody() {
    check(Driver::Threads, nothing, |engine| append(engine, G, 301..=306), |_| false);
}

#[test]
fn a_recycling_that_stalls_stops_no_append() {
    let snapshot = |_: &Stalls, engine: &Engine<_>| {
        engine.record_external_snapshot(G, LogId::new(150, 1), Digest([1; 32])).unwrap();
    };
    let compact = |engine: &Engine<_>| engine.compact_prefix(G, Index(150)).unwrap();
    let stalled = check(Driver::Caller, snapshot, compact, |what| what == "the directory");
    assert!(stalled.len() == 2 && stalled[1] == "the directory", "{stalled:?}");
}

/// Flips a byte of an entry on the simulated disk.
fn rot(vfs: &Stalls, of: &Entry) {
    for name in vfs.disk.list("").unwrap().iter().filter(|name| name.ends_with(".seg")) {
        let file = vfs.disk.open(name, Access::ReadWrite).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        read_exact_at(&file, &mut bytes, 0).unwrap();
        if let Some(at) = bytes.windows(of.data.len()).position(|window| *window == *of.data) {
            return write_all_at::<MemVfs>(&file, &[!of.data[0]], at as u64).unwrap();
        }
    }
    panic!("the entry is nowhere");
}

#[test]
fn a_repair_that_stalls_stops_no_reader() {
    let act = |engine: &Engine<_>| assert!(engine.repair(G, &entry(150)).unwrap());
    let stalled = check(Driver::Caller, |vfs, _| rot(vfs, &entry(150)), act, |_| false);
    for what in ["EVIDENCE", "repair.new", "the directory"] {
        assert!(stalled.iter().any(|stalled| stalled == what), "{stalled:?}");
    }
}

#[test]
fn a_scrub_whose_evidence_stalls_stops_no_vote() {
    let act = |engine: &Engine<_>| assert_eq!(engine.scrub(u64::MAX).unwrap().lost.len(), 1);
    let stalled = check(Driver::Caller, |vfs, _| rot(vfs, &entry(150)), act, |_| true);
    assert!(stalled.iter().any(|what| what == "EVIDENCE"), "{stalled:?}");
}
