//! `seawall read`.

use crate::Bench;

#[test]
fn gives_back_the_lines() {
    let input = "one\n\ntwo\r\nthr\u{e9}e\n";
    let bench = Bench::with_lines(input);
    let before = bench.bytes();
    assert_eq!(bench.run("read", &[], b"").expect_code(0).out(), input);
    assert_eq!(bench.run("read", &["--from", "3", "--to", "3"], b"").expect_code(0).out(), "two\r\n");
    assert_eq!(bench.bytes(), before, "a read writes nothing");
}

#[test]
fn a_last_line_without_a_newline_comes_back_on_request() {
    let bench = Bench::with_lines("one\ntwo");
    assert_eq!(bench.run("read", &[], b"").expect_code(0).out(), "one\ntwo\n");
    assert_eq!(bench.run("read", &["--no-final-newline"], b"").expect_code(0).out(), "one\ntwo");
}

#[test]
fn a_range_or_a_group_that_is_not_there_is_a_usage_error() {
    let bench = Bench::with_lines("one\ntwo\n");
    let ran = bench.run("read", &["--to", "3"], b"").expect_code(2);
    assert!(ran.err().contains("1..=2"), "{}", ran.all());
    let ran = bench.run("read", &["--group", "9"], b"").expect_code(2);
    assert!(ran.err().contains("--group: 1"), "{}", ran.all());
}

#[test]
fn damage_is_not_read_as_data() {
    let bench = Bench::with_lines("first line\nsecond line\nthird line\n");
    bench.damage(b"second line");
    let ran = bench.run("read", &[], b"");
    assert_eq!(ran.output.status.code(), Some(1), "{}", ran.all());
    assert!("first line\nsecond line\n".starts_with(&ran.out()), "{}", ran.all());
}
