//! `seawall status`.

use crate::Bench;

#[test]
fn names_the_identity_and_the_groups() {
    let bench = Bench::with_lines("a\nb\nc\n");
    bench.run("append", &["--group", "4", "--term", "9"], b"x\n").expect_code(0);
    let before = bench.bytes();
    let ran = bench.run("status", &["--json"], b"").expect_code(0);
    let status = &ran.json()[0];
    assert_eq!(status["identity"]["cluster"], 7);
    assert_eq!(status["identity"]["node"], 1);
    assert_eq!(status["alarm"], false);
    assert_eq!(status["report"]["clean"], true);
    let group = |n: usize, field: &str| status["groups"][n][field].clone();
    assert_eq!((group(0, "group"), group(0, "last_index")), (1.into(), 3.into()));
    assert_eq!((group(0, "first_index"), group(0, "durable_index")), (1.into(), 3.into()));
    assert_eq!((group(1, "group"), group(1, "last_term")), (4.into(), 9.into()));
    let text = bench.run("status", &[], b"").expect_code(0).out();
    assert!(text.contains("cluster 7, node 1"), "{text}");
    assert!(text.contains("group 1: entries 1..=3"), "{text}");
    assert_eq!(bench.bytes(), before, "status writes nothing");
}

#[test]
fn what_is_not_a_store_is_refused() {
    let bench = Bench::new();
    bench.run("status", &[], b"").expect_code(3);
    std::fs::create_dir(bench.store()).expect("a directory");
    let ran = bench.run("status", &[], b"").expect_code(3);
    assert!(ran.err().contains("next: "), "{}", ran.all());
    assert!(bench.bytes().is_empty(), "looking at an empty directory leaves it empty");
}
