//! The JSON schema of the contract, generated from its types.
//!
//! It describes what is written: a key that is always there is required, even where its value may
//! be null. The copy in `schema/` is for readers without the program; a test keeps it equal.

use schemars::generate::SchemaSettings;

use crate::model::Report;

/// The JSON schema (draft 2020-12) of a report.
#[must_use]
pub fn schema() -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Report>();
    schema.insert("title".to_owned(), "bitnet-certify report".into());
    let mut schema = schema.to_value();
    // The order of keys must not hang on a feature that some other crate of a build turns on.
    schema.sort_all_objects();
    schema
}

/// The schema as text, as it is checked in.
#[must_use]
pub fn schema_text() -> String {
    format!("{:#}\n", schema())
}
