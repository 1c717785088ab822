//! The whole interface against a plain model in memory, with a reopen after any operation.
//!
//! The model is written from the documentation alone: a map of groups, each a list of entries. A
//! failing case prints its operations; `PROPTEST_CASES=n` runs more of them.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use proptest::prelude::*;
use seawall::vfs::mem::MemVfs;
use seawall::{
    CreateOptions, Digest, Driver, Engine, Entry, Error, GroupId, Index, LogId, Options, SnapshotOwner, Vote,
};

#[derive(Clone, Debug)]
enum Step {
    Create(u64),
    Remove(u64),
    Append { group: u64, count: u64, raise: u64, len: usize },
    AppendAt { group: u64, index: u64, term: u64 },
    Vote { group: u64, term: u64, rank: u8 },
    Commit(u64, u64),
    Truncate(u64, u64),
    Compact(u64, u64),
    External(u64, u64),
    Publish(u64, u64, usize),
    Install { group: u64, index: u64, term: u64 },
    Reopen,
    Close,
    Maintain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let group = 1..3u64;
    let index = 0..24u64;
    let step = prop_oneof![
        2 => group.clone().prop_map(Step::Create),
        1 => group.clone().prop_map(Step::Remove),
        6 => (group.clone(), 1..6u64, 0..2u64, 0..900usize)
            .prop_map(|(group, count, raise, len)| Step::Append { group, count, raise, len }),
        2 => (group.clone(), index.clone(), 1..5u64)
            .prop_map(|(group, index, term)| Step::AppendAt { group, index, term }),
        3 => (group.clone(), 1..6u64, 0..3u8).prop_map(|(group, term, rank)| Step::Vote { group, term, rank }),
        2 => (group.clone(), index.clone()).prop_map(|(g, i)| Step::Commit(g, i)),
        3 => (group.clone(), index.clone()).prop_map(|(g, i)| Step::Truncate(g, i)),
        3 => (group.clone(), index.clone()).prop_map(|(g, i)| Step::Compact(g, i)),
        2 => (group.clone(), index.clone()).prop_map(|(g, i)| Step::External(g, i)),
        2 => (group.clone(), index.clone(), 0..1500usize).prop_map(|(g, i, n)| Step::Publish(g, i, n)),
        2 => (group, index, 1..6u64).prop_map(|(group, index, term)| Step::Install { group, index, term }),
        4 => Just(Step::Reopen),
        2 => Just(Step::Close),
        1 => Just(Step::Maintain),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    purged: LogId,
    entries: Vec<Entry>,
    commit: u64,
    vote: Option<Vote>,
    snapshot: Option<(LogId, SnapshotOwner)>,
    content: Vec<u8>,
}

impl Group {
    fn last(&self) -> LogId {
        self.entries.last().map_or(self.purged, |e| e.id)
    }

    fn term(&self, index: u64) -> Option<u64> {
        if index == self.purged.index.0 {
            return Some(self.purged.term.0);
        }
        let n = index.checked_sub(self.purged.index.0 + 1)?;
        self.entries.get(usize::try_from(n).unwrap()).map(|e| e.id.term.0)
    }

    fn drop_front(&mut self, upto: LogId) {
        self.entries.retain(|e| e.id.index > upto.index);
        self.purged = upto;
    }

