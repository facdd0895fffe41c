//! Files cut short: at every byte, in every format, a refusal.

use engine::formats::{LoadOptions, Source, load};

use crate::checkpoint::{load_files, refused, sharded, tiny};
use crate::made_gguf::{BF16, BLOCKS, F16, F32, Gguf, I2S, SOUND, read};

/// Cuts one file of a checkpoint at every byte.
fn cut(files: &[(String, Vec<u8>)], which: usize) {
    assert!(load_files(files.to_vec()).is_ok(), "a sound checkpoint");
    let (name, sound) = &files[which];
    for length in 0..sound.len() {
        let lent = files.iter().map(|(file, bytes)| {
            let bytes = if file == name { &bytes[..length] } else { bytes };
            (file.clone(), bytes)
        });
        let result = load(&Source::memory("made", lent), &LoadOptions::default());
        refused(result, &[&format!("made/{name}")]);
    }
}

#[test]
fn configurations_indexes_and_files_of_tensors_are_refused_when_cut_anywhere() {
    let files = tiny().files();
    (0..files.len()).for_each(|which| cut(&files, which));
    let files = sharded(&tiny());
    (0..files.len()).for_each(|which| cut(&files, which));
}

#[test]
fn gguf_files_of_every_type_are_refused_when_cut_anywhere() {
    let kinds = [F32, F16, BF16, I2S].into_iter().chain(BLOCKS.map(|(kind, _)| kind));
    let files = kinds.map(|kind| Gguf::small(kind).bytes()).chain([SOUND.clone()]);
    // So few weights of Q2_0 could be of either of its two kinds.
    let embedded = BLOCKS.into_iter().filter(|(kind, _)| *kind != 42);
    let files = files.chain(embedded.map(|(kind, _)| Gguf::embedded(kind).bytes()));
    for sound in files {
        let loaded = read(&sound).expect("a sound file").manifest;
        let last = loaded.tensors.iter().map(|entry| entry.offset + entry.bytes).max();
        let end = last.expect("tensors") as usize;
        // What is behind the last tensor is padding; a file may do without.
        assert!(sound[end..].len() < 32 && sound[end..].iter().all(|&byte| byte == 0));
        for length in 0..end {
            refused(read(&sound[..length]), &["made/model.gguf"]);
        }
        for length in end..sound.len() {
            if let Ok(cut) = read(&sound[..length]) {
                assert_eq!(cut.manifest, loaded);
            }
        }
    }
}
