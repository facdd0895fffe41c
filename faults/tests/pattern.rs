//! Fault models, from outside: every draw a pure function of its number, and of the shape it says.

mod support;

use std::collections::BTreeSet;

use engine::kernels;
use engine::model::{FloatType, KvKind, Model, Weights};
use engine::walk::Read;
use faults::pattern::Image;
use faults::{
    Address, Campaign, CampaignError, Mix, Outcome, Plan, PlanFile, Sample, Space, Target,
    UnusedCode,
};
use proptest::prelude::*;
use support::{Lcg, Shape, model, prompt, shape};

fn samples(model: &Model) -> Vec<Sample> {
    let random = &mut Lcg(5);
    (0..3).map(|i| Sample::of_ids(prompt(model.config.vocabulary, 2 + 2 * i, random))).collect()
}

/// A plan of the faults that a text has.
fn mix(faults: &str) -> Mix {
    let strata = PlanFile::parse(faults).expect("TOML").strata().expect("a sound plan");
    let mut targets: Vec<Target> = strata.iter().map(|stratum| stratum.target).collect();
    targets.sort();
    targets.dedup();
    let plan = Plan {
        seed: 3,
        trials: 400,
        flips: 1,
        targets,
        unused: UnusedCode::Deployed,
        kv: KvKind::F16,
        confidence: 0.95,
        positions: Read::All,
        worst: 4,
    };
    Mix { plan, strata }
}

fn campaign<'a>(model: &'a Model, faults: &str) -> Campaign<'a> {
    let mix = mix(faults);
    let identity = mix.identity("model", "inputs");
    Campaign::mixed(model, kernels::best(), mix, identity, &samples(model)).expect("a sound plan")
}

fn small() -> (Shape, Model) {
    // Two layers and f32 gains, so that a stored bit is one of `to_bits`.
    let index = (0..).find(|&i| shape(i).layers == 2 && shape(i).stored == FloatType::F32);
    let shape = shape(index.expect("such a shape"));
    (shape, model(&shape, 11))
}

/// The bits of trials of one fault, by trial.
fn drawn(campaign: &Campaign, trials: u64) -> Vec<Vec<Address>> {
    (0..trials).map(|index| campaign.draw(index).fault.flips().copied().collect()).collect()
}

/// The places of some bits of one tensor, in order.
fn places(model: &Model, kv: KvKind, flips: &[Address]) -> Vec<u64> {
    let image = Image::of(model, kv, &flips[0]).expect("a layout");
    let mut places: Vec<u64> = flips
        .iter()
        .map(|flip| {
            assert_eq!(Image::of(model, kv, flip), Some(image), "one tensor, one moment");
            image.place(flip)
        })
        .collect();
    places.sort_unstable();
    assert!(places.iter().all(|&place| place < image.bits()));
    places
}

fn set(model: &Model, address: &Address) -> bool {
    let (stored, bit) = match *address {
        Address::Code { layer, slot, row, column, bit } => {
            let Weights::Ternary { rows, .. } = &model.layers[layer].linear(slot).weights else {
                panic!("no codes")
            };
            (u32::from(rows.code(row, column)), bit)
        }
        Address::Norm { layer, slot, index, bit } => {
            (model.layers[layer].norm(slot).expect("a norm").gains[index].to_bits(), bit)
        }
        Address::FinalNorm { index, bit } => (model.final_norm.gains[index].to_bits(), bit),
        _ => panic!("neither a code nor a gain"),
    };
    stored >> bit & 1 == 1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn places_and_addresses_are_inverse_on_every_tensor(
        index in 0usize..288, seed in any::<u64>(), kind in 0usize..4,
    ) {
        let model = model(&shape(index), seed);
        let kv = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit][kind];
        let space = Space::new(&model, kv);
        let random = &mut Lcg(seed);
        for target in Target::ALL {
            for tensor in space.tensors(target, 4) {
                let size = (tensor.numbers.end - tensor.numbers.start) as usize;
                let number = tensor.numbers.start + random.below(size) as u64;
                let address = space.address(target, 4, number);
                let image = Image::of(&model, kv, &address).expect("a layout");
                let place = image.place(&address);
                prop_assert!(place < image.bits());
                prop_assert_eq!(image.address(place), address);
                if let Some(physical) = address.physical(&model).expect("a bit") {
                    let at = physical.place;
                    prop_assert_eq!(place, 8 * at.byte as u64 + u64::from(at.bit));
                }
                let other = random.below(image.bits() as usize) as u64;
                let there = image.address(other);
                prop_assert_eq!(image.place(&there), other);
                let (got, number) = space.number(4, &there).expect("a bit of the space");
                prop_assert_eq!(got, target);
                prop_assert!(tensor.numbers.contains(&number), "the same tensor");
                if target.kv().is_none() {
                    prop_assert_eq!(image.bits(), size as u64);
                }
            }
        }
    }
}

