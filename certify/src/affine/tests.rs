//! Steps of the affine domain against the reals, with the values of the symbols known.
//!
//! Every symbol has a value here, so the linear part is known too, and what is left must lie within
//! the form's own box: a dropped remainder shows at once. Sets are small and wide.

use std::sync::Arc;

use engine::kernels::scalar;
use engine::model::random::SplitMix;
use engine::model::{Float, Gate};
use engine::numerics::exp_f64;

use super::attend::Attention;
use super::form::{Form, Span};
use super::gate::gate;
use super::inputs::{Bound, Inputs};
use super::margin::{Final, Stream};
use super::quotient::Quotient;
use super::sites::Reading;
use super::store::{Head, Token};

mod attended;
mod curved;
mod lost;
mod past;
mod refine;
mod second;
mod store;

const BOUNDS: [Bound; 3] = [Bound::Each, Bound::Euclid, Bound::Simplex];

fn unit(rng: &mut SplitMix) -> f64 {
    f64::from(rng.unit())
}

/// A form over the first symbols, of a centre and a spread.
fn form(rng: &mut SplitMix, width: usize, symbols: usize, (centre, spread): (f64, f64)) -> Form {
    let values = |count: usize, size: f64, rng: &mut SplitMix| -> Vec<f64> {
        (0..count).map(|_| size * unit(rng)).collect()
    };
    Form {
        c: values(width, centre, rng),
        spans: vec![Span { first: 0, count: symbols }],
        g: values(width * symbols, spread / symbols as f64, rng),
        rest: vec![0.0; width],
    }
}

/// Values of the symbols that the bound allows, often extreme ones.
fn symbols(rng: &mut SplitMix, bound: &Bound, count: usize) -> Vec<f64> {
    let extreme = rng.below(3) > 0;
    let mut e: Vec<f64> =
        (0..count).map(|_| if extreme { [-1.0, 1.0][rng.below(2)] } else { unit(rng) }).collect();
    let norm = match bound {
        Bound::Each | Bound::Budget(_) => 1.0,
        Bound::Euclid => e.iter().map(|x| x * x).sum::<f64>().sqrt(),
        Bound::Simplex if extreme => {
            // A corner: one symbol alone.
            let one = rng.below(count);
            e.iter_mut().enumerate().for_each(|(k, x)| *x *= f64::from(u8::from(k == one)));
            1.0
        }
        Bound::Simplex => e.iter().map(|x| x.abs()).sum(),
    };
    e.iter_mut().for_each(|x| *x /= if norm > 1.0 || extreme { norm } else { 1.0 });
    e
}

/// The centre and the linear part at the values of the symbols.
fn linear(form: &Form, e: &[f64]) -> Vec<f64> {
    let width = form.width();
    let mut value = form.c.clone();
    let known = form.spans.iter().flat_map(|span| span.first..span.first + span.count);
    for (symbol, row) in known.zip(form.g.chunks_exact(width)) {
        value.iter_mut().zip(row).for_each(|(sum, g)| *sum += g * e[symbol]);
    }
    value
}

/// A point of a form: its linear part, and anything in its boxes.
fn point(rng: &mut SplitMix, form: &Form, e: &[f64]) -> Vec<f64> {
    let mut end = |rest: f64| rest * [-1.0, 1.0, unit(rng)][rng.below(3)];
    linear(form, e).into_iter().zip(&form.rest).map(|(x, &rest)| x + end(rest)).collect()
}

fn inside(what: &str, truth: &[f64], form: &Form, e: &[f64]) {
    for (k, (truth, value)) in truth.iter().zip(linear(form, e)).enumerate() {
        let (off, rest) = ((truth - value).abs(), form.rest[k]);
        assert!(off <= rest * (1.0 + 1e-9) + 1e-300, "{what}: value {k} is {off} off, not {rest}");
    }
}

