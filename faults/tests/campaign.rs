//! Trials and campaigns, from outside: late start, purity, threads, prefixes, counts.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::kernels;
use engine::model::{KvKind, Model};
use engine::walk::{self, Exact, Read};
use faults::{
    Address, Campaign, CampaignError, Cause, EffectError, Fault, Faulty, Golden, Input, Outcome,
    Overlay, Plan, Record, Sample, SampleError, Space, Tally, Target, UnusedCode, clopper_pearson,
    effect, embed_with, run, run_trial,
};
use ndarray::Array2;
use proptest::prelude::*;
use support::{Lcg, model, prompt, same, shape};

const KINDS: [KvKind; 4] = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit];

fn plan(targets: &[Target]) -> Plan {
    Plan {
        seed: 42,
        trials: 60,
        flips: 1,
        targets: targets.to_vec(),
        unused: UnusedCode::Deployed,
        kv: KvKind::F16,
        confidence: 0.95,
        positions: Read::All,
        worst: 8,
    }
}

fn samples(model: &Model, number: usize) -> Vec<Sample> {
    let random = &mut Lcg(77);
    let one = |index: usize| {
        let mut sample = Sample::of_ids(prompt(model.config.vocabulary, 3 + index % 4, random));
        if index % 2 == 1 {
            sample.label = Some(3);
            sample.classes = Some(vec![3, 1, 8, 3]);
        }
        sample
    };
    (0..number).map(one).collect()
}

/// All targets of a model without linear layers of floats.
const STRUCK: [Target; 11] = [
    Target::WeightCode,
    Target::WeightScale,
    Target::Norm,
    Target::Embedding,
    Target::LmHead,
    Target::KvF32,
    Target::KvF16,
    Target::KvInt8,
    Target::KvOneBit,
    Target::KvInt8Scale,
    Target::KvOneBitScale,
];

fn campaign<'a>(model: &'a Model, plan: &Plan) -> Campaign<'a> {
    let identity = plan.identity("model", "inputs");
    let samples = samples(model, 5);
    Campaign::new(model, kernels::best(), plan.clone(), identity, &samples).expect("a sound plan")
}

fn all_but_head() -> Vec<Target> {
    STRUCK.into_iter().filter(|&target| target != Target::LmHead).collect()
}

fn tally(campaign: &Campaign) -> Tally {
    run(campaign, &|_| (), &|| false)
}

/// The whole walk under a fault, from the first layer on.
fn whole(model: &Model, golden: &Golden, fault: &Fault) -> Array2<f32> {
    let overlay = Overlay::new(model, fault, UnusedCode::Deployed);
    let rows = match &golden.sample.input {
        Input::Ids(ids) => embed_with(model, ids, &overlay).expect("tokens"),
        Input::Embedded(rows) => rows.clone(),
    };
    let mut domain = Faulty::new(Exact::new(kernels::best(), model, golden.kv), &overlay);
    walk::run(&mut domain, model, &rows, 0, 0, golden.read)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn a_late_start_gives_the_bits_of_a_whole_run(
        index in 0usize..288, seed in any::<u64>(), flips in 1usize..4, embedded in any::<bool>(),
    ) {
        let shape = shape(index);
        let model = model(&shape, seed);
        let random = &mut Lcg(seed);
        let kind = KINDS[random.below(4)];
        let space = Space::new(&model, kind);
        let mut sample = Sample::of_ids(prompt(shape.vocabulary, 5, random));
        if embedded {
            let Input::Ids(ids) = &sample.input else { panic!() };
            sample.input = Input::Embedded(model.embed(ids).expect("tokens"));
        }
        let read = if random.below(3) == 0 { Read::Last } else { Read::All };
        for target in Target::ALL {
            let count = space.count(target, 5);
            if count == 0 {
                continue;
            }
            let fault = Fault::new((0..flips).map(|_| {
                space.address(target, 5, random.below(count as usize) as u64)
            }));
            let golden = Golden::new(&model, kernels::best(), kind, read, sample.clone());
            let golden = golden.expect("a sound sample");
            let unused = UnusedCode::Deployed;
            let effect =
                effect(&model, kernels::best(), (kind, read), sample.clone(), &fault, unused)
                    .expect("bits that exist");
            let expected = whole(&model, &golden, &fault);
            let after = effect.after.expect("computed");
            prop_assert!(same(&after, &expected), "{fault}");
            prop_assert!(same(&effect.before, golden.logits()));
            let identical = effect.trial.outcome == Outcome::Masked { identical: true };
            prop_assert_eq!(identical, same(&after, golden.logits()));
            let trial = run_trial(&model, kernels::best(), &golden, &fault, unused);
            prop_assert_eq!(format!("{trial:?}"), format!("{:?}", effect.trial));
        }
    }
}

