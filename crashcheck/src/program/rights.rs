//! Runs what is not ours without root's rights.
//!
//! I own the step down. A command that is to be another user's is started as this program again ([`AS`]), which
//! gives up groups, ids and with them every capability, for good (no program that it runs gains any), and
//! becomes the command. So whoever starts, traces or checks a command need not know of it. The file with the
//! acknowledgements is opened before: it is in a directory of root's processes. Nobody who is run here, as root too, has
//! the rights that act on the machine as a whole ([`leave_machine`]).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{Gid, Uid, User, getegid, geteuid, setfsgid, setfsuid, setgid, setgroups, setuid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
};
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

    /// The user's name.
    ///
    /// # Errors
    /// If it has none any more.
    pub fn name(self) -> anyhow::Result<String> {
        let user = User::from_uid(Uid::from_raw(self.uid)).context("a user's name")?;
        Ok(user.with_context(|| format!("the user {} has no name", self.uid))?.name)
    }

    /// A command that becomes another's, with these rights.
    #[must_use]
    pub fn lent<W: From<String> + Clone>(self, command: &[W]) -> Vec<W> {
        let head = ["/proc/self/exe".to_owned(), AS.to_owned(), self.uid.to_string(), self.gid.to_string()];
        head.into_iter().map(W::from).chain(command.iter().cloned()).collect()
    }
}

/// What acts on the machine as a whole and on no file or process: its kernel's code and log, its clock, its end, its
/// ports, who is watched and what the rules are. Nothing that this program does needs any of it.
const MACHINE: CapabilitySet = CapabilitySet::SYS_MODULE
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_BOOT)
    .union(CapabilitySet::SYS_TIME)
    .union(CapabilitySet::SYS_PACCT)
    .union(CapabilitySet::SYS_TTY_CONFIG)
    .union(CapabilitySet::SYSLOG)
    .union(CapabilitySet::WAKE_ALARM)
    .union(CapabilitySet::BLOCK_SUSPEND)
    .union(CapabilitySet::AUDIT_CONTROL)
    .union(CapabilitySet::AUDIT_READ)
    .union(CapabilitySet::MAC_ADMIN)
    .union(CapabilitySet::MAC_OVERRIDE);

/// Files are reached with a user's rights until this is dropped, by this thread.
#[derive(Debug)]
pub struct Acting(());

impl Acting {
    /// Takes a user's rights on files. Root's other groups have to be given up before.
    ///
    /// # Errors
    /// If this thread may not.
    pub fn begin(user: Rights) -> io::Result<Self> {
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        setfsgid(gid);
        setfsuid(uid);
        let acting = Self(());
        // They say what was so before, and not whether it was changed.
        if setfsuid(uid) == uid && setfsgid(gid) == gid { Ok(acting) } else { Err(Errno::PERM.into()) }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        setfsuid(geteuid());
        setfsgid(getegid());
    }
}

/// Gives those up for good, for this process and all that it starts. To be called before any thread is made.
///
/// # Errors
/// If the kernel says no.
pub fn leave_machine() -> anyhow::Result<()> {
    let had = capabilities(None).context("this process's capabilities")?;
    for one in MACHINE.iter() {
        match remove_capability_from_bounding_set(one) {
            // One that this kernel does not know.
            Ok(()) | Err(Errno::INVAL) => {}
            // Who may not do that has none of them to give on.
            Err(Errno::PERM) if !had.effective.contains(CapabilitySet::SETPCAP) => break,
            Err(e) => return Err(e).context("giving up capabilities"),
        }
    }
    let left = CapabilitySets {
        effective: had.effective.difference(MACHINE),
        permitted: had.permitted.difference(MACHINE),
        inheritable: had.inheritable.difference(MACHINE),
    };
    set_capabilities(None, left).context("giving up capabilities")
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
