//! A stopped thread: its call, and what its arguments name.
//!
//! I own the way from numbers to files. Paths are given as we can open them, through `/proc/TID`: its root,
//! its working directory, its descriptors. Calls of an older form are turned into the newer one.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::ptrace;
use nix::unistd::Pid;
use rustix::fs::Stat;

/// The longest path that the kernel takes.
const MOST_PATH: usize = 4096;

/// A thread that is about to make a call.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) pid: Pid,
    /// The call's number.
    pub(super) call: i64,
    pub(super) arguments: [u64; 6],
}

/// What is known of an open file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) position: u64,
    pub(super) flags: i32,
}

#[cfg(target_arch = "x86_64")]
fn call(pid: Pid) -> anyhow::Result<(i64, [u64; 6])> {
    let regs = ptrace::getregs(pid)?;
    Ok((regs.orig_rax.cast_signed(), [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]))
}

#[cfg(target_arch = "aarch64")]
fn call(pid: Pid) -> anyhow::Result<(i64, [u64; 6])> {
    let regs = ptrace::getregs(pid)?.regs;
    Ok((regs[8].cast_signed(), [regs[0], regs[1], regs[2], regs[3], regs[4], regs[5]]))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn call(_pid: Pid) -> anyhow::Result<(i64, [u64; 6])> {
    anyhow::bail!("the calls of this machine are not known")
}

/// A call in its newer form, that names a directory to begin at.
#[cfg(target_arch = "x86_64")]
fn newer(call: i64, [a, b, c, d, e, f]: [u64; 6]) -> (i64, [u64; 6]) {
    let here = i64::from(libc::AT_FDCWD).cast_unsigned();
    let creating = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    let creating = u64::from(creating.cast_unsigned());
    let removing = u64::from(libc::AT_REMOVEDIR.cast_unsigned());
    match call {
        libc::SYS_open => (libc::SYS_openat, [here, a, b, c, 0, 0]),
        libc::SYS_creat => (libc::SYS_openat, [here, a, creating, b, 0, 0]),
        libc::SYS_mkdir => (libc::SYS_mkdirat, [here, a, b, 0, 0, 0]),
        libc::SYS_mknod => (libc::SYS_mknodat, [here, a, b, c, 0, 0]),
        libc::SYS_unlink => (libc::SYS_unlinkat, [here, a, 0, 0, 0, 0]),
        libc::SYS_rmdir => (libc::SYS_unlinkat, [here, a, removing, 0, 0, 0]),
        libc::SYS_link => (libc::SYS_linkat, [here, a, here, b, 0, 0]),
        libc::SYS_symlink => (libc::SYS_symlinkat, [a, here, b, 0, 0, 0]),
        libc::SYS_rename => (libc::SYS_renameat2, [here, a, here, b, 0, 0]),
        libc::SYS_renameat => (libc::SYS_renameat2, [a, b, c, d, 0, 0]),
        libc::SYS_chmod => (libc::SYS_fchmodat, [here, a, b, 0, 0, 0]),
        libc::SYS_stat | libc::SYS_lstat | libc::SYS_access => (libc::SYS_newfstatat, [here, a, 0, 0, 0, 0]),
        _ => (call, [a, b, c, d, e, f]),
    }
}

/// A call in its newer form.
#[cfg(not(target_arch = "x86_64"))]
fn newer(call: i64, [a, b, c, d, e, f]: [u64; 6]) -> (i64, [u64; 6]) {
    match call {
        libc::SYS_renameat => (libc::SYS_renameat2, [a, b, c, d, 0, 0]),
        _ => (call, [a, b, c, d, e, f]),
    }
}

/// The path under which we find an open file of a thread.
pub(super) fn descriptor(pid: Pid, fd: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/fd/{fd}"))
}

impl Thread {
    /// The call that a stopped thread is about to make.
    pub(super) fn stopped(pid: Pid) -> anyhow::Result<Self> {
        let (call, arguments) = call(pid)?;
        let (call, arguments) = newer(call, arguments);
        Ok(Self { pid, call, arguments })
    }

    /// An argument that is an `int`, such as a descriptor.
    pub(super) fn int(&self, number: usize) -> i32 {
        let low = self.arguments[number] & 0xffff_ffff;
        u32::try_from(low).expect("32 bits").cast_signed()
    }

    /// What a descriptor in an argument leads to.
    pub(super) fn stat(&self, number: usize) -> Option<Stat> {
        rustix::fs::stat(descriptor(self.pid, self.int(number))).ok()
    }

    /// Bytes of its memory.
    pub(super) fn memory(&self, from: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        let memory = File::open(format!("/proc/{}/mem", self.pid)).ok()?;
        let read = memory.read_at(&mut bytes, from).ok()?;
        bytes.truncate(read);
        Some(bytes)
    }

    /// A number in its memory.
    pub(super) fn word(&self, from: u64) -> Option<u64> {
        self.memory(from, 8)?.try_into().ok().map(u64::from_ne_bytes)
    }

    fn text(&self, from: u64) -> Option<OsString> {
        // It may end just before memory that is not there.
        let to_page = usize::try_from(4096 - from % 4096).ok()?;
        let mut bytes = self.memory(from, to_page)?;
        if !bytes.contains(&0) {
            bytes.extend(self.memory(from + bytes.len() as u64, MOST_PATH).unwrap_or_default());
        }
        let end = bytes.iter().position(|byte| *byte == 0)?;
        bytes.truncate(end);
        Some(OsString::from_vec(bytes))
    }

    /// The text of an argument.
    pub(super) fn string(&self, number: usize) -> Option<OsString> {
        self.text(self.arguments[number])
    }

    /// The path that an argument is, from the directory that another one is.
    pub(super) fn path(&self, dir: usize, number: usize) -> Option<PathBuf> {
        let text = self.string(number)?;
        let pid = self.pid;
        if text.is_empty() {
            return Some(descriptor(pid, self.int(dir)));
        }
        if text.as_bytes().first() == Some(&b'/') {
            // What is the thread's own must not become ours.
            let own = ["/proc/self/", "/proc/thread-self/"];
            let rest = own.iter().find_map(|own| text.as_bytes().strip_prefix(own.as_bytes()));
            return Some(match rest {
                Some(rest) => PathBuf::from(format!("/proc/{pid}")).join(OsStr::from_bytes(rest)),
                None => {
                    PathBuf::from(format!("/proc/{pid}/root")).join(Path::new(&text).strip_prefix("/").ok()?)
                }
            });
        }
        let from = match self.int(dir) {
            libc::AT_FDCWD => PathBuf::from(format!("/proc/{pid}/cwd")),
            fd => descriptor(pid, fd),
        };
        Some(from.join(text))
    }
}

impl Open {
    /// What the kernel tells of a descriptor.
    pub(super) fn of(pid: Pid, fd: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let flags = i32::from_str_radix(field("flags:")?, 8).ok()?;
        Some(Self { position: field("pos:")?.parse().ok()?, flags })
    }
}
