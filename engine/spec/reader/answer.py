"""What the reader says of given bytes, as one line of text that another reader can be compared with.

I own the words and their order; a test of the engine's own reader writes the same line.
"""

import evidence
import files
import frames
import segments
import snapshots
from blake3 import blake3
from coding import Bad, crc
from facts import Refused, Segment
from records import MEMBERSHIP, OWNED, items, state
from store import Look

# Of a group, this many entries are read at most.
MOST_ENTRIES = 512


def one_item(item):
    """An item of a directory."""
    sizes = ",".join(f"{length}:{check:x}" for length, check in item.sizes)
    name = f"{item.kind}.{item.group}.{item.incarnation}.{item.index}.{item.term}.{item.leader.hex()}"
    return f"{name}x{item.count}[{sizes}]"


def all_items(found):
    """A directory."""
    return "{" + " ".join(map(one_item, found)) + "}"


def directory(data, is_echo):
    """Bytes as a directory or an echo."""
    try:
        return all_items(items(data, is_echo))
    except Bad:
        return "none"


def one_group(id_, group, with_positions=True):
    """The state of a group."""
    vote = snapshot = "-"
    if group.vote is not None:
        position, term, rank, data = group.vote
        vote = f"{position}:" * with_positions + f"{term}.{rank}.{data.hex()}"
    if group.snapshot is not None:
        position, index, term, owner, digest = group.snapshot
        snapshot = f"{position}:" * with_positions + f"{index}.{term}.{owner}.{digest.hex()}"
    purged, last = "%d@%d" % group.purged, "%d@%d" % group.last
    return f"{id_}={group.incarnation} {purged} {last} {group.commit} {vote} {snapshot}"


def all_groups(groups):
    """A state."""
    if groups is None:
        return "none"
    return "{" + "; ".join(one_group(id_, groups[id_]) for id_ in sorted(groups)) + "}"


def coded_state(data):
    """Bytes as a state."""
    try:
        return all_groups(state(data))
    except Bad:
        return "none"


def one_header(head):
    """A frame's header."""
    return (
        f"{head.at} {head.kind} {int(head.is_twin)} {head.length} {head.directory} {head.echo} {head.payload}"
        f" {head.records} {head.twin} {head.content:x} {head.first} {head.mark} {head.chain:x}"
    )


def frame(data, at, place):
    """The bytes from `at` on as a frame."""
    head = frames.header(data, at, place)
    if head is None:
        return "none"
    found = frames.read(data, head, place)
    text = f"{one_header(head)} {head.chain_after():x} {found.grade} {all_items(found.items)}"
    if found.grade in (frames.WHOLE, frames.HOLLOW):
        text += f" {all_items(found.echo)} bad {found.bad}"
    return text


def identity(data):
    """The identity file."""
    shape, mend = files.identity(data)
    if not isinstance(shape, files.Shape):
        return shape
    return f"{shape.unit} {shape.size} {shape.cluster} {shape.node} {shape.store.hex()} {int(mend)}"


def highwater(data, store):
    """The high-water file."""
    found = files.highwater(data, store)
    return "none" if found is None else "%d %d %d %d" % found


def events(data, store):
    """The evidence file."""
    found = evidence.evidence(data, store)
    if found.missing:
        return "missing"
    noted = ", ".join(
        f"{e.sequence} {e.epoch} {e.act} {e.start}..{e.end} {e.group} {e.index} {e.position}"
        f" {crc(0, e.text.encode()):x}"
        for e in found.events
    )
    return f"[{noted}] gone {found.gone} half {found.half}"


def segment(data, number, shape):
    """One segment file."""
    try:
        found = Segment(number, data, shape)
        walked = found.walk()
    except Refused as refused:
        return f"refused {refused.args[0]}"
    text = found.kind
    if found.kind == segments.OURS:
        text += " " + segment_header(found.header)
    elif found.kind == segments.RECYCLED:
        text += f" {found.header}"
    if found.footer is not None:
        text += " " + footer(found)
    elif found.bad_footer is not None:
        text += f" bad footer {found.bad_footer}"
    return text + (" no walk" if walked is None else " walk " + walk_text(walked))


def segment_header(head):
    """A segment's header."""
    return f"{head.epoch} {head.previous} {head.cut} {head.chain:x} {head.recovered_to}"


