//! A bit-exact, deterministic inference engine for 1-bit and ternary transformers.
//!
//! Everything that `bitnet-certify` says, it says about the bits that this engine computes. So the
//! arithmetic is a specification first ([`numerics`]) and fast second ([`kernels`]): the same bytes
//! come out on every machine, with every kernel table and with any number of threads.
//!
//! The forward pass is written once, in [`walk`], generic over the meaning of a whole tensor step.
//! [`walk::Exact`] gives it numbers; the certifier gives it sets; the fault injector decorates
//! both.

pub mod formats;
pub mod kernels;
pub mod model;
pub mod numerics;
pub mod packing;
pub mod walk;

/// The name of the arithmetic that this engine computes. It changes when any bit of any result may.
pub const ARITHMETIC: &str = "bca-1";
