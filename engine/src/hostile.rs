//! Entry points for fuzzers: any bytes go in, no panic comes out.
//!
//! I own three short ways from raw bytes into the decoders and into a whole open. What an open takes must be
//! consistent and must go on: that is checked, and only by panics.

use crate::engine::Engine;
use crate::error::Error;
use crate::frame::{self, Place, Probe};
use crate::inspect::Store;
use crate::options::{Driver, Options};
use crate::types::{Entry, Epoch, GroupId, LogId, SegmentId};
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

/// Opens a directory that holds these files, read-only and then for writing, and goes on in what was opened. Names
/// that no directory can hold are left out.
///
/// # Panics
/// If what an open took is not consistent, or the next open does not take what was closed.
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
    if let Ok((engine, _)) = Engine::open_in(vfs.clone(), options.clone()) {
        engine.groups().into_iter().for_each(|group| go_on(&engine, group));
        let closed = engine.close();
        match Engine::open_in(vfs, options) {
            // It had come so far that one open more is too many.
            Ok(_) | Err(Error::NumbersSpent { .. }) => {}
            Err(e) => panic!("closed ({closed:?}) and not to be opened again: {e}"),
        }
    }
}

/// Reads a group and writes to it.
fn go_on(engine: &Engine<MemVfs>, id: GroupId) {
    let group = engine.group(id).expect("it is listed");
    let (first, last) = (group.first, group.last.index);
    assert!(group.purged.index.max(group.commit) <= last, "{group:?}");
    match engine.read(id, first..last.next(), 1 << 20) {
        Ok(entries) => {
            let found = entries.iter().map(|entry| entry.id.index.0);
            assert!(found.eq((first.0..=last.0).take(entries.len())), "{group:?}");
        }
        Err(Error::Damaged { .. }) => {}
        Err(e) => panic!("{group:?}: {e}"),
    }
    let entry = Entry { id: LogId { index: last.next(), ..group.last }, ..Entry::command(0, 0, *b"next") };
    match engine.append(id, &[entry]) {
        Ok(()) => engine.commit(id, last.next()).expect("it is the last"),
        Err(Error::Blocked { .. } | Error::OutOfRange { .. } | Error::StateFull { .. }) => {}
        Err(e) => panic!("{group:?}: {e}"),
    }
}
