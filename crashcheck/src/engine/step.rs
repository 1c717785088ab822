//! The steps that a sequence is made of, and what each one does to the store at hand.
//!
//! I own the kinds, their text form, and the derivation of concrete operations from a kind, a salt
//! and the model's present state: (S1) any list of steps is a valid sequence, whatever was cut out of
//! it, and (S2) the same list always gives the same operations. I do not run anything (see execute).

use std::fmt;
use std::str::FromStr;

use seawall::types::{Digest, Entry, EntryKind, GroupId, Index, LeaderTag, LogId, Term, Vote};

use super::oracle::{Act, Group, Snapshot, State, What};

/// Declares the kinds with their names.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a step does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];

            /// Its name in a sequence's text form.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Kind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// One to three small entries in one batch.
    Append = "append",
    /// An entry of several alignment units.
    AppendLarge = "large",
    /// One batch over two groups: append, vote, commit.
    Batch = "batch",
    /// A higher vote.
    Vote = "vote",
    /// Many higher votes, each above the last, in one batch.
    Storm = "storm",
    /// A higher commit index.
    Commit = "commit",
    /// A suffix truncation.
    Truncate = "truncate",
    /// A truncation and, at the same indexes, entries of a higher term.
    Overwrite = "overwrite",
    /// An external snapshot pointer and the compaction that it allows.
    CompactExternal = "compact",
    /// An owned snapshot and the compaction that it allows.
    CompactOwned = "compact-owned",
    /// An owned snapshot.
    Publish = "publish",
    /// A leader's snapshot: beyond the log, matching it, or against it.
    Install = "install",
    /// Appends until a new segment is begun.
    Rotate = "rotate",
    /// Drops the handle, perhaps with a batch queued, and opens again.
    Reopen = "reopen",
    /// Closes with a batch queued, and opens again.
    Close = "close",
    /// Closes and opens again eight times, with an entry each.
    Restarts = "restarts",
    /// Two flushes in flight, the second synced first.
    Overlap = "overlap",
    /// Creates a group, or removes it, or recreates it.
    Group = "group",
    /// Recycles, prepares, drops what is retired.
    Maintain = "maintain",
    /// Operations that must be refused and change nothing.
    Refused = "refused",
    /// A sync fails in one of four ways; then the handle goes on, and the store is opened again.
    FailSync = "fail-sync",
    /// A write is interrupted.
    Interrupt = "interrupt",
    /// A write is short.
    ShortWrite = "short-write",
    /// The disk fills up.
    NoSpace = "no-space",
    /// A read fails while opening.
    ReadError = "read-error",
    /// Says which error the next `fail` gives: eight of them, once or from then on, and how much later.
    Errno = "errno",
    /// Says which error follows that of the next `fail`, and after how many calls.
    SecondErrno = "second-errno",
    /// A call of any kind fails during a flush, a restart, a rotation, a snapshot, an upkeep or a close.
    Fail = "fail",
}

impl Kind {
    /// Whether it injects an error.
    #[must_use]
    pub fn is_fault(self) -> bool {
        self >= Kind::FailSync
    }

    /// Whether it is a truncation, a compaction, a snapshot or an install.
    #[must_use]
    pub fn is_structural(self) -> bool {
        use Kind::{CompactExternal, CompactOwned, Install, Overwrite, Publish, Truncate};
        matches!(self, Truncate | Overwrite | CompactExternal | CompactOwned | Publish | Install)
    }
}

/// A kind and what tells its variants apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Step {
    /// What is done.
    pub kind: Kind,
    /// Which variant.
    pub salt: u8,
}

impl Step {
    /// A step.
    #[must_use]
    pub const fn new(kind: Kind, salt: u8) -> Self {
        Self { kind, salt }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind.name(), self.salt)
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, salt) = text.split_once('.').unwrap_or((text, "0"));
        let kind = Kind::ALL.iter().copied().find(|k| k.name() == name);
        let kind = kind.ok_or_else(|| format!("no step is called {name:?}"))?;
        let salt = salt.parse().map_err(|e| format!("{text:?}: {e}"))?;
        Ok(Self { kind, salt })
    }
}

