//! `seawall history`: what was done to stored bytes, and the memberships that groups had.
//!
//! I own the shape of what is printed. I look and never write, and I work on a store whose log refuses to
//! open.

use std::io::Write;
use std::path::PathBuf;

use seawall::{Membership, MembershipSource, Noted, Proof, Store};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::print::{Data, json, word};

/// Print the evidence and the memberships, also of a store that refuses to open (writes nothing).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// Only the memberships of this group.
    #[arg(long)]
    group: Option<u64>,
    /// One JSON object a line: bytes are `data` if they are UTF-8 and `data_hex` if not.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
enum View<'a> {
    Evidence(&'a Noted),
    EvidenceGone {
        fault: &'static str,
    },
    Membership {
        source: MembershipSource,
        group: u64,
        incarnation: u64,
        index: u64,
        term: u64,
        position: Option<u64>,
        state: Proof,
        #[serde(flatten)]
        data: Data<'a>,
    },
}

impl<'a> View<'a> {
    fn membership(m: &'a Membership) -> Self {
        Self::Membership {
            source: m.source,
            group: m.group.0,
            incarnation: m.incarnation.0,
            index: m.id.index.0,
            term: m.id.term.0,
            position: m.position.map(|p| p.0),
            state: m.state,
            data: Data::new(&m.data),
        }
    }

    fn line(&self, out: &mut impl Write) -> std::io::Result<()> {
        match self {
            Self::Evidence(Noted { sequence, epoch, event }) => {
                let act = format!("{:?}", event.act).to_lowercase();
                write!(out, "{sequence:>8}  epoch {epoch}  {act:<13} {}", word(&event.text))?;
                if !event.bytes.is_empty() {
                    write!(out, ", bytes {}..{}", event.bytes.start, event.bytes.end)?;
                }
                if event.index.0 > 0 {
                    write!(out, ", group {} index {}", event.group, event.index)?;
                }
                if event.position.0 > 0 {
                    write!(out, ", kept up to position {}", event.position)?;
                }
                writeln!(out)
            }
            Self::EvidenceGone { fault } => writeln!(out, "evidence is damaged: {fault}"),
            Self::Membership { source, group, index, term, state, data, .. } => {
                let source = format!("{source:?}").to_lowercase();
                let state = format!("{state:?}").to_lowercase();
                writeln!(out, "group {group}  {source:<8} {term}.{index}  {state:<8}  {data}")
            }
        }
    }
}

impl Args {
    /// Prints the evidence, oldest first, then the memberships.
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<Exit, Failure> {
        let failed = |e| Failure::store(&self.dir, e);
        let evidence = Store::evidence(&self.dir).map_err(failed)?;
        let memberships = Store::memberships(&self.dir).map_err(failed)?;
        let fault = evidence.fault(0);
        let wanted = memberships.iter().filter(|m| self.group.is_none_or(|group| group == m.group.0));
        let views = evidence
            .events
            .iter()
            .map(View::Evidence)
            .chain(fault.map(|fault| View::EvidenceGone { fault }))
            .chain(wanted.map(View::membership));
        for view in views {
            if self.json {
                json(out, &view)?;
            } else {
                view.line(out)?;
            }
        }
        Ok(if fault.is_some() { Exit::Damage } else { Exit::Ok })
    }
}
