//! Checkers and programs that say too much, too little, or what nobody asked.
//!
//! I own these cases: each ends, in a time that the tool's own limits set and in bounded memory.

use super::tool::{Bench, Ran, me};

/// A recording of a shell's lines.
fn recorded(script: &str, options: &[&str]) -> (Bench, Ran) {
    let bench = Bench::new();
    let head = ["record", "--json", "--quiet", "--dir", "data", "-o", "run.trace"];
    let ran = bench.run(&[&head, options, &["--", "/bin/sh", "-c", script]].concat());
    (bench, ran)
}

/// Asks a checker, and expects that the tool ends with 3 and says something.
fn refused(bench: &Bench, check: &str, options: &[&str], says: &str) {
    let head = ["explore", "run.trace", "--check", check];
    let ran = bench.run(&[&head, options].concat());
    assert_eq!(ran.code, 3, "{check}: {}{}", ran.out, ran.err);
    assert!(format!("{}{}", ran.out, ran.err).contains(says), "{check}: {}{}", ran.out, ran.err);
}

/// The question is longer than a pipe holds.
pub(crate) fn deaf() {
    let long = "long=$(head -c 40000 /dev/zero | tr '\\0' x); \
                for i in 1 2 3; do echo $i > data/f; echo \"durable-ack $long\"; done";
    let (bench, ran) = recorded(long, &[]);
    assert_eq!((ran.code, &ran.json()["acks"]), (0, &3.into()), "{}{}", ran.out, ran.err);
    let limit = ["--persistent", "--check-limit", "300"];
    refused(
        &bench,
        "sleep 600",
        &limit,
        "no answer within 300 ms: the checker does not read its standard input",
    );
    // One that reads, and says nothing.
    refused(&bench, "cat > /dev/null; sleep 600", &limit, "no answer within 300 ms\n");
}

/// A second answer would be taken for that of the next state.
pub(crate) fn unasked() {
    let bench = Bench::new();
    bench.record("publish");
    let says = "an answer that nobody asked for";
    refused(&bench, &format!("{} serve-twice data", me()), &["--persistent"], says);
    refused(&bench, &format!("{} serve-before data", me()), &["--persistent"], says);
}

/// An answer without an end, an output without an end, words without an end.
pub(crate) fn endless() {
    let bench = Bench::new();
    bench.record("publish");
    let persistent = ["--persistent", "--check-limit", "2000"];
    refused(&bench, "read line; cat /dev/zero", &persistent, "the answer is longer than 1048576 bytes");
    refused(&bench, "read line; cat /dev/zero >&2", &persistent, "no answer within 2000 ms");
    refused(&bench, "yes no answer", &persistent, "an answer that nobody asked for");
    refused(&bench, "yes", &["--expect", "log"], "it printed more than 67108864 bytes");
    refused(&bench, "yes >&2", &["--check-limit", "300"], "no answer within 300 ms");
}

/// What a recorded program prints is passed on, and no line of it is held without a bound.
pub(crate) fn endless_programs() {
    let (_, ran) = recorded("yes", &["--time-limit", "1"]);
    assert_eq!(ran.code, 4, "{}{}", ran.out, ran.err);
    let zeros = "head -c 100000000 /dev/zero; echo; echo x > data/f; echo durable-ack done";
    let (_, ran) = recorded(zeros, &[]);
    let said = (ran.code, &ran.json()["acks"], &ran.json()["gaps"]);
    assert_eq!(said, (0, &1.into(), &0.into()), "{}{}", ran.out, ran.err);
    // A promise that is too long to be kept is not forgotten.
    let long = "printf 'durable-ack '; head -c 70000 /dev/zero; echo; echo x > data/f";
    let (bench, ran) = recorded(long, &[]);
    assert_eq!(ran.json()["gaps"], 1, "{}{}", ran.out, ran.err);
    let ran = bench.run(&["explore", "run.trace", "--check", "true"]);
    assert_eq!(ran.code, 4, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("in a line of more than 65536 bytes"), "{}", ran.out);
}
