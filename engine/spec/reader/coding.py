"""Numbers, checksums and salts: what every part of the format is written with.

I own `crc`, `mix`, salts, seeds and LEB128. I know no file and no record.
"""

from struct import Struct
from zlib import crc32

MASK = (1 << 64) - 1
LOW = (1 << 32) - 1
# What counts from 1 on is below this: positions, indexes, epochs, numbers of segments and of events.
END = 1 << 63
# As many zeros as any unit has, to compare with.
ZEROS = bytes(4096)


class Bad(Exception):
    """Bytes that do not parse. Says what, for a person; nobody decides by the text."""


def crc(seed_, data):
    """CRC-32 as in zlib, begun at the low half of `seed_`."""
    return crc32(data, seed_ & LOW)


def mix(value, number):
    """The 64-bit mixing function of salts, seeds and chains."""
    z = ((value << 29 | value >> 35) & MASK) ^ ((number + 0x9E3779B97F4A7C15) & MASK)
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
    return z ^ z >> 31


def salt(store, segment, epoch):
    """What the checksums of a segment are begun with."""
    low, high = u64(store, 0), u64(store, 8)
    return mix(mix(mix(low, high), segment), epoch)


def u32(data, at):
    """Four bytes as a number."""
    return int.from_bytes(data[at : at + 4], "little")


def u64(data, at):
    """Eight bytes as a number."""
    return int.from_bytes(data[at : at + 8], "little")


def up(number, unit):
    """The next multiple of `unit`."""
    return -(-number // unit) * unit


def is_zero(data):
    """Whether there is nothing but zeros."""
    return not any(data)


def fields(layout):
    """A little-endian structure of fields in the order of FORMAT.md's tables."""
    return Struct("<" + layout)


class Cursor:
    """Takes parts off the front of bytes."""

    __slots__ = ("data", "at")

    def __init__(self, data):
        self.data = data
        self.at = 0

    def number(self):
        """An unsigned LEB128 number of at most 64 bits, in at most ten bytes."""
        data, at = self.data, self.at
        end = min(len(data), at + 10)
        value = shift = 0
        while at < end:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > MASK:
                    break
                self.at = at
                return value
            shift += 7
        raise Bad("a number is cut short or too large")

    def bounded(self):
        """A number below END."""
        value = self.number()
        if value >= END:
            raise Bad("a number is next to the end")
        return value

    def take(self, count):
        """That many bytes."""
        end = self.at + count
        if end > len(self.data):
            raise Bad("it is cut short")
        part = self.data[self.at : end]
        self.at = end
        return part

    def rest(self):
        """All that is left."""
        return self.data[self.at :]
