//! The names of call sites, when a report is written.
//!
//! I own the way from a frame to words: the function and the line, by the debug information or the symbols
//! of the file that the frame is in, if it is still the file that was recorded; else the file and the
//! address. Which frame of a stack stands for it is the innermost that is the program's own: not the
//! system's library, not a language's.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;

use addr2line::Loader;
use object::Object;
use object::read::ReadCache;

use crate::program::recording::{Frame, Module, Recording};

/// What begins the name of a file that is the system's own.
const SYSTEM_FILES: [&str; 6] = ["libc.so", "libc-", "ld-linux", "ld-musl", "libpthread", "libuv.so"];
/// What is in the path of a source that is a language's own, or only makes its calls.
const LANGUAGE_SOURCES: [&str; 3] = ["/rustc/", "/rustix-", "/library/std/src/"];
/// What begins the name of a function that is a language's own.
const LANGUAGE: [&str; 13] = [
    "std::",
    "core::",
    "alloc::",
    "<std::",
    "<core::",
    "<alloc::",
    "<&",
    "__libc_",
    "syscall.",
    "internal/",
    "os.",
    "runtime.",
    "rustix::",
];

/// The names of a recording's call sites.
pub struct Symbols<'r> {
    recording: &'r Recording,
    /// Opened when they are first asked for.
    files: Vec<OnceCell<Option<Loader>>>,
    known: RefCell<HashMap<Frame, Vec<Place>>>,
}

/// A place in a program: a function, or what was put into it by its compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    text: String,
    is_own: bool,
}

impl std::fmt::Debug for Symbols<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbols").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl<'r> Symbols<'r> {
    /// The names of a recording's sites.
    #[must_use]
    pub fn new(recording: &'r Recording) -> Self {
        let files = recording.modules.iter().map(|_| OnceCell::new()).collect();
        Self { recording, files, known: RefCell::default() }
    }

    /// The place that stands for the call of a step, if its site is known.
    #[must_use]
    pub fn place(&self, step: usize) -> Option<String> {
        let places = self.places(step);
        places.iter().find(|place| place.is_own).or(places.first()).map(|place| place.text.clone())
    }

    /// The stack of a step's call, the innermost first.
    #[must_use]
    pub fn stack(&self, step: usize) -> Vec<String> {
        self.places(step).into_iter().map(|place| place.text).collect()
    }

    fn places(&self, step: usize) -> Vec<Place> {
        let mut known = self.known.borrow_mut();
        let frames = self.recording.frames(step).iter();
        frames.flat_map(|frame| known.entry(*frame).or_insert_with(|| self.resolve(*frame)).clone()).collect()
    }

    /// What is at a frame: the innermost of what was inlined there first.
    fn resolve(&self, frame: Frame) -> Vec<Place> {
        let Some(module) = self.recording.modules.get(frame.module as usize) else {
            return vec![Place { text: format!("{:#x}", frame.at), is_own: false }];
        };
        let file = Path::new(&module.path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let namer = Namer { file, at: frame.at };
        let load = || is_same(module).then(|| Loader::new(&module.path).ok()).flatten();
        match self.files[frame.module as usize].get_or_init(load) {
            Some(loader) => namer.places(loader),
            None => vec![namer.place(None, "", None)],
        }
    }
}

/// Names an address in a file.
struct Namer {
    file: String,
    at: u64,
}

impl Namer {
    fn place(&self, function: Option<&str>, source: &str, line: Option<String>) -> Place {
        let is_system = SYSTEM_FILES.iter().any(|system| self.file.starts_with(system));
        let is_language = function.is_some_and(|name| LANGUAGE.iter().any(|own| name.starts_with(own)))
            || LANGUAGE_SOURCES.iter().any(|own| source.contains(own));
        let at = line.unwrap_or_else(|| format!("{}+{:#x}", self.file, self.at));
        let text = function.map_or_else(|| at.clone(), |name| format!("{name} ({at})"));
        Place { text, is_own: !is_system && !is_language }
    }

    /// The functions there, by the file's debug information or its table of symbols.
    fn places(&self, loader: &Loader) -> Vec<Place> {
        let symbol = || loader.find_symbol(self.at).map(demangled);
        let mut places = Vec::new();
        let mut frames = loader.find_frames(self.at).ok();
        while let Some(frame) = frames.as_mut().and_then(|frames| frames.next().ok().flatten()) {
            let location = frame.location.as_ref();
            let source = location.and_then(|location| location.file).unwrap_or_default();
            let line = Path::new(source).file_name().map(|file| {
                let line = location.and_then(|location| location.line);
                format!("{}{}", file.to_string_lossy(), line.map_or(String::new(), |line| format!(":{line}")))
            });
            let name = frame.function.and_then(|name| name.demangle().ok().map(|name| short(&name)));
            // Without either, the table of symbols knows more.
            if name.is_some() || line.is_some() {
                places.push(self.place(name.or_else(symbol).as_deref(), source, line));
            }
        }
        if places.is_empty() {
            places.push(self.place(symbol().as_deref(), "", None));
        }
        places
    }
}

/// A symbol's name as it is in the source.
fn demangled(symbol: &str) -> String {
    short(&addr2line::demangle_auto(symbol.into(), None))
}

/// A name without the hash that a compiler ends it with, and without a symbol's version.
fn short(name: &str) -> String {
    let name = name.split_once("@@").map_or(name, |(name, _)| name);
    let hash = name
        .rsplit_once("::h")
        .filter(|(_, hash)| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    hash.map_or(name, |(name, _)| name).to_owned()
}

/// Whether a file is still the one that was recorded.
fn is_same(module: &Module) -> bool {
    let is_as_long = fs::metadata(&module.path).is_ok_and(|meta| meta.is_file() && meta.len() == module.len);
    is_as_long && (module.id.is_empty() || build_id(&module.path).is_some_and(|id| id == module.id))
}

fn build_id(path: &str) -> Option<Vec<u8>> {
    let cache = ReadCache::new(File::open(path).ok()?);
    let elf = object::File::parse(&cache).ok()?;
    elf.build_id().ok().flatten().map(<[u8]>::to_vec)
}
