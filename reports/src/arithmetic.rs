//! The arithmetic that a report speaks of, in words.

use crate::escape::shown;
use crate::model::{ActivationPolicy, GateFunction, HeadForm, Report};

/// How activations are quantised.
pub(crate) fn activation(policy: ActivationPolicy) -> &'static str {
    match policy {
        ActivationPolicy::PerTokenInt8 => "int8 per token",
        ActivationPolicy::PerTokenInt4 => "int4 per token",
        ActivationPolicy::None => "not quantised",
    }
}

/// What the head is multiplied as.
pub(crate) fn head(form: HeadForm) -> &'static str {
    match form {
        HeadForm::AsStored => "as stored",
        HeadForm::Int8 => "int8 by rows",
    }
}

/// All of it on one line.
pub(crate) fn told(report: &Report) -> String {
    let (activations, form) = (activation(report.model.activation_policy), report.model.head);
    let id = shown(&report.engine.arithmetic);
    match form {
        HeadForm::AsStored => format!("{id}, activations {activations}"),
        HeadForm::Int8 => format!("{id}, activations {activations}, head {}", head(form)),
    }
}

/// The gate of the feed-forward block.
pub(crate) fn gate_function(gate: GateFunction) -> &'static str {
    match gate {
        GateFunction::Relu2 => "relu2",
        GateFunction::Silu => "silu",
    }
}
