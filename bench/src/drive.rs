//! Drives an engine through a workload for a while.
//!
//! I own the callers and the clock: all start at once, go on until the time is over, and keep the
//! latency of each acknowledgement. (B2) Every engine runs through the same lines. (B3) After each
//! [`FORGET_BYTES`] of payload the engine is told that everything before is needed no more, as a host
//! does that has a snapshot; what that costs is part of the measurement. I do not know the engines.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sample::{Latencies, Sample};
use crate::subject::{Item, Subject};
use crate::workload::{Shape, Workload};

/// How much is appended before older entries are given up.
pub const FORGET_BYTES: u64 = 64 << 20;
/// Different payloads.
const PAYLOADS: u64 = 1024;

/// An engine in the middle of a workload: what comes next in each group.
pub struct Run {
    subject: Arc<dyn Subject>,
    workload: Workload,
    callers: Vec<Mutex<Caller>>,
    data: Vec<Arc<[u8]>>,
}

/// Payloads of random bytes, so many that no compressor finds one twice in its window.
fn payloads(bytes: usize) -> Vec<Arc<[u8]>> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut one = || -> Arc<[u8]> { (0..bytes).map(|_| random.u8(..)).collect() };
    (0..PAYLOADS).map(|_| one()).collect()
}

/// Where one caller stands.
struct Caller {
    groups: Vec<u64>,
    next: u64,
    kept: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    /// The start of a workload.
    #[must_use]
    pub fn new(subject: Arc<dyn Subject>, workload: Workload) -> Self {
        let callers = match workload.shape {
            Shape::Callers(callers) => callers as u64,
            Shape::Deep(_) => 1,
        };
        let groups = |caller| if workload.groups > 1 { (0..workload.groups).collect() } else { vec![caller] };
        let callers =
            (0..callers).map(|c| Mutex::new(Caller { groups: groups(c), next: 1, kept: 0 })).collect();
        Self { subject, workload, callers, data: payloads(workload.bytes) }
    }

    /// Drives the workload until the time is over, at least one batch for each caller.
    pub fn go(&self, time: Duration) -> anyhow::Result<Sample> {
        match self.workload.shape {
            Shape::Callers(_) => self.callers(time),
            Shape::Deep(depth) => self.deep(depth, time),
        }
    }

    fn callers(&self, time: Duration) -> anyhow::Result<Sample> {
        let start = Barrier::new(self.callers.len() + 1);
        let stop = AtomicBool::new(false);
        let one = |caller: &Mutex<Caller>| -> anyhow::Result<Latencies> {
            let mut latencies = Latencies::default();
            let mut caller = lock(caller);
            start.wait();
            while latencies.count() == 0 || !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                self.subject.append(&self.batch(&mut caller))?;
                latencies.record(begun.elapsed());
                self.forget(&mut caller)?;
            }
            Ok(latencies)
        };
        std::thread::scope(|scope| {
            let one = &one;
            let threads: Vec<_> = self.callers.iter().map(|c| scope.spawn(move || one(c))).collect();
            start.wait();
            let begun = Instant::now();
            std::thread::sleep(time);
            stop.store(true, Ordering::Relaxed);
            let mut all = Latencies::default();
            let mut elapsed = Duration::ZERO;
            for thread in threads {
                all.add(&thread.join().expect("a caller does not panic")?);
                elapsed = begun.elapsed();
            }
            Ok(Sample::new(&all, elapsed))
        })
    }

    fn batch(&self, caller: &mut Caller) -> Vec<Item> {
        let indexes = caller.next..caller.next + self.workload.entries;
        caller.next = indexes.end;
        let of = |group: u64| indexes.clone().map(move |index| (group, index));
        let data =
            |group, index| self.data[usize::try_from((group + index) % PAYLOADS).expect("few")].clone();
        let item = |(group, index)| Item { group, index, data: data(group, index) };
        caller.groups.iter().flat_map(|group| of(*group)).map(item).collect()
    }

    fn forget(&self, caller: &mut Caller) -> anyhow::Result<()> {
        let each = (self.workload.bytes * self.callers.len() * caller.groups.len()) as u64;
        if (caller.next - 1 - caller.kept) * each < FORGET_BYTES {
            return Ok(());
        }
        caller.kept = caller.next - 1;
        let upto: Vec<_> = caller.groups.iter().map(|group| (*group, caller.kept)).collect();
        self.subject.forget(&upto)
    }

    fn deep(&self, depth: usize, time: Duration) -> anyhow::Result<Sample> {
        let window = Arc::new(Window::default());
        let queue = Arc::new(Queue::default());
        let mut caller = lock(&self.callers[0]);
        std::thread::scope(|scope| {
            let host = scope.spawn(|| queue.serve(&*self.subject));
            let begun = Instant::now();
            let mut result = Ok(());
            while begun.elapsed() < time && result.is_ok() {
                result = self.fill(depth, &window, &queue, &mut caller);
            }
            // What is in flight still counts: the clock stops when all of it is acknowledged.
            window.wait_for(1);
            let elapsed = begun.elapsed();
            queue.close();
            host.join().expect("the host does not panic");
            result?;
            let seen = std::mem::take(&mut *lock(&window.seen));
            seen.failed.map_or(Ok(()), |e| Err(anyhow::anyhow!(e)))?;
            Ok(Sample::new(&seen.latencies, elapsed))
        })
    }

    /// Fills the window with single entries once.
    fn fill(
        &self,
        depth: usize,
        window: &Arc<Window>,
        queue: &Queue,
        caller: &mut Caller,
    ) -> anyhow::Result<()> {
        for _ in 0..window.wait_for(depth) {
            for item in self.batch(caller) {
                let done = Done { begun: Instant::now(), window: Some(window.clone()) };
                if let Err((item, done)) = self.subject.submit(item, done) {
                    queue.push(item, done);
                }
            }
        }
        self.forget(caller)
    }
}