#[test]
fn quotients_hold_what_the_linear_part_leaves() {
    let mut rng = SplitMix(11);
    for index in 0..6000 {
        let (width, count) = (1 + rng.below(5), 1 + rng.below(7));
        let inputs = Inputs::new(count, BOUNDS[index % 3].clone());
        let spread = [0.001, 0.1, 0.5, 0.9, 2.0][rng.below(5)];
        let z = form(&mut rng, width, count, (1.0, spread));
        let eps = ([0.0, 1e-5, 0.1][rng.below(3)], [0.0, 0.2][rng.below(2)]);
        let eps = (eps.0, eps.0 + eps.1);
        let radii = z.radii(scalar(), &inputs);
        let ends =
            |sign: f64| -> Vec<f64> { z.c.iter().zip(&radii).map(|(c, r)| c + sign * r).collect() };
        let quotient = Quotient::new(scalar(), &inputs, &z, (&ends(-1.0), &ends(1.0)), eps);
        let Some(quotient) = quotient else { continue };
        let w: Vec<f64> = (0..2 * width).map(|_| unit(&mut rng)).collect();
        let mut y = z.product(scalar(), &w);
        y.rest = vec![0.0, 0.1 * spread * unit(&mut rng).abs()];
        let before = y.clone();
        quotient.divide(scalar(), &inputs, &mut y);
        for _ in 0..12 {
            let e = symbols(&mut rng, &inputs.bound, count);
            let x = linear(&z, &e);
            let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
            let root = (mean + eps.0 + (eps.1 - eps.0) * rng.below(3) as f64 / 2.0).sqrt();
            assert!(quotient.least <= root && root <= quotient.most, "{root} in {quotient:?}");
            let by_r = quotient.rc + quotient.r.iter().zip(&e).map(|(r, e)| r * e).sum::<f64>();
            assert!((root - by_r).abs() <= quotient.half * (1.0 + 1e-9), "{root} {by_r}");
            let truth: Vec<f64> = point(&mut rng, &before, &e).iter().map(|y| y / root).collect();
            inside("quotient", &truth, &y, &e);
        }
    }
}

#[test]
fn gates_hold_what_the_linear_part_leaves() {
    let mut rng = SplitMix(13);
    for index in 0..6000 {
        let (width, count) = (3, 1 + rng.below(5));
        let inputs = Inputs::new(count, BOUNDS[index % 3].clone());
        let kind = [Gate::Relu2, Gate::Silu][index / 3 % 2];
        let size = [1.0, 4.0, 2000.0][rng.below(3)];
        let spread = [0.01, 0.5, 2.0, 5.0][rng.below(4)];
        let mut g = form(&mut rng, width, count, (size, spread));
        let mut u = form(&mut rng, width, count, (1.0, spread));
        for rest in g.rest.iter_mut().chain(&mut u.rest) {
            *rest = [0.0, 0.2, 1.0][rng.below(3)] * spread;
        }
        let z = gate(scalar(), &inputs, (&g, &u), kind);
        for _ in 0..12 {
            let e = symbols(&mut rng, &inputs.bound, count);
            let (x, y) = (point(&mut rng, &g, &e), point(&mut rng, &u, &e));
            let h = |x: f64| match kind {
                Gate::Relu2 => x.clamp(0.0, f64::INFINITY) * x,
                Gate::Silu => x / (1.0 + exp_f64(-x.clamp(-600.0, 600.0))),
            };
            let truth: Vec<f64> = x.iter().zip(&y).map(|(&x, y)| h(x) * y).collect();
            inside("gate", &truth, &z, &e);
        }
    }
}

/// A row that is all late, without rounding.
fn late(form: &Form, gains: &[f64], quotient: Option<&Quotient>) -> Reading {
    let zeros = vec![0.0; form.width()];
    Reading {
        form: Arc::new(form.clone()),
        gains: gains.to_vec(),
        quotient: quotient.map(|quotient| Arc::new(quotient.clone())),
        centres: zeros.clone(),
        boxes: zeros.clone(),
        fixed: None,
        noise: zeros.clone(),
        span: Span { first: 1000, count: 0 },
        most: zeros.clone(),
        slack: zeros,
        error: 0.0,
        boxed: false,
        top: 127.0,
        past: None,
        taken: None,
    }
}