#[test]
fn neighbours_are_neighbours_in_one_tensor_and_every_run_can_be_drawn() {
    let (_, model) = small();
    for bits in 2..=8 {
        for target in ["weight_code", "weight_scale", "norm", "kv_int8", "kv_1bit"] {
            let text =
                format!("[[fault]]\ntarget = {target:?}\nmodel = \"adjacent\"\nbits = {bits}");
            let campaign = campaign(&model, &text);
            let kv = Target::named(target).and_then(Target::kv).unwrap_or(KvKind::F16);
            for flips in drawn(&campaign, 60) {
                let places = places(&model, kv, &flips);
                assert_eq!(places.len(), bits);
                assert!(places.windows(2).all(|pair| pair[1] == pair[0] + 1), "{places:?}");
            }
        }
    }
    let text = "[[fault]]\ntarget = \"weight_scale\"\nmodel = \"adjacent\"\nbits = 8\n\
                layers = [0]\ntensors = [\"mlp.up_proj\"]";
    let campaign = campaign(&model, text);
    let first = |flips: &Vec<Address>| places(&model, KvKind::F16, flips)[0];
    let seen: BTreeSet<u64> = drawn(&campaign, 400).iter().map(first).collect();
    assert_eq!(seen, (0..=24).collect(), "all 25 runs of 8 in 32 bits, and no other");
}

#[test]
fn parts_and_columns_have_their_shape() {
    let (_, model) = small();
    let check =
        |keys: &str, inside: &dyn Fn(&[u64]) -> bool, flips: std::ops::RangeInclusive<usize>| {
            for target in ["weight_code", "norm", "embedding", "kv_int8"] {
                let text = format!("[[fault]]\ntarget = {target:?}\n{keys}");
                let kv = Target::named(target).and_then(Target::kv).unwrap_or(KvKind::F16);
                let mut counts = BTreeSet::new();
                for flipped in drawn(&campaign(&model, &text), 200) {
                    let places = places(&model, kv, &flipped);
                    assert!(inside(&places) && flips.contains(&places.len()), "{text}: {places:?}");
                    counts.insert(places.len());
                }
                assert!(flips.start() == flips.end() || counts.len() > 2, "{text}: {counts:?}");
            }
        };
    let part =
        |bits: u64| move |places: &[u64]| places.iter().all(|p| p / bits == places[0] / bits);
    check("model = \"byte\"", &part(8), 1..=8);
    check("model = \"byte\"\nflips = 8", &part(8), 8..=8);
    check("model = \"word\"\nbits = 64\nflips = 3", &part(64), 3..=3);
    check("model = \"word\"\nbits = 16", &part(16), 1..=16);
    check("model = \"row\"\nrow_bits = 24", &part(24), 1..=24);
    let column = |places: &[u64]| {
        let row = |place: &u64| place / 16;
        places.iter().all(|p| p % 16 == places[0] % 16 && row(p) / 8 == row(&places[0]) / 8)
    };
    check("model = \"column\"\nrow_bits = 16\nrows = 8", &column, 1..=8);
    check("model = \"column\"\nrow_bits = 16\nrows = 8\nflips = 1", &column, 1..=1);
}

