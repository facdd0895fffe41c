//! A box around the clean rows, and the map from directions to its points.
//!
//! A direction is a number in [-1, 1] for every coordinate that may move: 1 is the upper end point,
//! -1 the lower one, 0 the clean value. The same direction names a point of every ball, so what was
//! learnt at one radius serves at the next.

use ndarray::{Array2, Zip, s};

use super::{Scope, Target};

/// The rows that move under a scope.
pub(super) fn moving(scope: Scope, tokens: usize) -> std::ops::Range<usize> {
    match scope {
        Scope::All => 0..tokens,
        Scope::Position(at) => {
            assert!(at < tokens, "position {at} of {tokens} tokens");
            at..at + 1
        }
    }
}

/// The end points of the rows that move.
#[derive(Clone, Debug)]
pub(super) struct Ball {
    clean: Array2<f32>,
    lo: Array2<f32>,
    hi: Array2<f32>,
}

impl Ball {
    pub(super) fn new(target: &Target<'_>, lo: &Array2<f32>, hi: &Array2<f32>) -> Self {
        assert_eq!(lo.dim(), target.clean.dim(), "lower end points of the rows");
        assert_eq!(hi.dim(), target.clean.dim(), "upper end points of the rows");
        let rows = moving(target.scope, target.clean.nrows());
        let part = |x: &Array2<f32>| x.slice(s![rows.clone(), ..]).to_owned();
        // A point of an open-ended box is still one of finite numbers.
        let finite = |x: Array2<f32>| x.mapv(|v| v.clamp(f32::MIN, f32::MAX));
        let (lo, hi) = (finite(part(lo)), finite(part(hi)));
        let mut clean = part(target.clean);
        Zip::from(&mut clean).and(&lo).and(&hi).for_each(|x, &lo, &hi| *x = within(*x, lo, hi));
        Self { clean, lo, hi }
    }

    /// The point that a direction names: exactly an end point at -1 and 1.
    pub(super) fn place(&self, direction: &Array2<f32>) -> Array2<f32> {
        Zip::from(direction).and(&self.clean).and(&self.lo).and(&self.hi).map_collect(
            |&u, &x, &lo, &hi| {
                if u >= 1.0 {
                    hi
                } else if u <= -1.0 {
                    lo
                } else if u == 0.0 {
                    x
                } else {
                    let end = if u > 0.0 { hi } else { lo };
                    within(x + u.abs() * (end - x), lo, hi)
                }
            },
        )
    }
}

/// The nearest number between two end points.
fn within(x: f32, lo: f32, hi: f32) -> f32 {
    if x > hi {
        hi
    } else if x >= lo {
        x
    } else {
        lo
    }
}
