//! The smallest radius at which an attack finds a witness: a bound of the true radius from above.
//!
//! Radii double, or more, along the best directions until one is hit; the witness is drawn back
//! towards the clean point along its own direction, which costs one evaluation a step; then the
//! rest of the budget goes to walks along the boundary ([`super::boundary`]), with a round of
//! mirrored coordinates ([`super::mirror`]) after every few of them.

use ndarray::Array2;

use super::ball::Ball;
use super::boundary::{AIMS, Walks};
use super::oracle::Rivals;
use super::search::{Hit, Outcome, Search, root_mean_square};
use super::{Attack, Attempt, BallOf, Norm, Target, Witness};

/// A witness is drawn back until its radius is known to this share.
pub(super) const PRECISION: f32 = 1.0 / 512.0;
/// Growth ends at this multiple of the largest clean magnitude: beyond it a ball holds about every
/// point that the first norm can tell apart.
const FARTHEST: f32 = 16.0;
/// The first radius where no gradient tells one, as a share of the rows' root mean square.
const FIRST_SHARE: f32 = 1.0 / 16.0;
/// With fewer evaluations left, each rung costs one and the strides grow.
const SHORT: usize = 64;

/// Searches the smallest radius at which the decision falls.
///
/// `ball` gives the end points of the ball of a radius. The radius that is reported is the true
/// distance of the witness to the clean rows, rounded up; it is 0 where the clean decision is not
/// the claimed one.
///
/// # Panics
/// If shapes differ, or the claim or the scope names what is not there.
#[must_use]
pub fn attack_radius(attack: &Attack, target: &Target<'_>, ball: &BallOf<'_>) -> Attempt {
    siege(attack, target, Norm::Linf, &|radius| {
        let (lo, hi) = ball(radius);
        Ball::new(target, &lo, &hi)
    })
}

/// Searches the smallest Euclidean radius at which the decision falls, over all rows that move
/// together; the radius is again the distance of the witness, rounded up.
///
/// # Panics
/// If the claim or the scope names what is not there.
#[must_use]
pub fn attack_radius_l2(attack: &Attack, target: &Target<'_>) -> Attempt {
    siege(attack, target, Norm::L2, &|radius| Ball::sphere(target, radius))
}

fn siege(attack: &Attack, target: &Target<'_>, norm: Norm, at: &dyn Fn(f32) -> Ball) -> Attempt {
    let search = Search::new(attack, target, norm);
    let walks = Walks::default();
    let mut siege = Siege { search, target, norm, at, best: None, walks, mirrored: 0 };
    siege.run();
    let evaluations = siege.search.oracle.spent;
    Attempt { found: siege.best.map(|best| (best.distance, best.witness)), evaluations }
}

/// The nearest witness so far.
pub(super) struct Best {
    /// The radius of the ball that it fell in, and its direction there.
    pub(super) radius: f32,
    pub(super) direction: Array2<f32>,
    witness: Witness,
    /// Its true distance to the clean rows.
    pub(super) distance: f32,
}

pub(super) struct Siege<'a, 'b> {
    pub(super) search: Search<'a>,
    target: &'b Target<'a>,
    pub(super) norm: Norm,
    /// The ball of a radius.
    at: &'b dyn Fn(f32) -> Ball,
    pub(super) best: Option<Best>,
    pub(super) walks: Walks,
    /// Where the next round of mirrored coordinates begins in their order.
    pub(super) mirrored: usize,
}

impl Siege<'_, '_> {
    pub(super) fn ball(&self, radius: f32) -> Ball {
        (self.at)(radius)
    }

    fn run(&mut self) {
        let point = self.ball(0.0);
        match self.search.clean(&point) {
            Outcome::Hit(hit) => return self.keep(0.0, &hit),
            Outcome::Miss(reading) => {
                self.walks.rivals = reading.rivals(self.target.claim.winner, AIMS);
            }
            Outcome::Spent => return,
        }
        if let Some((held, radius, hit)) = self.grow() {
            self.keep(radius, &hit);
            self.draw_back(held);
            while self.close_in().is_some() {}
        }
    }

    /// Keeps a hit if its witness is nearer than the last; its direction reaches to the surface.
    pub(super) fn keep(&mut self, radius: f32, hit: &Hit) {
        let witness = hit.witness(self.target);
        let distance = self.norm.distance(self.target.clean, &witness.point);
        if self.best.as_ref().is_none_or(|best| distance < best.distance) {
            let (radius, direction) = self.stretched(radius, &hit.direction);
            self.best = Some(Best { radius, direction, witness, distance });
        }
    }

