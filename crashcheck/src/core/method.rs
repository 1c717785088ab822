//! What other ways of testing for crashes would have tried.
//!
//! I own three of them, for comparison only: each tries fewer states than a crash can leave. I do not choose
//! states (see `choices`); I say whether one is within a method's reach.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::core::choices::Choice;
use crate::core::micro::Effect;

/// Which of the crash states are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// All that the profile allows.
    #[default]
    All,
    /// Those that killing a process leaves: nothing is lost.
    Kill,
    /// Those in which every name is there and each file holds a prefix of what was done to it.
    FilePrefix,
    /// Those in which data and lengths are lost in any way and names never.
    DataLoss,
}

/// The methods that are weaker than [`Method::All`].
pub const WEAKER: [Method; 3] = [Method::Kill, Method::FilePrefix, Method::DataLoss];

impl Method {
    /// Whether it tries a choice among the micro-operations in doubt, which are in the order of issue.
    #[must_use]
    pub fn tries(self, choice: &Choice, in_doubt: &[&Effect]) -> bool {
        let kept = |n: &usize| choice.kept.has(*n);
        let names = || (0..in_doubt.len()).filter(|n| in_doubt[*n].file().is_none()).all(|n| kept(&n));
        match self {
            Self::All => true,
            Self::Kill => choice.tear.is_none() && (0..in_doubt.len()).all(|n| kept(&n)),
            Self::FilePrefix => choice.tear.is_none() && names() && prefixes(choice, in_doubt),
            Self::DataLoss => names(),
        }
    }
}

/// Whether nothing of a file is kept after something of it that is not.
fn prefixes(choice: &Choice, in_doubt: &[&Effect]) -> bool {
    let mut ended = BTreeSet::new();
    in_doubt.iter().enumerate().filter_map(|(n, effect)| Some((n, effect.file()?))).all(|(n, file)| {
        if !choice.kept.has(n) {
            ended.insert(file);
            return true;
        }
        !ended.contains(&file)
    })
}
