//! The inventory for a terminal: facts first, then a row a tensor, then sums and warnings.

use std::fmt::Write;

use super::{Inventory, Tensor};
use crate::commands::shown;

const HEADINGS: [&str; 8] =
    ["tensor", "dtype", "shape", "kind", "bits/value", "zeros", "scale", "notes"];

/// The whole text.
pub(super) fn text(found: &Inventory) -> String {
    let mut text = facts(found);
    text.push('\n');
    text.push_str(&tensors(&found.tensors));
    text.push('\n');
    text.push_str(&sums(found));
    for warning in &found.warnings {
        line(&mut text, "warning", &shown(warning, &[]));
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name:<14} {value}");
}

fn facts(found: &Inventory) -> String {
    let (mut text, shape) = (String::new(), &found.model);
    line(&mut text, "checkpoint", &shown(&found.name, &[]));
    line(&mut text, "digest", &found.digest);
    line(&mut text, "arithmetic", found.arithmetic);
    line(&mut text, "architecture", &shape.architecture);
    let blocks = format!("{} layers, hidden {}, ffn {}", shape.layers, shape.hidden, shape.ffn);
    line(&mut text, "shape", &blocks);
    let heads = format!("{} query, {} key-value", shape.heads, shape.kv_heads);
    line(&mut text, "heads", &format!("{heads}, width {}", shape.head_dim));
    line(&mut text, "vocabulary", &shape.vocabulary.to_string());
    line(&mut text, "positions", &shape.max_positions.to_string());
    line(&mut text, "activations", shape.activations);
    line(&mut text, "head form", shape.head);
    line(&mut text, "gate", shape.gate);
    line(&mut text, "head", if shape.tied { "tied to the embeddings" } else { "its own" });
    line(&mut text, "rope theta", &shape.rope_theta.to_string());
    line(&mut text, "rms norm eps", &shape.rms_norm_eps.to_string());
    line(&mut text, "tokenizer", if found.tokenizer { "yes" } else { "no" });
    text
}

fn sums(found: &Inventory) -> String {
    let (mut text, totals) = (String::new(), &found.totals);
    let mut ternary = totals.ternary_weights.to_string();
    if totals.ternary_weights > 0 {
        let zeros = totals.ternary_zeros as f64 / totals.ternary_weights as f64;
        let _ = write!(ternary, " ({:.1} % zeros", 100.0 * zeros);
        if totals.unused_codes > 0 {
            let _ = write!(ternary, ", {} with the unused code", totals.unused_codes);
        }
        ternary.push(')');
    }
    line(&mut text, "ternary", &format!("{ternary} weights"));
    line(&mut text, "float", &format!("{} weights", totals.float_weights));
    line(&mut text, "tensor bytes", &totals.bytes.to_string());
    text
}

fn tensors(tensors: &[Tensor]) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(tensors.iter().map(cells));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEADINGS.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cells(tensor: &Tensor) -> [String; 8] {
    [
        shown(&tensor.name, &[]),
        shown(&tensor.dtype, &[]),
        format!("{:?}", tensor.shape),
        tensor.kind.to_owned(),
        tensor.bits_per_value.to_string(),
        tensor.zeros.map_or(String::new(), |zeros| format!("{:.1} %", 100.0 * zeros)),
        scale(tensor),
        notes(tensor),
    ]
}

fn scale(tensor: &Tensor) -> String {
    match (tensor.scale, tensor.scale_use) {
        (Some(scale), Some(does)) => format!("{does} {scale}"),
        _ => String::new(),
    }
}

fn notes(tensor: &Tensor) -> String {
    let mut notes = Vec::new();
    if let Some(count) = tensor.unused_codes.filter(|&count| count > 0) {
        notes.push(format!("{count} unused codes"));
    }
    if tensor.all_zero {
        notes.push("all zero".into());
    } else if tensor.constant {
        notes.push("constant".into());
    }
    notes.join(", ")
}
