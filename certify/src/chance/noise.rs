//! Noise with an exactly specified law, from integers.
//!
//! Whoever smooths with floating-point Gaussians certifies a classifier that nobody runs: the
//! low bits of a sum betray its centre (Jin et al., "Getting a-Round Guarantees", 2022; Voracek and
//! Hein, "Sound Randomized Smoothing in Floating-Point Arithmetics", 2023). Here noise is an
//! integer number of lattice steps, added to an integer.
//!
//! Invariant: a draw is a pure function of (seed, sample, set, phase, trial), whatever ran before
//! it or beside it.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::normal::DENSITY_AT_ZERO;
use engine::numerics::special;

/// What a trial is drawn for; trials of two phases share no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Uniform noise in a box.
    Uniform = 0,
    /// Gaussian noise that selects the class to be tested.
    Selection = 1,
    /// Gaussian noise that tests it.
    Estimation = 2,
}

/// Where the numbers of a set of trials come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The seed of the run.
    pub seed: u64,
    /// The index of the sample.
    pub sample: u64,
    /// Which of the sample's sets of moving rows.
    pub set: u32,
}

impl Source {
    /// The numbers of one trial: the stream `trial` of ChaCha8 under a key of all the rest.
    #[must_use]
    pub fn numbers(&self, phase: Phase, trial: u64) -> Numbers {
        let mut key = *b"bc-noise                        ";
        key[8..16].copy_from_slice(&self.seed.to_le_bytes());
        key[16..24].copy_from_slice(&self.sample.to_le_bytes());
        key[24..28].copy_from_slice(&self.set.to_le_bytes());
        key[28..].copy_from_slice(&(phase as u32).to_le_bytes());
        let mut numbers = ChaCha8Rng::from_seed(key);
        numbers.set_stream(trial);
        Numbers(numbers)
    }
}

/// The numbers of one trial.
#[derive(Clone, Debug)]
pub struct Numbers(ChaCha8Rng);

impl Numbers {
    /// A number of the box around `clean`: an offset drawn evenly from the 2^32 odd multiples of
    /// `epsilon / 2^32` within the box, added in f64, rounded to f32, and kept within the box.
    pub fn uniform(&mut self, clean: f32, epsilon: f64) -> f32 {
        let odd = 2 * i64::from(self.0.next_u32()) + 1 - (1 << 32);
        let clean = f64::from(clean);
        let moved = (clean + odd as f64 * (1.0 / 4_294_967_296.0) * epsilon) as f32;
        if f64::from(moved) > clean + epsilon {
            moved.next_down()
        } else if f64::from(moved) < clean - epsilon {
            moved.next_up()
        } else {
            moved
        }
    }

    /// A draw from the rounded Gaussian.
    pub fn steps(&mut self, table: &RoundedGaussian) -> i64 {
        table.of(self.0.next_u64())
    }
}

/// Steps of the lattice in one standard deviation.
pub const STEPS: u32 = 4096;
/// The largest magnitude drawn, in steps: the tail beyond 9.25 sigma is below 2^-63.
const MOST: u32 = 37_888;
/// Bits of a word that pick the part of the table to be searched.
const GUIDE_BITS: u32 = 12;

/// A Gaussian of standard deviation [`STEPS`], rounded to the nearest integer.
///
/// The law is `p(k) = Phi((k + 1/2) / STEPS) - Phi((k - 1/2) / STEPS)`. Thresholds of 63 bits cut
/// the words into magnitudes; the last bit is the sign. What is drawn is within
/// [`RoundedGaussian::DISTANCE`] of the law in total variation.
#[derive(Clone, Debug)]
pub struct RoundedGaussian {
    /// Words (without their sign) below entry `k` have a magnitude of at most `k`.
    thresholds: Vec<u64>,
    /// The least magnitude of words that begin with given bits.
    guide: Vec<u32>,
}

