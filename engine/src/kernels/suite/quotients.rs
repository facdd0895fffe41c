//! Values of sums, against the very division that defines them.

use crate::kernels::{Kernels, LANES, Part};
use crate::model::random::SplitMix;
use crate::numerics::{self, max, min};

/// The definition of a value: of a sum, the scale of its row and that of its tensor.
type Value = fn(i32, f32, f32) -> f32;

/// Values of sums, against the very division that defines them.
pub(super) fn rescaling_divides(table: &Kernels) {
    let mut random = SplitMix(9);
    let scales = [13.37, 0.0, f32::INFINITY, f32::NAN, 1.27e7, 4e-37, 1e-45, 3e38];
    for round in 0..4000 {
        let t = if round < 8 { scales[round] } else { random.unit() * 37.0 + 40.3 };
        let bits = t.to_bits() ^ (random.next_u64() & 0xfff) as u32;
        let t = if round < 8 { t } else { f32::from_bits(bits) };
        let ws = 0.01 + random.unit() / 128.0;
        let shift = random.below(31);
        let sums: Vec<i32> = (0..LANES).map(|_| (random.next_u64() as i32) >> shift).collect();
        let mut out = [0.0; LANES];
        for (rescale, groups, value) in [
            (table.multiply, table.multiply_groups, numerics::multiplied as Value),
            (table.divide, table.divide_groups, numerics::divided),
        ] {
            rescale(&sums, &[t], ws, &mut out, LANES);
            let mut again = [0.0; LANES];
            groups(&sums, &[t], ws, &mut [&mut again]);
            for (&sum, (out, again)) in sums.iter().zip(out.into_iter().zip(again)) {
                let expected = value(sum, t, ws);
                assert_eq!(out.to_bits(), again.to_bits(), "{} {sum} {t:e} {ws}", table.name);
                let same = out.to_bits() == expected.to_bits() || out.is_nan() && expected.is_nan();
                assert!(same, "{} {sum} {t:e} {ws}: {out} {expected}", table.name);
            }
        }
    }
}

/// The ends of values over boxes of sums and of scales, against the values at all corners.
pub(super) fn ends_are_those_of_the_corners(table: &Kernels) {
    let mut random = SplitMix(23);
    for round in 0..4000 {
        let t = random.unit() * 37.0 + 40.3;
        let t = *[1e30, 4e-37, -3.0, 0.0, 1e-45].get(round % 16).unwrap_or(&t);
        let scales = (t, if round % 2 == 0 { t } else { t * (1.0 + random.unit().abs()) });
        let ws = 0.01 + random.unit() / 128.0;
        let ws = *[-0.01, 1e-38, 0.0, f32::INFINITY, 1e38].get(round % 13).unwrap_or(&ws);
        let shift = random.below(31);
        let lows: Vec<i32> = (0..16).map(|_| (random.next_u64() as i32) >> shift).collect();
        let wide = [0, 1, 1000][random.below(3)];
        let highs: Vec<i32> = lows.iter().map(|low| low.saturating_add(wide)).collect();
        for (corners, value) in [
            (table.boxes.multiply, numerics::multiplied as Value),
            (table.boxes.divide, numerics::divided),
        ] {
            let (mut low, mut high, mut least, mut most) = ([9.0; 16], [9.0; 16], [9; 16], [9; 16]);
            let part = Part { values: (&mut low, &mut high), sums: Some((&mut least, &mut most)) };
            corners((&lows, &highs), &[scales], ws, &mut [part]);
            assert!(least[..] == lows && most[..] == highs, "{}", table.name);
            for i in 0..16 {
                let at = |sum, t| value(sum, t, ws);
                let (a, b) = (at(lows[i], scales.0), at(lows[i], scales.1));
                let (c, d) = (at(highs[i], scales.0), at(highs[i], scales.1));
                let expected = [min(min(a, b), min(c, d)), max(max(a, b), max(c, d))];
                for (found, expected) in [low[i], high[i]].into_iter().zip(expected) {
                    let nan = found.is_nan() && expected.is_nan();
                    let same = nan || found.to_bits() == expected.to_bits();
                    assert!(same, "{} {i} {scales:?} {ws}: {found} {expected}", table.name);
                }
            }
        }
    }
}

/// Quotients as near to the middle of two f32 as any are: `a / b` with `2^25 a - m b = k`, `m` odd
/// and of 25 bits, `k` small. The inverse of an odd `b` modulo `2^25` finds such an `m`.
pub(super) fn hard_quotients_are_rounded_to_the_nearest(table: &Kernels) {
    let mut random = SplitMix(17);
    let mut tried = 0;
    for round in 0..4000u64 {
        // The hardest divisors lie just below a power of two.
        let near = if round % 2 == 0 { 1 << 10 } else { 1 << 23 };
        let b = (1 << 24) - 1 - 2 * (random.next_u64() % near / 2);
        let inverse = (0..5).fold(b, |x, _| x.wrapping_mul(2u64.wrapping_sub(b.wrapping_mul(x))));
        let mut sums = [0i32; LANES];
        for (sum, k) in sums.iter_mut().zip((-63i64..).step_by(2)) {
            let m = (k.wrapping_neg() as u64).wrapping_mul(inverse) % (1 << 25);
            let product = (m * b).wrapping_add(k as u64);
            assert_eq!(product % (1 << 25), 0);
            let a = product >> 25;
            if m >= 1 << 24 && a < 1 << 24 {
                (*sum, tried) = (a as i32, tried + 1);
            }
        }
        let t = b as f32 / 65_536.0;
        let mut out = [0.0; LANES];
        (table.multiply)(&sums, &[t], 1.0, &mut out, LANES);
        for (&sum, out) in sums.iter().zip(out) {
            assert_eq!(out.to_bits(), (sum as f32 / t).to_bits(), "{} {sum} {b}", table.name);
        }
    }
    assert!(tried > 50_000, "{tried} hard quotients");
}
