//! Damaged bytes that were set aside.
//!
//! I own the directory `quarantine/`. (Q1) A file in it is durable before the bytes that it keeps are
//! changed where they stand. (Q2) Nothing in it is ever changed or removed by us. I do not know what is
//! damaged (see recovery and the log's repair).

use std::io;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::vfs::{File, Vfs, read_exact_at, write_all_at};

/// The directory's name.
pub const DIR: &str = "quarantine";
/// Bytes copied at once.
const WINDOW: u64 = 1 << 20;
const DOING: &str = "setting damaged bytes aside";

/// Copies a range of a file, as much of it as there is, into the quarantine; durable on return. Says the
/// copy's path.
pub fn keep<V: Vfs>(vfs: &V, path: &str, file: &V::File, bytes: Range<u64>) -> Result<String> {
    match vfs.create_dir(DIR) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(Error::space(DOING, DIR)(e)),
        Ok(()) => vfs.sync_dir("").map_err(Error::io("sync the directory for", DIR))?,
    }
    let taken = vfs.list(DIR).map_err(Error::io("list", DIR))?;
    let stem = path.replace('/', "-");
    let name = |n: u32| format!("{stem}-{:08x}-{n}.bytes", bytes.start);
    let name = (0..).map(name).find(|n| !taken.contains(n)).expect("one is free");
    let copy = format!("{DIR}/{name}");
    let len = file.len().map_err(Error::io("stat", path))?;
    let into = vfs.create(&copy).map_err(Error::space(DOING, &copy))?;
    let mut at = bytes.start;
    let end = bytes.end.min(len);
    let mut buffer = vec![0; usize::try_from(end.saturating_sub(at).min(WINDOW)).expect("small")];
    while at < end {
        let n = usize::try_from((end - at).min(WINDOW)).expect("small");
        read_exact_at(file, &mut buffer[..n], at).map_err(Error::io("read", path))?;
        write_all_at::<V>(&into, &buffer[..n], at - bytes.start).map_err(Error::space(DOING, &copy))?;
        at += n as u64;
    }
    into.sync_all().map_err(Error::space(DOING, &copy))?;
    vfs.sync_dir(DIR).map_err(Error::io("sync", DIR))?;
    Ok(copy)
}
