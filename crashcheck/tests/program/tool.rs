//! The real command on a directory of a case's own.
//!
//! I own where it runs and what it printed. I do not know what is right.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// A case's directory: `data` in it is recorded.
pub(crate) struct Bench {
    pub(crate) home: tempfile::TempDir,
}

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The JSON object of the last line.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let last = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{e} in {}\n{}", self.out, self.err))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("data")).unwrap();
        Self { home }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub(crate) fn trace(&self) -> PathBuf {
        self.home.path().join("run.trace")
    }

    /// The command with arguments, in the case's directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crashcheck"));
        command.args(arguments).current_dir(self.home.path()).env(super::ROLE, "1").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// Records a role of this program, with options of `record` before it.
    pub(crate) fn record_with(&self, options: &[&str], role: &str) -> Ran {
        let me = me();
        let head = ["record", "--json", "--dir", "data", "-o", "run.trace"];
        self.run(&[&head, options, &["--", &me, role, "data"]].concat())
    }

    /// Records a role that is to end well, and whose recording is to be whole.
    #[track_caller]
    pub(crate) fn record(&self, role: &str) -> Value {
        let ran = self.record_with(&[], role);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        let json = ran.json();
        assert_eq!(json["gaps"], 0, "{}", ran.err);
        json
    }

    pub(crate) fn explore(&self, role: &str, options: &[&str]) -> Ran {
        let check = format!("{} {role} data", me());
        self.run(&[&["explore", "run.trace", "--json", "--check", &check][..], options].concat())
    }

    pub(crate) fn show(&self) -> String {
        self.run(&["show", "run.trace"]).out
    }
}

/// This program's path.
pub(crate) fn me() -> String {
    env::current_exe().unwrap().to_str().unwrap().to_owned()
}

/// How many processes hold a word in their arguments, or see one in their mounts.
pub(crate) fn traces_of(word: &Path) -> (usize, usize) {
    let word = word.to_str().unwrap();
    let (mut processes, mut mounts) = (0, 0);
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |what: &str| fs::read(entry.path().join(what)).unwrap_or_default();
        let holds = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(word);
        processes += usize::from(holds(read("cmdline")));
        mounts += usize::from(holds(read("mountinfo")));
    }
    (processes, mounts)
}

/// Waits until something holds, for at most ten seconds.
#[track_caller]
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("after ten seconds: {what}");
}

/// Sends a signal; whether there was somebody to get it.
pub(crate) fn signal(child: &Child, name: &str) -> bool {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("kill -{name} {}", child.id())).stderr(Stdio::null());
    shell.status().unwrap().success()
}
