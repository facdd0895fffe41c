//! Elements of which codes are made at load, masters and ternary weights one to an element: every
//! bit of them is that of the flipped file.

use engine::kernels;
use engine::model::{KvKind, Model};
use engine::walk::Read;
use faults::{
    Address, Cause, Fault, Golden, Outcome, Sample, Shortcuts, Simulator, Space, Target,
    UnusedCode, run_trial,
};

use crate::files::{Folder, clean, faulty};
use crate::support::{Lcg, same};

const FLOATS: [&str; 3] = ["F32", "F16", "BF16"];

/// The bit of an element whose flip makes another weight of it most often.
fn weighty(model: &Model, flip: &Address) -> Address {
    let Address::Element { layer, slot, row, column, .. } = *flip else { panic!("{flip}") };
    let bits = model.elements[&(layer, slot)].bits();
    let bit = if bits == 8 { 0 } else { bits - 1 };
    Address::Element { layer, slot, row, column, bit }
}

/// Every form in which a file has one element to a weight: its type, and whether they are masters.
fn folders() -> Vec<(Folder, bool)> {
    let masters = FLOATS.map(|dtype| (Folder::packed().with_elements(dtype, true), true));
    let ternary = FLOATS.into_iter().chain(["I8"]).flat_map(|dtype| {
        let plain = || Folder::packed().with_elements(dtype, false);
        [(plain(), false), (plain().under_row_scales("F32"), false)]
    });
    masters.into_iter().chain(ternary).collect()
}

/// The same folder with the bits of elements flipped.
fn twin(folder: &Folder, model: &Model, fault: &Fault) -> Folder {
    let none = Folder { config: folder.config.clone(), tensors: folder.tensors.clone() };
    fault.flips().fold(none, |twin, flip| {
        let Address::Element { layer, slot, row, column, bit } = *flip else { panic!("{flip}") };
        let width = usize::from(model.elements[&(layer, slot)].bits()) / 8;
        let at = (row * model.layers[layer].linear(slot).inputs() + column) * width;
        let name = format!("model.layers.{layer}.{}.weight", slot.name());
        twin.flipped(&name, at + usize::from(bit / 8), bit % 8)
    })
}

/// Bits of elements, a few of one tensor or of several.
fn drawn(model: &Model, flips: usize, random: &mut Lcg) -> Fault {
    let space = Space::new(model, KvKind::F32);
    let count = space.count(Target::WeightFloat, 1) as usize;
    Fault::new((0..flips).map(|_| {
        let address = space.address(Target::WeightFloat, 1, random.below(count) as u64);
        assert!(matches!(address, Address::Element { .. }), "{address}");
        address
    }))
}

fn golden(model: &Model) -> Golden {
    let sample = Sample::of_ids(vec![1, 3, 2]);
    Golden::new(model, kernels::best(), KvKind::F32, Read::All, sample).expect("a clean run")
}

/// Whether a load takes the file with the bits flipped; it is then the model under the fault.
fn agrees(folder: &Folder, masters: bool, model: &Model, golden: &Golden, fault: &Fault) -> bool {
    assert_eq!(fault.check(model, KvKind::F32, 1), Ok(()));
    let trial = run_trial(model, kernels::best(), golden, fault, UnusedCode::Deployed);
    match twin(folder, model, fault).read() {
        Ok(twin) => {
            let expected = clean(&twin.model);
            assert!(same(&faulty(model, fault), &expected), "{fault}");
            let due = matches!(trial.outcome, Outcome::Due(_));
            let last = expected.row(expected.nrows() - 1);
            assert_eq!(due, last.iter().any(|logit| !logit.is_finite()), "{fault}");
            true
        }
        Err(error) => {
            let expected = if masters { "finite" } else { "expected -1, 0 or 1" };
            assert!(error.to_string().contains(expected), "{fault}: {error}");
            let cause = if masters { Cause::NotFinite } else { Cause::UnusedCode };
            assert_eq!(trial.outcome, Outcome::Due(cause), "{fault}");
            false
        }
    }
}

