//! The page and the JUnit report of an exploration, and the syncs that are seen by tracing.
//!
//! I own these cases; the list of all is in `cases`.

use std::fs;

use super::tool::{Bench, Ran};

/// Records a role with a shell's command after it, and explores it with reports.
fn reports(bench: &Bench, role: &str) -> (Ran, String, String) {
    let ran = bench.explore(role, &["--html", "page.html", "--junit", "junit.xml"]);
    let read = |name: &str| fs::read_to_string(bench.home.path().join(name)).unwrap();
    (ran, read("page.html"), read("junit.xml"))
}

fn escaped(text: &str) -> String {
    // What a terminal would obey has a backslash before it, so one that was there before has two.
    text.replace('\\', "\\\\")
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Every class is on the page, with what explains it, and nothing on it has to be fetched.
pub(crate) fn page() {
    let bench = Bench::new();
    bench.record("publish");
    let (ran, page, junit) = reports(&bench, "check-publish");
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let json = ran.json();
    let classes = json["classes"].as_array().unwrap();
    assert!(classes.len() >= 2, "{json}");
    for class in classes {
        let text = |field: &str| escaped(class[field].as_str().unwrap_or("no sync helps"));
        for field in ["symptom", "missing_sync"] {
            assert!(page.contains(&text(field)), "{field} of {class} is not on the page");
            assert!(junit.contains(&text(field)), "{field} of {class} is not in the report");
        }
        assert!(
            page.contains(&format!("crashcheck replay {} run.trace --into state", text("id"))),
            "{class}"
        );
        for line in class["timeline"].as_array().unwrap() {
            let text = escaped(line["text"].as_str().unwrap());
            assert!(page.contains(&format!("<td>{text}</td>")), "{line} is not on the page");
        }
    }
    assert_eq!(page.matches("<article").count(), classes.len());
    assert_eq!(page.matches("<svg").count(), classes.len());
    assert_eq!(junit.matches("<failure").count(), classes.len());
    assert!(page.contains(&escaped(json["certificate"].as_str().unwrap())));
    for outside in ["http:", "https:", "src=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(outside), "{outside} is on the page");
    }
}

/// What a checker says, and what a verdict of another kind looks like.
pub(crate) fn other_pages() {
    let bench = Bench::new();
    bench.record("publish-synced");
    let (ran, page, junit) = reports(&bench, "check-publish");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(page.contains("PASS") && !page.contains("<article"));
    assert!(junit.contains("failures=\"0\" errors=\"0\""), "{junit}");
    let (ran, page, junit) = reports(&bench, "no-such-role");
    assert_eq!(ran.code, 3, "{}{}", ran.out, ran.err);
    assert!(page.contains("HARNESS-BROKEN") && junit.contains("<error"), "{junit}");
}

fn record_shell(options: &[&str], script: &str) -> (Bench, Ran) {
    let bench = Bench::new();
    let head = ["record", "--json", "--dir", "data", "-o", "run.trace"];
    let ran = bench.run(&[&head, options, &["--", "/bin/sh", "-c", script]].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    (bench, ran)
}

/// Fails unless what was acknowledged is there.
const CHECK: &str =
    "if grep -q done \"$CRASHCHECK_ACKS\"; then grep -q new sub/file || { echo lost >&2; exit 1; }; fi";

fn explore(bench: &Bench) -> Ran {
    bench.run(&["explore", "run.trace", "--json", "--check", CHECK])
}

/// `sync` and `syncfs` cover every file and directory, whoever wrote it.
pub(crate) fn whole_syncs() {
    for sync in ["sync", "sync -f data"] {
        let script = format!(
            "mkdir data/sub; echo new > data/sub/temp; mv data/sub/temp data/sub/file; {sync}; echo durable-ack done"
        );
        let (bench, _) = record_shell(&[], &script);
        let shown = bench.show();
        let call = if sync == "sync" { "sync: " } else { "syncfs: " };
        for what in ["fsync of sub/file", "fsync of the directory \"sub\"", "fsync of the directory \"\""] {
            assert!(shown.contains(&format!("{call}{what}")), "{sync}: {what} is not in\n{shown}");
        }
        assert!(shown.contains("sync["), "the thread has a name:\n{shown}");
        let ran = explore(&bench);
        assert_eq!(ran.code, 0, "{sync}: {}{}", ran.out, ran.err);
        // The control: without tracing there is no sync, and the same program is accused.
        let (bench, _) = record_shell(&["--no-ptrace"], &script);
        assert!(!bench.show().contains(call), "{}", bench.show());
        assert_eq!(explore(&bench).code, 1);
    }
}

/// A sync of another file system is none of this one.
pub(crate) fn foreign_syncs() {
    let script = "mkdir data/sub; echo new > data/sub/file; sync -f /proc; echo durable-ack done";
    let (bench, recorded) = record_shell(&[], script);
    assert_eq!(recorded.json()["syncs"], 0, "{}", bench.show());
    let ran = explore(&bench);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
}

/// Signals, ends and exit codes are the program's own.
pub(crate) fn traced_programs() {
    let script = "trap 'echo new > data/caught' USR1; kill -USR1 $$; \
                  sh -c 'kill -KILL $$'; test $? = 137 && (echo new > data/killed); sleep 5 & kill $!; wait $!; exit 0";
    let (bench, _) = record_shell(&[], script);
    for file in ["caught", "killed"] {
        assert!(bench.show().contains(&format!("the creation of {file}")), "{}", bench.show());
    }
    let bench = Bench::new();
    let ran = bench.run(&[
        "record",
        "--json",
        "--dir",
        "data",
        "-o",
        "run.trace",
        "--",
        "/bin/sh",
        "-c",
        "kill -SEGV $$",
    ]);
    assert_eq!((ran.code, ran.json()["exit"].as_i64()), (1, Some(139)), "{}{}", ran.out, ran.err);
}
