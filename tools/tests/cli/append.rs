//! `seawall append`.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use crate::{Bench, command};

#[test]
fn confirms_what_is_durable() {
    let bench = Bench::new();
    let ran = bench.run("append", &["--create", "--batch", "2"], b"a\nb\nc\nd\ne\n").expect_code(0);
    assert_eq!(ran.out(), "appended 5 entries to group 1; durable through index 5\n");
    let progress: Vec<String> = [2, 4, 5].map(|n| format!("durable through index {n}")).into();
    assert_eq!(ran.err().lines().collect::<Vec<_>>(), progress);
    let more = bench.run("append", &["--quiet"], b"f").expect_code(0);
    assert_eq!(more.out(), "appended 1 entries to group 1; durable through index 6\n");
    assert_eq!(more.err(), "");
}

#[test]
fn creates_a_store_only_when_told() {
    let bench = Bench::new();
    let ran = bench.run("append", &[], b"a\n").expect_code(3);
    assert!(ran.err().contains("not a store"), "{}", ran.all());
    assert!(!bench.store().exists());
    // An existing store is opened, not created again.
    bench.run("append", &["--create"], b"a\n").expect_code(0);
    bench.run("append", &["--create"], b"b\n").expect_code(0);
    assert_eq!(bench.run("read", &[], b"").expect_code(0).out(), "a\nb\n");
}

#[test]
fn takes_a_whole_file_as_one_entry() {
    let bench = Bench::new();
    let bytes = [0, 255, b'\n', b'x', b'\n', b'\n'];
    let file = bench.file("input", &bytes);
    bench.run("append", &["--create", "--whole-file", &file], b"").expect_code(0);
    assert_eq!(bench.run("read", &["--raw"], b"").expect_code(0).output.stdout, bytes);
}

#[test]
fn splits_a_batch_that_the_segments_are_too_small_for() {
    let lines = "x".repeat(1000) + "\n";
    let bench = Bench::with_lines(&lines.repeat(200));
    let read = bench.run("read", &[], b"").expect_code(0);
    assert!(read.out() == lines.repeat(200), "200 lines of 1,000 bytes come back");
}

#[test]
fn says_which_entry_is_too_large_and_how_far_it_came() {
    let bench = Bench::with_lines("a\n");
    let input = [b"b\n".as_slice(), &vec![b'x'; 9 << 20]].concat();
    let ran = bench.run("append", &["--batch", "1"], &input).expect_code(2);
    assert!(ran.err().contains("entry 2 is larger than"), "{}", ran.all());
    assert!(ran.err().contains("durable through index 2"), "{}", ran.all());
    assert_eq!(bench.run("read", &[], b"").expect_code(0).out(), "a\nb\n");
}

#[test]
fn a_missing_input_is_an_input_error() {
    let bench = Bench::with_lines("a\n");
    bench.run("append", &["no-such-file"], b"").expect_code(4);
}

/// An input that does not end, as of `tail -f`: what came is durable all the same.
#[test]
fn an_entry_does_not_wait_for_a_full_batch() {
    let bench = Bench::with_lines("a\n");
    let store = bench.store();
    let mut child = command(&["append", store.to_str().unwrap()]).spawn().unwrap();
    let (mut stdin, stderr) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
    let (say, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            drop(say.send(line.unwrap()));
        }
    });
    for index in 2..5 {
        stdin.write_all(b"a line\n").unwrap();
        let line = said.recv_timeout(Duration::from_secs(60)).expect("nothing became durable");
        assert_eq!(line, format!("durable through index {index}"));
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(bench.run("read", &[], b"").expect_code(0).out(), "a\na line\na line\na line\n");
}
