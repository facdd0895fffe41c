//! What the cache keeps of a row.

use engine::kernels::scalar;
use engine::model::random::SplitMix;
use engine::model::{KvKind, KvStore};

use super::super::form::Form;
use super::super::inputs::{Bound, Inputs};
use super::super::store::stored;
use super::{form, inside, linear, symbols};

#[test]
fn what_is_read_back_from_a_store_lies_in_its_form() {
    let mut rng = SplitMix(23);
    let (dim, count) = (8, 3);
    for index in 0..3000 {
        let kind = [KvKind::F16, KvKind::Int8, KvKind::OneBit][index % 3];
        let inputs = Inputs::new(count, Bound::Each);
        let spread = [0.001, 0.05, 0.5][rng.below(3)];
        let row = form(&mut rng, dim, count, (1.0, spread));
        let radii = row.radii(scalar(), &inputs);
        // Boxes that say nothing, but for signs: those know no better than the engine.
        let boxes: Vec<(f64, f64)> = radii.iter().map(|_| (-9.0, 9.0)).collect();
        let form = stored(scalar(), &inputs, row.clone(), kind, &boxes, dim);
        for _ in 0..6 {
            let e = symbols(&mut rng, &inputs.bound, count);
            let x: Vec<f32> = linear(&row, &e).iter().map(|&x| x as f32).collect();
            let mut store = KvStore::new(kind, 1, dim);
            store.push(&x);
            let mut buffer = Vec::new();
            let back = store.read(0, 1, &mut buffer);
            let truth: Vec<f64> = back.iter().map(|&x| f64::from(x)).collect();
            assert_eq!(truth.len(), dim);
            let slack = Form { rest: form.rest.iter().map(|r| r + 1e-6).collect(), ..form.clone() };
            inside("store", &truth, &slack, &e);
        }
    }
}

#[test]
fn rows_below_the_floor_of_the_int8_store_lie_in_their_forms() {
    let (dim, size) = (8, 3e-8);
    let inputs = Inputs::new(0, Bound::Each);
    let boxes = vec![(-9.0, 9.0); dim];
    let row = Form::constant(vec![size; dim]);
    let form = stored(scalar(), &inputs, row, KvKind::Int8, &boxes, dim);
    let mut store = KvStore::new(KvKind::Int8, 1, dim);
    store.push(&vec![size as f32; dim]);
    let mut buffer = Vec::new();
    let back = store.read(0, 1, &mut buffer);
    let truth: Vec<f64> = back.iter().map(|&x| f64::from(x)).collect();
    inside("store", &truth, &form, &[]);
}
