//! The ends of sums over boxes of codes, beside sums of codes that the boxes hold.

use std::sync::Mutex;

use crate::kernels::{Centred, Kernels, Reach, SpreadSteps, Steps};

/// Memory of the sums of runs, which the runs of a product use one after the other: the system
/// would take the pages of each back and clear them again.
#[derive(Default)]
pub(super) struct Memory(Mutex<Vec<Vec<i32>>>);

impl Memory {
    /// Sums of any values.
    pub(super) fn lend(&self) -> Vec<i32> {
        self.0.lock().expect("no task panics here").pop().unwrap_or_default()
    }

    pub(super) fn take_back(&self, sums: Vec<i32>) {
        self.0.lock().expect("no task panics here").push(sums);
    }
}

/// What the ends of sums lie off the sums of one code of each box, by the kernel that is fastest.
pub(super) enum Beside<'a> {
    /// Nothing: each box is a point.
    Points,
    /// Beside the lower codes: of rows of few widths.
    Few(SpreadSteps, Steps),
    /// Beside the centres.
    Centres(Reach, Centred<'a>),
    /// Beside the lower codes.
    Widths(&'a [u8]),
}

impl<'a> Beside<'a> {
    /// For rows of so many columns of codes from `lower` to `lower + width`.
    pub(super) fn of(
        kernels: &Kernels,
        (lower, widths): (&[i8], &'a [u8]),
        columns: usize,
    ) -> Self {
        if widths.iter().all(|&width| width == 0) {
            return Self::Points;
        }
        let few = kernels.spread_steps.zip(Steps::of(widths, columns));
        let centres = || kernels.reach.zip(Centred::of((lower, widths), columns));
        match few {
            Some((spread, steps)) => Self::Few(spread, steps),
            None => {
                centres().map_or(Self::Widths(widths), |(reach, boxes)| Self::Centres(reach, boxes))
            }
        }
    }

    /// The codes whose sums the ends lie beside.
    pub(super) fn base<'b>(&'b self, lower: &'b [i8]) -> &'b [i8] {
        match self {
            Self::Centres(_, boxes) => boxes.centres(),
            Self::Points | Self::Few(..) | Self::Widths(_) => lower,
        }
    }

    /// Makes ends of sums of groups, each of so many bytes.
    pub(super) fn add(
        &self,
        kernels: &Kernels,
        (groups, group_bytes): (&[u8], usize),
        least: &mut [i32],
        greatest: &mut [i32],
    ) {
        let each_group = groups.chunks_exact(group_bytes);
        let each = least.len() / each_group.len();
        let ends = least.chunks_exact_mut(each).zip(greatest.chunks_exact_mut(each));
        match self {
            Self::Points => {}
            Self::Centres(reach, boxes) => reach(groups, group_bytes, boxes, least, greatest),
            Self::Few(spread, steps) => {
                each_group.zip(ends).for_each(|(group, (l, g))| spread(group, steps, l, g));
            }
            Self::Widths(widths) => {
                let (mut plus, mut minus) = (vec![0; each], vec![0; each]);
                for (group, (least, greatest)) in each_group.zip(ends) {
                    (kernels.spread)(group, widths, &mut plus, &mut minus);
                    least.iter_mut().zip(&minus).for_each(|(sum, minus)| *sum -= minus);
                    greatest.iter_mut().zip(&plus).for_each(|(sum, plus)| *sum += plus);
                }
            }
        }
    }
}
