//! The transformer, once: its steps in order, generic over what a step means.
//!
//! Invariant: this is the only place that knows the order of the steps. A [`Domain`] knows what
//! each whole tensor step means (numbers, boxes, a tape of operations) and nothing of their order.
//!
//! Every output row depends on its own prefix only, in one fixed order; so prefill and
//! token-by-token decoding are the same walk at different positions and give the same bits.

mod attention;
mod batch;
mod exact;
mod spare;
mod wave;

use std::mem;
use std::ops::Range;

pub use batch::Batch;
pub use exact::{
    Codes, Exact, ExactPrepared, LayerCache, quantize_row, rows_of, scaled, score_scale,
};

pub use spare::Spare;

use crate::model::{Activations, Float, Gate, Linear, Model, Norm, NormSlot, Rope, Slot};

/// A step of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// An RMSNorm.
    Norm(NormSlot),
    /// The input of a linear layer is quantised; shared by the layers that read it.
    Prepare(Slot),
    /// The normed rows are quantised for a head of integers.
    PrepareHead,
    /// A linear layer.
    Linear(Slot),
    /// Queries or keys are turned to their positions.
    Rope(Slot),
    /// Keys and values enter their store.
    Store,
    /// Attention of the query rows over the store.
    Attend,
    /// The gate of the feed-forward block.
    Gate,
    /// The residual addition behind attention.
    AddAttention,
    /// The residual addition behind the feed-forward block.
    AddFfn,
    /// The head.
    Logits,
}

/// Where the walk stands; the final norm and the head count as the layer behind the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The layer.
    pub layer: usize,
    /// The step in it.
    pub step: Step,
}

/// Which rows of the logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    /// All of them.
    All,
    /// The last one; the last layer then computes only that row behind its keys and values.
    Last,
}

/// The meaning of each whole tensor step. Rows are `[tokens, width]`, in whatever the domain holds.
pub trait Domain {
    /// Rows of values.
    type Rows: Clone;
    /// Rows as the linear layers read them.
    type Prepared;

    /// RMSNorm of every row.
    fn norm(&mut self, at: Site, x: &Self::Rows, norm: &Norm) -> Self::Rows;
    /// The input of linear layers under an activation policy.
    fn prepare(&mut self, at: Site, x: &Self::Rows, policy: Activations) -> Self::Prepared;
    /// A linear layer without its inner norm.
    fn linear(&mut self, at: Site, x: &Self::Prepared, linear: &Linear) -> Self::Rows;
    /// Turns every head of every row; the first row stands at position `first`.
    fn rope(&mut self, at: Site, x: Self::Rows, rope: &Rope, first: usize) -> Self::Rows;
    /// Appends keys and values to the store of the layer.
    fn store(&mut self, at: Site, keys: Self::Rows, values: Self::Rows);
    /// Attention of query rows over the store: the row at position `p` sees tokens `0..=p`.
    fn attend(&mut self, at: Site, queries: &Self::Rows, first: usize) -> Self::Rows;
    /// The gated product of the feed-forward block.
    fn gate(&mut self, at: Site, gate: &Self::Rows, up: &Self::Rows, kind: Gate) -> Self::Rows;
    /// The residual addition.
    fn add(&mut self, at: Site, stream: &Self::Rows, update: &Self::Rows) -> Self::Rows;
    /// The head on normed rows.
    fn logits(&mut self, at: Site, x: &Self::Rows, head: &Float) -> Self::Rows;
    /// A head of integers on normed rows that were quantised for it.
    fn coded_logits(&mut self, at: Site, x: &Self::Prepared, head: &Linear) -> Self::Rows;

    /// Takes rows that nothing reads any more, to use their memory again.
    fn discard(&mut self, rows: Self::Rows) {
        drop(rows);
    }
    /// The rows that leave the last of some layers, if the domain has a faster way than one layer
    /// behind the other.
    fn through(
        &mut self,
        model: &Model,
        x: &Self::Rows,
        layers: Range<usize>,
        (first, read): (usize, Read),
    ) -> Option<Self::Rows> {
        let _ = (model, x, layers, first, read);
        None
    }
    /// How many rows there are.
    fn count(&self, x: &Self::Rows) -> usize;
    /// Some of the rows.
    fn select(&self, x: &Self::Rows, rows: Range<usize>) -> Self::Rows;
    /// The same values, row behind row, in rows of another width.
    fn reshape(&self, x: Self::Rows, width: usize) -> Self::Rows;
    /// Rows below other rows of the same width.
    fn stack(&self, above: &Self::Rows, below: &Self::Rows) -> Self::Rows;
    /// Replaces one column by the only column of `column`.
    fn replace_column(&self, x: &mut Self::Rows, index: usize, column: &Self::Rows);
}

