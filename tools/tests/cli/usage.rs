//! The command line itself: usage, help, and readers that go away.

use std::io::Read;

use crate::{Bench, command, run};

#[test]
fn usage_errors_have_their_own_code() {
    for args in [&[][..], &["mend"], &["status"], &["append", "store", "--batch", "0"]] {
        run(args, b"").expect_code(2);
    }
}

/// A name may hold what a terminal would obey, and so may what a store holds.
#[test]
fn nothing_that_a_terminal_obeys_comes_through() {
    let harmless = |text: &str| {
        let obeyed = |c: char| c.is_control() && c != '\n' || "\u{ad}\u{202e}\u{feff}".contains(c);
        assert!(!text.contains(obeyed) && !text.contains("\nforged"), "{text:?}");
    };
    const ODD: &str = "x\u{1b}[31m\u{7f}\u{9b}\u{202e}\u{feff}";
    for args in
        [&["status", "no\u{1b}[31m\nforged"][..], &["--\u{1b}[31m\u{202e}"], &["append", "no\nforged"]]
    {
        let ran = run(args, b"");
        assert!(!ran.err().is_empty());
        harmless(&ran.all());
    }
    let bench = Bench::with_lines(&format!("{ODD}\n"));
    for args in
        [&["dump", "--json"][..], &["dump"], &["status", "--json"], &["status"], &["verify"], &["history"]]
    {
        let ran = bench.run(args[0], &args[1..], b"").expect_code(0);
        harmless(&ran.all());
    }
    let records = bench.run("dump", &["--json"], b"").json();
    assert!(records.iter().any(|record| record["data"] == ODD), "{records:?}");
}

#[test]
fn help_names_the_exit_codes() {
    let help = run(&["--help"], b"").expect_code(0).out();
    for line in ["0  done", "1  the store is damaged", "2  ", "3  not a store", "4  "] {
        assert!(help.contains(line), "{line:?} is missing in\n{help}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let bench = Bench::with_lines(&"a line of some length\n".repeat(20_000));
    let store = bench.store();
    let mut child =
        command(&["read", store.to_str().expect("a plain path")]).spawn().expect("the binary runs");
    let mut pipe = child.stdout.take().expect("a pipe");
    let mut first = [0; 7];
    pipe.read_exact(&mut first).expect("some bytes");
    drop(pipe);
    let output = child.wait_with_output().expect("the binary ends");
    assert_eq!(&first, b"a line ");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
