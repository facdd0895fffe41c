//! The tape against inference (the same bits) and against finite differences (the same slopes).

mod support;

use certify::tape::{BackwardWeights, Tape};
use engine::kernels;
use engine::model::{Activations, Gate, KvKind, Model};
use engine::walk::{self, Domain, Exact, Read};
use ndarray::Array2;
use support::{DIGITS, Draws, Shape, model};

/// Shapes that cover grouped queries, both gates, sub-norms, inner norms, both kinds of weights.
fn shapes() -> Vec<Shape> {
    let mut all = Vec::new();
    for (index, gate) in [Gate::Relu2, Gate::Silu].into_iter().enumerate() {
        for bits in 0..8usize {
            all.push(Shape {
                hidden: 12 + 5 * (bits + index),
                ffn: 20 + 3 * bits,
                layers: 1 + bits % 3,
                heads: 4,
                kv_heads: [4, 2, 1][(bits + index) % 3],
                head_dim: 4 + 2 * (bits % 2),
                vocabulary: 11,
                gate,
                activations: Activations::None,
                sub_norms: bits & 1 != 0,
                inner_norms: bits & 2 != 0,
                dense: bits & 4 != 0,
            });
        }
    }
    all
}

fn exact(model: &Model, kv: KvKind) -> Exact {
    Exact::new(kernels::best(), model, kv)
}

fn logits(model: &Model, x: &Array2<f32>, from: usize, read: Read) -> Array2<f32> {
    walk::run(&mut exact(model, KvKind::F32), model, x, from, 0, read)
}

fn bits(x: &Array2<f32>) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn a_taped_walk_gives_the_bits_of_inference() {
    let quantised = shapes().into_iter().map(|mut shape| {
        shape.activations = Activations::PerTokenInt8;
        shape
    });
    for (seed, shape) in shapes().into_iter().chain(quantised).enumerate() {
        let model = model(&shape, seed as u64);
        let weights = BackwardWeights::dense(&model);
        let x = Draws::new(seed as u64).rows(5, shape.hidden);
        for kv in [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit] {
            for read in [Read::All, Read::Last] {
                for from in 0..=shape.layers {
                    let mut plain = exact(&model, kv);
                    let expected = walk::run(&mut plain, &model, &x, from, 0, read);
                    let mut tape = Tape::new(exact(&model, kv), &weights);
                    let input = tape.input(x.clone());
                    let output = walk::run(&mut tape, &model, &input, from, 0, read);
                    assert_eq!(bits(&expected), bits(&output.value));
                    assert_eq!(plain.caches, tape.into_exact().caches);
                }
            }
        }
    }
}

/// The sum of `seed * logits` in f64, so that differences lose little.
fn weighted(logits: &Array2<f32>, seed: &Array2<f32>) -> f64 {
    logits.iter().zip(seed).map(|(&l, &s)| f64::from(l) * f64::from(s)).sum()
}

#[test]
fn gradients_equal_central_differences_on_smooth_models() {
    for (index, shape) in shapes().into_iter().enumerate() {
        let model = model(&shape, 100 + index as u64);
        let weights = BackwardWeights::dense(&model);
        let mut draws = Draws::new(index as u64);
        let x = draws.rows(5, shape.hidden);
        for (read, from) in [(Read::All, 0), (Read::Last, 0), (Read::Last, shape.layers - 1)] {
            let mut tape = Tape::new(exact(&model, KvKind::F32), &weights);
            let input = tape.input(x.clone());
            let output = walk::run(&mut tape, &model, &input, from, 0, read);
            let seed = draws.rows(output.value.nrows(), shape.vocabulary);
            let gradient = tape.backward(&output, &seed, &input);
            let size = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
            for _ in 0..4 {
                let direction = draws.rows(5, shape.hidden);
                let h = 1e-3;
                let up = logits(&model, &(&x + &(&direction * h)), from, read);
                let down = logits(&model, &(&x - &(&direction * h)), from, read);
                let measured =
                    (weighted(&up, &seed) - weighted(&down, &seed)) / (2.0 * f64::from(h));
                let predicted = weighted(&gradient, &direction);
                // Relative to the length of the gradient: a direction may be nearly level.
                let error = (measured - predicted).abs() / f64::from(size);
                assert!(error < 1e-2, "{shape:?}: {measured} against {predicted}");
            }
        }
    }
}

