//! A file's bytes with the hash of each page kept, and a tree of such files.
//!
//! A tree's directories have numbers, so that a name stays in its directory whatever becomes of the
//! directory's own name. I own the sums: a body's `sum` is always that of its pages' terms. A body may hold pages past its
//! length while a growth is in doubt; [`Body::clip`] drops them. I do not know which operations made
//! the bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::image::{
    Content, Image, PAGE, Page, bytes_of, dir_term, file_term, link_term, page_hash, page_of, page_term,
    path_hash, path_hash_from,
};
use crate::core::trace::{Ino, Trace};

/// A file's bytes and their hash.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// The length.
    pub len: u64,
    /// The pages; `None` is zeros.
    pub pages: Vec<Option<Page>>,
    /// The term of each page.
    pub terms: Vec<u128>,
    /// The sum of the terms.
    pub sum: u128,
}

impl Body {
    /// The body of a file.
    #[must_use]
    pub fn new(content: &Content) -> Self {
        let mut body = Self { len: content.len, ..Self::default() };
        for (i, page) in content.pages.iter().enumerate() {
            body.set(i, page.clone(), page_term(i, page_hash(page.as_ref())));
        }
        body.clip();
        body
    }

    /// A page, `None` for zeros and past the end.
    #[must_use]
    pub fn page(&self, index: usize) -> Option<&Page> {
        self.pages.get(index).and_then(Option::as_ref)
    }

    /// A page's term.
    #[must_use]
    pub fn term(&self, index: usize) -> u128 {
        self.terms.get(index).copied().unwrap_or(0)
    }

    /// Replaces a page whose term is known.
    pub fn set(&mut self, index: usize, page: Option<Page>, term: u128) {
        if self.pages.len() <= index {
            self.pages.resize(index + 1, None);
            self.terms.resize(index + 1, 0);
        }
        self.sum = self.sum.wrapping_sub(self.terms[index]).wrapping_add(term);
        self.pages[index] = page;
        self.terms[index] = term;
    }

    /// Sets the length; a shorter one drops what lies past it.
    pub fn set_len(&mut self, len: u64) {
        let shrinks = len < self.len;
        self.len = len;
        if shrinks {
            self.clip();
        }
    }

    /// Drops whatever lies past the length.
    pub fn clip(&mut self) {
        let len = usize::try_from(self.len).expect("a file fits in memory");
        while self.pages.len() > len.div_ceil(PAGE) {
            self.pages.pop();
            self.sum = self.sum.wrapping_sub(self.terms.pop().expect("a term for each page"));
        }
        let (last, within) = (len / PAGE, len % PAGE);
        let Some(page) = self.page(last).filter(|_| within > 0) else { return };
        if page[within..].iter().any(|b| *b != 0) {
            let page = page_of(&page[..within]);
            let term = page_term(last, page_hash(page.as_ref()));
            self.set(last, page, term);
        }
    }

    /// The pages, as many as the length needs.
    #[must_use]
    pub fn content(this: Cow<'_, Self>) -> Content {
        let len = this.len;
        let need = usize::try_from(len).expect("a file fits in memory").div_ceil(PAGE);
        let mut pages = match this {
            Cow::Borrowed(body) => body.pages.clone(),
            Cow::Owned(body) => body.pages,
        };
        pages.resize(need, None);
        Content { len, pages }
    }

    /// A page's bytes, zeros past the end.
    #[must_use]
    pub fn bytes(&self, index: usize) -> &[u8; PAGE] {
        bytes_of(self.page(index))
    }
}

/// A directory's number within a tree, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dir(pub u32);

impl Dir {
    /// The directory in which all others are.
    pub const ROOT: Self = Self(0);
}

/// A name in a directory, shared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The directory.
    pub dir: Dir,
    /// The name in it.
    pub name: Arc<str>,
}

/// What a name names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File(Ino),
    /// A directory.
    Dir(Dir),
    /// A symbolic link with what it says.
    Link(Arc<str>),
}

/// A path of a tree and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The path.
    pub path: Arc<str>,
    /// Its hash.
    pub hash: u128,
    /// The name, in its directory.
    pub name: Name,
    /// What is there.
    pub entry: Entry,
}

/// A tree: names by directory, and bodies by inode (those without a name too). What is in a directory
/// that has no name itself is there, but has no path.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// What each name names.
    pub names: BTreeMap<Name, Entry>,
    /// The files.
    pub bodies: BTreeMap<Ino, Body>,
    /// The number of the newest directory.
    pub newest: u32,
}

