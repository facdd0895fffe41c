//! Rotary position embedding in the half-split convention: pairs `(j, j + d/2)` turn together.

use super::Config;
use crate::numerics::{cos_sin, pow, special};

/// Positions whose tables are made at load; those beyond are made when they are asked for.
const READY: usize = 2048;

/// YaRN (Peng et al. 2023): slow frequencies are divided by a factor, fast ones kept, those between
/// mixed; and all cosines and sines are stretched by one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// By which slow frequencies are divided.
    pub factor: f64,
    /// Positions that the model was trained on before.
    pub original: usize,
    /// Rotations over those positions above which a frequency is kept.
    pub beta_fast: f64,
    /// Rotations below which it is divided.
    pub beta_slow: f64,
    /// By which cosines and sines are multiplied.
    pub stretch: f32,
}

impl Yarn {
    /// The usual rotations of the two ends.
    pub const BETAS: (f64, f64) = (32.0, 1.0);

    /// The stretch that goes with a factor, `1 + ln(factor) / 10`, unless it is given.
    #[must_use]
    pub fn usual_stretch(factor: f64) -> f32 {
        if factor <= 1.0 { 1.0 } else { (0.1 * special::ln(factor) + 1.0) as f32 }
    }

    /// The first field that is out of range: its name, what it says, what would do.
    pub(super) fn check(&self, theta: f64) -> Result<(), (&'static str, String, String)> {
        let fields = [
            ("rope factor", self.factor, 1.0, 1e6),
            ("rope original positions", self.original as f64, 1.0, 1e9),
            ("rope beta_fast", self.beta_fast, self.beta_slow, 1e6),
            ("rope beta_slow", self.beta_slow, 1e-6, 1e6),
            ("rope attention_factor", self.stretch.into(), 0.1, 10.0),
            ("rope_theta under yarn", theta, 2.0, 1e12),
        ];
        for (name, got, least, most) in fields {
            if !(got >= least && got <= most) {
                return Err((name, got.to_string(), format!("{least} to {most}")));
            }
        }
        Ok(())
    }

    /// The frequencies in place of the plain ones, in the f32 steps of transformers.
    fn frequencies(&self, head_dim: usize, theta: f64) -> Vec<f32> {
        let dimension = |rotations: f64| {
            let turns = self.original as f64 / (rotations * std::f64::consts::TAU);
            head_dim as f64 * special::ln(turns) / (2.0 * special::ln(theta))
        };
        let low = dimension(self.beta_fast).floor();
        let low = if low > 0.0 { low } else { 0.0 } as f32;
        let (high, last) = (dimension(self.beta_slow).ceil(), (head_dim - 1) as f64);
        let high = if high < last { high } else { last } as f32;
        let width = if high == low { 0.001 } else { high - low };
        let mixed = |j: usize| {
            let power = pow(theta, f64::from((2 * j) as f32 / head_dim as f32)) as f32;
            let ramp = (j as f32 - low) / width;
            let divided = ramp.clamp(0.0, 1.0);
            let kept = 1.0 - divided;
            1.0 / (self.factor as f32 * power) * (1.0 - kept) + 1.0 / power * kept
        };
        (0..head_dim / 2).map(mixed).collect()
    }
}

/// Cosines and sines by position.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    frequencies: Vec<f32>,
    stretch: f32,
    table: Vec<(f32, f32)>,
}

impl Rope {
    /// The tables for heads of width `head_dim` with base `theta`.
    #[must_use]
    pub fn new(head_dim: usize, theta: f64, positions: usize) -> Self {
        let half = head_dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|j| 1.0 / (pow(theta, f64::from((2 * j) as f32 / head_dim as f32)) as f32))
            .collect();
        Self::with(frequencies, 1.0, positions)
    }

    /// The tables of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let Config { head_dim, theta, max_positions, .. } = *config;
        match &config.yarn {
            None => Self::new(head_dim, theta, max_positions),
            Some(yarn) => {
                Self::with(yarn.frequencies(head_dim, theta), yarn.stretch, max_positions)
            }
        }
    }

    fn with(frequencies: Vec<f32>, stretch: f32, positions: usize) -> Self {
        let table = (0..positions.min(READY))
            .flat_map(|position| turn(&frequencies, stretch, position).collect::<Vec<_>>())
            .collect();
        Self { frequencies, stretch, table }
    }

    /// By which every cosine and sine is multiplied.
    #[must_use]
    pub fn stretch(&self) -> f32 {
        self.stretch
    }

    /// The inverse frequencies.
    #[must_use]
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }

    /// The `(cos, sin)` of each pair at a position.
    #[must_use]
    pub fn at(&self, position: usize) -> std::borrow::Cow<'_, [(f32, f32)]> {
        let half = self.frequencies.len();
        match self.table.get(position * half..(position + 1) * half) {
            Some(row) => row.into(),
            None => turn(&self.frequencies, self.stretch, position).collect::<Vec<_>>().into(),
        }
    }

    /// Turns every head of a row that stands at a position.
    pub fn turn_row(&self, row: &mut [f32], position: usize) {
        let table = self.at(position);
        for head in row.chunks_exact_mut(2 * table.len()) {
            let (left, right) = head.split_at_mut(table.len());
            for ((a, b), &(c, s)) in left.iter_mut().zip(right).zip(table.iter()) {
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
    }
}

fn turn(frequencies: &[f32], stretch: f32, position: usize) -> impl Iterator<Item = (f32, f32)> {
    frequencies.iter().map(move |&frequency| {
        let (cos, sin) = cos_sin(position as f32 * frequency);
        (cos * stretch, sin * stretch)
    })
}
