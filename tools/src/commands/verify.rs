//! `seawall verify`: reads every byte of the store and names the damaged ranges.
//!
//! I own the shape of the answer. I look and never write; mending is not done here.

use std::io::Write;
use std::path::PathBuf;

use seawall::{RecoveryReport, VerifyReport};
use serde::Serialize;

use super::look;
use crate::exit::{Exit, Failure};
use crate::print::{json, word};

/// Read and check every byte, and name what is damaged (writes nothing).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct View<'a> {
    ok: bool,
    #[serde(flatten)]
    found: &'a VerifyReport,
    report: &'a RecoveryReport,
}

impl Args {
    /// Prints what was read and every damaged range.
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<Exit, Failure> {
        let (store, report) = look(&self.dir)?;
        let found = store.verify().map_err(|e| Failure::store(&self.dir, e))?;
        let ok = found.damage.is_empty() && !report.is_alarm();
        if self.json {
            json(out, &View { ok, found: &found, report: &report })?;
        } else {
            text(out, &found, ok)?;
        }
        Ok(if ok { Exit::Ok } else { Exit::Damage })
    }
}

fn text(out: &mut impl Write, found: &VerifyReport, ok: bool) -> Result<(), Failure> {
    for damage in &found.damage {
        writeln!(
            out,
            "{}: bytes {}..{}: {}",
            word(&damage.file),
            damage.from,
            damage.to,
            word(&damage.what)
        )?;
    }
    writeln!(
        out,
        "{}: {} segments, {} records, {} bytes read, {} damaged ranges",
        if ok { "ok" } else { "DAMAGED" },
        found.segments,
        found.records,
        found.bytes,
        found.damage.len()
    )?;
    if !ok {
        writeln!(out, "next: keep a copy of the directory; `seawall status` says what is lost")?;
    }
    Ok(())
}
