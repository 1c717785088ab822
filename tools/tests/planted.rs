//! No program that is shipped holds a planted bug.
//!
//! I own two facts about a binary: whether the checker's wrapper is compiled into it, by its type's
//! name among the symbols, and whether a bug's text is among the bytes that a run loads. The
//! checker's own binary must show both, so that the search is known to find what it looks for.

#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;

use seawall::planted::Bug;

/// The only type whose file system switches a bug on.
const WRAPPER: &str = "PlantedVfs";

/// What a binary shows of planted bugs.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    wrapper: bool,
    texts: usize,
}

fn look(path: &Path) -> Shown {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let loaded = loaded(&bytes);
    Shown {
        wrapper: contains(&bytes, WRAPPER),
        texts: Bug::ALL.iter().filter(|bug| loaded.iter().any(|part| contains(part, bug.text()))).count(),
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The parts of an ELF file that a run loads: not the debug information, which names every type.
fn loaded(elf: &[u8]) -> Vec<&[u8]> {
    const PT_LOAD: u64 = 1;
    let number = |at: usize, len: usize| {
        elf[at..at + len].iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte))
    };
    let size = |n: u64| usize::try_from(n).expect("a size within memory");
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file");
    let (table, entry, count) = (size(number(32, 8)), size(number(54, 2)), size(number(56, 2)));
    (0..count)
        .map(|n| table + n * entry)
        .filter(|at| number(*at, 4) == PT_LOAD)
        .map(|at| &elf[size(number(at + 8, 8))..][..size(number(at + 32, 8))])
        .collect()
}

/// The checker's binary beside this test's, built if it is not there.
fn checker() -> PathBuf {
    let shipped = Path::new(env!("CARGO_BIN_EXE_seawall"));
    let path = shipped.with_file_name("crashcheck");
    if !path.exists() {
        let release = shipped.parent().is_some_and(|dir| dir.ends_with("release"));
        let profile = if release { "release" } else { "test" };
        let status = Command::new(env!("CARGO"))
            .args(["build", "--package", "crashcheck", "--bin", "crashcheck", "--profile", profile])
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the checker builds");
    }
    path
}

#[test]
fn shipped_programs_hold_no_planted_bug() {
    assert_eq!(look(Path::new(env!("CARGO_BIN_EXE_seawall"))), Shown { wrapper: false, texts: 0 });
}

#[test]
fn the_checker_holds_them_all() {
    assert_eq!(look(&checker()), Shown { wrapper: true, texts: Bug::ALL.len() });
}
