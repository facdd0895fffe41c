//! The score boxes on which careless softmax bounds fail, as whole nets.
//!
//! Two tokens carry one score each, the last one asks and reads `0.5 - a`, `a` the share of the
//! first. Its score runs from `l` to `u` along the hull of two rows. Bounds that fudge a
//! denominator, or subtract and re-add the largest term, hold that share for next to nothing and
//! prove the margin, while the corner makes it 1.

use std::sync::Arc;

use certify::claim::Decision;
use certify::region::{Ball, Region};
use engine::model::{Activations, Float, Gate, KvKind, Model, Rope, Slot, Weights};
use ndarray::{Array2, s};

use crate::nets::Planted;
use crate::support::{DIGITS, Shape, model};
use crate::unproven;

const WIDTH: usize = 16;
/// The feature that dominates every row, so that norms scale all rows by nearly the same.
const CONSTANT: usize = 0;
/// The feature that a key turns into its score.
const SCORE: usize = 1;
/// The feature that attention mixes.
const VALUE: usize = 2;
/// The mark of the query.
const QUERY: usize = 3;
/// Where the mixed value is read.
const SHARE: usize = 4;
/// What a unit of the score feature adds to a score, with room for scores of -60.
const SLOPE: f32 = 64.0;

fn put(model: &mut Model, slot: Slot, entries: &[(usize, usize, f32)]) {
    let linear = model.layers[0].linear_mut(slot);
    let (rows, columns) = (linear.outputs(), linear.inputs());
    let mut data = vec![0.0; rows * columns];
    for &(row, column, weight) in entries {
        data[row * columns + column] = weight;
    }
    linear.weights = Weights::Dense(Arc::new(Float::F32 { data, columns }));
}

/// One head of width 8, one layer, no gate to speak of, and the read-out `0.5 - a`.
fn net() -> Model {
    let shape = Shape {
        hidden: WIDTH,
        ffn: 16,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 8,
        gate: Gate::Relu2,
        activations: Activations::None,
        sub_norms: false,
        dense: true,
        ..DIGITS
    };
    let mut net = model(&shape, 7);
    // The last pair of features hardly turns at all.
    net.rope = Arc::new(Rope::new(8, 1e30, 64));
    for slot in Slot::ALL {
        put(&mut net, slot, &[]);
    }
    let root = (8f32).sqrt();
    put(&mut net, Slot::Q, &[(3, QUERY, root)]);
    put(&mut net, Slot::K, &[(3, SCORE, SLOPE)]);
    put(&mut net, Slot::V, &[(0, VALUE, 1.0)]);
    put(&mut net, Slot::O, &[(SHARE, 0, 1.0)]);
    let layer = &mut net.layers[0];
    for norm in [&mut layer.input_norm, &mut layer.post_norm, &mut net.final_norm] {
        norm.gains = vec![1.0; WIDTH].into();
    }
    net
}

/// A token of a score; the last token's mark makes the query.
fn token(score: f32, value: f32, query: f32) -> Vec<f32> {
    let mut row = vec![0.0; WIDTH];
    (row[CONSTANT], row[VALUE], row[QUERY]) = (4.0, value, query);
    row[SCORE] = score / SLOPE;
    row
}

fn stream(rows: [Vec<f32>; 3]) -> Array2<f32> {
    Array2::from_shape_vec((3, WIDTH), rows.concat()).expect("three rows")
}

/// The net and both ends of its scores; the row that reads half the constant against the share.
fn planted(name: &str, kv: KvKind, lower: [f32; 2], upper: [f32; 2]) -> Planted {
    let mut model = net();
    // A row of mean square near 1: the constant 4 over 16 features.
    let query = token(-100.0, 0.0, 1.0);
    let clean = stream([token(lower[0], 1.0, 0.0), token(lower[1], 0.0, 0.0), query.clone()]);
    let witness = stream([token(upper[0], 1.0, 0.0), token(lower[1], 0.0, 0.0), query]);
    let mut head = vec![0.0; model.head.rows() * WIDTH];
    (head[WIDTH + CONSTANT], head[SHARE]) = (0.5 / 4.0, 1.0);
    model.head = Arc::new(Float::F32 { data: head, columns: WIDTH });
    let decision = Decision { winner: 1, classes: vec![0, 1] };
    Planted { name: name.into(), model, kv, from: 0, clean, witness, decision }
}

fn region(planted: &Planted, upper: [f32; 2]) -> Region<'_> {
    let choice = |row: usize, score: f32| {
        let mut choice = planted.clean.slice(s![row..row + 1, ..]).to_owned();
        choice[[0, SCORE]] = score / SLOPE;
        choice
    };
    let hulls = vec![choice(0, upper[0]), choice(1, upper[1])];
    Region { clean: &planted.clean, moved: 0..2, ball: Ball::Hulls(hulls) }
}

#[test]
fn the_share_of_a_wide_score_box_does_not_certify_a_margin_that_a_corner_takes_away() {
    for kv in [KvKind::F32, KvKind::F16] {
        for (lower, upper) in [
            ([-60.0, -60.0], [0.0, -40.0]),
            ([-60.0, -40.0], [0.0, -40.0]),
            ([-20.0, -18.0], [0.0, -18.0]),
        ] {
            let name = format!("scores from {lower:?} to {upper:?} in {kv:?}");
            let mut planted = planted(&name, kv, lower, upper);
            if lower == [-60.0, -60.0] {
                // Both shares are one half there: the clean point is the other end.
                planted.clean[[1, SCORE]] = -40.0 / SLOPE;
                planted.witness[[1, SCORE]] = -60.0 / SLOPE;
                assert!(planted.confirmed(), "{name}");
                unproven(&planted, &region(&planted, [upper[0], lower[1]]));
            } else {
                assert!(planted.confirmed(), "{name}");
                unproven(&planted, &region(&planted, upper));
            }
        }
    }
}

#[test]
fn the_share_of_a_score_that_stays_below_is_certified() {
    let planted = planted("scores far below", KvKind::F32, [-60.0, -20.0], [-40.0, -20.0]);
    let region = region(&planted, [-40.0, -20.0]);
    for (method, proves) in crate::PROVERS {
        assert!(proves(&planted, &region), "{method} says nothing of a share below e^-20");
    }
}
