//! Reads a segment's frames in order, and what stands beyond the first that is not there.
//!
//! I own the walk. (W1) A frame counts if it is valid and its position and chain follow the one
//! before. (W2) I say where and why the walk stopped and which headers I saw further on; end and
//! damage are told apart by whoever asks (see recovery). (W3) Memory is bounded by one window and
//! the names of one segment. (W4) A frame of which only entries' payloads do not hold counts with its
//! names if a later mark covers it: it was acknowledged, and a peer can give those payloads back. I
//! never write.

use std::collections::BTreeMap;
use std::io;

use crate::frame::{self, BadFrame, Frame, FrameKind, Place, Probe};
use crate::planted::Bug;
use crate::record::{Item, Name, Record, take_varint};
use crate::segment::{EntryRef, Header, HeaderFact};
use crate::state::{self, Groups};
use crate::types::{END, Epoch, Position, SegmentId};
use crate::vfs::{File, Vfs};

/// Bytes read at once.
const WINDOW: usize = 1 << 20;

/// A read-ahead view of a file.
pub struct Window<'a, F> {
    file: &'a F,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a, F: File> Window<'a, F> {
    /// A view of the whole file.
    pub fn new(file: &'a F) -> io::Result<Self> {
        Self::up_to(file, u64::MAX)
    }

    /// A view of the file, but of no more than its first bytes.
    pub fn up_to(file: &'a F, most: u64) -> io::Result<Self> {
        Ok(Self { file, len: file.len()?.min(most), start: 0, bytes: Vec::new() })
    }

    /// The length of what is viewed.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// Up to `len` bytes at `offset`; fewer only at the end of the file.
    pub fn get(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let len = len.min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        let end = offset + len as u64;
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            let want = usize::try_from(self.len - offset.min(self.len)).unwrap_or(usize::MAX);
            self.bytes.resize(want.min(WINDOW.max(len)), 0);
            self.start = offset;
            if let Err(e) = crate::vfs::read_exact_at(self.file, &mut self.bytes, offset) {
                self.bytes.clear();
                return Err(e);
            }
        }
        let from = usize::try_from(offset - self.start).expect("within the window");
        Ok(&self.bytes[from..from + len])
    }
}

/// The checkpoint at a segment's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The predecessor.
    pub previous: SegmentId,
    /// The last position that a recovery wrote again in this segment.
    pub recovered_to: Position,
    /// The state of every group at the cut.
    pub groups: Groups,
}

impl Checkpoint {
    /// The payload of a checkpoint frame.
    #[must_use]
    pub fn encode(previous: SegmentId, recovered_to: Position, groups: &Groups) -> Vec<u8> {
        let mut out = Vec::new();
        crate::record::put_varint(&mut out, previous.0);
        crate::record::put_varint(&mut out, recovered_to.0);
        out.extend_from_slice(&state::encode(groups));
        out
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let previous = SegmentId(take_varint(&mut bytes).filter(|n| *n < END)?);
        let recovered_to = Position(take_varint(&mut bytes).filter(|n| *n < END)?);
        Some(Self { previous, recovered_to, groups: state::decode(bytes)? })
    }
}

/// A header that was seen beyond the walk's end, and what it still names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    /// The header.
    pub header: frame::Header,
    /// Whether its contents hold too.
    pub whole: bool,
    /// The records that it names.
    pub items: Vec<Item>,
    /// The records of the frame before it.
    pub echo: Vec<Item>,
}

/// What a walk through a segment found.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The header, from its own bytes or put together from the checkpoint.
    pub header: Header,
    /// Whether the header's own bytes were good.
    pub header_good: bool,
    /// A position of this segment that the high-water file calls durable; 0 for none.
    pub floor: Position,
    /// The checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The batches in order.
    pub frames: Vec<Frame>,
    /// Where the walk ended.
    pub offset: u32,
    /// The last position of the walk.
    pub position: Position,
    /// The chain value there.
    pub chain: u64,
    /// The names of a frame whose header is good and follows, but whose contents are bad.
    pub broken: Option<BadFrame>,
    /// Which of the frames have payloads that do not hold, or padding; no control record is among them.
    pub hollow: Vec<usize>,
    /// Offsets of frames for which their twin stood in.
    pub from_twin: Vec<u32>,
    /// Headers beyond the end.
    pub later: Vec<Later>,
}

impl Scan {
    /// The largest mark: in any believed header of the segment, or in the high-water file.
    #[must_use]
    pub fn mark(&self) -> Position {
        let walked = self.frames.iter().map(|f| f.header.mark);
        let later = self.later.iter().map(|l| l.header.mark);
        walked.chain(later).fold(self.header.cut.max(self.floor), Position::max)
    }

    /// The highest position in any believed header.
    #[must_use]
    pub fn observed(&self) -> Position {
        self.later.iter().map(|l| l.header.last()).fold(self.position, Position::max)
    }

