"""The two small files that are written twice: the identity and the high-water file.

I own which copy counts and what to say if none does.
"""

from collections import namedtuple

from coding import END, crc, fields, u32

LENGTH = 8192
SECOND = 4096
IDENTITY = fields("8sIIIIIIQQQ16sI")
HIGHWATER = fields("8s16sQQQQI")
assert IDENTITY.size == 76 and HIGHWATER.size == 60
VERSION = 1
SMALLEST, LARGEST = 16 << 10, 1 << 30

# What never changes about a store.
Shape = namedtuple("Shape", "unit size cluster node store")

NEWER, FEATURES, FOREIGN, DAMAGED = "newer", "features", "foreign", "damaged"


def identity_copy(copy):
    """The shape that a copy of 4,096 bytes gives, or why it gives none."""
    if copy[:8] != b"SEAWALL\0":
        return FOREIGN
    length = u32(copy, 12)
    if not IDENTITY.size <= length <= len(copy) or crc(0, copy[: length - 4]) != u32(copy, length - 4):
        return DAMAGED
    if u32(copy, 8) != VERSION:
        return NEWER
    _, _, _, _, _, refuse, unit, size, cluster, node, store, _ = IDENTITY.unpack_from(copy)
    if refuse:
        return FEATURES
    if unit not in (512, 4096) or size % 4096 or not SMALLEST <= size <= LARGEST:
        return DAMAGED
    return Shape(unit, size, cluster, node, store)


def identity(data):
    """What the file says, and whether it must be written again."""
    padded = data[:LENGTH].ljust(LENGTH, b"\0")
    parts = [padded[:SECOND], padded[SECOND:]]
    copies = [identity_copy(part) for part in parts]
    for part, copy in zip(parts, copies):
        if isinstance(copy, Shape):
            whole = part[: u32(part, 12)].ljust(SECOND, b"\0") * 2
            return copy, len(data) < LENGTH or padded != whole
    for answer in (NEWER, FEATURES):
        if answer in copies:
            return answer, False
    return (FOREIGN if copies == [FOREIGN, FOREIGN] else DAMAGED), False


def highwater(data, store):
    """The highest (epoch, segment, position, event) of the slots that hold; None if neither does."""
    return max((slot for at in (0, SECOND) if (slot := _slot(data, at, store))), default=None)


def _slot(data, at, store):
    raw = data[at : at + HIGHWATER.size]
    if len(raw) < HIGHWATER.size:
        return None
    magic, owner, *found, check = HIGHWATER.unpack(raw)
    if magic != b"SEAWHIGH" or owner != store or crc(0, raw[:-4]) != check:
        return None
    return None if max(found) >= END else tuple(found)