#[test]
fn a_stuck_bit_flips_only_if_it_held_the_other_value() {
    let (_, model) = small();
    for (name, value) in [("stuck-at-0", false), ("stuck-at-1", true)] {
        for target in ["weight_code", "norm"] {
            let text = format!("[[fault]]\ntarget = {target:?}\nmodel = {name:?}\nflips = 3");
            let stuck = campaign(&model, &text);
            let mut counts = [0usize; 4];
            for (index, flips) in drawn(&stuck, 300).into_iter().enumerate() {
                assert!(flips.iter().all(|flip| set(&model, flip) != value));
                counts[flips.len()] += 1;
                if flips.is_empty() && counts[0] < 9 {
                    let record = stuck.trial(index as u64);
                    assert_eq!(record.trial.outcome, Outcome::Masked { identical: true });
                }
            }
            assert!(counts[0] > 0 && counts[1] > 0 && counts[2] > 0, "{name}: {counts:?}");
        }
    }
}

#[test]
fn one_way_bits_flip_one_way_and_cells_keep_their_kind() {
    let (_, model) = small();
    for target in ["weight_code", "norm"] {
        for (direction, from) in [("1-to-0", true), ("0-to-1", false)] {
            let text = format!(
                "[[fault]]\ntarget = {target:?}\nmodel = \"one-way\"\ndirection = {direction:?}"
            );
            let flips = drawn(&campaign(&model, &text), 300).concat();
            assert!(flips.len() > 30 && flips.iter().all(|flip| set(&model, flip) == from));
        }
        // In a mixed memory, what flips once always flips when it is drawn.
        let text = format!(
            "[[fault]]\ntarget = {target:?}\nmodel = \"one-way\"\nlayers = [1]\nflips = 40\n"
        );
        let mixed = campaign(&model, &text);
        let seen: BTreeSet<Address> = drawn(&mixed, 400).concat().into_iter().collect();
        let ones = seen.iter().filter(|flip| set(&model, flip)).count();
        assert!(ones > 0 && ones < seen.len(), "both kinds");
    }
}

#[test]
fn a_hammered_page_flips_the_same_cells_every_time() {
    let (_, model) = small();
    let text = "[[fault]]\ntarget = \"weight_code\"\nmodel = \"row-hammer\"\npage_bytes = 64\n\
                cells = 12";
    let all = campaign(&model, text);
    let mut pages = std::collections::BTreeMap::new();
    for flips in drawn(&all, 300).into_iter().filter(|flips| !flips.is_empty()) {
        let places = places(&model, KvKind::F16, &flips);
        assert!(places.len() <= 12 && places.iter().all(|p| p / 512 == places[0] / 512));
        let key = (flips[0].to_string().split('[').next().map(str::to_owned), places[0] / 512);
        assert_eq!(pages.entry(key).or_insert_with(|| flips.clone()), &flips);
    }
    assert!(pages.len() > 5, "several pages are struck");
    let sizes: Vec<usize> = pages.values().map(Vec::len).collect();
    assert!(sizes.iter().sum::<usize>() > 2 * sizes.len(), "about half of them are vulnerable");
    let one = campaign(&model, &format!("{text}\nflips = 1"));
    assert!(drawn(&one, 100).iter().all(|flips| flips.len() <= 1));
}

#[test]
fn a_rate_lets_as_many_bits_fall_as_it_says() {
    let (_, model) = small();
    let space = Space::new(&model, KvKind::F16);
    let bits = space.count(Target::WeightCode, 4) as f64;
    let fit = 2.5 / bits * 1_048_576.0 * 1e9 / 1000.0;
    for keys in
        [format!("ber = {:?}", 2.5 / bits), format!("fit_per_mbit = {fit:?}\nhours = 1000.0")]
    {
        let text = format!("[[fault]]\ntarget = \"weight_code\"\nmodel = \"poisson\"\n{keys}");
        let counts: Vec<usize> =
            drawn(&campaign(&model, &text), 400).iter().map(Vec::len).collect();
        let mean = counts.iter().sum::<usize>() as f64 / 400.0;
        // Six standard deviations of a mean of 400 are 0.47.
        assert!((mean - 2.5).abs() < 0.47, "{mean}");
        assert!(counts.contains(&0), "nothing at all falls at times");
    }
}

