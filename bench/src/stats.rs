//! Medians and how far to trust them.
//!
//! I own the bootstrap: the interval in which 95 % of the medians of resampled rounds lie. It is seeded,
//! so that the same samples give the same interval.

use serde::Serialize;

const RESAMPLES: usize = 2000;
const SEED: u64 = 0x5ea_0a11;

/// A median with its 95 % interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The middle value; of an even count, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    f64::midpoint(low, high)
}

impl Estimate {
    /// The median of the values, of which there is at least one.
    pub(crate) fn of(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "a median of nothing");
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut again = || {
            let resampled: Vec<f64> = values.iter().map(|_| values[random.usize(..values.len())]).collect();
            median(&resampled)
        };
        let mut medians: Vec<f64> = (0..RESAMPLES).map(|_| again()).collect();
        medians.sort_unstable_by(f64::total_cmp);
        let at = |per_mille: usize| medians[(RESAMPLES - 1) * per_mille / 1000];
        Self { median: median(values), low: at(25), high: at(975) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_its_interval() {
        let values: Vec<f64> = (1..=41).map(f64::from).collect();
        let estimate = Estimate::of(&values);
        assert!((estimate.median - 21.0).abs() < 1e-9, "{estimate:?}");
        assert!(estimate.low < 21.0 && estimate.low > 10.0, "{estimate:?}");
        assert!(estimate.high > 21.0 && estimate.high < 32.0, "{estimate:?}");
        assert!((median(&[1.0, 4.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn one_value_has_no_spread() {
        let estimate = Estimate::of(&[3.0]);
        assert!((estimate.low - 3.0).abs() < 1e-9 && (estimate.high - 3.0).abs() < 1e-9, "{estimate:?}");
    }
}
