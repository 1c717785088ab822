"""From frame to frame through one segment, and what stands beyond the end.

I own which frames count, where the log ends, and the largest mark. I do not know other segments.
"""

import frames
from coding import Bad, Cursor, u64
from frames import BATCH, CHECKPOINT, HOLLOW, MAGIC, WHOLE, Place
from records import state
from segments import OURS, Header


class Unparsed(Exception):
    """A checkpoint whose checksum holds and which is none."""


class Walk:
    """What a walk found."""

    def __init__(self, data, place, found, is_good, floor):
        self.data, self.place = data, place
        self.header, self.is_good = found, is_good
        # A position of this segment that the high-water file calls durable; 0 for none.
        self.floor = floor
        # (PREVIOUS, RECOVERED_TO, groups) of the checkpoint.
        self.checkpoint = None
        # The batches that count, each as the copy that was read.
        self.frames = []
        # Which of them are hollow.
        self.hollow = []
        # Where a twin stood in for the first copy.
        self.from_twin = []
        self.offset, self.position, self.chain = place.unit, found.cut, found.chain
        # What follows and is bad, so that the walk ends; its names may be there.
        self.broken = None
        # Frames whose headers are valid, from the end on.
        self.later = []
        self._survey = None

    def mark(self):
        """The largest mark."""
        return max([self.header.cut, self.floor] + [frame.header.mark for frame in self.frames + self.later])

    def observed(self):
        """The highest position that a header names."""
        return max([frame.header.last() for frame in self.later] + [self.position])

    def is_complete(self):
        """Whether all is there that was written before the segment was exposed."""
        return self.checkpoint is not None and self.position >= self.header.recovered_to

    def was_live(self):
        """Whether a batch was submitted to it."""
        return any(frame.header.kind == BATCH for frame in self.frames + self.later)

    def run(self):
        """Walks to the end."""
        while self._step():
            pass
        self.later = [frame for frame in self._surveyed() if frame.header.at >= self.offset]

    def _step(self):
        at, self.broken = self.offset, None
        first = frames.header(self.data, at, self.place)
        if first is not None and not first.is_twin and self._follows(first) and self._try(first):
            return True
        twin = next((f.header for f in self._surveyed() if f.header.is_twin and f.header.start() == at), None)
        if twin is not None and self._follows(twin) and self._try(twin):
            self.from_twin.append(at)
            return True
        if self.broken is None or self.broken.grade != HOLLOW:
            return False
        last = self.broken.header.last()
        marks = (frame.header.mark for frame in self._surveyed() if frame.header.at >= at)
        if self.floor < last and not any(mark >= last for mark in marks):
            return False
        self.hollow.append(len(self.frames))
        self._accept(self.broken)
        return True

    def _try(self, head):
        frame = frames.read(self.data, head, self.place)
        if frame.grade == WHOLE:
            self._accept(frame)
            return True
        self.broken = self.broken or frame
        return False

    def _follows(self, head):
        is_first = self.checkpoint is None
        if (head.kind == CHECKPOINT) != is_first:
            return False
        return (is_first and not self.is_good) or (head.first == self.position + 1 and head.chain == self.chain)

    def _accept(self, frame):
        head = frame.header
        if head.kind == CHECKPOINT:
            self._start(head)
        else:
            self.frames.append(frame)
            self.position = head.last()
        self.chain = head.chain_after()
        self.offset = head.start() + head.twin + head.length

    def _start(self, head):
        at = head.at + frames.HEADER + head.directory + head.echo
        cursor = Cursor(self.data[at : at + head.payload])
        try:
            previous, recovered_to = cursor.bounded(), cursor.bounded()
            self.checkpoint = (previous, recovered_to, state(cursor.rest()))
        except Bad:
            raise Unparsed from None
        if not self.is_good:
            self.header = Header(self.place.segment, self.place.epoch, previous, head.mark, head.chain, recovered_to)
        self.position = self.header.cut

    def _surveyed(self):
        """Every frame with a valid header, from where this was first asked to the end of the file, but for
        those within another."""
        if self._survey is None:
            found, data, unit = [], self.data, self.place.unit
            # As many bytes as frames that do not hold may have; within a frame no other is looked for.
            broken = len(data)
            at = data.find(MAGIC, self.offset)
            while at >= 0:
                head = frames.header(data, at, self.place) if at % unit == 0 else None
                if head is not None:
                    frame = frames.read(data, head, self.place)
                    found.append(frame)
                    if frame.grade == WHOLE or head.length > broken:
                        at = data.find(MAGIC, at + head.length)
                        continue
                    broken -= head.length
                at = data.find(MAGIC, at + 1)
            self._survey = found
        return self._survey


def walk(data, segment, kind, found, shape, floor=0):
    """Walks a segment file; None if no byte of this segment is in it."""
    if kind == OURS:
        result = Walk(data, Place(shape.store, segment, found.epoch, shape.unit), found, True, floor)
    else:
        epoch = _find_epoch(data, segment, shape)
        if epoch is None:
            return None
        place = Place(shape.store, segment, epoch, shape.unit)
        result = Walk(data, place, Header(segment, epoch, 0, 0, 0, 0), False, floor)
    result.run()
    return result


def _find_epoch(data, segment, shape):
    """The epoch of the first frame whose header is valid under the epoch that it gives."""
    number = segment.to_bytes(8, "little")
    for at in range(shape.unit, len(data) - frames.HEADER + 1, shape.unit):
        if data[at : at + 4] == MAGIC and data[at + 48 : at + 56] == number:
            epoch = u64(data, at + 56)
            if frames.header(data, at, Place(shape.store, segment, epoch, shape.unit)) is not None:
                return epoch
    return None
