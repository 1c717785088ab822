//! A durable log and snapshot store for consensus nodes.
//!
//! A node never restarts with silently partial state: after any crash, [`Engine::open`] returns
//! exactly what was acknowledged, or that state repaired, or a report that names what is lost.
//!
//! ```
//! use seawall::{CreateOptions, Engine, Entry, GroupId, Index, Options, Vote};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("store");
//! let group = GroupId(1);
//! let small = CreateOptions { segment_bytes: 1 << 20, ..CreateOptions::new(1, 1) };
//! Engine::create(&dir, &small)?;
//!
//! let (engine, _report) = Engine::open(&dir, Options::default())?;
//! engine.create_group(group)?;
//! engine.save_vote(group, Vote::new(1, 0, *b"me"))?;
//! engine.append(group, &[Entry::command(1, 1, *b"first"), Entry::command(2, 1, *b"second")])?;
//! drop(engine); // as a crash would
//!
//! let (engine, report) = Engine::open(&dir, Options::default())?;
//! assert!(!report.is_alarm());
//! let entries = engine.read(group, Index(1)..Index(3), u64::MAX)?;
//! assert_eq!(&entries[1].data[..], b"second");
//! engine.close()?;
//! # Ok(()) }
//! ```
//!
//! Where to look: [`engine`] is the writable handle and [`inspect`] the read-only one; [`docs`] holds
//! the architecture, the format and the model.
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("seawall needs 64-bit offsets and mappings of whole segments: build it for a 64-bit target");
#[cfg(windows)]
compile_error!("seawall needs fsync of directories and POSIX rename, which Windows does not have");

mod by_group;
pub mod checksum;
pub mod commit;
mod create;
pub mod engine;
pub mod error;
pub mod evidence;
pub mod facts;
pub mod frame;
pub mod highwater;
pub mod hostile;
pub mod identity;
pub mod index;
pub mod inspect;
pub mod log;
pub mod options;
#[doc(hidden)]
pub mod planted;
pub mod quarantine;
pub mod record;
pub mod recovery;
pub mod report;
pub mod scan;
pub mod segment;
pub mod snapshot;
mod space;
pub mod state;
pub mod status;
pub mod submit;
mod sync;
pub mod types;
pub mod vfs;

pub use commit::{Flush, Synced, Ticket};
pub use engine::{Claim, Engine, Scrubbed, SnapshotWriter};
pub use error::{Error, OverloadReason, Result};
pub use evidence::{Act, Event, Evidence, Noted};
pub use inspect::{Damage, DumpRecord, Membership, MembershipSource, Proof, Store, VerifyReport};
pub use options::{CreateOptions, Driver, Options, RecoveryPolicy, Witness};
pub use report::{Lost, MaybeAcked, RecoveryReport, Repair, Tail};
pub use snapshot::SnapshotFault;
pub use snapshot::format::ChunkRef;
pub use snapshot::reader::SnapshotReader;
pub use status::{GroupStatus, Status};
pub use submit::WriteBatch;
pub use types::{
    Digest, Entry, EntryKind, EntryView, Epoch, GroupId, Identity, Incarnation, Index, LeaderTag, LogId,
    Outcome, Position, SegmentId, SnapshotOwner, SnapshotPointer, Term, Vote, VoteKey,
};

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The documents, as they stand beside the source.
pub mod docs {
    #[doc = include_str!("../docs/ARCHITECTURE.md")]
    pub mod architecture {}
    #[doc = include_str!("../docs/FORMAT.md")]
    pub mod format {}
    #[doc = include_str!("../docs/MODEL.md")]
    pub mod model {}
}
