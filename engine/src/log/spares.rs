//! Prepared segments: their names, their zeros, and how they are made.
//!
//! I own what a segment is before it has a number. (G8) A prepared segment is written zeros or a dead
//! segment, whole, without a hole, and synced, and its name is durable. (G10) It is open, with the descriptions that
//! its first flushes need, before a batch is taken that may go there: a rotation opens nothing, and where no
//! descriptor is free the batch is refused. I do not know when one is needed.

use std::io;
use std::sync::Arc;

use super::held::Shelf;
use crate::error::{Error, Result};
use crate::planted::Bug;
use crate::vfs::{Access, File, Vfs, write_all_at};

/// A prepared segment whose name is durable.
pub struct Spare<V: Vfs> {
    /// Its name.
    pub name: String,
    /// Whether its length is durable: of one that was there at open it may be in the cache only.
    pub settled: bool,
    /// What it is written through, if it is open.
    pub opened: Option<Opened<V>>,
}

/// A segment that is open before it is written.
pub struct Opened<V: Vfs> {
    /// For rotation and sealing.
    pub file: Arc<V::File>,
    /// For the first flushes, each opened before what it will cover (L9).
    pub free: Vec<Arc<V::File>>,
}

impl<V: Vfs> Opened<V> {
    /// Opens a file, and as many descriptions besides.
    pub fn of(shelf: &Shelf<V>, path: &str, descriptions: u32) -> Result<Self> {
        let open = || description(shelf, path);
        let free = (0..descriptions).map(|_| open()).collect::<Result<_>>()?;
        Ok(Self { file: open()?, free })
    }
}

/// One more description of a segment that is written.
pub fn description<V: Vfs>(shelf: &Shelf<V>, path: &str) -> Result<Arc<V::File>> {
    let file = shelf.make_way(|| shelf.vfs.open(path, Access::ReadWrite));
    Ok(Arc::new(file.map_err(Error::io("open", path))?))
}

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
pub fn settle<V: Vfs>(file: &V::File, path: &str, size: u64) -> Result<()> {
    if V::planted(Bug::SpareNotSettled) {
        return Ok(());
    }
    let set = file.set_len(size + 1).and_then(|()| file.set_len(size)).and_then(|()| file.sync_all());
    set.map_err(Error::io("settle the length of", path))
}
