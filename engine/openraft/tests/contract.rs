//! What openraft asks of a store, a test for each point, on the simulated disk.
//!
//! The tests speak through the traits of openraft 0.10, whose callback can be watched; `truncate`, which
//! differs in 0.9, is asked of both.
#![cfg(all(feature = "v0_9", feature = "v0_10"))]

use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftLogStorageExt};
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use openraft::vote::leader_id_adv::LeaderId;
use openraft::{LogId, Membership, RaftLogReader};
use openraft_0_10 as openraft;
use seawall::vfs::mem::{Call, CallKind, Content, Fault, MemVfs, SyncFailure};
use seawall::{CreateOptions, Engine, EntryKind, Error, GroupId, Index, Options, RecoveryReport};
use seawall_openraft::v0_10::{Log, Snapshots};
use seawall_openraft::{Node, v0_9};

openraft::declare_raft_types!(
    /// Texts as commands.
    Types: D = String, R = ()
);

mod stable {
    openraft_0_9::declare_raft_types!(
        /// The same for 0.9.
        pub(crate) Types: D = String, R = (), SnapshotData = std::io::Cursor<Vec<u8>>
    );
}

const PATIENCE: Duration = Duration::from_secs(10);

fn created() -> MemVfs {
    let vfs = MemVfs::new();
    let create = CreateOptions { segment_bytes: 64 << 10, unit: 512, ..CreateOptions::new(1, 1) };
    Engine::create_in(&vfs, &create).unwrap();
    vfs.track();
    vfs
}

fn open(vfs: &MemVfs) -> (Node<MemVfs>, RecoveryReport) {
    Node::open_in(vfs.clone(), 1, 1, Options::default()).unwrap()
}

fn fresh() -> (MemVfs, Node<MemVfs>, Log<Types, MemVfs>) {
    let vfs = created();
    let (node, _) = open(&vfs);
    let log = Log::open(&node, 1).unwrap();
    (vfs, node, log)
}

/// What a power loss leaves that keeps nothing but what is synced, opened again.
fn after_power_loss(vfs: &MemVfs) -> (Node<MemVfs>, Log<Types, MemVfs>) {
    let vfs = MemVfs::from_image(vfs.durable_image());
    let (node, report) = open(&vfs);
    assert!(!report.is_alarm(), "{report}");
    let log = Log::open(&node, 1).unwrap();
    (node, log)
}

fn id(term: u64, index: u64) -> LogIdOf<Types> {
    LogId::new(LeaderId { term, node_id: 7 }, index)
}

fn entry(term: u64, index: u64) -> EntryOf<Types> {
    EntryOf::<Types>::new_normal(id(term, index), format!("entry {index} of term {term}"))
}

async fn append(log: &mut Log<Types, MemVfs>, term: u64, indexes: std::ops::Range<u64>) {
    log.blocking_append(indexes.map(|index| entry(term, index))).await.unwrap();
}

async fn indexes(log: &mut Log<Types, MemVfs>) -> Vec<u64> {
    log.try_get_log_entries(..).await.unwrap().iter().map(|e| e.index()).collect()
}

fn engine_error(e: &io::Error) -> &Error {
    e.get_ref().and_then(|e| e.downcast_ref()).expect("the source is the engine's error")
}

/// A callback, and the task that waits for it.
fn watched() -> (IOFlushed<Types>, tokio::task::JoinHandle<io::Result<()>>) {
    let (done, flushed) = Types::oneshot();
    let wait = async { flushed.await.expect("a callback is never dropped") };
    (IOFlushed::signal(done), tokio::spawn(wait))
}

/// Whether a call syncs appended frames. The driver's thread syncs other files when it likes.
fn syncs_frames(call: &Call) -> bool {
    matches!(call.kind, CallKind::SyncData | CallKind::SyncAll) && call.path.ends_with(".seg")
}

/// Holds every sync of frames from now on until the sender goes.
fn hold_syncs(vfs: &MemVfs) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    vfs.set_faults(Some(Arc::new(move |call| {
        if syncs_frames(call) {
            let _ = held.lock().unwrap().recv();
        }
        None
    })));
    release
}

