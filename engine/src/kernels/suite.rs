//! One suite, stamped on every table: each must give the bits of the portable one.
//!
//! Inputs are painted with period 251, so that swapped blocks cannot cancel out; shapes lie on both
//! sides of every boundary; extreme codes (the unused one, -128, widths of 255) are among them.
//! `BITNET_REQUIRE_KERNELS=scalar,avx2` makes a missing table a failure instead of a silent pass.

mod boxes;

use boxes::box_results;

use super::{
    BLOCK_BYTES, BLOCK_COLUMNS, GROUP_ROWS, Kernels, LANES, SIGN_COLUMNS, SPARE_PLACES, Signs,
    Steps, available, scalar,
};
use crate::numerics;

fn paint(index: usize, salt: usize) -> u8 {
    (((index + salt) % 251) * 37 % 256) as u8
}

const GUARD: i32 = 0x5a5a_5a5a;

/// Runs a kernel with guard words around its results.
fn guarded(len: usize, run: impl FnOnce(&mut [i32])) -> Vec<i32> {
    let mut all = vec![GUARD; len + 2 * GROUP_ROWS];
    run(&mut all[GROUP_ROWS..GROUP_ROWS + len]);
    assert!(all[..GROUP_ROWS].iter().chain(&all[GROUP_ROWS + len..]).all(|&word| word == GUARD));
    all[GROUP_ROWS..GROUP_ROWS + len].to_vec()
}

fn ternary_of(table: &Kernels, group: &[u8], codes: &[i8], tokens: usize) -> Vec<i32> {
    guarded(tokens * GROUP_ROWS, |out| (table.ternary)(group, codes, out))
}

fn spread_of(table: &Kernels, group: &[u8], widths: &[u8], tokens: usize) -> Vec<i32> {
    let mut plus = vec![0; tokens * GROUP_ROWS];
    let minus = guarded(plus.len(), |minus| (table.spread)(group, widths, &mut plus, minus));
    plus.into_iter().chain(minus).collect()
}

/// Rows of widths of which few are not zero, against the kernel that reads all of them.
fn few_widths_are_all_widths(table: &Kernels, group: &[u8], widths: &[u8], tokens: usize) {
    let Some(spread) = table.spread_steps else { return };
    for every in [17, 40, usize::MAX] {
        let few = |(i, &width): (usize, &u8)| if i % every == 7 { width } else { 0 };
        let widths: Vec<u8> = widths.iter().enumerate().map(few).collect();
        let steps = Steps::of(&widths, widths.len() / tokens).expect("few widths");
        let mut greatest = vec![5; tokens * GROUP_ROWS];
        let least = guarded(greatest.len(), |least| {
            least.fill(7);
            spread(group, &steps, least, &mut greatest);
        });
        let ends = greatest.iter().map(|sum| sum - 5).chain(least.iter().map(|sum| 7 - sum));
        assert!(ends.eq(spread_of(scalar(), group, &widths, tokens)), "{} {every}", table.name);
    }
    assert!(Steps::of(&vec![1; widths.len()], widths.len() / tokens).is_none(), "many widths");
}

const BLOCK_COUNTS: [usize; 12] = [1, 2, 3, 7, 8, 9, 10, 11, 16, 21, 40, 432];

fn integer_kernels_agree(table: &Kernels) {
    for blocks in BLOCK_COUNTS {
        for tokens in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17] {
            let group: Vec<u8> = (0..blocks * BLOCK_BYTES).map(|i| paint(i, blocks)).collect();
            let width = blocks * BLOCK_COLUMNS;
            let bytes: Vec<u8> = (0..tokens * width).map(|i| paint(i, tokens + 7)).collect();
            let codes: Vec<i8> = bytes.iter().map(|&b| b as i8).collect();
            let name = format!("{} blocks={blocks} tokens={tokens}", table.name);
            assert_eq!(
                ternary_of(table, &group, &codes, tokens),
                ternary_of(scalar(), &group, &codes, tokens),
                "{name}"
            );
            let many: Vec<u8> = (0..3 * group.len()).map(|i| paint(i, blocks)).collect();
            for groups in many.chunks(2 * group.len()).chain([&many[..]]) {
                let each = groups.chunks_exact(group.len());
                let expected: Vec<i32> =
                    each.flat_map(|group| ternary_of(scalar(), group, &codes, tokens)).collect();
                let together = guarded(expected.len(), |out| {
                    (table.ternary_groups)(groups, group.len(), &codes, out);
                });
                assert_eq!(together, expected, "{name}");
            }
            few_widths_are_all_widths(table, &group, &bytes, tokens);
            assert_eq!(
                spread_of(table, &group, &bytes, tokens),
                spread_of(scalar(), &group, &bytes, tokens),
                "{name}"
            );
        }
    }
}

