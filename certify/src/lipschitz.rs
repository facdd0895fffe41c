//! Local Lipschitz bounds with slack: `|f(x) - f(x')| <= bound |x - x'| + slack` on a box.
//!
//! Rounding to int8 makes every layer discontinuous, so a constant alone cannot be true; the slack
//! holds what rounding may add. Changes of the input are measured in the maximum
//! norm over all rows. Inside, every feature has its own pair `(b, s)`, the larger over all rows:
//! the feature changes by at most `b |x - x'| + s`. The constants of each step are local: they are
//! taken on the boxes that the interval domain gives. With `abs` and `largest` understood over the
//! box:
//!
//! | step | bound of feature `i` | slack beside the same map of the input's |
//! |---|---|---|
//! | RMSNorm | `(g_i b_i + abs y_i mean_j(abs(y_j / g_j) b_j)) / r_min`, the Jacobian's row | 8 units, twice |
//! | int8 codes | `b_i` | one code: half a code at either point |
//! | linear | `sum_k abs w_ik b_k`, times the scale | 4 units, twice |
//! | RoPE | `sqrt(b_i^2 + b_j^2)`, any angle | 4 units, twice |
//! | attention | `b(v_i) + W_i S`; scores move by `S`, `sum p abs(v - f) <= W_i`, half a range | storage, rounding |
//! | any | 0 | the width of the box, where that is less than the slack above |
//! | gate | `2 relu(g) abs u b(g) + relu(g)^2 b(u)`; silu: slope at most 1.1 | 6 units, twice |

pub mod global;
mod response;

use std::ops::Range;

use engine::model::{Activations, Float, Gate, KvKind, Linear, Model, Norm, Rope};
use engine::walk::{self, Domain, Read, Site, score_scale};

use crate::claim::Deployed;
use crate::interval::{BoxPrepared, Boxes, Diverged, Interval, Margin};
use response::{Extremes, Response, UNIT, larger, least_square, linear_magnitudes, magnitude};

/// `|change out| <= bound |change in| + slack`, in the maximum norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lipschitz {
    /// The factor.
    pub bound: f64,
    /// What rounding may add.
    pub slack: f64,
}

/// What a bound of the stream speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A whole layer.
    Layer,
    /// The stream before attention to the stream behind its residual addition.
    Attention,
    /// The same of the feed-forward block.
    FeedForward,
}

impl Part {
    /// The stream that enters to the stream that leaves, all rows.
    pub(crate) fn walk<D: Domain>(
        self,
        domain: &mut D,
        model: &Model,
        index: usize,
        x: &D::Rows,
    ) -> D::Rows {
        match self {
            Self::Layer => walk::layer(domain, model, index, x, 0, Read::All),
            Self::Attention => walk::attention_block(domain, model, index, x, 0, Read::All),
            Self::FeedForward => walk::ffn_block(domain, model, index, x),
        }
    }
}

/// The bound of a layer or of half of one on a box of the stream that enters it, and the box that
/// leaves.
///
/// # Errors
/// Where the bound was lost, if it was.
pub fn of_part(
    deployed: &Deployed,
    index: usize,
    part: Part,
    entering: &Boxes,
) -> Result<(Lipschitz, Boxes), Diverged> {
    let (mut domain, start) = Responsive::new(deployed, entering);
    let out = part.walk(&mut domain, deployed.model, index, &start);
    match domain.set.diverged() {
        Some(diverged) => Err(diverged),
        None => Ok((out.response.largest(), out.boxes)),
    }
}

/// The bound of every margin of a decision, from a box of the stream that enters layer `from`.
///
/// # Errors
/// Where the bound was lost, if it was.
pub fn of_margins(
    deployed: &Deployed,
    from: usize,
    entering: &Boxes,
    claim: &Margin,
) -> Result<Lipschitz, Diverged> {
    let (mut domain, start) = Responsive::new(deployed, entering);
    let out = walk::run(&mut domain, deployed.model, &start, from, 0, Read::Last).response;
    if let Some(diverged) = domain.set.diverged() {
        return Err(diverged);
    }
    let rivals = |of: &usize| *of != claim.winner;
    let others: Vec<usize> = match &claim.rivals[..] {
        [] => (0..out.bound.len()).filter(rivals).collect(),
        some => some.iter().copied().filter(rivals).collect(),
    };
    let most = |of: &[f64]| others.iter().fold(0.0, |most, &rival| larger(most, of[rival]));
    Ok(Lipschitz {
        bound: out.bound[claim.winner] + most(&out.bound),
        slack: out.slack[claim.winner] + most(&out.slack),
    })
}

