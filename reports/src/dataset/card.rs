//! The card of a data set: what a reader sees first, and what loaders read the layout from.

use super::{Manifest, RowKind, Split, features};

/// The card, as Markdown behind YAML; `counts` are the rows of each split and kind.
#[must_use]
pub fn card(manifest: &Manifest, counts: &dyn Fn(Split, RowKind) -> u64) -> String {
    let total = |split: Split| RowKind::ALL.iter().map(|&kind| counts(split, kind)).sum::<u64>();
    let splits: Vec<Split> = Split::ALL.into_iter().filter(|&split| total(split) > 0).collect();
    let mut text = String::from("---\npretty_name: Bit perturbations of a ternary model\n");
    text.push_str("license: unknown\ntags:\n- fault-injection\n- bit-flips\n- ternary\nconfigs:\n");
    text.push_str("- config_name: default\n  data_files:\n");
    for split in &splits {
        let name = split.name();
        text.push_str(&format!("  - split: {name}\n    path: data/{name}-*.parquet\n"));
    }
    text.push_str(&format!("dataset_info:\n  features:\n{}  splits:\n", features()));
    for &split in &splits {
        text.push_str(&format!("  - name: {}\n    num_examples: {}\n", split.name(), total(split)));
    }
    text.push_str("---\n\n# Bit perturbations\n\n");
    text.push_str(&format!(
        "Flips of stored bits of `{}` ({}), each run under one sample of its inputs in the \
         arithmetic `{}`. {} trials were drawn with seed {} ({} at once; the unused 2-bit code: \
         {}), and rows were chosen from them.\n\nAll rows of a tensor are in one split (of several \
         flips, the tensor of the first): the first byte of the BLAKE3 of its name, modulo 10, is \
         0 for validation, 1 for test, and else for train. `model_split` is the same of the \
         model's digest, for sets joined from many models.\n\n",
        manifest.model,
        manifest.model_digest,
        manifest.arithmetic,
        manifest.trials,
        manifest.seed,
        if manifest.flips == 1 { "1 bit".into() } else { format!("{} bits", manifest.flips) },
        manifest.unused_code.name(),
    ));
    text.push_str("| split | hit | near-miss | benign | benign-proven |\n|---|---|---|---|---|\n");
    for &split in &splits {
        let row = RowKind::ALL.map(|kind| counts(split, kind).to_string()).join(" | ");
        text.push_str(&format!("| {} | {row} |\n", split.name()));
    }
    text.push_str(
        "\nEvery row replays bit for bit:\n\n    bitnet-certify dataset verify DIR\n    \
         bitnet-certify dataset apply DIR ROW MODEL --out CHECKPOINT\n\n\
         *hit*: the decision changed or the fault was detected; *near-miss*: most of the margin \
         was lost; *benign*: the decision stood; *benign-proven*: it stands under every flip of \
         the set in `bound_of`, and none of them changes a logit by more than \
         `logit_change_bound`.\n",
    );
    text
}
