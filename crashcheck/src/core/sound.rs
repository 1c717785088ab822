//! Whether a trace is one: what a file says is not believed before anything is made of it.
//!
//! I own the bounds and the names. (N1) A path is relative, its parts are names that a directory may hold, and
//! what is above it is a directory there and then, never a link. (N2) A file is made once, and known before it
//! is written, synced or named. (N3) No length and no offset goes beyond [`MOST_LENGTH`] bytes, all files
//! together, each counted at its longest and by every name that it begins with. (N4) Directories are at most
//! [`DEEPEST`] deep, and none is moved into itself. What I let pass, [`split`](super::micro::split) takes
//! without a panic. I do not know what encoding the names are in.

use std::collections::BTreeMap;

use crate::core::trace::{Ino, Op, Trace};

/// How long all files of a trace may be together; a page of nothing costs memory too.
pub const MOST_LENGTH: u64 = 16 << 30;
/// How deep directories may be within one another.
pub const DEEPEST: usize = 512;
/// The longest name in a directory, in bytes, and the longest path; as of Linux. A name that is not UTF-8 is
/// longer as a text.
const LONGEST: [usize; 2] = [3 * 255, 3 * 4096];

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    File(Ino),
    Dir(usize),
    Link,
}

/// Goes through a trace with names and lengths alone.
#[derive(Debug)]
struct Walk<'t> {
    names: BTreeMap<(usize, &'t str), What>,
    /// The directory that each directory is in.
    above: Vec<usize>,
    files: BTreeMap<Ino, Length>,
    total: u64,
}

/// How long a file is, and was at most.
#[derive(Clone, Copy, Debug, Default)]
struct Length {
    now: u64,
    most: u64,
}

type Checked<T> = Result<T, String>;

/// Checks a trace whose marks stand for so many notes.
///
/// # Errors
/// What does not hold.
pub fn check(trace: &Trace, notes: usize) -> Checked<()> {
    let mut walk = Walk { names: BTreeMap::new(), above: vec![0], files: BTreeMap::new(), total: 0 };
    for path in &trace.initial.dirs {
        walk.new_dir(path)?;
    }
    for (path, content) in &trace.initial.files {
        let ino = *trace.inos.get(path).ok_or_else(|| format!("the file {path:?} has no number"))?;
        // Names of one file share its bytes, but each of them is listed with its pages.
        walk.count(content.len)?;
        walk.files.entry(ino).or_insert(Length { now: content.len, most: content.len });
        walk.new_name(path, What::File(ino))?;
    }
    for (path, target) in &trace.initial.links {
        walk.new_link(path, target)?;
    }
    let mut marks = 0_usize;
    for (at, step) in trace.steps.iter().enumerate() {
        if step.since.is_some_and(|since| since > at) {
            return Err(format!("step {at} is said to have begun after it ended"));
        }
        if let Op::Mark(mark) = step.op {
            marks += 1;
            if usize::try_from(mark).is_ok_and(|mark| mark >= notes) {
                return Err(format!("step {at} is of a note that is not there"));
            }
        }
        walk.take(&step.op).map_err(|what| format!("step {at}: {what}"))?;
    }
    if marks > notes { Err(format!("{marks} marks stand for {notes} notes")) } else { Ok(()) }
}

impl<'t> Walk<'t> {
    fn take(&mut self, op: &'t Op) -> Checked<()> {
        match op {
            Op::CreateDir { path } => self.new_dir(path),
            Op::Create { path, ino } => {
                self.new_file(*ino)?;
                self.put(path, What::File(*ino)).map(drop)
            }
            Op::CreateUnnamed { ino } => self.new_file(*ino),
            Op::Link { path, ino } => {
                self.file(*ino)?;
                self.put(path, What::File(*ino)).map(drop)
            }
            Op::Symlink { path, target } => {
                link_target(target)?;
                self.put(path, What::Link).map(drop)
            }
            Op::Write { ino, offset, data } => {
                let end = offset.checked_add(data.len() as u64).ok_or("a write beyond all numbers")?;
                let now = self.file(*ino)?.now;
                // What is beyond a length is kept for as long as the length is in doubt.
                self.grow(*ino, end, now.max(end))
            }
            Op::SetLen { ino, len } => self.grow(*ino, *len, *len),
            Op::Zero { ino, offset, len } => {
                offset.checked_add(*len).ok_or("zeros beyond all numbers")?;
                self.file(*ino).map(drop)
            }
            Op::Rename { from, to } => {
                let (at, what) = self.get(from)?;
                self.names.remove(&at);
                let to = self.put(to, what)?;
                self.moved(what, to)
            }
            Op::Exchange { one, other } => {
                let ((one, first), (other, second)) = (self.get(one)?, self.get(other)?);
                self.names.insert(one, second);
                self.names.insert(other, first);
                self.moved(first, other.0)?;
                self.moved(second, one.0)
            }
            Op::Remove { path } | Op::RemoveDir { path } => {
                let (at, _) = self.get(path)?;
                self.names.remove(&at);
                Ok(())
            }
            Op::SyncData { ino } | Op::SyncAll { ino } => self.file(*ino).map(drop),
            Op::SyncDir { path } => self.dir(path).map(drop),
            Op::Mark(_) => Ok(()),
        }
    }

