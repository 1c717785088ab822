//! What is asked of one mounted crash state.
//!
//! I own the two ways to ask: a command (exit 0 is a pass, anything else a failure whose reason is the last
//! line of its standard error), and without one whether everything can be read and a write goes through.
//! Time's end, a signal and a file system that is not mounted are failures too. I do not know which state
//! it is.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::block::guests::{End, Guests};
use crate::block::room::Room;
use crate::program::stream::{Inlet, Keep};

/// How states are judged.
#[derive(Clone, Debug)]
pub struct Checker {
    /// For `sh -c`; without one, reading and writing is tried.
    pub command: Option<String>,
    /// How long it may take.
    pub limit: Duration,
}

/// How much of a command's last words is kept.
const TAIL: usize = 8192;

/// The file that names the acknowledgements for a checker.
pub const ACKS: &str = "acks";

impl Checker {
    /// Judges what is mounted: the reason if it fails.
    ///
    /// # Errors
    /// If the checker cannot be run at all.
    pub fn judge(
        &self,
        room: &Room,
        guests: &mut Guests<'_>,
        acks: &[&str],
    ) -> anyhow::Result<Result<(), String>> {
        let Some(command) = &self.command else { return Ok(opens(&room.mount_point())) };
        let file = room.file(ACKS);
        fs::write(&file, acks.iter().flat_map(|ack| [ack, "\n"]).collect::<String>())?;
        let (words, writer) = io::pipe()?;
        let mut words = Inlet::new(words, Keep::Last(TAIL))?;
        let mut child = guests.spawn(
            Command::new("/bin/sh")
                .args(["-c", command])
                .current_dir(room.mount_point())
                .env("CRASHCHECK_DIR", room.mount_point())
                .env("CRASHCHECK_ACKS", &file)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(writer),
        )?;
        Ok(
            match guests
                .wait(&mut child, self.limit, &mut || words.take())
                .context("waiting for the checker")?
            {
                End::Exited(status) if status.success() => Ok(()),
                End::Exited(status) => Err(reason(status, words.bytes())),
                End::TimedOut => Err(format!("the checker took longer than {} s", self.limit.as_secs())),
            },
        )
    }
}

/// The last line that was said, or how it ended.
fn reason(status: ExitStatus, words: &[u8]) -> String {
    let said = String::from_utf8_lossy(words);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    match (status.signal(), last) {
        (Some(signal), _) => format!("the checker was killed by signal {signal}"),
        (None, Some(line)) => line.trim().to_owned(),
        (None, None) => format!("the checker ended with {status} and said nothing"),
    }
}

/// Whether every file can be read, and a new one written, synced and removed.
fn opens(root: &Path) -> Result<(), String> {
    let shown = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let mut todo: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let done = if path.is_dir() && !path.is_symlink() {
            list(&path).map(|entries| todo.extend(entries))
        } else if path.is_file() {
            read_through(&path)
        } else {
            Ok(())
        };
        done.map_err(|e| format!("{} cannot be read: {e}", shown(&path)))?;
    }
    let probe = root.join(".crashcheck-probe");
    let write = || {
        let mut file = File::create(&probe)?;
        file.write_all(b"probe")?;
        file.sync_all()?;
        fs::remove_file(&probe)
    };
    write().map_err(|e: io::Error| format!("a write does not go through: {e}"))
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
}

fn read_through(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}
