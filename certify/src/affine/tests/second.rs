//! What the second order of the last layer is, at values of the symbols that are known.

use std::sync::Arc;

use engine::kernels::scalar;
use engine::model::random::SplitMix;

use super::super::attend::Attention;
use super::super::energy::Energy;
use super::super::form::{Form, Span};
use super::super::inputs::{Bound, Inputs};
use super::super::past::Mix;
use super::super::scores::{Scored, dot};
use super::super::second::draft::Draft;
use super::super::second::dual::Quadratic;
use super::super::second::latent::{Latents, Layout};
use super::super::second::psd::Factor;
use super::{form, linear, mix, point, symbols, tokens, unit};

pub(super) fn random(rng: &mut SplitMix, count: usize, size: f64) -> Vec<f64> {
    (0..count).map(|_| size * unit(rng)).collect()
}

fn symmetric(rng: &mut SplitMix, width: usize, size: f64) -> Vec<f64> {
    let mut q = vec![0.0; width * width];
    for i in 0..width {
        for j in 0..=i {
            let x = size * unit(rng);
            (q[i * width + j], q[j * width + i]) = (x, x);
        }
    }
    q
}

pub(super) fn value(q: &[f64], y: &[f64]) -> f64 {
    q.chunks_exact(y.len()).zip(y).map(|(row, own)| own * dot(row, y)).sum()
}

#[test]
fn forms_of_values_with_an_energy_are_bounded_from_above_and_not_far_off() {
    let mut rng = SplitMix(41);
    for _ in 0..400 {
        let (width, count) = (1 + rng.below(6), 1 + rng.below(9));
        let rows = random(&mut rng, count * width, 1.0);
        let inputs = Inputs::new(0, Bound::Each);
        let spans = [Span { first: 0, count }];
        let energy = inputs.energy(scalar(), &spans, &rows, &vec![0.0; width]);
        let factor = Factor::new(energy.matrix(), width, 0).expect("values move");
        let q = symmetric(&mut rng, width, 1.0);
        let most = energy.weight * factor.most(&q, 0.0);
        for _ in 0..40 {
            let e = symbols(&mut rng, &Bound::Each, count);
            let mut y = vec![0.0; width];
            for (row, e) in rows.chunks_exact(width).zip(&e) {
                y.iter_mut().zip(row).for_each(|(y, x)| *y += e * x);
            }
            assert!(value(&q, &y) <= most * (1.0 + 1e-9), "{} > {most}", value(&q, &y));
        }
        if width == 1 {
            let radius: f64 = rows.iter().map(|x| x.abs()).sum();
            let truth = if q[0] > 0.0 { q[0] * radius * radius } else { 0.0 };
            // Below a thousandth of the size nothing is told apart.
            let least = 1.1e-3 * q[0].abs() * radius * radius;
            assert!(most <= truth * 1.02 + least, "{most} for {truth}");
        }
    }
}

/// A random function of few symbols, with a block now and then.
fn function(rng: &mut SplitMix, symbols: usize) -> Quadratic {
    let width = 1 + rng.below(5);
    let size = [0.0, 0.05, 0.3, 1.0, 3.0][rng.below(5)];
    let mut blocks = Vec::new();
    if rng.below(2) == 0 {
        let mut energy = Energy::of_box(&vec![0.0; width]);
        for _ in 0..1 + rng.below(3) {
            energy.add_vector(&random(rng, width, 0.5), 1.0);
        }
        blocks.push((energy.weight, energy.matrix().to_vec()));
    }
    let linear = [0.0, 1.0][rng.below(2)];
    Quadratic {
        linear: random(rng, symbols, linear),
        rows: random(rng, symbols * width, 1.0),
        q: symmetric(rng, width, size),
        blocks,
        width,
        error: 0.0,
    }
}

