//! Linear layers over affine forms: the whole of norm, rounding and product as one step.

use std::sync::OnceLock;

use engine::kernels::Kernels;
use engine::model::{Linear, Model, Scale, Slot, Weights};
use engine::packing::weight_of;

use super::form::{Form, through_magnitudes};
use super::inputs::Inputs;
use super::sites::{Reading, boxes_through};
use crate::interval::UNIT;

/// The weights of a layer as the forms read them.
#[derive(Debug)]
pub(super) struct Matrix {
    /// `[inputs, outputs]`, without the scale.
    pub(super) w: Vec<f64>,
    /// What the product is multiplied by, over the reals.
    pub(super) scale: f64,
}

impl Matrix {
    pub(super) fn new(linear: &Linear) -> Self {
        let (inputs, outputs) = (linear.inputs(), linear.outputs());
        let mut w = vec![0.0; inputs * outputs];
        let mut fill = |row: usize, values: &mut dyn Iterator<Item = f64>| {
            values.enumerate().for_each(|(k, value)| w[k * outputs + row] = value);
        };
        let scale = match &linear.weights {
            Weights::Ternary { rows, scale, .. } => {
                for row in 0..outputs {
                    let codes = rows.row(row);
                    fill(row, &mut codes.iter().map(|&code| f64::from(weight_of(code))));
                }
                match scale {
                    Scale::Divide(ws) => 1.0 / f64::from(*ws),
                    Scale::Multiply(ws) => f64::from(*ws),
                }
            }
            Weights::Coded(coded) => {
                (0..outputs).for_each(|row| fill(row, &mut coded.weights(row)));
                1.0
            }
            Weights::Dense(float) => {
                let mut values = vec![0f32; inputs];
                for row in 0..outputs {
                    float.read_row(row, &mut values);
                    fill(row, &mut values.iter().map(|&x| f64::from(x)));
                }
                1.0
            }
        };
        Self { w, scale }
    }
}

/// The matrices of a model, made when they are first needed and shared by all passes, and the
/// memory that the forms of each pass may take.
#[derive(Debug)]
pub struct Matrices<'a> {
    model: &'a Model,
    memory: u64,
    layers: Vec<[OnceLock<Matrix>; 7]>,
}

impl<'a> Matrices<'a> {
    /// No matrix yet.
    #[must_use]
    pub fn new(model: &'a Model) -> Self {
        let layers =
            model.layers.iter().map(|_| std::array::from_fn(|_| OnceLock::new())).collect();
        Self { model, memory: u64::MAX, layers }
    }

    /// The same, with a bound on the memory of the forms of a pass, in bytes: rows then keep only
    /// their most important symbols, the others become boxes.
    #[must_use]
    pub fn within(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// How many symbols a row may keep where `rows` rows are held: half of them on average, since a
    /// row knows only the rows before it; of each about five streams and three gated rows at once.
    pub(super) fn most_symbols(&self, rows: usize) -> usize {
        let config = &self.model.config;
        let width = (5 * config.hidden + 3 * config.ffn) as u64;
        let most = self.memory / (8 * width * (rows as u64 / 2 + 1));
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// About how many multiplications a pass from a layer on takes, of which `rows` rows move: what
    /// a caller may go by before it begins one.
    #[must_use]
    pub fn operations(&self, from: usize, rows: usize) -> f64 {
        let config = &self.model.config;
        let (hidden, ffn) = (config.hidden as f64, config.ffn as f64);
        let (most, rows) = (self.most_symbols(rows) as f64, rows as f64);
        let few = |symbols: f64| if symbols < most { symbols } else { most };
        let (mut symbols, mut all) = (hidden, 0.0);
        for layer in from..self.model.layers.len() {
            let joined = few(0.5 * rows * (symbols + hidden));
            let behind = hidden * hidden + 3.0 * hidden * ffn;
            all += rows * symbols * 3.0 * hidden * hidden;
            // Of the last layer only one row is needed; it knows the symbols of all others.
            all += if layer + 1 < self.model.layers.len() {
                rows * joined * behind
            } else {
                few(rows * (symbols + hidden)) * behind
            };
            symbols = few(joined + 3.0 * hidden + ffn);
        }
        // Each rival's margin is taken through the last layer, in up to three ways.
        let rivals = self.model.head.rows() as f64;
        all + 3.0 * few(rows * (symbols + hidden)) * (hidden + ffn) * rivals
    }

    pub(super) fn of(&self, layer: usize, slot: Slot) -> &Matrix {
        let linear = self.model.layers[layer].linear(slot);
        self.layers[layer][slot as usize].get_or_init(|| Matrix::new(linear))
    }
}

/// The relative error of the engine's float product of `n` terms, of their magnitudes.
pub(super) fn dot_error(n: usize) -> f64 {
    (n as f64 / 16.0 + 6.0) * UNIT * 1.01
}

/// The outputs of a layer, or any linear image `[inputs, outputs]` of what it reads.
///
/// The engine's value is within `error` and three roundings of the real one, relative to the sum of
/// magnitudes `sum |w| |n|`.
pub(super) fn outputs(
    kernels: &Kernels,
    inputs: &Inputs,
    reading: &Reading,
    w: (&[f64], f64),
    rounded: bool,
) -> Form {
    let y = reading.form.product_of_scaled(kernels, &reading.gains, w.0);
    finished(kernels, inputs, reading, y, w, rounded)
}

/// The same from the numerators of what is late.
pub(super) fn finished(
    kernels: &Kernels,
    inputs: &Inputs,
    reading: &Reading,
    mut y: Form,
    (w, scale): (&[f64], f64),
    rounded: bool,
) -> Form {
    if let Some(quotient) = &reading.quotient {
        quotient.divide(kernels, inputs, &mut y);
    }
    y.add(&boxes_through(kernels, reading, w));
    add_noise(&mut y, reading, w);
    let product = if rounded { 0.0 } else { dot_error(reading.most.len()) };
    let error = (reading.most.iter().zip(&reading.slack))
        .map(|(most, slack)| most * (reading.error + product + 4.0 * UNIT) + slack)
        .collect::<Vec<f64>>();
    let error = through_magnitudes(&error, w);
    y.rest.iter_mut().zip(error).for_each(|(rest, error)| *rest += error + 1e-40);
    if reading.form.is_point() && reading.noise.iter().all(|&x| x == 0.0) {
        y.spans.clear();
        y.g.clear();
    }
    if scale != 1.0 {
        y.scale(scale);
    }
    // The result may itself fall below the normal range.
    y.rest.iter_mut().for_each(|rest| *rest += 1e-40);
    y
}

/// The rounding symbols of the codes through the matrix.
fn add_noise(y: &mut Form, reading: &Reading, w: &[f64]) {
    if reading.span.count == 0 {
        return;
    }
    let outputs = y.width();
    y.spans.push(reading.span);
    for (&noise, w) in reading.noise.iter().zip(w.chunks_exact(outputs)) {
        if noise > 0.0 {
            y.g.extend(w.iter().map(|w| noise * w));
        }
    }
}
