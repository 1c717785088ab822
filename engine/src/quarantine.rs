//! Damaged bytes that were set aside.
//!
//! I own the directory `quarantine/`. (Q1) A file in it is durable before the bytes that it keeps are
//! changed where they stand. (Q2) Nothing in it is ever changed or removed by us. I do not know what is
//! damaged (see recovery and the log's repair).

use std::io;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::vfs::{Access, File, Vfs, read_exact_at, write_all_at};

/// The directory's name.
pub const DIR: &str = "quarantine";
/// Bytes copied at once.
const WINDOW: u64 = 1 << 20;
const DOING: &str = "setting damaged bytes aside";

/// Copies a range of a file, as much of it as there is, into the quarantine; durable on return. Says the
/// copy's path. What is there already is kept once; what finds no room leaves nothing.
pub fn keep<V: Vfs>(vfs: &V, path: &str, file: &V::File, bytes: Range<u64>) -> Result<String> {
    match vfs.create_dir(DIR) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(Error::space(DOING, DIR)(e)),
        Ok(()) => vfs.sync_dir("").map_err(Error::io("sync the directory for", DIR))?,
    }
    let taken = vfs.list(DIR).map_err(Error::io("list", DIR))?;
    let stem = path.replace('/', "-");
    let len = file.len().map_err(Error::io("stat", path))?;
    let bytes = bytes.start..bytes.end.min(len).max(bytes.start);
    for n in 0.. {
        let name = format!("{stem}-{:08x}-{n}.bytes", bytes.start);
        let copy = format!("{DIR}/{name}");
        if !taken.contains(&name) {
            let into = vfs.create(&copy).map_err(Error::space(DOING, &copy))?;
            let copied = fill::<V>(&into, file, &bytes).and_then(|()| into.sync_all());
            copied.map_err(|e| {
                drop(vfs.remove(&copy));
                Error::space(DOING, &copy)(e)
            })?;
        } else if !is_copy(vfs, &copy, file, &bytes).map_err(Error::io("read", &copy))? {
            continue;
        }
        vfs.sync_dir(DIR).map_err(Error::io("sync", DIR))?;
        return Ok(copy);
    }
    unreachable!("one name is free")
}

/// The ranges of a file that are copied at once.
fn windows(bytes: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = bytes.end;
    (bytes.start..end).step_by(1 << 20).map(move |at| at..end.min(at + WINDOW))
}

fn read<V: Vfs>(file: &V::File, bytes: Range<u64>) -> io::Result<Vec<u8>> {
    let mut raw = vec![0; usize::try_from(bytes.end - bytes.start).expect("a window is small")];
    read_exact_at(file, &mut raw, bytes.start)?;
    Ok(raw)
}

fn fill<V: Vfs>(into: &V::File, file: &V::File, bytes: &Range<u64>) -> io::Result<()> {
    windows(bytes).try_for_each(|window| {
        let at = window.start - bytes.start;
        write_all_at::<V>(into, &read::<V>(file, window)?, at)
    })
}

/// Whether a file of the quarantine is this copy, which an earlier open made and did not get further. It is made
/// durable: that open may not have lived to see it.
fn is_copy<V: Vfs>(vfs: &V, copy: &str, file: &V::File, bytes: &Range<u64>) -> io::Result<bool> {
    let kept = vfs.open(copy, Access::ReadWrite)?;
    if kept.len()? != bytes.end - bytes.start {
        return Ok(false);
    }
    for window in windows(bytes) {
        let (from, to) = (window.start - bytes.start, window.end - bytes.start);
        let raw = read::<V>(file, window)?;
        if read::<V>(&kept, from..to)? != raw {
            return Ok(false);
        }
        // Written again: what an earlier sync failed to write may be in the cache only.
        write_all_at::<V>(&kept, &raw, from)?;
    }
    kept.sync_all()?;
    Ok(true)
}
