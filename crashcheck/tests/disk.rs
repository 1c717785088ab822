//! A store of another's, checked inside a test: a map whose log is read again when it is opened.
//!
//! I own the store, right and wrong. Each record is `length, checksum, KEY=VALUE`; a log that ends in a
//! record that is not whole is cut there. The wrong ones leave out a sync, or the checksum.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crashcheck::core::choices::Bounds;
use crashcheck::core::profile::Profile;
use crashcheck::disk::{Disk, File, bounds, explore, explore_within, record};

/// What a store leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    FileSync,
    DirSync,
    Checksum,
}

struct Map {
    log: File,
    pairs: BTreeMap<String, String>,
    without: Without,
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(7, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)))
}

impl Map {
    fn open(disk: &Disk, without: Without) -> io::Result<Self> {
        let mut log = match disk.open("log") {
            Ok(log) => log,
            Err(_) => {
                let log = disk.create("log")?;
                if without != Without::DirSync {
                    disk.sync_dir("")?;
                }
                log
            }
        };
        let (mut bytes, mut pairs, mut at) = (Vec::new(), BTreeMap::new(), 0);
        log.read_to_end(&mut bytes)?;
        while let Some((pair, end)) = parse(&bytes, at, without) {
            let (key, value) = pair.split_once('=').ok_or(io::ErrorKind::InvalidData)?;
            pairs.insert(key.to_owned(), value.to_owned());
            at = end;
        }
        if at < bytes.len() {
            log.set_len(at as u64)?;
            log.sync_all()?;
        }
        log.seek(SeekFrom::Start(at as u64))?;
        Ok(Self { log, pairs, without })
    }

    fn set(&mut self, key: &str, value: &str) -> io::Result<()> {
        let pair = format!("{key}={value}");
        let mut record = vec![u8::try_from(pair.len()).expect("a short pair")];
        record.extend_from_slice(&sum(pair.as_bytes()).to_le_bytes());
        record.extend_from_slice(pair.as_bytes());
        self.log.write_all(&record)?;
        if self.without != Without::FileSync {
            self.log.sync_data()?;
        }
        self.pairs.insert(key.to_owned(), value.to_owned());
        Ok(())
    }
}

/// The pair of a whole record, and where it ends.
fn parse(bytes: &[u8], at: usize, without: Without) -> Option<(String, usize)> {
    let len = usize::from(*bytes.get(at)?);
    let (head, end) = (at + 5, at + 5 + len);
    let pair = bytes.get(head..end).filter(|_| len > 0)?;
    let whole = without == Without::Checksum || bytes[at + 1..head] == sum(pair).to_le_bytes();
    whole.then(|| (String::from_utf8_lossy(pair).into_owned(), end))
}

const PAIRS: [(&str, &str); 3] = [("a", "one"), ("b", "two"), ("a", "three")];

fn explored(without: Without, bounds: &Bounds) -> crashcheck::disk::Report {
    let recording = record(|disk| {
        let mut map = Map::open(disk, without)?;
        for (key, value) in PAIRS {
            map.set(key, value)?;
            disk.ack(format!("{key}={value}"));
        }
        io::Result::Ok(())
    })
    .unwrap();
    explore_within(&recording, bounds, |disk, acks| {
        let map = Map::open(disk, without).map_err(|e| e.to_string())?;
        let states: Vec<BTreeMap<String, String>> = (acks.len()..=PAIRS.len())
            .map(|n| PAIRS[..n].iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
            .collect();
        if !states.contains(&map.pairs) {
            return Err(format!("{:?} after {acks:?}", map.pairs));
        }
        let copy = disk.copy();
        let mut map = Map::open(&copy, without).map_err(|e| e.to_string())?;
        map.set("c", "four").map_err(|e| e.to_string())?;
        let again = Map::open(&copy, without).map_err(|e| e.to_string())?;
        if again.pairs == map.pairs { Ok(()) } else { Err("it cannot be written to".to_owned()) }
    })
}

#[test]
fn a_store_that_syncs_passes_under_every_profile() {
    for profile in Profile::ALL {
        let report = explored(Without::Nothing, &Bounds { profile, ..bounds() });
        assert!(report.passed() && report.states > PAIRS.len() as u64, "{profile:?}: {report}");
    }
}

#[test]
fn a_store_that_leaves_something_out_is_found() {
    for (without, says) in [
        (Without::FileSync, "{} after [\"a=one\"]"),
        (Without::DirSync, "lost: step 0, the creation of log"),
        (Without::Checksum, "check: "),
    ] {
        let report = explored(without, &bounds());
        let example = report.example.clone().unwrap_or_default();
        assert!(!report.passed() && example.contains(says), "{without:?}: {report}");
    }
}

#[test]
fn a_recovery_that_a_crash_breaks_is_found() {
    let recording = record(|disk| {
        disk.create("clean")?.sync_all()?;
        disk.sync_dir("")
    })
    .unwrap();
    // It counts its openings in place.
    let report = explore(&recording, |disk, _| {
        match disk.read("count") {
            Err(_) => {}
            Ok(count) if count == b"1" => return Ok(()),
            Ok(count) => return Err(format!("count holds {count:?}")),
        }
        disk.create("count").and_then(|mut file| file.write_all(b"1")).map_err(|e| e.to_string())
    });
    assert!(!report.passed(), "{report}");
    assert!(report.to_string().contains("recovery 1"), "{report}");
}

#[test]
fn files_are_those_of_a_file_system() {
    let disk = Disk::default();
    disk.create_dir("d").unwrap();
    let mut file = disk.create("d/f").unwrap();
    file.seek(SeekFrom::Start(2)).unwrap();
    file.write_all(b"xy").unwrap();
    assert_eq!((disk.read("d/f").unwrap(), file.len()), (b"\0\0xy".to_vec(), 4));
    let mut end = [0; 1];
    file.seek(SeekFrom::End(-1)).unwrap();
    file.read_exact(&mut end).unwrap();
    assert_eq!((end, file.read(&mut end).unwrap()), (*b"y", 0));
    disk.rename("d/f", "g").unwrap();
    assert_eq!(disk.list(), ["d", "g"]);
    disk.remove("g").unwrap();
    file.set_len(1).unwrap();
    assert_eq!(file.len(), 1);
    let kind = |done: io::Result<()>| done.unwrap_err().kind();
    assert_eq!(kind(disk.create("no/f").map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.create("d").map(drop)), io::ErrorKind::IsADirectory);
    assert_eq!(kind(disk.create_dir("d")), io::ErrorKind::IsADirectory);
    assert_eq!(kind(disk.rename("g", "h")), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.sync_dir("no")), io::ErrorKind::NotFound);
    assert!(file.seek(SeekFrom::Current(-9)).is_err());
}
