//! Keys and values of the affine domain: what each storage type gives back, head by head.

use engine::kernels::Kernels;
use engine::model::KvKind;

use super::energy::Energy;
use super::form::{Form, Span, rows_product, through_magnitudes};
use super::inputs::Inputs;

/// One head of a key or a value.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// Centres, `[dim]`.
    pub(super) c: Vec<f64>,
    /// Coefficients, `[symbols, dim]`.
    pub(super) g: Vec<f64>,
    /// Radii of the boxes.
    pub(super) rest: Vec<f64>,
    /// Radii of the values, boxes included.
    pub(super) radii: Vec<f64>,
    /// How large the moving part may be as a whole.
    pub(super) energy: Energy,
}

/// The keys and values of one token in one layer.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// The symbols of the keys.
    pub(super) key_spans: Vec<Span>,
    /// The symbols of the values.
    pub(super) value_spans: Vec<Span>,
    pub(super) keys: Vec<Head>,
    pub(super) values: Vec<Head>,
}

impl Head {
    /// The columns of one head of a row.
    pub(super) fn of(
        kernels: &Kernels,
        inputs: &Inputs,
        form: &Form,
        head: usize,
        dim: usize,
    ) -> Self {
        let at = head * dim..(head + 1) * dim;
        let mut g = Vec::with_capacity(form.symbols() * dim);
        form.g.chunks_exact(form.width()).for_each(|row| g.extend_from_slice(&row[at.clone()]));
        let (c, rest) = (form.c[at.clone()].to_vec(), form.rest[at].to_vec());
        let mut radii = inputs.radii(kernels, &form.spans, &g, dim);
        radii.iter_mut().zip(&rest).for_each(|(radius, rest)| *radius += rest);
        let energy = inputs.energy(kernels, &form.spans, &g, &rest);
        Self { c, g, rest, radii, energy }
    }
}

impl Head {
    /// The values through a matrix `[dim, columns]`; without their energy, which nobody asks for.
    pub(super) fn through(
        &self,
        kernels: &Kernels,
        inputs: &Inputs,
        spans: &[Span],
        w: &[f64],
    ) -> Self {
        let columns = w.len() / self.c.len();
        let mut c = vec![0.0; columns];
        (kernels.forms.product)(&self.c, w, self.c.len(), &mut c);
        let g = rows_product(kernels, &self.g, w, columns);
        let rest = through_magnitudes(&self.rest, w);
        let mut radii = inputs.radii(kernels, spans, &g, columns);
        radii.iter_mut().zip(&rest).for_each(|(radius, rest)| *radius += rest);
        Self { c, g, rest, radii, energy: Energy::none(columns) }
    }
}

/// The engine's floor under the absmax of an int8 row (1e-5 in f32), and no less.
const STEP_FLOOR: f64 = 1.000_001e-5;

/// A row as it is read back from the store, whose boxes are known.
pub(super) fn stored(
    kernels: &Kernels,
    inputs: &Inputs,
    mut form: Form,
    kind: KvKind,
    boxes: &[(f64, f64)],
    dim: usize,
) -> Form {
    let radii = form.radii(kernels, inputs);
    let most: Vec<f64> = form.c.iter().zip(&radii).map(|(c, r)| c.abs() + r).collect();
    match kind {
        KvKind::F32 => {}
        // Half an ulp of 11 bits, or of the least subnormal.
        KvKind::F16 => {
            let error = |most: f64| most * 4.8829e-4 + 3e-8;
            form.rest.iter_mut().zip(&most).for_each(|(rest, &most)| *rest += error(most));
        }
        // As in the boxes: within 0.501 steps, a step being the largest magnitude by 127, or the
        // floor under it.
        KvKind::Int8 => {
            for (rest, most) in form.rest.chunks_exact_mut(dim).zip(most.chunks_exact(dim)) {
                let top = most.iter().copied().fold(STEP_FLOOR, |a, b| if b > a { b } else { a });
                let step = top / 127.0 * (1.0 + 1e-6);
                rest.iter_mut().zip(most).for_each(|(rest, x)| *rest += 0.501 * step + 1e-6 * x);
            }
        }
        // A sign and a mean magnitude: only the boxes know these.
        KvKind::OneBit => {
            let (lo, hi): (Vec<f64>, Vec<f64>) = boxes.iter().copied().unzip();
            return Form::of_box(&lo, &hi);
        }
    }
    form.narrow(kernels, inputs, boxes);
    form
}
