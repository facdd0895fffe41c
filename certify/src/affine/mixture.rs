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

use std::borrow::Cow;

use super::attend::Attention;
use super::energy::Energy;
use super::form::places;
use super::quotient::{polar, quarter};
use super::scores::Scored;
use super::store::Head;

/// Values mixed by the shares of one head of one query, with all that the remainders depend on.
pub(super) struct Around<'a> {
    pub(super) scored: &'a Scored<'a>,
    /// The values of each token, or what a projection makes of them.
    pub(super) of: &'a [Cow<'a, Head>],
    /// `p_j (v0_jd - o0_d)`, `[tokens, columns]`, columns those of the values.
    pub(super) weights: &'a [f64],
    pub(super) mix: &'a [f64],
    /// Radii of `sum p dv`, by column.
    pub(super) values: &'a [f64],
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

impl Around<'_> {
    /// All that is not linear; `radii` are those of what is.
    pub(super) fn remainder(&self, radii: &[f64]) -> Remainder {
        let (low, high) = self.polarised();
        let delta = self.scored.delta;
        let (shift, rest) = (0..self.columns())
            .map(|d| {
                let (low, high) = self.ends(d, (low[d], high[d]));
                let (shift, rest) = (0.5 * (low + high), 0.5 * (high - low));
                let whole = radii[d] + rest + shift.abs();
                let rest = (1.0 - delta) * rest + delta * whole;
                ((1.0 - delta) * shift, rest * (1.0 + 1e-12))
            })
            .unzip();
        Remainder { factor: 1.0 - delta, shift, rest }
    }

    fn columns(&self) -> usize {
        self.mix.len()
    }

    fn tokens(&self) -> impl Iterator<Item = (usize, f64, &Head, &Head)> {
        (self.scored.keys().zip(self.of).enumerate())
            .map(|(j, ((key, p), value))| (j, p, key, &**value))
    }

    /// The range of what of the numerator is not linear, in one dimension.
    fn ends(&self, d: usize, polarised: (f64, f64)) -> (f64, f64) {
        let scored = self.scored;
        let dim = self.columns();
        let (mut fixed, mut products) = (0.0, 0.0);
        let (mut up, mut down) = (0.0, 0.0);
        let mut beyond = 0.0;
        let (mut above, mut below) = (Vec::new(), Vec::new());
        for (j, p, _, value) in self.tokens() {
            let w = self.weights[j * dim + d];
            let r = value.radii[d];
            let a = value.c[d] - self.mix[d];
            fixed += w.abs() * scored.others[j] + p * value.rest[d];
            products += w.abs() * scored.products[j];
            up += p * scored.rho[j] * positive(a + r);
            down += p * scored.rho[j] * positive(r - a);
            beyond += p * (scored.cubic[j] * a.abs() + scored.rho[j] * r);
            above.push(positive(w));
            below.push(positive(-w));
        }
        fixed += smaller(products, self.weighted_products(d));
        let by_parts = self.cross(d);
        let (cross_low, cross_high) = if 2.0 * by_parts < polarised.1 - polarised.0 {
            (-by_parts, by_parts)
        } else {
            polarised
        };
        up = smaller(up, self.scored.weighted_square(&above) + beyond);
        down = smaller(down, self.scored.weighted_square(&below) + beyond);
        (cross_low - fixed - down, cross_high + fixed + up)
    }

    /// The range of `sum p delta dv` by dimension, each token's product polarised.
    fn polarised(&self) -> (Vec<f64>, Vec<f64>) {
        let scored = self.scored;
        let dim = self.columns();
        let (mut low, mut high) = (vec![0.0; dim], vec![0.0; dim]);
        for (j, p, _, value) in self.tokens() {
            let linear = scored.linear.radii[j];
            let (plus, minus) = self.halves(j, value);
            for d in 0..dim {
                let own = value.radii[d] - value.rest[d];
                let box_part = scored.second[j] * value.radii[d] + linear * value.rest[d];
                low[d] -= p * (linear * own * quarter(minus[d]) + box_part);
                high[d] += p * (linear * own * quarter(plus[d]) + box_part);
            }
        }
        (low, high)
    }

    /// The radii of `dv / |dv| +- delta / |delta|` for one token, by dimension.
    fn halves(&self, j: usize, value: &Head) -> (Vec<f64>, Vec<f64>) {
        let scored = self.scored;
        let Attention { kernels, inputs, .. } = *scored.attention;
        let dim = self.columns();
        let (token, linear) = (&scored.tokens[j], scored.linear.radii[j]);
        if linear == 0.0 || inputs.jointly() {
            return (vec![2.0; dim], vec![2.0; dim]);
        }
        let (moves, mean) = (&scored.moves, &scored.linear.mean_moves);
        let tokens = scored.tokens.len();
        let mut delta = Vec::with_capacity(value.g.len() / dim);
        for (_, to, rows) in places(&token.value_spans, scored.spans) {
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

    /// `sum over j of w_j dq dk_j` for one dimension, by the energy of `sum w_j dk_j`.
    fn weighted_products(&self, d: usize) -> f64 {
        let scored = self.scored;
        let Attention { kernels, factor, dim, .. } = *scored.attention;
        let mut energy = Energy::none(dim);
        for (j, _, key, _) in self.tokens() {
            energy.add_scaled(&key.energy, self.weights[j * self.columns() + d].abs());
        }
        factor * scored.own.energy.bilinear(kernels, &energy)
    }

    /// `sum p delta dv` for one dimension, in parts.
    fn cross(&self, d: usize) -> f64 {
        let scored = self.scored;
        let Attention { kernels, inputs, factor, dim, .. } = *scored.attention;
        let mut energy = Energy::none(dim);
        let (mut own, mut second, mut rest) = (0.0, 0.0, 0.0);
        let scaled: Vec<f64> = scored.own.c.iter().map(|q| factor * q).collect();
        for (j, p, key, value) in self.tokens() {
            let r = value.radii[d];
            energy.add_vector(&scored.centred[j * dim..(j + 1) * dim], p * r);
            second += p * scored.second[j] * r;
            rest += p * value.rest[d];
            let token = &scored.tokens[j];
            let mut score = vec![0.0; key.g.len() / dim];
            (kernels.forms.dots)(&key.g, &scaled, &mut score);
            let score_radius = inputs.radius(kernels, &token.key_spans, &score);
            own += p * if token.key_spans == token.value_spans {
                let column: Vec<f64> =
                    value.g.iter().skip(d).step_by(self.columns()).copied().collect();
                let linear = r - value.rest[d];
                let x = (&score[..], score_radius);
                let (low, high) = polar(kernels, inputs, &token.key_spans, x, (&column, linear));
                (if -low > high { -low } else { high }) + score_radius * value.rest[d]
            } else {
                score_radius * r
            };
        }
        let by_query = factor * scored.own.energy.bilinear(kernels, &energy);
        let by_mean = scored.by_keys.mean * (self.values[d] + rest);
        by_query + own + by_mean + second
    }
}

fn smaller(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

fn positive(x: f64) -> f64 {
    if x > 0.0 { x } else { 0.0 }
}
