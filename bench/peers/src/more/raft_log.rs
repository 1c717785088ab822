//! raft-log: the log of Databend, one stream; the cache is as large as its defaults say.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use ::raft_log::api::raft_log_writer::RaftLogWriter;
use ::raft_log::{Callback, Config, RaftLog, Types};
use anyhow::Context;
use seawall_bench::drive::Done;
use seawall_bench::grouped::Floors;
use seawall_bench::subject::{Item, Subject};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plain;

struct Flushed(Box<dyn FnOnce(io::Result<()>) + Send>);

impl Callback for Flushed {
    fn send(self, result: io::Result<()>) {
        (self.0)(result);
    }
}

impl Types for Plain {
    /// Term and index.
    type LogId = (u64, u64);
    type LogPayload = Vec<u8>;
    type Vote = (u64, u64);
    type UserData = String;
    type Callback = Flushed;

    fn log_index(id: &(u64, u64)) -> u64 {
        id.1
    }

    fn payload_size(payload: &Vec<u8>) -> u64 {
        payload.len() as u64
    }
}

/// How long its worker waits for company: much less than its default of a millisecond, at which one caller alone
/// waits most of the time, and not nothing, at which many callers would not share a sync.
const WAIT: Duration = Duration::from_micros(10);

/// A log, and the index that comes next in it.
pub(crate) struct Peer {
    state: Mutex<(RaftLog<Plain>, u64)>,
    floors: Mutex<Floors>,
}

impl Peer {
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let mut config = Config::new(dir.to_str().context("the path is UTF-8")?);
        config.wal.flush_batch_wait = Some(WAIT);
        let log = RaftLog::open(Arc::new(config))?;
        Ok(Self { state: Mutex::new((log, 0)), floors: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, (RaftLog<Plain>, u64)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, items: &[Item], done: Flushed) -> io::Result<()> {
        let (log, next) = &mut *self.state();
        let first = *next;
        *next += items.len() as u64;
        log.append((first..).zip(items).map(|(index, item)| ((1, index), item.data.to_vec())))?;
        log.flush(true, Some(done))
    }
}

impl Subject for Peer {
    fn append(&self, items: &[Item]) -> anyhow::Result<()> {
        let (sender, durable) = mpsc::channel();
        self.write(items, Flushed(Box::new(move |result| drop(sender.send(result)))))?;
        Ok(durable.recv()??)
    }

    fn read(&self, _group: u64, first: u64, count: u64) -> anyhow::Result<u64> {
        // Its first index is 0.
        let (log, _) = &*self.state();
        let mut bytes = 0;
        for found in log.read(first - 1, first - 1 + count) {
            bytes += found?.1.len() as u64;
        }
        Ok(bytes)
    }

    fn forget(&self, upto: &[(u64, u64)]) -> anyhow::Result<()> {
        let (log, next) = &mut *self.state();
        let mut floors = self.floors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = floors.raise(upto, *next).checked_sub(1) {
            log.purge((1, last))?;
        }
        Ok(())
    }

    fn submit(&self, item: Item, done: Done) -> Result<(), (Item, Done)> {
        // An error on return is told to nobody else: the callback was not taken.
        let flushed = Flushed(Box::new(move |result| done.call(result.map_err(Into::into))));
        if let Err(e) = self.write(&[item], flushed) {
            eprintln!("raft-log: {e}");
        }
        Ok(())
    }
}
