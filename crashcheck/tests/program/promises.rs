//! The cases of what is expected without a checker of the user's.
//!
//! I own the expectations; the commands that open and dump are those of the system.

use std::fs;
use std::process::Command;

use super::cases::symptoms;
use super::tool::{Bench, Ran};

fn expect(bench: &Bench, options: &[&str]) -> Ran {
    bench.run(&[&["explore", "run.trace", "--json"], options].concat())
}

pub(crate) fn opens() {
    // A file that is there has to hold something.
    let open = ["--expect", "opens", "--check", "test ! -e conf || (test -s conf && cat conf)"];
    let bench = Bench::new();
    bench.record("publish-file-sync");
    let ran = expect(&bench, &[&open[..], &["--then", "touch more"]].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let ran = expect(&bench, &[&open[..], &["--then", "test ! -e conf.tmp"]].concat());
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(symptoms(&ran.json()).iter().all(|(symptom, _)| symptom.starts_with("then ")), "{}", ran.out);
    let changing = ["--expect", "opens", "--check", "echo x >> more; cat more"];
    let ran = expect(&bench, &changing);
    assert_eq!(ran.code, 3, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("it prints something else"), "{}", ran.out);
    let bench = Bench::new();
    bench.record("publish");
    assert_eq!(expect(&bench, &open).code, 1);
    for wrong in [&["--expect", "opens"][..], &["--expect", "sqlite=db", "--check", "true"][..]] {
        assert_eq!(expect(&bench, wrong).code, 3);
    }
    assert_eq!(expect(&bench, &["--expect", "closes", "--check", "true"]).code, 2);
}

pub(crate) fn sqlite() {
    const MAKE: &str = "import sqlite3, os
for name, synchronous in (('full.db', 2), ('off.db', 0)):
    db = sqlite3.connect(os.path.join('data', name), isolation_level=None)
    db.execute(f'PRAGMA synchronous={synchronous}')
    db.execute('CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)')
    db.execute('CREATE INDEX i ON t (v)')
    for i in range(4):
        db.execute('INSERT INTO t VALUES (?, ?)', (i, str(i) * 600))
print('durable-ack rows')
";
    let has_module = Command::new("python3").args(["-c", "import sqlite3"]).output();
    if !has_module.is_ok_and(|output| output.status.success()) {
        return crate::skip("there is no python3 with sqlite3");
    }
    let bench = Bench::new();
    fs::write(bench.home.path().join("make.py"), MAKE).unwrap();
    let head = ["record", "--json", "--dir", "data", "-o", "run.trace", "--", "python3", "make.py"];
    let ran = bench.run(&head);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let full = expect(&bench, &["--expect", "sqlite=full.db", "--states", "300"]);
    assert_eq!(full.code, 0, "{}{}", full.out, full.err);
    let off = expect(&bench, &["--expect", "sqlite=off.db", "--states", "1200"]);
    assert_eq!(off.code, 1, "{}{}", off.out, off.err);
    let missing = expect(&bench, &["--expect", "sqlite=none.db"]);
    assert_eq!(missing.code, 3);
    assert!(missing.out.contains("none.db is not there"), "{}", missing.out);
}

pub(crate) fn dumps() {
    let dump = ["--check", "[ ! -e store ] || cat store"];
    for (what, role, says) in [
        ("log", "lines", "the acknowledged line"),
        ("kv", "pairs", "the acknowledged key"),
        ("consensus", "entries", "the acknowledged vote"),
    ] {
        let options = [&["--expect", what][..], &dump].concat();
        let bench = Bench::new();
        let recorded = bench.record(role);
        assert_eq!(recorded["acks"], 3);
        let ran = expect(&bench, &options);
        assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
        let found = symptoms(&ran.json());
        let is_found = |(symptom, sync): &(String, String)| {
            symptom.contains(says) && sync.starts_with("fsync of the directory itself")
        };
        assert!(found.iter().any(is_found), "{found:#?}");
        assert!(ran.out.contains(" begin "), "the timeline has the announcements:\n{}", ran.out);
        let bench = Bench::new();
        bench.record(&format!("{role}-synced"));
        let ran = expect(&bench, &options);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        // Another kind of history is the harness's fault.
        let other = if what == "kv" { "consensus" } else { "kv" };
        let ran = expect(&bench, &[&["--expect", other][..], &dump].concat());
        assert_eq!(ran.code, 3, "{}{}", ran.out, ran.err);
        assert!(ran.err.contains("the workload said"), "{}", ran.err);
    }
}

pub(crate) fn ratchet() {
    let bench = Bench::new();
    bench.record("publish");
    let explore = || bench.explore("check-publish", &["--ratchet", "known.json"]);
    let first = explore();
    assert_eq!(
        first.code, 1,
        "what is new is a finding, also when it is written: {}{}",
        first.out, first.err
    );
    assert_eq!(first.json()["ratchet"]["written"], true);
    let again = explore();
    assert_eq!(again.code, 0, "{}{}", again.out, again.err);
    let json = again.json();
    assert_eq!((&json["verdict"], &json["ratchet"]["written"]), (&"FAIL".into(), &false.into()));
    assert_eq!(json["ratchet"]["known"], json["classes"].as_array().unwrap().len());
    // The other reports know it too.
    let options = ["--ratchet", "known.json", "--junit", "junit.xml", "--html", "page.html"];
    assert_eq!(bench.explore("check-publish", &options).code, 0);
    let read = |name| fs::read_to_string(bench.home.path().join(name)).unwrap();
    let (junit, page) = (read("junit.xml"), read("page.html"));
    let classes = json["classes"].as_array().unwrap().len();
    assert_eq!(junit.matches("<skipped").count(), classes, "{junit}");
    assert!(junit.contains("failures=\"0\"") && !junit.contains("<failure"), "{junit}");
    assert_eq!(page.matches(">known</span>").count(), classes);
    // What a search did not come to is not gone.
    let few = (json["stages"][0]["checked"].as_u64().unwrap() + 2).to_string();
    let cut = bench.explore("check-publish", &["--ratchet", "known.json", "--states", &few]);
    assert!(!cut.out.contains("ratchet: gone"), "{}", cut.out);
    let unseen = cut.json()["ratchet"]["unseen"].as_array().unwrap().len();
    assert!(unseen > 0 && unseen < classes, "{}", cut.out);
    // Another recording of the same program: other steps, the same classes.
    bench.record("publish-file-sync");
    let mended = explore();
    assert_eq!(mended.code, 0, "{}{}", mended.out, mended.err);
    assert!(mended.out.contains("gone, take it out of known.json: conf holds"), "{}", mended.out);
    fs::write(bench.home.path().join("known.json"), "{\"classes\": []}").unwrap();
    let new = explore();
    assert_eq!(new.code, 1, "{}{}", new.out, new.err);
    assert!(new.out.contains("ratchet: new: acknowledged #"), "{}", new.out);
    fs::write(bench.home.path().join("known.json"), "[]").unwrap();
    assert_eq!(explore().code, 3);
}

pub(crate) fn exhausted() {
    let bench = Bench::new();
    bench.record("publish-synced");
    let ran = bench.explore("check-publish", &["--states", "100000"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let certificate = ran.json()["certificate"].as_str().unwrap().to_owned();
    assert!(certificate.contains("then nothing new came any more"), "{certificate}");
}

pub(crate) fn resumed() {
    let bench = Bench::new();
    bench.record("publish");
    let numbers = |options: &[&str]| {
        let json = bench.explore("check-publish", options).json();
        let number = |field: &str| json[field].as_u64().unwrap();
        (number("distinct_states"), number("failed_states"), json["next"].as_u64())
    };
    let (all, failed, next) = numbers(&[]);
    assert!(all > 20 && failed > 1 && next.is_none());
    let (first, failed_first, next) = numbers(&["--states", "15"]);
    assert_eq!((first, next), (15, Some(15)));
    assert_eq!(numbers(&["--resume", "15"]), (all - 15, failed - failed_first, None));
}

/// Nothing failed, and not enough was tried: no report calls that a pass.
pub(crate) fn cut_short() {
    let bench = Bench::new();
    bench.record("publish");
    let read = |name| fs::read_to_string(bench.home.path().join(name)).unwrap();
    let whole = bench.explore("check-nothing", &[]).json();
    let of = |at: usize| whole["stages"][at]["checked"].as_u64().unwrap();
    let into_the_second = (of(0) + 1).to_string();
    for (limit, stage) in [
        (["--seconds", "0"], "boundary"),
        (["--states", "1"], "boundary"),
        (["--states", &into_the_second], "unsynced"),
    ] {
        let reports = ["--junit", "junit.xml", "--html", "page.html", "--ratchet", "known.json"];
        let ran = bench.explore("check-nothing", &[&limit[..], &reports].concat());
        assert_eq!(ran.code, 4, "{limit:?}: {}{}", ran.out, ran.err);
        let json = ran.json();
        assert_eq!((&json["verdict"], &json["failed_states"]), (&"NOT-MEASURED".into(), &0.into()));
        let why = format!("the search ended in the stage `{stage}`: give it more");
        assert!(json["reason"].as_str().unwrap().starts_with(&why), "{json}");
        assert!(ran.out.contains(&why) && !ran.out.contains("PASS"), "{}", ran.out);
        let (junit, page) = (read("junit.xml"), read("page.html"));
        assert!(junit.contains("errors=\"1\"") && junit.contains(&why), "{junit}");
        assert!(page.contains("NOT-MEASURED") && page.contains(&why) && !page.contains("PASS"));
        assert!(!bench.home.path().join("known.json").exists(), "nothing is known of it");
    }
    bench.record("publish-synced");
    let check = format!("{} check-nothing data", super::tool::me());
    let mutate = ["mutate-syncs", "run.trace", "--json", "--states", "1", "--check", &check];
    let ran = bench.run(&mutate);
    assert_eq!((ran.code, ran.json()["unmeasured"].as_u64() > Some(0)), (4, true), "{}{}", ran.out, ran.err);
    // A failure is one however far the search came, and what is known is no pass of the rest.
    let bench = Bench::new();
    bench.record("publish");
    let whole = bench.explore("check-publish", &["--ratchet", "known.json"]).json();
    let few = (whole["stages"][0]["checked"].as_u64().unwrap() + 2).to_string();
    assert_eq!(bench.explore("check-publish", &["--states", &few]).code, 1);
    let known = bench.explore("check-publish", &["--states", &few, "--ratchet", "known.json"]);
    assert_eq!((known.code, &known.json()["verdict"]), (4, &"FAIL".into()), "{}{}", known.out, known.err);
    // A run with a failing call, too.
    let bench = Bench::new();
    fs::write(bench.data().join("conf"), "value 0\n").unwrap();
    let me = super::tool::me();
    let check = format!("{me} check-publish data");
    let fault = ["fault", "--json", "--dir", "data", "--call", "fsync", "--error", "EIO", "--states", "1"];
    let ran = bench.run(&[&fault[..], &["--check", &check, "--", &me, "publish-synced", "data"]].concat());
    assert_eq!(ran.code, 4, "{}{}", ran.out, ran.err);
}