    /// Whether everything is there that was written before this segment was first exposed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.checkpoint.is_some() && self.position >= self.header.recovered_to
    }

    /// Whether a batch was submitted to this segment, so that it had been complete.
    #[must_use]
    pub fn was_live(&self) -> bool {
        let walked = self.frames.iter().any(|f| f.header.kind == FrameKind::Batch);
        walked || self.later.iter().any(|l| l.header.kind == FrameKind::Batch)
    }
}

/// Walks a segment. `fact` is what its first bytes are; without a header, the frames' own identity
/// is used. `None` if no byte of this segment was found.
pub fn scan<V: Vfs>(
    window: &mut Window<'_, V::File>,
    fact: &HeaderFact,
    template: &Header,
    floor: Position,
) -> io::Result<Option<Scan>> {
    let unit = template.unit;
    let (header, header_good) = match fact {
        HeaderFact::Ours(h) => (*h, true),
        _ => match find_epoch::<V>(window, template)? {
            Some(epoch) => (Header { epoch, ..*template }, false),
            None => return Ok(None),
        },
    };
    let mut walk = Walk::<V> {
        window,
        place: header.place(),
        salt: header.place().salt::<V>(),
        anchored: header_good,
        survey: None,
        scan: Scan {
            header,
            header_good,
            floor,
            checkpoint: None,
            frames: Vec::new(),
            offset: unit,
            position: header.cut,
            chain: header.chain,
            broken: None,
            hollow: Vec::new(),
            from_twin: Vec::new(),
            later: Vec::new(),
        },
        reason: None,
    };
    while walk.step()? {}
    walk.finish().map(Some)
}

/// The epoch of the first frame that says it belongs here and whose checksum agrees.
fn find_epoch<V: Vfs>(window: &mut Window<'_, V::File>, template: &Header) -> io::Result<Option<Epoch>> {
    let mut at = template.unit;
    while u64::from(at) < window.file_len() {
        let raw = window.get(u64::from(at), template.unit as usize)?;
        if let Some(epoch) = raw.get(frame::field::EPOCH).and_then(|e| e.try_into().ok()) {
            let epoch = Epoch(u64::from_le_bytes(epoch));
            let place = Place { epoch, ..template.place() };
            if matches!(frame::probe::<V>(raw, &place, at), Probe::Frame(_)) {
                return Ok(Some(epoch));
            }
        }
        let Some(next) = at.checked_add(template.unit) else { break };
        at = next;
    }
    Ok(None)
}

/// What stands beyond the end of a walk, and the two questions that the walk asks of it for each frame.
struct Survey {
    /// In the order of their offsets.
    found: Vec<Later>,
    /// The largest mark of each header and those after it.
    marks: Vec<Position>,
    /// The first twin of each frame, by where the frame is.
    twins: BTreeMap<u32, frame::Header>,
}

impl Survey {
    fn new(found: Vec<Later>) -> Self {
        let mut marks: Vec<_> = found.iter().map(|l| l.header.mark).collect();
        for n in (1..marks.len()).rev() {
            marks[n - 1] = marks[n - 1].max(marks[n]);
        }
        let twins = found.iter().rev().map(|l| l.header).filter(|h| h.is_twin);
        let twins = twins.map(|h| (h.offset - h.twin, h)).collect();
        Self { found, marks, twins }
    }

    fn twin_of(&self, at: u32) -> Option<frame::Header> {
        self.twins.get(&at).copied()
    }

    /// The largest mark in a header at or after an offset; 0 for none.
    fn mark_from(&self, at: u32) -> Position {
        let from = self.found.partition_point(|l| l.header.offset < at);
        self.marks.get(from).copied().unwrap_or(Position(0))
    }
}

struct Walk<'a, 'b, V: Vfs> {
    window: &'a mut Window<'b, V::File>,
    place: Place,
    salt: u64,
    /// Whether position and chain are known; without a header the first checkpoint gives them.
    anchored: bool,
    survey: Option<Survey>,
    scan: Scan,
    reason: Option<BadFrame>,
}

impl<V: Vfs> Walk<'_, '_, V> {
    /// Takes the next frame, or its twin; `false` at the end of the walk.
    fn step(&mut self) -> io::Result<bool> {
        let at = self.scan.offset;
        self.reason = None;
        if let Some(header) = self.probe(at)?.filter(|h| !h.is_twin && self.follows(h)) {
            match self.open(&header)? {
                Ok(frame) => return self.accept(frame, at).map(|()| true),
                Err(bad) => self.reason = Some(bad),
            }
        }
        if V::planted(Bug::TwinIgnored) {
            return Ok(false);
        }
        let twin = self.survey()?.twin_of(at);
        if let Some(header) = twin.filter(|h| self.follows(h)) {
            match self.open(&header)? {
                Ok(frame) => {
                    self.scan.from_twin.push(at);
                    return self.accept(frame, at).map(|()| true);
                }
                Err(bad) => self.reason = self.reason.take().or(Some(bad)),
            }
        }
        let Some(frame) = self.reason.as_mut().and_then(|bad| bad.hollow.take()) else { return Ok(false) };
        let last = frame.header.last();
        let marked = V::planted(Bug::HollowAboveMark)
            || self.scan.floor >= last
            || self.survey()?.mark_from(at) >= last;
        if V::planted(Bug::RotTakenForTorn) || !marked {
            return Ok(false);
        }
        self.scan.hollow.push(self.scan.frames.len());
        self.accept(*frame, at).map(|()| true)
    }