/// The domain of boxes with the response of every feature to the input.
struct Responsive {
    set: Interval,
    stored: Option<Stored>,
    kv: KvKind,
    /// Query heads, key-value heads, width of a head.
    shape: (usize, usize, usize),
}

impl Responsive {
    /// No step taken, and the rows of a box.
    fn new(deployed: &Deployed, entering: &Boxes) -> (Self, Responding) {
        let Deployed { model, kernels, kv } = *deployed;
        let set = Interval::new(kernels, model, kv, Vec::new());
        let shape = (model.config.heads, model.config.kv_heads, model.config.head_dim);
        let response = Response::identity(entering.lo.ncols());
        let start = Responding { boxes: entering.clone(), response };
        (Self { set, stored: None, kv, shape }, start)
    }
}

/// Boxes with the response of every feature to the input.
#[derive(Clone)]
struct Responding {
    boxes: Boxes,
    response: Response,
}

impl Responding {
    /// No two values of a feature are farther apart than its box is wide: where the slack alone
    /// says more than that, the width says it better.
    fn new(boxes: Boxes, mut response: Response) -> Self {
        for (feature, width) in Extremes::widths(&boxes).into_iter().enumerate() {
            if response.slack[feature] > width {
                (response.bound[feature], response.slack[feature]) = (0.0, width);
            }
        }
        Self { boxes, response }
    }
}

/// What attention reads: responses and extremes of keys and values.
struct Stored {
    keys: Response,
    values: Response,
    key_most: Vec<f64>,
    values_range: Vec<f64>,
    value_most: f64,
    tokens: usize,
}

impl Responsive {
    /// What storage adds: to responses, and as a share to magnitudes.
    fn store_side(&self, rows: &Responding) -> (Response, Extremes) {
        let mut extremes = Extremes::of(&rows.boxes);
        let most = extremes.largest();
        let mut response = rows.response.clone();
        match self.kv {
            KvKind::F32 => {}
            KvKind::F16 => {
                response.add_slack(2.0 * (most / 2048.0 + 1e-7));
                extremes.widen(most / 2048.0 + 1e-7);
            }
            KvKind::Int8 => {
                let half = 0.502 * larger(most, 1e-5) / 127.0;
                response.add_slack(2.0 * half);
                extremes.widen(half);
            }
            // A sign may jump: two stored values differ by at most two scales.
            KvKind::OneBit => {
                response.forget(2.0 * most * (1.0 + 1e-4));
                extremes.replace(most * (1.0 + 1e-4));
            }
        }
        (response, extremes)
    }

    /// How far the scores of a query head may move: its response, and the engine's rounding.
    fn score_move(&self, head: usize, q: &Response, most: &[f64], kept: &Stored) -> (f64, f64) {
        let (heads, kv_heads, d) = self.shape;
        let scale = f64::from(score_scale(d));
        let kv = head / (heads / kv_heads);
        let (mut bound, mut slack, mut products) = (0.0, 0.0, 0.0);
        for j in 0..d {
            let (qi, ki) = (head * d + j, kv * d + j);
            bound += kept.key_most[ki] * q.bound[qi] + most[qi] * kept.keys.bound[ki];
            slack += kept.key_most[ki] * q.slack[qi] + most[qi] * kept.keys.slack[ki];
            products += kept.key_most[ki] * most[qi];
        }
        let rounding = 2.0 * (d as f64 / 16.0 + 8.0) * UNIT * products;
        (scale * bound, scale * (slack + rounding))
    }
}

impl Domain for Responsive {
    type Rows = Responding;
    /// With the largest magnitudes of the columns.
    type Prepared = (BoxPrepared, Response, Vec<f64>);

