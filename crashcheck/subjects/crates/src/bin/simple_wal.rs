//! simple_wal 0.3.0: entries are appended, and each is flushed.
//!
//! An acknowledgement follows `LogFile::flush`: "Flush writes to disk" (its documentation in 0.3.0).

use std::path::Path;
use std::process::ExitCode;

use simple_wal::LogFile;
use subjects::{ENTRIES, acknowledge, entry, main as run};

fn main() -> ExitCode {
    run(|_| Ok(()), workload, find)
}

fn workload(dir: &Path) -> Result<(), String> {
    let mut log = LogFile::open(dir.join("wal")).map_err(|e| e.to_string())?;
    for number in 0..ENTRIES {
        log.write(&mut entry(number)).map_err(|e| e.to_string())?;
        log.flush().map_err(|e| e.to_string())?;
        acknowledge(number)?;
    }
    Ok(())
}

fn find(dir: &Path) -> Result<Vec<Vec<u8>>, String> {
    let mut log = LogFile::open(dir.join("wal")).map_err(|e| e.to_string())?;
    let entries = log.iter(..).map_err(|e| e.to_string())?;
    entries.collect::<Result<_, _>>().map_err(|e| e.to_string())
}
