//! The bytes of a chunk file and of a manifest.
//!
//! I own both layouts. A chunk file is valid if and only if: its magic and version are ours; the
//! header's checksum holds; its length is header plus stored length; the stored bytes match their
//! checksum; unpacked by the codec they have the raw length and the raw hash. A manifest is valid if
//! and only if: magic and version are ours; the header's checksum holds; its length is what the
//! header's counts say; the last 32 bytes are the BLAKE3 hash of all before; and the chunk lengths
//! add up as a cut into equal parts with a shorter last one. Everything is little-endian.
//!
//! The stored bytes have a checksum of their own because a flipped bit in a compressed frame can
//! still unpack to the right bytes: the raw hash alone would not see it.
//!
//! I am pure: I know no file, and no name but through the caller.

use std::ops::Range;

use crate::snapshot::{SnapshotFault, SnapshotSpec, hash_of};
use crate::types::{Digest, GroupId, Incarnation, Index, LogId, Term};

/// The format version that is written, and the newest that is read. Both files carry it.
pub const VERSION: u32 = 1;
/// No chunk holds more raw bytes.
pub const MAX_CHUNK_BYTES: u32 = 64 << 20;
/// No snapshot has more chunks.
pub const MAX_CHUNKS: u32 = 1 << 20;
/// No membership is longer.
pub const MAX_MEMBERSHIP_BYTES: u32 = 1 << 20;
/// No manifest is longer.
pub const MAX_MANIFEST_BYTES: u64 = manifest::LEN as u64
    + MAX_MEMBERSHIP_BYTES as u64
    + MAX_CHUNKS as u64 * manifest::entry::LEN as u64
    + manifest::TRAILER_LEN as u64;

/// Where the fields of a chunk file's header are; the stored bytes follow.
pub mod chunk {
    use std::ops::Range;

    /// Says that it is a chunk; holds no version.
    pub const MAGIC_BYTES: [u8; 8] = *b"SWALLCHK";

    /// The magic.
    pub const MAGIC: Range<usize> = 0..8;
    /// The format version, u32.
    pub const VERSION: Range<usize> = MAGIC.end..MAGIC.end + 4;
    /// How the bytes are stored, u32: 0 as they are, 1 as a zstd frame.
    pub const CODEC: Range<usize> = VERSION.end..VERSION.end + 4;
    /// The store.
    pub const STORE: Range<usize> = CODEC.end..CODEC.end + 16;
    /// The number of raw bytes, u64.
    pub const RAW_LEN: Range<usize> = STORE.end..STORE.end + 8;
    /// The number of stored bytes, u64.
    pub const STORED_LEN: Range<usize> = RAW_LEN.end..RAW_LEN.end + 8;
    /// The BLAKE3 hash of the raw bytes.
    pub const HASH: Range<usize> = STORED_LEN.end..STORED_LEN.end + 32;
    /// The CRC-32 of the stored bytes, u32.
    pub const STORED_CRC: Range<usize> = HASH.end..HASH.end + 4;
    /// The CRC-32 of the header before it, u32.
    pub const CRC: Range<usize> = STORED_CRC.end..STORED_CRC.end + 4;
    /// The header's length.
    pub const LEN: usize = CRC.end;

    /// All fields in order, by name.
    pub const FIELDS: &[(&str, Range<usize>)] = &[
        ("MAGIC", MAGIC),
        ("VERSION", VERSION),
        ("CODEC", CODEC),
        ("STORE", STORE),
        ("RAW_LEN", RAW_LEN),
        ("STORED_LEN", STORED_LEN),
        ("HASH", HASH),
        ("STORED_CRC", STORED_CRC),
        ("CRC", CRC),
    ];
}

/// Where the fields of a manifest's header are; the membership, the chunk entries and the trailing
/// hash follow.
pub mod manifest {
    use std::ops::Range;

    /// Says that it is a manifest; holds no version.
    pub const MAGIC_BYTES: [u8; 8] = *b"SWALLMAN";

