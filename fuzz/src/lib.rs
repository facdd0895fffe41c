//! What the fuzz targets do with bytes; an ordinary test of the engine replays their corpora.
//!
//! `cargo +nightly fuzz run gguf` (or `safetensors_header`, `index`, `config`), in the folder
//! above. Whatever the bytes are: no panic; a refusal is short, plain and names the checkpoint; and
//! what is accepted is read in one way, lies in its files, and computes.

use engine::formats::{LoadOptions, Source, load};
use engine::kernels;
use engine::model::KvKind;
use engine::walk::{Exact, Read, run};

/// A sound configuration.
pub const CONFIG: &[u8] = include_bytes!("../corpus/config/sound");
/// A sound file of tensors.
pub const TENSORS: &[u8] = include_bytes!("../corpus/safetensors_header/sound");
/// The same tensors in two files.
pub const SHARDS: [(&str, &[u8]); 2] = [
    (
        "model-00001-of-00002.safetensors",
        include_bytes!("../shards/model-00001-of-00002.safetensors"),
    ),
    (
        "model-00002-of-00002.safetensors",
        include_bytes!("../shards/model-00002-of-00002.safetensors"),
    ),
];

/// Bytes as a GGUF file.
pub fn gguf(bytes: &[u8]) {
    judge(&[("model.gguf", bytes)]);
}

/// Bytes as a file of tensors.
pub fn safetensors_header(bytes: &[u8]) {
    judge(&[("config.json", CONFIG), ("model.safetensors", bytes)]);
}

/// Bytes as an index of files of tensors.
pub fn index(bytes: &[u8]) {
    let [one, two] = SHARDS;
    judge(&[("config.json", CONFIG), ("model.safetensors.index.json", bytes), one, two]);
}

/// Bytes as a configuration.
pub fn config(bytes: &[u8]) {
    judge(&[("config.json", bytes), ("model.safetensors", TENSORS)]);
}

fn judge(files: &[(&str, &[u8])]) {
    let read = || load(&Source::memory("made", files.iter().copied()), &LoadOptions::default());
    let loaded = match read() {
        Ok(loaded) => loaded,
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("made") && message.len() < 2000, "{message:?}");
            assert!(!message.contains(char::is_control), "{message:?}");
            return;
        }
    };
    for warning in &loaded.manifest.warnings {
        assert!(warning.len() < 2000 && !warning.contains(char::is_control), "{warning:?}");
    }
    assert_eq!(read().expect("the same bytes").manifest, loaded.manifest);
    for entry in &loaded.manifest.tensors {
        let file = files.iter().find(|(name, _)| *name == entry.file).expect("a file of these");
        assert!(entry.offset + entry.bytes <= file.1.len() as u64, "{entry:?}");
    }
    let model = &loaded.model;
    model.config.check().expect("a shape that was checked");
    let mut exact = Exact::new(kernels::best(), model, KvKind::F32);
    let logits = run(&mut exact, model, &model.embed(&[0]).expect("a token"), 0, 0, Read::All);
    assert_eq!(logits.dim(), (1, model.config.vocabulary));
}
