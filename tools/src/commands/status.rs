//! `seawall status`: who the store belongs to, what each group holds, what an open would report.
//!
//! I own the shape of the answer. I look and never write.

use std::io::Write;
use std::path::PathBuf;

use seawall::report::Tail;
use seawall::{GroupStatus, Identity, RecoveryReport};
use serde::Serialize;

use super::look;
use crate::exit::{Exit, Failure};
use crate::print::{GroupView, base16, json, word};

/// Show the store's identity, its groups and what recovery would report (writes nothing).
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
    identity: Identity,
    groups: Vec<GroupView<'a>>,
    alarm: bool,
    report: &'a RecoveryReport,
}

impl Args {
    /// Prints the status. Damage that recovery would report makes the exit code.
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<Exit, Failure> {
        let (store, report) = look(&self.dir)?;
        let mut groups: Vec<(_, GroupStatus)> = Vec::new();
        for group in store.groups() {
            groups.push((group, store.group(group).map_err(|e| Failure::store(&self.dir, e))?));
        }
        let view = View {
            identity: store.identity(),
            groups: groups.iter().map(|(group, status)| GroupView::new(*group, status)).collect(),
            alarm: report.is_alarm(),
            report: &report,
        };
        if self.json {
            json(out, &view)?;
        } else {
            view.text(out)?;
        }
        Ok(if view.alarm { Exit::Damage } else { Exit::Ok })
    }
}

impl View<'_> {
    fn text(&self, out: &mut impl Write) -> Result<(), Failure> {
        let Identity { cluster, node, store } = &self.identity;
        writeln!(out, "store {}: cluster {cluster}, node {node}", base16(store))?;
        writeln!(
            out,
            "epoch {}, {}",
            self.report.epoch,
            if self.report.clean && self.report.tail == Tail::Sealed {
                "closed cleanly"
            } else {
                "not closed cleanly, or open now"
            }
        )?;
        if self.groups.is_empty() {
            writeln!(out, "no groups")?;
        }
        for group in &self.groups {
            writeln!(out, "{}", group.line())?;
        }
        if self.alarm {
            writeln!(out, "DAMAGED; recovery would report:")?;
            let report = serde_json::to_string_pretty(self.report)?;
            report.lines().try_for_each(|line| writeln!(out, "{}", word(line)))?;
            writeln!(out, "next: `seawall verify` names the damaged bytes")?;
        }
        Ok(())
    }
}
