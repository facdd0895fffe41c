//! Linear layers of integers against the definition, written out in i64 and f64.

use engine::kernels;
use engine::model::random::{Style, mixed_model, random_model, random_rows, small_config};
use engine::model::{
    Activations, Coded, Float, HeadForm, KvKind, Linear, Scale, Scales, Slot, Weights,
};
use engine::packing::CodedRows;
use engine::walk::{Domain, Exact, Read, Site, Step, run};
use proptest::prelude::*;

/// The values of a row of inputs, by the definition.
fn naive(coded: &Coded, x: &[f32], levels: f32) -> Vec<f32> {
    let largest = x.iter().fold(1e-5f32, |a, x| if x.abs() > a { x.abs() } else { a });
    let t = (1.0 / largest) * levels;
    let code = |x: &f32| (x * t).clamp(-levels - 1.0, levels).round_ties_even() as i64;
    let q: Vec<i64> = x.iter().map(code).collect();
    let group = coded.rows().group();
    let value = |row: usize| {
        let weights: Vec<i64> = coded.rows().row(row).iter().map(|&c| i64::from(c)).collect();
        let sums = weights.chunks(group).zip(q.chunks(group));
        let sums: Vec<i64> = sums.map(|(w, q)| w.iter().zip(q).map(|(w, q)| w * q).sum()).collect();
        match coded.scales() {
            Scales::Rows(scales) => match scales[row] {
                Scale::Multiply(ws) => (sums[0] as f32 / t) * ws,
                Scale::Divide(ws) => sums[0] as f32 / (ws * t),
            },
            Scales::Groups(scales) => {
                let mut y = 0.0f64;
                for (g, &sum) in sums.iter().enumerate() {
                    y += f64::from(scales[row * sums.len() + g]) * sum as f64;
                }
                (y / f64::from(t)) as f32
            }
        }
    };
    (0..coded.rows().rows()).map(value).collect()
}

#[test]
fn every_kind_computes_its_definition_under_every_table() {
    for (policy, levels) in [(Activations::PerTokenInt8, 127.0), (Activations::PerTokenInt4, 7.0)] {
        let mut config = small_config(2, 32, 4, 2);
        config.activations = policy;
        let model = mixed_model(&config, Style::BITNET, 5);
        let mut kinds = Vec::new();
        for (index, layer) in model.layers.iter().enumerate() {
            for slot in Slot::ALL {
                let linear = layer.linear(slot);
                let Weights::Coded(coded) = &linear.weights else { continue };
                kinds.push(coded.kind());
                let x = random_rows(3, linear.inputs(), index as u64);
                for table in kernels::available() {
                    let mut exact = Exact::new(table, &model, KvKind::F32);
                    let at = |step| Site { layer: index, step };
                    let prepared = exact.prepare(at(Step::Prepare(slot)), &x, policy);
                    let found = exact.linear(at(Step::Linear(slot)), &prepared, linear);
                    for (row, x) in found.rows().into_iter().zip(x.rows()) {
                        let expected = naive(coded, x.as_slice().expect("a row"), levels);
                        let bits = |x: f32| x.to_bits();
                        assert!(row.iter().map(|&y| bits(y)).eq(expected.into_iter().map(bits)));
                    }
                }
            }
        }
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds, ["2 bits", "4 bits", "8 bits", "binary", "ternary"]);
    }
}

proptest! {
    #[test]
    fn the_ends_of_sums_are_those_of_the_best_and_the_worst_codes(
        codes in prop::collection::vec(any::<i8>(), 24),
        lower in prop::collection::vec(-128i8..100, 24),
        width in prop::collection::vec(0u8..28, 24),
        group in prop::sample::select(vec![1usize, 3, 8, 24]),
    ) {
        let rows = CodedRows::pack((1, 24), group, |_, out| out.copy_from_slice(&codes));
        let mut ends = vec![(0, 0); 24 / group];
        rows.ends(&codes, &lower, &width, &mut ends);
        for (index, &found) in ends.iter().enumerate() {
            let (mut low, mut high) = (0i64, 0i64);
            for k in index * group..(index + 1) * group {
                let (c, q) = (i64::from(codes[k]), i64::from(lower[k]));
                let (a, b) = (c * q, c * (q + i64::from(width[k])));
                (low, high) = (low + a.min(b), high + a.max(b));
            }
            prop_assert_eq!((i64::from(found.0), i64::from(found.1)), (low, high));
        }
    }
}

