//! What margins lose through the last attention, at values of the symbols that are known.

use engine::kernels::scalar;
use engine::model::random::SplitMix;

use super::super::scores::dot;
use super::super::second::curved::{Curved, Layers};
use super::super::second::draft::{Direction, Second};
use super::attended::{Layer, Parts, with_boxes};
use super::curved::Product;
use super::second::{random, value};

/// What a direction counts: the stream, and what gated products and the last division make of it.
struct Along {
    stream: Vec<f64>,
    alpha: Vec<f64>,
    weights: Vec<f64>,
}

impl Along {
    /// Often only one of the three, so that there is little to hide behind.
    fn random(rng: &mut SplitMix, width: usize, features: usize) -> Self {
        let only = rng.below(4);
        let mut part = |index: usize, count: usize| {
            let size = if only == index || only == 3 { 1.0 } else { 0.0 };
            random(rng, count, size)
        };
        Self { stream: part(0, width), alpha: part(1, width), weights: part(2, features) }
    }

    /// What is lost where the stream is off its centre by moves.
    fn at(&self, curved: &Curved<'_>, gains: &[f64], moves: &[f64]) -> f64 {
        let row: Vec<f64> = moves.iter().zip(gains).map(|(x, gain)| x * gain).collect();
        let (q, _) = curved.form_of(&self.weights);
        let rise = dot(&curved.tangent_slopes, &row);
        value(&q, &row) - dot(&self.stream, moves) - dot(&self.alpha, moves) * rise
    }
}

/// The most that is lost at points, and what is said to be lost; `None` where nothing is.
fn lost(rng: &mut SplitMix, layer: &Layer, count: usize) -> Option<(f64, f64)> {
    let features = 1 + rng.below(7);
    let product = Product::over(rng, &layer.inputs, layer.behind.clone(), features);
    let layers = Layers { gate: &product.gate, up: &product.up };
    layer.with(|projector| {
        let curved =
            Curved::new(scalar(), &layer.inputs, &product.normed, layers, Some(*projector))?;
        let second = Second::new(&curved, projector)?;
        let centre = &layer.behind.c;
        let along = Along::random(rng, centre.len(), product.features());
        let (stream, alpha, weights) = (&along.stream, &along.alpha, &along.weights);
        let slopes = vec![0.0; centre.len()];
        let of = Direction { stream, alpha, slopes: &slopes, weights };
        let said = second.lost(&of) + dot(stream, centre);
        let mut most = f64::NEG_INFINITY;
        for _ in 0..16 {
            let e = with_boxes(rng, count);
            let stream = layer.at(rng, &e);
            let moves: Vec<f64> = stream.iter().zip(centre).map(|(x, c)| x - c).collect();
            let lost = along.at(&curved, &product.gains, &moves);
            most = if lost > most { lost } else { most };
        }
        Some((most, said))
    })
}

#[test]
fn margins_through_attention_lose_no_more_than_is_said() {
    let mut rng = SplitMix(83);
    let (mut tried, mut near) = (0, 0);
    for _ in 0..4000 {
        let count = 1 + rng.below(3);
        let Some(layer) = Layer::new(Parts::random(&mut rng, count)) else { continue };
        let Some((most, said)) = lost(&mut rng, &layer, count) else { continue };
        assert!(most <= said + 1e-12, "{most} > {said}");
        near += usize::from(most > 0.8 * said);
        tried += 1;
    }
    assert!(tried > 2000 && near > tried / 5, "{near} of {tried} are near what is said");
}
