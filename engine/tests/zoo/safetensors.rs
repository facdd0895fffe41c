//! Files of tensors: frames, headers and entries that lie or can be read in two ways.

use serde_json::{Value, json};

use crate::checkpoint::{file, tiny};
use crate::member::Zoo;

/// Fills the zoo.
pub(crate) fn fill(zoo: &mut Zoo) {
    frames(zoo);
    ambiguous(zoo);
    entries(zoo);
    holes(zoo);
    names(zoo);
}

fn frames(zoo: &mut Zoo) {
    let lengths = [0, 1, 2, 1 << 20, 100_000_001, 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 63];
    let sound = file(&tiny().tensors);
    for length in lengths.into_iter().chain([u64::MAX, u64::MAX - 1, u64::MAX - 7]) {
        let mut bytes = sound.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        zoo.safetensors(&format!("length {length}"), bytes, &["expected"]);
    }
    zoo.safetensors(
        "frame 1",
        vec![],
        &["at byte 0", "8 bytes of header length", "a file of 0 bytes"],
    );
    zoo.safetensors("frame 2", vec![2, 0, 0], &["a file of 3 bytes"]);
    zoo.safetensors(
        "frame 3",
        100_000_001u64.to_le_bytes().to_vec(),
        &["the header", "100000001", "100000000"],
    );
    zoo.safetensors(
        "frame 4",
        9u64.to_le_bytes().to_vec(),
        &["a header of 9 bytes", "0 bytes in the file"],
    );
    let mut trailing = sound.clone();
    trailing.push(0);
    zoo.safetensors("frame 5", trailing, &["the end of the file", "1 more bytes"]);
}

fn ambiguous(zoo: &mut Zoo) {
    let a = r#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let duplicate = format!("{{{a},{a}}}");
    zoo.header(&duplicate, &[0], &["duplicate tensor \"a\"", "at byte"]);
    let escaped = format!("{{{a},{}}}", a.replace("\"a\"", "\"\\u0061\""));
    zoo.header(&escaped, &[0], &["duplicate tensor \"a\""]);
    let metadata = format!(r#"{{"__metadata__":{{"k":"1","k":"2"}},{a}}}"#);
    zoo.header(&metadata, &[0], &["duplicate key \"k\" in __metadata__"]);
    let twice = format!(r#"{{"__metadata__":{{}},"__metadata__":{{}},{a}}}"#);
    zoo.header(&twice, &[0], &["duplicate __metadata__"]);
    zoo.header(&format!(r#"{{"__metadata__":{{"k":1}},{a}}}"#), &[0], &["expected a string"]);
    let unknown = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}"#;
    zoo.header(unknown, &[0], &["unknown field `x`"]);
    let again = r#"{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#;
    zoo.header(again, &[0], &["duplicate field `dtype`"]);
    zoo.header(&format!(" {{{a}}}"), &[0], &["from the first byte of the header"]);
    zoo.header(&format!("{{{a}}}\n"), &[0], &["from the first byte of the header"]);
    zoo.header(&format!("{{{a}}}{{}}"), &[0], &["at byte"]);
    zoo.header("[]", &[], &["a JSON object"]);
    zoo.header("", &[], &["a JSON object"]);
    zoo.header("{", &[], &["a JSON object"]);
    zoo.header("{\u{1}}", &[], &["at byte"]);
}

fn entries(zoo: &mut Zoo) {
    let entry = |dtype: &str, shape: Value, offsets: Value| {
        json!({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).to_string()
    };
    let mut refuse = |dtype, shape, offsets, parts: &[&str]| {
        zoo.header(&entry(dtype, shape, offsets), &[0; 8], parts);
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
    zoo.header(r#"{"a":{"dtype":"U8","shape":[8]}}"#, &[0; 8], &["missing field"]);
    zoo.header(r#"{"a":null}"#, &[], &["at byte"]);
}

fn holes(zoo: &mut Zoo) {
    let two = |a: [u64; 2], b: [u64; 2]| {
        let entry =
            |at: [u64; 2]| json!({"dtype": "U8", "shape": [at[1] - at[0]], "data_offsets": at});
        json!({"a": entry(a), "b": entry(b)}).to_string()
    };
    zoo.header(&two([0, 4], [5, 8]), &[0; 8], &["entry \"b\"", "from byte 4 on", "got byte 5"]);
    zoo.header(&two([0, 4], [3, 8]), &[0; 8], &["entry \"b\"", "from byte 4 on", "got byte 3"]);
    zoo.header(&two([0, 8], [0, 8]), &[0; 8], &["entry \"b\""]);
    zoo.header(&two([1, 4], [4, 8]), &[0; 8], &["entry \"a\"", "from byte 0 on"]);
    zoo.header(&two([0, 4], [4, 8]), &[0; 9], &["1 more bytes"]);
    zoo.header("{}", &[0; 3], &["3 more bytes"]);
}

fn names(zoo: &mut Zoo) {
    let named = |name: &str| {
        json!({name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).to_string()
    };
    zoo.header(&named(""), &[0], &["tensor name \"\"", "1 to 1024 bytes"]);
    zoo.header(&named(&"n".repeat(1025)), &[0], &["1 to 1024 bytes", "1025 bytes"]);
    zoo.header(&named("a\0b"), &[0], &["no control characters", "a\\0b"]);
    zoo.header(&named("a\nb"), &[0], &["no control characters"]);
    zoo.header(&named("a\u{9b}b"), &[0], &["no control characters"]);
}