#[test]
fn undivided_margins_are_not_positive_where_some_symbols_decide_otherwise() {
    let mut rng = SplitMix(29);
    let (head, eps) = (Float::F32 { data: vec![0.0], columns: 1 }, (1e-5, 1e-5));
    for index in 0..6000 {
        let (width, count) = (1 + rng.below(3), 1 + rng.below(3));
        let inputs = Inputs::new(count, BOUNDS[index % 3].clone());
        let spread = [0.01, 0.1, 0.3, 0.8][rng.below(4)];
        let z = form(&mut rng, width, count, (1.0, spread));
        let mut alpha = form(&mut rng, 1, count, (0.0, 3.0 * spread));
        let radii = z.radii(scalar(), &inputs);
        let end = |sign: f64| z.c.iter().zip(&radii).map(|(c, r)| c + sign * r).collect();
        let (lo, hi): (Vec<f64>, Vec<f64>) = (end(-1.0), end(1.0));
        let quotient = Quotient::new(scalar(), &inputs, &z, (&lo, &hi), eps);
        let Some(quotient) = quotient else { continue };
        let mut values = || -> Vec<f64> { (0..width).map(|_| 2.0 * unit(&mut rng)).collect() };
        let (gains, through) = (values(), values());
        let margin = |alpha: &Form, e: &[f64]| {
            let x = linear(&z, e);
            let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
            let beta: f64 = (0..width).map(|k| through[k] * gains[k] * x[k]).sum();
            linear(alpha, e)[0] + beta / (mean + eps.0).sqrt()
        };
        let tried: Vec<Vec<f64>> =
            (0..24).map(|_| symbols(&mut rng, &inputs.bound, count)).collect();
        let least = tried
            .iter()
            .map(|e| margin(&alpha, e))
            .fold(f64::INFINITY, |a, b| if b < a { b } else { a });
        alpha.c[0] -= least;
        let of = Final {
            kernels: scalar(),
            inputs: &inputs,
            stream: Stream::Form(&z),
            ends: (&lo, &hi),
            gains: &gains,
            eps,
            head: &head,
            layers: None,
            behind: None,
        };
        let low = of.undivided(&alpha, &late(&z, &gains, Some(&quotient)), &through);
        let low = low.expect("all sites are late")[0];
        assert!(low <= 1e-12, "{low} is above 0, case {index}");
    }
}

#[test]
fn energies_are_not_below_what_one_symbol_reaches() {
    let mut rng = SplitMix(17);
    for index in 0..600 {
        let (width, count) = (1 + rng.below(4), 1 + rng.below(5));
        let inputs = Inputs::new(count, BOUNDS[index % 3].clone());
        let (x, y) =
            (form(&mut rng, width, count, (0.0, 1.0)), form(&mut rng, width, count, (0.0, 1.0)));
        let energy = |form: &Form| inputs.energy(scalar(), &form.spans, &form.g, &form.rest);
        let (squares, product) =
            (energy(&x).squares(scalar()), energy(&x).bilinear(scalar(), &energy(&y)));
        for _ in 0..12 {
            let e = symbols(&mut rng, &inputs.bound, count);
            let (a, b) = (linear(&x, &e), linear(&y, &e));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            assert!(dot(&a, &a) <= squares * (1.0 + 1e-9), "{} > {squares}", dot(&a, &a));
            assert!(dot(&a, &b).abs() <= product * (1.0 + 1e-9), "{} > {product}", dot(&a, &b));
        }
    }
}

/// The tokens of keys and values as attention reads them.
fn tokens(
    inputs: &Inputs,
    keys: &[Form],
    values: &[Form],
    (heads, dim): (usize, usize),
) -> Vec<Token> {
    let split = |form: &Form| -> Vec<Head> {
        (0..heads).map(|head| Head::of(scalar(), inputs, form, head, dim)).collect()
    };
    let token = |(key, value): (&Form, &Form)| Token {
        key_spans: key.spans.clone(),
        value_spans: value.spans.clone(),
        keys: split(key),
        values: split(value),
    };
    keys.iter().zip(values).map(token).collect()
}

/// The mix of one head over the reals.
fn mix(q: &[f64], keys: &[&[f64]], values: &[&[f64]], factor: f64) -> Vec<f64> {
    let dot = |k: &[f64]| factor * q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
    let weights: Vec<f64> = keys.iter().map(|k| exp_f64(dot(k))).collect();
    let total: f64 = weights.iter().sum();
    let value = |d: usize| weights.iter().zip(values).map(|(w, v)| w * v[d]).sum::<f64>() / total;
    (0..q.len()).map(value).collect()
}