/// A linear layer with its inner norm, if it has one.
fn linear<D: Domain>(
    domain: &mut D,
    (index, slot): (usize, Slot),
    normed: &D::Rows,
    layer: &Linear,
) -> D::Rows {
    let at = |step| Site { layer: index, step };
    let inner = layer
        .norm
        .as_ref()
        .map(|norm| domain.norm(at(Step::Norm(NormSlot::Inside(slot))), normed, norm));
    let rows = inner.as_ref().unwrap_or(normed);
    let prepared = domain.prepare(at(Step::Prepare(slot)), rows, layer.policy());
    let out = domain.linear(at(Step::Linear(slot)), &prepared, layer);
    if let Some(inner) = inner {
        domain.discard(inner);
    }
    out
}

/// Linear layers that read the same rows: prepared once where they may share it.
fn linears<D: Domain, const N: usize>(
    domain: &mut D,
    model: &Model,
    index: usize,
    slots: [Slot; N],
    normed: &D::Rows,
) -> [D::Rows; N] {
    let layers = slots.map(|slot| model.layers[index].linear(slot));
    let policy = layers[0].policy();
    let shared = layers.iter().all(|l| l.norm.is_none() && l.policy() == policy);
    if !shared {
        return slots
            .map(|slot| linear(domain, (index, slot), normed, model.layers[index].linear(slot)));
    }
    let at = |step| Site { layer: index, step };
    let prepared = domain.prepare(at(Step::Prepare(slots[0])), normed, policy);
    slots.map(|slot| {
        domain.linear(at(Step::Linear(slot)), &prepared, model.layers[index].linear(slot))
    })
}

/// One layer: the stream that enters it (first row at position `first`) to the stream that leaves.
///
/// With [`Read::Last`] the keys and values of all rows are stored, and only the last row leaves.
pub fn layer<D: Domain>(
    domain: &mut D,
    model: &Model,
    index: usize,
    x: &D::Rows,
    first: usize,
    read: Read,
) -> D::Rows {
    let between = attention_block(domain, model, index, x, first, read);
    let leaving = ffn_block(domain, model, index, &between);
    domain.discard(between);
    leaving
}

/// The attention half of a layer: the stream before it to the stream behind its residual addition.
pub fn attention_block<D: Domain>(
    domain: &mut D,
    model: &Model,
    index: usize,
    x: &D::Rows,
    first: usize,
    read: Read,
) -> D::Rows {
    let rows = domain.count(x);
    let narrow = read == Read::Last && rows > 1;
    let update = attention(domain, model, index, x, first, narrow);
    let last = narrow.then(|| domain.select(x, rows - 1..rows));
    let at = Site { layer: index, step: Step::AddAttention };
    let sum = domain.add(at, last.as_ref().unwrap_or(x), &update);
    domain.discard(update);
    sum
}

/// The feed-forward half of a layer, likewise.
pub fn ffn_block<D: Domain>(domain: &mut D, model: &Model, index: usize, x: &D::Rows) -> D::Rows {
    let update = feed_forward(domain, model, index, x);
    let sum = domain.add(Site { layer: index, step: Step::AddFfn }, x, &update);
    domain.discard(update);
    sum
}

/// The attention block up to its residual addition; only the last row of it if `narrow`.
///
/// A block of its own, so that nothing of it outlives it: rows may be large in some domains.
fn attention<D: Domain>(
    domain: &mut D,
    model: &Model,
    index: usize,
    x: &D::Rows,
    first: usize,
    narrow: bool,
) -> D::Rows {
    let block = &model.layers[index];
    let at = |step| Site { layer: index, step };
    let rows = domain.count(x);
    let normed = domain.norm(at(Step::Norm(NormSlot::Input)), x, &block.input_norm);
    let (first_query, [q, k, v]) = if narrow {
        let [k, v] = linears(domain, model, index, [Slot::K, Slot::V], &normed);
        let last = domain.select(&normed, rows - 1..rows);
        let [q] = linears(domain, model, index, [Slot::Q], &last);
        (first + rows - 1, [q, k, v])
    } else {
        (first, linears(domain, model, index, [Slot::Q, Slot::K, Slot::V], &normed))
    };
    domain.discard(normed);
    let q = by_head(domain, at(Step::Norm(NormSlot::Query)), q, block.query_norm.as_ref(), model);
    let k = by_head(domain, at(Step::Norm(NormSlot::Key)), k, block.key_norm.as_ref(), model);
    let q = domain.rope(at(Step::Rope(Slot::Q)), q, &model.rope, first_query);
    let k = domain.rope(at(Step::Rope(Slot::K)), k, &model.rope, first);
    domain.store(at(Step::Store), k, v);
    let mut mixed = domain.attend(at(Step::Attend), &q, first_query);
    domain.discard(q);
    if let Some(norm) = &block.attention_sub_norm {
        let normed = domain.norm(at(Step::Norm(NormSlot::AttentionSub)), &mixed, norm);
        domain.discard(mem::replace(&mut mixed, normed));
    }
    let out = linear(domain, (index, Slot::O), &mixed, block.linear(Slot::O));
    domain.discard(mixed);
    out
}

