//! The identity file: whose store this is, kept twice, and the inode that the lock is on.
//!
//! I own the file `IDENTITY`. (D1) It is written once, by `create`, whose last step gives it its
//! name: a store without it was never finished, or is damaged. (D2) It holds two copies 4 KiB apart;
//! either is enough. I do not know segments.

use std::ops::Range;

use crate::checksum::crc;
use crate::error::{Error, Result};
use crate::log::Shape;
use crate::options::CreateOptions;
use crate::planted::Bug;
use crate::segment::FORMAT_VERSION;
use crate::types::Identity;
use crate::vfs::{Access, File, Vfs, write_all_at};

/// The file's name.
pub const NAME: &str = "IDENTITY";
/// Its name until creation is complete.
pub const NEW_NAME: &str = "IDENTITY.new";
/// Where the second copy starts.
pub const SECOND_COPY: u64 = 4096;
/// The file's length.
pub const FILE_LEN: usize = 8192;

/// Places of the fields, in bytes from the start of a copy.
pub mod field {
    use std::ops::Range;
    /// `SEAWALL` and a zero.
    pub const MAGIC: Range<usize> = 0..8;
    /// The format version.
    pub const VERSION: Range<usize> = MAGIC.end..MAGIC.end + 4;
    /// Bytes of the copy, with the checksum at their end.
    pub const LENGTH: Range<usize> = VERSION.end..VERSION.end + 4;
    /// Feature bits that a program may ignore.
    pub const IGNORABLE: Range<usize> = LENGTH.end..LENGTH.end + 4;
    /// Feature bits that a program must know to write.
    pub const READ_ONLY: Range<usize> = IGNORABLE.end..IGNORABLE.end + 4;
    /// Feature bits that a program must know to read.
    pub const REFUSE: Range<usize> = READ_ONLY.end..READ_ONLY.end + 4;
    /// The alignment unit in bytes.
    pub const UNIT: Range<usize> = REFUSE.end..REFUSE.end + 4;
    /// Bytes in a segment.
    pub const SIZE: Range<usize> = UNIT.end..UNIT.end + 8;
    /// The cluster.
    pub const CLUSTER: Range<usize> = SIZE.end..SIZE.end + 8;
    /// The node.
    pub const NODE: Range<usize> = CLUSTER.end..CLUSTER.end + 8;
    /// The store.
    pub const STORE: Range<usize> = NODE.end..NODE.end + 16;
    /// CRC-32 of all before.
    pub const CRC: Range<usize> = STORE.end..STORE.end + 4;
    /// The length of a copy.
    pub const LEN: usize = CRC.end;
}

const MAGIC: [u8; 8] = *b"SEAWALL\0";
/// How often others get a turn before a lock counts as held, or a file as left.
const TURNS: usize = 200;

fn u32_at(raw: &[u8], at: Range<usize>) -> u32 {
    u32::from_le_bytes(raw[at].try_into().expect("a field of four bytes"))
}

fn u64_at(raw: &[u8], at: Range<usize>) -> u64 {
    u64::from_le_bytes(raw[at].try_into().expect("a field of eight bytes"))
}

/// The file's bytes.
#[must_use]
pub fn encode(shape: &Shape) -> Vec<u8> {
    let mut raw = [0; field::LEN];
    raw[field::MAGIC].copy_from_slice(&MAGIC);
    raw[field::VERSION].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let len = u32::try_from(field::LEN).expect("small");
    raw[field::LENGTH].copy_from_slice(&len.to_le_bytes());
    raw[field::UNIT].copy_from_slice(&shape.unit.to_le_bytes());
    raw[field::SIZE].copy_from_slice(&shape.size.to_le_bytes());
    raw[field::CLUSTER].copy_from_slice(&shape.identity.cluster.to_le_bytes());
    raw[field::NODE].copy_from_slice(&shape.identity.node.to_le_bytes());
    raw[field::STORE].copy_from_slice(&shape.identity.store);
    let sum = crc(0, &raw[..field::CRC.start]);
    raw[field::CRC].copy_from_slice(&sum.to_le_bytes());
    let mut file = vec![0; FILE_LEN];
    for at in [0, SECOND_COPY as usize] {
        file[at..at + field::LEN].copy_from_slice(&raw);
    }
    file
}

