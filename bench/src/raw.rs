//! The raw limit: pwrite and fdatasync into a file that was filled with zeros before.
//!
//! I own the file and the way in which many callers share a sync. No framing, no checksum, no index:
//! what a log cannot beat. I do not know seawall.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sample::Sample;
use crate::workload::{self, Workload};

/// The size of the file; writes start again at its beginning when it is full.
const FILE_BYTES: usize = 64 << 20;

/// One thread, pwrite and fdatasync into a zero-filled file.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Bytes in a write.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    bytes: u32,
    /// Seconds to measure.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

impl Args {
    /// Measures and prints.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        let workload = Workload { name: "raw", callers: 1, bytes: usize::try_from(self.bytes)? };
        let figures = measure(dir, &workload, Duration::try_from_secs_f64(self.seconds)?)?.figures();
        writeln!(
            io::stdout(),
            "raw, {} B: {:.0}/s, p50 {:.0} us, p99 {:.0} us",
            self.bytes,
            figures.per_second,
            figures.p50_us,
            figures.p99_us
        )?;
        Ok(())
    }
}

/// Durable writes of the workload, straight to a file.
pub(crate) fn measure(dir: &Path, workload: &Workload, time: Duration) -> anyhow::Result<Sample> {
    let raw = Raw::new(dir)?;
    let data = vec![0x5a; workload.bytes];
    workload::drive(workload.callers, time, |_caller, _n| {
        raw.write(&data)?;
        Ok(())
    })
}

/// A zero-filled file that callers share: who finds it idle writes and syncs for all who wait.
struct Raw {
    file: File,
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Default)]
struct State {
    forming: Vec<u8>,
    batch: u64,
    durable: u64,
    failed: bool,
    busy: bool,
    offset: usize,
}

impl Raw {
    fn new(dir: &Path) -> anyhow::Result<Self> {
        let mut file = tempfile::tempfile_in(dir)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..FILE_BYTES / zeros.len() {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        let state = Mutex::new(State { batch: 1, ..State::default() });
        Ok(Self { file, state, synced: Condvar::new() })
    }

    fn write(&self, data: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        state.forming.extend_from_slice(data);
        let mine = state.batch;
        while state.durable < mine && !state.failed {
            if state.busy {
                state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.busy = true;
            let batch = std::mem::take(&mut state.forming);
            if state.offset + batch.len() > FILE_BYTES {
                state.offset = 0;
            }
            let offset = state.offset as u64;
            state.offset += batch.len();
            state.batch += 1;
            drop(state);
            let result = self.file.write_all_at(&batch, offset).and_then(|()| self.file.sync_data());
            state = self.lock();
            state.durable = mine.max(state.durable);
            state.failed |= result.is_err();
            state.busy = false;
            self.synced.notify_all();
            result?;
        }
        if state.failed { Err(io::Error::other("another caller's sync failed")) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
