//! The newest snapshot of one state machine.
//!
//! I own where it is: in a group of its own that has no log, so that it is switched in one step and the old
//! one goes when the new one is durable. I know neither the state machine nor openraft's types.

use std::io::{self, Read, Write};

use seawall::vfs::Vfs;
use seawall::{Error, LogId};

use crate::group::{Group, Id, io_error};

impl<V: Vfs> Group<V> {
    /// Stores a snapshot; durable on return. `false` if a newer one is there: nothing changed then.
    pub(crate) fn save_snapshot(&self, last: Option<Id>, meta: &[u8], content: &[u8]) -> io::Result<bool> {
        // The state before any entry has a place of its own below all others.
        let id = last.map_or(LogId::new(1, 0), |id| LogId::new(id.index.saturating_add(2), id.term));
        let mut writer = self.engine.snapshot_writer(self.id, id, meta).map_err(io_error)?;
        writer.write_all(content)?;
        match writer.install() {
            Ok(_) => Ok(true),
            Err(Error::StaleSnapshot { .. }) => Ok(false),
            Err(e) => Err(io_error(e)),
        }
    }

    /// The description and the bytes of the stored snapshot, if there is one.
    pub(crate) fn load_snapshot(&self) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let mut reader = match self.engine.snapshot_reader(self.id) {
            Err(Error::NoSnapshot { .. }) => return Ok(None),
            other => other.map_err(io_error)?,
        };
        let meta = reader.membership().to_vec();
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        Ok(Some((meta, content)))
    }
}
