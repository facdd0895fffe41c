//! Margins that are bounded again, each against its own values.

use engine::kernels::scalar;
use engine::model::random::SplitMix;
use engine::model::{Float, Gate};

use super::super::form::Form;
use super::super::gate::gate;
use super::super::inputs::{Bound, Inputs};
use super::super::linear::{Matrix, outputs};
use super::super::margin::{Final, Stream};
use super::super::past::Past;
use super::super::quotient::Quotient;
use super::super::scores::dot;
use super::super::second::curved::Layers;
use super::super::sites::Reading;
use super::attended::with_boxes;
use super::curved::{Product, through};
use super::second::random;
use super::{late, linear, unit};

const EPS: (f64, f64) = (1e-5, 2e-5);

/// A head behind the feed-forward half of a layer.
struct Last {
    product: Product,
    reading: Reading,
    down: Matrix,
    gains: Vec<f64>,
    head: Float,
}

impl Last {
    /// `None` where the root mean square of the product has no bound, or the row is 0.
    fn random(rng: &mut SplitMix, inputs: &Inputs, count: usize, classes: usize) -> Option<Self> {
        let product = Product::random(rng, inputs, count);
        let (width, features) = (product.gains.len(), product.features());
        let side = |matrix: &Matrix| {
            let w: Vec<f64> = matrix.w.iter().map(|w| w * matrix.scale).collect();
            product.stream.product_of_scaled(scalar(), &product.gains, &w)
        };
        let sides = (&side(&product.gate), &side(&product.up));
        let mut x = gate(scalar(), inputs, sides, Gate::Relu2);
        x.settle(&mut 1000);
        let (lo, hi) = ends(inputs, &x);
        let quotient = Quotient::new(scalar(), inputs, &x, (&lo, &hi), EPS)?;
        let past = Some(Past::NormedGate(product.normed.clone()));
        let reading = Reading { past, ..late(&x, &vec![1.0; features], Some(&quotient)) };
        let down = Matrix { w: random(rng, features * width, 1.0), scale: 0.5 };
        let gains = (0..width).map(|_| 1.0 + 0.5 * unit(rng)).collect();
        let head = Float::F32 { data: Vec::new(), columns: width };
        let mut last = Self { product, reading, down, gains, head };
        let row = last.row(&vec![0.0; count], EPS.0);
        let square = dot(&row, &row);
        if square == 0.0 {
            return None;
        }
        let mut data = random(rng, width, 1.0);
        for _ in 1..classes {
            // Nearly level at the centre.
            let turn = random(rng, width, 1.0);
            let share = dot(&turn, &row) / square - 0.2 * unit(rng);
            (0..width).for_each(|k| data.push(data[k] + turn[k] - share * row[k]));
        }
        let data = data.into_iter().map(|x| x as f32).collect();
        last.head = Float::F32 { data, columns: width };
        Some(last)
    }

    /// The lower bounds of the margins of the first class, at first and refined.
    fn bounds(&self, inputs: &Inputs, rivals: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let base = &*self.product.normed.of.reading.form;
        let ways = std::slice::from_ref(&self.reading);
        let w = (&self.down.w[..], self.down.scale);
        let update = outputs(scalar(), inputs, &self.reading, w, false);
        let (lo, hi) = ends(inputs, &base.plus(&update));
        let of = Final {
            kernels: scalar(),
            inputs,
            stream: Stream::Sum(base, ways, &self.down, false),
            ends: (&lo, &hi),
            gains: &self.gains,
            eps: EPS,
            head: &self.head,
            layers: Some(Layers { gate: &self.product.gate, up: &self.product.up }),
            behind: None,
        };
        (of.lower(0, rivals), of.decide(0, rivals))
    }

    /// What the head reads where the symbols have values.
    fn row(&self, e: &[f64], eps: f64) -> Vec<f64> {
        let mut z = linear(&self.product.stream, e);
        let x = self.product.at(&z);
        let root = self.product.root(&x, eps);
        let added = through(&self.down.w, &x, z.len());
        z.iter_mut().zip(added).for_each(|(z, x)| *z += x / root * self.down.scale);
        let root = self.product.root(&z, eps);
        z.iter().zip(&self.gains).map(|(z, gain)| z / root * gain).collect()
    }

    /// The margins of the first class over each other one there.
    fn margins(&self, e: &[f64], eps: f64) -> Vec<f64> {
        let row = self.row(e, eps);
        let mut weights = vec![0f32; row.len()];
        let logits: Vec<f64> = (0..self.head.rows())
            .map(|class| {
                self.head.read_row(class, &mut weights);
                weights.iter().zip(&row).map(|(&w, x)| f64::from(w) * x).sum()
            })
            .collect();
        logits[1..].iter().map(|logit| logits[0] - logit).collect()
    }
}

/// The ends of a form's values.
fn ends(inputs: &Inputs, form: &Form) -> (Vec<f64>, Vec<f64>) {
    let radii = form.radii(scalar(), inputs);
    form.c.iter().zip(radii).map(|(c, r)| (c - r, c + r)).unzip()
}

#[test]
fn margins_that_are_bounded_again_are_not_below_their_own_bounds() {
    let mut rng = SplitMix(89);
    let (mut again, mut open) = (0, 0);
    for _ in 0..1500 {
        let (count, inputs) = (1 + rng.below(4), Inputs::new(0, Bound::Each));
        let rivals: Vec<usize> = (1..2 + rng.below(4)).collect();
        let last = Last::random(&mut rng, &inputs, count, 1 + rivals.len());
        let Some(last) = last else { continue };
        let (low, refined) = last.bounds(&inputs, &rivals);
        open += usize::from(low.iter().filter(|&&low| low <= 0.0).count() > 1);
        again += low.iter().zip(&refined).filter(|(low, refined)| refined > low).count();
        for _ in 0..8 {
            let e = with_boxes(&mut rng, count);
            for (k, truth) in last.margins(&e, EPS.0).into_iter().enumerate() {
                assert!(refined[k] <= truth, "rival {k}: {} > {truth}", refined[k]);
            }
        }
    }
    assert!(open > 500 && again > 50, "{again} are bounded better, {open} nets have several open");
}
