//! The store's directory as others may leave it: renamed and replaced, links and pipes in place of files, files of
//! other users, several creations at once.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use seawall::{CreateOptions, Driver, Engine, Entry, Error, GroupId, Index, Options, Store};

const G: GroupId = GroupId(1);

fn small(node: u64) -> CreateOptions {
    CreateOptions { segment_bytes: 64 << 10, ..CreateOptions::new(1, node) }
}

fn caller() -> Options {
    Options { driver: Driver::Caller, ..Options::default() }
}

fn entry(index: u64) -> Entry {
    Entry::command(index, 1, vec![7; 2_000])
}

fn append(engine: &Engine, indexes: std::ops::RangeInclusive<u64>) {
    for index in indexes {
        engine.append(G, &[entry(index)]).unwrap();
    }
}

fn opened(dir: &Path) -> Engine {
    let (engine, report) = Engine::open(dir, caller()).unwrap();
    assert!(!report.is_alarm(), "{report:?}");
    engine
}

fn with_entries(dir: &Path, node: u64, count: u64) {
    Engine::create(dir, &small(node)).unwrap();
    let engine = opened(dir);
    engine.create_group(G).unwrap();
    append(&engine, 1..=count);
    engine.close().unwrap();
}

fn last(dir: &Path) -> Index {
    Store::open_read_only(dir).unwrap().0.group(G).unwrap().last.index
}

/// The only test here that changes the process's own directory.
#[test]
fn a_store_stays_the_directory_that_was_opened() {
    let home = tempfile::tempdir().unwrap();
    std::env::set_current_dir(home.path()).unwrap();
    Engine::create("mine", &small(1)).unwrap();
    Engine::create("elsewhere/mine", &small(2)).unwrap();
    let engine = opened(Path::new("mine"));
    engine.create_group(G).unwrap();
    // Enough to rotate, recycle and prepare segments in each place.
    std::env::set_current_dir(home.path().join("elsewhere")).unwrap();
    append(&engine, 1..=100);
    assert!(Store::open_read_only("mine").unwrap().0.groups().is_empty());

    fs::rename(home.path().join("mine"), home.path().join("moved")).unwrap();
    fs::rename(home.path().join("elsewhere/mine"), home.path().join("mine")).unwrap();
    append(&engine, 101..=200);
    engine.maintain().unwrap();
    engine.close().unwrap();
    assert_eq!(last(&home.path().join("moved")), Index(200));
    let (other, report) = Store::open_read_only(home.path().join("mine")).unwrap();
    assert_eq!((other.groups().len(), other.identity().node, report.clean), (0, 2, true));
    std::env::set_current_dir("/").unwrap();
}

/// A store whose directory is removed under it says so at once when it is asked, and at the next name that it makes.
#[test]
fn a_store_that_was_removed_says_so() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    with_entries(&dir, 1, 10);
    let engine = opened(&dir);
    assert!(!engine.status().removed);
    fs::rename(&dir, home.path().join("moved")).unwrap();
    assert!(!engine.status().removed, "it is where it was, under another name");
    fs::remove_dir_all(home.path().join("moved")).unwrap();
    assert!(engine.status().removed);
    let refused = (11..=100).find_map(|index| engine.append(G, &[entry(index)]).err());
    let said = refused.expect("it goes on in another segment").to_string();
    assert!(said.contains("removed under the handle"), "{said}");
    assert!(engine.status().poison.is_some());
}

/// What may stand in place of a file of the store.
fn replaced(dir: &Path, name: &str, by: &str) -> bool {
    let (path, outside) = (dir.join(name), dir.with_extension("outside"));
    if !path.exists() {
        return false;
    }
    fs::rename(&path, &outside).unwrap();
    match by {
        "link" => symlink(&outside, &path).unwrap(),
        "hard link" if outside.is_file() => fs::hard_link(&outside, &path).unwrap(),
        "device" if outside.is_file() => symlink("/dev/full", &path).unwrap(),
        "directory" if outside.is_file() => fs::create_dir(&path).unwrap(),
        "pipe" => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
        "socket" => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
        "file" if outside.is_dir() => fs::write(&path, b"no directory").unwrap(),
        _ => return false,
    }
    true
}

