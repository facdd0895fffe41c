//! The state of the affine domain, and what its steps share.

use std::sync::Arc;

use engine::kernels::Kernels;
use engine::model::{Gate, KvKind, Model, Slot};
use engine::walk::{Site, Step, score_scale};
use rayon::prelude::*;

use super::attend::Attention;
use super::form::Form;
use super::inputs::Inputs;
use super::linear::{Matrices, outputs};
use super::past::Past;
use super::rows::{Rows, Scaled, Shape, cut, ends_of};
use super::second::curved::{Behind, Side};
use super::sites::Reading;
use super::store::Token;
use super::{Birth, Growth, Kind, Proof, Share, gate};
use crate::claim::Deployed;
use crate::interval::{BoxPrepared, Boxes, Diverged, Interval, Margin, UNIT};
use crate::region::Region;

/// The engine's relative error of a normed value.
pub(super) const NORM_ERROR: f64 = 8.0 * UNIT;

/// Rows as the linear layers read them.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Their boxes.
    pub boxes: BoxPrepared,
    pub(super) readings: Arc<Vec<Vec<Reading>>>,
    pub(super) factors: Arc<Vec<(f64, f64)>>,
    pub(super) rounded: bool,
}

/// A row of gate and up with the radii of their forms, of which only the centres are kept, and
/// their gated product.
pub(super) struct Gated {
    pub(super) gate: (Scaled, Vec<f64>),
    pub(super) up: (Scaled, Vec<f64>),
    pub(super) product: Scaled,
}

/// The affine domain.
#[derive(Debug)]
pub struct Affine<'a> {
    pub(super) kernels: &'static Kernels,
    pub(super) model: &'a Model,
    pub(super) matrices: &'a Matrices<'a>,
    pub(super) kind: KvKind,
    pub(super) interval: Interval,
    pub(super) inputs: Inputs,
    pub(super) next: usize,
    pub(super) tokens: Vec<Vec<Token>>,
    pub(super) claims: Vec<Margin>,
    pub(super) margins: Vec<f64>,
    pub(super) growth: Vec<Growth>,
    pub(super) births: Vec<Birth>,
    pub(super) sources: Vec<Share>,
    pub(super) reduced: Option<Site>,
    /// Whether the last down layer waits for the margins.
    pub(super) waits: bool,
    /// Whether the boxes of the logits are cut to the forms.
    pub(super) reads: bool,
}

impl<'a> Affine<'a> {
    /// An empty state for a model, and the rows of a region.
    #[must_use]
    pub fn new(
        deployed: &Deployed<'a>,
        matrices: &'a Matrices<'a>,
        region: &Region<'_>,
        claims: Vec<Margin>,
    ) -> (Self, Rows) {
        let Deployed { model, kernels, kv } = *deployed;
        let (inputs, forms) = Inputs::of(region);
        let next = inputs.end;
        let domain = Self {
            kernels,
            model,
            matrices,
            kind: kv,
            interval: Interval::new(kernels, model, kv, claims.clone()),
            inputs,
            next,
            tokens: vec![Vec::new(); model.layers.len()],
            claims,
            margins: Vec::new(),
            growth: Vec::new(),
            births: Vec::new(),
            sources: Vec::new(),
            reduced: None,
            waits: true,
            reads: false,
        };
        let rows = Rows { boxes: region.boxes(), shape: Shape::plain(forms) };
        (domain, rows)
    }

    /// Bounds the logits by forms too, and not the margins alone.
    pub fn read_logits(&mut self) {
        self.reads = true;
    }

    /// Where the bound was lost, if it was.
    #[must_use]
    pub fn diverged(&self) -> Option<Diverged> {
        self.interval.diverged()
    }

    /// What the walk has shown.
    #[must_use]
    pub fn proof(self) -> Proof {
        let diverged = self.interval.diverged();
        let margins = if diverged.is_some() { Vec::new() } else { self.margins };
        Proof {
            margins,
            diverged,
            growth: self.growth,
            sources: self.sources,
            symbols: self.next,
            reduced: self.reduced,
        }
    }