    /// The directory at a path; the root is at the empty one.
    fn dir(&self, path: &'t str) -> Checked<usize> {
        let mut parts = path.split('/').filter(|_| !path.is_empty());
        parts.try_fold(0, |dir, part| match self.names.get(&(dir, part)) {
            Some(What::Dir(dir)) => Ok(*dir),
            _ => Err(format!("{path:?} is no directory")),
        })
    }

    /// The directory that a path is in, and its name there.
    fn place(&self, path: &'t str) -> Checked<(usize, &'t str)> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_name = !matches!(name, "" | "." | "..") && !name.contains('\0');
        if !is_name || path.starts_with('/') || name.len() > LONGEST[0] || path.len() > LONGEST[1] {
            let start: String = path.chars().take(80).collect();
            return Err(format!("{start:?} is no name in a directory"));
        }
        Ok((self.dir(above)?, name))
    }

    fn get(&self, path: &'t str) -> Checked<((usize, &'t str), What)> {
        let at = self.place(path)?;
        let what = self.names.get(&at).ok_or_else(|| format!("{path:?} is not there"))?;
        Ok((at, *what))
    }

    /// Names something, in the place of what had the name; the directory that the name is in.
    fn put(&mut self, path: &'t str, what: What) -> Checked<usize> {
        let at = self.place(path)?;
        self.names.insert(at, what);
        Ok(at.0)
    }

    fn new_name(&mut self, path: &'t str, what: What) -> Checked<()> {
        let at = self.place(path)?;
        match self.names.insert(at, what) {
            Some(_) => Err(format!("{path:?} is there twice")),
            None => Ok(()),
        }
    }

    fn new_dir(&mut self, path: &'t str) -> Checked<()> {
        let dir = self.above.len();
        let above = self.put(path, What::Dir(dir))?;
        self.above.push(above);
        self.depth(dir).map(drop)
    }

    fn new_link(&mut self, path: &'t str, target: &str) -> Checked<()> {
        link_target(target)?;
        self.new_name(path, What::Link)
    }

    fn new_file(&mut self, ino: Ino) -> Checked<()> {
        match self.files.insert(ino, Length::default()) {
            Some(_) => Err(format!("the file {} is made twice", ino.0)),
            None => Ok(()),
        }
    }

    fn file(&self, ino: Ino) -> Checked<Length> {
        self.files.get(&ino).copied().ok_or_else(|| format!("the file {} was never made", ino.0))
    }

    fn grow(&mut self, ino: Ino, to: u64, now: u64) -> Checked<()> {
        let known = self.file(ino)?;
        let most = known.most.max(to);
        self.count(most - known.most)?;
        self.files.insert(ino, Length { now, most });
        Ok(())
    }

    fn count(&mut self, more: u64) -> Checked<()> {
        self.total = self.total.saturating_add(more);
        if self.total > MOST_LENGTH {
            return Err(format!("its files are longer than {} GiB together", MOST_LENGTH >> 30));
        }
        Ok(())
    }

    /// How deep a directory is.
    fn depth(&self, dir: usize) -> Checked<usize> {
        let (mut at, mut depth) = (dir, 0);
        while at != 0 {
            (at, depth) = (self.above[at], depth + 1);
            if depth > DEEPEST {
                return Err(format!("directories are in themselves, or more than {DEEPEST} deep"));
            }
        }
        Ok(depth)
    }

    /// Notes where a directory is now, with all that is in it.
    fn moved(&mut self, what: What, to: usize) -> Checked<()> {
        let What::Dir(dir) = what else { return Ok(()) };
        self.above[dir] = to;
        let mut waiting = vec![(dir, self.depth(dir)?)];
        while let Some((dir, depth)) = waiting.pop() {
            if depth > DEEPEST {
                return Err(format!("directories are more than {DEEPEST} deep"));
            }
            let within = self.names.range((dir, "")..(dir + 1, ""));
            waiting.extend(within.filter_map(|(_, what)| match what {
                What::Dir(dir) => Some((*dir, depth + 1)),
                _ => None,
            }));
        }
        Ok(())
    }
}

fn link_target(target: &str) -> Checked<()> {
    if target.is_empty() || target.contains('\0') || target.len() > LONGEST[1] {
        return Err("a link that says nothing, or what no link can".to_owned());
    }
    Ok(())
}
