//! Any files as a store: an open ends, without a panic and with bounded memory.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzzer_mutate};

// Three of four changes are made to pass the checksums; one of four is a forgery besides.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if seed % 4 == 1 {
        seawall_fuzz::mutate::forge(&mut data[..size], seed.into());
    }
    if !seed.is_multiple_of(4) {
        seawall_fuzz::mutate::directory(&mut data[..size]);
    }
    size
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = seawall::hostile::open_directory(&seawall_fuzz::pack::unpack(bytes));
});
