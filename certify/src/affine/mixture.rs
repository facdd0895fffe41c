//! What attention is not linear in, one head of one query at a time.
//!
//! With the names of [`super::attend`], the numerator is `N = sum p e^delta (a + dv)`. Beyond its
//! linear part:
//! - `sum p a x` for the products `x = dq dk` in the scores: by boxes, or together as one bilinear
//!   form of dq and `sum p a dk`, by energies ([`super::energy`]);
//! - `sum p delta dv`: polarised token by token, or in three parts. The query's moves
//!   `dq (k0_j - mean k0)` against `dv_j` are a bilinear form of dq and vectors that the energies
//!   bound; the keys' own moves are polarised against `dv_j`; the keys' mean move meets
//!   `sum p dv`;
//! - `sum p rho (a + dv)` with `0 <= rho`: by `rho(radius)`, or with the square of delta taken out,
//!   whose sum is a quadratic form of dq and of the keys' moves;
//! - the quotient: `Z = 1 + sum p rho` is at least 1, so `1 / Z` is within `delta` of `1 - delta`,
//!   `delta = (1 - 1 / Zmax) / 2`: everything shrinks by the one and `delta |N|` is added.

use super::attend::{Attention, Seen, Shifted, dot};
use super::energy::Energy;
use super::form::places;
use super::linear::dot_error;
use super::quotient::{polar, quarter};
use super::store::Head;
use engine::numerics::exp_f64;

/// One head of one query, with all that its remainders depend on.
pub(super) struct Around<'a> {
    pub(super) attention: &'a Attention<'a>,
    pub(super) own: &'a Head,
    pub(super) seen: &'a Seen<'a>,
    /// `p_j (v0_jd - o0_d)`, `[tokens, dim]`.
    pub(super) weights: &'a [f64],
    pub(super) mix: &'a [f64],
    /// Radii of the linear moves of the shifted scores.
    pub(super) linear: &'a [f64],
    /// Of these, what the keys move.
    pub(super) by_keys: &'a Shifted,
    /// Radii of `sum p dv`, by dimension.
    pub(super) values: &'a [f64],
    /// The linear moves of the scores, `[symbols, tokens]`, and their mean.
    pub(super) scores: (&'a [f64], &'a [f64]),
}

/// What the linear part of a mix is multiplied by, and what lies around it.
pub(super) struct Remainder {
    /// The factor of all that is linear.
    pub(super) factor: f64,
    /// The shift of each centre.
    pub(super) shift: Vec<f64>,
    /// The radius of each box.
    pub(super) rest: Vec<f64>,
}

/// What all dimensions share.
struct Common {
    /// Radii of `dq dk`, one a score.
    products: Vec<f64>,
    /// Radii of what boxes and the engine's rounding add to a score.
    others: Vec<f64>,
    /// What of it is not linear.
    second: Vec<f64>,
    /// `rho` at these radii, and what of it is beyond the square.
    rho: Vec<f64>,
    cubic: Vec<f64>,
    /// The keys centred: `k0_j - sum p k0`, `[tokens, dim]`.
    centred: Vec<f64>,
    /// An upper bound of `sum p rho`.
    most_z: f64,
}

