//! Local Lipschitz bounds against pairs of points: never exceeded, on every kind of net and store.

mod nets;

use std::sync::Arc;

use certify::affine::{Matrices, change};
use certify::claim::Deployed;
use certify::interval::{Boxes, Margin};
use certify::lipschitz::{Lipschitz, Part, global, of_margins, of_part};
use certify::region::{Ball, Region};
use engine::kernels;
use engine::model::random::{SplitMix, Style, random_model, random_rows, small_config};
use engine::model::{Float, FloatType, Gate, KvKind, Model, Norm, Rope, Yarn};
use engine::walk::{self, Exact, Read};
use ndarray::Array2;
use nets::{KINDS, moved_point, nets, share};

const TOKENS: usize = 4;
const PARTS: [Part; 3] = [Part::Layer, Part::Attention, Part::FeedForward];

fn gaps<'a>(a: &'a Array2<f32>, b: &'a Array2<f32>) -> impl Iterator<Item = f64> + 'a {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs())
}

fn distance(a: &Array2<f32>, b: &Array2<f32>) -> f64 {
    gaps(a, b).fold(0.0, |most, gap| if gap > most { gap } else { most })
}

/// Two points of a box, drawn with much freedom.
fn drawn(boxes: &Boxes, rng: &mut SplitMix) -> Array2<f32> {
    Array2::from_shape_fn(boxes.lo.dim(), |at| {
        let share = [0.0, 1.0, rng.below(1025) as f32 / 1024.0][rng.below(3)];
        let (lo, hi) = (boxes.lo[at], boxes.hi[at]);
        (lo + (hi - lo) * share).clamp(lo, hi)
    })
}

/// Two opposite corners: where a number of the output rises with a cell, one has its upper end and
/// the other its lower.
fn opposite(
    boxes: &Boxes,
    run: &dyn Fn(&Array2<f32>) -> Array2<f64>,
    rng: &mut SplitMix,
) -> (Array2<f32>, Array2<f32>) {
    let middle = (&boxes.lo + &boxes.hi).mapv(|x| 0.5 * x);
    let at = run(&middle);
    let read = (rng.below(at.nrows()), rng.below(at.ncols()));
    let (mut a, mut b) = (boxes.lo.clone(), boxes.hi.clone());
    for (cell, x) in middle.indexed_iter() {
        let mut moved = middle.clone();
        moved[cell] = boxes.hi[cell];
        if boxes.hi[cell] > *x && run(&moved)[read] < at[read] {
            (a[cell], b[cell]) = (b[cell], a[cell]);
        }
    }
    (a, b)
}

/// The largest share of what is allowed that any pair reaches; none may exceed it.
fn reached(of: Lipschitz, moved: f64, parted: f64, what: &str) -> f64 {
    let allowed = of.bound * moved + of.slack;
    assert!(
        parted <= allowed,
        "{what}: {parted} > {allowed} = {} {moved} + {}",
        of.bound,
        of.slack
    );
    if allowed > 0.0 { parted / allowed } else { 0.0 }
}

fn of_layer(deployed: &Deployed, part: Part, x: &Array2<f32>) -> Array2<f32> {
    let mut domain = Exact::new(deployed.kernels, deployed.model, deployed.kv);
    match part {
        Part::Layer => walk::layer(&mut domain, deployed.model, 0, x, 0, Read::All),
        Part::Attention => walk::attention_block(&mut domain, deployed.model, 0, x, 0, Read::All),
        Part::FeedForward => walk::ffn_block(&mut domain, deployed.model, 0, x),
    }
}

