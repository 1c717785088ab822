//! okaywal 0.3.1: entries are appended, and each is committed.
//!
//! An acknowledgement follows `EntryWriter::commit`: "before control returns from committing an entry, the
//! file is `fsync`ed" (its README in 0.3.1). The log is made by an earlier run: 0.3.1 does not open a
//! directory in which a crash cut its first segment's creation short, before any entry.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use okaywal::{Configuration, Entry, EntryId, LogManager, ReadChunkResult, SegmentReader, WriteAheadLog};
use subjects::{ENTRIES, acknowledge, entry, main as run};

fn main() -> ExitCode {
    run(prepare, workload, find)
}

fn prepare(dir: &Path) -> Result<(), String> {
    open(dir, Found::default())?.shutdown().map_err(|e| e.to_string())
}

/// Keeps what is recovered. No segment is full here, so nothing is ever taken out of the log.
#[derive(Debug, Default)]
struct Found(Arc<Mutex<Vec<Vec<u8>>>>);

impl LogManager for Found {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        // An entry that is cut short, or has a chunk with a wrong checksum, was not committed.
        let mut bytes = Vec::new();
        loop {
            let mut chunk = match entry.read_chunk()? {
                ReadChunkResult::Chunk(chunk) => chunk,
                ReadChunkResult::EndOfEntry => break,
                ReadChunkResult::AbortedEntry => return Ok(()),
            };
            bytes.extend(chunk.read_all()?);
            if !chunk.check_crc()? {
                return Ok(());
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}

fn open(dir: &Path, found: Found) -> Result<WriteAheadLog, String> {
    let configuration = Configuration::default_for(dir.join("log")).preallocate_bytes(1 << 14);
    configuration.open(found).map_err(|e| e.to_string())
}

fn workload(dir: &Path) -> Result<(), String> {
    let log = open(dir, Found::default())?;
    for number in 0..ENTRIES {
        let mut writer = log.begin_entry().map_err(|e| e.to_string())?;
        writer.write_chunk(&entry(number)).map_err(|e| e.to_string())?;
        writer.commit().map_err(|e| e.to_string())?;
        acknowledge(number)?;
    }
    log.shutdown().map_err(|e| e.to_string())
}

fn find(dir: &Path) -> Result<Vec<Vec<u8>>, String> {
    let found = Arc::default();
    let log = open(dir, Found(Arc::clone(&found)))?;
    let entries = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    log.shutdown().map_err(|e| e.to_string())?;
    Ok(entries)
}
