//! Torn, rotten, or perhaps acknowledged: what open calls damage, beside what it is.
//!
//! I own the three truths. A frame that was being written when the power went is torn. One below a mark that
//! still stands is rotten. One above every mark was acknowledged, and nothing on the disk says so (L5).

use std::collections::BTreeMap;

use seawall::vfs::mem::{Image, MemVfs, PAGE};
use seawall::{Engine, Error, RecoveryReport};

use super::{Piece, Row};
use crate::engine::execute::open_options;
use crate::engine::media::{Known, flip, torn_tail};
use crate::engine::observe::observe;
use crate::engine::oracle::State;
use crate::engine::truth::{Frame, frames};

/// What is true of a damaged frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Truth {
    Torn,
    Rotten,
    Maybe,
}

/// What open says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// Nothing is missing: a twin stood in, or a byte without meaning was hit.
    Whole,
    /// Dropped, above everything that a mark proves.
    AboveMark,
    /// Named as lost.
    Lost,
    /// Missing, and nothing says so.
    Silent,
}

struct Trial {
    what: String,
    truth: Truth,
    image: Image,
    wanted: State,
}

/// Damages every frame of the newest segment, and tears one that is being written.
pub(super) fn matrix(piece: &Piece) -> Row {
    let known = Known::unclean::<MemVfs>();
    let mut row = Row::new("torn, rotten, maybe", "");
    let mut counts: BTreeMap<(Truth, Verdict), u64> = BTreeMap::new();
    let mut widest = 0;
    let trials = rotten(&known).chain(torn(&known));
    let each = |_, trial: Trial, _: &_| {
        let (verdict, width) = open(&trial);
        Some((trial, verdict, width))
    };
    piece.pool(&mut row, trials, each, |row, (trial, verdict, width)| {
        row.cases += 1;
        *counts.entry((trial.truth, verdict)).or_default() += 1;
        widest = widest.max(width);
        match (trial.truth, verdict) {
            (_, Verdict::Silent) | (Truth::Rotten, Verdict::AboveMark) => {
                row.silent += 1;
                row.tell(format!("{}: {:?} and called {verdict:?}", trial.what, trial.truth));
            }
            (Truth::Torn, Verdict::Lost) => {
                row.false_alarms += 1;
                row.tell(format!("{}: torn and called lost", trial.what));
            }
            _ => {}
        }
    });
    let cells = counts.iter().map(|((truth, verdict), n)| format!("{truth:?} called {verdict:?} {n}"));
    row.what = format!("{}; maybe_acked up to {widest} positions", cells.collect::<Vec<_>>().join(", "));
    row
}

/// Each frame of the newest segment with a bit flipped, a sector of zeros, or a sector of ones.
fn rotten(known: &Known) -> impl Iterator<Item = Trial> + Send {
    let file = newest(&known.image);
    let whole = known.state().clone();
    frames(&known.image, &file).into_iter().flat_map(move |frame| {
        let damaged = damages(&known.image, &file, frame);
        let (file, whole) = (file.clone(), whole.clone());
        damaged.map(move |(what, image)| {
            let truth = if frame.last <= known.proven(&image) { Truth::Rotten } else { Truth::Maybe };
            Trial { what: format!("{file}: {what}"), truth, image, wanted: whole.clone() }
        })
    })
}

fn damages(image: &Image, file: &str, frame: Frame) -> impl Iterator<Item = (String, Image)> + Send + use<> {
    let (image, file) = (image.clone(), file.to_owned());
    let sectors = (frame.at..frame.at + frame.len).step_by(PAGE);
    let (of_sectors, of_bits) = ((image.clone(), file.clone()), (image, file));
    let filled = sectors.flat_map(move |at| {
        let (image, file) = of_sectors.clone();
        [0, 0xff].map(move |byte| {
            let mut image = image.clone();
            image.files.get_mut(&file).expect("the newest segment").write(at, &[byte; PAGE]);
            (format!("sector at {at} of {byte:#04x}"), image)
        })
    });
    let bits = (frame.at * 8..(frame.at + frame.len) * 8).step_by(11);
    filled.chain(bits.map(move |bit| (format!("bit {bit} flipped"), flip(&of_bits.0, &of_bits.1, bit))))
}

/// A batch in flight, cut at every byte.
fn torn(known: &Known) -> impl Iterator<Item = Trial> + Send {
    let (image, wanted) = torn_tail::<MemVfs>(known);
    let file = newest(&image);
    let frame = *frames(&image, &file).last().expect("one was just written");
    (frame.at..=frame.at + frame.len).map(move |end| {
        let mut cut = image.clone();
        let content = cut.files.get_mut(&file).expect("the newest segment");
        let rest = usize::try_from(frame.at + frame.len - end).expect("small");
        content.write(end, &vec![0; rest]);
        Trial { what: format!("torn at byte {end}"), truth: Truth::Torn, image: cut, wanted: wanted.clone() }
    })
}

pub(super) fn newest(image: &Image) -> String {
    image.files.keys().rfind(|name| name.ends_with(".seg")).expect("a store has a segment").clone()
}

fn open(trial: &Trial) -> (Verdict, u64) {
    match Engine::open_in(MemVfs::from_image(trial.image.clone()), open_options()) {
        Err(Error::Corrupt { .. }) => (Verdict::Lost, 0),
        Err(_) => (Verdict::Silent, 0),
        Ok((_, report)) if !report.lost.is_empty() => (Verdict::Lost, 0),
        Ok((engine, report)) => {
            let whole = observe(&engine).is_ok_and(|seen| trial.wanted.admits(&seen));
            let verdict = match whole {
                true => Verdict::Whole,
                false if report.maybe_acked.is_some() => Verdict::AboveMark,
                false => Verdict::Silent,
            };
            (verdict, width(&report))
        }
    }
}

/// Positions inside `maybe_acked`.
fn width(report: &RecoveryReport) -> u64 {
    report.maybe_acked.map_or(0, |m| m.observed.0.saturating_sub(m.above.0))
}
