//! Remainders of one division, bounded together.

use std::sync::Arc;

use super::super::joint::{Group, Together};
use super::super::quotient::Division;
use super::*;

/// A row, outputs of it behind its root mean square, and their remainders as a group.
struct Case {
    inputs: Inputs,
    z: Form,
    numerators: Form,
    y: Form,
    scale: f64,
    /// The radii of all boxes, and what of them is not the division's.
    total: Vec<f64>,
    more: Vec<f64>,
    group: Group,
}

fn case(rng: &mut SplitMix, bound: Bound) -> Option<Case> {
    let (width, count) = (2 + rng.below(5), 2 + rng.below(6));
    let inputs = Inputs::new(count, bound);
    let spread = [0.05, 0.3, 0.8][rng.below(3)];
    let z = form(rng, width, count, (1.0, spread));
    let radii = z.radii(scalar(), &inputs);
    let end = |sign: f64| z.c.iter().zip(&radii).map(|(c, r)| c + sign * r).collect();
    let (lo, hi): (Vec<f64>, Vec<f64>) = (end(-1.0), end(1.0));
    let quotient = Arc::new(Quotient::new(scalar(), &inputs, &z, (&lo, &hi), (1e-5, 1e-5))?);
    let outputs = 1 + rng.below(6);
    let w: Vec<f64> = (0..width * outputs).map(|_| unit(rng)).collect();
    let mut y = z.product(scalar(), &w);
    let boxed = [0.0, 0.02 * spread][rng.below(2)];
    y.rest.fill(boxed);
    let numerators = y.clone();
    let (shift, second) = quotient.divide(scalar(), &inputs, &mut y)?;
    let scale = [1.0, -3.0][rng.below(2)];
    y.scale(scale);
    let part: Vec<f64> = second.iter().map(|x| x * scale.abs()).collect();
    let more: Vec<f64> = part.iter().map(|x| x * [0.0, 0.5][rng.below(2)]).collect();
    let total: Vec<f64> = y.rest.iter().zip(&more).map(|(a, b)| a + b).collect();
    let division = Division { y: numerators.clone(), quotient, shift, scale };
    let together = Together { part, of: Arc::new(division) };
    let group = Group::new(Span { first: 100, count: outputs }, &total, together);
    Some(Case { inputs, z, numerators, y, scale, total, more, group })
}

#[test]
fn sums_of_remainders_are_within_what_their_own_division_leaves() {
    let mut rng = SplitMix(41);
    let (mut tried, mut smaller) = (0, 0);
    for index in 0..4000 {
        let Some(case) = case(&mut rng, BOUNDS[index % 3].clone()) else { continue };
        let outputs = case.total.len();
        let c: Vec<f64> = (0..2 * outputs).map(|_| unit(&mut rng)).collect();
        let most = case.group.most(scalar(), &case.inputs, &c, 2);
        let column = |k: usize| c.iter().skip(k).step_by(2);
        let plain = |k: usize| column(k).map(|c| c.abs()).sum::<f64>();
        assert!((0..2).all(|k| most[k] <= plain(k)));
        smaller += (0..2).filter(|&k| most[k] < 0.8 * plain(k)).count();
        for _ in 0..12 {
            let e = symbols(&mut rng, &case.inputs.bound, case.inputs.end);
            let x = linear(&case.z, &e);
            let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            let root = (mean + 1e-5).sqrt() / case.scale;
            let truth = point(&mut rng, &case.numerators, &e).into_iter().map(|y| y / root);
            let off: Vec<f64> = truth.zip(linear(&case.y, &e)).map(|(a, b)| a - b).collect();
            for (k, most) in most.iter().enumerate() {
                let mu = column(k).zip(&case.total).map(|(c, total)| c / total);
                // Whatever else there is goes the same way.
                let (by_division, besides) = (mu.zip(&off).zip(&case.more))
                    .map(|((mu, off), more)| (mu * off, mu.abs() * more))
                    .fold((0.0, 0.0), |sum, x| (sum.0 + x.0, sum.1 + x.1));
                let sum = by_division.abs() + besides;
                assert!(sum <= most * (1.0 + 1e-9), "{sum} > {most}, case {index}");
                tried += 1;
            }
        }
    }
    assert!(tried > 30_000 && smaller > 1000, "{tried} tried, {smaller} smaller");
}

#[test]
fn a_value_that_became_a_box_counts_alone() {
    let mut rng = SplitMix(43);
    let mut tried = 0;
    for _ in 0..300 {
        let Some(Case { inputs, total, group, .. }) = case(&mut rng, Bound::Each) else { continue };
        let mut now = total.clone();
        now[0] *= 2.0;
        let forgotten = group.forgetting(&total, &now);
        for _ in 0..8 {
            let c: Vec<f64> = total.iter().map(|_| unit(&mut rng)).collect();
            let most = forgotten.most(scalar(), &inputs, &c, 1)[0];
            assert!(most >= c[0].abs(), "{most} is less than the one box {c:?}");
            tried += 1;
        }
    }
    assert!(tried > 1000, "{tried}");
}

#[test]
fn what_is_no_number_bounds_nothing() {
    let mut rng = SplitMix(47);
    let case = (0..50).find_map(|_| case(&mut rng, Bound::Each)).expect("some row is far from 0");
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for index in 0..case.total.len() {
            let mut c = vec![0.5; case.total.len()];
            c[index] = bad;
            let most = case.group.most(scalar(), &case.inputs, &c, 1)[0];
            assert!(!most.is_finite(), "{bad} at {index} gives {most}");
        }
    }
}
