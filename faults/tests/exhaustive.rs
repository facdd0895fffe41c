//! The whole map against single trials of every bit.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use engine::kernels;
use engine::model::{KvKind, Model, Slot};
use engine::walk::Read;
use faults::{
    Address, Cell, Fault, FaultMap, Golden, Outcome, Sample, SampleError, Space, Target,
    UnusedCode, exhaust, run_trial,
};
use support::{Lcg, model, prompt, shape};

const HOW: (KvKind, Read, UnusedCode) = (KvKind::F32, Read::Last, UnusedCode::Deployed);

fn samples(model: &Model, count: usize) -> Vec<Sample> {
    let random = &mut Lcg(4);
    (0..count).map(|_| Sample::of_ids(prompt(model.config.vocabulary, 4, random))).collect()
}

fn map(model: &Model, how: (KvKind, Read, UnusedCode), samples: &[Sample]) -> FaultMap {
    exhaust(model, kernels::best(), how, samples, &|_, _| (), &|| false).expect("sound samples")
}

/// The cell of every tensor, row and bit, from a trial for each fault.
fn by_hand(model: &Model, how: (KvKind, Read, UnusedCode), samples: &[Sample], map: &FaultMap) {
    let (kv, read, unused) = how;
    let space = Space::new(model, kv);
    let mut cells = std::collections::BTreeMap::<(usize, Slot, usize, u8), Cell>::new();
    for sample in samples {
        let golden = Golden::new(model, kernels::best(), kv, read, sample.clone());
        let golden = golden.expect("a sound sample");
        for number in 0..space.count(Target::WeightCode, sample.tokens()) {
            let address = space.address(Target::WeightCode, sample.tokens(), number);
            let Address::Code { layer, slot, row, bit, .. } = address else { panic!("a code") };
            let fault = Fault::single(address);
            let outcome = run_trial(model, kernels::best(), &golden, &fault, unused).outcome;
            let cell = cells.entry((layer, slot, row, bit)).or_default();
            match outcome {
                Outcome::Masked { identical } => {
                    cell.masked += 1;
                    cell.identical += u64::from(identical);
                }
                Outcome::Sdc => cell.sdc += 1,
                Outcome::Due(_) => cell.due += 1,
            }
        }
    }
    let mut seen = 0;
    for tensor in &map.tensors {
        for (row, found) in tensor.rows.iter().enumerate() {
            for (bit, cell) in found.iter().enumerate() {
                let expected = cells[&(tensor.layer, tensor.slot, row, bit as u8)];
                assert_eq!(*cell, expected, "{} {:?} {row} {bit}", tensor.layer, tensor.slot);
                seen += 1;
            }
        }
    }
    assert_eq!(seen, cells.len());
}

#[test]
fn every_cell_counts_the_outcomes_of_single_trials() {
    for (index, read, unused) in [
        (0, Read::Last, UnusedCode::Deployed),
        (5, Read::All, UnusedCode::Zero),
        (22, Read::Last, UnusedCode::Detect),
    ] {
        let model = model(&shape(index), 3);
        let (samples, how) = (samples(&model, 2), (KvKind::Int8, read, unused));
        let map = map(&model, how, &samples);
        by_hand(&model, how, &samples, &map);
        let total = map.total();
        assert_eq!((map.counts.faults, map.samples), (total.faults(), 2));
        assert!(total.masked > total.identical && total.identical > 0, "{total:?}");
        assert_eq!(total.due > 0, unused == UnusedCode::Detect);
        assert!(map.counts.collapsed + map.counts.still > 0, "{:?}", map.counts);
    }
}

#[test]
fn the_map_does_not_depend_on_threads() {
    let model = model(&shape(1), 5);
    let samples = samples(&model, 1);
    let expected = map(&model, HOW, &samples);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        assert_eq!(pool.install(|| map(&model, HOW, &samples)), expected);
    }
}

#[test]
fn a_stopped_run_holds_whole_samples_and_a_bad_one_is_named() {
    let model = model(&shape(1), 5);
    let mut three = samples(&model, 3);
    let told = AtomicU64::new(0);
    let progress = |done: u64, all: u64| {
        told.fetch_max(3 * done / all, Ordering::Relaxed);
    };
    let stop = || told.load(Ordering::Relaxed) >= 2;
    let stopped = exhaust(&model, kernels::best(), HOW, &three, &progress, &stop);
    let stopped = stopped.expect("sound samples");
    assert_eq!(stopped, map(&model, HOW, &three[..2]));
    three[1] = Sample::of_ids(vec![]);
    let error = exhaust(&model, kernels::best(), HOW, &three, &|_, _| (), &|| false);
    assert_eq!(error.expect_err("refused"), (1, SampleError::Empty));
}
