//! A bit-exact, deterministic inference engine for 1-bit and ternary transformers.
