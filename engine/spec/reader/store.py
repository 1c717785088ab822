"""A whole directory, as one who only looks must see it.

I own what is decided from the files' facts together: which segment is the newest, the state after the last
whole frame, where entries are, what is lost and what redundancy made good. I change nothing.
"""

from collections import namedtuple

import evidence
import files
import segments
import snapshots
from coding import crc, mix
from entries import Entry, Index, Name
from facts import Refused, Segment, segment_number, spare, stray
from records import (
    COMMIT, COMPACT, CREATE, INSTALL, MEMBERSHIP, OWNED, REMOVE, SNAPSHOT, TRUNCATE, VOTE, apply, copied, follows,
)  # fmt: skip
from segments import OURS, RECOVERED, RECYCLED

OTHERS = ("IDENTITY", "IDENTITY.new", "HIGHWATER", "EVIDENCE", "quarantine", "repair.new", "snapshots")
SEALED, WHOLE_TAIL, TORN = "sealed", "whole", "torn"
# What redundancy made good.
FOOTER, HEADER, CHECKPOINT, BATCH, PADDING, SLOTS = "footer", "header", "checkpoint", "batch", "padding", "slots"

# An entry whose name is known and whose bytes do not hold.
Rotten = namedtuple("Rotten", "segment group index name")


class Snapshots:
    """The files of owned snapshots."""

    def __init__(self, directory, shape, keep):
        self.files, self.shape, self.keep = directory, shape, keep

    def manifest(self, digest):
        """The manifest that is known as `digest`, or why there is none."""
        data = self.files.get("snapshots/%s.manifest" % digest.hex())
        if data is None:
            return "missing"
        key = ("manifest", digest, data)
        if key not in self.keep:
            self.keep[key] = snapshots.manifest(data, digest, self.shape)
        return self.keep[key]

    def chunk(self, hash_, length):
        """The raw bytes of a chunk, or why there are none."""
        data = self.files.get(chunk_path(hash_))
        if data is None:
            return "missing"
        key = ("chunk", hash_, length, data)
        if key not in self.keep:
            self.keep[key] = snapshots.chunk(data, hash_, length, self.shape.store)
        return self.keep[key]


