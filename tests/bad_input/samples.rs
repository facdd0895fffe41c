//! Samples that no model could take: exit 3 with file, line and sample; none at all: exit 4.

use std::process::Command;

use fixtures::embedded;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::refused;
use crate::terminal::Desk;

const FINE: &str = "{\"input_ids\": [1, 2]}\n\n";

fn line(desk: &Desk, model: &str, line: impl AsRef<[u8]>, parts: &[&str]) {
    desk.put("x.jsonl", [FINE.as_bytes(), line.as_ref(), b"\n"].concat());
    let mut parts = parts.to_vec();
    parts.extend(["x.jsonl", "line 3"]);
    refused(desk, &format!("analyze {model} --inputs x.jsonl"), 3, &parts);
}

#[test]
fn lines_that_are_no_sample_are_refused_with_their_number() {
    let desk = Desk::new();
    for (text, parts) in [
        ("not JSON", ["line 3: at byte 1: expected", "such as"]),
        ("{\"input_ids\": [1]", ["at byte", "EOF"]),
        ("[1, 2]", ["a JSON object", "try"]),
        ("{\"input_ids\": [1]} {}", ["at byte 19", "trailing"]),
        ("{\"input_ids\": [1], \"weight\": 2}", ["unknown key \"weight\"", "inputs_embeds"]),
        ("{\"input_ids\": [1], \"input_ids\": [2]}", ["duplicate key", "input_ids"]),
        ("{\"label\": 3}", ["expected input_ids, text or inputs_embeds", "such as"]),
        ("{\"input_ids\": \"x\"}", ["input_ids", "a list"]),
        ("{\"input_ids\": [1.5]}", ["input_ids", "1.5 is no token id"]),
        ("{\"input_ids\": [-1]}", ["input_ids", "-1 is no token id"]),
        ("{\"input_ids\": [1, null]}", ["input_ids", "null is no token id"]),
        ("{\"input_ids\": [4294967296]}", ["input_ids", "4294967296 is no token id"]),
        ("{\"text\": 5}", ["text", "a string"]),
        ("{\"input_ids\": [1], \"label\": \"x\"}", ["label", "is no token id"]),
        ("{\"input_ids\": [1], \"classes\": 7}", ["classes", "a list"]),
        ("{\"inputs_embeds\": 7}", ["inputs_embeds", "list"]),
        ("{\"inputs_embeds\": []}", ["inputs_embeds", "list"]),
        ("{\"inputs_embeds\": [[]]}", ["inputs_embeds", "list"]),
        ("{\"inputs_embeds\": [[1, 2], [3]]}", ["inputs_embeds", "equally long"]),
        ("{\"inputs_embeds\": [[1, \"2\"]]}", ["inputs_embeds", "numbers"]),
        ("{\"inputs_embeds\": [[1, NaN]]}", ["at byte", "expected"]),
        ("{\"inputs_embeds\": [[1e999]]}", ["at byte", "out of range"]),
    ] {
        line(&desk, "@language", text, &parts);
    }
    line(&desk, "@language", [b'{', 0xff, b'}'], &["at byte 1"]);
    line(&desk, "@language", "[".repeat(100_000), &["at byte"]);
}

#[test]
fn samples_that_do_not_fit_the_model_are_refused_with_what_would() {
    let desk = Desk::new();
    let wide = |value: &str| format!("{{\"inputs_embeds\": [[{}{value}]]}}", "0.5,".repeat(127));
    let long = format!("{{\"input_ids\": [{}1]}}", "1,".repeat(128));
    for (text, parts) in [
        ("{\"input_ids\": []}", ["sample 1", "no tokens"]),
        ("{\"text\": \"\"}", ["sample 1", "no tokens"]),
        ("{\"input_ids\": [512]}", ["token 512 lies outside", "expected 0 to 511"]),
        ("{\"input_ids\": [1], \"label\": 512}", ["label 512 lies outside", "0 to 511"]),
        ("{\"input_ids\": [1], \"classes\": [1, 600]}", ["class 600 lies outside", "0 to 511"]),
        ("{\"input_ids\": [1], \"classes\": [5]}", ["classes", "two or more different"]),
        ("{\"input_ids\": [1], \"classes\": [5, 5]}", ["classes", "two or more different"]),
        ("{\"input_ids\": [1], \"label\": 3, \"classes\": [5, 6]}", ["label 3", "[5, 6]"]),
        ("{\"inputs_embeds\": [[1, 2, 3]]}", ["3 wide", "expected 128"]),
        (&wide("1e39"), ["embedding (0, 127) is inf", "finite"]),
        (&long, ["129 tokens", "at most 128"]),
    ] {
        line(&desk, "@language", text, &parts);
    }
    desk.put("x.jsonl", "{\"text\": \"a\"}");
    refused(&desk, "analyze @digits --inputs x.jsonl", 3, &["line 1", "tokenizer.json"]);
}

