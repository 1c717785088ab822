//! Asks the user's command about a directory.
//!
//! I own the conversation. One-shot: the command is run for each state; exit 0 is a pass, anything else a
//! failure whose reason is the last line of its standard error. Persistent: it is started once, gets one
//! JSON line for each state and answers with one; it is started again after it died. A signal, a
//! sanitizer's report and silence beyond the time limit are failures. With an [`Expect`] the command is the
//! program's own, run for each state, and what it prints is judged here. Nothing that a one-shot command
//! started outlives its answer. I run as the first process of a namespace ([`super::sandbox`]).

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::program::expect::Expect;
use crate::program::recording::Note;
use crate::program::rights::{self, Rights};
use crate::program::sandbox;

/// How much of a command's last words is kept.
const TAIL: usize = 8192;
/// What a sanitizer writes before it goes on or exits with 0.
const SANITIZERS: [&str; 4] = [
    "SUMMARY: AddressSanitizer",
    "SUMMARY: UndefinedBehaviorSanitizer",
    "SUMMARY: ThreadSanitizer",
    "SUMMARY: MemorySanitizer",
];

/// How states are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckerOptions {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// What its output must be, if its exit code does not say all.
    pub expect: Option<Expect>,
    /// What must succeed after it.
    pub then: Option<Vec<String>>,
    /// Whether it is started once for all states.
    pub persistent: bool,
    /// How long it may take for one state, in milliseconds.
    pub limit_millis: u64,
    /// Whose rights its commands have (they are [`lent`](Rights::lent) already), and whose the states are.
    pub user: Option<Rights>,
}

/// A command as a list of words: as the shell takes it, or without a shell if it has no need of one.
/// `given` is the directory as the user wrote it when recording, `dir` its absolute path, which replaces
/// it; a program that is named by a relative path is looked for in `cwd`.
#[must_use]
pub fn command(text: &str, given: &str, dir: &Path, cwd: &Path) -> Vec<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " _-./:=,+@%".contains(c) || !c.is_ascii();
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let mut shown = Vec::new();
    for (i, word) in words.iter_mut().enumerate() {
        let is_dir =
            word == given || (!given.is_empty() && word.trim_end_matches('/') == given.trim_end_matches('/'));
        if i > 0 && is_dir {
            *word = dir.display().to_string();
            shown.push(i);
        }
    }
    if let Some(first) = words.first_mut()
        && first.contains('/')
        && !first.starts_with('/')
        && cwd.join(&*first).exists()
    {
        // In a line for the shell it is a word, whatever is in it.
        let path = cwd.join(&*first).display().to_string();
        let is_word = text.chars().all(plain) || path.chars().all(plain);
        *first = if is_word { path } else { format!("'{}'", path.replace('\'', "'\\''")) };
    }
    if text.chars().all(plain) && !words[0].contains('=') {
        words.retain(|word| !word.is_empty());
        return words;
    }
    // The shell sees the directory's name as the word that it is.
    for i in shown.into_iter().filter(|_| !dir.display().to_string().chars().all(plain)) {
        words[i] = format!("'{}'", words[i].replace('\'', "'\\''"));
    }
    vec!["/bin/sh".to_owned(), "-c".to_owned(), words.join(" ")]
}

/// A command that prints `ok` if the SQLite file at a path is whole, by whichever program is here.
///
/// # Errors
/// If there is none.
pub fn sqlite(path: &str) -> anyhow::Result<Vec<String>> {
    const PYTHON: &str = "import sqlite3, sys\n\
        for row in sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check'): print(row[0])";
    let runs = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let own = |words: &[&str]| Ok(words.iter().map(|word| (*word).to_owned()).collect());
    if runs(&["sqlite3", "-version"]) {
        return own(&["sqlite3", "-batch", "-noheader", "-list", path, "PRAGMA integrity_check"]);
    }
    if runs(&["python3", "-c", "import sqlite3"]) {
        return own(&["python3", "-c", PYTHON, path]);
    }
    bail!("there is neither the sqlite3 command nor a python3 with its sqlite3 module")
}

/// A command that answers.
#[derive(Debug)]
pub struct Checker {
    options: CheckerOptions,
    dir: PathBuf,
    acks: Acks,
    process: Option<Process>,
}

/// The file with the acknowledgements; it has no name in any directory.
#[derive(Debug)]
struct Acks {
    file: File,
    shown: Option<usize>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    errors: PipeReader,
    tail: Vec<u8>,
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    reason: String,
}

/// Why a state failed.
pub type Reason = String;

impl Checker {
    /// A checker of states that are shown at `dir`.
    ///
    /// # Errors
    /// If there is no memory for its file.
    pub fn new(options: CheckerOptions, dir: &Path) -> anyhow::Result<Self> {
        let file = memory(c"acks")?;
        Ok(Self { options, dir: dir.to_owned(), acks: Acks { file, shown: None }, process: None })
    }

