//! `seawall create`.

use crate::Bench;

#[test]
fn makes_a_store_once() {
    let bench = Bench::new();
    let made = bench.run("create", &["--cluster", "7", "--node", "3"], b"").expect_code(0);
    assert!(made.out().contains("cluster 7, node 3"), "{}", made.all());
    let before = bench.bytes();
    let again = bench.run("create", &["--cluster", "7", "--node", "3"], b"").expect_code(3);
    assert!(again.err().contains("next: "), "{}", again.all());
    assert_eq!(bench.bytes(), before, "a refused creation changes nothing");
}

#[test]
fn refuses_an_option_out_of_range() {
    let bench = Bench::new();
    bench.run("create", &["--cluster", "7", "--node", "3", "--unit", "1000"], b"").expect_code(2);
    bench.run("create", &["--cluster", "7"], b"").expect_code(2);
    assert!(!bench.store().exists(), "a refused creation leaves nothing");
}
