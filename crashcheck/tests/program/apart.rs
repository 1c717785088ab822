//! Checkers that run side by side, each as if it were alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::roles::PLACES;
use super::tool::{Bench, Ran, me};

/// Explores what is recorded, by a checker that takes locks and leaves them.
fn explore(bench: &Bench, options: &[&str]) -> Command {
    let check = format!("{} check-lock-files data", me());
    let mut command = bench.command(
        &[&["explore", "run.trace", "--json", "--jobs", "4", "--check", &check][..], options].concat(),
    );
    command.env("MARK", mark(bench));
    command
}

/// A word that no other run has in its names.
fn mark(bench: &Bench) -> String {
    let name = bench.home.path().file_name().unwrap().to_str().unwrap();
    format!("crashcheck-{}", name.trim_start_matches('.'))
}

/// What is left of it in any of the places.
fn left(bench: &Bench, more: &Path) -> Vec<String> {
    let places = PLACES.iter().map(Path::new).chain([more]);
    let names = places.flat_map(|place| fs::read_dir(place).unwrap().flatten());
    let names = names.map(|entry| entry.path().display().to_string());
    names.filter(|name| name.contains(&mark(bench))).collect()
}

/// A bench with a recording, a file beside the directory, and a place for temporary files of its own.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.record("publish-synced");
    fs::write(bench.home.path().join("beside"), "as it was").unwrap();
    fs::create_dir(bench.home.path().join("named")).unwrap();
    bench
}

/// Checkers side by side, one after the other, of a recovery and of a program that fails do not meet.
pub(crate) fn places() {
    // The last is a place that is not below a usual one.
    let elsewhere = tempfile::tempdir_in("/root").or_else(|_| tempfile::tempdir()).unwrap();
    for usual in [true, false] {
        let bench = bench();
        let named = if usual { bench.home.path().join("named") } else { elsewhere.path().to_owned() };
        for options in [&[][..], &["--nested", "3"], &["--then", "/bin/true"]] {
            let ran = Ran::from(explore(&bench, options).env("TMPDIR", &named).output().unwrap());
            assert_eq!(ran.code, 0, "{options:?}: {}{}", ran.out, ran.err);
            assert!(!ran.err.contains("share"), "{}", ran.err);
            assert!(ran.json()["distinct_states"].as_u64().unwrap() > 10, "{}", ran.out);
            assert_eq!(left(&bench, &named), Vec::<String>::new());
            assert_eq!(fs::read_to_string(bench.home.path().join("beside")).unwrap(), "as it was");
        }
    }
}

/// A mount below such a place is there for a checker, and writes to it are real.
pub(crate) fn mounts_within() {
    let bench = bench();
    let inner = bench.home.path().join("in ner");
    fs::create_dir(&inner).unwrap();
    let check = format!("{} check-nothing data && cat '{}/there'", me(), inner.display());
    let line = "mount --make-rprivate / && mount -t tmpfs none \"$1\" && echo yes > \"$1/there\" && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "/bin/sh", "-c", line, "sh"]).arg(&inner).arg(env!("CARGO_BIN_EXE_crashcheck"));
    command.args(["explore", "run.trace", "--json", "--check", &check]).current_dir(bench.home.path());
    let ran = Ran::from(command.env(super::ROLE, "1").output().unwrap());
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

/// Where the kernel makes no layer, here because there are too many already, it is told once what is shared.
pub(crate) fn no_layers() {
    let bench = bench();
    let check = format!("{} check-publish data", me());
    let line = "mount --make-rprivate / && mount -t tmpfs none \"$1\" && cd \"$1\" && mkdir 1u 1w 2u 2w && \
                mount -t overlay none -o lowerdir=/tmp,upperdir=\"$1/1u\",workdir=\"$1/1w\" /tmp && \
                mount -t overlay none -o lowerdir=/tmp,upperdir=\"$1/2u\",workdir=\"$1/2w\" /tmp && \
                cd \"$2\" && shift 2 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "/bin/sh", "-c", line, "sh", "/mnt"]).arg(bench.home.path());
    command.arg(env!("CARGO_BIN_EXE_crashcheck"));
    command.args(["explore", "run.trace", "--json", "--jobs", "3", "--check", &check]).current_dir("/");
    let ran = Ran::from(command.env(super::ROLE, "1").output().unwrap());
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!(ran.err.matches("checkers share /tmp with").count(), 1, "{}", ran.err);
}