/// The text form of a sequence.
#[must_use]
pub fn text(steps: &[Step]) -> String {
    steps.iter().map(Step::to_string).collect::<Vec<_>>().join(",")
}

/// Reads the text form of a sequence.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    text.split(',').filter(|s| !s.is_empty()).map(str::parse).collect()
}

/// The groups that a sequence may have; every one has the first two.
pub const GROUPS: [GroupId; 4] = [GroupId(7), GroupId(u64::MAX - 1), GroupId(0), GroupId(1 << 40)];
/// The group that comes and goes.
pub const GUEST: GroupId = GroupId(40);

/// A planned operation: what to hand over, and how.
#[derive(Clone, Debug)]
pub enum Plan {
    /// One batch, waited for.
    Batch(Vec<Act>),
    /// An owned snapshot, of the group's own state machine or installed.
    Snapshot(Act),
}

/// Derives operations from the model's present state.
pub struct Planner<'a> {
    state: &'a State,
    /// Counts the payloads of a run, so that no two are alike.
    serial: &'a mut u64,
    salt: u8,
}

impl<'a> Planner<'a> {
    /// A planner for one step.
    pub fn new(state: &'a State, serial: &'a mut u64, salt: u8) -> Self {
        Self { state, serial, salt }
    }

    /// The group that the salt picks.
    fn group(&self) -> (GroupId, Group) {
        let id = self.pick(0);
        (id, self.state.groups.get(&id).cloned().expect("only the guest is ever absent"))
    }

    /// The group that the salt names, or the one so many after it.
    fn pick(&self, after: usize) -> GroupId {
        let groups = GROUPS.iter().filter(|id| self.state.groups.contains_key(id)).count();
        GROUPS[(usize::from(self.salt) + after) % groups]
    }

    fn variant(&self, of: u8) -> u8 {
        (self.salt >> 1) % of
    }

    fn serial(&mut self) -> u64 {
        *self.serial += 1;
        *self.serial
    }

    /// An entry that no other step makes.
    pub fn entry(&mut self, index: u64, term: u64, bytes: usize) -> Entry {
        let serial = self.serial();
        let mut entry = Entry::command(index, term, payload(serial, bytes));
        entry.leader = LeaderTag::new(&serial.to_le_bytes()).expect("eight bytes");
        if serial % 5 == 4 {
            entry.kind = EntryKind::Membership;
        }
        entry
    }

    fn appends(&mut self, id: GroupId, group: &Group, sizes: &[usize]) -> Vec<Act> {
        let term = term_of(group);
        let next = group.last.index.0 + 1;
        let entries = sizes.iter().zip(next..).map(|(size, index)| (index, *size)).collect::<Vec<_>>();
        entries
            .into_iter()
            .map(|(index, size)| Act::new(id, What::Append(self.entry(index, term, size))))
            .collect()
    }

    /// One to three small entries.
    pub fn append(&mut self) -> Vec<Plan> {
        let (id, group) = self.group();
        let sizes = [24, 90, 300];
        let count = 1 + usize::from(self.variant(3));
        vec![Plan::Batch(self.appends(id, &group, &sizes[..count]))]
    }

    /// An entry of several alignment units.
    pub fn large(&mut self) -> Vec<Plan> {
        let (id, group) = self.group();
        let bytes = 1100 + 400 * usize::from(self.variant(3));
        vec![Plan::Batch(self.appends(id, &group, &[bytes]))]
    }

    /// Append to one group, vote and commit in both.
    pub fn batch(&mut self) -> Vec<Plan> {
        let (id, group) = self.group();
        let other = self.pick(1);
        let vote = self.higher_vote(&self.state.groups[&other].clone(), 0);
        let mut acts = self.appends(id, &group, &[40, 64]);
        acts.push(Act::new(other, What::Vote(vote)));
        acts.push(Act::new(id, What::Commit(group.last.index.next())));
        vec![Plan::Batch(acts)]
    }

