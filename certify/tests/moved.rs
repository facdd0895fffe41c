//! Integer sums that faults move: points of physically changed models at every step of the sets.
//!
//! The default run takes a seeded share; `BITNET_SOUNDNESS=20` multiplies the number of points.

mod nets;

use std::sync::Arc;

use certify::affine::{Affine, Matrices};
use certify::checked::{Checked, Enclosure, Pair};
use certify::claim::{Deployed, clean_margin};
use certify::interval::{BoxPrepared, Boxes, Interval, Margin, Ranges};
use certify::moved::{AnyFlip, Movable, Moved};
use certify::region::{Ball, Region};
use engine::kernels;
use engine::model::random::{SplitMix, random_rows};
use engine::model::{Activations, Linear, Model, Slot, Weights};
use engine::packing::{TernaryRows, weight_of};
use engine::walk::{self, Domain, Exact, Read, Site, Step};
use ndarray::Array2;
use nets::{KINDS, nets, share};

const TOKENS: usize = 4;

/// What is changed: at most so many codes of the slots of a layer, each to any other code.
#[derive(Clone, Debug)]
struct Strike {
    layer: usize,
    slots: Vec<Slot>,
    /// Of one row alone.
    row: Option<usize>,
    changes: usize,
    shared: bool,
}

fn ternary(linear: &Linear) -> &Arc<TernaryRows> {
    match &linear.weights {
        Weights::Ternary { rows, .. } => rows,
        Weights::Coded(_) | Weights::Dense(_) => panic!("a ternary layer"),
    }
}

/// The largest changes of one row's sums, by brute force: the best column again and again.
fn row_moves(codes: &[u8], x: &BoxPrepared, changes: usize) -> (Ranges, Vec<Vec<i32>>) {
    let boxes = x.codes.as_ref().expect("codes");
    let tokens = boxes.scales.len();
    let padded = boxes.lo.len() / tokens;
    let token = |token: usize| {
        let gains = |sign: i32| {
            let mut gains: Vec<i32> = (codes.iter().enumerate())
                .map(|(k, &code)| {
                    let lo = i32::from(boxes.lo[token * padded + k]);
                    let hi = lo + i32::from(boxes.width[token * padded + k]);
                    let by = (0..4).map(|after| sign * (weight_of(after) - weight_of(code)));
                    by.map(|by| (by * lo).max(by * hi)).max().expect("four codes").max(0)
                })
                .collect();
            gains.sort_unstable_by(|a, b| b.cmp(a));
            let sums = gains.iter().scan(0, |sum, gain| {
                *sum += gain;
                Some(*sum)
            });
            sums.take(changes).collect::<Vec<i32>>()
        };
        let (less, more) = (gains(-1), gains(1));
        let most: Vec<i32> = less.iter().zip(&more).map(|(a, b)| *a.max(b)).collect();
        ((-less[changes - 1], more[changes - 1]), most)
    };
    (0..tokens).map(token).unzip()
}

impl Strike {
    fn random(model: &Model, rng: &mut SplitMix) -> Self {
        let layer = rng.below(model.layers.len());
        let slots = match rng.below(4) {
            0 => Slot::ALL.to_vec(),
            _ => vec![Slot::ALL[rng.below(7)]],
        };
        let changes = [1, 2, 4][rng.below(3)];
        let one = slots.len() == 1 && rng.below(3) == 0;
        let outputs = model.layers[layer].linear(slots[0]).outputs();
        let row = one.then(|| rng.below(outputs));
        Self { layer, slots, row, changes, shared: !one }
    }

    fn moved(&self, at: Site, x: &BoxPrepared, linear: &Linear) -> Option<Moved> {
        let Step::Linear(slot) = at.step else { return None };
        if at.layer != self.layer || !self.slots.contains(&slot) {
            return None;
        }
        let rows = ternary(linear);
        let of = |row: usize| match self.row {
            Some(one) if one != row => (Vec::new(), Vec::new()),
            _ => row_moves(&rows.row(row), x, self.changes),
        };
        let (ranges, most) = (0..rows.rows()).map(of).unzip();
        Some(Moved { ranges, shared: self.shared.then_some(most) })
    }

