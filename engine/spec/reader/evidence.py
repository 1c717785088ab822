"""The evidence file: what was done to stored bytes, each event twice and chained.

I own which events are there, which are gone, and which have one copy only.
"""

from collections import namedtuple
from functools import lru_cache

from blake3 import blake3
from coding import END, crc, fields

SLOTS, SLOT, TEXT = 64, 512, 388
LENGTH = 2 * SLOTS * SLOT
LAYOUT = fields("8s16sQQIIQQQQQ32s388sI")
assert LAYOUT.size == SLOT
NOTHING = bytes(32)
ACTS = range(1, 7)
EMPTY, CHAIN, COPY = "empty", "chain", "copy"

Event = namedtuple("Event", "sequence epoch act start end group index position previous text raw")
Evidence = namedtuple("Evidence", "events gone half missing")


@lru_cache(1024)
def _hash(raw):
    return blake3(raw)


def _event(raw, at, store):
    """The event in a slot, or None."""
    magic, owner, sequence, epoch, act, length, start, end, group, index, position, previous, text, check = (
        LAYOUT.unpack(raw)
    )
    if magic != b"SEAWEVID" or owner != store or crc(0, raw[:-4]) != check:
        return None
    if act not in ACTS or length > TEXT or sequence == 0 or max(sequence, epoch) >= END or (sequence - 1) % SLOTS != at % SLOTS:
        return None
    text = text[:length].decode("utf-8", "replace")
    return Event(sequence, epoch, act, start, end, group, index, position, previous, text, raw)


def evidence(data, store):
    """What the file holds; `data` is None if there is no file."""
    if data is None or len(data) < LENGTH:
        return Evidence([], [], [], True)
    copies = [
        _event(raw, at, store) if (raw := data[at * SLOT : (at + 1) * SLOT]).startswith(b"SEAWEVID") else None
        for at in range(2 * SLOTS)
    ]
    good = [event for event in copies if event is not None]
    newest = max((event.sequence for event in good), default=0)
    begun = max((event.sequence for event in good if event.previous == NOTHING), default=1)
    found = Evidence([], [], [], False)
    before = None
    for sequence in range(max(newest - SLOTS + 1, 1), newest + 1):
        at = (sequence - 1) % SLOTS
        own = [event for event in (copies[at], copies[at + SLOTS]) if event and event.sequence == sequence]
        if not own:
            if sequence >= begun:
                found.gone.append(sequence)
            before = None
            continue
        if sequence >= begun and len(own) == 1 and sequence < newest:
            found.half.append(sequence)
        if sequence > begun and before is not None and own[0].previous != _hash(before.raw):
            found.gone.append(sequence)
        before = own[0]
        found.events.append(before)
    return found


def fault(found, reached):
    """What is made good of it; `reached` is the event that the high-water file names."""
    newest = found.events[-1].sequence if found.events else 0
    if found.missing:
        return EMPTY
    if found.gone or newest < reached:
        return CHAIN
    return COPY if found.half else None