/// What one copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// A good copy.
    Good(Shape),
    /// Made by a newer program.
    Newer(u32),
    /// Feature bits that a reader must know, and this program does not.
    Features(u32),
    /// Not this format.
    NotOurs,
    /// This format, but its checksum does not hold.
    Damaged,
}

/// Reads one copy.
#[must_use]
pub fn decode<V: Vfs>(raw: &[u8]) -> Copy {
    if raw.get(field::MAGIC).is_none_or(|m| m != MAGIC) {
        return Copy::NotOurs;
    }
    let length = raw.get(field::LENGTH).map_or(0, |l| u32_at(l, 0..4)) as usize;
    let Some(body) = raw.get(..length).filter(|b| b.len() >= field::LEN) else { return Copy::Damaged };
    let (checked, sum) = body.split_at(length - 4);
    if crc(0, checked) != u32_at(sum, 0..4) && !V::planted(Bug::IdentityUnchecked) {
        return Copy::Damaged;
    }
    let version = u32_at(raw, field::VERSION);
    if version != FORMAT_VERSION {
        return Copy::Newer(version);
    }
    let features = u32_at(raw, field::REFUSE);
    if features != 0 {
        return Copy::Features(features);
    }
    let store = raw[field::STORE].try_into().expect("sixteen bytes");
    let identity = Identity { cluster: u64_at(raw, field::CLUSTER), node: u64_at(raw, field::NODE), store };
    let (unit, size) = (u32_at(raw, field::UNIT), u64_at(raw, field::SIZE));
    if !CreateOptions::is_possible(unit, size) {
        return Copy::Damaged;
    }
    Copy::Good(Shape { identity, unit, size })
}

/// The identity as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// What the store is.
    pub shape: Shape,
    /// The bytes of both copies as they must be, if the file is not so.
    pub mend: Option<Vec<u8>>,
    /// Feature bits that a writer must know; this program knows none.
    pub unknown_to_write: u32,
}

/// Reads both copies.
pub fn read<V: Vfs>(file: &V::File) -> Result<Identified> {
    let mut raw = vec![0; FILE_LEN];
    let len = usize::try_from(file.len().map_err(Error::io("stat", NAME))?).unwrap_or(FILE_LEN).min(FILE_LEN);
    crate::vfs::read_exact_at(file, &mut raw[..len], 0).map_err(Error::io("read", NAME))?;
    let parts = [0, SECOND_COPY as usize].map(|at| &raw[at..at + SECOND_COPY as usize]);
    let copies = parts.map(decode::<V>);
    for (part, copy) in parts.iter().zip(&copies) {
        if let Copy::Good(shape) = copy {
            // As it was written, by a newer program perhaps.
            let body = &part[..u32_at(part, field::LENGTH) as usize];
            let mut whole = vec![0; FILE_LEN];
            for at in [0, SECOND_COPY as usize] {
                whole[at..at + body.len()].copy_from_slice(body);
            }
            let mend = (whole != raw || len < FILE_LEN).then_some(whole);
            return Ok(Identified { shape: *shape, mend, unknown_to_write: u32_at(part, field::READ_ONLY) });
        }
    }
    Err(match copies {
        [Copy::Newer(found), _] | [_, Copy::Newer(found)] => {
            Error::UnsupportedVersion { file: NAME.into(), found, supported: FORMAT_VERSION }
        }
        [Copy::Features(bits), _] | [_, Copy::Features(bits)] => {
            Error::UnsupportedFeature { file: NAME.into(), bits }
        }
        [Copy::NotOurs, Copy::NotOurs] => Error::NotAStore { why: "IDENTITY is not ours".into() },
        _ => Error::Damaged { file: NAME.into(), offset: 0, what: "no copy of the identity holds" },
    })
}

/// Opens and locks the identity file, then reads it: nothing is believed before the lock is held.
pub fn lock<V: Vfs>(vfs: &V) -> Result<(V::File, Identified)> {
    let file = match vfs.open(NAME, Access::ReadWrite) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(missing(vfs)),
        other => other.map_err(Error::io("open", NAME))?,
    };
    if !V::planted(Bug::LockIgnored) && !file.try_lock().map_err(Error::io("lock", NAME))? {
        return Err(Error::Locked);
    }
    // Somebody may have replaced the file between our open and our lock.
    if !file.is_named(NAME).map_err(Error::io("stat", NAME))? {
        return Err(Error::Locked);
    }
    let identified = read::<V>(&file).map_err(|e| beside_segments(vfs, e))?;
    if identified.unknown_to_write != 0 {
        return Err(Error::UnsupportedFeature { file: NAME.into(), bits: identified.unknown_to_write });
    }
    Ok((file, identified))
}

