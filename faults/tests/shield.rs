//! Protected models: raw faults through the memory's code and through the model.

mod support;

use engine::kernels;
use engine::model::{KvKind, Model};
use engine::walk::Read;
use faults::{
    Address, Fit, Golden, Identity, Protection, RateInterval, RawFault, Sample, Shield,
    ShieldTally, Shielded, UnusedCode, run_trial,
};
use support::{Lcg, model, prompt, shape};

fn goldens(model: &Model, kind: KvKind) -> Vec<Golden> {
    let random = &mut Lcg(3);
    let one = |_| {
        let sample = Sample::of_ids(prompt(model.config.vocabulary, 4, random));
        Golden::new(model, kernels::best(), kind, Read::Last, sample).expect("a sound sample")
    };
    (0..3).map(one).collect()
}

fn shield(model: &Model, protection: Protection, raw: RawFault) -> Shield<'_> {
    Shield::new(model, kernels::best(), protection, raw, UnusedCode::Deployed).expect("a layout")
}

fn tally(model: &Model, protection: Protection, raw: RawFault) -> ShieldTally {
    let identity = Identity::of(&["shield"]);
    shield(model, protection, raw).run(&identity, &goldens(model, KvKind::F32), 600)
}

#[test]
fn counts_add_up_and_codes_do_what_they_promise() {
    let model = model(&shape(0), 5);
    let in_word = |flips| RawFault::InWord { flips };
    for flips in 1..4 {
        let none = tally(&model, Protection::None, in_word(flips));
        assert_eq!((none.trials, none.residual, none.detected), (600, 600, 0));
        assert_eq!(none.masked + none.sdc + none.due, none.residual);
    }
    assert_eq!(tally(&model, Protection::Secded, in_word(1)).harmless, 600);
    assert_eq!(tally(&model, Protection::Secded, in_word(2)).detected, 600);
    let triple = tally(&model, Protection::Secded, in_word(3));
    assert_eq!(triple.detected + triple.residual, 600);
    // 33,568 of 59,640 triple flips of a full word are miscorrected.
    let share = triple.residual as f64 / 600.0;
    assert!((share - 0.563).abs() < 0.1, "{share}");
    let double = tally(&model, Protection::OnDie, in_word(2));
    assert!(double.residual > 590 && double.detected == 0, "{double:?}");
    let chips = tally(&model, Protection::Chipkill, RawFault::Adjacent { flips: 2 });
    assert_eq!(chips.residual, 0);
    let parity = tally(&model, Protection::Parity { bits: 64 }, RawFault::Adjacent { flips: 2 });
    assert!(parity.residual > 500, "{parity:?}");
}

#[test]
fn what_reaches_the_model_is_what_a_trial_of_its_fault_says() {
    let model = model(&shape(4), 6);
    let goldens = goldens(&model, KvKind::F32);
    let shield = shield(&model, Protection::OnDie, RawFault::InWord { flips: 2 });
    let identity = Identity::of(&["shield"]);
    let mut flips = [0; 5];
    for index in 0..100 {
        let shielded = shield.trial(&identity, &goldens, index);
        assert_eq!(shielded, shield.trial(&identity, &goldens, index));
        let Shielded::Struck { sample, fault, outcome } = shielded else { continue };
        flips[fault.flips().len()] += 1;
        assert!(fault.flips().all(|flip| matches!(flip, Address::Code { .. })));
        let unused = UnusedCode::Deployed;
        let trial = run_trial(&model, kernels::best(), &goldens[sample], &fault, unused);
        assert_eq!(trial.outcome, outcome);
    }
    // Two flips become three where the decoder points at a third data bit.
    assert!(flips[3] > 50 && flips[0] == 0 && flips[4] == 0, "{flips:?}");
}

#[test]
fn tallies_do_not_depend_on_threads() {
    let model = model(&shape(2), 7);
    let raw = RawFault::InWord { flips: 3 };
    let expected = tally(&model, Protection::Secded, raw);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        assert_eq!(pool.install(|| tally(&model, Protection::Secded, raw)), expected);
    }
}

#[test]
fn critical_rates_hold_both_shares() {
    let tally = ShieldTally {
        trials: 1000,
        harmless: 500,
        detected: 300,
        residual: 200,
        masked: 180,
        sdc: 15,
        due: 5,
    };
    let raw = Fit { low: 700.0, high: 1200.0 };
    let fit = tally.critical(raw, 1 << 23, None, 0.95);
    // The estimate lies within: 0.2 of the raw faults pass, 0.075 of those change a decision.
    assert!(fit.low < 5600.0 * 0.2 * 0.075 && 9600.0 * 0.2 * 0.075 < fit.high);
    assert!(fit.low > 0.0 && fit.high < 9600.0 * 0.25 * 0.14);
    let clean = ShieldTally { trials: 1000, harmless: 1000, ..ShieldTally::default() };
    let fit = clean.critical(raw, 1 << 23, None, 0.95);
    assert!(fit.low == 0.0 && fit.high < 9600.0 * 0.006);
    // What is known to pass nothing has no critical rate, whatever was sampled.
    let nothing = Some(RateInterval { low: 0.0, high: 0.0 });
    assert_eq!(clean.critical(raw, 1 << 23, nothing, 0.95), Fit { low: 0.0, high: 0.0 });
}

#[test]
fn residual_shares_are_exact_where_every_set_was_enumerated() {
    // Shapes with and without full words.
    for index in [0, 4, 9] {
        let model = model(&shape(index), 8);
        let goldens = goldens(&model, KvKind::F32);
        for (protection, flips) in [
            (Protection::None, 2),
            (Protection::Parity { bits: 40 }, 2),
            (Protection::Secded, 1),
            (Protection::Secded, 2),
            (Protection::Secded, 3),
            (Protection::OnDie, 2),
            (Protection::Chipkill, 2),
            (Protection::Crc { weights: 28 }, 3),
        ] {
            let shield = shield(&model, protection, RawFault::InWord { flips });
            let exact = shield.exact_residual().expect("few sets").interval;
            let tally = shield.run(&Identity::of(&["exact"]), &goldens, 2000);
            let sampled = tally.residual_rate(1.0 - 1e-6).interval;
            let case = format!("{protection:?} {flips}: {exact:?} {sampled:?}");
            assert!(sampled.low <= exact.high && exact.low <= sampled.high, "{case}");
            assert!(exact.high - exact.low < 1e-13, "{case}");
            let clean = matches!(
                (protection, flips),
                (Protection::Secded, 1 | 2) | (Protection::Chipkill | Protection::Crc { .. }, _)
            );
            assert_eq!(exact.high == 0.0, clean, "{case}");
        }
        let unknown = [
            (Protection::Chipkill, RawFault::InWord { flips: 3 }),
            (Protection::Checksum { weights: 8 }, RawFault::InWord { flips: 1 }),
            (Protection::Secded, RawFault::Adjacent { flips: 2 }),
        ];
        for (protection, raw) in unknown {
            assert!(shield(&model, protection, raw).exact_residual().is_none());
        }
    }
}

#[test]
fn stored_bits_include_the_check_bits() {
    let model = model(&shape(0), 5);
    let raw = RawFault::InWord { flips: 1 };
    let bits = |protection| shield(&model, protection, raw).bits();
    let data = bits(Protection::None);
    assert!(bits(Protection::Secded) as f64 >= data as f64 * 72.0 / 64.0);
    assert!(bits(Protection::Chipkill) as f64 >= data as f64 * 36.0 / 32.0);
}
