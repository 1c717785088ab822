//! Any bytes as a segment file: the scan ends, without a panic and with bounded memory.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzzer_mutate};

// Three of four changes are made to pass the checksums.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if !seed.is_multiple_of(4) {
        seawall_fuzz::mutate::scanned(&mut data[..size]);
    }
    size
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = seawall::hostile::scan_segment(bytes);
});
