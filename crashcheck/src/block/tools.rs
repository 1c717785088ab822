//! The programs of others that make and attach file systems: mkfs, mount, losetup, btrfs.
//!
//! I own how they are found and run: a program that is missing is named with the Debian package that has it, and one
//! that takes too long is ended with all that it started. I do not know what they are for.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::block::hands::bury;
use crate::block::room::Missing;
use crate::program::stream::{Inlet, Keep};

/// How long a program may take that looks at nothing of a stranger's.
pub const AMPLE: Duration = Duration::from_secs(300);

/// How much of what a program prints is kept.
const MOST: usize = 1 << 16;

/// The path of a program, looked for where root's are too.
///
/// # Errors
/// [`Missing`], with the Debian package that has it.
pub fn tool(program: &str, package: &str) -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places.map(|dir| dir.join(program)).find(|path| path.is_file());
    found.ok_or_else(|| {
        Missing(format!("{program} is missing; install it with apt-get install {package} (Debian's package)"))
    })
}

/// Runs a program to its end, and gives what it printed.
///
/// # Errors
/// If it cannot be started, fails (with what it said), or takes longer than `limit`.
pub fn run(command: &mut Command, limit: Duration) -> anyhow::Result<String> {
    let name = command.get_program().display().to_string();
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    let (output, to_output) = io::pipe()?;
    let (errors, to_errors) = io::pipe()?;
    let [mut output, mut errors] =
        [Inlet::new(output, Keep::First(MOST))?, Inlet::new(errors, Keep::Last(MOST))?];
    // A group of its own, to be ended with it.
    command.stdin(Stdio::null()).stdout(to_output).stderr(to_errors).process_group(0);
    let mut child = command.spawn().with_context(|| format!("{name} does not start"))?;
    let until = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    let status = loop {
        let ended = child.try_wait()?;
        output.take()?;
        errors.take()?;
        if let Some(status) = ended {
            break status;
        }
        if Instant::now() >= until {
            // Not waited for yet, so the number is still its own.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            bury(&mut child, &name)?;
            bail!("{name} took longer than {} s", limit.as_secs());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    };
    let said = |stream: &Inlet| String::from_utf8_lossy(stream.bytes()).trim().to_owned();
    anyhow::ensure!(status.success(), "{name}: {}", said(&errors));
    Ok(said(&output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        let missing = tool("mkfs.nothing", "nothing-progs").unwrap_err();
        assert!(missing.0.contains("mkfs.nothing") && missing.0.contains("nothing-progs"), "{missing}");
    }

    #[test]
    fn a_tool_that_does_not_end_is_ended() {
        let begun = Instant::now();
        let mut endless = Command::new("/bin/sh");
        endless.args(["-c", "sleep 1000 & sleep 1000"]);
        let late = run(&mut endless, Duration::from_millis(100)).unwrap_err();
        assert!(late.to_string().contains("sh took longer than"), "{late}");
        assert!(begun.elapsed() < Duration::from_secs(60));
        assert_eq!(run(Command::new("/bin/sh").args(["-c", "echo said"]), AMPLE).unwrap(), "said");
        let failed = run(Command::new("/bin/sh").args(["-c", "echo why >&2; exit 3"]), AMPLE).unwrap_err();
        assert_eq!(failed.to_string(), "sh: why");
    }
}
