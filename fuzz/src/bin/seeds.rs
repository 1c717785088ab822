//! `seeds CORPUS`: writes the first inputs of each target below a directory.
//!
//! I own what they are made of: the golden store, and one made here with the identity that `segment_scan`
//! expects; whole, segment by segment, and frame by frame.

use std::io;
use std::path::{Path, PathBuf};
use std::{env, fs};

use seawall::vfs::mem::MemVfs;
use seawall::{
    CreateOptions, Digest, Driver, Engine, Entry, GroupId, Index, LogId, Options, Vote, WriteBatch,
};
use seawall_fuzz::{mutate, pack};

type Files = Vec<(String, Vec<u8>)>;

/// A store of two groups with every kind of record, left open, and the same store closed.
fn made() -> [Files; 2] {
    let disk = MemVfs::new();
    let create =
        CreateOptions { segment_bytes: 16 << 10, unit: 512, seed: Some([7; 16]), ..CreateOptions::new(1, 1) };
    Engine::create_in(&disk, &create).expect("an empty disk");
    let options = Options { driver: Driver::Caller, zstd_level: None, ..Options::default() };
    let (engine, _) = Engine::open_in(disk.clone(), options.clone()).expect("a new store");
    for group in [GroupId(1), GroupId(9)] {
        engine.create_group(group).expect("a new group");
        engine.save_vote(group, Vote::new(1, 3, *b"vote")).expect("a first vote");
        for index in 1..=9 {
            let size = if index % 4 == 0 { 1500 } else { 30 };
            engine.append(group, &[Entry::command(index, 1, vec![b'a'; size])]).expect("the next entry");
        }
        engine.commit(group, Index(5)).expect("within the log");
        engine.truncate_suffix(group, Index(8)).expect("above the commit index");
        let mut batch = WriteBatch::new();
        batch.external_snapshot(group, LogId::new(4, 1), Digest([5; 32])).compact_prefix(group, Index(4));
        assert_eq!(engine.write(batch).expect("covered").wait(), seawall::Outcome::Durable);
    }
    drop(engine);
    let open = files(&disk);
    let (engine, _) = Engine::open_in(disk.clone(), options).expect("nothing was damaged");
    engine.close().expect("nothing fails");
    [open, files(&disk)]
}

fn files(disk: &MemVfs) -> Files {
    let image = disk.image();
    let kept = image.files.keys().filter(|name| !name.starts_with("spare-"));
    kept.map(|name| (name.clone(), image.read(name).expect("it is there"))).collect()
}

fn golden() -> io::Result<Files> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden");
    let mut files = Vec::new();
    for dir in ["", "snapshots/"] {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(root.join(dir))?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        entries.sort();
        for path in entries.into_iter().filter(|path| path.is_file()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files.push((format!("{dir}{name}"), fs::read(&path)?));
        }
    }
    Ok(files)
}

fn main() -> io::Result<()> {
    let corpus = env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: seeds CORPUS"))?;
    let mut count = 0;
    let mut put = |target: &str, bytes: &[u8]| {
        count += 1;
        let dir = Path::new(&corpus).join(target);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(format!("seed-{count:03}")), bytes)
    };
    let [open, closed] = made();
    for store in [golden()?, open, closed] {
        put("recover_directory", &pack::pack(&store))?;
        for (_, bytes) in store.iter().filter(|(name, _)| name.ends_with(".seg")) {
            let mut segment = bytes.clone();
            mutate::scanned(&mut segment);
            put("segment_scan", &segment)?;
            for at in (512..bytes.len()).step_by(512).filter(|at| bytes[*at..].starts_with(b"SWFR")) {
                let length = u32::from_le_bytes(bytes[at + 16..at + 20].try_into().expect("four bytes"));
                put("record_decode", &bytes[at..at + length as usize])?;
            }
        }
    }
    // Every pair of operations, with small and large arguments.
    for pair in 0..64_u8 {
        let (one, two) = (pair / 8, pair % 8);
        put("operations", &[0, 0x46, 8, 0xf1, one, 0x13, two, 0xf2, 6, 0, one + 8, 3, two, 0x77, 7, 0])?;
    }
    println!("{count} seeds");
    Ok(())
}
