//! The target `gguf`: what it does stands in `fuzz::gguf`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::gguf(bytes));