    /// Asks about the state that is shown. `acks` were seen before its cut, an oracle is `told` the history,
    /// `pending` says what is lost.
    ///
    /// # Errors
    /// If the command cannot be run at all, or the oracle does not understand the history.
    pub fn check(
        &mut self,
        acks: &[String],
        told: &[Note],
        pending: &str,
    ) -> anyhow::Result<Result<(), Reason>> {
        self.acks.show(acks)?;
        if self.options.persistent {
            return self.ask(acks, pending);
        }
        let first = match self.options.expect.clone() {
            None => self.run(&self.options.command, false)?.map(drop),
            Some(expect) => self.expected(&expect, !acks.is_empty(), told)?,
        };
        match (first, &self.options.then) {
            (Ok(()), Some(then)) => Ok(self
                .run(then, false)?
                .map(drop)
                .map_err(|reason| format!("then {}: {reason}", rights::own(then).join(" ")))),
            (first, _) => Ok(first),
        }
    }

    /// Whether the program's own command says what is expected.
    fn expected(&self, expect: &Expect, acked: bool, told: &[Note]) -> anyhow::Result<Result<(), Reason>> {
        if let Expect::Sqlite(path) = expect
            && !self.dir.join(path).exists()
        {
            // To open it would make it.
            return Ok(if acked { Err(format!("{path} is not there")) } else { Ok(()) });
        }
        let said = match self.run(&self.options.command, true)? {
            Ok(said) => said,
            Err(reason) => return Ok(Err(reason)),
        };
        if *expect != Expect::Opens {
            return expect.judge(told, &said);
        }
        Ok(match self.run(&self.options.command, true)? {
            Err(reason) => Err(format!("opened once more: {reason}")),
            Ok(again) if again != said => Err("opened once more, it prints something else".to_owned()),
            Ok(_) => Ok(()),
        })
    }

    fn start(&self, words: &[String], streams: impl FnOnce(&mut Command)) -> anyhow::Result<Child> {
        let (program, arguments) = words.split_first().context("the checker has no command")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.dir);
        command.env("CRASHCHECK_DIR", &self.dir);
        command.env("CRASHCHECK_ACKS", format!("/proc/1/fd/{}", self.acks.file.as_raw_fd()));
        streams(&mut command);
        command.spawn().with_context(|| format!("the checker {program}"))
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.options.limit_millis)
    }

    /// Runs a command to its end; what it printed, if that is to be kept.
    fn run(&self, words: &[String], keep: bool) -> anyhow::Result<Result<String, Reason>> {
        let (mut errors, writer) = io::pipe()?;
        let mut output = keep.then(|| memory(c"output")).transpose()?;
        let stdout = output.as_ref().map_or(Ok(Stdio::null()), |file| file.try_clone().map(Stdio::from))?;
        let child = self.start(words, |command| {
            command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::from(writer));
        })?;
        let status = wait(&child, &mut errors, self.limit())?;
        // What it left running would disturb the next state.
        sandbox::end_all_others();
        let (status, tail) = status;
        Ok(match status {
            None => Err(self.silence()),
            Some(status) => match judge(status, &tail) {
                Ok(()) => Ok(output.as_mut().map_or(Ok(String::new()), whole)?),
                Err(reason) => Err(reason),
            },
        })
    }

    fn silence(&self) -> Reason {
        format!("no answer within {} ms", self.options.limit_millis)
    }

    fn ask(&mut self, acks: &[String], pending: &str) -> anyhow::Result<Result<(), Reason>> {
        if self.process.is_none() {
            let (errors, writer) = io::pipe()?;
            let mut child = self.start(&self.options.command, |command| {
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(writer));
            })?;
            let (input, output) = (child.stdin.take(), child.stdout.take());
            let (input, output) = (input.context("its input")?, output.context("its output")?);
            self.process = Some(Process { child, input, output, errors, tail: Vec::new() });
        }
        let limit = self.limit();
        let process = self.process.as_mut().expect("it was started");
        let line = json!({ "dir": self.dir, "acks": acks, "pending": pending }).to_string() + "\n";
        let answer = match process.input.write_all(line.as_bytes()) {
            Ok(()) => process.answer(limit)?,
            Err(_) => Said::Died,
        };
        match answer {
            Said::Line(line) => match serde_json::from_str::<Answer>(&line) {
                Ok(Answer { ok: true, .. }) => Ok(Ok(())),
                Ok(Answer { reason, .. }) => Ok(Err(reason)),
                Err(_) => Ok(Err(format!("the checker answered with no JSON object with \"ok\": {line}"))),
            },
            Said::Died => {
                let mut process = self.process.take().expect("it was started");
                let (status, tail) = wait(&process.child, &mut process.errors, limit)?;
                sandbox::end_all_others();
                process.tail.extend(tail);
                Ok(Err(match status.map(|status| judge(status, &process.tail)) {
                    Some(Err(reason)) => reason,
                    _ => "the checker ended without an answer".to_owned(),
                }))
            }
            Said::Nothing => {
                self.process = None;
                sandbox::end_all_others();
                Ok(Err(self.silence()))
            }
        }
    }
}

