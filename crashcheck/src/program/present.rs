//! Lays a crash state out as a real directory.
//!
//! I own a directory in memory and what is known to be in it. A state is laid out by changing what differs
//! from the one before: whole names, and pages of files that stay. (P1) What a checker opened for writing,
//! or otherwise changed, is thrown away and made anew; the kernel tells of every such thing (inotify), and
//! if it may have missed one, all is made anew. So a checker must not keep files of the directory open
//! from one state to the next. (P2) Names of one file are names of one file. (P3) Where a checker that is another
//! user's goes on from one state to the next, the directory is made with that user's rights: whatever it puts in the way
//! meanwhile, nothing is reached that it could not reach itself.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::core::body::{Body, Entry};
use crate::core::image::PAGE;
use crate::core::trace::Ino;
use crate::program::names;
use crate::program::rights::{Acting, Rights};
use crate::program::scene::State;

/// A directory that shows states.
#[derive(Debug)]
pub struct Stage {
    root: PathBuf,
    modes: BTreeMap<Ino, u32>,
    owner: Option<Rights>,
    /// Whether that user's programs may be at it while a state is laid out.
    is_watched: bool,
    shown: BTreeMap<Arc<str>, Shown>,
    held: HashMap<Ino, Held>,
    inotify: Inotify,
    watches: HashMap<WatchDescriptor, String>,
    /// Whether the kernel may have more to tell than was read.
    reset: bool,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    File(Ino),
    Dir,
    Link(Arc<str>),
}

/// What is in a file.
#[derive(Debug)]
struct Held {
    len: u64,
    sum: u128,
    terms: Vec<u128>,
    path: Arc<str>,
}

impl From<&Entry> for Shown {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::File(ino) => Self::File(*ino),
            Entry::Dir(_) => Self::Dir,
            Entry::Link(target) => Self::Link(Arc::clone(target)),
        }
    }
}

