//! Prompts so long that every tile of a kernel, every piece of attention and every parallel path is
//! taken: no bit depends on any of them.

use engine::kernels::{self, Kernels};
use engine::model::random::{Style, mixed_model, random_model, small_config};
use engine::model::{Activations, FloatType, HeadForm, KvKind, Model};
use engine::walk::{self, Exact, Read};
use ndarray::Array2;

/// Two pieces of attention and a bit; 18 tiles of eight rows, and five rows.
const TOKENS: usize = 149;

fn ids() -> Vec<u32> {
    (0..TOKENS as u32).map(|at| at * 37 % 24).collect()
}

fn models() -> Vec<(&'static str, Model)> {
    let mut config = small_config(2, 320, 10, 5);
    config.max_positions = 256;
    let halves = Style { stored: FloatType::F16, ..Style::BITNET };
    let mut fewer = config.clone();
    fewer.activations = Activations::PerTokenInt4;
    let mut floats = config.clone();
    floats.activations = Activations::None;
    vec![
        ("int8", random_model(&config, halves, 3)),
        ("an int8 head", random_model(&config, halves, 3).with_head(HeadForm::Int8)),
        ("integers under int4", mixed_model(&fewer, Style::BITNET, 4)),
        ("floats", random_model(&floats, Style::BITNET, 5)),
    ]
}

fn prefill(table: &'static Kernels, model: &Model, kv: KvKind, threads: usize) -> Vec<u32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let rows = model.embed(&ids()).expect("ids of the vocabulary");
    let mut state = Exact::new(table, model, kv);
    bits(&pool.install(|| walk::run(&mut state, model, &rows, 0, 0, Read::All)))
}

fn bits(logits: &Array2<f32>) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn neither_kernels_nor_threads_change_a_bit_of_a_long_prompt() {
    for (name, model) in models() {
        let expected = prefill(kernels::scalar(), &model, KvKind::F32, 1);
        for table in kernels::available() {
            for threads in [1, 2, 3, 7] {
                let found = prefill(table, &model, KvKind::F32, threads);
                assert!(found == expected, "{name}: {} on {threads} threads", table.name);
            }
        }
    }
}

#[test]
fn a_long_prompt_has_the_bits_of_its_tokens_one_by_one_in_every_store() {
    for (name, model) in models() {
        for kv in [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit] {
            let expected = prefill(kernels::best(), &model, kv, 2);
            let mut state = Exact::new(kernels::best(), &model, kv);
            let mut found = Vec::new();
            for (position, id) in ids().into_iter().enumerate() {
                let row = model.embed(&[id]).expect("an id of the vocabulary");
                let logits = walk::run(&mut state, &model, &row, 0, position, Read::Last);
                found.extend(bits(&logits));
            }
            assert!(found == expected, "{name} {}", kv.name());
        }
    }
}