#[test]
fn a_tally_is_the_same_for_any_number_of_threads_and_any_kernels() {
    let model = model(&shape(1), 5);
    let mut plan = plan(&all_but_head());
    plan.trials = 1500;
    plan.flips = 2;
    let expected = tally(&campaign(&model, &plan));
    assert_eq!(expected.trials, 1500);
    for threads in [1, 2, 3, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let got = pool.install(|| tally(&campaign(&model, &plan)));
        assert_eq!(format!("{got:?}"), format!("{expected:?}"), "{threads} threads");
    }
    let identity = plan.identity("model", "inputs");
    for table in kernels::available() {
        let samples = samples(&model, 5);
        let campaign = Campaign::new(&model, table, plan.clone(), identity, &samples);
        let got = tally(&campaign.expect("a sound plan"));
        assert_eq!(format!("{got:?}"), format!("{expected:?}"), "{}", table.name);
    }
}

#[test]
fn a_trial_depends_on_its_number_alone() {
    let model = model(&shape(0), 5);
    let plan = plan(&STRUCK);
    let campaign = campaign(&model, &plan);
    let forward: Vec<Record> = (0..60).map(|index| campaign.trial(index)).collect();
    let mut backward: Vec<Record> = (0..60).rev().map(|index| campaign.trial(index)).collect();
    backward.reverse();
    assert_eq!(format!("{forward:?}"), format!("{backward:?}"));
    for (index, record) in forward.iter().enumerate() {
        assert_eq!(record.target, STRUCK[index % 11], "in turn");
        let draw = campaign.draw(index as u64);
        assert_eq!((draw.target, draw.sample, draw.fault), {
            let Record { target, sample, fault, .. } = record.clone();
            (target, sample, fault)
        });
    }
    let mut longer = plan.clone();
    (longer.trials, longer.confidence) = (9000, 0.5);
    assert_eq!(longer.identity("m", "i"), plan.identity("m", "i"), "a longer one begins alike");
    let mut other = plan.clone();
    other.seed += 1;
    assert_ne!(other.identity("m", "i"), plan.identity("m", "i"));
}

#[test]
fn the_first_draws_of_a_campaign_are_pinned() {
    let model = model(&shape(0), 5);
    let campaign = campaign(&model, &plan(&STRUCK[..9]));
    let draws: Vec<String> = (0..9)
        .map(|index| {
            let draw = campaign.draw(index);
            format!("{} {} {}", draw.target.name(), draw.sample, draw.fault)
        })
        .collect();
    let pinned = [
        "weight_code 4 model.layers.0.mlp.up_proj.weight[17,20].0",
        "weight_scale 4 model.layers.0.self_attn.v_proj.weight_scale.6",
        "norm 3 model.layers.0.post_attention_layernorm.weight[2].5",
        "embedding 0 model.embed_tokens.weight[10,4].1",
        "lm_head 4 lm_head.weight[10,1].8",
        "kv_f32 4 kv.layers.0.value[token=2,head=0,dim=5].12",
        "kv_f16 4 kv.layers.0.key[token=1,head=1,dim=2].15",
        "kv_int8 1 kv.layers.0.key[token=3,head=1,dim=4].0",
        "kv_1bit 4 kv.layers.0.value[token=2,head=1,dim=3].0",
    ];
    assert_eq!(draws, pinned);
}

