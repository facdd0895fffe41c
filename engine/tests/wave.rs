//! A long prompt goes through the layers in parts where there are threads for it; nobody can tell.

use engine::kernels;
use engine::model::random::{Style, random_model, random_rows, small_config};
use engine::model::{Config, KvKind, Model};
use engine::walk::{self, Exact, Read};
use ndarray::{Array2, s};
use rayon::prelude::*;

/// Three layers that are wide enough for 64 rows to go in parts.
fn model() -> Model {
    let config = Config { max_positions: 256, ..small_config(3, 768, 6, 2) };
    random_model(&config, Style::BITNET, 11)
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}

fn bits(rows: &Array2<f32>) -> Vec<u32> {
    rows.iter().map(|value| value.to_bits()).collect()
}

/// The logits of rows behind so many that are stored already, and the state they leave.
fn run(
    model: &Model,
    (kind, read): (KvKind, Read),
    (rows, stored): (&Array2<f32>, usize),
    from: usize,
) -> (Vec<u32>, Exact) {
    let mut state = Exact::new(kernels::best(), model, kind);
    let before = rows.slice(s![..stored, ..]).to_owned();
    if stored > 0 {
        walk::run(&mut state, model, &before, from, 0, Read::Last);
    }
    let rows = rows.slice(s![stored.., ..]).to_owned();
    let logits = walk::run(&mut state, model, &rows, from, stored, read);
    (bits(&logits), state)
}

#[test]
fn parts_have_the_bits_of_the_whole() {
    let model = model();
    let rows = random_rows(121, model.config.hidden, 5);
    for (kind, read, stored, from) in [
        (KvKind::F32, Read::Last, 0, 0),
        (KvKind::Int8, Read::All, 0, 0),
        (KvKind::F16, Read::All, 50, 0),
        (KvKind::OneBit, Read::Last, 3, 0),
        (KvKind::F32, Read::All, 0, 1),
    ] {
        let of =
            |threads| pool(threads).install(|| run(&model, (kind, read), (&rows, stored), from));
        let (alone, state) = of(1);
        for threads in [2, 3, 5] {
            let (logits, other) = of(threads);
            assert_eq!(logits, alone, "{kind:?} {read:?} {stored} {from}: {threads} threads");
            assert_eq!(other.caches, state.caches, "{kind:?}: {threads} threads");
        }
    }
}

#[test]
fn many_prompts_at_once_do_not_wait_for_each_other() {
    let model = model();
    let prompts: Vec<Array2<f32>> =
        (0..9).map(|seed| random_rows(64 + seed as usize, model.config.hidden, seed)).collect();
    let how = (KvKind::F32, Read::Last);
    let one = |rows: &Array2<f32>| run(&model, how, (rows, 0), 0).0;
    let alone: Vec<_> = pool(1).install(|| prompts.iter().map(one).collect());
    for threads in [2, 4] {
        let all: Vec<_> = pool(threads).install(|| prompts.par_iter().map(one).collect());
        assert!(all == alone, "{threads} threads");
    }
}