    fn higher_vote(&mut self, group: &Group, variant: u8) -> Vote {
        let serial = self.serial();
        let term = term_of(group);
        match (&group.vote, variant) {
            (Some(old), 1) => Vote::new(term.max(old.key.term.0), old.key.rank + 1, payload(serial, 20)),
            _ => Vote::new(term + 1, 0, payload(serial, 12)),
        }
    }

    /// A higher vote, by term or by rank.
    pub fn vote(&mut self) -> Vec<Plan> {
        let (id, group) = self.group();
        let vote = self.higher_vote(&group, self.variant(2));
        vec![Plan::Batch(vec![Act::new(id, What::Vote(vote))])]
    }

    /// Twelve votes or more, of one group or of two in turn.
    pub fn storm(&mut self) -> Vec<Plan> {
        let (id, group) = self.group();
        let other = self.pick(1 + usize::from(self.variant(2)));
        let second = self.state.groups[&other].clone();
        let (term, count) = (term_of(&group).max(term_of(&second)), 12 + u64::from(self.variant(4)));
        let vote = |n: u64| {
            let vote = Vote::new(term + n, 0, payload(self.serial(), 12));
            Act::new(if n.is_multiple_of(2) { id } else { other }, What::Vote(vote))
        };
        vec![Plan::Batch((1..=count).map(vote).collect())]
    }

    /// The commit index by one, or to the last entry.
    pub fn commit(&mut self) -> Vec<Plan> {
        let (id, group) = self.group();
        let mut plans = Vec::new();
        let mut last = group.last.index;
        if last == group.commit {
            plans.push(Plan::Batch(self.appends(id, &group, &[33])));
            last = last.next();
        }
        let to = if self.variant(2) == 0 { group.commit.next() } else { last };
        plans.push(Plan::Batch(vec![Act::new(id, What::Commit(to))]));
        plans
    }

    /// Two uncommitted entries first, if there are none; then what `cut` makes of them.
    fn with_suffix(&mut self, cut: impl FnOnce(&mut Self, GroupId, &Group, Index) -> Vec<Plan>) -> Vec<Plan> {
        let (id, mut group) = self.group();
        let mut plans = Vec::new();
        if group.last.index <= group.commit.max(group.purged.index) {
            let acts = self.appends(id, &group, &[30, 60]);
            let (index, term) = (group.last.index.0 + 2, term_of(&group));
            group.last = LogId::new(index, term);
            plans.push(Plan::Batch(acts));
        }
        let lowest = group.commit.max(group.purged.index).next();
        let from = if self.variant(2) == 0 { group.last.index } else { lowest };
        plans.extend(cut(self, id, &group, from));
        plans
    }

    /// The last entry, or all that is not committed.
    pub fn truncate(&mut self) -> Vec<Plan> {
        self.with_suffix(|_, id, _, from| vec![Plan::Batch(vec![Act::new(id, What::Truncate(from))])])
    }

    /// Truncation and new entries of a higher term, in one batch or two.
    pub fn overwrite(&mut self) -> Vec<Plan> {
        self.with_suffix(|me, id, group, from| {
            let term = term_of(group) + 1;
            let serial = me.serial();
            let vote = Act::new(id, What::Vote(Vote::new(term, 0, payload(serial, 9))));
            let truncate = Act::new(id, What::Truncate(from));
            let entries = [me.entry(from.0, term, 50), me.entry(from.0 + 1, term, 20)];
            let appends = entries.map(|e| Act::new(id, What::Append(e)));
            if me.salt & 4 == 0 {
                vec![Plan::Batch([vec![vote, truncate], appends.to_vec()].concat())]
            } else {
                vec![Plan::Batch(vec![vote, truncate]), Plan::Batch(appends.to_vec())]
            }
        })
    }