class Look:
    """What a look at a directory gives: `files` maps paths to bytes, `keep` a place to keep facts of files."""

    def __init__(self, directory, has_snapshots=True, keep=None):
        self.files = directory
        self.has_snapshots = has_snapshots
        self.keep = {} if keep is None else keep
        self.shape = self._identify()
        self.snapshots = Snapshots(directory, self.shape, self.keep)
        self.lost, self.repaired, self.unknown = [], [], []
        self.clean, self.tail, self.maybe = False, SEALED, None
        self.position = self.mark = self.stray = 0
        self.index, self.rotten, self.above, self.tables = Index(), [], [], {}
        self.high = files.highwater(directory.get("HIGHWATER", b""), self.shape.store)
        self._gather()
        self.epoch = max([head.epoch for s in self.segments if (head := s.known_header())], default=0)
        self._decide()

    def _identify(self):
        data = self.files.get("IDENTITY")
        names = [name for name in self.files if "/" not in name]
        if data is None and "IDENTITY.new" in names:
            raise Refused("unfinished")
        shape = files.FOREIGN if data is None else files.identity(data)[0]
        if shape == files.FOREIGN and any(segment_number(n) is not None for n in names):
            raise Refused(files.DAMAGED)
        if not isinstance(shape, files.Shape):
            raise Refused(shape)
        return shape

    def _gather(self):
        self.segments = []
        for name in sorted(self.files):
            if "/" in name:
                continue
            data, number = self.files[name], segment_number(name)
            if number is not None:
                self.segments.append(self._segment(number, data))
            elif spare(name):
                self.stray = max(self.stray, stray(data, self.shape))
            elif name not in OTHERS:
                self.unknown.append(name)

    def _segment(self, number, data):
        floor = self.high[2] if self.high is not None and self.high[1] == number else 0
        key = (number, floor, data)
        kept = self.keep.get(key)
        if kept is None or kept.shape != self.shape:
            kept = Segment(number, data, self.shape, floor)
            if len(self.keep) < 64:
                self.keep[key] = kept
        return kept

    # The newest segment.

    def _decide(self):
        for at in reversed(range(len(self.segments))):
            self._footer_state(at)
            standing = self._standing(at)
            if standing == "newest":
                self.newest = at
                break
            if standing == "damaged":
                self.lost.append(("state", self.segments[at].id))
                raise Refused("corrupt", self)
        else:
            self.lost.append(("file", "every segment"))
            raise Refused("corrupt", self)
        self._take_older()
        self._take_newest()
        self._must_reach()
        self._look_at_evidence()
        self.index.settle(self.groups)
        self._finish()

    def _footer_state(self, at):
        """A candidate whose footer's state does not hold counts as one without a good footer."""
        segment = self.segments[at]
        if segment.footer is not None and segment.state() is None:
            self.segments[at] = segment.without_footer()

    def _standing(self, at):
        segment = self.segments[at]
        if segment.footer is not None:
            return "newest"
        found = segment.walk()
        if found is not None and found.is_complete():
            return "newest"
        before = self.segments[at - 1].footer if at else None
        named = before is not None and before[0].seal == RECOVERED and before[0].next == segment.id
        misplaced = segment.kind == RECYCLED and segment.header > segment.id
        exposed = (
            named or misplaced or segment.bad_footer is not None
            # An open sets the length of an unfinished one anew, by way of one byte more.
            or len(segment.data) not in (self.shape.size, self.shape.size + 1)
            or (found is not None and found.was_live())
            or (self.high is not None and self.high[1] >= segment.id)
        )  # fmt: skip
        return "damaged" if exposed else "unfinished"

    def _next_header(self, at):
        """The header of the segment after, up to the newest."""
        return self.segments[at + 1].known_header() if at < self.newest else None

    # Entries and state.

    def _take_older(self):
        for at in range(self.newest):
            segment = self.segments[at]
            if segment.footer is not None:
                self._take_footer(segment)
                continue
            found = segment.walk()
            if found is None or segment.known_header() is None:
                continue
            later = (self.segments[n].known_header() for n in range(at + 1, self.newest + 1))
            successor = next((head for head in later if head is not None), None)
            taken = self._take_frames(segment, found, found.position if successor is None else successor.cut)
            self._note_rot(segment, found, taken)

    def _take_footer(self, segment):
        found, runs = segment.footer
        table = segments.entry_table(segment.data, found)
        for run in runs:
            name = Name(run.kind, run.incarnation, run.term, run.leader)
            for n in range(run.count):
                self.index.put(run.group, run.index + n, Entry(name, segment.id, table[run.start + n]))
                if found.lost and not _holds(segment, run.group, run.index + n, name, table[run.start + n]):
                    self.rotten.append(Rotten(segment.id, run.group, run.index + n, name))

    def _take_frames(self, segment, found, cut):
        """Takes the entries of the frames up to `cut`; how many frames those are."""
        for taken, frame in enumerate(found.frames):
            if frame.header.first > cut:
                return taken
            self._index_frame(segment, frame)
        return len(found.frames)

    def _index_frame(self, segment, frame):
        for item, number, *place in frame.places:
            if item.kind <= MEMBERSHIP:
                name = Name(item.kind, item.incarnation, item.term, item.leader)
                self.index.put(item.group, item.index + number, Entry(name, segment.id, tuple(place)))
            elif item.kind == TRUNCATE:
                self.index.truncate(item.group, item.index)

    def _note_rot(self, segment, found, taken):
        for n in found.hollow:
            if n >= taken:
                continue
            frame = found.frames[n]
            for item, number, *_ in (frame.places[bad] for bad in frame.bad):
                name = Name(item.kind, item.incarnation, item.term, item.leader)
                there = self.index.get(item.group, item.index + number)
                if there is not None and (there.name, there.segment) == (name, segment.id):
                    self.rotten.append(Rotten(segment.id, item.group, item.index + number, name))
            if not frame.bad:
                self.repaired.append((segment.id, PADDING))

    def _take_newest(self):
        segment = self.segments[self.newest]
        if segment.footer is not None:
            self.groups = self.after = segment.state()
            self._take_footer(segment)
            self.position = self.mark = segment.footer[0].position
            self.clean = True
            return
        found = segment.walk()
        self.mark = mark = found.mark()
        if mark > found.position:
            self.lost += _names_lost(found, mark)
            self.mark = found.position
        taken = self._take_frames(segment, found, self.mark)
        self.above = found.frames[taken:]
        self.groups = copied(found.checkpoint[2])
        unsound = _replay(segment.data, found.frames[:taken], self.groups)
        self.after = copied(self.groups)
        unsound += _replay(segment.data, self.above, self.after)
        self.lost += unsound[:1]
        self.index.settle(self.groups)
        self._note_rot(segment, found, taken)
        self.position = found.position
        self.tail = TORN if found.broken is not None or found.later else WHOLE_TAIL
        self.maybe = (mark, max(mark, found.observed()))

    # What must be there.

    def _must_reach(self):
        newest = self.segments[self.newest]
        if newest.footer is not None and self.segments[-1].id < newest.footer[0].next:
            self._lose_file(newest.footer[0].next)
        if self.high is None:
            self.repaired.append(("HIGHWATER", SLOTS))
            self.maybe = self.maybe or (self.position, self.position)
            return
        _, segment, position, _ = self.high
        if newest.id < segment:
            self._lose_file(segment)
        if newest.id < self.stray:
            self._lose_file(self.stray)
        reached = max(self.position, self.mark)
        if reached < position and not self.lost:
            self.lost.append(("unnamed", reached + 1, position))

    def _look_at_evidence(self):
        data = self.files.get("EVIDENCE")
        key = ("evidence", data)
        if key not in self.keep:
            self.keep[key] = evidence.evidence(data, self.shape.store)
        what = evidence.fault(self.keep[key], 0 if self.high is None else self.high[3])
        if what is not None:
            self.repaired.append(("EVIDENCE", what))

    def _lose_file(self, number):
        gone = ("file", "%016x.seg" % number)
        if gone not in self.lost:
            self.lost.append(gone)

    def _finish(self):
        lowest = {}
        for item in (item for frame in self.above for item in frame.items if item.kind <= MEMBERSHIP):
            key = (item.group, item.incarnation)
            lowest[key] = min(item.index, lowest.get(key, item.index))
        self.groups = self.after
        self.lost += [("entries", *hole, None) for hole in self.index.holes(self.groups, lowest)]
        self._note_repairs()
        self.lost += self._lost_rot(lowest)
        for frame in self.above:
            self._index_frame(self.segments[self.newest], frame)
        self.index.settle(self.groups)
        self._check_snapshots()

    def _lost_rot(self, lowest):
        """Rotten entries that the state still has, as runs of one group and term."""
        lost = []
        for rot in self.rotten:
            there, group = self.index.get(rot.group, rot.index), self.groups.get(rot.group)
            owned = there is not None and (there.name, there.segment) == (rot.name, rot.segment)
            kept = (
                group is not None and group.incarnation == rot.name.incarnation
                and group.purged[0] < rot.index <= group.last[0]
            )  # fmt: skip
            if not owned or not kept or lowest.get((rot.group, rot.name.incarnation), rot.index + 1) <= rot.index:
                continue
            if lost and (lost[-1][1], lost[-1][3] + 1, lost[-1][4]) == (rot.group, rot.index, rot.name.term):
                lost[-1] = (*lost[-1][:3], rot.index, rot.name.term)
            else:
                lost.append(("entries", rot.group, rot.index, rot.index, rot.name.term))
        return lost

    def _note_repairs(self):
        for at, segment in enumerate(self.segments):
            head, after = segment.known_header(), self._next_header(at)
            looked = segment.kind == OURS and segment.footer is None and len(segment.data) == self.shape.size
            if looked and head and after and head.epoch == after.epoch:
                self.repaired.append((segment.id, FOOTER))
            found = segment.walk() if segment.footer is None and at <= self.newest else None
            if found is None:
                continue
            if found.was_live() and not found.is_good and segment.kind != RECYCLED:
                self.repaired.append((segment.id, HEADER))
            if found.was_live() and self.shape.unit in found.from_twin:
                self.repaired.append((segment.id, CHECKPOINT))
            limit = found.mark() if after is None else min(after.cut, found.mark())
            if any(f.header.is_twin and f.header.last() <= limit for f in found.frames):
                self.repaired.append((segment.id, BATCH))

    # Snapshots, and reads of entries.

    def _check_snapshots(self):
        if not self.has_snapshots:
            self.lost.append(("file", "snapshots"))
            return
        for id_ in sorted(self.groups):
            pointer = self.groups[id_].snapshot
            if pointer is None or pointer[3] != OWNED:
                continue
            found = self.snapshots.manifest(pointer[4])
            if isinstance(found, str) or any(chunk_path(hash_) not in self.files for hash_, _ in found.chunks):
                self.lost.append(("snapshot", id_, pointer[1]))

    def entry(self, group, index):
        """The bytes of an entry; None if they do not hold."""
        entry = self.index.get(group, index)
        if entry is None:
            return None
        segment = next(s for s in self.segments if s.id == entry.segment)
        if not _holds(segment, group, index, entry.name, entry.place):
            return None
        offset, length, _ = entry.place
        return segment.data[offset : offset + length]


