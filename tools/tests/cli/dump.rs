//! `seawall dump`.

use crate::Bench;

#[test]
fn prints_every_record_in_stream_order() {
    let bench = Bench::with_lines("text\n");
    bench.run("append", &["--group", "2"], b"\xff\x00\nmore\n").expect_code(0);
    let before = bench.bytes();
    let records = bench.run("dump", &["--json"], b"").expect_code(0).json();
    let positions: Vec<u64> = records.iter().map(|r| r["position"].as_u64().expect("a number")).collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "each position once, in order: {positions:?}");
    let entries: Vec<_> = records.iter().filter(|r| r["index"] != 0).collect();
    assert_eq!(entries.len(), 3, "{records:?}");
    assert_eq!((&entries[0]["group"], &entries[0]["data"]), (&1.into(), &"text".into()));
    assert_eq!((&entries[1]["group"], &entries[1]["data_hex"]), (&2.into(), &"ff00".into()));
    assert!(entries[1].get("data").is_none(), "bytes that are not text are not called text");
    assert_eq!(entries[2]["state"], "durable");

    let of_group = bench.run("dump", &["--json", "--group", "2"], b"").expect_code(0).json();
    assert!(of_group.iter().all(|r| r["group"] == 2) && of_group.len() >= 2, "{of_group:?}");
    let text = bench.run("dump", &[], b"").expect_code(0).out();
    assert_eq!(text.lines().count(), records.len());
    assert!(text.contains(r"\xff\x00"), "{text}");
    assert_eq!(bench.bytes(), before, "dump writes nothing");
}

#[test]
fn shows_damage_as_damage() {
    let bench = Bench::with_lines("first line\nsecond line\nthird line\n");
    bench.damage(b"second line");
    let ran = bench.run("dump", &["--json"], b"").expect_code(1);
    assert!(!ran.out().contains("second line"), "{}", ran.all());
    assert!(ran.out().contains("damaged") || ran.err().contains("damaged"), "{}", ran.all());
}
