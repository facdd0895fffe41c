//! What a code does with every pattern of a few flips in one word.

use std::collections::BTreeSet;

use super::{Protection, Residual};

/// How many patterns of flips in one word come to what; they add up to the patterns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// All patterns.
    pub patterns: u64,
    /// The data are right, by correction or because only check bits were struck.
    pub harmless: u64,
    /// Flagged.
    pub detected: u64,
    /// Wrong data, after a correction.
    pub miscorrected: u64,
    /// Wrong data, as they were struck.
    pub missed: u64,
}

impl Census {
    /// The patterns that leave wrong data unnoticed.
    #[must_use]
    pub fn silent(&self) -> u64 {
        self.miscorrected + self.missed
    }
}

impl Protection {
    /// Strikes every set of `flips` bits, data and check bits, of the word of some bytes.
    ///
    /// # Panics
    /// If the bytes are not those of one word, or there are more than three flips.
    #[must_use]
    pub fn census(&self, bytes: &[u8], flips: usize) -> Census {
        assert!(self.words(bytes.len()) == 1 && flips <= 3, "one word, and at most three flips");
        let mut census = Census::default();
        let mut pattern = BTreeSet::new();
        self.each(bytes, flips, 0, &mut pattern, &mut |residual| {
            census.patterns += 1;
            let field = if residual.is_detected() {
                &mut census.detected
            } else if !residual.is_silent() {
                &mut census.harmless
            } else if residual.miscorrected > 0 {
                &mut census.miscorrected
            } else {
                &mut census.missed
            };
            *field += 1;
        });
        census
    }

    fn each(
        &self,
        bytes: &[u8],
        left: usize,
        from: u64,
        pattern: &mut BTreeSet<u64>,
        take: &mut impl FnMut(&Residual),
    ) {
        if left == 0 {
            take(&self.filter(pattern, bytes));
            return;
        }
        for number in from..self.stored_bits(bytes.len()) {
            pattern.insert(number);
            self.each(bytes, left - 1, number + 1, pattern, take);
            pattern.remove(&number);
        }
    }
}
