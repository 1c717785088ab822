//! Runs what is not ours without root's rights.
//!
//! I own the step down. A command that is to be another user's is started as this program again ([`AS`]), which
//! gives up groups, ids and with them every capability, for good (no program that it runs gains any), and
//! becomes the command. So whoever starts, traces or checks a command need not know of it. The file with the
//! acknowledgements is opened before: it is in a directory of root's processes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::IntoRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{Gid, Uid, User, geteuid, setgid, setgroups, setuid};
use serde::{Deserialize, Serialize};

/// What asks this program to become another user's command.
pub const AS: &str = "__as";
/// Names the file with the acknowledgements.
pub const ACKS: &str = "CRASHCHECK_ACKS";

/// A user without root's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// The user.
    pub uid: u32,
    /// Its first group; it has no other.
    pub gid: u32,
}

impl Rights {
    /// The rights of a user by name.
    ///
    /// # Errors
    /// If there is no such user, or this process may not become it.
    pub fn of(name: &str) -> anyhow::Result<Self> {
        let user = User::from_name(name).with_context(|| format!("the user {name}"))?;
        let user = user.with_context(|| format!("there is no user {name}"))?;
        if !geteuid().is_root() {
            bail!("--user is for root: you are without its rights already");
        }
        if user.uid.is_root() {
            bail!("--user {name}: that is root itself");
        }
        Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }

    /// A command that becomes another's, with these rights.
    #[must_use]
    pub fn lent<W: From<String> + Clone>(self, command: &[W]) -> Vec<W> {
        let head = ["/proc/self/exe".to_owned(), AS.to_owned(), self.uid.to_string(), self.gid.to_string()];
        head.into_iter().map(W::from).chain(command.iter().cloned()).collect()
    }
}

/// The command alone, whoever runs it.
#[must_use]
pub fn own<W: AsRef<OsStr>>(command: &[W]) -> &[W] {
    match command {
        [_, word, _, _, own @ ..] if word.as_ref() == AS => own,
        command => command,
    }
}

/// Steps down and becomes a command.
///
/// # Errors
/// If it cannot; nothing was run then.
pub fn step_down(arguments: &[OsString]) -> anyhow::Result<i32> {
    let [uid, gid, program, arguments @ ..] = arguments else { bail!("no user or no command") };
    let number = |word: &OsStr| word.to_str().and_then(|word| word.parse().ok()).context("a user's number");
    let (uid, gid) = (number(uid)?, number(gid)?);
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(acks) = std::env::var_os(ACKS) {
        let file = File::open(acks).context("the file of acknowledgements")?;
        // A copy that outlives the next step.
        let copy = rustix::io::dup(&file)?.into_raw_fd();
        command.env(ACKS, format!("/proc/{}/fd/{copy}", std::process::id()));
    }
    set_no_new_privs().context("giving up what programs may gain")?;
    setgroups(&[]).context("giving up groups")?;
    setgid(Gid::from_raw(gid)).context("giving up a group")?;
    setuid(Uid::from_raw(uid)).context("giving up root")?;
    let e = command.exec();
    bail!("{}: {e}", Path::new(program).display())
}
