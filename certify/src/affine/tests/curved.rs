//! The last gated product and margins through it, at values of the symbols that are known.

use std::sync::Arc;

use engine::kernels::scalar;
use engine::model::random::SplitMix;

use super::super::form::Form;
use super::super::inputs::{Bound, Inputs};
use super::super::linear::Matrix;
use super::super::scores::dot;
use super::super::second::curved::{Behind, Curved, Layers, NormedGate, Side};
use super::super::second::rivals::Rivals;
use super::{form, late, linear, symbols, unit};

/// A row of a stream, and the two layers that read it.
pub(super) struct Product {
    pub(super) stream: Form,
    pub(super) gains: Vec<f64>,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) normed: NormedGate,
}

/// `[width, columns]` through a row.
pub(super) fn through(w: &[f64], row: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).map(|k| (0..row.len()).map(|i| w[i * columns + k] * row[i]).sum()).collect()
}

impl Product {
    pub(super) fn random(rng: &mut SplitMix, inputs: &Inputs, count: usize) -> Self {
        let (width, features) = (1 + rng.below(5), 1 + rng.below(7));
        let spread = [0.02, 0.1, 0.4][rng.below(3)];
        let stream = form(rng, width, count, (1.0, spread));
        Self::over(rng, inputs, stream, features)
    }

    /// Two layers of so many features over a stream.
    pub(super) fn over(rng: &mut SplitMix, inputs: &Inputs, stream: Form, features: usize) -> Self {
        let width = stream.width();
        let gains: Vec<f64> = (0..width).map(|_| 1.0 + 0.5 * unit(rng)).collect();
        let mut matrix = || {
            let w = (0..width * features).map(|_| rng.below(3) as f64 - 1.0).collect();
            Matrix { w, scale: 0.4 + 0.2 * unit(rng) }
        };
        let (gate, up) = (matrix(), matrix());
        let side = |matrix: &Matrix| {
            let w: Vec<f64> = matrix.w.iter().map(|w| w * matrix.scale).collect();
            let out = stream.product_of_scaled(scalar(), &gains, &w);
            Side { radii: out.radii(scalar(), inputs), c: out.c, rest: out.rest }
        };
        let (g, u) = (side(&gate), side(&up));
        let closed = g.c.iter().zip(&g.radii).map(|(c, r)| c + r <= 0.0).collect();
        let reading = late(&stream, &gains, None);
        let of = Arc::new(Behind { reading, gate: g, up: u, closed });
        let normed = NormedGate { of, gains: Arc::new(vec![1.0; features]), eps: (1e-5, 2e-5) };
        Self { stream, gains, gate, up, normed }
    }

    pub(super) fn features(&self) -> usize {
        self.gate.w.len() / self.gains.len()
    }

    /// The gated product where the stream has a value.
    pub(super) fn at(&self, stream: &[f64]) -> Vec<f64> {
        let row: Vec<f64> = stream.iter().zip(&self.gains).map(|(x, gain)| x * gain).collect();
        let of = |m: &Matrix| -> Vec<f64> {
            let out = through(&m.w, &row, self.features());
            out.into_iter().map(|x| x * m.scale).collect()
        };
        let (g, u) = (of(&self.gate), of(&self.up));
        g.iter().zip(u).map(|(&g, u)| if g > 0.0 { g * g * u } else { 0.0 }).collect()
    }

    pub(super) fn root(&self, x: &[f64], eps: f64) -> f64 {
        (dot(x, x) / x.len() as f64 + eps).sqrt()
    }
}

#[test]
fn a_gated_product_keeps_to_its_slopes_and_its_form() {
    let mut rng = SplitMix(61);
    let (mut tried, mut near, mut steep, mut coarse) = (0, 0, 0, 0);
    for _ in 0..2000 {
        let (count, inputs) = (1 + rng.below(5), Inputs::new(0, Bound::Each));
        let product = Product::random(&mut rng, &inputs, count);
        let layers = Layers { gate: &product.gate, up: &product.up };
        let Some(curved) = Curved::new(scalar(), &inputs, &product.normed, layers, None) else {
            continue;
        };
        let weights: Vec<f64> = (0..product.features()).map(|_| unit(&mut rng)).collect();
        let (slopes, (q, _)) = (curved.slopes(&weights), curved.form_of(&weights));
        let (lost, gained) = (curved.lost(&weights), curved.gained(&q, 0.0));
        let centre = product.at(&product.stream.c);
        let reading = &product.normed.of.reading;
        let (halves, closed) = (curved.rounding(reading), &product.normed.of.closed);
        let half = halves.iter().fold(0.0, |most, &half| if half > most { half } else { most });
        assert!(halves.iter().zip(closed).all(|(h, c)| *h == if *c { 0.0 } else { half }));
        for _ in 0..8 {
            let e = symbols(&mut rng, &Bound::Each, count);
            let stream = linear(&product.stream, &e);
            let moves: Vec<f64> = (stream.iter().zip(&product.stream.c).zip(&product.gains))
                .map(|((x, c), gain)| (x - c) * gain)
                .collect();
            let x = product.at(&stream);
            let second: f64 =
                q.chunks_exact(moves.len()).zip(&moves).map(|(q, m)| m * dot(q, &moves)).sum();
            let error: f64 = weights.iter().zip(&curved.error).map(|(w, e)| w.abs() * e).sum();
            let low = dot(&weights, &centre) + dot(&slopes, &moves) - second - error - 1e-12;
            let truth = dot(&weights, &x);
            assert!(low <= truth, "{low} > {truth}");
            assert!(
                second <= lost + 1e-12 && -second <= gained + 1e-12,
                "{lost} {second} {gained}"
            );
            near += usize::from(truth - low < 0.2 * second.abs());
            tried += 1;
            let largest = x.iter().fold(0.0, |most, x| if x.abs() > most { x.abs() } else { most });
            assert!(0.5 * largest / reading.top <= half, "{largest} {half}");
            coarse += usize::from(0.5 * largest / reading.top > 0.6 * half);
            let rise = linear(&curved.tangent, &e)[0];
            for eps in [1e-5, 2e-5] {
                let tangent: f64 = (x.iter().zip(&centre).zip(&curved.x))
                    .map(|((x, c), x0)| (x - c) * x0)
                    .sum::<f64>()
                    / (x.len() as f64 * curved.r0);
                let above = product.root(&x, eps) - curved.r0 - rise + curved.tangent_second;
                assert!(above >= -1e-12, "{above} below its tangent");
                steep += usize::from(above < 0.5 * rise.abs());
                let off = product.root(&x, eps) - curved.r0 - tangent;
                assert!((-1e-12..=curved.above + 1e-12).contains(&off), "{off} {}", curved.above);
            }
        }
    }
    assert!(tried > 5000 && near > tried / 8, "{near} of {tried} are near what is said");
    assert!(steep > tried / 4 && coarse > tried / 4, "{steep} and {coarse} of {tried}");
}

