//! Protection: every pattern of one, two and three flips, against counts of a second implementation
//! (matrices written out in Python), and round trips through real tensors.

mod support;

use std::collections::BTreeSet;

use engine::model::Slot;
use engine::packing::{BitPlace, HfRows};
use faults::{
    AnyAddress, Census, Fault, Fit, PhysicalAddress, Protection, RateInterval, Residual, fault_of,
    fit_critical, tensor_bytes,
};
use proptest::prelude::*;
use support::{Lcg, model, shape};

const LINEAR: [Protection; 6] = [
    Protection::None,
    Protection::Parity { bits: 8 },
    Protection::Secded,
    Protection::OnDie,
    Protection::Chipkill,
    Protection::Crc { weights: 16 },
];

fn random(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Lcg(seed);
    (0..bytes).map(|_| random.below(256) as u8).collect()
}

fn flips(places: &[u64]) -> BTreeSet<u64> {
    places.iter().copied().collect()
}

#[test]
fn secded_corrects_every_single_flip_and_flags_every_double_one() {
    for bytes in [random(8, 1), vec![0; 8]] {
        let single = Census { patterns: 72, harmless: 72, ..Census::default() };
        assert_eq!(Protection::Secded.census(&bytes, 1), single);
        let double = Census { patterns: 2556, detected: 2556, ..Census::default() };
        assert_eq!(Protection::Secded.census(&bytes, 2), double);
        let triple = Census {
            patterns: 59_640,
            detected: 26_072,
            miscorrected: 33_568,
            ..Census::default()
        };
        assert_eq!(Protection::Secded.census(&bytes, 3), triple);
    }
}

#[test]
fn on_die_correction_turns_most_double_flips_into_triple_ones() {
    let bytes = random(16, 2);
    let single = Census { patterns: 136, harmless: 136, ..Census::default() };
    assert_eq!(Protection::OnDie.census(&bytes, 1), single);
    let double = Census {
        patterns: 9180,
        harmless: 3,
        miscorrected: 8109,
        missed: 1068,
        ..Census::default()
    };
    assert_eq!(Protection::OnDie.census(&bytes, 2), double);
    assert_eq!(double.silent(), 9177);
    // Columns 3, 5 and 6 are the first three data bits: two of them point at the third.
    let residual = Protection::OnDie.filter(&flips(&[0, 1]), &bytes);
    assert_eq!((residual.flips, residual.miscorrected), (flips(&[0, 1, 2]), 1));
}

#[test]
fn chipkill_corrects_any_one_chip_and_flags_any_two_or_three() {
    let code = Protection::Chipkill;
    let bytes = random(32, 3);
    let bits = |chip: u64, error: usize| {
        (0..8u64).filter(move |i| error >> i & 1 == 1).map(move |i| match (chip, i) {
            (0..32, 0..4) => 4 * chip + i,
            (0..32, _) => 128 + 4 * chip + i - 4,
            _ => 256 + 8 * (chip - 32) + i,
        })
    };
    for chip in 0..36 {
        for error in 1..256 {
            let residual = code.filter(&bits(chip, error).collect(), &bytes);
            let right = residual.flips.is_empty() && residual.detected == 0;
            assert!(right && residual.corrected == 1, "chip {chip}, error {error}: {residual:?}");
        }
    }
    let random = &mut Lcg(4);
    let mut error = || 1 + random.below(255);
    for first in 0..36 {
        for second in 0..first {
            for third in 0..=second {
                // The third equals the second once: two chips.
                let raw: BTreeSet<u64> = bits(first, error())
                    .chain(bits(second, error()))
                    .chain(bits(third, if third < second { error() } else { 0 }))
                    .collect();
                let residual = code.filter(&raw, &bytes);
                assert!(residual.is_detected(), "chips {first}, {second}, {third}");
            }
        }
    }
}

