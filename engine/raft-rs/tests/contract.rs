//! What raft-rs asks of a storage, a test for each point, on the simulated disk.
//!
//! A follower is fed the messages of a leader that does not exist; what it must keep is asked of what a power
//! loss leaves.
#![expect(
    clippy::field_reassign_with_default,
    reason = "the codecs generate different structs, which are made alike only this way"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use raft::eraftpb::{ConfState, Entry, Message, MessageType, Snapshot};
use raft::{Config, Error, GetEntriesContext, RawNode, Storage, StorageError};
use seawall::vfs::mem::{Call, CallKind, Content, Fault, MemVfs, SyncFailure};
use seawall::{CreateOptions, Engine, EntryKind, GroupId, Index, Options};
use seawall_raft::{Group, Writer};

const PATIENCE: Duration = Duration::from_secs(10);

type Raw = RawNode<Group<MemVfs>>;

fn created() -> MemVfs {
    let vfs = MemVfs::new();
    let create = CreateOptions { segment_bytes: 64 << 10, unit: 512, ..CreateOptions::new(1, 1) };
    Engine::create_in(&vfs, &create).unwrap();
    vfs.track();
    vfs
}

fn open(vfs: &MemVfs) -> Arc<Engine<MemVfs>> {
    let (engine, _) = Engine::open_in(vfs.clone(), Options::default()).unwrap();
    Arc::new(engine)
}

fn voters() -> ConfState {
    let mut conf = ConfState::default();
    conf.voters = vec![1, 2, 3];
    conf
}

fn follower(engine: &Arc<Engine<MemVfs>>, group: u64) -> Raw {
    let group = Group::open(engine, group).unwrap();
    group.bootstrap(&voters(), b"nothing").unwrap();
    let config = Config { id: 1, applied: group.applied().unwrap(), ..Config::default() };
    RawNode::new(&config, group, &slog::Logger::root(slog::Discard, slog::o!())).unwrap()
}

/// A group with the entries 2 to 7 of term 3, of which those up to 6 are committed.
fn with_entries(engine: &Arc<Engine<MemVfs>>) -> Group<MemVfs> {
    let mut raw = follower(engine, 1);
    raw.step(append(3, (1, 1), (2..8).map(|index| entry(3, index)).collect(), 6)).unwrap();
    drop(turn(engine, &mut raw));
    raw.store().clone()
}

fn entry(term: u64, index: u64) -> Entry {
    let mut entry = Entry::default();
    (entry.term, entry.index) = (term, index);
    entry.data = format!("entry {index} of term {term}").into_bytes().into();
    entry
}

/// What the leader of a term sends: entries after `(index, term)`.
fn append(term: u64, after: (u64, u64), entries: Vec<Entry>, commit: u64) -> Message {
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgAppend);
    (message.from, message.to, message.term, message.commit) = (2, 1, term, commit);
    (message.index, message.log_term) = after;
    message.entries = entries.into();
    message
}

/// Makes one ready durable and advances; the messages that may then go out.
fn turn(engine: &Arc<Engine<MemVfs>>, raw: &mut Raw) -> Vec<Message> {
    let mut ready = raw.ready();
    let mut writer = Writer::new(engine);
    writer.ready(raw.store(), &ready).unwrap();
    writer.submit().unwrap().wait().unwrap();
    let messages = ready.take_persisted_messages();
    drop(raw.advance(ready));
    raw.advance_apply();
    messages
}

/// The group as a power loss leaves it that keeps nothing but what is synced.
fn after_power_loss(vfs: &MemVfs) -> Group<MemVfs> {
    Group::open(&open(&MemVfs::from_image(vfs.durable_image())), 1).unwrap()
}

fn terms(group: &Group<MemVfs>) -> Vec<(u64, u64)> {
    let (first, last) = (group.first_index().unwrap(), group.last_index().unwrap());
    let entries = group.entries(first, last + 1, None, GetEntriesContext::empty(false)).unwrap();
    entries.iter().map(|e| (e.index, e.term)).collect()
}

fn engine_error(e: &Error) -> &seawall::Error {
    match e {
        Error::Store(StorageError::Other(e)) => e.downcast_ref().expect("the source is the engine's error"),
        other => panic!("not the engine's: {other}"),
    }
}

/// Whether a call syncs appended frames. The driver's thread syncs other files when it likes.
fn syncs_frames(call: &Call) -> bool {
    call.kind == CallKind::SyncData && call.path.ends_with(".seg")
}

