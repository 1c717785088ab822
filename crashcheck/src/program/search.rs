//! Which crash states are tried, and in which order.
//!
//! I own the order, from what fails most often to what fails rarely; every stage goes over all cuts before
//! the next begins:
//!
//! 1. `boundary`: nothing is lost (the program was killed);
//! 2. `unsynced`: everything is lost that can be;
//! 3. `operation`: one operation is lost; `file`: of one file all, or its data, or all data of all files;
//! 4. `torn`: the last write is kept in part: a first part of its units, all but one, one torn inside;
//! 5. `unit`: one micro-operation is lost;
//! 6. `kept`: one operation is kept and all others are lost;
//! 7. `several`: two operations are lost, then three and so on, up to the bound;
//! 8. `site`: all that one place in the program has done is lost, or kept alone, and all of two places lost;
//! 9. `random`: any set, until the budget ends.
//!
//! What cannot be kept without something lost is lost with it. A state counts once by its bytes and the
//! acknowledgements before it. I judge nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use serde::Serialize;

use crate::core::image::mix;
use crate::core::micro::{Effect, tear_places};
use crate::core::state::FastMap;
use crate::program::scene::{Loss, Scene, Script, Torn};

/// A part of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Nothing is lost.
    Boundary,
    /// Everything is lost.
    Unsynced,
    /// One operation is lost.
    Operation,
    /// What belongs to one file is lost.
    File,
    /// The last write is kept in part.
    Torn,
    /// One micro-operation is lost.
    Unit,
    /// One operation is kept.
    Kept,
    /// Several operations are lost.
    Several,
    /// What one call site did is lost, or kept.
    Site,
    /// Anything is lost.
    Random,
}

/// All but the last, which has no end.
pub const STAGES: [Stage; 9] = [
    Stage::Boundary,
    Stage::Unsynced,
    Stage::Operation,
    Stage::File,
    Stage::Torn,
    Stage::Unit,
    Stage::Kept,
    Stage::Several,
    Stage::Site,
];

impl Stage {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Boundary => "boundary",
            Self::Unsynced => "unsynced",
            Self::Operation => "operation",
            Self::File => "file",
            Self::Torn => "torn",
            Self::Unit => "unit",
            Self::Kept => "kept",
            Self::Several => "several",
            Self::Site => "site",
            Self::Random => "random",
        }
    }
}

/// How far the search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// How many operations are lost at once, at most.
    pub omissions: usize,
    /// Whether a unit is torn inside: how many of a state, 0 or 1.
    pub tears: usize,
    /// Names the random part.
    pub seed: u64,
}

/// What was met so far.
#[derive(Debug, Default)]
pub struct Met {
    seen: FastMap<u128, ()>,
    /// Losses that were made.
    pub states: u64,
}

impl Met {
    /// How many different states there were.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Whether a state is met for the first time, after the program said so much.
    pub fn is_new(&mut self, scene: &mut Scene<'_>, loss: &Loss, said: usize) -> bool {
        self.states += 1;
        let key = mix(scene.state(loss).hash(), said as u64);
        self.seen.insert(key, ()).is_none()
    }
}

type Visit<'v> = dyn FnMut(&mut Scene<'_>, Loss) -> ControlFlow<()> + 'v;

/// Calls `visit` with the losses of a stage, cut after cut from one on.
pub fn stage(
    stage: Stage,
    script: &Script,
    from: usize,
    reach: &Reach,
    visit: &mut Visit<'_>,
) -> ControlFlow<()> {
    let mut scene = Scene::new(script);
    for cut in from..=script.steps.len() {
        scene.go(cut);
        let free = scene.free();
        let mut here = Here { script, cut, free, scene: &mut scene, visit };
        match stage {
            Stage::Boundary => here.losing(&[])?,
            Stage::Unsynced => here.everything()?,
            Stage::Operation => here.operations(1)?,
            Stage::File => here.files()?,
            Stage::Torn => here.torn(reach.tears)?,
            Stage::Unit => here.units()?,
            Stage::Kept => here.kept()?,
            Stage::Several => (2..=reach.omissions).try_for_each(|n| here.operations(n))?,
            Stage::Site => here.sites()?,
            Stage::Random => {}
        }
    }
    ControlFlow::Continue(())
}

