//! What provably holds: interval bounds, verdicts, radii and attacks.