impl Around<'_> {
    /// All that is not linear; `radii` are those of what is.
    pub(super) fn remainder(&self, radii: &[f64]) -> Remainder {
        let common = self.common();
        let (low, high) = self.polarised(&common);
        let delta = 0.5 * (1.0 - 1.0 / (1.0 + common.most_z)) * (1.0 + 1e-12);
        let (shift, rest) = (0..self.attention.dim)
            .map(|d| {
                let (low, high) = self.ends(&common, d, (low[d], high[d]));
                let (shift, rest) = (0.5 * (low + high), 0.5 * (high - low));
                let whole = radii[d] + rest + shift.abs();
                let rest = (1.0 - delta) * rest + delta * whole;
                ((1.0 - delta) * shift, rest * (1.0 + 1e-12))
            })
            .unzip();
        Remainder { factor: 1.0 - delta, shift, rest }
    }

    fn tokens(&self) -> impl Iterator<Item = (usize, f64, &Head, &Head)> {
        let (seen, kv) = (self.seen, self.seen.kv);
        (seen.tokens.iter().zip(seen.shares).enumerate())
            .map(move |(j, (token, &p))| (j, p, &token.keys[kv], &token.values[kv]))
    }

    fn common(&self) -> Common {
        let (products, others) = self.second_order_scores();
        let both: Vec<f64> = products.iter().zip(&others).map(|(a, b)| a + b).collect();
        let total: f64 = both.iter().zip(self.seen.shares).map(|(x, p)| p * x).sum();
        // A score's own move less the mean of all: (1 - p) of its own, p of each other.
        let second: Vec<f64> = (both.iter().zip(self.seen.shares))
            .map(|(x, p)| (1.0 - p) * x + (total - p * x) + 1e-12)
            .collect();
        let moves: Vec<f64> = self.linear.iter().zip(&second).map(|(l, s)| l + s).collect();
        let dim = self.attention.dim;
        let mut mean = vec![0.0; dim];
        for (_, p, key, _) in self.tokens() {
            mean.iter_mut().zip(&key.c).for_each(|(mean, k)| *mean += p * k);
        }
        let keys = self.tokens().flat_map(|(_, _, key, _)| key.c.iter().zip(&mean));
        let mut common = Common {
            centred: keys.map(|(k, mean)| k - mean).collect(),
            rho: moves.iter().map(|&r| rho(r)).collect(),
            cubic: moves.iter().map(|&r| cubic(r)).collect(),
            products,
            others,
            second,
            most_z: 0.0,
        };
        let plain: f64 = common.rho.iter().zip(self.seen.shares).map(|(rho, p)| p * rho).sum();
        let third: f64 = common.cubic.iter().zip(self.seen.shares).map(|(x, p)| p * x).sum();
        let square = self.weighted_square(&common, self.seen.shares) + third;
        common.most_z = if square < plain { square } else { plain };
        common
    }

    /// The range of what of the numerator is not linear, in one dimension.
    fn ends(&self, common: &Common, d: usize, polarised: (f64, f64)) -> (f64, f64) {
        let dim = self.attention.dim;
        let (mut fixed, mut products) = (0.0, 0.0);
        let (mut up, mut down) = (0.0, 0.0);
        let mut beyond = 0.0;
        let (mut above, mut below) = (Vec::new(), Vec::new());
        for (j, p, _, value) in self.tokens() {
            let w = self.weights[j * dim + d];
            let r = value.radii[d];
            let a = value.c[d] - self.mix[d];
            fixed += w.abs() * common.others[j] + p * value.rest[d];
            products += w.abs() * common.products[j];
            up += p * common.rho[j] * positive(a + r);
            down += p * common.rho[j] * positive(r - a);
            beyond += p * (common.cubic[j] * a.abs() + common.rho[j] * r);
            above.push(positive(w));
            below.push(positive(-w));
        }
        fixed += smaller(products, self.weighted_products(d));
        let by_parts = self.cross(common, d);
        let (cross_low, cross_high) = if 2.0 * by_parts < polarised.1 - polarised.0 {
            (-by_parts, by_parts)
        } else {
            polarised
        };
        up = smaller(up, self.weighted_square(common, &above) + beyond);
        down = smaller(down, self.weighted_square(common, &below) + beyond);
        (cross_low - fixed - down, cross_high + fixed + up)
    }

    /// The range of `sum p delta dv` by dimension, each token's product polarised.
    fn polarised(&self, common: &Common) -> (Vec<f64>, Vec<f64>) {
        let dim = self.attention.dim;
        let (mut low, mut high) = (vec![0.0; dim], vec![0.0; dim]);
        for (j, p, _, value) in self.tokens() {
            let linear = self.linear[j];
            let (plus, minus) = self.halves(j, value);
            for d in 0..dim {
                let own = value.radii[d] - value.rest[d];
                let box_part = common.second[j] * value.radii[d] + linear * value.rest[d];
                low[d] -= p * (linear * own * quarter(minus[d]) + box_part);
                high[d] += p * (linear * own * quarter(plus[d]) + box_part);
            }
        }
        (low, high)
    }

    /// The radii of `dv / |dv| +- delta / |delta|` for one token, by dimension.
    fn halves(&self, j: usize, value: &Head) -> (Vec<f64>, Vec<f64>) {
        let Attention { kernels, inputs, dim, .. } = *self.attention;
        let (token, linear) = (&self.seen.tokens[j], self.linear[j]);
        if linear == 0.0 || inputs.jointly() {
            return (vec![2.0; dim], vec![2.0; dim]);
        }
        let (moves, mean) = self.scores;
        let tokens = self.seen.tokens.len();
        let mut delta = Vec::with_capacity(value.g.len() / dim);
        for (_, to, rows) in places(&token.value_spans, self.seen.spans) {
            delta.extend((to..to + rows).map(|row| moves[row * tokens + j] - mean[row]));
        }
        let inside: f64 = delta.iter().map(|x| x.abs()).sum();
        let outside = if inside < linear { (linear - inside) / linear } else { 0.0 };
        let inverse: Vec<f64> = (0..dim)
            .map(|d| value.radii[d] - value.rest[d])
            .map(|own| if own > 0.0 { 1.0 / own } else { 0.0 })
            .collect();
        let radii = |sign: f64| -> Vec<f64> {
            let by = vec![sign / linear; dim];
            let of = (&inverse[..], &by[..]);
            let radii = inputs.combined(kernels, &token.value_spans, &value.g, &delta, of);
            radii.into_iter().map(|r| r + outside + 1e-12).collect()
        };
        (radii(1.0), radii(-1.0))
    }

    /// For each score: what `dq dk` may add, and what boxes and the engine's rounding may.
    fn second_order_scores(&self) -> (Vec<f64>, Vec<f64>) {
        let Attention { kernels, factor, dim, .. } = *self.attention;
        let most = |head: &Head, d: usize| head.c[d].abs() + head.radii[d];
        self.tokens()
            .map(|(_, _, key, _)| {
                let by_box = dot(&self.own.radii, &key.radii);
                let product = smaller(by_box, self.own.energy.bilinear(kernels, &key.energy));
                let mut other = 0.0;
                for d in 0..dim {
                    other += self.own.c[d].abs() * key.rest[d] + self.own.rest[d] * key.c[d].abs();
                    other += most(self.own, d) * most(key, d) * (dot_error(dim) + 1e-12);
                }
                (factor * product, factor * other + 1e-40)
            })
            .unzip()
    }

    /// `sum over j of w_j dq dk_j` for one dimension, by the energy of `sum w_j dk_j`.
    fn weighted_products(&self, d: usize) -> f64 {
        let Attention { kernels, factor, dim, .. } = *self.attention;
        let mut energy = Energy::none(dim);
        for (j, _, key, _) in self.tokens() {
            energy.add_scaled(&key.energy, self.weights[j * dim + d].abs());
        }
        factor * self.own.energy.bilinear(kernels, &energy)
    }

    /// `sum p delta dv` for one dimension, in parts.
    fn cross(&self, common: &Common, d: usize) -> f64 {
        let Attention { kernels, inputs, factor, dim, .. } = *self.attention;
        let mut energy = Energy::none(dim);
        let (mut own, mut second, mut rest) = (0.0, 0.0, 0.0);
        let scaled: Vec<f64> = self.own.c.iter().map(|q| factor * q).collect();
        for (j, p, key, value) in self.tokens() {
            let r = value.radii[d];
            energy.add_vector(&common.centred[j * dim..(j + 1) * dim], p * r);
            second += p * common.second[j] * r;
            rest += p * value.rest[d];
            let token = &self.seen.tokens[j];
            let mut score = vec![0.0; key.g.len() / dim];
            (kernels.forms.dots)(&key.g, &scaled, &mut score);
            let score_radius = inputs.radius(kernels, &token.key_spans, &score);
            own += p * if token.key_spans == token.value_spans {
                let column: Vec<f64> = value.g.iter().skip(d).step_by(dim).copied().collect();
                let linear = r - value.rest[d];
                let x = (&score[..], score_radius);
                let (low, high) = polar(kernels, inputs, &token.key_spans, x, (&column, linear));
                (if -low > high { -low } else { high }) + score_radius * value.rest[d]
            } else {
                score_radius * r
            };
        }
        let by_query = factor * self.own.energy.bilinear(kernels, &energy);
        let by_mean = self.by_keys.mean * (self.values[d] + rest);
        by_query + own + by_mean + second
    }

    /// An upper bound of `1/2 sum w delta^2` for weights that are not negative.
    ///
    /// Minkowski: the root of the sum is at most that of each part's sum, added up.
    fn weighted_square(&self, common: &Common, weights: &[f64]) -> f64 {
        let Attention { kernels, factor, dim, .. } = *self.attention;
        let mut form = vec![0.0; dim * dim];
        let (mut by_keys, mut second) = (0.0, 0.0);
        for (j, &w) in weights.iter().enumerate() {
            let key = &common.centred[j * dim..(j + 1) * dim];
            for (row, &a) in form.chunks_exact_mut(dim).zip(key) {
                row.iter_mut().zip(key).for_each(|(sum, b)| *sum += w * a * b);
            }
            by_keys += w * self.by_keys.radii[j] * self.by_keys.radii[j];
            second += w * common.second[j] * common.second[j];
        }
        let by_query = factor * self.own.energy.quadratic(kernels, &form, weights.len()).sqrt();
        let root = by_query + by_keys.sqrt() + second.sqrt();
        0.5 * root * root * (1.0 + 1e-9)
    }
}

fn smaller(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

fn positive(x: f64) -> f64 {
    if x > 0.0 { x } else { 0.0 }
}

/// An upper bound of `e^x - 1 - x` for `|x| <= r`.
fn rho(r: f64) -> f64 {
    if r < 0.5 {
        // The terms behind the cube are below r^4 / 24 e^(r / 5).
        return r * r * (0.5 + r * (1.0 / 6.0 + r * (1.11 / 24.0)));
    }
    if r < 600.0 { (exp_f64(r) - 1.0 - r) * (1.0 + 1e-12) } else { f64::INFINITY }
}

/// An upper bound of `|e^x - 1 - x - x^2 / 2|` for `|x| <= r`.
fn cubic(r: f64) -> f64 {
    if r < 0.5 {
        // The terms behind are below r^4 / 24 (1 + r / 5 + r^2 / 30 + ...).
        return r * r * r * (1.0 / 6.0 + r * (1.11 / 24.0));
    }
    if r < 600.0 { (exp_f64(r) - 1.0 - r - 0.5 * r * r) * (1.0 + 1e-12) } else { f64::INFINITY }
}
