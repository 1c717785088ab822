//! What programs do to a tree beyond bytes and names: links, moved directories, exchanges, zeroed ranges,
//! files without names, and syncs that overlap with other operations.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crashcheck::core::body::Tree;
use crashcheck::core::choices::{self, Bounds};
use crashcheck::core::doubt::Doubt;
use crashcheck::core::image::{Content, Image, PAGE};
use crashcheck::core::micro::split;
use crashcheck::core::profile::{Profile, Unit};
use crashcheck::core::state::View;
use crashcheck::core::trace::{Ino, Op, Step, Trace};
use crashcheck::program::scene::{Loss, Scene, Script};
use proptest::prelude::*;

const F: Ino = Ino(0);
const G: Ino = Ino(1);

fn text(path: &str) -> String {
    path.to_owned()
}

/// A trace over a tree with files `f` and `g` and a directory `d`.
fn trace(ops: &[Op]) -> Trace {
    let file = |byte: u8| Content::of(&[byte; 2 * PAGE]);
    let mut initial = Image::default();
    initial.dirs.insert(text("d"));
    initial.files.insert(text("f"), file(b'f'));
    initial.files.insert(text("g"), file(b'g'));
    let inos = [(text("f"), F), (text("g"), G)].into();
    Trace { initial, inos, steps: ops.iter().cloned().map(Step::from).collect() }
}

/// A state in words: paths with the first byte and the length of each file.
fn words(image: &Image) -> String {
    let mut words: Vec<String> = image.dirs.iter().map(|path| format!("{path}/")).collect();
    for (path, content) in &image.files {
        let bytes = content.bytes();
        let first = bytes.first().map_or('-', |byte| if *byte == 0 { '0' } else { char::from(*byte) });
        words.push(format!("{path}={first}{}", bytes.len()));
    }
    words.extend(image.links.iter().map(|(path, target)| format!("{path}->{target}")));
    words.sort();
    words.join(" ")
}

/// The states after the last step; each is also made by [`Scene`], and must be the same.
fn last(trace: &Trace, profile: Profile) -> BTreeSet<String> {
    let tree = Tree::initial(trace);
    let micro = split(&tree, &trace.steps, profile, Unit::Sector);
    let mut doubt = Doubt::new(tree, &trace.steps, &micro);
    trace.steps.iter().for_each(|_| {
        doubt.advance();
    });
    let mut view = View::new(&doubt);
    let (order, free) = (view.order.clone(), view.free.clone());
    let script = Script::new(trace, profile, Unit::Sector);
    let mut scene = Scene::new(&script);
    scene.go(trace.steps.len());
    let mut states = BTreeSet::new();
    let bounds = Bounds { max_subset_units: 12, ..Bounds::default() };
    let done = choices::each(&order, &bounds, None, &|_| Vec::new(), &mut |choice| {
        let image = view.image(choice);
        assert_eq!(view.hash(choice), image.hash());
        let lost = (0..free.len()).filter(|bit| !choice.kept.has(*bit));
        let lost = lost.map(|bit| u32::try_from(free[bit]).unwrap()).collect();
        let loss = Loss { cut: trace.steps.len(), lost, torn: None };
        assert!(scene.allows(&loss), "{loss}");
        assert_eq!(Loss::parse(&loss.to_string()).as_ref(), Some(&loss));
        assert_eq!(scene.state(&loss).hash(), image.hash(), "{loss}");
        states.insert(words(&image));
        ControlFlow::Continue(())
    });
    assert!(done.is_continue());
    states
}

#[track_caller]
fn check(ops: &[Op], expected: &[&str]) {
    let states = last(&trace(ops), Profile::PosixStrict);
    let expected: BTreeSet<String> = expected.iter().map(|state| (*state).to_owned()).collect();
    assert_eq!(states, expected);
}

#[test]
fn a_link_is_a_name_of_its_own() {
    let link = Op::Link { path: text("h"), ino: F };
    check(std::slice::from_ref(&link), &["d/ f=f1024 g=g1024", "d/ f=f1024 g=g1024 h=f1024"]);
    // What is written shows under both; the new name needs its directory's sync.
    let ops =
        [link, Op::Write { ino: F, offset: 0, data: [b'x'; 1].as_slice().into() }, Op::SyncAll { ino: F }];
    check(&ops, &["d/ f=x1024 g=g1024", "d/ f=x1024 g=g1024 h=x1024"]);
}