enum Said {
    Line(String),
    Died,
    Nothing,
}

impl Process {
    /// The next line of its output, in time.
    fn answer(&mut self, limit: Duration) -> anyhow::Result<Said> {
        let end = Instant::now() + limit;
        let mut line: Vec<u8> = Vec::new();
        let mut buffer = [0; 4096];
        let mut mute = false;
        loop {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return Ok(Said::Nothing) };
            let mut polled = vec![PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
            if !mute {
                polled.push(PollFd::new(self.errors.as_fd(), PollFlags::POLLIN));
            }
            wait_for(&mut polled, left)?;
            let ready: Vec<bool> = polled.iter().map(is_ready).collect();
            if ready.get(1) == Some(&true) {
                let n = self.errors.read(&mut buffer)?;
                mute = n == 0;
                keep_tail(&mut self.tail, &buffer[..n]);
            }
            if ready[0] {
                let n = self.output.read(&mut buffer)?;
                if n == 0 {
                    return Ok(Said::Died);
                }
                line.extend_from_slice(&buffer[..n]);
                if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                    return Ok(Said::Line(String::from_utf8_lossy(&line[..end]).into_owned()));
                }
            }
        }
    }
}

impl Acks {
    fn show(&mut self, acks: &[String]) -> io::Result<()> {
        // Those of another cut are a beginning of the same list.
        if self.shown != Some(acks.len()) {
            let text: String = acks.iter().flat_map(|ack| [ack.as_str(), "\n"]).collect();
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(text.as_bytes())?;
            self.shown = Some(acks.len());
        }
        Ok(())
    }
}

/// A file that has no name and no place on a disk.
fn memory(name: &CStr) -> anyhow::Result<File> {
    let made = nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
    Ok(File::from(made.context("a file in memory")?))
}

/// What was written to a file, as text.
fn whole(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_ready(fd: &PollFd<'_>) -> bool {
    fd.any().unwrap_or(false)
}

fn wait_for(polled: &mut [PollFd<'_>], limit: Duration) -> anyhow::Result<bool> {
    let millis = i32::try_from(limit.as_millis() + 1).unwrap_or(i32::MAX);
    match poll(polled, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend_from_slice(bytes);
    let over = tail.len().saturating_sub(TAIL);
    tail.drain(..over);
}

/// Waits for a process and keeps the end of what it says; `None` if it does not end in time.
fn wait(
    child: &Child,
    errors: &mut PipeReader,
    limit: Duration,
) -> anyhow::Result<(Option<ExitStatus>, Vec<u8>)> {
    let pid = Pid::from_raw(child.id().cast_signed()).context("a process has a number")?;
    let process: OwnedFd = pidfd_open(pid, PidfdFlags::empty()).context("watching the checker")?;
    let end = Instant::now() + limit;
    let (mut tail, mut buffer, mut mute) = (Vec::new(), [0; 4096], false);
    loop {
        let Some(left) = end.checked_duration_since(Instant::now()) else { return Ok((None, tail)) };
        let mut polled = vec![PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        if !mute {
            polled.push(PollFd::new(errors.as_fd(), PollFlags::POLLIN));
        }
        wait_for(&mut polled, left)?;
        let (ended, says) = (is_ready(&polled[0]), polled.get(1).is_some_and(is_ready));
        if says {
            let n = errors.read(&mut buffer)?;
            mute = n == 0;
            keep_tail(&mut tail, &buffer[..n]);
        } else if ended {
            let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.id().cast_signed()), None)?;
            return Ok((Some(exit_status(status)), tail));
        }
    }
}

fn exit_status(status: nix::sys::wait::WaitStatus) -> ExitStatus {
    match status {
        nix::sys::wait::WaitStatus::Exited(_, code) => ExitStatus::from_raw(code << 8),
        nix::sys::wait::WaitStatus::Signaled(_, signal, _) => ExitStatus::from_raw(signal as i32),
        _ => ExitStatus::from_raw(0xff00),
    }
}

fn judge(status: ExitStatus, tail: &[u8]) -> Result<(), Reason> {
    let text = String::from_utf8_lossy(tail);
    let report = text.lines().find(|line| SANITIZERS.iter().any(|mark| line.contains(mark)));
    if let Some(report) = report {
        return Err(report.to_owned());
    }
    let last = text.lines().rfind(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned());
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (_, Some(signal)) => {
            let name = nix::sys::signal::Signal::try_from(signal).map_or("a signal", |s| s.as_str());
            Err(last.map_or_else(|| format!("killed by {name}"), |last| format!("killed by {name}: {last}")))
        }
        (code, _) => Err(last.unwrap_or_else(|| format!("exit code {}", code.unwrap_or(-1)))),
    }
}
