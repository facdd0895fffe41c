//! Sampled campaigns against the exhaustive truth: every flip of every packed weight of the trained
//! digit classifier, executed, and 1,000 campaigns that see a part of it.

use std::collections::BTreeMap;

use engine::formats::{self, LoadOptions, Source};
use engine::kernels;
use engine::model::KvKind;
use engine::walk::Read;
use faults::{
    Address, Fault, Golden, Input, Outcome, RateInterval, Sample, Sequential, Space, Stratum,
    Target, TrialRng, UnusedCode, clopper_pearson, finite_population, run_trial, stratified,
};
use fixtures::{archive, embedded};
use ndarray::Array2;

use super::{binomial, contains, hold, repetitions, stream};

/// What became of every flip on one sample, by its number.
struct Truth {
    /// Whether the decision changed.
    sdc: Vec<bool>,
    /// Whether any logit changed.
    felt: Vec<bool>,
    /// The flips of each tensor.
    tensors: Vec<Vec<usize>>,
}

/// Runs every flip of a packed weight on the samples that are decided most narrowly; pairs are
/// numbered sample by sample.
fn exhaustive(samples: usize) -> Truth {
    let checkpoint = embedded::digits();
    let source = Source::memory(checkpoint.name, checkpoint.files.iter().copied());
    let model = formats::load(&source, &LoadOptions::default()).expect("a fixture loads").model;
    let inputs = checkpoint.file("inputs.safetensors").expect("inputs");
    let embeds = archive::read(inputs).expect("a fixture is well formed").remove("inputs_embeds");
    let embeds = embeds.expect("embeddings");
    let (positions, width) = (embeds.shape[1], embeds.shape[2]);
    let rows = embeds.floats().expect("floats");
    let space = Space::new(&model, KvKind::F32);
    let number = space.count(Target::WeightCode, positions);
    let mut truth = Truth { sdc: Vec::new(), felt: Vec::new(), tensors: Vec::new() };
    let mut tensors: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    let golden = |sample: &[f32]| {
        let rows = Array2::from_shape_vec((positions, width), sample.to_vec()).expect("a shape");
        let sample = Sample { input: Input::Embedded(rows), label: None, classes: None };
        Golden::new(&model, kernels::best(), KvKind::F32, Read::Last, sample).expect("a sample")
    };
    let mut goldens: Vec<_> = rows.chunks_exact(positions * width).map(golden).collect();
    goldens.sort_by(|a, b| margin(a).total_cmp(&margin(b)));
    for golden in &goldens[..samples] {
        for flip in 0..number {
            let address = space.address(Target::WeightCode, positions, flip);
            let fault = Fault::single(address);
            let trial = run_trial(&model, kernels::best(), golden, &fault, UnusedCode::Deployed);
            let Address::Code { layer, slot, .. } = address else { panic!("a code") };
            tensors.entry((layer, slot as usize)).or_default().push(truth.sdc.len());
            truth.sdc.push(trial.outcome == Outcome::Sdc);
            truth.felt.push(trial.outcome != Outcome::Masked { identical: true });
        }
    }
    truth.tensors = tensors.into_values().collect();
    truth
}

/// By how much the best logit leads.
fn margin(golden: &Golden) -> f32 {
    let mut logits = golden.logits().row(0).to_vec();
    logits.sort_by(|a, b| b.total_cmp(a));
    logits[0] - logits[1]
}

/// `number` distinct members of a list.
fn distinct(rng: &mut TrialRng, list: &[usize], number: usize) -> Vec<usize> {
    let mut list = list.to_vec();
    for at in 0..number {
        let other = at + rng.below((list.len() - at) as u64) as usize;
        list.swap(at, other);
    }
    list.truncate(number);
    list
}

/// The intervals of one campaign, by method.
fn campaign(
    rng: &mut TrialRng,
    events: &[bool],
    tensors: &[Vec<usize>],
) -> [(&'static str, RateInterval); 5] {
    let all = events.len() as u64;
    let count = |drawn: &[usize]| drawn.iter().filter(|&&at| events[at]).count() as u64;
    let drawn: Vec<usize> = (0..500).map(|_| rng.below(all) as usize).collect();
    let mut seen = drawn.clone();
    seen.sort_unstable();
    seen.dedup();
    let strata: Vec<_> = tensors
        .iter()
        .map(|tensor| {
            let part = distinct(rng, tensor, 35);
            Stratum::distinct(tensor.len() as u64, 35, count(&part))
        })
        .collect();
    // The first tensors are proven, here by having been tried as a whole.
    let proven: Vec<_> = tensors
        .iter()
        .zip(&strata)
        .enumerate()
        .map(
            |(at, (tensor, open))| {
                if at < 5 { Stratum::known(tensor.len() as u64, count(tensor)) } else { *open }
            },
        )
        .collect();
    let mut sequence = Sequential::new(0.05, 0.02);
    while sequence.trials() < 2000 && !sequence.is_within(0.02) {
        let more: Vec<usize> = (0..100).map(|_| rng.below(all) as usize).collect();
        sequence.update(count(&more), 100);
    }
    let finite = finite_population(count(&seen), seen.len() as u64, all, 0.05);
    [
        ("Clopper-Pearson, 500 draws", clopper_pearson(count(&drawn), 500, 0.05)),
        ("finite population, their distinct faults", finite.rate()),
        ("strata, 35 distinct a tensor", stratified(&strata, 0.05).interval),
        ("strata, five tensors known", stratified(&proven, 0.05).interval),
        ("sequence, stopped at a half-width of 2 % or 2000", sequence.interval()),
    ]
}

#[test]
fn a_thousand_sampled_campaigns_contain_the_exhaustive_truth() {
    let truth = exhaustive(2);
    let runs = repetitions(1000);
    for (name, events) in [("sdc", &truth.sdc), ("any logit", &truth.felt)] {
        let marked = events.iter().filter(|event| **event).count();
        let rate = marked as f64 / events.len() as f64;
        println!("{name}: {marked} of {} faults, {:.2} %", events.len(), 100.0 * rate);
        let mut table: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
        for run in 0..runs {
            let mut rng = stream(name, run);
            for (method, interval) in campaign(&mut rng, events, &truth.tensors) {
                let (right, width) = table.entry(method).or_default();
                *right += u64::from(contains(interval, rate));
                *width += interval.high - interval.low;
            }
        }
        for (method, (right, width)) in table {
            println!("{name}, {method}: mean width {:.4}", width / runs as f64);
            hold(&format!("{name}, {method}"), runs - right, runs, 0.05);
        }
        // What the first of them comes to over all campaigns, beside what it came to in these.
        let law = binomial(500, rate);
        let right = (0..=500).filter(|&x| contains(clopper_pearson(x, 500, 0.05), rate));
        let exact: f64 = right.map(|x| law[x as usize]).sum();
        println!("{name}, Clopper-Pearson, 500 draws: right in {:.2} % exactly", 100.0 * exact);
        assert!(exact >= 0.95, "{name}: {exact}");
    }
}
