//! The target `safetensors_header`: what it does stands in `fuzz::safetensors_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::safetensors_header(bytes));