    fn norm(&mut self, at: Site, x: &Responding, norm: &Norm) -> Responding {
        let boxes = self.set.norm(at, &x.boxes, norm);
        let n = norm.gains.len();
        let mut response = Response::zero(n);
        for row in 0..boxes.lo.nrows() {
            let mean = least_square(&x.boxes, row) / n as f64 * (1.0 - 1e-9);
            let r_min = (mean + f64::from(norm.eps)).sqrt();
            let y: Vec<f64> = (0..n).map(|i| magnitude(&boxes, (row, i))).collect();
            let (mut bound, mut slack) = (0.0, 0.0);
            for (i, &gain) in norm.gains.iter().enumerate() {
                // |x_i| / r is at most sqrt D; where the gain is not tiny the box knows better.
                let cap = (n as f64).sqrt() * 1.000_001;
                // A tiny gain may round its box to zero: then the cap alone.
                let share = if gain.abs() > 1e-20 { y[i] / f64::from(gain.abs()) } else { cap };
                let share = if share < cap { share } else { cap };
                bound += share * x.response.bound[i] / n as f64;
                slack += share * x.response.slack[i] / n as f64;
            }
            for (i, &gain) in norm.gains.iter().enumerate() {
                let gain = f64::from(gain.abs());
                response.raise(
                    i,
                    (gain * x.response.bound[i] + y[i] * bound) / r_min * (1.0 + 1e-6),
                    (gain * x.response.slack[i] + y[i] * slack) / r_min * (1.0 + 1e-6)
                        + 16.0 * UNIT * y[i]
                        + 1e-37,
                );
            }
        }
        Responding::new(boxes, response)
    }

    fn prepare(&mut self, at: Site, x: &Responding, policy: Activations) -> Self::Prepared {
        let prepared = self.set.prepare(at, &x.boxes, policy);
        let scales = prepared.codes.iter().flat_map(|codes| &codes.scales);
        let code = scales.fold(0.0, |most, &(t_lo, _)| larger(most, 1.0 / f64::from(t_lo)));
        let mut response = x.response.clone();
        response.add_slack(2.0 * 0.5001 * code);
        (prepared, response, Extremes::of(&x.boxes).magnitudes())
    }

    fn linear(&mut self, at: Site, x: &Self::Prepared, linear: &Linear) -> Responding {
        let boxes = self.set.linear(at, &x.0, linear);
        let n = linear.inputs() as f64;
        // sum |w| |x|: what the rounding of a float product is relative to.
        let (mut response, products) = linear_magnitudes(linear, &x.1, &x.2);
        let units = if x.0.codes.is_some() { 4.0 } else { n / 16.0 + 7.0 };
        response.round(&products, units);
        Responding::new(boxes, response)
    }

    fn rope(&mut self, at: Site, x: Responding, rope: &Rope, first: usize) -> Responding {
        let half = rope.frequencies().len();
        let most = Extremes::of(&x.boxes).largest();
        let mut response = x.response.clone();
        let stretch = f64::from(rope.stretch());
        let turned = |a: f64, b: f64| stretch * (a * a + b * b).sqrt() * (1.0 + 1e-6);
        for start in (0..response.bound.len()).step_by(2 * half) {
            for (a, b) in (start..start + half).zip(start + half..start + 2 * half) {
                let bound = turned(response.bound[a], response.bound[b]);
                let slack = turned(response.slack[a], response.slack[b]);
                for i in [a, b] {
                    (response.bound[i], response.slack[i]) =
                        (bound, slack + 8.0 * UNIT * stretch * most);
                }
            }
        }
        Responding::new(self.set.rope(at, x.boxes, rope, first), response)
    }

    fn store(&mut self, at: Site, keys: Responding, values: Responding) {
        let (key_response, key_extremes) = self.store_side(&keys);
        let (value_response, value_extremes) = self.store_side(&values);
        self.stored = Some(Stored {
            keys: key_response,
            values: value_response,
            key_most: key_extremes.magnitudes(),
            values_range: value_extremes.ranges(),
            value_most: value_extremes.largest(),
            tokens: keys.boxes.lo.nrows(),
        });
        self.set.store(at, keys.boxes, values.boxes);
    }

