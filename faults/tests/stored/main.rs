//! Every stored bit of every format: a fault is the model that a load of the flipped file gives.

mod beside;
mod campaigns;
mod elements;
mod files;
#[allow(dead_code, reason = "some helpers are for the tests of the loader alone")]
#[path = "../../../engine/tests/checkpoints/made_gguf.rs"]
mod made_gguf;
mod names;
#[path = "../support/mod.rs"]
mod support;

use std::collections::HashSet;

use engine::formats::write::Form;
use engine::model::{Activations, KvKind, Model, Slot};
use engine::packing::{BitPlace, BlockType};
use faults::{
    Address, AnyAddress, Fault, Golden, Matrix, PhysicalAddress, Sample, Shortcuts, Simulator,
    Space, Target, UnusedCode, run_trial,
};
use files::{Folder, KINDS, Scaled, bitnet, clean, faulty, gguf, linear_name, read};
use made_gguf::Gguf;
use support::{Lcg, same};

const INT8: Activations = Activations::PerTokenInt8;
const FLOATS: Activations = Activations::None;

fn linear(slot: Slot) -> Matrix {
    Matrix::Linear { layer: 0, slot }
}

/// The bit at a place of a tensor.
fn bit_at(model: &Model, matrix: Matrix, byte: usize, bit: u8) -> Address {
    let physical = PhysicalAddress { matrix, place: BitPlace { byte, bit } };
    let address = AnyAddress::Physical(physical).resolve(model).expect("a bit of the tensor");
    assert_eq!(address.check(model, KvKind::F32, 1), Ok(()), "{address}");
    assert_eq!(address.physical(model), Ok(Some(physical)), "{address}");
    address
}

/// Flips bits of a file and of its model; whether a load takes the flipped file, whose logits are
/// then those under the fault.
fn agrees(
    (file, model): (&Gguf, &Model),
    policy: Activations,
    (name, matrix): (&str, Matrix),
    bits: &[(usize, u8)],
) -> bool {
    let mut flipped = file.clone();
    bits.iter().for_each(|&(byte, bit)| flipped.tensor(name).data[byte] ^= 1 << bit);
    let fault = Fault::new(bits.iter().map(|&(byte, bit)| bit_at(model, matrix, byte, bit)));
    let got = faulty(model, &fault);
    match read(flipped.bytes(), policy) {
        Ok(twin) => {
            assert!(same(&got, &clean(&twin.model)), "{fault}");
            true
        }
        Err(error) => {
            // A scale that is no number is refused by the loader alone.
            assert!(error.to_string().contains("finite"), "{fault}: {error}");
            let scale = |flip: &Address| matches!(flip, Address::GroupScale { .. });
            assert!(fault.flips().any(scale), "{fault}: {error}");
            false
        }
    }
}

#[test]
fn all_bits_of_a_block_are_those_of_the_flipped_file() {
    for (id, kind) in KINDS {
        for (number, policy) in [INT8, FLOATS].into_iter().enumerate() {
            for scaled in [Scaled::Alike, Scaled::ZeroBlock, Scaled::Each] {
                let file = gguf((id, kind), scaled, false, 7);
                let model = read(file.bytes(), policy).expect("a sound file").model;
                // Queries stand in the file in another order of rows.
                let slot = [Slot::Gate, Slot::Q][number];
                let tensor = (linear_name(slot), linear(slot));
                let first = if scaled == Scaled::ZeroBlock { kind.bytes() } else { 0 };
                let mut refused = 0;
                let step = kind.bytes().div_ceil(70);
                for byte in (first..first + kind.bytes()).step_by(step) {
                    for bit in 0..8 {
                        let taken = agrees((&file, &model), policy, tensor, &[(byte, bit)]);
                        refused += usize::from(!taken);
                    }
                }
                assert!(refused <= 2, "{} {scaled:?}: {refused} refused", kind.name());
            }
        }
    }
}

#[test]
fn several_bits_anywhere_are_those_of_the_flipped_file() {
    for (id, kind) in KINDS {
        for policy in [INT8, FLOATS] {
            let random = &mut Lcg(u64::from(id));
            for scaled in [Scaled::Alike, Scaled::Each] {
                // Of Q2_0 so short a tensor could be of two formats.
                let embedded = id != 42;
                let file = gguf((id, kind), scaled, embedded, 9);
                let model = read(file.bytes(), policy).expect("a sound file").model;
                let mut taken = 0;
                for round in 0..24 {
                    let slots = [Slot::Q, Slot::K, Slot::V, Slot::Gate, Slot::Up];
                    let slot = slots[random.below(5)];
                    let (name, matrix) = match round % 6 {
                        5 if embedded => ("token_embd.weight", Matrix::Embedding),
                        _ => (linear_name(slot), linear(slot)),
                    };
                    let bytes = file.clone().tensor(name).data.len();
                    let flips = 1 + random.below(4);
                    let draw = |_| (random.below(bytes), random.below(8) as u8);
                    let bits: HashSet<(usize, u8)> = (0..flips).map(draw).collect();
                    let bits: Vec<(usize, u8)> = bits.into_iter().collect();
                    taken += usize::from(agrees((&file, &model), policy, (name, matrix), &bits));
                }
                assert!(taken >= 16, "{} {policy:?}: only {taken} loaded", kind.name());
            }
        }
    }
}

