//! Every number is one bit and every bit has one number: exhaustively, on small models.

mod support;

use std::collections::HashSet;

use engine::model::{HeadForm, KvKind, KvPlace, Side};
use faults::{Address, AnyAddress, Space, Target};
use support::{model, shape};

const KINDS: [KvKind; 4] = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit];

#[test]
fn numbers_and_addresses_are_inverse_on_every_bit_of_small_models() {
    for index in 0..12 {
        let model = model(&shape(index), index as u64);
        let kind = KINDS[index % 4];
        let space = Space::new(&model, kind);
        for target in Target::ALL {
            let tokens = 1 + index % 4;
            let mut seen = HashSet::new();
            for number in 0..space.count(target, tokens) {
                let address = space.address(target, tokens, number);
                assert_eq!(space.number(tokens, &address), Some((target, number)), "{address}");
                assert_eq!(address.check(&model, kind, tokens), Ok(()));
                seen.insert(address.storage());
            }
            assert_eq!(seen.len() as u64, space.bits(target, tokens), "{target:?}");
        }
    }
}

#[test]
fn a_head_of_integers_has_the_bits_of_the_floats_that_it_is_made_of() {
    for index in 0..4 {
        let shape = shape(index);
        let stored = model(&shape, 1);
        let coded = stored.clone().with_head(HeadForm::Int8);
        let bits = |model, target| Space::new(model, KvKind::F32).bits(target, 1);
        for target in [Target::LmHead, Target::Embedding] {
            assert_eq!(bits(&coded, target), bits(&stored, target));
        }
        let check = |address: Address| address.check(&coded, KvKind::F32, 1);
        assert_eq!(check(Address::Head { row: 0, column: 0, bit: 0 }).is_err(), shape.tied);
        assert_eq!(check(Address::Embedding { row: 0, column: 0, bit: 0 }), Ok(()));
    }
}

#[test]
fn counts_are_those_of_the_tensors() {
    let shape = shape(0);
    let model = model(&shape, 1);
    let space = Space::new(&model, KvKind::Int8);
    let query = shape.heads * shape.head_dim;
    let kv = shape.kv_heads * shape.head_dim;
    let weights = shape.hidden * (2 * query + 2 * kv + 3 * shape.ffn) * shape.layers;
    assert_eq!(space.count(Target::WeightCode, 5), 2 * weights as u64);
    assert_eq!(space.count(Target::WeightScale, 5), (7 * shape.layers * 16) as u64);
    assert_eq!(space.count(Target::LmHead, 5), (shape.vocabulary * shape.hidden * 16) as u64);
    assert_eq!(space.count(Target::KvInt8, 5), (2 * shape.layers * 15 * kv * 8) as u64);
    assert_eq!(space.bits(Target::KvInt8, 5), (2 * shape.layers * 5 * kv * 8) as u64);
    let heads = 2 * shape.layers * shape.kv_heads * 32;
    assert_eq!(space.count(Target::KvInt8Scale, 5), (15 * heads) as u64);
    assert_eq!(space.bits(Target::KvInt8Scale, 5), (5 * heads) as u64);
    assert_eq!(space.count(Target::KvF32, 5), 0, "another kind of store");
    assert_eq!(space.count(Target::KvOneBitScale, 5), 0, "another kind of store");
}

#[test]
fn a_tied_model_has_no_head_of_its_own() {
    let tied = model(&shape(1), 1);
    assert!(tied.config.tied);
    let space = Space::new(&tied, KvKind::F32);
    assert_eq!(space.count(Target::LmHead, 3), 0);
    let head = Address::Head { row: 0, column: 0, bit: 0 };
    assert_eq!(space.number(3, &head), None);
    let message = head.check(&tied, KvKind::F32, 3).expect_err("tied").to_string();
    assert!(message.contains("model.embed_tokens.weight"), "{message}");
}

