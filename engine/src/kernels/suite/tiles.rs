//! Rows of halves, and products of several rows with several, held to those of one row with one.

use super::{bits, floats};
use crate::kernels::Kernels;
use crate::numerics::{dot16, widen_f16};

/// Counts of rows on both sides of every tile.
const COUNTS: [usize; 6] = [1, 2, 3, 4, 5, 9];

/// `dot16` of each pair of rows: `[row][x]`.
fn one_by_one(x: &[f32], rows: &[f32], width: usize) -> Vec<u32> {
    let each = |row| x.chunks_exact(width).map(move |x| dot16(x, row));
    bits(&rows.chunks_exact(width).flat_map(each).collect::<Vec<f32>>())
}

pub(super) fn tiles_are_their_rows(table: &Kernels) {
    for width in [1, 15, 16, 17, 48, 160, 257] {
        for (count, others) in COUNTS.into_iter().flat_map(|a| COUNTS.map(|b| (a, b))) {
            let (x, rows) = (floats(count * width, 3), floats(others * width, 57));
            let mut out = vec![f32::NAN; count * others];
            (table.dot_tile)(&x, width, &rows, &mut out);
            let name = format!("{} {width} {count} {others}", table.name);
            assert_eq!(bits(&out), one_by_one(&x, &rows, width), "{name}");
            let halves: Vec<u16> = rows.iter().map(|v| half::f16::from_f32(*v).to_bits()).collect();
            let rows: Vec<f32> = halves.iter().map(|&bits| widen_f16(bits)).collect();
            out.fill(f32::NAN);
            (table.halves.dot_tile)(&x, width, &halves, &mut out);
            assert_eq!(bits(&out), one_by_one(&x, &rows, width), "{name}");
        }
    }
}

/// Every pattern of 16 bits, the NaNs too, in every place of a register.
pub(super) fn halves_are_the_values_of_their_bits(table: &Kernels) {
    for shift in 0..=16 {
        let halves: Vec<u16> = (shift..=u16::MAX).collect();
        let mut out = vec![0.0; halves.len()];
        (table.halves.widen)(&halves, &mut out);
        for (&half, value) in halves.iter().zip(out) {
            let expected = widen_f16(half).to_bits();
            assert_eq!(value.to_bits(), expected, "{} {half:#06x}", table.name);
        }
    }
}