    /// The magic.
    pub const MAGIC: Range<usize> = 0..8;
    /// The format version, u32.
    pub const VERSION: Range<usize> = MAGIC.end..MAGIC.end + 4;
    /// The store.
    pub const STORE: Range<usize> = VERSION.end..VERSION.end + 16;
    /// The cluster, u64.
    pub const CLUSTER: Range<usize> = STORE.end..STORE.end + 8;
    /// The node, u64.
    pub const NODE: Range<usize> = CLUSTER.end..CLUSTER.end + 8;
    /// The group, u64.
    pub const GROUP: Range<usize> = NODE.end..NODE.end + 8;
    /// The group's incarnation, u64.
    pub const INCARNATION: Range<usize> = GROUP.end..GROUP.end + 8;
    /// The last covered index, u64.
    pub const INDEX: Range<usize> = INCARNATION.end..INCARNATION.end + 8;
    /// Its term, u64.
    pub const TERM: Range<usize> = INDEX.end..INDEX.end + 8;
    /// The number of chunks, u32.
    pub const CHUNK_COUNT: Range<usize> = TERM.end..TERM.end + 4;
    /// The raw length of every chunk but the last, u32.
    pub const CHUNK_BYTES: Range<usize> = CHUNK_COUNT.end..CHUNK_COUNT.end + 4;
    /// The snapshot's raw length, u64.
    pub const TOTAL_LEN: Range<usize> = CHUNK_BYTES.end..CHUNK_BYTES.end + 8;
    /// The length of the membership, u32.
    pub const MEMBERSHIP_LEN: Range<usize> = TOTAL_LEN.end..TOTAL_LEN.end + 4;
    /// The CRC-32 of the header before it, u32.
    pub const CRC: Range<usize> = MEMBERSHIP_LEN.end..MEMBERSHIP_LEN.end + 4;
    /// The header's length.
    pub const LEN: usize = CRC.end;
    /// The length of the BLAKE3 hash that ends the file.
    pub const TRAILER_LEN: usize = 32;

    /// All fields in order, by name.
    pub const FIELDS: &[(&str, Range<usize>)] = &[
        ("MAGIC", MAGIC),
        ("VERSION", VERSION),
        ("STORE", STORE),
        ("CLUSTER", CLUSTER),
        ("NODE", NODE),
        ("GROUP", GROUP),
        ("INCARNATION", INCARNATION),
        ("INDEX", INDEX),
        ("TERM", TERM),
        ("CHUNK_COUNT", CHUNK_COUNT),
        ("CHUNK_BYTES", CHUNK_BYTES),
        ("TOTAL_LEN", TOTAL_LEN),
        ("MEMBERSHIP_LEN", MEMBERSHIP_LEN),
        ("CRC", CRC),
    ];

    /// Where the fields of one chunk entry are.
    pub mod entry {
        use std::ops::Range;

        /// The BLAKE3 hash of the raw bytes.
        pub const HASH: Range<usize> = 0..32;
        /// The number of raw bytes, u32.
        pub const RAW_LEN: Range<usize> = HASH.end..HASH.end + 4;
        /// The entry's length.
        pub const LEN: usize = RAW_LEN.end;
    }
}

/// What a decoder saw instead of a valid file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    NotOurs,
    Newer(u32),
    Foreign(&'static str),
    Corrupt(&'static str),
}

impl Flaw {
    pub(super) fn in_file(self, file: &str) -> SnapshotFault {
        let file = file.to_owned();
        match self {
            Self::NotOurs => SnapshotFault::NotOurs { file },
            Self::Newer(version) => SnapshotFault::Unsupported { file, version, supported: VERSION },
            Self::Foreign(reason) => SnapshotFault::Foreign { file, reason },
            Self::Corrupt(reason) => SnapshotFault::Corrupt { file, reason },
        }
    }
}

/// How a chunk's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Stored,
    Zstd,
}

/// A chunk file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    pub(super) codec: Codec,
    pub(super) store: [u8; 16],
    /// At most [`MAX_CHUNK_BYTES`].
    pub(super) raw_len: u32,
    /// At most `raw_len`; equal if and only if stored as they are.
    pub(super) stored_len: u32,
    pub(super) hash: Digest,
    pub(super) stored_crc: u32,
}