#[test]
fn margins_through_a_gated_product_are_not_below_what_is_said() {
    let mut rng = SplitMix(67);
    let (mut reached, mut said) = (0.0, 0.0);
    for _ in 0..3000 {
        let (count, inputs) = (1 + rng.below(4), Inputs::new(0, Bound::Each));
        let product = Product::random(&mut rng, &inputs, count);
        let layers = Layers { gate: &product.gate, up: &product.up };
        let Some(curved) = Curved::new(scalar(), &inputs, &product.normed, layers, None) else {
            continue;
        };
        let rivals = 1 + rng.below(3);
        let mut some = |count: usize| -> Vec<f64> { (0..count).map(|_| unit(&mut rng)).collect() };
        let (w, b) = (some(product.gains.len() * rivals), some(product.features() * rivals));
        let alpha = product.stream.product(scalar(), &w);
        let needed = vec![0.0; rivals];
        let low = curved.lower(&Rivals { w: &w, alpha: &alpha, b: &b, needed: &needed });
        let mut least = vec![f64::INFINITY; rivals];
        for _ in 0..16 {
            let e = symbols(&mut rng, &Bound::Each, count);
            let stream = linear(&product.stream, &e);
            let x = product.at(&stream);
            let (alpha, beta) = (through(&w, &stream, rivals), through(&b, &x, rivals));
            for eps in [1e-5, 2e-5] {
                let root = product.root(&x, eps);
                for k in 0..rivals {
                    let truth = alpha[k] * root + beta[k];
                    assert!(low[k] <= truth, "{} > {truth}", low[k]);
                    least[k] = if truth < least[k] { truth } else { least[k] };
                }
            }
        }
        let root = product.root(&product.at(&product.stream.c), 1e-5);
        let centre = through(&w, &product.stream.c, rivals);
        let x = through(&b, &product.at(&product.stream.c), rivals);
        for k in 0..rivals {
            let middle = centre[k] * root + x[k];
            reached += middle - least[k];
            said += middle - low[k];
        }
    }
    assert!(reached > 0.5 * said, "bounds are near: {reached} of {said}");
}

#[test]
fn a_gated_product_moves_with_boxes_by_no_more_than_its_reach() {
    let mut rng = SplitMix(71);
    let (mut tried, mut near) = (0, 0);
    for _ in 0..2000 {
        let inputs = Inputs::new(0, Bound::Each);
        let mut behind = Behind::clone(&Product::random(&mut rng, &inputs, 1).normed.of);
        let features = behind.closed.len();
        let mut side = || {
            let some = |scale: f64, rng: &mut SplitMix| -> Vec<f64> {
                (0..features).map(|_| scale * unit(rng)).collect()
            };
            let c = some(1.0, &mut rng);
            let [linear, rest] = [0.3, 0.1].map(|scale| -> Vec<f64> {
                some(scale, &mut rng).iter().map(|x| x.abs()).collect()
            });
            Side { radii: linear.iter().zip(&rest).map(|(a, b)| a + b).collect(), c, rest }
        };
        (behind.gate, behind.up) = (side(), side());
        let (gate, up) = (&behind.gate, &behind.up);
        behind.closed = gate.c.iter().zip(&gate.radii).map(|(c, r)| c + r <= 0.0).collect();
        let (error, largest) = behind.reach();
        for f in 0..features {
            let value = |side: &Side, linear: f64, rest: f64| {
                side.c[f] + linear * (side.radii[f] - side.rest[f]) + rest * side.rest[f]
            };
            let product = |g: f64, u: f64| if g > 0.0 { g * g * u } else { 0.0 };
            for corner in 0..16 {
                let sign = |bit: usize| if corner >> bit & 1 == 1 { 1.0 } else { -1.0 };
                let plain = product(value(gate, sign(0), 0.0), value(up, sign(1), 0.0));
                let moved = product(value(gate, sign(0), sign(2)), value(up, sign(1), sign(3)));
                assert!((moved - plain).abs() <= error[f], "{moved} {plain} {}", error[f]);
                assert!(moved.abs() <= largest[f], "{moved} {}", largest[f]);
                near += usize::from((moved - plain).abs() > 0.8 * error[f] && error[f] > 1e-6);
                tried += 1;
            }
        }
    }
    assert!(near > tried / 64, "{near} of {tried} are near what is said");
}
