//! Outward rounding from f64 to f32, and the margins between real bounds and the engine's f32.

/// Half an ulp of 1 in f32: the relative error of one rounding.
pub(crate) const UNIT: f64 = 1.0 / 16_777_216.0;

/// The smallest f32 at or above `x` (infinity where there is none, NaN for NaN).
#[must_use]
pub fn up(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) < x { near.next_up() } else { near }
}

/// The largest f32 at or below `x`.
#[must_use]
pub fn down(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) > x { near.next_down() } else { near }
}

/// An upper bound of every value within `relative` and `absolute` of real values up to `x`.
pub(super) fn widen_up(x: f64, relative: f64, absolute: f64) -> f32 {
    up(x + (x.abs() * relative + absolute))
}

/// A lower bound of every value within `relative` and `absolute` of real values down to `x`.
pub(super) fn widen_down(x: f64, relative: f64, absolute: f64) -> f32 {
    down(x - (x.abs() * relative + absolute))
}

/// The value of a box nearest to zero, as a magnitude.
pub(super) fn least(lo: f32, hi: f32) -> f32 {
    if lo > 0.0 {
        lo
    } else if hi < 0.0 {
        -hi
    } else {
        0.0
    }
}

/// The value of a box farthest from zero, as a magnitude.
pub(super) fn most(lo: f32, hi: f32) -> f32 {
    let (a, b) = (lo.abs(), hi.abs());
    if a > b { a } else { b }
}

/// `least` in f64.
pub(super) fn least64(lo: f64, hi: f64) -> f64 {
    if lo > 0.0 {
        lo
    } else if hi < 0.0 {
        -hi
    } else {
        0.0
    }
}

/// `most` in f64.
pub(super) fn most64(lo: f64, hi: f64) -> f64 {
    let (a, b) = (lo.abs(), hi.abs());
    if a > b { a } else { b }
}

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
