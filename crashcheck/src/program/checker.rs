//! Asks the user's command about a directory.
//!
//! I own the conversation. One-shot: the command is run for each state; exit 0 is a pass, anything else a
//! failure whose reason is the last line of its standard error. Persistent: it is started once, gets one
//! JSON line for each state and answers with one; it is started again after it died. A signal, a
//! sanitizer's report and silence beyond the time limit are failures. What a command may say is bounded ([`stream`](super::stream)), and an answer that nobody
//! asked for ends the run: it cannot be told which state it is about. With an [`Expect`] the command is the
//! program's own, run for each state, and what it prints is judged here. Nothing that a one-shot command
//! started outlives its answer. I run as the first process of a namespace ([`super::sandbox`]).

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::PollFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::program::expect::Expect;
use crate::program::recording::Note;
use crate::program::rights::{self, Rights};
use crate::program::sandbox;
use crate::program::stream::{Inlet, Keep, Outlet, ready};

/// How much of a command's last words is kept.
const TAIL: usize = 8192;
/// How much a command may print of which the output is judged.
const MOST_OUTPUT: usize = 64 << 20;
/// How long an answer may be.
const MOST_ANSWER: usize = 1 << 20;
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
    input: Outlet,
    output: Inlet,
    errors: Inlet,
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
        let (errors, writer) = io::pipe()?;
        let mut streams = vec![Inlet::new(errors, Keep::Last(TAIL))?];
        let mut stdout = Stdio::null();
        if keep {
            let (output, writer) = io::pipe()?;
            streams.push(Inlet::new(output, Keep::First(MOST_OUTPUT))?);
            stdout = Stdio::from(writer);
        }
        let child = self.start(words, |command| {
            command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::from(writer));
        })?;
        let ended = wait(&child, &mut streams, self.limit())?;
        // What it left running would disturb the next state.
        sandbox::end_all_others();
        let said = |stream: &Inlet| String::from_utf8_lossy(stream.bytes()).into_owned();
        Ok(match ended {
            Ended::TooLate => Err(self.silence()),
            Ended::TooMuch => Err(format!("it printed more than {MOST_OUTPUT} bytes: print less")),
            Ended::With(status) => {
                judge(status, streams[0].bytes()).map(|()| streams.get(1).map_or(String::new(), said))
            }
        })
    }

    fn silence(&self) -> Reason {
        format!("no answer within {} ms", self.options.limit_millis)
    }

    fn ask(&mut self, acks: &[String], pending: &str) -> anyhow::Result<Result<(), Reason>> {
        if self.process.is_none() {
            self.process = Some(self.begin()?);
        }
        let limit = self.limit();
        let process = self.process.as_mut().expect("it was started");
        let line =
            json!({ "dir": self.dir.to_string_lossy(), "acks": acks, "pending": pending }).to_string() + "\n";
        let reason = match process.answer(&line, limit)? {
            Said::Line(line) => {
                return match serde_json::from_str::<Answer>(&line) {
                    Ok(Answer { ok: true, .. }) => Ok(Ok(())),
                    Ok(Answer { reason, .. }) => Ok(Err(reason)),
                    Err(_) => {
                        Ok(Err(format!("the checker answered with no JSON object with \"ok\": {line}")))
                    }
                };
            }
            Said::Unasked(line) => bail!(
                "the checker gave an answer that nobody asked for, {line:?}: it must answer each line with one line, \
                 and print nothing else on its standard output"
            ),
            Said::Died => {
                let ended = wait(&process.child, std::slice::from_mut(&mut process.errors), limit)?;
                match ended {
                    Ended::With(status) => judge(status, process.errors.bytes())
                        .err()
                        .unwrap_or_else(|| "the checker ended without an answer".to_owned()),
                    _ => "the checker closed its output without an answer".to_owned(),
                }
            }
            Said::TooMuch => {
                format!(
                    "the answer is longer than {MOST_ANSWER} bytes: the checker must end it with a new line"
                )
            }
            Said::Nothing => self.silence(),
            Said::Deaf => {
                format!(
                    "{}: the checker does not read its standard input to the end of the line",
                    self.silence()
                )
            }
        };
        self.process = None;
        sandbox::end_all_others();
        Ok(Err(reason))
    }

    /// Starts the command that is asked about every state.
    fn begin(&self) -> anyhow::Result<Process> {
        let (errors, writer) = io::pipe()?;
        let mut child = self.start(&self.options.command, |command| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(writer));
        })?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Ok(Process {
            child,
            input: Outlet::new(input.context("its input")?)?,
            output: Inlet::new(output.context("its output")?, Keep::First(MOST_ANSWER))?,
            errors: Inlet::new(errors, Keep::Last(TAIL))?,
        })
    }
}

enum Said {
    Line(String),
    Unasked(String),
    TooMuch,
    Died,
    Nothing,
    Deaf,
}

impl Process {
    /// Asks, and gives the next line of its output, in time.
    fn answer(&mut self, line: &str, limit: Duration) -> anyhow::Result<Said> {
        let until = Instant::now() + limit;
        self.output.take()?;
        if self.output.has_words() {
            return Ok(Said::Unasked(self.first_words()));
        }
        self.input.give(line.as_bytes());
        loop {
            if self.input.push().is_err() {
                return Ok(Said::Died);
            }
            if !ready(&[self.output.wanted(), self.errors.wanted(), self.input.wanted()], until)? {
                return Ok(if self.input.is_done() { Said::Nothing } else { Said::Deaf });
            }
            self.errors.take()?;
            self.output.take()?;
            if let Some(line) = self.output.line() {
                let unasked = self.output.has_words() || !self.input.is_done();
                return Ok(if unasked { Said::Unasked(line) } else { Said::Line(line) });
            }
            if self.output.is_over() {
                return Ok(Said::TooMuch);
            }
            if self.output.is_closed() {
                return Ok(Said::Died);
            }
        }
    }

    /// The beginning of what it says.
    fn first_words(&self) -> String {
        String::from_utf8_lossy(self.output.bytes()).trim().chars().take(80).collect()
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

/// How a command ended.
enum Ended {
    With(ExitStatus),
    /// It did not in time.
    TooLate,
    /// It said more than is kept from the beginning.
    TooMuch,
}

/// Waits for a process, and takes what it says.
fn wait(child: &Child, streams: &mut [Inlet], limit: Duration) -> anyhow::Result<Ended> {
    let pid = Pid::from_raw(child.id().cast_signed()).context("a process has a number")?;
    let process: OwnedFd = pidfd_open(pid, PidfdFlags::empty()).context("watching the checker")?;
    let end = Some((process.as_fd(), PollFlags::POLLIN));
    let until = Instant::now() + limit;
    loop {
        let wanted: Vec<_> = streams.iter().map(Inlet::wanted).chain([end]).collect();
        if !ready(&wanted, until)? {
            return Ok(Ended::TooLate);
        }
        drop(wanted);
        let has_ended = ready(&[end], Instant::now())?;
        // After its end: what it said last is there.
        streams.iter_mut().try_for_each(Inlet::take)?;
        if streams.iter().any(|stream| stream.is_over()) {
            return Ok(Ended::TooMuch);
        }
        if has_ended {
            let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.id().cast_signed()), None)?;
            return Ok(Ended::With(exit_status(status)));
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
