//! Any files as a store: an open ends, without a panic and with bounded memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = seawall::hostile::open_directory(&seawall_fuzz::pack::unpack(bytes));
});