def footer(found):
    """A footer whose runs hold."""
    last, runs = found.footer
    holds = int(segments.table_holds(found.data, last, found.place))
    run = "; ".join(
        f"{r.kind}.{r.group}.{r.incarnation}.{r.index}.{r.term}.{r.leader.hex()}x{r.count}+{r.start}" for r in runs
    )
    return (
        f"sealed {last.seal} {last.next} {last.position} {last.chain:x} {last.cut} {last.footer} {last.entries}"
        f" {last.lost} table {holds} runs [{run}] state {all_groups(found.state())}"
    )


def how_much(found):
    """Of a frame beyond the end: w whole, n named, x neither."""
    return "w" if found.grade == frames.WHOLE else "n" if found.items else "x"


def walk_text(found):
    """A walk through a segment."""
    start = "-"
    if found.checkpoint is not None:
        previous, recovered_to, groups = found.checkpoint
        start = f"{previous} {recovered_to} {all_groups(groups)}"
    walked = ",".join(f"{f.header.at}:{f.header.first}+{f.header.records}" for f in found.frames)
    later = ",".join(f"{f.header.at}:{f.header.first}+{f.header.records}{how_much(f)}" for f in found.later)
    broken = "-" if found.broken is None else all_items(found.broken.items)
    return (
        f"{int(found.is_good)} {segment_header(found.header)} checkpoint {start} frames [{walked}]"
        f" end {found.offset} {found.position} {found.chain:x} hollow {found.hollow} twins {found.from_twin}"
        f" later [{later}] broken {broken} mark {found.mark()} observed {found.observed()}"
        f" complete {int(found.is_complete())} live {int(found.was_live())}"
    )


def snapshot(held, digest):
    """An owned snapshot: its manifest, and what is wrong with which chunk."""
    found = held.manifest(digest)
    if isinstance(found, str):
        return found
    bad = []
    for hash_, length in sorted(dict(found.chunks).items()):
        raw = held.chunk(hash_, length)
        if isinstance(raw, str):
            bad.append(f"{hash_.hex()[:8]} {raw}")
    return (
        f"{found.group} {found.incarnation} {found.index}@{found.term} {found.total}"
        f" {crc(0, found.membership):x} {len(found.chunks)} bad [{', '.join(bad)}]"
    )


def store(directory_, has_snapshots, keep=None):
    """A whole directory, looked at."""
    try:
        look = Look(directory_, has_snapshots, keep)
    except Refused as refused:
        lost = losses(refused.args[1]) if len(refused.args) > 1 else "[]"
        return f"refused {refused.args[0]} {lost}"
    maybe = "-" if look.maybe is None else "%d..%d" % look.maybe
    repaired = ", ".join(sorted("%s %s" % (made_good(where), what) for where, what in look.repaired))
    text = (
        f"epoch {look.epoch} clean {int(look.clean)} {look.tail} at {look.position} maybe {maybe} lost {losses(look)}"
        f" repaired [{repaired}] unknown [{', '.join(look.unknown)}]"
    )
    for id_ in sorted(look.groups):
        text += " | " + group_text(look, id_, look.groups[id_])
    return text


def made_good(where):
    """A file's name."""
    return where if isinstance(where, str) else "%016x.seg" % where


def losses(look):
    """What is lost, in the order of the report."""
    return "[" + ", ".join(" ".join("-" if part is None else str(part) for part in lost) for lost in look.lost) + "]"


def group_text(look, id_, group):
    """A group, each of its entries, and its owned snapshot."""
    text = one_group(id_, group, False)
    first = group.purged[0] + 1
    read = []
    for index in range(first, min(group.last[0] + 1, first + MOST_ENTRIES)):
        data = look.entry(id_, index)
        if data is None:
            read.append("?")
        else:
            name = look.index.get(id_, index).name
            kind = "m" if name.kind == MEMBERSHIP else "c"
            read.append(f"{name.term}{kind}{name.leader.hex()}:{len(data)}:{crc(0, data):x}")
    text += " [" + " ".join(read) + "]"
    if group.snapshot is not None and group.snapshot[3] == OWNED:
        text += " " + content(look.snapshots, group.snapshot[4])
    return text


def content(held, digest):
    """The bytes of an owned snapshot: length and checksum, or that they cannot be read."""
    found = held.manifest(digest)
    if isinstance(found, str):
        return "unread"
    raw = [held.chunk(*part) for part in found.chunks]
    if snapshots.PACKED in raw:
        return snapshots.PACKED
    if any(isinstance(part, str) for part in raw):
        return "unread"
    whole = b"".join(raw)
    return f"{found.index}@{found.term} {crc(0, found.membership):x} {len(whole)}:{crc(0, whole):x}"


def digest_of(data):
    """The hash that files of snapshots are named by."""
    return blake3(data)
