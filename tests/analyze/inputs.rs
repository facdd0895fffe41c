//! Samples and checkpoints from files, in every form.

use std::collections::BTreeMap;

use fixtures::embedded;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::SMALL;
use crate::terminal::{Desk, extent, number, numbers, one};

/// A report without what tells where its parts came from.
fn findings(report: &Value) -> (Value, Value, Value) {
    (report["certification"].clone(), report["faults"].clone(), report["data"]["digest"].clone())
}

#[test]
fn a_checkpoint_folder_gives_what_the_embedded_model_gives() {
    let desk = Desk::new();
    desk.checkpoint("digits", embedded::digits());
    let report = desk.report(SMALL);
    let folder = desk.report(&format!("digits --inputs digits/inputs.safetensors {SMALL}"));
    assert_eq!(findings(&report), findings(&folder));
    assert_eq!(report["model"]["digest"], folder["model"]["digest"]);
    assert_eq!(folder["data"]["kind"], "inputs_embeds");
    let sources = [&report, &folder].map(|report| report["data"]["source"].clone());
    assert_eq!(sources, [json!("embedded"), json!("file")]);
}

#[test]
fn lines_of_ids_text_and_embeddings_are_analysed_side_by_side() {
    let desk = Desk::new();
    desk.checkpoint("model", embedded::language());
    let row = |seed: usize| {
        (0..128).map(|i| ((i * 7 + seed) % 13) as f32 / 6.0 - 1.0).collect::<Vec<_>>()
    };
    let lines = [
        json!({"input_ids": [436, 357, 287, 64], "label": 72, "classes": [72, 282, 5]}),
        json!({"text": "And God said", "label": null}),
        json!({"inputs_embeds": [row(1), row(2)], "classes": [9, 3]}),
        json!({"input_ids": [284, 263], "text": "the ids win"}),
    ];
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    desk.put("samples.jsonl", text.join("\n") + "\n\n");
    let report =
        desk.report("model --inputs samples.jsonl --faults 20 --attack-budget 20 --epsilon 1e-6");
    assert_eq!(report["data"]["kind"], "mixed");
    assert_eq!((number(&report, "data.samples"), number(&report, "data.labelled")), (4.0, 1.0));
    let samples = report["certification"]["samples"].as_array().expect("samples");
    let among = |sample: usize, classes: &[u64]| {
        let prediction = samples[sample]["prediction"].as_u64().expect("a token");
        assert!(classes.contains(&prediction), "sample {sample}: {prediction}");
    };
    among(0, &[72, 282, 5]);
    among(2, &[9, 3]);
    assert_eq!(samples[0]["label"], 72);
    assert_eq!(samples[1]["label"], Value::Null);
    assert_eq!(samples[1]["correct"], Value::Null);
    desk.put("ids.jsonl", json!({"input_ids": [284, 263]}).to_string());
    let ids = desk.report("model --inputs ids.jsonl --no-faults --attack-budget 20 --epsilon 1e-6");
    assert_eq!(ids["certification"]["samples"][0]["margin"], samples[3]["margin"]);
    assert_eq!(ids["certification"]["clean_acc"], Value::Null);
}

fn arrays(parts: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let views: BTreeMap<&str, TensorView> = parts
        .iter()
        .map(|&(name, dtype, shape, data)| {
            (name, TensorView::new(dtype, shape.to_vec(), data).expect("a sound array"))
        })
        .collect();
    safetensors::serialize(views, None).expect("arrays")
}

#[test]
fn arrays_of_ids_with_labels_are_analysed_like_lines() {
    let desk = Desk::new();
    desk.checkpoint("model", embedded::language());
    let ids: Vec<u8> =
        [436i32, 357, 287, 284, 263, 471].iter().flat_map(|id| id.to_le_bytes()).collect();
    let labels: Vec<u8> = [64i64, -1].iter().flat_map(|id| id.to_le_bytes()).collect();
    let classes: Vec<u8> = [64i64, 7, 9].iter().flat_map(|id| id.to_le_bytes()).collect();
    desk.put(
        "ids.safetensors",
        arrays(&[
            ("input_ids", Dtype::I32, &[2, 3], &ids),
            ("labels", Dtype::I64, &[2], &labels),
            ("classes", Dtype::I64, &[3], &classes),
        ]),
    );
    let line = |ids: [u32; 3], label: Value| {
        let sample = json!({"input_ids": ids, "label": label, "classes": [64, 7, 9]});
        sample.to_string()
    };
    let lines = [line([436, 357, 287], json!(64)), line([284, 263, 471], Value::Null)];
    desk.put("ids.jsonl", lines.join("\n"));
    let few = "--faults 20 --attack-budget 20 --epsilon 1e-6";
    let [arrays, lines] = ["ids.safetensors", "ids.jsonl"]
        .map(|file| desk.report(&format!("model --inputs {file} {few}")));
    assert_eq!(findings(&arrays), findings(&lines));
    assert_eq!(arrays["data"]["kind"], "input_ids");
    assert_eq!(number(&arrays, "certification.labelled"), 1.0);
}

/// The digits with one byte of packed codes that are all the unused one.
fn with_unused_codes(desk: &Desk) {
    desk.checkpoint("model", embedded::digits());
    let mut file = desk.read("model/model.safetensors");
    let place = extent(&file, "model.layers.1.mlp.down_proj.weight").start + 5;
    file[place] = 0xff;
    desk.put("model/model.safetensors", file);
}

#[test]
fn a_checkpoint_with_the_unused_code_is_refused_unless_its_meaning_is_given() {
    let desk = Desk::new();
    with_unused_codes(&desk);
    let words = format!("model --inputs model/inputs.safetensors {SMALL}");
    for policy in ["", "--unused-code detect"] {
        let told = desk.run(&format!("analyze {words} {policy} -o refused.json")).ends(3);
        told.says(&[
            "model.layers.1.mlp.down_proj.weight",
            "unused code 3",
            "--unused-code deployed",
        ]);
    }
    let margins = |policy: &str| {
        let report = desk.report(&format!("{words} --unused-code {policy} --no-faults"));
        assert_eq!(one(&report, "request.unused_code"), policy);
        numbers(&report, "certification.samples[].margin")
    };
    assert_ne!(margins("deployed"), margins("zero"), "the meaning of the code changes nothing");
    let told = desk.run(&format!("analyze {words} --unused-code zero -o refused.json")).ends(2);
    told.says(&["--unused-code zero", "cannot be simulated", "--no-faults"]);
    assert!(desk.listing().iter().all(|name| !name.contains("refused")));
}
