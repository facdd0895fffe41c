//! Weights that have a scale beside their tensor as well as scales of their own: every bit of both,
//! under integer activations and floats.

use std::collections::HashSet;

use engine::formats::FormatError;
use engine::model::{HeadForm, KvKind, Model, Slot};
use faults::{Address, AnyAddress, Fault, Image, Space, Target};

use crate::files::{KINDS, Scaled, clean, faulty, gguf, linear_name, read, with_factors};
use crate::made_gguf::{F16, Gguf, I2S};
use crate::support::{Lcg, same};
use crate::{FLOATS, INT8, agrees, linear};

/// The tensors that [`with_factors`] gives a scale.
const SCALED: [Slot; 3] = [Slot::Q, Slot::Gate, Slot::Up];

/// The tensor of the scale beside a linear layer.
fn factor_name(slot: Slot) -> String {
    linear_name(slot).trim_end_matches("weight").to_owned() + "scale"
}

/// A file whose narrow layers are random codes in runs under a scale, with another beside three.
fn runs() -> Gguf {
    let mut file = Gguf::small(I2S);
    let random = &mut Lcg(3);
    for slot in [Slot::Q, Slot::K, Slot::V, Slot::Gate, Slot::Up] {
        let data = &mut file.tensor(linear_name(slot)).data;
        let codes = data.len() - 32;
        data[..codes].iter_mut().for_each(|byte| *byte = random.below(256) as u8);
        data[codes..codes + 4].copy_from_slice(&(0.0123f32).to_le_bytes());
    }
    with_factors(file, 0.7)
}

/// Flips one bit of a tensor of the file; what a load then gives must be the model under the fault
/// of an address. Whether it is loaded at all.
fn one(
    (file, model): (&Gguf, &Model),
    name: &str,
    (byte, bit): (usize, u8),
    address: Address,
) -> bool {
    let policy = model.layers[0].linear(Slot::Q).activations;
    assert_eq!(address.check(model, KvKind::F32, 1), Ok(()));
    let mut flipped = file.clone();
    flipped.tensor(name).data[byte] ^= 1 << bit;
    let got = faulty(model, &Fault::single(address));
    match read(flipped.bytes(), policy) {
        Ok(twin) => assert!(same(&got, &clean(&twin.model)), "{address}"),
        Err(error) => {
            assert!(error.to_string().contains("finite"), "{address}: {error}");
            return false;
        }
    }
    true
}

#[test]
fn every_bit_of_blocks_and_of_the_scale_beside_them_is_that_of_the_flipped_file() {
    for of in KINDS {
        for (policy, scaled) in [INT8, FLOATS].into_iter().flat_map(|policy| {
            [Scaled::Alike, Scaled::ZeroBlock, Scaled::Each].map(|scaled| (policy, scaled))
        }) {
            let file = with_factors(gguf(of, scaled, false, 4), 0.7);
            let model = read(file.bytes(), policy).expect("a sound file").model;
            let (mut taken, slot) = (0, Slot::Gate);
            for bit in 0..32u8 {
                let address = Address::Scale { layer: 0, slot, bit };
                let place = (usize::from(bit / 8), bit % 8);
                taken += u32::from(one((&file, &model), &factor_name(slot), place, address));
            }
            // The sign, and what is too large for products to be finite, is refused.
            assert!(taken >= 24, "{} {policy:?} {scaled:?}: {taken}", of.1.name());
            // Queries stand in the file in another order of rows.
            let slot = [Slot::Gate, Slot::Q][usize::from(policy == FLOATS)];
            let tensor = (linear_name(slot), linear(slot));
            let size = of.1.bytes();
            for byte in (0..2 * size).step_by(size.div_ceil(18)) {
                agrees((&file, &model), policy, tensor, &[(byte, (byte % 8) as u8)]);
            }
            let at = of.1.scale_at();
            for bit in 0..16 {
                let bits = [(at + bit / 8, (bit % 8) as u8), (size + at, 0)];
                agrees((&file, &model), policy, tensor, &bits);
            }
        }
    }
}

