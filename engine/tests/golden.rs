//! The format does not change by accident: golden files, and FORMAT.md against the constants.
//!
//! `BLESS=1 cargo test -p seawall --test golden` writes the golden files and the worked example
//! again; only a new format version may need it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use seawall::vfs::mem::MemVfs;
use seawall::{
    CreateOptions, Digest, Driver, Engine, Entry, EntryKind, GroupId, Index, LeaderTag, LogId, Options,
    Store, Vote, WriteBatch, evidence, frame, highwater, identity, segment, snapshot,
};

fn options() -> Options {
    Options { driver: Driver::Caller, zstd_level: None, chunk_bytes: 512, ..Options::default() }
}

/// Every kind of record, two groups, a snapshot, an unclean and a clean end.
fn golden_store() -> MemVfs {
    let vfs = MemVfs::new();
    let create = CreateOptions {
        segment_bytes: 16 << 10,
        unit: 512,
        seed: Some(*b"golden-store-one"),
        ..CreateOptions::new(3, 4)
    };
    Engine::create_in(&vfs, &create).unwrap();
    let (engine, _) = Engine::open_in(vfs.clone(), options()).unwrap();
    let (a, b) = (GroupId(1), GroupId(1 << 40));
    let mut batch = WriteBatch::new();
    batch.create_group(a).create_group(b);
    assert_eq!(engine.write(batch).unwrap().wait(), seawall::Outcome::Durable);
    engine.save_vote(a, Vote::new(2, 77, *b"node four")).unwrap();
    let member = Entry {
        id: LogId::new(2, 2),
        leader: LeaderTag::new(b"leader-4").unwrap(),
        kind: EntryKind::Membership,
        data: b"members: 4 5 6".as_slice().into(),
    };
    engine.append(a, &[Entry::command(1, 2, *b"first"), member, Entry::command(3, 2, *b"third")]).unwrap();
    engine.append(b, &[Entry::command(1, 1, *b""), Entry::command(2, 1, vec![0xab; 700])]).unwrap();
    engine.commit(a, Index(2)).unwrap();
    engine.truncate_suffix(a, Index(3)).unwrap();
    let mut writer = engine.snapshot_writer(a, LogId::new(1, 2), b"members: 4").unwrap();
    writer.write_all(&[7; 600]).unwrap();
    writer.publish().unwrap();
    engine.compact_prefix(a, Index(1)).unwrap();
    engine.record_external_snapshot(b, LogId::new(2, 1), Digest([9; 32])).unwrap();
    drop(engine);
    let (engine, _) = Engine::open_in(vfs.clone(), options()).unwrap();
    engine.append(a, &[Entry::command(3, 3, *b"after a crash")]).unwrap();
    engine.close().unwrap();
    vfs
}

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn format_md() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/FORMAT.md")
}

fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

/// The files that hold something: spares are zeros, or what a recycled segment left.
fn files(vfs: &MemVfs) -> BTreeMap<String, Vec<u8>> {
    let image = vfs.image();
    let kept = image.files.keys().filter(|n| !n.starts_with("spare-"));
    kept.map(|n| (n.clone(), image.read(n).unwrap())).collect()
}

fn read_golden(dir: &Path, prefix: &str, out: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read_golden(&entry.path(), &format!("{name}/"), out);
        } else {
            out.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}

