"""What a frame holds, without the frame: the items of a directory, and the state of every group.

I own the coding of names and lengths, the coding of a state, and what each record does to it. I know no
file and no checksum.
"""

from collections import namedtuple

from coding import END, LOW, Bad, Cursor

COMMAND, MEMBERSHIP, VOTE, COMMIT, TRUNCATE, COMPACT, CREATE, REMOVE, SNAPSHOT, INSTALL = range(1, 11)
OWNED, EXTERNAL = 1, 2

# A run of records of one kind, with ascending indexes if there are several; `sizes` are (length, checksum).
Item = namedtuple("Item", "kind group incarnation index term leader count sizes")


def items(data, is_echo):
    """The items that fill `data`."""
    cursor, found, end = Cursor(data), [], len(data)
    number = cursor.number
    while cursor.at < end:
        kind = data[cursor.at]
        cursor.at += 1
        if not COMMAND <= kind <= INSTALL:
            raise Bad("there is no such kind")
        group, incarnation, index, term = number(), number(), number(), number()
        length = cursor.take(1)[0]
        if length > 16:
            raise Bad("a leader tag is too long")
        leader = cursor.take(length)
        count = number()
        if not 1 <= count <= LOW or (count > 1 and kind > MEMBERSHIP) or index + count > END:
            raise Bad("a wrong count")
        sizes = []
        if not is_echo:
            if count > (end - cursor.at) // 5:
                raise Bad("it is cut short")
            for _ in range(count):
                length = number()
                if length > LOW:
                    raise Bad("a wrong length")
                sizes.append((length, int.from_bytes(cursor.take(4), "little")))
        found.append(Item(kind, group, incarnation, index, term, leader, count, sizes))
    return found


class Group:
    """The control state of one group; `purged` and `last` are (index, term)."""

    __slots__ = ("incarnation", "purged", "last", "commit", "vote", "snapshot")

    def __init__(self, incarnation, purged=(0, 0), last=(0, 0), commit=0, vote=None, snapshot=None):
        self.incarnation, self.purged, self.last, self.commit = incarnation, purged, last, commit
        # (position, term, rank, data) and (position, index, term, owner, digest).
        self.vote, self.snapshot = vote, snapshot

    def copy(self):
        """Another with the same values."""
        return Group(self.incarnation, self.purged, self.last, self.commit, self.vote, self.snapshot)


def state(data):
    """Every group by its id; raises Bad if `data` is not exactly a state."""
    cursor, groups = Cursor(data), {}
    for _ in range(cursor.number()):
        id_ = cursor.number()
        groups[id_] = _group(cursor)
    if cursor.at != len(data):
        raise Bad("bytes after the state")
    return groups


def _group(cursor):
    number, bounded = cursor.number, cursor.bounded
    group = Group(bounded(), (bounded(), number()), (bounded(), number()), bounded())
    if max(group.purged[0], group.commit) > group.last[0]:
        raise Bad("what is purged or committed is not there")
    flags = cursor.take(1)[0]
    if flags & 1:
        position, term = bounded(), number()
        rank = int.from_bytes(cursor.take(16), "little")
        group.vote = (position, term, rank, cursor.take(number()))
    if flags & 2:
        position, index, term, owner = bounded(), bounded(), number(), cursor.take(1)[0]
        if owner not in (OWNED, EXTERNAL):
            raise Bad("no such owner")
        group.snapshot = (position, index, term, owner, cursor.take(32))
    return group


def copied(groups):
    """The same groups, to be changed apart."""
    return {id_: group.copy() for id_, group in groups.items()}


def follows(group, position, kind, incarnation, index, term, payload):
    """Whether a writer lets such a record through where `group`, which is None if there is none, is so."""
    if group is None:
        return kind == CREATE and incarnation == position
    if incarnation != group.incarnation or kind == CREATE:
        return False
    purged, last, commit = group.purged[0], group.last[0], group.commit
    if kind <= MEMBERSHIP:
        return index == last + 1 and term >= group.last[1]
    if kind == VOTE:
        vote = _vote(position, term, payload)
        return vote is not None and (group.vote is None or vote[1:3] > group.vote[1:3])
    if kind == COMMIT:
        return commit < index <= last
    if kind == TRUNCATE:
        return max(purged, commit) < index <= last
    if kind == COMPACT:
        covered = group.snapshot is not None and group.snapshot[1:3] == (index, term)
        return purged < index and (index <= last or covered)
    if kind == REMOVE:
        return True
    if _pointer(position, index, term, payload) is None:
        return False
    return kind == SNAPSHOT or (purged <= index and (index <= last if payload[1] == 1 else index > commit))


def apply(groups, position, id_, kind, incarnation, index, term, payload):
    """Changes `groups` as one record says."""
    if kind == CREATE:
        groups[id_] = Group(incarnation)
        return
    if kind == REMOVE:
        groups.pop(id_, None)
        return
    group = groups.get(id_)
    if group is None or group.incarnation != incarnation:
        return
    if kind <= MEMBERSHIP:
        group.last = (index, term)
    elif kind == VOTE:
        group.vote = _vote(position, term, payload)
    elif kind == COMMIT:
        group.commit = max(group.commit, index)
    elif kind == TRUNCATE:
        group.last = (max(index - 1, 0), term)
    elif kind == COMPACT:
        group.purged = (index, term)
        if group.last[0] <= index:
            group.last = group.purged
    elif kind == SNAPSHOT:
        group.snapshot = _pointer(position, index, term, payload)
    elif (pointer := _pointer(position, index, term, payload)) is not None:
        group.snapshot, group.commit = pointer, max(group.commit, index)
        group.purged = (index, term)
        if payload[1] != 1:
            group.last = group.purged


def _vote(position, term, payload):
    if len(payload) < 16:
        return None
    return (position, term, int.from_bytes(payload[:16], "little"), payload[16:])


def _pointer(position, index, term, payload):
    if len(payload) != 34 or payload[0] not in (OWNED, EXTERNAL):
        return None
    return (position, index, term, payload[0], payload[2:])
