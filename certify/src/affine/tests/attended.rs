//! The stream behind the last attention, at values of the symbols that are known.

use std::sync::Arc;

use engine::kernels::scalar;
use engine::model::random::SplitMix;

use super::super::attend::Attention;
use super::super::first::FirstOrder;
use super::super::form::Form;
use super::super::inputs::{Bound, Inputs};
use super::super::linear::{Matrix, outputs};
use super::super::past::{Added, Mix, Past};
use super::super::quotient::Quotient;
use super::super::scores::{Scored, dot};
use super::super::second::project::{Directed, Projector};
use super::super::sites::Reading;
use super::super::store::Token;
use super::second::{attended, mixed, random, some_moving, value};
use super::{form, inside, late, linear, moving, point, symbols, tokens, unit};

pub(super) const HEADS: usize = 2;
pub(super) const DIM: usize = 2;
const FACTOR: f64 = 0.7;

/// What the attention half of a layer is made of: one group of two heads of two values.
pub(super) struct Parts {
    pub(super) query: Form,
    pub(super) keys: Vec<Form>,
    pub(super) values: Vec<Form>,
    /// The stream before.
    pub(super) stream: Form,
    pub(super) gains: Vec<f64>,
    pub(super) output: Matrix,
    /// The range of eps, where the mix is normed.
    pub(super) eps: Option<(f64, f64)>,
}

impl Parts {
    pub(super) fn random(rng: &mut SplitMix, count: usize) -> Self {
        let (seen, width) = (1 + rng.below(3), 1 + rng.below(3));
        let spread = [0.01, 0.1, 0.3, 0.8][rng.below(4)];
        let boxes = [0.0, 0.0, 0.05][rng.below(3)] * spread;
        let mut rows = some_moving(rng, (seen, count), (spread, boxes), [HEADS, 1, DIM]);
        let (query, values) = (rows.remove(0), rows.split_off(seen));
        let by = [0.0, 1.0][rng.below(2)] * spread;
        let stream = form(rng, width, count, (1.0, by));
        let gains = (0..HEADS * DIM).map(|_| 1.0 + 0.5 * unit(rng)).collect();
        let w = (0..HEADS * DIM * width).map(|_| rng.below(3) as f64 - 1.0).collect();
        let output = Matrix { w, scale: 0.6 + 0.3 * unit(rng) };
        let eps = [None, Some((1e-5, 1e-5)), Some((1e-3, 2e-2))][rng.below(3)];
        Self { query, keys: rows, values, stream, gains, output, eps }
    }
}

/// The same, as the domain knows it.
pub(super) struct Layer {
    pub(super) parts: Parts,
    pub(super) inputs: Inputs,
    tokens: Vec<Token>,
    added: Added,
    /// The stream behind, settled, and the largest magnitude of each of its values.
    pub(super) behind: Form,
    most: Vec<f64>,
}

impl Layer {
    /// `None` where the root mean square of the mix has no bound.
    pub(super) fn new(parts: Parts) -> Option<Self> {
        let inputs = Inputs::new(0, Bound::Each);
        let tokens = tokens(&inputs, &parts.keys, &parts.values, (1, DIM));
        let (mut out, mut mix) =
            mixed(&attention(&inputs, &tokens), &parts.query, parts.keys.len());
        let before = out.rest.clone();
        mix.values.clear();
        let mut next = 1000;
        let mut past = Past::Mixed(Arc::new(mix));
        if let Some(span) = out.settle(&mut next) {
            past = past.settled(span, &before, &out);
        }
        let radii = out.radii(scalar(), &inputs);
        let end = |sign: f64| -> Vec<f64> {
            out.c.iter().zip(&radii).map(|(c, r)| c + sign * r).collect()
        };
        let quotient = match parts.eps {
            Some(eps) => {
                let ends = (&end(-1.0)[..], &end(1.0)[..]);
                Some(Quotient::new(scalar(), &inputs, &out, ends, eps)?)
            }
            None => None,
        };
        let reading = Reading { past: Some(past), ..late(&out, &parts.gains, quotient.as_ref()) };
        let w = (&parts.output.w[..], parts.output.scale);
        let mut behind = parts.stream.plus(&outputs(scalar(), &inputs, &reading, w, false));
        let radii = behind.radii(scalar(), &inputs);
        let most = behind.c.iter().zip(radii).map(|(c, r)| c.abs() + r).collect();
        behind.settle(&mut next);
        let added = Added { stream: Arc::new(parts.stream.clone()), reading, rounded: false };
        Some(Self { parts, inputs, tokens, added, behind, most })
    }

    pub(super) fn mix(&self) -> &Mix {
        let Some(Past::Mixed(mix)) = &self.added.reading.past else { panic!("no mix") };
        mix
    }

