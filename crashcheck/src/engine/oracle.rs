//! What a store must hold: a plain in-memory model, and the states that a history allows.
//!
//! I own the meaning of every operation as the documents give it, and A(h) = { apply(acked ++ p) : p
//! a prefix of the unknown batches in issue order }. (O1) A batch is applied whole or not at all.
//! (O2) I import the engine's plain types and nothing else of it, so that I cannot share a bug with
//! what I judge. I do not know files, crashes or how a state was read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use seawall::types::{Digest, Entry, Epoch, GroupId, Incarnation, Index, LogId, SnapshotOwner, Term, Vote};

/// A snapshot as a reader sees it: the pointer and, if the store keeps them, all bytes behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The last entry that it covers.
    pub id: LogId,
    /// Who keeps the bytes.
    pub owner: SnapshotOwner,
    /// What it is known by; `None` in a model whose engine has not told yet.
    pub digest: Option<Digest>,
    /// The membership bytes; empty for an external one.
    pub membership: Arc<[u8]>,
    /// The content; empty for an external one.
    pub content: Arc<[u8]>,
}

impl Snapshot {
    /// A snapshot that the host keeps.
    #[must_use]
    pub fn external(id: LogId, digest: Digest) -> Self {
        Self {
            id,
            owner: SnapshotOwner::External,
            digest: Some(digest),
            membership: [].into(),
            content: [].into(),
        }
    }

    /// A snapshot that the store keeps, before its digest is known.
    #[must_use]
    pub fn owned(id: LogId, membership: impl Into<Arc<[u8]>>, content: impl Into<Arc<[u8]>>) -> Self {
        let (membership, content) = (membership.into(), content.into());
        Self { id, owner: SnapshotOwner::Owned, digest: None, membership, content }
    }

    fn admits(&self, seen: &Self) -> bool {
        self.id == seen.id
            && self.owner == seen.owner
            && self.digest.is_none_or(|d| Some(d) == seen.digest)
            && self.membership == seen.membership
            && self.content == seen.content
    }
}

/// One group of a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// Which group of this id it is; `None` in a model whose engine has not told yet.
    pub incarnation: Option<Incarnation>,
    /// The first index that is present, or would be.
    pub first: Index,
    /// The last entry that is gone at the front.
    pub purged: LogId,
    /// The last entry, or `purged` if there is none.
    pub last: LogId,
    /// The entries, by index.
    pub entries: BTreeMap<Index, Entry>,
    /// The vote.
    pub vote: Option<Vote>,
    /// The commit index.
    pub commit: Index,
    /// The snapshot.
    pub snapshot: Option<Snapshot>,
}

impl Group {
    fn new(incarnation: Option<Incarnation>) -> Self {
        Self {
            incarnation,
            first: Index(1),
            purged: LogId::default(),
            last: LogId::default(),
            entries: BTreeMap::new(),
            vote: None,
            commit: Index(0),
            snapshot: None,
        }
    }

    /// The term of an index that is present, or of the purged boundary.
    #[must_use]
    pub fn term(&self, index: Index) -> Option<Term> {
        match self.entries.get(&index) {
            Some(entry) => Some(entry.id.term),
            None => (index == self.purged.index).then_some(self.purged.term),
        }
    }

    fn admits(&self, seen: &Self) -> bool {
        self.incarnation.is_none_or(|i| Some(i) == seen.incarnation)
            && (self.first, self.purged, self.last, self.commit)
                == (seen.first, seen.purged, seen.last, seen.commit)
            && self.vote == seen.vote
            && self.entries == seen.entries
            && match (&self.snapshot, &seen.snapshot) {
                (None, None) => true,
                (Some(mine), Some(theirs)) => mine.admits(theirs),
                _ => false,
            }
    }

    fn append(&mut self, entry: &Entry) -> Result<(), Refusal> {
        let id = entry.id;
        if id.index < self.first {
            return Err(Refusal::Compacted);
        }
        if id.index > self.last.index.next() {
            return Err(Refusal::Gap);
        }
        if let Some(present) = self.entries.get(&id.index) {
            return match present {
                same if same == entry => Ok(()),
                other if other.id.term == id.term => Err(Refusal::Conflict),
                _ => Err(Refusal::WouldOverwrite),
            };
        }
        if id.term < self.last.term {
            return Err(Refusal::TermRegression);
        }
        self.entries.insert(id.index, entry.clone());
        self.last = id;
        Ok(())
    }

