//! The raw limit: pwrite and fdatasync into a file that was filled with zeros before.
//!
//! I own the file and the way in which many callers share a sync. No framing, no checksum, no index, no
//! memory of what was written: what a log cannot beat with as many syncs in flight. I do not know
//! seawall.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::subject::{Item, Subject};

/// The size of the file; writes start again at its beginning when it is full.
const FILE_BYTES: usize = 64 << 20;

/// A zero-filled file that callers share. The first caller of a batch leads it: it waits until a sync is
/// free, writes and syncs for all who joined meanwhile, and wakes them with one call. Nobody takes a
/// lock to learn the outcome.
pub struct Raw {
    file: File,
    /// Syncs that may run at once.
    most: usize,
    state: Mutex<State>,
    freed: Condvar,
}

/// What waits to be written together, and the word that its callers wait for.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    outcome: Arc<OnceLock<Result<(), String>>>,
}

#[derive(Default)]
struct State {
    forming: Batch,
    running: usize,
    offset: usize,
}

impl Raw {
    /// A new file in a directory, for up to `most` syncs at once.
    pub fn new(dir: &Path, most: usize) -> anyhow::Result<Self> {
        let mut file = tempfile::tempfile_in(dir)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..FILE_BYTES / zeros.len() {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(Self { file, most, state: Mutex::default(), freed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the forming batch as soon as a sync is free, and says what became of it.
    fn lead(&self, mut state: MutexGuard<'_, State>) {
        while state.running == self.most {
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let Batch { bytes, outcome } = std::mem::take(&mut state.forming);
        if state.offset + bytes.len() > FILE_BYTES {
            state.offset = 0;
        }
        let offset = state.offset as u64;
        state.offset += bytes.len();
        state.running += 1;
        drop(state);
        let result = self.file.write_all_at(&bytes, offset).and_then(|()| self.file.sync_data());
        self.lock().running -= 1;
        self.freed.notify_one();
        outcome.set(result.map_err(|e| e.to_string())).expect("one caller leads a batch");
    }
}

impl Subject for Raw {
    fn append(&self, items: &[Item]) -> anyhow::Result<()> {
        let mut state = self.lock();
        let leads = state.forming.bytes.is_empty();
        items.iter().for_each(|item| state.forming.bytes.extend_from_slice(&item.data));
        let outcome = state.forming.outcome.clone();
        if leads {
            self.lead(state);
        } else {
            drop(state);
        }
        outcome.wait().clone().map_err(anyhow::Error::msg)
    }

    fn forget(&self, _upto: &[(u64, u64)]) -> anyhow::Result<()> {
        Ok(())
    }
}
