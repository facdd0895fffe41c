//! Sequences that go on together have the bits of each alone.

use engine::kernels;
use engine::model::random::{Style, random_model, small_config};
use engine::model::{KvKind, Model};
use engine::walk::{self, Batch, Exact, Read};
use ndarray::Array2;

fn prefilled(model: &Model, kv: KvKind, ids: &[u32]) -> Exact {
    let mut state = Exact::new(kernels::best(), model, kv);
    let rows = model.embed(ids).expect("ids of the vocabulary");
    walk::run(&mut state, model, &rows, 0, 0, Read::Last);
    state
}

fn bits(logits: &Array2<f32>) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn sequences_of_any_lengths_decode_together_as_they_do_alone() {
    let model = random_model(&small_config(2, 64, 4, 2), Style::BITNET, 3);
    for kv in [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit] {
        let prompts: [&[u32]; 9] =
            [&[1], &[2, 3, 4], &[5; 12], &[6, 7], &[8], &[9, 1], &[3; 7], &[4, 4], &[2]];
        let mut alone: Vec<Exact> = prompts.iter().map(|ids| prefilled(&model, kv, ids)).collect();
        let mut batch = Batch::of(alone.clone());
        for step in 0..3u32 {
            let ids: Vec<u32> = (0..9).map(|index| 1 + (step + index) % 7).collect();
            let rows = model.embed(&ids).expect("ids of the vocabulary");
            let together = walk::run(&mut batch, &model, &rows, 0, 0, Read::All);
            let mut expected = Vec::new();
            for (state, id) in alone.iter_mut().zip(&ids) {
                let position = state.caches[0].keys.tokens();
                let row = model.embed(&[*id]).expect("an id of the vocabulary");
                let logits = walk::run(state, &model, &row, 0, position, Read::Last);
                expected.extend(bits(&logits));
            }
            assert!(bits(&together) == expected, "{} at step {step}", kv.name());
        }
        for (state, expected) in batch.into_sequences().iter().zip(&alone) {
            assert!(state.caches == expected.caches, "{}", kv.name());
        }
    }
}
