//! Any list of operations: the store does what the model in memory does, over unclean reopens too.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    seawall_fuzz::operations::run(bytes);
});