    fn vote(&mut self, vote: &Vote) -> Result<(), Refusal> {
        match &self.vote {
            Some(old) if vote.key < old.key => return Err(Refusal::StaleVote),
            Some(old) if vote.key == old.key && vote != old => return Err(Refusal::StaleVote),
            _ => self.vote = Some(vote.clone()),
        }
        Ok(())
    }

    fn commit(&mut self, index: Index) -> Result<(), Refusal> {
        if index < self.commit || index > self.last.index {
            return Err(Refusal::CommitOutOfRange);
        }
        self.commit = index;
        Ok(())
    }

    fn truncate(&mut self, from: Index) -> Result<(), Refusal> {
        if from < self.first {
            return Err(Refusal::Compacted);
        }
        if from <= self.commit {
            return Err(Refusal::Committed);
        }
        self.entries.split_off(&from);
        self.last = self.entries.values().next_back().map_or(self.purged, |e| e.id);
        Ok(())
    }

    fn compact(&mut self, upto: Index) -> Result<(), Refusal> {
        if upto <= self.purged.index {
            return Ok(());
        }
        let Some(pointer) = self.snapshot.as_ref().filter(|s| s.id.index >= upto) else {
            return Err(Refusal::NotCovered);
        };
        let term = match self.entries.get(&upto) {
            Some(entry) => entry.id.term,
            None if pointer.id.index == upto => pointer.id.term,
            None => return Err(Refusal::PastEnd),
        };
        self.cut_front(LogId { index: upto, term });
        Ok(())
    }

    /// Drops everything up to `boundary`; what follows it stays.
    fn cut_front(&mut self, boundary: LogId) {
        self.entries = self.entries.split_off(&boundary.index.next());
        self.purged = boundary;
        self.first = boundary.index.next();
        if self.last.index <= boundary.index {
            self.last = boundary;
        }
    }

    /// The newest index that a snapshot or a compaction has covered.
    fn floor(&self) -> Index {
        self.snapshot.as_ref().map_or(self.purged.index, |s| s.id.index.max(self.purged.index))
    }

    fn publish(&mut self, snapshot: &Snapshot) -> Result<(), Refusal> {
        let id = snapshot.id;
        if id.index > Index::LAST {
            return Err(Refusal::OutOfRange);
        }
        if id.index < self.floor() {
            return Err(Refusal::Stale);
        }
        if id.index > self.last.index && snapshot.owner == SnapshotOwner::Owned {
            return Err(Refusal::PastEnd);
        }
        if id.index <= self.last.index && self.term(id.index) != Some(id.term) {
            return Err(Refusal::Conflict);
        }
        self.snapshot = Some(snapshot.clone());
        Ok(())
    }

    fn install(&mut self, snapshot: &Snapshot) -> Result<(), Refusal> {
        let id = snapshot.id;
        if id.index > Index::LAST {
            return Err(Refusal::OutOfRange);
        }
        if id.index < self.floor() {
            return Err(Refusal::Stale);
        }
        if self.term(id.index) != Some(id.term) {
            if id.index <= self.commit {
                return Err(Refusal::Committed);
            }
            self.entries.clear();
            self.last = id;
        }
        self.cut_front(id);
        self.commit = self.commit.max(id.index);
        self.snapshot = Some(snapshot.clone());
        Ok(())
    }
}

/// Everything that a reader of a store can see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The groups, by id.
    pub groups: BTreeMap<GroupId, Group>,
}

impl State {
    /// Whether `seen`, read from a store, is this state; what the model was never told is free.
    #[must_use]
    pub fn admits(&self, seen: &Self) -> bool {
        self.groups.len() == seen.groups.len()
            && self
                .groups
                .iter()
                .zip(&seen.groups)
                .all(|((id, mine), (other, theirs))| id == other && mine.admits(theirs))
    }

    /// Applies a batch whole, or says why not and changes nothing.
    pub fn apply(&mut self, batch: &[Act]) -> Result<(), Refusal> {
        let mut next = self.clone();
        for act in batch {
            next.act(act)?;
        }
        *self = next;
        Ok(())
    }