#[test]
fn a_set_without_samples_is_incomplete_and_never_passes() {
    let desk = Desk::new();
    let parts = ["no sample to analyse", "at least one line"];
    for text in ["", "\n \n\t\n"] {
        desk.put("x.jsonl", text);
        refused(&desk, "analyze @language --inputs x.jsonl", 4, &parts);
        let gate = "analyze @language --inputs x.jsonl --fail-over unknown_share=1";
        refused(&desk, gate, 4, &parts);
    }
    refused(&desk, "analyze --limit 0", 4, &["no sample to analyse"]);
    let none: [(&str, &[usize]); 2] = [("inputs_embeds", &[0, 9, 16]), ("input_ids", &[0, 4])];
    for (name, shape) in none {
        let dtype = if name == "input_ids" { Dtype::I64 } else { Dtype::F32 };
        desk.put("x.safetensors", arrays(&[(name, dtype, shape, &[])]));
        refused(&desk, "analyze --inputs x.safetensors", 4, &["no sample to analyse"]);
    }
}

#[test]
fn what_is_no_regular_file_is_refused_and_never_waited_for() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("folder")).expect("a folder");
    refused(&desk, "analyze --inputs nosuch.jsonl", 3, &["nosuch.jsonl", "No such file"]);
    refused(&desk, "analyze --inputs folder", 3, &["folder", "a regular file"]);
    refused(&desk, "analyze --inputs /dev/null", 3, &["/dev/null", "a regular file"]);
    let made = Command::new("mkfifo").arg(desk.path("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    refused(&desk, "analyze --inputs pipe", 3, &["pipe", "a regular file"]);
    refused(&desk, "flip @digits --bit model.norm.weight[0].1 --inputs pipe", 3, &["pipe"]);
}

fn arrays(parts: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let views = parts.iter().map(|&(name, dtype, shape, data)| {
        (name, TensorView::new(dtype, shape.to_vec(), data).expect("a sound array"))
    });
    safetensors::serialize(views, None).expect("arrays")
}

#[test]
fn arrays_of_the_wrong_name_type_or_shape_are_refused() {
    let desk = Desk::new();
    let rows = [0u8; 4 * 2 * 3 * 16];
    let nan: Vec<u8> = [f32::NAN.to_le_bytes(); 16].concat();
    let negative = (-3i64).to_le_bytes();
    let x: (&str, Dtype, &[usize], &[u8]) = ("inputs_embeds", Dtype::F32, &[2, 3, 16], &rows);
    let ids = |shape, dtype| {
        let entry = "\"data_offsets\":[0,8]";
        format!("\"input_ids\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},{entry}}}")
    };
    // One reader takes the first, another the last.
    let header = format!("{{{},{}}}", ids("[1,1]", "I64"), ids("[1,2]", "I32"));
    let length = (header.len() as u64).to_le_bytes();
    let twice = [&length[..], header.as_bytes(), &[3, 0, 0, 0, 4, 0, 0, 0]].concat();
    let mut cases: Vec<(Vec<u8>, &[&str])> = vec![
        (arrays(&[("samples", Dtype::F32, &[2, 3, 16], &rows)]), &["\"samples\"", "inputs_embeds"]),
        (arrays(&[("labels", Dtype::I64, &[1], &negative)]), &["expected an array input_ids"]),
        (
            arrays(&[("inputs_embeds", Dtype::F32, &[6, 16], &rows)]),
            &["three dimensions", "[6, 16]"],
        ),
        (arrays(&[("inputs_embeds", Dtype::I32, &[2, 3, 16], &rows)]), &["expected F32", "I32"]),
        (arrays(&[("inputs_embeds", Dtype::F32, &[2, 0, 16], &[])]), &["empty", "[2, 0, 16]"]),
        (arrays(&[("inputs_embeds", Dtype::F32, &[2, 6, 8], &rows)]), &["8 wide", "expected 16"]),
        (arrays(&[("inputs_embeds", Dtype::F32, &[1, 1, 16], &nan)]), &["row 0", "NaN", "finite"]),
        (arrays(&[("input_ids", Dtype::F32, &[2, 48], &rows)]), &["expected I64 or I32", "F32"]),
        (arrays(&[("input_ids", Dtype::I64, &[1], &negative)]), &["two dimensions", "[1]"]),
        (arrays(&[("input_ids", Dtype::I64, &[1, 1], &negative)]), &["-3 is no token id"]),
        (arrays(&[("input_ids", Dtype::I64, &[2, 0], &[])]), &["empty", "[2, 0]"]),
        (arrays(&[x, ("labels", Dtype::I64, &[1], &negative)]), &["labels", "expected 2"]),
        (arrays(&[x, ("classes", Dtype::I64, &[1], &negative)]), &["class -3"]),
        (b"short".to_vec(), &["x.safetensors"]),
        (arrays(&[x, ("input_ids", Dtype::I64, &[1, 1], &negative)]), &["got both"]),
        (twice, &["duplicate tensor \"input_ids\""]),
    ];
    let whole = embedded::digits().file("inputs.safetensors").expect("its samples");
    for end in [8, 100, whole.len() - 1] {
        cases.push((whole[..end].to_vec(), &["x.safetensors"]));
    }
    for (bytes, parts) in cases {
        desk.put("x.safetensors", bytes);
        let mut parts = parts.to_vec();
        parts.push("x.safetensors");
        refused(&desk, "analyze --inputs x.safetensors", 3, &parts);
    }
}