#[test]
fn a_stopped_run_is_a_prefix() {
    let model = model(&shape(0), 5);
    let mut plan = plan(&STRUCK);
    plan.trials = 3000;
    let campaign = campaign(&model, &plan);
    for stop_after in [0u64, 1, 17, 1024, 1500] {
        let seen = AtomicU64::new(0);
        let progress = |done: u64| {
            seen.fetch_max(done, Ordering::Relaxed);
        };
        let partial = run(&campaign, &progress, &|| seen.load(Ordering::Relaxed) >= stop_after);
        assert!(partial.trials < 3000, "stopped after {stop_after}");
        let mut shorter = Tally::new(plan.worst);
        shorter.absorb((0..partial.trials).map(|index| campaign.trial(index)));
        assert_eq!(format!("{partial:?}"), format!("{shorter:?}"));
    }
    let last = AtomicU64::new(0);
    let progress = |done: u64| {
        last.fetch_max(done, Ordering::Relaxed);
    };
    assert_eq!(run(&campaign, &progress, &|| false).trials, 3000);
    assert_eq!(last.load(Ordering::Relaxed), 3000, "progress reaches the end");
}

#[test]
fn flips_of_a_trial_are_distinct_bits() {
    let model = model(&shape(0), 5);
    let mut plan = plan(&[Target::KvOneBit, Target::WeightScale]);
    plan.flips = 60;
    let campaign = campaign(&model, &plan);
    for index in 0..40 {
        let draw = campaign.draw(index);
        let bits: BTreeSet<Address> = draw.fault.flips().map(|flip| flip.storage()).collect();
        assert_eq!(bits.len(), 60);
    }
}

#[test]
fn counts_add_up_and_the_worst_are_the_worst() {
    let model = model(&shape(0), 5);
    let mut plan = plan(&STRUCK);
    plan.trials = 1100;
    let campaign = campaign(&model, &plan);
    let records: Vec<Record> = (0..1100).map(|index| campaign.trial(index)).collect();
    let tally = tally(&campaign);
    let by_target = |target| records.iter().filter(move |r: &&Record| r.target == target);
    for (&target, summary) in &tally.targets {
        assert_eq!(summary.trials, 100);
        assert_eq!(summary.masked + summary.sdc + summary.due, 100);
        let sdc = by_target(target).filter(|r| r.trial.outcome == Outcome::Sdc).count() as u64;
        assert_eq!(summary.sdc, sdc);
        let rate = summary.sdc_rate(0.95);
        assert_eq!(rate.interval, clopper_pearson(sdc, 100, 1.0 - 0.95));
        let layers = tally.layers.iter().filter(|((t, _), _)| *t == target);
        assert_eq!(layers.map(|(_, s)| s.trials).sum::<u64>(), 100, "one flip, one layer");
        let bits = tally.bits.iter().filter(|((t, _), _)| *t == target);
        assert_eq!(bits.map(|(_, s)| s.trials).sum::<u64>(), 100, "one flip, one bit");
        let kl: f64 =
            by_target(target).filter_map(|r| r.trial.shift).map(|s| s.kl_divergence).sum();
        assert_eq!(summary.kl_sum, kl);
    }
    let change = |r: &Record| r.trial.shift.map_or(f64::INFINITY, |s| s.max_logit_change);
    let mut sorted: Vec<&Record> =
        records.iter().filter(|r| r.trial.outcome.severity() > 0).collect();
    sorted.sort_by(|a, b| {
        (b.trial.outcome.severity().cmp(&a.trial.outcome.severity()))
            .then(change(b).total_cmp(&change(a)))
    });
    assert_eq!(tally.worst.iter().collect::<Vec<_>>(), sorted[..8]);
    assert!(tally.targets[&Target::WeightCode].sdc > 0, "random models do change their minds");
    assert!(tally.targets.values().any(|s| s.due > 0), "exponents do overflow");
}

#[test]
fn the_detecting_policy_ends_a_trial_that_makes_an_unused_code() {
    let model = model(&shape(0), 5);
    let mut plan = plan(&[Target::WeightCode]);
    plan.trials = 300;
    let deployed = tally(&campaign(&model, &plan));
    plan.unused = UnusedCode::Detect;
    let campaign = campaign(&model, &plan);
    let mut detected = 0;
    for index in 0..300 {
        let record = campaign.trial(index);
        let made = record.fault.makes_unused_code(&model);
        assert_eq!(record.trial.outcome == Outcome::Due(Cause::UnusedCode), made);
        detected += u64::from(made);
    }
    // A third of the flips of evenly spread codes makes the unused one.
    assert!((70..130).contains(&detected), "{detected}");
    assert_eq!(deployed.targets[&Target::WeightCode].due, 0);
    let code = campaign.trial(0).fault;
    let sample = samples(&model, 1).remove(0);
    let shown = effect(
        &model,
        kernels::best(),
        (KvKind::F32, Read::All),
        sample,
        &code,
        UnusedCode::Detect,
    );
    assert_eq!(shown.expect("bits that exist").after.is_none(), code.makes_unused_code(&model));
}

