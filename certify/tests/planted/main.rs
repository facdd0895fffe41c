//! False claims: none may be certified, by any method.
//!
//! Each test builds nets whose set holds a point that decides otherwise, which the engine itself
//! confirms. [`PROVERS`] lists the methods; a new one is one more line there.

mod nets;
mod softmax;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use certify::affine::{self, Matrices};
use certify::claim::prove;
use certify::region::Region;
use engine::model::Float;
use engine::walk::Read;
use ndarray::Array2;
use nets::{Blank, Planted, point};
use support::{DIGITS, Draws, Shape, model};

/// A method: whether it proves the claim of a planted net on a set.
type Prover = fn(&Planted, &Region<'_>) -> bool;

/// All methods.
const PROVERS: [(&str, Prover); 2] = [("interval", by_interval), ("affine", by_affine)];

fn by_interval(planted: &Planted, region: &Region<'_>) -> bool {
    let claims = [planted.claim()];
    prove(&planted.deployed(), &region.boxes(), planted.from, Read::Last, &claims).certifies()
}

fn by_affine(planted: &Planted, region: &Region<'_>) -> bool {
    let matrices = Matrices::new(&planted.model);
    let (deployed, claims) = (planted.deployed(), [planted.claim()]);
    affine::prove(&deployed, &matrices, region, planted.from, Read::Last, &claims).certifies()
}

/// Asserts that no method proves the claim on a set.
fn unproven(planted: &Planted, region: &Region<'_>) {
    for (method, proves) in PROVERS {
        let (name, ball) = (&planted.name, &region.ball);
        assert!(!proves(planted, region), "{method} certified {name} on {ball:?}");
    }
}

/// How many methods prove the claim on a much smaller ball: false claims alone show nothing.
fn proven_nearby(planted: &Planted, share: f64) -> usize {
    let ball = planted.ball(planted.distance() * share);
    PROVERS.iter().filter(|(_, proves)| proves(planted, &ball)).count()
}

/// Shares of the way at which the decision falls: half, and so late that only the witness falls.
const SHARES: [f64; 3] = [0.5, 0.99, 0.999_99];

#[test]
fn a_ball_that_holds_its_counter_example_is_never_certified() {
    let mut draws = Draws::new(41);
    let (mut planted_count, mut proven) = (0, 0);
    for index in 0..72 {
        let blank = Blank::new(index, &mut draws);
        let radius = [1e-3, 1e-2, 0.1, 0.5][index % 4];
        let witness = point(&blank.clean, radius, index / 4, &mut draws);
        let name = format!("net {index}");
        let Some(planted) = blank.plant(name, witness, SHARES[index % 3]) else { continue };
        planted_count += 1;
        let distance = planted.distance();
        for factor in [1.0, 1.5, 8.0] {
            unproven(&planted, &planted.ball(distance * factor));
        }
        proven += proven_nearby(&planted, 1e-5);
    }
    assert!(planted_count >= 50, "only {planted_count} nets");
    assert!(proven >= 10, "only {proven} smaller balls were certified: the test would be empty");
}

/// The ulps between two numbers of one sign as a path: the number `step` floats from `from`.
fn along(from: f32, to: f32, step: u32) -> f32 {
    let (a, b) = (from.to_bits(), to.to_bits());
    f32::from_bits(if b > a { a + step } else { a - step })
}

/// Two neighbouring streams, one float of one feature apart, of which only the first decides for
/// the winner.
fn neighbours(planted: &Planted) -> Option<(Array2<f32>, Array2<f32>)> {
    let (at, _) = planted.clean.indexed_iter().find(|&(at, &v)| v != planted.witness[at])?;
    let (from, to) = (planted.clean[at], planted.witness[at]);
    if from.is_sign_negative() != to.is_sign_negative() {
        return None;
    }
    let stream = |step: u32| {
        let mut x = planted.clean.clone();
        x[at] = along(from, to, step);
        x
    };
    let (mut good, mut bad) = (0, from.to_bits().abs_diff(to.to_bits()));
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if planted.decides(&stream(middle)) == Some(planted.decision.winner) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Some((stream(good), stream(bad)))
}

#[test]
fn one_float_beside_the_boundary_of_a_decision_nothing_is_certified() {
    let mut draws = Draws::new(43);
    let mut tried = 0;
    for index in 0..90 {
        let blank = Blank::new(index, &mut draws);
        let witness = point(&blank.clean, [0.02, 0.2][index % 2], 2, &mut draws);
        let name = format!("net {index}, one float");
        let Some(mut planted) = blank.plant(name, witness, 0.5) else { continue };
        let Some((good, bad)) = neighbours(&planted) else { continue };
        (planted.clean, planted.witness) = (good, bad);
        assert!(planted.confirmed(), "{}", planted.name);
        tried += 1;
        let distance = planted.distance();
        for factor in [1.0, 2.0, 100.0] {
            unproven(&planted, &planted.ball(distance * factor));
        }
        // From the other side the claim is false on the clean stream.
        std::mem::swap(&mut planted.clean, &mut planted.witness);
        for radius in [0.0, distance] {
            unproven(&planted, &planted.ball(radius));
        }
    }
    assert!(tried >= 50, "only {tried} boundaries");
}

/// The margin of class 1 over the reals, from the stored numbers, at the head alone.
fn real_margin(planted: &Planted) -> f64 {
    let last = planted.clean.row(planted.clean.nrows() - 1);
    let norm = &planted.model.final_norm;
    let squares: f64 = last.iter().map(|&z| f64::from(z) * f64::from(z)).sum();
    let root = (squares / last.len() as f64 + f64::from(norm.eps)).sqrt();
    let mut row = vec![0.0; last.len()];
    planted.model.head.read_row(1, &mut row);
    let terms = row.iter().zip(norm.gains.iter()).zip(last);
    terms.map(|((&w, &g), &z)| f64::from(w) * f64::from(g) * f64::from(z)).sum::<f64>() / root
}

/// A head whose sum is a little above zero over the reals.
fn knife_edge(index: usize, draws: &mut Draws) -> Planted {
    let mut blank = Blank::new(index, draws);
    blank.from = blank.model.layers.len();
    blank.clean = draws.rows(1, blank.model.config.hidden);
    let gains = blank.model.final_norm.gains.clone();
    let mut row: Vec<f32> = (0..gains.len()).map(|_| draws.unit()).collect();
    // The feature that counts least balances the others finely.
    let term =
        |k: usize, w: f32| f64::from(w) * f64::from(gains[k]) * f64::from(blank.clean[[0, k]]);
    let size = |k: usize| term(k, 1.0).abs();
    let fine = (0..row.len()).min_by(|&a, &b| size(a).total_cmp(&size(b))).expect("features");
    let others: f64 = (0..row.len()).filter(|&k| k != fine).map(|k| term(k, row[k])).sum();
    let over = 1e-9 * f64::from(draws.below(300) + 1);
    row[fine] = ((over - others) / term(fine, 1.0)) as f32;
    let clean = blank.clean.clone();
    blank.claim(format!("knife edge {index}"), clean, &row)
}

#[test]
fn sums_that_only_the_order_and_rounding_of_floats_decide_are_not_certified() {
    let mut draws = Draws::new(47);
    let mut tried = 0;
    for index in 0..2000 {
        let planted = knife_edge(index, &mut draws);
        // Over the reals class 1 wins; in the engine's own arithmetic it does not.
        if real_margin(&planted) <= 0.0 || planted.decides(&planted.clean) == Some(1) {
            continue;
        }
        tried += 1;
        for radius in [0.0, 1e-30, 1e-12, 1e-7] {
            unproven(&planted, &planted.ball(radius));
        }
    }
    assert!(tried >= 50, "only {tried} sums");
}

#[test]
fn a_term_that_a_float_sum_absorbs_does_not_certify() {
    let mut draws = Draws::new(53);
    let mut tried = 0;
    for index in 0..64 {
        let mut blank = Blank::new(4 + 8 * (index % 9), &mut draws);
        assert_eq!(blank.clean.ncols(), 32, "two rounds of the sixteen lanes");
        blank.from = blank.model.layers.len();
        blank.clean = Array2::ones((1, 32));
        let lane = index % 16;
        let mut row = vec![0.0; 32];
        // 2^25 in a lane absorbs the 1 behind it; the tree then takes 2^25 off again.
        (row[lane], row[lane + 16], row[lane ^ 1]) = (33_554_432.0, 1.0, -33_554_432.0);
        blank.model.final_norm.gains = vec![1.0; 32].into();
        let clean = blank.clean.clone();
        let planted = blank.claim(format!("absorbed in lane {lane}"), clean, &row);
        if real_margin(&planted) <= 0.5 || planted.decides(&planted.clean) == Some(1) {
            continue;
        }
        tried += 1;
        for radius in [0.0, 1e-30, 1e-9] {
            unproven(&planted, &planted.ball(radius));
        }
    }
    assert!(tried >= 32, "only {tried} sums");
}

#[test]
fn many_small_terms_that_a_long_float_sum_drops_one_by_one_do_not_certify() {
    let hidden = 4096;
    let shape = Shape { hidden, layers: 1, ffn: 32, ..DIGITS };
    let mut draws = Draws::new(57);
    for excess in [0.2, 0.5, 0.9] {
        let mut blank = Blank::new(0, &mut draws);
        blank.model = model(&shape, 5);
        blank.from = 1;
        blank.clean = Array2::ones((1, hidden));
        blank.model.final_norm.gains = vec![1.0; hidden].into();
        blank.model.final_norm.eps = 0.0;
        // In each lane a 1, and behind it terms just under half its ulp.
        let small = 0.49 * f32::EPSILON;
        let row: Vec<f32> = (0..hidden).map(|k| if k < 16 { 1.0 } else { small }).collect();
        let clean = blank.clean.clone();
        let mut planted = blank.claim(format!("dropped terms, {excess}"), clean, &row);
        // Class 0 scores what class 1 scores without them, and part of what they are worth.
        let worth = excess * f64::from(small) * (hidden - 16) as f64;
        let mut data = vec![0.0; planted.model.head.rows() * hidden];
        data[hidden..2 * hidden].copy_from_slice(&row);
        data[0] = (16.0 + worth) as f32;
        planted.model.head = Arc::new(Float::F32 { data, columns: hidden });
        assert_eq!(planted.decides(&planted.clean), Some(0));
        for radius in [0.0, 1e-30, 1e-9] {
            unproven(&planted, &planted.ball(radius));
        }
    }
}

#[test]
fn a_tie_is_no_win() {
    let mut draws = Draws::new(59);
    for index in 0..12 {
        let blank = Blank::new(index, &mut draws);
        let (clean, width) = (blank.clean.clone(), blank.clean.ncols());
        let planted = blank.claim(format!("tie {index}"), clean, &vec![0.0; width]);
        for radius in [0.0, 1e-9, 1e-3] {
            unproven(&planted, &planted.ball(radius));
        }
    }
}
