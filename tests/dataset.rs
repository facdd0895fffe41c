//! `dataset` from outside: rows that replay, rows that become checkpoints, and rows that lie.

mod terminal;

use fixtures::embedded;
use reports::dataset::{Manifest, Row, RowKind};
use serde_json::Value;
use terminal::{Desk, at};

const BUILD: &str = "dataset build @digits --limit 8 --trials 1500 --rows 40";

fn rows(desk: &Desk, folder: &str) -> Vec<Row> {
    let manifest: Manifest =
        serde_json::from_slice(&desk.read(&format!("{folder}/dataset.json"))).expect("a manifest");
    let mut rows = Vec::new();
    for file in manifest.files.iter().filter(|file| file.path.ends_with(".jsonl")) {
        let text = String::from_utf8(desk.read(&format!("{folder}/{}", file.path))).expect("text");
        let part: Vec<Row> =
            text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
        assert_eq!(part.len() as u64, file.rows);
        rows.extend(part);
    }
    rows
}

#[test]
fn rows_replay_and_are_the_same_bytes_with_any_threads() {
    let desk = Desk::new();
    let targets = "--targets weight_code,weight_scale,norm,lm_head --transfer @digits-normal";
    desk.run(&format!("{BUILD} {targets} --out flips")).ends(0);
    desk.run(&format!("{BUILD} {targets} --threads 1 --out again")).ends(0);
    let files = ["dataset.json", "README.md", "data/train.jsonl"];
    for file in files.into_iter().chain(["data/train-00000-of-00001.parquet"]) {
        let (one, other) = (format!("flips/{file}"), format!("again/{file}"));
        assert!(desk.read(&one) == desk.read(&other), "{file}");
    }
    // The verb may be left out.
    let short = BUILD.replace(" build", "");
    desk.run(&format!("{short} {targets} --out short")).ends(0);
    assert!(desk.read("short/data/train.jsonl") == desk.read("flips/data/train.jsonl"));
    let rows = rows(&desk, "flips");
    for kind in RowKind::ALL {
        let of = rows.iter().filter(|row| row.kind == kind).count();
        assert!((1..=40).contains(&of), "{of} rows of {kind:?}");
    }
    assert!(rows.iter().all(|row| row.transfer_outcome.is_some()));
    for row in &rows {
        assert_eq!(row.old_bytes[0] ^ row.xor_masks[0], row.new_bytes[0], "{row:?}");
        let same = |other: &&Row| other.tensors == row.tensors;
        assert!(rows.iter().filter(same).all(|other| other.split == row.split), "{row:?}");
    }
    let told = desk.run("dataset verify flips").ends(0);
    assert_eq!(told.out, format!("{} rows replay bit for bit\n", rows.len()));
    desk.run(&format!("{BUILD} --out flips")).ends(5).says(&["flips", "exists already"]);
}

#[test]
fn rows_of_several_flips_replay_and_no_bound_is_broken() {
    let desk = Desk::new();
    desk.run(&format!("{BUILD} --flips 3 --out three")).ends(0);
    let rows = rows(&desk, "three");
    let bounded = rows.iter().filter(|row| row.logit_change_bound.is_some()).count();
    assert!(bounded > 0, "no row is bounded");
    for row in &rows {
        assert_eq!((row.addresses.len(), &row.fault_model[..]), (3, "random-3"));
        let bits: u32 = row.xor_masks.iter().map(|mask| mask.count_ones()).sum();
        assert_eq!(bits, 3, "{row:?}");
        if let (Some(bound), Some(change)) = (row.logit_change_bound, row.max_logit_change) {
            assert!(change <= bound, "{row:?}");
        }
        assert_eq!(row.model_split, rows[0].model_split);
    }
    desk.run("dataset verify three").ends(0);
    desk.run("dataset build --flips 0 --out x").ends(2).says(&["--flips"]);
    desk.run("dataset @digits").ends(2).says(&["--out"]);
}