fn fail_syncs(vfs: &MemVfs) {
    vfs.set_faults(Some(Arc::new(|call| {
        syncs_frames(call).then_some(Fault::FailSync(SyncFailure::KeptClean))
    })));
}

/// Holds every sync of frames from now on until the sender goes, and counts them.
fn hold_syncs(vfs: &MemVfs) -> (mpsc::Sender<()>, Arc<AtomicUsize>) {
    let (release, held) = mpsc::channel::<()>();
    let (held, syncs) = (Mutex::new(held), Arc::new(AtomicUsize::new(0)));
    let counted = syncs.clone();
    vfs.set_faults(Some(Arc::new(move |call| {
        if syncs_frames(call) {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = held.lock().unwrap().recv();
        }
        None
    })));
    (release, syncs)
}

#[test]
fn hard_state_and_entries_are_durable_when_persisted_messages_go_out() {
    let vfs = created();
    let engine = open(&vfs);
    let mut raw = follower(&engine, 1);
    raw.step(append(3, (1, 1), vec![entry(3, 2), entry(3, 3)], 2)).unwrap();
    let messages = turn(&engine, &mut raw);
    assert!(messages.iter().any(|m| m.get_msg_type() == MessageType::MsgAppendResponse && m.index == 3));
    let group = after_power_loss(&vfs);
    assert_eq!(terms(&group), [(2, 3), (3, 3)]);
    let state = group.initial_state().unwrap();
    assert_eq!((state.hard_state.term, state.hard_state.commit), (3, 2));
    assert_eq!(state.conf_state, voters());
}

#[test]
fn a_vote_is_durable_before_it_is_sent() {
    let vfs = created();
    let engine = open(&vfs);
    let mut raw = follower(&engine, 1);
    let mut request = append(7, (9, 6), Vec::new(), 0);
    request.set_msg_type(MessageType::MsgRequestVote);
    request.from = 3;
    raw.step(request).unwrap();
    let messages = turn(&engine, &mut raw);
    assert!(messages.iter().any(|m| m.get_msg_type() == MessageType::MsgRequestVoteResponse && !m.reject));
    let hard = after_power_loss(&vfs).initial_state().unwrap().hard_state;
    assert_eq!((hard.term, hard.vote), (7, 3));
}

#[test]
fn entries_of_a_new_leader_replace_those_from_their_index_on() {
    let vfs = created();
    let engine = open(&vfs);
    let mut raw = follower(&engine, 1);
    raw.step(append(3, (1, 1), (2..8).map(|index| entry(3, index)).collect(), 1)).unwrap();
    drop(turn(&engine, &mut raw));
    raw.step(append(5, (3, 3), vec![entry(5, 4)], 1)).unwrap();
    drop(turn(&engine, &mut raw));
    assert_eq!(terms(raw.store()), [(2, 3), (3, 3), (4, 5)]);
    assert_eq!(terms(&after_power_loss(&vfs)), [(2, 3), (3, 3), (4, 5)], "a truncation came back");
}

#[test]
fn an_async_ready_goes_on_and_counts_when_the_callback_came() {
    let vfs = created();
    let engine = open(&vfs);
    let mut raw = follower(&engine, 1);
    let (release, _) = hold_syncs(&vfs);
    let (durable, told) = mpsc::channel();
    for index in 2..5 {
        raw.step(append(3, (index - 1, if index == 2 { 1 } else { 3 }), vec![entry(3, index)], 1)).unwrap();
        let ready = raw.ready();
        let number = ready.number();
        let mut writer = Writer::new(&engine);
        writer.ready(raw.store(), &ready).unwrap();
        let durable = durable.clone();
        writer.submit().unwrap().on_durable(move |done| durable.send((number, done.is_ok())).unwrap());
        raw.advance_append_async(ready);
    }
    assert_eq!(terms(raw.store()).len(), 3, "readable at once");
    assert!(
        told.recv_timeout(Duration::from_millis(50)).is_err(),
        "called back while the sync was under way"
    );
    drop(release);
    let numbers: Vec<(u64, bool)> = (0..3).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(numbers.is_sorted() && numbers.iter().all(|(_, done)| *done), "{numbers:?}");
    raw.on_persist_ready(numbers[2].0);
    assert_eq!(raw.raft.raft_log.persisted, 4);
    assert_eq!(terms(&after_power_loss(&vfs)), [(2, 3), (3, 3), (4, 3)]);
}

