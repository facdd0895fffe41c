//! The target `index`: what it does stands in `fuzz::index`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::index(bytes));
