//! A file's bytes with the hash of each page kept, and a tree of such files.
//!
//! I own the sums: a body's `sum` is always that of its pages' terms. A body may hold pages past its
//! length while a growth is in doubt; [`Body::clip`] drops them. I do not know which operations made
//! the bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::image::{
    Content, Image, PAGE, Page, bytes_of, dir_term, file_term, page_hash, page_of, page_term, path_hash,
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

/// A path and its hash, shared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The path.
    pub path: Arc<str>,
    /// Its hash.
    pub hash: u128,
}

impl Name {
    /// The name of a path.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self { path: path.into(), hash: path_hash(path) }
    }
}

/// A tree: directories, names, and bodies by inode (those without a name too).
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// The directories.
    pub dirs: BTreeSet<Name>,
    /// The names of files.
    pub names: BTreeMap<Name, Ino>,
    /// The files.
    pub bodies: BTreeMap<Ino, Body>,
}

impl Tree {
    /// The tree on which a trace begins.
    ///
    /// # Panics
    /// If a file of the trace's initial tree has no inode there.
    #[must_use]
    pub fn initial(trace: &Trace) -> Self {
        let mut tree = Self::default();
        tree.dirs.extend(trace.initial.dirs.iter().map(|path| Name::new(path)));
        for (path, content) in &trace.initial.files {
            let ino = *trace.inos.get(path).unwrap_or_else(|| panic!("no inode for {path}"));
            tree.names.insert(Name::new(path), ino);
            tree.bodies.insert(ino, Body::new(content));
        }
        tree
    }

    /// The tree as bytes.
    #[must_use]
    pub fn image(&self) -> Image {
        let files = self.names.iter().map(|(name, ino)| {
            let content = Body::content(Cow::Borrowed(&self.bodies[ino]));
            (name.path.to_string(), content)
        });
        Image { dirs: self.dirs.iter().map(|name| name.path.to_string()).collect(), files: files.collect() }
    }

    /// The hash of the tree's image; equal to [`Image::hash`].
    #[must_use]
    pub fn hash(&self) -> u128 {
        let files = self.names.iter().map(|(name, ino)| {
            let body = &self.bodies[ino];
            file_term(name.hash, body.sum, body.len)
        });
        let dirs = self.dirs.iter().map(|name| dir_term(name.hash));
        files.chain(dirs).fold(0, u128::wrapping_add)
    }
}
