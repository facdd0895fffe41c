//! A long prompt in two parts, each a layer behind the other at least, so that the threads of a
//! pool meet seldom.
//!
//! Within a step threads share its runs of outputs, and all wait for the last of them: beside
//! another program one of the threads loses its processor in the middle of a run, for longer than a
//! whole step takes, and the others idle. With two parts there is another layer to go on with.
//!
//! Layer `l` of a part waits for layer `l - 1` of the same part and for layer `l` of the part
//! before it, whose keys and values it reads; nothing ever blocks a thread. Invariant: the same
//! walk at two positions, so the same bits.

use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use ndarray::{Array2, Axis, concatenate, s};
use rayon::Scope;

use super::{Domain, Exact, LayerCache, Read, layer};
use crate::model::{Model, Slot};

/// Three parts or four cost more, in products of fewer rows, than their looser steps gain.
const PARTS: usize = 2;
/// Rows that a part has at least: each reads all weights.
const LEAST: usize = 32;
/// The multiplications of a layer from which on its steps are long enough to be worth it.
const WORK: usize = 1 << 28;

/// One part of the rows on its way through the layers.
struct Part {
    state: Exact,
    x: Array2<f32>,
    first: usize,
}

struct Wave<'a> {
    model: &'a Model,
    layers: Range<usize>,
    read: Read,
    parts: Vec<Mutex<Part>>,
    caches: Vec<Mutex<LayerCache>>,
    /// By layer and part, how many of the two that it waits for are not done.
    left: Vec<[AtomicU8; PARTS]>,
}

/// Whether a prompt of so many rows goes in parts.
fn pays(model: &Model, rows: usize, layers: &Range<usize>) -> bool {
    let weights = |layer: usize| -> usize {
        let linear = |slot| model.layers[layer].linear(slot);
        Slot::ALL.map(linear).iter().map(|l| l.outputs() * l.inputs()).sum()
    };
    rayon::current_num_threads() > 1
        && rows >= PARTS * LEAST
        && layers.len() > 1
        && weights(layers.start) * rows >= WORK
}

/// The rows that leave the last of some layers; `None` where they had better go together.
pub(super) fn run(
    state: &mut Exact,
    model: &Model,
    x: &Array2<f32>,
    layers: Range<usize>,
    (first, read): (usize, Read),
) -> Option<Array2<f32>> {
    let rows = x.nrows();
    if !pays(model, rows, &layers) {
        return None;
    }
    let part = |index: usize| {
        let (from, to) = (index * rows / PARTS, (index + 1) * rows / PARTS);
        let x = x.slice(s![from..to, ..]).to_owned();
        Mutex::new(Part { state: state.beside(), x, first: first + from })
    };
    let left = |layer: usize| {
        let of = |part: usize| AtomicU8::new(u8::from(layer > layers.start) + u8::from(part > 0));
        std::array::from_fn(of)
    };
    let wave = Wave {
        model,
        read,
        parts: (0..PARTS).map(part).collect(),
        left: layers.clone().map(left).collect(),
        caches: state.caches.drain(..).map(Mutex::new).collect(),
        layers,
    };
    rayon::scope(|scope| wave.carry(scope, wave.layers.start, 0));
    let cache =
        |cache: Mutex<LayerCache>| cache.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.caches = wave.caches.into_iter().map(cache).collect();
    let whole = |part: Mutex<Part>| part.into_inner().unwrap_or_else(PoisonError::into_inner).x;
    let parts: Vec<_> = wave.parts.into_iter().map(whole).collect();
    let wanted = if read == Read::Last { &parts[PARTS - 1..] } else { &parts[..] };
    let views: Vec<_> = wanted.iter().map(|part| part.view()).collect();
    Some(concatenate(Axis(0), &views).expect("rows of one width"))
}

impl Wave<'_> {
    /// Takes a part through a layer, and whatever waited for that alone.
    fn carry<'s>(&'s self, scope: &Scope<'s>, layer: usize, part: usize) {
        let mut next = Some((layer, part));
        while let Some((layer, part)) = next {
            self.step(layer, part);
            next = self.ready(layer + 1, part);
            if let Some((layer, part)) = self.ready(layer, part + 1) {
                scope.spawn(move |scope| self.carry(scope, layer, part));
            }
        }
    }

    /// Counts one that it waited for as done; the part and layer, if it was the last.
    fn ready(&self, layer: usize, part: usize) -> Option<(usize, usize)> {
        let exists = layer < self.layers.end && part < PARTS;
        let left = exists.then(|| &self.left[layer - self.layers.start][part])?;
        (left.fetch_sub(1, Ordering::AcqRel) == 1).then_some((layer, part))
    }

    fn step(&self, index: usize, part: usize) {
        let lock = "no other thread panicked in this part";
        let part = &mut *self.parts[part].lock().expect(lock);
        let cache = &mut *self.caches[index].lock().expect(lock);
        mem::swap(cache, &mut part.state.caches[index]);
        let read = if index + 1 == self.model.layers.len() { self.read } else { Read::All };
        let next = layer(&mut part.state, self.model, index, &part.x, part.first, read);
        part.state.discard(mem::replace(&mut part.x, next));
        mem::swap(cache, &mut part.state.caches[index]);
    }
}