#[test]
fn a_row_becomes_the_checkpoint_that_it_describes() {
    let desk = Desk::new();
    desk.run(&format!("{BUILD} --out flips")).ends(0);
    let rows = rows(&desk, "flips");
    let moved = rows.iter().find(|row| !row.identical).expect("a row that moves");
    desk.run(&format!("dataset apply flips {} @digits --out broken", moved.row)).ends(0);
    let bytes = desk.read("broken/model.safetensors");
    let clean = embedded::digits().file("model.safetensors").expect("weights");
    let changed: Vec<usize> = (0..clean.len()).filter(|&at| bytes[at] != clean[at]).collect();
    assert_eq!(changed.len(), 1);
    assert_eq!(bytes[changed[0]], moved.new_bytes[0]);
    assert_eq!(clean[changed[0]], moved.old_bytes[0]);
    let flip = |words: &str| -> Value {
        let told = desk.run(&format!("flip {words} --limit 8 --json")).ends(0);
        serde_json::from_str(&told.out).expect("JSON")
    };
    let see = "--inputs broken/inputs.safetensors --unused-code deployed";
    let broken = flip(&format!("broken {see} --bit model.norm.weight[0].0"));
    let foretold = flip(&format!("@digits --bit {}", moved.addresses[0]));
    let logits = |shown: &Value, side: &str| -> Vec<Value> {
        at(shown, &format!("samples[].{side}")).into_iter().cloned().collect()
    };
    assert_eq!(logits(&broken, "logits_before"), logits(&foretold, "logits_after"));
    let change = at(&foretold, "samples[].max_logit_change")[moved.sample as usize].as_f64();
    assert_eq!(change, moved.max_logit_change);
    desk.run("dataset apply flips 999999 @digits --out no").ends(2).says(&["999999"]);
    desk.run("dataset apply flips 0 @digits-normal --out no").ends(3).says(&["digest"]);
}

#[test]
fn a_changed_row_is_found_out() {
    let desk = Desk::new();
    desk.run(&format!("{BUILD} --out flips")).ends(0);
    let path = "flips/data/train.jsonl";
    let text = String::from_utf8(desk.read(path)).expect("text");
    let lie = text.replacen("\"tokens_changed\":", "\"tokens_changed\":1", 1);
    desk.put(path, lie.as_bytes());
    desk.run("dataset verify flips").ends(3).says(&["train.jsonl", "it was changed"]);
    // With a digest to match, the row itself does not replay.
    let digest = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    let manifest = String::from_utf8(desk.read("flips/dataset.json")).expect("text");
    let manifest = manifest.replace(&digest(text.as_bytes()), &digest(lie.as_bytes()));
    desk.put("flips/dataset.json", manifest.as_bytes());
    desk.run("dataset verify flips").ends(3).says(&["1 of", "another tokens_changed"]);
    // Every number of a row is computed again, and so is what the manifest says of the draw.
    let margin = text.replacen("\"margin_before\":", "\"margin_before\":1", 1);
    assert_ne!(margin, text);
    desk.put(path, margin.as_bytes());
    let whole = String::from_utf8(desk.read("flips/dataset.json")).expect("text");
    let other = whole.replace(&digest(lie.as_bytes()), &digest(margin.as_bytes()));
    desk.put("flips/dataset.json", other.as_bytes());
    desk.run("dataset verify flips").ends(3).says(&["another margin_before"]);
    desk.put(path, text.as_bytes());
    let seed = other
        .replace(&digest(margin.as_bytes()), &digest(text.as_bytes()))
        .replace("\"seed\": 0", "\"seed\": 1");
    desk.put("flips/dataset.json", seed.as_bytes());
    desk.run("dataset verify flips").ends(3).says(&["rows differ"]);
    let parquet = desk.read("flips/data/train-00000-of-00001.parquet");
    let cut = &parquet[..parquet.len() - 1];
    desk.put("flips/data/train-00000-of-00001.parquet", cut);
    let seed = seed.replace("\"seed\": 1", "\"seed\": 0");
    desk.put("flips/dataset.json", seed.replace(&digest(&parquet), &digest(cut)).as_bytes());
    desk.run("dataset verify flips").ends(3).says(&["does not hold the rows"]);
    desk.put("flips/data/train-00000-of-00001.parquet", &parquet);
    desk.put("flips/dataset.json", seed.as_bytes());
    desk.run("dataset verify flips").ends(0);
    desk.run("dataset verify flips --model @digits-normal").ends(3).says(&["--model"]);
    let none = manifest.split("\"files\"").next().expect("a manifest").to_owned();
    desk.put("flips/dataset.json", (none.clone() + "\"files\": []}").as_bytes());
    desk.run("dataset verify flips").ends(4).says(&["no row"]);
    let outside = "\"files\": [{\"path\": \"../x.jsonl\", \"rows\": 1, \"digest\": \"00\"}]}";
    desk.put("flips/dataset.json", (none + outside).as_bytes());
    desk.run("dataset verify flips").ends(3).says(&["../x.jsonl", "no file of a data set"]);
    desk.run("dataset build --trials 0 --out x").ends(2).says(&["--trials"]);
    desk.run("dataset verify nowhere").ends(3).says(&["nowhere"]);
    desk.run("dataset build --targets kv_f32 --out x").ends(2).says(&["kv_f32", "weight_code"]);
}
