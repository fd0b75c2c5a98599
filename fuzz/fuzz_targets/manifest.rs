#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nightgate_fuzz::manifest(bytes));
