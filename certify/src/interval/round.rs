//! Outward rounding, and the unit of the engine's rounding errors.

pub use engine::numerics::boxes::{down, up};
pub(super) use engine::numerics::boxes::{least, least64, most, most64, widen_down, widen_up};

/// Half an ulp of 1 in f32: the relative error of one rounding.
pub(crate) const UNIT: f64 = 1.0 / 16_777_216.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_outward_and_exact_on_f32() {
        for x in [0.1f64, -0.1, 1.0, -1.0, 1e-46, -1e-46, 1e39, -1e39, 0.0] {
            assert!(f64::from(up(x)) >= x && f64::from(down(x)) <= x, "{x}");
        }
        for x in [0.1f32, -3.5, 0.0, f32::MIN_POSITIVE] {
            assert_eq!((up(f64::from(x)), down(f64::from(x))), (x, x));
        }
        assert_eq!(up(1e39), f32::INFINITY);
        assert_eq!(down(1e39), f32::MAX);
    }
}
