"""The reader on the golden files, and on each of them damaged.

Run with `python3 -m unittest discover -s engine/spec/reader`.
"""

import unittest
from pathlib import Path

import answer
import evidence
import files
import frames
import segments
from blake3 import blake3
from coding import Bad, Cursor, mix
from facts import Refused, Segment
from records import items, state
from store import Look

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
STORE = b"golden-store-one"
A, B = 1, 1 << 40


def golden():
    """The golden store."""
    paths = [path for path in GOLDEN.rglob("*") if path.is_file()]
    return {str(path.relative_to(GOLDEN)): path.read_bytes() for path in paths}


def flipped(data, bit):
    """With one bit the other way."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class Parts(unittest.TestCase):
    """Numbers and hashes."""

    def test_blake3(self):
        self.assertEqual(blake3(b"").hex()[:16], "af1349b9f5f9a1a6")
        named = [(name.split("/")[1], data) for name, data in golden().items() if name.startswith("snapshots/")]
        self.assertEqual(len(named), 3)
        for name, data in named:
            digest, kind = name.split(".")
            self.assertEqual(blake3(data[88:] if kind == "chunk" else data).hex(), digest)

    def test_numbers_at_their_edges(self):
        for data, value in [(b"\0", 0), (b"\x7f", 127), (b"\x80\x01", 128), (b"\xff" * 9 + b"\1", 2**64 - 1)]:
            self.assertEqual(Cursor(data).number(), value)
        for data in [b"", b"\x80", b"\xff" * 9 + b"\2", b"\x80" * 10 + b"\0"]:
            self.assertRaises(Bad, Cursor(data).number)

    def test_mix_loses_nothing(self):
        self.assertEqual(len({mix(value, number) for value in range(40) for number in range(40)}), 1600)

    def test_items_are_bounded_before_they_are_read(self):
        self.assertRaises(Bad, items, b"\1\1\1\1\1\0\xff\xff\xff\xff\x0f", False)
        self.assertRaises(Bad, items, b"\3\1\1\0\1\0\2" + bytes(10), False)
        self.assertRaises(Bad, state, b"\1")


class GoldenStore(unittest.TestCase):
    """Everything that the golden store holds."""

    def test_small_files(self):
        store = golden()
        shape, mend = files.identity(store["IDENTITY"])
        self.assertEqual((shape, mend), (files.Shape(512, 16384, 3, 4, STORE), False))
        self.assertEqual(files.highwater(store["HIGHWATER"], STORE), (3, 5, 14, 1))
        self.assertIsNone(files.highwater(store["HIGHWATER"], bytes(16)))
        found = evidence.evidence(store["EVIDENCE"], STORE)
        self.assertEqual((found.gone, found.half, found.missing), ([], [], False))
        self.assertEqual([event.sequence for event in found.events], [1])

    def test_walks_end_where_trailers_say(self):
        store = golden()
        shape, _ = files.identity(store["IDENTITY"])
        for number, ends in [(2, 6), (3, 12), (5, 14)]:
            segment = Segment(number, store["%016x.seg" % number], shape)
            walked, (trailer, _) = segment.walk(), segment.footer
            self.assertEqual((trailer.position, walked.position), (ends, ends))
            self.assertEqual((trailer.cut, trailer.chain), (walked.offset, walked.chain))
            self.assertEqual((walked.from_twin, walked.hollow, walked.later), ([], [], []))

    def test_state_and_entries(self):
        look = Look(golden())
        self.assertEqual((look.lost, look.repaired, look.maybe, look.clean), ([], [], None, True))
        a, b = look.groups[A], look.groups[B]
        self.assertEqual((a.purged, a.last, a.commit), ((1, 2), (3, 3), 2))
        self.assertEqual(a.vote, (3, 2, 77, b"node four"))
        self.assertEqual((a.snapshot[1:4], b.snapshot[1:4]), ((1, 2, 1), (2, 1, 2)))
        self.assertEqual(b.snapshot[4], b"\x09" * 32)
        self.assertEqual(look.entry(A, 2), b"members: 4 5 6")
        self.assertEqual(look.index.get(A, 2).name.leader, b"leader-4")
        self.assertEqual(look.entry(A, 3), b"after a crash")
        self.assertEqual((look.entry(B, 1), look.entry(B, 2)), (b"", b"\xab" * 700))
        manifest = look.snapshots.manifest(a.snapshot[4])
        self.assertEqual(manifest.membership, b"members: 4")
        self.assertEqual(b"".join(look.snapshots.chunk(*part) for part in manifest.chunks), b"\x07" * 600)


class Damaged(unittest.TestCase):
    """The golden store with one thing wrong."""

    def look(self, name, data):
        """A look at the golden store with other bytes in one file; None removes it."""
        store = golden()
        if data is None:
            del store[name]
        else:
            store[name] = data
        return Look(store)

    def test_every_bit_of_a_frame_is_checked(self):
        store = golden()
        shape, _ = files.identity(store["IDENTITY"])
        data = store["%016x.seg" % 2]
        place = Segment(2, data, shape).place
        at, length = 14336, 512
        sound = frames.read(data, frames.header(data, at, place), place)
        self.assertEqual((sound.grade, sound.header.records), (frames.WHOLE, 3))
        # RESERVED and COPY are inside HEADER_CRC; every bit of the frame counts.
        for bit in range(at * 8, (at + length) * 8):
            damaged = flipped(data, bit)
            head = frames.header(damaged, at, place)
            if head is not None:
                self.assertNotEqual(frames.read(damaged, head, place).grade, frames.WHOLE, bit)

    def test_one_copy_is_enough(self):
        store = golden()
        for copy in (0, 4096):
            shape, mend = files.identity(flipped(store["IDENTITY"], copy * 8 + 90))
            self.assertEqual((shape.cluster, mend), (3, True))
        shape, _ = files.identity(store["IDENTITY"])
        data = store["%016x.seg" % 2]
        walked = Segment(2, flipped(data, (9728 + 20) * 8), shape).walk()
        self.assertEqual((walked.from_twin, walked.position), ([9728], 6))

    def test_what_is_missing_is_named(self):
        for number, lost in [(2, ("entries", A, 2, 2, None)), (3, ("entries", B, 1, 2, None))]:
            self.assertEqual(self.look("%016x.seg" % number, None).lost, [lost])
        self.assertIn(("file", "%016x.seg" % 5), self.look("%016x.seg" % 5, None).lost)
        self.assertEqual(self.look("HIGHWATER", None).repaired, [("HIGHWATER", "slots")])
        with self.assertRaises(Refused) as refused:
            self.look("IDENTITY", None)
        self.assertEqual(refused.exception.args, ("damaged",))

    def test_a_damaged_entry_is_read_as_damaged(self):
        name = "%016x.seg" % 3
        look = self.look(name, flipped(golden()[name], (5120 + 104 + 23 + 9) * 8))
        self.assertEqual((look.entry(B, 1), look.entry(B, 2)), (b"", None))

    def test_a_lost_chunk_is_a_lost_snapshot(self):
        for name in golden():
            if name.startswith("snapshots/"):
                self.assertEqual(self.look(name, None).lost, [("snapshot", A, 1)])

    def test_any_cut_of_any_file_ends(self):
        store = golden()
        for name, data in store.items():
            for length in range(0, len(data), 509):
                text = answer.store({**store, name: data[:length]}, True)
                self.assertTrue(text.startswith(("refused", "epoch")))


if __name__ == "__main__":
    unittest.main()