fn bytes_of(path: &Path) -> Vec<(String, Vec<u8>)> {
    if path.is_file() {
        return vec![(String::new(), fs::read(path).unwrap())];
    }
    let mut all: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap()).collect();
    all.sort_by_key(|e| e.file_name());
    all.iter().map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

#[test]
fn nothing_is_written_outside_through_a_link_and_nothing_hangs() {
    let home = tempfile::tempdir().unwrap();
    let sound = home.path().join("sound");
    with_entries(&sound, 1, 100);
    let names: Vec<String> =
        fs::read_dir(&sound).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let mut cases = 0;
    for name in names.iter().map(String::as_str).chain(["quarantine"]) {
        for by in ["link", "hard link", "pipe", "socket", "device", "directory", "file"] {
            let dir = home.path().join("store");
            let copied = Command::new("cp").arg("-r").arg(&sound).arg(&dir).status().unwrap();
            assert!(copied.success());
            if replaced(&dir, name, by) {
                cases += 1;
                let before = bytes_of(&dir.with_extension("outside"));
                match Engine::open(&dir, caller()) {
                    Err(Error::Unusual { file, .. }) => {
                        assert!(file.contains(name), "{name} as a {by}: {file}")
                    }
                    Err(e) => panic!("{name} as a {by}: {e}"),
                    // What an open does not need it does not look at.
                    Ok((engine, _)) => {
                        append(&engine, 101..=160);
                        engine.close().unwrap();
                    }
                }
                drop(Store::open_read_only(&dir).map(|(store, _)| store.verify()));
                assert_eq!(bytes_of(&dir.with_extension("outside")), before, "{name} as a {by}");
            }
            fs::remove_dir_all(&dir).unwrap();
            drop(fs::remove_file(dir.with_extension("outside")));
            drop(fs::remove_dir_all(dir.with_extension("outside")));
        }
    }
    assert!(cases > 6 * 8, "{cases} cases");
}

#[test]
fn a_sealed_segment_with_a_second_name_is_not_used_again() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    Engine::create(&dir, &small(1)).unwrap();
    let engine = opened(&dir);
    engine.create_group(G).unwrap();
    append(&engine, 1..=60);
    let first = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
    let first = first.filter(|p| p.extension().is_some_and(|e| e == "seg")).min().unwrap();
    let copy = home.path().join("backup");
    fs::hard_link(&first, &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    engine.record_external_snapshot(G, entry(50).id, Default::default()).unwrap();
    engine.compact_prefix(G, Index(50)).unwrap();
    append(&engine, 61..=300);
    engine.close().unwrap();
    assert_eq!(fs::read(&copy).unwrap(), before);
    assert_eq!(last(&dir), Index(300));
}

#[test]
fn files_are_their_owners_alone() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("deep/store");
    with_entries(&dir, 1, 100);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

#[test]
fn a_fresh_volume_takes_a_store() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("lost+found")).unwrap();
    with_entries(home.path(), 1, 3);
    let (_, report) = Store::open_read_only(home.path()).unwrap();
    assert_eq!(report.unknown, [""; 0]);
}

#[test]
fn an_emptied_identity_beside_segments_is_damage() {
    let home = tempfile::tempdir().unwrap();
    with_entries(home.path(), 1, 3);
    fs::write(home.path().join("IDENTITY"), "").unwrap();
    for found in [Engine::open(home.path(), caller()).err(), Store::open_read_only(home.path()).err()] {
        assert!(matches!(found, Some(Error::Damaged { ref file, .. }) if file == "IDENTITY"), "{found:?}");
    }
}

#[test]
fn of_many_creations_one_makes_the_store_and_the_others_do_not_touch_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..20).map(|_| scope.spawn(|| Engine::create(&dir, &small(1)).map(drop))).collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap());
        results
            .filter(|result| match result {
                Ok(()) => true,
                Err(Error::Locked | Error::NotEmpty { .. }) => false,
                Err(e) => panic!("{e}"),
            })
            .count()
    });
    assert_eq!(made, 1);
    drop(opened(&dir));
}

#[test]
fn root_who_looks_after_the_store_of_another_leaves_it_usable() {
    let me = fs::metadata("/proc/self").unwrap().uid();
    if me != 0 {
        println!("SKIPPED 1 test: giving files away needs root");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let dir = home.path().join("store");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(65_534), Some(65_534)).unwrap();
    with_entries(&dir, 1, 100);
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), 65_534, "{:?}", entry.file_name());
    }
}

