//! What the bytes of a damaged store still prove, read as the format is written down.
//!
//! I own a reader of marks and of one-sector differences that shares no code with the engine. (K3) A mark
//! counts if the bytes that carry it are as they were; what lies below it was acknowledged, and may be
//! missing only by name. I do not know what an engine makes of it (see media).

use std::ops::Range;
use std::sync::Arc;

use seawall::types::Position;
use seawall::vfs::mem::{Content, Image, PAGE};

/// The file that says how far a store had come.
const HIGHWATER: &str = "HIGHWATER";
/// Where a slot of it holds a position, and how long the slot is.
const SLOT: (Range<usize>, u64) = (40..48, 52);
/// Where its slots start.
const SLOTS: [u64; 2] = [0, 4096];
/// A frame's first bytes, and the length of its header.
const FRAME: (&[u8; 4], u64) = (b"SWFR", 104);
/// Where a frame's header says what it is, how long, how far its twin, what it holds, and its mark.
const COPY: usize = 9;
const FRAME_LEN: Range<usize> = 16..20;
const RECORDS: Range<usize> = 32..36;
const TWIN: Range<usize> = 36..40;
const FIRST: Range<usize> = 80..88;
const OFFSET: Range<usize> = 44..48;
const SEGMENT: Range<usize> = 48..56;
const MARK: Range<usize> = 88..96;

/// A mark and the bytes that carry it.
#[derive(Clone, Debug)]
struct Mark {
    position: Position,
    file: String,
    at: u64,
    bytes: Vec<u8>,
}

/// Every mark of an undamaged store, the highest first.
#[derive(Clone, Debug)]
pub struct Marks(Vec<Mark>);

impl Marks {
    /// Reads them. `closed` is the last position of a store that was closed: its high-water file proves it,
    /// whatever it says.
    #[must_use]
    pub fn of(image: &Image, closed: Option<Position>) -> Self {
        let mut marks = Vec::new();
        for (file, content) in &image.files {
            if file == HIGHWATER {
                for at in SLOTS {
                    let bytes = read(image, file, at, SLOT.1);
                    let position = closed.unwrap_or_else(|| Position(number(&bytes[SLOT.0])));
                    marks.push(Mark { position, file: file.clone(), at, bytes });
                }
            }
            let Some(id) = file.strip_suffix(".seg") else { continue };
            let id = u64::from_str_radix(id, 16).expect("a segment's name is a number");
            for at in (0..content.len).step_by(PAGE) {
                let bytes = read(image, file, at, FRAME.1);
                let ours = bytes.starts_with(FRAME.0)
                    && number(&bytes[OFFSET]) == at
                    && number(&bytes[SEGMENT]) == id;
                if ours {
                    let position = Position(number(&bytes[MARK]));
                    marks.push(Mark { position, file: file.clone(), at, bytes });
                }
            }
        }
        marks.sort_by_key(|mark| std::cmp::Reverse(mark.position));
        Self(marks)
    }

    /// The highest position that the damaged bytes still prove to have been acknowledged.
    #[must_use]
    pub fn proven(&self, damaged: &Image) -> Position {
        let stands = |mark: &&Mark| read(damaged, &mark.file, mark.at, mark.bytes.len() as u64) == mark.bytes;
        self.0.iter().find(stands).map_or(Position(0), |mark| mark.position)
    }
}

fn read(image: &Image, file: &str, at: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).expect("small")];
    if let Some(content) = image.files.get(file) {
        content.read(at, &mut bytes);
    }
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// The file of the only sector that differs; `None` if more than one does, or a name or a length.
#[must_use]
pub fn one_sector(before: &Image, after: &Image) -> Option<String> {
    let mut found = None;
    if before.files.len() != after.files.len() || before.dirs != after.dirs {
        return None;
    }
    for (name, old) in &before.files {
        let new = after.files.get(name).filter(|new| new.len == old.len)?;
        let pages = old.pages.len().max(new.pages.len());
        for n in 0..pages {
            let same = match (page(old, n), page(new, n)) {
                (None, None) => true,
                (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
                (Some(a), None) | (None, Some(a)) => **a == [0; PAGE],
            };
            if !same && found.replace(name.clone()).is_some() {
                return None;
            }
        }
    }
    found
}

fn page(content: &Content, n: usize) -> Option<&Arc<[u8; PAGE]>> {
    content.pages.get(n).and_then(Option::as_ref)
}

/// A frame as it stands in a segment.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Where it starts.
    pub at: u64,
    /// Bytes with padding, and its twin if it has one.
    pub len: u64,
    /// The position of its last record.
    pub last: Position,
}

/// The batches that stand in a segment, in order.
#[must_use]
pub fn frames(image: &Image, file: &str) -> Vec<Frame> {
    let len = image.files.get(file).map_or(0, |content| content.len);
    let found = (0..len).step_by(PAGE).filter_map(|at| {
        let bytes = read(image, file, at, FRAME.1);
        let records = number(&bytes[RECORDS]);
        let ours = bytes.starts_with(FRAME.0) && number(&bytes[OFFSET]) == at && bytes[COPY] == 0;
        (ours && records > 0).then(|| Frame {
            at,
            len: number(&bytes[FRAME_LEN]) + number(&bytes[TWIN]),
            last: Position(number(&bytes[FIRST]) + records - 1),
        })
    });
    found.collect()
}
