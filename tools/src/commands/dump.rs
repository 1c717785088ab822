//! `seawall dump`: every record of the stream, in stream order.
//!
//! I own the shape of a dumped record. I look and never write, and I show a damaged record as
//! damaged instead of leaving it out.

use std::io::Write;
use std::path::PathBuf;

use seawall::{DumpRecord, Proof};
use serde::Serialize;

use super::look;
use crate::exit::{Exit, Failure};
use crate::print::{Data, json};

/// Print every record in stream order (writes nothing).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// Only the records of this group.
    #[arg(long)]
    group: Option<u64>,
    /// One JSON object a line: bytes are `data` if they are UTF-8 and `data_hex` if not.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct View<'a> {
    position: u64,
    group: u64,
    incarnation: u64,
    kind: &'static str,
    index: u64,
    term: u64,
    segment: u64,
    offset: u64,
    state: Proof,
    #[serde(flatten)]
    data: Data<'a>,
}

impl<'a> View<'a> {
    fn new(record: &'a DumpRecord) -> Self {
        Self {
            position: record.position.0,
            group: record.group.0,
            incarnation: record.incarnation.0,
            kind: record.kind,
            index: record.id.index.0,
            term: record.id.term.0,
            segment: record.segment.0,
            offset: record.offset,
            state: record.state,
            data: Data::new(&record.data),
        }
    }
}

impl Args {
    /// Prints the records.
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<Exit, Failure> {
        let (store, _) = look(&self.dir)?;
        let mut exit = Exit::Ok;
        for record in store.records().map_err(|e| Failure::store(&self.dir, e))? {
            let record = record.map_err(|e| Failure::store(&self.dir, e))?;
            if self.group.is_some_and(|group| group != record.group.0) {
                continue;
            }
            if record.state == Proof::Damaged {
                exit = Exit::Damage;
            }
            if self.json {
                json(out, &View::new(&record))?;
            } else {
                line(out, &record)?;
            }
        }
        Ok(exit)
    }
}

fn line(out: &mut impl Write, record: &DumpRecord) -> Result<(), Failure> {
    let state = match record.state {
        Proof::Durable => "durable",
        Proof::Unproven => "unproven",
        Proof::Damaged => "damaged",
    };
    writeln!(
        out,
        "{:>8}  group {}  {:<10} {:<12} {state:<8}  segment {} offset {}  {} B  {}",
        record.position,
        record.group,
        record.kind,
        record.id.to_string(),
        record.segment,
        record.offset,
        record.data.len(),
        excerpt(&record.data)
    )?;
    Ok(())
}

/// The first bytes, printable and in one line.
fn excerpt(data: &[u8]) -> String {
    const SHOWN: usize = 32;
    let shown = data.get(..SHOWN).unwrap_or(data).escape_ascii();
    if data.len() > SHOWN { format!("{shown}...") } else { shown.to_string() }
}
