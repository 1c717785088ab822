//! Shows that a bug in a reader would be seen: each planted one makes the answers differ.
//!
//! I own the list of the planted bugs that sit in what only reads. A bug of the list that no case tells apart
//! means that the cases do not reach it.

use std::collections::BTreeMap;

use seawall::planted::Bug;

use super::super::planted::{PlantedVfs, with};
use super::bases::Bases;
use super::pipe::Reader;
use super::{BATCH, Settings, answer_of, cases, pipe, unavailable};

/// Runs of fewer cases than this go without.
pub(super) const LEAST: u64 = 10_000;
/// A bug that so many cases do not tell apart goes unseen.
const PATIENCE: u64 = 16_384;

/// Planted bugs of scanning, deciding and reading.
const BUGS: &[Bug] = &[
    Bug::PayloadUnchecked,
    Bug::PaddingAsserted,
    Bug::ReadUnchecked,
    Bug::HolesUnseen,
    Bug::MissingLastUnseen,
    Bug::RotTakenForTorn,
    Bug::TornCalledCorrupt,
    Bug::ShortChunkAccepted,
    Bug::ForeignChunkAccepted,
    Bug::ChunkHashUnchecked,
    Bug::FramesUnchecked,
    Bug::ZerosEndLog,
    Bug::DirectoryUnchecked,
    Bug::FrameHeaderUnchecked,
    Bug::HeaderUnchecked,
    Bug::RunsUnchecked,
    Bug::StateUnchecked,
    Bug::IdentityUnchecked,
    Bug::HighWaterUnchecked,
    Bug::TwinIgnored,
    Bug::InterruptedStartIsDamage,
    Bug::DamagedStartForgiven,
    Bug::RecoveredToIgnored,
    Bug::MaybeAckedUnsaid,
    Bug::HollowAboveMark,
    Bug::StaleFramePasses,
];

/// The first case that tells each bug apart.
pub(super) fn run(settings: &Settings, bases: &Bases) -> Result<BTreeMap<&'static str, u64>, String> {
    let mut reader = Reader::start(bases).map_err(|e| unavailable(&e))?;
    let mut seen = BTreeMap::new();
    let mut unseen = BUGS.to_vec();
    for from in (0..PATIENCE).step_by(usize::try_from(BATCH).expect("small")) {
        let made: Vec<_> = (from..from + BATCH).map(|n| cases::make(bases, settings.seed, n)).collect();
        let coded: Vec<_> = made.iter().map(|case| pipe::encode(case, &bases.images[case.base])).collect();
        reader.ask(&coded).map_err(|e| unavailable(&e))?;
        let theirs = reader.answers(made.len()).map_err(|e| unavailable(&e))?;
        unseen.retain(|bug| {
            let differs = |(case, theirs): (&cases::Case, &String)| {
                !theirs.contains("packed")
                    && with(Some(*bug), || answer_of::<PlantedVfs>(bases, case)) != *theirs
            };
            let Some(n) = made.iter().zip(&theirs).position(differs) else { return true };
            seen.insert(bug.name(), from + n as u64);
            false
        });
        if unseen.is_empty() {
            return Ok(seen);
        }
    }
    let names: Vec<_> = unseen.iter().map(|bug| bug.name()).collect();
    Err(format!("{PATIENCE} cases of seed {} do not show the planted bugs {names:?}", settings.seed))
}
