//! The findings that are known, in a file that is kept with a program's source.
//!
//! I own the file: JSON with a list of classes, each its symptom and the sync that is missing, both without
//! what differs from run to run. A class that is not in it is new, one that is in it and was not found is
//! gone. It is written once, when it is not there, and never changed after that: who mends a finding takes
//! it out, so that it cannot come back.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::escape;
use crate::program::classes::{Class, normalised};

/// A class as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Known {
    /// What the checker says.
    pub symptom: String,
    /// The sync that is missing.
    pub missing_sync: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    classes: BTreeSet<Known>,
}

/// What was found beside what was known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Whether the file was not there, and is now.
    pub written: bool,
    /// How many of the classes found were known.
    pub known: usize,
    /// Found, and not known.
    pub new: BTreeSet<Known>,
    /// Known, and not found.
    pub gone: BTreeSet<Known>,
    /// Known, and not found by a search that did not go from its beginning to its end.
    pub unseen: BTreeSet<Known>,
}

impl Compared {
    /// Whether a class was in the file.
    #[must_use]
    pub fn knows(&self, class: &Class) -> bool {
        !self.written && !self.new.contains(&Known::from(class))
    }
}

impl From<&Class> for Known {
    fn from(class: &Class) -> Self {
        let missing_sync = class.missing_sync.as_deref().map(normalised);
        Self { symptom: normalised(&class.symptom), missing_sync }
    }
}

/// Compares what was found with a file, and writes it if there is none. `whole` says that the search went from
/// its beginning to its end: only then is what it did not find gone.
///
/// # Errors
/// If the file cannot be read or written, or is not such a file.
pub fn compare(path: &Path, classes: &[Class], whole: bool) -> anyhow::Result<Compared> {
    let found: BTreeSet<Known> = classes.iter().map(Known::from).collect();
    match fs::read_to_string(path) {
        Ok(text) => {
            let Stored { classes } = serde_json::from_str(&text)
                .with_context(|| format!("{} is no list of known classes", path.display()))?;
            let new: BTreeSet<Known> = found.difference(&classes).cloned().collect();
            let missed = classes.difference(&found).cloned().collect();
            let (gone, unseen) = if whole { (missed, BTreeSet::new()) } else { (BTreeSet::new(), missed) };
            Ok(Compared { written: false, known: found.len() - new.len(), new, gone, unseen })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let stored = Stored { classes: found.clone() };
            let text = escape::json_lines(&stored)? + "\n";
            fs::write(path, text).with_context(|| path.display().to_string())?;
            Ok(Compared { written: true, new: found, ..Compared::default() })
        }
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}

/// The comparison for people.
#[must_use]
pub fn text(compared: &Compared, path: &Path) -> String {
    let path = escape::path(path);
    if compared.written {
        return format!(
            "ratchet: {} classes written to {path}; from now on they are known\n",
            compared.new.len()
        );
    }
    let line = |what: &str, known: &Known| {
        let sync = known.missing_sync.as_deref().unwrap_or("no sync helps");
        format!("ratchet: {what}: {} (missing: {})\n", escape::word(&known.symptom), escape::word(sync))
    };
    let new = compared.new.iter().map(|known| line("new", known));
    let gone = compared.gone.iter().map(|known| line(&format!("gone, take it out of {path}"), known));
    let unseen = compared.unseen.iter().map(|known| line("not seen, but the search was cut short", known));
    let counts = format!(
        "ratchet: {} classes known, {} new, {} gone, {} not seen\n",
        compared.known,
        compared.new.len(),
        compared.gone.len(),
        compared.unseen.len()
    );
    new.chain(gone).chain(unseen).chain([counts]).collect()
}