impl RoundedGaussian {
    /// Total variation between what is drawn and the law, at most 2^-45, a coordinate.
    ///
    /// A mass of the table is within `e = 2^-47` relative of the true one (see [`mass`]). The
    /// thresholds are sums of masses in integers, cut to units of 2^-63: less than a unit a mass.
    /// Their total differs from 1 by at most `e` and the tail, and the last magnitude takes that.
    /// Half the sum of all differences: `(3 e + (MOST + 3) 2^-63) / 2 < 2^-46`.
    pub const DISTANCE: f64 = 1.0 / 35_184_372_088_832.0;

    /// Builds the table.
    #[must_use]
    pub fn new() -> Self {
        const FIXED: f64 = (1u128 << 110) as f64;
        let whole = 1u64 << 63;
        let mut total = 0u128;
        let mut thresholds: Vec<u64> = (0..=MOST)
            .map(|k| {
                let sides = if k == 0 { 1.0 } else { 2.0 };
                total += (mass(k) * sides * FIXED) as u128;
                let cut = (total >> 47) as u64;
                if cut < whole { cut } else { whole }
            })
            .collect();
        thresholds[MOST as usize] = whole;
        let least = |start: u64| thresholds.partition_point(|&end| end <= start) as u32;
        let guide = (0..1u64 << GUIDE_BITS).map(|part| least(part << (63 - GUIDE_BITS))).collect();
        Self { thresholds, guide }
    }

    /// The draw that a word stands for.
    #[must_use]
    pub fn of(&self, word: u64) -> i64 {
        let (start, negative) = (word >> 1, word & 1 == 1);
        let part = (start >> (63 - GUIDE_BITS)) as usize;
        let from = self.guide[part] as usize;
        let to = self.guide.get(part + 1).map_or(MOST as usize, |&next| next as usize);
        let magnitude = from + self.thresholds[from..to].partition_point(|&end| end <= start);
        if negative { -(magnitude as i64) } else { magnitude as i64 }
    }
}

impl Default for RoundedGaussian {
    fn default() -> Self {
        Self::new()
    }
}