impl Stage {
    /// An empty directory as a stage; files get the given modes.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub fn new(root: &Path, modes: BTreeMap<Ino, u32>) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let mut stage = Self {
            root: root.to_owned(),
            modes,
            owner: None,
            is_watched: false,
            shown: BTreeMap::new(),
            held: HashMap::new(),
            inotify,
            watches: HashMap::new(),
            reset: false,
        };
        stage.watch("")?;
        Ok(stage)
    }

    /// What is shown belongs to a user, whose programs may go on while a state is laid out.
    #[must_use]
    pub fn owned_by(mut self, owner: Option<Rights>, is_watched: bool) -> Self {
        (self.owner, self.is_watched) = (owner, is_watched);
        self
    }

    /// Where states are shown.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(names::name(path)) }
    }

    fn watch(&mut self, path: &str) -> io::Result<()> {
        let what = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        let watch = self.inotify.add_watch(&self.path(path), what)?;
        self.watches.insert(watch, path.to_owned());
        Ok(())
    }

    /// Makes the directory what a state is.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn show(&mut self, state: &State<'_>) -> io::Result<()> {
        let _acting = self.owner.filter(|_| self.is_watched).map(Acting::begin).transpose()?;
        self.undo_foreign()?;
        let wanted: HashMap<&str, Shown> =
            state.list.iter().map(|listed| (&*listed.path, Shown::from(&listed.entry))).collect();
        let gone: Vec<Arc<str>> = self
            .shown
            .iter()
            .filter(|(path, shown)| wanted.get(&***path) != Some(shown))
            .map(|(path, _)| Arc::clone(path))
            .collect();
        // Children before their directories.
        for path in gone.into_iter().rev() {
            self.take_away(&path)?;
        }
        for listed in state.list.iter() {
            match &listed.entry {
                Entry::File(ino) => self.show_file(&listed.path, *ino, state.body(*ino))?,
                _ if self.shown.contains_key(&listed.path) => {}
                Entry::Dir(_) => {
                    fs::create_dir(self.path(&listed.path))?;
                    if let Some(Rights { uid, gid }) = self.owner {
                        lchown(self.path(&listed.path), Some(uid), Some(gid))?;
                    }
                    self.watch(&listed.path)?;
                    self.shown.insert(Arc::clone(&listed.path), Shown::Dir);
                }
                Entry::Link(target) => {
                    symlink(names::name(target), self.path(&listed.path))?;
                    self.shown.insert(Arc::clone(&listed.path), Shown::Link(Arc::clone(target)));
                }
            }
        }
        // What we did ourselves is no news, even if there was too much of it to be told.
        self.events()?;
        self.reset = false;
        Ok(())
    }

    fn take_away(&mut self, path: &Arc<str>) -> io::Result<()> {
        let at = self.path(path);
        match self.shown.remove(path) {
            Some(Shown::Dir) => fs::remove_dir(at)?,
            Some(Shown::File(ino)) => {
                fs::remove_file(at)?;
                let other = self.shown.iter().find(|(_, shown)| **shown == Shown::File(ino));
                match other.map(|(path, _)| Arc::clone(path)) {
                    Some(other) => {
                        self.held.get_mut(&ino).expect("a file that is shown is held").path = other
                    }
                    None => drop(self.held.remove(&ino)),
                }
            }
            Some(Shown::Link(_)) => fs::remove_file(at)?,
            None => {}
        }
        Ok(())
    }

    fn show_file(&mut self, path: &Arc<str>, ino: Ino, body: Option<&Body>) -> io::Result<()> {
        if !self.shown.contains_key(path) {
            match self.held.get(&ino) {
                Some(held) => fs::hard_link(self.path(&held.path), self.path(path))?,
                None => {
                    let mode = self.modes.get(&ino).copied().unwrap_or(0o644) & 0o777;
                    let mut options = OpenOptions::new();
                    let file = options.write(true).create_new(true).mode(0o600).open(self.path(path))?;
                    if let Some(Rights { uid, gid }) = self.owner {
                        fchown(&file, Some(uid), Some(gid))?;
                    }
                    // Whatever mask this process has.
                    file.set_permissions(fs::Permissions::from_mode(mode))?;
                    let held = Held { len: 0, sum: 0, terms: Vec::new(), path: Arc::clone(path) };
                    self.held.insert(ino, held);
                }
            }
            self.shown.insert(Arc::clone(path), Shown::File(ino));
        }
        let empty = Body::default();
        self.fill(ino, body.unwrap_or(&empty))
    }

    /// Writes what of a file is not there yet.
    fn fill(&mut self, ino: Ino, body: &Body) -> io::Result<()> {
        let held = self.held.get_mut(&ino).expect("a file that is shown is held");
        if (held.sum, held.len) == (body.sum, body.len) {
            return Ok(());
        }
        let path = self.root.join(names::name(&held.path));
        let open = || OpenOptions::new().write(true).open(&path);
        let file = match open() {
            // Who made it without a right to write it may give that to itself.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                let mode = self.modes.get(&ino).copied().unwrap_or(0o644) & 0o777;
                fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o200))?;
                let file = open()?;
                file.set_permissions(fs::Permissions::from_mode(mode))?;
                file
            }
            opened => opened?,
        };
        if held.len != body.len {
            file.set_len(body.len)?;
            // A shorter length cuts a page, and what it cut is zero if the file grows again.
            if body.len < held.len {
                let within = usize::try_from(body.len).expect("a file fits in memory") / PAGE;
                held.terms.truncate(within);
            }
        }
        write_pages(&file, &held.terms, body)?;
        held.terms.clone_from(&body.terms);
        (held.sum, held.len) = (body.sum, body.len);
        Ok(())
    }

    /// Throws away what others changed since the last state was shown.
    fn undo_foreign(&mut self) -> io::Result<()> {
        let events = self.events()?;
        for event in &events {
            let dir = self.watches.get(&event.wd).cloned();
            match (dir, &event.name) {
                (Some(dir), Some(name)) => {
                    let name = names::text(name);
                    self.undo(&if dir.is_empty() { name } else { format!("{dir}/{name}") });
                }
                // A watch that ended with its directory says nothing.
                _ if event.mask.contains(AddWatchFlags::IN_IGNORED) => {}
                _ => self.reset = true,
            }
        }
        if !self.reset {
            return Ok(());
        }
        self.shown.clear();
        self.held.clear();
        for entry in fs::read_dir(&self.root)? {
            remove(&entry?.path())?;
        }
        self.events()?;
        self.reset = false;
        Ok(())
    }

    fn undo(&mut self, path: &str) {
        let within =
            |other: &str| other.strip_prefix(path).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        let paths: Vec<Arc<str>> = self.shown.keys().filter(|other| within(other)).cloned().collect();
        for path in paths {
            if let Some(Shown::File(ino)) = self.shown.remove(&path)
                && self.held.remove(&ino).is_some()
            {
                // The file's other names go with it: they show the same bytes.
                let others: Vec<Arc<str>> = self
                    .shown
                    .iter()
                    .filter(|(_, shown)| **shown == Shown::File(ino))
                    .map(|(path, _)| Arc::clone(path))
                    .collect();
                others.iter().for_each(|other| self.undo(other));
            }
        }
        if let Err(e) = remove(&self.path(path)) {
            self.reset |= e.kind() != io::ErrorKind::NotFound;
        }
    }

    /// What the kernel has to tell; watches that ended are forgotten by the next [`Self::watch`].
    fn events(&mut self) -> io::Result<Vec<InotifyEvent>> {
        let mut all = Vec::new();
        loop {
            match self.inotify.read_events() {
                Ok(events) => all.extend(events),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.reset |= all.iter().any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
        Ok(all)
    }
}

/// Writes the pages that differ, those that follow one another at once.
fn write_pages(file: &File, held: &[u128], body: &Body) -> io::Result<()> {
    let len = usize::try_from(body.len).expect("a file fits in memory");
    let pages = len.div_ceil(PAGE);
    let differs = |page: usize| held.get(page).copied().unwrap_or(0) != body.term(page);
    let mut page = 0;
    while page < pages {
        if !differs(page) {
            page += 1;
            continue;
        }
        let first = page;
        let mut bytes = Vec::new();
        while page < pages && differs(page) {
            bytes.extend_from_slice(body.bytes(page));
            page += 1;
        }
        bytes.truncate(len - first * PAGE);
        file.write_all_at(&bytes, (first * PAGE) as u64)?;
    }
    Ok(())
}

/// Removes a file or a whole directory.
fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
