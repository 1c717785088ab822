//! What a stranger's image may not do to who looks at it as root.
//!
//! I own the images, which are recorded here, and how long a look at one may take. Each case is an attack that worked
//! once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{check, json, ready};

/// How long any of it may take, at most.
const SOON: Duration = Duration::from_secs(100);

/// A log of a device on which a script ran, and a place for what it may point at.
struct Image {
    home: tempfile::TempDir,
    fs: &'static str,
}

impl Image {
    /// `{host}` in the script is a file of the host.
    fn new(fs: &'static str, script: &str) -> Self {
        let image = Self { home: tempfile::tempdir().expect("a directory"), fs };
        fs::write(image.host(), "mine").expect("a file");
        let script = script.replace("{host}", image.host().to_str().expect("UTF-8"));
        let log = image.log();
        check(
            &[
                "block", "--fs", fs, "--check", "true", "--states", "1", "--save", &log, "--", "sh", "-ec",
                &script,
            ],
            0,
        );
        image
    }

    fn host(&self) -> PathBuf {
        self.home.path().join("host")
    }

    fn log(&self) -> String {
        self.home.path().join("log").to_str().expect("UTF-8").to_owned()
    }

    /// Looks at it, in time; what was said.
    #[track_caller]
    fn look(&self, more: &[&str], code: i32) -> String {
        let log = self.log();
        let args = [&["block", "--fs", self.fs, "--load", &log, "--states", "3"], more].concat();
        ends(Command::new(env!("CARGO_BIN_EXE_crashcheck")).args(args), code)
    }
}

/// Runs a command that must end in time.
#[track_caller]
fn ends(command: &mut Command, code: i32) -> String {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let begun = Instant::now();
    while child.try_wait().expect("its end").is_none() {
        if begun.elapsed() > SOON {
            child.kill().expect("kill");
            child.wait().expect("its end");
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().expect("its words");
    let words =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{command:?}: {words}");
    words
}

#[test]
fn a_link_out_of_an_image_leads_nowhere() {
    if !ready(&["mkfs.ext4"]) {
        return;
    }
    let image = Image::new(
        "ext4",
        "ln -s {host} .crashcheck-probe; ln -s / everything; ln -s {host} .crashcheck-probe-1; sync",
    );
    image.look(&[], 0);
    assert_eq!(fs::read_to_string(image.host()).expect("it is there"), "mine");
}

#[test]
fn a_link_to_what_never_ends_and_a_pipe_hold_nobody_up() {
    if !ready(&["mkfs.ext4"]) {
        return;
    }
    let image = Image::new("ext4", "ln -s /proc/kmsg log; ln -s /dev/zero zeros; mkfifo pipe; sync");
    image.look(&["--check-seconds", "30"], 0);
}

#[test]
fn a_sparse_file_of_four_tib_is_looked_at_in_time() {
    if !ready(&["mkfs.ext4"]) {
        return;
    }
    let image = Image::new("ext4", "truncate -s 4T sparse; echo end >> sparse; sync");
    image.look(&["--check-seconds", "60"], 0);
}

#[test]
fn what_is_not_read_because_of_a_bound_is_no_pass() {
    if !ready(&["mkfs.xfs"]) {
        return;
    }
    // 640 MiB on a device of 32: each copy has the same blocks.
    let script = "head -c 10000000 /dev/zero | tr '\\0' x > f; sync; \
         for i in $(seq 64); do cp --reflink=always f f$i; done; sync";
    let image = Image::new("xfs", script);
    let said = image.look(&[], 4);
    assert!(said.contains("NOT-MEASURED") && said.contains("no more than 536870912 bytes"), "{said}");
    let log = image.log();
    let value = json(&["block", "--fs", "xfs", "--load", &log, "--json"], 4);
    assert_eq!(value["verdict"], "NOT-MEASURED", "{value}");
    image.look(&["--check", "true"], 0);
}

#[test]
fn nothing_in_a_strangers_image_is_run_or_opened_as_a_device() {
    if !ready(&["mkfs.ext4"]) {
        return;
    }
    let image = Image::new(
        "ext4",
        "echo '#!/bin/sh' > program; chmod 755 program; mknod zero c 1 5; sync; tune2fs -e panic \
         $(findmnt -no SOURCE .) >/dev/null",
    );
    // The complete state has both; `exec` gives one back, the other nobody.
    let asks = |program: &str| format!("[ ! -e zero ] || {{ {program} ./program && ! head -c 1 zero; }}");
    image.look(&["--check", &asks("!")], 0);
    image.look(&["--check", &asks(""), "--mount-args", "exec"], 0);
    let flags = "grep -q ' /run/crashcheck/mnt ext4 rw,nosuid,nodev,noexec' /proc/self/mounts";
    image.look(&["--check", flags], 0);
    // What the image would have the kernel do about its errors.
    image.look(&["--check", "cat /proc/fs/ext4/loop*/options | grep -q errors=continue"], 0);
    let log = image.log();
    let refused = check(&["block", "--load", &log, "--mount-args", "noatime,suid"], 2);
    assert!(refused.contains("nosuid"), "{refused}");
}

#[test]
fn no_step_takes_longer_than_it_may() {
    if !ready(&["mkfs.ext4"]) {
        return;
    }
    let image = Image::new("ext4", "mkfifo pipe; sync");
    let slow = image.look(&["--check", "cat pipe", "--check-seconds", "1"], 3);
    assert!(slow.contains("the checker took longer than 1 s"), "{slow}");
    // A mount that never ends, and has started something that does not either.
    let bin = image.home.path().join("bin");
    fs::create_dir(&bin).expect("a directory");
    let nap = format!("8{:07}", std::process::id());
    fs::write(bin.join("mount"), format!("#!/bin/sh\nsleep {nap} & sleep {nap}\n")).expect("a script");
    fs::set_permissions(bin.join("mount"), fs::Permissions::from_mode(0o755)).expect("its mode");
    let path = std::env::var("PATH").expect("a path");
    let mut command = Command::new(env!("CARGO_BIN_EXE_crashcheck"));
    command.env("PATH", format!("{}:{path}", bin.display()));
    command.args(["block", "--load", &image.log(), "--check-seconds", "1"]);
    let slow = ends(&mut command, 3);
    assert!(slow.contains("mount took longer than 1 s"), "{slow}");
    let sleeping = format!("sleep {nap}");
    assert!(!super::commands().any(|command| command == sleeping), "something is left");
    assert!(!Path::new("/run/crashcheck/mnt").exists());
}

#[test]
fn nobody_who_is_run_has_a_right_over_the_machine() {
    if !ready(&["mkfs.ext4"]) {
        return;
    }
    // CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_BOOT, CAP_SYS_TIME; and no process but its own.
    let bound = "[ $((0x$(sed -n 's/^CapBnd:[^0-9a-f]*//p' /proc/self/status) & 0x2430000)) -eq 0 ]";
    let outer = std::process::id();
    let asks = format!("{bound} && [ ! -e /proc/{outer} ] && ! kill -0 {outer} 2>/dev/null");
    check(&["block", "--states", "3", "--check", &asks, "--", "sh", "-ec", &asks], 0);
}
