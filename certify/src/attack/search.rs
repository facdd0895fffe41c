//! The state of a search, and how it reads points and slopes.
//!
//! Whatever is read goes through one judge, which ends the search at the first other decision and
//! remembers the direction of the lowest margin.

use ndarray::{Array2, ArrayView2, Zip, s};

use super::ball::{Ball, moving};
use super::draws::Draws;
use super::oracle::{Oracle, Reading, Rivals};
use super::{Attack, Norm, Target, Witness};

/// Pairs of evaluations that the first measured corner may take.
const PAIRS: usize = 16;
/// Rivals that the first gradients look at.
const RIVALS: usize = 3;

/// A point on which the decision differs.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) direction: Array2<f32>,
    moved: Array2<f32>,
    reading: Reading,
    pub(super) kind: &'static str,
}

impl Hit {
    /// The whole rows with what the engine said of them.
    pub(super) fn witness(&self, target: &Target<'_>) -> Witness {
        let mut point = target.clean.clone();
        let rows = moving(target.scope, point.nrows());
        point.slice_mut(s![rows, ..]).assign(&self.moved);
        let Reading { prediction, margin, .. } = self.reading;
        Witness { point, prediction, margin, kind: self.kind }
    }
}

/// What an evaluation, or a method of several, has come to.
pub(super) enum Outcome<T> {
    /// The decision differs here.
    Hit(Box<Hit>),
    /// It does not.
    Miss(T),
    /// Nothing may be spent any more.
    Spent,
}

impl<T> Outcome<T> {
    pub(super) fn hit(self) -> Option<Hit> {
        match self {
            Self::Hit(hit) => Some(*hit),
            _ => None,
        }
    }
}

/// The state of a search: what is left, what was drawn, what did best.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) norm: Norm,
    pub(super) oracle: Oracle<'a>,
    pub(super) draws: Draws,
    /// The direction of the lowest margin in the ball at hand.
    pub(super) lead: Option<(f32, Array2<f32>)>,
    /// The round of methods that comes next; it survives a change of the ball.
    pub(super) round: usize,
    pub(super) restarts: usize,
    /// Into how many blocks the next greedy flips divide a corner: ever smaller ones, in turn.
    pub(super) blocks: usize,
}

impl<'a> Search<'a> {
    pub(super) fn new(attack: &Attack, target: &Target<'a>, norm: Norm) -> Self {
        Self {
            norm,
            oracle: Oracle::new(target, attack.budget.forward_evaluations),
            draws: Draws::new(attack.seed, attack.stream),
            lead: None,
            round: 0,
            restarts: attack.restarts,
            blocks: 4,
        }
    }

    /// A random corner of the cube, or such a point of the sphere.
    pub(super) fn corner(&mut self) -> Array2<f32> {
        let corner = self.draws.corner(self.oracle.shape());
        self.norm.unit(corner)
    }

    /// A random point of the cube, or of the sphere.
    pub(super) fn point(&mut self) -> Array2<f32> {
        let point = self.draws.point(self.oracle.shape());
        self.norm.unit(point)
    }

    /// Forgets margins that were met in another ball.
    pub(super) fn enter(&mut self) {
        self.lead = None;
    }

    /// The lowest margin in the ball at hand and its direction.
    pub(super) fn lead(&self) -> Option<&(f32, Array2<f32>)> {
        self.lead.as_ref()
    }

    fn judge(
        &mut self,
        direction: &Array2<f32>,
        moved: Array2<f32>,
        reading: Reading,
        kind: &'static str,
    ) -> Outcome<Reading> {
        if reading.prediction != Some(self.oracle.claim().winner) {
            let direction = direction.clone();
            return Outcome::Hit(Box::new(Hit { direction, moved, reading, kind }));
        }
        if self.lead.as_ref().is_none_or(|(lowest, _)| reading.margin < *lowest) {
            self.lead = Some((reading.margin, direction.clone()));
        }
        Outcome::Miss(reading)
    }

    /// Reads the point of a direction.
    pub(super) fn probe(
        &mut self,
        ball: &Ball,
        direction: &Array2<f32>,
        kind: &'static str,
    ) -> Outcome<Reading> {
        let moved = ball.place(direction);
        match self.oracle.read(moved.view()) {
            Some(reading) => self.judge(direction, moved, reading, kind),
            None => Outcome::Spent,
        }
    }

