//! Which sequences are run, by number.
//!
//! I own the order: every sequence of length 0 and 1 over all kinds, then every sequence up to the
//! wanted length over [`EXHAUSTIVE`], shuffled by the seed within each length, then sampled ones
//! without end. (N1) A number and a seed name one sequence for ever. (N2) At least 30 % of sampled
//! steps are truncations, compactions, snapshots or installs before kinds are switched off; each
//! sampled run switches a random subset of kinds off (swarm testing: Groce et al., ISSTA 2012), so
//! that rare mixes occur. I do not know what a step does.

use super::step::{Kind, Step};

/// The kinds whose sequences are enumerated; a step's place in the sequence is its variant.
pub const EXHAUSTIVE: [Kind; 10] = [
    Kind::Append,
    Kind::Batch,
    Kind::Vote,
    Kind::Truncate,
    Kind::Overwrite,
    Kind::CompactExternal,
    Kind::Publish,
    Kind::Install,
    Kind::Reopen,
    Kind::Overlap,
];

/// How often each kind is drawn, in parts of the sum.
const WEIGHTS: &[(Kind, u64)] = &[
    (Kind::Append, 8),
    (Kind::AppendLarge, 6),
    (Kind::Batch, 7),
    (Kind::Vote, 5),
    (Kind::Storm, 2),
    (Kind::Commit, 4),
    (Kind::Truncate, 7),
    (Kind::Overwrite, 8),
    (Kind::CompactExternal, 9),
    (Kind::CompactOwned, 7),
    (Kind::Publish, 6),
    (Kind::Install, 9),
    (Kind::Rotate, 6),
    (Kind::Reopen, 6),
    (Kind::Close, 4),
    (Kind::Restarts, 1),
    (Kind::Overlap, 7),
    (Kind::Group, 6),
    (Kind::Maintain, 5),
    (Kind::Refused, 3),
    (Kind::FailSync, 4),
    (Kind::Interrupt, 2),
    (Kind::ShortWrite, 2),
    (Kind::NoSpace, 2),
    (Kind::ReadError, 2),
    (Kind::Errno, 2),
    (Kind::SecondErrno, 1),
    (Kind::Fail, 3),
];

/// Splitmix64: the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A stream of numbers for a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "the stream has no end, so it is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// One sequence and how it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sequence {
    /// The steps.
    pub steps: Vec<Step>,
    /// How many groups share the store, 2 to 4; one more comes and goes.
    pub groups: usize,
    /// Whether creation and prelude are recorded and crashed too.
    pub from_nothing: bool,
    /// Whether all but the last step is a sequence of its own that is explored as well.
    pub prefix_known: bool,
}

impl Sequence {
    /// A sequence from the prelude, over two groups, with no prefix known.
    #[must_use]
    pub fn of(steps: Vec<Step>) -> Self {
        Self { steps, groups: 2, from_nothing: false, prefix_known: false }
    }
}

/// The plan of a campaign.
#[derive(Clone, Debug)]
pub struct Plan {
    seed: u64,
    /// Sequences of each length, counted: `starts[k]` is the number of the first longer than `k - 1`.
    starts: Vec<u64>,
    length: u32,
    groups: usize,
}

impl Plan {
    /// Everything up to `length` over so many groups, then samples.
    #[must_use]
    pub fn new(seed: u64, length: u32, groups: usize) -> Self {
        let singles = Kind::ALL.len() as u64;
        // The empty sequence, once from nothing and once from the prelude; then single steps.
        let mut starts = vec![0, 2, 2 + 2 * singles];
        for k in 1..=length {
            let count = (EXHAUSTIVE.len() as u64).pow(k);
            starts.push(starts.last().expect("not empty") + count);
        }
        Self { seed, starts, length, groups }
    }

    /// How many sequences are enumerated; later numbers are sampled.
    #[must_use]
    pub fn enumerated(&self) -> u64 {
        *self.starts.last().expect("not empty")
    }

    /// The greatest length such that each sequence up to it has a number below `done`.
    #[must_use]
    pub fn complete_length(&self, done: u64) -> u32 {
        (1..=self.length).take_while(|k| done >= self.starts[2 + *k as usize]).last().unwrap_or(0)
    }