impl ChunkHeader {
    pub(super) fn encode(&self) -> [u8; chunk::LEN] {
        let mut out = [0; chunk::LEN];
        out[chunk::MAGIC].copy_from_slice(&chunk::MAGIC_BYTES);
        put_u32(&mut out, chunk::VERSION, VERSION);
        put_u32(&mut out, chunk::CODEC, if self.codec == Codec::Zstd { 1 } else { 0 });
        out[chunk::STORE].copy_from_slice(&self.store);
        put_u64(&mut out, chunk::RAW_LEN, u64::from(self.raw_len));
        put_u64(&mut out, chunk::STORED_LEN, u64::from(self.stored_len));
        out[chunk::HASH].copy_from_slice(&self.hash.0);
        put_u32(&mut out, chunk::STORED_CRC, self.stored_crc);
        let crc = crc32fast::hash(&out[..chunk::CRC.start]);
        put_u32(&mut out, chunk::CRC, crc);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let Some(bytes) = bytes.get(..chunk::LEN) else {
            return Err(Flaw::Corrupt("shorter than its header"));
        };
        if bytes[chunk::MAGIC] != chunk::MAGIC_BYTES {
            return Err(Flaw::NotOurs);
        }
        // Before the checksum: a newer version may keep it elsewhere.
        let version = get_u32(bytes, chunk::VERSION);
        if version > VERSION {
            return Err(Flaw::Newer(version));
        }
        if version != VERSION || get_u32(bytes, chunk::CRC) != crc32fast::hash(&bytes[..chunk::CRC.start]) {
            return Err(Flaw::Corrupt("the header does not match its checksum"));
        }
        let codec = match get_u32(bytes, chunk::CODEC) {
            0 => Codec::Stored,
            1 => Codec::Zstd,
            _ => return Err(Flaw::Corrupt("unknown codec")),
        };
        let (raw_len, stored_len) = (get_u64(bytes, chunk::RAW_LEN), get_u64(bytes, chunk::STORED_LEN));
        let fits = match codec {
            Codec::Stored => stored_len == raw_len,
            Codec::Zstd => stored_len < raw_len,
        };
        let (Ok(raw_len), Ok(stored_len)) = (u32::try_from(raw_len), u32::try_from(stored_len)) else {
            return Err(Flaw::Corrupt("longer than any chunk"));
        };
        if !fits || raw_len == 0 || raw_len > MAX_CHUNK_BYTES {
            return Err(Flaw::Corrupt("lengths that no writer gives"));
        }
        Ok(Self {
            codec,
            store: get_bytes(bytes, chunk::STORE),
            raw_len,
            stored_len,
            hash: Digest(get_bytes(bytes, chunk::HASH)),
            stored_crc: get_u32(bytes, chunk::STORED_CRC),
        })
    }
}

/// One chunk as a manifest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRef {
    /// The BLAKE3 hash of the raw bytes.
    pub hash: Digest,
    /// The number of raw bytes.
    pub raw_len: u32,
}

/// A whole manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) spec: SnapshotSpec,
    pub(super) chunk_bytes: u32,
    pub(super) total: u64,
    pub(super) chunks: Vec<ChunkRef>,
}

impl Manifest {
    /// The file's bytes; their hash is the snapshot's digest.
    pub(super) fn encode(&self) -> Vec<u8> {
        assert!(self.adds_up(), "a builder cuts into equal chunks");
        let mut out = vec![0; manifest::LEN];
        out[manifest::MAGIC].copy_from_slice(&manifest::MAGIC_BYTES);
        put_u32(&mut out, manifest::VERSION, VERSION);
        out[manifest::STORE].copy_from_slice(&self.spec.store);
        put_u64(&mut out, manifest::CLUSTER, self.spec.cluster);
        put_u64(&mut out, manifest::NODE, self.spec.node);
        put_u64(&mut out, manifest::GROUP, self.spec.group.0);
        put_u64(&mut out, manifest::INCARNATION, self.spec.incarnation.0);
        put_u64(&mut out, manifest::INDEX, self.spec.id.index.0);
        put_u64(&mut out, manifest::TERM, self.spec.id.term.0);
        put_u32(&mut out, manifest::CHUNK_COUNT, length_u32(self.chunks.len()));
        put_u32(&mut out, manifest::CHUNK_BYTES, self.chunk_bytes);
        put_u64(&mut out, manifest::TOTAL_LEN, self.total);
        put_u32(&mut out, manifest::MEMBERSHIP_LEN, length_u32(self.spec.membership.len()));
        let crc = crc32fast::hash(&out[..manifest::CRC.start]);
        put_u32(&mut out, manifest::CRC, crc);
        out.extend_from_slice(&self.spec.membership);
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.hash.0);
            out.extend_from_slice(&chunk.raw_len.to_le_bytes());
        }
        let trailer = hash_of(&out);
        out.extend_from_slice(&trailer.0);
        out
    }

    /// Decodes a file that is known as `digest`. The digest is looked at before the version, so that
    /// a rotten version is not taken for a newer program's.
    pub(super) fn decode(bytes: &[u8], digest: &Digest) -> Result<Self, Flaw> {
        let Some(header) = bytes.get(..manifest::LEN) else {
            return Err(Flaw::Corrupt("shorter than its header"));
        };
        if header[manifest::MAGIC] != manifest::MAGIC_BYTES {
            return Err(Flaw::NotOurs);
        }
        if hash_of(bytes) != *digest {
            return Err(Flaw::Corrupt("the bytes do not have the hash of the name"));
        }
        let version = get_u32(header, manifest::VERSION);
        if version > VERSION {
            return Err(Flaw::Newer(version));
        }
        if version != VERSION
            || get_u32(header, manifest::CRC) != crc32fast::hash(&header[..manifest::CRC.start])
        {
            return Err(Flaw::Corrupt("the header does not match its checksum"));
        }
        let body = checked_body(header, bytes)?;
        let (membership, entries) = body.split_at(field_len(header, manifest::MEMBERSHIP_LEN));
        let decoded = Self {
            spec: SnapshotSpec {
                store: get_bytes(header, manifest::STORE),
                cluster: get_u64(header, manifest::CLUSTER),
                node: get_u64(header, manifest::NODE),
                group: GroupId(get_u64(header, manifest::GROUP)),
                incarnation: Incarnation(get_u64(header, manifest::INCARNATION)),
                id: LogId {
                    index: Index(get_u64(header, manifest::INDEX)),
                    term: Term(get_u64(header, manifest::TERM)),
                },
                membership: membership.to_vec(),
            },
            chunk_bytes: get_u32(header, manifest::CHUNK_BYTES),
            total: get_u64(header, manifest::TOTAL_LEN),
            chunks: entries.chunks_exact(manifest::entry::LEN).map(decode_entry).collect(),
        };
        if !decoded.adds_up() {
            return Err(Flaw::Corrupt("the chunk lengths do not add up"));
        }
        Ok(decoded)
    }

    /// Whether every chunk is full but the last, which is not empty, and all make up the total.
    fn adds_up(&self) -> bool {
        let full = u64::from(self.chunk_bytes);
        let lens = || self.chunks.iter().map(|c| u64::from(c.raw_len));
        self.chunk_bytes >= 1
            && self.chunk_bytes <= MAX_CHUNK_BYTES
            && self.chunks.len() as u64 == self.total.div_ceil(full)
            && lens().rev().skip(1).all(|len| len == full)
            && lens().all(|len| len >= 1 && len <= full)
            && lens().sum::<u64>() == self.total
    }
}

