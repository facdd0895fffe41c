//! Indexes that lead astray, and shards that they do not fit.

use serde_json::{Value, json};

use crate::checkpoint::{sharded, tiny};
use crate::member::{Files, Zoo};

const INDEX: &str = "model.safetensors.index.json";
const WEIGHT: &str = "model.layers.0.self_attn.k_proj.weight";
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// A sharded checkpoint with its index changed.
fn with(change: impl FnOnce(&mut Value)) -> Files {
    let mut files = sharded(&tiny());
    let mut value: Value = serde_json::from_slice(&files[1].1).expect("JSON");
    change(&mut value);
    files[1].1 = value.to_string().into_bytes();
    files
}

/// A sharded checkpoint with another text as its index.
fn of(text: impl Into<Vec<u8>>) -> Files {
    let mut files = sharded(&tiny());
    files[1].1 = text.into();
    files
}

/// Fills the zoo.
pub(crate) fn fill(zoo: &mut Zoo) {
    names(zoo);
    maps(zoo);
    texts(zoo);
    shards(zoo);
}

fn names(zoo: &mut Zoo) {
    let outside = [
        "../model.safetensors",
        "../../../../etc/passwd",
        "..\\..\\model.safetensors",
        "/etc/passwd",
        "/dev/zero.safetensors",
        "a/b.safetensors",
        "a\\b.safetensors",
        "C:x.safetensors",
        "\\\\host\\share\\x.safetensors",
        "file:///x.safetensors",
        "%2e%2e%2fx.safetensors",
        "~/x.safetensors",
        "$HOME.safetensors",
    ];
    let odd = [
        "x\0.safetensors",
        "x.safetensors\0",
        "x\n.safetensors",
        "..",
        ".",
        "",
        "config.json",
        "model.SAFETENSORS",
        ".hidden.safetensors",
        " x.safetensors",
        "x.safetensors ",
        "\u{202e}x.safetensors",
        "x|y.safetensors",
    ];
    for name in outside.into_iter().chain(odd) {
        let files = with(|v| v["weight_map"][WEIGHT] = json!(name));
        let says = [INDEX, WEIGHT, "a single plain file name"];
        zoo.add(format!("index: {name:?}"), files, &says);
    }
    let long = format!("{}.safetensors", "x".repeat(300));
    let files = with(|v| v["weight_map"][WEIGHT] = json!(long));
    zoo.add("index: a name of 312 bytes", files, &[INDEX, WEIGHT, "(312 bytes)"]);
    for value in [json!(7), json!(null), json!([SHARDS[0]]), json!({})] {
        let files = with(|v| v["weight_map"][WEIGHT] = value.clone());
        let says = [INDEX, WEIGHT, "a single plain file name"];
        zoo.add(format!("index: {value} as a name"), files, &says);
    }
}

fn maps(zoo: &mut Zoo) {
    let mut changed = |name: &str, change: &dyn Fn(&mut Value), says: &[&str]| {
        zoo.add(format!("index: {name}"), with(change), says);
    };
    changed("no map", &|v| *v = json!({}), &[INDEX, "weight_map"]);
    changed("a list as map", &|v| v["weight_map"] = json!([]), &[INDEX, "weight_map"]);
    changed("an empty map", &|v| v["weight_map"] = json!({}), &["embed_tokens.weight is missing"]);
    for gone in ["gone.safetensors", "MODEL-00001-of-00002.safetensors"] {
        let change = |v: &mut Value| v["weight_map"][WEIGHT] = json!(gone);
        changed(gone, &change, &["there is no", gone]);
    }
    let swap = |v: &mut Value| {
        let here = v["weight_map"][WEIGHT] == SHARDS[0];
        v["weight_map"][WEIGHT] = json!(SHARDS[usize::from(here)]);
    };
    changed("the other shard", &swap, &[WEIGHT, "names \"model-0000"]);
    let remove = |v: &mut Value| {
        v["weight_map"].as_object_mut().expect("an object").remove(WEIGHT);
    };
    changed("a tensor left out", &remove, &[WEIGHT, "names no file"]);
    let add = |v: &mut Value| v["weight_map"]["extra"] = v["weight_map"][WEIGHT].clone();
    changed("a tensor too many", &add, &[INDEX, "\"extra\"", "none of that name there"]);
    let many = |v: &mut Value| {
        let files = (0..10_001).map(|i| (format!("t{i}"), json!(format!("{i}.safetensors"))));
        v["weight_map"] = Value::Object(files.collect());
    };
    changed("10,001 shards", &many, &[INDEX, "weight_map is 10001", "at most 10000 files"]);
}

fn texts(zoo: &mut Zoo) {
    let entry = format!("\"{WEIGHT}\":\"{}\",", SHARDS[0]);
    let sound = String::from_utf8(sharded(&tiny())[1].1.clone()).expect("text");
    let twice = sound.replacen("\"weight_map\":{", &format!("\"weight_map\":{{{entry}"), 1);
    zoo.add("index: a tensor twice", of(twice), &[INDEX, "duplicate key", WEIGHT]);
    let maps = sound.replacen('{', "{\"weight_map\":{},", 1);
    zoo.add("index: two maps", of(maps), &[INDEX, "duplicate key", "weight_map"]);
    let deep = format!("{{\"weight_map\":{}", "{\"a\":".repeat(10_000));
    zoo.add("index: 10,000 deep", of(deep), &[INDEX, "recursion"]);
    for (name, text) in [("empty", ""), ("null", "null"), ("cut", "{\"weight_map\":")] {
        zoo.add(format!("index: {name}"), of(text), &[INDEX, "at byte"]);
    }
    zoo.add("index: no UTF-8", of([0xff; 16]), &[INDEX, "at byte"]);
}

fn shards(zoo: &mut Zoo) {
    let mut files = sharded(&tiny());
    files[3].1.push(0);
    zoo.add("shards: a byte more", files, &[SHARDS[1], "1 more bytes"]);
    let mut files = sharded(&tiny());
    files[2].1 = files[3].1.clone();
    zoo.add("shards: one file twice", files, &[SHARDS[0], INDEX, "names"]);
    let mut files = sharded(&tiny());
    files[2].1.clear();
    zoo.add("shards: an empty file", files, &[SHARDS[0], "at byte 0"]);
}
