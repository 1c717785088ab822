//! Segments that are written no more, and the few of them that are open.
//!
//! I own when a file that is only read is open. (H1) So many descriptions are open at once as [`Vfs::HELD`] says,
//! and those through which somebody reads at this moment, or begins to: one that was read again since it was
//! opened is passed over once. (H2) A
//! segment is opened by its name, which is given once: what stands under it is that segment, or a copy with an
//! entry repaired, or nothing, once it was recycled. (H3) Who reads keeps the description that it got: it reads the
//! same file to the end, whatever becomes of the name. (H4) No lock is held over a call of the file system. I do
//! not know what the files hold.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::sync::lock;
use crate::vfs::{Access, OutOfDescriptors, Vfs};

/// The descriptions that are open, of all segments of a store.
pub struct Shelf<V: Vfs> {
    /// The file system.
    pub vfs: V,
    /// In the order in which they were opened, or passed over because they were used since.
    open: Mutex<VecDeque<Weak<Held<V>>>>,
}

/// A file that is opened when it is read.
pub struct Held<V: Vfs> {
    shelf: Arc<Shelf<V>>,
    path: String,
    file: Mutex<Option<Arc<V::File>>>,
    used: AtomicBool,
}

impl<V: Vfs> Shelf<V> {
    /// With nothing open.
    #[must_use]
    pub fn new(vfs: &V) -> Arc<Self> {
        Arc::new(Self { vfs: vfs.clone(), open: Mutex::default() })
    }

    /// A file of this name that was written here.
    #[must_use]
    pub fn hold(self: &Arc<Self>, path: String) -> Arc<Held<V>> {
        self.with(path, None)
    }

    /// A file of this name that is there: open now, and opened again when it must be.
    pub fn find(self: &Arc<Self>, path: String) -> io::Result<Arc<Held<V>>> {
        let file = Arc::new(self.make_way(|| self.vfs.open(&path, Access::Read))?);
        let held = self.with(path, Some(file));
        self.shelve(&held);
        Ok(held)
    }

    /// A file that stays open.
    #[must_use]
    pub fn pin(self: &Arc<Self>, path: String, file: Arc<V::File>) -> Arc<Held<V>> {
        self.with(path, Some(file))
    }

    fn with(self: &Arc<Self>, path: String, file: Option<Arc<V::File>>) -> Arc<Held<V>> {
        Arc::new(Held { shelf: self.clone(), path, file: Mutex::new(file), used: AtomicBool::new(false) })
    }

    /// Takes a file in that was opened, and closes another for it if need be.
    fn shelve(&self, held: &Arc<Held<V>>) {
        self.close_down_to(V::HELD - 1);
        lock(&self.open).push_back(Arc::downgrade(held));
    }

    /// Calls; if no descriptor is free, closes what is open here, and if there is anything, calls again.
    pub fn make_way<T>(&self, call: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match call() {
            Err(e) if OutOfDescriptors::carried(&e).is_some() && self.close_down_to(0) > 0 => call(),
            result => result,
        }
    }

    /// Closes what was not used for longest, until no more than `most` are open. Says how many were closed.
    fn close_down_to(&self, most: usize) -> usize {
        let mut closed = Vec::new();
        let mut open = lock(&self.open);
        while open.len() > most {
            let Some(held) = open.pop_front().expect("longer than that").upgrade() else { continue };
            if most > 0 && held.used.swap(false, Ordering::Relaxed) {
                open.push_back(Arc::downgrade(&held));
            } else {
                closed.extend(lock(&held.file).take());
            }
        }
        drop(open);
        closed.len()
    }
}

impl<V: Vfs> Held<V> {
    /// Its name.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A description of the file, which the caller may use for as long as it likes.
    pub fn open(self: &Arc<Self>) -> io::Result<Arc<V::File>> {
        if let Some(file) = &*lock(&self.file) {
            self.used.store(true, Ordering::Relaxed);
            return Ok(file.clone());
        }
        let shelf = &self.shelf;
        let file = Arc::new(shelf.make_way(|| shelf.vfs.open(&self.path, Access::Again))?);
        // Somebody else may have opened it meanwhile.
        let first = lock(&self.file).get_or_insert_with(|| file.clone()).clone();
        if Arc::ptr_eq(&file, &first) {
            shelf.shelve(self);
        }
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::vfs::mem::{Call, CallKind, Fault, MemVfs};
    use crate::vfs::{File, write_all_at};

    /// Opens that were asked for.
    fn counted(vfs: &MemVfs, fault: Option<Fault>) -> Arc<AtomicUsize> {
        let opens = Arc::new(AtomicUsize::new(0));
        let seen = opens.clone();
        let count = move |call: &Call| {
            (call.kind == CallKind::Open && seen.fetch_add(1, Ordering::Relaxed) == 0).then_some(fault)?
        };
        vfs.set_faults(Some(Arc::new(count)));
        opens
    }

    type Files = Vec<Arc<Held<MemVfs>>>;

    fn shelf() -> (MemVfs, Arc<Shelf<MemVfs>>, Files) {
        let vfs = MemVfs::new();
        let shelf = Shelf::new(&vfs);
        let names: Vec<String> = (0..4).map(|n| format!("file {n}")).collect();
        for name in &names {
            write_all_at::<MemVfs>(&vfs.create(name).unwrap(), name.as_bytes(), 0).unwrap();
        }
        let files = names.into_iter().map(|name| shelf.hold(name)).collect();
        (vfs, shelf, files)
    }

    #[test]
    fn what_is_read_again_stays_open_and_the_others_are_closed() {
        let (vfs, shelf, files) = shelf();
        let opens = counted(&vfs, None);
        for turn in 0..9 {
            let file = &files[if turn % 2 == 0 { 0 } else { 1 + turn / 2 % 3 }];
            let mut read = [0; 6];
            file.open().unwrap().read_at(&mut read, 0).unwrap();
            assert_eq!(&read, file.path().as_bytes());
            assert!(lock(&shelf.open).len() <= MemVfs::HELD);
        }
        assert_eq!(opens.load(Ordering::Relaxed), 1 + 4, "the first once, each other anew");
    }

    #[test]
    fn a_reader_keeps_its_description_and_none_is_kept_of_what_is_gone() {
        let (vfs, shelf, files) = shelf();
        let reads = files[0].open().unwrap();
        files.iter().for_each(|file| drop(file.open().unwrap()));
        vfs.remove("file 0").unwrap();
        let mut read = [0; 6];
        assert_eq!(reads.read_at(&mut read, 0).unwrap(), 6);
        assert_eq!(files[0].open().unwrap_err().kind(), io::ErrorKind::NotFound);
        let open = |file: &Arc<Held<MemVfs>>| lock(&file.file).is_some();
        assert_eq!(files.iter().filter(|file| open(file)).count(), MemVfs::HELD);
        drop(files);
        assert!(lock(&shelf.open).iter().all(|held| held.upgrade().is_none()));
    }

    #[test]
    fn what_is_open_makes_way_where_no_descriptor_is_free() {
        let (vfs, _, files) = shelf();
        files[0].open().unwrap();
        let opens = counted(&vfs, Some(Fault::Errno(24)));
        files[1].open().unwrap();
        assert_eq!(opens.load(Ordering::Relaxed), 2);
        assert!(lock(&files[0].file).is_none());
        drop(files);
        // With nothing open there is nothing to close.
        let (vfs, _, files) = shelf();
        counted(&vfs, Some(Fault::Errno(23)));
        assert!(OutOfDescriptors::carried(&files[1].open().unwrap_err()).is_some());
    }
}
