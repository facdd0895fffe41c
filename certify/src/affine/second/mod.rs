//! Second order of the last layer: margins that stay open, as one quadratic form of all symbols.
//!
//! Bounds step by step let all symbols be extreme anew at every step; here they are extreme once.
//! [`curved`] is a margin seen through the last gated product, [`project`] what of it reaches the
//! attention half, [`latent`] and [`draft`] collect the terms of second order of both, and [`dual`]
//! bounds them by a semidefinite relaxation whose proof is a Cholesky factor ([`psd`]); [`rivals`]
//! does so for several rivals at once.

pub(super) mod curved;
pub(super) mod draft;
pub(super) mod dual;
pub(super) mod latent;
pub(super) mod project;
pub(super) mod psd;
pub(super) mod rivals;
