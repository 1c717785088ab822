"""What each file of a directory is, before anyone decides what it means.

I own the look at single files. A file's facts depend on its name and bytes alone, so those of a file that
did not change may be kept.
"""

from copy import copy

import segments
import walk
from coding import END
from files import FOREIGN, NEWER
from frames import Place
from segments import OURS, RECYCLED


class Refused(Exception):
    """The directory cannot be read; the class says why."""


class Segment:
    """One segment file."""

    def __init__(self, id_, data, shape, floor=0):
        self.id, self.data, self.shape = id_, data, shape
        # A position in it that the high-water file calls durable; 0 for none.
        self.floor = floor
        self.kind, self.header = segments.header(data, id_, shape)
        # (trailer, runs), or the reason of a seal whose footer does not hold.
        self.footer = self.bad_footer = None
        self.place = None
        self._walk = self._state = None
        if self.kind in (NEWER, FOREIGN):
            raise Refused(self.kind)
        if self.kind == OURS:
            self.place = Place(shape.store, id_, self.header.epoch, shape.unit)
            self._read_footer()
        if self.footer is None:
            self.walk()

    def _read_footer(self):
        # An open sets the length of an unfinished segment by way of one byte more.
        if len(self.data) > self.shape.size + 1:
            return
        found = segments.trailer(self.data, self.place)
        if found is None:
            return
        runs = segments.run_table(self.data, found, self.place)
        if runs is None or (found.lost and not segments.table_holds(self.data, found, self.place)):
            self.bad_footer = found.seal
        else:
            self.footer = (found, runs)

    def walk(self):
        """The walk through it; None if no byte of this segment is there."""
        if self._walk is None:
            header = self.header if self.kind == OURS else None
            try:
                self._walk = (walk.walk(self.data[: self.shape.size], self.id, self.kind, header, self.shape, self.floor),)
            except walk.Unparsed:
                raise Refused("unparsed") from None
        return self._walk[0]

    def known_header(self):
        """The header, its own or put together from the checkpoint."""
        if self.kind == OURS:
            return self.header
        found = self.walk()
        return found.header if found is not None and found.checkpoint is not None else None

    def state(self):
        """Every group at the end; None unless it is sealed and the state holds."""
        if self.footer is None:
            return None
        if self._state is None:
            self._state = (segments.sealed_state(self.data, self.footer[0], self.place),)
        return self._state[0]

    def without_footer(self):
        """The same file, walked although a trailer and runs are there."""
        other = copy(self)
        other.footer, other.bad_footer = None, self.footer[0].seal
        other.walk()
        return other


def stray(data, shape):
    """The segment whose header stands in a spare; 0 for none."""
    kind, number = segments.header(data, 0, shape)
    return number if kind == RECYCLED else 0


def spare(name):
    """Whether a file is named as a prepared segment is."""
    return len(name) == 22 and name.startswith("spare-") and not set(name[6:]) - set("0123456789abcdef")


def segment_number(name):
    """The segment that a file is named for, or None."""
    digits, dot, rest = name.partition(".")
    if dot + rest != ".seg" or len(digits) != 16 or set(digits) - set("0123456789abcdef"):
        return None
    number = int(digits, 16)
    return number if number < END else None