    /// Raises the commit index if no snapshot could be newer; says what is then committed.
    fn committed(&mut self, id: GroupId, group: &Group) -> (Vec<Plan>, LogId) {
        let covered =
            group.snapshot.as_ref().map_or(group.purged.index, |s| s.id.index.max(group.purged.index));
        if group.commit > covered {
            let term = group.term(group.commit).expect("committed entries above the snapshot are present");
            return (Vec::new(), LogId { index: group.commit, term });
        }
        let mut acts = Vec::new();
        let mut to = LogId { index: covered.next(), term: Term(term_of(group)) };
        match group.entries.get(&to.index) {
            Some(entry) => to.term = entry.id.term,
            None => acts = self.appends(id, group, &[45]),
        }
        acts.push(Act::new(id, What::Commit(to.index)));
        (vec![Plan::Batch(acts)], to)
    }

    /// An external pointer with the compaction in its batch, or one after the other, or beyond the log.
    pub fn compact_external(&mut self) -> Vec<Plan> {
        let (id, group) = self.group();
        let serial = self.serial();
        let digest = digest(serial);
        let (mut plans, mut to) = self.committed(id, &group);
        if self.variant(4) == 3 {
            plans.clear();
            to = LogId::new(group.last.index.0 + 3, term_of(&group));
        }
        let pointer = Act::new(id, What::Snapshot(Snapshot::external(to, digest)));
        let compact = Act::new(id, What::Compact(to.index));
        if self.variant(2) == 0 {
            plans.extend([Plan::Batch(vec![pointer]), Plan::Batch(vec![compact])]);
        } else {
            plans.push(Plan::Batch(vec![pointer, compact]));
        }
        plans
    }

    /// An owned snapshot at the commit index.
    pub fn publish(&mut self) -> Vec<Plan> {
        let (id, group) = self.group();
        let (mut plans, to) = self.committed(id, &group);
        let snapshot = self.snapshot(to);
        plans.push(Plan::Snapshot(Act::new(id, What::Snapshot(snapshot))));
        plans
    }

    fn snapshot(&mut self, id: LogId) -> Snapshot {
        let serial = self.serial();
        let bytes = [0, 200, 700, 1500][usize::from(self.variant(4))];
        Snapshot::owned(id, payload(serial, 11), content(serial, bytes))
    }

    /// An external pointer at the commit index and the compaction to it, one after the other.
    pub fn compact_to_commit(&mut self) -> Vec<Plan> {
        let (id, group) = self.group();
        let serial = self.serial();
        let (mut plans, to) = self.committed(id, &group);
        plans.push(Plan::Batch(vec![Act::new(id, What::Snapshot(Snapshot::external(to, digest(serial))))]));
        plans.push(Plan::Batch(vec![Act::new(id, What::Compact(to.index))]));
        plans
    }

    /// An owned snapshot and the compaction up to it, or to one below it.
    pub fn compact_owned(&mut self) -> Vec<Plan> {
        let (id, _) = self.group();
        let mut plans = self.publish();
        let Some(Plan::Snapshot(Act { what: What::Snapshot(snapshot), .. })) = plans.last() else {
            unreachable!("publish ends with a snapshot");
        };
        let upto = snapshot.id.index;
        plans.push(Plan::Batch(vec![Act::new(id, What::Compact(upto))]));
        plans
    }

    /// A leader's snapshot beyond the log, matching it, or against it.
    pub fn install(&mut self) -> Vec<Plan> {
        let (id, group) = self.group();
        let covered =
            group.snapshot.as_ref().map_or(group.purged.index, |s| s.id.index.max(group.purged.index));
        let beyond = LogId::new(group.last.index.0 + 3, term_of(&group) + 1);
        let matching = group.entries.range(covered.next()..).next().map(|(_, e)| e.id);
        let against = (group.last.index > group.commit.max(covered))
            .then(|| LogId { index: group.last.index, term: Term(group.last.term.0 + 1) });
        let at = match self.variant(3) {
            0 => beyond,
            1 => matching.unwrap_or(beyond),
            _ => against.unwrap_or(beyond),
        };
        let snapshot = self.snapshot(at);
        vec![Plan::Snapshot(Act::new(id, What::Install(snapshot)))]
    }