#[test]
fn parts_of_floats_are_strata_of_their_own() {
    let (_, f32s) = small();
    let halves = (0..).find(|&i| shape(i).stored == FloatType::Bf16).expect("such a shape");
    let halves = model(&shape(halves), 11);
    let check = |model: &Model, target: &str, part: &str, bits: std::ops::Range<u8>| {
        let text = format!("[[fault]]\ntarget = {target:?}\npart = {part:?}\nflips = 2\n");
        let flips = drawn(&campaign(model, &text), 300).concat();
        let seen: BTreeSet<u8> = flips.iter().map(Address::bit).collect();
        assert_eq!(seen, bits.collect(), "{target} {part}");
    };
    for target in ["weight_scale", "norm", "embedding", "kv_f32"] {
        check(&f32s, target, "sign", 31..32);
        check(&f32s, target, "exponent", 23..31);
        check(&f32s, target, "mantissa", 0..23);
    }
    check(&halves, "norm", "exponent", 7..15);
    check(&f32s, "kv_f16", "exponent", 10..15);
    // All the exponent bits of one scale, and no ninth.
    let text = "[[fault]]\ntarget = \"weight_scale\"\npart = \"exponent\"\nlayers = [0]\n\
                tensors = [\"mlp.up_proj\"]\nflips = ";
    assert!(drawn(&campaign(&f32s, &format!("{text}8")), 9).iter().all(|f| f.len() == 8));
    let error = mix(&format!("{text}9")).check(&f32s, &samples(&f32s)).expect_err("no ninth");
    assert!(matches!(error, CampaignError::Stratum { bits: 8, wanted: 9, .. }), "{error}");
}

#[test]
fn draws_depend_on_identity_and_number_alone() {
    let (_, model) = small();
    let text = "[[fault]]\ntarget = \"weight_code\"\nmodel = \"adjacent\"\nbits = 3\nweight = 2\n\
                [[fault]]\ntarget = \"norm\"\nmodel = \"row-hammer\"\n\
                [[fault]]\ntarget = \"kv_f16\"\nmodel = \"byte\"\n\
                [[fault]]\ntarget = \"weight_scale\"\nmodel = \"poisson\"\nber = 0.01\n";
    let first = campaign(&model, text);
    let forward = drawn(&first, 200);
    let again = campaign(&model, text);
    let mut backward: Vec<_> = (0..200).rev().map(|index| again.draw(index).fault).collect();
    backward.reverse();
    let backward: Vec<Vec<Address>> =
        backward.iter().map(|fault| fault.flips().copied().collect()).collect();
    assert_eq!(forward, backward);
    assert_eq!(first.draw(7).stratum, 1, "2 of 5 turns are of the first stratum");
    let other = campaign(&model, &text.replace("bits = 3", "bits = 4"));
    assert_ne!(drawn(&other, 200), forward);
    for index in 0..200 {
        let draw = first.draw(index);
        let kv = draw.target.kv().unwrap_or(KvKind::F16);
        let tokens = samples(&model)[draw.sample].tokens();
        draw.fault.check(&model, kv, tokens).expect("bits that exist");
    }
}

