//! commitlog 0.2.0: messages are appended, and each is flushed.
//!
//! An acknowledgement follows `CommitLog::flush`: "Forces a flush of the log." (its documentation in 0.2.0).

use std::path::Path;
use std::process::ExitCode;

use commitlog::message::MessageSet;
use commitlog::{CommitLog, LogOptions, ReadLimit};
use subjects::{ENTRIES, acknowledge, entry, main as run};

fn main() -> ExitCode {
    run(|_| Ok(()), workload, find)
}

fn open(dir: &Path) -> Result<CommitLog, String> {
    let mut options = LogOptions::new(dir.join("log"));
    options.segment_max_bytes(1 << 16).index_max_items(512);
    CommitLog::new(options).map_err(|e| e.to_string())
}

fn workload(dir: &Path) -> Result<(), String> {
    let mut log = open(dir)?;
    for number in 0..ENTRIES {
        log.append_msg(entry(number)).map_err(|e| e.to_string())?;
        log.flush().map_err(|e| e.to_string())?;
        acknowledge(number)?;
    }
    Ok(())
}

fn find(dir: &Path) -> Result<Vec<Vec<u8>>, String> {
    let log = open(dir)?;
    let messages = log.read(0, ReadLimit::max_bytes(1 << 16)).map_err(|e| e.to_string())?;
    Ok(messages.iter().map(|message| message.payload().to_vec()).collect())
}
