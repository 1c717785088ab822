//! What came of the cases, as plain values.
//!
//! I own the shape of the result and how a case that panics is told. I run nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;

/// Why a case was not passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The store does not do what is asked.
    Failed(String),
    /// It cannot be asked here, or not of this store: neither a failure nor a pass.
    NotMeasured(String),
}

impl From<String> for Miss {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<&str> for Miss {
    fn from(reason: &str) -> Self {
        Self::Failed(reason.to_owned())
    }
}

/// What a case came to.
pub type Verdict = Result<(), Miss>;

/// A case that a store did not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// The case.
    pub case: String,
    /// What was seen.
    pub reason: String,
}

/// What came of the cases of one store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Cases that ran.
    pub cases: usize,
    /// Cases that passed.
    pub passed: usize,
    /// Those that did not.
    pub failed: Vec<Missed>,
    /// Cases that could not run; they are not among `cases`.
    pub not_measured: Vec<Missed>,
}

impl Tally {
    /// Runs a case and counts it; a panic fails it.
    pub fn run(&mut self, case: impl Into<String>, run: impl FnOnce() -> Verdict) {
        let case = case.into();
        match caught(run).unwrap_or_else(|panic| Err(Miss::Failed(panic))) {
            Ok(()) => {
                self.cases += 1;
                self.passed += 1;
            }
            Err(Miss::Failed(reason)) => {
                self.cases += 1;
                self.failed.push(Missed { case, reason });
            }
            Err(Miss::NotMeasured(reason)) => self.not_measured.push(Missed { case, reason }),
        }
    }

    /// Adds the cases of another tally, each under a name of its kind.
    pub fn add(&mut self, kind: &str, other: Self) {
        let named = |missed: Vec<Missed>| {
            missed
                .into_iter()
                .map(|m| Missed { case: format!("{kind}: {}", m.case), ..m })
                .collect::<Vec<_>>()
        };
        self.cases += other.cases;
        self.passed += other.passed;
        self.failed.extend(named(other.failed));
        self.not_measured.extend(named(other.not_measured));
    }
}

/// Runs what may panic; the panic's text is the error.
///
/// # Errors
/// If it panics.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("panicked: {}", text.unwrap_or("without a message"))
    })
}