    /// Intersects forms and boxes, both ways.
    pub(super) fn finish(&mut self, at: Site, mut boxes: Boxes, forms: Vec<Scaled>) -> Rows {
        if self.interval.diverged().is_some() {
            return Rows { boxes, shape: Shape::lost(&forms) };
        }
        let (kernels, inputs) = (self.kernels, self.inputs.clone());
        let ends: Vec<Vec<(f64, f64)>> = (0..forms.len()).map(|row| ends_of(&boxes, row)).collect();
        let done: Vec<(Scaled, Vec<f64>)> =
            (forms.into_par_iter().zip(&ends).with_min_len(self.grain()))
                .map(|(mut scaled, ends)| {
                    let radii = scaled.narrow(kernels, &inputs, ends);
                    (scaled, radii)
                })
                .collect();
        let mut all = Vec::new();
        let mut forms = Vec::with_capacity(done.len());
        for (row, (scaled, radii)) in done.into_iter().enumerate() {
            cut(&mut boxes, row, &scaled, &radii);
            all.extend(radii);
            forms.push(scaled);
        }
        if matches!(at.step, Step::Attend | Step::Gate | Step::AddAttention | Step::AddFfn) {
            self.reduce(at, &mut forms);
            // What is read more than once, as a value and in a norm: what its boxes hold gets
            // names before that.
            self.settle(at, &mut forms);
        }
        let middle = all.len() / 2;
        if let Some((_, &mut median, _)) =
            (!all.is_empty()).then(|| all.select_nth_unstable_by(middle, f64::total_cmp))
        {
            let symbols = forms.last().map_or(0, |scaled| scaled.form.symbols());
            self.growth.push(Growth { site: at, median, symbols });
        }
        Rows { boxes, shape: Shape::Forms(Arc::new(forms)) }
    }

    /// One row of the gated product, from the two layers, which are taken here unless they had to
    /// be before.
    ///
    /// Row by row, so that the coefficients of gate and up never lie beside each other for all.
    pub(super) fn gated(
        &self,
        at: Site,
        row: usize,
        (gate, up): (&Rows, &Rows),
        kind: Gate,
    ) -> Gated {
        let (kernels, inputs) = (self.kernels, &self.inputs);
        let last = at.layer + 1 == self.model.layers.len() && self.waits;
        let gate_rows = gate;
        let one = |rows: &Rows, slot: Slot| {
            let pending = match &rows.shape {
                Shape::Pending(pending) => pending,
                Shape::Forms(forms) => {
                    let radii = forms[row].form.radii(kernels, inputs);
                    return (forms[row].clone(), radii, None);
                }
                _ => unreachable!("gate and up are outputs of layers"),
            };
            let matrix = self.matrices.of(at.layer, slot);
            let (w, reading) = ((&matrix.w[..], matrix.scale), &pending.readings[row][0]);
            let form = Arc::new(outputs(kernels, inputs, reading, w, pending.rounded));
            let side = last.then(|| Side {
                c: form.c.clone(),
                radii: form.radii(kernels, inputs),
                rest: form.rest.clone(),
            });
            let mut scaled = Scaled { factor: pending.factors[row], ..Scaled::shared(form) };
            let radii = scaled.narrow(kernels, inputs, &ends_of(&rows.boxes, row));
            (scaled, radii, side)
        };
        let (gate, up) = (one(gate, Slot::Gate), one(up, Slot::Up));
        let (g, u) = (gate.0.factor, up.0.factor);
        // The truth is the product of both factors and forms.
        let factor = if g == (1.0, 1.0) && u == (1.0, 1.0) {
            g
        } else {
            (g.0 * g.0 * u.0 * (1.0 - 1e-14), g.1 * g.1 * u.1 * (1.0 + 1e-14))
        };
        let form = gate::gate(kernels, inputs, (&gate.0.form, &up.0.form), kind);
        let closed = ends_of(&gate_rows.boxes, row).iter().map(|ends| ends.1 <= 0.0).collect();
        let past = match (&gate_rows.shape, gate.2, up.2) {
            (Shape::Pending(pending), Some(gate), Some(up)) if kind == Gate::Relu2 => {
                let reading = pending.readings[row][0].clone();
                Some(Past::Gated(Arc::new(Behind { reading, gate, up, closed })))
            }
            _ => None,
        };
        let (gate, up) = ((gate.0, gate.1), (up.0, up.1));
        let product = Scaled { factor, past, ..Scaled::plain(form) };
        let thin = |(scaled, radii): (Scaled, Vec<f64>)| (scaled.centre(), radii);
        Gated { gate: thin(gate), up: thin(up), product }
    }

