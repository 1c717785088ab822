//! Locks whose holder may have panicked.
//!
//! I own one rule: nobody panics because somebody else did. What a panic may have left half done, the owner of
//! the lock says and sees to (see commit for the front and the log). I know nothing of what is locked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, whatever became of who held it last.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `run` says; if it panics, an error that says so.
pub(crate) fn unwound<T>(run: impl FnOnce() -> T) -> std::io::Result<T> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| std::io::Error::other("the writing thread panicked"))
}