#[test]
fn embedded_rows_are_not_read_from_the_embedding() {
    let untied = model(&shape(0), 5);
    let ids = prompt(19, 4, &mut Lcg(3));
    let address = Address::Embedding { row: ids[1] as usize, column: 0, bit: 14 };
    let fault = Fault::single(address);
    let shown = |input| {
        let sample = Sample { input, label: None, classes: None };
        let how = (KvKind::F32, Read::All);
        let unused = UnusedCode::Deployed;
        effect(&untied, kernels::best(), how, sample, &fault, unused).expect("a bit").trial.outcome
    };
    assert_ne!(shown(Input::Ids(ids.clone())), Outcome::Masked { identical: true });
    let rows = untied.embed(&ids).expect("tokens");
    assert_eq!(shown(Input::Embedded(rows)), Outcome::Masked { identical: true });
}

#[test]
fn plans_and_samples_that_cannot_run_are_refused_with_the_reason() {
    let tied = model(&shape(1), 5);
    let refuse = |change: &dyn Fn(&mut Plan, &mut Vec<Sample>)| {
        let (mut plan, mut samples) = (plan(&[Target::WeightScale]), samples(&tied, 2));
        change(&mut plan, &mut samples);
        let identity = plan.identity("m", "i");
        let campaign = Campaign::new(&tied, kernels::best(), plan, identity, &samples);
        campaign.map(|_| ()).expect_err("refused")
    };
    assert_eq!(refuse(&|_, s| s.clear()), CampaignError::NoSamples);
    assert_eq!(refuse(&|p, _| p.flips = 0), CampaignError::NoFlips);
    let message = refuse(&|p, _| p.targets.push(Target::WeightScale)).to_string();
    assert!(message.contains("weight_scale,weight_scale"), "{message}");
    let message = refuse(&|p, _| p.targets.push(Target::LmHead)).to_string();
    assert!(message.contains("lm_head has 0 bits"), "{message}");
    assert!(matches!(refuse(&|p, _| p.flips = 1 << 20), CampaignError::Bits { .. }));
    for confidence in [0.0, 1.0, f64::NAN, -3.0] {
        let error = refuse(&|p, _| p.confidence = confidence);
        assert!(matches!(error, CampaignError::Confidence { .. }));
    }
    let sample = |change: &dyn Fn(&mut Sample)| match refuse(&|_, s| change(&mut s[1])) {
        CampaignError::Sample { sample: 1, source } => source,
        other => panic!("{other}"),
    };
    let vocabulary = 19;
    assert_eq!(sample(&|s| s.input = Input::Ids(vec![])), SampleError::Empty);
    assert_eq!(
        sample(&|s| s.input = Input::Ids(vec![1, 99])),
        SampleError::Token { what: "token", id: 99, vocabulary }
    );
    assert_eq!(
        sample(&|s| s.label = Some(19)),
        SampleError::Token { what: "label", id: 19, vocabulary }
    );
    assert_eq!(
        sample(&|s| s.classes = Some(vec![1, 20])),
        SampleError::Token { what: "class", id: 20, vocabulary }
    );
    assert_eq!(sample(&|s| s.classes = Some(vec![4, 4])), SampleError::Classes { got: 1 });
    assert_eq!(
        sample(&|s| s.input = Input::Embedded(Array2::zeros((2, 7)))),
        SampleError::Width { got: 7, expected: 24 }
    );
    assert_eq!(
        sample(&|s| s.input = Input::Embedded(Array2::from_elem((2, 24), f32::NAN))),
        SampleError::NotFinite
    );
    let fault = Fault::single(Address::Head { row: 0, column: 0, bit: 0 });
    let sample = samples(&tied, 1).remove(0);
    let how = (KvKind::F32, Read::All);
    let error = effect(&tied, kernels::best(), how, sample, &fault, UnusedCode::Deployed);
    assert!(matches!(error, Err(EffectError::Address(_))));
}
