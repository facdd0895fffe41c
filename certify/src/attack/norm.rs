//! What measures a perturbation, and how directions behave under it.
//!
//! A direction is a point of the unit ball of its norm over all coordinates that may move: the unit
//! cube, or the unit sphere with what it encloses. The dual norm of a slope is by how much a linear
//! margin falls for each unit of radius.

use engine::numerics::sum16;
use ndarray::{Array2, Zip};

/// What measures a perturbation of all rows that move together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// The largest change of any coordinate.
    Linf,
    /// The Euclidean norm of the change.
    L2,
}

impl Norm {
    /// The steepest way down a slope, on the surface of the unit ball; 0 where there is none.
    pub(super) fn against(self, slope: &Array2<f32>) -> Array2<f32> {
        match self {
            Self::Linf => slope.mapv(|g| {
                if g > 0.0 {
                    -1.0
                } else if g < 0.0 {
                    1.0
                } else {
                    0.0
                }
            }),
            Self::L2 => self.unit(slope.mapv(|g| -g)),
        }
    }

    /// By how much a margin falls for each unit of radius, if it is linear.
    pub(super) fn magnitude(self, slope: &Array2<f32>) -> f32 {
        match self {
            Self::Linf => {
                let magnitudes: Vec<f32> = slope.iter().map(|g| g.abs()).collect();
                sum16(&magnitudes)
            }
            Self::L2 => euclid(slope) as f32,
        }
    }

    /// A direction back in the unit ball.
    pub(super) fn inside(self, direction: Array2<f32>) -> Array2<f32> {
        match self {
            Self::Linf => direction.mapv_into(|u| u.clamp(-1.0, 1.0)),
            Self::L2 if euclid(&direction) > 1.0 => self.unit(direction),
            Self::L2 => direction,
        }
    }

    /// A corner of the cube as it is; under the Euclidean norm, the direction at length 1.
    pub(super) fn unit(self, direction: Array2<f32>) -> Array2<f32> {
        let length = euclid(&direction);
        if self == Self::Linf || !(length > 0.0 && length.is_finite()) {
            return direction;
        }
        direction.mapv_into(|u| (f64::from(u) / length) as f32)
    }

    /// The nearest direction from which blocks may be mirrored.
    pub(super) fn corner_of(self, direction: &Array2<f32>) -> Array2<f32> {
        match self {
            Self::Linf => direction.mapv(|u| if u < 0.0 { -1.0 } else { 1.0 }),
            Self::L2 => self.unit(direction.clone()),
        }
    }

    /// The size of a direction: 1 on the surface of the unit ball.
    pub(super) fn size(self, direction: &Array2<f32>) -> f32 {
        match self {
            Self::Linf => {
                direction.iter().fold(0.0, |peak, u| if u.abs() > peak { u.abs() } else { peak })
            }
            Self::L2 => euclid(direction) as f32,
        }
    }

    /// The size of a change by 1 in each of so many coordinates.
    pub(super) fn of_ones(self, coordinates: usize) -> f32 {
        match self {
            Self::Linf => 1.0,
            Self::L2 => (coordinates as f64).sqrt() as f32,
        }
    }

    /// The distance of two points, rounded up to an f32.
    ///
    /// # Panics
    /// If the shapes differ.
    #[must_use]
    pub fn distance(self, a: &Array2<f32>, b: &Array2<f32>) -> f32 {
        assert_eq!(a.dim(), b.dim(), "points of one space");
        match self {
            Self::Linf => Zip::from(a).and(b).fold(0.0, |largest, &a, &b| {
                let d = rounded_up(gap(a, b));
                if d > largest || d.is_nan() { d } else { largest }
            }),
            Self::L2 => {
                let squares = Zip::from(a).and(b).fold(0.0, |sum: f64, &a, &b| {
                    let d = gap(a, b);
                    if d == 0.0 { sum } else { (sum + (d * d).next_up()).next_up() }
                });
                if squares == 0.0 { 0.0 } else { rounded_up(squares.sqrt().next_up()) }
            }
        }
    }
}

