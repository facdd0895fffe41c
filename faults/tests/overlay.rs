//! The decorated walk equals the walk of the physically flipped model, bit for bit.

mod support;

use engine::kernels;
use engine::model::{KvKind, Model, NormSlot, Side, Slot};
use engine::walk::{self, Exact, Read};
use faults::{Address, Fault, Faulty, Overlay, Space, Target, UnusedCode, embed_with};
use ndarray::{Array2, Axis, concatenate, s};
use proptest::prelude::*;
use support::{Lcg, flip, model, prompt, same, shape};

const KINDS: [KvKind; 4] = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit];

fn clean(model: &Model, kind: KvKind, ids: &[u32], read: Read) -> Array2<f32> {
    let mut exact = Exact::new(kernels::best(), model, kind);
    let rows = model.embed(ids).expect("tokens of the vocabulary");
    walk::run(&mut exact, model, &rows, 0, 0, read)
}

fn faulty(model: &Model, kind: KvKind, ids: &[u32], overlay: &Overlay, read: Read) -> Array2<f32> {
    let mut domain = Faulty::new(Exact::new(kernels::best(), model, kind), overlay);
    let rows = embed_with(model, ids, overlay).expect("tokens of the vocabulary");
    walk::run(&mut domain, model, &rows, 0, 0, read)
}

