//! Holds the engine to two independent witnesses on every trained fixture.
//!
//! `fixtures::naive` writes the arithmetic out once more, slowly, with nothing of the engine in it:
//! every logit must be the same f32, bit for bit, under every kernel table that this processor has.
//! transformers sums in other orders, where an activation may round to the neighbouring int8 code;
//! its goldens are held to a tolerance, and to the argmax wherever it is decisive.

use std::collections::BTreeMap;

use engine::formats::{self, LoadOptions, Source};
use engine::kernels::{self, Kernels};
use engine::model::{KvKind, Model};
use engine::numerics::argmax;
use engine::walk::{self, Exact, Read};
use fixtures::archive::{self, Tensor};
use fixtures::embedded::{self, Checkpoint};
use fixtures::naive;
use ndarray::Array2;

/// Above this margin of a golden row, the engine must name the same class.
const DECISIVE: f32 = 0.05;
/// The largest difference from a golden logit, and the largest mean of all differences.
const TOLERANCE: (f32, f64) = (0.1, 1e-3);
/// Samples that have goldens; the naive forward runs on at least as many.
const GOLDEN_SAMPLES: usize = 32;

/// What a forward starts from, in the terms of both witnesses.
enum Input {
    Ids(Vec<u32>),
    Rows(Vec<Vec<f32>>),
}

fn engine_model(checkpoint: Checkpoint) -> Model {
    let source = Source::memory(checkpoint.name, checkpoint.files.iter().copied());
    formats::load(&source, &LoadOptions::default()).expect("a fixture loads").model
}

fn naive_model(checkpoint: Checkpoint) -> naive::Model {
    let config = std::str::from_utf8(bytes(checkpoint, "config.json")).expect("a text");
    naive::Model::new(config, bytes(checkpoint, "model.safetensors")).expect("a fixture decodes")
}

fn bytes(checkpoint: Checkpoint, file: &str) -> &'static [u8] {
    checkpoint.file(file).unwrap_or_else(|| panic!("{} has no {file}", checkpoint.name))
}

fn tensors(checkpoint: Checkpoint, file: &str) -> BTreeMap<String, Tensor> {
    archive::read(bytes(checkpoint, file)).expect("a fixture is well formed")
}

/// The samples of a classifier, in the order of its goldens.
fn digit_inputs(checkpoint: Checkpoint) -> Vec<Input> {
    let embeds = &tensors(checkpoint, "inputs.safetensors")["inputs_embeds"];
    let [_, positions, width] = embeds.shape[..] else { panic!("{:?}", embeds.shape) };
    let values = embeds.floats().expect("floats");
    let samples = values.chunks_exact(positions * width);
    let rows = |sample: &[f32]| sample.chunks_exact(width).map(<[f32]>::to_vec).collect();
    samples.map(|sample| Input::Rows(rows(sample))).collect()
}

/// The prompts of a language model that are given as ids.
fn language_inputs(checkpoint: Checkpoint) -> Vec<Input> {
    let text = std::str::from_utf8(bytes(checkpoint, "inputs.jsonl")).expect("a text");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let ids = |line: serde_json::Value| {
        serde_json::from_value(line["input_ids"].clone()).ok().map(Input::Ids)
    };
    lines.filter_map(ids).collect()
}

fn engine_logits(model: &Model, kernels: &'static Kernels, input: &Input) -> Array2<f32> {
    let stream = match input {
        Input::Ids(ids) => model.embed(ids).expect("ids of the vocabulary"),
        Input::Rows(rows) => {
            let width = rows[0].len();
            Array2::from_shape_vec((rows.len(), width), rows.concat()).expect("equal rows")
        }
    };
    let mut domain = Exact::new(kernels, model, KvKind::F32);
    walk::run(&mut domain, model, &stream, 0, 0, Read::All)
}

fn naive_logits(model: &naive::Model, input: &Input) -> Vec<Vec<f32>> {
    match input {
        Input::Ids(ids) => model.logits_of_ids(ids),
        Input::Rows(rows) => model.logits_of_embeddings(rows),
    }
}

/// Every logit of every position, as bits, under every table.
fn assert_equals_naive(checkpoint: Checkpoint, inputs: &[Input]) {
    let (model, oracle) = (engine_model(checkpoint), naive_model(checkpoint));
    for (index, input) in inputs.iter().enumerate() {
        let expected = naive_logits(&oracle, input).concat();
        for table in kernels::available() {
            let logits = engine_logits(&model, table, input);
            assert_eq!(logits.len(), expected.len(), "{} sample {index}", checkpoint.name);
            let differs =
                logits.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits());
            if let Some(at) = differs {
                let (row, class) = (at / logits.ncols(), at % logits.ncols());
                let (name, engine, naive) = (checkpoint.name, logits[[row, class]], expected[at]);
                panic!(
                    "{name}, {}, sample {index}, position {row}, class {class}: \
                     {engine:e} instead of {naive:e}",
                    table.name
                );
            }
        }
    }
}

