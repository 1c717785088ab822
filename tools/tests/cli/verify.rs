//! `seawall verify`.

use crate::Bench;

#[test]
fn a_sound_store_passes() {
    let bench = Bench::with_lines("a\nb\n");
    let before = bench.bytes();
    let ran = bench.run("verify", &["--json"], b"").expect_code(0);
    let found = &ran.json()[0];
    assert_eq!((&found["ok"], &found["damage"]), (&true.into(), &serde_json::json!([])));
    assert!(found["records"].as_u64() >= Some(2), "{found}");
    let text = bench.run("verify", &[], b"").expect_code(0).out();
    assert!(text.starts_with("ok: "), "{text}");
    assert_eq!(bench.bytes(), before, "verify writes nothing");
}

#[test]
fn a_flipped_bit_is_named_and_left() {
    let bench = Bench::with_lines("first line\nsecond line\nthird line\n");
    bench.damage(b"second line");
    let before = bench.bytes();
    let ran = bench.run("verify", &["--json"], b"").expect_code(1);
    if let Some(found) = ran.json().first() {
        assert_eq!(found["ok"], false);
        let damage = found["damage"].as_array().expect("a list");
        assert!(damage.iter().all(|d| d["from"].as_u64() < d["to"].as_u64()), "{found}");
    } else {
        assert!(ran.err().contains("damaged"), "{}", ran.all());
    }
    assert_eq!(bench.bytes(), before, "verify mends nothing");
}
