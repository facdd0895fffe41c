//! What trials say about a rate, with guarantees that hold for every truth and every plan.
//!
//! | question | answer | argument |
//! |---|---|---|
//! | a rate, from a number of trials fixed before | [`clopper_pearson`](crate::clopper_pearson) | binomial tails |
//! | the mean of values within [0, 1], likewise | [`bounded_mean`] | Hoeffding's bound of tails |
//! | events among N faults, n of them tried once | [`finite_population`] | hypergeometric tails |
//! | a rate over strata, sampled unevenly or proven | [`stratified`] | exact, and Chernoff with weak duality |
//! | a rate while trials go on, and a gate that stops as soon as it may | [`Sequential`] | Ville's inequality |
//!
//! Every end is rounded outward, so coverage is at least nominal; every call takes bounded time.

mod finite;
mod log;
mod mean;
mod sequence;
mod strata;

pub use finite::{FiniteInterval, MOST_FAULTS, finite_population};
pub use mean::bounded_mean;
pub use sequence::{Decision, Sequential};
pub use strata::{Stratified, Stratum, stratified};