    fn floor(&self) -> u64 {
        self.snapshot.map_or(0, |(id, _)| id.index.0).max(self.purged.index.0)
    }
}

type Model = BTreeMap<u64, Group>;

/// What the model says of a step: whether it is let through.
fn apply(model: &mut Model, step: &Step) -> bool {
    match step {
        Step::Create(g) => {
            let free = !model.contains_key(g);
            model.entry(*g).or_default();
            free
        }
        Step::Remove(g) => model.remove(g).is_some(),
        Step::Reopen | Step::Close | Step::Maintain => true,
        Step::Append { group, .. }
        | Step::AppendAt { group, .. }
        | Step::Vote { group, .. }
        | Step::Commit(group, _)
        | Step::Truncate(group, _)
        | Step::Compact(group, _)
        | Step::External(group, _)
        | Step::Publish(group, ..)
        | Step::Install { group, .. } => model.get_mut(group).is_some_and(|g| apply_to(g, step)),
    }
}

fn apply_to(g: &mut Group, step: &Step) -> bool {
    match step {
        Step::Append { .. } => {
            g.entries.extend(entries_of(g.last(), step));
            true
        }
        Step::AppendAt { index, term, .. } => {
            let entry = at(*index, *term);
            if *index == g.last().index.0 + 1 && *term >= g.last().term.0 {
                g.entries.push(entry);
                return true;
            }
            g.entries.contains(&entry)
        }
        Step::Vote { term, rank, .. } => {
            let vote = vote(*term, *rank);
            let passes = g.vote.as_ref().is_none_or(|v| vote == *v || vote.key > v.key);
            if passes {
                g.vote = Some(vote);
            }
            passes
        }
        Step::Commit(_, index) => {
            let passes = (g.commit..=g.last().index.0).contains(index);
            if passes {
                g.commit = *index;
            }
            passes
        }
        Step::Truncate(_, from) => {
            let passes = *from > g.purged.index.0 && *from > g.commit;
            if passes {
                g.entries.retain(|e| e.id.index.0 < *from);
            }
            passes
        }
        Step::Compact(_, upto) => compact(g, *upto),
        Step::External(_, index) => match g.term(*index) {
            _ if *index < g.floor() => false,
            None if *index <= g.last().index.0 => false,
            term => {
                g.snapshot = Some((LogId::new(*index, term.unwrap_or(9)), SnapshotOwner::External));
                true
            }
        },
        Step::Publish(_, index, len) => match g.term(*index) {
            Some(term) if *index >= g.floor() => {
                g.snapshot = Some((LogId::new(*index, term), SnapshotOwner::Owned));
                g.content = content(*index, *len);
                true
            }
            _ => false,
        },
        Step::Install { index, term, .. } => install(g, *index, *term),
        _ => unreachable!("handled by the caller"),
    }
}

fn compact(g: &mut Group, upto: u64) -> bool {
    if upto <= g.purged.index.0 {
        return true;
    }
    let Some((snapshot, _)) = g.snapshot.filter(|(id, _)| id.index.0 >= upto) else { return false };
    match g.term(upto) {
        Some(term) => g.drop_front(LogId::new(upto, term)),
        None if upto == snapshot.index.0 => g.drop_front(snapshot),
        None => return false,
    }
    true
}

fn install(g: &mut Group, index: u64, term: u64) -> bool {
    if index < g.floor() {
        return false;
    }
    let id = LogId::new(index, term);
    let agrees = g.term(index).map(|t| t == term);
    if agrees == Some(false) && index <= g.commit {
        return false;
    }
    if agrees != Some(true) {
        g.entries.clear();
    }
    g.drop_front(id);
    g.commit = g.commit.max(index);
    g.snapshot = Some((id, SnapshotOwner::Owned));
    g.content = content(index, 700);
    true
}

fn entries_of(last: LogId, step: &Step) -> Vec<Entry> {
    let Step::Append { count, raise, len, .. } = step else { unreachable!("asked of appends only") };
    let term = (last.term.0 + raise).max(1);
    let data = vec![u8::try_from(last.index.0 % 251).unwrap(); *len / usize::try_from(*count).unwrap()];
    (1..=*count).map(|n| Entry::command(last.index.0 + n, term, data.clone())).collect()
}

fn at(index: u64, term: u64) -> Entry {
    Entry::command(index, term, format!("{index}@{term}").into_bytes())
}

fn vote(term: u64, rank: u8) -> Vote {
    Vote::new(term, u128::from(rank), [rank])
}

fn content(index: u64, len: usize) -> Vec<u8> {
    vec![u8::try_from(index % 256).unwrap(); len]
}

fn options() -> Options {
    Options { driver: Driver::Caller, chunk_bytes: 512, ..Options::default() }
}

fn open(vfs: &MemVfs) -> Engine<MemVfs> {
    let (engine, report) = Engine::open_in(vfs.clone(), options()).unwrap();
    assert!(!report.is_alarm(), "{report:?}");
    engine
}

/// Does the step on the engine.
fn run(
    vfs: &MemVfs,
    engine: Engine<MemVfs>,
    model: &Model,
    step: &Step,
) -> (Engine<MemVfs>, Result<(), Error>) {
    let write = |group: u64, id: LogId, data: &[u8], install: bool| {
        let mut writer = engine.snapshot_writer(GroupId(group), id, b"m")?;
        writer.write_all(data).unwrap();
        if install { writer.install() } else { writer.publish() }.map(drop)
    };
    let term = |group: &u64, index: &u64| model.get(group).and_then(|g| g.term(*index)).unwrap_or(9);
    let result = match step {
        Step::Create(g) => engine.create_group(GroupId(*g)),
        Step::Remove(g) => engine.remove_group(GroupId(*g)),
        Step::Append { group, .. } => {
            let last = model.get(group).map(Group::last).unwrap_or_default();
            engine.append(GroupId(*group), &entries_of(last, step))
        }
        Step::AppendAt { group, index, term } => engine.append(GroupId(*group), &[at(*index, *term)]),
        Step::Vote { group, term, rank } => engine.save_vote(GroupId(*group), vote(*term, *rank)),
        Step::Commit(g, i) => engine.commit(GroupId(*g), Index(*i)),
        Step::Truncate(g, i) => engine.truncate_suffix(GroupId(*g), Index(*i)),
        Step::Compact(g, i) => engine.compact_prefix(GroupId(*g), Index(*i)),
        Step::External(g, i) => {
            engine.record_external_snapshot(GroupId(*g), LogId::new(*i, term(g, i)), Digest([3; 32]))
        }
        Step::Publish(g, i, len) => write(*g, LogId::new(*i, term(g, i)), &content(*i, *len), false),
        Step::Install { group, index, term } => {
            write(*group, LogId::new(*index, *term), &content(*index, 700), true)
        }
        Step::Maintain => engine.maintain(),
        Step::Reopen => {
            drop(engine);
            return (open(vfs), Ok(()));
        }
        Step::Close => {
            let closed = engine.close();
            return (open(vfs), closed);
        }
    };
    (engine, result)
}

fn check(engine: &Engine<MemVfs>, model: &Model) {
    assert_eq!(engine.groups(), model.keys().map(|g| GroupId(*g)).collect::<Vec<_>>());
    for (id, g) in model {
        let group = GroupId(*id);
        let status = engine.group(group).unwrap();
        assert_eq!(status.first, g.purged.index.next());
        assert_eq!((status.purged, status.last), (g.purged, g.last()));
        assert_eq!((status.commit, &status.vote), (Index(g.commit), &g.vote));
        assert_eq!(status.snapshot.map(|p| (p.id, p.owner)), g.snapshot);
        let range = status.first..status.last.index.next();
        assert_eq!(engine.read(group, range, u64::MAX).unwrap(), g.entries);
        for entry in &g.entries {
            assert_eq!(engine.term(group, entry.id.index).unwrap(), entry.id.term);
        }
        if g.snapshot.is_some_and(|(_, owner)| owner == SnapshotOwner::Owned) {
            let mut bytes = Vec::new();
            engine.snapshot_reader(group).unwrap().read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, g.content);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_is_the_model(steps in steps()) {
        let vfs = MemVfs::new();
        let create = CreateOptions { segment_bytes: 16 << 10, unit: 512, seed: Some([1; 16]), ..CreateOptions::new(1, 1) };
        Engine::create_in(&vfs, &create).unwrap();
        let mut engine = open(&vfs);
        let mut model = Model::new();
        for step in &steps {
            let before = model.clone();
            let passes = apply(&mut model, step);
            let (next, result) = run(&vfs, engine, &before, step);
            engine = next;
            prop_assert_eq!(passes, result.is_ok(), "{:?}: {:?}", step, result);
            if !passes {
                prop_assert_eq!(&before, &model, "a refusal changes nothing");
            }
            check(&engine, &model);
        }
        check(&open_after(&vfs, engine), &model);
    }
}

fn open_after(vfs: &MemVfs, engine: Engine<MemVfs>) -> Engine<MemVfs> {
    drop(engine);
    open(vfs)
}
