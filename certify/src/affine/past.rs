//! What values of the last layer were made of, for margins that look behind them.

use std::ops::Range;
use std::sync::Arc;

use super::form::{Form, Span};
use super::second::curved::{Behind, NormedGate};
use super::sites::Reading;

/// What a row was made of.
#[derive(Clone, Debug)]
pub(super) enum Past {
    /// Mixed by attention.
    Mixed(Arc<Mix>),
    /// An output of attention.
    Output(Arc<Output>),
    /// The same on top of a stream.
    Added(Arc<Added>),
    /// A gated product.
    Gated(Arc<Behind>),
    /// A gated product behind its norm.
    NormedGate(NormedGate),
}

/// A row of attention.
#[derive(Clone, Debug)]
pub(super) struct Mix {
    pub(super) query: Arc<Form>,
    /// How many tokens it sees.
    pub(super) seen: usize,
    /// The shift of each centre for what is not linear.
    pub(super) shift: Vec<f64>,
    /// What the engine may be off.
    pub(super) error: Vec<f64>,
    /// The boxes of what is not linear, before they were symbols; 0 where a value was replaced by
    /// its box.
    pub(super) rest: Vec<f64>,
    /// The symbols that the boxes became, and the values they belong to.
    pub(super) span: Option<Span>,
    pub(super) values: Vec<usize>,
}

/// A row that the output layer of attention made.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// What the layer reads.
    pub(super) reading: Reading,
    pub(super) rounded: bool,
}

/// A stream with the output of attention on top.
#[derive(Clone, Debug)]
pub(super) struct Added {
    pub(super) stream: Arc<Form>,
    /// What the output layer reads.
    pub(super) reading: Reading,
    pub(super) rounded: bool,
}

impl Mix {
    /// The rows of its symbols in a form over spans.
    pub(super) fn rows(&self, spans: &[Span]) -> Option<Range<usize>> {
        let own = self.span?;
        let mut end = 0;
        let found = spans.iter().find(|span| {
            end += span.count;
            span.first == own.first
        });
        found.map(|_| end - own.count..end)
    }
}

impl Past {
    /// A mix whose boxes became the symbols of a span of its form; `before` are the boxes.
    pub(super) fn settled(&self, span: Span, before: &[f64], form: &Form) -> Self {
        let Self::Mixed(mix) = self else { return self.clone() };
        let mut mix = Mix::clone(mix);
        mix.span = Some(span);
        mix.values = (0..before.len()).filter(|&k| before[k] > 0.0).collect();
        let linear = has_linear_part(form, span);
        for ((rest, before), linear) in mix.rest.iter_mut().zip(before).zip(linear) {
            // A value that was replaced by a box has no linear part, and knows nothing of what it
            // was made of.
            *rest = if linear && rest == before { *rest } else { 0.0 };
        }
        Self::Mixed(Arc::new(mix))
    }
}

/// Which values of a form move with symbols besides those of one span.
fn has_linear_part(form: &Form, but: Span) -> Vec<bool> {
    let width = form.width();
    let mut moves = vec![false; width];
    let firsts = form.spans.iter().flat_map(|span| (0..span.count).map(|_| span.first));
    for (first, row) in firsts.zip(form.g.chunks_exact(width)) {
        if first != but.first {
            moves.iter_mut().zip(row).for_each(|(moves, &x)| *moves |= x != 0.0);
        }
    }
    moves
}
