//! Callbacks, on a thread of their own or on the thread at hand.
//!
//! I own the order: callbacks are called once each, in the order in which they were handed over, under no lock.
//! (C11) Where no thread can be started, whoever settles a frame calls them, one caller at a time. I do not know
//! what an outcome means.

use std::collections::VecDeque;
use std::sync::{Mutex, mpsc};

use super::Callback;
use super::front::Callbacks;
use crate::sync::{Worker, lock};
use crate::types::{Outcome, Position};

/// Callbacks that wait for the same outcome.
type Told = (Callbacks, Outcome);

/// The way to a thread that calls back.
type Thread = (mpsc::Sender<Told>, Worker);

/// The thread that calls back, once there is something to call; or what waits for a thread at hand.
pub(super) struct Delivery {
    start: fn() -> std::io::Result<Thread>,
    thread: Option<Thread>,
    waiting: VecDeque<Told>,
    /// Somebody calls what waits.
    calling: bool,
}

impl Default for Delivery {
    fn default() -> Self {
        Self { start, thread: None, waiting: VecDeque::new(), calling: false }
    }
}

impl Delivery {
    /// Takes callbacks over. Where this says so, [`call_waiting`] must follow under no lock.
    #[must_use]
    pub(super) fn take(&mut self, callbacks: Callbacks, outcome: Outcome) -> bool {
        if callbacks.is_empty() {
            return false;
        }
        if self.thread.is_none() && self.waiting.is_empty() && !self.calling {
            self.thread =
                (self.start)().inspect_err(|e| tracing::warn!(%e, "no thread to call back on")).ok();
        }
        match &self.thread {
            Some((sender, _)) => {
                sender.send((callbacks, outcome)).expect("the thread outlives its sender");
                false
            }
            None => {
                self.waiting.push_back((callbacks, outcome));
                true
            }
        }
    }

    /// The thread, which ends when it has called all that it was given.
    pub(super) fn end(&mut self) -> Option<Worker> {
        self.thread.take().map(|(_, thread)| thread)
    }
}

fn start() -> std::io::Result<Thread> {
    let (sender, receiver) = mpsc::channel();
    let run = move || receiver.into_iter().for_each(|(callbacks, outcome)| call_all(callbacks, outcome));
    let thread = Worker::start("seawall-delivery", run)?;
    Ok((sender, thread))
}

/// Calls what waits, unless somebody does.
pub(super) fn call_waiting(delivery: &Mutex<Delivery>) {
    let next = |done: bool| {
        let mut delivery = lock(delivery);
        if delivery.calling && !done {
            return None;
        }
        let next = delivery.waiting.pop_front();
        delivery.calling = next.is_some();
        next
    };
    let mut told = next(false);
    while let Some((callbacks, outcome)) = told {
        call_all(callbacks, outcome);
        told = next(true);
    }
}

pub(super) fn call_all(callbacks: impl IntoIterator<Item = (Position, Callback)>, outcome: Outcome) {
    callbacks.into_iter().for_each(|(_, callback)| call(callback, outcome));
}

pub(super) fn call(callback: Callback, outcome: Outcome) {
    let run = std::panic::AssertUnwindSafe(|| callback(outcome));
    if std::panic::catch_unwind(run).is_err() {
        tracing::error!("a callback panicked");
        metrics::counter!("seawall_callback_panics").increment(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Callbacks that are handed over while one of them runs are called after it, by who calls already.
    #[test]
    fn without_a_thread_callbacks_are_called_once_each_in_order() {
        let delivery = Arc::new(Mutex::new(Delivery {
            start: || Err(std::io::ErrorKind::WouldBlock.into()),
            ..Delivery::default()
        }));
        let (told, calls) = mpsc::channel();
        let give = |n: u64, inner: Vec<u64>| {
            let (told, again, more) = (told.clone(), delivery.clone(), told.clone());
            let callback: Callback = Box::new(move |outcome| {
                told.send((n, outcome)).unwrap();
                for n in inner {
                    let more = more.clone();
                    let callback: Callback = Box::new(move |outcome| more.send((n, outcome)).unwrap());
                    assert!(lock(&again).take(vec![(Position(n), callback)], Outcome::Durable));
                    call_waiting(&again);
                }
            });
            assert!(lock(&delivery).take(vec![(Position(n), callback)], Outcome::Durable));
        };
        give(1, vec![4, 5]);
        give(2, vec![]);
        give(3, vec![]);
        call_waiting(&delivery);
        let order: Vec<_> = calls.try_iter().collect();
        assert_eq!(order, [1, 2, 3, 4, 5].map(|n| (n, Outcome::Durable)));
        assert!(!lock(&delivery).calling && lock(&delivery).waiting.is_empty());
    }
}
