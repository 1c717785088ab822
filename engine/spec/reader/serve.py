"""Answers cases that come over a pipe, many at once.

I own the coding of cases. Standard input holds batches: a number of cases, then for each its length and its
bytes. Standard output gets for each case the length of the answer and the answer, a batch at a time. Numbers
have 4 bytes, little-endian; a text or a run of bytes has its length before it. What a case asks is its first
byte (see ASKED). A directory is given once as a base; later cases say what differs from it.
"""

import sys
import traceback

import answer
import files
from coding import u32
from facts import segment_number
from frames import Place
from store import Snapshots

REMOVED, REPLACED, PATCHED = range(3)


class Case:
    """Takes the parts of a case off its front."""

    def __init__(self, data):
        self.data, self.at = data, 1

    def number(self):
        """A number of 4 bytes."""
        self.at += 4
        return u32(self.data, self.at - 4)

    def bytes(self):
        """A run of bytes."""
        length = self.number()
        self.at += length
        return self.data[self.at - length : self.at]

    def text(self):
        """A text."""
        return self.bytes().decode()


class Reader:
    """What the cases of one run share."""

    def __init__(self):
        self.bases = {}

    def answer(self, data):
        """The answer to one case."""
        return ASKED[data[:1]](self, Case(data))

    def base(self, case):
        """A directory to which later cases refer."""
        number, directory = case.number(), {}
        for _ in range(case.number()):
            name = case.text()
            directory[name] = case.bytes()
        shape, _ = files.identity(directory["IDENTITY"])
        self.bases[number] = (directory, shape, {})
        return "ok"

    def changed(self, case):
        """A base with a case's changes; its shape, and what is kept of it."""
        base, shape, keep = self.bases[case.number()]
        directory = dict(base)
        for _ in range(case.number()):
            name, change = case.text(), case.number()
            if change == REMOVED:
                directory.pop(name, None)
            elif change == REPLACED:
                directory[name] = case.bytes()
            else:
                directory[name] = patched(directory[name], case)
        return directory, shape, keep

    def directory(self, case):
        """A whole directory."""
        directory, _, keep = self.changed(case)
        return answer.store(directory, case.number() == 1, keep)

    def segment(self, case):
        """One segment file of a directory."""
        directory, shape, _ = self.changed(case)
        name = case.text()
        return answer.segment(directory[name], segment_number(name), shape)

    def identity(self, case):
        """The identity file."""
        directory, _, _ = self.changed(case)
        return answer.identity(directory["IDENTITY"])

    def highwater(self, case):
        """The high-water file."""
        directory, shape, _ = self.changed(case)
        return answer.highwater(directory["HIGHWATER"], shape.store)

    def evidence(self, case):
        """The evidence file."""
        directory, shape, _ = self.changed(case)
        return answer.events(directory.get("EVIDENCE"), shape.store)

    def snapshot(self, case):
        """One owned snapshot."""
        directory, shape, keep = self.changed(case)
        return answer.snapshot(Snapshots(directory, shape, keep), case.bytes())

    def frame(self, case):
        """Bytes as a frame in a place."""
        store, segment, epoch, unit, at = case.bytes(), case.number(), case.number(), case.number(), case.number()
        return answer.frame(bytes(at) + case.bytes(), at, Place(store, segment, epoch, unit))

    def state(self, case):
        """Bytes as a state."""
        return answer.coded_state(case.bytes())

    def items(self, case):
        """Bytes as a directory or an echo."""
        is_echo = case.number() == 1
        return answer.directory(case.bytes(), is_echo)


ASKED = {
    b"B": Reader.base,
    b"D": Reader.directory,
    b"W": Reader.segment,
    b"I": Reader.identity,
    b"H": Reader.highwater,
    b"E": Reader.evidence,
    b"S": Reader.snapshot,
    b"F": Reader.frame,
    b"G": Reader.state,
    b"N": Reader.items,
}


def patched(data, case):
    """Bytes made as long as the case says, with its runs of bytes in place."""
    length = case.number()
    changed = bytearray(data[:length].ljust(length, b"\0"))
    for _ in range(case.number()):
        at, run = case.number(), case.bytes()
        changed[at : at + len(run)] = run
    return bytes(changed)


def serve(source, sink):
    """Answers until there are no more batches."""
    reader = Reader()
    while len(count := source.read(4)) == 4:
        # A batch is read whole before any of it is answered: the other side may still be writing.
        cases = [source.read(u32(source.read(4), 0)) for _ in range(u32(count, 0))]
        for case in cases:
            try:
                text = reader.answer(case)
            except Exception:
                text = "exception " + traceback.format_exc()
            raw = text.encode()
            sink.write(len(raw).to_bytes(4, "little") + raw)
        sink.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
