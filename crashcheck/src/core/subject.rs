//! What the core asks of the storage code under test: recover this disk, and judge what came back.
//!
//! I own the interface. A subject is deterministic: the same image gives the same answer and the same
//! recorded trace, in any thread, in any order. I do not know what a history is; the core passes a
//! [`Cut`] and the subject knows what had been issued and acknowledged by then.

use crate::core::image::Image;
use crate::core::trace::{Cut, Trace};

/// Storage code with an oracle.
pub trait Subject: Sync {
    /// One executed sequence of operations with its history and its trace.
    type Run: Sync;

    /// What a completed recovery showed to its user.
    type Exposed: Clone + Send;

    /// The trace of a run.
    fn trace<'a>(&self, run: &'a Self::Run) -> &'a Trace;

    /// A number for what the judge sees at a cut. Equal numbers mean equal histories, within a run and
    /// across runs: a state counts once by its bytes and its judged history. For cuts of one run it may
    /// change only at a mark.
    fn history_key(&self, run: &Self::Run, cut: Cut) -> u64;

    /// A number for an exposed state; equal numbers mean equal states.
    fn exposed_key(&self, exposed: &Self::Exposed) -> u64;

    /// The first cut worth exploring; all cuts before it are those of another run, which is explored as
    /// well (a longer sequence need not repeat its prefix).
    fn first_cut(&self, _run: &Self::Run) -> usize {
        0
    }

    /// Recovers `image` with the unmodified program, and judges the result against the run's history
    /// up to `cut`.
    ///
    /// `exposed` is the state that an earlier recovery completed with and showed just before this
    /// crash: the result must equal it. With `record`, the trace of the recovery itself comes back,
    /// from `image` up to the moment when it exposed its result.
    ///
    /// A panic is caught by the core and counts as a violation of P22.
    fn check(
        &self,
        run: &Self::Run,
        cut: Cut,
        image: Image,
        exposed: Option<&Self::Exposed>,
        record: bool,
    ) -> Checked<Self::Exposed>;
}

/// What a subject said of one state.
#[derive(Clone, Debug)]
pub struct Checked<E> {
    /// What was wrong; empty if nothing was.
    pub violations: Vec<Violation>,
    /// The recovery's own trace, if it was asked for; `initial` may be left empty (it is the image).
    pub trace: Option<Trace>,
    /// What the recovery exposed; `None` if it refused.
    pub exposed: Option<E>,
}

impl<E> Checked<E> {
    /// Nothing wrong, nothing recorded.
    #[must_use]
    pub fn fine(exposed: E) -> Self {
        Self { violations: Vec::new(), trace: None, exposed: Some(exposed) }
    }
}

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name in the model, such as `"P1"`.
    pub property: &'static str,
    /// Whether the user would not have noticed.
    pub silent: bool,
    /// Whether an alarm was raised with no fault to explain it.
    pub false_alarm: bool,
    /// What was expected and what came.
    pub text: String,
}
