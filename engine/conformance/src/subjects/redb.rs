//! A store on redb, written as its documentation teaches: a table of entries, a table of the rest, a write
//! transaction for each call, committed with the default durability.
//!
//! I own the schema and, for the simulated disk, a backend that hands redb's calls on. The backend's file is
//! made and its name synced before redb sees it. With `syncs` off the backend does nothing when asked to
//! sync: a store that acknowledges from the cache.

use std::fmt;
use std::io;
use std::ops::RangeBounds;

use crate::cases::Subject;
use crate::place::Place;
use crate::store::{Done, Ends, Entry, Id, Store, Vote};
use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition};
use seawall::vfs::mem::{MemFile, MemVfs};
use seawall::vfs::{self, Access, File, Vfs};

/// Terms and payloads by index.
const LOG: TableDefinition<u64, (u64, &str)> = TableDefinition::new("log");
/// The vote and the purged id, two numbers each.
const META: TableDefinition<&str, (u64, u64)> = TableDefinition::new("meta");
const FILE: &str = "store.redb";

/// A redb store on the simulated disk or in a directory.
pub struct Redb {
    /// Whether a sync is one, on the simulated disk.
    pub syncs: bool,
}

impl Subject for Redb {
    fn place(&self) -> io::Result<Place> {
        Ok(Place::simulated())
    }

    fn open(&self, place: &Place) -> io::Result<Box<dyn Store>> {
        let Place::Simulated(disk) = place else { return open_dir(place.path()?) };
        let backend = Backend::open(disk, self.syncs)?;
        let database = Database::builder().create_with_backend(backend).map_err(io::Error::other)?;
        Ok(Box::new(Redbed { database }))
    }
}

/// Opens the same store in a file of a real directory.
///
/// # Errors
/// As redb says.
pub fn open_dir(dir: &std::path::Path) -> io::Result<Box<dyn Store>> {
    let database = Database::create(dir.join(FILE)).map_err(io::Error::other)?;
    Ok(Box::new(Redbed { database }))
}

struct Backend {
    file: MemFile,
    syncs: bool,
}

impl Backend {
    fn open(disk: &MemVfs, syncs: bool) -> io::Result<Self> {
        let file = match disk.open(FILE, Access::ReadWrite) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let file = disk.create(FILE)?;
                disk.sync_dir("")?;
                file
            }
            other => other?,
        };
        Ok(Self { file, syncs })
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file on a simulated disk")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        vfs::read_exact_at(&self.file, out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.syncs { self.file.sync_data() } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        vfs::write_all_at::<MemVfs>(&self.file, data, offset)
    }
}

struct Redbed {
    database: Database,
}

impl Redbed {
    /// Runs one write transaction.
    fn write(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> io::Result<()> {
        let run = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            change(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        run().map_err(io::Error::other)
    }

    fn meta(&self, key: &str) -> io::Result<Option<(u64, u64)>> {
        let run = || -> Result<Option<(u64, u64)>, redb::Error> {
            let table = match self.database.begin_read()?.open_table(META) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                other => other?,
            };
            Ok(table.get(key)?.map(|value| value.value()))
        };
        run().map_err(io::Error::other)
    }

    fn entries(&self, range: impl RangeBounds<u64>) -> io::Result<Vec<Entry>> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        let run = || -> Result<Vec<Entry>, redb::Error> {
            let table = match self.database.begin_read()?.open_table(LOG) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                other => other?,
            };
            let mut found = Vec::new();
            for item in table.range::<u64>(bounds)? {
                let (index, value) = item?;
                let (term, payload) = value.value();
                found.push(Entry { id: Id { term, index: index.value() }, payload: payload.to_owned() });
            }
            Ok(found)
        };
        run().map_err(io::Error::other)
    }
}

impl Store for Redbed {
    fn append(&mut self, entries: Vec<Entry>, done: Done) -> io::Result<()> {
        let written = self.write(|transaction| {
            let mut table = transaction.open_table(LOG)?;
            for entry in &entries {
                table.insert(entry.id.index, (entry.id.term, entry.payload.as_str()))?;
            }
            Ok(())
        });
        done(written);
        Ok(())
    }

    fn save_vote(&mut self, vote: Vote) -> io::Result<()> {
        self.write(|transaction| {
            transaction.open_table(META)?.insert("vote", (vote.term, vote.node))?;
            Ok(())
        })
    }

    fn vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.meta("vote")?.map(|(term, node)| Vote { term, node }))
    }

    fn truncate(&mut self, from: u64) -> io::Result<()> {
        self.write(|transaction| {
            transaction.open_table(LOG)?.retain_in(from.., |_, _| false)?;
            Ok(())
        })
    }

    fn purge(&mut self, upto: Id) -> io::Result<()> {
        self.write(|transaction| {
            transaction.open_table(META)?.insert("purged", (upto.term, upto.index))?;
            transaction.open_table(LOG)?.retain_in(..=upto.index, |_, _| false)?;
            Ok(())
        })
    }

    fn read(&mut self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        self.entries(from..to.max(from))
    }

    fn ends(&mut self) -> io::Result<Ends> {
        let purged = self.meta("purged")?.map(|(term, index)| Id { term, index });
        let last = self.entries(..)?.last().map(|entry| entry.id);
        Ok((purged, last.or(purged)))
    }
}
