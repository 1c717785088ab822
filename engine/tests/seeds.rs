//! The fuzz targets' functions over seeds and 10,000 deterministic mutations of them.
//!
//! I own the mutations. Decoders and recovery are judged by whether they end without a panic;
//! operations by the model that the fuzz target uses. Seeds are the golden files and a store made
//! here, so that today's format is always among them.

#[path = "../../fuzz/src/operations.rs"]
#[expect(unreachable_pub, reason = "the fuzz crate exports it")]
mod operations;

#[path = "../../crashcheck/src/engine/reader/mend.rs"]
#[expect(dead_code, reason = "the checker also gives manifests other names")]
mod mend;
#[path = "../../fuzz/src/mutate.rs"]
#[expect(unreachable_pub, reason = "the fuzz crate exports it")]
mod mutate;
#[path = "../../fuzz/src/pack.rs"]
#[expect(unreachable_pub, reason = "the fuzz crate exports it")]
mod pack;

use std::fs;
use std::path::Path;

use seawall::hostile;
use seawall::{CreateOptions, Engine, Entry, GroupId, Index, LogId, Options, Vote, WriteBatch};

const MUTATIONS: u64 = 10_000;

/// The next number of splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn below(state: &mut u64, end: usize) -> usize {
    let end = u64::try_from(end.max(1)).expect("a small number");
    usize::try_from(random(state) % end).expect("a small number")
}

/// Damages the bytes in one of the ways of the fault model, or in none that a disk would.
fn mutate(bytes: &mut Vec<u8>, state: &mut u64) {
    if bytes.is_empty() {
        bytes.push(0);
    }
    let at = below(state, bytes.len());
    let sector = at / 512 * 512;
    let end = bytes.len().min(sector + 512);
    match random(state) % 7 {
        0 => bytes[at] ^= 1 << (random(state) % 8),
        1 => bytes[at] = 0xff,
        2 => bytes.truncate(at),
        3 => bytes[sector..end].fill(0),
        4 => {
            let from = below(state, bytes.len() - (end - sector) + 1);
            bytes.copy_within(sector..end, from);
        }
        5 => {
            // A length or a count of the decoder's choice.
            let value = [0, 1, u32::MAX, 1 << 31, 0xffff][below(state, 5)];
            let field = at.min(bytes.len().saturating_sub(4));
            let width = 4.min(bytes.len() - field);
            bytes[field..field + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        _ => bytes.extend_from_within(sector..end),
    }
}

/// A small store of two groups, votes, a truncation and a compaction; unclean if asked for.
fn make_store(dir: &Path, clean: bool) {
    let mut create = CreateOptions::new(7, 1);
    create.segment_bytes = 16 << 10;
    create.unit = 512;
    create.seed = Some([7; 16]);
    Engine::create(dir, &create).expect("an empty directory");
    let (engine, _) = Engine::open(dir, Options::default()).expect("a new store");
    for group in [GroupId(1), GroupId(9)] {
        engine.create_group(group).expect("a new group");
        engine.save_vote(group, Vote::new(1, 3, *b"vote")).expect("a first vote");
        for index in 1..=12 {
            let size = if index % 4 == 0 { 1500 } else { 30 };
            engine.append(group, &[Entry::command(index, 1, vec![b'a'; size])]).expect("the next entry");
        }
        engine.commit(group, Index(6)).expect("within the log");
        engine.truncate_suffix(group, Index(11)).expect("above the commit index");
        let mut batch = WriteBatch::new();
        batch.external_snapshot(group, LogId::new(4, 1), seawall::Digest([5; 32]));
        batch.compact_prefix(group, Index(4));
        assert_eq!(engine.write(batch).expect("covered").wait(), seawall::Outcome::Durable);
    }
    if clean {
        engine.close().expect("nothing fails");
    }
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("below the root").to_str().expect("UTF-8");
            files.push((name.to_owned(), fs::read(&path).expect("a readable file")));
        }
    }
}

/// The stores, each as a list of files.
fn stores() -> Vec<Vec<(String, Vec<u8>)>> {
    let mut stores = Vec::new();
    for clean in [true, false] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        make_store(&dir.path().join("store"), clean);
        let mut files = Vec::new();
        collect(&dir.path().join("store"), &dir.path().join("store"), &mut files);
        assert!(files.len() > 1, "a store has files");
        stores.push(files);
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files = Vec::new();
    collect(&golden, &golden, &mut files);
    assert!(!files.is_empty(), "the golden store has files");
    stores.push(files);
    stores
}

fn open_directory(files: &[(String, Vec<u8>)]) {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    hostile::open_directory(&files);
}

#[test]
fn names_that_no_directory_can_hold_are_no_files() {
    for mut files in stores() {
        files.extend(["spare-000\0", "snapshots/\0", "", "../x"].map(|name| (name.to_owned(), vec![0; 512])));
        open_directory(&files);
    }
}

#[test]
fn decoders_end_on_any_bytes() {
    let seeds: Vec<Vec<u8>> = stores().into_iter().flatten().map(|(_, bytes)| bytes).collect();
    let mut state = 1;
    for seed in &seeds {
        hostile::scan_segment(seed);
        for frame in seed.chunks(512) {
            hostile::decode_frame(frame);
        }
    }
    for n in 0..MUTATIONS {
        let mut bytes = seeds[usize::try_from(n).expect("a small number") % seeds.len()].clone();
        for _ in 0..=random(&mut state) % 3 {
            mutate(&mut bytes, &mut state);
        }
        hostile::scan_segment(&bytes);
        let from = below(&mut state, bytes.len() / 512 + 1) * 512;
        hostile::decode_frame(&bytes[from.min(bytes.len())..]);
    }
}

#[test]
fn recovery_ends_on_any_files() {
    let stores = stores();
    let mut state = 2;
    for store in &stores {
        open_directory(store);
    }
    for n in 0..MUTATIONS {
        let mut files = stores[usize::try_from(n).expect("a small number") % stores.len()].clone();
        let victim = below(&mut state, files.len());
        match random(&mut state) % 8 {
            0 => drop(files.remove(victim)),
            1 => files[victim].1 = files[below(&mut state, files.len())].1.clone(),
            _ => mutate(&mut files[victim].1, &mut state),
        }
        open_directory(&files);
    }
}

/// Numbers at their ends and records that do not follow, under checksums that hold.
#[test]
fn what_is_taken_of_forged_files_is_consistent() {
    let stores = stores();
    let mut state = 4;
    for n in 0..MUTATIONS {
        let files = &stores[usize::try_from(n).expect("a small number") % stores.len()];
        let mut bytes = pack::pack(files);
        for _ in 0..=random(&mut state) % 3 {
            mutate::forge(&mut bytes, random(&mut state));
        }
        mutate::directory(&mut bytes);
        hostile::open_directory(&pack::unpack(&bytes));
    }
}

#[test]
fn operations_agree_with_the_model() {
    let mut state = 3;
    for _ in 0..300 {
        let count = 2 + below(&mut state, 80);
        let bytes: Vec<u8> = (0..count).map(|_| random(&mut state).to_le_bytes()[3]).collect();
        operations::run(&bytes);
    }
}