#[test]
fn a_file_without_a_name_comes_whole_or_not_at_all() {
    let (ino, data) = (Ino(2), [b'n'; PAGE].as_slice().into());
    let ops = [
        Op::CreateUnnamed { ino },
        Op::Write { ino, offset: 0, data },
        Op::SyncAll { ino },
        Op::Link { path: text("d/n"), ino },
    ];
    check(&ops, &["d/ f=f1024 g=g1024", "d/ d/n=n512 f=f1024 g=g1024"]);
}

#[test]
fn a_symbolic_link_is_there_or_not() {
    let ops = [Op::Symlink { path: text("s"), target: text("f") }];
    check(&ops, &["d/ f=f1024 g=g1024", "d/ f=f1024 g=g1024 s->f"]);
}

#[test]
fn an_exchange_is_atomic() {
    let ops = [Op::Exchange { one: text("f"), other: text("g") }];
    check(&ops, &["d/ f=f1024 g=g1024", "d/ f=g1024 g=f1024"]);
}

#[test]
fn names_stay_in_a_directory_that_moves() {
    let ops = [
        Op::Create { path: text("d/n"), ino: Ino(2) },
        Op::Rename { from: text("d"), to: text("e") },
        Op::SyncDir { path: String::new() },
    ];
    // The move is durable, the name in the directory is not: wherever it is, it is in the moved one.
    check(&ops, &["e/ f=f1024 g=g1024", "e/ e/n=-0 f=f1024 g=g1024"]);
}

#[test]
fn a_directory_goes_after_what_was_in_it() {
    let ops = [
        Op::Rename { from: text("f"), to: text("d/f") },
        Op::Remove { path: text("d/f") },
        Op::RemoveDir { path: text("d") },
    ];
    // Between the old name and none it may be in both directories.
    let both = "d/ d/f=f1024 f=f1024 g=g1024";
    check(&ops, &["d/ f=f1024 g=g1024", both, "d/ d/f=f1024 g=g1024", "d/ g=g1024", "g=g1024"]);
}

#[test]
fn directories_that_move_into_each_other_make_no_cycle() {
    let ops = [
        Op::CreateDir { path: text("x") },
        Op::SyncDir { path: String::new() },
        Op::Rename { from: text("d"), to: text("x/d") },
        Op::Rename { from: text("x/d"), to: text("y") },
        Op::Rename { from: text("x"), to: text("y/x") },
    ];
    check(
        &ops,
        &[
            "d/ f=f1024 g=g1024 x/",
            "f=f1024 g=g1024 x/ x/d/",
            "f=f1024 g=g1024 x/ y/",
            "f=f1024 g=g1024 y/ y/x/",
        ],
    );
}

#[test]
fn a_zeroed_range_keeps_the_length() {
    let ops = [Op::Zero { ino: F, offset: 0, len: 1 << 20 }];
    let states = last(&trace(&ops), Profile::PosixStrict);
    assert!(states.iter().all(|state| state.contains("1024 g=")), "{states:?}");
    assert!(states.contains("d/ f=01024 g=g1024") && states.contains("d/ f=f1024 g=g1024"));
}

#[test]
fn a_sync_covers_what_was_before_it_began() {
    let write =
        |ino, at: usize| Op::Write { ino, offset: (at * PAGE) as u64, data: [b'w'; PAGE].as_slice().into() };
    let mut overlapped = trace(&[write(F, 0), write(F, 1), Op::SyncData { ino: F }]);
    overlapped.steps[2].since = Some(1);
    let states = last(&overlapped, Profile::PosixStrict);
    // The second write may be lost, the first may not.
    assert_eq!(states.len(), 1, "both begin with w: {states:?}");
    let script = Script::new(&overlapped, Profile::PosixStrict, Unit::Sector);
    let mut scene = Scene::new(&script);
    scene.go(3);
    assert_eq!(scene.free(), [1]);
    overlapped.steps[2].since = None;
    let script = Script::new(&overlapped, Profile::PosixStrict, Unit::Sector);
    let mut scene = Scene::new(&script);
    scene.go(3);
    assert_eq!(scene.free(), [0u32; 0]);
    // A name made while the directory was synced.
    let mut names = trace(&[
        Op::Create { path: text("a"), ino: Ino(2) },
        Op::Create { path: text("b"), ino: Ino(3) },
        Op::SyncDir { path: String::new() },
    ]);
    names.steps[2].since = Some(1);
    let states = last(&names, Profile::PosixStrict);
    assert_eq!(states, ["a=-0 b=-0 d/ f=f1024 g=g1024", "a=-0 d/ f=f1024 g=g1024"].map(text).into());
}