fn fail_syncs(vfs: &MemVfs) {
    vfs.set_faults(Some(Arc::new(|call| {
        syncs_frames(call).then_some(Fault::FailSync(SyncFailure::KeptClean))
    })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_readable_when_append_returns_and_its_callback_comes_when_it_is_durable() {
    let (vfs, _node, mut log) = fresh();
    let release = hold_syncs(&vfs);
    let (done, flushed) = watched();
    log.append([entry(1, 0)], done).await.unwrap();
    assert_eq!(indexes(&mut log).await, [0]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!flushed.is_finished(), "called back while the sync was under way");
    let before = MemVfs::from_image(vfs.durable_image());
    drop(release);
    tokio::time::timeout(PATIENCE, flushed).await.unwrap().unwrap().unwrap();
    let (_node, mut after) = after_power_loss(&vfs);
    assert_eq!(indexes(&mut after).await, [0]);
    let (node, _) = open(&before);
    assert_eq!(indexes(&mut Log::open(&node, 1).unwrap()).await, [0u64; 0], "the sync made the difference");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callback_is_called_with_an_error_when_the_store_fails_and_later_calls_say_poisoned() {
    let (vfs, _node, mut log) = fresh();
    fail_syncs(&vfs);
    let (done, flushed) = watched();
    log.append([entry(1, 0)], done).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, flushed).await.unwrap().unwrap();
    assert!(matches!(engine_error(&answer.unwrap_err()), Error::NotAcknowledged { .. }));
    let (done, flushed) = watched();
    let refused = log.append([entry(1, 1)], done).await.unwrap_err();
    assert!(matches!(engine_error(&refused), Error::Poisoned { .. }));
    assert!(flushed.await.unwrap().is_err());
    let vote = log.save_vote(&VoteOf::<Types>::new(1, 7)).await.unwrap_err();
    assert!(matches!(engine_error(&vote), Error::Poisoned { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_are_answered_when_the_store_is_dropped() {
    let (vfs, node, mut log) = fresh();
    let release = hold_syncs(&vfs);
    let mut answers = Vec::new();
    for index in 0..20 {
        let (done, flushed) = watched();
        log.append([entry(1, index)], done).await.unwrap();
        answers.push(flushed);
    }
    let dropped = tokio::task::spawn_blocking(move || drop((log, node)));
    drop(release);
    tokio::time::timeout(PATIENCE, dropped).await.unwrap().unwrap();
    let mut durable = 0;
    for answer in answers {
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("never a wait for ever");
        durable += usize::from(answer.unwrap().is_ok());
    }
    let (_node, mut after) = after_power_loss(&vfs);
    assert!(indexes(&mut after).await.len() >= durable, "acknowledged and gone");
}

#[tokio::test]
async fn a_vote_is_durable_on_return() {
    let (vfs, _node, mut log) = fresh();
    for vote in [VoteOf::<Types>::new(3, 9), VoteOf::<Types>::new_committed(3, 9), VoteOf::<Types>::new(4, 1)]
    {
        log.save_vote(&vote).await.unwrap();
        let (_node, mut after) = after_power_loss(&vfs);
        assert_eq!(after.read_vote().await.unwrap(), Some(vote));
    }
    let stale = log.save_vote(&VoteOf::<Types>::new(3, 9)).await.unwrap_err();
    assert!(matches!(engine_error(&stale), Error::StaleVote { .. }));
}

#[tokio::test]
async fn votes_appends_and_truncations_are_one_history() {
    let (vfs, _node, mut log) = fresh();
    append(&mut log, 1, 0..5).await;
    log.truncate_after(Some(id(1, 1))).await.unwrap();
    let (done, flushed) = watched();
    log.append([entry(2, 2)], done).await.unwrap();
    // The vote is the newest of the history: when it is durable, so is all before it.
    log.save_vote(&VoteOf::<Types>::new(3, 1)).await.unwrap();
    let (_node, mut after) = after_power_loss(&vfs);
    let found = after.try_get_log_entries(..).await.unwrap();
    let terms: Vec<u64> = found.iter().map(|e| e.log_id.committed_leader_id().term).collect();
    assert_eq!(terms, [1, 1, 2]);
    flushed.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncate_waits_for_no_sync_and_is_exclusive_in_0_10_and_inclusive_in_0_9() {
    let (vfs, node, mut log) = fresh();
    append(&mut log, 1, 0..9).await;
    let release = hold_syncs(&vfs);
    tokio::time::timeout(PATIENCE, log.truncate_after(Some(id(1, 5)))).await.unwrap().unwrap();
    assert_eq!(indexes(&mut log).await, [0, 1, 2, 3, 4, 5]);
    drop(release);
    drop(log);
    let mut log = v0_9::Log::<stable::Types, MemVfs>::open(&node, 1).unwrap();
    let at = openraft_0_9::LogId::new(openraft_0_9::LeaderId::new(1, 7), 5);
    openraft_0_9::storage::RaftLogStorage::truncate(&mut log, at).await.unwrap();
    drop(log);
    assert_eq!(indexes(&mut Log::open(&node, 1).unwrap()).await, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_purge_goes_beyond_the_last_entry_and_last_is_purged_when_the_log_is_empty() {
    let (vfs, _node, mut log) = fresh();
    append(&mut log, 1, 0..3).await;
    log.purge(id(4, 9)).await.unwrap();
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(4, 9)), Some(id(4, 9))));
    append(&mut log, 4, 10..12).await;
    let (_node, mut after) = after_power_loss(&vfs);
    assert_eq!(indexes(&mut after).await, [10, 11]);
    assert_eq!(after.get_log_state().await.unwrap().last_purged_log_id, Some(id(4, 9)));
}

#[tokio::test]
async fn a_commit_index_costs_no_sync_and_goes_along_with_what_follows_or_with_the_log() {
    let (vfs, node, mut log) = fresh();
    append(&mut log, 1, 0..6).await;
    log.save_committed(Some(id(1, 3))).await.unwrap();
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 3)));
    assert_eq!(node.engine().group(GroupId(1)).unwrap().commit, Index(0), "no batch of its own");
    let committed = log.truncate_after(Some(id(1, 2))).await.unwrap_err();
    assert!(matches!(engine_error(&committed), Error::Committed { .. }), "{committed}");
    append(&mut log, 1, 6..7).await;
    let (_node, mut after) = after_power_loss(&vfs);
    assert_eq!(after.read_committed().await.unwrap(), Some(id(1, 3)), "with the next batch");
    log.save_committed(Some(id(1, 5))).await.unwrap();
    drop(log);
    assert!(node.close(PATIENCE).await.unwrap());
    let (_node, mut after) = after_power_loss(&vfs);
    assert_eq!(after.read_committed().await.unwrap(), Some(id(1, 5)), "with the log");
}

#[tokio::test]
async fn a_purge_past_other_entries_leaves_none_of_them_behind() {
    let (_vfs, _node, mut log) = fresh();
    append(&mut log, 1, 0..8).await;
    log.save_committed(Some(id(1, 2))).await.unwrap();
    // A snapshot at 5 of term 2 was installed: entries of term 1 from there on never were committed.
    log.purge(id(2, 5)).await.unwrap();
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(2, 5)), Some(id(2, 5))));
}

#[tokio::test]
async fn a_reader_made_earlier_sees_later_appends() {
    let (_vfs, _node, mut log) = fresh();
    let mut reader = log.get_log_reader().await;
    append(&mut log, 1, 0..2).await;
    assert_eq!(indexes(&mut reader).await, [0, 1]);
    log.save_vote(&VoteOf::<Types>::new(2, 1)).await.unwrap();
    assert_eq!(reader.read_vote().await.unwrap(), Some(VoteOf::<Types>::new(2, 1)));
}

#[tokio::test]
async fn there_is_never_a_hole_and_a_compacted_index_does_not_come_back() {
    let (_vfs, _node, mut log) = fresh();
    append(&mut log, 1, 0..4).await;
    let (done, flushed) = watched();
    let gap = log.append([entry(1, 6)], done).await.unwrap_err();
    assert!(matches!(engine_error(&gap), Error::Gap { .. }));
    assert!(flushed.await.unwrap().is_err(), "the callback is answered too");
    log.purge(id(1, 2)).await.unwrap();
    let gone = log.append([entry(1, 1)], IOFlushed::noop()).await.unwrap_err();
    assert!(matches!(engine_error(&gone), Error::Compacted { .. }), "{gone}");
    let gone = log.truncate_after(Some(id(1, 0))).await.unwrap_err();
    assert!(matches!(engine_error(&gone), Error::Compacted { .. }), "{gone}");
    assert_eq!(indexes(&mut log).await, [3]);
}

#[tokio::test]
async fn a_large_append_is_split_and_called_back_once() {
    let (vfs, _node, mut log) = fresh();
    let large = |index| EntryOf::<Types>::new_normal(id(1, index), "x".repeat(3_000));
    log.blocking_append((0..40).map(large)).await.unwrap();
    let (_node, mut after) = after_power_loss(&vfs);
    assert_eq!(indexes(&mut after).await.len(), 40);
    let huge = EntryOf::<Types>::new_normal(id(1, 40), "x".repeat(60_000));
    let (done, flushed) = watched();
    let refused = log.append([huge], done).await.unwrap_err();
    assert!(matches!(engine_error(&refused), Error::TooLarge { .. }));
    assert!(flushed.await.unwrap().is_err());
}

#[tokio::test]
async fn the_snapshot_is_there_after_a_restart_and_an_older_one_changes_nothing() {
    let (vfs, node, _log) = fresh();
    let snapshots = Snapshots::<Types, MemVfs>::open(&node, 1).unwrap();
    assert!(snapshots.load().unwrap().is_none());
    let meta = |index| SnapshotMetaOf::<Types> {
        last_log_id: Some(id(2, index)),
        last_membership: StoredMembershipOf::<Types>::default(),
    };
    assert!(snapshots.save(&meta(5), b"five").unwrap());
    assert!(snapshots.save(&meta(8), b"eight").unwrap());
    assert!(!snapshots.save(&meta(6), b"six").unwrap());
    let (node, _) = open(&MemVfs::from_image(vfs.durable_image()));
    let found = Snapshots::<Types, MemVfs>::open(&node, 1).unwrap().load().unwrap().unwrap();
    assert_eq!((found.0.last_log_id, &found.1[..]), (Some(id(2, 8)), &b"eight"[..]));
}

#[tokio::test]
async fn membership_entries_are_marked_as_such() {
    let (_vfs, node, mut log) = fresh();
    let voters: std::collections::BTreeSet<u64> = [1, 2, 3].into();
    let membership = Membership::new_with_defaults(vec![voters.clone()], voters);
    let change = EntryOf::<Types>::new_membership(id(1, 1), membership);
    log.blocking_append([entry(1, 0), change.clone()]).await.unwrap();
    let stored = node.engine().read(GroupId(1), Index(1)..Index(3), u64::MAX).unwrap();
    let kinds: Vec<EntryKind> = stored.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EntryKind::Command, EntryKind::Membership]);
    assert_eq!(log.try_get_log_entries(1..2).await.unwrap(), [change]);
}

