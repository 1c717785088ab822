"""BLAKE3, the plain hash of 32 bytes.

I own the hash and nothing else. The standard library has none; this is its definition, not a fast one.
"""

from struct import pack, unpack

IV = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
CHUNK, BLOCK = 1024, 64
M = 0xFFFFFFFF
MIXES = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip


def _schedules():
    order, all_rounds = tuple(range(16)), []
    for _ in range(7):
        all_rounds.append(
            tuple((a, b, c, d, order[2 * i], order[2 * i + 1]) for i, (a, b, c, d) in enumerate(MIXES))
        )
        order = tuple(order[i] for i in PERMUTATION)
    return tuple(all_rounds)


ROUNDS = _schedules()


def _compress(chaining, words, counter, length, flags):
    v = [*chaining, *IV[:4], counter & M, counter >> 32, length, flags]
    for one_round in ROUNDS:
        for a, b, c, d, x, y in one_round:
            va = (v[a] + v[b] + words[x]) & M
            vd = v[d] ^ va
            vd = (vd >> 16 | vd << 16) & M
            vc = (v[c] + vd) & M
            vb = v[b] ^ vc
            vb = (vb >> 12 | vb << 20) & M
            va = (va + vb + words[y]) & M
            vd ^= va
            vd = (vd >> 8 | vd << 24) & M
            vc = (vc + vd) & M
            vb ^= vc
            v[a], v[b], v[c], v[d] = va, (vb >> 7 | vb << 25) & M, vc, vd
    return tuple(v[i] ^ v[i + 8] for i in range(8))


def _chunk(data, counter, root):
    value, flags = IV, CHUNK_START
    blocks = max(1, -(-len(data) // BLOCK))
    for i in range(blocks):
        block = data[i * BLOCK : (i + 1) * BLOCK]
        if i + 1 == blocks:
            flags |= CHUNK_END | root
        value = _compress(value, unpack("<16I", block.ljust(BLOCK, b"\0")), counter, len(block), flags)
        flags = 0
    return value


def _tree(data, counter, root):
    if len(data) <= CHUNK:
        return _chunk(data, counter, root)
    left = CHUNK
    while left * 2 < len(data):
        left *= 2
    both = _tree(data[:left], counter, 0) + _tree(data[left:], counter + left // CHUNK, 0)
    return _compress(IV, both, 0, BLOCK, PARENT | root)


def blake3(data):
    """The hash of `data`."""
    return pack("<8I", *_tree(bytes(data), 0, ROOT))