fn extreme_codes_do_not_wrap(table: &Kernels) {
    let blocks = 2000;
    let width = blocks * BLOCK_COLUMNS;
    for (byte, weight) in [(0xffu8, 2), (0x00, -1), (0xaa, 1), (0x55, 0)] {
        let group = vec![byte; blocks * BLOCK_BYTES];
        for q in [-128i8, 127] {
            let sums = ternary_of(table, &group, &vec![q; width], 1);
            let expected = weight * i32::from(q) * width as i32;
            assert!(sums.iter().all(|&sum| sum == expected), "{} {byte:#x} {q}", table.name);
        }
        let sums = spread_of(table, &group, &vec![255; width], 1);
        let full = 255 * width as i32;
        let expected = [weight.max(0) * full, (-weight).max(0) * full];
        assert!(sums[..16].iter().all(|&sum| sum == expected[0]), "{} {byte:#x}", table.name);
        assert!(sums[16..].iter().all(|&sum| sum == expected[1]), "{} {byte:#x}", table.name);
    }
}

/// Rows of which some kernel holds the sums many times as large as they are, and wider ones.
fn wide_rows_do_not_wrap(table: &Kernels) {
    for blocks in [4999, 5000, 5001] {
        let width = blocks * BLOCK_COLUMNS;
        let groups = vec![0xff; 2 * blocks * BLOCK_BYTES];
        for q in [-128i8, 127] {
            let mut sums = vec![0; 2 * 2 * GROUP_ROWS];
            let codes = vec![q; 2 * width];
            (table.ternary_groups)(&groups, groups.len() / 2, &codes, &mut sums);
            assert!(sums.iter().all(|&sum| sum == 2 * i32::from(q) * width as i32), "{blocks} {q}");
        }
    }
}

/// Signs under scales, as the words of [`super::SignProduct`].
fn signs_are_their_definition(table: &Kernels) {
    let Some(product) = table.signs else { return };
    for (rows, groups, blocks) in [(1, 1, 1), (2, 3, 4), (6, 20, 4), (7, 2, 1), (17, 1, 9)] {
        let columns = groups * blocks * SIGN_COLUMNS;
        let each = groups * blocks * BLOCK_BYTES;
        let packed: Vec<u8> = (0..rows * each).map(|i| paint(i, rows)).collect();
        let codes: Vec<i8> = (0..columns).map(|i| paint(i, groups) as i8).collect();
        let scale = |at: usize, lane| (f32::from(paint(at * 16 + lane, 3)) - 99.0) / 7.0;
        let scales: Vec<[f32; GROUP_ROWS]> =
            (0..rows * groups).map(|at| std::array::from_fn(|lane| scale(at, lane))).collect();
        let mut ys = vec![f64::NAN; rows * GROUP_ROWS];
        product(&Signs { packed: &packed, scales: &scales, groups }, &codes, &mut ys);
        for (row, y) in ys.into_iter().enumerate() {
            let (group, lane) = (row / GROUP_ROWS, row % GROUP_ROWS);
            let mut expected = 0.0;
            for part in 0..groups {
                let sum = |column: usize| {
                    let (block, within) = (column / SIGN_COLUMNS, column % SIGN_COLUMNS);
                    let byte = packed[group * each + block * BLOCK_BYTES + 4 * lane + within % 4];
                    (2 * i32::from(byte >> (within / 4) & 1) - 1) * i32::from(codes[column])
                };
                let width = blocks * SIGN_COLUMNS;
                let sum: i32 = (part * width..(part + 1) * width).map(sum).sum();
                expected += f64::from(scales[group * groups + part][lane]) * f64::from(sum);
            }
            assert_eq!(y.to_bits(), expected.to_bits(), "{} {rows} {groups} {row}", table.name);
        }
    }
}

/// Columns of weights and masks of codes, as the words of their definitions.
fn sparse_kernels_agree(table: &Kernels) {
    let weights: Vec<i8> = (0..200 * LANES).map(|i| (paint(i, 3) % 5) as i8 - 2).collect();
    for count in [0, 1, 2, 62, 63, 64, 127, 500] {
        let list = |salt| -> Vec<u32> {
            (0..count).map(|i| u32::from(paint(7 * i, salt)) % 200).collect()
        };
        let (plus, minus) = (list(1), list(2));
        let base: Vec<i32> = (0..LANES as i32).map(|j| 1000 * j).collect();
        let mut sums = vec![-1; LANES];
        let expected: Vec<i32> = (0..LANES)
            .map(|j| {
                let sum = |list: &[u32]| -> i32 {
                    list.iter().map(|&c| i32::from(weights[c as usize * LANES + j])).sum()
                };
                1000 * j as i32 + sum(&plus) - sum(&minus)
            })
            .collect();
        (table.columns)(&weights, &plus, &minus, &base, &mut sums);
        assert_eq!(sums, expected, "{} {count}", table.name);
        places_of_steps(table, count);
    }
    let twos = vec![2i8; LANES];
    let mut sums = vec![0; LANES];
    (table.columns)(&twos, &[0; 1000], &[], &[0; LANES], &mut sums);
    assert_eq!(sums, [2000; LANES], "{}", table.name);
}