    /// The first radius that falls, with the last that withstood before it.
    fn grow(&mut self) -> Option<(f32, f32, Hit)> {
        let clean = self.target.clean;
        let largest =
            clean.iter().fold(0.0, |top: f32, x| if x.abs() > top { x.abs() } else { top });
        let (rows, width) = self.search.oracle.shape();
        let ones = self.norm.of_ones(rows * width);
        let farthest = FARTHEST * ones * if largest > 0.0 { largest } else { 1.0 };
        let guess = FIRST_SHARE * ones * root_mean_square(clean.view());
        let guess = if guess > 0.0 { guess } else { FIRST_SHARE * ones };
        let first = self.ball(guess);
        let corners = match self.search.first_corners(&first) {
            Outcome::Hit(hit) => return Some((0.0, guess, *hit)),
            Outcome::Miss(corners) => corners,
            Outcome::Spent => return None,
        };
        let reach = corners.first().map_or(f32::NAN, |(reach, _)| *reach);
        let mut radius = if reach > 0.0 && reach < farthest { reach } else { guess };
        let mut corners: Vec<Array2<f32>> = corners.into_iter().map(|(_, c)| c).collect();
        if corners.is_empty() {
            corners.push(self.search.corner());
        }
        let (mut held, mut factor) = (0.0, 2.0);
        loop {
            if let Some(hit) = self.storm(radius, &mut corners) {
                return Some((held, radius, hit));
            }
            if self.search.oracle.left() == 0 {
                return None;
            }
            if radius >= farthest {
                let allowance = self.search.oracle.left();
                let ball = self.ball(radius);
                return self.search.rounds(&ball, allowance).map(|hit| (held, radius, hit));
            }
            held = radius;
            // A short budget takes ever longer strides.
            factor *= if self.search.oracle.left() < SHORT { 2.0 } else { 1.0 };
            radius = if radius < farthest / factor { radius * factor } else { farthest };
        }
    }

    /// Tries the corners at a radius; where all fail, turns one by the slope at the best of them.
    fn storm(&mut self, radius: f32, corners: &mut Vec<Array2<f32>>) -> Option<Hit> {
        let ball = self.ball(radius);
        self.search.enter();
        let kind = self.search.corner_kind();
        let count = if self.search.oracle.left() < SHORT { 1 } else { corners.len() };
        for corner in &corners[..count] {
            match self.search.probe(&ball, corner, kind) {
                Outcome::Hit(hit) => return Some(*hit),
                Outcome::Miss(_) => {}
                Outcome::Spent => return None,
            }
        }
        if count < corners.len() || self.search.oracle.left() < SHORT {
            return None;
        }
        let lead = self.search.lead().map(|(_, direction)| direction.clone())?;
        match self.search.slopes(&ball, &lead, Rivals::Nearest(1), kind) {
            Outcome::Hit(hit) => Some(*hit),
            Outcome::Miss(slopes) => {
                corners.truncate(2);
                corners.extend(slopes.first().map(|(_, slope)| self.norm.against(slope)));
                None
            }
            Outcome::Spent => None,
        }
    }

    /// Draws the best witness back along its direction: ever longer steps until one fails, then
    /// halves, down to a radius that is known to withstand.
    pub(super) fn draw_back(&mut self, held: f32) {
        let Some(best) = &self.best else { return };
        let (radius, direction, kind) = (best.radius, best.direction.clone(), best.witness.kind);
        let (mut low, mut high) = (if held < radius { held } else { 0.0 }, radius);
        let mut step = (high - low) / 8.0;
        let mut bracketed = false;
        while high - low > high * PRECISION {
            let middle = low + (high - low) / 2.0;
            let tried = if bracketed || high - step <= middle { middle } else { high - step };
            let ball = self.ball(tried);
            match self.search.probe(&ball, &direction, kind) {
                Outcome::Hit(hit) => {
                    self.keep(tried, &hit);
                    (high, step) = (tried, 2.0 * step);
                }
                Outcome::Miss(_) => (low, bracketed) = (tried, true),
                Outcome::Spent => break,
            }
        }
    }

    /// A few walks and a round of mirrored coordinates; `None` once nothing is left to do.
    fn close_in(&mut self) -> Option<()> {
        for _ in 0..self.search.restarts {
            self.set_out()?;
        }
        self.mirror()
    }

    /// The same point, about, as a direction on the surface of a smaller ball.
    fn stretched(&self, radius: f32, direction: &Array2<f32>) -> (f32, Array2<f32>) {
        let size = self.norm.size(direction);
        if size > 0.0 { (radius * size, direction / size) } else { (radius, direction.clone()) }
    }
}
