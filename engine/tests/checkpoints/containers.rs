//! Files that are cut, bent, or made to be read in two ways: each is refused with a message that
//! says where and why.

use engine::formats::{FormatError, LoadOptions, Source, load};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, file, framed, load_files, refused, sharded, tiny};

const MODEL: &str = "bitnet_packed_bitlinear";
const WEIGHT: &str = "model.layers.2.self_attn.k_proj.weight";

/// Refuses a whole checkpoint whose tensors are in the given file.
fn refuse_file(bytes: Vec<u8>, parts: &[&str]) {
    let mut files = Checkpoint::of(MODEL).files();
    files[1].1 = bytes;
    let mut parts = parts.to_vec();
    parts.push("made/model.safetensors");
    refused(load_files(files), &parts);
}

fn refuse_header(header: &str, data: &[u8], parts: &[&str]) {
    refuse_file(framed(header, data), parts);
}

#[test]
fn frames_of_any_length_but_the_right_one_are_refused() {
    let lengths = [0, 1, 2, 1 << 20, 100_000_001, 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 63];
    let sound = file(&Checkpoint::of(MODEL).tensors);
    for length in lengths.into_iter().chain([u64::MAX, u64::MAX - 1, u64::MAX - 7]) {
        let mut bytes = sound.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        refuse_file(bytes, &[]);
    }
    refuse_file(vec![], &["at byte 0", "8 bytes of header length", "a file of 0 bytes"]);
    refuse_file(vec![2, 0, 0], &["a file of 3 bytes"]);
    refuse_file(100_000_001u64.to_le_bytes().to_vec(), &["the header", "100000001", "100000000"]);
    refuse_file(9u64.to_le_bytes().to_vec(), &["a header of 9 bytes", "0 bytes in the file"]);
    let mut trailing = sound.clone();
    trailing.push(0);
    refuse_file(trailing, &["the end of the file", "1 more bytes"]);
}

