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

#[test]
fn a_creation_that_was_cut_short_says_what_to_do() {
    let bench = Bench::new();
    bench.run("create", &["--cluster", "7", "--node", "3"], b"").expect_code(0);
    let path = |name| bench.store().join(name);
    std::fs::rename(path("IDENTITY"), path("IDENTITY.new")).expect("both are in the store");
    for (subcommand, args) in
        [("status", &[][..]), ("create", &["--cluster", "7", "--node", "3"]), ("verify", &[])]
    {
        let ran = bench.run(subcommand, args, b"").expect_code(3);
        assert!(ran.err().contains("next: remove the directory"), "{subcommand}: {}", ran.err());
    }
}