#[test]
fn a_plan_reads_back_from_its_own_text() {
    let text = "[[fault]]\ntarget = \"weight_code\"\nmodel = \"column\"\nrow_bits = 8192\n\
                rows = 512\n\
                [[fault]]\ntarget = \"norm\"\nmodel = \"row-hammer\"\nweight = 7\nflips = 2\n\
                [[fault]]\ntarget = \"kv_f16\"\nmodel = \"word\"\nbits = 32\nlayers = [0, 1]\n\
                [[fault]]\ntarget = \"weight_scale\"\nmodel = \"poisson\"\nber = 1e-9\n\
                [[fault]]\ntarget = \"norm\"\nmodel = \"poisson\"\nfit_per_mbit = 700.0\n\
                hours = 8.0\n\
                [[fault]]\ntarget = \"norm\"\nmodel = \"one-way\"\ntensors = [\"norm\"]\n\
                part = \"mantissa\"\n\
                [[fault]]\ntarget = \"embedding\"\nmodel = \"stuck-at-1\"\n\
                [[fault]]\ntarget = \"embedding\"\nmodel = \"single\"\n\
                [[fault]]\ntarget = \"embedding\"\nmodel = \"byte\"\nflips = 3\n";
    let written = mix(text).to_toml();
    let back = PlanFile::parse(&written).expect("TOML").mix(4).expect("a whole plan");
    assert_eq!(back.strata, mix(text).strata);
    assert_eq!(back.to_toml(), written);
}

#[test]
fn plans_that_make_no_sense_are_refused_with_place_and_reason() {
    let refused = |keys: &str, parts: &[&str]| {
        let text = format!("[[fault]]\ntarget = \"norm\"\n[[fault]]\n{keys}");
        let error = PlanFile::parse(&text).and_then(|file| file.strata()).expect_err(keys);
        for part in parts {
            assert!(error.to_string().contains(part), "{error}: {part}");
        }
    };
    refused("target = \"weights\"", &["fault 1", "target", "weights", "weight_code"]);
    refused("target = \"norm\"\nmodel = \"burst\"", &["model", "burst", "adjacent"]);
    refused("target = \"norm\"\nmodel = \"adjacent\"\nbits = 9", &["bits = 9", "2 to 8"]);
    refused("target = \"norm\"\nmodel = \"adjacent\"", &["bits = nothing", "2 to 8"]);
    refused("target = \"norm\"\nmodel = \"byte\"\nbits = 8", &["bits", "byte", "no use"]);
    refused("target = \"norm\"\nmodel = \"byte\"\nflips = 9", &["flips = 9", "8"]);
    refused("target = \"norm\"\nmodel = \"word\"\nbits = 24", &["bits = 24", "16, 32"]);
    refused("target = \"norm\"\nflips = 0", &["flips = 0"]);
    refused("target = \"norm\"\npart = \"whole\"", &["part", "whole", "exponent"]);
    refused("target = \"weight_code\"\npart = \"sign\"", &["part", "no float"]);
    refused("target = \"norm\"\nmodel = \"byte\"\npart = \"sign\"", &["part", "place"]);
    refused("target = \"norm\"\nweight = 0", &["weight = 0"]);
    refused("target = \"norm\"\nlayers = []", &["layers"]);
    refused("target = \"norm\"\nflip = 1", &["flip", "unknown field", "line 5"]);
    refused("target = \"kv_f16\"\nmodel = \"stuck-at-0\"", &["target", "kv_f16", "stuck-at-0"]);
    refused("target = \"norm\"\nmodel = \"poisson\"", &["ber", "fit_per_mbit"]);
    refused("target = \"norm\"\nmodel = \"poisson\"\nber = -1.0", &["ber = -1", "above 0"]);
    refused("target = \"norm\"\nmodel = \"poisson\"\nhours = 1.0", &["fit_per_mbit"]);
    refused("target = \"norm\"\nmodel = \"one-way\"\ndirection = \"up\"", &["direction", "1-to-0"]);
    let (_, model) = small();
    let check = |text: &str| mix(text).check(&model, &samples(&model)).expect_err(text);
    let error = check("[[fault]]\ntarget = \"norm\"\nlayers = [9]");
    assert!(matches!(error, CampaignError::Stratum { number: 0, bits: 0, .. }), "{error}");
    let error = check("[[fault]]\ntarget = \"norm\"\nmodel = \"poisson\"\nber = 0.5");
    assert!(matches!(error, CampaignError::Rate { number: 0, .. }), "{error}");
}
