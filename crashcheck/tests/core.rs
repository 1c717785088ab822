//! The core against toy stores, hand counts, and a second, naive way to the same states.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crashcheck::core::body::Tree;
use crashcheck::core::choices::{self, Bounds, Choice, Mask, Tear, Tears};
use crashcheck::core::counts::{Counters, Seen};
use crashcheck::core::doubt::Doubt;
use crashcheck::core::explore::{Finding, Sink, explore};
use crashcheck::core::image::{Image, PAGE};
use crashcheck::core::micro::{Micro, split};
use crashcheck::core::minimise::{ddmin, minimise_state};
use crashcheck::core::pool::{Progress, pool};
use crashcheck::core::profile::{Profile, Unit};
use crashcheck::core::replay::{Id, ReplayError, replay};
use crashcheck::core::state::View;
use crashcheck::core::subject::{Checked, Subject};
use crashcheck::core::trace::{Cut, Ino, Op, Trace};
use proptest::prelude::*;

#[path = "core/toys.rs"]
mod toys;

use toys::{Disk, Kind, Shows, Toy};

/// Judges nothing; remembers every state that it was given.
#[derive(Default)]
struct Collect(Mutex<Vec<Image>>);

impl Subject for Collect {
    type Run = Trace;
    type Exposed = ();

    fn trace<'a>(&self, run: &'a Trace) -> &'a Trace {
        run
    }

    fn history_key(&self, _: &Trace, _: Cut) -> u64 {
        0
    }

    fn exposed_key(&self, (): &()) -> u64 {
        0
    }

    fn check(&self, _: &Trace, _: Cut, image: Image, _: Option<&()>, _: bool) -> Checked<()> {
        self.0.lock().unwrap().push(image);
        Checked::fine(())
    }
}

/// Every state that the exploration of a trace tries, and its counters.
fn states(trace: &Trace, bounds: &Bounds) -> (Vec<Image>, Counters) {
    let (subject, mut sink) = (Collect::default(), Sink::new(0, 0));
    assert!(explore(&subject, trace, bounds, &mut sink));
    (subject.0.into_inner().unwrap(), sink.counters)
}

fn count(disk: &Disk, bounds: &Bounds) -> usize {
    let (images, counters) = states(&disk.trace, bounds);
    assert_eq!(counters.distinct, images.len() as u64);
    images.len()
}

fn bounds() -> Bounds {
    Bounds::default()
}

fn torn() -> Bounds {
    Bounds { tears: Tears::One, ..bounds() }
}

fn ext4() -> Bounds {
    Bounds { profile: Profile::Ext4, ..bounds() }
}

fn block() -> Bounds {
    Bounds { unit: Unit::Block, ..bounds() }
}

const A: &[u8] = &[b'a'; PAGE];
const B: &[u8] = &[b'b'; PAGE];

#[test]
fn independent_writes_give_every_subset() {
    let mut disk = Disk::with(&[("f", &[1; 8 * PAGE])]);
    let f = disk.names["f"];
    for page in 0..3 {
        disk.write(f, page * PAGE, A);
    }
    let (images, counters) = states(&disk.trace, &bounds());
    assert_eq!(images.len(), 8);
    // What the cut before has tried is not made again.
    assert_eq!((counters.generated, counters.skipped_duplicate), (8, 0));
    assert!(counters.is_complete());
    // As one write it is the same; in one block it is all or nothing.
    let mut one = Disk::with(&[("f", &[1; 8 * PAGE])]);
    one.write(f, 0, &[b'a'; 3 * PAGE]);
    assert_eq!(count(&one, &bounds()), 8);
    assert_eq!(count(&one, &block()), 2);
}

#[test]
fn writes_of_one_page_keep_their_order() {
    let mut disk = Disk::with(&[("f", &[1; 2 * PAGE])]);
    let f = disk.names["f"];
    disk.write(f, 0, A);
    disk.write(f, 0, B);
    disk.write(f, 10, b"zzz");
    assert_eq!(count(&disk, &bounds()), 4);
    disk.write(f, PAGE, A);
    assert_eq!(count(&disk, &bounds()), 8);
    // Nothing changes, nothing is added.
    disk.write(f, PAGE, A);
    assert_eq!(count(&disk, &bounds()), 8);
}

