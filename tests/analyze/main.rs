//! `analyze` from outside: what it prints, what it writes, and that both follow from the request
//! alone.

#[path = "../terminal/mod.rs"]
mod terminal;

mod chance;
mod edges;
mod inputs;
mod ladder;
mod limits;
mod norms;
mod reports;
mod reproducible;
mod substitutions;
mod verdicts;

/// A run that takes a moment.
const SMALL: &str = "--limit 3 --faults 90 --attack-budget 60";
