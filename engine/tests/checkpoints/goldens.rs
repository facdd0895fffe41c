//! Whole models against transformers, and against themselves: what must not change a bit does not.
//!
//! End to end, closeness to another implementation is bounded by int8 codes that flip, not by float
//! rounding: hence the wide tolerance on logits beside the narrow ones of `steps`.

use engine::kernels;
use engine::model::{KvKind, Weights};
use engine::numerics::argmax;
use engine::packing::{HfRows, weight_of};
use engine::walk::{Exact, Read, run, streams};
use ndarray::{Array2, Axis, concatenate, s};
use safetensors::SafeTensors;

use crate::reference::{Golden, RANDOM, TRAINED, all, bits, largest, loaded, path, prefill};

const KINDS: [KvKind; 4] = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit];

#[test]
fn the_loader_keeps_every_code_scale_and_float() {
    for name in all().filter(|name| name.contains("packed")) {
        let model = loaded(name).model;
        let file = std::fs::read(path("models").join(name).join("model.safetensors"));
        let file = file.expect("the file");
        let tensors = SafeTensors::deserialize(&file).expect("sound tensors");
        let bf16 =
            |pair: &[u8]| f32::from_bits(u32::from(pair[1]) << 24 | u32::from(pair[0]) << 16);
        for (index, layer) in model.layers.iter().enumerate() {
            for slot in engine::model::Slot::ALL {
                let Weights::Ternary { rows, scale, .. } = &layer.linear(slot).weights else {
                    panic!("{name}: a ternary layer")
                };
                let linear = engine::formats::linear_name(index, slot);
                let packed = tensors.tensor(&format!("{linear}.weight")).expect("weights");
                let (height, width) = (packed.shape()[0], packed.shape()[1]);
                for row in 0..rows.rows() {
                    for (column, &code) in rows.row(row).iter().enumerate() {
                        let byte = packed.data()[row % height * width + column];
                        let weight = i32::from(byte >> (2 * (row / height)) & 3) - 1;
                        assert_eq!(weight_of(code), weight, "{linear} {row} {column}");
                    }
                }
                let stored = tensors.tensor(&format!("{linear}.weight_scale")).expect("a scale");
                assert_eq!(scale.stored(), bf16(stored.data()), "{linear}");
            }
        }
        let embedding = tensors.tensor(engine::formats::EMBEDDING).expect("embeddings");
        let ids: Vec<u32> = (0..model.config.vocabulary as u32).collect();
        let rows = model.embed(&ids).expect("known tokens");
        assert!(rows.iter().copied().eq(embedding.data().chunks_exact(2).map(bf16)), "{name}");
    }
}

#[test]
fn masters_are_quantised_to_the_very_codes_that_were_packed_from_them() {
    let (online, packed) =
        (loaded("bitnet_online_bf16").model, loaded("bitnet_packed_autobitlinear").model);
    for (a, b) in online.layers.iter().zip(&packed.layers) {
        for (a, b) in a.linears.iter().zip(&b.linears) {
            let (
                Weights::Ternary { rows: a, scale: s, .. },
                Weights::Ternary { rows: b, scale: t, .. },
            ) = (&a.weights, &b.weights)
            else {
                panic!("ternary layers")
            };
            assert_eq!(a, b);
            // The packed scale is the mean magnitude, rounded to bf16.
            assert!((s.stored() / t.stored() - 1.0).abs() < 1.0 / 256.0);
        }
    }
}

#[test]
fn the_manifest_finds_the_file_and_byte_of_a_bit() {
    let name = "bitnet_packed_bitlinear";
    let loaded = loaded(name);
    let tensor = "model.layers.1.mlp.down_proj.weight";
    let entry = loaded.manifest.entry(tensor).expect("an entry");
    let file = std::fs::read(path("models").join(name).join(&entry.file)).expect("the file");
    let layout = HfRows::new(128, 256).expect("whole quarters");
    let Weights::Ternary { rows, .. } =
        &loaded.model.layers[1].linear(engine::model::Slot::Down).weights
    else {
        panic!("a ternary layer")
    };
    for (row, column) in [(0, 0), (31, 255), (32, 0), (77, 91), (127, 255)] {
        let low = layout.locate(row, column, 0);
        let byte = file[entry.offset as usize + low.byte];
        assert_eq!((byte >> low.bit) & 3, rows.code(row, column));
    }
    assert_eq!(entry.census, Some(rows.census()));
    assert_eq!(entry.bytes as usize, layout.bytes());
    assert!(loaded.manifest.entry("model.layers.9.mlp.down_proj.weight").is_none());
    assert_eq!(loaded.manifest.digest.len(), 64);
    assert!(loaded.manifest.warnings.is_empty(), "{:?}", loaded.manifest.warnings);
}

#[test]
fn the_answer_is_that_of_transformers_wherever_its_margin_is_clear() {
    for name in TRAINED {
        let (model, golden) = (loaded(name).model, Golden::of(name));
        for case in 0..5 {
            let ids = golden.ids(&format!("case{case}.input_ids"));
            let logits = prefill(kernels::best(), &model, KvKind::F32, &ids);
            let margins = golden.floats(&format!("case{case}.margin"));
            let answers = golden.ids(&format!("case{case}.argmax"));
            for (position, row) in logits.rows().into_iter().enumerate() {
                if margins[[0, position]] > 0.05 {
                    let got = argmax(row.as_slice().expect("a row"));
                    assert_eq!(got, Some(answers[position] as usize), "{name} {case} {position}");
                }
            }
        }
    }
}

