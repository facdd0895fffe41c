//! What any single flip of a stored key or value can do: one entry of the cache after another, its
//! bits told apart by what they mean.
//!
//! The stream that leaves the struck layer is computed for every bit, by the engine itself; a
//! strike between two queries leaves the rows before it as they were. So each row is its clean one
//! or the struck one, whenever the strike falls, and the box that holds both for all bits of an
//! entry is carried through the layers behind, by boxes and by forms. Where a struck stream is not
//! finite, nothing is said: exponents may do that.

use certify::affine::Affine;
use certify::claim::Proof;
use certify::interval::Interval;
use certify::ladder::Rung;
use certify::region::{Ball, Region};
use engine::model::{KvKind, KvPlace, Side};
use engine::numerics::{max, min};
use engine::walk::{self, Exact, Read};
use faults::{Address, Fault, Faulty, Overlay, UnusedCode};
use ndarray::Array2;
use rayon::prelude::*;

use super::anywhere::{Subject, lesser};
use super::pass_cost;
use super::proof::Prover;
use super::strike::Passed;
use crate::analyze::bounds::widest;

/// Operations that these proofs may take for each trial of the campaign beside them, and at most.
pub(super) const BUDGET: (u64, u64) = (250_000, 2_000_000_000);
/// Samples at most.
pub(super) const MOST_SAMPLES: usize = 1;

/// What a bit of a stored entry means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheBits {
    /// The lower seven bits of an 8-bit code.
    Code,
    /// The mantissa of a float.
    Mantissa,
    /// The exponent of a float.
    Exponent,
    /// The sign, and the highest bit of an 8-bit code.
    Sign,
}

impl CacheBits {
    /// What the bits of a storage type mean, from the lowest on.
    pub(super) fn of(kind: KvKind) -> Vec<(Self, std::ops::Range<u8>)> {
        match kind {
            KvKind::F32 => {
                vec![(Self::Mantissa, 0..23), (Self::Exponent, 23..31), (Self::Sign, 31..32)]
            }
            KvKind::F16 => {
                vec![(Self::Mantissa, 0..10), (Self::Exponent, 10..15), (Self::Sign, 15..16)]
            }
            KvKind::Int8 => vec![(Self::Code, 0..7), (Self::Sign, 7..8)],
            KvKind::OneBit => vec![(Self::Sign, 0..1)],
        }
    }
}

/// What is proven about single flips of stored keys and values in one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheFlips {
    /// The layer.
    pub layer: usize,
    /// Which bits.
    pub bits: CacheBits,
    /// Samples that were tried.
    pub samples: u64,
    /// Pairs (bit, sample), each for every step at which it can strike.
    pub pairs: u64,
    /// Those proven masked.
    pub proven: u64,
    /// Those whose stream behind the layer is not finite.
    pub lost: u64,
    /// What no logit changes by more than under any of them; `None` where that is not bounded.
    pub change: Option<f64>,
}

impl CacheFlips {
    /// All layers and classes, none tried.
    pub(super) fn untried(kind: KvKind, layers: usize) -> Vec<Self> {
        let of = |layer| CacheBits::of(kind).into_iter().map(move |(bits, _)| (layer, bits));
        let none = |(layer, bits)| Self {
            layer,
            bits,
            samples: 0,
            pairs: 0,
            proven: 0,
            lost: 0,
            change: Some(0.0),
        };
        (0..layers).flat_map(of).map(none).collect()
    }

    /// Counts the entries of one sample that are of this layer and class.
    pub(super) fn merge(&mut self, entries: &[Entry]) {
        let own = |entry: &&Entry| entry.layer == self.layer && entry.bits == self.bits;
        let mut any = false;
        for entry in entries.iter().filter(own) {
            any = true;
            self.pairs += entry.flips;
            self.lost += entry.lost;
            self.proven += if entry.by.is_some() { entry.flips } else { 0 };
            let larger = |(a, b): (f64, f64)| if b > a { b } else { a };
            self.change = self.change.zip(entry.change).map(larger);
        }
        self.samples += u64::from(any);
    }
}

/// What is proven of the flips of one class in one entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) layer: usize,
    pub(super) side: Side,
    pub(super) place: KvPlace,
    pub(super) bits: CacheBits,
    pub(super) flips: u64,
    /// Flips behind which the stream is not finite.
    pub(super) lost: u64,
    pub(super) by: Option<Rung>,
    pub(super) change: Option<f64>,
}

/// The streams behind the struck layer, row by row.
struct Hull {
    lo: Array2<f32>,
    hi: Array2<f32>,
    lost: u64,
}

impl Hull {
    fn include(&mut self, x: &Array2<f32>) {
        if x.iter().any(|x| !x.is_finite()) {
            self.lost += 1;
            return;
        }
        self.lo.zip_mut_with(x, |lo, &x| *lo = min(*lo, x));
        self.hi.zip_mut_with(x, |hi, &x| *hi = max(*hi, x));
    }
}