fn larger(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

#[test]
fn pairs_of_points_never_part_faster_than_boxes_allow() {
    let mut rng = SplitMix(11);
    let mut tightest = 0f64;
    let mut finite = 0;
    for (seed, gate) in [(1, Gate::Relu2), (2, Gate::Silu)] {
        for sub_norms in [true, false] {
            let mut config = small_config(1, 16, 4, 2);
            config.gate = gate;
            let style = Style { sub_norms, stored: FloatType::F32, ..Style::BITNET };
            let model = random_model(&config, style, seed);
            for kv in KINDS {
                let deployed = Deployed { model: &model, kernels: kernels::best(), kv };
                for (epsilon, part) in
                    [1e-4, 1e-3, 1e-2, 0.1].into_iter().flat_map(|e| PARTS.map(|part| (e, part)))
                {
                    let x = random_rows(TOKENS, 16, rng.next_u64());
                    let boxes = Boxes::ball(&x, epsilon, &(0..TOKENS));
                    let Ok((response, _)) = of_part(&deployed, 0, part, &boxes) else {
                        continue;
                    };
                    finite += 1;
                    for _ in 0..12 {
                        let (a, b) = (drawn(&boxes, &mut rng), drawn(&boxes, &mut rng));
                        let run = |x| of_layer(&deployed, part, x);
                        let (moved, parted) = (distance(&a, &b), distance(&run(&a), &run(&b)));
                        let what = format!("{gate:?} {kv:?} {epsilon} {part:?}");
                        tightest = larger(tightest, reached(response, moved, parted, &what));
                    }
                }
            }
        }
    }
    assert!(finite > 60, "{finite} finite bounds are too few to show anything");
    assert!(tightest > 0.01, "bounds of which only {tightest} is reached say nothing");
}

#[test]
fn pairs_of_points_never_part_faster_than_forms_allow() {
    let mut rng = SplitMix(12);
    let (mut tightest, mut narrower, mut all) = (0f64, 0, 0);
    for (name, model) in nets() {
        let matrices = Matrices::new(&model);
        for (kv, radius) in KINDS.into_iter().zip([1e-4, 1e-3, 1e-2, 0.1]) {
            let deployed = Deployed { model: &model, kernels: kernels::best(), kv };
            for part in PARTS {
                let clean = random_rows(TOKENS, model.config.hidden, rng.next_u64());
                let half = clean.mapv(|_| rng.unit().abs() * radius);
                let boxes = Boxes::new(&clean - &half, &clean + &half * 0.5);
                let Some(forms) = change::of_part(&deployed, &matrices, 0, part, &boxes) else {
                    continue;
                };
                let width = f64::from(radius) * 1.5;
                let total = |of: Lipschitz| of.bound * width + of.slack;
                let by_boxes = of_part(&deployed, 0, part, &boxes);
                all += 1;
                narrower += usize::from(by_boxes.is_ok_and(|(b, _)| total(forms) < total(b)));
                let own = |x: &Array2<f32>| of_layer(&deployed, part, x);
                let run = |x: &Array2<f32>| own(x).mapv(f64::from);
                for how in 0..8 * share() {
                    let (a, b) = match how % 4 {
                        0 => opposite(&boxes, &run, &mut rng),
                        _ => (drawn(&boxes, &mut rng), drawn(&boxes, &mut rng)),
                    };
                    let (moved, parted) = (distance(&a, &b), distance(&own(&a), &own(&b)));
                    let what = format!("{name} {kv:?} {radius} {part:?}");
                    tightest = larger(tightest, reached(forms, moved, parted, &what));
                }
            }
        }
    }
    println!("forms are narrower on {narrower} of {all}, {tightest:.3} of a bound was reached");
    assert!(narrower > all / 2, "forms are narrower on {narrower} of {all} only");
    assert!(tightest > 0.7, "only {tightest} of a bound was reached");
}

/// The margins of a class over all classes.
fn margins(deployed: &Deployed, from: usize, winner: usize, x: &Array2<f32>) -> Array2<f64> {
    let logits = deployed.logits(x, from, Read::Last).mapv(f64::from);
    let own = logits[[0, winner]];
    logits.mapv(|other| own - other)
}

#[test]
fn margins_never_part_faster_than_either_bound_from_end_to_end_allows() {
    let mut rng = SplitMix(13);
    let (mut tightest, mut found) = ([0f64; 2], 0);
    for (name, model) in nets() {
        let matrices = Matrices::new(&model);
        let last = model.layers.len();
        for (kv, radius) in KINDS.into_iter().zip([1e-3, 1e-5, 1e-4, 1e-6]) {
            let deployed = Deployed { model: &model, kernels: kernels::best(), kv };
            let embedded = random_rows(TOKENS, model.config.hidden, rng.next_u64());
            let claim = Margin { row: 0, winner: rng.below(3), rivals: Vec::new() };
            for (from, ball) in [
                (0, Ball::Linf(radius)),
                (0, Ball::L2(radius)),
                (last, Ball::Linf(10.0 * radius)),
                (last, Ball::L2(10.0 * radius)),
            ] {
                let clean = deployed.streams(&embedded).swap_remove(from);
                let region = Region { clean: &clean, moved: 0..TOKENS, ball };
                let by_boxes = of_margins(&deployed, from, &region.boxes(), &claim).ok();
                let by_forms = change::of_margins(&deployed, &matrices, &region, from, &claim);
                found += usize::from(by_forms.is_some());
                for how in 0..6 * share() {
                    let (moved, parted) = parted((&deployed, from), &region, &claim, how, &mut rng);
                    let what = format!("{name} {kv:?} {radius} from {from}");
                    for (tightest, of) in tightest.iter_mut().zip([by_boxes, by_forms]) {
                        let share = of.map_or(0.0, |of| reached(of, moved, parted, &what));
                        *tightest = larger(*tightest, share);
                    }
                }
            }
        }
    }
    println!("{found} bounds by forms, {tightest:.3?} of bounds by boxes and forms was reached");
    assert!(found > 120, "only {found} bounds");
    assert!(tightest[0] > 0.4 && tightest[1] > 0.8, "only {tightest:?} was reached");
}

/// Two points of a ball: how far apart they are in its norm, and how far their margins are.
fn parted(
    (deployed, from): (&Deployed, usize),
    region: &Region,
    claim: &Margin,
    how: usize,
    rng: &mut SplitMix,
) -> (f64, f64) {
    let run = |x: &Array2<f32>| margins(deployed, from, claim.winner, x);
    let euclid = matches!(region.ball, Ball::L2(_));
    let (a, b) = if how.is_multiple_of(3) && !euclid {
        opposite(&region.boxes(), &run, rng)
    } else {
        (moved_point(region, how, rng), moved_point(region, how, rng))
    };
    let moved = if euclid {
        gaps(&a, &b).map(|gap| gap * gap).sum::<f64>().sqrt()
    } else {
        distance(&a, &b)
    };
    let (a, b) = (run(&a), run(&b));
    (moved, a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, larger))
}