def chunk_path(hash_):
    """Where a chunk's file is."""
    return "snapshots/%s.chunk" % hash_.hex()


def _holds(segment, group, index, name, place):
    offset, length, check = place
    if offset + length > len(segment.data):
        return False
    found = segment.place or segment.walk().place
    value = mix(mix(mix(mix(mix(found.salt, group), name.incarnation), index), name.term), name.kind)
    return crc(value, segment.data[offset : offset + length]) == check


def _replay(data, frames, groups):
    """Changes the groups as the frames' records say; names the records that do not follow."""
    unsound = []
    for frame in frames:
        position = frame.header.first - 1
        for item, number, offset, length, _ in frame.places:
            position += 1
            payload = data[offset : offset + length] if item.kind > MEMBERSHIP else b""
            record = (item.kind, item.incarnation, item.index + number, item.term, payload)
            if not unsound and not follows(groups.get(item.group), position, *record):
                unsound.append(("unsound", position, item.group))
            apply(groups, position, item.group, *record)
    return unsound


def _names_lost(found, mark):
    """What was acknowledged between the end of the walk and the mark, by the names that survive."""
    named = {}
    if found.broken is not None:
        named[found.position + 1] = found.broken.items
    for frame in found.later:
        named.setdefault(frame.header.first, frame.items)
        before = sum(item.count for item in frame.echo) if frame.grade == "whole" else 0
        first = frame.header.first - before
        if before and first >= 0 and not named.get(first):
            named[first] = frame.echo
    lost, wanted = [], found.position + 1
    for first in sorted(first for first in named if named[first]):
        if not wanted <= first <= mark:
            continue
        if first > wanted:
            lost.append(("unnamed", wanted, first - 1))
        wanted = first + sum(item.count for item in named[first])
        lost += [_lost_item(item) for item in named[first]]
    if wanted <= mark:
        lost.append(("unnamed", wanted, mark))
    return lost


def _lost_item(item):
    group, index = item.group, item.index
    if item.kind <= MEMBERSHIP:
        return ("entries", group, index, index + item.count - 1, item.term)
    return {
        VOTE: ("vote", group), COMMIT: ("commit", group, index), TRUNCATE: ("truncate", group, index),
        COMPACT: ("purge", group, index), SNAPSHOT: ("snapshot", group, index),
        INSTALL: ("snapshot", group, index), CREATE: ("event", group), REMOVE: ("event", group),
    }[item.kind]  # fmt: skip
