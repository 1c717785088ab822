//! What a recorder hands over: a trace, and for each of its steps who did it and how.
//!
//! I own the shape. The trace alone decides which crash states there are; the rest is for people and for
//! presenting a state: who called, what was acknowledged, what modes the files had. A file's mode is the
//! last that was seen, at every cut. What could not be recorded is a [`Gap`]: no verdict speaks of that
//! file. I do not know how a recording is stored (see `file`) nor who made it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::trace::{Ino, Op, Trace};

/// A recorded run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// What was done; a [`Op::Mark`] of `n` is what the program said in `notes[n]`.
    pub trace: Trace,
    /// Who did each step, and how; as many as there are steps.
    pub metas: Vec<Meta>,
    /// What the program said of itself, in order.
    pub notes: Vec<Note>,
    /// The names of the calls that `metas` refers to.
    pub calls: Vec<String>,
    /// The threads that `metas` refers to.
    pub tasks: Vec<Task>,
    /// Where calls were made: the frames of each, the innermost first. The first has none: it is not known.
    pub sites: Vec<Vec<Frame>>,
    /// The files that frames are in.
    pub modules: Vec<Module>,
    /// The permission bits of each file.
    pub modes: BTreeMap<Ino, u32>,
    /// What could not be recorded.
    pub gaps: Vec<Gap>,
    /// Where the recording is from.
    pub origin: Origin,
}

/// Something that the program said of what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// It is about to do this, and promises nothing.
    Begin(String),
    /// This is durable.
    Ack(String),
}

impl Note {
    /// What is about to be done, or durable.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Begin(text) | Self::Ack(text) => text,
        }
    }

    /// What is durable.
    #[must_use]
    pub fn ack(&self) -> Option<&str> {
        match self {
            Self::Begin(_) => None,
            Self::Ack(text) => Some(text),
        }
    }
}

/// How a step came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The call, as a place in [`Recording::calls`].
    pub call: u32,
    /// The thread, as a place in [`Recording::tasks`].
    pub task: u32,
    /// How many steps there were when the call began.
    pub entered: u64,
    /// When it ended, in microseconds from the start of the recording; for people alone.
    pub micros: u64,
    /// Where the call was made, as a place in [`Recording::sites`].
    pub site: u32,
}

/// A place in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// The file, as a place in [`Recording::modules`], or [`ANONYMOUS`].
    pub module: u32,
    /// The address that the file states for it; in memory without a file, the address itself.
    pub at: u64,
}

/// Stands for code that is in no file: what a compiler made at run time, and the kernel's own page.
pub const ANONYMOUS: u32 = u32::MAX;

/// A file with code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its path.
    pub path: String,
    /// Its build's name, if it has one.
    pub id: Vec<u8>,
    /// Its length in bytes.
    pub len: u64,
}

/// A thread that did something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its number.
    pub tid: u32,
    /// Its process's number.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// Something that could not be recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The file, or empty for all of them.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Where a recording is from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Which recorder: `fuse`, `ptrace`, `block`.
    pub recorder: String,
    /// The directory's absolute path: where its states are presented.
    pub dir: String,
    /// The directory as the user wrote it.
    pub given: String,
    /// The command.
    pub command: Vec<String>,
    /// The command's working directory.
    pub cwd: String,
    /// The kernel's release.
    pub kernel: String,
    /// The file system under the directory.
    pub filesystem: String,
    /// How the command ended: its exit code, or 128 and a signal's number.
    pub exit: i32,
    /// Whether this user made it on this machine: of a file, whether its seal says so.
    #[serde(skip)]
    pub here: bool,
}

impl Recording {
    /// The name of the call that made a step.
    #[must_use]
    pub fn call(&self, step: usize) -> &str {
        let name = self.metas.get(step).and_then(|meta| self.calls.get(meta.call as usize));
        name.map_or("", String::as_str)
    }

    /// Who made a step: the thread's name, its process, and its own number if that is another. Empty if the
    /// kernel did it for nobody.
    #[must_use]
    pub fn who(&self, step: usize) -> String {
        let task = self.metas.get(step).and_then(|meta| self.tasks.get(meta.task as usize));
        match task {
            None | Some(Task { tid: 0, .. }) => String::new(),
            Some(Task { tid, pid, name }) if tid == pid => format!("{name}[{pid}]"),
            Some(Task { tid, pid, name }) => format!("{name}[{pid}/{tid}]"),
        }
    }

    /// The frames of the call that made a step, the innermost first; none if they are not known.
    #[must_use]
    pub fn frames(&self, step: usize) -> &[Frame] {
        let site = self.metas.get(step).and_then(|meta| self.sites.get(meta.site as usize));
        site.map_or(&[], Vec::as_slice)
    }

    /// What the program had said before a cut.
    #[must_use]
    pub fn said_before(&self, cut: usize) -> &[Note] {
        let said = self.trace.steps[..cut].iter().filter(|step| matches!(step.op, Op::Mark(_))).count();
        &self.notes[..said]
    }

    /// What an oracle is told at a cut. A program that announces nothing is taken to do one thing after the
    /// other, and to be about to do all that it acknowledges later.
    #[must_use]
    pub fn told_before(&self, cut: usize) -> Vec<Note> {
        let said = self.said_before(cut);
        if self.notes.iter().any(|note| note.ack().is_none()) {
            return said.to_vec();
        }
        let begin = |note: &Note| Note::Begin(note.text().to_owned());
        let later = self.notes[said.len()..].iter().map(begin);
        said.iter().flat_map(|note| [begin(note), note.clone()]).chain(later).collect()
    }

    /// The acknowledgements, in order.
    pub fn acks(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().filter_map(Note::ack)
    }

    /// How many acknowledgements were seen before a cut.
    #[must_use]
    pub fn acks_before(&self, cut: usize) -> usize {
        self.said_before(cut).iter().filter(|note| note.ack().is_some()).count()
    }

    /// How many of the steps are syncs.
    #[must_use]
    pub fn syncs(&self) -> usize {
        self.trace.steps.iter().filter(|step| is_sync(&step.op)).count()
    }

    /// How many of them did not fail.
    #[must_use]
    pub fn syncs_that_returned(&self) -> usize {
        self.trace.steps.iter().filter(|step| is_sync(&step.op) && !step.failed).count()
    }
}

fn is_sync(op: &Op) -> bool {
    matches!(op, Op::SyncData { .. } | Op::SyncAll { .. } | Op::SyncDir { .. })
}