/// The membership and the chunk entries, once the file's length and trailer are found right.
fn checked_body<'a>(header: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], Flaw> {
    let count = get_u32(header, manifest::CHUNK_COUNT);
    let membership = get_u32(header, manifest::MEMBERSHIP_LEN);
    if count > MAX_CHUNKS || membership > MAX_MEMBERSHIP_BYTES {
        return Err(Flaw::Corrupt("counts above the format's bounds"));
    }
    let body_len = u64::from(membership) + u64::from(count) * manifest::entry::LEN as u64;
    let expected = manifest::LEN as u64 + body_len + manifest::TRAILER_LEN as u64;
    if bytes.len() as u64 != expected {
        return Err(Flaw::Corrupt("not the length that its header says"));
    }
    let (content, trailer) = bytes.split_at(bytes.len() - manifest::TRAILER_LEN);
    if hash_of(content).0 != *trailer {
        return Err(Flaw::Corrupt("the bytes do not have the hash at the end"));
    }
    Ok(&content[manifest::LEN..])
}

fn decode_entry(bytes: &[u8]) -> ChunkRef {
    ChunkRef {
        hash: Digest(get_bytes(bytes, manifest::entry::HASH)),
        raw_len: get_u32(bytes, manifest::entry::RAW_LEN),
    }
}

fn put_u32(out: &mut [u8], field: Range<usize>, n: u32) {
    out[field].copy_from_slice(&n.to_le_bytes());
}

fn put_u64(out: &mut [u8], field: Range<usize>, n: u64) {
    out[field].copy_from_slice(&n.to_le_bytes());
}

fn get_bytes<const N: usize>(bytes: &[u8], field: Range<usize>) -> [u8; N] {
    bytes[field].try_into().expect("a field of that width")
}

fn get_u32(bytes: &[u8], field: Range<usize>) -> u32 {
    u32::from_le_bytes(get_bytes(bytes, field))
}

fn get_u64(bytes: &[u8], field: Range<usize>) -> u64 {
    u64::from_le_bytes(get_bytes(bytes, field))
}

fn field_len(bytes: &[u8], field: Range<usize>) -> usize {
    usize::try_from(get_u32(bytes, field)).expect("at least 32-bit")
}

fn length_u32(len: usize) -> u32 {
    u32::try_from(len).expect("bounded by the builder")
}
