//! What provably holds: interval bounds, verdicts, radii and attacks.

pub mod attack;
pub mod tape;
