//! A text under a fault is what the physically flipped model says, token by token.

mod support;

use engine::kernels;
use engine::model::{KvKind, Model, Side};
use engine::numerics::argmax;
use engine::walk::{self, Exact, Read};
use faults::{
    Address, Campaign, CleanText, Decoded, Fault, Generated, GenerationError, Golden, Input, Mix,
    Plan, PlanFile, Sample, Space, Split, Target, Text, UnusedCode, check_generation, generated,
};
use support::{Lcg, flip, model, prompt, shape};

const KINDS: [KvKind; 4] = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit];

/// Greedy decoding of a model, one token at a time from the first of the prompt on, in which bits
/// flip in the store itself before the walk of their step.
fn by_hand(model: &Model, kind: KvKind, ids: &[u32], fault: &Fault, asked: usize) -> Text {
    let mut exact = Exact::new(kernels::best(), model, kind);
    let (mut ids, mut text, prompt) = (ids.to_vec(), Text::default(), ids.len());
    for position in 0..ids.len() - 1 + asked {
        for flip in fault.flips() {
            let (Address::Kv { layer, side, step, .. }
            | Address::KvScale { layer, side, step, .. }) = *flip
            else {
                continue;
            };
            if step != position {
                continue;
            }
            let cache = &mut exact.caches[layer];
            let store = if side == Side::Key { &mut cache.keys } else { &mut cache.values };
            match *flip {
                Address::Kv { place, bit, .. } => store.flip(place, bit),
                Address::KvScale { token, head, bit, .. } => store.flip_scale(token, head, bit),
                _ => unreachable!("bits of a store"),
            }
        }
        let row = model.embed(&ids[position..=position]).expect("a token of the vocabulary");
        let logits = walk::run(&mut exact, model, &row, 0, position, Read::Last);
        if position + 1 < prompt {
            continue;
        }
        if logits.iter().any(|logit| !logit.is_finite()) {
            text.broken = true;
            break;
        }
        let token = argmax(logits.as_slice().expect("a row")).expect("numbers") as u32;
        text.tokens.push(token);
        ids.push(token);
        if model.config.end_tokens.contains(&token) {
            break;
        }
    }
    text
}

fn drawn(space: &Space, target: Target, tokens: usize, random: &mut Lcg) -> Fault {
    let flips = 1 + random.below(2);
    let count = space.count(target, tokens);
    Fault::new((0..flips).filter_map(|_| {
        let address = space.address(target, tokens, random.below(count as usize) as u64);
        // By hand a bit can flip only before the walk of a step, so after its own step.
        match address {
            Address::Kv { place, step, .. } if step <= place.token => None,
            Address::KvScale { token, step, .. } if step <= token => None,
            _ => Some(address),
        }
    }))
}

#[test]
fn texts_are_those_of_the_flipped_model() {
    let (mut same, mut other, mut broken, mut ended, mut recovered) = (0, 0, 0, 0, 0);
    for case in 0..60_u64 {
        let mut model = model(&shape(case as usize * 5), case);
        let random = &mut Lcg(case);
        let (tokens, asked) = (1 + random.below(6), [1, 5, 20][random.below(3)]);
        let ids = prompt(19, tokens, random);
        let kind = KINDS[random.below(4)];
        model.config.end_tokens = (0..case as u32 % 3).collect();
        let golden =
            Golden::new(&model, kernels::best(), kind, Read::Last, Sample::of_ids(ids.clone()));
        let Ok(golden) = golden else { continue };
        let clean = CleanText::new(&model, kernels::best(), &golden, asked);
        let nothing = Fault::new([]);
        assert_eq!(clean.text, by_hand(&model, kind, &ids, &nothing, asked), "{case}");
        let space = Space::new(&model, kind);
        for target in Target::ALL {
            if space.count(target, tokens) == 0 {
                continue;
            }
            let fault = drawn(&space, target, tokens, random);
            let mut twin = model.clone();
            let stored =
                |flip: &&Address| !matches!(flip, Address::Kv { .. } | Address::KvScale { .. });
            let weights = fault.flips().filter(stored);
            weights.for_each(|address| flip(&mut twin, address));
            let expected = by_hand(&twin, kind, &ids, &fault, asked);
            let got = clean.under(&model, kernels::best(), &fault, UnusedCode::Deployed);
            assert_eq!(got, expected, "{case} {fault}");
            let split = clean.split(&model, kernels::best(), &fault, UnusedCode::Deployed);
            assert_eq!(split.is_none(), got == clean.text);
            same += usize::from(split.is_none());
            other += usize::from(split.is_some());
            broken += usize::from(got.broken);
            ended += usize::from(got.tokens.len() < asked && !got.broken);
            recovered += usize::from(split.is_some_and(|split| split.recovered));
        }
    }
    let seen = [same, other, broken, ended, recovered];
    assert!(seen.iter().all(|&cases| cases >= 5), "{seen:?}");
}

