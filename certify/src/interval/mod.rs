//! The domain of boxes: interval bound propagation over the engine's own f32 program.
//!
//! A step is bounded twice and the bounds are intersected. *End points*: the engine's own program,
//! in its own order, run at the corner of the box where each rounded operation is extreme; exact on
//! points, so that a box of radius 0 gives the bits of inference. *Hulls*: the exact range over the
//! reals, widened by a proven bound of the engine's rounding errors; tight on wide boxes.
//!
//! Where a bound is not finite, or crosses, the domain records the site as [`Diverged`] and stops:
//! nothing is repaired, and nothing is certified.

mod attend;
mod boxes;
mod gate;
mod kv;
mod linear;
mod margin;
mod norm;
mod quantize;
mod round;
mod spare;

use std::ops::Range;
use std::sync::Arc;

use engine::kernels::Kernels;
use engine::model::{Activations, Float, Gate, KvKind, Linear, Model, Norm, Rope, Slot};
use engine::walk::{Domain, Site, Step, rows_of};
use ndarray::{Array2, Axis, Zip, concatenate, s};

pub(crate) use attend::mix_error;
pub use boxes::Boxes;
use boxes::{Origin, by_row, row_of};
use kv::BoxCache;
pub(crate) use linear::{factor_range, is_tame};
pub use margin::{Margin, Margins};
pub(crate) use norm::{finite, regular};
pub use quantize::BoxPrepared;
pub(crate) use round::UNIT;
pub use round::{down, up};
use spare::Spare;

/// Where a bound was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diverged {
    /// The first step whose bound is not finite or crosses.
    pub site: Site,
}

/// How wide the boxes behind a step are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Width {
    /// The step.
    pub site: Site,
    /// The median width.
    pub median: f32,
    /// The largest width.
    pub most: f32,
}

impl Width {
    fn of(site: Site, boxes: &Boxes) -> Self {
        let mut widths: Vec<f32> = boxes.widths().into_iter().collect();
        let middle = widths.len() / 2;
        let (_, &mut median, above) = widths.select_nth_unstable_by(middle, f32::total_cmp);
        let most = above.iter().copied().fold(median, |most, w| if w > most { w } else { most });
        Self { site, median, most }
    }
}

/// The ranges of the integer sums of one row, token by token.
pub type Ranges = Vec<(i32, i32)>;

/// Ranges of the values of a row, head by head.
pub(crate) type Stored = Vec<(f64, f64)>;

/// The domain of boxes.
#[derive(Clone, Debug)]
pub struct Interval {
    kernels: &'static Kernels,
    kind: KvKind,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    caches: Vec<BoxCache>,
    diverged: Option<Diverged>,
    claims: Vec<Margin>,
    margins: Margins,
    trace: Option<Vec<Width>>,
    spare: Spare,
}

impl Interval {
    /// An empty state for a model; `claims` are the margins to bound when the walk reaches the
    /// head.
    #[must_use]
    pub fn new(kernels: &'static Kernels, model: &Model, kv: KvKind, claims: Vec<Margin>) -> Self {
        let config = &model.config;
        Self {
            kernels,
            kind: kv,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            caches: vec![BoxCache::new(config.kv_heads); model.layers.len()],
            diverged: None,
            claims,
            margins: Margins::default(),
            trace: None,
            spare: Spare::default(),
        }
    }

    /// Where the bound was lost, if it was.
    #[must_use]
    pub fn diverged(&self) -> Option<Diverged> {
        self.diverged
    }

    /// The lower bounds of the claimed margins, one a claim, once the walk has reached the head.
    ///
    /// Empty if the bound was lost on the way.
    #[must_use]
    pub fn margins(&self) -> &[f64] {
        match self.diverged {
            Some(_) => &[],
            None => &self.margins.lower,
        }
    }

    /// The boxes of the keys and of the values of a token, as they are read back.
    pub(crate) fn stored(&self, layer: usize, token: usize) -> (Stored, Stored) {
        let cache = &self.caches[layer];
        let of = |heads: &[kv::Ends]| -> Stored {
            let at = token * self.head_dim..(token + 1) * self.head_dim;
            let ends = |head: &kv::Ends| -> Stored {
                let ends = head.lo[at.clone()].iter().zip(&head.hi[at.clone()]);
                ends.map(|(&lo, &hi)| (f64::from(lo), f64::from(hi))).collect()
            };
            heads.iter().flat_map(ends).collect()
        };
        (of(&cache.keys), of(&cache.values))
    }

    /// Records the widths behind every step from now on.
    pub fn trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// The widths behind every step since [`Self::trace`].
    #[must_use]
    pub fn traced(&self) -> &[Width] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// Passes boxes on if they are sound; else records where the bound was lost.
    fn checked(&mut self, at: Site, boxes: Boxes) -> Boxes {
        if self.diverged.is_none() && !boxes.sound() {
            self.diverged = Some(Diverged { site: at });
        }
        if let (Some(trace), None) = (&mut self.trace, self.diverged) {
            trace.push(Width::of(at, &boxes));
        }
        boxes
    }

    /// Runs a step, or, once a bound is lost, only gives rows of the right shape.
    fn step(
        &mut self,
        at: Site,
        shape: (usize, usize),
        run: impl FnOnce(&mut Self) -> Boxes,
    ) -> Boxes {
        if self.diverged.is_some() {
            return Boxes::point(&Array2::zeros(shape));
        }
        let boxes = run(self);
        self.checked(at, boxes)
    }
}

