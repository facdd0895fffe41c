//! The encoding adviser, against the enumeration that was made before it and against flips of real
//! codes.

mod support;

use engine::packing::{TernaryRows, weight_of};
use faults::{Criterion, Direction, Encoding, Histogram, UnusedCode, encodings};
use support::Lcg;

/// A share of zeros of 0.42, as trained models have.
const TRAINED: Histogram = Histogram { minus: 29, zero: 42, plus: 29 };

fn close(got: f64, percent: f64) {
    assert!((100.0 * got - percent).abs() <= 0.5, "{got} is not {percent} %");
}

fn encoding(minus: u8, zero: u8, plus: u8) -> Encoding {
    Encoding::new(minus, zero, plus).expect("three codes")
}

#[test]
fn the_known_figures_of_symmetric_flips_are_found() {
    let both = |encoding: Encoding, of: &Histogram| {
        encoding.exposure(of, Direction::Both, UnusedCode::Deployed)
    };
    let even = Histogram { minus: 1, zero: 1, plus: 1 };
    let half = Histogram { minus: 1, zero: 2, plus: 1 };
    for (of, unused, sign) in [(even, 33.3, 33.3), (TRAINED, 35.5, 29.0), (half, 37.5, 25.0)] {
        let exposure = both(Encoding::DEPLOYED, &of);
        close(exposure.unused_share(), unused);
        close(exposure.sign_share(), sign);
        assert_eq!(exposure.mean_change(), 1.5);
    }
    for codes in [encoding(2, 0, 1), encoding(1, 3, 2)] {
        let exposure = both(codes, &TRAINED);
        close(exposure.unused_share(), 29.0);
        assert_eq!(exposure.sign, 0);
        assert!((exposure.mean_change() - 1.29).abs() < 1e-12);
    }
}

#[test]
fn the_known_figures_of_one_directional_flips_are_found() {
    let of = |encoding: Encoding, direction| {
        encoding.exposure(&TRAINED, direction, UnusedCode::Deployed)
    };
    let fall = of(Encoding::DEPLOYED, Direction::OneToZero);
    assert_eq!(fall.unused, 0);
    close(fall.sign_share(), 41.0);
    let rise = of(Encoding::DEPLOYED, Direction::ZeroToOne);
    close(rise.unused_share(), 55.0);
    close(rise.sign_share(), 22.5);
    let fall = of(encoding(1, 3, 2), Direction::OneToZero);
    close(fall.unused_share(), 41.0);
    assert_eq!(fall.sign, 0);
}

#[test]
fn there_are_twelve_assignments_up_to_the_order_of_the_bits() {
    let all = Encoding::distinct();
    assert_eq!(all.len(), 12);
    for (index, one) in all.iter().enumerate() {
        for direction in Direction::ALL {
            let of = |encoding: &Encoding| encoding.exposure(&TRAINED, direction, UnusedCode::Zero);
            assert_eq!(of(one), of(&one.exchanged()), "{one}");
        }
        assert!(all[index + 1..].iter().all(|other| *other != one.exchanged() && other != one));
    }
    assert!(Encoding::new(0, 0, 1).is_none() && Encoding::new(0, 1, 4).is_none());
    assert_eq!(Encoding::DEPLOYED.to_string(), "-1=00 0=01 +1=10 unused=11");
}

#[test]
fn exposures_are_those_of_flipping_every_bit() {
    let random = &mut Lcg(9);
    let weights: Vec<i32> = (0..200).map(|_| random.below(3) as i32 - 1).collect();
    let count = |weight| weights.iter().filter(|&&own| own == weight).count() as u64;
    let of = Histogram { minus: count(-1), zero: count(0), plus: count(1) };
    let policies = [(UnusedCode::Deployed, 2), (UnusedCode::Zero, 0), (UnusedCode::Detect, 9)];
    for encoding in Encoding::distinct() {
        let codes = encoding.codes();
        for direction in Direction::ALL {
            for (policy, read) in policies {
                let (mut flips, mut unused, mut sign, mut change) = (0, 0, 0, 0);
                for &weight in &weights {
                    let code = codes[(weight + 1) as usize];
                    for mask in [1u8, 2] {
                        let falls = code & mask != 0;
                        let skipped = (direction == Direction::OneToZero && !falls)
                            || (direction == Direction::ZeroToOne && falls);
                        if skipped {
                            continue;
                        }
                        flips += 1;
                        let at = codes.iter().position(|&own| own == code ^ mask).expect("a code");
                        let after = if at == 3 { read } else { at as i32 - 1 };
                        unused += u64::from(at == 3);
                        sign += u64::from(at != 3 && (weight - after).abs() == 2);
                        let seen = at == 3 && policy == UnusedCode::Detect;
                        change += if seen { 0 } else { u64::from(weight.abs_diff(after)) };
                    }
                }
                let got = encoding.exposure(&of, direction, policy);
                let got = (got.flips, got.unused, got.sign, got.change);
                assert_eq!(got, (flips, unused, sign, change), "{encoding} {direction:?}");
            }
        }
    }
}

