//! The contract from the reader's side: a reader's own types, the checked-in schema, and refusals.

mod example;

use std::collections::BTreeMap;
use std::path::Path;

use reports::{json, schema};
use serde::Deserialize;
use serde_json::{Value, json};

/// What a reader in another program would write down; only the keys that are promised to readers.
/// Values that it does not use stay open, but no key may be missing or new.
mod reader {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "the types are the test: each key must exist under its name")]
    pub(crate) struct Report {
        pub(crate) schema_version: String,
        pub(crate) tool: BTreeMap<String, String>,
        pub(crate) engine: BTreeMap<String, String>,
        pub(crate) model: BTreeMap<String, Value>,
        pub(crate) data: BTreeMap<String, Value>,
        pub(crate) request: BTreeMap<String, Value>,
        pub(crate) assumptions: Vec<String>,
        pub(crate) limits_hit: Vec<Value>,
        pub(crate) certification: Certification,
        pub(crate) substitutions: BTreeMap<String, Value>,
        pub(crate) statistical: Option<Value>,
        pub(crate) smoothed: Option<Value>,
        pub(crate) faults: Faults,
        pub(crate) run: Option<BTreeMap<String, Value>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "the types are the test")]
    pub(crate) struct Certification {
        pub(crate) epsilon: String,
        pub(crate) epsilon_value: f64,
        pub(crate) epsilon_unit: String,
        pub(crate) norm: String,
        pub(crate) suffix: Option<u32>,
        pub(crate) scope: String,
        pub(crate) method: String,
        pub(crate) labelled: u64,
        pub(crate) unlabelled: u64,
        pub(crate) clean_acc: Option<f64>,
        pub(crate) cert_acc: Option<f64>,
        pub(crate) certified: u64,
        pub(crate) falsified: u64,
        pub(crate) unknown: u64,
        pub(crate) largest_certified_epsilon: f64,
        pub(crate) median_certified_radius: f64,
        pub(crate) median_certified_radius_rel: f64,
        pub(crate) median_attack_radius: Option<f64>,
        pub(crate) median_attack_ratio: Option<f64>,
        pub(crate) deepest_certified_suffix: Option<u32>,
        pub(crate) readout_certified_radius: Option<f64>,
        pub(crate) readout_certified_radius_median: Option<f64>,
        pub(crate) first_lost_layer: Value,
        pub(crate) next_token: Value,
        pub(crate) methods: Vec<BTreeMap<String, Value>>,
        pub(crate) epsilons: Vec<BTreeMap<String, Value>>,
        pub(crate) samples: Vec<Sample>,
        pub(crate) layers: Vec<Layer>,
        pub(crate) curve: Vec<BTreeMap<String, Option<f64>>>,
        pub(crate) growth: Vec<Value>,
        pub(crate) growth_of_forms: Value,
        pub(crate) lipschitz_samples: u64,
        pub(crate) margin_lipschitz: Value,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "the types are the test")]
    pub(crate) struct Sample {
        pub(crate) index: u64,
        pub(crate) label: Option<u32>,
        pub(crate) prediction: u32,
        pub(crate) correct: Option<bool>,
        pub(crate) epsilon_value: f64,
        pub(crate) epsilon_rel: Option<f64>,
        pub(crate) stream_rms: f64,
        pub(crate) verdict: String,
        pub(crate) decided_by: Option<String>,
        pub(crate) methods: Vec<BTreeMap<String, Value>>,
        pub(crate) why: Option<String>,
        pub(crate) margin: Option<f64>,
        pub(crate) margin_lower_bound: Option<f64>,
        pub(crate) certified_radius: f64,
        pub(crate) certified_radius_rel: Option<f64>,
        pub(crate) radius_by_method: Vec<BTreeMap<String, Value>>,
        pub(crate) attack_radius: Option<f64>,
        pub(crate) attack_ratio: Option<f64>,
        pub(crate) runtime_slack: Option<f64>,
        pub(crate) positions: Value,
        pub(crate) witness: Value,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "the types are the test")]
    pub(crate) struct Layer {
        pub(crate) index: u32,
        pub(crate) certified_radius: f64,
        pub(crate) certified_radius_median: f64,
        pub(crate) certified_radius_rel: f64,
        pub(crate) stream_rms: f64,
        pub(crate) lipschitz_bound: Option<f64>,
        pub(crate) lipschitz_slack: Option<f64>,
        pub(crate) lipschitz_method: Option<String>,
        pub(crate) attention_lipschitz: Value,
        pub(crate) ffn_lipschitz: Value,
        pub(crate) width_in: Option<f64>,
        pub(crate) width_out: Option<f64>,
        pub(crate) reason: Option<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "the types are the test")]
    pub(crate) struct Faults {
        pub(crate) seed: u64,
        pub(crate) trials: u64,
        pub(crate) flips: u32,
        pub(crate) confidence: f64,
        pub(crate) unused_code: String,
        pub(crate) kv: String,
        pub(crate) targets: Vec<BTreeMap<String, Value>>,
        pub(crate) layers: Vec<BTreeMap<String, Value>>,
        pub(crate) bits: Vec<BTreeMap<String, Value>>,
        pub(crate) stored_bits: BTreeMap<String, Value>,
        pub(crate) encodings: Vec<BTreeMap<String, Value>>,
        pub(crate) trit_bytes: Vec<BTreeMap<String, Value>>,
        pub(crate) protection: Vec<BTreeMap<String, Value>>,
        pub(crate) worst: Vec<BTreeMap<String, Value>>,
        pub(crate) bounds: Vec<BTreeMap<String, Value>>,
        pub(crate) rows_proven: Vec<BTreeMap<String, Value>>,
        pub(crate) flips_proven: Vec<BTreeMap<String, Value>>,
        pub(crate) flips_proven_in_model: BTreeMap<String, Value>,
        pub(crate) cache_proven: Vec<BTreeMap<String, Value>>,
    }
}