impl Tree {
    /// The tree on which a trace begins.
    ///
    /// # Panics
    /// If a file of the trace's initial tree has no inode there, or a path is in no directory.
    #[must_use]
    pub fn initial(trace: &Trace) -> Self {
        let mut tree = Self::default();
        // Parents are before their children in the order of paths.
        for path in &trace.initial.dirs {
            let (name, dir) = (tree.name(path), tree.new_dir());
            tree.names.insert(name, Entry::Dir(dir));
        }
        for (path, content) in &trace.initial.files {
            let ino = *trace.inos.get(path).unwrap_or_else(|| panic!("no inode for {path}"));
            let name = tree.name(path);
            tree.names.insert(name, Entry::File(ino));
            tree.bodies.entry(ino).or_insert_with(|| Body::new(content));
        }
        for (path, target) in &trace.initial.links {
            let name = tree.name(path);
            tree.names.insert(name, Entry::Link(target.as_str().into()));
        }
        tree
    }

    /// A number for a new directory.
    pub fn new_dir(&mut self) -> Dir {
        self.newest += 1;
        Dir(self.newest)
    }

    /// The directory at a path; the root is at `""`.
    #[must_use]
    pub fn dir(&self, path: &str) -> Option<Dir> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(Dir::ROOT, |dir, part| {
            match self.names.get(&Name { dir, name: part.into() }) {
                Some(Entry::Dir(dir)) => Some(*dir),
                _ => None,
            }
        })
    }

    /// The name that a path has in its directory.
    ///
    /// # Panics
    /// If there is no such directory.
    #[must_use]
    pub fn name(&self, path: &str) -> Name {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.dir(parent).unwrap_or_else(|| panic!("{path} is in no directory"));
        Name { dir, name: name.into() }
    }

    /// The names in a directory.
    pub fn names_in(&self, dir: Dir) -> impl Iterator<Item = (&Name, &Entry)> {
        self.names.range(first_in(dir)..first_in(Dir(dir.0 + 1)))
    }

    /// Everything that has a path, parents first.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let mut out = Vec::with_capacity(self.names.len());
        let root = path_hash("");
        self.list_dir(Dir::ROOT, "", root, &mut out);
        out
    }

    fn list_dir(&self, dir: Dir, path: &str, hash: u128, out: &mut Vec<Listed>) {
        for (name, entry) in self.names_in(dir) {
            let (path, hash): (Arc<str>, u128) = if path.is_empty() {
                (Arc::clone(&name.name), path_hash_from(hash, &name.name))
            } else {
                let hash = path_hash_from(path_hash_from(hash, "/"), &name.name);
                (format!("{path}/{}", name.name).into(), hash)
            };
            out.push(Listed { path: Arc::clone(&path), hash, name: name.clone(), entry: entry.clone() });
            if let Entry::Dir(dir) = entry {
                self.list_dir(*dir, &path, hash, out);
            }
        }
    }

    /// The tree as bytes.
    ///
    /// # Panics
    /// If a named file has no body.
    #[must_use]
    pub fn image(&self) -> Image {
        let mut image = Image::default();
        for Listed { path, entry, .. } in self.list() {
            image.put(&path, &entry, |ino| Body::content(Cow::Borrowed(&self.bodies[&ino])));
        }
        image
    }

    /// The hash of the tree's image; equal to [`Image::hash`].
    #[must_use]
    pub fn hash(&self) -> u128 {
        let terms = self.list().into_iter().map(|listed| match listed.entry {
            Entry::File(ino) => {
                let body = &self.bodies[&ino];
                file_term(listed.hash, body.sum, body.len)
            }
            Entry::Dir(_) => dir_term(listed.hash),
            Entry::Link(target) => link_term(listed.hash, &target),
        });
        terms.fold(0, u128::wrapping_add)
    }
}

impl Image {
    /// Puts what a name names at a path.
    pub(crate) fn put(&mut self, path: &str, entry: &Entry, content: impl FnOnce(Ino) -> Content) {
        let path = path.to_owned();
        match entry {
            Entry::File(ino) => {
                self.files.insert(path, content(*ino));
            }
            Entry::Dir(_) => {
                self.dirs.insert(path);
            }
            Entry::Link(target) => {
                self.links.insert(path, target.to_string());
            }
        }
    }
}

/// The least name in a directory.
pub(crate) fn first_in(dir: Dir) -> Name {
    Name { dir, name: "".into() }
}
