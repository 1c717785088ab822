//! The workloads, and how callers are driven through one.
//!
//! I own the clock of a measurement: every caller starts at once, goes on until the time is over and
//! keeps the latency of each operation. I do not know what an operation is.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use seawall::{CreateOptions, Engine, Entry, GroupId, Options, Outcome, WriteBatch};

use crate::sample::Sample;

/// Callers that each write one entry, wait until it is durable, and write the next.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) callers: usize,
    pub(crate) bytes: usize,
}

/// The workloads of `quick`.
pub(crate) const QUICK: [Workload; 3] = [
    Workload { name: "W1 one caller, 256 B", callers: 1, bytes: 256 },
    Workload { name: "W1 one caller, 4 KiB", callers: 1, bytes: 4096 },
    Workload { name: "W2 64 callers, 256 B", callers: 64, bytes: 256 },
];

/// Durable appends through seawall, each caller with a group of its own.
pub(crate) fn seawall(dir: &Path, workload: &Workload, time: Duration) -> anyhow::Result<Sample> {
    let temporary = tempfile::tempdir_in(dir)?;
    let store = temporary.path().join("store");
    Engine::create(&store, &CreateOptions::new(1, 1))?;
    let (engine, _) = Engine::open(&store, Options::default())?;
    for caller in 0..workload.callers {
        engine.create_group(GroupId(caller as u64))?;
    }
    let data: std::sync::Arc<[u8]> = vec![0x5a; workload.bytes].into();
    let sample = drive(workload.callers, time, |caller, n| {
        let mut batch = WriteBatch::new();
        batch.append(GroupId(caller as u64), Entry::command(n, 1, data.clone()));
        let outcome = engine.write(batch)?.wait();
        anyhow::ensure!(outcome == Outcome::Durable, "the outcome is {outcome:?}");
        Ok(())
    })?;
    engine.close()?;
    Ok(sample)
}

/// Runs `operation(caller, n)` for n = 1, 2, ... on each caller's thread until the time is over.
pub(crate) fn drive(
    callers: usize,
    time: Duration,
    operation: impl Fn(usize, u64) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<Sample> {
    let start = Barrier::new(callers + 1);
    let stop = AtomicBool::new(false);
    let one = |caller: usize| -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        start.wait();
        while latencies.is_empty() || !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            operation(caller, latencies.len() as u64 + 1)?;
            latencies.push(begun.elapsed());
        }
        Ok(latencies)
    };
    std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..callers).map(|caller| scope.spawn(move || one(caller))).collect();
        start.wait();
        let begun = Instant::now();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        for thread in threads {
            latencies.extend(thread.join().expect("a caller does not panic")?);
        }
        Ok(Sample::new(latencies, begun.elapsed()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seawall_and_raw_make_progress_on_every_workload() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for workload in &QUICK {
            let time = Duration::from_millis(30);
            let seawall = seawall(dir.path(), workload, time).expect("seawall runs").figures();
            let raw = crate::raw::measure(dir.path(), workload, time).expect("raw runs").figures();
            assert!(seawall.per_second > 1.0 && raw.per_second > 1.0, "{seawall:?} {raw:?}");
            assert!(seawall.p50_us <= seawall.p99_us, "{seawall:?}");
        }
    }

    #[test]
    fn an_error_of_a_caller_is_the_result() {
        let result = drive(2, Duration::ZERO, |caller, _| {
            anyhow::ensure!(caller == 0, "caller 1 fails");
            Ok(())
        });
        assert_eq!(result.map(|_| ()).expect_err("it failed").to_string(), "caller 1 fails");
    }
}
