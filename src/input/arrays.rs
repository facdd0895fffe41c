//! Samples as arrays in a safetensors file: `inputs_embeds` or `input_ids`, `labels`, `classes`.
//!
//! | array | type | shape |
//! |---|---|---|
//! | `inputs_embeds` | F32 | `[samples, tokens, hidden]` |
//! | `input_ids` | I64 or I32 | `[samples, tokens]` |
//! | `labels` | I64 or I32 | `[samples]`; optional; negative = no label |
//! | `classes` | I64 or I32 | `[classes]`, for all samples; optional |
//!
//! As with checkpoints, a file that another reader may read in another way is refused.

use engine::formats;
use ndarray::Array2;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{Content, Sample};
use crate::failure::Failure;

const NAMES: [&str; 4] = ["inputs_embeds", "input_ids", "labels", "classes"];

/// The samples with their places.
pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Vec<(Sample, String)>, Failure> {
    let refuse = |why: String| Failure::refused(format!("{name}: {why}"));
    let file = SafeTensors::deserialize(bytes).map_err(|error| refuse(error.to_string()))?;
    if let Some(other) = file.names().into_iter().find(|name| !NAMES.contains(name)) {
        return Err(refuse(format!("unknown array {other:?}, expected some of {NAMES:?}")));
    }
    let array = |name: &str| file.tensor(name).ok();
    let contents = match (array("input_ids"), array("inputs_embeds")) {
        (Some(_), Some(_)) => Err("expected input_ids or inputs_embeds, got both".into()),
        (Some(ids), None) => ids_of(&ids),
        (None, Some(embeddings)) => embeddings_of(&embeddings),
        (None, None) => Err("expected an array input_ids or inputs_embeds".into()),
    }
    .map_err(refuse)?;
    let labels = array("labels").map(|labels| integers(&labels, "labels")).transpose();
    let labels = labels.map_err(refuse)?;
    if labels.as_ref().is_some_and(|labels| labels.len() != contents.len()) {
        return Err(refuse(format!("labels: expected {} of them", contents.len())));
    }
    let classes = array("classes").map(|classes| integers(&classes, "classes")).transpose();
    let classes = classes.map_err(refuse)?.unwrap_or_default();
    let classes: Vec<usize> = (classes.iter())
        .map(|&class| usize::try_from(class).map_err(|_| refuse(format!("class {class}"))))
        .collect::<Result<_, _>>()?;
    let label = |index: usize| -> Result<Option<u32>, Failure> {
        match labels.as_ref().map(|labels| labels[index]) {
            Some(label) if label >= 0 => u32::try_from(label)
                .map(Some)
                .map_err(|_| refuse(format!("labels: {label} is no token id"))),
            _ => Ok(None),
        }
    };
    if !contents.is_empty() {
        formats::check_safetensors(name, bytes)?;
    }
    contents
        .into_iter()
        .enumerate()
        .map(|(index, content)| {
            let sample = Sample { content, label: label(index)?, classes: classes.clone() };
            Ok((sample, format!("row {index}")))
        })
        .collect()
}

fn embeddings_of(array: &TensorView) -> Result<Vec<Content>, String> {
    let &[samples, tokens, width] = array.shape() else {
        return Err(format!("inputs_embeds: expected three dimensions, got {:?}", array.shape()));
    };
    if array.dtype() != Dtype::F32 {
        return Err(format!("inputs_embeds: expected F32, got {:?}", array.dtype()));
    }
    if samples == 0 {
        return Ok(Vec::new());
    }
    if tokens == 0 || width == 0 {
        return Err(format!("inputs_embeds: empty samples, shape {:?}", array.shape()));
    }
    let values = array.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let values: Vec<f32> = values.collect();
    let rows = values.chunks_exact(tokens * width).map(|rows| {
        let rows = Array2::from_shape_vec((tokens, width), rows.to_vec());
        Content::Embeddings(rows.expect("a chunk of that size"))
    });
    Ok(rows.collect())
}

fn ids_of(array: &TensorView) -> Result<Vec<Content>, String> {
    let &[samples, tokens] = array.shape() else {
        return Err(format!("input_ids: expected two dimensions, got {:?}", array.shape()));
    };
    let ids = integers(array, "input_ids")?;
    if samples == 0 {
        return Ok(Vec::new());
    }
    if tokens == 0 {
        return Err(format!("input_ids: empty samples, shape {:?}", array.shape()));
    }
    ids.chunks_exact(tokens)
        .map(|row| {
            let ids = row.iter().map(|&id| {
                u32::try_from(id).map_err(|_| format!("input_ids: {id} is no token id"))
            });
            Ok(Content::Ids(ids.collect::<Result<_, _>>()?))
        })
        .collect()
}

fn integers(array: &TensorView, name: &str) -> Result<Vec<i64>, String> {
    match array.dtype() {
        Dtype::I64 => Ok(array
            .data()
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")))
            .collect()),
        Dtype::I32 => Ok(array
            .data()
            .chunks_exact(4)
            .map(|b| i32::from_le_bytes(b.try_into().expect("four bytes")).into())
            .collect()),
        other => Err(format!("{name}: expected I64 or I32, got {other:?}")),
    }
}
