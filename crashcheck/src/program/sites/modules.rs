//! The files that programs run: what is needed to walk through them, read once.
//!
//! I own their numbers and what of an ELF file a walk needs.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, NativeEndian, UnwindSection};
use object::read::{ReadCache, ReadRef};
use object::{Object, ObjectSection, ObjectSegment};

use crate::program::recording::Module;

/// The files that were met.
#[derive(Debug, Default)]
pub(super) struct Modules {
    list: Vec<Module>,
    /// Each by its device, inode number and length.
    known: HashMap<(u64, u64, u64), Option<Arc<Code>>>,
}

/// A file's code.
#[derive(Debug)]
pub(super) struct Code {
    /// Its number.
    pub(super) module: u32,
    segments: Vec<Segment>,
    pub(super) eh_frame: Option<Section>,
    pub(super) eh_frame_hdr: Option<Section>,
}

/// A part of a file that is mapped.
#[derive(Debug)]
struct Segment {
    file: Range<u64>,
    address: u64,
}

/// A section's address and bytes.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) address: u64,
    pub(super) bytes: Arc<[u8]>,
}

impl Code {
    /// The address, as stated in the file, of what is at an offset of it.
    pub(super) fn address(&self, offset: u64) -> Option<u64> {
        // A mapping begins with a page; a segment may begin within it, where another one ends.
        let begins = |segment: &&Segment| segment.file.start & !0xfff == offset;
        let holds = |segment: &&Segment| segment.file.contains(&offset);
        let found = self.segments.iter().find(begins).or_else(|| self.segments.iter().find(holds))?;
        Some(found.address.wrapping_add(offset).wrapping_sub(found.file.start))
    }
}

impl Code {
    /// Where the function begins that an address is in.
    pub(super) fn function(&self, address: u64) -> Option<u64> {
        let (frames, index) = (self.eh_frame.as_ref()?, self.eh_frame_hdr.as_ref()?);
        let bases = BaseAddresses::default().set_eh_frame(frames.address).set_eh_frame_hdr(index.address);
        let index = EhFrameHdr::new(&index.bytes, NativeEndian).parse(&bases, 8).ok()?;
        let frames = EhFrame::new(&frames.bytes, NativeEndian);
        let found =
            index.table()?.fde_for_address(&frames, &bases, address, EhFrame::cie_from_offset).ok()?;
        Some(found.initial_address())
    }
}

impl Modules {
    /// The files by number.
    pub(super) fn list(&self) -> Vec<Module> {
        self.list.clone()
    }

    /// What a mapped file holds; `path` is its name there, `at` where it can be opened.
    pub(super) fn get(&mut self, path: &str, at: &Path) -> Option<Arc<Code>> {
        let file = File::open(at).ok()?;
        let meta = file.metadata().ok()?;
        let key = (meta.dev(), meta.ino(), meta.len());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let module = u32::try_from(self.list.len()).ok()?;
        let cache = ReadCache::new(file);
        let read = read(&cache, module);
        if let Some((_, id)) = &read {
            self.list.push(Module { path: path.to_owned(), id: id.clone(), len: meta.len() });
        }
        let code = read.map(|(code, _)| Arc::new(code));
        self.known.insert(key, code.clone());
        code
    }
}

/// What a walk needs of a file, and its build's name.
fn read<'f>(file: impl ReadRef<'f>, module: u32) -> Option<(Code, Vec<u8>)> {
    let elf = object::File::parse(file).ok()?;
    let segment = |segment: object::Segment<'f, '_, _>| {
        let (offset, len) = segment.file_range();
        Segment { file: offset..offset + len, address: segment.address() }
    };
    let section = |name: &str| {
        let section = elf.section_by_name(name)?;
        Some(Section { address: section.address(), bytes: Arc::from(section.data().ok()?) })
    };
    let code = Code {
        module,
        segments: elf.segments().map(segment).collect(),
        eh_frame: section(".eh_frame"),
        eh_frame_hdr: section(".eh_frame_hdr"),
    };
    Some((code, elf.build_id().ok().flatten().unwrap_or_default().to_vec()))
}