#[test]
fn addresses_outside_have_no_number_and_say_why() {
    let model = model(&shape(0), 1);
    let space = Space::new(&model, KvKind::OneBit);
    let cases = [
        ("model.layers.9.mlp.down_proj.weight[0,0].0", "layer = 9, expected less than 1"),
        ("model.layers.0.mlp.down_proj.weight[24,0].0", "row = 24, expected less than 24"),
        ("model.layers.0.mlp.down_proj.weight[0,40].0", "column = 40"),
        ("model.layers.0.mlp.down_proj.weight_scale.16", "bit = 16"),
        ("model.layers.0.mlp.down_proj.rms_norm.weight[0].0", "no norm at this place"),
        ("model.layers.0.input_layernorm.weight[24].0", "index = 24"),
        ("model.norm.weight[0].16", "bit = 16"),
        ("model.embed_tokens.weight[19,0].0", "row = 19"),
        ("lm_head.weight[0,24].0", "column = 24"),
        ("kv.layers.0.key[token=0,head=0,dim=0].1", "bit = 1"),
        ("kv.layers.0.key_scale[token=3,head=0].1", "step = 3"),
        ("kv.layers.0.key_scale[token=0,head=2].1", "head = 2"),
        ("model.layers.0.mlp.down_proj.weight[0,0].2", "bit = 2, expected less than 2"),
        ("model.layers.0.mlp.down_proj.weight_scale[0,0].1", "no scales of their own"),
        ("lm_head.weight_scale[0,0].1", "no scales of their own"),
        ("lm_head.weight@0x0.1", "only bytes of trits"),
        ("kv.layers.0.key[token=3,head=0,dim=0].0", "step = 3"),
        ("kv.layers.0.key[token=0,head=2,dim=0].0", "head = 2"),
        ("kv.layers.0.key[token=0,head=0,dim=6].0", "dim = 6"),
    ];
    for (text, why) in cases {
        let address: Address = text.parse().expect(text);
        assert_eq!(space.number(3, &address), None, "{text}");
        let error = address.check(&model, KvKind::OneBit, 3).expect_err(text).to_string();
        assert!(error.contains(why) && error.contains(text), "{error}");
    }
    let early = Address::Kv {
        layer: 0,
        side: Side::Key,
        place: KvPlace { token: 2, head: 0, dim: 0 },
        bit: 0,
        step: 1,
    };
    assert!(early.check(&model, KvKind::OneBit, 3).is_err() && space.number(3, &early).is_none());
}

#[test]
fn physical_and_logical_names_of_a_code_are_inverse_on_every_bit() {
    let model = model(&shape(0), 1);
    let space = Space::new(&model, KvKind::F32);
    let mut bytes = HashSet::new();
    for number in 0..space.count(Target::WeightCode, 1) {
        let logical = space.address(Target::WeightCode, 1, number);
        let physical = logical.physical(&model).expect("whole quarters").expect("a code");
        assert!(bytes.insert(physical), "two codes at {physical}");
        let typed: AnyAddress = physical.to_string().parse().expect("an address");
        assert_eq!(typed.resolve(&model), Ok(logical));
    }
    let beyond: AnyAddress =
        "model.layers.0.mlp.down_proj.weight@0xfffff.5".parse().expect("an address");
    let message = beyond.resolve(&model).expect_err("outside").to_string();
    assert!(message.contains("byte = 1048575, expected less than 240"), "{message}");
}

#[test]
fn target_names_read_back() {
    for target in Target::ALL {
        assert_eq!(Target::named(target.name()), Some(target));
        if let Some(kind) = target.kv() {
            let (of, end) = if target.is_kv_scale() {
                (Target::of_kv_scale(kind), "_scale")
            } else {
                (Some(Target::of_kv(kind)), "")
            };
            assert_eq!(of, Some(target));
            assert_eq!(target.name(), format!("kv_{}{end}", kind.name()));
        }
    }
    assert_eq!(Target::named("weights"), None);
}
