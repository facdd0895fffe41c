//! What provably holds: interval bounds, verdicts, radii and attacks.
//!
//! Everything here speaks of the f32 program that the engine runs, not of real arithmetic; the
//! argument, step by step, is in `SOUNDNESS.md`. A claim is certified only on positive proof: all
//! bounds finite, `lo <= hi`, and a margin above zero. Everything else is unknown.
//!
//! [`chance`] stands apart: what it says holds with a stated confidence, not for certain.

pub mod affine;
pub mod attack;
pub mod chance;
pub mod checked;
pub mod claim;
pub mod interval;
pub mod ladder;
pub mod lipschitz;
pub mod moved;
pub mod radius;
pub mod region;
pub mod tape;