#[test]
fn a_ready_that_need_not_be_synced_is_not_waited_for() {
    let vfs = created();
    let engine = open(&vfs);
    let mut raw = follower(&engine, 1);
    raw.step(append(3, (1, 1), vec![entry(3, 2)], 1)).unwrap();
    drop(turn(&engine, &mut raw));
    raw.step(append(3, (2, 3), Vec::new(), 2)).unwrap();
    let ready = raw.ready();
    assert!(!ready.must_sync() && ready.hs().is_some(), "only the commit index changed");
    let mut writer = Writer::new(&engine);
    writer.ready(raw.store(), &ready).unwrap();
    let (release, _) = hold_syncs(&vfs);
    let written = writer.submit().unwrap();
    assert!(!written.must_sync());
    written.wait().unwrap();
    drop(release);
    assert_eq!(raw.store().initial_state().unwrap().hard_state.commit, 2);
}

#[test]
fn the_readies_of_many_groups_share_one_sync() {
    let vfs = created();
    let engine = open(&vfs);
    let mut groups: Vec<Raw> = (1..=20).map(|group| follower(&engine, group)).collect();
    let (release, syncs) = hold_syncs(&vfs);
    drop(release);
    let mut writer = Writer::new(&engine);
    for raw in &mut groups {
        raw.step(append(3, (1, 1), vec![entry(3, 2)], 1)).unwrap();
        let ready = raw.ready();
        writer.ready(raw.store(), &ready).unwrap();
    }
    writer.submit().unwrap().wait().unwrap();
    let syncs = syncs.load(Ordering::Relaxed);
    assert!(syncs <= 2, "{syncs} syncs for one batch; a second may come with a new segment");
    assert_eq!(terms(&after_power_loss(&vfs)), [(2, 3)]);
}

#[test]
fn a_snapshot_of_the_leader_switches_log_state_and_configuration() {
    let vfs = created();
    let engine = open(&vfs);
    let mut raw = follower(&engine, 1);
    raw.step(append(3, (1, 1), vec![entry(3, 2)], 1)).unwrap();
    drop(turn(&engine, &mut raw));
    let mut snapshot = Snapshot::default();
    snapshot.data = b"all of it".to_vec().into();
    (snapshot.mut_metadata().index, snapshot.mut_metadata().term) = (40, 4);
    let mut conf = voters();
    conf.learners = vec![9];
    snapshot.mut_metadata().set_conf_state(conf.clone());
    let mut message = append(5, (0, 0), Vec::new(), 0);
    message.set_msg_type(MessageType::MsgSnapshot);
    message.set_snapshot(snapshot);
    raw.step(message).unwrap();
    drop(turn(&engine, &mut raw));
    let group = after_power_loss(&vfs);
    let state = group.initial_state().unwrap();
    assert_eq!((state.hard_state.term, state.hard_state.commit), (5, 40));
    assert_eq!((state.conf_state, group.applied().unwrap()), (conf, 40));
    assert_eq!((group.first_index().unwrap(), group.last_index().unwrap()), (41, 40));
    assert_eq!(group.term(40).unwrap(), 4);
    let sent = group.snapshot(40, 3).unwrap();
    assert_eq!(&sent.data[..], b"all of it");
    let later = group.snapshot(41, 3).unwrap_err();
    assert_eq!(later, Error::Store(StorageError::SnapshotTemporarilyUnavailable));
}

#[test]
fn a_snapshot_authorises_a_compaction_and_a_compacted_index_is_told_so() {
    let vfs = created();
    let engine = open(&vfs);
    let group = with_entries(&engine);
    assert!(matches!(engine_error(&group.compact(5).unwrap_err()), seawall::Error::NotCovered { .. }));
    group.save_snapshot(5, &voters(), b"up to 5").unwrap();
    group.compact(5).unwrap();
    let read = |low, high| group.entries(low, high, None, GetEntriesContext::empty(false));
    assert_eq!(read(4, 7).unwrap_err(), Error::Store(StorageError::Compacted));
    assert_eq!(read(6, 9).unwrap_err(), Error::Store(StorageError::Unavailable));
    assert_eq!(group.term(4).unwrap_err(), Error::Store(StorageError::Compacted));
    assert_eq!(group.term(5).unwrap(), 3, "the one before the first is known");
    assert_eq!(read(6, 8).unwrap().len(), 2);
    let limited = group.entries(6, 8, 1, GetEntriesContext::empty(false)).unwrap();
    assert_eq!(limited.len(), 1, "at least one");
    assert_eq!(terms(&after_power_loss(&vfs)), [(6, 3), (7, 3)]);
}