    /// The model with codes changed: scattered, or all in one row, one column of it after another.
    fn changed(&self, model: &Model, rng: &mut SplitMix) -> Model {
        let mut changed = model.clone();
        let together = rng.below(2) == 0;
        let mut place = None;
        for _ in 0..self.changes {
            let slot = self.slots[rng.below(self.slots.len())];
            let outputs = model.layers[self.layer].linear(slot).outputs();
            let drawn = (slot, self.row.unwrap_or_else(|| rng.below(outputs)));
            let (slot, row) = if together { *place.get_or_insert(drawn) } else { drawn };
            let linear = changed.layers[self.layer].linear_mut(slot);
            let Weights::Ternary { rows, .. } = &mut linear.weights else { panic!("ternary") };
            let (column, code) = (rng.below(rows.columns()), rng.below(4) as u8);
            let before = rows.clone();
            let packed = TernaryRows::pack(before.rows(), before.columns(), |index, buffer| {
                before.read_row(index, buffer);
                if index == row {
                    buffer[column] = code;
                }
            });
            *rows = packed.into();
        }
        changed
    }
}

/// Walks a point of a changed model beside a set; gives the checks that were made.
fn walked<S: Movable>(
    (model, changed): (&Model, &Arc<Model>),
    (inner, rows): (S, S::Rows),
    (strike, stream): (&Strike, &Array2<f32>),
    (exact, read): (Exact, Read),
) -> (S, u64) {
    let moved = |at: Site, x: &BoxPrepared, linear: &Linear| strike.moved(at, x, linear);
    let mut domain = Checked::new(AnyFlip { inner, moved }, exact);
    domain.faulty = Some(changed.clone());
    let start = Pair { set: rows, point: stream.clone() };
    walk::run(&mut domain, model, &start, strike.layer, 0, read);
    (domain.set.inner, domain.checks)
}

#[test]
fn a_point_of_a_changed_model_never_leaves_the_sets_nor_the_margins() {
    let mut rng = SplitMix(8128);
    let (mut checks, mut points, mut close, mut bounded) = (0u64, 0u64, 0f64, 0u64);
    for (_, model) in nets() {
        let linears = || model.layers.iter().flat_map(|layer| &layer.linears);
        let ternary = |linear: &Linear| matches!(linear.weights, Weights::Ternary { .. });
        if model.config.activations.levels().is_none() || !linears().all(ternary) {
            continue;
        }
        let matrices = Matrices::new(&model);
        for index in 0..8 * share() {
            let kv = KINDS[index % KINDS.len()];
            let deployed = Deployed { model: &model, kernels: kernels::best(), kv };
            let strike = Strike::random(&model, &mut rng);
            let stream = random_rows(TOKENS, model.config.hidden, rng.next_u64());
            let clean = deployed.logits(&stream, strike.layer, Read::Last);
            let winner =
                engine::numerics::argmax(clean.as_slice().expect("a row")).expect("numbers");
            let claims = vec![Margin { row: 0, winner, rivals: Vec::new() }];
            for way in 0..3 {
                let changed = Arc::new(strike.changed(&model, &mut rng));
                let read = if way == 0 { Read::All } else { Read::Last };
                let claims = if way == 0 { Vec::new() } else { claims.clone() };
                let models = (&model, &changed);
                let exact = || (Exact::new(deployed.kernels, &model, kv), read);
                let plain = Interval::new(deployed.kernels, &model, kv, claims.clone());
                let start = (plain, Boxes::point(&stream));
                let (plain, some) = walked(models, start, (&strike, &stream), exact());
                checks += some;
                let region = Region { clean: &stream, moved: 0..0, ball: Ball::Linf(0.0) };
                let (mut forms, rows) = Affine::new(&deployed, &matrices, &region, claims);
                forms.read_logits();
                if strike.shared {
                    let layer = &model.layers[strike.layer];
                    let sums = strike.slots.iter().map(|&slot| layer.linear(slot).outputs());
                    forms.share_flips(strike.changes, sums.sum::<usize>() * TOKENS);
                }
                let (forms, some) = walked(models, (forms, rows), (&strike, &stream), exact());
                checks += some;
                points += 1;
                if way == 0 || plain.lost() || forms.lost() {
                    continue;
                }
                let faulty = Deployed { model: &changed, ..deployed };
                let logits = faulty.logits(&stream, strike.layer, Read::Last);
                let decision = certify::claim::Decision { winner, classes: Vec::new() };
                let margin = clean_margin(logits.as_slice().expect("a row"), &decision);
                for bound in plain.margins().iter().chain(&forms.proof().margins) {
                    assert!(*bound <= margin, "{strike:?}: {bound} above {margin}");
                    bounded += 1;
                    let near = 1.0 - (margin - bound);
                    close = if near > close { near } else { close };
                }
            }
        }
    }
    println!("{points} points, {checks} checks, {bounded} margins, nearest {}", 1.0 - close);
    assert!(checks > 100_000 && bounded > 100, "{checks} {bounded}");
}

