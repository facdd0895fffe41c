//! Campaigns on files of blocks, by effect: what lies together there, and what words of a memory
//! code are cut from, is shown on the file's own bytes, and by loading it again.

use std::collections::{BTreeMap, BTreeSet};

use engine::kernels;
use engine::model::{Model, Slot};
use engine::packing::BlockType;
use faults::{Address, Campaign, Decoded, Fault, Matrix, Protection, Sample, tensor_bytes};

use crate::files::{KINDS, Scaled, clean, faulty, gguf, linear_name, read, with_factors};
use crate::made_gguf::Gguf;
use crate::support::{mix, same};
use crate::{FLOATS, INT8};

const REACH: &str = "target = \"weight_code\"\ntensors = [\"self_attn.q_proj\", \"mlp.up_proj\"]";

fn campaign<'a>(model: &'a Model, keys: &str) -> Campaign<'a> {
    let mix = mix(&format!("[[fault]]\n{REACH}\n{keys}\n"));
    let identity = mix.identity("model", keys);
    let samples = [Sample::of_ids(vec![1, 3, 2])];
    Campaign::mixed(model, kernels::best(), mix, identity, &samples).expect(keys)
}

/// The bits of a fault by tensor, as numbers in its bytes.
fn numbers<'f>(
    model: &Model,
    flips: impl Iterator<Item = &'f Address>,
) -> BTreeMap<Slot, BTreeSet<u64>> {
    let mut all: BTreeMap<Slot, BTreeSet<u64>> = BTreeMap::new();
    for flip in flips {
        let physical = flip.physical(model).expect("a bit").expect("a place in the file");
        let Matrix::Linear { layer: 0, slot } = physical.matrix else { panic!("{flip}") };
        let number = 8 * physical.place.byte as u64 + u64::from(physical.place.bit);
        all.entry(slot).or_default().insert(number);
    }
    all
}

/// Flips the bits of a fault in the file and in the model; whether a load takes the file, which
/// then has the logits of the fault.
fn agrees(file: &Gguf, model: &Model, fault: &Fault) -> bool {
    let mut flipped = file.clone();
    for (slot, numbers) in numbers(model, fault.flips()) {
        let data = &mut flipped.tensor(linear_name(slot)).data;
        numbers.into_iter().for_each(|n| data[(n / 8) as usize] ^= 1 << (n % 8));
    }
    match read(flipped.bytes(), model.layers[0].linear(Slot::Q).activations) {
        Ok(twin) => {
            assert!(same(&faulty(model, fault), &clean(&twin.model)), "{fault}");
            true
        }
        Err(error) => {
            assert!(error.to_string().contains("finite"), "{fault}: {error}");
            false
        }
    }
}

/// Whether the bits of one trial in one tensor lie as their model says; they are told what the
/// file holds there.
type Shape = fn(&BTreeSet<u64>, &dyn Fn(u64) -> bool) -> bool;

fn together(numbers: &BTreeSet<u64>, part: impl Fn(u64) -> u64) -> bool {
    numbers.iter().map(|&number| part(number)).collect::<BTreeSet<u64>>().len() == 1
}

const SHAPES: [(&str, Shape); 8] = [
    ("model = \"adjacent\"\nbits = 4", |n, _| n.last().unwrap() - n.first().unwrap() < 4),
    ("model = \"byte\"", |n, _| together(n, |n| n / 8)),
    ("model = \"word\"\nbits = 64\nflips = 5", |n, _| together(n, |n| n / 64)),
    ("model = \"row\"\nrow_bits = 512", |n, _| together(n, |n| n / 512)),
    ("model = \"column\"\nrow_bits = 512\nrows = 4", |n, _| {
        together(n, |n| n % 512) && together(n, |n| n / 512 / 4)
    }),
    ("model = \"stuck-at-0\"\nflips = 9", |n, set| n.iter().all(|&n| set(n))),
    ("model = \"stuck-at-1\"\nflips = 9", |n, set| n.iter().all(|&n| !set(n))),
    ("model = \"one-way\"\ndirection = \"1-to-0\"\nflips = 9", |n, set| n.iter().all(|&n| set(n))),
];

