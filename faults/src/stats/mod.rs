//! What trials say about a rate, with guarantees that hold for every truth and every plan.
//!
//! | question | answer | argument |
//! |---|---|---|
//! | a rate, from a number of trials fixed before | [`clopper_pearson`](crate::clopper_pearson) | binomial tails |
//! | events among N faults, n of them tried once | [`finite_population`] | hypergeometric tails |
//! | a rate over strata, sampled unevenly or proven | [`stratified`] | exact, and Chernoff with weak duality |
//! | a rate while trials go on, and a gate that stops as soon as it may | [`Sequential`] | Ville's inequality |
//!
//! Every end is rounded outward, so coverage is at least nominal; every call takes bounded time.

mod finite;
mod log;
mod sequence;
mod strata;

pub use finite::{FiniteInterval, MOST_FAULTS, finite_population};
pub use sequence::{Decision, Sequential};
pub use strata::{Stratified, Stratum, stratified};