#[test]
fn entries_are_stored_in_the_engines_own_records() {
    let vfs = created();
    let engine = open(&vfs);
    let mut raw = follower(&engine, 1);
    let mut change = entry(3, 3);
    change.set_entry_type(raft::eraftpb::EntryType::EntryConfChangeV2);
    raw.step(append(3, (1, 1), vec![entry(3, 2), change.clone()], 1)).unwrap();
    drop(turn(&engine, &mut raw));
    let stored = engine.read(GroupId(1), Index(2)..Index(4), u64::MAX).unwrap();
    assert_eq!((stored[0].id.index, stored[0].id.term.0), (Index(2), 3));
    assert!(stored[0].data.ends_with(b"entry 2 of term 3") && stored[0].data.len() == 18);
    assert_eq!(stored[1].kind, EntryKind::Membership, "configuration history is a fold over marked entries");
    let back = raw.store().entries(3, 4, None, GetEntriesContext::empty(false)).unwrap();
    assert_eq!(back, [change]);
}

#[test]
fn a_failed_sync_is_an_error_for_every_ready_and_nobody_waits_for_ever() {
    let vfs = created();
    let engine = open(&vfs);
    let mut raw = follower(&engine, 1);
    fail_syncs(&vfs);
    raw.step(append(3, (1, 1), vec![entry(3, 2)], 1)).unwrap();
    let ready = raw.ready();
    let mut writer = Writer::new(&engine);
    writer.ready(raw.store(), &ready).unwrap();
    let failed = writer.submit().unwrap().wait().unwrap_err();
    assert!(matches!(engine_error(&failed), seawall::Error::NotAcknowledged { .. }));
    let mut writer = Writer::new(&engine);
    writer.ready(raw.store(), &ready).unwrap();
    let refused = writer.submit().map(drop).unwrap_err();
    assert!(matches!(engine_error(&refused), seawall::Error::Poisoned { .. }), "{refused}");
}

#[test]
fn a_damaged_group_takes_part_in_no_election_until_a_peer_gave_the_entry_back() {
    let vfs = created();
    let engine = open(&vfs);
    let mut raw = follower(&engine, 1);
    for index in 2..6 {
        raw.step(append(3, (index - 1, if index == 2 { 1 } else { 3 }), vec![entry(3, index)], 1)).unwrap();
        drop(turn(&engine, &mut raw));
    }
    let mut image = vfs.durable_image();
    for content in image.files.values_mut() {
        let mut bytes = content.to_bytes();
        if let Some(at) = bytes.windows(17).position(|window| window == b"entry 3 of term 3") {
            bytes[at] ^= 1;
            *content = Content::from_bytes(&bytes);
        }
    }
    let group = Group::open(&open(&MemVfs::from_image(image)), 1).unwrap();
    assert_eq!(group.lost().len(), 1);
    let refused = group.initial_state().unwrap_err();
    assert!(matches!(engine_error(&refused), seawall::Error::Blocked { .. }));
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    assert!(RawNode::new(&Config { id: 1, ..Config::default() }, group.clone(), &logger).is_err());
    assert!(group.repair(&entry(4, 3)).is_err(), "not what was acknowledged");
    assert!(group.repair(&entry(3, 3)).unwrap());
    group.initial_state().unwrap();
    assert_eq!(terms(&group).len(), 4);
}

#[test]
fn a_group_has_one_handle_at_a_time() {
    let engine = open(&created());
    let group = Group::open(&engine, 1).unwrap();
    assert!(matches!(Group::open(&engine, 1), Err(seawall::Error::GroupInUse { .. })));
    drop(group);
    assert!(Group::open(&engine, 1).is_ok());
}

#[test]
fn another_nodes_store_is_refused() {
    let options = Options { expect: Some((1, 2)), ..Options::default() };
    let refused = Engine::open_in(created(), options).map(drop).unwrap_err();
    assert!(matches!(refused, seawall::Error::WrongIdentity { .. }), "{refused}");
}