/// A walk token by token, in which the bits flip in the store itself.
fn struck_by_hand(model: &Model, kind: KvKind, ids: &[u32], fault: &Fault) -> Array2<f32> {
    let mut exact = Exact::new(kernels::best(), model, kind);
    let mut all = Array2::zeros((0, model.config.vocabulary));
    for (position, &id) in ids.iter().enumerate() {
        for flip in fault.flips() {
            let (layer, side, at) = match *flip {
                Address::Kv { layer, side, step, .. }
                | Address::KvScale { layer, side, step, .. } => (layer, side, step),
                _ => continue,
            };
            if at != position {
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
        let row = model.embed(&[id]).expect("a token of the vocabulary");
        let logits = walk::run(&mut exact, model, &row, 0, position, Read::All);
        all = concatenate(Axis(0), &[all.view(), logits.view()]).expect("rows of one width");
    }
    all
}

fn draw(space: &Space, target: Target, tokens: usize, random: &mut Lcg) -> Address {
    let count = space.count(target, tokens);
    space.address(target, tokens, random.below(count as usize) as u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn weight_faults_equal_the_flipped_model(
        index in 0usize..288, seed in any::<u64>(), flips in 1usize..5, tokens in 1usize..8,
    ) {
        let shape = shape(index);
        let model = model(&shape, seed);
        let random = &mut Lcg(seed);
        let kind = KINDS[random.below(4)];
        let space = Space::new(&model, kind);
        let ids = prompt(shape.vocabulary, tokens, random);
        let before = clean(&model, kind, &ids, Read::All);
        for target in Target::ALL {
            if target.kv().is_some() || space.count(target, tokens) == 0 {
                continue;
            }
            let fault = Fault::new((0..flips).map(|_| draw(&space, target, tokens, random)));
            let mut twin = model.clone();
            fault.flips().for_each(|address| flip(&mut twin, address));
            let overlay = Overlay::new(&model, &fault, UnusedCode::Deployed);
            for read in [Read::All, Read::Last] {
                let expected = clean(&twin, kind, &ids, read);
                let got = faulty(&model, kind, &ids, &overlay, read);
                prop_assert!(same(&got, &expected), "{fault} {read:?} {shape:?}");
            }
            prop_assert!(same(&before, &clean(&model, kind, &ids, Read::All)), "model untouched");
        }
    }

    #[test]
    fn faults_of_all_targets_at_once_equal_the_flipped_model(
        index in 0usize..288, seed in any::<u64>(),
    ) {
        let shape = shape(index);
        let model = model(&shape, seed);
        let random = &mut Lcg(seed);
        let space = Space::new(&model, KvKind::F32);
        let ids = prompt(shape.vocabulary, 5, random);
        let targets = Target::ALL.into_iter().filter(|t| t.kv().is_none());
        let targets = targets.filter(|&t| space.count(t, 5) > 0);
        let fault = Fault::new(targets.map(|target| draw(&space, target, 5, random)));
        let mut twin = model.clone();
        fault.flips().for_each(|address| flip(&mut twin, address));
        let overlay = Overlay::new(&model, &fault, UnusedCode::Deployed);
        let got = faulty(&model, KvKind::F32, &ids, &overlay, Read::All);
        prop_assert!(same(&got, &clean(&twin, KvKind::F32, &ids, Read::All)), "{fault}");
    }

    #[test]
    fn store_faults_equal_a_store_that_is_flipped_between_two_steps(
        index in 0usize..288, seed in any::<u64>(), flips in 1usize..5,
    ) {
        let shape = shape(index);
        let model = model(&shape, seed);
        let random = &mut Lcg(seed);
        let ids = prompt(shape.vocabulary, 7, random);
        for kind in KINDS {
            let space = Space::new(&model, kind);
            let targets = [Some(Target::of_kv(kind)), Target::of_kv_scale(kind)];
            let targets: Vec<Target> = targets.into_iter().flatten().collect();
            let fault = Fault::new((0..flips).filter_map(|_| {
                // By hand a bit can flip only before the walk of a step, so after its own step.
                let address = draw(&space, targets[random.below(targets.len())], ids.len(), random);
                let later = match address {
                    Address::Kv { place, step, .. } => step > place.token,
                    Address::KvScale { token, step, .. } => step > token,
                    _ => panic!("a bit of a store"),
                };
                later.then_some(address)
            }));
            let overlay = Overlay::new(&model, &fault, UnusedCode::Deployed);
            let expected = struck_by_hand(&model, kind, &ids, &fault);
            let got = faulty(&model, kind, &ids, &overlay, Read::All);
            prop_assert!(same(&got, &expected), "{fault}");
            let last = faulty(&model, kind, &ids, &overlay, Read::Last);
            let tail = expected.slice(s![ids.len() - 1.., ..]).to_owned();
            prop_assert!(same(&last, &tail), "the last row alone: {fault}");
        }
    }

    #[test]
    fn decoding_under_a_fault_equals_prefill_under_it(
        index in 0usize..288, seed in any::<u64>(), cut in 1usize..6,
    ) {
        let shape = shape(index);
        let model = model(&shape, seed);
        let random = &mut Lcg(seed);
        let ids = prompt(shape.vocabulary, 6, random);
        let kind = KINDS[random.below(4)];
        let space = Space::new(&model, kind);
        let kv = Target::of_kv(kind);
        let fault = Fault::new(
            [kv, kv, Target::WeightCode].map(|target| draw(&space, target, 6, random)),
        );
        let overlay = Overlay::new(&model, &fault, UnusedCode::Deployed);
        let whole = faulty(&model, kind, &ids, &overlay, Read::All);
        let mut domain = Faulty::new(Exact::new(kernels::best(), &model, kind), &overlay);
        let rows = model.embed(&ids).expect("tokens of the vocabulary");
        let head = rows.slice(s![..cut, ..]).to_owned();
        let tail = rows.slice(s![cut.., ..]).to_owned();
        let above = walk::run(&mut domain, &model, &head, 0, 0, Read::All);
        let below = walk::run(&mut domain, &model, &tail, 0, cut, Read::All);
        let both = concatenate(Axis(0), &[above.view(), below.view()]).expect("one width");
        prop_assert!(same(&whole, &both), "{fault}");
    }
}

#[test]
fn a_strike_at_its_own_step_is_seen_from_that_query_on() {
    // Queries before a token never see it: striking it at its own step is storing it flipped, and
    // that is the same as striking a store that was filled beforehand.
    let model = model(&shape(5), 9);
    let ids = prompt(19, 6, &mut Lcg(5));
    for kind in KINDS {
        let base = clean(&model, kind, &ids, Read::All);
        for (token, step) in [(2, 2), (2, 4), (0, 0), (5, 5)] {
            if kind.scale_bits() > 0 {
                let text = format!("kv.layers.0.value_scale[token={token},head=0].29@{step}");
                let address: Address = text.parse().expect("an address");
                let overlay = Overlay::new(&model, &Fault::single(address), UnusedCode::Deployed);
                let struck = faulty(&model, kind, &ids, &overlay, Read::All);
                for position in 0..ids.len() {
                    let equal = struck.row(position) == base.row(position);
                    assert_eq!(equal, position < step, "{kind:?} {address} at {position}");
                }
            }
            let text = format!("kv.layers.0.value[token={token},head=0,dim=1].0@{step}");
            let mut address: Address = text.parse().expect("an address");
            if let Address::Kv { bit, .. } = &mut address {
                *bit = kind.entry_bits() - 1;
            }
            let overlay = Overlay::new(&model, &Fault::single(address), UnusedCode::Deployed);
            let struck = faulty(&model, kind, &ids, &overlay, Read::All);
            for position in 0..ids.len() {
                let equal = struck.row(position) == base.row(position);
                assert_eq!(equal, position < step, "{kind:?} {address} at {position}");
            }
        }
    }
}

#[test]
fn a_bit_that_flips_twice_is_clean_again() {
    let model = model(&shape(5), 9);
    let ids = prompt(19, 6, &mut Lcg(5));
    let twice = ["@2", "@4"].map(|step| {
        let text = format!("kv.layers.0.key[token=1,head=0,dim=1].30{step}");
        text.parse::<Address>().expect("an address")
    });
    let overlay = Overlay::new(&model, &Fault::new(twice), UnusedCode::Deployed);
    let struck = faulty(&model, KvKind::F32, &ids, &overlay, Read::All);
    let base = clean(&model, KvKind::F32, &ids, Read::All);
    let differs = |p: usize| struck.row(p) != base.row(p);
    assert!(!differs(0) && !differs(1) && differs(2) && differs(3));
}

#[test]
fn the_zero_policy_takes_a_made_unused_code_for_weight_zero() {
    let model = model(&shape(0), 3);
    let ids = prompt(19, 5, &mut Lcg(1));
    let code = |row, column| {
        let linear = model.layers[0].linear(Slot::Up);
        let engine::model::Weights::Ternary { rows, .. } = &linear.weights else { panic!() };
        rows.code(row, column)
    };
    let places = (0..40).flat_map(|row| (0..24).map(move |column| (row, column)));
    // Code 2 (+1) with its low bit flipped is 3; weight 0 is code 1: a physical twin flips both
    // bits.
    for (row, column) in places.filter(|&(r, c)| code(r, c) == 2).take(20) {
        let at = |bit| Address::Code { layer: 0, slot: Slot::Up, row, column, bit };
        let fault = Fault::single(at(0));
        assert!(fault.makes_unused_code(&model));
        assert!(!Fault::single(at(1)).makes_unused_code(&model), "code 2 becomes 0");
        assert!(!Fault::new([at(0), at(1)]).makes_unused_code(&model), "code 2 becomes 1");
        let overlay = Overlay::new(&model, &fault, UnusedCode::Zero);
        let mut twin = model.clone();
        flip(&mut twin, &at(0));
        flip(&mut twin, &at(1));
        let got = faulty(&model, KvKind::F32, &ids, &overlay, Read::All);
        assert!(same(&got, &clean(&twin, KvKind::F32, &ids, Read::All)), "{fault}");
    }
}

#[test]
fn an_f16_value_that_passes_through_nan_is_flipped_on_its_bits() {
    // Exponent bits first make a signalling NaN, then a mantissa bit: the mask flips all at once.
    let index = (0..288).find(|&i| shape(i).stored == engine::model::FloatType::F16).expect("f16");
    let shape = shape(index);
    let mut model = model(&shape, 3);
    model.final_norm.gains = vec![1.0; shape.hidden].into();
    let bits = [0u8, 14];
    let fault = Fault::new(bits.map(|bit| Address::FinalNorm { index: 2, bit }));
    let overlay = Overlay::new(&model, &fault, UnusedCode::Deployed);
    let ids = prompt(19, 3, &mut Lcg(1));
    // 1.0 is 0x3c00; with bits 0 and 14 flipped it is the NaN 0x7c01.
    let got = faulty(&model, KvKind::F32, &ids, &overlay, Read::All);
    assert!(got.iter().all(|v| v.is_nan()));
    assert_eq!(overlay.last_layer(), Some(shape.layers));
    let other = Fault::new([Address::Norm { layer: 0, slot: NormSlot::Post, index: 0, bit: 3 }]);
    assert_eq!(Overlay::new(&model, &other, UnusedCode::Deployed).first_layer(), 0);
}