#[test]
fn attention_holds_what_the_linear_part_leaves() {
    let mut rng = SplitMix(19);
    let (heads, kv_heads, dim) = (4, 2, 2);
    for index in 0..1500 {
        let count = 1 + rng.below(4);
        let inputs = Inputs::new(count, BOUNDS[index % 3].clone());
        let spread = [0.01, 0.2, 0.6, 1.2][rng.below(4)];
        let row = |width: usize, rng: &mut SplitMix| {
            let mut row = form(rng, width, count, (1.0, spread));
            let rest = [0.0, 0.1, 0.4][rng.below(3)] * spread;
            row.rest.fill(rest);
            row
        };
        let seen = 1 + rng.below(3);
        let queries: Vec<Form> = (0..seen).map(|_| row(heads * dim, &mut rng)).collect();
        let keys: Vec<Form> = (0..seen).map(|_| row(kv_heads * dim, &mut rng)).collect();
        let values: Vec<Form> = (0..seen).map(|_| row(kv_heads * dim, &mut rng)).collect();
        let tokens = tokens(&inputs, &keys, &values, (kv_heads, dim));
        let kernels = scalar();
        let attention = Attention {
            kernels,
            inputs: &inputs,
            tokens: &tokens,
            heads,
            kv_heads,
            dim,
            factor: 0.7,
            grain: 1,
        };
        let mixed = attention.rows(&queries, 0);
        for _ in 0..8 {
            let e = symbols(&mut rng, &inputs.bound, count);
            let mut all = |rows: &[Form]| -> Vec<Vec<f64>> {
                rows.iter().map(|row| point(&mut rng, row, &e)).collect()
            };
            let (q, k, v) = (all(&queries), all(&keys), all(&values));
            for (at, out) in mixed.iter().enumerate() {
                let part = |rows: &'_ [Vec<f64>], head: usize| -> Vec<Vec<f64>> {
                    rows[..=at].iter().map(|r| r[head * dim..(head + 1) * dim].to_vec()).collect()
                };
                let truth: Vec<f64> = (0..heads)
                    .flat_map(|head| {
                        let (k, v) = (part(&k, head / 2), part(&v, head / 2));
                        let (k, v): (Vec<&[f64]>, Vec<&[f64]>) = (
                            k.iter().map(|k| &k[..]).collect(),
                            v.iter().map(|v| &v[..]).collect(),
                        );
                        mix(&q[at][head * dim..(head + 1) * dim], &k, &v, 0.7)
                    })
                    .collect();
                inside("attention", &truth, &out.0, &e);
            }
        }
    }
}

/// A form of one of two values that one symbol moves.
fn moving(centre: f64, first: usize, by: f64) -> Form {
    let spans = vec![Span { first, count: 1 }];
    Form { c: vec![centre, 0.0], spans, g: vec![by, 0.0], rest: vec![0.0; 2] }
}

#[test]
fn what_moves_alone_in_attention_moves_by_all_that_it_can() {
    let inputs = Inputs::new(2, Bound::Each);
    let still = |value: f64| Form::constant(vec![value, 0.0]);
    let query = still(1.0);
    // The first value moves, or none does and they differ.
    for values in [[moving(0.0, 1, 1.0), still(0.0)], [still(0.5), still(-0.5)]] {
        for swing in [0.03, 0.1, 1.0, 2.5, 3.5, 5.0] {
            // The second token has a share of 1 in 20, and only its score moves.
            let keys = [still(0.0), moving(-2.95, 0, swing)];
            let tokens = tokens(&inputs, &keys, &values, (1, 2));
            let attention = Attention {
                kernels: scalar(),
                inputs: &inputs,
                tokens: &tokens,
                heads: 1,
                kv_heads: 1,
                dim: 2,
                factor: 1.0,
                grain: 1,
            };
            let out = attention.rows(std::slice::from_ref(&query), 1).swap_remove(0);
            for e in [[0.0, 1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [0.5, 1.0]] {
                let at = |forms: &[Form; 2]| forms.each_ref().map(|form| linear(form, &e));
                let (k, v) = (at(&keys), at(&values));
                let truth = mix(&query.c, &[&k[0], &k[1]], &[&v[0], &v[1]], 1.0);
                inside("attention", &truth, &out.0, &e);
            }
        }
    }
}
