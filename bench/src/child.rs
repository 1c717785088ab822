//! The other end of `serve`: starts a process for one engine on one workload and asks it to measure.
//!
//! I own the process and its directory, and where the executable of a peer comes from: cargo builds the
//! package of peers on request. A process that is dropped is ended and its files removed.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use seawall_bench::sample::Sample;
use seawall_bench::serve::READY;
use seawall_bench::workload::Workload;

use crate::engines::Engine;
use crate::syncs::{Syncs, Tracer};

/// Builds the package of peers with these features and returns its executable.
pub(crate) fn build_peers(
    features: impl IntoIterator<Item = Option<&'static str>>,
) -> anyhow::Result<PathBuf> {
    let features: Vec<&str> = features.into_iter().flatten().collect();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--message-format", "json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(&manifest)
        .args(["--features", &features.join(",")])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo builds the peers")?;
    anyhow::ensure!(output.status.success(), "the peers did not build; leave them out with --engines");
    let messages = String::from_utf8(output.stdout)?;
    let built = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executable =
        built.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?))).next_back();
    executable.context("cargo names an executable of the peers")
}

/// A program; each of its syncs takes so many microseconds longer (strace(1), "Tampering").
fn slowed(executable: &Path, slow: Option<u32>) -> Command {
    let Some(micros) = slow else { return Command::new(executable) };
    let mut strace = Command::new("strace");
    let syncs = "fdatasync,fsync,msync,sync_file_range";
    strace.args(["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", &format!("trace={syncs}")]);
    strace.args(["-e", &format!("inject={syncs}:delay_exit={micros}"), "--"]).arg(executable);
    strace
}

/// A process that serves measurements.
pub(crate) struct Served {
    child: Child,
    requests: Option<ChildStdin>,
    /// Whether strace stands between us and it: who kills that leaves the process to itself.
    slowed: bool,
    answers: BufReader<ChildStdout>,
    _dir: tempfile::TempDir,
}

impl Served {
    /// Starts the process and waits until its engine is open.
    pub(crate) fn start(
        executable: &Path,
        engine: &Engine,
        workload: &Workload,
        dir: &Path,
        slow: Option<u32>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("seawall-bench-").tempdir_in(dir.canonicalize()?)?;
        let mut child = slowed(executable, slow)
            .args(["serve", "--engine", engine.name, "--workload", workload.name, "--dir"])
            .arg(dir.path())
            // Some engines write to the directory that they run in.
            .current_dir(dir.path())
            // walrus would say on standard output all that it does.
            .env("WALRUS_QUIET", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", executable.display()))?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("a pipe was asked for"));
        let slowed = slow.is_some();
        let mut served = Self { child, requests, slowed, answers, _dir: dir };
        let line = served.answer().with_context(|| format!("{} on {}", engine.name, workload.name))?;
        anyhow::ensure!(line == READY, "{} says {line:?}", engine.name);
        Ok(served)
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        anyhow::ensure!(line.ends_with('\n'), "the process ended");
        Ok(line.trim().to_owned())
    }

    fn ask(&mut self, time: Duration) -> anyhow::Result<()> {
        let requests = self.requests.as_mut().context("a pipe was asked for")?;
        Ok(writeln!(requests, "{}", time.as_millis())?)
    }

    /// One measurement.
    pub(crate) fn measure(&mut self, time: Duration) -> anyhow::Result<Sample> {
        self.ask(time)?;
        let answer = self.answer()?;
        serde_json::from_str(&answer).with_context(|| format!("a sample in {answer:?}"))
    }

    /// One measurement whose syncs are counted. The process is of no use afterwards.
    pub(crate) fn count_syncs(mut self, time: Duration) -> anyhow::Result<(Sample, Syncs)> {
        let tracer = Tracer::seize(self.child.id()).context("ptrace is not allowed here")?;
        self.ask(time)?;
        let syncs = tracer.count()?;
        let answer = self.answer()?;
        Ok((serde_json::from_str(&answer)?, syncs))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself; its status says nothing that an answer has not said.
        drop(self.requests.take());
        if !self.slowed {
            drop(self.child.kill());
        }
        drop(self.child.wait());
    }
}
