//! A fault as a decorator of any domain: the same walk, with the faulted parts recomputed.
//!
//! | struck | what the decorator does |
//! |---|---|
//! | a weight | computes the faulted outputs as one-row layers, puts their columns in place |
//! | a scale | walks the same codes under the other scale, or other scales of blocks |
//! | a gain | walks the norm with the other gains |
//! | a row of the head | like a weight code |
//! | the embedding | nothing: see [`embed_with`], which stands before the walk |
//! | a stored key or value | between two queries: those before the step see the clean bit |
//!
//! Invariant: the decorated walk gives, bit for bit, what the inner domain gives on the physically
//! flipped model (tested for every target). It holds since an output of a linear layer depends on
//! its own row only, and a query on what the store holds when it attends.

use std::ops::Range;

use engine::model::{Activations, Float, Gate, KvPlace, Linear, Model, Norm, Rope, Side};
use engine::walk::{Domain, Exact, Site, Step};
use ndarray::Array2;

use crate::overlay::Overlay;

/// A domain whose key-value store has bits that can be struck.
pub trait Strike {
    /// Flips one stored bit.
    fn strike(&mut self, layer: usize, side: Side, place: KvPlace, bit: u8);

    /// Flips one bit of the scale of a token and head.
    fn strike_scale(&mut self, layer: usize, side: Side, place: KvPlace, bit: u8);
}

impl Strike for Exact {
    fn strike(&mut self, layer: usize, side: Side, place: KvPlace, bit: u8) {
        let cache = &mut self.caches[layer];
        match side {
            Side::Key => cache.keys.flip(place, bit),
            Side::Value => cache.values.flip(place, bit),
        }
    }

    fn strike_scale(&mut self, layer: usize, side: Side, place: KvPlace, bit: u8) {
        let cache = &mut self.caches[layer];
        let store = match side {
            Side::Key => &mut cache.keys,
            Side::Value => &mut cache.values,
        };
        store.flip_scale(place.token, place.head, bit);
    }
}

/// How a strike reaches the inner domain.
type StrikeWith<D> = fn(&mut D, usize, Side, KvPlace, u8);

/// A domain under a fault.
#[derive(Debug)]
pub struct Faulty<'a, D> {
    inner: D,
    overlay: &'a Overlay,
    /// Of entries, and of scales.
    strike: Option<[StrikeWith<D>; 2]>,
    /// Which of the overlay's strikes have fallen.
    fallen: Vec<bool>,
}

impl<'a, D: Domain + Strike> Faulty<'a, D> {
    /// A domain under any fault.
    pub fn new(inner: D, overlay: &'a Overlay) -> Self {
        let fallen = vec![false; overlay.strikes.len()];
        Self { inner, overlay, strike: Some([D::strike, D::strike_scale]), fallen }
    }
}

impl<'a, D: Domain> Faulty<'a, D> {
    /// A domain whose store has no bits, such as a domain of sets, under a fault of weights only.
    ///
    /// # Panics
    /// If the fault strikes the key-value store.
    pub fn weights_only(inner: D, overlay: &'a Overlay) -> Self {
        assert!(overlay.strikes.is_empty(), "this domain has no stored bits to strike");
        Self { inner, overlay, strike: None, fallen: Vec::new() }
    }

    /// The domain under the fault, with its state.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// Lets the strikes fall on a layer that come before the query at a position.
    fn fall(&mut self, layer: usize, position: usize) {
        for (flip, fallen) in self.overlay.strikes.iter().zip(&mut self.fallen) {
            if flip.layer == layer && flip.step <= position && !*fallen {
                let strike = self.strike.expect("a domain with stored bits");
                strike[usize::from(flip.scale)](
                    &mut self.inner,
                    layer,
                    flip.side,
                    flip.place,
                    flip.bit,
                );
                *fallen = true;
            }
        }
    }

    /// The first position after `position`, and below `end`, at which a strike falls on a layer.
    fn next_strike(&self, layer: usize, position: usize, end: usize) -> usize {
        let flips = self.overlay.strikes.iter().filter(|flip| flip.layer == layer);
        flips.map(|flip| flip.step).find(|step| (position + 1..end).contains(step)).unwrap_or(end)
    }
}

