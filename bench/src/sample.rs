//! What one measurement saw: how many operations, in how long, and how long each took.
//!
//! I own rates, percentiles and the median of ratios. I measure nothing myself.

use std::time::Duration;

use serde::Serialize;

/// The operations of one measurement.
pub(crate) struct Sample {
    latencies: Vec<Duration>,
    elapsed: Duration,
}

/// A sample in numbers.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    /// Durable operations a second.
    pub(crate) per_second: f64,
    /// The median latency in microseconds.
    pub(crate) p50_us: f64,
    /// The 99th percentile in microseconds.
    pub(crate) p99_us: f64,
}

impl Sample {
    /// The latencies of every caller, and the time from the first start to the last end.
    pub(crate) fn new(mut latencies: Vec<Duration>, elapsed: Duration) -> Self {
        assert!(!latencies.is_empty(), "a measurement has at least one operation");
        latencies.sort_unstable();
        Self { latencies, elapsed }
    }

    /// The sample in numbers.
    pub(crate) fn figures(&self) -> Figures {
        let count = u32::try_from(self.latencies.len()).map_or(f64::INFINITY, f64::from);
        Figures {
            per_second: count / self.elapsed.as_secs_f64(),
            p50_us: self.percentile(50),
            p99_us: self.percentile(99),
        }
    }

    fn percentile(&self, percent: usize) -> f64 {
        let at = (self.latencies.len() - 1) * percent / 100;
        self.latencies[at].as_secs_f64() * 1e6
    }
}

/// The middle value; of an even count, the lower of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_known_sample() {
        let latencies = (1..=101).rev().map(Duration::from_micros).collect();
        let figures = Sample::new(latencies, Duration::from_millis(101)).figures();
        assert!((figures.per_second - 1000.0).abs() < 1e-6, "{figures:?}");
        assert!((figures.p50_us - 51.0).abs() < 1e-6, "{figures:?}");
        assert!((figures.p99_us - 100.0).abs() < 1e-6, "{figures:?}");
        assert!((median([3.0, 1.0, 2.0, 9.0]) - 2.0).abs() < 1e-9);
    }
}
