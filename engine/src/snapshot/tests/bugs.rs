//! Each planted bug makes the difference that its line in the table says; the sound program, put
//! through the same, shows none.

use super::*;
use crate::planted::Bug;
use crate::snapshot::collect::{load, sweep};
use crate::vfs::Access;
use crate::vfs::mem::{CallKind, Fault, MemFile, SyncFailure};

/// A bug number that no bug has.
const NONE: usize = usize::MAX;

/// A simulated disk whose program has the bug of that number.
#[derive(Clone)]
struct Buggy<const BUG: usize>(MemVfs);

impl<const BUG: usize> Vfs for Buggy<BUG> {
    type File = MemFile;

    const PIECE: usize = MemVfs::PIECE;
    const HELD: usize = MemVfs::HELD;

    fn create_root(&self) -> io::Result<()> {
        self.0.create_root()
    }
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.0.create_dir(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn create(&self, path: &str) -> io::Result<MemFile> {
        self.0.create(path)
    }
    fn open(&self, path: &str, access: Access) -> io::Result<MemFile> {
        self.0.open(path, access)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.remove(path)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn available_space(&self) -> io::Result<u64> {
        self.0.available_space()
    }
    fn entropy(&self) -> io::Result<[u8; 16]> {
        self.0.entropy()
    }
    fn planted(bug: Bug) -> bool {
        bug as usize == BUG
    }
}

/// Whether a snapshot that was sealed before a power loss is still whole.
fn survives<const BUG: usize>() -> bool {
    let vfs = disk();
    let digest = publish(&Buggy::<BUG>(vfs.clone()), &Known::default(), 1, &noise(200, 1));
    read(&power_loss(&vfs), digest).is_ok_and(|bytes| bytes == noise(200, 1))
}

#[test]
fn an_unsynced_publication_is_lost() {
    assert!(survives::<NONE>());
    assert!(!survives::<{ Bug::SnapshotDataNotSynced as usize }>());
    assert!(!survives::<{ Bug::ManifestNotSynced as usize }>());
    assert!(!survives::<{ Bug::SnapshotDirNotSynced as usize }>());
}

/// Whether a snapshot survives whose chunks an earlier process left in the cache only.
fn survives_left_overs<const BUG: usize>() -> bool {
    let vfs = disk();
    vfs.set_faults(Some(Arc::new(|call| {
        (call.kind == CallKind::SyncData).then_some(Fault::FailSync(SyncFailure::Late))
    })));
    let mut dying = builder(&vfs, &Known::default(), 1, None);
    dying.write_all(&noise(200, 1)).unwrap();
    std::mem::forget(dying);
    vfs.set_faults(None);

    let buggy = Buggy::<BUG>(vfs.clone());
    let mut table = load(&buggy, &WHO, &[]);
    sweep(&buggy, &mut table).unwrap();
    let digest = publish(&buggy, &Arc::new(Mutex::new(table)), 1, &noise(200, 1));
    read(&power_loss(&vfs), digest).is_ok_and(|bytes| bytes == noise(200, 1))
}

#[test]
fn a_trusted_left_over_is_lost() {
    assert!(survives_left_overs::<NONE>());
    assert!(!survives_left_overs::<{ Bug::StaleChunkReused as usize }>());
}

/// What a reader gives of two chunks after `change` was done to the first one's file.
fn given<const BUG: usize>(level: Option<i32>, change: impl Fn(&mut Vec<u8>)) -> io::Result<Vec<u8>> {
    let (vfs, known) = (disk(), Known::default());
    let mut builder = builder(&vfs, &known, 1, level);
    builder.write_all(&text(128)).unwrap();
    let digest = builder.finish().unwrap().digest;
    let mut image = vfs.image();
    let file = format!("{DIR}/{}.chunk", crate::snapshot::hash_of(&text(64)));
    let mut bytes = image.read(&file).unwrap();
    change(&mut bytes);
    image.put(&file, &bytes);
    read(&Buggy::<BUG>(MemVfs::from_image(image)), digest)
}

/// Whether wrong bytes are given without an error.
fn silent<const BUG: usize>(level: Option<i32>, change: impl Fn(&mut Vec<u8>)) -> bool {
    given::<BUG>(level, change).is_ok_and(|bytes| bytes != text(128))
}

#[test]
fn an_unchecked_chunk_is_silent() {
    let flip = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    assert!(!silent::<NONE>(None, flip));
    assert!(silent::<{ Bug::ChunkHashUnchecked as usize }>(None, flip));
}

#[test]
fn a_short_chunk_is_silent() {
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 5);
    for level in [None, Some(3)] {
        assert!(!silent::<NONE>(level, cut));
        assert!(silent::<{ Bug::ShortChunkAccepted as usize }>(level, cut));
    }
}

#[test]
fn a_foreign_chunk_is_silent() {
    let (other, known) = (disk(), Known::default());
    let foreign = SnapshotSpec { store: [8; 16], ..spec(1) };
    let mut builder = SnapshotBuilder::new(other.clone(), foreign, None, CHUNK, known).unwrap();
    builder.write_all(&noise(40, 7)).unwrap();
    let _sealed = builder.finish().unwrap();
    let image = other.image();
    let file = files(&image).into_iter().find(|name| name.ends_with("chunk")).unwrap();
    let swap = |bytes: &mut Vec<u8>| *bytes = image.read(file).unwrap();
    assert!(!silent::<NONE>(None, swap));
    assert!(silent::<{ Bug::ForeignChunkAccepted as usize }>(None, swap));
}
