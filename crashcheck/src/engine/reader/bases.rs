//! The stores that the cases damage.
//!
//! I own which they are: the two of the media faults, one with a torn tail, the golden one, some after random
//! sequences of operations, and what is left where an open, a rotation or a close is cut short at each of its
//! calls. I damage none.

use std::path::Path;
use std::sync::Arc;

use seawall::frame::{self, Place};
use seawall::log::Shape;
use seawall::segment::{self, HeaderFact};
use seawall::types::{Entry, SegmentId};
use seawall::vfs::mem::{Fault, Image, MemVfs, PAGE};
use seawall::vfs::{Access, Vfs as _};
use seawall::{Engine, identity};

use super::super::execute::{execute, open_options};
use super::super::generate::{Random, Sequence};
use super::super::media::{Known, damaged_files, torn_tail};
use super::super::step::{self, GROUPS, payload};

/// An input/output error.
const EIO: i32 = 5;
/// Stores after random operations.
const SEQUENCES: u64 = 24;
/// The golden store.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/golden");

/// A frame that stands in a store.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) base: usize,
    pub(super) file: String,
    pub(super) at: u32,
    pub(super) place: Place,
}

/// The stores, and what of them is drawn from again and again.
pub(super) struct Bases {
    pub(super) images: Vec<Image>,
    pub(super) shapes: Vec<Shape>,
    /// Every frame of every store.
    pub(super) frames: Vec<Standing>,
    /// Whole-file damage to the first two.
    pub(super) coarse: Vec<(usize, Image)>,
}

/// How many of the stores get every bit flipped in turn.
pub(super) const PLAIN: usize = 4;

impl Bases {
    /// Makes them all; the same on every call.
    pub(super) fn make(seed: u64) -> Result<Self, String> {
        let known = [Known::unclean::<MemVfs>(), Known::clean::<MemVfs>()];
        let mut images: Vec<Image> = known.iter().map(|k| k.image.clone()).collect();
        images.push(torn_tail::<MemVfs>(&known[0]).0);
        images.push(golden()?);
        assert_eq!(images.len(), PLAIN, "those that others follow");
        let mut random = Random::new(seed);
        for _ in 0..SEQUENCES {
            images.push(after_random_steps(&mut random));
        }
        for image in [images[0].clone(), images[2].clone(), images[PLAIN].clone()] {
            interrupted(&image, &mut images);
        }
        let mut coarse = Vec::new();
        for (base, known) in known.iter().enumerate() {
            coarse
                .extend(damaged_files::<MemVfs>(known).iter().map(|damage| (base, damage.on(&known.image))));
        }
        let mut made = Self { images: Vec::new(), shapes: Vec::new(), frames: Vec::new(), coarse };
        for image in images {
            if !made.images.contains(&image) {
                made.add(image)?;
            }
        }
        Ok(made)
    }

    fn add(&mut self, image: Image) -> Result<(), String> {
        let vfs = MemVfs::from_image(image.clone());
        let file =
            vfs.open(identity::NAME, Access::Read).map_err(|e| format!("a store without identity: {e}"))?;
        let shape = identity::read::<MemVfs>(&file).map_err(|e| format!("a store's identity: {e}"))?.shape;
        for file in image.files.keys() {
            let Some(id) = segment::parse_name(file) else { continue };
            let Some(place) = place_of(&image, file, id, &shape) else { continue };
            for at in (0..image.files[file].len).step_by(PAGE) {
                let mut magic = [0; 4];
                image.files[file].read(at, &mut magic);
                if magic == frame::MAGIC {
                    let at = u32::try_from(at).expect("within a segment");
                    self.frames.push(Standing { base: self.images.len(), file: file.clone(), at, place });
                }
            }
        }
        self.images.push(image);
        self.shapes.push(shape);
        Ok(())
    }
}

/// Where the frames of a segment must say that they stand.
pub(super) fn place_of(image: &Image, file: &str, id: SegmentId, shape: &Shape) -> Option<Place> {
    let mut raw = vec![0; shape.unit as usize];
    image.files[file].read(0, &mut raw);
    match segment::Header::decode::<MemVfs>(&raw, id, &shape.identity) {
        HeaderFact::Ours(header) => Some(header.place()),
        _ => None,
    }
}

fn golden() -> Result<Image, String> {
    let mut image = Image::default();
    image.dirs.insert("snapshots".into());
    for dir in ["", "snapshots/"] {
        let path = Path::new(GOLDEN).join(dir);
        let told = |e: std::io::Error| format!("{}: {e}", path.display());
        for entry in std::fs::read_dir(&path).map_err(told)? {
            let entry = entry.map_err(told)?;
            if entry.file_type().map_err(told)?.is_file() {
                let bytes = std::fs::read(entry.path()).map_err(told)?;
                image.put(&format!("{dir}{}", entry.file_name().to_string_lossy()), &bytes);
            }
        }
    }
    Ok(image)
}

fn after_random_steps(random: &mut Random) -> Image {
    let kinds = step::Kind::ALL;
    let count = 3 + random.below(10);
    let steps = (0..count).map(|_| {
        let kind = kinds[usize::try_from(random.below(kinds.len() as u64)).expect("few")];
        format!("{}.{}", kind.name(), random.below(4))
    });
    let text = steps.collect::<Vec<_>>().join(",");
    let steps = step::parse(&text).expect("the steps are well-formed");
    execute::<MemVfs>(&Sequence::of(steps)).image
}

/// What stands on the disk if an open, appends that rotate, and a close stop at each of their calls in turn.
fn interrupted(image: &Image, images: &mut Vec<Image>) {
    for failing in 0.. {
        let mem = MemVfs::from_image(image.clone());
        mem.set_faults(Some(Arc::new(move |call| (call.number >= failing).then_some(Fault::Errno(EIO)))));
        let done = work(&mem);
        mem.set_faults(None);
        let left = mem.image();
        if !images.contains(&left) {
            images.push(left);
        }
        if done.is_ok() {
            return;
        }
    }
}

fn work(mem: &MemVfs) -> seawall::Result<()> {
    let (engine, _) = Engine::open_in(mem.clone(), open_options())?;
    let group = GROUPS[1];
    if let Ok(status) = engine.group(group) {
        let last = status.last;
        let term = last.term.0.max(status.vote.as_ref().map_or(1, |v| v.key.term.0)).max(1);
        for n in 1..=4 {
            engine.append(group, &[Entry::command(last.index.0 + n, term, payload(n, 2900))])?;
        }
    }
    engine.close()
}