fn checked_in_schema() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/report.schema.json");
    std::fs::read_to_string(path).expect("schema/report.schema.json is checked in")
}

#[test]
fn a_reader_with_its_own_types_reads_every_key_under_its_name() {
    let text = json::to_string(&example::report()).unwrap();
    let seen: reader::Report = serde_json::from_str(&text).unwrap();
    assert_eq!(seen.schema_version, "1.0");
    assert_eq!(seen.certification.method, "auto");
    assert_eq!(seen.certification.norm, "linf");
    assert_eq!(seen.certification.samples[5].verdict, "falsified");
    assert_eq!(seen.faults.unused_code, "deployed");
    assert!(seen.model.contains_key("digest"));
    for key in ["target", "trials", "masked", "sdc", "due", "sdc_rate"] {
        assert!(seen.faults.targets[0].contains_key(key), "targets[].{key}");
    }
    for key in ["sdc_rate_low", "sdc_rate_high"] {
        assert!(seen.faults.targets[0].contains_key(key), "targets[].{key}");
        assert!(seen.faults.layers[0].contains_key(key), "layers[].{key}");
        assert!(seen.faults.bits[0].contains_key(key), "bits[].{key}");
    }
    for key in ["layer", "flips", "logit_change_bound", "proven_masked_share"] {
        assert!(seen.faults.bounds[0].contains_key(key), "bounds[].{key}");
    }
    for key in ["code", "raw_flips", "residual_rate", "pvf", "fit_critical_high"] {
        assert!(seen.faults.protection[0].contains_key(key), "protection[].{key}");
    }
    for key in ["bits", "trials", "sdc_rate", "sdc_rate_low", "sdc_rate_high"] {
        assert!(seen.faults.stored_bits.contains_key(key), "stored_bits.{key}");
    }
    for key in ["minus_one", "zero", "plus_one", "unused", "deployed", "directions"] {
        assert!(seen.faults.encodings[0].contains_key(key), "encodings[].{key}");
    }
    for key in ["direction", "bits_per_byte", "mean_weights_hit", "unused_share"] {
        assert!(seen.faults.trit_bytes[0].contains_key(key), "trit_bytes[].{key}");
    }
    for key in ["layer", "tensor", "rows_total", "rows_tried", "pairs", "levels", "reason"] {
        assert!(seen.faults.rows_proven[0].contains_key(key), "rows_proven[].{key}");
    }
    for key in ["layer", "target", "bits", "proven_masked", "unknown", "logit_change_bound"] {
        assert!(seen.faults.cache_proven[0].contains_key(key), "cache_proven[].{key}");
    }
    for key in ["pairs", "levels", "budget", "reason"] {
        assert!(seen.faults.flips_proven_in_model.contains_key(key), "of the model: {key}");
    }
    for key in ["layer", "tensor", "pairs", "levels", "budget", "reason"] {
        assert!(seen.faults.flips_proven[0].contains_key(key), "flips_proven[].{key}");
    }
    assert_eq!(seen.faults.targets[0]["target"], "weight_code");
}

