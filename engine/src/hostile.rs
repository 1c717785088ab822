//! Entry points for fuzzers: any bytes go in, no panic comes out.
//!
//! I own three short ways from raw bytes into the decoders and into a whole open.

use crate::engine::Engine;
use crate::frame::{self, Place, Probe};
use crate::inspect::Store;
use crate::options::{Driver, Options};
use crate::types::{Epoch, SegmentId};
use crate::vfs::mem::{Content, Image, MemVfs};
use crate::vfs::os::is_plain;

/// A place that the frames of no real store have.
const PLACE: Place = Place { store: [7; 16], segment: SegmentId(3), epoch: Epoch(2), unit: 512 };

/// Decodes bytes as a frame, then, with the checksums made to hold, as a frame again, so that the
/// code behind them is reached.
pub fn decode_frame(bytes: &[u8]) {
    let salt = PLACE.salt::<MemVfs>();
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(512).max(512), 0);
    for mend in [false, true] {
        if mend {
            frame::mend(&mut bytes, &PLACE, salt);
        }
        if let Probe::Frame(header) = frame::probe::<MemVfs>(&bytes, &PLACE, 512) {
            drop(frame::open::<MemVfs>(&bytes, &header, salt));
        }
    }
    drop(crate::record::take_items(&bytes, false));
    drop(crate::record::take_items(&bytes, true));
    drop(crate::state::decode(&bytes));
}

/// Opens a store whose only segment holds these bytes.
pub fn scan_segment(bytes: &[u8]) {
    let store = crate::types::Identity { cluster: 1, node: 1, store: [7; 16] };
    let shape = crate::log::Shape { identity: store, unit: 512, size: 16 << 10 };
    let identity = crate::identity::encode(&shape);
    open_directory(&[(crate::identity::NAME, &identity), ("0000000000000001.seg", bytes)]);
}

/// Opens a directory that holds these files, read-only and then for writing. Names that no directory can hold
/// are left out.
pub fn open_directory(files: &[(&str, &[u8])]) {
    let mut image = Image::default();
    image.dirs.insert(crate::facts::SNAPSHOTS.into());
    for (name, bytes) in files.iter().filter(|(name, _)| !name.is_empty() && is_plain(name)) {
        image.files.insert((*name).into(), Content::from_bytes(bytes));
    }
    let vfs = MemVfs::from_image(image);
    if let Ok((store, _)) = Store::open_read_only_in(vfs.fork()) {
        drop(store.records().map(|r| r.count()));
        drop(store.verify());
    }
    let options = Options { driver: Driver::Caller, ..Options::default() };
    if let Ok((engine, _)) = Engine::open_in(vfs, options) {
        for group in engine.groups() {
            let Ok(status) = engine.group(group) else { continue };
            drop(engine.read(group, status.first..status.last.index.next(), 1 << 20));
        }
        drop(engine.close());
    }
}
