//! Restarts on a full disk: none of them eats the reserve.

use seawall::vfs::mem::MemVfs;
use seawall::vfs::{Access, File, Vfs};
use seawall::{CreateOptions, Driver, Engine, Error, GroupId, Options, Vote};

const G: GroupId = GroupId(1);

fn options() -> Options {
    Options { driver: Driver::Caller, ..Options::default() }
}

/// A vote in each life of a store on a full disk, for more lives than there are prepared segments.
fn lives(ends: impl Fn(Engine<MemVfs>)) {
    let vfs = prepared();
    let (engine, _) = Engine::open_in(vfs.clone(), options()).unwrap();
    ends(engine);
    vote_in_each_life(&vfs, ends);
}

/// A store with a group and its whole reserve.
fn prepared() -> MemVfs {
    let vfs = MemVfs::new();
    let create = CreateOptions {
        segment_bytes: 256 << 10,
        unit: 4096,
        seed: Some([3; 16]),
        ..CreateOptions::new(1, 1)
    };
    Engine::create_in(&vfs, &create).unwrap();
    let (engine, _) = Engine::open_in(vfs.clone(), options()).unwrap();
    engine.create_group(G).unwrap();
    engine.maintain().unwrap();
    engine.close().unwrap();
    vfs
}

fn vote_in_each_life(vfs: &MemVfs, ends: impl Fn(Engine<MemVfs>)) {
    vfs.set_capacity(Some(0));
    let spares = || vfs.image().files.keys().filter(|name| name.starts_with("spare-")).count();
    let begun = spares();
    for term in 1..=20 {
        let (engine, report) = Engine::open_in(vfs.clone(), options()).unwrap();
        assert!(!report.is_alarm(), "{term}: {report:?}");
        engine.save_vote(G, Vote::new(term, 0, *b"me")).unwrap();
        ends(engine);
        assert_eq!(spares(), begun, "after restart {term}");
    }
}

/// What a copy that leaves out zeros makes of prepared segments.
fn make_sparse(vfs: &MemVfs) {
    for name in vfs.list("").unwrap().iter().filter(|name| name.starts_with("spare-")) {
        let file = vfs.open(name, Access::ReadWrite).unwrap();
        let len = file.len().unwrap();
        file.set_len(0).unwrap();
        file.set_len(len).unwrap();
    }
}

/// A reserve of holes is none: on a full disk the open says so, each time, and takes nothing.
#[test]
fn a_reserve_of_holes_is_made_anew() {
    let vfs = prepared();
    make_sparse(&vfs);
    vfs.set_capacity(Some(0));
    let names = || vfs.list("").unwrap().into_iter().filter(|name| !name.starts_with("spare-"));
    let before: Vec<String> = names().collect();
    for _ in 0..10 {
        let refused = Engine::open_in(vfs.clone(), options()).map(drop).unwrap_err();
        assert!(matches!(refused, Error::NoSpace { doing: "preparing a segment" }), "{refused}");
        assert!(names().eq(before.iter().cloned()), "{:?}", names().collect::<Vec<_>>());
    }
    let vfs = prepared();
    make_sparse(&vfs);
    let (engine, report) = Engine::open_in(vfs.clone(), options()).unwrap();
    assert!(!report.is_alarm() && report.caveat.is_some_and(|said| said.contains("holes")), "{report}");
    engine.maintain().unwrap();
    engine.close().unwrap();
    vote_in_each_life(&vfs, drop);
}

#[test]
fn closes_on_a_full_disk_leave_the_reserve_as_it_was() {
    lives(|engine| engine.close().unwrap());
}

#[test]
fn deaths_on_a_full_disk_leave_the_reserve_as_it_was() {
    lives(drop);
}
