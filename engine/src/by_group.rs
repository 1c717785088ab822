//! What each group has, found in one step.
//!
//! I own the engine's only hash table: records name groups in any order, and a tree of thousands costs
//! more for each record than the record. (Y1) Its order is never seen: who walks over groups goes by
//! their numbers. I do not know what is kept.

use rustc_hash::FxHashMap;

use crate::types::GroupId;

/// One `T` a group.
#[derive(Clone, Debug)]
pub(crate) struct ByGroup<T>(FxHashMap<GroupId, T>);

impl<T> ByGroup<T> {
    pub(crate) fn get(&self, group: GroupId) -> Option<&T> {
        self.0.get(&group)
    }

    pub(crate) fn get_mut(&mut self, group: GroupId) -> Option<&mut T> {
        self.0.get_mut(&group)
    }

    pub(crate) fn insert(&mut self, group: GroupId, t: T) {
        self.0.insert(group, t);
    }

    pub(crate) fn remove(&mut self, group: GroupId) -> Option<T> {
        self.0.remove(&group)
    }

    /// What the group has, or a new one.
    pub(crate) fn get_or_default(&mut self, group: GroupId) -> &mut T
    where
        T: Default,
    {
        self.0.entry(group).or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Everything, in no order that may be seen.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&GroupId, &T)> {
        self.0.iter()
    }

    /// Everything, by the groups' numbers.
    pub(crate) fn ascending(&self) -> impl Iterator<Item = (GroupId, &T)> {
        sorted(self.0.iter().map(|(group, t)| (*group, t)))
    }
}

fn sorted<T>(all: impl Iterator<Item = (GroupId, T)>) -> impl Iterator<Item = (GroupId, T)> {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable_by_key(|(group, _)| *group);
    all.into_iter()
}

impl<T> Default for ByGroup<T> {
    fn default() -> Self {
        Self(FxHashMap::default())
    }
}

impl<T> FromIterator<(GroupId, T)> for ByGroup<T> {
    fn from_iter<I: IntoIterator<Item = (GroupId, T)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}
