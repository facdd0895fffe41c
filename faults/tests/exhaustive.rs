//! The whole map against single trials of every bit, and against drawn ones.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::kernels;
use engine::model::{KvKind, Model, Slot};
use engine::walk::Read;
use faults::journal::{self, Header, JournalError, Shard, Writer};
use faults::mix::Within;
use faults::{
    Address, BitEffect, Campaign, Cell, Fault, FaultMap, Golden, MapPlan, Outcome, Plan, RowEntry,
    Sample, SampleError, Space, Strip, Sweep, SweepError, Target, UnusedCode, run_trial,
};
use support::{Lcg, model, prompt, shape};

fn plan(samples: u64) -> MapPlan {
    MapPlan {
        samples,
        unused: UnusedCode::Deployed,
        kv: KvKind::F32,
        positions: Read::Last,
        prove: false,
        within: Within::default(),
        ranked: None,
    }
}

fn samples(model: &Model, count: usize) -> Vec<Sample> {
    let random = &mut Lcg(4);
    (0..count).map(|_| Sample::of_ids(prompt(model.config.vocabulary, 4, random))).collect()
}

fn sweep<'a>(model: &'a Model, plan: &MapPlan, samples: &[Sample]) -> Sweep<'a> {
    Sweep::new(model, kernels::best(), plan.clone(), samples).expect("sound samples")
}

fn all(sweep: &Sweep, shard: Shard, present: Vec<RowEntry>) -> Vec<RowEntry> {
    sweep.run(shard, present, None, None, &|_| (), &|| false).expect("no journal to fail")
}

/// The cell of every tensor, row, bit and value that it had, from a trial for each fault.
fn by_hand(model: &Model, plan: &MapPlan, samples: &[Sample], map: &FaultMap) {
    let space = Space::new(model, plan.kv);
    let mut cells = std::collections::BTreeMap::<(usize, Slot, usize, u8, u8), Cell>::new();
    for sample in samples {
        let golden = Golden::new(model, kernels::best(), plan.kv, plan.positions, sample.clone());
        let golden = golden.expect("a sound sample");
        for number in 0..space.count(Target::WeightCode, sample.tokens()) {
            let address = space.address(Target::WeightCode, sample.tokens(), number);
            let Address::Code { layer, slot, row, column, bit } = address else { panic!("a code") };
            let fault = Fault::single(address);
            let outcome = run_trial(model, kernels::best(), &golden, &fault, plan.unused).outcome;
            let from = code(model, layer, slot, row, column) >> bit & 1;
            let cell = cells.entry((layer, slot, row, bit, from)).or_default();
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
            for (place, cell) in found.iter().flatten().enumerate() {
                let (bit, from) = (place as u8 / 2, place as u8 % 2);
                let key = (tensor.layer, tensor.slot, row, bit, from);
                let expected = cells.get(&key).copied().unwrap_or_default();
                assert_eq!(*cell, expected, "{key:?}");
                seen += u64::from(cell.faults() > 0);
            }
        }
    }
    assert_eq!(seen, cells.len() as u64);
}

fn code(model: &Model, layer: usize, slot: Slot, row: usize, column: usize) -> u8 {
    match &model.layers[layer].linear(slot).weights {
        engine::model::Weights::Ternary { rows, .. } => rows.code(row, column),
        _ => panic!("a packed tensor"),
    }
}