/// Where codes differ, against the words of [`super::Differ`].
fn places_of_steps(table: &Kernels, count: usize) {
    for spread in [2, 3, 256] {
        let code = |i, salt| (u32::from(paint(i, salt)) * 37 % spread) as u8 as i8;
        let (a, b): (Vec<i8>, Vec<i8>) = (0..count).map(|i| (code(i, 5), code(i, 9))).unzip();
        let mut lists = vec![vec![0; count + SPARE_PLACES]; 3];
        let [up, down, far] = &mut lists[..] else { unreachable!("three lists") };
        let counts = (table.differ)(&a, &b, [up, down, far]);
        let steps = |i: usize| i32::from(a[i]) - i32::from(b[i]);
        let tests: [fn(i32) -> bool; 3] = [|s| s > 0, |s| s < 0, |s| s.abs() > 1];
        for ((list, count_of), test) in lists.iter().zip(counts).zip(tests) {
            let expected: Vec<u32> =
                (0..count).filter(|&i| test(steps(i))).map(|i| i as u32).collect();
            assert_eq!(list[..count_of], expected, "{} {count} {spread}", table.name);
        }
    }
}

/// The definition of a value: of a sum, the scale of its row and that of its tensor.
type Value = fn(i32, f32, f32) -> f32;

/// Values of sums, against the very division that defines them.
fn rescaling_divides(table: &Kernels) {
    let mut random = crate::model::random::SplitMix(9);
    let scales = [13.37, 0.0, f32::INFINITY, f32::NAN, 1.27e7, 4e-37, 1e-45, 3e38];
    for round in 0..4000 {
        let t = if round < 8 { scales[round] } else { random.unit() * 37.0 + 40.3 };
        let t = f32::from_bits(t.to_bits() ^ (random.next_u64() & 0xfff) as u32);
        let ws = 0.01 + random.unit() / 128.0;
        let shift = random.below(31);
        let sums: Vec<i32> = (0..LANES).map(|_| (random.next_u64() as i32) >> shift).collect();
        let mut out = [0.0; LANES];
        for (rescale, groups, value) in [
            (table.multiply, table.multiply_groups, numerics::multiplied as Value),
            (table.divide, table.divide_groups, numerics::divided),
        ] {
            rescale(&sums, &[t], ws, &mut out, LANES);
            let mut again = [0.0; LANES];
            groups(&sums, &[t], ws, &mut [&mut again]);
            for (&sum, (out, again)) in sums.iter().zip(out.into_iter().zip(again)) {
                let expected = value(sum, t, ws);
                assert_eq!(out.to_bits(), again.to_bits(), "{} {sum} {t:e} {ws}", table.name);
                let same = out.to_bits() == expected.to_bits() || out.is_nan() && expected.is_nan();
                assert!(same, "{} {sum} {t:e} {ws}: {out} {expected}", table.name);
            }
        }
    }
}

fn floats(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| (f32::from(paint(i, salt)) - 127.0) / 17.0).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|value| value.to_bits()).collect()
}