#[test]
fn signs_compute_their_definition_for_one_token_and_for_several() {
    let model = mixed_model(&small_config(1, 32, 4, 2), Style::BITNET, 9);
    let at = Site { layer: 0, step: Step::Linear(Slot::Q) };
    let mut rng = engine::model::random::SplitMix(4);
    for (rows, columns, group) in [(1, 32, 32), (70, 96, 32), (300, 128, 64), (37, 96, 96)] {
        let signs: Vec<i8> = (0..rows * columns).map(|_| 2 * rng.below(2) as i8 - 1).collect();
        let codes = || {
            CodedRows::pack((rows, columns), group, |row, out| {
                out.copy_from_slice(&signs[row * columns..(row + 1) * columns]);
            })
        };
        let row_of = |row: usize| codes().row(row);
        assert!([0, rows - 1].iter().all(|&r| row_of(r) == signs[r * columns..(r + 1) * columns]));
        let mut all =
            vec![Scales::Groups((0..rows * columns / group).map(|_| rng.unit() / 3.0).collect())];
        if group == columns {
            all.push(Scales::Rows((0..rows).map(|_| Scale::Multiply(rng.unit())).collect()));
        }
        for scales in all {
            let coded = Coded::new("signs", codes(), scales);
            let weights = Weights::Coded(coded.clone().into());
            let linear = Linear { weights, ..model.layers[0].linear(Slot::Q).clone() };
            let tables = kernels::available().into_iter();
            for (table, tokens) in tables.flat_map(|table| [(table, 1), (table, 3), (table, 17)]) {
                let x = random_rows(tokens, columns, 5);
                let mut exact = Exact::new(table, &model, KvKind::F32);
                let prepared = exact.prepare(at, &x, Activations::PerTokenInt8);
                let found = exact.linear(at, &prepared, &linear);
                for (found, x) in found.rows().into_iter().zip(x.rows()) {
                    let expected = naive(&coded, x.as_slice().expect("a row"), 127.0);
                    assert_eq!(found.to_vec(), expected, "{} {rows} {columns} {group}", table.name);
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "exact in f64")]
fn groups_whose_products_would_be_rounded_are_refused() {
    let wide = CodedRows::pack((1, 1 << 15), 1 << 15, |_, out| out.fill(-128));
    let _ = Coded::new("too wide", wide, Scales::Groups(vec![1.0]));
}

#[test]
fn scales_of_rows_that_agree_are_the_scale_of_a_tensor() {
    let model = mixed_model(&small_config(1, 32, 4, 2), Style::BITNET, 9);
    let linear = model.layers[0].linear(Slot::Q);
    let Weights::Ternary { rows, scale, .. } = &linear.weights else { panic!("ternary") };
    let coded = CodedRows::pack((rows.rows(), rows.columns()), rows.columns(), |row, out| {
        out.iter_mut().zip(rows.row(row)).for_each(|(w, code)| *w = code as i8 - 1);
    });
    let scales = Scales::Rows(vec![*scale; rows.rows()]);
    let weights = Weights::Coded(Coded::new("ternary", coded, scales).into());
    let twin = Linear { weights, ..linear.clone() };
    let x = random_rows(2, linear.inputs(), 1);
    let mut exact = Exact::new(kernels::best(), &model, KvKind::F32);
    let at = Site { layer: 0, step: Step::Linear(Slot::Q) };
    let prepared = exact.prepare(at, &x, Activations::PerTokenInt8);
    assert_eq!(exact.linear(at, &prepared, &twin), exact.linear(at, &prepared, linear));
}

#[test]
fn a_head_of_integers_is_its_rows_to_127_steps_on_quantised_rows() {
    let data = vec![1.0, -0.5, 0.25, 0.0, 0.0, 0.0, 1e-45, 0.0, 0.0, -3e38, 3.0e38, 2e30];
    let coded = Coded::of_float(&Float::F32 { data, columns: 3 });
    let rows: Vec<Vec<i8>> = (0..4).map(|row| coded.rows().row(row)).collect();
    // 0.5 / fl(1 / 127) and 0.25 / fl(1 / 127): the nearest integers, ties to even.
    assert_eq!(rows, [&[127i8, -64, 32][..], &[0, 0, 0], &[0, 0, 0], &[-127, 127, 0]]);
    let Scales::Rows(scales) = coded.scales() else { panic!("scales of rows") };
    assert_eq!(scales[..3], [1.0 / 127.0, 0.0, 0.0].map(Scale::Multiply));

    let model = random_model(&small_config(1, 32, 4, 2), Style::BITNET, 3);
    let x = random_rows(4, 32, 8);
    let logits = |model: &engine::model::Model, table| {
        let mut exact = Exact::new(table, model, KvKind::F32);
        run(&mut exact, model, &x, 1, 0, Read::All)
    };
    let eight = model.clone().with_head(HeadForm::Int8);
    let (stored, found) = (logits(&model, kernels::scalar()), logits(&eight, kernels::scalar()));
    assert_ne!(stored, found);
    assert!(stored.iter().zip(&found).all(|(a, b)| (a - b).abs() < 0.2));
    for table in kernels::available() {
        assert_eq!(logits(&eight, table), found);
    }
    // By the definition, behind the final norm.
    let mut exact = Exact::new(kernels::scalar(), &model, KvKind::F32);
    let at = Site { layer: 1, step: Step::Logits };
    let normed = exact.norm(at, &x, &model.final_norm);
    let coded = Coded::of_float(&model.head);
    for (row, normed) in found.rows().into_iter().zip(normed.rows()) {
        assert_eq!(row.to_vec(), naive(&coded, normed.as_slice().expect("a row"), 127.0));
    }
}