    /// Creates the guest, removes it, or recreates it within one batch or two.
    pub fn guest(&mut self) -> Vec<Plan> {
        let present = self.state.groups.contains_key(&GUEST);
        let term = 3;
        let serial = self.serial();
        let create = Act::new(GUEST, What::Create(None));
        let vote = Act::new(GUEST, What::Vote(Vote::new(term, 0, payload(serial, 5))));
        let append = Act::new(GUEST, What::Append(self.entry(1, term, 70)));
        let remove = Act::new(GUEST, What::Remove);
        match (present, self.salt % 3) {
            (false, 0) => vec![Plan::Batch(vec![create])],
            (false, _) => vec![Plan::Batch(vec![create, vote, append])],
            (true, 0) => vec![Plan::Batch(vec![remove])],
            (true, 1) => vec![Plan::Batch(vec![remove]), Plan::Batch(vec![create, vote])],
            (true, _) => vec![Plan::Batch(vec![remove, create, append])],
        }
    }

    /// One operation that must be refused.
    pub fn refused(&mut self) -> Vec<Plan> {
        let (id, group) = self.group();
        let term = term_of(&group);
        let next = group.last.index.0 + 1;
        let good = Act::new(id, What::Append(self.entry(next, term, 10)));
        let end = |index| What::Snapshot(Snapshot::external(LogId { index, term: Term(term) }, digest(1)));
        let bad = match self.variant(12) {
            0 => What::Append(self.entry(next + 2, term, 10)),
            1 => What::Vote(Vote::new(0, 0, payload(1, 3))),
            2 => What::Truncate(group.commit),
            3 => What::Commit(Index(next + 1)),
            4 => What::Append(self.entry(next + 1, group.last.term.0.saturating_sub(1), 10)),
            5 if !group.entries.is_empty() => {
                What::Append(self.entry(group.last.index.0, group.last.term.0, 10))
            }
            6 if !group.entries.is_empty() => What::Append(self.entry(group.last.index.0, term + 1, 10)),
            7 => What::Compact(Index(next)),
            8 => return vec![Plan::Batch(vec![good, Act::new(GroupId(5), What::Commit(Index(0)))])],
            9 => What::Append(self.entry(u64::MAX, term, 10)),
            10 => What::Commit(Index(u64::MAX)),
            11 => end(Index(u64::MAX)),
            _ => What::Create(None),
        };
        vec![Plan::Batch(vec![good, Act::new(id, bad)])]
    }

    /// A batch that nearly fills a quarter of a segment.
    pub fn filler(&mut self) -> Vec<Act> {
        let (id, group) = self.group();
        self.appends(id, &group, &[1900])
    }
}

/// The term that a group's host is in: that of its vote, or of its last entry.
#[must_use]
pub fn term_of(group: &Group) -> u64 {
    group.vote.as_ref().map_or(1, |v| v.key.term.0).max(group.last.term.0).max(1)
}

/// Bytes that tell every payload of a run apart, and every page of it too.
#[must_use]
pub fn payload(serial: u64, bytes: usize) -> Vec<u8> {
    let mut random = super::generate::Random::new(serial ^ 0x5eed);
    let mut out = format!("#{serial}:").into_bytes();
    while out.len() < bytes {
        out.extend_from_slice(&random.next().to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// A snapshot's bytes: whole chunks are the same in all, as they are when little changes between two.
#[must_use]
pub fn content(serial: u64, bytes: usize) -> Vec<u8> {
    let same = bytes / 512 * 512;
    [payload(1_000_000, same), payload(serial + 1_000_000, bytes - same)].concat()
}

fn digest(serial: u64) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&payload(serial, 32));
    Digest(bytes)
}
