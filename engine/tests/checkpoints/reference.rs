//! The reference models and the goldens that transformers computed with them.

use std::path::PathBuf;

use engine::formats::{LoadOptions, Loaded, Source, load};
use engine::kernels::Kernels;
use engine::model::{KvKind, Model};
use engine::walk::{Exact, Read, run};
use ndarray::Array2;
use safetensors::{Dtype, SafeTensors};

/// Models whose logits mean something.
pub(crate) const TRAINED: [&str; 4] = [
    "bitnet_online_bf16",
    "bitnet_packed_autobitlinear",
    "bitnet_packed_bitlinear",
    "llama_packed_bitlinear",
];
/// Models of random weights.
pub(crate) const RANDOM: [&str; 2] =
    ["bitnet256_packed_autobitlinear", "llama256_packed_bitlinear"];

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    TRAINED.into_iter().chain(RANDOM)
}

/// A path below the reference data.
pub(crate) fn path(below: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/reference").join(below)
}

/// The files of a reference model.
pub(crate) fn source(model: &str) -> Source<'static> {
    Source::folder(path("models").join(model))
}

/// A reference model.
pub(crate) fn loaded(model: &str) -> Loaded {
    load(&source(model), &LoadOptions::default()).expect("a sound checkpoint")
}

/// The logits of a prompt at every position.
pub(crate) fn prefill(
    kernels: &'static Kernels,
    model: &Model,
    kv: KvKind,
    ids: &[u32],
) -> Array2<f32> {
    let mut exact = Exact::new(kernels, model, kv);
    run(&mut exact, model, &model.embed(ids).expect("known tokens"), 0, 0, Read::All)
}

/// Bits, so that comparing is exact.
pub(crate) fn bits(x: &Array2<f32>) -> Vec<u32> {
    x.iter().map(|value| value.to_bits()).collect()
}

/// The largest magnitude.
pub(crate) fn largest(x: &Array2<f32>) -> f32 {
    x.iter().fold(0.0, |top: f32, value| if value.abs() > top { value.abs() } else { top })
}

/// The goldens of a model.
pub(crate) struct Golden(Vec<u8>);

impl Golden {
    pub(crate) fn of(model: &str) -> Self {
        let path = path("goldens").join(format!("{model}.safetensors"));
        Self(std::fs::read(path).expect("the goldens"))
    }

    /// A float matrix; a vector is one row.
    pub(crate) fn floats(&self, key: &str) -> Array2<f32> {
        self.maybe(key).unwrap_or_else(|| panic!("no golden {key}"))
    }

    /// A float matrix, if it was kept.
    pub(crate) fn maybe(&self, key: &str) -> Option<Array2<f32>> {
        let file = SafeTensors::deserialize(&self.0).expect("sound goldens");
        let view = file.tensor(key).ok()?;
        assert_eq!(view.dtype(), Dtype::F32, "{key}");
        let word = |w: &[u8]| f32::from_le_bytes([w[0], w[1], w[2], w[3]]);
        let values: Vec<f32> = view.data().chunks_exact(4).map(word).collect();
        let columns = *view.shape().last().expect("a rank");
        Array2::from_shape_vec((values.len() / columns, columns), values).ok()
    }

    /// Token ids.
    pub(crate) fn ids(&self, key: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.0).expect("sound goldens");
        let view = file.tensor(key).expect("golden ids");
        assert_eq!(view.dtype(), Dtype::I32, "{key}");
        let word = |w: &[u8]| u32::from_le_bytes([w[0], w[1], w[2], w[3]]);
        view.data().chunks_exact(4).map(word).collect()
    }
}
