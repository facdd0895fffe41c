//! Single steps on the inputs that transformers fed them: the tolerances are those of rounding, and
//! packed `bitlinear` layers have none.

use engine::kernels;
use engine::model::{KvKind, Model, NormSlot, Scale, Slot, Weights};
use engine::walk::{Domain, Exact, Site, Step};
use ndarray::Array2;

use crate::reference::{Golden, all, bits, largest, loaded};

/// The rows that a linear layer reads; those of a norm before it are kept under the norm's name.
fn input(golden: &Golden, layer: usize, slot: Slot) -> Array2<f32> {
    let norm = match slot {
        Slot::Q | Slot::K | Slot::V => "input_layernorm",
        Slot::O => "self_attn.attn_sub_norm",
        Slot::Gate | Slot::Up => "post_attention_layernorm",
        Slot::Down => "mlp.ffn_sub_norm",
    };
    let key = |module: &str, end| format!("case0.act.model.layers.{layer}.{module}.{end}");
    let normed = golden.maybe(&key(norm, "out"));
    normed.unwrap_or_else(|| golden.floats(&key(slot.name(), "in")))
}

fn first_and_last(model: &Model) -> [usize; 2] {
    [0, model.layers.len() - 1]
}

fn distance(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
    assert_eq!(a.dim(), b.dim());
    largest(&(a - b))
}

#[test]
fn linear_layers_give_the_bits_of_transformers_or_round_beside_them() {
    for name in all() {
        let (model, golden) = (loaded(name).model, Golden::of(name));
        let mut exact = Exact::new(kernels::best(), &model, KvKind::F32);
        for layer in first_and_last(&model) {
            for slot in Slot::ALL {
                let linear = model.layers[layer].linear(slot);
                let at = Site { layer, step: Step::Linear(slot) };
                let x = exact.prepare(at, &input(&golden, layer, slot), linear.activations);
                let got = exact.linear(at, &x, linear);
                let key = format!("case0.act.model.layers.{layer}.{}.out", slot.name());
                let expected = golden.floats(&key);
                match linear.weights {
                    Weights::Ternary { scale: Scale::Divide(_), .. } => {
                        assert_eq!(bits(&got), bits(&expected), "{name} {key}");
                    }
                    _ => {
                        let far = distance(&got, &expected) / largest(&expected);
                        assert!(far <= 2e-6, "{name} {key}: {far:e}");
                    }
                }
            }
        }
    }
}

#[test]
fn norms_round_beside_those_of_transformers() {
    for name in all() {
        let (model, golden) = (loaded(name).model, Golden::of(name));
        let mut exact = Exact::new(kernels::best(), &model, KvKind::F32);
        for layer in first_and_last(&model) {
            let slots = [
                (NormSlot::Input, "input_layernorm"),
                (NormSlot::Post, "post_attention_layernorm"),
                (NormSlot::AttentionSub, "self_attn.attn_sub_norm"),
                (NormSlot::FfnSub, "mlp.ffn_sub_norm"),
            ];
            for (slot, module) in slots {
                let Some(norm) = model.layers[layer].norm(slot) else { continue };
                let key = format!("case0.act.model.layers.{layer}.{module}");
                let x = golden.floats(&format!("{key}.in"));
                let expected = golden.floats(&format!("{key}.out"));
                let got = exact.norm(Site { layer, step: Step::Norm(slot) }, &x, norm);
                let far = distance(&got, &expected) / largest(&expected);
                assert!(far <= 4e-7, "{name} {key}: {far:e}");
            }
        }
    }
}

#[test]
fn the_final_norm_and_the_head_round_beside_those_of_transformers() {
    for name in all() {
        let (model, golden) = (loaded(name).model, Golden::of(name));
        let mut exact = Exact::new(kernels::best(), &model, KvKind::F32);
        let layer = model.layers.len();
        let normed = golden.floats("case0.act.lm_head.in");
        let at = Site { layer, step: Step::Norm(NormSlot::Final) };
        let x = golden.floats("case0.act.model.norm.in");
        let far = distance(&exact.norm(at, &x, &model.final_norm), &normed) / largest(&normed);
        assert!(far <= 4e-7, "{name}: {far:e}");
        let at = Site { layer, step: Step::Logits };
        let got = exact.logits(at, &normed, &model.head);
        let logits = golden.floats("case0.logits");
        let expected = logits.slice(ndarray::s![..normed.nrows(), ..]).to_owned();
        let far = distance(&got, &expected) / largest(&expected);
        assert!(far <= 2e-6, "{name}: {far:e}");
    }
}

#[test]
fn rotary_tables_lie_within_an_ulp_of_those_of_torch() {
    for name in all() {
        let (model, golden) = (loaded(name).model, Golden::of(name));
        let frequencies = golden.floats("rope.inv_freq");
        assert_eq!(model.rope.frequencies(), frequencies.as_slice().expect("a row"), "{name}");
        let (cos, sin) = (golden.floats("rope.cos"), golden.floats("rope.sin"));
        for position in 0..cos.nrows() {
            for (j, &(c, s)) in model.rope.at(position).iter().enumerate() {
                for (got, expected) in [(c, cos[[position, j]]), (s, sin[[position, j]])] {
                    let ulps = got.to_bits().abs_diff(expected.to_bits());
                    assert!(ulps <= 1, "{name} {position} {j}: {got} {expected}");
                }
            }
        }
    }
}
