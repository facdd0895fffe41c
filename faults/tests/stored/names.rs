//! Numbers, names and places of all bits of small files.

use std::collections::{BTreeMap, HashSet};

use engine::kernels;
use engine::model::{KvKind, Model};
use engine::packing::{BitPlace, BlockType};
use faults::{Address, AnyAddress, Campaign, Image, PhysicalAddress, Sample, Space, Target};

use crate::files::{Folder, KINDS, Scaled, gguf, read};
use crate::support::mix;
use crate::{FLOATS, INT8, linear};

const STORED: [Target; 6] = [
    Target::WeightCode,
    Target::WeightScale,
    Target::WeightFloat,
    Target::Norm,
    Target::Embedding,
    Target::LmHead,
];

fn assert_inverse(model: &Model) {
    let space = Space::new(model, KvKind::F32);
    for target in STORED {
        let mut seen = HashSet::new();
        for number in 0..space.count(target, 1) {
            let address = space.address(target, 1, number);
            assert_eq!(space.number(1, &address), Some((target, number)), "{address}");
            assert_eq!(address.target(model, KvKind::F32), target, "{address}");
            assert_eq!(address.check(model, KvKind::F32, 1), Ok(()));
            assert!(seen.insert(address), "{address}");
            if number % 17 == 0 {
                assert_eq!(address.to_string().parse(), Ok(address));
                let image = Image::of(model, KvKind::F32, &address).expect("bytes of a file");
                assert_eq!(image.address(image.place(&address)), address);
            }
        }
    }
}

#[test]
fn numbers_and_addresses_are_inverse_in_every_format() {
    for (id, kind) in KINDS {
        for policy in [INT8, FLOATS] {
            let embedded = id != 42;
            let file = gguf((id, kind), Scaled::Each, embedded, 5);
            assert_inverse(&read(file.bytes(), policy).expect("a sound file").model);
        }
    }
    assert_inverse(&Folder::with_row_scales("F16").read().expect("a sound folder").model);
    for (dtype, masters) in [("BF16", true), ("F32", false), ("I8", false)] {
        let folder = Folder::packed().with_elements(dtype, masters);
        assert_inverse(&folder.read().expect("a sound folder").model);
    }
}

#[test]
fn every_bit_of_a_tensor_of_blocks_has_a_name_and_a_number() {
    for (id, kind) in KINDS {
        for scaled in [Scaled::Alike, Scaled::Each] {
            let file = gguf((id, kind), scaled, false, 5);
            let model = read(file.bytes(), INT8).expect("a sound file").model;
            let space = Space::new(&model, KvKind::F32);
            let (mut seen, mut bytes) = (HashSet::new(), 0);
            for slot in engine::model::Slot::ALL {
                let matrix = linear(slot);
                let Some(shape) = model.layers[0].linear(slot).weights.block_shape() else {
                    continue;
                };
                bytes += shape.bytes();
                for at in 0..8 * shape.bytes() {
                    let place = BitPlace { byte: at / 8, bit: (at % 8) as u8 };
                    let physical = PhysicalAddress { matrix, place };
                    let address = physical.logical(&model).expect("a bit of the tensor");
                    assert_eq!(address.physical(&model), Ok(Some(physical)));
                    let found = space.number(1, &address).expect("a number");
                    assert!(seen.insert(found), "{address}");
                }
                let end =
                    PhysicalAddress { matrix, place: BitPlace { byte: shape.bytes(), bit: 0 } };
                assert!(end.logical(&model).is_err());
            }
            let all = space.count(Target::WeightCode, 1) + space.count(Target::WeightScale, 1);
            assert_eq!((seen.len(), all as usize), (8 * bytes, 8 * bytes), "{}", kind.name());
        }
    }
}

#[test]
fn codes_that_are_made_at_load_have_no_bits_of_a_file() {
    let config = engine::model::random::small_config(1, 16, 2, 1);
    let style = engine::model::random::Style::BITNET;
    let model = engine::model::random::mixed_model(&config, style, 3);
    let name = "model.layers.0.self_attn.k_proj.weight[0,0].0";
    let typed: AnyAddress = name.parse().expect("an address");
    let address: Address = typed.resolve(&model).expect("a logical one");
    let message = address.check(&model, KvKind::F32, 1).expect_err("made").to_string();
    assert!(message.contains("made at load"), "{message}");
    assert_eq!(Space::new(&model, KvKind::F32).number(1, &address), None);
}

#[test]
fn only_elements_of_which_codes_are_made_have_their_names() {
    let refused = |folder: Folder, text: &str| {
        let model = folder.read().expect("a sound folder").model;
        let address: Address = text.parse().expect("an address");
        address.check(&model, KvKind::F32, 1).expect_err(text).to_string()
    };
    let name = "model.layers.0.mlp.up_proj.weight_element";
    let packed = refused(Folder::packed(), &format!("{name}[0,0].0"));
    assert!(packed.contains("its codes are those of the file"), "{packed}");
    let bytes = || Folder::packed().with_elements("I8", false);
    let bit = refused(bytes(), &format!("{name}[0,0].8"));
    assert!(bit.contains("bit = 8, expected less than 8"), "{bit}");
    let column = refused(bytes(), &format!("{name}[0,16].0"));
    assert!(column.contains("column = 16, expected less than 16"), "{column}");
}

#[test]
fn a_page_of_blocks_has_the_same_weak_cells_whichever_of_its_bits_was_drawn() {
    let file = gguf((34, BlockType::Tq1), Scaled::Each, false, 5);
    let model = read(file.bytes(), INT8).expect("a sound file").model;
    let text = "[[fault]]\ntarget = \"weight_code\"\nmodel = \"row-hammer\"\npage_bytes = 64\n\
                cells = 12";
    let mix = mix(text);
    let (identity, samples) = (mix.identity("model", "inputs"), [Sample::of_ids(vec![1, 3, 2])]);
    let campaign =
        Campaign::mixed(&model, kernels::best(), mix, identity, &samples).expect("a sound plan");
    let (mut pages, mut again) = (BTreeMap::new(), 0);
    for index in 0..200 {
        let flips: Vec<Address> = campaign.draw(index).fault.flips().copied().collect();
        let Some(first) = flips.first() else { continue };
        let at = first.physical(&model).expect("a bit").expect("a place");
        let page = (at.matrix, at.place.byte / 64);
        again += usize::from(pages.contains_key(&page));
        assert_eq!(pages.entry(page).or_insert_with(|| flips.clone()), &flips, "{page:?}");
    }
    assert!(again > 50 && pages.len() > 5, "{again} of {} pages again", pages.len());
}
