//! The second reader as a process that answers cases over a pipe.
//!
//! I own the process and the coding of cases, which is that of `engine/spec/reader/serve.py`: a store is sent
//! once, and then what differs from it. I do not know what an answer means.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use seawall::vfs::mem::{Content, Image, PAGE};

use super::bases::Bases;
use super::cases::{Ask, Case};

/// The reader's program.
const SERVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/spec/reader/serve.py");
const REMOVED: u32 = 0;
const REPLACED: u32 = 1;
const PATCHED: u32 = 2;

/// The running process; ended when dropped.
pub(super) struct Reader {
    child: Child,
    asks: ChildStdin,
    answers: ChildStdout,
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Reader {
    /// Starts it and sends the stores.
    pub(super) fn start(bases: &Bases) -> io::Result<Self> {
        let mut command = Command::new("python3");
        command.args(["-B", SERVE]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let asks = child.stdin.take().expect("it is piped");
        let answers = child.stdout.take().expect("it is piped");
        let mut reader = Self { child, asks, answers };
        for (number, image) in bases.images.iter().enumerate() {
            reader.ask(&[base(number, image)])?;
            if reader.answers(1)? != ["ok"] {
                return Err(io::Error::other(format!("store {number} was not taken")));
            }
        }
        Ok(reader)
    }

    /// Sends a batch of cases.
    pub(super) fn ask(&mut self, cases: &[Vec<u8>]) -> io::Result<()> {
        let mut out = Vec::new();
        put_len(&mut out, cases.len());
        cases.iter().for_each(|case| put(&mut out, case));
        self.asks.write_all(&out)?;
        self.asks.flush()
    }

    /// The answers to a batch of so many.
    pub(super) fn answers(&mut self, count: usize) -> io::Result<Vec<String>> {
        let one = |_| {
            let mut len = [0; 4];
            self.answers.read_exact(&mut len)?;
            let mut text = vec![0; u32::from_le_bytes(len) as usize];
            self.answers.read_exact(&mut text)?;
            String::from_utf8(text).map_err(io::Error::other)
        };
        (0..count).map(one).collect()
    }
}

fn put_number(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_len(out: &mut Vec<u8>, n: usize) {
    put_number(out, u32::try_from(n).expect("a small store"));
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn base(number: usize, image: &Image) -> Vec<u8> {
    let mut out = vec![b'B'];
    put_len(&mut out, number);
    put_len(&mut out, image.files.len());
    for (name, content) in &image.files {
        put(&mut out, name.as_bytes());
        put(&mut out, &content.to_bytes());
    }
    out
}

/// The bytes of a case.
pub(super) fn encode(case: &Case, base: &Image) -> Vec<u8> {
    let mut out = Vec::new();
    let about = |out: &mut Vec<u8>, what: u8| {
        out.push(what);
        put_len(out, case.base);
        put_changes(out, base, &case.image);
    };
    match &case.ask {
        Ask::Directory => {
            about(&mut out, b'D');
            put_number(&mut out, u32::from(case.image.dirs.contains("snapshots")));
        }
        Ask::Segment(name) => {
            about(&mut out, b'W');
            put(&mut out, name.as_bytes());
        }
        Ask::Identity => about(&mut out, b'I'),
        Ask::HighWater => about(&mut out, b'H'),
        Ask::Evidence => about(&mut out, b'E'),
        Ask::Snapshot(digest) => {
            about(&mut out, b'S');
            put(&mut out, &digest.0);
        }
        Ask::Frame { place, at, bytes } => {
            out.push(b'F');
            put(&mut out, &place.store);
            for n in [place.segment.0, place.epoch.0, u64::from(place.unit), u64::from(*at)] {
                put_number(&mut out, u32::try_from(n).expect("a small store's numbers"));
            }
            put(&mut out, bytes);
        }
        Ask::State(bytes) => {
            out.push(b'G');
            put(&mut out, bytes);
        }
        Ask::Items { bytes, is_echo } => {
            out.push(b'N');
            put_number(&mut out, u32::from(*is_echo));
            put(&mut out, bytes);
        }
    }
    out
}

fn put_changes(out: &mut Vec<u8>, before: &Image, after: &Image) {
    let mut changes = Vec::new();
    let mut count = 0;
    let gone = before.files.keys().filter(|name| !after.files.contains_key(*name));
    for name in gone {
        put(&mut changes, name.as_bytes());
        put_number(&mut changes, REMOVED);
        count += 1;
    }
    for (name, content) in &after.files {
        match before.files.get(name) {
            Some(old) if old == content => continue,
            Some(old) => {
                put(&mut changes, name.as_bytes());
                put_number(&mut changes, PATCHED);
                put_patch(&mut changes, old, content);
            }
            None => {
                put(&mut changes, name.as_bytes());
                put_number(&mut changes, REPLACED);
                put(&mut changes, &content.to_bytes());
            }
        }
        count += 1;
    }
    put_len(out, count);
    out.extend(changes);
}

fn put_patch(out: &mut Vec<u8>, old: &Content, new: &Content) {
    put_len(out, usize::try_from(new.len).expect("64-bit target"));
    let mut runs = Vec::new();
    let mut count = 0;
    let mut bytes = [0; PAGE];
    let mut before = [0; PAGE];
    for at in (0..new.len).step_by(PAGE) {
        let read = new.read(at, &mut bytes);
        before.fill(0);
        old.read(at, &mut before);
        if bytes[..read] != before[..read] {
            put_len(&mut runs, usize::try_from(at).expect("64-bit target"));
            put(&mut runs, &bytes[..read]);
            count += 1;
        }
    }
    put_len(out, count);
    out.extend(runs);
}
