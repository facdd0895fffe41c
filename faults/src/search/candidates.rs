//! The bits that a round may try: all of them, or as many as it can pay for, drawn evenly.

use std::collections::BTreeSet;

use crate::address::Address;
use crate::draw::{Identity, TrialRng};
use crate::space::{Space, Target};

/// The bits of some targets, numbered through.
pub(super) struct Candidates<'a> {
    space: &'a Space,
    targets: &'a [Target],
}

impl<'a> Candidates<'a> {
    pub(super) fn new(space: &'a Space, targets: &'a [Target]) -> Self {
        Self { space, targets }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.targets.iter().map(|&target| self.space.count(target, 0)).sum()
    }

    fn address(&self, mut number: u64) -> Address {
        for &target in self.targets {
            let count = self.space.count(target, 0);
            if number < count {
                return self.space.address(target, 0, number);
            }
            number -= count;
        }
        unreachable!("a number below the count")
    }

    /// At most `most` of them, without those that have flipped; in the order of their numbers. Each
    /// round draws from a stream of its own.
    pub(super) fn draw(&self, identity: &Identity, flips: &[Address], most: u64) -> Vec<Address> {
        let count = self.count();
        let numbers: BTreeSet<u64> = if count <= most {
            (0..count).collect()
        } else {
            let mut rng = TrialRng::new(identity, flips.len() as u64);
            let mut numbers = BTreeSet::new();
            // Floyd's sampling: every subset of this size is equally likely.
            for last in count - most..count {
                let number = rng.below(last + 1);
                if !numbers.insert(number) {
                    numbers.insert(last);
                }
            }
            numbers
        };
        let drawn = numbers.into_iter().map(|number| self.address(number));
        drawn.filter(|address| !flips.contains(address)).collect()
    }
}
