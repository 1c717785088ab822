//! Between the tracer and the recorder, who live in different process namespaces.
//!
//! I own the line: a socket in a directory of the recorder's own, a line of text each way, and nobody goes
//! on before the answer. Threads have other numbers here and there; the namespace that the tracer names is
//! where the recorder looks for the thread that it means.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::program::tape::{Tape, Who};

/// The tracer's end.
#[derive(Debug)]
pub struct Line {
    to: UnixStream,
    from: BufReader<UnixStream>,
}

impl Line {
    /// Calls the recorder.
    ///
    /// # Errors
    /// If it does not listen there.
    pub fn call(desk: &Path) -> anyhow::Result<Self> {
        let to = UnixStream::connect(desk).context("calling the recorder")?;
        let from = BufReader::new(to.try_clone()?);
        let mut line = Self { to, from };
        let space = fs::read_link("/proc/self/ns/pid").context("/proc/self/ns/pid")?;
        line.ask(&format!("space {}", space.display()))?;
        Ok(line)
    }

    fn ask(&mut self, words: &str) -> anyhow::Result<String> {
        writeln!(self.to, "{words}").context("telling the recorder")?;
        let mut answer = String::new();
        self.from.read_line(&mut answer).context("the recorder's answer")?;
        Ok(answer.trim_end().to_owned())
    }

    /// A call begins: how many steps there are.
    pub(super) fn begins(&mut self) -> anyhow::Result<usize> {
        self.ask("begins")?.parse().context("the recorder's answer")
    }

    /// A call returned.
    pub(super) fn returned(
        &mut self,
        tid: i32,
        call: &str,
        entered: usize,
        failed: bool,
    ) -> anyhow::Result<()> {
        self.ask(&format!("{call} {tid} {entered} {failed}")).map(drop)
    }

    /// The program was not traced.
    pub(super) fn say_untraced(&mut self) -> anyhow::Result<()> {
        self.ask("untraced").map(drop)
    }

    /// A signal was not passed on.
    pub(super) fn say_signal(&mut self, signal: i32) -> anyhow::Result<()> {
        self.ask(&format!("signal {signal}")).map(drop)
    }
}

/// The recorder's end.
#[derive(Debug)]
pub struct Desk {
    home: tempfile::TempDir,
    listener: UnixListener,
}

impl Desk {
    /// Listens in a directory that nobody else may enter, and that is not in `dir`.
    ///
    /// # Errors
    /// If there is no place for it.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let usual = std::env::temp_dir();
        let place = if usual.starts_with(dir) { PathBuf::from("/run") } else { usual };
        let private = fs::Permissions::from_mode(0o700);
        let home = tempfile::Builder::new().prefix("crashcheck-").permissions(private).tempdir_in(place)?;
        let listener = UnixListener::bind(home.path().join("desk"))?;
        fs::set_permissions(home.path().join("desk"), fs::Permissions::from_mode(0o600))?;
        Ok(Self { home, listener })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.home.path().join("desk")
    }

    /// Ends the wait for a tracer that never called.
    pub fn close(&self) {
        // A call that is not taken any more is nothing to it.
        drop(UnixStream::connect(self.path()));
    }

    /// The first caller who is who we are. The directory keeps others out; a call of theirs is hung up on all
    /// the same, and does not take the tracer's place.
    fn call(&self) -> Option<UnixStream> {
        loop {
            let (caller, _) = self.listener.accept().ok()?;
            let peer = getsockopt(&caller, PeerCredentials);
            if peer.is_ok_and(|peer| peer.uid() == nix::unistd::geteuid().as_raw()) {
                return Some(caller);
            }
        }
    }

    /// Notes what the first caller says, until it hangs up.
    pub fn serve(&self, tape: &Tape) {
        let Some(caller) = self.call() else { return };
        // Nobody else is to call, and a recorder that is killed is to leave nothing.
        let _ = fs::remove_dir_all(self.home.path());
        let Ok(mut to) = caller.try_clone() else { return };
        let mut space = String::new();
        for words in BufReader::new(caller).lines() {
            let Ok(words) = words else { return };
            let answer = note(tape, &words, &mut space);
            if writeln!(to, "{answer}").is_err() {
                return;
            }
        }
    }
}

fn note(tape: &Tape, words: &str, space: &mut String) -> usize {
    let words: Vec<&str> = words.split(' ').collect();
    match words[..] {
        ["space", name] => name.clone_into(space),
        ["signal", number] => {
            let reason = format!("real-time signal {number} was not passed on: record with --no-ptrace");
            tape.lock().gap(String::new(), &reason);
        }
        ["untraced"] => {
            let reason = "the program may not be traced here, so sync and syncfs are not seen: \
                          record with --no-ptrace if it uses neither";
            tape.lock().gap(String::new(), reason);
        }
        [call, tid, entered, failed] => {
            let call = if call == "sync" { "sync" } else { "syncfs" };
            let tid = tid.parse().ok().and_then(|tid| outer(space, tid)).unwrap_or(0);
            let mut reel = tape.lock();
            let who = reel.who(call, tid);
            let entered = entered.parse().unwrap_or(who.entered);
            reel.note_whole_sync(Who { entered, ..who }, failed == "true");
        }
        _ => {}
    }
    tape.lock().len()
}

/// Our number of a thread of another namespace.
fn outer(space: &str, tid: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let inside = processes
        .filter(|entry| fs::read_link(entry.path().join("ns/pid")).is_ok_and(|ns| ns == Path::new(space)));
    inside
        .filter_map(|entry| fs::read_dir(entry.path().join("task")).ok())
        .flat_map(|tasks| tasks.flatten())
        .find_map(|task| {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
            let is_it = numbers.split_whitespace().last() == Some(&*tid.to_string());
            is_it.then(|| task.file_name().to_str()?.parse().ok()).flatten()
        })
}
