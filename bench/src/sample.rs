//! What one measurement saw: how many acknowledgements, in how long, and how long each took.
//!
//! I own the latency histogram and its form on the wire. I measure nothing myself.

use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies in nanoseconds, up to a minute, to two digits.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("constant bounds"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the same bounds");
    }

    /// The value below which a share of all lies, in microseconds.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> f64 {
        Duration::from_nanos(self.0.value_at_quantile(share)).as_secs_f64() * 1e6
    }

    /// The largest, in microseconds.
    #[must_use]
    pub fn max_us(&self) -> f64 {
        Duration::from_nanos(self.0.max()).as_secs_f64() * 1e6
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// From what [`Latencies::counts`] gave.
    pub fn from_counts(counts: &[(u64, u64)]) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for (value, count) in counts {
            all.0.record_n(*value, *count).context("a latency within bounds")?;
        }
        Ok(all)
    }

    /// Values and how often each was seen.
    #[must_use]
    pub fn counts(&self) -> Vec<(u64, u64)> {
        self.0.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect()
    }
}

/// One measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Acknowledgements: batches that were waited for, or callbacks.
    pub acks: u64,
    /// From the first start to the last end.
    pub seconds: f64,
    /// Latencies in nanoseconds and how often each was seen.
    pub latencies: Vec<(u64, u64)>,
}

impl Sample {
    /// The acknowledgements of every caller.
    #[must_use]
    pub fn new(latencies: &Latencies, elapsed: Duration) -> Self {
        Self { acks: latencies.count(), seconds: elapsed.as_secs_f64(), latencies: latencies.counts() }
    }

    /// Acknowledgements a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        u32::try_from(self.acks).map_or(f64::INFINITY, f64::from) / self.seconds
    }

    /// The latencies as a histogram.
    pub fn latencies(&self) -> anyhow::Result<Latencies> {
        Latencies::from_counts(&self.latencies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_comes_back_from_the_wire() {
        let mut latencies = Latencies::default();
        (1..=100).for_each(|n| latencies.record(Duration::from_micros(n)));
        let sample = Sample::new(&latencies, Duration::from_millis(10));
        let text = serde_json::to_string(&sample).expect("a sample can be written");
        let back: Sample = serde_json::from_str(&text).expect("and read");
        assert_eq!(back.acks, 100);
        assert!((back.per_second() - 10_000.0).abs() < 1e-6);
        let again = back.latencies().expect("within bounds");
        assert!((again.quantile_us(0.5) - 50.0).abs() < 0.5, "{}", again.quantile_us(0.5));
        assert!((again.max_us() - 100.0).abs() < 1.0, "{}", again.max_us());
    }
}
