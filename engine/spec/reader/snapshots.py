"""Files of owned snapshots: manifests and chunks.

I own what makes one whole. A chunk of codec 1 needs zstd, which the standard library does not have: of
such a chunk I check the header and the stored bytes, and say so.
"""

from collections import namedtuple

from blake3 import blake3
from coding import crc, fields, u32
from files import FOREIGN, NEWER, VERSION

CHUNK = fields("8sII16sQQ32sII")
MANIFEST = fields("8sI16sQQQQQQIIQII")
assert CHUNK.size == 88 and MANIFEST.size == 100
STORED, ZSTD = 0, 1
HASH, LISTED = 32, 36
MOST_CHUNK, MOST_CHUNKS, MOST_MEMBERSHIP = 64 << 20, 1 << 20, 1 << 20
ALIEN, CORRUPT, PACKED = "not ours", "corrupt", "packed"

# `chunks` are (hash, raw length).
Manifest = namedtuple("Manifest", "group incarnation index term total chunk_bytes membership chunks")


def manifest(data, digest, shape):
    """The manifest that is known as `digest`, or why it is none."""
    most = MANIFEST.size + MOST_MEMBERSHIP + MOST_CHUNKS * LISTED + HASH
    if not MANIFEST.size <= len(data) <= most:
        return CORRUPT
    if data[:8] != b"SWALLMAN":
        return ALIEN
    if blake3(data) != digest:
        return CORRUPT
    (_, version, store, cluster, node, group, incarnation, index, term, count, chunk_bytes, total, members,
     check) = MANIFEST.unpack_from(data)  # fmt: skip
    if version > VERSION:
        return NEWER
    if version != VERSION or crc(0, data[: MANIFEST.size - 4]) != check:
        return CORRUPT
    start = MANIFEST.size + members
    end = start + count * LISTED
    if count > MOST_CHUNKS or members > MOST_MEMBERSHIP or end + HASH != len(data):
        return CORRUPT
    if blake3(data[:end]) != data[end:]:
        return CORRUPT
    chunks = [(data[at : at + HASH], u32(data, at + HASH)) for at in range(start, end, LISTED)]
    if not _adds_up(chunk_bytes, total, [length for _, length in chunks]):
        return CORRUPT
    if (cluster, node, store) != (shape.cluster, shape.node, shape.store):
        return FOREIGN
    return Manifest(group, incarnation, index, term, total, chunk_bytes, data[MANIFEST.size : start], chunks)


def _adds_up(chunk_bytes, total, lengths):
    if not 1 <= chunk_bytes <= MOST_CHUNK or len(lengths) != -(-total // chunk_bytes):
        return False
    if any(length != chunk_bytes for length in lengths[:-1]):
        return False
    return all(1 <= length <= chunk_bytes for length in lengths) and sum(lengths) == total


def chunk(data, digest, raw_len, store):
    """The raw bytes of the chunk, PACKED where zstd is needed to tell, or why it is none."""
    if len(data) < CHUNK.size:
        return CORRUPT
    magic, version, codec, owner, raw, stored, named, stored_crc, check = CHUNK.unpack_from(data)
    if magic != b"SWALLCHK":
        return ALIEN
    if version > VERSION:
        return NEWER
    if version != VERSION or crc(0, data[: CHUNK.size - 4]) != check:
        return CORRUPT
    fits = {STORED: stored == raw, ZSTD: stored < raw}.get(codec, False)
    if not fits or not 1 <= raw <= MOST_CHUNK:
        return CORRUPT
    if owner != store or named != digest or raw != raw_len:
        return FOREIGN
    body = data[CHUNK.size :]
    if len(body) != stored or crc(0, body) != stored_crc:
        return CORRUPT
    if codec == ZSTD:
        return PACKED
    return body if blake3(body) == digest else CORRUPT
