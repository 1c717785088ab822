//! Any bytes as a segment file: the scan ends, without a panic and with bounded memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = seawall::hostile::scan_segment(bytes);
});