/// The first net with its queries' weights all 1, and the same with one of them 0.
fn ones(row: usize, column: usize) -> (Model, Linear) {
    let (_, mut model) = nets().into_iter().next().expect("a net");
    let linear = model.layers[0].linear_mut(Slot::Q);
    let of = |zero: Option<(usize, usize)>, linear: &Linear| {
        let Weights::Ternary { rows, scale, stored, layout, .. } = &linear.weights else {
            panic!("a ternary layer");
        };
        let packed = TernaryRows::pack(rows.rows(), rows.columns(), |index, out| {
            out.fill(2);
            if let Some((_, column)) = zero.filter(|&(row, _)| row == index) {
                out[column] = 1;
            }
        });
        let weights = Weights::Ternary {
            rows: Arc::new(packed),
            scale: *scale,
            stored: *stored,
            layout: *layout,
            blocks: None,
        };
        Linear { weights, ..linear.clone() }
    };
    let struck = of(Some((row, column)), linear);
    *linear = of(None, linear);
    (model, struck)
}

#[test]
fn the_rounding_of_a_large_sum_that_moves_a_little_is_in_its_form() {
    let mut rng = SplitMix(67);
    let (row, column) = (1, 3);
    let (model, struck) = ones(row, column);
    let matrices = Matrices::new(&model);
    let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KINDS[0] };
    let at = |step: Step| Site { layer: 0, step };
    let linear = model.layers[0].linear(Slot::Q);
    for seed in 0..400 {
        // Every code is 127 but the one under the struck weight.
        let largest = 1.5 + rng.unit();
        let mut clean = Array2::from_elem((1, linear.inputs()), largest);
        let code = 1 + rng.below(3) as i32;
        clean[[0, column]] = largest * code as f32 / 127.0;
        let region = Region { clean: &clean, moved: 0..1, ball: Ball::Linf(0.0) };
        let (mut forms, rows) = Affine::new(&deployed, &matrices, &region, Vec::new());
        let policy = Activations::PerTokenInt8;
        let set = forms.prepare(at(Step::Prepare(Slot::Q)), &rows, policy);
        let mut ranges: Vec<Ranges> = vec![Vec::new(); linear.outputs()];
        ranges[row] = vec![(-code, 0)];
        let moved = Moved { ranges, shared: None };
        let found = forms.linear_moved(at(Step::Linear(Slot::Q)), &set, linear, &moved);
        let mut exact = Exact::new(kernels::best(), &model, KINDS[0]);
        let point = exact.prepare(at(Step::Prepare(Slot::Q)), &clean, policy);
        let truth = exact.linear(at(Step::Linear(Slot::Q)), &point, &struck);
        assert!(found.boxes.contains(&truth), "seed {seed}");
    }
}