#[test]
fn headers_that_two_readers_may_read_in_two_ways_are_refused() {
    let a = r#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let duplicate = format!("{{{a},{a}}}");
    refuse_header(&duplicate, &[0], &["duplicate tensor \"a\"", "at byte"]);
    let escaped = format!("{{{a},{}}}", a.replace("\"a\"", "\"\\u0061\""));
    refuse_header(&escaped, &[0], &["duplicate tensor \"a\""]);
    let metadata = format!(r#"{{"__metadata__":{{"k":"1","k":"2"}},{a}}}"#);
    refuse_header(&metadata, &[0], &["duplicate key \"k\" in __metadata__"]);
    let twice = format!(r#"{{"__metadata__":{{}},"__metadata__":{{}},{a}}}"#);
    refuse_header(&twice, &[0], &["duplicate __metadata__"]);
    refuse_header(&format!(r#"{{"__metadata__":{{"k":1}},{a}}}"#), &[0], &["expected a string"]);
    let unknown = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}"#;
    refuse_header(unknown, &[0], &["unknown field `x`"]);
    let again = r#"{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#;
    refuse_header(again, &[0], &["duplicate field `dtype`"]);
    refuse_header(&format!(" {{{a}}}"), &[0], &["from the first byte of the header"]);
    refuse_header(&format!("{{{a}}}\n"), &[0], &["from the first byte of the header"]);
    refuse_header(&format!("{{{a}}}{{}}"), &[0], &["at byte"]);
    refuse_header("[]", &[], &["a JSON object"]);
    refuse_header("", &[], &["a JSON object"]);
    refuse_header("{", &[], &["a JSON object"]);
    refuse_header("{\u{1}}", &[], &["at byte"]);
}

#[test]
fn entries_that_describe_no_tensor_are_refused() {
    let entry = |dtype: &str, shape: Value, offsets: Value| {
        json!({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).to_string()
    };
    let refuse = |dtype, shape, offsets, parts: &[&str]| {
        refuse_header(&entry(dtype, shape, offsets), &[0; 8], parts);
    };
    let name = "entry \"a\"";
    refuse("U8", json!([0]), json!([0, 0]), &[name, "no dimension of 0", "[0]"]);
    refuse("U8", json!([8, 0]), json!([0, 8]), &[name, "no dimension of 0"]);
    refuse("U8", json!([0, u64::MAX, u64::MAX]), json!([0, 0]), &[name, "no dimension of 0"]);
    let big = 1u64 << 40;
    refuse("F32", json!([big, big]), json!([0, 8]), &[name, "as many bytes as the shape"]);
    refuse("U8", json!([1u64 << 63]), json!([0, 8]), &[name, "as many bytes"]);
    refuse("U8", json!([u64::MAX]), json!([0, u64::MAX]), &[name, "as many bytes"]);
    refuse("U8", json!([1u64 << 61]), json!([0, 1u64 << 61]), &[name]);
    refuse("F32", json!([2]), json!([0, 7]), &[name, "as many bytes", "0..7 for F32 [2]"]);
    refuse("U8", json!([9]), json!([0, 9]), &[name, "an end within the 8 bytes of data"]);
    refuse("U8", json!([8]), json!([8, 0]), &[name, "8..0"]);
    refuse("U8", json!([8]), json!([u64::MAX - 7, u64::MAX]), &[name]);
    refuse("U8", json!([1, 1, 1, 1, 1, 1, 1, 1, 8]), json!([0, 8]), &[name, "rank of at most 8"]);
    refuse("U8", json!(vec![1; 100_000]), json!([0, 8]), &[name, "rank of at most 8", "100000"]);
    refuse("F7", json!([8]), json!([0, 8]), &[name, "dtype", "\"F7\""]);
    refuse("F4", json!([16]), json!([0, 8]), &[name, "dtype", "\"F4\""]);
    refuse("u8\n", json!([8]), json!([0, 8]), &[name, "\\n"]);
    refuse("U8", json!([-8]), json!([0, 8]), &["at byte", "-8"]);
    refuse("U8", json!([8.0]), json!([0, 8]), &["at byte", "8.0"]);
    refuse("U8", json!(8), json!([0, 8]), &["at byte"]);
    refuse("U8", json!([8]), json!([0, 8, 8]), &["at byte"]);
    refuse("U8", json!([8]), json!([8]), &["at byte"]);
    refuse_header(r#"{"a":{"dtype":"U8","shape":[8]}}"#, &[0; 8], &["missing field"]);
    refuse_header(r#"{"a":null}"#, &[], &["at byte"]);
}

#[test]
fn holes_overlaps_and_bytes_left_over_are_refused() {
    let two = |a: [u64; 2], b: [u64; 2]| {
        let entry =
            |at: [u64; 2]| json!({"dtype": "U8", "shape": [at[1] - at[0]], "data_offsets": at});
        json!({"a": entry(a), "b": entry(b)}).to_string()
    };
    refuse_header(&two([0, 4], [5, 8]), &[0; 8], &["entry \"b\"", "from byte 4 on", "got byte 5"]);
    refuse_header(&two([0, 4], [3, 8]), &[0; 8], &["entry \"b\"", "from byte 4 on", "got byte 3"]);
    refuse_header(&two([0, 8], [0, 8]), &[0; 8], &["entry \"b\""]);
    refuse_header(&two([1, 4], [4, 8]), &[0; 8], &["entry \"a\"", "from byte 0 on"]);
    refuse_header(&two([0, 4], [4, 8]), &[0; 9], &["1 more bytes"]);
    refuse_header("{}", &[0; 3], &["3 more bytes"]);
}

#[test]
fn names_that_no_tensor_should_have_are_refused() {
    let named = |name: &str| {
        json!({name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).to_string()
    };
    refuse_header(&named(""), &[0], &["tensor name \"\"", "1 to 1024 bytes"]);
    refuse_header(&named(&"n".repeat(1025)), &[0], &["1 to 1024 bytes", "1025 bytes"]);
    refuse_header(&named("a\0b"), &[0], &["no control characters", "a\\0b"]);
    refuse_header(&named("a\nb"), &[0], &["no control characters"]);
    refuse_header(&named("a\u{9b}b"), &[0], &["no control characters"]);
}

#[test]
fn an_index_that_leads_out_of_its_folder_or_astray_is_refused() {
    let index = "model.safetensors.index.json";
    let outside = ["../model.safetensors", "/etc/passwd", "a\\b.safetensors", "C:x.safetensors"];
    let odd = ["x\0.safetensors", "..", ".", "", "config.json", ".hidden.safetensors"];
    for name in outside.into_iter().chain(odd) {
        let mut files = sharded(&Checkpoint::of(MODEL));
        let mut value: Value = serde_json::from_slice(&files[1].1).expect("JSON");
        value["weight_map"][WEIGHT] = json!(name);
        files[1].1 = value.to_string().into_bytes();
        refused(load_files(files), &[index, WEIGHT, "a single plain file name"]);
    }
    let with = |change: &dyn Fn(&mut Value)| {
        let mut files = sharded(&Checkpoint::of(MODEL));
        let mut value: Value = serde_json::from_slice(&files[1].1).expect("JSON");
        change(&mut value);
        files[1].1 = value.to_string().into_bytes();
        load_files(files)
    };
    refused(with(&|v| v["weight_map"][WEIGHT] = json!(7)), &[index, WEIGHT, "\"7\""]);
    refused(with(&|v| v["weight_map"] = json!([])), &[index, "weight_map"]);
    refused(with(&|v| *v = json!({})), &[index, "weight_map"]);
    let gone = "gone.safetensors";
    refused(with(&|v| v["weight_map"][WEIGHT] = json!(gone)), &["there is no gone.safetensors"]);
    let other = "MODEL-00001-of-00002.safetensors";
    refused(with(&|v| v["weight_map"][WEIGHT] = json!(other)), &["there is no", other]);
    let swap = |v: &mut Value| {
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let here = v["weight_map"][WEIGHT] == shards[0];
        v["weight_map"][WEIGHT] = json!(shards[usize::from(here)]);
    };
    refused(with(&swap), &[WEIGHT, "names \"model-0000"]);
    let remove = |v: &mut Value| {
        v["weight_map"].as_object_mut().expect("an object").remove(WEIGHT);
    };
    refused(with(&remove), &[WEIGHT, "names no file"]);
    let add = |v: &mut Value| v["weight_map"]["extra"] = v["weight_map"][WEIGHT].clone();
    refused(with(&add), &[index, "\"extra\"", "none of that name there"]);
}

#[test]
fn an_index_with_a_tensor_named_twice_is_refused() {
    let mut files = sharded(&Checkpoint::of(MODEL));
    let text = String::from_utf8(files[1].1.clone()).expect("text");
    let entry = format!("\"{WEIGHT}\":\"model-00001-of-00002.safetensors\",");
    let twice = text.replacen("\"weight_map\":{", &format!("\"weight_map\":{{{entry}"), 1);
    files[1].1 = twice.into_bytes();
    refused(load_files(files), &["index.json", "duplicate key", WEIGHT]);
}

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
fn a_file_cut_short_anywhere_is_refused() {
    for checkpoint in [tiny(), Checkpoint::of(MODEL)] {
        let mut files = checkpoint.files();
        let sound = files[1].1.clone();
        assert!(load_files(files.clone()).is_ok());
        let header = 8 + u64::from_le_bytes(sound[..8].try_into().expect("8 bytes")) as usize;
        let data = (header..sound.len()).step_by(97).chain([sound.len() - 1]);
        for length in (0..header).chain(data) {
            files[1].1 = sound[..length].to_vec();
            refused(load_files(files.clone()), &["made/model.safetensors"]);
        }
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
