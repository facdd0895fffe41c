//! How it is told: the report contract and its faces.
//!
//! `model` is plain serde data that knows no other room of the house; the JSON text is the source
//! and every other face is a pure function of it. So whatever a page shows can be read in the JSON,
//! and the same report always gives the same bytes.

mod arithmetic;
mod chance;
pub mod dataset;
mod escape;
mod face;
pub mod html;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod metrics;
pub mod model;
mod number;
pub mod schema;
mod story;
pub mod text;

pub use face::{Format, RenderError, UnknownFormat, render};
pub use model::Report;
