//! Restarts on a full disk: none of them eats the reserve.

use seawall::vfs::mem::MemVfs;
use seawall::{CreateOptions, Driver, Engine, GroupId, Options, Vote};

const G: GroupId = GroupId(1);

fn options() -> Options {
    Options { driver: Driver::Caller, ..Options::default() }
}

/// A vote in each life of a store on a full disk, for more lives than there are prepared segments.
fn lives(ends: impl Fn(Engine<MemVfs>)) {
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
    ends(engine);
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

#[test]
fn closes_on_a_full_disk_leave_the_reserve_as_it_was() {
    lives(|engine| engine.close().unwrap());
}

#[test]
fn deaths_on_a_full_disk_leave_the_reserve_as_it_was() {
    lives(drop);
}