/// The Gaussian mass of the cell of an integer, within 2^-47 relative.
///
/// With `c` the middle and `w` the width of the cell in standard deviations, it is `phi(c) w (1 +
/// (c^2 - 1) w^2 / 24 + (c^4 - 6 c^2 + 3) w^4 / 1920 + ...)`: the Taylor series of the density
/// about the middle, whose odd terms vanish. The next term is below 10^-20 for `c < 9.3`. `c` and
/// `c^2` are exact, as the steps are a power of two; the exponential is within 2^-50, and a few
/// roundings remain.
fn mass(k: u32) -> f64 {
    let width = 1.0 / f64::from(STEPS);
    let c2 = (f64::from(k) * width) * (f64::from(k) * width);
    let w2 = width * width;
    let bend = (c2 - 1.0) * w2 / 24.0 + (c2 * c2 - 6.0 * c2 + 3.0) * w2 * w2 / 1920.0;
    DENSITY_AT_ZERO * special::exp(-0.5 * c2) * width * (1.0 + bend)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Source = Source { seed: 7, sample: 2, set: 1 };

    /// Made with mpmath at 60 digits.
    const MASSES: [(u32, f64); 7] = [
        (0, 9.739_801_743_424_043e-5),
        (1, 9.739_801_453_155_337e-5),
        (63, 9.738_649_735_047_864e-5),
        (4096, 5.907_488_391_580_648e-5),
        (8191, 1.318_782_581_044_085_4e-5),
        (20_000, 6.476_740_222_234_337e-10),
        (37_887, 2.569_627_431_011_008_3e-23),
    ];

    #[test]
    fn masses_are_those_of_the_gaussian() {
        for (k, truth) in MASSES {
            let error = (mass(k) / truth - 1.0).abs();
            assert!(error < 1.0 / 140_737_488_355_328.0, "{k}: off by {error:e}");
        }
    }

    #[test]
    fn masses_add_up_to_one() {
        let sum = mass(0) + 2.0 * (1..=MOST).rev().map(mass).sum::<f64>();
        assert!((sum - 1.0).abs() < 2e-14, "{:e}", sum - 1.0);
    }

    #[test]
    fn the_table_cuts_the_words_where_the_masses_say() {
        let table = RoundedGaussian::new();
        assert!(table.thresholds.is_sorted());
        let mut before = 0;
        for (k, &end) in table.thresholds.iter().enumerate() {
            let share = (end - before) as f64 / (1u64 << 63) as f64;
            let sides = if k == 0 { 1.0 } else { 2.0 };
            let error = (share - sides * mass(k as u32)).abs();
            assert!(error < 2.2e-19 || k as u32 == MOST && error < 3e-14, "{k}: {error:e}");
            // The words on either side of each cut have the magnitudes on either side.
            if end > before {
                assert_eq!(table.of((end - 1) << 1), k as i64);
                assert_eq!(table.of(before << 1 | 1), -(k as i64));
            }
            before = end;
        }
        assert_eq!(before, 1 << 63);
    }

    /// From a second implementation of ChaCha8, and mpmath's error function at 40 digits.
    #[test]
    fn the_draws_of_a_trial_are_pinned() {
        let table = RoundedGaussian::new();
        let mut numbers = SOURCE.numbers(Phase::Estimation, 5);
        let steps: Vec<i64> = (0..8).map(|_| numbers.steps(&table)).collect();
        assert_eq!(steps, [-3244, -2486, 8266, 6919, -2768, 4193, -6251, 7863]);
        let mut numbers = SOURCE.numbers(Phase::Uniform, 5);
        let points = [0.5f32, -1.25, 0.0, 3.0].map(|clean| numbers.uniform(clean, 0.01));
        assert_eq!(points, [0.509_993_55, -1.242_749_6, -0.006_610_161_6, 3.007_709]);
    }

    #[test]
    fn every_part_of_a_source_changes_its_draws() {
        let first = |source: Source, phase, trial| source.numbers(phase, trial).0.next_u64();
        let draws = [
            first(SOURCE, Phase::Estimation, 5),
            first(SOURCE, Phase::Estimation, 6),
            first(SOURCE, Phase::Selection, 5),
            first(SOURCE, Phase::Uniform, 5),
            first(Source { seed: 8, ..SOURCE }, Phase::Estimation, 5),
            first(Source { sample: 3, ..SOURCE }, Phase::Estimation, 5),
            first(Source { set: 0, ..SOURCE }, Phase::Estimation, 5),
        ];
        let distinct: std::collections::BTreeSet<u64> = draws.into_iter().collect();
        assert_eq!(distinct.len(), draws.len());
    }

    #[test]
    fn moments_of_many_draws_are_those_of_the_gaussian() {
        let table = RoundedGaussian::new();
        let mut numbers = SOURCE.numbers(Phase::Estimation, 0);
        let (mut sum, mut squares, mut fourths) = (0.0, 0.0, 0.0);
        let count = 400_000;
        for _ in 0..count {
            let x = numbers.steps(&table) as f64 / f64::from(STEPS);
            sum += x;
            squares += x * x;
            fourths += x * x * x * x;
        }
        // Five standard deviations of each mean.
        let n = f64::from(count);
        assert!((sum / n).abs() < 5.0 * (1.0 / n).sqrt());
        assert!((squares / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
        assert!((fourths / n - 3.0).abs() < 5.0 * (96.0 / n).sqrt());
    }

    #[test]
    fn uniform_points_stay_in_the_box_and_reach_both_of_its_halves() {
        let mut numbers = SOURCE.numbers(Phase::Uniform, 1);
        for (clean, epsilon) in
            [(1.0f32, 1e-9), (0.3, 0.01), (-5e-40, 1e-41), (1e30, 0.5), (2.0, 0.0)]
        {
            let (mut below, mut above) = (0, 0);
            for _ in 0..2000 {
                let x = numbers.uniform(clean, epsilon);
                let moved = f64::from(x) - f64::from(clean);
                assert!(moved.abs() <= epsilon, "{clean} moved by {moved} > {epsilon}");
                below += i32::from(moved < 0.0);
                above += i32::from(moved > 0.0);
            }
            let wide = epsilon > f64::from(clean.abs()) * 1e-6;
            assert!(!wide || (800..1200).contains(&below) && (800..1200).contains(&above));
        }
    }
}
