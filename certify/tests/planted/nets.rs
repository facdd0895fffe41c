//! Nets with a counter-example at a known place of the set, each confirmed by the engine itself.
//!
//! A random model decides nothing in particular, so the head is chosen behind the fact: two rows
//! that tell one normed stream from another, however near they are. One point is then clean, the
//! other the counter-example.

use std::sync::Arc;

use certify::claim::{Decision, Deployed, decide};
use certify::interval::Margin;
use certify::region::{Ball, Region};
use engine::kernels;
use engine::model::{Activations, Float, Gate, KvKind, Model, NormSlot};
use engine::walk::{Domain, Exact, Read, Site, Step};
use ndarray::Array2;

use crate::support::{DIGITS, Draws, Shape, model};

pub(crate) const KINDS: [KvKind; 4] = [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit];

/// A claim that is false: some point of the set decides otherwise.
pub(crate) struct Planted {
    pub(crate) name: String,
    pub(crate) model: Model,
    pub(crate) kv: KvKind,
    /// The layer that the stream enters.
    pub(crate) from: usize,
    pub(crate) clean: Array2<f32>,
    /// Inside every set about `clean` that a test tries.
    pub(crate) witness: Array2<f32>,
    pub(crate) decision: Decision,
}

impl Planted {
    pub(crate) fn deployed(&self) -> Deployed<'_> {
        Deployed { model: &self.model, kernels: kernels::best(), kv: self.kv }
    }

    /// What the engine decides on a stream.
    pub(crate) fn decides(&self, stream: &Array2<f32>) -> Option<usize> {
        let logits = self.deployed().logits(stream, self.from, Read::Last);
        decide(logits.as_slice().expect("one row"), &self.decision.classes)
    }

    /// The decision as domains read it: at the only row that leaves the last layer.
    pub(crate) fn claim(&self) -> Margin {
        let rivals = self.decision.candidates(self.model.head.rows());
        let rivals = rivals.filter(|&class| class != self.decision.winner).collect();
        Margin { row: 0, winner: self.decision.winner, rivals }
    }

    /// The largest distance of the witness from the clean stream in one feature; exact in f64.
    pub(crate) fn distance(&self) -> f64 {
        let apart = self.clean.iter().zip(&self.witness);
        apart
            .map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs())
            .fold(0.0, |most, d| if d > most { d } else { most })
    }

    /// The ball of a radius, all rows moving.
    pub(crate) fn ball(&self, radius: f64) -> Region<'_> {
        let moved = 0..self.clean.nrows();
        Region { clean: &self.clean, moved, ball: Ball::Linf(radius) }
    }

    /// Whether the witness is what it should be: the engine decides for the claimed winner on the
    /// clean stream, and not on the witness.
    pub(crate) fn confirmed(&self) -> bool {
        self.decides(&self.clean) == Some(self.decision.winner)
            && self.decides(&self.witness) != Some(self.decision.winner)
    }
}

/// The shape of the net of a number: depth, heads, gate, norms and policies in turn.
pub(crate) fn shape(index: usize) -> Shape {
    let pick = |period: usize, count: usize| index / period % count;
    let kv_heads = [2, 4, 1][pick(3, 3)];
    let float = index % 13 == 5;
    Shape {
        hidden: [16, 32][pick(4, 2)],
        ffn: [32, 48][pick(2, 2)],
        layers: 1 + index % 3,
        kv_heads,
        head_dim: [4, 8][pick(4, 2)],
        gate: [Gate::Relu2, Gate::Silu][pick(1, 2)],
        activations: if float { Activations::None } else { Activations::PerTokenInt8 },
        sub_norms: pick(2, 2) == 0,
        inner_norms: index % 7 == 3,
        dense: float && index.is_multiple_of(2),
        ..DIGITS
    }
}

/// A net without its claim: what enters, and where.
pub(crate) struct Blank {
    pub(crate) model: Model,
    pub(crate) kv: KvKind,
    pub(crate) from: usize,
    pub(crate) clean: Array2<f32>,
}

