//! Spreads numbered work over threads and takes the results in order.
//!
//! I own the order: results are handed over by number, without gaps, whatever thread was faster, so that
//! what comes out does not depend on the number of threads, and a later call can go on at `next`. A clock
//! decides only when to stop, never what comes out below `next`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// How far a pool came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The first number whose result was not taken.
    pub next: u64,
    /// Whether the work ran out, and not the time or the patience of the one who takes the results.
    pub finished: bool,
}

/// Does `work` on `jobs` threads. The items are numbered from `first`. `each` does one item, and gives
/// `None` if it stopped because the flag was raised; `take` gets the results in the order of their
/// numbers, under a lock, and may break; after `limit` no more is begun and the flag is raised.
///
/// # Panics
/// If `jobs` is 0, or if `each` or `take` panics.
pub fn pool<W, R, I>(
    jobs: usize,
    first: u64,
    work: I,
    limit: Option<Duration>,
    each: impl Fn(u64, W, &AtomicBool) -> Option<R> + Sync,
    take: impl FnMut(u64, R) -> ControlFlow<()> + Send,
) -> Progress
where
    I: Iterator<Item = W> + Send,
    R: Send,
{
    assert!(jobs > 0, "nobody to do the work");
    let stop = AtomicBool::new(false);
    let source = Mutex::new((first, work, false));
    let results = Mutex::new(Results { next: first, waiting: BTreeMap::new(), take, ended: false });
    let running = (Mutex::new(jobs), Condvar::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let _leaves = Leaves { running: &running, stop: &stop };
                while !stop.load(Ordering::Relaxed) {
                    let Some((number, item)) = draw(&source) else { break };
                    let Some(result) = each(number, item, &stop) else { break };
                    if lock(&results).hand_over(number, result).is_break() {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        wait(&running, limit, &stop);
    });
    let next = lock(&results).next;
    let source = lock(&source);
    Progress { next, finished: source.2 && next == source.0 }
}

struct Results<R, F> {
    next: u64,
    waiting: BTreeMap<u64, R>,
    take: F,
    /// Whether `take` broke: what others still finish is not taken.
    ended: bool,
}

impl<R, F: FnMut(u64, R) -> ControlFlow<()>> Results<R, F> {
    fn hand_over(&mut self, number: u64, result: R) -> ControlFlow<()> {
        self.waiting.insert(number, result);
        while !self.ended
            && let Some(result) = self.waiting.remove(&self.next)
        {
            let number = self.next;
            self.next += 1;
            self.ended = (self.take)(number, result).is_break();
        }
        if self.ended { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The next item and its number; notes when there is none.
fn draw<W>(source: &Mutex<(u64, impl Iterator<Item = W>, bool)>) -> Option<(u64, W)> {
    let mut source = lock(source);
    if source.2 {
        return None;
    }
    let Some(item) = source.1.next() else {
        source.2 = true;
        return None;
    };
    source.0 += 1;
    Some((source.0 - 1, item))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread of the pool panicked")
}

/// Says that a thread is done, also when it panics.
struct Leaves<'a> {
    running: &'a (Mutex<usize>, Condvar),
    stop: &'a AtomicBool,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.stop.store(true, Ordering::Relaxed);
        }
        if let Ok(mut running) = self.running.0.lock() {
            *running -= 1;
        }
        self.running.1.notify_all();
    }
}

/// Waits for the threads, or for the limit and then raises the flag.
fn wait(running: &(Mutex<usize>, Condvar), limit: Option<Duration>, stop: &AtomicBool) {
    let Some(limit) = limit else { return };
    let end = Instant::now() + limit;
    let mut left = lock(&running.0);
    while *left > 0 {
        let Some(rest) = end.checked_duration_since(Instant::now()) else {
            stop.store(true, Ordering::Relaxed);
            return;
        };
        left = running.1.wait_timeout(left, rest).expect("no thread of the pool panicked").0;
    }
}