    /// What a projector of the stream behind makes.
    pub(super) fn with<T>(&self, make: impl FnOnce(&Projector<'_>) -> T) -> T {
        let attention = attention(&self.inputs, &self.tokens);
        let spans = attention.spans(&self.parts.query, self.tokens.len());
        let tokens = &self.tokens[..];
        let heads: Vec<Scored<'_>> = (0..HEADS)
            .map(|head| Scored::new(&attention, &self.parts.query, (&spans, tokens), head))
            .collect();
        make(&Projector {
            directed: Directed { attention: &attention, heads: &heads },
            added: &self.added,
            matrix: &self.parts.output,
            most: &self.most,
        })
    }

    /// A value of the stream behind at values of the symbols, anything in the boxes.
    pub(super) fn at(&self, rng: &mut SplitMix, e: &[f64]) -> Vec<f64> {
        let Parts { query, keys, values, stream, gains, output, eps } = &self.parts;
        let mut all = |rows: &[Form]| -> Vec<Vec<f64>> {
            rows.iter().map(|row| point(rng, row, e)).collect()
        };
        let (q, k, v) = (all(std::slice::from_ref(query)), all(keys), all(values));
        let mix = attended(&q[0], (&k, &v), (HEADS, DIM), FACTOR);
        let root = eps.map_or(1.0, |(low, high)| {
            let eps = [low, high][rng.below(2)];
            (dot(&mix, &mix) / mix.len() as f64 + eps).sqrt()
        });
        let mut sum = linear(stream, e);
        let width = sum.len();
        for ((x, gain), w) in mix.iter().zip(gains).zip(output.w.chunks_exact(width)) {
            sum.iter_mut().zip(w).for_each(|(sum, w)| *sum += x * gain / root * w * output.scale);
        }
        sum
    }
}

fn attention<'a>(inputs: &'a Inputs, tokens: &'a [Token]) -> Attention<'a> {
    let (kernels, heads, kv_heads) = (scalar(), HEADS, 1);
    Attention { kernels, inputs, tokens, heads, kv_heads, dim: DIM, factor: FACTOR, grain: 1 }
}

/// Values of symbols, and 0 for those that boxes became.
pub(super) fn with_boxes(rng: &mut SplitMix, count: usize) -> Vec<f64> {
    let mut e = symbols(rng, &Bound::Each, count);
    e.resize(2000, 0.0);
    e
}

#[test]
fn projections_of_the_stream_behind_attention_hold_what_the_linear_part_leaves() {
    let mut rng = SplitMix(73);
    for _ in 0..3000 {
        let count = 1 + rng.below(4);
        let Some(layer) = Layer::new(Parts::random(&mut rng, count)) else { continue };
        let width = layer.behind.width();
        let w = random(&mut rng, 2 * width, 1.0);
        let form = layer.with(|projector| projector.through(&w));
        for _ in 0..8 {
            let e = with_boxes(&mut rng, count);
            let stream = layer.at(&mut rng, &e);
            let truth: Vec<f64> = (0..2)
                .map(|column| (0..width).map(|k| stream[k] * w[2 * k + column]).sum())
                .collect();
            inside("projection", &truth, &form, &e);
        }
    }
}

/// What is projected moves with the second symbol alone, and the root mean square that divides it
/// with the first, only in second order.
#[test]
fn what_attention_is_not_linear_in_moves_the_root_mean_square_behind_it() {
    let mut rng = SplitMix(0);
    for swing in [0.1, 0.3, 1.0, 1.5] {
        for own in [0.001, 0.01, 0.1] {
            let keys = [1.0, 0.0, -1.0].map(|turn| moving(0.0, 0, turn * swing));
            let values =
                [1.0, 0.0, 1.0].map(|value| Form { g: vec![0.0, own], ..moving(value, 1, 0.0) });
            // The second head looks at all tokens alike.
            let parts = Parts {
                query: Form::constant(vec![1.0, 0.0, 0.0, 0.0]),
                keys: keys.to_vec(),
                values: values.to_vec(),
                stream: Form::constant(vec![0.0]),
                gains: vec![1.0; HEADS * DIM],
                output: Matrix { w: vec![0.0, 0.0, 0.0, 1.0], scale: 1.0 },
                eps: Some((1e-5, 1e-5)),
            };
            let layer = Layer::new(parts).expect("a root mean square far from 0");
            let form = layer.with(|projector| projector.through(&[1.0]));
            for first in [-1.0, -0.5, 0.0, 1.0] {
                let mut e = vec![0.0; 2000];
                e[..2].copy_from_slice(&[first, 1.0]);
                inside("projection", &layer.at(&mut rng, &e), &form, &e);
            }
        }
    }
}

/// The most that a stream to first order can be along a direction where the symbols have values.
fn most_along(first: &FirstOrder, by: &[f64], e: &[f64]) -> f64 {
    let along = |form: &Form| dot(&linear(form, e), by);
    let moves = along(&first.divided) - dot(&first.divided.c, by);
    let hidden: f64 = first.hidden.chunks_exact(by.len()).map(|row| dot(row, by).abs()).sum();
    let ends = [first.range.0, first.range.1].map(|s| s * (moves + hidden));
    let beyond = (first.beyond.weight * value(first.beyond.matrix(), by)).sqrt();
    along(&first.plain) + if ends[0] > ends[1] { ends[0] } else { ends[1] } + beyond
}

#[test]
fn the_stream_to_first_order_and_what_is_beyond_hold_the_stream() {
    let mut rng = SplitMix(79);
    let (mut tried, mut near) = (0, 0);
    for _ in 0..3000 {
        let count = 1 + rng.below(4);
        let Some(layer) = Layer::new(Parts::random(&mut rng, count)) else { continue };
        let first = layer.with(|projector| projector.first_order(layer.mix()));
        for _ in 0..8 {
            let e = with_boxes(&mut rng, count);
            let stream = layer.at(&mut rng, &e);
            let by = random(&mut rng, stream.len(), 1.0);
            let (truth, most) = (dot(&stream, &by), most_along(&first, &by, &e));
            assert!(truth <= most + 1e-12, "{truth} > {most}");
            let centre = dot(&first.plain.c, &by);
            near += usize::from(truth - centre > 0.8 * (most - centre));
            tried += 1;
        }
    }
    assert!(tried > 20_000 && near > tried / 6, "{near} of {tried} are near what is said");
}
