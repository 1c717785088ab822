"""The two ends of a segment file: its header, and the footer of a sealed one.

I own what each of them is when it holds. I do not know what stands between (see walk).
"""

from collections import namedtuple

from coding import END, LOW, Bad, crc, fields, is_zero, u32
from files import DAMAGED, FOREIGN, NEWER, VERSION
from records import MEMBERSHIP, state

HEADER = fields("8sII16sQQQQQQQQQII")
TRAILER = fields("8sII16sQQQQQIIIIIIIIII")
RUN = fields("QQQQIIBB6s16s")
ENTRY = fields("III")
assert HEADER.size == 112 and TRAILER.size == 112 and RUN.size == 64 and ENTRY.size == 12
ROTATED, CLOSED, RECOVERED = 1, 2, 3
OURS, RECYCLED, BLANK = "ours", "recycled", "blank"

Header = namedtuple("Header", "segment epoch previous cut chain recovered_to")
Trailer = namedtuple("Trailer", "seal next position chain cut footer entries runs state_len checks lost")
Run = namedtuple("Run", "kind group incarnation index term leader count start")


def header(data, segment, shape):
    """(what the file named for `segment` begins with, the header or the number that it gives)."""
    raw = data[: shape.unit]
    if len(raw) < 8:
        return DAMAGED, None
    if is_zero(raw):
        return BLANK, None
    length = u32(raw, 12)
    if raw[:8] != b"SEAWSEG\0" or not HEADER.size <= length <= len(raw):
        return DAMAGED, None
    if crc(0, raw[: length - 4]) != u32(raw, length - 4):
        return DAMAGED, None
    if u32(raw, 8) != VERSION:
        return NEWER, None
    (_, _, _, store, cluster, node, size, number, epoch, previous, cut, chain, recovered_to, unit,
     _) = HEADER.unpack_from(raw)  # fmt: skip
    if max(number, epoch, previous, cut, recovered_to) >= END:
        return DAMAGED, None
    if (cluster, node, store) != (shape.cluster, shape.node, shape.store):
        return FOREIGN, None
    if number != segment:
        return RECYCLED, number
    if (unit, size) != (shape.unit, shape.size):
        return DAMAGED, None
    return OURS, Header(number, epoch, previous, cut, chain, recovered_to)


def trailer(data, place):
    """The trailer; None unless the file ends with one of this segment."""
    at = len(data) - TRAILER.size
    if at < 0 or data[at : at + 8] != b"SEAWEND\0" or crc(place.salt, data[at:-4]) != u32(data, len(data) - 4):
        return None
    (_, version, seal, store, segment, epoch, next_, position, chain, cut, footer, entries, runs, state_len,
     table_crc, runs_crc, state_crc, lost, _) = TRAILER.unpack_from(data, at)  # fmt: skip
    if version != VERSION or (store, segment, epoch) != (place.store, place.segment, place.epoch):
        return None
    if not ROTATED <= seal <= RECOVERED or cut > footer:
        return None
    if max(position, next_) >= END:
        return None
    if footer + entries * ENTRY.size + runs * RUN.size + state_len > at:
        return None
    checks = (table_crc, runs_crc, state_crc)
    return Trailer(seal, next_, position, chain, cut, footer, entries, runs, state_len, checks, lost)


def parts(data, found):
    """The bytes of the entry table, the run table and the state."""
    table = found.footer + found.entries * ENTRY.size
    runs = table + found.runs * RUN.size
    return data[found.footer : table], data[table:runs], data[runs : runs + found.state_len]


def run_table(data, found, place):
    """The runs; None if they do not hold."""
    _, raw, _ = parts(data, found)
    if crc(place.salt, raw) != found.checks[1]:
        return None
    runs, end = [], 0
    for group, incarnation, index, term, count, start, kind, tag, _, leader in RUN.iter_unpack(raw):
        if not 1 <= kind <= MEMBERSHIP or tag > 16 or count == 0:
            return None
        if start + count > min(found.entries, LOW) or index + count > END:
            return None
        if start < end:
            return None
        end = start + count
        runs.append(Run(kind, group, incarnation, index, term, leader[:tag], count, start))
    return runs


def entry_table(data, found):
    """(offset, length, checksum) of each entry; nothing is checked."""
    return list(ENTRY.iter_unpack(parts(data, found)[0]))


def table_holds(data, found, place):
    """Whether the entry table's checksum does, and entries lie within the frames and apart from one another."""
    if crc(place.salt, parts(data, found)[0]) != found.checks[0]:
        return False
    end = place.unit
    for first, last in sorted((offset, offset + length) for offset, length, _ in entry_table(data, found)):
        if first < end or last > found.cut:
            return False
        end = last
    return True


def sealed_state(data, found, place):
    """Every group at the end of the segment; None if the state does not hold."""
    _, _, raw = parts(data, found)
    if crc(place.salt, raw) != found.checks[2]:
        return None
    try:
        return state(raw)
    except Bad:
        return None