#[test]
fn a_sync_ends_the_doubt_of_its_file_alone() {
    let mut disk = Disk::with(&[("f", &[1; PAGE]), ("g", &[1; PAGE])]);
    let (f, g) = (disk.names["f"], disk.names["g"]);
    disk.write(f, 0, A);
    disk.step(Op::SyncData { ino: g });
    disk.write(g, 0, A);
    assert_eq!(count(&disk, &bounds()), 4);
    let mut synced = Disk::with(&[("f", &[1; PAGE]), ("g", &[1; PAGE])]);
    synced.write(f, 0, A);
    synced.step(Op::SyncData { ino: f });
    synced.write(g, 0, A);
    // Old and old, new and old, new and new.
    assert_eq!(count(&synced, &bounds()), 3);
}

#[test]
fn data_sync_keeps_a_growth_and_not_a_shrink() {
    let last = |shrinks: bool, op: fn(Ino) -> Op| {
        let mut disk = Disk::with(&[("f", &[1; 2 * PAGE])]);
        let f = disk.names["f"];
        disk.set_len(f, if shrinks { 100 } else { 1500 });
        disk.step(op(f));
        last_cut(&disk.trace, &bounds()).len()
    };
    assert_eq!(last(false, |ino| Op::SyncData { ino }), 1);
    assert_eq!(last(true, |ino| Op::SyncData { ino }), 2);
    assert_eq!(last(true, |ino| Op::SyncAll { ino }), 1);
}

#[test]
fn names_need_their_directory() {
    let mut disk = Disk::with(&[("f", A)]);
    let g = disk.create("g");
    disk.write(g, 0, b"new");
    disk.step(Op::SyncAll { ino: g });
    assert_eq!(last_cut(&disk.trace, &bounds()).len(), 2);
    // ext4 commits the name with the length.
    assert_eq!(last_cut(&disk.trace, &ext4()).len(), 1);
    disk.sync_dir();
    assert_eq!(last_cut(&disk.trace, &bounds()).len(), 1);
    disk.rename("g", "f");
    let images = last_cut(&disk.trace, &bounds());
    assert_eq!(images.len(), 2, "a rename is atomic");
    assert!(images.iter().all(|image| image.files.contains_key("f")));
    disk.remove("f");
    assert_eq!(last_cut(&disk.trace, &bounds()).len(), 3);
    disk.fail(Op::SyncDir { path: String::new() });
    disk.sync_dir();
    assert_eq!(last_cut(&disk.trace, &bounds()).len(), 3, "after a failed sync names stay in doubt");
}

#[test]
fn a_rename_across_directories_needs_both() {
    let mut disk = Disk::with(&[("f", A)]);
    disk.dirs.insert("d".to_owned());
    disk.step(Op::CreateDir { path: "d".to_owned() });
    disk.rename("f", "d/f");
    // Nothing, the directory, the file in both, all: it cannot be in a directory that is not there.
    assert_eq!(last_cut(&disk.trace, &bounds()).len(), 4);
    assert_eq!(last_cut(&disk.trace, &ext4()).len(), 3);
    disk.step(Op::SyncDir { path: "d".to_owned() });
    assert_eq!(last_cut(&disk.trace, &bounds()).len(), 4);
    disk.sync_dir();
    assert_eq!(last_cut(&disk.trace, &bounds()).len(), 1);
}

#[test]
fn an_append_may_lose_data_or_length_and_xfs_not_data_alone() {
    let mut disk = Disk::with(&[("f", A)]);
    let f = disk.names["f"];
    disk.write(f, PAGE, B);
    // Nothing (with or without the data), zeros, all.
    assert_eq!(count(&disk, &bounds()), 3);
    assert_eq!(count(&disk, &ext4()), 3);
    assert_eq!(count(&disk, &Bounds { profile: Profile::Xfs, ..bounds() }), 2);
}

#[test]
fn a_zero_fill_is_none_half_or_all() {
    let mut disk = Disk::with(&[]);
    let f = disk.create("f");
    disk.sync_dir();
    disk.write(f, 0, &[0; 32 * PAGE]);
    let lens: BTreeSet<u64> =
        last_cut(&disk.trace, &bounds()).iter().map(|image| image.files["f"].len).collect();
    assert_eq!(lens, BTreeSet::from([0, 16 * 512, 32 * 512]));
    // Over something else: by halves as well.
    let mut over = Disk::with(&[("f", &[1; 32 * PAGE])]);
    over.write(over.names["f"], 0, &[0; 32 * PAGE]);
    assert_eq!(count(&over, &bounds()), 3);
}

