//! The written checkpoint is the one that the loader reads, and is there whole or not at all.

use engine::formats::{LoadOptions, Loaded, Source, TensorKind, linear_name, load};
use engine::model::{Slot, Weights};

use super::*;
use crate::failure::Exit;

fn loaded(folder: &Path) -> Loaded {
    load(&Source::folder(folder), &LoadOptions::default()).unwrap()
}

fn small(folder: &Path, seed: u64) {
    write(&config(ShapeArg::Small), folder, seed).unwrap();
}

#[test]
fn a_checkpoint_loads_and_every_code_is_the_one_in_its_file() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("new/small");
    let bytes = write(&config(ShapeArg::Small), &folder, 5).unwrap();
    let file = fs::read(folder.join("model.safetensors")).unwrap();
    assert_eq!(file.len() as u64, bytes);
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let loaded = loaded(&folder);
    assert_eq!(loaded.model.config, config(ShapeArg::Small));
    assert!(loaded.manifest.warnings.is_empty(), "{:?}", loaded.manifest.warnings);
    for (index, layer) in loaded.model.layers.iter().enumerate() {
        for slot in Slot::ALL {
            let Weights::Ternary { rows, .. } = &layer.linear(slot).weights else {
                panic!("a ternary layer");
            };
            let tensor = tensors.tensor(&format!("{}.weight", linear_name(index, slot))).unwrap();
            let (quarter, columns) = (rows.rows() / 4, rows.columns());
            for row in 0..rows.rows() {
                let stored = &tensor.data()[row % quarter * columns..][..columns];
                let codes = stored.iter().map(|byte| (byte >> (2 * (row / quarter))) & 3);
                assert!(codes.eq(rows.row(row)), "{index} {slot:?} {row}");
            }
        }
    }
}

#[test]
fn weights_are_balanced_and_never_the_unused_code() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("small");
    small(&folder, 1);
    for entry in loaded(&folder).manifest.tensors {
        if entry.kind == TensorKind::TernaryPacked {
            let census = entry.census.unwrap();
            let total: u64 = census.iter().sum();
            let share = |code: usize| census[code] as f64 / total as f64;
            assert_eq!(census[3], 0);
            assert!((share(0) - 5.0 / 16.0).abs() < 0.02 && (share(2) - 5.0 / 16.0).abs() < 0.02);
        }
    }
}

#[test]
fn a_seed_names_its_bytes_and_the_samples_fit_the_model() {
    let place = tempfile::tempdir().unwrap();
    let folders = ["a", "b", "c"].map(|name| place.path().join(name));
    for (folder, seed) in folders.iter().zip([3, 3, 4]) {
        small(folder, seed);
    }
    for file in ["model.safetensors", "inputs.jsonl", "config.json"] {
        let read = |index: usize| fs::read(folders[index].join(file)).unwrap();
        assert_eq!(read(0), read(1), "{file}");
        assert_eq!(read(0) == read(2), file == "config.json", "{file}");
    }
    let origin = crate::source::resolve(folders[0].to_str().unwrap()).unwrap();
    let inputs = folders[0].join("inputs.jsonl");
    let samples = crate::input::read(&origin, &loaded(&folders[0]), Some(&inputs), None, None);
    let samples = samples.unwrap().samples;
    assert_eq!(samples.len(), SAMPLES);
    assert!(samples.iter().all(|sample| sample.tokens() == TOKENS && sample.label.is_none()));
}

#[test]
fn a_taken_place_is_refused_and_nothing_is_left_behind() {
    let place = tempfile::tempdir().unwrap();
    let (full, file) = (place.path().join("full"), place.path().join("file"));
    fs::create_dir(&full).unwrap();
    fs::write(full.join("precious"), "x").unwrap();
    fs::write(&file, "x").unwrap();
    for taken in [&full, &file, &file.join("below")] {
        let failure = write(&config(ShapeArg::Small), taken, 0).unwrap_err();
        assert_eq!(failure.exit, Exit::Output);
    }
    assert_eq!(fs::read(full.join("precious")).unwrap(), b"x");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    let empty = place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    small(&empty, 0);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3);
}

#[test]
fn the_shapes_are_those_that_their_names_promise() {
    let weights = |shape| -> u64 {
        let tensors = layout::tensors(&config(shape));
        let packed = tensors.iter().filter(|tensor| tensor.content == layout::Content::Packed);
        packed.map(|tensor| 4 * tensor.bytes()).sum()
    };
    assert_eq!(weights(ShapeArg::Large), 2_084_044_800);
    for shape in [ShapeArg::Small, ShapeArg::Medium, ShapeArg::Large] {
        config(shape).check().unwrap();
    }
}