/// An entry in flight: called when it is durable, or will never be. To drop it is to say that it was refused.
pub struct Done {
    begun: Instant,
    /// `None` when it was called.
    window: Option<Arc<Window>>,
}

impl Done {
    /// Says what became of the entry.
    pub fn call(mut self, result: anyhow::Result<()>) {
        if let Some(window) = self.window.take() {
            window.settle(self.begun, result);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(window) = self.window.take() {
            window.settle(self.begun, Err(anyhow::anyhow!("an entry was refused")));
        }
    }
}

/// How many entries are in flight, and what became of the others.
#[derive(Default)]
struct Window {
    seen: Mutex<Seen>,
    settled: Condvar,
}

#[derive(Default)]
struct Seen {
    in_flight: usize,
    /// Fewer in flight than this wake the caller.
    wanted: usize,
    latencies: Latencies,
    failed: Option<String>,
}

impl Window {
    /// Waits until less than half of `depth` is in flight, takes the rest and says how many.
    fn wait_for(&self, depth: usize) -> usize {
        let mut seen = lock(&self.seen);
        let wanted = depth.div_ceil(2);
        seen.wanted = wanted;
        while seen.in_flight >= wanted {
            seen = self.settled.wait(seen).unwrap_or_else(PoisonError::into_inner);
        }
        if depth == 1 {
            return 0;
        }
        let free = depth - seen.in_flight;
        seen.in_flight = depth;
        free
    }

    fn settle(&self, begun: Instant, result: anyhow::Result<()>) {
        let mut seen = lock(&self.seen);
        seen.in_flight -= 1;
        match result {
            Ok(()) => seen.latencies.record(begun.elapsed()),
            Err(e) => seen.failed = Some(format!("{e:#}")),
        }
        // Once: each call is one of the kernel's, whether somebody waits or not.
        if seen.in_flight + 1 == seen.wanted {
            self.settled.notify_one();
        }
    }
}

/// What a host does whose engine has no callbacks: one thread takes all that is waiting as one batch.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<(Item, Done)>,
    closed: bool,
}

impl Queue {
    fn push(&self, item: Item, done: Done) {
        let mut waiting = lock(&self.waiting);
        waiting.entries.push_back((item, done));
        if waiting.entries.len() == 1 {
            self.filled.notify_one();
        }
    }

    fn close(&self) {
        lock(&self.waiting).closed = true;
        self.filled.notify_all();
    }

    fn serve(&self, subject: &dyn Subject) {
        let mut waiting = lock(&self.waiting);
        loop {
            if waiting.entries.is_empty() {
                if waiting.closed {
                    return;
                }
                waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (items, callbacks): (Vec<_>, Vec<_>) =
                std::mem::take(&mut waiting.entries).into_iter().unzip();
            drop(waiting);
            let result = subject.append(&items).map_err(|e| format!("{e:#}"));
            for done in callbacks {
                done.call(result.clone().map_err(|e| anyhow::anyhow!(e)));
            }
            waiting = lock(&self.waiting);
        }
    }
}