#[test]
fn a_failed_sync_leaves_doubt_until_rewritten() {
    let mut disk = Disk::with(&[("f", &[1; PAGE])]);
    let f = disk.names["f"];
    disk.write(f, 0, A);
    disk.fail(Op::SyncData { ino: f });
    disk.step(Op::SyncData { ino: f });
    disk.step(Op::SyncAll { ino: f });
    assert_eq!(last_cut(&disk.trace, &bounds()).len(), 2, "a later success says nothing");
    disk.write(f, 0, A);
    assert_eq!(last_cut(&disk.trace, &bounds()).len(), 2);
    disk.step(Op::SyncData { ino: f });
    let images = last_cut(&disk.trace, &bounds());
    assert_eq!(images, BTreeSet::from([Bytes::of(&disk.image())]), "rewritten and synced");
}

#[test]
fn a_shorter_length_and_the_writes_around_it_keep_their_places() {
    // The write is in doubt for good, the shorter length after it is durable.
    let mut disk = Disk::with(&[("f", &[1; 2 * PAGE])]);
    let f = disk.names["f"];
    disk.write(f, PAGE, A);
    disk.fail(Op::SyncData { ino: f });
    disk.set_len(f, PAGE + 100);
    disk.step(Op::SyncAll { ino: f });
    disk.set_len(f, 2 * PAGE);
    let state = |tail: u8, len: usize| {
        let mut bytes = [&[1; PAGE][..], &[tail; 100]].concat();
        bytes.resize(len, 0);
        Bytes(vec![("f".to_owned(), Some(bytes))])
    };
    let tails = [(1, PAGE + 100), (b'a', PAGE + 100), (1, 2 * PAGE), (b'a', 2 * PAGE)];
    let expected: BTreeSet<_> = tails.into_iter().map(|(tail, len)| state(tail, len)).collect();
    assert_eq!(last_cut(&disk.trace, &bounds()), expected);
    // The lengths are in doubt for good, the write after them is durable.
    let mut disk = Disk::with(&[("f", &[1; 2 * PAGE])]);
    disk.set_len(f, 0);
    disk.write(f, 0, A);
    disk.fail(Op::SyncData { ino: f });
    disk.fail(Op::SyncAll { ino: f });
    disk.write(f, 0, A);
    disk.step(Op::SyncData { ino: f });
    let files = [Vec::new(), A.to_vec(), [A, &[1; PAGE]].concat()];
    let expected: BTreeSet<_> =
        files.into_iter().map(|bytes| Bytes(vec![("f".to_owned(), Some(bytes))])).collect();
    assert_eq!(last_cut(&disk.trace, &bounds()), expected);
}

#[test]
fn each_byte_is_torn_both_ways() {
    let mut disk = Disk::with(&[("f", &[1; PAGE])]);
    let f = disk.names["f"];
    disk.write(f, 100, b"xyz");
    // Old, new, and two places by two directions.
    assert_eq!(count(&disk, &torn()), 2 + 4);
    disk.write(f, 100, b"xyw");
    // One differing byte more: nothing to tear in it.
    assert_eq!(count(&disk, &torn()), 3 + 4);
    let mut block = Disk::with(&[("f", &[1; 8 * PAGE])]);
    block.write(f, PAGE - 2, b"abcd");
    let torn_block = Bounds { unit: Unit::Block, ..torn() };
    assert_eq!(count(&block, &torn_block), 2 + 6);
}

#[test]
fn above_the_bound_two_are_omitted_or_kept() {
    let mut disk = Disk::with(&[("f", &[1; 12 * PAGE])]);
    disk.write(disk.names["f"], 0, &[2; 12 * PAGE]);
    let (images, counters) = states(&disk.trace, &bounds());
    // 1 + 12 + 66 omitted, as many kept, and the 13 prefixes, of which 0, 1, 2, 10, 11, 12 are there.
    assert_eq!(images.len(), 79 + 79 + 7);
    assert_eq!((counters.cut_bounds.wide_cuts, counters.cut_bounds.most_free), (1, 12));
    assert!(!counters.is_complete());
    let all = Bounds { max_subset_units: 12, ..bounds() };
    assert_eq!(count(&disk, &all), 4096);
}

