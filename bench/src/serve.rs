//! The process that measures one engine on one workload, on request.
//!
//! I own the protocol: on standard input a line with milliseconds, on standard output a line of JSON
//! for each, and `ready` before the first. A process of its own keeps the engines' threads, memory and
//! descriptors apart, and lets its system calls be counted from outside. I do not know who asks.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::drive::Run;
use crate::raw::Raw;
use crate::store::{Batched, Store};
use crate::subject::Subject;
use crate::workload::Workload;

/// The line that says that the store is open.
pub const READY: &str = "ready";

/// Opens an engine and measures it as often as is asked.
#[derive(clap::Args)]
pub struct Args {
    /// The engine.
    #[arg(long)]
    pub engine: String,
    /// The workload.
    #[arg(long)]
    pub workload: String,
    /// A directory for its files.
    #[arg(long)]
    pub dir: PathBuf,
}

/// Opens an engine of this name for a workload, or `None` if the name is unknown.
pub type Open = fn(&str, &Path, &Workload) -> anyhow::Result<Option<Arc<dyn Subject>>>;

/// The engines of this package: the raw limit with one and with eight syncs, and seawall with both
/// alignment units, or a host that batches.
pub fn open(engine: &str, dir: &Path, workload: &Workload) -> anyhow::Result<Option<Arc<dyn Subject>>> {
    let store = |unit| Store::open(&dir.join("store"), workload.all_groups(), unit);
    Ok(Some(match engine {
        "raw" => Arc::new(Raw::new(dir, 1)?),
        "raw-8" => Arc::new(Raw::new(dir, 8)?),
        "seawall" => Arc::new(store(4096)?),
        "seawall-batched" => Arc::new(Batched::new(store(4096)?)),
        "seawall-512" => Arc::new(store(512)?),
        _ => return Ok(None),
    }))
}

impl Args {
    /// Serves until standard input ends.
    pub fn run(&self, open: Open) -> anyhow::Result<()> {
        let workload = Workload::named(&self.workload).context("an unknown workload")?;
        let subject = open(&self.engine, &self.dir, workload)?.context("an unknown engine")?;
        let run = Run::new(subject, *workload);
        let mut out = std::io::stdout().lock();
        writeln!(out, "{READY}")?;
        out.flush()?;
        for line in std::io::stdin().lock().lines() {
            let time = Duration::from_millis(line?.trim().parse().context("milliseconds")?);
            writeln!(out, "{}", serde_json::to_string(&run.go(time)?)?)?;
            out.flush()?;
        }
        Ok(())
    }
}
