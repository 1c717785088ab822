//! `seawall create`: makes a new store.
//!
//! I own the command line of creation. The library refuses a directory that holds anything; I add
//! nothing to that rule.

use std::io::Write;
use std::path::PathBuf;

use seawall::{CreateOptions, Engine};

use crate::exit::{Exit, Failure};
use crate::print::word;

/// Create a new, empty store (writes).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The directory of the new store; missing or empty.
    dir: PathBuf,
    /// The cluster that the store belongs to.
    #[arg(long)]
    cluster: u64,
    /// The node within the cluster that the store belongs to.
    #[arg(long)]
    node: u64,
    /// The size of a segment file in bytes [default: the library's, 67108864].
    #[arg(long)]
    segment_bytes: Option<u64>,
    /// The alignment unit in bytes, 512 or 4096 [default: the library's, 4096].
    #[arg(long)]
    unit: Option<u32>,
}

impl Args {
    /// Creates the store and names it.
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<Exit, Failure> {
        let mut options = CreateOptions::new(self.cluster, self.node);
        options.segment_bytes = self.segment_bytes.unwrap_or(options.segment_bytes);
        options.unit = self.unit.unwrap_or(options.unit);
        let identity = Engine::create(&self.dir, &options).map_err(|e| Failure::store(&self.dir, e))?;
        writeln!(
            out,
            "created {}: cluster {}, node {}, store {}",
            word(&self.dir.display().to_string()),
            identity.cluster,
            identity.node,
            crate::print::base16(&identity.store)
        )?;
        Ok(Exit::Ok)
    }
}
