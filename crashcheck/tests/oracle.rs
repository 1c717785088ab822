//! The oracle by hand: what each operation means, and which states a history allows.

use std::sync::Arc;

use crashcheck::engine::oracle::{Act, Event, Fold, History, Refusal, Snapshot, State, What};
use seawall::types::{Digest, Entry, Epoch, GroupId, Index, LogId, Vote};

const G: GroupId = GroupId(4);

fn act(what: What) -> Act {
    Act::new(G, what)
}

fn append(index: u64, term: u64) -> Act {
    act(What::Append(Entry::command(index, term, format!("{index}@{term}").into_bytes())))
}

/// A group with a vote and entries 1..=last of term 2, committed up to `commit`.
fn store(last: u64, commit: u64) -> State {
    let mut state = State::default();
    let mut batch = vec![act(What::Create(None)), act(What::Vote(Vote::new(2, 0, *b"me")))];
    batch.extend((1..=last).map(|i| append(i, 2)));
    batch.push(act(What::Commit(Index(commit))));
    state.apply(&batch).unwrap();
    state
}

#[track_caller]
fn check(before: &State, batch: &[Act], expected: Result<(u64, u64, u64, usize), Refusal>) {
    let mut state = before.clone();
    let result = state.apply(batch);
    match expected {
        Ok(shape) => {
            result.unwrap();
            let g = &state.groups[&G];
            assert_eq!((g.first.0, g.last.index.0, g.commit.0, g.entries.len()), shape);
        }
        Err(refusal) => {
            assert_eq!(result, Err(refusal));
            assert_eq!(state, *before, "a refusal changes nothing");
        }
    }
}

fn external(index: u64, term: u64) -> Act {
    act(What::Snapshot(Snapshot::external(LogId::new(index, term), Digest([7; 32]))))
}

fn install(index: u64, term: u64) -> Act {
    act(What::Install(Snapshot::owned(LogId::new(index, term), *b"m", *b"bytes")))
}

#[test]
fn appends() {
    let s = store(3, 1);
    check(&s, &[append(4, 2)], Ok((1, 4, 1, 4)));
    check(&s, &[append(3, 2)], Ok((1, 3, 1, 3)));
    check(&s, &[append(5, 2)], Err(Refusal::Gap));
    check(&s, &[append(4, 1)], Err(Refusal::TermRegression));
    check(&s, &[append(3, 3)], Err(Refusal::WouldOverwrite));
    check(&s, &[act(What::Append(Entry::command(3, 2, *b"other")))], Err(Refusal::Conflict));
    check(&s, &[append(4, 2), append(6, 2)], Err(Refusal::Gap));
}

#[test]
fn truncations() {
    let s = store(5, 2);
    check(&s, &[act(What::Truncate(Index(3)))], Ok((1, 2, 2, 2)));
    check(&s, &[act(What::Truncate(Index(6)))], Ok((1, 5, 2, 5)));
    check(&s, &[act(What::Truncate(Index(2)))], Err(Refusal::Committed));
    check(&s, &[act(What::Truncate(Index(4))), append(4, 3)], Ok((1, 4, 2, 4)));
}

#[test]
fn votes_and_commits_never_fall() {
    let s = store(3, 2);
    check(&s, &[act(What::Vote(Vote::new(2, 0, *b"me")))], Ok((1, 3, 2, 3)));
    check(&s, &[act(What::Vote(Vote::new(2, 0, *b"you")))], Err(Refusal::StaleVote));
    check(&s, &[act(What::Vote(Vote::new(1, 9, *b"me")))], Err(Refusal::StaleVote));
    check(&s, &[act(What::Commit(Index(1)))], Err(Refusal::CommitOutOfRange));
    check(&s, &[act(What::Commit(Index(4)))], Err(Refusal::CommitOutOfRange));
}

#[test]
fn compactions_need_a_pointer() {
    let s = store(5, 3);
    check(&s, &[act(What::Compact(Index(3)))], Err(Refusal::NotCovered));
    check(&s, &[external(3, 2), act(What::Compact(Index(3)))], Ok((4, 5, 3, 2)));
    check(&s, &[external(3, 2), act(What::Compact(Index(4)))], Err(Refusal::NotCovered));
    check(&s, &[external(9, 2), act(What::Compact(Index(9)))], Ok((10, 9, 3, 0)));
    check(&s, &[external(9, 2), act(What::Compact(Index(8)))], Err(Refusal::PastEnd));
    check(&s, &[external(3, 2), external(2, 2)], Err(Refusal::Stale));
}

#[test]
fn installs() {
    let s = store(5, 3);
    check(&s, &[install(9, 4)], Ok((10, 9, 9, 0)));
    check(&s, &[install(4, 2)], Ok((5, 5, 4, 1)));
    check(&s, &[install(5, 3)], Ok((6, 5, 5, 0)));
    check(&s, &[install(3, 7)], Err(Refusal::Committed));
    check(&s, &[install(4, 2), install(3, 2)], Err(Refusal::Stale));
    let mut after = s.clone();
    after.apply(&[install(9, 4)]).unwrap();
    assert_eq!(after.groups[&G].vote, s.groups[&G].vote, "an install never touches the vote");
}

#[test]
fn a_recreated_group_is_empty() {
    let s = store(5, 3);
    check(&s, &[act(What::Remove), act(What::Create(None))], Ok((1, 0, 0, 0)));
    check(&s, &[act(What::Create(None))], Err(Refusal::GroupExists));
    check(&s, &[act(What::Remove), append(1, 2)], Err(Refusal::NoGroup));
}

fn events(events: Vec<Event>) -> History {
    let mut history = History::default();
    history.events.push(Event::Created);
    history.events.push(Event::Issue(vec![act(What::Create(None))]));
    history.events.push(Event::Ack(0));
    history.events.extend(events);
    history
}

fn lasts(history: &History) -> Vec<u64> {
    let moment = Fold::of(history).moment();
    moment.allowed.iter().map(|s| s.groups[&G].last.index.0).collect()
}

#[test]
fn unknown_batches_are_allowed_as_prefixes() {
    let issue = |i| Event::Issue(vec![append(i, 1)]);
    assert_eq!(lasts(&events(vec![issue(1), issue(2)])), [0, 1, 2]);
    assert_eq!(lasts(&events(vec![issue(1), issue(2), Event::Ack(1)])), [1, 2]);
    assert_eq!(lasts(&events(vec![issue(1), issue(2), Event::Ack(2)])), [2]);
    assert_eq!(lasts(&events(vec![issue(1), issue(2), Event::Never(2)])), [0, 1]);
    let opened = |kept: Vec<usize>| Event::Opened { kept, epoch: Epoch(2) };
    assert_eq!(lasts(&events(vec![issue(1), issue(2), opened(vec![1])])), [1]);
    assert_eq!(lasts(&events(vec![issue(1), opened(vec![]), issue(1)])), [0, 1]);
}

#[test]
fn what_the_engine_has_not_told_is_free() {
    let mut seen = store(2, 1);
    let model = seen.clone();
    seen.groups.get_mut(&G).unwrap().incarnation = Some(seawall::types::Incarnation(9));
    assert!(model.admits(&seen));
    let mut other = model.clone();
    other.groups.get_mut(&G).unwrap().incarnation = Some(seawall::types::Incarnation(8));
    assert!(!other.admits(&seen));
    assert!(!Arc::new(store(3, 1)).admits(&seen));
}
