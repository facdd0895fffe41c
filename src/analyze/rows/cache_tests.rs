//! Every single flip of stored keys and values of a trained model, at every step: none moves a
//! logit by more than its bound, and none that is proven masked changes the decision.

use certify::claim::{Decision, Deployed, decide};
use engine::kernels;
use engine::model::KvKind;
use engine::walk::Read;
use faults::{Address, Fault, Golden, Outcome, UnusedCode, run_trial};

use super::anywhere::Subject;
use super::cache::{CacheBits, CacheFlips};
use super::tests::{case, subject};
use crate::analyze::fault_sample;
use crate::analyze::verdicts::margin_of;

/// What every flip did, and how many of them are proven masked.
struct Exhausted {
    runs: u64,
    proven: u64,
    /// The largest share of a bound that a flip reached.
    tightest: f64,
}

fn exhaust(name: &str, kind: KvKind, layer: usize) -> Exhausted {
    let (model, samples) = subject(name, 1);
    let case = case(&model, None);
    let deployed = Deployed { model: &model, kernels: kernels::best(), kv: kind };
    let prover = case.prover(&deployed);
    let x = samples[0].embedded(&model);
    let streams = deployed.streams(&x);
    let logits = deployed.logits(&x, 0, Read::Last);
    let classes = samples[0].classes.clone();
    let winner = decide(logits.as_slice().expect("one row"), &classes).expect("numbers");
    let claim = margin_of(&Decision { winner, classes }, 0);
    let of = Subject { streams: &streams, claim: &claim, logits: &logits };
    let golden = Golden::new(&model, kernels::best(), kind, Read::Last, fault_sample(&samples[0]))
        .expect("a clean run");
    let entries = prover.cache(layer, of);
    let mut all = Exhausted { runs: 0, proven: 0, tightest: 0.0 };
    for entry in &entries {
        let (_, bits) = CacheBits::of(kind)
            .into_iter()
            .find(|class| class.0 == entry.bits)
            .expect("a class of this storage type");
        all.proven += if entry.by.is_some() { entry.flips } else { 0 };
        for (bit, step) in
            bits.flat_map(|bit| (entry.place.token..x.nrows()).map(move |step| (bit, step)))
        {
            let (side, place) = (entry.side, entry.place);
            let fault = Fault::new([Address::Kv { layer, side, place, bit, step }]);
            let trial = run_trial(&model, kernels::best(), &golden, &fault, UnusedCode::Deployed);
            all.runs += 1;
            let masked = matches!(trial.outcome, Outcome::Masked { .. });
            assert!(entry.by.is_none() || masked, "{entry:?} bit {bit} step {step}");
            if let Some(bound) = entry.change {
                let shift = trial.shift.expect("a bounded change is finite");
                let change = shift.max_logit_change;
                assert!(change <= bound, "{entry:?} bit {bit} step {step}: {change}");
                let share = if bound > 0.0 { change / bound } else { 0.0 };
                all.tightest = if share > all.tightest { share } else { all.tightest };
            }
        }
    }
    let mut merged = CacheFlips::untried(kind, model.layers.len());
    merged.iter_mut().for_each(|layer| layer.merge(&entries));
    let proven: u64 = merged.iter().map(|layer| layer.proven).sum();
    assert_eq!(proven, all.proven);
    all
}

#[test]
fn no_flip_of_a_stored_key_or_value_leaves_its_bound() {
    let (mut runs, mut proven, mut tightest) = (0, 0, 0f64);
    for (kind, layer) in
        [(KvKind::Int8, 0), (KvKind::Int8, 1), (KvKind::F16, 1), (KvKind::OneBit, 0)]
    {
        let found = exhaust("@digits", kind, layer);
        println!("{kind:?} {layer}: {} of {} bits", found.proven, found.runs);
        runs += found.runs;
        proven += found.proven;
        tightest = if found.tightest > tightest { found.tightest } else { tightest };
    }
    println!("{runs} flips run, {proven} bits proven, tightest {tightest}");
    assert!(proven > 100, "only {proven}: the test would be empty");
    assert!(tightest > 0.5, "a bound is nearly reached: {tightest}");
}

#[test]
fn a_wrong_claim_is_proven_for_no_entry() {
    let (model, samples) = subject("@digits", 1);
    let case = case(&model, None);
    let deployed = case.deployed();
    let x = samples[0].embedded(&model);
    let (streams, logits) = (deployed.streams(&x), deployed.logits(&x, 0, Read::Last));
    let winner = decide(logits.as_slice().expect("one row"), &[]).expect("numbers");
    let loser = (winner + 1) % model.config.vocabulary;
    let claim = margin_of(&Decision { winner: loser, classes: Vec::new() }, 0);
    let of = Subject { streams: &streams, claim: &claim, logits: &logits };
    let entries = case.prover(&deployed).cache(1, of);
    assert!(entries.iter().all(|entry| entry.by.is_none()), "{entries:?}");
}