#[test]
fn what_cannot_be_told_apart_is_said() {
    let mut disk = Disk::with(&[("f", &[1; 600 * PAGE])]);
    disk.write(disk.names["f"], 0, &[2; 600 * PAGE]);
    let (images, counters) = states(&disk.trace, &Bounds { omissions: 1, ..bounds() });
    assert_eq!(counters.cut_bounds.truncated_cuts, 1);
    // 1 + 512 omitted, as many kept, 513 prefixes, of which 0, 1, 511, 512 are there; and the old file.
    assert_eq!(images.len(), 513 + 513 + 509);
}

/// A tree in an order, for sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bytes(Vec<(String, Option<Vec<u8>>)>);

impl Bytes {
    fn of(image: &Image) -> Self {
        let dirs = image.dirs.iter().map(|path| (path.clone(), None));
        let files = image.files.iter().map(|(path, content)| (path.clone(), Some(content.bytes())));
        Self(dirs.chain(files).collect())
    }
}

/// Every state of one cut, made without any of the shortcuts.
fn cut_states(trace: &Trace, micro: &Micro, steps: usize, bounds: &Bounds) -> Vec<Image> {
    let mut doubt = Doubt::new(Tree::initial(trace), &trace.steps, micro);
    (0..steps).for_each(|_| {
        doubt.advance();
    });
    let mut view = View::new(&doubt);
    let (order, free) = (view.order.clone(), view.order.len());
    let places: Vec<_> = (0..free).map(|bit| view.places(bit)).collect();
    let mut images = Vec::new();
    let done = choices::each(&order, bounds, None, &|bit| places[bit].clone(), &mut |choice| {
        assert!(order.is_closed(&choice.kept));
        let image = view.image(choice);
        assert_eq!(view.hash(choice), image.hash(), "{choice}");
        images.push(image);
        ControlFlow::Continue(())
    });
    assert!(done.is_continue());
    images
}

struct LastCut(BTreeSet<Bytes>, Vec<Image>);

impl LastCut {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn iter(&self) -> impl Iterator<Item = &Image> {
        self.1.iter()
    }
}

impl PartialEq<BTreeSet<Bytes>> for LastCut {
    fn eq(&self, other: &BTreeSet<Bytes>) -> bool {
        self.0 == *other
    }
}

impl std::fmt::Debug for LastCut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn last_cut(trace: &Trace, bounds: &Bounds) -> LastCut {
    let micro = split(&Tree::initial(trace), &trace.steps, bounds.profile, bounds.unit);
    let images = cut_states(trace, &micro, trace.steps.len(), bounds);
    LastCut(images.iter().map(Bytes::of).collect(), images)
}

/// A random operation on three files and two spare names; sizes up to four pages.
#[derive(Clone, Copy, Debug)]
struct Pick(u8, u8, u16, u8);

fn picks() -> impl Strategy<Value = Vec<Pick>> {
    let pick = (0u8..12, 0u8..3, 0u16..2000, 1u8..4).prop_map(|(a, b, c, d)| Pick(a, b, c, d));
    proptest::collection::vec(pick, 1..9)
}

/// Mostly zeros, so that there are not too many places to tear.
fn sparse(value: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| if i % 80 == 0 { value } else { 0 }).collect()
}

