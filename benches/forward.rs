//! One inference per kernel table, and one pass of boxes against it.
//!
//! `small` is 4.2 million ternary weights: four layers of width 256 with four heads and a
//! feed-forward block of 1024, 64 tokens of a vocabulary of 512, tied embeddings, norms behind
//! attention and gate. `digits` is the embedded classifier on one of its samples. Every position is
//! read. Before they are timed, logits are held to those of the portable table, bit for bit, and
//! the boxes to the logits that they must contain.

use std::hint::black_box;
use std::time::Duration;

use certify::interval::{Boxes, Interval};
use criterion::{BenchmarkId, Criterion, Throughput};
use engine::formats::{self, LoadOptions, Source};
use engine::kernels::{self, Kernels};
use engine::model::random::{SplitMix, Style, random_model, small_config};
use engine::model::{Config, KvKind, Model};
use engine::walk::{self, Exact, Read};
use fixtures::{archive, embedded};
use ndarray::Array2;

const SMALL_TOKENS: usize = 64;
/// Positions of a digit sample.
const DIGIT_TOKENS: usize = 9;
const EPSILON: f64 = 1e-3;

/// A model with what enters its first layer.
struct Case {
    name: &'static str,
    model: Model,
    stream: Array2<f32>,
}

fn small() -> Case {
    let config = Config {
        ffn: 1024,
        vocabulary: 512,
        max_positions: SMALL_TOKENS,
        theta: 500_000.0,
        yarn: None,
        tied: true,
        ..small_config(4, 256, 4, 4)
    };
    let model = random_model(&config, Style::BITNET, 1);
    let mut rng = SplitMix(7);
    let ids: Vec<u32> = (0..SMALL_TOKENS).map(|_| rng.below(config.vocabulary) as u32).collect();
    let stream = model.embed(&ids).expect("ids of the vocabulary");
    Case { name: "small", model, stream }
}

fn digits() -> Case {
    let checkpoint = embedded::digits();
    let source = Source::memory(checkpoint.name, checkpoint.files.iter().copied());
    let model = formats::load(&source, &LoadOptions::default()).expect("the fixture loads").model;
    let inputs = checkpoint.file("inputs.safetensors").expect("the fixture has inputs");
    let inputs = archive::read(inputs).expect("a well-formed file");
    let values = inputs["inputs_embeds"].floats().expect("floats");
    let shape = (DIGIT_TOKENS, model.config.hidden);
    let sample = values[..shape.0 * shape.1].to_vec();
    let stream = Array2::from_shape_vec(shape, sample).expect("a sample of this shape");
    Case { name: "digits", model, stream }
}

fn logits(case: &Case, table: &'static Kernels) -> Array2<f32> {
    let mut domain = Exact::new(table, &case.model, KvKind::F32);
    walk::run(&mut domain, &case.model, &case.stream, 0, 0, Read::All)
}

/// The boxes of the logits, and whether they are finite.
fn boxes(case: &Case, epsilon: f64) -> (Boxes, bool) {
    let tokens = case.stream.nrows();
    let ball = Boxes::ball(&case.stream, epsilon, &(0..tokens));
    let mut domain = Interval::new(kernels::best(), &case.model, KvKind::F32, Vec::new());
    let out = walk::run(&mut domain, &case.model, &ball, 0, 0, Read::All);
    let finite = domain.diverged().is_none();
    (out, finite)
}

fn bits(logits: &Array2<f32>) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

fn inference(criterion: &mut Criterion, case: &Case) {
    let expected = bits(&logits(case, kernels::scalar()));
    let mut group = criterion.benchmark_group(format!("{}/inference", case.name));
    group.throughput(Throughput::Elements(case.stream.nrows() as u64));
    group.sample_size(20).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    for table in kernels::available() {
        assert_eq!(bits(&logits(case, table)), expected, "{} {}", case.name, table.name);
        group.bench_with_input(
            BenchmarkId::from_parameter(table.name),
            &table,
            |bencher, table| {
                bencher.iter(|| logits(black_box(case), table));
            },
        );
    }
    group.finish();
}

fn interval(criterion: &mut Criterion, case: &Case) {
    let exact = logits(case, kernels::best());
    let (point, finite) = boxes(case, 0.0);
    assert!(finite && bits(&point.lo) == bits(&exact), "{}: a point is inference", case.name);
    let (ball, finite) = boxes(case, EPSILON);
    assert!(!finite || ball.contains(&exact), "{}: inference is in the box", case.name);
    let lost = if finite { "" } else { "-lost-midway" };
    let mut group = criterion.benchmark_group(format!("{}/interval", case.name));
    group.throughput(Throughput::Elements(case.stream.nrows() as u64));
    group.sample_size(20).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    for (label, epsilon) in [("point".to_owned(), 0.0), (format!("{EPSILON}{lost}"), EPSILON)] {
        group.bench_function(BenchmarkId::from_parameter(label), |bencher| {
            bencher.iter(|| boxes(black_box(case), epsilon));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for case in [small(), digits()] {
        inference(&mut criterion, &case);
        interval(&mut criterion, &case);
    }
    criterion.final_summary();
}
