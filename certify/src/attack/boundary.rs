//! Walks along the boundary of a decision, in a ball that moves with them.
//!
//! A descent in a fixed ball ends at its first hit. Here a hit is kept, the ball shrinks to inside
//! it and the descent goes on; behind a miss the ball grows again, though never to the nearest
//! witness (Pintor et al. 2021). Steps and changes of the radius fall geometrically: a walk begins
//! by leaving its basin and ends by settling in one. Every other walk makes for one rival in its
//! first half, because the rival that is nearest at the clean rows need not win at the nearest
//! witness.

use ndarray::Array2;

use super::oracle::Rivals;
use super::radius::{Best, PRECISION, Siege};
use super::search::Outcome;

/// Slopes of one walk.
const STEPS: usize = 20;
/// The first step in units of the ball, and what is left of it after each.
const RATE: (f32, f32) = (0.5, 0.88);
/// The first change of the radius as a share of it, and what is left of it after each step.
const GIVE: (f32, f32) = (0.3, 0.8);
/// How much of the velocity outlives a step.
const MOMENTUM: f32 = 0.5;
/// So many rivals are made for, those that are nearest at the clean rows.
pub(super) const AIMS: usize = 5;

/// What walks have done so far.
#[derive(Debug, Default)]
pub(super) struct Walks {
    /// The rivals to make for, nearest first.
    pub(super) rivals: Vec<usize>,
    count: usize,
    /// The distance of the witness that the last plain walk left from.
    left: Option<f32>,
}

impl Siege<'_, '_> {
    /// One walk: a plain one from the best direction, then one that makes for a rival.
    ///
    /// `None` once the budget is spent.
    pub(super) fn set_out(&mut self) -> Option<()> {
        let Best { direction, distance, .. } = self.best.as_ref()?;
        let (lead, distance) = (direction.clone(), *distance);
        let (pair, plain) = (self.walks.count / 2, self.walks.count.is_multiple_of(2));
        self.walks.count += 1;
        let rivals = self.walks.rivals.len();
        if plain || rivals == 0 {
            // The same walk again would come to the same end.
            let fresh = self.walks.left.replace(distance) != Some(distance);
            let start = if fresh { lead } else { (lead + self.search.point()) * 0.5 };
            return self.walk(start, None, "boundary-walk");
        }
        // To each rival once from the best direction, once from elsewhere, and so on.
        let start = if (pair / rivals).is_multiple_of(2) { lead } else { self.search.point() };
        self.walk(start, Some(self.walks.rivals[pair % rivals]), "boundary-walk-aimed")
    }

    /// Walks from a direction; in its first half towards a rival, if one is given.
    fn walk(&mut self, start: Array2<f32>, aim: Option<usize>, kind: &'static str) -> Option<()> {
        let begun = self.best.as_ref()?.distance;
        let (mut rate, mut give) = (RATE.0, GIVE.0);
        let mut radius = self.best.as_ref()?.radius * (1.0 - give);
        let mut direction = start;
        let mut velocity = Array2::<f32>::zeros(direction.raw_dim());
        for step in 0..STEPS {
            let rivals = match aim {
                Some(token) if step < STEPS / 2 => Rivals::One(token),
                _ => Rivals::Nearest(1),
            };
            let ball = self.ball(radius);
            match self.search.slopes(&ball, &direction, rivals, kind) {
                Outcome::Hit(hit) => {
                    self.keep(radius, &hit);
                    let best = self.best.as_ref()?;
                    radius = best.radius * (1.0 - give);
                    direction = best.direction.clone();
                }
                Outcome::Miss(slopes) => {
                    let Some((_, slope)) = slopes.into_iter().next() else { break };
                    let size = self.norm.magnitude(&slope);
                    if !(size > 0.0 && size.is_finite()) {
                        break;
                    }
                    velocity = velocity * MOMENTUM + slope / size;
                    direction = self.norm.inside(direction + self.norm.against(&velocity) * rate);
                    let (wider, most) =
                        (radius * (1.0 + give), self.best.as_ref()?.radius * (1.0 - PRECISION));
                    radius = if wider < most { wider } else { most };
                }
                Outcome::Spent => return None,
            }
            (rate, give) = (rate * RATE.1, give * GIVE.1);
        }
        let Best { radius, distance, .. } = self.best.as_ref()?;
        if *distance < begun {
            self.draw_back(radius * (1.0 - 8.0 * PRECISION));
        }
        Some(())
    }
}
