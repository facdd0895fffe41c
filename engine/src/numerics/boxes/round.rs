//! Outward rounding from f64 to f32, and the values of a box nearest to and farthest from zero.

/// The smallest f32 at or above `x` (infinity where there is none, NaN for NaN).
#[must_use]
#[inline(always)]
pub fn up(x: f64) -> f32 {
    let near = x as f32;
    let next = beside(near, 1, 1, u32::MAX);
    f32::from_bits(if f64::from(near) < x { next } else { near.to_bits() })
}

/// The largest f32 at or below `x`.
#[must_use]
#[inline(always)]
pub fn down(x: f64) -> f32 {
    let near = x as f32;
    let next = beside(near, 0x8000_0001, u32::MAX, 1);
    f32::from_bits(if f64::from(near) > x { next } else { near.to_bits() })
}

/// The bits of the neighbour of a number: `of_zero` beside either zero, and else a positive or a
/// negative step away. Without branches, so that they are computed for many at once.
#[inline(always)]
fn beside(x: f32, of_zero: u32, positive: u32, negative: u32) -> u32 {
    let bits = x.to_bits();
    let step = if bits >> 31 == 0 { positive } else { negative };
    if bits << 1 == 0 { of_zero } else { bits.wrapping_add(step) }
}

/// An upper bound of every value within `relative` and `absolute` of real values up to `x`.
#[must_use]
#[inline(always)]
pub fn widen_up(x: f64, relative: f64, absolute: f64) -> f32 {
    up(x + (x.abs() * relative + absolute))
}

/// A lower bound of every value within `relative` and `absolute` of real values down to `x`.
#[must_use]
#[inline(always)]
pub fn widen_down(x: f64, relative: f64, absolute: f64) -> f32 {
    down(x - (x.abs() * relative + absolute))
}

/// The value of a box nearest to zero, as a magnitude.
#[must_use]
#[inline(always)]
pub fn least(lo: f32, hi: f32) -> f32 {
    if lo > 0.0 {
        lo
    } else if hi < 0.0 {
        -hi
    } else {
        0.0
    }
}

/// The value of a box farthest from zero, as a magnitude.
#[must_use]
#[inline(always)]
pub fn most(lo: f32, hi: f32) -> f32 {
    let (a, b) = (lo.abs(), hi.abs());
    if a > b { a } else { b }
}

/// [`least`] in f64.
#[must_use]
#[inline(always)]
pub fn least64(lo: f64, hi: f64) -> f64 {
    if lo > 0.0 {
        lo
    } else if hi < 0.0 {
        -hi
    } else {
        0.0
    }
}

/// [`most`] in f64.
#[must_use]
#[inline(always)]
pub fn most64(lo: f64, hi: f64) -> f64 {
    let (a, b) = (lo.abs(), hi.abs());
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_outward_at_the_ends_of_f32() {
        let tiny = f64::from(f32::from_bits(1));
        for x in [0.1f64, -0.1, 1.0, -1.0, 1e-46, -1e-46, 1e39, -1e39, 0.0, -0.0, tiny, -tiny] {
            assert!(f64::from(up(x)) >= x && f64::from(down(x)) <= x, "{x}");
            let near = x as f32;
            let (above, below) = (near.next_up(), near.next_down());
            let expected_up = if f64::from(near) < x { above } else { near };
            let expected_down = if f64::from(near) > x { below } else { near };
            assert_eq!(up(x).to_bits(), expected_up.to_bits(), "{x}");
            assert_eq!(down(x).to_bits(), expected_down.to_bits(), "{x}");
        }
        assert_eq!((up(1e39), down(1e39)), (f32::INFINITY, f32::MAX));
        assert_eq!((up(-1e39), down(-1e39)), (f32::MIN, f32::NEG_INFINITY));
        assert!(up(f64::NAN).is_nan() && down(f64::NAN).is_nan());
    }

    #[test]
    fn rounding_agrees_with_the_neighbours_of_the_library() {
        for step in (0..u32::MAX - 4096).step_by(65_521) {
            let x = f32::from_bits(step);
            let Some(third) = (!x.is_nan() && x.is_finite()).then(|| f64::from(x) / 3.0) else {
                continue;
            };
            let near = third as f32;
            let above = if f64::from(near) < third { near.next_up() } else { near };
            let below = if f64::from(near) > third { near.next_down() } else { near };
            assert_eq!(
                [up(third).to_bits(), down(third).to_bits()],
                [above, below].map(f32::to_bits)
            );
        }
    }
}
