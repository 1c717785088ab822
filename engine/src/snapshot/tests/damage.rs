//! Every damage of a snapshot's files is named by `verify` and met by a reader.

use super::*;
use crate::snapshot::hash_of;
use crate::vfs::mem::Content;

/// A small snapshot with stored and compressed chunks: the disk's files, digest and bytes.
fn small() -> (Image, Digest, Vec<u8>) {
    let (vfs, known) = (disk(), Known::default());
    let bytes = [noise(64, 1), text(64), noise(9, 2)].concat();
    let mut builder = builder(&vfs, &known, 10, Some(3));
    builder.write_all(&bytes).unwrap();
    let digest = builder.finish().unwrap().digest;
    (vfs.image(), digest, bytes)
}

/// The small snapshot with one file changed must be refused, and the file named, by both readers
/// and by `verify`; nothing wrong is given before.
fn refused(image: &Image, digest: Digest, file: &str, changed: &[u8], good: &[u8]) -> SnapshotFault {
    let mut image = image.clone();
    image.files.insert(file.to_owned(), Content::from_bytes(changed));
    let vfs = MemVfs::from_image(image);
    let faults = verify(&vfs, &WHO, digest);
    assert_eq!(faults.iter().map(SnapshotFault::file).collect::<Vec<_>>(), [file], "{faults:?}");
    let mut given = Vec::new();
    let error = SnapshotReader::open(&vfs, &WHO, digest)
        .map_err(io::Error::from)
        .and_then(|mut reader| reader.read_to_end(&mut given))
        .expect_err("damage must not be read");
    assert_eq!(fault(&error), faults[0]);
    assert!(good.starts_with(&given) && given.len() % 64 == 0, "only whole sound chunks are given");
    faults.into_iter().next().unwrap()
}

/// Runs `each` over the files of a fresh small snapshot.
fn each_file(mut each: impl FnMut(&Image, Digest, &str, &[u8], &[u8])) {
    let (image, digest, good) = small();
    assert_eq!(image.files.len(), 4);
    assert!(
        image
            .files
            .values()
            .any(|file| file.len < 64 + chunk::LEN as u64 && file.len > 9 + chunk::LEN as u64)
    );
    assert_eq!(read(&MemVfs::from_image(image.clone()), digest).unwrap(), good);
    for (file, content) in &image.files {
        each(&image, digest, file, &content.to_bytes(), &good);
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let mut flips = 0;
    each_file(|image, digest, file, bytes, good| {
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            refused(image, digest, file, &changed, good);
            flips += 1;
        }
    });
    assert!(flips > 4000, "{flips}");
}

#[test]
fn every_truncation_and_extension_is_found() {
    each_file(|image, digest, file, bytes, good| {
        for len in 0..bytes.len() {
            refused(image, digest, file, &bytes[..len], good);
        }
        for extra in 1..40 {
            refused(image, digest, file, &[bytes, &vec![0; extra]].concat(), good);
        }
    });
}

