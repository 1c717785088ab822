//! Bytes whose checksums hold and whose claims do not: an open or a look takes memory for what is there, not for
//! what is claimed, and reads nothing twice because it is named twice. Memory and bytes are counted, never time.
#![expect(unsafe_code, reason = "an allocator that counts is unsafe by nature")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use seawall::frame::{self, Place};
use seawall::record::{Kind, Name};
use seawall::scan::{Window, scan};
use seawall::segment::{
    self, Ending, EntryRef, Footer, Header, HeaderFact, Run, Seal, file_name, read_trailer, trailer,
};
use seawall::types::{Incarnation, LeaderTag, Position, SegmentId};
use seawall::vfs::mem::{CallKind, Content, MemVfs};
use seawall::vfs::os::OsVfs;
use seawall::vfs::{Access, File, Vfs, read_exact_at};
use seawall::{CreateOptions, Driver, Engine, Entry, GroupId, Index, LogId, Options, Store, VerifyReport};

/// Counts the bytes that are taken.
struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
/// One test at a time.
static ALONE: Mutex<()> = Mutex::new(());

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let taken = TAKEN.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(taken, Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most memory that a call takes at once, in bytes, and what it gives.
fn most_in<T>(call: impl FnOnce() -> T) -> (usize, T) {
    let before = TAKEN.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let given = call();
    (MOST.load(Ordering::Relaxed) - before, given)
}

const G: GroupId = GroupId(1);
const ENTRIES: u32 = 20_000;
const SEGMENT: u64 = 8 << 20;

fn caller() -> Options {
    Options { driver: Driver::Caller, zstd_level: None, chunk_bytes: 4096, ..Options::default() }
}

fn create<V: Vfs>(vfs: &V) -> Engine<V> {
    let create =
        CreateOptions { segment_bytes: SEGMENT, unit: 512, seed: Some([4; 16]), ..CreateOptions::new(1, 1) };
    Engine::create_in(vfs, &create).unwrap();
    Engine::open_in(vfs.clone(), caller()).unwrap().0
}

/// A closed store with one group of many small entries.
fn filled<V: Vfs>(vfs: &V, entries: u32) {
    let engine = create(vfs);
    engine.create_group(G).unwrap();
    for start in (1..=u64::from(entries)).step_by(1000) {
        let batch: Vec<_> = (start..start + 1000).map(|n| Entry::command(n, 1, vec![7; 16])).collect();
        engine.append(G, &batch).unwrap();
    }
    engine.close().unwrap();
}

/// The newest segment of a closed store: its name, bytes, place and trailer.
fn newest<V: Vfs>(vfs: &V) -> (String, Vec<u8>, Place, segment::Trailer) {
    let names = vfs.list("").unwrap();
    let id = names.iter().filter_map(|name| segment::parse_name(name)).next_back().unwrap();
    let file = vfs.open(&file_name(id), Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&file, &mut bytes, 0).unwrap();
    let (store, _) = Store::open_read_only_in(vfs.clone()).unwrap();
    let fact = Header::decode::<V>(&bytes[..512], id, &store.identity());
    let HeaderFact::Ours(header) = fact else { panic!("{fact:?}") };
    let place = header.place();
    let trailer = read_trailer::<V>(&file, &place).unwrap().expect("a closed segment");
    (file_name(id), bytes, place, trailer)
}

/// A footer of `runs` over the entries, with one entry said to be damaged, in place of the store's own.
fn forge(vfs: &MemVfs, runs: impl Fn(Name) -> Vec<Run>, shift: u32) -> MemVfs {
    let (name, bytes, place, old) = newest(vfs);
    let [table, run, state] = old
        .parts()
        .map(|part| bytes[usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap()].to_vec());
    assert_eq!(run.len(), segment::RUN_LEN, "one run");
    let leader = LeaderTag::NONE;
    let first =
        Name { kind: Kind::Command, group: G, incarnation: Incarnation(1), id: LogId::new(1, 1), leader };
    let mut entries: Vec<_> = table.as_chunks().0.iter().map(EntryRef::decode).collect();
    for (n, entry) in entries.iter_mut().enumerate().filter(|_| shift > 0) {
        // Each has the bytes of all that come after it.
        entry.len = old.cut - entry.offset - u32::try_from(n).unwrap() % shift;
    }
    let footer = Footer { entries, runs: runs(first), state };
    let ending = Ending {
        seal: Seal::Closed,
        next: SegmentId(0),
        position: old.position,
        chain: old.chain,
        cut: old.cut,
        lost: 1,
    };
    let mut forged = bytes[..old.cut as usize].to_vec();
    forged.extend_from_slice(&footer.encode::<MemVfs>(&place, &ending, old.cut).0);
    let mut image = vfs.image();
    image.files.insert(name, Content::from_bytes(&forged));
    MemVfs::from_image(image)
}

/// Bytes that reads ask for while a store is looked at and verified, by file; its groups' last entries, and the
/// most memory.
fn look(vfs: &MemVfs) -> (BTreeMap<String, usize>, usize, VerifyReport, Index) {
    let read = Arc::new(Mutex::new(BTreeMap::new()));
    let count = read.clone();
    vfs.set_faults(Some(Arc::new(move |call| {
        if call.kind == CallKind::Read {
            *count.lock().unwrap().entry(call.path.clone()).or_insert(0) += call.bytes;
        }
        None
    })));
    let (most, (report, last)) = most_in(|| {
        let (store, _) = Store::open_read_only_in(vfs.clone()).unwrap();
        (store.verify().unwrap(), store.group(GroupId(1)).unwrap().last.index)
    });
    vfs.set_faults(None);
    let read = read.lock().unwrap().clone();
    (read, most, report, last)
}

#[test]
fn runs_over_the_same_entries_are_damage_and_cost_nothing() {
    let _alone = ALONE.lock();
    let vfs = MemVfs::new();
    filled(&vfs, ENTRIES);
    let whole = |name: Name| vec![Run { name, count: ENTRIES, start: 0 }; 4000];
    let (_, most, _, last) = look(&forge(&vfs, whole, 0));
    assert_eq!(last, Index(u64::from(ENTRIES)));
    assert!(most < 64 << 20, "{most} bytes");
}

#[test]
fn entries_over_the_same_bytes_are_damage_and_cost_nothing() {
    let _alone = ALONE.lock();
    let vfs = MemVfs::new();
    filled(&vfs, ENTRIES);
    let whole = |name: Name| vec![Run { name, count: ENTRIES, start: 0 }];
    let forged = forge(&vfs, whole, 3);
    let (_, most, _, last) = look(&forged);
    assert_eq!(last, Index(u64::from(ENTRIES)));
    assert!(most < 64 << 20, "{most} bytes");
    // The table is not believed, and no entry is checked by it: the frames say where entries are.
    let (_, report) = Store::open_read_only_in(forged).unwrap();
    assert!(report.lost.is_empty(), "{} lost", report.lost.len());
}

/// Holes cost no disk, and claims about them no memory.
#[test]
fn a_sparse_file_that_claims_millions_of_runs_takes_no_memory() {
    let _alone = ALONE.lock();
    for claimed in [60_000_000_u32, u32::MAX] {
        let dir = tempfile::tempdir().unwrap();
        let vfs = OsVfs::at(dir.path().join("store"));
        filled(&vfs, 1000);
        let (name, _, place, mut old) = newest(&vfs);
        old.runs = claimed;
        let mut raw = [0; trailer::LEN];
        let [.., state] = old.parts();
        let salt = seawall::checksum::seed(place.salt::<OsVfs>());
        write_trailer(&mut raw, &old, &place, salt);
        let path = dir.path().join("store").join(&name);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&raw, state.end).unwrap();
        let (most, looked) = most_in(|| {
            let (store, _) = Store::open_read_only_in(vfs.clone()).unwrap();
            (store.verify().unwrap(), store.group(G).unwrap().last.index)
        });
        let (report, last) = looked;
        assert_eq!(last, Index(1000));
        assert!(report.damage.iter().any(|d| d.what == "the file is longer than a segment"), "{report:?}");
        assert!(most < 64 << 20, "{most} bytes for {claimed} runs");
    }
}

