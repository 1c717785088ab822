//! Any bytes as a frame: decoding ends, without a panic and with bounded memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = seawall::hostile::decode_frame(bytes);
});
