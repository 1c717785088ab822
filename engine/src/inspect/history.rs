//! The past of a store, also of one that refuses to open: evidence, and the memberships of each group.
//!
//! I own what can be told without a state. (K3) I need the identity and nothing else: a segment or a snapshot
//! that does not hold is passed over, and what it would have told is missing. A membership is a fold over the
//! entries after the newest snapshot; I list both and fold nothing.

use std::path::Path;

use serde::Serialize;

use super::{Proof, Records, Store, segment_names, shape_of};
use crate::error::{Error, Result};
use crate::evidence::{self, Evidence};
use crate::facts::SNAPSHOTS;
use crate::record::Kind;
use crate::snapshot::reader::SnapshotReader;
use crate::types::{Digest, GroupId, Incarnation, LogId, Position};
use crate::vfs::Vfs;
use crate::vfs::os::OsVfs;

/// Where a membership stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MembershipSource {
    /// In the manifest of an owned snapshot, live or not.
    Snapshot,
    /// In a membership entry, live or not.
    Entry,
}

/// One membership that a group had, or was to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Where it stands.
    pub source: MembershipSource,
    /// The group.
    pub group: GroupId,
    /// Which group of that id.
    pub incarnation: Incarnation,
    /// The entry, or the last one that the snapshot covers.
    pub id: LogId,
    /// The entry's place in the stream; `None` for a snapshot.
    pub position: Option<Position>,
    /// How sure it is; of a snapshot nothing is known without the log.
    pub state: Proof,
    /// The host's bytes; empty if damaged.
    pub data: Vec<u8>,
}

impl Store<OsVfs> {
    /// The evidence of the store in a directory; see [`Store::evidence_in`].
    pub fn evidence(dir: impl AsRef<Path>) -> Result<Evidence> {
        Self::evidence_in(&OsVfs::at(dir))
    }

    /// The memberships in the store in a directory; see [`Store::memberships_in`].
    pub fn memberships(dir: impl AsRef<Path>) -> Result<Vec<Membership>> {
        Self::memberships_in(&OsVfs::at(dir))
    }
}

impl<V: Vfs> Store<V> {
    /// What was done to stored bytes other than appending. Read from a directory whose log may refuse to
    /// open; what does not hold is in the answer.
    pub fn evidence_in(vfs: &V) -> Result<Evidence> {
        evidence::read(vfs, &shape_of(vfs)?.identity.store)
    }

    /// Every membership that stands in a directory whose log may refuse to open: those of snapshots, then
    /// those of entries in the order of the stream. An entry is proven only if the log can be looked at.
    pub fn memberships_in(vfs: &V) -> Result<Vec<Membership>> {
        let shape = shape_of(vfs)?;
        let mut found = Vec::new();
        let names = vfs.list(SNAPSHOTS).or_else(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => Err(Error::io("list", SNAPSHOTS)(e)),
        })?;
        for digest in names.iter().filter_map(|n| Digest::parse(n.strip_suffix(".manifest")?)) {
            let Ok(reader) = SnapshotReader::open(vfs, &shape.identity, digest) else { continue };
            found.push(Membership {
                source: MembershipSource::Snapshot,
                group: reader.group(),
                incarnation: reader.incarnation(),
                id: reader.id(),
                position: None,
                state: Proof::Unproven,
                data: reader.membership().to_vec(),
            });
        }
        found.sort_by_key(|m| (m.group, m.incarnation, m.id.index));
        let mark = match Self::look(vfs, &shape) {
            Ok((_, report)) => report.maybe_acked.map_or(report.position, |m| m.above),
            Err(_) => Position(0),
        };
        let records = Records::new(vfs, shape, segment_names(vfs)?, mark);
        // A segment that cannot be walked tells nothing; the next one may.
        for record in records.flatten().filter(|record| record.kind == Kind::Membership.name()) {
            found.push(Membership {
                source: MembershipSource::Entry,
                group: record.group,
                incarnation: record.incarnation,
                id: record.id,
                position: Some(record.position),
                state: record.state,
                data: record.data.to_vec(),
            });
        }
        Ok(found)
    }
}