/// An identity that says nothing is damaged, and not another program's, where segments are.
pub fn beside_segments<V: Vfs>(vfs: &V, error: Error) -> Error {
    let has_segments =
        || vfs.list("").is_ok_and(|names| names.iter().any(|n| crate::segment::parse_name(n).is_some()));
    match error {
        Error::NotAStore { .. } if has_segments() => {
            Error::Damaged { file: NAME.into(), offset: 0, what: "the identity file holds no identity" }
        }
        other => other,
    }
}

/// Why a directory without an identity is not a store.
pub fn missing<V: Vfs>(vfs: &V) -> Error {
    let names = match vfs.list("") {
        Ok(names) => names,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Error::NotAStore { why: "there is no such directory".into() };
        }
        Err(e) => return Error::Io { doing: "list", path: ".".into(), source: e },
    };
    if names.iter().any(|n| n == NEW_NAME) {
        return unfinished(vfs);
    }
    if names.iter().any(|n| crate::segment::parse_name(n).is_some()) {
        return Error::Damaged { file: NAME.into(), offset: 0, what: "the identity file is missing" };
    }
    Error::NotAStore { why: "the directory holds no identity file".into() }
}

/// What a directory is whose identity has not got its name: left by a creation that was cut short, or being
/// created by somebody who holds its lock.
pub fn unfinished<V: Vfs>(vfs: &V) -> Error {
    for _ in 0..TURNS {
        let seen = vfs.open(NEW_NAME, Access::Read).and_then(|file| Ok((file.try_lock()?, file.is_empty()?)));
        match seen {
            // Whoever made it may be about to lock it; or it was never written.
            Ok((true, true)) => std::thread::yield_now(),
            Ok((true, false)) => break,
            Ok((false, _)) => return Error::Locked,
            // It has got its name since.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Error::Locked,
            Err(e) => return Error::io("lock", NEW_NAME)(e),
        }
    }
    Error::CreationIncomplete
}

/// Locks the identity of a store that is being created, for as long as the file is open. Others look whether it is
/// locked, and let it go at once.
pub fn lock_new<V: Vfs>(file: &V::File) -> Result<()> {
    for _ in 0..TURNS {
        if file.try_lock().map_err(Error::io("lock", NEW_NAME))? {
            return Ok(());
        }
        std::thread::yield_now();
    }
    Err(Error::Locked)
}

/// Writes both copies as they must be.
pub fn mend<V: Vfs>(file: &V::File, whole: &[u8]) -> Result<()> {
    write_all_at::<V>(file, whole, 0).map_err(Error::io("write", NAME))?;
    file.sync_all().map_err(Error::io("sync", NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::mem::MemVfs;

    #[test]
    fn three_different_answers() {
        let identity = Identity { cluster: 1, node: 2, store: [3; 16] };
        let file = encode(&Shape { identity, unit: 512, size: 16 << 10 });
        let copy = &file[..4096];
        assert!(matches!(decode::<MemVfs>(copy), Copy::Good(s) if s.identity == identity));
        assert_eq!(decode::<MemVfs>(&[0; 4096]), Copy::NotOurs);
        let mut rotten = copy.to_vec();
        rotten[field::VERSION.start] = 2;
        assert_eq!(
            decode::<MemVfs>(&rotten),
            Copy::Damaged,
            "a flipped version is damage, not a newer program"
        );
        let mut impossible = copy.to_vec();
        impossible[field::UNIT].fill(0);
        let sum = crc(0, &impossible[..field::CRC.start]);
        impossible[field::CRC].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(decode::<MemVfs>(&impossible), Copy::Damaged, "no store has a unit of no bytes");
        let sum = crc(0, &rotten[..field::CRC.start]);
        rotten[field::CRC].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(decode::<MemVfs>(&rotten), Copy::Newer(2));
    }
}