/// Calls `visit` with random losses, a few of each cut, round after round; ends when `visit` breaks, or
/// when nothing is in doubt anywhere.
pub fn random(script: &Script, reach: &Reach, visit: &mut Visit<'_>) -> ControlFlow<()> {
    for round in 0u64.. {
        let mut scene = Scene::new(script);
        let mut any = false;
        for cut in 0..=script.steps.len() {
            scene.go(cut);
            let free = scene.free();
            any |= free.len() > 1;
            if free.len() < 2 {
                continue;
            }
            let mut draw = Draw(mix(u128::from(reach.seed) << 64 | u128::from(round), cut as u64));
            for _ in 0..4 {
                // A few lost, a half, or nearly all.
                let share = [8, 128, 240][draw.below(3)];
                let lost: Vec<u32> = free.iter().copied().filter(|_| draw.below(256) < share).collect();
                let mut here = Here { script, cut, free: free.clone(), scene: &mut scene, visit };
                here.losing(&lost)?;
            }
        }
        if !any {
            break;
        }
    }
    ControlFlow::Continue(())
}

/// A stream of numbers from a seed.
struct Draw(u128);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = mix(self.0, 1);
        usize::try_from((self.0 >> 64) % n as u128).expect("it is below a usize")
    }
}

struct Here<'h, 's, 'v> {
    script: &'h Script,
    cut: usize,
    free: Vec<u32>,
    scene: &'h mut Scene<'s>,
    visit: &'h mut Visit<'v>,
}

