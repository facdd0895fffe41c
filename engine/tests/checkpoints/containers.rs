//! Files that are cut, bent, or made to be read in two ways: each is refused with a message that
//! says where and why.

use engine::formats::{FormatError, LoadOptions, Source, load};
use proptest::prelude::*;

use crate::checkpoint::{Checkpoint, load_files, refused, tiny};

const MODEL: &str = "bitnet_packed_bitlinear";

#[test]
fn missing_files_and_folders_that_are_none_are_refused() {
    let files = Checkpoint::of(MODEL).files();
    refused(load_files(files[1..].to_vec()), &["made", "there is no config.json"]);
    refused(load_files(files[..1].to_vec()), &["made", "there is no model.safetensors"]);
    let options = LoadOptions::default();
    let folder = tempfile::tempdir().expect("a folder");
    let open = |below: &str| load(&Source::folder(folder.path().join(below)), &options);
    refused(open("gone"), &["gone", "cannot be read"]);
    refused(open(""), &["there is no config.json"]);
    std::fs::write(folder.path().join("config.json"), &files[0].1).expect("a file");
    refused(open("config.json"), &["config.json", "expected a folder, got a file"]);
    std::fs::create_dir(folder.path().join("model.safetensors")).expect("a folder");
    refused(open(""), &["model.safetensors", "expected a regular file, got a folder"]);
}

#[cfg(unix)]
#[test]
fn pipes_devices_and_loops_of_links_are_refused_without_waiting() {
    let files = Checkpoint::of(MODEL).files();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("config.json"), &files[0].1).expect("a file");
    let model = folder.path().join("model.safetensors");
    let open = || load(&Source::folder(folder.path()), &LoadOptions::default());
    let link = |target: &std::path::Path| {
        let _ = std::fs::remove_file(&model);
        std::os::unix::fs::symlink(target, &model).expect("a link");
    };
    link("/dev/zero".as_ref());
    refused(open(), &["model.safetensors", "expected a regular file", "device"]);
    link(&model);
    refused(open(), &["model.safetensors", "cannot be read"]);
    link("nowhere".as_ref());
    refused(open(), &["there is no model.safetensors"]);
    std::fs::remove_file(&model).expect("a link");
    let made = std::process::Command::new("mkfifo").arg(&model).status();
    if made.is_ok_and(|status| status.success()) {
        refused(open(), &["model.safetensors", "expected a regular file", "pipe"]);
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_an_error() {
    let mut files = tiny().files();
    let sound = files[1].1.clone();
    let header = 8 + u64::from_le_bytes(sound[..8].try_into().expect("8 bytes")) as usize;
    for bit in 0..8 * header {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        files[1].1 = bytes;
        refused(load_files(files.clone()), &["made"]);
    }
}

#[test]
fn a_flipped_bit_of_the_data_is_a_refused_value_or_changes_the_digest() {
    let mut files = tiny().files();
    let sound = files[1].1.clone();
    let header = 8 + u64::from_le_bytes(sound[..8].try_into().expect("8 bytes")) as usize;
    let expected = load_files(files.clone()).expect("sound").manifest.digest;
    for bit in 8 * header..8 * sound.len() {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        files[1].1 = bytes;
        match load_files(files.clone()) {
            Err(error) => {
                assert!(matches!(error, FormatError::Value { .. } | FormatError::UnusedCode { .. }))
            }
            Ok(loaded) => assert_ne!(loaded.manifest.digest, expected, "bit {bit}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_damage_to_any_file_makes_the_loader_panic(
        which in 0usize..2,
        strikes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        splice in prop::option::weighted(0.3, any::<[prop::sample::Index; 3]>()),
    ) {
        let mut files = tiny().files();
        let expected = load_files(files.clone()).expect("sound").manifest.digest;
        let before = files[which].1.clone();
        let bytes = &mut files[which].1;
        for (at, value) in strikes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some([from, length, to]) = splice {
            let from = from.index(before.len());
            let piece = &before[from..from + length.index(before.len() - from)];
            let to = to.index(bytes.len());
            bytes.splice(to..to, piece.iter().copied());
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(before.len()));
        }
        let same = *bytes == before;
        if let Ok(loaded) = load_files(files) {
            prop_assert_eq!(loaded.manifest.digest == expected, same);
        }
    }
}
