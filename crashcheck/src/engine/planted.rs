//! The simulated disk with a switch for the engine's planted bugs.
//!
//! I own the one place where a bug can be on: [`PlantedVfs`], for the thread that switched it on. The
//! engine over any other file system asks a constant. I do not know how bugs are found (see mutants).

use std::cell::Cell;
use std::io;

use seawall::planted::Bug;
use seawall::vfs::mem::{MemFile, MemVfs};
use seawall::vfs::{Access, Vfs};

thread_local! {
    static CURRENT: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// A file system that stands on a simulated disk.
pub trait Disk: Vfs {
    /// Over this disk.
    fn over(mem: MemVfs) -> Self;
    /// The disk.
    fn mem(&self) -> &MemVfs;
}

impl Disk for MemVfs {
    fn over(mem: MemVfs) -> Self {
        mem
    }

    fn mem(&self) -> &MemVfs {
        self
    }
}

/// The simulated disk, and the engine over it with one bug.
#[derive(Clone)]
pub struct PlantedVfs(MemVfs);

impl Disk for PlantedVfs {
    fn over(mem: MemVfs) -> Self {
        Self(mem)
    }

    fn mem(&self) -> &MemVfs {
        &self.0
    }
}

/// Runs `f` with a bug switched on in this thread; off again afterwards, also after a panic.
pub fn with<T>(bug: Option<Bug>, f: impl FnOnce() -> T) -> T {
    struct Restore(Option<Bug>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(bug));
    f()
}

impl Vfs for PlantedVfs {
    type File = MemFile;

    const PIECE: usize = MemVfs::PIECE;

    const HELD: usize = MemVfs::HELD;

    fn create_root(&self) -> io::Result<()> {
        self.0.create_root()
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn create(&self, path: &str) -> io::Result<MemFile> {
        self.0.create(path)
    }

    fn open(&self, path: &str, access: Access) -> io::Result<MemFile> {
        self.0.open(path, access)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn available_space(&self) -> io::Result<u64> {
        self.0.available_space()
    }

    fn entropy(&self) -> io::Result<[u8; 16]> {
        self.0.entropy()
    }

    fn planted(bug: Bug) -> bool {
        CURRENT.get() == Some(bug)
    }
}
