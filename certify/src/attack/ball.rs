//! A ball around the clean rows, and the map from directions to its points.
//!
//! In a box a direction is a number in [-1, 1] for every coordinate that may move: 1 is the upper
//! end point, -1 the lower one, 0 the clean value. In a sphere it is a vector of length at most 1,
//! in units of the radius; rounding may carry a point outside by an ulp, so what counts is the
//! distance that is measured afterwards. The same direction names a point of every ball, so what
//! was learnt at one radius serves at the next.

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

/// The rows that move and how far.
#[derive(Clone, Debug)]
pub(super) struct Ball {
    clean: Array2<f32>,
    reach: Reach,
}

#[derive(Clone, Debug)]
enum Reach {
    /// As far as these end points.
    Ends { lo: Array2<f32>, hi: Array2<f32> },
    /// As far as this Euclidean radius.
    Sphere(f32),
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
        Self { clean, reach: Reach::Ends { lo, hi } }
    }

    /// The Euclidean ball of a radius.
    pub(super) fn sphere(target: &Target<'_>, radius: f32) -> Self {
        let rows = moving(target.scope, target.clean.nrows());
        let clean = target.clean.slice(s![rows, ..]).to_owned();
        Self { clean, reach: Reach::Sphere(radius) }
    }

    /// The point that a direction names: exactly an end point of a box at -1 and 1.
    pub(super) fn place(&self, direction: &Array2<f32>) -> Array2<f32> {
        match &self.reach {
            Reach::Ends { lo, hi } => {
                Zip::from(direction).and(&self.clean).and(lo).and(hi).map_collect(placed)
            }
            Reach::Sphere(radius) => {
                let radius = f64::from(*radius);
                Zip::from(direction).and(&self.clean).map_collect(|&u, &x| {
                    let far = f64::from(x) + radius * f64::from(u);
                    (far as f32).clamp(f32::MIN, f32::MAX)
                })
            }
        }
    }
}

fn placed(&u: &f32, &x: &f32, &lo: &f32, &hi: &f32) -> f32 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;
    use proptest::prelude::*;

    fn ball(clean: f32, lo: f32, hi: f32) -> Ball {
        let (lo, hi) = (arr2(&[[lo]]), arr2(&[[hi]]));
        Ball { clean: arr2(&[[clean]]), reach: Reach::Ends { lo, hi } }
    }

    #[test]
    fn corners_are_the_end_points_and_zero_is_the_clean_value() {
        let ball = ball(0.1, 0.1 - 0.3, 0.1 + 0.3);
        let at = |u: f32| ball.place(&arr2(&[[u]]))[[0, 0]];
        assert_eq!((at(-1.0), at(0.0), at(1.0)), (0.1 - 0.3, 0.1, 0.1 + 0.3));
        assert!((at(0.5) - 0.25).abs() < 1e-6 && (at(-0.5) + 0.05).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_a_number_falls_back_on_an_end_point() {
        assert_eq!(ball(0.0, f32::MIN, f32::MAX).place(&arr2(&[[0.5]])), arr2(&[[f32::MAX / 2.0]]));
        let wide = ball(-f32::MAX, f32::MIN, f32::MAX).place(&arr2(&[[0.5]]));
        assert_eq!(wide, arr2(&[[f32::MAX]]));
        assert_eq!(within(f32::NAN, -1.0, 1.0), -1.0);
    }

    proptest! {
        #[test]
        fn every_direction_names_a_point_between_the_end_points(
            clean in -1e3f32..1e3, radius in 0f32..1e2, u in -1f32..=1.0,
        ) {
            let (lo, hi) = (clean - radius, clean + radius);
            let x = ball(clean, lo, hi).place(&arr2(&[[u]]))[[0, 0]];
            prop_assert!(lo <= x && x <= hi);
        }
    }
}
