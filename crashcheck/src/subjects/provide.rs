//! Finds what a subject needs on this machine, and installs what is missing into a cache.
//!
//! I own the words in braces of the manifest: `{dir}` the recorded directory, `{subjects}` the directory of
//! the workloads, `{node}` and `{python}` the interpreters, `{crates}` the programs built of the Rust
//! subjects, `{seawall}` this project's command. (P1) A package is installed in the version that the
//! manifest names, into a directory of its own, once. (P2) What cannot be had is named with the package to
//! install; it is never guessed at.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::subjects::table::Subject;

/// Where the subjects are, and where what they need goes.
#[derive(Clone, Debug)]
pub struct Places {
    /// The workloads and checkers.
    pub subjects: PathBuf,
    /// Packages, programs, recordings.
    pub cache: PathBuf,
}

/// Why a subject cannot be run here.
pub type Missing = String;

/// The commands of a subject, ready to run.
#[derive(Clone, Debug)]
pub struct Commands {
    /// What fills the directory; empty if nothing does.
    pub prepare: Vec<String>,
    /// What is recorded.
    pub workload: Vec<String>,
    /// What checks a state.
    pub check: Vec<String>,
    /// Directories in which there is something that they run.
    pub needed: Vec<PathBuf>,
}

impl Places {
    /// Provides a subject's commands, for the directory `dir`.
    ///
    /// # Errors
    /// What is missing.
    pub fn commands(&self, subject: &Subject, dir: &Path) -> Result<Commands, Missing> {
        let words = || subject.prepare.iter().chain(&subject.workload).chain(&subject.check);
        let needs = |what: &str| words().any(|word| word.contains(what));
        let mut known = vec![("{dir}", text(dir)?), ("{subjects}", text(&self.subjects)?)];
        let mut environment = Vec::new();
        let mut needed = vec![self.subjects.clone(), self.cache.clone()];
        if needs("{node}") {
            let node = program("node", "nodejs")?;
            needed.extend(tree(&node));
            known.push(("{node}", text(&node)?));
            if let Some(package) = &subject.npm {
                let modules = self.npm(subject, package)?.join("node_modules");
                environment.push(format!("NODE_PATH={}", text(&modules)?));
            }
        }
        if needs("{python}") {
            let (python, trees) = python()?;
            needed.extend(trees);
            let mut path = text(&self.subjects.join("shared"))?;
            if let Some(package) = &subject.pip {
                path = format!("{}:{path}", text(&self.pip(subject, package, &python)?)?);
            }
            environment.extend([format!("PYTHONPATH={path}"), "PYTHONDONTWRITEBYTECODE=1".to_owned()]);
            known.push(("{python}", python));
        }
        if needs("{crates}") {
            known.push(("{crates}", text(&self.crates()?)?));
        }
        if needs("{seawall}") {
            let seawall = seawall()?;
            needed.extend(seawall.parent().map(Path::to_owned));
            known.push(("{seawall}", text(&seawall)?));
        }
        let fill = |words: &[String]| filled(words, &known, &environment);
        Ok(Commands {
            prepare: fill(&subject.prepare),
            workload: fill(&subject.workload),
            check: fill(&subject.check),
            needed,
        })
    }

    fn npm(&self, subject: &Subject, package: &str) -> Result<PathBuf, Missing> {
        let npm = program("npm", "npm")?;
        self.once(subject, |into| {
            let mut command = Command::new(npm);
            command.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
            command.arg(into).arg(package);
            command
        })
    }

