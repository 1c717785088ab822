//! What is asked of one mounted crash state.
//!
//! I own the two ways to ask: a command (exit 0 is a pass, anything else a failure whose reason is the last
//! line of its standard error), and without one whether everything can be read and a write goes through.
//! Of a command time's end and a signal are failures too. A look that ended at a bound or for want of time is neither
//! a pass nor a failure. I do not know which state it is.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::block::guests::{End, Guests};
use crate::block::present::Presenter;
use crate::block::room::Room;
use crate::program::stream::{Inlet, Keep};

/// How states are judged.
#[derive(Clone, Debug)]
pub struct Checker {
    /// For `sh -c`; without one, reading and writing is tried.
    pub command: Option<String>,
    /// How long each step of a state may take: to mount it, to judge it, to unmount it.
    pub limit: Duration,
}

/// What is said of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// All that was asked holds.
    Holds,
    /// Something does not, and what.
    Fails(String),
    /// Not all was looked at, and why.
    Unfinished(String),
}

impl Verdict {
    /// With at most so many bytes of reasons.
    #[must_use]
    pub fn shortened(mut self, most: usize) -> Self {
        if let Self::Fails(reason) | Self::Unfinished(reason) = &mut self {
            let cut = (0..=most.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at));
            reason.truncate(cut.expect("zero is a boundary"));
        }
        self
    }
}

/// How much of a command's last words is kept.
const TAIL: usize = 8192;

/// The file that names the acknowledgements for a checker.
pub const ACKS: &str = "acks";

impl Checker {
    /// Judges what is mounted.
    ///
    /// # Errors
    /// If the checker cannot be run at all.
    pub fn judge(
        &self,
        room: &Room,
        guests: &mut Guests<'_>,
        presenter: &Presenter<'_>,
        acks: &[&str],
    ) -> anyhow::Result<Verdict> {
        let Some(command) = &self.command else { return presenter.look() };
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
                End::Exited(status) if status.success() => Verdict::Holds,
                End::Exited(status) => Verdict::Fails(reason(status, words.bytes())),
                End::TimedOut => {
                    Verdict::Fails(format!("the checker took longer than {} s", self.limit.as_secs()))
                }
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