impl Blank {
    pub(crate) fn new(index: usize, draws: &mut Draws) -> Self {
        let shape = shape(index);
        let mut model = model(&shape, 1000 + index as u64);
        if index % 5 == 2 {
            negate_gains(&mut model, draws);
        }
        let kv = KINDS[index % 4];
        let embedded = draws.rows(2 + index % 4, shape.hidden);
        let deployed = Deployed { model: &model, kernels: kernels::best(), kv };
        let from = if index % 3 == 1 { draws.below(shape.layers as u32 + 1) as usize } else { 0 };
        let clean = deployed.streams(&embedded).swap_remove(from);
        Self { model, kv, from, clean }
    }

    /// The normed row that the head reads.
    pub(crate) fn read(&self, stream: &Array2<f32>) -> Vec<f32> {
        let mut domain = Exact::new(kernels::best(), &self.model, self.kv);
        let mut x = stream.clone();
        for index in self.from..self.model.layers.len() {
            x = engine::walk::layer(&mut domain, &self.model, index, &x, 0, Read::All);
        }
        let at = Site { layer: self.model.layers.len(), step: Step::Norm(NormSlot::Final) };
        let normed = domain.norm(at, &x, &self.model.final_norm);
        normed.row(normed.nrows() - 1).to_vec()
    }

    /// The claim that a head of two telling rows makes false: the clean row scores `share` of its
    /// distance from the witness's row above zero, the witness the rest below.
    pub(crate) fn plant(self, name: String, witness: Array2<f32>, share: f64) -> Option<Planted> {
        let (x, y) = (self.read(&self.clean), self.read(&witness));
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let (x, y) = (wide(&x), wide(&y));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let apart: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x - y).collect();
        let between: Vec<f64> =
            x.iter().zip(&y).map(|(x, y)| (1.0 - share) * x + share * y).collect();
        let size = dot(&between, &between);
        if size == 0.0 || dot(&apart, &apart) == 0.0 {
            return None;
        }
        let lean = dot(&apart, &between) / size;
        let row: Vec<f64> = apart.iter().zip(&between).map(|(a, b)| a - lean * b).collect();
        let most = row.iter().fold(0f64, |most, w| if w.abs() > most { w.abs() } else { most });
        let row = row.iter().map(|w| (w / most) as f32).collect::<Vec<f32>>();
        let planted = self.claim(name, witness, &row);
        planted.confirmed().then_some(planted)
    }

    /// The claim that class 1, scored by `row`, beats class 0, which scores nothing.
    pub(crate) fn claim(self, name: String, witness: Array2<f32>, row: &[f32]) -> Planted {
        let Self { mut model, kv, from, clean } = self;
        let (rows, columns) = (model.head.rows(), row.len());
        let mut data = vec![0.0; rows * columns];
        data[columns..2 * columns].copy_from_slice(row);
        model.head = Arc::new(Float::F32 { data, columns });
        model.config.tied = false;
        let decision = Decision { winner: 1, classes: vec![0, 1] };
        Planted { name, model, kv, from, clean, witness, decision }
    }
}

/// Gains of either sign.
fn negate_gains(model: &mut Model, draws: &mut Draws) {
    for layer in &mut model.layers {
        for slot in [NormSlot::Input, NormSlot::Post, NormSlot::AttentionSub, NormSlot::FfnSub] {
            if let Some(norm) = layer.norm_mut(slot) {
                let gains = norm.gains.iter();
                norm.gains = gains.map(|&g| if draws.below(2) == 0 { g } else { -g }).collect();
            }
        }
    }
}

/// A point of the ball of a radius about a stream: a corner, anything, or one feature alone.
pub(crate) fn point(
    clean: &Array2<f32>,
    radius: f32,
    how: usize,
    draws: &mut Draws,
) -> Array2<f32> {
    let only = draws.below(clean.len() as u32) as usize;
    let mut place = 0;
    clean.mapv(|value| {
        let at_only = place == only;
        place += 1;
        match how % 3 {
            0 => value + [radius, -radius][draws.below(2) as usize],
            1 => value + radius * draws.unit(),
            _ if at_only => value + radius,
            _ => value,
        }
    })
}
