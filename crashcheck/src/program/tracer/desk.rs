//! Between the tracer and the recorder, who live in different process namespaces.
//!
//! I own the line: a socket of a name that is in no directory, so that nothing is left of it, a line of text each
//! way, and nobody goes on before the answer. The name cannot be guessed, and who is not the recorder's user is not
//! answered. Threads have other numbers here and there; the namespace that the tracer names is
//! where the recorder looks for the thread that it means.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

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
    pub fn call(desk: &OsStr) -> anyhow::Result<Self> {
        let to = SocketAddr::from_abstract_name(desk.as_bytes());
        let to = to.and_then(|to| UnixStream::connect_addr(&to)).context("calling the recorder")?;
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
    name: String,
    listener: UnixListener,
}

impl Desk {
    /// Listens, in the network namespace of this process.
    ///
    /// # Errors
    /// If there are no sockets here.
    pub fn open() -> io::Result<Self> {
        let mut secret = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut secret)?;
        let name = format!("crashcheck-{:032x}", u128::from_ne_bytes(secret));
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        Ok(Self { name, listener })
    }

    /// The name by which it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends the wait for a tracer that never called.
    pub fn close(&self) {
        // A call that is not taken any more is nothing to it.
        drop(SocketAddr::from_abstract_name(&self.name).and_then(|own| UnixStream::connect_addr(&own)));
    }

    /// The first caller who is who we are. Another's call is hung up on, and does not take the tracer's place.
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