#[test]
fn trits_change_up_to_five_weights_and_scales_a_whole_block() {
    let file = gguf((34, BlockType::Tq1), Scaled::Alike, false, 1);
    let model = read(file.bytes(), INT8).expect("a sound file").model;
    let name = "model.layers.0.mlp.gate_proj.weight@0x3.7";
    let address = bit_at(&model, linear(Slot::Gate), 3, 7);
    assert_eq!((address.to_string().as_str(), name.parse()), (name, Ok(address)));
    let scale = bit_at(&model, linear(Slot::Gate), 54 + 53, 2);
    assert_eq!(scale.to_string(), "model.layers.0.mlp.gate_proj.weight_scale[1,0].10");
    let refused = |text: &str| {
        let address: Address = text.parse().expect(text);
        address.check(&model, KvKind::F32, 1).expect_err(text).to_string()
    };
    let trit = refused("model.layers.0.mlp.gate_proj.weight[0,0].0");
    assert!(trit.contains("five trits share a byte"), "{trit}");
    let own = refused("model.layers.0.mlp.gate_proj.weight@0x34.0");
    assert!(own.contains("has a name by its row"), "{own}");
    let none = refused("model.layers.0.mlp.down_proj.weight_scale[0,0].0");
    assert!(none.contains("no scales of their own"), "{none}");
    let byte = refused("model.layers.0.mlp.down_proj.weight@0x0.0");
    assert!(byte.contains("only bytes of trits"), "{byte}");
    let group = refused("model.layers.0.mlp.gate_proj.weight_scale[0,1].0");
    assert!(group.contains("group = 1, expected less than 1"), "{group}");
}

#[test]
fn codes_and_scales_of_rows_are_those_of_the_flipped_folder() {
    for dtype in ["F32", "F16"] {
        let folder = Folder::with_row_scales(dtype);
        let model = folder.read().expect("a sound folder").model;
        let space = Space::new(&model, KvKind::F32);
        let random = &mut Lcg(3);
        for round in 0..120 {
            let target = [Target::WeightCode, Target::WeightScale][round % 2];
            let number = random.below(space.count(target, 1) as usize) as u64;
            let address = space.address(target, 1, number);
            let mut flipped =
                Folder { config: folder.config.clone(), tensors: folder.tensors.clone() };
            match address {
                Address::Code { layer, slot, .. } => {
                    let place = address.physical(&model).expect("a layout").expect("a code").place;
                    let name = format!("model.layers.{layer}.{}.weight", slot.name());
                    flipped.data(&name)[place.byte] ^= 1 << place.bit;
                }
                Address::GroupScale { matrix, row, group: 0, bit } => {
                    let name = format!("{}.weight_scale", matrix.name());
                    let width = if dtype == "F16" { 2 } else { 4 };
                    flipped.data(&name)[row * width + usize::from(bit / 8)] ^= 1 << (bit % 8);
                }
                _ => panic!("{address} is no bit of this target"),
            }
            let got = faulty(&model, &Fault::single(address));
            match flipped.read() {
                Ok(twin) => assert!(same(&got, &clean(&twin.model)), "{address}"),
                Err(error) => assert!(error.to_string().contains("positive finite"), "{error}"),
            }
        }
    }
}

#[test]
fn float_layers_are_flipped_value_by_value() {
    let file = gguf((8, BlockType::Q8), Scaled::Each, false, 2);
    for policy in [INT8, FLOATS] {
        let model = read(file.bytes(), policy).expect("a sound file").model;
        let space = Space::new(&model, KvKind::F32);
        let random = &mut Lcg(8);
        for _ in 0..60 {
            let count = space.count(Target::WeightFloat, 1);
            assert_eq!(count, 2 * 256 * 8 * 16, "two layers of f16");
            let number = random.below(count as usize) as u64;
            let address = space.address(Target::WeightFloat, 1, number);
            let Address::Code { slot, row, column, bit, .. } = address else { panic!("a value") };
            let mut flipped = file.clone();
            let at = 2 * (row * 8 + column) + usize::from(bit / 8);
            flipped.tensor(linear_name(slot)).data[at] ^= 1 << (bit % 8);
            let got = faulty(&model, &Fault::single(address));
            match read(flipped.bytes(), policy) {
                Ok(twin) => assert!(same(&got, &clean(&twin.model)), "{address}"),
                Err(error) => assert!(error.to_string().contains("finite"), "{error}"),
            }
        }
    }
}

#[test]
fn shortcuts_give_what_single_trials_give() {
    for form in [Form::GgufTq1, Form::GgufTq2] {
        let bytes = bitnet(form);
        let model = read(bytes, INT8).expect("a sound file").model;
        let sample = Sample::of_ids(vec![1, 3, 2, 7]);
        let kind = KvKind::F32;
        let read = engine::walk::Read::All;
        let kernels = engine::kernels::best();
        let golden = Golden::new(&model, kernels, kind, read, sample).expect("a clean run");
        let space = Space::new(&model, kind);
        let random = &mut Lcg(1);
        let faults: Vec<Fault> = (0..40)
            .map(|index| {
                let target = [Target::WeightCode, Target::WeightScale, Target::Norm][index % 3];
                let draw = |_| {
                    let number = random.below(space.count(target, 4) as usize);
                    space.address(target, 4, number as u64)
                };
                Fault::new((0..1 + index % 2).map(draw))
            })
            .collect();
        for unused in [UnusedCode::Deployed, UnusedCode::Zero, UnusedCode::Detect] {
            let mut simulator = Simulator::new(&model, kernels, &golden, Shortcuts::ALL);
            let together = simulator.run(&faults, unused);
            for (fault, trial) in faults.iter().zip(together) {
                let alone = run_trial(&model, kernels, &golden, fault, unused);
                assert_eq!(format!("{trial:?}"), format!("{alone:?}"), "{fault}");
            }
        }
    }
}
