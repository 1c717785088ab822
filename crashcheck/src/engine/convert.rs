//! Between the engine's simulated disk and the core's traces and images.
//!
//! I own the translation; the shapes are the same on both sides, so pages are shared, not copied.
//! I judge nothing.

use seawall::vfs::mem;

use crate::core::image::{Content, Image};
use crate::core::trace::{Ino, Op, Step, Trace};

/// The disk of an image, shared page by page.
#[must_use]
pub fn to_disk(image: Image) -> mem::Image {
    let files = image.files.into_iter().map(|(path, c)| (path, mem::Content { len: c.len, pages: c.pages }));
    mem::Image { dirs: image.dirs, files: files.collect() }
}

/// The image of a disk, shared page by page.
#[must_use]
pub fn from_disk(image: mem::Image) -> Image {
    let files = image.files.into_iter().map(|(path, c)| (path, Content { len: c.len, pages: c.pages }));
    Image { dirs: image.dirs, files: files.collect(), ..Image::default() }
}

/// The core's trace of a recording.
#[must_use]
pub fn trace(recorded: mem::Trace) -> Trace {
    Trace {
        initial: from_disk(recorded.initial),
        inos: recorded.inos.into_iter().map(|(path, ino)| (path, Ino(ino.0))).collect(),
        steps: recorded.ops.into_iter().map(|r| Step { failed: r.failed, ..op(r.op).into() }).collect(),
    }
}

fn op(op: mem::Op) -> Op {
    match op {
        mem::Op::CreateDir { path } => Op::CreateDir { path },
        mem::Op::Create { path, ino } => Op::Create { path, ino: Ino(ino.0) },
        mem::Op::Write { ino, offset, data } => Op::Write { ino: Ino(ino.0), offset, data },
        mem::Op::SetLen { ino, len } => Op::SetLen { ino: Ino(ino.0), len },
        mem::Op::Rename { from, to, .. } => Op::Rename { from, to },
        mem::Op::Remove { path, .. } => Op::Remove { path },
        mem::Op::SyncData { ino, .. } => Op::SyncData { ino: Ino(ino.0) },
        mem::Op::SyncAll { ino, .. } => Op::SyncAll { ino: Ino(ino.0) },
        mem::Op::SyncDir { path } => Op::SyncDir { path },
        mem::Op::Mark(n) => Op::Mark(n),
    }
}
