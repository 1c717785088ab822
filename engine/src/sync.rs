//! Locks whose holder may have panicked, and threads that a forked child does not have.
//!
//! I own two rules. Nobody panics because somebody else did: what a panic may have left half done, the owner of
//! the lock says and sees to (see commit for the front and the log). Nobody waits for a thread of another process.
//! I know nothing of what is locked, nor of what a thread does.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Takes a lock, whatever became of who held it last.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `run` says; if it panics, an error that says so.
pub(crate) fn unwound<T>(run: impl FnOnce() -> T) -> std::io::Result<T> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| std::io::Error::other("the writing thread panicked"))
}

/// The process that made something. A child that was forked since has none of its threads, and maybe locks that
/// nobody gives back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn this() -> Self {
        Self(std::process::id())
    }

    pub(crate) fn is_this(self) -> bool {
        self.0 == std::process::id()
    }
}

/// A thread that the process that started it can wait for.
#[derive(Debug)]
pub(crate) struct Worker {
    thread: JoinHandle<()>,
    process: Process,
}

impl Worker {
    pub(crate) fn start(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self { thread, process: Process::this() })
    }

    /// Whether the thread is one of this process.
    pub(crate) fn is_here(&self) -> bool {
        self.process.is_this()
    }

    /// Whether this is the thread at hand.
    pub(crate) fn is_current(&self) -> bool {
        self.thread.thread().id() == std::thread::current().id()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It panicked; or it is another process's, and what it did there is not known.
    pub(crate) fn join(self) -> Result<(), Box<dyn Any + Send>> {
        if self.is_here() { self.thread.join() } else { Err(Box::new("the thread of another process")) }
    }
}
