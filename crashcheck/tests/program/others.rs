//! Subjects are other people's code: what rights it has where root starts it.
//!
//! I own a subject that looks at its own rights, and what it must find.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::tool::{Bench, Ran, traces_of, until};

/// Has no right of root's, and reads nothing that is closed, however close.
const RIGHTLESS: &str = r#"
[ "$(id -u)" = 65534 ] || { echo "it is user $(id -u)" >&2; exit 1; }
! cat "$SECRET" 2>/dev/null || { echo "it reads what is root's" >&2; exit 1; }
grep -q '^CapEff:[^0-9a-f]*0*$' /proc/self/status || { echo "it has capabilities" >&2; exit 1; }
"#;

const SUBJECT: &str = r#"[{"name": "rightless", "expected": "PASS", "persistent": true,
    "prepare": ["/bin/sh", "{subjects}/workload.sh", "{dir}/first"],
    "workload": ["/bin/sh", "{subjects}/workload.sh", "{dir}/second"],
    "check": ["/bin/sh", "{subjects}/check.sh"]}]"#;

/// Answers each state by one line; one word says that there are many.
const SERVE: &str = r#"
[ "$1" = --persistent ] || exit 1
while read -r line; do
  if [ -e "$CRASHCHECK_DIR/first" ]; then echo '{"ok": true}'; else echo '{"ok": false, "reason": "gone"}'; fi
done
"#;

/// Workload, preparation and checker of a subject run as nobody, from a directory that nobody may enter.
pub(crate) fn rightless() {
    let bench = Bench::new();
    let home = bench.home.path();
    fs::set_permissions(home, fs::Permissions::from_mode(0o700)).unwrap();
    let from = home.join("from");
    fs::create_dir(&from).unwrap();
    let secret = home.join("secret");
    fs::write(&secret, "of root").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let workload =
        format!("set -e\n{RIGHTLESS}\necho one > \"$1\"; sync \"$1\" \"${{1%/*}}\"; echo durable-ack one");
    fs::write(from.join("workload.sh"), workload).unwrap();
    let check = format!("{RIGHTLESS}{SERVE}");
    fs::write(from.join("check.sh"), check).unwrap();
    fs::write(from.join("subjects.json"), SUBJECT).unwrap();
    let subjects = |more: &[&str]| -> Ran {
        let args = [&["subjects", "--from", "from", "--cache", "cache", "--json"], more].concat();
        bench.command(&args).env("SECRET", &secret).output().unwrap().into()
    };
    let ran = subjects(&[]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.json()["subjects"][0]["states"].as_u64().unwrap() > 2, "{}", ran.out);
    let ran = subjects(&["--own-rights"]);
    assert_eq!(
        (ran.code, ran.out.contains("its preparation failed: it is user 0")),
        (3, true),
        "{}",
        ran.out
    );
    // Root that may not mount has no way to let it through.
    let mut bound = Command::new("setpriv");
    bound.args(["--bounding-set=-sys_admin", env!("CARGO_BIN_EXE_crashcheck"), "subjects"]);
    bound.args(["--from", "from", "--cache", "cache"]).current_dir(home).stdin(Stdio::null());
    let ran = Ran::from(bound.output().unwrap());
    assert_eq!((ran.code, ran.out.contains("a mount namespace")), (4, true), "{}{}", ran.out, ran.err);
    assert!(home.join("from").exists() && secret.exists(), "what is mounted over is there");
}

/// A subject that does not end ends with the tool, however that ends.
pub(crate) fn ends() {
    let bench = Bench::new();
    let from = bench.home.path().join("from");
    fs::create_dir(&from).unwrap();
    let endless = r#"[{"name": "endless", "expected": "PASS", "check": ["/bin/true"],
        "workload": ["/bin/sh", "-c", "echo 1 > {dir}/started; sleep 600"]}]"#;
    fs::write(from.join("subjects.json"), endless).unwrap();
    let mut command = bench.command(&["subjects", "--from", "from", "--cache", "cache"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // What is recorded is underneath what is mounted, and what underneath is seen from here.
    let started = bench.home.path().join("cache/runs/endless/started");
    until("the workload does not start", || started.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    until("something is left", || traces_of(bench.home.path()) == (0, 0));
}
