//! The float programs of the engine: the specification `bca-1`.
//!
//! Each program has one documented order of IEEE-754 operations, rounded to nearest even, without
//! contraction, and uses nothing of a platform's mathematical library. Faster code (see
//! [`crate::kernels`]) follows this order; it never defines it.
//!
//! | step | program (`fl` = one f32 rounding) |
//! |---|---|
//! | `sum16` | 16 lanes start at +0; lane `k % 16` adds `x_k` in rising `k`; a tree of strides 8, 4, 2, 1 |
//! | `dot16` | `sum16` of `fl(a_k b_k)` |
//! | RMSNorm | `S` = `sum16` in f64 of exact squares; `v = fl(S / n)`; `r = fl(1 / fl(sqrt(fl(v + eps))))` |
//! | | `y_k = fl(g_k fl(x_k r))` |
//! | int8 codes | `a = max(max abs x, 1e-5)`; `t = fl(fl(1/a) 127)`; `q = rne(clamp(fl(x t), -128, 127))` |
//! | int4 codes | `t = fl(fl(1/a) 7)`; `q = rne(clamp(fl(x t), -8, 7))` |
//! | ternary product | exact in i32, then `fl(i / fl(ws t))` (divide) or `fl(fl(i / t) ws)` (multiply) |
//! | integer weights | of groups: exact sums; `y` adds `d_g S_g` to +0 in rising `g`, in f64; `fl(y / t)` |
//! | | of rows: as ternary products |
//! | master weights | `m = max(fl(S / n), 1e-5)`, `S` = `sum16` in f64 of magnitudes; `s = fl(1/m)` |
//! | | `w = clamp(rne(fl(W s)), -1, 1)`; `ws = fl(1/s)` |
//! | float product | `dot16`, then the scale, if any |
//! | RoPE | half-split; `fl(fl(a c) - fl(b s))`, `fl(fl(b c) + fl(a s))`; tables in f64, rounded once |
//! | attention | `s_j = fl(dot16(q, k_j) d^-1/2)`; `e_j = exp(fl(s_j - max s))`; `p_j = fl(e_j / sum16(e))` |
//! | | `o` adds `fl(p_j v_j)` in rising `j` |
//! | relu2 gate | `fl(fl(max(g, 0)^2) u)` |
//! | silu gate | `fl(fl(g / fl(1 + exp(-g))) u)` |
//! | logits | `dot16` of the normed row and the row of the head |
//!
//! Invariant: no function here depends on threads, vector width, or the platform.

pub mod boxes;
mod elementary;
pub mod forms;
mod halves;
mod quantize;
mod rate;
mod reduce;
mod rows;
pub mod special;

pub use elementary::{cos_sin, exp, exp_f64, pow};
pub use halves::{widen_bf16, widen_f16};
pub use quantize::{
    ABSMAX_FLOOR, INT4, INT8, Levels, absmax, codes_of, divided, multiplied, quantize_scale,
};
pub use rate::{MOST_TRIALS, RateInterval, clopper_pearson, lower_end, one_sided, upper_end};
pub use reduce::{dot_ends, dot16, sum_abs, sum_squares, sum16};
pub use rows::{gate_row, inverse_rms, relu2, rms_norm_row, silu, softmax_row};

/// The larger of two numbers; NaN if either is NaN; +0 over -0.
#[must_use]
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    // Equal numbers are the same but for the signs of zeros. There is nothing to branch on.
    let equal = f32::from_bits(a.to_bits() & b.to_bits());
    let larger = if a > b || a.is_nan() { a } else { b };
    if a == b { equal } else { larger }
}

/// The smaller of two numbers; NaN if either is NaN; -0 under +0.
#[must_use]
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    let equal = f32::from_bits(a.to_bits() | b.to_bits());
    let smaller = if a < b || a.is_nan() { a } else { b };
    if a == b { equal } else { smaller }
}

/// The index of the largest value; the lowest index on ties; `None` if a value is NaN or there is
/// none.
#[must_use]
pub fn argmax(values: &[f32]) -> Option<usize> {
    let mut best = 0;
    for (index, &value) in values.iter().enumerate() {
        if value.is_nan() {
            return None;
        }
        if value > values[best] {
            best = index;
        }
    }
    (!values.is_empty()).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_and_min_keep_nan_and_order_the_zeros() {
        assert!(max(f32::NAN, 1.0).is_nan() && max(1.0, f32::NAN).is_nan());
        assert!(min(f32::NAN, 1.0).is_nan() && min(1.0, f32::NAN).is_nan());
        assert_eq!(max(-0.0, 0.0).to_bits(), 0.0f32.to_bits());
        assert_eq!(max(0.0, -0.0).to_bits(), 0.0f32.to_bits());
        assert_eq!(min(-0.0, 0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!(min(0.0, -0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!((max(1.0, 2.0), min(1.0, 2.0)), (2.0, 1.0));
    }

    #[test]
    fn argmax_takes_the_lowest_index_on_ties_and_refuses_nan() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(argmax(&[1.0, f32::NAN]), None);
        assert_eq!(argmax(&[]), None);
    }
}
