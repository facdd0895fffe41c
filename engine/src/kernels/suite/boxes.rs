//! The results of programs over boxes, for the comparison of tables.

use super::{floats, paint};
use crate::kernels::{Kernels, Part};
use crate::numerics::INT8;
use crate::numerics::boxes::{CodeRow, NormRow, Panels, Reals, Scratch};

/// The results of the steps between products, of boxes with these gains: values and integers.
fn row_results(table: &Kernels, x: (&[f32], &[f32]), gains: &[f32]) -> Vec<(f32, f32)> {
    let (n, boxes) = (gains.len(), &table.boxes);
    let (mut low, mut high) = (vec![0.0; n], vec![0.0; n]);
    let (mut codes, mut widths) = (vec![0i8; n], vec![0u8; n]);
    let wide = |x: &[f32]| x.iter().map(|&x| 4.0 * f64::from(x)).collect::<Vec<f64>>();
    let (mut z_low, mut z_high) = (wide(x.0), wide(x.1));
    let (mut all, mut scratch) = (Vec::new(), Scratch::default());
    for (reals, eps, times) in [
        (Reals::Narrow(x), 1e-5, 1.0),
        (Reals::Narrow(x), 0.0, 1.0),
        (Reals::Wide((&z_low, &z_high)), 1e-5, 16.0),
    ] {
        let (real_eps, error) = ((f64::from(eps) * times, f64::from(eps) * times), 1e-6);
        let row = NormRow { x, reals, gains, eps, real_eps, error };
        let least = (boxes.norm)(&row, &mut scratch, (&mut low, &mut high));
        all.push(least.map_or((0.0, 0.0), |least| (least as f32, 1.0)));
        all.extend(low.iter().copied().zip(high.iter().copied()));
        for (ends, gains) in [(x, None), ((&low[..], &high[..]), Some(gains))] {
            let (least_absmax, levels) = (0.1, INT8);
            let row = CodeRow { x: ends, reals, gains, error, least_absmax, levels };
            all.push((boxes.codes)(&row, &mut scratch, (&mut codes, &mut widths)));
            all.extend(codes.iter().zip(&widths).map(|(&q, &w)| (f32::from(q), f32::from(w))));
        }
    }
    let sums = |x: &[f32]| x.iter().map(|x| (1e3 * x) as i32).collect::<Vec<i32>>();
    let (lower, upper) = (sums(x.0), sums(x.1));
    (boxes.gate_sums)((&lower, &upper), (&lower, &upper), (&mut z_low, &mut z_high));
    (boxes.relu2_gate)(x, (gains, gains), (&mut low, &mut high));
    all.extend(low.into_iter().zip(high));
    all.extend(z_low.into_iter().zip(z_high).map(|(a, b)| (a as f32, b as f32)));
    all
}

/// The results of all programs over boxes, `rows` rows of `n` values, as bits.
pub(super) fn box_results(table: &Kernels, rows: usize, n: usize) -> Vec<u64> {
    let above = |x: &[f32]| x.iter().map(|x| x + 0.25).collect::<Vec<f32>>();
    let (x, y) = (floats(n, 3), floats(rows * n, 101));
    let (x_above, y_above) = (above(&x), above(&y));
    let mut dots = vec![(0.0, 0.0); rows];
    (table.boxes.dots)((&x, &x_above), (&y, &y_above), &mut dots);
    let shares: Vec<(f32, f32)> = (0..rows).map(|i| (0.1, 0.1 + paint(i, 7) as f32)).collect();
    let (mut low, mut high) = (x.clone(), x.clone());
    (table.boxes.mix)(&shares, (&y, &y_above), (&mut low, &mut high));
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let (mut lower, mut upper) = (vec![0.0; rows], vec![0.0; rows]);
    let scores: Vec<_> = (0..rows).map(|i| (-f32::from(paint(i, 5)), 9.0)).collect();
    (table.boxes.weights)(&scores, 9.0, (&mut lower, &mut upper));
    let (mut ratios, panels) = (vec![0.0; n], Panels::of(wide(&y).into_iter(), n));
    (table.boxes.greatest)(&panels, (&lower, &upper), &vec![9.0; n], &mut ratios);
    let mut mixed = vec![(0.0, 0.0); rows];
    (table.boxes.shares)(&scores, &mut mixed);
    dots.extend(mixed);
    dots.extend(row_results(table, (&x, &x_above), &y[..n]));
    let dots = dots.iter().flat_map(|ends| [ends.0, ends.1]);
    let all: Vec<f32> = dots.chain(low).chain(high).collect();
    let mut all: Vec<u64> = wide(&all).into_iter().chain(ratios).map(f64::to_bits).collect();
    let sums: Vec<i32> = (0..rows * 48).map(|i| 300 * i32::from(paint(i, n)) - 9000).collect();
    let highs: Vec<i32> = sums.iter().map(|sum| sum + 77).collect();
    for corners in [table.boxes.multiply, table.boxes.divide] {
        let (mut ends, mut copies) = (vec![[[0.0; 41]; 2]; rows], vec![[[0; 41]; 2]; rows]);
        let parts = ends
            .iter_mut()
            .zip(&mut copies)
            .map(|([a, b], [c, d])| Part { values: (a, b), sums: Some((c, d)) });
        let scales: Vec<_> = (0..rows).map(|i| (13.0 + i as f32, 13.37 + i as f32)).collect();
        corners((&sums, &highs), &scales, 0.0625, &mut parts.collect::<Vec<_>>());
        all.extend(ends.as_flattened().as_flattened().iter().map(|x| u64::from(x.to_bits())));
        all.extend(copies.as_flattened().as_flattened().iter().map(|&x| x as u64));
    }
    all
}