#[test]
fn every_cell_counts_the_outcomes_of_single_trials() {
    let mut early = 0;
    for (index, positions, unused) in [
        (0, Read::Last, UnusedCode::Deployed),
        (5, Read::All, UnusedCode::Zero),
        (22, Read::Last, UnusedCode::Detect),
    ] {
        let model = model(&shape(index), 3);
        let samples = samples(&model, 2);
        let plan = MapPlan { kv: KvKind::Int8, positions, unused, ..plan(2) };
        let sweep = sweep(&model, &plan, &samples);
        let entries = all(&sweep, Shard::WHOLE, Vec::new());
        sweep.check(&entries).expect("rows of this map");
        let map = FaultMap::of(&sweep, &entries);
        by_hand(&model, &plan, &samples, &map);
        let (total, counts) = (map.total(), map.counts());
        assert_eq!((counts.faults, total.faults()), (2 * sweep.bits(), 2 * sweep.bits()));
        assert_eq!(counts.still + counts.collapsed + counts.executed, counts.faults);
        assert!(total.masked > total.identical && total.identical > 0, "{total:?}");
        assert_eq!(total.due > 0, unused == UnusedCode::Detect);
        assert!(counts.collapsed + counts.still > 0, "{counts:?}");
        early += counts.early;
        let changes: u64 = map.tensors.iter().map(|tensor| tensor.token_changes).sum();
        assert_eq!(changes > 0, positions == Read::All);
    }
    assert!(early > 0, "some rows are clean again");
}

#[test]
fn drawn_single_flips_are_those_of_the_map() {
    let model = model(&shape(5), 8);
    let samples = samples(&model, 3);
    let drawn = Plan {
        seed: 3,
        trials: 400,
        flips: 1,
        targets: vec![Target::WeightCode],
        unused: UnusedCode::Deployed,
        kv: KvKind::F32,
        confidence: 0.99,
        positions: Read::Last,
        worst: 0,
    };
    let identity = drawn.identity("model", "inputs");
    let campaign = Campaign::new(&model, kernels::best(), drawn, identity, &samples);
    let campaign = campaign.expect("a sound plan");
    // Of one sample alone, a ranking says of every bit what its flip does.
    let mut seen = 0;
    for (number, sample) in samples.iter().enumerate() {
        let sweep = sweep(&model, &plan(1), std::slice::from_ref(sample));
        let ranking = sweep.rank(Shard::WHOLE, &[], None, &|_| (), &|| false);
        let ranking = ranking.expect("a sound sample").1.expect("nothing stops it");
        assert_eq!(ranking.len() as u64, sweep.bits());
        let effects: HashMap<Address, BitEffect> =
            (0..ranking.len()).map(|rank| ranking.at(&sweep, rank)).collect();
        assert_eq!(effects.len(), ranking.len(), "every bit once");
        let total = FaultMap::of(&sweep, &all(&sweep, Shard::WHOLE, Vec::new())).total();
        assert_eq!(effects.values().map(|effect| u64::from(effect.sdc)).sum::<u64>(), total.sdc);
        for record in campaign.records(0..400, &|| (), &|| false) {
            if record.sample != number {
                continue;
            }
            let effect = effects[record.fault.flips().next().expect("one flip")];
            assert_eq!(effect.sdc == 1, record.trial.outcome == Outcome::Sdc, "{}", record.fault);
            let shift = record.trial.shift.expect("nothing is detected");
            assert_eq!(effect.logit_change.to_bits(), shift.max_logit_change.to_bits());
            assert_eq!(effect.margin_loss.to_bits(), shift.margin_loss.to_bits());
            seen += 1;
        }
    }
    assert_eq!(seen, 400);
}