/// The Euclidean norm, about.
fn euclid(x: &Array2<f32>) -> f64 {
    x.iter().fold(0.0, |sum, &u| sum + f64::from(u) * f64::from(u)).sqrt()
}

/// `|a - b|`, exact or rounded up.
fn gap(a: f32, b: f32) -> f64 {
    let (a, b) = (f64::from(a), f64::from(b));
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    let d = high - low;
    // The error of the f64 subtraction (Knuth's two-sum), exact: positive if `d` is too small.
    let back = d - high;
    let error = (high - (d - back)) - (low + back);
    if error > 0.0 { d.next_up() } else { d }
}

/// An f32 that is not below.
fn rounded_up(d: f64) -> f32 {
    let rounded = d as f32;
    if f64::from(rounded) < d { rounded.next_up() } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    fn gap32(a: f32, b: f32) -> f32 {
        rounded_up(gap(a, b))
    }

    #[test]
    fn a_gap_is_exact_or_rounded_up() {
        assert_eq!(gap32(1.5, -2.0), 3.5);
        assert_eq!(gap32(-2.0, 1.5), 3.5);
        assert_eq!(gap32(0.0, -0.0), 0.0);
        // 1 + 2^-30 lies between two floats; 1e30 + 2^-100 even beyond f64.
        assert_eq!(gap32(1.0, -f32::from_bits(0x3080_0000)), 1.0f32.next_up());
        assert_eq!(gap32(1e30, -f32::from_bits(0x0d80_0000)), 1e30f32.next_up());
        assert_eq!(gap32(1e30, f32::from_bits(0x0d80_0000)), 1e30);
        assert_eq!(gap32(f32::MAX, f32::MIN), f32::INFINITY);
        assert!(gap32(f32::NAN, 0.0).is_nan());
    }

    #[test]
    fn a_distance_is_the_largest_gap_or_the_root_of_all_squares_rounded_up() {
        let a = arr2(&[[0.0, 1.0], [2.0, -3.0]]);
        let b = arr2(&[[0.5, 1.0], [2.0, -1.0]]);
        assert_eq!(Norm::Linf.distance(&a, &b), 2.0);
        for norm in [Norm::Linf, Norm::L2] {
            assert_eq!(norm.distance(&a, &a), 0.0);
            assert!(norm.distance(&a, &arr2(&[[f32::NAN, 0.0], [0.0, 0.0]])).is_nan());
        }
        // Over all rows together: the root of 3^2 + 4^2, never below it.
        let c = arr2(&[[3.0, 1.0], [2.0, 1.0]]);
        let five = Norm::L2.distance(&a, &c);
        assert!((5.0..=5.0f32.next_up()).contains(&five), "{five}");
        // Changes too small to be seen beside the large ones are not lost.
        let near = arr2(&[[3.0, 1.0], [2.0, f32::from_bits(0x3f80_0001)]]);
        assert!(Norm::L2.distance(&a, &near) > 5.0);
    }

    #[test]
    fn under_either_norm_what_goes_against_a_slope_has_size_one_and_falls_by_its_magnitude() {
        let slope = arr2(&[[3.0f32, 0.0], [-4.0, 12.0]]);
        for norm in [Norm::Linf, Norm::L2] {
            let way = norm.against(&slope);
            assert!((norm.size(&way) - 1.0).abs() < 1e-6);
            let falls: f32 = -(&way * &slope).sum();
            assert!((falls - norm.magnitude(&slope)).abs() < 1e-5, "{norm:?}");
            assert!(norm.size(&norm.inside(way * 7.0)) <= 1.0 + 1e-6);
        }
        let still = Array2::zeros((2, 2));
        assert_eq!(Norm::L2.against(&still), still);
    }
}