/// Does the operations; gives the disk and what its image was after each step.
fn perform(picks: &[Pick]) -> (Disk, Vec<Image>) {
    let mut disk = Disk::with(&[("a", &sparse(7, 700)), ("b", &sparse(8, 1024))]);
    let mut images = vec![disk.image()];
    for Pick(what, file, at, value) in picks {
        let path = ["a", "b", "c"][usize::from(*file)];
        let other = ["b", "c", "d"][usize::from(*value) - 1];
        let ino = disk.names.get(path).copied();
        let at = usize::from(*at);
        match (what, ino) {
            (0..=3, Some(ino)) => disk.write(ino, at, &sparse(*value, 1 + at / 3)),
            (4, Some(ino)) => disk.set_len(ino, at),
            (5, Some(ino)) => disk.step(Op::SyncData { ino }),
            (6, Some(ino)) => disk.step(Op::SyncAll { ino }),
            (7, Some(ino)) => disk.fail(Op::SyncAll { ino }),
            (8, Some(_)) if path != other => disk.rename(path, other),
            (9, Some(_)) => disk.remove(path),
            (10, _) => disk.sync_dir(),
            (_, None) => {
                disk.create(path);
            }
            _ => disk.fail(Op::SyncDir { path: String::new() }),
        }
        images.push(disk.image());
    }
    (disk, images)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The exploration tries exactly the states of all cuts, each once; keeping all is the plain replay;
    /// what a profile orders more is fewer states, and never another one.
    #[test]
    fn exploration_is_exact(picks in picks(), tears in any::<bool>(), unit in any::<bool>()) {
        let (disk, images) = perform(&picks);
        let bounds = Bounds {
            max_subset_units: 8,
            tears: if tears { Tears::One } else { Tears::None },
            unit: if unit { Unit::Sector } else { Unit::Block },
            ..bounds()
        };
        let mut sets = Vec::new();
        for profile in [Profile::PosixStrict, Profile::Ext4] {
            let bounds = Bounds { profile, ..bounds };
            let micro = split(&Tree::initial(&disk.trace), &disk.trace.steps, profile, bounds.unit);
            let mut plain = BTreeSet::new();
            for (steps, volatile) in images.iter().enumerate() {
                let cut: BTreeSet<_> =
                    cut_states(&disk.trace, &micro, steps, &bounds).iter().map(Bytes::of).collect();
                prop_assert!(cut.contains(&Bytes::of(volatile)), "what was done is one of the states");
                plain.extend(cut);
            }
            let (tried, counters) = states(&disk.trace, &bounds);
            let set: BTreeSet<_> = tried.iter().map(Bytes::of).collect();
            prop_assert_eq!(set.len(), tried.len(), "a state was tried twice");
            prop_assert_eq!(&set, &plain);
            prop_assert_eq!(counters.distinct + counters.skipped_duplicate, counters.generated);
            sets.push((set, counters.is_complete()));
        }
        if sets.iter().all(|(_, complete)| *complete) && !tears {
            prop_assert!(sets[1].0.is_subset(&sets[0].0));
        }
    }

    /// A trace whose every change is synced at once leaves one state a cut, and that the right one.
    #[test]
    fn a_synced_trace_leaves_no_doubt(picks in picks()) {
        let (disk, _) = perform(&picks);
        let mut trace = disk.trace.clone();
        trace.steps.retain(|step| !step.failed);
        for ino in disk.files.keys() {
            trace.steps.push(Op::SyncAll { ino: *ino }.into());
        }
        trace.steps.push(Op::SyncDir { path: String::new() }.into());
        for bounds in [bounds(), ext4()] {
            prop_assert_eq!(last_cut(&trace, &bounds), BTreeSet::from([Bytes::of(&disk.image())]));
        }
    }

    #[test]
    fn ids_are_read_back(seed: u64, run: u64, bits in proptest::collection::btree_set(0usize..512, 0..20),
                         cut in 0usize..1000, at in 0usize..4096, new_first: bool) {
        let mut kept = Mask::default();
        bits.iter().for_each(|bit| kept.insert(*bit));
        prop_assert_eq!(kept.bits().collect::<BTreeSet<_>>(), bits);
        let whole = Choice { kept, tear: None };
        let torn = Choice { kept, tear: Some(Tear { bit: 3, at, new_first }) };
        let id = Id { seed, run, path: vec![(cut, whole), (cut, torn)] };
        prop_assert_eq!(Id::parse(&id.to_string()), Some(id));
    }
}

fn toy(kind: Kind, right: bool) -> Toy {
    Toy { kind, right }
}

fn find(toy: &Toy, values: u32, bounds: &Bounds) -> (Counters, Vec<Finding>) {
    let mut sink = Sink::new(7, u64::from(values));
    assert!(explore(toy, &toy.run(values), bounds, &mut sink));
    (sink.counters, sink.findings)
}

#[test]
fn a_rename_without_a_sync_is_found_and_ext4_forgives_it() {
    let deep = Bounds { nested_depth: 1, ..torn() };
    let (counters, findings) = find(&toy(Kind::Publish, true), 2, &deep);
    assert_eq!((counters.silent, findings.len()), (0, 0), "{findings:?}");
    assert!(counters.distinct > 100 && counters.nested > 0 && counters.torn > 0, "{counters:?}");
    let (counters, findings) = find(&toy(Kind::Publish, false), 2, &bounds());
    assert_eq!(findings.len(), 3);
    assert!(counters.silent > 3 && counters.violations["P1"] == counters.silent);
    let (counters, _) = find(&toy(Kind::Publish, false), 2, &ext4());
    assert_eq!(counters.silent, 0, "a rename over a file waits for its data");
}

