//! Operations from bytes, done by the engine on a simulated disk and by a model in memory.
//!
//! I own the model: what a group of entries, a vote and a commit index must look like after each
//! call. Two bytes are one operation, so that every input means something. I do not crash the disk;
//! the checker does.

use std::sync::Arc;

use seawall::vfs::mem::MemVfs;
use seawall::{
    CreateOptions, Driver, Engine, Entry, GroupId, GroupStatus, Index, Options, Outcome, Vote, WriteBatch,
};

const GROUPS: u64 = 3;
const READ_BYTES: u64 = 64 << 20;

/// One group of the model. The log begins at index 1, because nothing here compacts.
#[derive(Clone, Default)]
struct Model {
    entries: Vec<(u64, Arc<[u8]>)>,
    vote: (u64, u128),
    commit: u64,
}

impl Model {
    fn last_term(&self) -> u64 {
        self.entries.last().map_or(1, |entry| entry.0)
    }

    fn last(&self) -> u64 {
        self.entries.len() as u64
    }
}

/// Does the operations, and panics where the engine and the model differ.
pub fn run(bytes: &[u8]) {
    let disk = MemVfs::new();
    let mut create = CreateOptions::new(1, 1);
    create.segment_bytes = 16 << 10;
    create.unit = 512;
    create.seed = Some([7; 16]);
    Engine::create_in(&disk, &create).expect("an empty disk takes a store");
    let mut engine = open(&disk);
    let mut models = vec![Model::default(); usize::try_from(GROUPS).expect("a small number")];
    for group in 0..GROUPS {
        engine.create_group(GroupId(group)).expect("a new group");
    }
    for operation in bytes.as_chunks::<2>().0 {
        let group = u64::from(operation[0]) / 8 % GROUPS;
        let model = &mut models[usize::try_from(group).expect("a small number")];
        let argument = operation[1];
        match operation[0] % 8 {
            0 | 1 => append(&engine, GroupId(group), model, argument),
            2 => vote(&engine, GroupId(group), model, argument),
            3 => commit(&engine, GroupId(group), model, argument),
            4 => truncate(&engine, GroupId(group), model, argument),
            5 => refused(&engine, GroupId(group), model),
            6 => {
                drop(engine);
                engine = open(&disk);
            }
            _ => {
                engine.close().expect("nothing is left to fail");
                engine = open(&disk);
            }
        }
        compare(&engine, &models);
    }
}

fn open(disk: &MemVfs) -> Engine<MemVfs> {
    let options = Options { driver: Driver::Caller, ..Options::default() };
    let (engine, report) = Engine::open_in(disk.clone(), options).expect("a store that nobody damaged");
    assert!(!report.is_alarm(), "no alarm without a fault: {report}");
    engine
}

fn append(engine: &Engine<MemVfs>, group: GroupId, model: &mut Model, argument: u8) {
    let term = model.last_term() + u64::from(argument & 1);
    let size = usize::from(argument >> 4) * 24;
    let mut batch = WriteBatch::new();
    for n in 0..=argument >> 1 & 3 {
        let data: Arc<[u8]> = vec![argument ^ n; size].into();
        batch.append(group, Entry::command(model.last() + 1, term, data.clone()));
        model.entries.push((term, data));
    }
    let ticket = engine.write(batch).expect("a valid batch is admitted");
    assert_eq!(ticket.wait(), Outcome::Durable);
}

fn vote(engine: &Engine<MemVfs>, group: GroupId, model: &mut Model, argument: u8) {
    let key = (u64::from(argument >> 4) + 1, u128::from(argument & 15));
    let result = engine.save_vote(group, Vote::new(key.0, key.1, [argument]));
    assert_eq!(result.is_ok(), key >= model.vote, "a vote's key never falls: {result:?}");
    model.vote = model.vote.max(key);
}

fn commit(engine: &Engine<MemVfs>, group: GroupId, model: &mut Model, argument: u8) {
    let index = u64::from(argument) % 16;
    let allowed = index >= model.commit && index <= model.last();
    let result = engine.commit(group, Index(index));
    assert_eq!(result.is_ok(), allowed, "commit {index} after {}: {result:?}", model.commit);
    if allowed {
        model.commit = index;
    }
}

fn truncate(engine: &Engine<MemVfs>, group: GroupId, model: &mut Model, argument: u8) {
    let span = model.last() - model.commit;
    if span == 0 {
        return;
    }
    let from = model.commit + 1 + u64::from(argument) % span;
    engine.truncate_suffix(group, Index(from)).expect("above the commit index");
    model.entries.truncate(usize::try_from(from - 1).expect("a small number"));
}

/// Calls that must change nothing.
fn refused(engine: &Engine<MemVfs>, group: GroupId, model: &Model) {
    let gap = Entry::command(model.last() + 2, model.last_term(), *b"gap");
    assert!(engine.append(group, &[gap]).is_err(), "a gap is refused");
    assert!(engine.commit(group, Index(model.last() + 1)).is_err(), "commit past the last is refused");
    assert!(engine.create_group(group).is_err(), "the group is there");
    if model.commit > 0 {
        assert!(engine.truncate_suffix(group, Index(model.commit)).is_err(), "committed entries stay");
    }
}

fn compare(engine: &Engine<MemVfs>, models: &[Model]) {
    for (group, model) in (0..).map(GroupId).zip(models) {
        let status: GroupStatus = engine.group(group).expect("the group is there");
        assert_eq!((status.first, status.last.index), (Index(1), Index(model.last())), "group {group}");
        assert_eq!(status.commit, Index(model.commit), "group {group}");
        let vote = status.vote.map_or((0, 0), |vote| (vote.key.term.0, vote.key.rank));
        assert_eq!(vote, model.vote, "group {group}");
        let entries = engine.read(group, Index(1)..Index(model.last() + 1), READ_BYTES).expect("entries");
        assert_eq!(entries.len(), model.entries.len(), "group {group}");
        for (entry, (term, data)) in entries.iter().zip(&model.entries) {
            assert_eq!((entry.id.term.0, &entry.data), (*term, data), "group {group} {}", entry.id);
        }
    }
}