    fn pip(&self, subject: &Subject, package: &str, python: &str) -> Result<PathBuf, Missing> {
        run(Command::new(python).args(["-m", "pip", "--version"]))
            .map_err(|e| format!("{python} has no pip ({e}): install the package python3-pip"))?;
        self.once(subject, |into| {
            let mut command = Command::new(python);
            command.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]);
            command.arg(into).arg(package);
            command
        })
    }

    /// Runs an installation into a directory of the subject's own, unless it was done before.
    fn once(&self, subject: &Subject, install: impl FnOnce(&Path) -> Command) -> Result<PathBuf, Missing> {
        let into = self.cache.join("packages").join(&subject.name);
        let done = into.join("installed");
        if !done.exists() {
            // What is there was cut short.
            let _ = fs::remove_dir_all(&into);
            fs::create_dir_all(&into).map_err(|e| format!("{}: {e}", into.display()))?;
            run(&mut install(&into)).map_err(|e| format!("cannot install it: {e}"))?;
            fs::write(&done, "").map_err(|e| format!("{}: {e}", done.display()))?;
        }
        Ok(into)
    }

    fn crates(&self) -> Result<PathBuf, Missing> {
        let cargo = program("cargo", "cargo")?;
        let target = self.cache.join("crates");
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--locked", "--manifest-path"]);
        command.arg(self.subjects.join("crates/Cargo.toml")).arg("--target-dir").arg(&target);
        run(&mut command).map_err(|e| format!("cannot build it: {e}"))?;
        Ok(target.join("debug"))
    }
}

/// The words of a command with what is known in the place of what is in braces.
fn filled(words: &[String], known: &[(&str, String)], environment: &[String]) -> Vec<String> {
    if words.is_empty() {
        return Vec::new();
    }
    let fill =
        |word: &String| known.iter().fold(word.clone(), |word, (name, value)| word.replace(name, value));
    let before = if environment.is_empty() { Vec::new() } else { vec!["env".to_owned()] };
    before.into_iter().chain(environment.iter().cloned()).chain(words.iter().map(fill)).collect()
}

/// A program of the search path.
fn program(name: &str, package: &str) -> Result<PathBuf, Missing> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| format!("there is no {name} here: install the package {package}"))
}

/// Where a program and what it comes with are.
fn tree(program: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(program).ok()?;
    let dir = real.parent()?;
    Some(if dir.ends_with("bin") { dir.parent()?.to_owned() } else { dir.to_owned() })
}

/// The interpreter itself (what the search path names may be a script that chooses one), and where its library is.
fn python() -> Result<(String, Vec<PathBuf>), Missing> {
    const ASK: &str = "import sys; print(sys.executable, sys.prefix, sys.base_prefix, sep='\\n')";
    let mut command = Command::new(program("python3", "python3")?);
    let said = run(command.args(["-c", ASK]))
        .map_err(|e| format!("python3 does not run ({e}): install the package python3"))?;
    let mut lines = said.lines();
    let executable = lines.next().unwrap_or_default().to_owned();
    Ok((executable, lines.map(PathBuf::from).collect()))
}

fn seawall() -> Result<PathBuf, Missing> {
    let here = env::current_exe().map_err(|e| format!("this program does not know where it is: {e}"))?;
    let seawall = here.with_file_name("seawall");
    if seawall.is_file() {
        return Ok(seawall);
    }
    let where_ = seawall.display();
    Err(format!("there is no {where_}: build it with `cargo build -p seawall-tools`, in the same profile"))
}

/// Runs a command to its end and gives what it printed, or the last line of what it complained about.
fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().display().to_string();
    let done = command.stdin(Stdio::null()).output().map_err(|e| format!("{name}: {e}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(last_line(&done.stderr).unwrap_or_else(|| format!("{name} ended with {}", done.status)))
}

/// The last line with something on it.
#[must_use]
pub fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().rfind(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}

fn text(path: &Path) -> Result<String, Missing> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("{} is no text", path.display()))
}

#[cfg(test)]
mod tests {
    use super::filled;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn words_in_braces_are_replaced_wherever_they_stand() {
        let known = [("{dir}", "/d".to_owned()), ("{python}", "/bin/py".to_owned())];
        let check = |text: &str, environment: &[String], expected: &str| {
            assert_eq!(filled(&words(text), &known, environment), words(expected));
        };
        check("{python} {dir}/w.py run {dir}", &[], "/bin/py /d/w.py run /d");
        check("{python} x", &["A=b".to_owned()], "env A=b /bin/py x");
        check("{other} x", &[], "{other} x");
    }

    #[test]
    fn no_command_stays_none() {
        assert_eq!(filled(&[], &[], &["A=b".to_owned()]), Vec::<String>::new());
    }
}
