//! How much of a segment what is written takes: one computation, for admission and for the writer. Pure.
//!
//! I own the bounds. (X1) Frames that [`Space::fits`] lets through fit a fresh segment, whatever they hold, with
//! the state of every group that [`Space::state`] lets through, twice at its start and once in its footer.
//! (X2) Each bound is above what is really written; who writes asserts it. I do not know what is written (see
//! log), nor what is free on disk.

use crate::frame;
use crate::segment;
use crate::state::STATE_OVERHEAD;

/// The part of a segment that the state of all groups may take.
const STATE_SHARE: u64 = 8;
/// What a record takes of a frame besides its payload: an item of the directory has at most
/// 1 + 4 * 10 + 17 + 5 bytes, and 9 for each record.
const RECORD: u64 = 72;
/// What an item takes again in the echo of the next frame.
const ECHO: u64 = 63;

/// What a frame is to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// Records of any kind.
    pub(crate) records: u64,
    /// Those of them that are entries.
    pub(crate) entries: u64,
    /// Bytes of all payloads.
    pub(crate) payload: u64,
}

impl Content {
    pub(crate) fn and(&self, more: &Content) -> Content {
        Content {
            records: self.records + more.records,
            entries: self.entries + more.entries,
            payload: self.payload + more.payload,
        }
    }

    pub(crate) fn without(&self, less: &Content) -> Content {
        Content {
            records: self.records - less.records,
            entries: self.entries - less.entries,
            payload: self.payload - less.payload,
        }
    }

    /// Whether it holds no entry, so that the reserve is open to it.
    pub(crate) fn is_control(&self) -> bool {
        self.entries == 0
    }

    /// Bytes of its records, without header, echo and padding.
    pub(crate) fn bytes(&self) -> u64 {
        self.records * RECORD + self.payload
    }

    /// What the next frame repeats of it.
    pub(crate) fn echo(&self) -> u64 {
        self.records * ECHO
    }

    /// What its entries take of the footer.
    pub(crate) fn tables(&self) -> u64 {
        self.entries * (segment::ENTRY_LEN + segment::RUN_LEN) as u64
    }
}

/// The segments of a store, and the largest frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    size: u64,
    unit: u64,
    /// The largest content of a frame that admission forms.
    pub(crate) frame: u64,
}

impl Space {
    /// Of segments of so many bytes; no batch is larger than `batch`.
    pub(crate) fn new(size: u64, unit: u32, batch: u64) -> Self {
        Self { size, unit: u64::from(unit), frame: batch.min(size / 4) }
    }

    /// Bytes that the state of all groups may take.
    pub(crate) fn state(&self) -> u64 {
        self.size / STATE_SHARE
    }

    /// Bytes from a frame's start to the end of its twin, or of itself if it needs none.
    fn span(&self, content: u64, twin: bool) -> u64 {
        let frame = (frame::HEADER_LEN as u64 + content).next_multiple_of(self.unit);
        if twin { frame + frame.max(u64::from(frame::TWIN_DISTANCE)) } else { frame }
    }

    /// Bytes that so many frames of this content take, tables included.
    pub(crate) fn taken(&self, content: &Content, frames: u64) -> u64 {
        let twin = content.entries < content.records;
        let echo = if frames > 1 { content.echo() } else { 0 };
        self.span(content.bytes() + echo, twin) + (frames - 1) * self.span(0, twin) + content.tables()
    }

    /// Whether a batch, or a frame of several, is small enough.
    pub(crate) fn fits(&self, content: &Content) -> bool {
        content.bytes() <= self.frame && self.spare(content, 0).is_some()
    }

    /// The bytes of a batch that does not fit, and the limit that they are over.
    pub(crate) fn excess(&self, content: &Content) -> (u64, u64) {
        if content.bytes() > self.frame {
            return (content.bytes(), self.frame);
        }
        (self.taken(content, 1), self.fresh())
    }

    /// Bytes that a fresh segment has left after frames of this content, which span `spanned` bytes besides.
    pub(crate) fn spare(&self, content: &Content, spanned: u64) -> Option<u64> {
        let state = self.state() + STATE_OVERHEAD;
        let start = self.unit + self.span(state, true);
        let footer = (state + content.tables() + segment::trailer::LEN as u64).next_multiple_of(self.unit);
        let span = self.span(content.bytes(), content.entries < content.records);
        self.size.checked_sub(start + footer + span + spanned)
    }

    /// Bytes of a fresh segment for frames and their tables.
    fn fresh(&self) -> u64 {
        self.spare(&Content::default(), 0).unwrap_or(0) + self.span(0, false)
    }

    /// Fresh segments that frames need at most that take so many bytes, tables included.
    pub(crate) fn segments(&self, taken: u64) -> u64 {
        // Two in a row are more than full together.
        (2 * taken).div_ceil(self.fresh())
    }

    /// Whether segments of this shape hold a group, its vote, and an entry of a unit.
    pub(crate) fn is_possible(size: u64, unit: u32) -> bool {
        let space = Self::new(size, unit, u64::MAX);
        let vote = Content { records: 1, entries: 0, payload: 80 };
        let entry = Content { records: 1, entries: 1, payload: u64::from(unit) / 2 };
        space.fits(&vote) && space.fits(&entry)
    }
}
