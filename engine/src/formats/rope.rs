//! The rotary frequencies that a configuration asks for, in either dialect.

use serde_json::Value;

use super::config::Fields;
use super::error::{FormatError, quoted};
use crate::model::Yarn;

/// What one object says.
#[derive(Default)]
struct Said {
    theta: Option<f64>,
    yarn: Option<Yarn>,
}

/// The base of the frequencies, and how they are stretched.
pub(super) fn read(fields: &Fields, default: f64) -> Result<(f64, Option<Yarn>), FormatError> {
    let outer = fields.number("rope_theta")?;
    let mut found = Said::default();
    for name in ["rope_scaling", "rope_parameters"] {
        match fields.optional(name) {
            None => {}
            Some(Value::Object(object)) => {
                let said = parameters(&Fields { file: fields.file, object }, name)?;
                found = Said { theta: said.theta.or(found.theta), yarn: said.yarn.or(found.yarn) };
            }
            Some(other) => return Err(fields.error(name, "an object or null", other)),
        }
    }
    match (outer, found.theta) {
        (Some(outer), Some(inner)) if outer.to_bits() != inner.to_bits() => {
            let expected = format!("rope_theta = {outer}, as at the top level");
            Err(fields.refused("rope_parameters", expected, inner.to_string()))
        }
        (outer, inner) => Ok((outer.or(inner).unwrap_or(default), found.yarn)),
    }
}

/// An object of rope parameters: plain ones, or those of YaRN.
fn parameters(fields: &Fields, name: &'static str) -> Result<Said, FormatError> {
    let mut is_yarn = false;
    for key in ["rope_type", "type"] {
        match fields.text(key)? {
            None | Some("default") => {}
            Some("yarn") => is_yarn = true,
            Some(kind) => {
                let expected = "rope_type \"default\" or \"yarn\", or null";
                return Err(fields.refused(name, expected, quoted(kind)));
            }
        }
    }
    if let Some(factor) = fields.optional("partial_rotary_factor")
        && factor.as_f64() != Some(1.0)
    {
        return Err(fields.error("partial_rotary_factor", "1.0", factor));
    }
    let theta = fields.number("rope_theta")?;
    let yarn = if is_yarn { Some(yarn(fields, name)?) } else { None };
    Ok(Said { theta, yarn })
}

fn yarn(fields: &Fields, name: &'static str) -> Result<Yarn, FormatError> {
    // They scale attention in other ways; no 1-bit checkpoint has them.
    for key in ["mscale", "mscale_all_dim"] {
        if let Some(value) = fields.optional(key) {
            return Err(fields.error(key, "no such field", value));
        }
    }
    if fields.flag("truncate")? == Some(false) {
        return Err(fields.refused("truncate", "true", "false".into()));
    }
    let absent = |what| fields.refused(name, format!("yarn with a {what}"), "none".into());
    let factor = fields.number("factor")?.ok_or_else(|| absent("factor"))?;
    let original = "original_max_position_embeddings";
    if fields.optional(original).is_none() {
        return Err(absent(original));
    }
    let (fast, slow) = Yarn::BETAS;
    let stretch = fields.number("attention_factor")?.map(|factor| factor as f32);
    Ok(Yarn {
        factor,
        original: fields.count(original)?,
        beta_fast: fields.number("beta_fast")?.unwrap_or(fast),
        beta_slow: fields.number("beta_slow")?.unwrap_or(slow),
        stretch: stretch.unwrap_or_else(|| Yarn::usual_stretch(factor)),
    })
}