impl Domain for Interval {
    type Rows = Boxes;
    type Prepared = BoxPrepared;

    fn norm(&mut self, at: Site, x: &Boxes, norm: &Norm) -> Boxes {
        self.step(at, x.lo.dim(), |domain| norm::norm((domain.kernels, &mut domain.spare), x, norm))
    }

    fn prepare(&mut self, at: Site, x: &Boxes, policy: Activations) -> BoxPrepared {
        if self.diverged.is_some() {
            let none = Boxes::point(&Array2::zeros(x.lo.dim()));
            return quantize::prepare(self.kernels, &none, policy).0;
        }
        let (prepared, sound) = quantize::prepare(self.kernels, x, policy);
        if !sound {
            self.diverged = Some(Diverged { site: at });
        }
        prepared
    }

    fn linear(&mut self, at: Site, x: &BoxPrepared, linear: &Linear) -> Boxes {
        let shape = (x.rows(), linear.outputs());
        // Sums are of use where gate and up meet.
        let sums = matches!(at.step, Step::Linear(Slot::Gate | Slot::Up));
        self.step(at, shape, |domain| {
            let memory = (domain.kernels, &mut domain.spare);
            linear::linear(memory, x, linear, sums)
        })
    }

    fn rope(&mut self, at: Site, x: Boxes, rope: &Rope, first: usize) -> Boxes {
        self.step(at, x.lo.dim(), |_| linear::rope(x, rope, first))
    }

    fn store(&mut self, at: Site, keys: Boxes, values: Boxes) {
        let (kind, head_dim) = (self.kind, self.head_dim);
        if self.diverged.is_none() {
            let sound = self.caches[at.layer].push(kind, head_dim, &keys, &values);
            if !sound {
                self.diverged = Some(Diverged { site: at });
            }
        }
        [keys, values].into_iter().for_each(|boxes| self.spare.keep(boxes));
    }

    fn attend(&mut self, at: Site, queries: &Boxes, first: usize) -> Boxes {
        self.step(at, queries.lo.dim(), |domain| domain.attention(at.layer, queries, first))
    }

    fn gate(&mut self, at: Site, gate: &Boxes, up: &Boxes, kind: Gate) -> Boxes {
        self.step(at, gate.lo.dim(), |domain| {
            gate::gate((domain.kernels, &mut domain.spare), gate, up, kind)
        })
    }

    fn add(&mut self, at: Site, stream: &Boxes, update: &Boxes) -> Boxes {
        self.step(at, stream.lo.dim(), |domain| {
            let mut sum = domain.spare.boxes(stream.lo.dim());
            let plus = |sum: &mut f32, a: &f32, b: &f32| *sum = a + b;
            Zip::from(&mut sum.lo).and(&stream.lo).and(&update.lo).for_each(plus);
            Zip::from(&mut sum.hi).and(&stream.hi).and(&update.hi).for_each(plus);
            sum
        })
    }

    fn logits(&mut self, at: Site, x: &Boxes, head: &Float) -> Boxes {
        let shape = (x.lo.nrows(), head.rows());
        let claims = self.claims.clone();
        self.step(at, shape, |domain| {
            let boxes = linear::head(domain.kernels, x, head);
            domain.margins = margin::margins(&claims, x, &boxes, head);
            boxes
        })
    }

    fn coded_logits(&mut self, at: Site, x: &BoxPrepared, head: &Linear) -> Boxes {
        let shape = (x.rows(), head.outputs());
        let claims = self.claims.clone();
        self.step(at, shape, |domain| {
            let memory = (domain.kernels, &mut domain.spare);
            let boxes = linear::linear(memory, x, head, false);
            domain.margins = margin::coded_margins(&claims, x, &boxes, head);
            boxes
        })
    }

    fn discard(&mut self, boxes: Boxes) {
        self.spare.keep(boxes);
    }

    fn count(&self, x: &Boxes) -> usize {
        x.lo.nrows()
    }

    fn select(&self, x: &Boxes, rows: Range<usize>) -> Boxes {
        let ends = |end: &Array2<f32>| end.slice(s![rows.clone(), ..]).to_owned();
        let origin = match &x.origin {
            Origin::Normed(normed) => Origin::Normed(Arc::new(normed.select(rows.clone()))),
            _ => Origin::Plain,
        };
        Boxes { lo: ends(&x.lo), hi: ends(&x.hi), origin }
    }

    fn reshape(&self, x: Boxes, width: usize) -> Boxes {
        Boxes::new(rows_of(x.lo, width), rows_of(x.hi, width))
    }

    fn stack(&self, above: &Boxes, below: &Boxes) -> Boxes {
        let ends = |a: &Array2<f32>, b: &Array2<f32>| {
            concatenate(Axis(0), &[a.view(), b.view()]).expect("rows of one width")
        };
        Boxes::new(ends(&above.lo, &below.lo), ends(&above.hi, &below.hi))
    }

    fn replace_column(&self, x: &mut Boxes, index: usize, column: &Boxes) {
        x.lo.column_mut(index).assign(&column.lo.column(0));
        x.hi.column_mut(index).assign(&column.hi.column(0));
        x.origin = Origin::Plain;
    }
}