    fn act(&mut self, act: &Act) -> Result<(), Refusal> {
        let group = act.group();
        match &act.what {
            What::Create(incarnation) => {
                if self.groups.contains_key(&group) {
                    return Err(Refusal::GroupExists);
                }
                self.groups.insert(group, Group::new(*incarnation));
                return Ok(());
            }
            What::Remove => return self.groups.remove(&group).map(drop).ok_or(Refusal::NoGroup),
            _ => {}
        }
        let group = self.groups.get_mut(&group).ok_or(Refusal::NoGroup)?;
        match &act.what {
            What::Append(entry) => group.append(entry),
            What::Vote(vote) => group.vote(vote),
            What::Commit(index) => group.commit(*index),
            What::Truncate(from) => group.truncate(*from),
            What::Compact(upto) => group.compact(*upto),
            What::Snapshot(snapshot) => group.publish(snapshot),
            What::Install(snapshot) => group.install(snapshot),
            What::Create(_) | What::Remove => unreachable!("handled above"),
        }
    }
}

/// One operation on one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    group: GroupId,
    /// What is done.
    pub what: What,
}

impl Act {
    /// An operation on a group.
    #[must_use]
    pub fn new(group: GroupId, what: What) -> Self {
        Self { group, what }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }
}

/// What an operation does to its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Makes the group; the incarnation as soon as the engine told it.
    Create(Option<Incarnation>),
    /// Removes the group.
    Remove,
    /// Appends an entry.
    Append(Entry),
    /// Saves a vote.
    Vote(Vote),
    /// Raises the commit index.
    Commit(Index),
    /// Removes the entries from this index on.
    Truncate(Index),
    /// Removes the entries up to and with this index.
    Compact(Index),
    /// Points at a snapshot of the group's own state machine, kept by us or by the host.
    Snapshot(Snapshot),
    /// Replaces log and snapshot by what a leader sent.
    Install(Snapshot),
}

/// Why an operation must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// There is no such group.
    NoGroup,
    /// There is one already.
    GroupExists,
    /// The index is below the first.
    Compacted,
    /// The index is above last + 1.
    Gap,
    /// The same index and term with other bytes.
    Conflict,
    /// Another term at a present index.
    WouldOverwrite,
    /// A term below that of the last entry.
    TermRegression,
    /// A vote below the present one, or beside it.
    StaleVote,
    /// The commit index would fall, or point past the last entry.
    CommitOutOfRange,
    /// The index is above the last.
    PastEnd,
    /// Committed entries would go.
    Committed,
    /// No snapshot pointer covers what would be compacted.
    NotCovered,
    /// The snapshot is not newer than what is there.
    Stale,
    /// No log has this index.
    OutOfRange,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What happened, in the order in which it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `create` returned.
    Created,
    /// A batch was handed over; batches are numbered from 0 in this order.
    Issue(Vec<Act>),
    /// The batch, and each one before it, is durable.
    Ack(usize),
    /// No byte of the batch was written: it can never appear.
    Never(usize),
    /// An open returned, and with it settled what was unknown: these batches are in, the other
    /// unknown ones are out for good.
    Opened {
        /// The unknown batches that are in.
        kept: Vec<usize>,
        /// The epoch of the open.
        epoch: Epoch,
    },
    /// A sync is about to lie: it will say success with nothing on disk, and the error comes at the
    /// next one, if there is one. Nobody can keep a promise that rests on it, so from now on nothing
    /// counts as acknowledged: what is lost must be told or lie in the order of issue.
    Lied,
    /// A clean close began.
    Closing,
    /// A clean close returned success.
    Closed,
}

/// A history of calls and returns.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The events.
    pub events: Vec<Event>,
}

/// What a history says at one moment.
#[derive(Clone, Debug)]
pub struct Moment {
    /// A(h): the acknowledged state, then one more for each unknown batch. Never empty.
    pub allowed: Vec<Arc<State>>,
    /// The batches that are acknowledged.
    pub acked: Vec<usize>,
    /// The batches whose fate is open, in issue order.
    pub unknown: Vec<usize>,
    /// Batches handed over.
    pub issued: usize,
    /// Whether `create` has returned.
    pub exists: bool,
    /// Whether a clean close has returned and nothing came after it.
    pub closed: bool,
    /// The highest epoch that an open has shown.
    pub epoch: Epoch,
    /// Whether a sync has lied.
    pub lied: bool,
}

impl History {
    /// What each prefix of the history allows: element `k` is the moment after `k` events.
    ///
    /// # Panics
    /// If an issued batch cannot be applied: what the model refuses is never issued.
    #[must_use]
    pub fn moments(&self) -> Vec<Moment> {
        let mut fold = Fold::default();
        let mut moments = vec![fold.moment()];
        for event in &self.events {
            fold.step(event);
            moments.push(fold.moment());
        }
        moments
    }