#[test]
fn the_map_does_not_depend_on_threads_shards_or_interruptions() {
    let model = model(&shape(1), 5);
    let samples = samples(&model, 3);
    let plan = MapPlan { positions: Read::All, ..plan(3) };
    let sweep = sweep(&model, &plan, &samples);
    let expected = all(&sweep, Shard::WHOLE, Vec::new());
    assert_eq!(expected.len() as u64, sweep.rows());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        assert_eq!(pool.install(|| all(&sweep, Shard::WHOLE, Vec::new())), expected);
    }
    let mut parts = Vec::new();
    for index in 0..3 {
        let shard = Shard { index, of: 3 };
        let part = all(&sweep, shard, Vec::new());
        assert_eq!(part.len() as u64, sweep.rows_of(shard));
        parts.extend(part);
    }
    assert_eq!(journal::merged(parts).expect("one map"), expected);

    let folder = std::env::temp_dir().join(format!("bitnet-certify-map-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let header = Header::new("model", "inputs", &plan.to_toml(), sweep.rows(), Shard::WHOLE);
    drop(Writer::begin::<RowEntry>(&folder, &header).expect("a new journal"));
    let mut rounds = 0;
    loop {
        let (mut writer, found) = Writer::resume::<RowEntry>(&folder).expect("a journal");
        let seen = AtomicU64::new(0);
        let progress = |entries: &[RowEntry]| {
            seen.fetch_add(entries.len() as u64, Ordering::Relaxed);
        };
        let stop = || seen.load(Ordering::Relaxed) >= 60;
        let entries = sweep
            .run(Shard::WHOLE, found.entries, None, Some(&mut writer), &progress, &stop)
            .unwrap();
        let again = journal::read::<RowEntry>(&folder).expect("a journal");
        assert_eq!(again.entries, entries);
        rounds += 1;
        if entries.len() as u64 == sweep.rows() {
            assert_eq!(entries, expected);
            break;
        }
    }
    assert!(rounds > 1, "it was stopped on the way");
    let of_trials = journal::read::<journal::Entry>(&folder).expect_err("rows are no trials");
    assert!(matches!(of_trials, JournalError::NotOne { .. }), "{of_trials}");
    std::fs::remove_dir_all(&folder).expect("a folder of one's own");
}

#[test]
fn rows_of_another_model_and_bad_plans_are_refused() {
    let (model, other) = (model(&shape(1), 5), model(&shape(1), 6));
    let samples = samples(&model, 2);
    let here = sweep(&model, &plan(2), &samples);
    let entries = all(&here, Shard::WHOLE, Vec::new());
    assert!(sweep(&other, &plan(2), &samples).check(&entries).is_err(), "other codes");
    assert!(sweep(&model, &plan(1), &samples).check(&entries).is_err(), "fewer samples");
    let part = |layers: Option<Vec<usize>>, tensors: &[&str]| {
        let tensors = (!tensors.is_empty()).then(|| tensors.iter().map(|&t| t.into()).collect());
        let within = Within { layers, tensors, part: None };
        let plan = MapPlan { within, ..plan(2) };
        Sweep::new(&model, kernels::best(), plan, &samples)
    };
    let down = part(Some(vec![0]), &["mlp.down_proj"]).expect("a tensor");
    let found = all(&down, Shard::WHOLE, Vec::new());
    let whole = FaultMap::of(&here, &entries).tensors;
    let same = whole.into_iter().find(|of| (of.layer, of.slot) == (0, Slot::Down));
    assert_eq!(FaultMap::of(&down, &found).tensors, [same.expect("the tensor")]);
    assert!(matches!(part(Some(vec![99]), &[]), Err(SweepError::Nowhere { .. })));
    assert!(matches!(part(None, &["mlp.down"]), Err(SweepError::Nowhere { .. })));
    let mut bad = samples.clone();
    bad[1] = Sample::of_ids(vec![]);
    let error = Sweep::new(&model, kernels::best(), plan(2), &bad).expect_err("refused");
    assert_eq!(error, SweepError::Sample { sample: 1, source: SampleError::Empty });
    let error = Sweep::new(&model, kernels::best(), plan(3), &samples).expect_err("refused");
    assert_eq!(error, SweepError::Samples { got: 2, expected: 3 });
}

/// What each bit did on every sample, by hand: decisions changed, detected, the worst margin.
fn effects(
    model: &Model,
    plan: &MapPlan,
    samples: &[Sample],
    targets: &[Target],
) -> HashMap<Address, (u32, u32, f64)> {
    let space = Space::new(model, plan.kv);
    let mut effects: HashMap<Address, (u32, u32, f64)> = HashMap::new();
    for sample in samples {
        let golden = Golden::new(model, kernels::best(), plan.kv, plan.positions, sample.clone());
        let (golden, tokens) = (golden.expect("a sound sample"), sample.tokens());
        let all = targets.iter().flat_map(|&target| {
            let numbers = 0..space.count(target, tokens);
            numbers.map(move |number| (target, number))
        });
        for (target, number) in all {
            let address = space.address(target, tokens, number);
            let fault = Fault::single(address);
            let trial = run_trial(model, kernels::best(), &golden, &fault, plan.unused);
            let effect = effects.entry(address).or_insert((0, 0, f64::NEG_INFINITY));
            effect.0 += u32::from(trial.outcome == Outcome::Sdc);
            effect.1 += u32::from(matches!(trial.outcome, Outcome::Due(_)));
            let loss = trial.shift.map_or(f64::NEG_INFINITY, |shift| shift.margin_loss);
            effect.2 = if loss > effect.2 { loss } else { effect.2 };
        }
    }
    effects
}

#[test]
fn a_ranking_does_not_depend_on_shards_or_interruptions() {
    let model = model(&shape(1), 5);
    let samples = samples(&model, 3);
    let codes = [Target::WeightCode];
    for (unused, targets) in [
        (UnusedCode::Deployed, &codes[..]),
        (UnusedCode::Detect, &codes),
        (UnusedCode::Deployed, &[Target::Norm, Target::WeightScale]),
    ] {
        let plan = MapPlan { ranked: Some(targets.to_vec()), unused, ..plan(3) };
        let sweep = sweep(&model, &plan, &samples);
        let whole = |strips: &[Strip]| {
            let found = sweep.rank(Shard::WHOLE, strips, None, &|_| (), &|| false);
            found.expect("sound samples").1.expect("nothing stops it")
        };
        let expected = whole(&[]);
        let effects = effects(&model, &plan, &samples, targets);
        assert_eq!(expected.len(), effects.len());
        for rank in 0..expected.len() {
            let (address, found) = expected.at(&sweep, rank);
            let (sdc, due, loss) = effects[&address];
            assert_eq!((found.sdc, found.due), (sdc, due), "{address}");
            assert_eq!(found.margin_loss.to_bits(), loss.to_bits(), "{address}");
        }
        let detected = effects.values().any(|effect| effect.1 > 0);
        assert_eq!(detected, targets != codes || unused == UnusedCode::Detect);
        // Shares, one of which is stopped and goes on.
        let strips = std::sync::Mutex::new(Vec::new());
        let keep = |fresh: &[Strip]| strips.lock().expect("no panic").extend_from_slice(fresh);
        for index in 0..3 {
            let shard = Shard { index, of: 3 };
            let seen = AtomicU64::new(0);
            let stop = || index == 1 && seen.fetch_add(1, Ordering::Relaxed) > 3;
            let (there, ranking) =
                sweep.rank(shard, &[], None, &keep, &stop).expect("sound samples");
            let wanted = shard.share_of(sweep.strips());
            assert!(ranking.is_none() && (there == wanted) == (index != 1), "{there} of {wanted}");
        }
        let sorted = || journal::merged(strips.lock().expect("no panic").clone()).expect("strips");
        let present = sorted();
        assert!(!present.is_empty() && (present.len() as u64) < sweep.strips());
        sweep.check_strips(&present).expect("strips of this model");
        let rest = sweep.rank(Shard::WHOLE, &present, None, &keep, &|| false);
        assert_eq!(rest.expect("sound samples").1.as_ref(), Some(&expected));
        let all = sorted();
        assert_eq!(all.len() as u64, sweep.strips());
        assert_eq!(whole(&all), expected);
        let other = MapPlan { samples: 1, ..plan };
        let other = self::sweep(&model, &other, &samples);
        assert!(other.check_strips(&all).is_err(), "strips of samples that it has not");
    }
}
