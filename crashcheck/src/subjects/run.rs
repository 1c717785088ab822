//! Records and explores one subject.
//!
//! I own the two commands that are run: this program's own `record` and `explore`, so that a subject is
//! treated as a user's program is. (R1) Whatever happens gives a row. (R2) Each run begins with an empty
//! directory and leaves its recording in the cache. (R3) A subject is other people's code: where a user is given, its
//! preparation, workload and checker have that user's rights.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use crate::program::report::Verdict;
use crate::program::rights::Rights;
use crate::program::sandbox::TIED;
use crate::subjects::provide::{Commands, Missing, Places, last_line};
use crate::subjects::table::{Expected, Row, Subject};

/// How many seconds a workload may run.
const WORKLOAD_SECONDS: &str = "60";
/// How many milliseconds a checker may take for one state.
const CHECK_MILLIS: &str = "30000";
/// What says that a checker is started once, to `explore` and to the checker.
const PERSISTENT: &str = "--persistent";
/// How many states of a control are checked, and of a subject in which a failure is known, where the
/// classes take further states.
const STATES: [&str; 2] = ["1500", "400"];

/// A subject that has all that it needs.
#[derive(Clone, Debug)]
pub struct Ready {
    dir: PathBuf,
    trace: PathBuf,
    commands: Commands,
}

impl Ready {
    /// Directories in which there is something that it runs.
    #[must_use]
    pub fn needed(&self) -> &[PathBuf] {
        &self.commands.needed
    }
}

/// How subjects are run.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// For how many seconds the states of one are tried, at most.
    pub seconds: u64,
    /// With whose rights; with those of who starts this unless given.
    pub user: Option<Rights>,
}

/// Gets what a subject needs.
///
/// # Errors
/// What is missing.
pub fn ready(subject: &Subject, places: &Places) -> Result<Ready, Missing> {
    let runs = places.cache.join("runs");
    let dir = runs.join(&subject.name);
    let commands = places.commands(subject, &dir)?;
    Ok(Ready { trace: runs.join(format!("{}.trace", subject.name)), dir, commands })
}

/// Records and explores a subject.
#[must_use]
pub fn run(subject: &Subject, ready: &Ready, how: How) -> Row {
    let started = Instant::now();
    let without = |(verdict, reason)| Row::without(subject, verdict, reason);
    let done = prepare(ready, how.user)
        .and_then(|()| record(ready, how.user))
        .and_then(|()| explore(subject, ready, how));
    match done {
        Ok(line) => Row::of(subject, &line, started.elapsed().as_secs_f64()),
        Err(why) => without(why),
    }
}

type Why = (Verdict, String);

fn broken(why: impl std::fmt::Display) -> Why {
    (Verdict::HarnessBroken, why.to_string())
}

fn prepare(ready: &Ready, user: Option<Rights>) -> Result<(), Why> {
    let _ = fs::remove_file(&ready.trace);
    // It is not there on the first run.
    let _ = fs::remove_dir_all(&ready.dir);
    fs::create_dir_all(&ready.dir).map_err(|e| broken(format!("{}: {e}", ready.dir.display())))?;
    let prepare = &ready.commands.prepare;
    let words = match user {
        Some(user) => {
            let given = chown(&ready.dir, Some(user.uid), Some(user.gid));
            given.map_err(|e| broken(format!("{}: {e}", ready.dir.display())))?;
            if prepare.is_empty() { Vec::new() } else { user.lent(prepare) }
        }
        None => prepare.clone(),
    };
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let done = output(Command::new(program).args(arguments).current_dir(&ready.dir))?;
    if done.status.success() { Ok(()) } else { Err(broken(said("its preparation failed", &done))) }
}

fn record(ready: &Ready, user: Option<Rights>) -> Result<(), Why> {
    let mut command = own("record", ready, user)?;
    command.arg("--dir").arg(&ready.dir).arg("--output").arg(&ready.trace);
    command.args(["--time-limit", WORKLOAD_SECONDS, "--json", "--"]).args(&ready.commands.workload);
    let done = output(&mut command)?;
    match done.status.code() {
        Some(0) => Ok(()),
        Some(1) => Err(broken(said("the workload failed", &done))),
        Some(3 | 4) => Err((Verdict::NotMeasured, said("it cannot be recorded here", &done))),
        _ => Err(broken(said("the recording failed", &done))),
    }
}

/// The last line of the exploration's output.
fn explore(subject: &Subject, ready: &Ready, how: How) -> Result<String, Why> {
    let [of_control, of_other] = STATES;
    let states = if subject.expected == Expected::Pass { of_control } else { of_other };
    let mut command = own("explore", ready, how.user)?;
    let mut check = ready.commands.check.clone();
    if subject.persistent {
        command.arg(PERSISTENT);
        check.push(PERSISTENT.to_owned());
    }
    command.arg(&ready.trace).arg("--check").arg(shell(&check));
    command.args(["--check-limit", CHECK_MILLIS, "--states", states, "--json"]);
    command.arg("--seconds").arg(how.seconds.to_string());
    let done = output(&mut command)?;
    last_line(&done.stdout).ok_or_else(|| broken(said("the exploration failed", &done)))
}

fn own(name: &str, ready: &Ready, user: Option<Rights>) -> Result<Command, Why> {
    let mut command = Command::new(std::env::current_exe().map_err(broken)?);
    command.args([TIED, name]);
    if let Some(user) = user {
        command.args(["--user", &user.name().map_err(broken)?]);
    }
    // A directory that the user may be in, and that is not recorded.
    command.current_dir(ready.dir.parent().unwrap_or(&ready.dir));
    Ok(command)
}

fn output(command: &mut Command) -> Result<Output, Why> {
    let name = Path::new(command.get_program()).display().to_string();
    command.stdin(Stdio::null()).output().map_err(|e| broken(format!("{name}: {e}")))
}

fn said(what: &str, done: &Output) -> String {
    let last = last_line(&done.stderr).unwrap_or_else(|| done.status.to_string());
    format!("{what}: {last}")
}

/// The words as one line that the shell takes apart again.
fn shell(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@%".contains(c);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::shell;

    #[test]
    fn a_line_for_the_shell_keeps_its_words() {
        let check = |words: &[&str], line: &str| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(shell(&words), line);
        };
        check(&["env", "A=/x:/y", "python3", "c.py"], "env A=/x:/y python3 c.py");
        check(&["/a b/c", "it's", ""], r"'/a b/c' 'it'\''s' ''");
    }
}
