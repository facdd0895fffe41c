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
mod gate;
mod kv;
mod linear;
mod margin;
mod norm;
mod quantize;
mod round;

use std::ops::Range;
use std::sync::Arc;

use engine::kernels::Kernels;
use engine::model::{Activations, Float, Gate, KvKind, Linear, Model, Norm, Rope};
use engine::numerics::{max, min};
use engine::walk::{Domain, Site, rows_of};
use ndarray::{Array2, ArrayView1, Axis, concatenate, s};

pub(crate) use attend::mix_error;
use kv::BoxCache;
pub(crate) use linear::{factor_range, is_tame};
pub use margin::{Margin, Margins};
use norm::Normed;
pub(crate) use norm::{finite, regular};
pub use quantize::BoxPrepared;
pub(crate) use round::UNIT;
pub use round::{down, up};

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

/// Rows of boxes `[tokens, width]`: every value `v` that the engine may hold has `lo <= v <= hi`.
#[derive(Clone, Debug)]
pub struct Boxes {
    /// Lower ends.
    pub lo: Array2<f32>,
    /// Upper ends.
    pub hi: Array2<f32>,
    /// What the values are made of, where a later step can cancel something.
    origin: Origin,
}

/// What rows of values are made of, besides lying in their boxes.
#[derive(Clone, Debug, Default)]
enum Origin {
    /// Nothing is known.
    #[default]
    Plain,
    /// `g z / rms(z)`: the scale of `z` cancels in whatever is scale-free.
    Normed(Arc<Normed>),
    /// `factor * sums`: integer sums under one positive factor a row.
    Projected(Arc<linear::Projected>),
    /// `factor * z`: gated products of integer sums under one positive factor a row.
    Gated(Arc<gate::Gated>),
}

impl Boxes {
    /// Boxes from their ends.
    ///
    /// # Panics
    /// If the shapes differ.
    #[must_use]
    pub fn new(lo: Array2<f32>, hi: Array2<f32>) -> Self {
        assert_eq!(lo.dim(), hi.dim(), "both ends of one shape");
        Self { lo, hi, origin: Origin::Plain }
    }

    /// The boxes that hold one point each.
    #[must_use]
    pub fn point(x: &Array2<f32>) -> Self {
        Self::new(x.clone(), x.clone())
    }

    /// The ball of radius `epsilon` about `x` in the maximum norm; only rows of `moved` move.
    #[must_use]
    pub fn ball(x: &Array2<f32>, epsilon: f64, moved: &Range<usize>) -> Self {
        let end = |sign: f64| {
            Array2::from_shape_fn(x.raw_dim(), |(row, column)| {
                let value = x[[row, column]];
                if epsilon == 0.0 || !moved.contains(&row) {
                    return value;
                }
                let exact = f64::from(value) + sign * epsilon;
                if sign > 0.0 { up(exact.next_up()) } else { down(exact.next_down()) }
            })
        };
        Self::new(end(-1.0), end(1.0))
    }

    /// The widest of the boxes; NaN-free only if all ends are finite.
    #[must_use]
    pub fn widths(&self) -> Array2<f32> {
        &self.hi - &self.lo
    }

    /// Whether a point of the same shape lies inside (either zero counts as zero).
    #[must_use]
    pub fn contains(&self, x: &Array2<f32>) -> bool {
        x.dim() == self.lo.dim()
            && x.iter().zip(&self.lo).zip(&self.hi).all(|((x, lo), hi)| lo <= x && x <= hi)
    }

    /// Whether all bounds are finite and ordered.
    #[must_use]
    pub fn sound(&self) -> bool {
        self.lo.iter().zip(&self.hi).all(|(lo, hi)| lo.is_finite() && hi.is_finite() && lo <= hi)
    }

    /// Widens the boxes of one row to hold a point; what the values are made of is forgotten.
    pub(crate) fn include(&mut self, row: usize, point: ArrayView1<'_, f32>) {
        for (column, &value) in point.iter().enumerate() {
            let (lo, hi) = (&mut self.lo[[row, column]], &mut self.hi[[row, column]]);
            (*lo, *hi) = (min(*lo, value), max(*hi, value));
        }
        self.origin = Origin::Plain;
    }

    /// Narrows one box to a range that holds the value too; what the values are made of stays true.
    pub(crate) fn cut(&mut self, row: usize, column: usize, least: f64, most: f64) {
        let (lo, hi) = (&mut self.lo[[row, column]], &mut self.hi[[row, column]]);
        *lo = max(*lo, down(least));
        *hi = min(*hi, up(most));
        assert!(lo <= hi, "two bounds of one value meet");
    }

    /// Forgets what the values are made of: the boxes may then be widened by hand.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.origin = Origin::Plain;
        self
    }

    fn lo_row(&self, row: usize) -> &[f32] {
        let width = self.lo.ncols();
        &self.lo.as_slice().expect("standard rows")[row * width..(row + 1) * width]
    }

    fn hi_row(&self, row: usize) -> &[f32] {
        let width = self.hi.ncols();
        &self.hi.as_slice().expect("standard rows")[row * width..(row + 1) * width]
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
        self.step(at, x.lo.dim(), |_| norm::norm(x, norm))
    }

    fn prepare(&mut self, at: Site, x: &Boxes, policy: Activations) -> BoxPrepared {
        if self.diverged.is_some() {
            return quantize::prepare(&Boxes::point(&Array2::zeros(x.lo.dim())), policy);
        }
        let prepared = quantize::prepare(x, policy);
        if !prepared.sound() {
            self.diverged = Some(Diverged { site: at });
        }
        prepared
    }

    fn linear(&mut self, at: Site, x: &BoxPrepared, linear: &Linear) -> Boxes {
        let shape = (x.values.lo.nrows(), linear.outputs());
        self.step(at, shape, |domain| linear::linear(domain.kernels, x, linear))
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
    }

    fn attend(&mut self, at: Site, queries: &Boxes, first: usize) -> Boxes {
        self.step(at, queries.lo.dim(), |domain| domain.attention(at.layer, queries, first))
    }

    fn gate(&mut self, at: Site, gate: &Boxes, up: &Boxes, kind: Gate) -> Boxes {
        self.step(at, gate.lo.dim(), |_| gate::gate(gate, up, kind))
    }

    fn add(&mut self, at: Site, stream: &Boxes, update: &Boxes) -> Boxes {
        self.step(at, stream.lo.dim(), |_| {
            Boxes::new(&stream.lo + &update.lo, &stream.hi + &update.hi)
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
        let shape = (x.values.lo.nrows(), head.outputs());
        let claims = self.claims.clone();
        self.step(at, shape, |domain| {
            let boxes = linear::linear(domain.kernels, x, head);
            domain.margins = margin::coded_margins(&claims, x, &boxes, head);
            boxes
        })
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
