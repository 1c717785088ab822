//! Makes a finding small: first the sequence of operations, then the state.
//!
//! I own delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
//! 2002) over any list, and what a list of losses is. I do not know how a sequence is run: the caller
//! does that.

use crate::core::choices::{Bounds, Choice, Mask, Order, Tear};
use crate::core::replay::{Id, replay};
use crate::core::subject::Subject;

/// A shorter list that still fails, in order; taking any one element out of it no longer does.
/// `fails` must hold for `items`; it is not asked for them again.
pub fn ddmin<T: Clone>(items: &[T], mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut items = items.to_vec();
    let mut parts = 2;
    while !items.is_empty() {
        let size = items.len().div_ceil(parts);
        let shorter = (0..items.len()).step_by(size).find_map(|start| {
            let end = (start + size).min(items.len());
            let rest = [&items[..start], &items[end..]].concat();
            fails(&rest).then_some(rest)
        });
        match shorter {
            Some(rest) => {
                items = rest;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(items.len()),
        }
    }
    items
}

/// What a choice takes from the full state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Lost(usize),
    Torn(Tear),
}

/// A state that violates the property as well, with no more recoveries cut than needed, and to which
/// nothing that is lost or torn can be given back; the given one if it does not violate it.
pub fn minimise_state<S: Subject>(subject: &S, run: &S::Run, bounds: &Bounds, id: &Id, property: &str) -> Id {
    let violates = |id: &Id| {
        let replayed = replay(subject, run, bounds, id);
        replayed.is_ok_and(|r| r.violations.iter().any(|v| v.property == property))
    };
    if !violates(id) {
        return id.clone();
    }
    let (first, recoveries) = id.path.split_first().expect("a name has a cut");
    let through = |recoveries: &[(usize, Choice)]| {
        let path = [&[*first], recoveries].concat();
        Id { path, ..id.clone() }
    };
    let mut best = through(&ddmin(recoveries, |fewer| violates(&through(fewer))));
    for depth in 0..best.path.len() {
        let Ok(replayed) = replay(subject, run, bounds, &best) else { return best };
        let order = &replayed.orders[depth];
        let with = |losses: &[Loss]| {
            let mut id = best.clone();
            id.path[depth].1 = choice(order, losses)?;
            Some(id)
        };
        let all = losses(order, &best.path[depth].1);
        let few = ddmin(&all, |losses| with(losses).is_some_and(|id| violates(&id)));
        best = with(&few).unwrap_or(best);
    }
    best
}

fn losses(order: &Order, choice: &Choice) -> Vec<Loss> {
    let torn = choice.tear.map(|tear| tear.bit);
    let lost = (0..order.len()).filter(|bit| !choice.kept.has(*bit) && Some(*bit) != torn);
    lost.map(Loss::Lost).chain(choice.tear.map(Loss::Torn)).collect()
}

/// The choice of the given losses, unless what is torn is lost.
fn choice(order: &Order, losses: &[Loss]) -> Option<Choice> {
    let (mut lost, mut tear) = (Mask::default(), None);
    for loss in losses {
        match loss {
            Loss::Lost(bit) => lost.insert(*bit),
            Loss::Torn(torn) => tear = Some(*torn),
        }
    }
    if let Some(tear) = tear {
        if !order.without(&lost).has(tear.bit) {
            return None;
        }
        lost.insert(tear.bit);
    }
    Some(Choice { kept: order.without(&lost), tear })
}
