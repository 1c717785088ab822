//! Ways to make a trace wrong.
//!
//! I own mutations after which no behaviour of the specification leaves the trace. Each breaks one rule of
//! the log, and each is sure: it is tried only where nothing else in the trace makes it good.

use super::event::Event;
use super::translate::Recording;
use crate::engine::generate::Random;

/// What is done to a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// An acknowledgement comes before the sync of its frame.
    AckEarly,
    /// The only sync between a frame and its acknowledgement is not there.
    SyncDropped,
    /// Two frames change their positions.
    PositionsSwapped,
    /// A mark covers the frame that carries it.
    MarkRaised,
    /// The directory is not synced before a new segment is written.
    NameNotSynced,
    /// A new segment's start is not synced.
    HeadNotSynced,
    /// An open returns one frame less.
    FrameLost,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Wrong; 7] = [
        Wrong::AckEarly,
        Wrong::SyncDropped,
        Wrong::PositionsSwapped,
        Wrong::MarkRaised,
        Wrong::NameNotSynced,
        Wrong::HeadNotSynced,
        Wrong::FrameLost,
    ];

    /// The events after it; `None` where there is nothing to do it to.
    fn apply(self, events: &[Event]) -> Option<Vec<Event>> {
        let mut out = events.to_vec();
        match self {
            Self::AckEarly => {
                let (frame, ack) = acknowledged(events)?;
                let moved = out.remove(ack);
                out.insert(frame + 1, moved);
            }
            Self::SyncDropped => {
                let (frame, ack) = acknowledged(events)?;
                let syncs: Vec<usize> =
                    (frame..ack).filter(|at| matches!(events[*at], Event::Sync(_))).collect();
                let [only] = syncs[..] else { return None };
                out.remove(only);
            }
            Self::PositionsSwapped => swap_positions(&mut out)?,
            Self::MarkRaised => {
                let last = out.iter_mut().rev().find_map(|e| match e {
                    Event::Frame { again: false, mark, position, .. } => Some((mark, *position)),
                    _ => None,
                });
                let (mark, position) = last?;
                *mark = position;
            }
            Self::NameNotSynced => {
                let named = events.iter().rposition(|e| matches!(e, Event::Name { .. }))?;
                let dir = named + events[named..].iter().position(|e| *e == Event::Dir)?;
                out.remove(dir);
            }
            Self::HeadNotSynced => {
                let head = events.iter().rposition(|e| matches!(e, Event::Head { .. }))?;
                let sync = head + events[head..].iter().position(|e| matches!(e, Event::Sync(_)))?;
                out.remove(sync);
            }
            Self::FrameLost => {
                let opened = out.iter_mut().rev().find_map(|e| match e {
                    Event::Opened(frames) if *frames > 0 => Some(frames),
                    _ => None,
                });
                *opened? -= 1;
            }
        }
        Some(out)
    }
}

/// A frame and the first acknowledgement that covers it.
fn acknowledged(events: &[Event]) -> Option<(usize, usize)> {
    let written = |at: &usize| matches!(events[*at], Event::Frame { again: false, .. });
    (0..events.len()).rev().filter(written).find_map(|frame| {
        let Event::Frame { position, .. } = events[frame] else { return None };
        let covers = |e: &Event| matches!(e, Event::Ack(upto) if *upto >= position);
        events[frame..].iter().position(covers).map(|ack| (frame, frame + ack))
    })
}

fn swap_positions(events: &mut [Event]) -> Option<()> {
    let written = |e: &Event| matches!(e, Event::Frame { again: false, .. });
    let last = events.iter().rposition(written)?;
    let before = events[..last].iter().rposition(written)?;
    let (low, high) = events.split_at_mut(last);
    match (&mut low[before], &mut high[0]) {
        (Event::Frame { position: a, .. }, Event::Frame { position: b, .. }) => std::mem::swap(a, b),
        _ => return None,
    }
    Some(())
}

/// The trace made wrong in a way that the numbers pick among those that it allows.
///
/// # Panics
/// If it allows none: every trace has two frames and an open.
pub fn spoil(recording: &Recording, random: &mut Random) -> (Wrong, Recording) {
    let first = usize::try_from(random.below(Wrong::ALL.len() as u64)).expect("a few ways");
    let ways = (0..Wrong::ALL.len()).map(|n| Wrong::ALL[(first + n) % Wrong::ALL.len()]);
    let spoiled = ways.into_iter().find_map(|way| Some((way, way.apply(&recording.events)?)));
    let (way, events) = spoiled.expect("a position can always be swapped");
    (way, Recording { events, ..recording.clone() })
}