impl Prover<'_> {
    /// Operations of all entries of a layer on one sample.
    fn cache_cost(&self, layer: usize, tokens: usize) -> u64 {
        let config = &self.deployed.model.config;
        let behind = config.layers - layer - 1;
        let entries = (2 * tokens * config.kv_heads * config.head_dim) as u64;
        let bits = u64::from(self.deployed.kv.entry_bits());
        let classes = CacheBits::of(self.deployed.kv).len() as u64;
        let runs = bits * tokens as u64 * self.weights / config.layers as u64;
        entries * (runs + classes * pass_cost(self, tokens, behind, config.hidden))
    }

    /// The layers that so many operations are enough for, the last ones.
    pub(super) fn cache_layers(&self, tokens: usize, mut left: u64) -> Vec<usize> {
        let affords = |layer: &usize| {
            let cost = self.cache_cost(*layer, tokens);
            let affords = cost <= left;
            left -= if affords { cost } else { 0 };
            affords
        };
        (0..self.deployed.model.layers.len()).rev().take_while(affords).collect()
    }

    /// All entries of a layer.
    pub(super) fn cache(&self, layer: usize, of: Subject<'_>) -> Vec<Entry> {
        let config = &self.deployed.model.config;
        let tokens = of.streams[layer].nrows();
        let places = (0..tokens).flat_map(|token| {
            (0..config.kv_heads).flat_map(move |head| {
                (0..config.head_dim).map(move |dim| KvPlace { token, head, dim })
            })
        });
        let sides = [Side::Key, Side::Value];
        let all: Vec<(Side, KvPlace)> =
            places.flat_map(|place| sides.map(|side| (side, place))).collect();
        let one = |&(side, place): &(Side, KvPlace)| self.entry(layer, (side, place), of);
        if self.parallel {
            all.par_iter().flat_map_iter(one).collect()
        } else {
            all.iter().flat_map(one).collect()
        }
    }

    fn entry(&self, layer: usize, (side, place): (Side, KvPlace), of: Subject<'_>) -> Vec<Entry> {
        let clean = &of.streams[layer + 1];
        let class = |(bits, range): (CacheBits, std::ops::Range<u8>)| {
            let flips = range.len() as u64;
            let mut hull = Hull { lo: clean.clone(), hi: clean.clone(), lost: 0 };
            for bit in range {
                hull.include(&self.struck_stream(layer, (side, place, bit), of));
            }
            let lost = hull.lost;
            let (by, change) = if lost > 0 { (None, None) } else { self.held(layer + 1, hull, of) };
            Entry { layer, side, place, bits, flips, lost, by, change }
        };
        CacheBits::of(self.deployed.kv).into_iter().map(class).collect()
    }

    /// The stream that leaves a layer whose store is struck as soon as it holds the token.
    fn struck_stream(
        &self,
        layer: usize,
        (side, place, bit): (Side, KvPlace, u8),
        of: Subject<'_>,
    ) -> Array2<f32> {
        let model = self.deployed.model;
        let flip = Address::Kv { layer, side, place, bit, step: place.token };
        let overlay = Overlay::new(model, &Fault::new([flip]), UnusedCode::Deployed);
        let exact = Exact::new(self.deployed.kernels, model, self.deployed.kv);
        let mut domain = Faulty::new(exact, &overlay);
        walk::layer(&mut domain, model, layer, &of.streams[layer], 0, Read::All)
    }

    /// The first rung that proves the decision on all streams between the ends of a hull, and what
    /// no logit changes by more than.
    fn held(&self, from: usize, hull: Hull, of: Subject<'_>) -> (Option<Rung>, Option<f64>) {
        let clean = &of.streams[from];
        let ball = Ball::Boxes { lo: hull.lo, hi: hull.hi };
        let region = Region { clean, moved: 0..clean.nrows(), ball };
        let (mut by, mut change) = (None, None);
        for rung in self.rungs() {
            let passed = self.behind(rung, from, &region, of);
            let moved = passed.logits.map(|logits| widest(&logits, of.logits));
            change = lesser(change, moved);
            by = by.or(passed.proof.certifies().then_some(rung));
            if by.is_some() {
                break;
            }
        }
        (by, change)
    }

    /// What one rung bounds on a set of streams that enter a layer.
    fn behind(&self, rung: Rung, from: usize, region: &Region<'_>, of: Subject<'_>) -> Passed {
        let deployed = self.deployed;
        let claims = vec![of.claim.clone()];
        let (proof, logits) = match rung {
            Rung::Interval => {
                let mut domain =
                    Interval::new(deployed.kernels, deployed.model, deployed.kv, claims);
                let boxes = region.boxes();
                let out = walk::run(&mut domain, deployed.model, &boxes, from, 0, Read::Last);
                let margins = domain.margins().to_vec();
                (Proof { margins, diverged: domain.diverged() }, out)
            }
            Rung::Affine => {
                let (mut domain, rows) = Affine::new(deployed, self.matrices, region, claims);
                domain.read_logits();
                let out = walk::run(&mut domain, deployed.model, &rows, from, 0, Read::Last);
                let found = domain.proof();
                (Proof { margins: found.margins, diverged: found.diverged }, out.boxes)
            }
        };
        let logits = proof.diverged.is_none().then_some(logits);
        Passed { proof, logits }
    }
}