/// Changes a byte of the only file that holds `text`.
fn rot(vfs: &MemVfs, text: &[u8]) -> MemVfs {
    let mut image = vfs.durable_image();
    let mut hits = 0;
    for content in image.files.values_mut() {
        let mut bytes = content.to_bytes();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
            bytes[at] ^= 1;
            hits += 1;
            *content = Content::from_bytes(&bytes);
        }
    }
    assert_eq!(hits, 1, "the text is in one file");
    MemVfs::from_image(image)
}

#[tokio::test]
async fn a_group_with_named_damage_does_not_vote_until_a_peer_gave_the_entry_back() {
    let (vfs, node, mut log) = fresh();
    append(&mut log, 1, 0..6).await;
    // What follows says that the entries were acknowledged.
    log.save_vote(&VoteOf::<Types>::new(1, 7)).await.unwrap();
    log.save_vote(&VoteOf::<Types>::new_committed(1, 7)).await.unwrap();
    let vfs = rot(&vfs, b"entry 5 of term 1");
    drop((log, node));
    let (node, report) = open(&vfs);
    assert!(!report.lost.is_empty(), "{report}");
    let mut log = Log::<Types, MemVfs>::open(&node, 1).unwrap();
    assert_eq!(log.lost(), report.lost);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id, Some(id(1, 5)), "its name is known");
    let unread = log.try_get_log_entries(..).await.unwrap_err();
    assert!(matches!(engine_error(&unread), Error::Damaged { .. }), "never a short read");
    let vote = log.save_vote(&VoteOf::<Types>::new(2, 1)).await.unwrap_err();
    assert!(matches!(engine_error(&vote), Error::Blocked { .. }));
    let more = log.append([entry(1, 6)], IOFlushed::noop()).await.unwrap_err();
    assert!(matches!(engine_error(&more), Error::Blocked { .. }));
    let mut other = Log::<Types, MemVfs>::open(&node, 2).unwrap();
    other.save_vote(&VoteOf::<Types>::new(2, 1)).await.unwrap();
    assert!(log.repair(&entry(2, 5)).is_err(), "not what was acknowledged");
    assert!(log.repair(&entry(1, 5)).unwrap());
    log.save_vote(&VoteOf::<Types>::new(2, 1)).await.unwrap();
    assert_eq!(indexes(&mut log).await, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_group_with_a_damaged_snapshot_does_not_vote_until_a_peer_gave_it_back() {
    let (vfs, node, log) = fresh();
    let snapshots = Snapshots::<Types, MemVfs>::open(&node, 1).unwrap();
    let meta = SnapshotMetaOf::<Types> { last_log_id: Some(id(1, 3)), ..Default::default() };
    snapshots.save(&meta, b"what the machine holds").unwrap();
    drop((log, snapshots));
    assert!(node.close(PATIENCE).await.unwrap());
    let mut image = vfs.durable_image();
    let chunk = image.files.keys().find(|name| name.ends_with(".chunk")).unwrap().clone();
    image.files.remove(&chunk);
    let (node, report) = open(&MemVfs::from_image(image));
    assert!(!report.lost.is_empty(), "{report}");
    let mut log = Log::<Types, MemVfs>::open(&node, 1).unwrap();
    let snapshots = Snapshots::<Types, MemVfs>::open(&node, 1).unwrap();
    assert!(snapshots.load().is_err(), "never an older one, never none");
    let vote = log.save_vote(&VoteOf::<Types>::new(2, 1)).await.unwrap_err();
    assert!(matches!(engine_error(&vote), Error::Blocked { .. }));
    snapshots.save(&meta, b"what the machine holds").unwrap();
    log.save_vote(&VoteOf::<Types>::new(2, 1)).await.unwrap();
    assert_eq!(snapshots.load().unwrap().unwrap().1, b"what the machine holds");
}

#[tokio::test]
async fn another_nodes_store_a_missing_store_and_a_group_in_use_are_refused() {
    let (vfs, node, log) = fresh();
    assert!(matches!(Log::<Types, MemVfs>::open(&node, 1), Err(Error::GroupInUse { group: GroupId(1) })));
    assert!(matches!(Log::<Types, MemVfs>::open(&node, 1 << 63), Err(Error::InvalidOption { .. })));
    let reader = log.clone();
    drop(log);
    assert!(!node.clone().close(Duration::ZERO).await.unwrap(), "a reader still holds it");
    drop(reader);
    assert!(node.close(PATIENCE).await.unwrap());
    let other = Node::open_in(vfs, 1, 2, Options::default()).map(drop).unwrap_err();
    assert!(matches!(other, Error::WrongIdentity { .. }), "{other}");
    let missing = Node::open_in(MemVfs::new(), 1, 1, Options::default()).map(drop).unwrap_err();
    assert!(matches!(missing, Error::NotAStore { .. }), "{missing}");
}

#[tokio::test]
async fn a_poisoned_store_refuses_every_write_and_still_reads() {
    let (vfs, node, mut log) = fresh();
    let snapshots = Snapshots::<Types, MemVfs>::open(&node, 1).unwrap();
    append(&mut log, 1, 0..4).await;
    fail_syncs(&vfs);
    assert!(log.save_vote(&VoteOf::<Types>::new(1, 7)).await.is_err());
    vfs.set_faults(None);
    let meta = SnapshotMetaOf::<Types> { last_log_id: Some(id(1, 3)), ..Default::default() };
    for refused in [
        log.save_vote(&VoteOf::<Types>::new(2, 7)).await,
        log.truncate_after(Some(id(1, 1))).await,
        log.purge(id(1, 1)).await,
        log.append([entry(1, 4)], IOFlushed::noop()).await,
        snapshots.save(&meta, b"what the machine holds").map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert!(refused.to_string().contains("poisoned"), "{refused}");
    }
    assert_eq!(indexes(&mut log).await, [0, 1, 2, 3]);
    drop((log, snapshots));
    let closed = tokio::time::timeout(PATIENCE, node.close(PATIENCE)).await.expect("never a wait for ever");
    assert!(matches!(closed, Err(Error::Poisoned { .. })), "{closed:?}");
}

#[tokio::test]
async fn bad_input_is_a_storage_error_of_0_9_and_never_a_wait() {
    use openraft_0_9::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
    use openraft_0_9::{EntryPayload, ErrorSubject, LeaderId, LogId, StorageError, Vote};
    let (vfs, node, log) = fresh();
    drop(log);
    let mut log = v0_9::Log::<stable::Types, MemVfs>::open(&node, 1).unwrap();
    let at = |index| LogId::new(LeaderId::new(1, 7), index);
    let entry = |index| openraft_0_9::Entry { log_id: at(index), payload: EntryPayload::Normal("x".into()) };
    #[track_caller]
    fn says(refused: &StorageError<u64>, subject: &ErrorSubject<u64>, text: &str) {
        let StorageError::IO { source } = refused else { panic!("not an error of the store: {refused}") };
        let said = source.to_string();
        assert!(said.contains(&format!("{subject:?}")) && said.contains(text), "{said}");
    }
    log.blocking_append((0..6).map(entry)).await.unwrap();
    says(&log.blocking_append([entry(9)]).await.unwrap_err(), &ErrorSubject::Logs, "a gap");
    log.purge(at(3)).await.unwrap();
    says(&log.truncate(at(2)).await.unwrap_err(), &ErrorSubject::Logs, "compacted");
    log.save_vote(&Vote::new(5, 7)).await.unwrap();
    says(&log.save_vote(&Vote::new(4, 7)).await.unwrap_err(), &ErrorSubject::Vote, "vote");
    fail_syncs(&vfs);
    assert!(tokio::time::timeout(PATIENCE, log.blocking_append([entry(6)])).await.unwrap().is_err());
    says(&log.save_vote(&Vote::new(6, 7)).await.unwrap_err(), &ErrorSubject::Vote, "poisoned");
    says(&log.purge(at(5)).await.unwrap_err(), &ErrorSubject::Logs, "poisoned");
}

#[tokio::test]
async fn what_another_program_wrote_into_a_group_is_an_error() {
    let (_vfs, node, mut log) = fresh();
    let mut batch = seawall::WriteBatch::new();
    batch.vote(GroupId(1), seawall::Vote::new(1, u128::MAX, *b""));
    batch.append(GroupId(1), seawall::Entry::command(1, 1, *b"not MessagePack \xc1"));
    assert_eq!(node.engine().write(batch).unwrap().wait(), seawall::Outcome::Durable);
    let kind = |e: io::Error| e.kind();
    assert_eq!(log.read_vote().await.map_err(kind).unwrap_err(), io::ErrorKind::InvalidData);
    assert_eq!(log.try_get_log_entries(..).await.map_err(kind).unwrap_err(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn many_groups_share_one_sync() {
    let (vfs, node, mut log) = fresh();
    let mut others: Vec<Log<Types, MemVfs>> = (2..22).map(|g| Log::open(&node, g).unwrap()).collect();
    // Warm up, so that segments are ready.
    append(&mut log, 1, 0..1).await;
    let syncs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (release, held) = mpsc::channel::<()>();
    let (counted, held) = (syncs.clone(), Mutex::new(held));
    vfs.set_faults(Some(Arc::new(move |call| {
        if syncs_frames(call) {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let _ = held.lock().unwrap().recv();
        }
        None
    })));
    let mut answers = Vec::new();
    for log in &mut others {
        let (done, flushed) = watched();
        log.append([entry(1, 0)], done).await.unwrap();
        answers.push(flushed);
    }
    drop(release);
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let syncs = syncs.load(std::sync::atomic::Ordering::Relaxed);
    assert!(syncs <= 6, "{syncs} syncs for 20 groups");
}