#[test]
fn a_step_put_in_and_taken_out_leaves_syncs_where_they_began() {
    let mut before =
        trace(&[Op::SetLen { ino: F, len: 1 }, Op::SetLen { ino: G, len: 1 }, Op::SyncAll { ino: F }]);
    before.steps[2].since = Some(1);
    let with = before.with_step(1, Op::Mark(0));
    assert_eq!(with.steps[3].since, Some(1));
    let with = before.with_step(0, Op::Mark(0));
    assert_eq!(with.steps[3].since, Some(2));
    assert_eq!(with.without_step(0), before);
}

/// A random operation on the tree of [`trace`]: kind, and two names.
#[derive(Clone, Copy, Debug)]
struct Pick(u8, usize, usize);

const NAMES: [&str; 6] = ["f", "g", "d/f", "d/g", "d", "e"];

/// Performs what is possible on a plain tree, and records it.
fn perform(picks: &[Pick]) -> Trace {
    let mut done = trace(&[]);
    for (i, Pick(kind, one, other)) in picks.iter().enumerate() {
        let (one, other) = (NAMES[*one], NAMES[*other]);
        let tree = whole(&done);
        let is_file = |path: &str| tree.files.contains_key(path);
        let is_dir = |path: &str| tree.dirs.contains(path);
        let has_place = |path: &str| path.rsplit_once('/').is_none_or(|(dir, _)| is_dir(dir));
        let is_free = |path: &str| !is_file(path) && !is_dir(path) && has_place(path);
        let ino = Ino(u32::try_from(i).unwrap() + 2);
        let nested = one.starts_with(other) || other.starts_with(one);
        let op = match kind {
            0 if is_free(one) => Op::Create { path: text(one), ino },
            1 if is_file(one) => Op::Remove { path: text(one) },
            2 if is_file(one) && !is_dir(other) && has_place(other) && one != other => {
                Op::Rename { from: text(one), to: text(other) }
            }
            3 if is_file(one) && is_file(other) && one != other => {
                Op::Exchange { one: text(one), other: text(other) }
            }
            4 if is_dir(one) && is_free(other) && !nested => Op::Rename { from: text(one), to: text(other) },
            5 => Op::SyncDir { path: String::new() },
            6 if is_dir(one) => Op::SyncDir { path: text(one) },
            7 if is_free(one) => Op::CreateDir { path: text(one) },
            _ => continue,
        };
        done.steps.push(op.into());
    }
    done
}

/// The tree with nothing lost.
fn whole(trace: &Trace) -> Image {
    let script = Script::new(trace, Profile::PosixStrict, Unit::Sector);
    let mut tree = script.tree.clone();
    for op in &script.micro.ops {
        match op.effect.file() {
            Some(ino) => op.effect.apply_to(tree.bodies.entry(ino).or_default()),
            None => op.effect.apply_to_names(&mut tree),
        }
    }
    let inos: Vec<Ino> = trace
        .steps
        .iter()
        .filter_map(|step| match step.op {
            Op::Create { ino, .. } => Some(ino),
            _ => None,
        })
        .collect();
    for ino in inos {
        tree.bodies.entry(ino).or_default();
    }
    tree.image()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Names in directories that come, move and go: the two ways to a state agree, every state of ext4 is
    /// one of posix-strict, nothing lost is the plain replay, and every directory synced is no doubt.
    #[test]
    fn names_are_exact(
        picks in proptest::collection::vec((0u8..8, 0usize..6, 0usize..6).prop_map(|(a, b, c)| Pick(a, b, c)), 1..9)
    ) {
        let mut done = perform(&picks);
        let (strict, ext4) = (last(&done, Profile::PosixStrict), last(&done, Profile::Ext4));
        prop_assert!(ext4.is_subset(&strict));
        prop_assert!(strict.contains(&words(&whole(&done))));
        let tree = whole(&done);
        for path in tree.dirs.iter().cloned().chain([String::new()]) {
            done.steps.push(Op::SyncDir { path }.into());
        }
        let synced = last(&done, Profile::PosixStrict);
        prop_assert!(synced.contains(&words(&whole(&done))));
    }
}