#[test]
fn bits_that_flip_together_in_blocks_lie_so_in_the_file_and_are_those_of_a_load() {
    for (index, (id, kind)) in KINDS.into_iter().enumerate() {
        let scaled = [Scaled::Each, Scaled::Alike][index % 2];
        let mut file = gguf((id, kind), scaled, false, 11);
        let model = read(file.bytes(), [INT8, FLOATS][index / 2 % 2]).expect("a file").model;
        for (keys, shape) in SHAPES {
            let campaign = campaign(&model, keys);
            let (mut flips, mut tried) = (0, 0);
            for fault in (0..6).map(|trial| campaign.draw(trial).fault) {
                for (slot, numbers) in numbers(&model, fault.flips()) {
                    let data = &file.tensor(linear_name(slot)).data;
                    let set = |n: u64| data[(n / 8) as usize] >> (n % 8) & 1 == 1;
                    assert!(shape(&numbers, &set), "{} {keys}: {fault}", kind.name());
                    flips += numbers.len();
                }
                tried += usize::from(agrees(&file, &model, &fault));
            }
            // A run of bits may make a scale infinite, which a load refuses.
            assert!(tried >= 4 && flips >= 6, "{} {keys}: {tried}, {flips}", kind.name());
        }
    }
}

#[test]
fn words_of_a_memory_code_are_cut_from_blocks_with_their_scales() {
    let (mut wrong, mut scales) = (0, 0);
    for (index, (id, kind)) in KINDS.into_iter().enumerate() {
        let mut file = gguf((id, kind), [Scaled::Each, Scaled::Alike][index % 2], false, 13);
        let model = read(file.bytes(), [INT8, FLOATS][index / 2 % 2]).expect("a file").model;
        for slot in [Slot::Q, Slot::K, Slot::Gate, Slot::Up] {
            let bytes = tensor_bytes(&model, 0, slot).expect("blocks");
            assert!(bytes == file.tensor(linear_name(slot)).data, "{} {slot:?}", kind.name());
        }
        for (code, keys) in [
            ("on-die", "model = \"word\"\nbits = 128\nflips = 2"),
            ("secded", "model = \"word\"\nbits = 64\nflips = 3"),
            ("chipkill", "model = \"random\"\nflips = 2"),
            ("crc:32", "model = \"adjacent\"\nbits = 5"),
        ] {
            let campaign = campaign(&model, &format!("protection = {code:?}\n{keys}"));
            let code = Protection::named(code).expect("a code");
            for draw in (0..8).map(|trial| campaign.draw(trial)) {
                let behind = draw.behind.as_ref().expect("a memory code");
                let mut struck = numbers(&model, behind.raw.flips());
                for &(_, slot, number) in &behind.checks {
                    struck.entry(slot).or_default().insert(number);
                }
                let (mut left, mut flagged) = (BTreeMap::new(), false);
                for (slot, raw) in struck {
                    let residual = code.filter(&raw, &file.tensor(linear_name(slot)).data);
                    flagged |= residual.is_detected();
                    left.insert(slot, residual.flips);
                }
                left.retain(|_, flips| !flips.is_empty() && !flagged);
                assert_eq!(numbers(&model, draw.fault.flips()), left, "{} {code}", kind.name());
                assert_eq!(behind.decoded == Decoded::Flagged, flagged);
                if !left.is_empty() {
                    agrees(&file, &model, &draw.fault);
                    let scale = |flip: &&Address| matches!(flip, Address::GroupScale { .. });
                    scales += draw.fault.flips().filter(scale).count();
                    wrong += 1;
                }
            }
        }
    }
    assert!(wrong > 60 && scales > 3, "{wrong} trials with wrong data, {scales} flips of scales");
}

#[test]
fn words_beside_a_scale_of_the_tensor_are_cut_from_the_same_bytes() {
    for scaled in [Scaled::Alike, Scaled::Each] {
        let mut file = with_factors(gguf((35, BlockType::Tq2), scaled, false, 5), 0.75);
        let model = read(file.bytes(), FLOATS).expect("a file").model;
        for slot in [Slot::Gate, Slot::K] {
            let bytes = tensor_bytes(&model, 0, slot).expect("blocks");
            assert!(bytes == file.tensor(linear_name(slot)).data, "{slot:?}");
        }
        let keys = "protection = \"on-die\"\nmodel = \"word\"\nbits = 128\nflips = 2";
        let campaign = campaign(&model, keys);
        let (mut wrong, mut tried) = (0, 0);
        for draw in (0..60).map(|trial| campaign.draw(trial)) {
            wrong += u32::from(draw.fault.flips().len() > 2);
            tried += u32::from(agrees(&file, &model, &draw.fault));
        }
        assert!(wrong > 10 && tried > 40, "{wrong} miscorrected, {tried} loaded");
    }
}
