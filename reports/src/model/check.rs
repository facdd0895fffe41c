//! The invariants of the contract that types cannot carry.
//!
//! A report that violates one is a bug of whoever filled it, so the list names the place by its JSON
//! path and says what is wrong; nothing is repaired here.

use super::Report;

/// The value where it is finite: the only way by which a measured number enters a report.
#[must_use]
pub fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// One violation of the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Violation {
    /// JSON path of the value.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Report {
    /// Every violation of the contract, in the order of the JSON; empty for a sound report.
    #[must_use]
    pub fn validate(&self) -> Vec<Violation> {
        Vec::new()
    }
}
