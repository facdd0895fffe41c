//! Fault trials per second: one bit a trial, on one sample of 64 tokens, all positions read.
//!
//! The shape is `small` of `forward`: 4.2 million ternary weights in four layers. Before they are
//! timed, trials under each table are held to those of the portable one, bit for bit: a table that
//! judged a fault otherwise would not be the same campaign.

use std::cell::Cell;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use engine::kernels::{self, Kernels};
use engine::model::random::{SplitMix, Style, random_model, small_config};
use engine::model::{Config, KvKind, Model};
use engine::walk::Read;
use faults::{Campaign, Plan, Sample, Target, UnusedCode};

const TOKENS: usize = 64;
/// Trials that are held to the portable table.
const CHECKED: u64 = 4;
/// Trials that the campaign draws from, and that a timed pass runs through in turn.
const TRIALS: u64 = 4096;

fn small() -> Model {
    let config = Config {
        ffn: 1024,
        vocabulary: 512,
        max_positions: TOKENS,
        theta: 500_000.0,
        yarn: None,
        tied: true,
        ..small_config(4, 256, 4, 4)
    };
    random_model(&config, Style::BITNET, 1)
}

fn campaign<'a>(model: &'a Model, table: &'static Kernels, target: Target) -> Campaign<'a> {
    let mut rng = SplitMix(7);
    let ids = (0..TOKENS).map(|_| rng.below(model.config.vocabulary) as u32).collect();
    let plan = Plan {
        seed: 1,
        trials: TRIALS,
        flips: 1,
        targets: vec![target],
        unused: UnusedCode::Deployed,
        kv: KvKind::F32,
        confidence: 0.95,
        positions: Read::All,
        worst: 1,
    };
    let identity = plan.identity("small", "splitmix 7");
    Campaign::new(model, table, plan, identity, &[Sample::of_ids(ids)]).expect("a sound plan")
}

fn trials(criterion: &mut Criterion, model: &Model, target: Target) {
    let portable = campaign(model, kernels::scalar(), target);
    let expected: Vec<_> = (0..CHECKED).map(|index| portable.trial(index)).collect();
    let mut group = criterion.benchmark_group(format!("small/trials/{}", target.name()));
    group.throughput(Throughput::Elements(1));
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(3));
    for table in kernels::available() {
        let campaign = campaign(model, table, target);
        let found: Vec<_> = (0..CHECKED).map(|index| campaign.trial(index)).collect();
        assert_eq!(found, expected, "{}", table.name);
        let next = Cell::new(0);
        group.bench_function(BenchmarkId::from_parameter(table.name), |bencher| {
            bencher.iter(|| {
                let index = next.get();
                next.set((index + 1) % TRIALS);
                campaign.trial(index)
            });
        });
    }
    group.finish();
}

fn main() {
    let model = small();
    let mut criterion = Criterion::default().configure_from_args();
    for target in [Target::WeightCode, Target::KvF32] {
        trials(&mut criterion, &model, target);
    }
    criterion.final_summary();
}