    /// The sequence of a number.
    #[must_use]
    pub fn sequence(&self, number: u64) -> Sequence {
        Sequence { groups: self.groups, ..self.over_two(number) }
    }

    fn over_two(&self, number: u64) -> Sequence {
        if number < self.starts[1] {
            return Sequence { from_nothing: number == 0, ..Sequence::of(Vec::new()) };
        }
        if number < self.starts[2] {
            let n = usize::try_from(number - self.starts[1]).expect("few kinds");
            let salt = if n % 2 == 0 { 0 } else { 3 };
            return Sequence { prefix_known: true, ..Sequence::of(vec![Step::new(Kind::ALL[n / 2], salt)]) };
        }
        match (1..=self.length).find(|k| number < self.starts[2 + *k as usize]) {
            Some(k) => {
                let steps = self.enumerate(k, number - self.starts[1 + k as usize]);
                Sequence { prefix_known: true, ..Sequence::of(steps) }
            }
            None => self.sample(number),
        }
    }

    /// The `n`-th sequence of `length` steps, in an order that the seed shuffles.
    fn enumerate(&self, length: u32, n: u64) -> Vec<Step> {
        let count = (EXHAUSTIVE.len() as u64).pow(length);
        let mut n = shuffle(n, count, self.seed ^ u64::from(length));
        let digits = (0..length).map(|place| {
            let kind = EXHAUSTIVE[usize::try_from(n % EXHAUSTIVE.len() as u64).expect("ten kinds")];
            n /= EXHAUSTIVE.len() as u64;
            // Neighbours work on different groups and in different variants.
            Step::new(kind, u8::try_from(place * 3 % 256).expect("below 256"))
        });
        digits.collect()
    }

    fn sample(&self, number: u64) -> Sequence {
        let mut random = Random::new(self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ number);
        let off = random.next() & random.next();
        let mut on: Vec<(Kind, u64)> =
            WEIGHTS.iter().enumerate().filter(|(i, _)| off >> i & 1 == 0).map(|(_, w)| *w).collect();
        if on.is_empty() {
            on = WEIGHTS.to_vec();
        }
        let length = 3 + random.below(8);
        let steps = (0..length).map(|_| draw(&mut random, &on)).collect();
        Sequence { from_nothing: random.below(16) == 0, ..Sequence::of(steps) }
    }
}

fn draw(random: &mut Random, weights: &[(Kind, u64)]) -> Step {
    let mut n = random.below(weights.iter().map(|w| w.1).sum());
    for (kind, weight) in weights {
        if n < *weight {
            return Step::new(*kind, u8::try_from(random.below(256)).expect("below 256"));
        }
        n -= weight;
    }
    unreachable!("below the sum of the weights")
}

/// A permutation of `0..count`: multiplication by a number without a common factor, and a shift.
fn shuffle(n: u64, count: u64, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let shift = random.below(count);
    let mut factor = random.below(count).max(1);
    while gcd(factor, count) != 1 {
        factor = factor % count + 1;
    }
    let product = u128::from(n) * u128::from(factor) + u128::from(shift);
    u64::try_from(product % u128::from(count)).expect("below the count")
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_sequence_up_to_the_length_has_one_number() {
        let plan = Plan::new(9, 3, 2);
        let longer = (plan.starts[2]..plan.enumerated()).map(|n| plan.sequence(n).steps);
        let kinds: BTreeSet<Vec<Kind>> = longer.map(|steps| steps.iter().map(|s| s.kind).collect()).collect();
        assert_eq!(kinds.len(), 10 + 100 + 1000);
        assert!(kinds.iter().flatten().all(|k| EXHAUSTIVE.contains(k)));
        assert_eq!(plan.complete_length(plan.enumerated()), 3);
        assert_eq!(plan.complete_length(plan.enumerated() - 1), 2);
    }

    #[test]
    fn a_number_names_one_sequence() {
        let (a, b) = (Plan::new(4, 2, 2), Plan::new(4, 2, 2));
        assert!((0..2000).all(|n| a.sequence(n) == b.sequence(n)));
        assert!((0..2000).any(|n| a.sequence(n) != Plan::new(5, 2, 2).sequence(n)));
    }
}