/// The trailer's bytes, as a writer codes them.
fn write_trailer(raw: &mut [u8; trailer::LEN], t: &segment::Trailer, place: &Place, salt: u32) {
    let ending =
        Ending { seal: t.seal, next: t.next, position: t.position, chain: t.chain, cut: t.cut, lost: t.lost };
    let (bytes, _) = Footer::default().encode::<OsVfs>(place, &ending, t.footer);
    raw.copy_from_slice(&bytes[bytes.len() - trailer::LEN..]);
    raw[trailer::ENTRIES].copy_from_slice(&t.entries.to_le_bytes());
    raw[trailer::RUNS].copy_from_slice(&t.runs.to_le_bytes());
    raw[trailer::STATE_LEN].copy_from_slice(&t.state_len.to_le_bytes());
    let sum = seawall::checksum::crc(salt, &raw[..trailer::CRC.start]);
    raw[trailer::CRC].copy_from_slice(&sum.to_le_bytes());
}

/// Headers at every unit of a payload, each of a frame to the end of the segment.
#[test]
fn frames_within_frames_are_checked_twice_at_most() {
    let _alone = ALONE.lock();
    let vfs = MemVfs::new();
    filled(&vfs, 1000);
    let identity = Store::open_read_only_in(vfs.clone()).unwrap().0.identity();
    let (name, mut bytes, place, old) = newest(&vfs);
    let frame = (512..old.cut).step_by(512).rev().find_map(|at| {
        match frame::probe::<MemVfs>(&bytes[at as usize..], &place, at) {
            frame::Probe::Frame(header) if !header.is_twin => Some(*header),
            _ => None,
        }
    });
    let frame = frame.expect("a frame of entries");
    let end = u32::try_from(SEGMENT).unwrap();
    let template = bytes[frame.offset as usize..][..frame::HEADER_LEN].to_vec();
    bytes.truncate(frame.offset as usize);
    bytes.resize(end as usize, 1);
    for at in (frame.offset..end).step_by(512) {
        let raw = &mut bytes[at as usize..][..frame::HEADER_LEN];
        raw.copy_from_slice(&template);
        let inner = u32::try_from(frame::HEADER_LEN).unwrap() + frame.directory_len + frame.echo_len;
        let payload = (end - at).saturating_sub(inner).to_le_bytes();
        raw[frame::field::FRAME_LEN].copy_from_slice(&(end - at).to_le_bytes());
        raw[frame::field::PAYLOAD_LEN].copy_from_slice(&payload);
        raw[frame::field::OFFSET].copy_from_slice(&at.to_le_bytes());
        let salt = seawall::checksum::seed(place.salt::<MemVfs>());
        let sum = seawall::checksum::crc(salt, &raw[frame::field::KIND.start..]);
        raw[frame::field::HEADER_CRC].copy_from_slice(&sum.to_le_bytes());
    }
    let mut image = vfs.image();
    image.files.insert(name.clone(), Content::from_bytes(&bytes));
    let file = MemVfs::from_image(image).open(&name, Access::Read).unwrap();
    let fact = Header::decode::<MemVfs>(&bytes[..512], place.segment, &identity);
    let HeaderFact::Ours(header) = fact else { panic!("{fact:?}") };
    let mut window = Window::new(&file).unwrap();
    let (most, found) = most_in(|| scan::<MemVfs>(&mut window, &fact, &header, Position(0)).unwrap());
    // Each of them was checked, as far as it claims to reach.
    let found = found.expect("the frames before are good");
    let checked: u64 = found.later.iter().map(|later| u64::from(later.header.frame_len)).sum();
    assert!(checked > 0 && checked <= 2 * bytes.len() as u64, "{checked} bytes checked of {}", bytes.len());
    assert!(most < 64 << 20, "{most} bytes");
}

#[test]
fn what_many_groups_name_is_read_once() {
    let _alone = ALONE.lock();
    const GROUPS: u64 = 40;
    let vfs = MemVfs::new();
    let engine = create(&vfs);
    for group in (1..=GROUPS).map(GroupId) {
        engine.create_group(group).unwrap();
        engine.append(group, &[Entry::command(1, 1, *b"entry")]).unwrap();
        let mut writer = engine.snapshot_writer(group, LogId::new(1, 1), b"").unwrap();
        writer.write_all(&[9; 4096]).unwrap();
        writer.publish().unwrap();
    }
    engine.close().unwrap();
    let (read, _, report, _) = look(&vfs);
    let chunks: Vec<_> = read.iter().filter(|(name, _)| name.ends_with(".chunk")).collect();
    assert!(report.damage.is_empty() && report.snapshots == GROUPS, "{report:?}");
    assert_eq!(chunks.len(), 1);
    assert!(*chunks[0].1 < 2 * 4096 + 200, "{} bytes of one chunk", chunks[0].1);
}