/// The norm of each head of queries or keys, if the family has one.
fn by_head<D: Domain>(
    domain: &mut D,
    at: Site,
    x: D::Rows,
    norm: Option<&Norm>,
    model: &Model,
) -> D::Rows {
    let Some(norm) = norm else { return x };
    let width = if at.step == Step::Norm(NormSlot::Query) {
        model.config.query_width()
    } else {
        model.config.kv_width()
    };
    let heads = domain.reshape(x, model.config.head_dim);
    let normed = domain.norm(at, &heads, norm);
    domain.reshape(normed, width)
}

/// The feed-forward block up to its residual addition.
fn feed_forward<D: Domain>(domain: &mut D, model: &Model, index: usize, x: &D::Rows) -> D::Rows {
    let block = &model.layers[index];
    let at = |step| Site { layer: index, step };
    let normed = domain.norm(at(Step::Norm(NormSlot::Post)), x, &block.post_norm);
    let [gate, up] = linears(domain, model, index, [Slot::Gate, Slot::Up], &normed);
    domain.discard(normed);
    let mut gated = domain.gate(at(Step::Gate), &gate, &up, model.config.gate);
    domain.discard(gate);
    domain.discard(up);
    if let Some(norm) = &block.ffn_sub_norm {
        let normed = domain.norm(at(Step::Norm(NormSlot::FfnSub)), &gated, norm);
        domain.discard(mem::replace(&mut gated, normed));
    }
    let out = linear(domain, (index, Slot::Down), &gated, block.linear(Slot::Down));
    domain.discard(gated);
    out
}

/// The final norm and the head.
pub fn head<D: Domain>(domain: &mut D, model: &Model, x: &D::Rows) -> D::Rows {
    let at = |step| Site { layer: model.layers.len(), step };
    let normed = domain.norm(at(Step::Norm(NormSlot::Final)), x, &model.final_norm);
    match &model.coded_head {
        None => domain.logits(at(Step::Logits), &normed, &model.head),
        Some(head) => {
            let prepared = domain.prepare(at(Step::PrepareHead), &normed, head.activations);
            domain.coded_logits(at(Step::Logits), &prepared, head)
        }
    }
}

/// The whole walk from layer `from` on: the stream that enters it to logits.
///
/// `first` is the position of the first row: 0 for a prompt, the number of tokens stored so far for
/// a decoding step.
pub fn run<D: Domain>(
    domain: &mut D,
    model: &Model,
    stream: &D::Rows,
    from: usize,
    first: usize,
    read: Read,
) -> D::Rows {
    let layers = from..model.layers.len();
    let through = domain.through(model, stream, layers.clone(), (first, read));
    let mut x = through.unwrap_or_else(|| {
        let mut x = stream.clone();
        for index in layers {
            let wanted = if index + 1 == model.layers.len() { read } else { Read::All };
            let next = layer(domain, model, index, &x, first, wanted);
            domain.discard(mem::replace(&mut x, next));
        }
        x
    });
    if read == Read::Last && domain.count(&x) > 1 {
        x = domain.select(&x, domain.count(&x) - 1..domain.count(&x));
    }
    head(domain, model, &x)
}

/// The streams that enter each layer, and behind them the one that leaves the last.
pub fn streams<D: Domain>(domain: &mut D, model: &Model, embedded: &D::Rows) -> Vec<D::Rows> {
    let mut all = vec![embedded.clone()];
    for index in 0..model.layers.len() {
        let next = layer(domain, model, index, &all[index], 0, Read::All);
        all.push(next);
    }
    all
}
