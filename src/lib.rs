//! The command line of bitnet-certify: the only floor that knows all rooms.
//!
//! [`cli`] has the words typed, [`plan`] what they mean; the order of the work ([`analyze`]) and
//! the way from results to a report are here, and nothing of what is proven or flipped.

pub mod analyze;
mod assemble;
pub mod attack;
pub mod campaign;
pub mod cli;
pub mod commands;
pub mod dataset;
pub mod epsilon;
pub mod failure;
pub mod flip;
pub mod input;
pub mod machine;
pub mod noise;
pub mod output;
pub mod plan;
pub mod source;
pub mod substitution;
