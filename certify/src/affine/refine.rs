//! Margins that plain bounds do not decide, taken through what the last rows were made of.

use super::form::{Form, through_magnitudes};
use super::linear::Matrix;
use super::margin::{Final, Stream, TOGETHER, through};
use super::past::Past;
use super::scores::Scored;
use super::second::curved::Curved;
use super::second::project::Projector;
use super::second::rivals::Rivals;
use super::sites::Reading;

impl Final<'_> {
    /// Lower bounds of the margins of the winner over each rival, as far as they help to decide
    /// whether all are positive: those that are not are bounded again, the least first, until one
    /// stays so.
    pub(super) fn decide(&self, winner: usize, rivals: &[usize]) -> Vec<f64> {
        let mut low = self.lower(winner, rivals);
        let Stream::Sum(base, ways, matrix, rounded) = self.stream else { return low };
        let mut open: Vec<usize> = (0..low.len()).filter(|&k| !proven(low[k])).collect();
        open.sort_by(|&i, &j| low[i].total_cmp(&low[j]).then(i.cmp(&j)));
        for some in open.chunks(TOGETHER) {
            let of: Vec<usize> = some.iter().map(|&k| rivals[k]).collect();
            let Some(bounds) = self.refined(winner, &of, (base, ways, matrix, rounded)) else {
                return low;
            };
            for (&k, bound) in some.iter().zip(bounds) {
                low[k] = if bound > low[k] { bound } else { low[k] };
            }
            if !some.iter().all(|&k| proven(low[k])) {
                break;
            }
        }
        low
    }

    /// `None` where it is not known what the last gated product was made of.
    fn refined(
        &self,
        winner: usize,
        rivals: &[usize],
        (base, ways, matrix, rounded): (&Form, &[Reading], &Matrix, bool),
    ) -> Option<Vec<f64>> {
        let Some(Past::NormedGate(row)) = &ways[0].past else { return None };
        if !std::ptr::eq(base, &*row.of.reading.form) {
            return None;
        }
        let (kernels, inputs) = (self.kernels, self.inputs);
        let (w, magnitudes) = self.projection(winner, rivals);
        let absolute = self.underflow(winner, rivals);
        let most = self.largest();
        let own = self.sum_error(&ways[0], matrix, rounded, &most);
        let error = self.relative_error(&magnitudes, &most).into_iter();
        let error = error.zip(through_magnitudes(&own, &w)).map(|(a, b)| a + b);
        let (alpha, columns) = (base.product(kernels, &w), rivals.len());
        let by_form: Vec<f64> = (base.c.iter().zip(base.radii(kernels, inputs)))
            .map(|(c, radius)| c.abs() + radius)
            .collect();
        let spans = self.behind.as_ref().and_then(|behind| behind.spans());
        let heads: Vec<Scored<'_>> = match (&self.behind, &spans) {
            (Some(behind), Some(spans)) => behind.heads(spans),
            _ => Vec::new(),
        };
        let projector = self.behind.as_ref().map(|behind| Projector {
            directed: behind.directed(&heads),
            added: behind.added,
            matrix: behind.output,
            most: &by_form,
        });
        let curved = Curved::new(kernels, inputs, row, self.layers?, projector)?;
        let through = through(kernels, matrix, &w, base.width());
        let (b, noise) = shares(&curved, ways, (&through, columns), &row.gains);
        let needed: Vec<f64> =
            (0..columns).map(|k| alpha.rest[k] * curved.most + noise[k]).collect();
        let low = curved.lower(&Rivals { w: &w, alpha: &alpha, b: &b, needed: &needed });
        let numerator = |k: usize| {
            let whole = low[k] - needed[k];
            whole / if whole > 0.0 { curved.most } else { curved.least }
        };
        let off = error.zip(absolute).enumerate();
        Some(off.map(|(k, (error, absolute))| self.whole(numerator(k), error, absolute)).collect())
    }
}

fn proven(low: f64) -> bool {
    low > 0.0
}

/// What the features count in each margin, `[features, rivals]`, gains included, and what the
/// rounding of their codes does.
fn shares(
    curved: &Curved<'_>,
    ways: &[Reading],
    (through, columns): (&[f64], usize),
    gains: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let mut noise = curved.rounding(&ways[0]);
    let mut b: Vec<f64> = (through.chunks_exact(columns).zip(gains))
        .flat_map(|(w, gain)| w.iter().map(move |w| w * gain))
        .collect();
    let last = &ways[ways.len() - 1];
    for f in 0..noise.len() {
        let plain = last.fixed.is_none() && last.boxes[f] == 0.0 && last.centres[f] == 0.0;
        // A code that is 0 on the whole set.
        if plain && last.gains[f] == 0.0 && last.noise[f] == 0.0 {
            noise[f] = 0.0;
            b[f * columns..(f + 1) * columns].fill(0.0);
        }
    }
    (b, through_magnitudes(&noise, through))
}
