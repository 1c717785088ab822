//! The engine as the checker's first subject.
//!
//! I own nothing but the order of the parts: [`oracle`] says what a store must hold, [`step`] and
//! [`generate`] which sequences are run, [`execute`] (with [`observe`] and the errors of `faults`) runs
//! one on the real engine, [`subject`] recovers a crash state of it, [`judge`] asks every property, and
//! [`campaign`] does that for a budget and signs a [`certificate`]. [`planted`] and [`mutants`] show that
//! all of it finds bugs; [`replicas`] damages several stores that heal each other; [`media`] and [`flip`]
//! damage what [`truth`] still proves; [`kill`] kills a real process on a real directory; [`reader`] asks a
//! second reader of the format about the same bytes; [`spec`] writes traces for the specification.

pub mod campaign;
pub mod certificate;
pub mod convert;
pub mod execute;
mod faults;
pub mod flip;
pub mod generate;
pub mod judge;
pub mod kill;
pub mod media;
pub mod mutants;
pub mod observe;
pub mod oracle;
pub mod planted;
pub mod reader;
pub mod replicas;
pub mod scoreboard;
pub mod spec;
pub mod step;
pub mod subject;
pub mod swept;
pub mod truth;

use std::cell::Cell;
use std::sync::Once;

thread_local! {
    static QUIET: Cell<u32> = const { Cell::new(0) };
}

/// While it lives, a panic of this thread is not printed: whoever catches it tells of it.
#[derive(Debug)]
pub struct Quiet(());

impl Drop for Quiet {
    fn drop(&mut self) {
        QUIET.set(QUIET.get() - 1);
    }
}

/// Panics of this thread are told, not printed, as long as the result lives.
#[must_use]
pub fn quiet() -> Quiet {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.get() == 0 {
                print(info);
            }
        }));
    });
    QUIET.set(QUIET.get() + 1);
    Quiet(())
}

/// What a caught panic said.
#[must_use]
pub fn panic_text(cause: &(dyn std::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

/// The result of `f`, or `None` if it panics, quietly.
pub fn quiet_result<T>(f: impl FnOnce() -> T) -> Option<T> {
    let _quiet = quiet();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).ok()
}
