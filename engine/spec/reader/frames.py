"""One frame: a header, a directory, an echo, payloads, padding.

I own what makes a frame valid. I do not know whether it counts (see walk).
"""

from coding import END, LOW, ZEROS, Bad, crc, fields, mix, salt, up
from records import MEMBERSHIP, items

BATCH, CHECKPOINT, REWRITTEN = 1, 2, 3
LAYOUT = fields("4sIBB6sIIIIIIIIQQ16sQQQ")
HEADER = 104
assert LAYOUT.size == HEADER
MAGIC = b"SWFR"
TWIN_DISTANCE = 4096


class Place:
    """What a frame must say of where it stands."""

    __slots__ = ("store", "segment", "epoch", "unit", "salt")

    def __init__(self, store, segment, epoch, unit):
        self.store, self.segment, self.epoch, self.unit = store, segment, epoch, unit
        self.salt = salt(store, segment, epoch)


class Header:
    """A valid header."""

    __slots__ = (
        "at", "kind", "is_twin", "length", "directory", "echo", "payload", "records", "twin",
        "content", "first", "mark", "chain",
    )  # fmt: skip

    def last(self):
        """The position of the last record; in a checkpoint, the one before FIRST."""
        return self.first + self.records - 1

    def start(self):
        """Where the first copy starts."""
        return self.at - self.twin if self.is_twin else self.at

    def chain_after(self):
        """The chain value after this frame."""
        return mix(mix(mix(mix(self.chain, self.content), self.first), self.records), self.mark)


def header(data, at, place):
    """The header at `at`; None if there is none, or one that is not valid here."""
    if data[at : at + 4] != MAGIC or len(data) < at + HEADER or place.unit < HEADER:
        return None
    (_, check, kind, copy, _, length, directory, echo, payload, records, twin, content, offset, segment,
     epoch, store, first, mark, chain) = LAYOUT.unpack_from(data, at)  # fmt: skip
    if crc(place.salt, data[at + 8 : at + HEADER]) != check:
        return None
    if store != place.store or segment != place.segment or epoch != place.epoch or offset != at:
        return None
    if kind not in (BATCH, CHECKPOINT, REWRITTEN) or (records > 0) == (kind == CHECKPOINT):
        return None
    if length != up(HEADER + directory + echo + payload, place.unit) or at + twin + length > LOW:
        return None
    if twin and (twin % place.unit or twin < max(TWIN_DISTANCE, length)):
        return None
    if copy == 1 and not 0 < twin <= at:
        return None
    if first == 0 or first + records > END or mark >= first or epoch >= END:
        return None
    found = Header()
    found.at, found.kind, found.is_twin, found.length = at, kind, copy == 1, length
    found.directory, found.echo, found.payload, found.records = directory, echo, payload, records
    found.twin, found.content, found.first, found.mark, found.chain = twin, content, first, mark, chain
    return found


WHOLE, HOLLOW, NAMED, NAMELESS = "whole", "hollow", "named", "nameless"


class Frame:
    """What stands behind a header. `grade` says how much of it holds:

    whole: all. hollow: names and control records do, payloads of entries or the padding do not. named: the
    names do. nameless: not even they.
    """

    __slots__ = ("header", "grade", "items", "echo", "places", "bad")

    def __init__(self, head):
        self.header = head
        self.grade = NAMELESS
        self.items, self.echo = [], []
        # (item, number in it, offset, length, checksum) of each record, in the order of positions.
        self.places = []
        # Which of them do not hold.
        self.bad = []


def read(data, head, place):
    """Reads the frame behind a header."""
    frame = Frame(head)
    names = head.at + HEADER
    echo = names + head.directory
    payload = echo + head.echo
    end = payload + head.payload
    if head.at + head.length > len(data):
        return frame
    checked = data[payload:end] if head.kind == CHECKPOINT else data[names:payload]
    if crc(place.salt, checked) != head.content:
        return frame
    try:
        found, before = items(data[names:echo], False), items(data[echo:payload], True)
    except Bad:
        return frame
    count = sum(item.count for item in found)
    size = sum(length for item in found for length, _ in item.sizes)
    if count != head.records or (count and size != head.payload):
        return frame
    frame.items = found
    _check_payloads(data, frame, payload, place)
    padded = ZEROS.startswith(data[end : head.at + head.length])
    if padded and not frame.bad:
        frame.grade, frame.echo = WHOLE, before
    elif head.kind != CHECKPOINT and all(frame.places[n][0].kind <= MEMBERSHIP for n in frame.bad):
        frame.grade, frame.echo = HOLLOW, before
    else:
        frame.grade = NAMED
    return frame


def payload_seed(base, item, number):
    """What the checksum of an item's record is begun with; `base` is `mix` up to the incarnation."""
    return mix(mix(mix(base, item.index + number), item.term), item.kind)


def item_base(place, item):
    """`mix` over the salt and what all records of an item share."""
    return mix(mix(place.salt, item.group), item.incarnation)


def _check_payloads(data, frame, at, place):
    for item in frame.items:
        base = item_base(place, item)
        for number, (length, check) in enumerate(item.sizes):
            if crc(payload_seed(base, item, number), data[at : at + length]) != check:
                frame.bad.append(len(frame.places))
            frame.places.append((item, number, at, length, check))
            at += length