/// The largest value at the corners, each with the best values of a block that were found.
fn at_corners(of: &Quadratic, rng: &mut SplitMix) -> f64 {
    let (count, width) = (of.linear.len(), of.width);
    let mut most = f64::NEG_INFINITY;
    for corner in 0..1usize << count {
        let e: Vec<f64> =
            (0..count).map(|s| if corner >> s & 1 == 1 { 1.0 } else { -1.0 }).collect();
        let mut y = vec![0.0; width];
        for (row, e) in of.rows.chunks_exact(width).zip(&e) {
            y.iter_mut().zip(row).for_each(|(y, x)| *y += e * x);
        }
        let own = dot(&of.linear, &e);
        let mut with = vec![y.clone()];
        for (weight, matrix) in &of.blocks {
            // For any a, D C a / sqrt(D a' C a) is one of its values.
            for _ in 0..4 {
                let a = random(rng, width, 1.0);
                let image: Vec<f64> = matrix.chunks_exact(width).map(|row| dot(row, &a)).collect();
                let scale = (weight / (dot(&image, &a) + 1e-300)).sqrt();
                with.push(y.iter().zip(&image).map(|(y, x)| y + scale * x).collect());
            }
        }
        for y in with {
            let own = own + value(&of.q, &y);
            most = if own > most { own } else { most };
        }
    }
    most
}

#[test]
fn a_quadratic_function_is_bounded_from_above_at_every_corner() {
    let mut rng = SplitMix(43);
    let (mut bounds, mut truths) = (0.0, 0.0);
    for _ in 0..1500 {
        let count = 1 + rng.below(8);
        let of = function(&mut rng, count);
        let weights = of.weights(scalar());
        let bound = of.most_by(scalar(), &weights);
        let truth = at_corners(&of, &mut rng);
        assert!(truth <= bound + 1e-9 * (1.0 + bound.abs()), "{truth} > {bound}");
        // Weights of another function may be bad, and the bound is still one.
        let mut other = function(&mut rng, count);
        (other.width, other.blocks) = (of.width, Vec::new());
        other.rows = random(&mut rng, count * of.width, 1.0);
        other.q = symmetric(&mut rng, of.width, 0.5);
        if of.blocks.is_empty() {
            let by_others = of.most_by(scalar(), &other.weights(scalar()));
            let room = 1e-9 * (1.0 + by_others.abs());
            assert!(truth <= by_others + room, "{truth} > {by_others} by others");
            // Not so where no value moves at all.
            if bound.is_finite() {
                (bounds, truths) = (bounds + bound, truths + truth);
            }
        }
    }
    assert!(bounds <= 1.25 * truths, "on the whole near: {bounds} for {truths}");
}

#[test]
fn a_linear_function_is_bounded_by_its_magnitudes() {
    let rows = vec![0.0; 6];
    let of = Quadratic {
        linear: vec![1.0, -2.0, 0.0],
        rows: rows.clone(),
        q: vec![0.5, 0.0, 0.0, 0.5],
        blocks: Vec::new(),
        width: 2,
        error: 0.0,
    };
    // No latent value moves: nothing is known of a factor, and nothing false is said.
    assert!(of.most_by(scalar(), &of.weights(scalar())) >= 3.0);
    let of = Quadratic { rows: vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0], q: vec![0.0; 4], ..of };
    let bound = of.most_by(scalar(), &of.weights(scalar()));
    assert!((3.0..3.05).contains(&bound), "{bound}");
}

/// The mixes of a query over two groups of heads.
pub(super) fn attended(
    query: &[f64],
    (keys, values): (&[Vec<f64>], &[Vec<f64>]),
    (heads, dim): (usize, usize),
    factor: f64,
) -> Vec<f64> {
    let one = |head: usize| {
        let at = head / 2 * dim..(head / 2 + 1) * dim;
        let k: Vec<&[f64]> = keys.iter().map(|row| &row[at.clone()]).collect();
        let v: Vec<&[f64]> = values.iter().map(|row| &row[at.clone()]).collect();
        mix(&query[head * dim..(head + 1) * dim], &k, &v, factor)
    };
    (0..heads).flat_map(one).collect()
}

/// A query, keys and values: all of them move, or one, or few, so that one term is nearly all that
/// is left of attention.
pub(super) fn some_moving(
    rng: &mut SplitMix,
    (seen, count): (usize, usize),
    (spread, boxes): (f64, f64),
    [heads, kv_heads, dim]: [usize; 3],
) -> Vec<Form> {
    let (how, one, value) = (rng.below(4), rng.below(2 * seen + 1), 1 + seen + rng.below(seen));
    (0..=2 * seen)
        .map(|index| {
            let few = index == one || index == value;
            let moves = [true, rng.below(4) == 0, index == one, few][how];
            let width = if index == 0 { heads } else { kv_heads } * dim;
            let mut row = form(rng, width, count, (1.0, if moves { spread } else { 0.0 }));
            row.rest.fill(boxes);
            row
        })
        .collect()
}