impl Here<'_, '_, '_> {
    fn losing(&mut self, lost: &[u32]) -> ControlFlow<()> {
        match self.scene.losing(lost.iter().copied()) {
            Some(loss) => (self.visit)(self.scene, loss),
            None => ControlFlow::Continue(()),
        }
    }

    fn everything(&mut self) -> ControlFlow<()> {
        let free = std::mem::take(&mut self.free);
        let done = self.losing(&free);
        self.free = free;
        done
    }

    /// The free micro-operations by step.
    fn by_step(&self) -> Vec<Vec<u32>> {
        let mut steps: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for op in &self.free {
            steps.entry(self.script.op(*op).step).or_default().push(*op);
        }
        steps.into_values().collect()
    }

    /// Every set of so many operations lost, the newest first.
    fn operations(&mut self, count: usize) -> ControlFlow<()> {
        let steps = self.by_step();
        self.sets(&steps, count, steps.len(), &mut Vec::new())
    }

    fn sets(
        &mut self,
        steps: &[Vec<u32>],
        count: usize,
        below: usize,
        lost: &mut Vec<u32>,
    ) -> ControlFlow<()> {
        if count == 0 {
            let lost = lost.clone();
            return self.losing(&lost);
        }
        for step in (0..below).rev() {
            let before = lost.len();
            lost.extend_from_slice(&steps[step]);
            self.sets(steps, count - 1, step, lost)?;
            lost.truncate(before);
        }
        ControlFlow::Continue(())
    }

    fn files(&mut self) -> ControlFlow<()> {
        let (mut whole, mut data): (BTreeMap<_, Vec<u32>>, BTreeMap<_, Vec<u32>>) = Default::default();
        let (mut all, mut names) = (Vec::new(), Vec::new());
        for op in &self.free {
            let effect = &self.script.op(*op).effect;
            match effect.file() {
                None => names.push(*op),
                Some(ino) => {
                    whole.entry(ino).or_default().push(*op);
                    if matches!(effect, Effect::Data { .. }) {
                        data.entry(ino).or_default().push(*op);
                        all.push(*op);
                    }
                }
            }
        }
        let sets: BTreeSet<Vec<u32>> =
            whole.into_values().chain(data.into_values()).chain([all, names]).collect();
        sets.iter().filter(|set| !set.is_empty()).try_for_each(|set| self.losing(set))
    }

    /// The parts of the step before the cut.
    fn torn(&mut self, tears: usize) -> ControlFlow<()> {
        let Some(last) = self.cut.checked_sub(1) else { return ControlFlow::Continue(()) };
        let parts: Vec<u32> =
            self.free.iter().copied().filter(|op| self.script.op(*op).step == last).collect();
        let some = |n: usize| (1..n).filter(move |i| n <= 16 || i % n.div_ceil(16) == 0 || *i == n - 1);
        for kept in some(parts.len()) {
            self.losing(&parts[kept..])?;
            self.losing(&parts[..kept])?;
        }
        for part in some(parts.len() + 1) {
            self.losing(&parts[part - 1..part])?;
        }
        if tears == 0 {
            return ControlFlow::Continue(());
        }
        let data = parts.iter().filter(|op| !tear_places(&self.script.op(**op).effect).is_empty());
        let data: Vec<u32> = data.copied().collect();
        for op in data.iter().take(2).chain(data.iter().skip(2).rev().take(2)) {
            self.tear(*op)?;
        }
        ControlFlow::Continue(())
    }

    fn tear(&mut self, op: u32) -> ControlFlow<()> {
        let places = crate::core::choices::few_places(&tear_places(&self.script.op(op).effect));
        for at in places {
            for new_first in [true, false] {
                let Some(mut loss) = self.scene.losing([op]) else { continue };
                loss.torn = Some(Torn { op, at, new_first });
                (self.visit)(self.scene, loss)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn units(&mut self) -> ControlFlow<()> {
        let free = self.free.clone();
        free.iter().rev().try_for_each(|op| self.losing(&[*op]))
    }

    /// Everything is lost but one operation and what it cannot be without.
    fn kept(&mut self) -> ControlFlow<()> {
        self.by_step().into_iter().try_for_each(|kept| self.keeping(kept))
    }

    fn keeping(&mut self, kept: Vec<u32>) -> ControlFlow<()> {
        let mut keep: BTreeSet<u32> = kept.into_iter().collect();
        for op in self.free.iter().rev() {
            if keep.contains(op) {
                let after = self.script.op(*op).after.iter().filter_map(|op| u32::try_from(*op).ok());
                keep.extend(after);
            }
        }
        let lost: Vec<u32> = self.free.iter().copied().filter(|op| !keep.contains(op)).collect();
        self.losing(&lost)
    }

    /// What each call site did is lost, or kept alone, and what any two did is lost.
    fn sites(&mut self) -> ControlFlow<()> {
        let mut sites: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for op in &self.free {
            let site = self.script.sites.get(self.script.op(*op).step).copied().unwrap_or(0);
            sites.entry(site).or_default().push(*op);
        }
        sites.remove(&0);
        let sites: Vec<Vec<u32>> = sites.into_values().collect();
        for (at, site) in sites.iter().enumerate() {
            self.losing(site)?;
            self.keeping(site.clone())?;
            for other in &sites[..at] {
                let mut both = [&site[..], other].concat();
                both.sort_unstable();
                self.losing(&both)?;
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::profile::{Profile, Unit};
    use crate::core::trace::{Ino, Op, Step, Trace};
    use std::sync::Arc;

    /// What a stage loses after the last step, as the steps that are lost.
    fn lost(stage_of: Stage, sites: &[u32]) -> BTreeSet<Vec<usize>> {
        let create = Op::Create { path: "f".to_owned(), ino: Ino(0) };
        let write = |at: u64| Op::Write { ino: Ino(0), offset: at * 512, data: Arc::from([1; 512]) };
        let ops = [create, Op::SyncAll { ino: Ino(0) }, Op::SyncDir { path: String::new() }];
        let steps: Vec<Step> = ops.into_iter().chain((0..4).map(write)).map(Step::from).collect();
        let trace = Trace { steps, ..Trace::default() };
        let mut script = Script::new(&trace, Profile::PosixStrict, Unit::Sector);
        script.sites = [&[9, 9, 9], sites].concat();
        let (reach, from) = (Reach { omissions: 1, tears: 0, seed: 1 }, script.steps.len());
        let mut losses = BTreeSet::new();
        let mut visit = |_: &mut Scene<'_>, loss: Loss| {
            let data = loss.lost.iter().filter(|op| matches!(script.op(**op).effect, Effect::Data { .. }));
            losses.insert(data.map(|op| script.op(*op).step - 3).collect());
            ControlFlow::Continue(())
        };
        assert!(stage(stage_of, &script, from, &reach, &mut visit).is_continue());
        losses
    }

    #[test]
    fn what_one_site_did_is_lost_together_and_kept_alone() {
        let sites = lost(Stage::Site, &[1, 2, 1, 3]);
        // One of the three lost, one kept, and two lost, which is the third kept.
        let wanted = [vec![0, 2], vec![1], vec![3], vec![1, 3], vec![0, 2, 3], vec![0, 1, 2]];
        assert_eq!(sites, BTreeSet::from(wanted));
        assert!(lost(Stage::Operation, &[1, 2, 1, 3]).iter().all(|lost| lost.len() <= 1));
        assert!(lost(Stage::Site, &[0; 4]).is_empty(), "what is not known is no site");
    }
}
