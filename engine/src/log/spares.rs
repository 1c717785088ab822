//! Prepared segments: their names, their zeros, and how they are made.
//!
//! I own what a segment is before it has a number. (G8) A prepared segment is written zeros or a dead
//! segment, whole and synced, and its name is durable. I do not know when one is needed.

use std::io;

use crate::error::{Error, Result};
use crate::planted::Bug;
use crate::vfs::{Access, File, Vfs, write_all_at};

/// The name of a prepared segment.
#[must_use]
pub fn spare_name(n: u64) -> String {
    format!("spare-{n:016x}")
}

/// Whether a file's name is that of a prepared segment. Others that begin alike are not ours to use.
#[must_use]
pub fn is_spare(name: &str) -> bool {
    let number = name.strip_prefix("spare-").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    number.is_some_and(|n| spare_name(n) == name)
}

/// The first name of a prepared segment that is not taken.
#[must_use]
pub fn free_name(is_taken: impl Fn(&String) -> bool) -> String {
    (1..).map(spare_name).find(|name| !is_taken(name)).expect("few spares")
}

/// Creates a file of written zeros, synced. Its name is not durable yet.
pub fn zero_fill<V: Vfs>(vfs: &V, path: &str, size: u64) -> Result<()> {
    let doing = "preparing a segment";
    let file = vfs.create(path).map_err(Error::space(doing, path))?;
    let filled = (|| {
        let zeros = vec![0; usize::try_from(size.min(1 << 20)).expect("small")];
        let mut at = 0;
        while at < size {
            let n = usize::try_from((size - at).min(zeros.len() as u64)).expect("small");
            write_all_at::<V>(&file, &zeros[..n], at)?;
            at += n as u64;
            // A batch that is synced meanwhile waits for no more than this.
            if at < size {
                file.sync_data()?;
            }
        }
        if V::planted(Bug::ZerosNotSynced) { Ok(()) } else { file.sync_all() }
    })();
    filled.map_err(|e| {
        drop(vfs.remove(path));
        Error::space(doing, path)(e)
    })
}

/// Prepares a segment under this name and makes the name durable.
pub fn prepare<V: Vfs>(vfs: &V, path: &str, size: u64) -> Result<()> {
    match vfs.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", path)(e)),
        _ => {}
    }
    zero_fill(vfs, path, size)?;
    vfs.sync_dir("").map_err(Error::io("sync the directory for", path))
}

/// Makes the length of a prepared file durable, whatever became of the process or the sync that prepared
/// it: a length that is set anew is written anew (L3). No block is given back or asked for.
pub fn settle<V: Vfs>(vfs: &V, path: &str, size: u64) -> Result<()> {
    if V::planted(Bug::SpareNotSettled) {
        return Ok(());
    }
    let file = vfs.open(path, Access::ReadWrite).map_err(Error::io("open", path))?;
    let set = file.set_len(size + 1).and_then(|()| file.set_len(size)).and_then(|()| file.sync_all());
    set.map_err(Error::io("settle the length of", path))
}