#[test]
fn untrained_models_answer_as_in_transformers_nearly_everywhere() {
    for name in RANDOM {
        let (model, golden) = (loaded(name).model, Golden::of(name));
        let (mut same, mut all) = (0, 0);
        for case in 0..5 {
            let ids = golden.ids(&format!("case{case}.input_ids"));
            let logits = prefill(kernels::best(), &model, KvKind::F32, &ids);
            let answers = golden.ids(&format!("case{case}.argmax"));
            for (row, &answer) in logits.rows().into_iter().zip(&answers) {
                all += 1;
                same +=
                    usize::from(argmax(row.as_slice().expect("a row")) == Some(answer as usize));
            }
        }
        assert!(same * 100 >= all * 98, "{name}: {same} of {all}");
    }
}

#[test]
fn logits_lie_close_to_those_of_transformers() {
    for name in TRAINED {
        let (model, golden) = (loaded(name).model, Golden::of(name));
        let (mut far, mut sum, mut count) = (0.0, 0.0, 0);
        for case in 0..5 {
            let ids = golden.ids(&format!("case{case}.input_ids"));
            let logits = prefill(kernels::best(), &model, KvKind::F32, &ids);
            let full = golden.maybe(&format!("case{case}.logits"));
            let kept = full.unwrap_or_else(|| golden.floats(&format!("case{case}.logits_last")));
            let first = logits.nrows() - kept.nrows();
            let delta = &logits.slice(s![first.., ..]) - &kept;
            let most = largest(&delta);
            far = if most > far { most } else { far };
            sum += delta.iter().map(|d| f64::from(d.abs())).sum::<f64>();
            count += delta.len();
        }
        let mean = sum / count as f64;
        assert!(far < 0.1 && mean < 1e-3, "{name}: at most {far:e}, on average {mean:e}");
    }
}

#[test]
fn the_streams_between_layers_lie_close_to_those_of_transformers() {
    for name in TRAINED {
        let (model, golden) = (loaded(name).model, Golden::of(name));
        let embedded = model.embed(&golden.ids("case2.input_ids")).expect("known tokens");
        let mut exact = Exact::new(kernels::best(), &model, KvKind::F32);
        let streams = streams(&mut exact, &model, &embedded);
        for (layer, stream) in streams[..model.layers.len()].iter().enumerate() {
            let expected = golden.floats(&format!("case2.hidden.{layer}"));
            let far = largest(&(stream - &expected)) / largest(&expected);
            assert!(far < 1e-5, "{name} layer {layer}: {far:e}");
        }
    }
}

#[test]
fn greedy_decoding_token_by_token_continues_as_transformers_does() {
    for name in TRAINED {
        let (model, golden) = (loaded(name).model, Golden::of(name));
        let prompt = golden.ids("case0.input_ids");
        let expected = golden.ids("greedy.case0");
        let mut exact = Exact::new(kernels::best(), &model, KvKind::F32);
        let mut ids = prompt.clone();
        for position in 0..expected.len() - 1 {
            let token = model.embed(&ids[position..=position]).expect("a known token");
            let logits = run(&mut exact, &model, &token, 0, position, Read::Last);
            if position + 1 == ids.len() {
                ids.push(argmax(logits.as_slice().expect("a row")).expect("numbers") as u32);
            }
        }
        assert_eq!(ids, expected, "{name}");
        assert_eq!(ids.len(), prompt.len() + 16);
    }
}

#[test]
fn prefill_and_token_by_token_decoding_give_the_same_bits_with_every_store() {
    for name in all() {
        let (model, golden) = (loaded(name).model, Golden::of(name));
        let ids = &golden.ids("case0.input_ids")[..20];
        for kv in KINDS {
            let whole = prefill(kernels::best(), &model, kv, ids);
            let mut exact = Exact::new(kernels::best(), &model, kv);
            let rows: Vec<Array2<f32>> = (0..ids.len())
                .map(|position| {
                    let token = model.embed(&ids[position..=position]).expect("a known token");
                    run(&mut exact, &model, &token, 0, position, Read::All)
                })
                .collect();
            let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
            let steps = concatenate(Axis(0), &views).expect("rows of one width");
            assert_eq!(bits(&whole), bits(&steps), "{name} {kv:?}");
        }
    }
}

#[test]
fn neither_kernels_nor_threads_change_a_bit_of_the_logits() {
    for name in all() {
        let (model, golden) = (loaded(name).model, Golden::of(name));
        let ids = golden.ids("case4.input_ids");
        let expected = bits(&prefill(kernels::scalar(), &model, KvKind::F32, &ids));
        for table in kernels::available() {
            for threads in [1, 2, 3, 7] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let logits =
                    pool.expect("threads").install(|| prefill(table, &model, KvKind::F32, &ids));
                assert!(bits(&logits) == expected, "{name}: {} on {threads} threads", table.name);
            }
        }
    }
}
