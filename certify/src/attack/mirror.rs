//! Single coordinates of the best direction, mirrored one by one.
//!
//! A slope that passes straight through the rounding to codes says little of a single coordinate:
//! which codes turn over decides. Here each costs one evaluation, just inside the nearest witness,
//! and what lowers the margin stays. Slopes only say which come first, so this search works where
//! they vanish or mislead.

use ndarray::{Array2, Zip};

use super::oracle::Rivals;
use super::radius::{PRECISION, Siege};
use super::search::Outcome;

/// Coordinates that one round mirrors.
const MIRRORED: usize = 16;
/// How far inside the nearest witness they are mirrored, as a share of its radius.
const INSIDE: f32 = 2.0 * PRECISION;
/// The name of the method.
const KIND: &str = "mirrored-coordinates";

impl Siege<'_, '_> {
    /// Mirrors coordinates of the best direction; `None` once the budget is spent.
    pub(super) fn mirror(&mut self) -> Option<()> {
        let mut direction = self.norm.corner_of(&self.best.as_ref()?.direction);
        let (mut radius, mut lowest) = self.narrow(&direction)?;
        let order = self.promising(radius, &direction)?;
        let count = if order.len() < MIRRORED { order.len() } else { MIRRORED };
        let first = self.mirrored;
        let mut gained = false;
        for turn in 0..count {
            let mut mirrored = direction.clone();
            let cells = mirrored.as_slice_mut().expect("standard rows");
            let index = order[(first + turn) % order.len()];
            cells[index] = -cells[index];
            let ball = self.ball(radius);
            match self.search.probe(&ball, &mirrored, KIND) {
                Outcome::Hit(hit) => {
                    self.keep(radius, &hit);
                    (direction, gained) = (mirrored, true);
                    (radius, lowest) = self.narrow(&direction)?;
                }
                Outcome::Miss(reading) if reading.margin < lowest => {
                    (direction, lowest, gained) = (mirrored, reading.margin, true);
                }
                Outcome::Miss(_) => {}
                Outcome::Spent => return None,
            }
        }
        // What was of no use comes last next time.
        self.mirrored = if gained { 0 } else { (first + count) % order.len() };
        Some(())
    }

    /// Follows a direction inwards until it no longer hits: the radius there and the margin.
    fn narrow(&mut self, direction: &Array2<f32>) -> Option<(f32, f32)> {
        loop {
            let radius = self.best.as_ref()?.radius * (1.0 - INSIDE);
            let ball = self.ball(radius);
            match self.search.probe(&ball, direction, KIND) {
                Outcome::Hit(hit) => self.keep(radius, &hit),
                Outcome::Miss(reading) => return Some((radius, reading.margin)),
                Outcome::Spent => return None,
            }
        }
    }

    /// All coordinates, those first whose mirroring lowers the margin most by the slope.
    fn promising(&mut self, radius: f32, direction: &Array2<f32>) -> Option<Vec<usize>> {
        let mut order = self.search.draws.order(direction.len());
        let ball = self.ball(radius);
        let slopes = match self.search.slopes(&ball, direction, Rivals::Nearest(1), KIND) {
            Outcome::Miss(slopes) => slopes,
            Outcome::Hit(_) => return Some(order),
            Outcome::Spent => return None,
        };
        if let Some((_, slope)) = slopes.first() {
            let falls = Zip::from(direction).and(slope).map_collect(|u, g| u * g);
            let falls = falls.as_slice().expect("standard rows");
            order.sort_by(|&a, &b| falls[b].total_cmp(&falls[a]));
        }
        Some(order)
    }
}
