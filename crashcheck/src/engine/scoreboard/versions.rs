//! Stores that a newer program made: refused with no byte changed, or read as far as their bits allow.
//!
//! I own what a newer program may have written into the identity: a version, or a feature bit of each class.
//! There is one version so far, so a newer writer is this one with the identity changed.

use std::ops::Range;

use seawall::identity::{self, field};
use seawall::vfs::mem::{Image, MemVfs};
use seawall::{Engine, Error, Store, checksum, segment};

use super::{Piece, Row};
use crate::engine::execute::{execute, open_options};
use crate::engine::generate::Plan;
use crate::engine::observe::observe;

/// What a newer program wrote.
#[derive(Clone, Copy, Debug)]
enum Newer {
    /// A feature that a program may ignore.
    Ignorable,
    /// A feature that a program must know to write.
    ReadOnly,
    /// A feature that a program must know to read.
    Refuse,
    /// Another version.
    Version,
}

const ALL: [Newer; 4] = [Newer::Ignorable, Newer::ReadOnly, Newer::Refuse, Newer::Version];

pub(super) fn versions(piece: &Piece) -> Row {
    let stores: u64 = piece.size.pick(1_000, 100_000);
    let mut row =
        Row::new("versions", format!("the identity of a newer program in {stores} stores, four kinds of it"));
    let plan = Plan::new(1, 3, 2);
    let each = |_, number: u64, _: &_| {
        let image = execute::<MemVfs>(&plan.sequence(number)).image;
        let mut one = Row::default();
        for newer in ALL {
            one.cases += 1;
            let bit = 1 << (number % 32);
            match super::super::quiet_result(|| judge(&image, newer, bit)) {
                Some(Ok(())) => {}
                Some(Err(text)) => {
                    one.silent += 1;
                    one.tell(format!("sequence {number}, {newer:?}, bit {bit:#x}: {text}"));
                }
                None => one.panics += 1,
            }
        }
        Some(one)
    };
    piece.pool(&mut row, 0..stores, each, Row::merge);
    row
}

/// The store with both copies of its identity changed and their checksums right again.
fn made_by(image: &Image, newer: Newer, bit: u32) -> Image {
    let mut image = image.clone();
    let content = image.files.get_mut(identity::NAME).expect("it is a store");
    let (at, value): (Range<usize>, u32) = match newer {
        Newer::Ignorable => (field::IGNORABLE, bit),
        Newer::ReadOnly => (field::READ_ONLY, bit),
        Newer::Refuse => (field::REFUSE, bit),
        Newer::Version => (field::VERSION, segment::FORMAT_VERSION + 1),
    };
    for copy in [0, identity::SECOND_COPY] {
        let mut raw = [0; field::LEN];
        content.read(copy, &mut raw);
        raw[at.clone()].copy_from_slice(&value.to_le_bytes());
        let sum = checksum::crc(0, &raw[..field::CRC.start]);
        raw[field::CRC].copy_from_slice(&sum.to_le_bytes());
        content.write(copy, &raw);
    }
    image
}

fn judge(image: &Image, newer: Newer, bit: u32) -> Result<(), String> {
    let state = |image: &Image| -> Result<_, String> {
        let (store, _) =
            Store::open_read_only_in(MemVfs::from_image(image.clone())).map_err(|e| e.to_string())?;
        observe(&store).map_err(|e| e.text)
    };
    let known = state(image)?;
    let changed = made_by(image, newer, bit);
    let mem = MemVfs::from_image(changed.clone());
    let opened = Engine::open_in(mem.clone(), open_options());
    let looked = state(&changed);
    match (newer, opened) {
        (Newer::Ignorable, Ok((engine, report))) => {
            if report.is_alarm() || observe(&engine).as_ref() != Ok(&known) {
                return Err(format!("a feature that may be ignored changed what is there: {report}"));
            }
            let kept = mem.image().read(identity::NAME) == changed.read(identity::NAME);
            return if kept { Ok(()) } else { Err("its bits are gone".into()) };
        }
        (Newer::ReadOnly, Err(Error::UnsupportedFeature { .. })) if looked.as_ref() == Ok(&known) => {}
        (Newer::Refuse, Err(Error::UnsupportedFeature { .. })) if looked.is_err() => {}
        (Newer::Version, Err(Error::UnsupportedVersion { .. })) if looked.is_err() => {}
        (_, opened) => {
            let opened = opened.map(|(_, report)| report.to_string());
            return Err(format!("a writable open gave {opened:?}, a look {:?}", looked.map(drop)));
        }
    }
    if mem.image() == changed { Ok(()) } else { Err("refused, and a byte was changed".into()) }
}