#[test]
fn the_best_assignment_is_best_in_what_was_asked() {
    for direction in Direction::ALL {
        let at = direction as usize;
        for unused in [UnusedCode::Deployed, UnusedCode::Zero, UnusedCode::Detect] {
            let best = |criterion| encodings(&TRAINED, unused, criterion, direction);
            let sign = best(Criterion::Sign);
            assert_eq!(sign.len(), 12);
            assert!(sign.iter().all(|row| row.exposures[at].sign >= sign[0].exposures[at].sign));
            assert_eq!(sign[0].exposures[at].sign, 0);
            let seen = best(Criterion::Detection);
            let share = |row: &faults::EncodingRow| row.exposures[at].unused_share();
            assert!(seen.windows(2).all(|pair| {
                share(&pair[0]) >= share(&pair[1]) || pair[0].exposures[at].flips == 0
            }));
            let change = best(Criterion::Change);
            let all = change.windows(2);
            assert!(all.clone().all(|p| p[0].exposures[at].change <= p[1].exposures[at].change));
        }
    }
    // Cells that lose ones: zeros as 00 have the fewest faults, and no sign flips.
    let rows = encodings(&TRAINED, UnusedCode::Detect, Criterion::Sign, Direction::OneToZero);
    assert_eq!(rows[0].encoding.codes()[1], 0);
}

#[test]
fn a_tensor_is_counted_by_its_codes() {
    let rows = TernaryRows::pack(3, 5, |row, out| {
        for (column, code) in out.iter_mut().enumerate() {
            *code = ((row * 5 + column) % 3) as u8;
        }
    });
    assert_eq!(Histogram::of(&rows), Some(Histogram { minus: 5, zero: 5, plus: 5 }));
    for (index, code) in Encoding::DEPLOYED.codes().into_iter().enumerate() {
        assert_eq!(weight_of(code), index as i32 - 1);
    }
    let broken = TernaryRows::pack(1, 4, |_, out| out.copy_from_slice(&[0, 1, 3, 2]));
    assert_eq!(Histogram::of(&broken), None);
}

#[test]
fn the_known_figures_of_five_trits_in_a_byte_are_found() {
    let found = TRAINED.trits(Direction::Both).expect("weights");
    assert!((found.bits - 8.0).abs() < 1e-9);
    for (share, percent) in found.hit.into_iter().zip([0.4, 14.4, 29.6, 24.9, 13.7, 17.1]) {
        assert!((100.0 * share - percent).abs() < 0.06, "{share} is not {percent} %");
    }
    assert!((found.weights_hit - 2.88).abs() < 0.005, "{}", found.weights_hit);
    assert!((found.change - 3.67).abs() < 0.005, "{}", found.change);
    close(found.unused_share, 5.5);
    // Each way is a part of both: the figures are means over the flips that are possible.
    let [fall, rise] = [Direction::OneToZero, Direction::ZeroToOne]
        .map(|direction| TRAINED.trits(direction).expect("weights"));
    assert!((fall.bits + rise.bits - 8.0).abs() < 1e-9);
    let mean = |part: fn(&faults::TritExposure) -> f64| {
        (fall.bits * part(&fall) + rise.bits * part(&rise)) / 8.0
    };
    assert!((mean(|of| of.weights_hit) - found.weights_hit).abs() < 1e-9);
    assert!((mean(|of| of.change) - found.change).abs() < 1e-9);
    assert!((mean(|of| of.unused_share) - found.unused_share).abs() < 1e-9);
    assert_eq!(Histogram::default().trits(Direction::Both), None);
}

#[test]
fn flips_of_every_byte_of_real_trits_have_the_figures_of_their_histogram() {
    // All 243 bytes once: trits are independent there, and each third of them is one weight.
    let even = Histogram { minus: 1, zero: 1, plus: 1 };
    let kind = engine::packing::BlockType::Tq1;
    let decoded = |byte: u8| {
        let mut block = vec![0u8; kind.bytes()];
        block[31] = byte;
        let mut codes = vec![0u8; kind.weights()];
        kind.codes(&block, &mut codes);
        [31, 63, 95, 127, 159].map(|at| codes[at])
    };
    let usual: Vec<u8> = (0..=255u8)
        .filter(|&byte| (0..byte).all(|lower| decoded(lower) != decoded(byte)))
        .collect();
    assert_eq!(usual.len(), 243, "of equal bytes the lowest is written");
    for direction in Direction::ALL {
        let (mut flips, mut hit, mut change, mut unused) = (0u32, 0u32, 0u32, 0u32);
        for &byte in &usual {
            for mask in (0..8).map(|bit| 1u8 << bit) {
                let falls = byte & mask != 0;
                let skipped = (direction == Direction::OneToZero && !falls)
                    || (direction == Direction::ZeroToOne && falls);
                if skipped {
                    continue;
                }
                flips += 1;
                for (before, after) in decoded(byte).into_iter().zip(decoded(byte ^ mask)) {
                    hit += u32::from(before != after);
                    change += u32::from(before.abs_diff(after));
                }
                unused += u32::from(!usual.contains(&(byte ^ mask)));
            }
        }
        let found = even.trits(direction).expect("weights");
        for (got, part) in
            [(found.weights_hit, hit), (found.change, change), (found.unused_share, unused)]
        {
            assert!((got - f64::from(part) / f64::from(flips)).abs() < 1e-12, "{direction:?}");
        }
        assert!((found.bits - f64::from(flips) / 243.0).abs() < 1e-12);
    }
}
