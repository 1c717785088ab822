//! Where a store lives, and what is left of it when the power or the process goes.
//!
//! I own the two kinds of places and what each can tell. On a simulated disk a power loss is exact: what was
//! synced is there, and of the rest nothing or everything. In a real directory I know the death of the process
//! alone: everything that was written is there; what a power loss leaves there a recording shows
//! (`recorded`). I do not know stores.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall::vfs::mem::{Content, MemVfs};
use tempfile::TempDir;

/// A place for one store. A clone is the same place.
#[derive(Clone, Debug)]
pub enum Place {
    /// A simulated disk.
    Simulated(MemVfs),
    /// A real directory.
    Directory {
        /// Where it is.
        path: PathBuf,
        /// Removes it with the last clone, if it is a temporary one.
        temporary: Option<Arc<TempDir>>,
    },
}

impl Place {
    /// An empty simulated disk.
    #[must_use]
    pub fn simulated() -> Self {
        let disk = MemVfs::new();
        disk.track();
        Self::Simulated(disk)
    }

    /// An empty temporary directory.
    ///
    /// # Errors
    /// Of making it.
    pub fn directory() -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        Ok(Self::Directory { path: dir.path().to_owned(), temporary: Some(Arc::new(dir)) })
    }

    /// A directory that stays.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self::Directory { path: path.to_owned(), temporary: None }
    }

    /// The simulated disk.
    ///
    /// # Errors
    /// If it is a directory.
    pub fn disk(&self) -> io::Result<&MemVfs> {
        match self {
            Self::Simulated(disk) => Ok(disk),
            Self::Directory { .. } => Err(io::Error::other("the store needs a simulated disk")),
        }
    }

    /// The directory.
    ///
    /// # Errors
    /// If it is a simulated disk.
    pub fn path(&self) -> io::Result<&Path> {
        match self {
            Self::Directory { path, .. } => Ok(path),
            Self::Simulated(_) => Err(io::Error::other("the store needs a directory")),
        }
    }

    /// The name and the bytes of every file.
    pub(crate) fn contents(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        match self {
            Self::Simulated(disk) => {
                let files = disk.image().files;
                Ok(files.into_iter().map(|(name, content)| (name, content.to_bytes())).collect())
            }
            Self::Directory { path, .. } => {
                let named = |file: PathBuf| {
                    let name = file.strip_prefix(path).expect("below the directory").display().to_string();
                    Ok((name, std::fs::read(&file)?))
                };
                files(path)?.into_iter().map(named).collect()
            }
        }
    }

    /// A copy in which a file has other bytes.
    pub(crate) fn with(&self, name: &str, bytes: Vec<u8>) -> io::Result<Self> {
        match self {
            Self::Simulated(disk) => {
                let mut image = disk.image();
                image.files.insert(name.to_owned(), Content::from_bytes(&bytes));
                let disk = MemVfs::from_image(image);
                disk.track();
                Ok(Self::Simulated(disk))
            }
            Self::Directory { path, .. } => {
                let copy = Self::directory()?;
                copy_all(path, copy.path()?)?;
                std::fs::write(copy.path()?.join(name), bytes)?;
                Ok(copy)
            }
        }
    }

    /// What may be left now, each in a place of its own, with words for it.
    ///
    /// # Errors
    /// Of copying a directory.
    pub fn remains(&self) -> io::Result<Vec<(&'static str, Self)>> {
        match self {
            Self::Simulated(disk) => {
                let place = |image| {
                    let disk = MemVfs::from_image(image);
                    disk.track();
                    Self::Simulated(disk)
                };
                Ok(vec![
                    ("a power loss that keeps what is synced", place(disk.durable_image())),
                    ("the death of the process", place(disk.image())),
                ])
            }
            Self::Directory { path, .. } => {
                let copy = Self::directory()?;
                copy_all(path, copy.path()?)?;
                Ok(vec![("the death of the process", copy)])
            }
        }
    }
}

/// Copies a tree of plain files.
fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    for file in files(from)? {
        let target = to.join(file.strip_prefix(from).expect("below the directory"));
        std::fs::create_dir_all(target.parent().expect("below a directory"))?;
        std::fs::copy(&file, target)?;
    }
    Ok(())
}

/// The plain files of a tree, sorted.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