#[test]
fn the_golden_store_is_written_byte_for_byte() {
    let made = files(&golden_store());
    if blessing() {
        for (name, bytes) in &made {
            let path = golden_dir().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    let mut golden = BTreeMap::new();
    read_golden(&golden_dir(), "", &mut golden);
    assert_eq!(made.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
    for (name, bytes) in &golden {
        assert!(made[name] == *bytes, "{name} differs from the golden file");
    }
}

#[test]
fn the_golden_store_reads_back() {
    let mut golden = BTreeMap::new();
    read_golden(&golden_dir(), "", &mut golden);
    let mut image = seawall::vfs::mem::Image::default();
    image.dirs.insert("snapshots".into());
    golden.iter().for_each(|(name, bytes)| image.put(name, bytes));
    let (store, report) = Store::open_read_only_in(MemVfs::from_image(image)).unwrap();
    assert!(report.clean && !report.is_alarm(), "{report:?}");
    assert_eq!((store.identity().cluster, store.identity().node), (3, 4));
    let a = store.group(GroupId(1)).unwrap();
    assert_eq!((a.first, a.last, a.commit), (Index(2), LogId::new(3, 3), Index(2)));
    assert_eq!(a.vote, Some(Vote::new(2, 77, *b"node four")));
    let entries = store.read(GroupId(1), Index(2)..Index(4), u64::MAX).unwrap();
    assert_eq!((entries[0].kind, entries[0].leader.as_bytes()), (EntryKind::Membership, &b"leader-4"[..]));
    assert_eq!(&entries[1].data[..], b"after a crash");
    let b = store.group(GroupId(1 << 40)).unwrap();
    assert_eq!(b.snapshot.unwrap().digest, Digest([9; 32]));
    assert_eq!(store.verify().unwrap().damage, []);
}

macro_rules! fields {
    ($module:path: $($name:ident)*) => {{
        use $module as m;
        vec![$((stringify!($name), m::$name)),*]
    }};
}

fn constants() -> BTreeMap<&'static str, Vec<(&'static str, Range<usize>)>> {
    BTreeMap::from([
        (
            "identity",
            fields!(identity::field: MAGIC VERSION LENGTH IGNORABLE READ_ONLY REFUSE UNIT SIZE CLUSTER NODE STORE CRC),
        ),
        (
            "segment header",
            fields!(segment::header: MAGIC VERSION LENGTH STORE CLUSTER NODE SIZE SEGMENT EPOCH PREVIOUS CUT_POSITION CUT_CHAIN RECOVERED_TO UNIT CRC),
        ),
        (
            "frame",
            fields!(frame::field: MAGIC HEADER_CRC KIND COPY RESERVED FRAME_LEN DIRECTORY_LEN ECHO_LEN PAYLOAD_LEN RECORDS TWIN CONTENT_CRC OFFSET SEGMENT EPOCH STORE FIRST MARK CHAIN),
        ),
        (
            "trailer",
            fields!(segment::trailer: MAGIC VERSION SEAL STORE SEGMENT EPOCH NEXT POSITION CHAIN CUT FOOTER ENTRIES RUNS STATE_LEN TABLE_CRC RUNS_CRC STATE_CRC LOST CRC),
        ),
        ("high water", fields!(highwater::field: MAGIC STORE EPOCH SEGMENT POSITION EVIDENCE CRC)),
        (
            "evidence",
            fields!(evidence::slot: MAGIC STORE SEQUENCE EPOCH ACT TEXT_LEN FROM TO GROUP INDEX POSITION PREVIOUS TEXT CRC),
        ),
        ("chunk", snapshot::format::chunk::FIELDS.to_vec()),
        ("manifest", snapshot::format::manifest::FIELDS.to_vec()),
    ])
}

#[test]
fn the_tables_of_the_document_are_the_constants() {
    let text = std::fs::read_to_string(format_md()).unwrap();
    let mut found: BTreeMap<String, Vec<(String, Range<usize>)>> = BTreeMap::new();
    let mut table = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("### Table: ") {
            table = Some(name.to_owned());
        } else if line.starts_with("## ") {
            table = None;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (Some(table), [field, offset, bytes, _]) = (&table, &cells[..]) else { continue };
        let named = field.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        let (true, Ok(offset), Ok(bytes)) = (named, offset.parse::<usize>(), bytes.parse::<usize>()) else {
            continue;
        };
        found.entry(table.clone()).or_default().push(((*field).to_owned(), offset..offset + bytes));
    }
    for (name, fields) in constants() {
        let expected: Vec<_> = fields.into_iter().map(|(n, r)| (n.to_owned(), r)).collect();
        assert_eq!(found.get(name), Some(&expected), "table {name}");
        assert!(expected.windows(2).all(|w| w[0].1.end == w[1].1.start), "table {name} has a hole");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.chunks(16).enumerate().fold(String::new(), |mut out, (n, row)| {
        write!(out, "{:04x} ", n * 16).unwrap();
        row.iter().for_each(|b| write!(out, " {b:02x}").unwrap());
        out.push('\n');
        out
    })
}

#[test]
fn the_worked_examples_are_the_golden_bytes() {
    let text = std::fs::read_to_string(format_md()).unwrap();
    let mut fresh = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("<!-- hex: ") {
        let (before, tail) = rest.split_at(at);
        let (marker, tail) = tail.split_once("-->").unwrap();
        let words: Vec<&str> = marker.split_whitespace().collect();
        let [_, _, file, from, to] = words[..] else { panic!("a marker names file, from and to: {marker}") };
        let bytes = std::fs::read(golden_dir().join(file)).unwrap();
        let dump = format!("```text\n{}```\n", hex(&bytes[from.parse().unwrap()..to.parse().unwrap()]));
        let after = tail.trim_start_matches('\n');
        let old = match after.strip_prefix("```text\n") {
            Some(block) => "```text\n".len() + block.find("```\n").unwrap() + "```\n".len(),
            None => 0,
        };
        write!(fresh, "{before}{marker}-->\n\n{dump}\n").unwrap();
        rest = after[old..].trim_start_matches('\n');
    }
    fresh.push_str(rest);
    if blessing() {
        std::fs::write(format_md(), &fresh).unwrap();
        return;
    }
    assert!(text == fresh, "an example in FORMAT.md differs from the golden files");
}