#[test]
fn what_goes_back_behind_the_snapshot_or_the_vote_is_refused() {
    let vfs = created();
    let engine = open(&vfs);
    let group = with_entries(&engine);
    group.save_snapshot(5, &voters(), b"up to 5").unwrap();
    group.compact(5).unwrap();
    let mut writer = Writer::new(&engine);
    writer.entries(&group, &[entry(4, 4)]).unwrap();
    assert_eq!(writer.submit().map(drop).unwrap_err(), Error::Store(StorageError::Compacted));
    let mut writer = Writer::new(&engine);
    writer.entries(&group, &[entry(4, 12)]).unwrap();
    let gap = writer.submit().map(drop).unwrap_err();
    assert!(matches!(engine_error(&gap), seawall::Error::Gap { .. }), "{gap}");
    let older = group.save_snapshot(4, &voters(), b"up to 4").unwrap_err();
    assert_eq!(older, Error::Store(StorageError::Compacted));
    let mut hard = group.initial_state().unwrap().hard_state;
    hard.term = 2;
    let mut writer = Writer::new(&engine);
    writer.hard_state(&group, &hard).unwrap();
    let stale = writer.submit().map(drop).unwrap_err();
    assert!(matches!(engine_error(&stale), seawall::Error::StaleVote { .. }), "{stale}");
    assert_eq!(terms(&after_power_loss(&vfs)), [(6, 3), (7, 3)], "nothing of it was written");
}

#[test]
fn callbacks_are_answered_when_the_engine_fails_and_when_it_is_dropped() {
    for fails in [false, true] {
        let vfs = created();
        let engine = open(&vfs);
        let group = Group::open(&engine, 1).unwrap();
        group.bootstrap(&voters(), b"").unwrap();
        let (release, _) = hold_syncs(&vfs);
        let (done, told) = mpsc::channel();
        for index in 2..12 {
            let mut writer = Writer::new(&engine);
            writer.entries(&group, &[entry(3, index)]).unwrap();
            let done = done.clone();
            writer.submit().unwrap().on_durable(move |result| done.send(result.is_ok()).unwrap());
        }
        if fails {
            fail_syncs(&vfs);
        }
        drop(release);
        drop((group, engine));
        let answers: Vec<bool> = (0..10).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
        let durable = answers.iter().filter(|durable| **durable).count();
        assert!(told.try_recv().is_err(), "a callback came twice");
        assert!(terms(&after_power_loss(&vfs)).len() >= durable, "acknowledged and gone: {answers:?}");
    }
}

#[test]
fn what_another_program_wrote_into_a_group_is_an_error() {
    let engine = open(&created());
    let group = Group::open(&engine, 1).unwrap();
    let mut batch = seawall::WriteBatch::new();
    batch.vote(GroupId(1), seawall::Vote::new(1, u128::MAX, *b""));
    batch.append(GroupId(1), seawall::Entry::command(1, 1, *b"\xff"));
    assert_eq!(engine.write(batch).unwrap().wait(), seawall::Outcome::Durable);
    assert!(matches!(group.initial_state(), Err(Error::Store(StorageError::Other(_)))));
    let read = group.entries(1, 2, None, GetEntriesContext::empty(false));
    assert!(matches!(read, Err(Error::Store(StorageError::Other(_)))), "{read:?}");
}

/// More than one batch may hold: it is cut between groups, and durable from its beginning.
#[test]
fn the_readies_of_many_groups_are_more_than_a_batch() {
    let vfs = created();
    let engine = open(&vfs);
    let mut raws: Vec<Raw> = (1..=24).map(|group| follower(&engine, group)).collect();
    let mut writer = Writer::new(&engine);
    for raw in &mut raws {
        let mut large = entry(3, 2);
        large.data = vec![7; 2_000].into();
        raw.step(append(3, (1, 1), vec![large, entry(3, 3)], 3)).unwrap();
        let ready = raw.ready();
        writer.ready(raw.store(), &ready).unwrap();
    }
    let written = writer.submit().unwrap();
    assert!(written.must_sync());
    written.wait().unwrap();
    drop((raws, engine));
    let engine = open(&vfs);
    for group in 1..=24 {
        let group = engine.group(GroupId(group)).unwrap();
        assert_eq!((group.last.index, group.commit), (Index(3), Index(3)));
        assert_eq!(group.vote.map(|vote| vote.key.term.0), Some(3));
    }
}