    /// The batches, in issue order.
    pub fn batches(&self) -> impl Iterator<Item = &[Act]> {
        self.events.iter().filter_map(|event| match event {
            Event::Issue(batch) => Some(batch.as_slice()),
            _ => None,
        })
    }

    /// Tells the model what only the engine could know of a batch: an incarnation, a digest.
    ///
    /// # Panics
    /// If there is no such batch.
    pub fn learn(&mut self, batch: usize, tell: impl FnOnce(&mut Vec<Act>)) {
        let issues = self.events.iter_mut().filter_map(|event| match event {
            Event::Issue(acts) => Some(acts),
            _ => None,
        });
        tell(issues.into_iter().nth(batch).expect("the batch was issued"));
    }
}

/// The fold over a history.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    batches: Vec<Vec<Act>>,
    base: Arc<State>,
    /// Each unknown batch with the state after it.
    unknown: Vec<(usize, Arc<State>)>,
    acked: Vec<usize>,
    exists: bool,
    closed: bool,
    epoch: Epoch,
    lied: bool,
}

impl Fold {
    /// A fold that begins with a state which is durable.
    #[must_use]
    pub fn starting(state: State) -> Self {
        Self { base: Arc::new(state), exists: true, ..Self::default() }
    }

    /// The fold over a whole history.
    #[must_use]
    pub fn of(history: &History) -> Self {
        let mut fold = Self::default();
        history.events.iter().for_each(|e| fold.step(e));
        fold
    }

    /// The state with everything issued in it: what a reader of the live store sees.
    #[must_use]
    pub fn live(&self) -> &Arc<State> {
        self.unknown.last().map_or(&self.base, |(_, s)| s)
    }

    /// How many batches were issued.
    #[must_use]
    pub fn issued(&self) -> usize {
        self.batches.len()
    }

    /// The next event.
    ///
    /// # Panics
    /// If it issues a batch that the model refuses.
    pub fn step(&mut self, event: &Event) {
        match event {
            Event::Created => self.exists = true,
            Event::Issue(batch) => {
                self.issue(self.batches.len(), batch);
                self.batches.push(batch.clone());
            }
            Event::Ack(_) if self.lied => {}
            Event::Ack(upto) => {
                let (done, open) =
                    std::mem::take(&mut self.unknown).into_iter().partition(|(n, _)| n <= upto);
                self.unknown = open;
                self.take(done);
            }
            Event::Never(batch) => {
                let mut kept = self.unknown_numbers();
                kept.retain(|n| n != batch);
                self.keep(&kept);
            }
            Event::Opened { kept, epoch } => {
                self.keep(kept);
                if !self.lied {
                    let kept = std::mem::take(&mut self.unknown);
                    self.take(kept);
                }
                self.epoch = self.epoch.max(*epoch);
            }
            Event::Lied => self.lied = true,
            Event::Closing | Event::Closed => {}
        }
        self.closed = match event {
            Event::Closed => true,
            Event::Created => self.closed,
            _ => false,
        };
    }

    fn issue(&mut self, number: usize, batch: &[Act]) {
        let mut next = State::clone(self.live());
        if let Err(refusal) = next.apply(batch) {
            panic!("batch {number} was issued and the model refuses it: {refusal}");
        }
        self.unknown.push((number, Arc::new(next)));
    }

    fn take(&mut self, done: Vec<(usize, Arc<State>)>) {
        for (number, after) in done {
            self.acked.push(number);
            self.base = after;
        }
    }

    fn unknown_numbers(&self) -> Vec<usize> {
        self.unknown.iter().map(|(n, _)| *n).collect()
    }

    /// Leaves only these batches in doubt; the others never happened.
    fn keep(&mut self, kept: &[usize]) {
        self.unknown.clear();
        for number in kept {
            let batch = self.batches[*number].clone();
            self.issue(*number, &batch);
        }
    }

    /// What the history so far says.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let allowed =
            std::iter::once(&self.base).chain(self.unknown.iter().map(|(_, s)| s)).cloned().collect();
        Moment {
            allowed,
            acked: self.acked.clone(),
            unknown: self.unknown_numbers(),
            issued: self.batches.len(),
            exists: self.exists,
            closed: self.closed,
            epoch: self.epoch,
            lied: self.lied,
        }
    }
}
