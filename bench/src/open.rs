//! `seawall-bench open`: what an open costs, by the size of the store, beside other engines.
//!
//! I own the stores that are opened; each open is a process of its own (see `seawall_bench::reopen`). A
//! store is measured as it was closed and as it was left without a close, with its files in the page cache
//! ("warm") and, as root, after that was dropped ("cold"). What an open does to a store that was left is
//! undone by filling another one, so that each is measured once; a closed one is opened again, and the
//! median counts.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use seawall_bench::reopen::Cost;
use serde::Serialize;

use crate::compare::executables;
use crate::engines::{ENGINES, Engine, RAW};
use crate::stats::median;

/// How often a closed store is opened.
const OPENS: usize = 5;

/// Measure an open by the size of the store.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Sizes in MiB of 1 KiB entries.
    #[arg(long, value_delimiter = ',', default_value = "64,256,1024")]
    sizes: Vec<u64>,
    /// Groups that have the entries.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    groups: Vec<u64>,
    /// Engines.
    #[arg(long, value_delimiter = ',', default_value = "seawall")]
    engines: Vec<String>,
    /// A JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    engine: &'static str,
    mib: u64,
    groups: u64,
    closed: bool,
    cache: &'static str,
    #[serde(flatten)]
    cost: Cost,
}

/// The engines of these names.
pub(crate) fn named(names: &[String]) -> anyhow::Result<Vec<Engine>> {
    let find = |name: &String| {
        let found = ENGINES.iter().filter(|e| !e.name.starts_with(RAW)).find(|e| e.name == name);
        let all: Vec<&str> = ENGINES.iter().map(|e| e.name).filter(|name| !name.starts_with(RAW)).collect();
        found.copied().with_context(|| format!("no engine {name:?}; there are {}", all.join(", ")))
    };
    names.iter().map(find).collect()
}

/// A store in a directory of its own.
pub(crate) struct Filled<'a> {
    executable: &'a Path,
    arguments: Vec<String>,
    home: tempfile::TempDir,
}

impl<'a> Filled<'a> {
    /// Fills one.
    pub(crate) fn new(
        engine: &str,
        executable: &'a Path,
        dir: &Path,
        (mib, groups): (u64, u64),
        leave: bool,
    ) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("seawall-bench-").tempdir_in(dir.canonicalize()?)?;
        let path = home.path().to_str().context("the path is UTF-8")?.to_owned();
        let words = ["--engine", engine, "--mib", &mib.to_string(), "--groups", &groups.to_string()];
        let mut arguments: Vec<String> = words.map(str::to_owned).into();
        arguments.extend(["--dir".to_owned(), path]);
        let filled = Self { executable, arguments, home };
        let output = filled.command("fill").args(leave.then_some("--leave")).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "filling a store of {engine}: {said}");
        Ok(filled)
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(self.executable);
        // Some engines write to the directory that they run in; walrus would say what it does.
        command.arg(what).args(&self.arguments).current_dir(self.home.path()).env("WALRUS_QUIET", "1");
        command.stdin(Stdio::null());
        command
    }

    /// The process that has opened it, and what that cost.
    pub(crate) fn open(&self) -> anyhow::Result<(Cost, Opened)> {
        let mut child =
            self.command("reopen").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("opening")?;
        let answers = BufReader::new(child.stdout.take().expect("a pipe was asked for"));
        let mut opened = Opened { child, answers };
        let cost = serde_json::from_str(&opened.line()?)?;
        Ok((cost, opened))
    }
}

/// A process that has opened a store; it closes the store when it is dropped.
pub(crate) struct Opened {
    child: std::process::Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Opened {
    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        anyhow::ensure!(line.ends_with('\n'), "the process ended");
        Ok(line)
    }

    /// Asks for something.
    pub(crate) fn ask(
        &mut self,
        request: seawall_bench::reopen::Request,
    ) -> anyhow::Result<seawall_bench::reopen::Answer> {
        let to = self.child.stdin.as_mut().context("a pipe was asked for")?;
        writeln!(to, "{}", serde_json::to_string(&request)?)?;
        Ok(serde_json::from_str(&self.line()?)?)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // What it closes with says nothing that was measured.
        drop(self.child.wait());
    }
}

impl Args {
    /// Measures and prints each store.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<()> {
        let engines = named(&self.engines)?;
        let mut left_out = Vec::new();
        let executables = executables(&engines, &mut left_out)?;
        let mut out = io::stdout().lock();
        if !self.json {
            writeln!(
                out,
                "| engine | MiB | groups | closed | cache | ms | own memory KiB | file-backed KiB | peak KiB |\n\
                 |---|---:|---:|---|---|---:|---:|---:|---:|"
            )?;
        }
        for (&mib, &groups) in self.sizes.iter().flat_map(|mib| self.groups.iter().map(move |g| (mib, g))) {
            for engine in engines.iter().filter(|engine| executables.contains_key(engine.name)) {
                match rows(engine.name, &executables, dir, (mib, groups)) {
                    Ok(rows) => rows.iter().try_for_each(|row| row.print(&mut out, self.json))?,
                    Err(e) => eprintln!("{} is left out: {e:#}", engine.name),
                }
            }
        }
        Ok(())
    }
}

impl Row {
    fn print(&self, out: &mut impl Write, json: bool) -> anyhow::Result<()> {
        if json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
            return Ok(());
        }
        let Self { engine, mib, groups, closed, cache, cost } = self;
        let (closed, ms) = (if *closed { "yes" } else { "no" }, cost.seconds * 1e3);
        let Cost { anonymous_kib, file_kib, peak_kib, .. } = cost;
        writeln!(
            out,
            "| {engine} | {mib} | {groups} | {closed} | {cache} | {ms:.1} | {anonymous_kib} | {file_kib} | {peak_kib} |"
        )?;
        Ok(())
    }
}

fn rows(
    engine: &'static str,
    executables: &BTreeMap<&'static str, PathBuf>,
    dir: &Path,
    (mib, groups): (u64, u64),
) -> anyhow::Result<Vec<Row>> {
    let fill = |leave| Filled::new(engine, &executables[engine], dir, (mib, groups), leave);
    let mut rows = Vec::new();
    let mut push = |closed, cache, costs: &[Cost]| {
        let column = |of: fn(&Cost) -> f64| median(&costs.iter().map(of).collect::<Vec<_>>());
        let seconds = column(|cost| cost.seconds);
        let most = costs.iter().max_by_key(|cost| cost.anonymous_kib).expect("it was opened");
        rows.push(Row { engine, mib, groups, closed, cache, cost: Cost { seconds, ..*most } });
    };
    let closed = fill(false)?;
    let open = || closed.open().map(|(cost, _)| cost);
    push(true, "warm", &(0..OPENS).map(|_| open()).collect::<anyhow::Result<Vec<Cost>>>()?);
    let cold = || {
        drop_cache()?;
        open()
    };
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        push(true, "cold", &(0..OPENS).map(|_| cold()).collect::<anyhow::Result<Vec<Cost>>>()?);
    }
    drop(closed);
    push(false, "warm", &[fill(true)?.open()?.0]);
    if is_root {
        let left = fill(true)?;
        drop_cache()?;
        push(false, "cold", &[left.open()?.0]);
    }
    Ok(rows)
}

/// Drops what the kernel holds of files (proc_sys_vm(5), drop_caches).
fn drop_cache() -> anyhow::Result<()> {
    nix::unistd::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("/proc/sys/vm/drop_caches")
}