#[test]
fn an_append_without_a_checksum_is_found_by_tears_alone() {
    let deep = Bounds { nested_depth: 2, ..torn() };
    let (counters, findings) = find(&toy(Kind::Append, true), 3, &deep);
    assert_eq!((counters.silent, findings.len()), (0, 0), "{findings:?}");
    assert_eq!(find(&toy(Kind::Append, false), 2, &bounds()).0.silent, 0);
    let (counters, findings) = find(&toy(Kind::Append, false), 2, &torn());
    assert!(counters.silent > 0);
    assert!(findings.iter().all(|f| f.id.path[0].1.tear.is_some()));
}

#[test]
fn a_crash_after_recovery_finds_what_it_showed_too_early_and_depth_is_reached() {
    let trace = Disk::with(&[("f", &[0; PAGE])]).trace;
    let at = |depth| {
        let mut sink = Sink::new(0, 0);
        assert!(explore(&Shows, &trace, &Bounds { nested_depth: depth, ..bounds() }, &mut sink));
        sink
    };
    assert_eq!(at(0).counters.distinct, 1);
    let one = at(1);
    // The start; after it showed 1: lost (wrong), kept (right).
    assert_eq!((one.counters.distinct, one.counters.nested, one.counters.silent), (3, 2, 1));
    assert_eq!(one.findings[0].id.to_string(), "0.0.0.k0/1.k0");
    // The start; counts 0 and 1 after 1 was shown; counts 1 and 2 after 2 was.
    let two = at(2);
    assert_eq!(two.counters.panics, 0);
    assert_eq!((two.counters.distinct, two.counters.silent), (5, 2));
    assert_eq!(two.findings.iter().map(|f| f.id.path.len()).max(), Some(3));
    let three = at(3);
    assert!(three.counters.panics > 0, "a fourth opening panics, and that is counted");
    assert_eq!(three.counters.violations["P22"], three.counters.panics);
    let panic = three.findings.iter().find(|f| f.property == "P22").unwrap();
    assert!(panic.text.contains("three openings"), "{panic:?}");
    assert_eq!(panic.id.path.len(), 4);
}

#[test]
fn a_finding_is_replayed_by_its_name_and_minimised() {
    for (kind, limits) in [(Kind::Publish, bounds()), (Kind::Append, torn())] {
        let toy = toy(kind, false);
        let run = toy.run(2);
        for finding in find(&toy, 2, &limits).1 {
            let id = Id::parse(&finding.id.to_string()).unwrap();
            let again = replay(&toy, &run, &limits, &id).unwrap();
            assert_eq!(again.violations[0].text, finding.text);
            assert!(again.text.contains("lost") || again.text.contains("torn"), "{}", again.text);
            let small = minimise_state(&toy, &run, &limits, &id, "P1");
            let least = replay(&toy, &run, &limits, &small).unwrap();
            assert_eq!(least.violations[0].property, "P1");
            let missing =
                least.text.lines().filter(|l| l.contains(" lost: ") || l.contains(" torn, ")).count();
            assert_eq!(missing, 1, "one loss is enough:\n{}", least.text);
        }
    }
    let toy = toy(Kind::Publish, false);
    let nowhere = Id { seed: 0, run: 0, path: vec![(1, Choice { kept: Mask::first(3), tear: None })] };
    let refused = replay(&toy, &toy.run(1), &bounds(), &nowhere).map(|r| r.text);
    assert_eq!(refused, Err(ReplayError::NotAState(0)));
}

#[test]
fn a_nested_finding_is_replayed() {
    let trace = Disk::with(&[("f", &[0; PAGE])]).trace;
    let bounds = Bounds { nested_depth: 2, ..bounds() };
    let mut sink = Sink::new(0, 0);
    assert!(explore(&Shows, &trace, &bounds, &mut sink));
    for finding in &sink.findings {
        let again = replay(&Shows, &trace, &bounds, &finding.id).unwrap();
        assert_eq!(again.violations[0].text, finding.text, "{}", again.text);
        let small = minimise_state(&Shows, &trace, &bounds, &finding.id, "P10");
        assert!(small.path.len() == 2, "one recovery is enough: {small}");
    }
}

