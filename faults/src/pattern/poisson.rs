//! How many bits flip at a rate: a Poisson count from one word of chance.
//!
//! The table holds the cumulative probabilities in units of 2^-64, from weights that are products
//! of ratios away from the most likely count; terms below 2^-80 of it are left out. Multiplications
//! and divisions of f64 alone, in one order: the same table everywhere. Each probability is right
//! to 1e-12 of itself, or to 2^-52 where that is more (tested against exact values).

/// Terms that are smaller than this, relative to the largest, are left out: 2^-80.
const LEAST: f64 = 8.271_806_125_530_277e-25;

/// The counts at one mean.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Poisson {
    first: u64,
    /// The probability of at most `first + i`.
    below: Vec<u64>,
}

impl Poisson {
    /// The table of a mean.
    ///
    /// # Panics
    /// Unless the mean is positive and at most [`Self::MOST`].
    pub(crate) fn new(mean: f64) -> Self {
        assert!(mean > 0.0 && mean <= Self::MOST, "a mean of {mean}");
        let top = mean.floor();
        let mut down = Vec::new();
        let (mut weight, mut count) = (1.0, top);
        while count > 0.0 && weight > LEAST {
            weight *= count / mean;
            count -= 1.0;
            down.push(weight);
        }
        let first = top as u64 - down.len() as u64;
        let mut weights: Vec<f64> = down.into_iter().rev().collect();
        let (mut weight, mut count) = (1.0, top);
        while weight > LEAST {
            weights.push(weight);
            count += 1.0;
            weight *= mean / count;
        }
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let cumulative = weights.into_iter().map(|weight| {
            sum += weight;
            // Saturates at the largest number.
            (sum / total * 18_446_744_073_709_551_616.0) as u64
        });
        Self { first, below: cumulative.collect() }
    }

    /// The largest mean.
    pub(crate) const MOST: f64 = 100_000.0;

    /// The count of a word of chance.
    pub(crate) fn draw(&self, word: u64) -> u64 {
        let at = self.below.partition_point(|&below| below <= word);
        self.first + at.min(self.below.len() - 1) as u64
    }

    /// The probability of a count, as the table has it.
    #[cfg(test)]
    pub(super) fn probability(&self, count: u64) -> f64 {
        let Some(at) = count.checked_sub(self.first).map(|at| at as usize) else { return 0.0 };
        let Some(&high) = self.below.get(at) else { return 0.0 };
        let low = if at == 0 { 0 } else { self.below[at - 1] };
        (high - low) as f64 / 18_446_744_073_709_551_616.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Identity, TrialRng};

    #[test]
    fn probabilities_are_those_of_the_law() {
        // e^-m m^k / k! by mpmath at 40 digits.
        let known = [
            (1e-9, 0, 0.999_999_999),
            (1e-9, 1, 9.999_999_99e-10),
            (0.3, 0, 0.740_818_220_681_717_9),
            (0.3, 2, 0.033_336_819_930_677_3),
            (1.0, 1, 0.367_879_441_171_442_3),
            (7.5, 3, 0.038_888_744_776_019_55),
            (200.0, 200, 0.028_197_727_685_920_82),
            (99_999.5, 100_000, 0.001_261_563_632_744_517),
        ];
        for (mean, count, exact) in known {
            let got = Poisson::new(mean).probability(count);
            let error = (got - exact).abs();
            assert!(error < 1e-12 * exact + 4e-16, "{mean} {count}: {got} is not {exact}");
        }
    }

    #[test]
    fn the_ends_of_the_words_give_counts_of_the_table() {
        for mean in [1e-300, 1e-20, 0.5, 3.0, 4096.0, Poisson::MOST] {
            let table = Poisson::new(mean);
            assert!(table.below.windows(2).all(|pair| pair[0] <= pair[1]));
            assert_eq!(table.below.last(), Some(&u64::MAX));
            let least = table.draw(0);
            assert!(least >= table.first && least as f64 <= mean, "{mean}: {least}");
            let most = table.draw(u64::MAX);
            assert!(most as f64 <= mean + 12.0 * mean.sqrt() + 30.0, "{mean}: {most}");
        }
    }

    #[test]
    fn the_mean_and_the_variance_of_draws_are_the_rate() {
        const DRAWS: u64 = 100_000;
        let identity = Identity::of(&["poisson"]);
        for (index, mean) in [0.02, 0.7, 5.0, 300.0].into_iter().enumerate() {
            let table = Poisson::new(mean);
            let mut rng = TrialRng::new(&identity, index as u64);
            let counts: Vec<u64> = (0..DRAWS).map(|_| table.draw(rng.word())).collect();
            let n = DRAWS as f64;
            let average = counts.iter().sum::<u64>() as f64 / n;
            let square = |count: &u64| (*count as f64 - mean) * (*count as f64 - mean);
            let spread = counts.iter().map(square).sum::<f64>() / n;
            // Six standard deviations; the square of a centred count has variance m + 2 m^2.
            assert!((average - mean).abs() < 6.0 * (mean / n).sqrt(), "{mean}: mean {average}");
            let wide = 6.0 * ((mean + 2.0 * mean * mean) / n).sqrt();
            assert!((spread - mean).abs() < wide, "{mean}: variance {spread}");
        }
    }
}