/// All row-shaped float results of a table for rows of `n` values, as bits.
fn float_results(table: &Kernels, n: usize) -> Vec<u32> {
    let (x, y) = (floats(n, 3), floats(n, 101));
    let mut out = vec![0.0; n];
    let mut all = bits(&[(table.dot)(&x, &y), (table.absmax)(&x)]);
    let above: Vec<f32> = x.iter().map(|value| value + 0.25).collect();
    let ends = (table.dot_ends)(&y, &x, &above);
    all.extend(bits(&[ends.0, ends.1]));
    (table.rms_norm)(&x, &y, 1e-5, &mut out);
    all.extend(bits(&out));
    for gate in [table.relu2_gate, table.silu_gate] {
        gate(&x, &y, &mut out);
        all.extend(bits(&out));
    }
    let mut shares = x.clone();
    (table.softmax)(&mut shares);
    all.extend(bits(&shares));
    let mut codes = vec![0i8; n];
    all.push((table.codes)(&x, 13.37, &mut codes) as u32);
    let weights: Vec<i8> = (0..n).map(|i| paint(i, 23) as i8).collect();
    all.push((table.dot_codes)(&weights, &codes) as u32);
    all.push((table.dot_codes)(&vec![-128; n], &vec![-128; n]) as u32);
    all.extend(codes.iter().map(|&q| q as u32));
    let halves: Vec<u16> = (0..n).map(|i| u16::from(paint(i, 5)) << 7).collect();
    (table.widen_bf16)(&halves, &mut out);
    all.extend(bits(&out));
    (table.halves.widen)(&halves, &mut out);
    all.extend(bits(&out));
    for width in [1, 7, 16, 63, 64] {
        let sums: Vec<i32> = (0..3 * LANES).map(|i| 300 * i32::from(paint(i, n)) - 9000).collect();
        for rescale in [table.multiply, table.divide] {
            let mut out = vec![0.0; 2 * (n + LANES) + width];
            rescale(&sums, &[13.37, 0.01, 800.0], 0.0625, &mut out, n + LANES);
            all.extend(bits(&out));
        }
    }
    let sums: Vec<i32> = (0..3 * 48).map(|i| 300 * i32::from(paint(i, n)) - 9000).collect();
    for rescale in [table.multiply_groups, table.divide_groups] {
        let mut out = [0.0; 3 * 41];
        let mut outs: Vec<&mut [f32]> = out.chunks_mut(41).collect();
        rescale(&sums, &[13.37, 1e31, 800.0], 0.0625, &mut outs);
        all.extend(bits(&out));
    }
    for count in [1, 3, 4, 9] {
        let rows = floats(n * count, 57);
        let mut dots = vec![0.0; count];
        (table.dot_rows)(&x, &rows, &mut dots);
        all.extend(bits(&dots));
        let halves: Vec<u16> = rows.iter().map(|v| half::f16::from_f32(*v).to_bits()).collect();
        for dot in [table.halves.dot_rows, table.dot_rows_bf16] {
            dot(&x, &halves, &mut dots);
            all.extend(bits(&dots));
        }
        let mut sum = y.clone();
        (table.weighted_sum)(&floats(count, 9), &rows, &mut sum);
        all.extend(bits(&sum));
    }
    all
}

/// Every pattern of 16 bits, the NaNs too, in every place of a register.
fn halves_are_the_values_of_their_bits(table: &Kernels) {
    for shift in 0..=16 {
        let halves: Vec<u16> = (shift..=u16::MAX).collect();
        let mut out = vec![0.0; halves.len()];
        (table.halves.widen)(&halves, &mut out);
        for (&half, value) in halves.iter().zip(out) {
            let expected = numerics::widen_f16(half).to_bits();
            assert_eq!(value.to_bits(), expected, "{} {half:#06x}", table.name);
        }
    }
}

fn float_kernels_agree(table: &Kernels) {
    for n in [1, 2, 15, 16, 17, 31, 32, 33, 64, 100, 127, 257, 1000] {
        assert_eq!(float_results(table, n), float_results(scalar(), n), "{} n={n}", table.name);
    }
}

/// The results of all programs over affine forms, `rows` symbols by `n` columns, as bits.
fn form_results(table: &Kernels, rows: usize, n: usize) -> Vec<u64> {
    let wide = |count: usize, salt| -> Vec<f64> {
        floats(count, salt).into_iter().map(|x| f64::from(x) / 3.0).collect()
    };
    let (mut g, r) = (wide(rows * n, 7), wide(rows, 11));
    let (a, b, w) = (wide(n, 13), wide(n, 17), wide(n * 21, 19));
    let forms = &table.forms;
    let (mut product, mut dots) = (vec![0.0; rows * 21], vec![0.0; rows]);
    let (mut sums, mut gram) = (a.clone(), vec![0.0; n * n]);
    (forms.product)(&g, &w, n, &mut product);
    (forms.dots)(&g, &a, &mut dots);
    (forms.magnitudes)(&g, &r, &a, &b, &mut sums);
    (forms.gram)(&g, &r, n, &mut gram);
    (forms.combine)(&mut g, &r, &a, &b);
    [product, dots, sums, gram, g].concat().into_iter().map(f64::to_bits).collect()
}

fn form_kernels_agree(table: &Kernels) {
    for (rows, n) in [(1, 1), (3, 5), (4, 16), (9, 33), (64, 40)] {
        let name = table.name;
        assert_eq!(form_results(table, rows, n), form_results(scalar(), rows, n), "{name} {n}");
        assert_eq!(box_results(table, rows, n), box_results(scalar(), rows, n), "{name} {n}");
    }
}

#[test]
fn every_table_gives_the_bits_of_the_portable_one() {
    for table in available() {
        integer_kernels_agree(table);
        extreme_codes_do_not_wrap(table);
        wide_rows_do_not_wrap(table);
        signs_are_their_definition(table);
        sparse_kernels_agree(table);
        rescaling_divides(table);
        float_kernels_agree(table);
        halves_are_the_values_of_their_bits(table);
        form_kernels_agree(table);
    }
}

#[test]
fn required_tables_are_there() {
    let required = std::env::var("BITNET_REQUIRE_KERNELS").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        assert!(super::named(name).is_some(), "this processor lacks the required table {name}");
    }
}