#[test]
fn a_sequence_is_minimised() {
    let asked = AtomicUsize::new(0);
    let fails = |items: &[u32]| {
        asked.fetch_add(1, Ordering::Relaxed);
        items.contains(&3) && items.contains(&17)
    };
    let items: Vec<u32> = (0..20).collect();
    assert_eq!(ddmin(&items, fails), [3, 17]);
    assert!(asked.load(Ordering::Relaxed) < 100);
    assert_eq!(ddmin(&items, |_| true), [0u32; 0]);
    assert_eq!(ddmin(&items, |items| items.len() == 20), items);
}

/// Explores six runs on so many threads, from a run on, until so many states.
fn pooled(jobs: usize, first: u64, states: u64) -> (Counters, Vec<String>, Progress) {
    let toy = toy(Kind::Publish, false);
    let (mut counters, mut findings) = (Counters::default(), Vec::new());
    let seen = Seen::new(1 << 20);
    let each = |number: u64, values: u64, stop: &std::sync::atomic::AtomicBool| {
        let mut sink = Sink { stop: Some(stop), seen: Some(&seen), ..Sink::new(7, number) };
        let run = toy.run(u32::try_from(values).unwrap());
        explore(&toy, &run, &torn(), &mut sink).then_some((sink.counters, sink.findings))
    };
    let progress = pool(jobs, first, first..6, None, each, |number, (more, found)| {
        assert_eq!(more.runs, 1);
        findings.extend(found.iter().map(|f| f.id.to_string()));
        assert!(found.iter().all(|f| f.id.run == number));
        counters.merge(&more);
        if counters.distinct >= states { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if progress.finished {
        // Run n begins like run n - 1, and its cuts before the last value are the same states.
        let (distinct, whole) = seen.distinct();
        assert!(whole && (distinct as u64) < counters.distinct);
    }
    (counters, findings, progress)
}

#[test]
fn the_number_of_threads_changes_nothing_and_a_budget_resumes() {
    let whole = pooled(1, 0, u64::MAX);
    assert_eq!(whole.2, Progress { next: 6, finished: true });
    assert_eq!(whole.0.runs, 6);
    assert_eq!(pooled(1, 0, u64::MAX), whole);
    assert_eq!(pooled(2, 0, u64::MAX), whole);
    let half = whole.0.distinct / 3;
    let (mut counters, mut findings, progress) = pooled(2, 0, half);
    assert!(!progress.finished && progress.next < 6 && counters.distinct >= half);
    assert_eq!(pooled(1, 0, half).2, progress);
    let rest = pooled(2, progress.next, u64::MAX);
    counters.merge(&rest.0);
    findings.extend(rest.1);
    assert_eq!((counters, findings), (whole.0, whole.1));
}

#[test]
fn a_time_limit_stops_a_run_in_its_middle() {
    let toy = toy(Kind::Publish, true);
    let run = toy.run(15);
    let limits = Bounds { nested_depth: 3, max_subset_units: 20, ..torn() };
    let each = |number: u64, (): (), stop: &std::sync::atomic::AtomicBool| {
        let mut sink = Sink { stop: Some(stop), ..Sink::new(0, number) };
        let mut done = true;
        while done && !stop.load(Ordering::Relaxed) {
            done = explore(&toy, &run, &limits, &mut sink);
        }
        done.then_some(())
    };
    let limit = Some(std::time::Duration::from_millis(50));
    let progress = pool(2, 5, std::iter::repeat_n((), 4), limit, each, |_, ()| ControlFlow::Continue(()));
    assert!(!progress.finished && progress.next <= 7, "{progress:?}");
}

/// Two writes that overlap: what one leaves torn, both leave whole.
#[test]
fn a_state_that_was_seen_torn_is_not_tried_again() {
    let (disk, _) = perform(&[Pick(0, 0, 1216, 1), Pick(0, 0, 1152, 1)]);
    let bounds = Bounds { max_subset_units: 8, tears: Tears::One, unit: Unit::Sector, ..bounds() };
    let (tried, counters) = states(&disk.trace, &bounds);
    assert_eq!(tried.iter().map(Bytes::of).collect::<BTreeSet<_>>().len(), tried.len());
    assert_eq!(counters.distinct + counters.skipped_duplicate, counters.generated);
}