#[test]
fn a_missing_file_is_named() {
    each_file(|image, digest, file, _, _| {
        let mut image = image.clone();
        image.files.remove(file);
        let vfs = MemVfs::from_image(image);
        assert_eq!(verify(&vfs, &WHO, digest), [SnapshotFault::Missing { file: file.to_owned() }]);
        assert_eq!(read(&vfs, digest).unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn every_damaged_chunk_is_named_at_once() {
    let (vfs, known) = (disk(), Known::default());
    let digest = publish(&vfs, &known, 1, &noise(256, 1));
    let mut image = vfs.image();
    let chunks: Vec<_> =
        files(&image).iter().filter(|f| f.ends_with("chunk")).map(|f| f.to_string()).collect();
    chunks.iter().for_each(|file| image.put(file, b"rot"));
    let faults = verify(&MemVfs::from_image(image), &WHO, digest);
    assert_eq!(faults.iter().map(SnapshotFault::file).collect::<Vec<_>>(), chunks);
}

#[test]
fn hostile_bytes_are_refused() {
    each_file(|image, digest, file, bytes, good| {
        for seed in 0..200 {
            let len = usize::from(noise(1, seed)[0]) * 3;
            refused(image, digest, file, &noise(len, seed + 1000), good);
            // With a good start, so that the noise is looked into.
            let mut changed = bytes.to_vec();
            let from = usize::try_from(seed).unwrap() % bytes.len();
            changed.truncate(from);
            changed.extend(noise(bytes.len() - from, seed));
            if changed != bytes {
                refused(image, digest, file, &changed, good);
            }
        }
    });
}

#[test]
fn unknown_magic_newer_version_and_rot_are_three_answers() {
    each_file(|image, digest, file, bytes, good| {
        let name = || file.to_owned();
        let mut magic = bytes.to_vec();
        magic[0] ^= 0xff;
        assert_eq!(refused(image, digest, file, &magic, good), SnapshotFault::NotOurs { file: name() });
        let mut rot = bytes.to_vec();
        *rot.last_mut().unwrap() ^= 1;
        assert!(matches!(refused(image, digest, file, &rot, good), SnapshotFault::Corrupt { .. }));
        if file.ends_with("chunk") {
            let mut newer = bytes.to_vec();
            newer[chunk::VERSION].copy_from_slice(&2u32.to_le_bytes());
            let expected = SnapshotFault::Unsupported { file: name(), version: 2, supported: 1 };
            assert_eq!(refused(image, digest, file, &newer, good), expected);
        }
    });
}

/// A manifest whose header was changed by somebody who knows the checksums.
fn forged(change: impl FnOnce(&mut [u8])) -> Result<SnapshotReader<MemVfs>, SnapshotFault> {
    let (vfs, known) = (disk(), Known::default());
    let digest = publish(&vfs, &known, 1, &noise(100, 1));
    let mut image = vfs.image();
    let mut bytes = image.read(&format!("{DIR}/{digest}.manifest")).unwrap();
    change(&mut bytes);
    let crc = crc32fast::hash(&bytes[..manifest::CRC.start]).to_le_bytes();
    bytes[manifest::CRC].copy_from_slice(&crc);
    let end = bytes.len() - manifest::TRAILER_LEN;
    let trailer = hash_of(&bytes[..end]);
    bytes[end..].copy_from_slice(&trailer.0);
    let digest = hash_of(&bytes);
    image.put(&format!("{DIR}/{digest}.manifest"), &bytes);
    SnapshotReader::open(&MemVfs::from_image(image), &WHO, digest)
}

#[test]
fn a_forged_manifest_allocates_nothing_and_is_refused() {
    forged(|_| {}).expect("unchanged, the forgery is a good manifest");
    for field in [manifest::CHUNK_COUNT, manifest::CHUNK_BYTES, manifest::TOTAL_LEN, manifest::MEMBERSHIP_LEN]
    {
        for fill in [0x00, 0x7f, 0xff] {
            let fault = forged(|bytes| bytes[field.clone()].fill(fill)).unwrap_err();
            assert!(matches!(fault, SnapshotFault::Corrupt { .. }), "{field:?} {fill:x}: {fault}");
        }
    }
    let fault = forged(|bytes| bytes[manifest::VERSION].fill(0xff)).unwrap_err();
    assert!(matches!(fault, SnapshotFault::Unsupported { version: u32::MAX, .. }), "{fault}");
    for field in [manifest::STORE, manifest::CLUSTER, manifest::NODE] {
        let fault = forged(|bytes| bytes[field.start] ^= 1).unwrap_err();
        assert!(matches!(fault, SnapshotFault::Foreign { .. }), "{field:?}: {fault}");
    }
}

#[test]
fn a_forged_chunk_allocates_nothing_and_is_refused() {
    each_file(|image, digest, file, bytes, good| {
        if !file.ends_with("chunk") {
            return;
        }
        for field in [chunk::CODEC, chunk::RAW_LEN, chunk::STORED_LEN, chunk::STORE, chunk::HASH] {
            for fill in [0x00, 0x7f, 0xff] {
                let mut changed = bytes.to_vec();
                changed[field.clone()].fill(fill);
                let crc = crc32fast::hash(&changed[..chunk::CRC.start]).to_le_bytes();
                changed[chunk::CRC].copy_from_slice(&crc);
                if changed != bytes {
                    refused(image, digest, file, &changed, good);
                }
            }
        }
    });
}

#[test]
fn swapped_and_foreign_chunks_are_refused() {
    each_file(|image, digest, file, bytes, good| {
        for (other, content) in image.files.iter().filter(|(other, _)| *other != file) {
            let kind = |name: &str| name.ends_with("chunk");
            if kind(file) && kind(other) {
                let fault = refused(image, digest, file, &content.to_bytes(), good);
                assert!(matches!(fault, SnapshotFault::Foreign { .. }), "{fault}");
            }
        }
        if file.ends_with("chunk") {
            let mut foreign = bytes.to_vec();
            foreign[chunk::STORE].fill(8);
            let crc = crc32fast::hash(&foreign[..chunk::CRC.start]).to_le_bytes();
            foreign[chunk::CRC].copy_from_slice(&crc);
            let fault = refused(image, digest, file, &foreign, good);
            assert!(matches!(fault, SnapshotFault::Foreign { .. }), "{fault}");
        }
    });
}