    /// How many rows one task takes at least: all of them where there is little to do.
    pub(super) fn grain(&self) -> usize {
        /// Coefficients that are worth a task.
        const TASK: usize = 1 << 22;
        let width = self.model.config.hidden;
        if self.next * width < TASK { usize::MAX } else { 1 }
    }

    /// The rows as plain forms; what is not is taken from the boxes.
    pub(super) fn forms(&self, rows: &Rows) -> Vec<Arc<Form>> {
        match &rows.shape {
            Shape::Forms(forms) if forms.iter().all(|f| f.factor == (1.0, 1.0)) => {
                forms.iter().map(|scaled| scaled.form.clone()).collect()
            }
            _ => (0..rows.boxes.lo.nrows())
                .map(|row| {
                    let (lo, hi): (Vec<f64>, Vec<f64>) =
                        ends_of(&rows.boxes, row).into_iter().unzip();
                    Arc::new(Form::of_box(&lo, &hi))
                })
                .collect(),
        }
    }

    /// Leaves each row as many symbols as the memory holds.
    fn reduce(&mut self, at: Site, forms: &mut [Scaled]) {
        let most = self.matrices.most_symbols(forms.len());
        let (kernels, inputs) = (self.kernels, self.inputs.clone());
        let any = (forms.par_iter_mut())
            .filter(|scaled| scaled.form.symbols() > most)
            .map(|scaled| Arc::make_mut(&mut scaled.form).reduce(kernels, &inputs, most))
            .reduce(|| false, |a, b| a || b);
        if any && self.reduced.is_none() {
            self.reduced = Some(at);
        }
    }

    /// Settles the boxes of forms.
    pub(super) fn settle(&mut self, at: Site, forms: &mut [Scaled]) {
        self.births.push(Birth { first: self.next, site: at, kind: Kind::Remainder });
        for scaled in forms {
            if scaled.form.rest.iter().any(|&x| x > 0.0) {
                let total = scaled.form.rest.clone();
                let span = Arc::make_mut(&mut scaled.form).settle(&mut self.next);
                let Some(span) = span else { continue };
                let form = &scaled.form;
                scaled.past = scaled.past.as_ref().map(|past| past.settled(span, &total, form));
            }
        }
    }

    /// What attention of a layer knows.
    pub(super) fn attention(&self, layer: usize) -> Attention<'_> {
        let config = &self.model.config;
        Attention {
            kernels: self.kernels,
            inputs: &self.inputs,
            tokens: &self.tokens[layer],
            heads: config.heads,
            kv_heads: config.kv_heads,
            dim: config.head_dim,
            factor: f64::from(score_scale(config.head_dim)),
            grain: self.grain(),
        }
    }

    /// The range of each value of a form.
    pub(super) fn own_ends(&self, form: &Form) -> (Vec<f64>, Vec<f64>) {
        let radii = form.radii(self.kernels, &self.inputs);
        let slack = |c: f64, r: f64| r + 1e-12 * (c.abs() + r);
        let ends = form.c.iter().zip(radii);
        ends.map(|(&c, r)| (c - slack(c, r), c + slack(c, r))).unzip()
    }
}
