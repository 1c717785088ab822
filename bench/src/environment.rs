//! Where and when a result was measured.
//!
//! I own what a reader needs to judge a figure: kernel, file system, device, processors, commit, date.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Where and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Environment {
    pub(crate) kernel: String,
    pub(crate) file_system: String,
    pub(crate) device: String,
    pub(crate) processors: usize,
    pub(crate) commit: String,
    /// Seconds since 1970.
    pub(crate) measured_at: u64,
}

impl Environment {
    /// The environment of measurements in a directory.
    pub(crate) fn of(dir: &Path) -> anyhow::Result<Self> {
        let (file_system, device) = mount_of(dir)?;
        Ok(Self {
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system,
            device,
            processors: std::thread::available_parallelism()?.get(),
            commit: commit(),
            measured_at: now()?,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a result says when it was measured; nothing is decided by it")]
fn now() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}

/// The commit that this program was built from, if git can tell, and whether the tree had changes.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output =
            Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    git(&["describe", "--always", "--dirty", "--abbrev=12"]).unwrap_or_else(|| "unknown".to_owned())
}

/// Kind and source of the mount that holds a directory (proc(5), mountinfo).
fn mount_of(dir: &Path) -> anyhow::Result<(String, String)> {
    let device = std::fs::metadata(dir)?.dev();
    let number = format!("{}:{}", (device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mount = table.lines().find(|line| line.split(' ').nth(2) == Some(&number));
    let mut words = mount.and_then(|line| line.split_once(" - ")).map(|(_, rest)| rest.split(' '));
    let mut word = || words.as_mut().and_then(Iterator::next).unwrap_or("unknown").to_owned();
    Ok((word(), word()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_lies_on_a_file_system() {
        let environment = Environment::of(&std::env::temp_dir()).expect("Linux tells");
        assert!(!environment.kernel.is_empty() && environment.processors > 0, "{environment:?}");
        assert!(environment.measured_at > 1_700_000_000, "{environment:?}");
    }
}