/// Where the user without rights finds the directories of [`as_nobody`].
const NOBODY: &str = "SEAWALL_TEST_OF_NOBODY";

/// Runs a test of this file anew as a user without rights, who has the directory `own` in one that it cannot read.
fn as_nobody(test: &str, prepare: impl FnOnce(&Path)) {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("SKIPPED 1 test: to become another user needs root");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let own = home.path().join("own");
    fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(65_534), Some(65_534)).unwrap();
    prepare(home.path());
    // A copy, for the way to the program itself may be closed to that user.
    let program = home.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["--exact", test, "--nocapture"]).env(NOBODY, home.path()).uid(65_534).gid(65_534);
    let output = command.current_dir("/").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
fn directories_that_may_not_be_read_may_hold_a_store() {
    let Some(home) = std::env::var_os(NOBODY).map(std::path::PathBuf::from) else {
        as_nobody("directories_that_may_not_be_read_may_hold_a_store", |home| {
            fs::create_dir(home.join("drop")).unwrap();
            fs::set_permissions(home.join("drop"), fs::Permissions::from_mode(0o733)).unwrap();
        });
        return;
    };
    for unreadable in [&home, &home.join("drop")] {
        assert!(fs::read_dir(unreadable).is_err());
    }
    for dir in ["own", "drop/store", "drop/new/deep/store"] {
        with_entries(&home.join(dir), 1, 3);
    }
}

#[test]
fn a_spare_of_another_user_is_made_anew() {
    let Some(home) = std::env::var_os(NOBODY).map(std::path::PathBuf::from) else {
        as_nobody("a_spare_of_another_user_is_made_anew", |home| {
            with_entries(&home.join("own"), 1, 100);
            for entry in fs::read_dir(home.join("own")).unwrap() {
                let path = entry.unwrap().path();
                if path.file_name().unwrap().to_str().unwrap().starts_with("spare-") {
                    std::os::unix::fs::chown(path, Some(0), Some(0)).unwrap();
                }
            }
        });
        return;
    };
    let dir = home.join("own");
    let engine = opened(&dir);
    append(&engine, 101..=300);
    engine.close().unwrap();
    assert_eq!(last(&dir), Index(300));
}

/// Prepared segments of a store in a directory, and whether all their bytes take room on the disk.
fn prepared(dir: &Path) -> (usize, bool) {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap());
    let spares: Vec<_> = files.filter(|f| f.file_name().to_string_lossy().starts_with("spare-")).collect();
    let takes_room = |file: &fs::DirEntry| {
        let stat = file.metadata().unwrap();
        stat.blocks() * 512 >= stat.len()
    };
    (spares.len(), spares.iter().all(takes_room))
}

#[test]
fn a_sparse_copy_gets_its_reserve_back() {
    let home = tempfile::tempdir().unwrap();
    let (store, copy) = (home.path().join("store"), home.path().join("copy"));
    with_entries(&store, 1, 10);
    let before = prepared(&store);
    let copied = Command::new("cp").args(["-r", "--sparse=always"]).args([&store, &copy]).status().unwrap();
    assert!(copied.success());
    assert_eq!(prepared(&copy), (before.0, false));
    let (engine, report) = Engine::open(&copy, caller()).unwrap();
    assert!(!report.is_alarm() && report.caveat.is_some(), "{report}");
    append(&engine, 11..=20);
    engine.maintain().unwrap();
    engine.close().unwrap();
    let (spares, take_room) = prepared(&copy);
    assert!(spares >= 4 && take_room, "{spares} {take_room}");
}

#[test]
fn a_file_system_in_memory_is_said_in_the_report() {
    let Ok(home) = tempfile::tempdir_in("/dev/shm") else {
        println!("SKIPPED 1 test: no file system in memory here");
        return;
    };
    Engine::create(home.path(), &small(1)).unwrap();
    let (engine, report) = Engine::open(home.path(), caller()).unwrap();
    assert!(report.caveat.unwrap().contains("in memory"));
    assert!(!report.is_alarm() && report.to_string().contains("beware"));
    engine.close().unwrap();
}