/// The logit of the winner less that of the runner-up.
fn margin(row: &[f32]) -> f32 {
    let mut sorted = row.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted[sorted.len() - 1] - sorted[sorted.len() - 2]
}

/// Holds rows of logits to golden rows that lie behind one another.
fn assert_near_goldens(name: &str, rows: &[Vec<f32>], goldens: &[f32]) {
    let width = rows[0].len();
    assert_eq!(goldens.len(), rows.len() * width, "{name}: one golden a logit");
    let (mut largest, mut total) = (0.0f32, 0.0f64);
    for (index, (row, golden)) in rows.iter().zip(goldens.chunks_exact(width)).enumerate() {
        for (a, b) in row.iter().zip(golden) {
            let difference = (a - b).abs();
            assert!(!difference.is_nan(), "{name}: row {index} is not finite");
            largest = if difference > largest { difference } else { largest };
            total += f64::from(difference);
        }
        let same = argmax(row) == argmax(golden);
        assert!(same || margin(golden) <= DECISIVE, "{name}: row {index} decides otherwise");
    }
    let mean = total / goldens.len() as f64;
    println!("{name}: {} rows, largest difference {largest:.2e}, mean {mean:.2e}", rows.len());
    assert!(largest < TOLERANCE.0, "{name}: largest difference {largest}");
    assert!(mean < TOLERANCE.1, "{name}: mean difference {mean}");
}

fn rows_of(logits: &Array2<f32>) -> Vec<Vec<f32>> {
    logits.rows().into_iter().map(|row| row.to_vec()).collect()
}

fn assert_digits_near_transformers(checkpoint: Checkpoint) {
    let model = engine_model(checkpoint);
    let inputs = digit_inputs(checkpoint);
    let last = |input| rows_of(&engine_logits(&model, kernels::best(), input)).pop();
    let rows: Option<Vec<_>> = inputs[..GOLDEN_SAMPLES].iter().map(last).collect();
    let goldens = tensors(checkpoint, "golden.safetensors")["logits"].floats().expect("floats");
    assert_near_goldens(checkpoint.name, &rows.expect("positions"), &goldens);
}

#[test]
fn robust_digits_equal_the_naive_forward_bit_for_bit() {
    let inputs = digit_inputs(embedded::digits());
    assert_equals_naive(embedded::digits(), &inputs);
}

#[test]
fn normal_digits_equal_the_naive_forward_bit_for_bit() {
    let inputs = digit_inputs(embedded::digits_normal());
    assert_equals_naive(embedded::digits_normal(), &inputs);
}

#[test]
fn shallow_digits_equal_the_naive_forward_bit_for_bit() {
    let inputs = digit_inputs(embedded::digits_shallow());
    assert_equals_naive(embedded::digits_shallow(), &inputs);
}

#[test]
fn deep_digits_equal_the_naive_forward_bit_for_bit() {
    let inputs = digit_inputs(embedded::digits_deep());
    assert_equals_naive(embedded::digits_deep(), &inputs);
}

#[test]
fn six_layers_of_digits_equal_the_naive_forward_bit_for_bit() {
    let inputs = digit_inputs(embedded::digits_six());
    assert_equals_naive(embedded::digits_six(), &inputs);
}

#[test]
fn pixels_equal_the_naive_forward_bit_for_bit() {
    let inputs = digit_inputs(embedded::pixels());
    assert_equals_naive(embedded::pixels(), &inputs[..GOLDEN_SAMPLES]);
}

#[test]
fn the_language_models_equal_the_naive_forward_bit_for_bit() {
    for checkpoint in [embedded::language(), embedded::language_robust()] {
        let inputs = language_inputs(checkpoint);
        assert!(!inputs.is_empty(), "there are prompts");
        assert_equals_naive(checkpoint, &inputs);
    }
}

#[test]
fn digits_stay_near_transformers() {
    let classifiers = embedded::all().into_iter().filter(|one| !one.name.starts_with("language"));
    classifiers.for_each(assert_digits_near_transformers);
}

#[test]
fn the_language_models_stay_near_transformers() {
    for checkpoint in [embedded::language(), embedded::language_robust()] {
        let model = engine_model(checkpoint);
        let goldens = tensors(checkpoint, "golden.safetensors");
        let (mut rows, mut expected) = (Vec::new(), Vec::new());
        for (index, input) in language_inputs(checkpoint).iter().enumerate() {
            if let Some(golden) = goldens.get(&format!("case{index}.logits")) {
                rows.extend(rows_of(&engine_logits(&model, kernels::best(), input)));
                expected.extend(golden.floats().expect("floats"));
            }
        }
        assert!(!rows.is_empty(), "there are goldens");
        assert_near_goldens(checkpoint.name, &rows, &expected);
    }
}