#[test]
fn a_split_is_told_by_place() {
    let text = |tokens: &[u32]| Text { tokens: tokens.to_vec(), broken: false };
    let clean = text(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let split = |other: &[u32]| text(other).split_from(&clean, 8);
    let expected =
        |first, different, recovered| Some(Split { first, different, recovered, broken: false });
    assert_eq!(split(&[1, 2, 3, 4, 5, 6, 7, 8]), None);
    assert_eq!(split(&[1, 0, 3, 0, 5, 6, 7, 8]), expected(1, 2, true));
    assert_eq!(split(&[1, 2, 3, 4, 5, 0, 7, 8]), expected(5, 1, true));
    assert_eq!(split(&[1, 2, 3, 4, 5, 6, 0, 8]), expected(6, 1, false), "in the last quarter");
    assert_eq!(split(&[1, 2, 3]), expected(3, 5, false), "it ended early");
    assert_eq!(split(&[]), expected(0, 8, false));
    // Both ended: places behind the ends are the same.
    let short = text(&[1, 2, 9]);
    assert_eq!(text(&[1, 0, 9]).split_from(&short, 8), expected(1, 1, true));
    assert_eq!(text(&[1, 2, 9, 9]).split_from(&short, 8), expected(3, 1, false));
    let broken = Text { tokens: vec![1], broken: true };
    let told = Split { first: 1, different: 7, recovered: false, broken: true };
    assert_eq!(broken.split_from(&clean, 8), Some(told));
}

#[test]
fn a_checking_reader_says_nothing() {
    let model = model(&shape(0), 3);
    let ids = prompt(19, 3, &mut Lcg(1));
    let sample = Sample::of_ids(ids);
    let golden = Golden::new(&model, kernels::best(), KvKind::F32, Read::Last, sample);
    let clean = CleanText::new(&model, kernels::best(), &golden.expect("sound"), 4);
    let space = Space::new(&model, KvKind::F32);
    let faults = (0..).map(|number| Fault::single(space.address(Target::WeightCode, 3, number)));
    let fault = faults.into_iter().find(|fault| fault.makes_unused_code(&model)).expect("one");
    let split = clean.split(&model, kernels::best(), &fault, UnusedCode::Detect);
    let told = Split { first: 0, different: 4, recovered: false, broken: true };
    assert_eq!(split, Some(told));
}

#[test]
fn counts_of_a_campaign_are_those_of_its_trials_one_by_one() {
    let model = model(&shape(5), 9);
    let random = &mut Lcg(4);
    let samples: Vec<Sample> =
        (2..5).map(|tokens| Sample::of_ids(prompt(19, tokens, random))).collect();
    let plan = Plan {
        seed: 1,
        trials: 120,
        flips: 2,
        targets: vec![Target::WeightScale, Target::KvInt8, Target::KvF16, Target::Norm],
        unused: UnusedCode::Deployed,
        kv: KvKind::Int8,
        confidence: 0.9,
        positions: Read::All,
        worst: 2,
    };
    let identity = plan.identity("model", "inputs");
    let campaign = Campaign::new(&model, kernels::best(), plan, identity, &samples).expect("sound");
    let trials: Vec<u64> = (0..120).filter(|index| index % 7 != 0).collect();
    let found = generated(&campaign, &trials, 9, &|_| (), &|| false).expect("not stopped");
    let backwards: Vec<u64> = trials.iter().rev().copied().collect();
    let again = generated(&campaign, &backwards, 9, &|_| (), &|| false);
    assert_eq!(again.as_ref(), Some(&found));
    assert_eq!(generated(&campaign, &trials, 9, &|_| (), &|| true), None);
    assert!(found.guarded.is_empty());
    for (target, counts) in &found.targets {
        let draws = trials.iter().map(|&index| campaign.draw(index));
        let splits: Vec<Option<Split>> = draws
            .filter(|draw| draw.target == *target)
            .map(|draw| {
                let golden = campaign.golden(draw.target, draw.sample);
                let clean = CleanText::new(&model, kernels::best(), golden, 9);
                clean.split(&model, kernels::best(), &draw.fault, UnusedCode::Deployed)
            })
            .collect();
        let mut firsts: Vec<usize> = splits.iter().flatten().map(|split| split.first).collect();
        firsts.sort_unstable();
        let median = (!firsts.is_empty()).then(|| firsts[(firsts.len() - 1) / 2]);
        assert_eq!(counts.median_first(), median);
        let sum: usize = splits.iter().flatten().map(|split| split.different).sum();
        let told = (counts.trials, counts.diverged, counts.different);
        assert_eq!(told, (splits.len() as u64, firsts.len() as u64, sum as u64));
    }
    assert!(found.targets.values().any(|counts| counts.diverged > 0), "{found:?}");
    assert_eq!(Generated::default().median_first(), None);
    assert_eq!(Generated::default().mean_different(), None);
}

/// Words of a plan that strike up to three bits behind memory codes, one that corrects and flags,
/// one that corrects alone and one that flags alone; and the same without one.
const GUARDED: &str = "
[[fault]]
target = \"weight_code\"
model = \"word\"
bits = 64
flips = 3
protection = \"secded\"
[[fault]]
target = \"weight_code\"
model = \"word\"
bits = 64
flips = 2
protection = \"on-die\"
[[fault]]
target = \"weight_code\"
flips = 2
[[fault]]
target = \"weight_code\"
flips = 1
protection = \"parity:64\"
";

#[test]
fn behind_a_memory_code_both_texts_are_those_of_flipped_models() {
    let model = model(&shape(0), 5);
    let random = &mut Lcg(4);
    let prompts: Vec<Vec<u32>> = (2..4).map(|tokens| prompt(19, tokens, random)).collect();
    let samples: Vec<Sample> = prompts.iter().cloned().map(Sample::of_ids).collect();
    let plan = Plan {
        seed: 2,
        trials: 160,
        flips: 1,
        targets: vec![Target::WeightCode],
        unused: UnusedCode::Deployed,
        kv: KvKind::F16,
        confidence: 0.9,
        positions: Read::Last,
        worst: 2,
    };
    let strata = PlanFile::parse(GUARDED).expect("TOML").strata().expect("a sound plan");
    let mix = Mix { plan, strata };
    let identity = mix.identity("model", "inputs");
    let campaign =
        Campaign::mixed(&model, kernels::best(), mix, identity, &samples).expect("a sound plan");
    let trials: Vec<u64> = (0..160).collect();
    let found = generated(&campaign, &trials, 7, &|_| (), &|| false).expect("not stopped");
    let other = |fault: &Fault, sample: usize| {
        let ids = &prompts[sample];
        let mut twin = model.clone();
        fault.flips().for_each(|address| flip(&mut twin, address));
        let nothing = Fault::new([]);
        let clean = by_hand(&model, KvKind::F16, ids, &nothing, 7);
        by_hand(&twin, KvKind::F16, ids, &nothing, 7).split_from(&clean, 7)
    };
    // Raw and left, each: trials, flagged, diverged, recovered, places that differ.
    let mut expected = [[[0; 5]; 2]; 4];
    for index in trials {
        let draw = campaign.draw(index);
        let flagged = draw.behind.as_ref().is_some_and(|of| of.decoded == Decoded::Flagged);
        let raw = draw.behind.as_ref().map_or(&draw.fault, |behind| &behind.raw);
        let told = [(raw, false), (&draw.fault, flagged)];
        for (of, (fault, flagged)) in expected[draw.stratum].iter_mut().zip(told) {
            let split = other(fault, draw.sample).filter(|_| !flagged);
            of[0] += 1;
            of[1] += u64::from(flagged);
            of[2] += u64::from(split.is_some());
            of[3] += u64::from(split.is_some_and(|split| split.recovered));
            of[4] += split.map_or(0, |split| split.different as u64);
        }
    }
    let counts = |of: &Generated| [of.trials, of.flagged, of.diverged, of.recovered, of.different];
    let numbers: Vec<usize> = found.guarded.keys().copied().collect();
    assert_eq!(numbers, [0, 1, 3], "faults with a code");
    for (&stratum, guarded) in &found.guarded {
        let told = [counts(&guarded.raw), counts(&guarded.left)];
        assert_eq!(told, expected[stratum], "{stratum}");
    }
    let left = expected.iter().map(|of| of[1]);
    let sum = left.fold([0; 5], |sum, of| std::array::from_fn(|i| sum[i] + of[i]));
    assert_eq!(counts(&found.targets[&Target::WeightCode]), sum);
    // Each code does its own: flags some and lets worse through, lets through, flags all.
    let [secded, on_die, _, parity] = expected.map(|of| of[1]);
    assert!(secded[1] > 0 && secded[2] > 0 && on_die[1] == 0 && on_die[2] > 0);
    assert_eq!((parity[1], parity[2]), (40, 0));
    assert!(expected[3][0][2] > 0, "without parity some diverge");
    let worse = |of: &[[u64; 5]; 2]| of[0] != of[1];
    assert!(worse(&expected[0]) && worse(&expected[1]) && !worse(&expected[2]));
}

#[test]
fn what_cannot_be_continued_is_refused() {
    let mut model = model(&shape(0), 3);
    let ids = Sample::of_ids(vec![1, 2, 3]);
    let check = |samples: &[Sample], tokens| check_generation(&model, samples, tokens);
    assert_eq!(check(std::slice::from_ref(&ids), 61), Ok(()));
    for got in [0, 4097] {
        assert_eq!(check(std::slice::from_ref(&ids), got), Err(GenerationError::Tokens { got }));
    }
    let beyond = check(std::slice::from_ref(&ids), 62).expect_err("65 positions");
    assert!(beyond.to_string().contains("3 tokens, and 62 more are beyond the 64"), "{beyond}");
    let longer = [ids.clone(), Sample::of_ids(vec![1; 5]), Sample::of_ids(vec![2; 5])];
    let beyond = GenerationError::Positions { sample: 1, prompt: 5, tokens: 60, positions: 64 };
    assert_eq!(check(&longer, 60), Err(beyond));
    let rows = ndarray::Array2::zeros((2, model.config.hidden));
    let embedded = Sample { input: Input::Embedded(rows), label: None, classes: None };
    let refused = check(&[ids.clone(), embedded], 4);
    assert_eq!(refused, Err(GenerationError::Embedded { sample: 1 }));
    model.embedding = engine::model::Float::F32 {
        data: vec![0.0; 4 * model.config.hidden],
        columns: model.config.hidden,
    }
    .into();
    let refused = check_generation(&model, &[ids], 4);
    assert_eq!(refused, Err(GenerationError::Embeddings { logits: 19, embeddings: 4 }));
}