    /// The clean point itself.
    pub(super) fn clean(&mut self, ball: &Ball) -> Outcome<Reading> {
        let still = Array2::zeros(self.oracle.shape());
        self.probe(ball, &still, "clean")
    }

    /// The slopes of the margins to rivals at a direction, with the margins.
    pub(super) fn slopes(
        &mut self,
        ball: &Ball,
        direction: &Array2<f32>,
        rivals: Rivals,
        kind: &'static str,
    ) -> Outcome<Vec<(f32, Array2<f32>)>> {
        if !self.oracle.has_gradients() {
            return self.measured_slope(ball, direction);
        }
        let moved = ball.place(direction);
        let Some((reading, slopes)) = self.oracle.slopes(moved.view(), rivals) else {
            return Outcome::Spent;
        };
        let winner = self.oracle.claim().winner;
        let margin = |(rival, slope)| (reading.over(winner, rival), slope);
        let all = slopes.into_iter().map(margin).collect();
        match self.judge(direction, moved, reading, kind) {
            Outcome::Hit(hit) => Outcome::Hit(hit),
            _ => Outcome::Miss(all),
        }
    }

    /// The slope along one random corner, from the margins on both sides (SPSA).
    fn measured_slope(
        &mut self,
        ball: &Ball,
        direction: &Array2<f32>,
    ) -> Outcome<Vec<(f32, Array2<f32>)>> {
        let signs = self.corner();
        let mut margins = [0.0; 2];
        for (margin, side) in margins.iter_mut().zip([0.5, -0.5]) {
            let shifted = self.norm.inside(direction + &(&signs * side));
            match self.probe(ball, &shifted, "spsa") {
                Outcome::Miss(reading) => *margin = reading.margin,
                Outcome::Hit(hit) => return Outcome::Hit(hit),
                Outcome::Spent => return Outcome::Spent,
            }
        }
        let slope = signs * (margins[0] - margins[1]);
        Outcome::Miss(vec![((margins[0] + margins[1]) / 2.0, slope)])
    }

    /// Corners against the gradients at the clean point, the most promising rival first.
    pub(super) fn first_corners(&mut self, ball: &Ball) -> Outcome<Vec<(f32, Array2<f32>)>> {
        let still = Array2::zeros(self.oracle.shape());
        if !self.oracle.has_gradients() {
            return self.measured_corner(ball, &still);
        }
        let rivals = Rivals::Nearest((self.oracle.left() / 8).clamp(1, RIVALS));
        let slopes = match self.slopes(ball, &still, rivals, "clean") {
            Outcome::Miss(slopes) => slopes,
            Outcome::Hit(hit) => return Outcome::Hit(hit),
            Outcome::Spent => return Outcome::Spent,
        };
        let norm = self.norm;
        let mut corners: Vec<(f32, Array2<f32>)> = (slopes.into_iter())
            .map(|(margin, slope)| (margin / norm.magnitude(&slope), norm.against(&slope)))
            .filter(|(reach, _)| reach.is_finite())
            .collect();
        corners.sort_by(|a, b| a.0.total_cmp(&b.0));
        Outcome::Miss(corners)
    }

    /// The corner against the sum of a few measured slopes; its reach is unknown.
    fn measured_corner(
        &mut self,
        ball: &Ball,
        still: &Array2<f32>,
    ) -> Outcome<Vec<(f32, Array2<f32>)>> {
        let pairs = (self.oracle.left() / 8).clamp(1, PAIRS);
        let mut sum = Array2::<f32>::zeros(self.oracle.shape());
        for _ in 0..pairs {
            match self.measured_slope(ball, still) {
                Outcome::Miss(slopes) => sum += &slopes[0].1,
                Outcome::Hit(hit) => return Outcome::Hit(hit),
                Outcome::Spent => return Outcome::Spent,
            }
        }
        Outcome::Miss(vec![(f32::NAN, self.norm.against(&sum))])
    }
}

impl Outcome<Reading> {
    pub(super) fn into_unit(self) -> Outcome<()> {
        match self {
            Self::Hit(hit) => Outcome::Hit(hit),
            Self::Miss(_) => Outcome::Miss(()),
            Self::Spent => Outcome::Spent,
        }
    }
}

/// The root mean square of rows.
pub(super) fn root_mean_square(x: ArrayView2<'_, f32>) -> f32 {
    let squares = Zip::from(&x).fold(0.0, |sum, &v| sum + f64::from(v) * f64::from(v));
    (squares / x.len() as f64).sqrt() as f32
}
