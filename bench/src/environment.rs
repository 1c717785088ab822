//! Where and when a result was measured.
//!
//! I own what a reader needs to judge a figure: kernel, file system, device, processors, commit, date.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Where and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Environment {
    pub(crate) kernel: String,
    pub(crate) file_system: String,
    pub(crate) device: String,
    pub(crate) processors: usize,
    pub(crate) commit: String,
    /// The day, in UTC.
    pub(crate) date: String,
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
            date: said("date", &["-u", "+%F"]).unwrap_or_else(unknown),
        })
    }
}

/// The commit that this program was built from, if git can tell, and whether the tree had changes.
fn commit() -> String {
    let tree = env!("CARGO_MANIFEST_DIR");
    said("git", &["-C", tree, "describe", "--always", "--dirty", "--abbrev=12"]).unwrap_or_else(unknown)
}

/// What a program says, if it is there and succeeds.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// Kind and source of the mount that holds a directory (proc(5), mountinfo).
fn mount_of(dir: &Path) -> anyhow::Result<(String, String)> {
    let device = std::fs::metadata(dir)?.dev();
    let number = format!("{}:{}", (device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mount = table.lines().find(|line| line.split(' ').nth(2) == Some(&number));
    let mut words = mount.and_then(|line| line.split_once(" - ")).map(|(_, rest)| rest.split(' '));
    let mut word = || words.as_mut().and_then(Iterator::next).map_or_else(unknown, str::to_owned);
    Ok((word(), word()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_lies_on_a_file_system() {
        let environment = Environment::of(&std::env::temp_dir()).expect("Linux tells");
        assert!(!environment.kernel.is_empty() && environment.processors > 0, "{environment:?}");
        assert!(environment.date.starts_with("20"), "{environment:?}");
    }
}
