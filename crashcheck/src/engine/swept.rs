//! A temporary directory on a disk that is gone with the tool, whatever ends that.
//!
//! I own the directory and the process that makes it and takes it away: this program again, as a [`sweep`]er, which
//! does so when a pipe ends that the tool alone holds. So there is no moment at which a directory is left. I do not
//! know what is put there.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// The hidden subcommand of a sweeper.
pub const SWEEPER: &str = "sweeper";

/// How often it is tried to remove a directory that is still written to, and how long apart.
const TRIES: u32 = 2000;
const PAUSE: Duration = Duration::from_millis(5);

/// The directory; it is removed when this is dropped.
#[derive(Debug)]
pub struct Swept {
    path: PathBuf,
    sweeper: Child,
}

impl Swept {
    /// A new, empty directory; `program` is this one.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(SWEEPER).stdin(Stdio::piped()).stdout(Stdio::piped());
        // What a terminal sends to the tool is not for it: it has yet to sweep.
        let mut sweeper = command.process_group(0).spawn().context("the sweeper")?;
        let mut path = Vec::new();
        let out = sweeper.stdout.take().context("its output")?;
        BufReader::new(out).read_until(0, &mut path).context("the sweeper")?;
        ensure!(path.pop() == Some(0), "the sweeper made no directory");
        Ok(Self { path: PathBuf::from(OsString::from_vec(path)), sweeper })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Swept {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        // It ends when it has swept.
        let _ = self.sweeper.wait();
    }
}

/// The sweeper: makes a directory, says where, and removes it when its input ends.
///
/// # Errors
/// If there is no place for one.
pub fn sweep() -> Result<()> {
    let dir = tempfile::tempdir().context("a temporary directory")?;
    let mut out = io::stdout().lock();
    let said = [dir.path().as_os_str().as_bytes(), b"\0"].concat();
    if out.write_all(&said).and_then(|()| out.flush()).is_ok() {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    }
    let path = dir.keep();
    // A child that the tool had may be writing there until it finds that nobody listens.
    for _ in 0..TRIES {
        match std::fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => std::thread::sleep(PAUSE),
            _ => return Ok(()),
        }
    }
    bail!("{} cannot be removed", path.display())
}
