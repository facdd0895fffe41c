//! The steps of the walk over affine forms.

use std::ops::Range;
use std::sync::Arc;

use engine::model::{Activations, Float, Gate, Linear, Norm, NormSlot, Rope, Slot};
use engine::walk::{Domain, Site, Step};
use rayon::prelude::*;

use super::form::Form;
use super::linear::{Matrix, outputs};
use super::past::{Added, Mix, Output, Past};
use super::rows::{Normed, Pending, Rows, Scaled, Shape, absolute, cut, ends_of, turn};
use super::state::{Affine, Gated, NORM_ERROR, Prepared};
use super::store::{Head, Token, stored};
use crate::interval::{UNIT, finite, is_tame, regular};

impl Domain for Affine<'_> {
    type Rows = Rows;
    type Prepared = Prepared;

    fn norm(&mut self, at: Site, x: &Rows, norm: &Norm) -> Rows {
        let boxes = self.interval.norm(at, &x.boxes, norm);
        let gains: Vec<f64> = norm.gains.iter().map(|&g| f64::from(g)).collect();
        let eps = f64::from(norm.eps);
        let ends = |row: usize| ends_of(&x.boxes, row).into_iter().unzip();
        let rows = x.boxes.lo.nrows();
        // Above, the engine's reciprocal root is 0; below, it is off by more than its bound.
        let finite: Vec<bool> = (0..rows).map(|row| finite(&x.boxes, row, norm)).collect();
        let whole: Vec<bool> = (0..rows).map(|row| regular(&x.boxes, row, norm)).collect();
        let absolute: Vec<f64> = gains.iter().map(|&gain| absolute(gain)).collect();
        let normed = match &x.shape {
            Shape::Sum(base, pending) if at.step == Step::Norm(NormSlot::Final) => {
                let one = |row: usize| Normed {
                    form: base[row].form.clone(),
                    pending: Some((pending.clone(), row)),
                    gains: gains.clone(),
                    eps: (eps, eps),
                    error: NORM_ERROR,
                    absolute: absolute.clone(),
                    regular: whole[row],
                    past: base[row].past.clone(),
                    ends: ends(row),
                };
                (0..base.len()).map(one).collect()
            }
            Shape::Normed(first) => self.norm_again(at, first, &x.boxes, (&gains, eps), &whole),
            _ => {
                let last = at.step == Step::Norm(NormSlot::Final);
                let mut forms = match &x.shape {
                    Shape::Forms(forms) => forms.to_vec(),
                    _ => self.forms(x).into_iter().map(Scaled::shared).collect(),
                };
                self.settle(at, &mut forms);
                let one = |(row, scaled): (usize, Scaled)| {
                    let (least, most) = scaled.factor;
                    let plain = scaled.factor == (1.0, 1.0);
                    let range = if plain { ends(row) } else { self.own_ends(&scaled.form) };
                    // A gate's relative error is inside its form already.
                    Normed {
                        form: scaled.form,
                        pending: None,
                        gains: gains.clone(),
                        eps: (eps / (most * most), eps / (least * least)),
                        error: NORM_ERROR,
                        absolute: absolute.clone(),
                        // A form under a factor says nothing of the engine's own range.
                        regular: if plain && !last { finite[row] } else { whole[row] },
                        past: scaled.past,
                        ends: range,
                    }
                };
                forms.into_iter().enumerate().map(one).collect()
            }
        };
        Rows { boxes, shape: Shape::Normed(Arc::new(normed)) }
    }

    fn prepare(&mut self, at: Site, x: &Rows, policy: Activations) -> Prepared {
        let boxes = self.interval.prepare(at, &x.boxes, policy);
        let rounded = policy.levels().is_some();
        if self.interval.diverged().is_some() {
            return Prepared { boxes, readings: Arc::default(), factors: Arc::default(), rounded };
        }
        let (readings, factors) = self.readings(at, x, &boxes);
        Prepared { boxes, readings: Arc::new(readings), factors: Arc::new(factors), rounded }
    }

    fn linear(&mut self, at: Site, x: &Prepared, linear: &Linear) -> Rows {
        let boxes = self.interval.linear(at, &x.boxes, linear);
        let Step::Linear(slot) = at.step else { unreachable!("linear layers stand at their slot") };
        if self.interval.diverged().is_some() {
            let rows = vec![Form::constant(vec![0.0; linear.outputs()]); boxes.lo.nrows()];
            return Rows { boxes, shape: Shape::plain(rows) };
        }
        if !is_tame(&x.boxes, linear) {
            let rows = (0..boxes.lo.nrows()).map(|row| ends_of(&boxes, row).into_iter().unzip());
            let rows = rows.map(|(lo, hi): (Vec<f64>, Vec<f64>)| Form::of_box(&lo, &hi)).collect();
            return Rows { boxes, shape: Shape::plain(rows) };
        }
        let waits = slot == Slot::Down && self.down_waits(at.layer);
        if waits || matches!(slot, Slot::Gate | Slot::Up) {
            let (readings, factors) = (x.readings.clone(), x.factors.clone());
            let pending = Pending { readings, factors, rounded: x.rounded };
            return Rows { boxes, shape: Shape::Pending(pending) };
        }
        let matrix: &Matrix = self.matrices.of(at.layer, slot);
        let last = at.layer + 1 == self.model.layers.len();
        let (kernels, inputs) = (self.kernels, self.inputs.clone());
        let forms = (x.readings.par_iter().zip(&x.factors[..]).with_min_len(self.grain()))
            .map(|(ways, &factor)| {
                let w = (&matrix.w[..], matrix.scale);
                let form = match &ways[0].taken {
                    Some((of, form)) if *of == slot => form.clone(),
                    _ => Arc::new(outputs(kernels, &inputs, &ways[0], w, x.rounded)),
                };
                let past = (slot == Slot::O && last).then(|| {
                    Past::Output(Arc::new(Output { reading: ways[0].clone(), rounded: x.rounded }))
                });
                Scaled { form, factor, past }
            })
            .collect();
        self.finish(at, boxes, forms)
    }

    fn rope(&mut self, at: Site, x: Rows, rope: &Rope, first: usize) -> Rows {
        let forms = self.forms(&x);
        drop(x.shape);
        let boxes = self.interval.rope(at, x.boxes, rope, first);
        let (kernels, inputs) = (self.kernels, self.inputs.clone());
        let turned = (forms.into_par_iter().enumerate().with_min_len(self.grain()))
            .map(|(row, form)| {
                let form = Arc::unwrap_or_clone(form);
                Scaled::plain(turn(kernels, &inputs, form, rope, first + row))
            })
            .collect();
        self.finish(at, boxes, turned)
    }

    fn store(&mut self, at: Site, keys: Rows, values: Rows) {
        let (key_forms, value_forms) = (self.forms(&keys), self.forms(&values));
        drop((keys.shape, values.shape));
        let first = self.tokens[at.layer].len();
        self.interval.store(at, keys.boxes, values.boxes);
        if self.interval.diverged().is_some() {
            return;
        }
        let (kernels, inputs, kind) = (self.kernels, self.inputs.clone(), self.kind);
        let (heads, dim) = (self.model.config.kv_heads, self.model.config.head_dim);
        let interval = &self.interval;
        let tokens: Vec<Token> = (key_forms.into_par_iter().zip(value_forms).enumerate())
            .with_min_len(self.grain())
            .map(|(row, (key, value))| {
                let (key_boxes, value_boxes) = interval.stored(at.layer, first + row);
                let (key, value) = (Arc::unwrap_or_clone(key), Arc::unwrap_or_clone(value));
                let key = stored(kernels, &inputs, key, kind, &key_boxes, dim);
                let value = stored(kernels, &inputs, value, kind, &value_boxes, dim);
                let split = |form: &Form| {
                    (0..heads).map(|h| Head::of(kernels, &inputs, form, h, dim)).collect()
                };
                Token {
                    keys: split(&key),
                    values: split(&value),
                    key_spans: key.spans,
                    value_spans: value.spans,
                }
            })
            .collect();
        self.tokens[at.layer].extend(tokens);
    }

    fn attend(&mut self, at: Site, queries: &Rows, first: usize) -> Rows {
        let boxes = self.interval.attend(at, &queries.boxes, first);
        let forms = self.forms(queries);
        if self.interval.diverged().is_some() {
            return Rows { boxes, shape: Shape::shared(forms) };
        }
        let attention = self.attention(at.layer);
        let last = at.layer + 1 == self.model.layers.len();
        let rows = attention.rows(&forms, first).into_iter().zip(&forms).enumerate();
        let mixed = rows
            .map(|(row, ((form, shift, error), query))| {
                let past = last.then(|| {
                    Past::Mixed(Arc::new(Mix {
                        query: query.clone(),
                        seen: first + row + 1,
                        shift,
                        error,
                        rest: form.rest.clone(),
                        span: None,
                        values: Vec::new(),
                    }))
                });
                Scaled { past, ..Scaled::plain(form) }
            })
            .collect();
        self.finish(at, boxes, mixed)
    }

    fn gate(&mut self, at: Site, gate: &Rows, up: &Rows, kind: Gate) -> Rows {
        let rows = gate.boxes.lo.nrows();
        let gated: Vec<Gated> = (0..rows)
            .into_par_iter()
            .with_min_len(self.grain())
            .map(|row| self.gated(at, row, (gate, up), kind))
            .collect();
        let (mut gate, mut up) = (gate.boxes.clone(), up.boxes.clone());
        let mut forms = Vec::with_capacity(rows);
        for (row, gated) in gated.into_iter().enumerate() {
            for (boxes, (scaled, radii)) in [(&mut gate, &gated.gate), (&mut up, &gated.up)] {
                cut(boxes, row, scaled, radii);
            }
            forms.push(gated.product);
        }
        let boxes = self.interval.gate(at, &gate, &up, kind);
        self.finish(at, boxes, forms)
    }

    fn add(&mut self, at: Site, stream: &Rows, update: &Rows) -> Rows {
        let boxes = self.interval.add(at, &stream.boxes, &update.boxes);
        let forms = self.forms(stream);
        if let Shape::Pending(pending) = &update.shape {
            let base = match &stream.shape {
                Shape::Forms(all) => all.to_vec(),
                _ => forms.into_iter().map(Scaled::shared).collect(),
            };
            return Rows { boxes, shape: Shape::Sum(Arc::new(base), pending.clone()) };
        }
        let updates = self.forms(update);
        let past = |row: usize| match &update.shape {
            Shape::Forms(all) => match &all[row].past {
                Some(Past::Output(output)) => {
                    let Output { reading, rounded } = Output::clone(output);
                    let stream = forms[row].clone();
                    Some(Past::Added(Arc::new(Added { stream, reading, rounded })))
                }
                _ => None,
            },
            _ => None,
        };
        let (kernels, inputs) = (self.kernels, self.inputs.clone());
        let sums: Vec<Scaled> = (forms.par_iter().zip(&updates).enumerate())
            .with_min_len(self.grain())
            .map(|(row, (form, update))| {
                let mut sum = form.plus(update);
                let radii = sum.radii(kernels, &inputs);
                for (k, rest) in sum.rest.iter_mut().enumerate() {
                    *rest += (sum.c[k].abs() + radii[k]) * (UNIT + 1e-12) + 1e-40;
                }
                Scaled { past: past(row), ..Scaled::plain(sum) }
            })
            .collect();
        self.finish(at, boxes, sums)
    }

    fn logits(&mut self, at: Site, x: &Rows, head: &Float) -> Rows {
        let mut boxes = self.interval.logits(at, &x.boxes, head);
        if self.interval.diverged().is_none() {
            self.margins = self.bound_margins(x, &boxes, head);
            if self.reads {
                self.cut_logits(x, &mut boxes, head);
            }
        }
        let zeros = vec![Form::constant(vec![0.0; head.rows()]); boxes.lo.nrows()];
        Rows { boxes, shape: Shape::plain(zeros) }
    }

    fn coded_logits(&mut self, at: Site, x: &Prepared, head: &Linear) -> Rows {
        let boxes = self.interval.coded_logits(at, &x.boxes, head);
        if self.interval.diverged().is_none() {
            self.margins = self.coded_margins(x, &boxes, head);
        }
        let zeros = vec![Form::constant(vec![0.0; head.outputs()]); boxes.lo.nrows()];
        Rows { boxes, shape: Shape::plain(zeros) }
    }

    fn count(&self, x: &Rows) -> usize {
        x.boxes.lo.nrows()
    }

    fn select(&self, x: &Rows, rows: Range<usize>) -> Rows {
        let boxes = self.interval.select(&x.boxes, rows.clone());
        let shape = match &x.shape {
            Shape::Forms(forms) => Shape::Forms(Arc::new(forms[rows].to_vec())),
            Shape::Normed(normed) => Shape::Normed(Arc::new(normed[rows].to_vec())),
            Shape::Pending(pending) => Shape::Pending(pending.select(rows)),
            Shape::Sum(base, pending) => {
                Shape::Sum(Arc::new(base[rows.clone()].to_vec()), pending.select(rows))
            }
        };
        Rows { boxes, shape }
    }

    /// Boxes, each entry with a symbol of its own: what forms of one row share is not carried over
    /// to several. Only norms by head ask for it.
    fn reshape(&self, x: Rows, width: usize) -> Rows {
        let boxes = self.interval.reshape(x.boxes, width);
        let rows = (0..boxes.lo.nrows()).map(|row| ends_of(&boxes, row).into_iter().unzip());
        let rows = rows.map(|(lo, hi): (Vec<f64>, Vec<f64>)| Form::of_box(&lo, &hi)).collect();
        Rows { boxes, shape: Shape::plain(rows) }
    }

    fn stack(&self, above: &Rows, below: &Rows) -> Rows {
        let forms = self.forms(above).into_iter().chain(self.forms(below)).collect();
        Rows { boxes: self.interval.stack(&above.boxes, &below.boxes), shape: Shape::shared(forms) }
    }

    fn replace_column(&self, x: &mut Rows, index: usize, column: &Rows) {
        let mut forms = self.forms(x);
        self.interval.replace_column(&mut x.boxes, index, &column.boxes);
        for (row, form) in forms.iter_mut().map(Arc::make_mut).enumerate() {
            let (lo, hi) = (x.boxes.lo[[row, index]], x.boxes.hi[[row, index]]);
            form.replace_by_box(index, f64::from(lo), f64::from(hi));
        }
        x.shape = Shape::shared(forms);
    }
}