    fn probe(&mut self, at: u32) -> io::Result<Option<frame::Header>> {
        let bytes = self.window.get(u64::from(at), self.place.unit as usize)?;
        Ok(match frame::probe::<V>(bytes, &self.place, at) {
            Probe::Frame(header) => Some(*header),
            Probe::Blank | Probe::Other => None,
        })
    }

    fn follows(&self, header: &frame::Header) -> bool {
        let first = self.scan.checkpoint.is_none();
        if (header.kind == FrameKind::Checkpoint) != first {
            return false;
        }
        let position = header.first == self.scan.position.next() || V::planted(Bug::StaleFramePasses);
        let chain = header.chain == self.scan.chain || V::planted(Bug::StaleFramePasses);
        (!self.anchored && first) || (position && chain)
    }

    fn open(&mut self, header: &frame::Header) -> io::Result<Result<Frame, BadFrame>> {
        let bytes = self.window.get(u64::from(header.offset), header.frame_len as usize)?;
        Ok(frame::open::<V>(bytes, header, self.salt))
    }

    fn accept(&mut self, frame: Frame, at: u32) -> io::Result<()> {
        let header = frame.header;
        if header.kind == FrameKind::Checkpoint {
            let payload = self.window.get(u64::from(frame.payload_offset), header.payload_len as usize)?;
            let Some(checkpoint) = Checkpoint::decode(payload) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a checkpoint does not parse"));
            };
            if !self.anchored {
                self.anchored = true;
                self.scan.header.previous = checkpoint.previous;
                self.scan.header.recovered_to = checkpoint.recovered_to;
                self.scan.header.cut = header.mark;
                self.scan.header.chain = header.chain;
            }
            self.scan.checkpoint = Some(checkpoint);
            self.scan.position = self.scan.header.cut;
        } else {
            self.scan.position = header.last();
            self.scan.frames.push(frame);
        }
        self.scan.chain = header.chain_after();
        self.scan.offset = at + header.span();
        Ok(())
    }

    /// Every believed header from here to the end of the file, but for those within a whole frame: its payload
    /// may hold anything. (W5) No byte is checked more than twice, whatever headers claim: no writer lets frames
    /// overlap, so those that do not hold have together no more bytes than the file.
    fn survey(&mut self) -> io::Result<&Survey> {
        if self.survey.is_none() {
            let mut found = Vec::new();
            let mut at = self.scan.offset;
            let mut broken = self.window.file_len();
            while u64::from(at) < self.window.file_len() {
                let mut taken = self.place.unit;
                if let Some(header) = self.probe(at)? {
                    let later = match self.open(&header)? {
                        Ok(f) => Later { header, whole: true, items: f.items, echo: f.echo },
                        Err(bad) => Later { header, whole: false, items: bad.items, echo: Vec::new() },
                    };
                    match broken.checked_sub(u64::from(header.frame_len)) {
                        Some(left) if !later.whole => broken = left,
                        _ => taken = header.frame_len,
                    }
                    found.push(later);
                }
                let Some(next) = at.checked_add(taken) else { break };
                at = next;
            }
            self.survey = Some(Survey::new(found));
        }
        Ok(self.survey.as_ref().expect("just made"))
    }

    fn finish(mut self) -> io::Result<Scan> {
        let end = self.scan.offset;
        if V::planted(Bug::ZerosEndLog) && self.window.get(u64::from(end), 4)?.iter().all(|b| *b == 0) {
            return Ok(self.scan);
        }
        self.survey()?;
        let survey = self.survey.take().expect("just made");
        self.scan.later = survey.found.into_iter().filter(|l| l.header.offset >= end).collect();
        self.scan.broken = self.reason;
        Ok(self.scan)
    }
}

/// Reads the records of a frame.
pub fn records<F: File>(window: &mut Window<'_, F>, frame: &Frame) -> io::Result<Vec<Record>> {
    let read = |(name, at): (Name, EntryRef)| {
        Ok(Record { name, data: window.get(u64::from(at.offset), at.len as usize)?.into() })
    };
    places(frame).map(read).collect()
}

/// The items of a frame, and where the bytes of each begin.
pub fn items(frame: &Frame) -> impl Iterator<Item = (&Item, u32)> {
    frame.items.iter().scan(frame.payload_offset, |next, item| {
        let begin = *next;
        *next += item.sizes.iter().map(|(len, _)| len).sum::<u32>();
        Some((item, begin))
    })
}

/// Each record of a frame, and where its bytes are.
pub fn places(frame: &Frame) -> impl Iterator<Item = (Name, EntryRef)> {
    items(frame).flat_map(|(item, begin)| {
        let names = (0..item.count).map(|n| item.name.at(n));
        names.zip(EntryRef::following(&item.sizes, begin))
    })
}