#[test]
fn a_walk_over_stored_tokens_differentiates_the_new_rows_only() {
    let shape = Shape { activations: Activations::None, ..DIGITS };
    let model = model(&shape, 7);
    let weights = BackwardWeights::dense(&model);
    let x = Draws::new(7).rows(6, shape.hidden);
    let seed = Array2::from_shape_fn((1, shape.vocabulary), |(_, k)| k as f32 - 3.0);

    let mut whole = Tape::new(exact(&model, KvKind::F32), &weights);
    let input = whole.input(x.clone());
    let output = walk::run(&mut whole, &model, &input, 0, 0, Read::Last);
    let expected = whole.backward(&output, &seed, &input);

    let mut prefix = exact(&model, KvKind::F32);
    walk::run(&mut prefix, &model, &whole.select(&input, 0..4).value, 0, 0, Read::Last);
    let mut tape = Tape::new(prefix, &weights);
    let rows = tape.input(whole.select(&input, 4..6).value);
    let later = walk::run(&mut tape, &model, &rows, 0, 4, Read::Last);
    assert_eq!(bits(&output.value), bits(&later.value));
    let gradient = tape.backward(&later, &seed, &rows);
    for (a, b) in gradient.iter().zip(expected.rows().into_iter().skip(4).flatten()) {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{a} against {b}");
    }
}

#[test]
fn gradients_are_the_same_bits_with_every_table_any_threads_and_dense_or_packed_weights() {
    // Wider than the blocks of a backward pass and the threshold of its threads.
    let shape = Shape { hidden: 144, ffn: 300, head_dim: 36, vocabulary: 200, ..DIGITS };
    let model = model(&shape, 3);
    let weights = BackwardWeights::dense(&model);
    let x = Draws::new(3).rows(70, shape.hidden);
    let packed = BackwardWeights::packed(&model);
    let gradient = |table, weights| {
        let mut tape = Tape::new(Exact::new(table, &model, KvKind::Int8), weights);
        let input = tape.input(x.clone());
        let output = walk::run(&mut tape, &model, &input, 0, 0, Read::Last);
        bits(&tape.backward(&output, &output.value, &input))
    };
    let expected = gradient(kernels::scalar(), &weights);
    for table in kernels::available() {
        assert_eq!(gradient(table, &weights), expected, "{}", table.name);
        assert_eq!(gradient(table, &packed), expected, "{} on packed weights", table.name);
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let now = pool.install(|| gradient(kernels::best(), &packed));
        assert_eq!(now, expected, "{threads} threads");
    }
}

#[test]
fn stacked_and_replaced_rows_pass_their_gradients_on() {
    let model = model(&DIGITS, 1);
    let weights = BackwardWeights::dense(&model);
    let mut tape = Tape::new(exact(&model, KvKind::F32), &weights);
    let mut draws = Draws::new(1);
    let top = tape.input(draws.rows(2, 3));
    let below = tape.input(draws.rows(1, 3));
    let column = tape.input(draws.rows(3, 1));
    let mut x = tape.stack(&top, &below);
    tape.replace_column(&mut x, 1, &column);
    let seed = draws.rows(3, 3);
    let gradient = |rows| tape.backward(&x, &seed, rows);
    let (top, below, column) = (gradient(&top), gradient(&below), gradient(&column));
    assert_eq!((top[[1, 0]], top[[1, 1]], top[[1, 2]]), (seed[[1, 0]], 0.0, seed[[1, 2]]));
    assert_eq!((below[[0, 0]], below[[0, 1]]), (seed[[2, 0]], 0.0));
    assert_eq!((column[[0, 0]], column[[2, 0]]), (seed[[0, 1]], seed[[2, 1]]));
}
