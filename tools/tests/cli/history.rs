//! `seawall history`.

use crate::Bench;

#[test]
fn tells_what_was_done_also_of_a_store_that_refuses() {
    let bench = Bench::with_lines("a\nb\nc\n");
    let before = bench.bytes();
    let ran = bench.run("history", &["--json"], b"").expect_code(0);
    let first = &ran.json()[0];
    assert_eq!((&first["what"], &first["act"]), (&"evidence".into(), &"created".into()));
    let text = bench.run("history", &[], b"").expect_code(0).out();
    assert!(text.contains("epoch 1  created"), "{text}");
    assert_eq!(bench.bytes(), before, "looking writes nothing");

    for (path, _) in bench.bytes().iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "seg")) {
        std::fs::write(path, b"").expect("a file that was just listed");
    }
    bench.run("status", &[], b"").expect_code(1);
    let text = bench.run("history", &[], b"").expect_code(0).out();
    assert!(text.contains("epoch 1  created"), "{text}");
}

#[test]
fn what_is_not_a_store_is_refused() {
    let bench = Bench::new();
    bench.run("history", &[], b"").expect_code(3);
}
