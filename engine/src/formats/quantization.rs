//! `quantization_config`: how the ternary linear layers of a checkpoint are stored.
//!
//! | `linear_class`, `quantization_mode` | weights | scale |
//! |---|---|---|
//! | `bitlinear` (the default), any | packed | stored, divides |
//! | `autobitlinear`, `offline` (the default) | packed or -1, 0, 1 | stored, multiplies |
//! | `autobitlinear`, `online` | float masters, quantised on load | from the masters, multiplies |

use serde_json::Value;

use super::config::Fields;
use super::error::{FormatError, quoted};

/// The three ways in which ternary layers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `bitlinear`.
    Divide,
    /// `autobitlinear`, offline.
    Multiply,
    /// `autobitlinear`, online.
    Master,
}

/// What `quantization_config` says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Quantization {
    /// How the layers are stored.
    pub(super) form: Form,
    /// The epsilon of the norms inside converted layers, where there are such norms.
    pub(super) inner_eps: Option<f32>,
    /// Names of linear layers that stay float.
    kept: Vec<String>,
}

impl Quantization {
    /// Reads the object.
    pub(super) fn parse(fields: &Fields) -> Result<Self, FormatError> {
        match fields.text("quant_method")? {
            Some("bitnet") => {}
            got => {
                let got = got.map_or("absent".into(), quoted);
                return Err(fields.refused("quantization_config.quant_method", "\"bitnet\"", got));
            }
        }
        let form = form(fields)?;
        let inner = fields.flag("use_rms_norm")?.unwrap_or(false);
        let eps = fields.number("rms_norm_eps")?.unwrap_or(1e-6) as f32;
        if inner && !(0.0..1.0).contains(&eps) {
            let name = "quantization_config.rms_norm_eps";
            return Err(fields.refused(name, "0 to 1", eps.to_string()));
        }
        let quantization = Self { form, inner_eps: inner.then_some(eps), kept: kept(fields)? };
        if quantization.converts("lm_head") {
            let name = "quantization_config.modules_to_not_convert";
            let got = "a list without it: the head would be ternary".into();
            return Err(fields.refused(name, "null, or a list with \"lm_head\"", got));
        }
        Ok(quantization)
    }

    /// Float masters, quantised on load, in every linear layer but the head.
    pub(super) fn masters() -> Self {
        Self { form: Form::Master, inner_eps: None, kept: vec!["lm_head".into()] }
    }

    /// Whether the linear layer of a dotted name is ternary.
    pub(super) fn converts(&self, name: &str) -> bool {
        !self.kept.iter().any(|pattern| matches(pattern, name))
    }
}

fn form(fields: &Fields) -> Result<Form, FormatError> {
    let online = match fields.text("quantization_mode")? {
        None | Some("offline") => false,
        Some("online") => true,
        Some(other) => {
            let name = "quantization_config.quantization_mode";
            return Err(fields.refused(name, "\"offline\" or \"online\"", quoted(other)));
        }
    };
    match fields.text("linear_class")? {
        None | Some("bitlinear") => Ok(Form::Divide),
        Some("autobitlinear") => Ok(if online { Form::Master } else { Form::Multiply }),
        Some(other) => {
            let name = "quantization_config.linear_class";
            Err(fields.refused(name, "\"bitlinear\" or \"autobitlinear\"", quoted(other)))
        }
    }
}

/// The patterns of layers that stay float; a list replaces the default.
fn kept(fields: &Fields) -> Result<Vec<String>, FormatError> {
    let name = "modules_to_not_convert";
    let Some(value) = fields.optional(name) else { return Ok(vec!["lm_head".into()]) };
    let texts = |items: &Vec<Value>| {
        items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    };
    let Some(patterns) = value.as_array().and_then(texts) else {
        return Err(fields.error(name, "a list of names", value));
    };
    let special = |c: char| r"\^$*+?()[]{}|".contains(c);
    if let Some(pattern) = patterns.iter().find(|pattern| pattern.contains(special)) {
        let expected = "plain names (regular expressions are not read)";
        return Err(fields.refused(name, expected, quoted(pattern)));
    }
    Ok(patterns)
}

/// Whether a pattern keeps a layer float: as a suffix, or as a prefix up to a dot, where a dot of
/// the pattern stands for any character (it is a regular expression in transformers).
fn matches(pattern: &str, name: &str) -> bool {
    if name.ends_with(pattern) {
        return true;
    }
    let mut rest = name.chars();
    for expected in pattern.chars() {
        match rest.next() {
            Some(got) if expected == got || expected == '.' => {}
            _ => return false,
        }
    }
    let rest = rest.as_str();
    let read = &name[..name.len() - rest.len()];
    rest.is_empty() || rest.starts_with('.') || read.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_transformers() {
        let name = "model.layers.11.mlp.gate_proj";
        for pattern in [
            "model",
            "model.",
            "model.layers.11",
            "model.layers.11.mlp.gate_proj",
            "gate_proj",
            "proj",
            "model.layers.1.",
            "",
        ] {
            assert!(matches(pattern, name), "{pattern:?}");
        }
        for pattern in ["model.layers.1", "mlp.gate", "mlp", "lm_head", "model.layers.11.mlp.gate"]
        {
            assert!(!matches(pattern, name), "{pattern:?}");
        }
    }
}