#[test]
fn every_bit_of_an_element_is_that_of_the_flipped_file() {
    for (folder, masters) in folders() {
        let model = folder.read().expect("a sound folder").model;
        let (golden, random) = (golden(&model), &mut Lcg(5));
        let (mut taken, mut refused) = (0, 0);
        for round in 0..160 {
            let fault = drawn(&model, 1 + round % 3, random);
            let loads = agrees(&folder, masters, &model, &golden, &fault);
            *if loads { &mut taken } else { &mut refused } += 1;
        }
        for element in 0..4 {
            let Address::Element { layer, slot, row, .. } =
                *drawn(&model, 1, random).flips().next().expect("a bit")
            else {
                panic!("an element")
            };
            for bit in 0..model.elements[&(layer, slot)].bits() {
                let flip = Address::Element { layer, slot, row, column: element, bit };
                let loads = agrees(&folder, masters, &model, &golden, &Fault::single(flip));
                *if loads { &mut taken } else { &mut refused } += 1;
            }
        }
        // Of ternary weights few bits give another: a sign of a float, the lowest bit of a byte.
        for _ in 0..60 {
            let flip = weighty(&model, drawn(&model, 1, random).flips().next().expect("a bit"));
            let loads = agrees(&folder, masters, &model, &golden, &Fault::single(flip));
            *if loads { &mut taken } else { &mut refused } += 1;
        }
        assert!(taken > 30 && refused > 0, "{masters}: {taken} taken, {refused} refused");
        assert!(!masters || taken > 250, "most masters are finite: {taken} taken");
    }
}

#[test]
fn codes_are_flipped_as_they_were_made_of_flipped_elements() {
    for dtype in FLOATS {
        let folder = Folder::packed().with_elements(dtype, true);
        let model = folder.read().expect("a sound folder").model;
        let random = &mut Lcg(21);
        let mut tried = 0;
        while tried < 30 {
            let fault = drawn(&model, 2, random);
            let Ok(made) = twin(&folder, &model, &fault).read() else { continue };
            let space = Space::new(&model, KvKind::F32);
            let beside: Vec<Address> = [Target::WeightCode, Target::WeightScale]
                .map(|target| {
                    let number = random.below(space.count(target, 1) as usize);
                    space.address(target, 1, number as u64)
                })
                .into();
            let both = Fault::new(fault.flips().copied().chain(beside.iter().copied()));
            let expected = faulty(&made.model, &Fault::new(beside));
            assert!(same(&faulty(&model, &both), &expected), "{both}");
            tried += 1;
        }
    }
}

#[test]
fn a_detector_sees_the_codes_that_were_made_of_flipped_elements() {
    for (folder, masters) in folders() {
        let model = folder.read().expect("a sound folder").model;
        let (random, mut moved) = (&mut Lcg(31), 0);
        for _ in 0..200 {
            let element = weighty(&model, drawn(&model, 1, random).flips().next().expect("a bit"));
            let Address::Element { layer, slot, row, column, .. } = element else { panic!() };
            let Ok(made) = twin(&folder, &model, &Fault::single(element)).read() else { continue };
            let bit = random.below(2) as u8;
            let code = Fault::single(Address::Code { layer, slot, row, column, bit });
            let both = Fault::new([element].into_iter().chain(code.flips().copied()));
            let seen = both.makes_unused_code(&model);
            assert_eq!(seen, code.makes_unused_code(&made.model), "{masters}: {both}");
            moved += usize::from(seen != code.makes_unused_code(&model));
        }
        assert!(moved > 5, "{masters}: only {moved} are seen otherwise for their elements");
    }
}

#[test]
fn shortcuts_give_what_single_trials_give() {
    for (folder, _) in folders() {
        let model = folder.read().expect("a sound folder").model;
        let (golden, random) = (golden(&model), &mut Lcg(8));
        let faults: Vec<Fault> = (0..40).map(|n| drawn(&model, 1 + n % 2, random)).collect();
        let mut simulator = Simulator::new(&model, kernels::best(), &golden, Shortcuts::ALL);
        let together = simulator.run(&faults, UnusedCode::Deployed);
        for (fault, trial) in faults.iter().zip(together) {
            let alone = run_trial(&model, kernels::best(), &golden, fault, UnusedCode::Deployed);
            assert_eq!(format!("{trial:?}"), format!("{alone:?}"), "{fault}");
        }
    }
}
