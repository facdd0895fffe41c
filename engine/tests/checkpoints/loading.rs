//! What may stand in the place of a checkpoint: folders, devices, two files for one; and formats
//! that a file leaves to be told by its sizes or by the caller.

use std::fs;
use std::path::Path;

use engine::formats::{FormatError, LoadOptions, Loaded, Source, load};
use engine::model::{Activations, Model, Slot, Weights};
use engine::packing::{I2sRuns, Layout, TernaryRows};

use crate::checkpoint::refused;
use crate::made_gguf::{Gguf, I2S, SOUND, read};

const Q: &str = "blk.0.attn_q.weight";

fn open(path: impl AsRef<Path>) -> Result<Loaded, FormatError> {
    load(&Source::path(path.as_ref()), &LoadOptions::default())
}

#[test]
fn a_folder_with_one_gguf_file_is_that_file_and_with_two_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str| fs::write(folder.path().join(name), &*SOUND).expect("a file");
    put("b.gguf");
    let expected = read(&SOUND).expect("sound").manifest.digest;
    assert_eq!(open(folder.path()).expect("one file").manifest.digest, expected);
    put("a.GGUF");
    let error = refused(open(folder.path()), &["expected one GGUF file, got a.GGUF, b.gguf"]);
    assert_eq!(error.help(), Some("name the file"));
    assert_eq!(open(folder.path().join("a.GGUF")).expect("named").manifest.digest, expected);
}

#[test]
fn what_is_no_gguf_file_is_refused_by_its_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("empty.gguf"), "").expect("a file");
    refused(open(at("empty.gguf")), &["empty.gguf", "at byte 0", "the magic GGUF", "got 0 bytes"]);
    let mapped = LoadOptions { mmap: true, ..LoadOptions::default() };
    let result = load(&Source::path(at("empty.gguf")), &mapped);
    refused(result, &["empty.gguf", "at byte 0", "the magic GGUF"]);
    fs::create_dir(at("d.gguf")).expect("a folder");
    refused(open(at("d.gguf")), &["d.gguf", "expected a regular file, got a folder"]);
    fs::remove_file(at("empty.gguf")).expect("a file");
    refused(open(folder.path()), &["d.gguf", "expected a regular file, got a folder"]);
    refused(open(at("gone.gguf")), &["there is no gone.gguf"]);
    refused(open("/dev/null"), &["/dev/null", "expected a folder", "device"]);
}

#[cfg(unix)]
#[test]
fn links_to_devices_and_pipes_under_the_names_of_files_are_refused_without_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for (name, target) in [("null.gguf", "/dev/null"), ("zero.gguf", "/dev/zero")] {
        std::os::unix::fs::symlink(target, at(name)).expect("a link");
        refused(open(at(name)), &[name, "expected a regular file", "device"]);
    }
    std::os::unix::fs::symlink(at("loop.gguf"), at("loop.gguf")).expect("a link");
    refused(open(at("loop.gguf")), &["loop.gguf", "cannot be read"]);
    std::os::unix::fs::symlink("nowhere", at("gone.gguf")).expect("a link");
    refused(open(at("gone.gguf")), &["there is no gone.gguf"]);
    let made = std::process::Command::new("mkfifo").arg(at("pipe.gguf")).status();
    if made.is_ok_and(|status| status.success()) {
        refused(open(at("pipe.gguf")), &["pipe.gguf", "expected a regular file", "pipe"]);
    }
    for file in ["config.json", "model.safetensors.index.json", "tokenizer.json"] {
        let checkpoint = tempfile::tempdir().expect("a folder");
        let files = crate::checkpoint::sharded(&crate::checkpoint::tiny());
        for (name, bytes) in &files {
            fs::write(checkpoint.path().join(name), bytes).expect("a file");
        }
        let _ = fs::remove_file(checkpoint.path().join(file));
        std::os::unix::fs::symlink("/dev/zero", checkpoint.path().join(file)).expect("a link");
        refused(open(checkpoint.path()), &[file, "expected a regular file", "device"]);
    }
}

fn codes(model: &Model, slot: Slot) -> &TernaryRows {
    match &model.layers[0].linear(slot).weights {
        Weights::Ternary { rows, .. } => rows,
        Weights::Coded(_) | Weights::Dense(_) => panic!("a ternary layer"),
    }
}

#[test]
fn groups_of_128_under_the_number_of_q2_0_are_told_by_their_size() {
    // 2048 weights: 32 groups of 18 bytes, or 16 of 34, the last of them told by the end
    // of the file and the others by the next tensor.
    let mut file = Gguf::small(42);
    for name in [Q, "blk.0.attn_k.weight", "blk.0.attn_v.weight"] {
        file.tensor(name).data = [&[0x00, 0x38][..], &[0x21; 32]].concat().repeat(16);
    }
    file.tensors.rotate_left(5);
    let last = file.tensors.last().map(|tensor| tensor.name.clone());
    assert_eq!(last.as_deref(), Some(Q));
    let loaded = read(&file.bytes()).expect("a sound file");
    for (name, dtype) in [
        ("blk.0.attn_q.weight", "Q2_0 (groups of 128)"),
        ("blk.0.attn_v.weight", "Q2_0 (groups of 128)"),
        ("blk.0.ffn_up.weight", "Q2_0"),
    ] {
        let found = loaded.manifest.tensors.iter().find(|entry| entry.name == name);
        assert_eq!(found.expect("an entry").dtype, dtype, "{name}");
    }
    let sound = file.bytes();
    refused(read(&sound[..sound.len() - 1]), &[Q, "bytes inside the"]);
}

#[test]
fn runs_of_64_are_read_as_such_where_the_caller_says_so() {
    let code = |row: usize, column: usize| ((row * 5 + column * 3 + column / 7) % 3) as u8;
    let layout = Layout::i2s(8, 256, I2sRuns::Narrow).expect("whole runs");
    let row = |row: usize, out: &mut [u8]| {
        out.iter_mut().enumerate().for_each(|(column, out)| *out = code(row, column));
    };
    let codes_of_64 = layout.write(row).expect("a flat layout");
    let bytes = Gguf::small(I2S).with(|file| {
        file.tensor("blk.0.ffn_up.weight").data.splice(..512, codes_of_64);
    });
    let read = |i2s| {
        let options = LoadOptions { i2s, ..LoadOptions::default() };
        let lent = Source::memory("made", [("model.gguf", bytes.as_slice())]);
        load(&lent, &options).expect("a sound file").model
    };
    let (narrow, wide) = (read(I2sRuns::Narrow), read(I2sRuns::Wide));
    assert_eq!(narrow.config.activations, Activations::PerTokenInt8);
    for row in 0..8 {
        let expected: Vec<u8> = (0..256).map(|column| code(row, column)).collect();
        assert_eq!(codes(&narrow, Slot::Up).row(row), expected);
        assert_ne!(codes(&wide, Slot::Up).row(row), expected);
    }
}