#[test]
fn boxes_that_are_reached_hold_the_streams_of_points() {
    let mut rng = SplitMix(14);
    for (name, model) in nets() {
        let matrices = Matrices::new(&model);
        let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F16 };
        let clean = random_rows(TOKENS, model.config.hidden, rng.next_u64());
        let region = Region { clean: &clean, moved: 0..TOKENS, ball: Ball::Linf(1e-4) };
        let all = change::reached(&deployed, &matrices, &region, 0);
        assert_eq!(all.len(), 2 * model.layers.len() + 1, "{name}");
        for how in 0..4 {
            let streams = deployed.streams(&moved_point(&region, how, &mut rng));
            for (boxes, stream) in all.iter().step_by(2).zip(&streams) {
                assert!(boxes.contains(stream), "{name}");
            }
        }
    }
}

fn with_eps(model: &Model, eps: f32) -> Model {
    let mut model = model.clone();
    for layer in &mut model.layers {
        layer.input_norm.eps = eps;
    }
    model
}

#[test]
fn constants_that_hold_everywhere_are_no_smaller_than_those_of_a_box_and_infinite_without_an_eps() {
    for (name, model) in nets() {
        let matrices = Matrices::new(&model);
        let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
        let power = global::power_of_margins(&model, 0).expect("every norm has an eps");
        let clean = random_rows(TOKENS, model.config.hidden, 3);
        let region = Region { clean: &clean, moved: 0..TOKENS, ball: Ball::Linf(1e-6) };
        let claim = Margin { row: 0, winner: 0, rivals: Vec::new() };
        if model.coded_head.is_some() {
            // Forms say nothing of the margins of a head of integers.
            assert!(change::of_margins(&deployed, &matrices, &region, 0, &claim).is_none());
            continue;
        }
        let forms = change::of_margins(&deployed, &matrices, &region, 0, &claim);
        let local = forms.expect("a bound").bound;
        let most: f64 = format!("1e{}", power + 1).parse().expect("a number");
        assert!(local <= most && power > 3, "{name}: {local} {power}");
        assert_eq!(global::power_of_margins(&with_eps(&model, 0.0), 0), None, "{name}");
    }
}

#[test]
fn constants_that_hold_everywhere_grow_with_the_norms_of_heads_and_with_stretched_frequencies() {
    let config = small_config(1, 32, 4, 2);
    let style = Style { head_norms: true, stored: FloatType::F32, ..Style::BITNET };
    let model = random_model(&config, style, 4);
    let power = |model: &Model| global::power_of_margins(model, 0).expect("every norm has an eps");
    let plain = power(&model);
    let grown = |norm: &mut Option<Norm>| {
        let norm = norm.as_mut().expect("a norm by head");
        norm.gains = norm.gains.iter().map(|gain| gain * 1e6).collect();
    };
    let mut other = model.clone();
    grown(&mut other.layers[0].query_norm);
    assert!(power(&other) >= plain + 5, "{plain} {}", power(&other));
    let mut other = model.clone();
    grown(&mut other.layers[0].key_norm);
    assert!(power(&other) >= plain + 5, "{plain} {}", power(&other));
    let mut config = config;
    let (beta_fast, beta_slow) = Yarn::BETAS;
    config.yarn = Some(Yarn { factor: 2.0, original: 64, beta_fast, beta_slow, stretch: 10.0 });
    let mut other = model.clone();
    other.rope = Rope::of(&config).into();
    assert!(power(&other) > plain, "{plain} {}", power(&other));
}

#[test]
fn a_margin_moves_with_either_of_its_logits() {
    let (_, mut model) = nets().swap_remove(1);
    let columns = model.config.hidden;
    let embedded = random_rows(TOKENS, columns, 4);
    let mut rng = SplitMix(15);
    for moving in [0, 1] {
        // All logits are 0 but one.
        let row = |k: usize| if k / columns == moving { 1.0 } else { 0.0 };
        let data = (0..model.head.rows() * columns).map(row).collect();
        model.head = Arc::new(Float::F32 { data, columns });
        let deployed = Deployed { model: &model, kernels: kernels::best(), kv: KvKind::F32 };
        let (last, claim) = (model.layers.len(), Margin { row: 0, winner: 0, rivals: Vec::new() });
        let clean = deployed.streams(&embedded).swap_remove(last);
        let region = Region { clean: &clean, moved: 0..TOKENS, ball: Ball::Linf(1e-2) };
        let bound = of_margins(&deployed, last, &region.boxes(), &claim).expect("a bound");
        for _ in 0..4 {
            let (moved, parted) = parted((&deployed, last), &region, &claim, 0, &mut rng);
            reached(bound, moved, parted, "one logit");
        }
    }
}
