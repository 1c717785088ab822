//! The drawing of a class: time from left to right, a lane for each file, directory and acknowledgement.
//!
//! I own where things stand. Each step of the timeline has a column; the crash is a line between two of
//! them, and the missing sync an open ring where it belongs. A drawing that would have too many columns
//! shows those around the loss; the table under it has them all.

use maud::{Markup, html};

use super::word;
use crate::program::classes::{Class, Fate, Line};

/// How wide a column is, at least and at most; a drawing fills the page if it can.
const COLUMN: [usize; 2] = [68, 130];
const WIDTH: usize = 930;
const LANE: usize = 34;
const LEFT: usize = 190;
const RIGHT: usize = 30;
const TOP: usize = 30;
const MOST_COLUMNS: usize = 40;
/// How many characters a lane's name may have.
const NAME: usize = 24;

/// The last characters of a name that is too long.
fn short(name: &str) -> String {
    let count = name.chars().count();
    if count <= NAME {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(count + 1 - NAME).collect();
    format!("\u{2026}{tail}")
}

struct Mark<'c> {
    line: &'c Line,
    lane: usize,
    x: usize,
}

struct Layout<'c> {
    lanes: Vec<&'c str>,
    marks: Vec<Mark<'c>>,
    /// How wide a column is.
    column: usize,
    /// Where the crash is, from the left.
    crash: usize,
}

fn layout(class: &Class) -> Layout<'_> {
    let from = class.timeline.len().saturating_sub(MOST_COLUMNS);
    let shown = &class.timeline[from..];
    let (mut lanes, mut marks) = (Vec::new(), Vec::new());
    let wide = ((WIDTH - LEFT - RIGHT) / shown.len().max(1)).clamp(COLUMN[0], COLUMN[1]);
    let x = |column: usize| LEFT + column * wide + wide / 2;
    let mut crash = x(shown.len()) - wide / 2;
    for (column, line) in shown.iter().enumerate() {
        let lane = lanes.iter().position(|known| *known == line.about).unwrap_or_else(|| {
            lanes.push(&*line.about);
            lanes.len() - 1
        });
        if line.step == class.state.cut {
            crash = x(column) - wide / 2;
        }
        marks.push(Mark { line, lane, x: x(column) });
    }
    Layout { lanes, marks, column: wide, crash }
}

/// The drawing.
pub(super) fn chart(class: &Class) -> Markup {
    let layout = layout(class);
    let width = LEFT + layout.marks.len().max(1) * layout.column + RIGHT;
    let bottom = TOP + layout.lanes.len() * LANE;
    let height = bottom + 42;
    let title = format!("The steps before the crash of state {}, by file", class.id);
    html! {
        div.scroll.chart {
            svg role="img" aria-label=(title) viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) {
                @for (row, name) in layout.lanes.iter().enumerate() {
                    @let y = TOP + row * LANE + LANE / 2;
                    line.lane x1=(LEFT) x2=(width) y1=(y) y2=(y) {}
                    text.name x="0" y=(y + 4) { (short(name)) title { (name) } }
                }
                rect.beyond x=(layout.crash) y=(TOP - 8) width=(width - layout.crash) height=(bottom - TOP + 14) {}
                line.crash x1=(layout.crash) x2=(layout.crash) y1=(TOP - 8) y2=(bottom + 6) {}
                text.crash x=(layout.crash) y=(TOP - 14) text-anchor="middle" { "crash" }
                @for mark in &layout.marks { (draw(mark, class)) }
                @for mark in &layout.marks {
                    text.step x=(mark.x) y=(bottom + 18) text-anchor="middle" { (mark.line.step) }
                    text.call x=(mark.x) y=(bottom + 34) text-anchor="middle" { (mark.line.call) }
                }
                text.step x="0" y=(bottom + 18) { "step" }
            }
        }
    }
}

/// A step: a box, a bar for a sync, a disc for an acknowledgement; what it was, where the mouse rests.
fn draw(mark: &Mark<'_>, class: &Class) -> Markup {
    let y = TOP + mark.lane * LANE + LANE / 2;
    let (x, fate) = (mark.x, mark.line.fate);
    let about = format!("step {}, {}: {} {}", mark.line.step, word(fate), mark.line.call, mark.line.text);
    let belongs = class.missing_sync.is_some() && class.after.first() == Some(&mark.line.step);
    let shape = word(fate);
    html! {
        g.mark.(shape) {
            title { (about) }
            @match fate {
                Fate::Sync => rect x=(x - 4) y=(y - 13) width="8" height="26" rx="2" {},
                Fate::Ack | Fate::Begin => circle cx=(x) cy=(y) r="8" {},
                _ => {
                    rect x=(x - 17) y=(y - 10) width="34" height="20" rx="4" {}
                    @if matches!(fate, Fate::Lost | Fate::Partly) {
                        path d=(format!("M{} {}l10 10m0 -10l-10 10", x - 5, y - 5)) {}
                    }
                }
            }
        }
        @if belongs {
            g.missing {
                title { "the missing sync belongs here" }
                circle cx=(x + 26) cy=(y) r="7" {}
                text x=(x + 26) y=(y + 4) text-anchor="middle" { "+" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(short("names in the directory"), "names in the directory");
        let long = short("a/very/long/path/to/some/segment.log");
        assert_eq!(long.chars().count(), NAME);
        assert!(long.starts_with('\u{2026}') && long.ends_with("/some/segment.log"), "{long}");
    }
}