    fn attend(&mut self, at: Site, queries: &Responding, first: usize) -> Responding {
        let (heads, kv_heads, d) = self.shape;
        let kept = self.stored.take().expect("keys and values are stored before they are read");
        let most = Extremes::of(&queries.boxes).magnitudes();
        let mut response = Response::zero(heads * d);
        for head in 0..heads {
            let (bound, slack) = self.score_move(head, &queries.response, &most, &kept);
            let kv = head / (heads / kv_heads);
            for j in 0..d {
                let half = kept.values_range[kv * d + j] / 2.0 * (1.0 + 1e-6);
                let mix = kept.value_most * (240.0 + 1.1 * kept.tokens as f64) * UNIT;
                response.raise(
                    head * d + j,
                    kept.values.bound[kv * d + j] + half * bound,
                    kept.values.slack[kv * d + j] + half * slack + 2.0 * mix + 1e-37,
                );
            }
        }
        self.stored = Some(kept);
        Responding::new(self.set.attend(at, &queries.boxes, first), response)
    }

    fn gate(&mut self, at: Site, gate: &Responding, up: &Responding, kind: Gate) -> Responding {
        let boxes = self.set.gate(at, &gate.boxes, &up.boxes, kind);
        let mut response = Response::zero(boxes.lo.ncols());
        for ((row, i), &high) in gate.boxes.hi.indexed_iter() {
            let u = magnitude(&up.boxes, (row, i));
            let (slope, act) = match kind {
                Gate::Relu2 => {
                    let g = larger(f64::from(high), 0.0);
                    (2.0 * g, g * g)
                }
                Gate::Silu => (1.1, magnitude(&gate.boxes, (row, i))),
            };
            let map = |g: f64, up: f64| (slope * u * g + act * up) * (1.0 + 1e-6);
            response.raise(
                i,
                map(gate.response.bound[i], up.response.bound[i]),
                map(gate.response.slack[i], up.response.slack[i])
                    + 12.0 * UNIT * magnitude(&boxes, (row, i))
                    + 1e-35 * (1.0 + u),
            );
        }
        Responding::new(boxes, response)
    }

    fn add(&mut self, at: Site, stream: &Responding, update: &Responding) -> Responding {
        let boxes = self.set.add(at, &stream.boxes, &update.boxes);
        let rounding = 2.0 * UNIT * Extremes::of(&boxes).largest();
        let mut response = stream.response.clone();
        for i in 0..response.bound.len() {
            response.bound[i] += update.response.bound[i];
            response.slack[i] += update.response.slack[i] + rounding;
        }
        Responding::new(boxes, response)
    }

    fn logits(&mut self, at: Site, x: &Responding, head: &Float) -> Responding {
        let boxes = self.set.logits(at, &x.boxes, head);
        let most = Extremes::of(&x.boxes).magnitudes();
        let (mut response, products) = response::float_magnitudes(head, &x.response, &most);
        let units = head.columns() as f64 / 16.0 + 7.0;
        response.round(&products, units);
        Responding::new(boxes, response)
    }

    fn coded_logits(&mut self, at: Site, x: &Self::Prepared, head: &Linear) -> Responding {
        self.linear(at, x, head)
    }

    fn count(&self, x: &Responding) -> usize {
        self.set.count(&x.boxes)
    }

    fn select(&self, x: &Responding, rows: Range<usize>) -> Responding {
        Responding { boxes: self.set.select(&x.boxes, rows), response: x.response.clone() }
    }

    fn reshape(&self, x: Responding, width: usize) -> Responding {
        let old = x.response.bound.len();
        let mut response = Response::zero(width);
        for i in 0..old.max(width) {
            response.raise(i % width, x.response.bound[i % old], x.response.slack[i % old]);
        }
        Responding::new(self.set.reshape(x.boxes, width), response)
    }

    fn stack(&self, above: &Responding, below: &Responding) -> Responding {
        let mut response = above.response.clone();
        for i in 0..response.bound.len() {
            response.raise(i, below.response.bound[i], below.response.slack[i]);
        }
        Responding::new(self.set.stack(&above.boxes, &below.boxes), response)
    }

    fn replace_column(&self, x: &mut Responding, index: usize, column: &Responding) {
        self.set.replace_column(&mut x.boxes, index, &column.boxes);
        x.response.bound[index] = column.response.bound[0];
        x.response.slack[index] = column.response.slack[0];
    }
}
