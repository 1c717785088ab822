//! `seawall read`: the entries of one group, their bytes and nothing else.
//!
//! I own the separators: a newline after each entry, which gives back a text file that `append`
//! took line by line. I look and never write.

use std::io::Write;
use std::path::PathBuf;

use seawall::{GroupId, Index};

use super::{READ_BYTES, group_of, look};
use crate::exit::{Exit, Failure};

/// Print the bytes of a group's entries, each followed by a newline (writes nothing).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// The group.
    #[arg(long, default_value_t = 1)]
    group: u64,
    /// The first index to print [default: the group's first].
    #[arg(long)]
    from: Option<u64>,
    /// The last index to print [default: the group's last].
    #[arg(long)]
    to: Option<u64>,
    /// No newline after the last entry: gives back a text whose last line had none.
    #[arg(long)]
    no_final_newline: bool,
    /// No newlines at all: gives back what `append --whole-file` took.
    #[arg(long, conflicts_with = "no_final_newline")]
    raw: bool,
}

impl Args {
    /// Prints the entries.
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<Exit, Failure> {
        let (store, _) = look(&self.dir)?;
        let group = GroupId(self.group);
        let status = group_of(&store, &self.dir, group)?;
        let (first, last) = (status.first.0, status.last.index.0);
        let from = self.from.unwrap_or(first);
        let to = self.to.unwrap_or(last);
        if from < first || to > last {
            return Err(Failure::usage(
                format!("{}: group {group} has no entries {from}..={to}", self.dir.display()),
                format!("ask for indexes within {first}..={last}"),
            ));
        }
        let mut next = from;
        while next <= to {
            let entries = store
                .read(group, Index(next)..Index(to).next(), READ_BYTES)
                .map_err(|e| Failure::store(&self.dir, e))?;
            assert!(!entries.is_empty(), "a read of a range that is not empty gives an entry");
            for entry in &entries {
                assert_eq!(entry.id.index.0, next, "a read never skips an entry");
                out.write_all(&entry.data)?;
                if !(self.raw || self.no_final_newline && next == to) {
                    out.write_all(b"\n")?;
                }
                next += 1;
            }
        }
        Ok(Exit::Ok)
    }
}