#[test]
fn words_of_the_contract_are_spelt_as_promised() {
    let mut report = example::report();
    report.request.kv = reports::model::KvStorage::OneBit;
    let value: Value = serde_json::from_str(&json::to_string(&report).unwrap()).unwrap();
    assert_eq!(value["request"]["kv"], "1bit");
    assert_eq!(value["model"]["activation_policy"], "per_token_int8");
    assert_eq!(value["model"]["gate"], "relu2");
    assert_eq!(value["data"]["kind"], "inputs_embeds");
    for target in reports::model::FaultTarget::ALL {
        assert_eq!(serde_json::to_value(target).unwrap(), target.name());
        assert_eq!(target.name().parse(), Ok(target));
    }
}

#[test]
fn the_checked_in_schema_is_the_generated_one() {
    assert!(
        checked_in_schema() == schema::schema_text(),
        "the contract has changed; look at the change and write it down with\n    \
         cargo run -- schema > reports/schema/report.schema.json"
    );
}

#[test]
fn reports_validate_against_the_checked_in_schema() {
    let schema: Value = serde_json::from_str(&checked_in_schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let whole = serde_json::to_value(example::report()).unwrap();
    assert!(validator.is_valid(&whole), "{:?}", validator.iter_errors(&whole).next());

    let mut bare = example::report();
    bare.certification = None;
    bare.faults = None;
    bare.run = None;
    let bare = serde_json::to_value(bare).unwrap();
    assert!(validator.is_valid(&bare), "{:?}", validator.iter_errors(&bare).next());
}

#[test]
fn the_schema_refuses_what_the_contract_refuses() {
    let schema: Value = serde_json::from_str(&checked_in_schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let spoil: [(&str, Value); 4] = [
        ("/certification/samples/0/verdict", json!("probably")),
        ("/certification/samples/0/certified_radius", json!(null)),
        ("/faults/targets/0/target", json!("weight_codes")),
        ("/schema_version", json!(1)),
    ];
    for (path, wrong) in spoil {
        let mut report = serde_json::to_value(example::report()).unwrap();
        *report.pointer_mut(path).unwrap() = wrong;
        assert!(!validator.is_valid(&report), "{path}");
        assert!(json::from_str(&report.to_string()).is_err(), "{path}");
    }
}

#[test]
fn a_report_reads_back_exactly_and_writes_the_same_bytes() {
    let report = example::report();
    let text = json::to_string(&report).unwrap();
    let back = json::from_str(&text).unwrap();
    assert_eq!(back, report);
    assert_eq!(json::to_string(&back).unwrap(), text);
    assert!(text.ends_with("}\n"));
}

#[test]
fn a_reproducible_report_has_no_run_at_all() {
    let mut report = example::report();
    report.run = None;
    assert!(!json::to_string(&report).unwrap().contains("\"run\""));
}

#[test]
fn what_is_not_a_report_is_refused_with_its_place() {
    let good = json::to_string(&example::report()).unwrap();
    let cases = [
        (String::new(), "line 1, column 0"),
        ("[]".to_owned(), "no JSON object"),
        ("{\"schema_version\": \"2.0\"}".to_owned(), "schema version \"2.0\""),
        (good.replacen("\"model\"", "\"modle\"", 1), "unknown field `modle`"),
        (good.replacen("\"seed\": 0", "\"seed\": -1", 1), "line "),
        (good.clone() + "x", "trailing characters"),
    ];
    for (text, expected) in cases {
        let error = json::from_str(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