/// A row of attention, and what it was made of.
pub(super) fn mixed(attention: &Attention<'_>, query: &Form, seen: usize) -> (Form, Mix) {
    let (out, shift, error) = attention.rows(std::slice::from_ref(query), seen - 1).swap_remove(0);
    let rest = out.rest.clone();
    let values: Vec<usize> = (0..rest.len()).filter(|&k| rest[k] > 0.0).collect();
    let query = Arc::new(query.clone());
    (out, Mix { query, seen, shift, error, rest, span: None, values })
}

#[test]
fn attention_is_what_its_second_order_says_up_to_a_rest() {
    let mut rng = SplitMix(47);
    let (heads, kv_heads, dim, factor) = (4, 2, 2, 0.7);
    let (mut near, mut far) = (0.0, 0.0);
    for _ in 0..8000 {
        let (count, seen) = (1 + rng.below(5), 1 + rng.below(4));
        let inputs = Inputs::new(0, Bound::Each);
        let spread = [0.01, 0.1, 0.3, 0.8][rng.below(4)];
        let boxes = [0.0, 0.05][rng.below(2)] * spread;
        let mut rows =
            some_moving(&mut rng, (seen, count), (spread, boxes), [heads, kv_heads, dim]);
        let (query, values) = (rows.remove(0), rows.split_off(seen));
        let keys = rows;
        let tokens = tokens(&inputs, &keys, &values, (kv_heads, dim));
        let kernels = scalar();
        let (inputs, tokens) = (&inputs, &tokens[..]);
        let attention =
            Attention { kernels, inputs, tokens, heads, kv_heads, dim, factor, grain: 1 };
        let (out, mix_of) = mixed(&attention, &query, seen);
        let spans = attention.spans(&query, seen);
        let scored: Vec<Scored<'_>> =
            (0..heads).map(|h| Scored::new(&attention, &query, (&spans, tokens), h)).collect();
        let layout = Layout { width: 0, mixed: heads * dim, heads, tokens: seen, dim };
        let latents = Latents {
            kernels,
            inputs,
            mix: &mix_of,
            spans: &spans,
            heads: &scored,
            layout: &layout,
        };
        let mut lambda = random(&mut rng, heads * dim, 1.0);
        if rng.below(2) == 0 {
            let one = rng.below(heads * dim);
            lambda.iter_mut().enumerate().for_each(|(k, x)| *x = f64::from(u8::from(k == one)));
        }
        let coefficients: Vec<f64> =
            mix_of.values.iter().map(|&k| lambda[k] * out.rest[k]).collect();
        let m = layout.all();
        let mut draft = Draft { width: m, q: vec![0.0; m * m], rows: vec![0.0; count * m] };
        let of = latents.attention(&coefficients, &mut draft, 1.0);
        for _ in 0..8 {
            let e = symbols(&mut rng, &Bound::Each, count);
            let mut all = |rows: &[Form]| -> Vec<Vec<f64>> {
                rows.iter().map(|row| point(&mut rng, row, &e)).collect()
            };
            let (q, k, v) = (all(std::slice::from_ref(&query)), all(&keys), all(&values));
            let truth = attended(&q[0], (&k, &v), (heads, dim), factor);
            let off = truth.iter().zip(linear(&out, &e)).zip(&lambda);
            let off: f64 = off.map(|((truth, value), by)| by * (truth - value)).sum();
            let mut y = vec![0.0; m];
            for (row, e) in draft.rows.chunks_exact(m).zip(&e) {
                y.iter_mut().zip(row).for_each(|(y, x)| *y += e * x);
            }
            // The form takes from a margin what attention adds to it.
            let left = (off - of.shift + value(&draft.q, &y)).abs();
            assert!(left <= of.rest * (1.0 + 1e-9) + 1e-12, "{left} is left, not {}", of.rest);
            assert!(value(&draft.q, &y).abs() <= of.second * (1.0 + 1e-9) + 1e-12);
            if spread < 0.05 && boxes == 0.0 {
                (near, far) = (near + left, far + off.abs());
            }
        }
    }
    assert!(near < 0.1 * far, "the form is most of what is not linear: {near} of {far} is left");
}