impl<D: Domain> Domain for Faulty<'_, D> {
    type Rows = D::Rows;
    type Prepared = D::Prepared;

    fn norm(&mut self, at: Site, x: &D::Rows, norm: &Norm) -> D::Rows {
        let Step::Norm(slot) = at.step else { return self.inner.norm(at, x, norm) };
        let norm = self.overlay.norms.get(&(at.layer, slot)).unwrap_or(norm);
        self.inner.norm(at, x, norm)
    }

    fn prepare(&mut self, at: Site, x: &D::Rows, policy: Activations) -> D::Prepared {
        self.inner.prepare(at, x, policy)
    }

    fn linear(&mut self, at: Site, x: &D::Prepared, linear: &Linear) -> D::Rows {
        let Step::Linear(slot) = at.step else { return self.inner.linear(at, x, linear) };
        let Some(patch) = self.overlay.linears.get(&(at.layer, slot)) else {
            return self.inner.linear(at, x, linear);
        };
        let mut out = self.inner.linear(at, x, patch.whole.as_ref().unwrap_or(linear));
        for (row, one) in &patch.rows {
            let column = self.inner.linear(at, x, one);
            self.inner.replace_column(&mut out, *row, &column);
        }
        out
    }

    fn rope(&mut self, at: Site, x: D::Rows, rope: &Rope, first: usize) -> D::Rows {
        self.inner.rope(at, x, rope, first)
    }

    fn store(&mut self, at: Site, keys: D::Rows, values: D::Rows) {
        self.inner.store(at, keys, values);
    }

    fn attend(&mut self, at: Site, queries: &D::Rows, first: usize) -> D::Rows {
        let end = first + self.inner.count(queries);
        let mut start = first;
        let mut mixed: Option<D::Rows> = None;
        while start < end || mixed.is_none() {
            self.fall(at.layer, start);
            let stop = self.next_strike(at.layer, start, end);
            let part = if (start, stop) == (first, end) {
                return self.inner.attend(at, queries, first);
            } else {
                let rows = self.inner.select(queries, start - first..stop - first);
                self.inner.attend(at, &rows, start)
            };
            mixed = Some(match mixed {
                Some(above) => self.inner.stack(&above, &part),
                None => part,
            });
            start = stop;
        }
        mixed.expect("at least one part")
    }

    fn gate(&mut self, at: Site, gate: &D::Rows, up: &D::Rows, kind: Gate) -> D::Rows {
        self.inner.gate(at, gate, up, kind)
    }

    fn add(&mut self, at: Site, stream: &D::Rows, update: &D::Rows) -> D::Rows {
        self.inner.add(at, stream, update)
    }

    fn logits(&mut self, at: Site, x: &D::Rows, head: &Float) -> D::Rows {
        let mut out = self.inner.logits(at, x, head);
        for (row, one) in &self.overlay.head {
            let column = self.inner.logits(at, x, one);
            self.inner.replace_column(&mut out, *row, &column);
        }
        out
    }

    fn coded_logits(&mut self, at: Site, x: &D::Prepared, head: &Linear) -> D::Rows {
        let mut out = self.inner.coded_logits(at, x, head);
        for (row, one) in &self.overlay.coded_head {
            let column = self.inner.coded_logits(at, x, one);
            self.inner.replace_column(&mut out, *row, &column);
        }
        out
    }

    fn count(&self, x: &D::Rows) -> usize {
        self.inner.count(x)
    }

    fn select(&self, x: &D::Rows, rows: Range<usize>) -> D::Rows {
        self.inner.select(x, rows)
    }

    fn reshape(&self, x: D::Rows, width: usize) -> D::Rows {
        self.inner.reshape(x, width)
    }

    fn stack(&self, above: &D::Rows, below: &D::Rows) -> D::Rows {
        self.inner.stack(above, below)
    }

    fn replace_column(&self, x: &mut D::Rows, index: usize, column: &D::Rows) {
        self.inner.replace_column(x, index, column);
    }
}

/// The embeddings of token ids under a fault, `[tokens, hidden]`.
///
/// # Errors
/// The first id that lies outside the vocabulary.
pub fn embed_with(model: &Model, ids: &[u32], overlay: &Overlay) -> Result<Array2<f32>, u32> {
    let mut rows = model.embed(ids)?;
    for (mut row, &id) in rows.rows_mut().into_iter().zip(ids) {
        if let Some(values) = overlay.embedding.get(&(id as usize)) {
            row.as_slice_mut().expect("a standard row").copy_from_slice(values);
        }
    }
    Ok(rows)
}