#[test]
fn the_scale_behind_codes_and_the_one_beside_their_tensor_are_both_flipped() {
    let file = runs();
    for policy in [INT8, FLOATS] {
        let model = read(file.bytes(), policy).expect("a sound file").model;
        for slot in SCALED {
            let end = file.clone().tensor(linear_name(slot)).data.len() - 32;
            for bit in 0..32u8 {
                let place = (usize::from(bit / 8), bit % 8);
                let beside = Address::Scale { layer: 0, slot, bit };
                let mut taken = one((&file, &model), &factor_name(slot), place, beside);
                let behind = Address::GroupScale { matrix: linear(slot), row: 0, group: 0, bit };
                let place = (end + place.0, place.1);
                taken &= one((&file, &model), linear_name(slot), place, behind);
                assert!(taken || bit >= 23, "bits of the fraction give a scale");
            }
            // Both at once, and a code under both.
            let code = Address::Code { layer: 0, slot, row: 5, column: 17, bit: 1 };
            let beside = Address::Scale { layer: 0, slot, bit: 20 };
            let behind = Address::GroupScale { matrix: linear(slot), row: 0, group: 0, bit: 21 };
            let place = code.physical(&model).expect("a code").expect("a place").place;
            let mut flipped = file.clone();
            flipped.tensor(&factor_name(slot)).data[2] ^= 1 << 4;
            let data = &mut flipped.tensor(linear_name(slot)).data;
            data[end + 2] ^= 1 << 5;
            data[place.byte] ^= 1 << place.bit;
            let twin = read(flipped.bytes(), policy).expect("a sound file").model;
            let got = faulty(&model, &Fault::new([code, beside, behind]));
            assert!(same(&got, &clean(&twin)), "{slot:?}");
        }
    }
}

#[test]
fn scales_beside_others_have_numbers_names_and_places() {
    let model = read(runs().bytes(), FLOATS).expect("a sound file").model;
    let space = Space::new(&model, KvKind::F32);
    // One scale in each of five tensors, and another beside three of them.
    assert_eq!(space.count(Target::WeightScale, 1), 32 * (5 + 3));
    let mut seen = HashSet::new();
    for number in 0..32 * 8 {
        let address = space.address(Target::WeightScale, 1, number);
        assert_eq!(space.number(1, &address), Some((Target::WeightScale, number)));
        assert_eq!(address.check(&model, KvKind::F32, 1), Ok(()));
        assert_eq!(address.to_string().parse(), Ok(AnyAddress::Logical(address)));
        let image = Image::of(&model, KvKind::F32, &address).expect("bytes of a file");
        assert_eq!((image.bits(), image.address(image.place(&address))), (32, address));
        assert!(seen.insert(address));
    }
    let refused = |text: &str| {
        let address: Address = text.parse().expect(text);
        address.check(&model, KvKind::F32, 1).expect_err(text).to_string()
    };
    let row = refused("model.layers.0.mlp.up_proj.weight_scale[1,0].3");
    assert!(row.contains("row = 1, expected less than 1"), "{row}");
    let alone = refused("model.layers.0.self_attn.k_proj.weight_scale[0,0].3");
    assert!(alone.contains("no scales of their own"), "{alone}");
}

#[test]
fn bits_of_a_head_that_is_multiplied_as_codes_are_those_of_the_floats_in_the_file() {
    for (number, of) in KINDS.into_iter().enumerate().filter(|(_, of)| of.0 != 42) {
        let mut file = gguf(of, Scaled::Each, true, 6);
        let tied = number % 2 == 0;
        if !tied {
            let mut head = file.tensor("token_embd.weight").clone();
            head.name = "output.weight".into();
            (head.kind, head.data) = (F16, head_values(4 * 256));
            file.tensors.push(head);
        }
        let load = |file: &Gguf| {
            Ok::<_, FormatError>(read(file.bytes(), INT8)?.model.with_head(HeadForm::Int8))
        };
        let model = load(&file).expect("a sound file");
        let space = Space::new(&model, KvKind::F32);
        let (random, mut taken) = (&mut Lcg(9), 0);
        for _ in 0..80 {
            let target = if tied { Target::Embedding } else { Target::LmHead };
            let place = random.below(space.count(target, 1) as usize) as u64;
            let address = space.address(target, 1, place);
            let image = Image::of(&model, KvKind::F32, &address).expect("bytes of a file");
            let at = image.place(&address);
            let mut flipped = file.clone();
            let name = if tied { "token_embd.weight" } else { "output.weight" };
            flipped.tensor(name).data[(at / 8) as usize] ^= 1 << (at % 8);
            let got = faulty(&model, &Fault::single(address));
            match load(&flipped) {
                Ok(twin) => assert!(same(&got, &clean(&twin)), "{address}"),
                Err(_) => assert!(got.iter().any(|logit| logit.is_nan()), "{address}"),
            }
            taken += u32::from(load(&flipped).is_ok());
        }
        assert!(taken > 60, "{}: {taken}", of.1.name());
    }
}

/// Values of a head.
fn head_values(count: usize) -> Vec<u8> {
    let random = &mut Lcg(1);
    (0..count).flat_map(|_| half::f16::from_f32(random.signed()).to_le_bytes()).collect()
}
