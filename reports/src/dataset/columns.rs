//! The columns of a row: names and kinds, once for files and card. Values are those of its JSON.

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// UTF-8 text.
    Text,
    /// A whole number, 64 bits.
    Count,
    /// A number, f64.
    Number,
    /// Yes or no.
    Flag,
    /// Texts, one a struck bit or byte.
    Texts,
    /// Whole numbers, likewise.
    Counts,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Whether a value may be null.
    pub(super) null: bool,
}

const fn always(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, null: false }
}

const fn maybe(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, null: true }
}

/// All columns, in the order of the files.
pub(super) const COLUMNS: [Column; 40] = [
    always("row", Kind::Count),
    always("split", Kind::Text),
    always("model_split", Kind::Text),
    always("kind", Kind::Text),
    always("model", Kind::Text),
    always("model_digest", Kind::Text),
    always("format", Kind::Text),
    always("target", Kind::Text),
    always("fault_model", Kind::Text),
    always("addresses", Kind::Texts),
    always("tensors", Kind::Texts),
    always("byte_offsets", Kind::Counts),
    always("xor_masks", Kind::Counts),
    always("old_bytes", Kind::Counts),
    always("new_bytes", Kind::Counts),
    always("old_codes", Kind::Counts),
    always("new_codes", Kind::Counts),
    always("unused_code", Kind::Text),
    always("inputs_digest", Kind::Text),
    always("sample", Kind::Count),
    always("tokens", Kind::Count),
    always("tokens_changed", Kind::Count),
    maybe("first_changed_token", Kind::Count),
    always("decision_before", Kind::Count),
    maybe("decision_after", Kind::Count),
    maybe("label", Kind::Count),
    always("margin_before", Kind::Number),
    maybe("margin_after", Kind::Number),
    maybe("max_logit_change", Kind::Number),
    maybe("kl_divergence", Kind::Number),
    maybe("logit_change_bound", Kind::Number),
    maybe("bound_of", Kind::Text),
    always("outcome", Kind::Text),
    always("identical", Kind::Flag),
    always("seed", Kind::Count),
    always("trial", Kind::Count),
    always("arithmetic", Kind::Text),
    always("replay_digest", Kind::Text),
    maybe("transfer_model", Kind::Text),
    maybe("transfer_outcome", Kind::Text),
];

/// The columns as the `dataset_info.features` of a card, in YAML, indented by two.
#[must_use]
pub fn features() -> String {
    let mut text = String::new();
    for column in &COLUMNS {
        let (key, of) = match column.kind {
            Kind::Text => ("dtype", "string"),
            Kind::Count => ("dtype", "int64"),
            Kind::Number => ("dtype", "float64"),
            Kind::Flag => ("dtype", "bool"),
            Kind::Texts => ("sequence", "string"),
            Kind::Counts => ("sequence", "int64"),
        };
        text.push_str(&format!("  - name: {}\n    {key}: {of}\n", column.name));
    }
    text
}