#[test]
fn parity_flags_odd_numbers_of_flips_alone() {
    let parity = Protection::Parity { bits: 32 };
    let bytes = random(4, 5);
    assert_eq!(parity.census(&bytes, 1).detected, 33);
    let double = parity.census(&bytes, 2);
    assert_eq!((double.patterns, double.missed, double.detected), (528, 528, 0));
    assert_eq!(parity.census(&bytes, 3).detected, 5456);
    let none = Protection::None.census(&bytes, 1);
    assert_eq!((none.patterns, none.missed), (32, 32));
}

#[test]
fn a_cyclic_check_flags_up_to_three_flips_and_a_sum_any_single_one() {
    let crc = Protection::Crc { weights: 16 };
    let bytes = random(4, 6);
    for (number, patterns) in [(1, 40), (2, 780), (3, 9880)] {
        let census = crc.census(&bytes, number);
        assert_eq!((census.patterns, census.detected), (patterns, patterns));
    }
    let sum = Protection::Checksum { weights: 16 };
    for seed in 0..20 {
        let bytes = random(4, seed);
        assert_eq!(sum.census(&bytes, 1).detected, 34);
        // Two flips cancel where they move the sum, or the sum and its check, alike.
        let double = sum.census(&bytes, 2);
        assert!(double.detected * 10 > double.patterns * 6, "{double:?}");
        let weight = |at: usize| i32::from(bytes[at / 4] >> (2 * (at % 4)) & 3);
        let total: i32 = (0..16).map(weight).sum();
        let step = |place: u64| -> i32 {
            let (value, bit) = if place < 32 {
                (weight(place as usize / 2), place % 2)
            } else {
                (total % 4, place - 32)
            };
            let moved: i32 = if value >> bit & 1 == 1 { -(1 << bit) } else { 1 << bit };
            if place < 32 { moved } else { -moved }
        };
        let pairs = (0..34u64).flat_map(|a| (0..a).map(move |b| (a, b)));
        let equal = pairs.filter(|&(a, b)| (step(a) + step(b)).rem_euclid(4) == 0);
        // Both flips on check bits change the check, so they never count as wrong data.
        let missed = equal.filter(|&(_, b)| b < 32).count() as u64;
        assert_eq!(double.missed, missed, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn what_the_bytes_are_does_not_matter_to_a_linear_code(
        seed in any::<u64>(), code in 0usize..6, number in 1usize..9, length in 1usize..70,
    ) {
        let code = LINEAR[code];
        let bytes = random(length, seed);
        let mut draw = Lcg(seed ^ 1);
        let stored = code.stored_bits(length) as usize;
        let raw: BTreeSet<u64> = (0..number).map(|_| draw.below(stored) as u64).collect();
        let residual = code.filter(&raw, &bytes);
        prop_assert_eq!(&residual, &code.filter(&raw, &vec![0; length]));
        let words: BTreeSet<u64> = raw.iter().map(|&bit| code.place(length, bit).0).collect();
        let counted = residual.detected + residual.corrected + residual.miscorrected
            + residual.missed;
        prop_assert!(counted <= words.len() as u64);
        prop_assert!(residual.flips.iter().all(|&bit| bit < 8 * length as u64));
        prop_assert!(residual.flips.iter().all(|&bit| words.contains(&code.place(length, bit).0)));
    }

    #[test]
    fn numbers_and_places_of_stored_bits_are_inverse(length in 1usize..70, code in 0usize..7) {
        let sum = Protection::Checksum { weights: 6 };
        let code = LINEAR.into_iter().chain([sum]).nth(code).expect("seven codes");
        let mut seen = 0;
        for word in 0..code.words(length) {
            for place in 0..code.data_bits() + code.check_bits() {
                if let Some(number) = code.number(length, (word, place)) {
                    prop_assert_eq!(code.place(length, number), (word, place));
                    seen += 1;
                }
            }
        }
        prop_assert_eq!(seen, code.stored_bits(length));
        prop_assert_eq!(code.number(length, (code.words(length), 0)), None);
    }
}

#[test]
fn nothing_struck_leaves_nothing_and_a_last_word_is_protected_too() {
    let bytes = random(13, 7);
    for code in LINEAR {
        assert_eq!(code.filter(&BTreeSet::new(), &bytes), Residual::default());
    }
    // Nine bytes: the second word of SECDED has eight data bits.
    let code = Protection::Secded;
    assert_eq!((code.words(9), code.stored_bits(9)), (2, 88));
    let patterns: Vec<u64> = (64..72).chain(80..88).collect();
    for &one in &patterns {
        let residual = code.filter(&flips(&[one]), &bytes[..9]);
        assert_eq!((residual.corrected, residual.flips.len()), (1, 0), "{one}");
        for &two in patterns.iter().filter(|&&two| two != one) {
            assert!(code.filter(&flips(&[one, two]), &bytes[..9]).is_detected());
        }
    }
    // Flips in two words are two single ones.
    let residual = code.filter(&flips(&[3, 70]), &bytes[..9]);
    assert_eq!((residual.corrected, residual.is_silent()), (2, false));
}

#[test]
fn residual_flips_of_a_tensor_become_the_fault_of_its_codes() {
    let model = model(&shape(0), 11);
    let (layer, slot) = (0, Slot::Down);
    let bytes = tensor_bytes(&model, layer, slot).expect("codes");
    let linear = model.layers[layer].linear(slot);
    let layout = HfRows::new(linear.outputs(), linear.inputs()).expect("whole quarters");
    assert_eq!(bytes.len(), layout.bytes());
    // Two flips of one on-die word come out as three; each is the code at its byte and bit.
    let residual = Protection::OnDie.filter(&flips(&[128, 129]), &bytes);
    let fault = fault_of(&model, layer, slot, &residual.flips).expect("bits that exist");
    let expected = [128usize, 129, 130].map(|bit| {
        let place = BitPlace { byte: bit / 8, bit: (bit % 8) as u8 };
        let matrix = faults::Matrix::Linear { layer, slot };
        let physical = PhysicalAddress { matrix, place };
        AnyAddress::Physical(physical).resolve(&model).expect("a bit")
    });
    assert_eq!(fault, Fault::new(expected));
    assert!(fault_of(&model, layer, slot, &flips(&[8 * bytes.len() as u64])).is_err());
    assert!(tensor_bytes(&model, 99, slot).is_err());
}

#[test]
fn critical_rates_are_products_rounded_outward() {
    let raw = Fit { low: 700.0, high: 1200.0 };
    let one = RateInterval { low: 1.0, high: 1.0 };
    // Four million weights of two bits are eight Mbit.
    let all = fit_critical(raw, 2 * 4_194_304, one, one);
    assert!(all.low <= 5600.0 && 9600.0 <= all.high);
    assert!((all.low / 5600.0 - 1.0).abs() < 1e-14 && (all.high / 9600.0 - 1.0).abs() < 1e-14);
    let pvf = RateInterval { low: 0.001, high: 0.01 };
    let residual = RateInterval { low: 0.0, high: 0.05 };
    let some = fit_critical(raw, 2 * 4_194_304, residual, pvf);
    assert_eq!(some.low, 0.0);
    assert!((4.8..4.8 + 1e-12).contains(&some.high), "{}", some.high);
}

#[test]
fn protections_are_read_as_they_are_written() {
    let sized = [Protection::Checksum { weights: 128 }, Protection::Parity { bits: 256 }];
    for code in LINEAR.into_iter().chain(sized) {
        assert_eq!(Protection::named(&code.to_string()), Some(code));
    }
    assert_eq!(Protection::Parity { bits: 64 }.to_string(), "parity:64");
    for text in [
        "",
        "parity",
        "parity:",
        "parity:0",
        "parity:257",
        "parity:+8",
        "secded:64",
        "crc:129",
        "SECDED",
        "none:",
    ] {
        assert_eq!(Protection::named(text), None, "{text}");
    }
}
