//! One suite, stamped on every table: each must give the bits of the portable one.
//!
//! Inputs are painted with period 251, so that swapped blocks cannot cancel out; shapes lie on both
//! sides of every boundary; extreme codes (the unused one, -128, widths of 255) are among them.
//! `BITNET_REQUIRE_KERNELS=scalar,avx2` makes a missing table a failure instead of a silent pass.

mod boxes;
mod centred;
mod quotients;
mod tiles;

use super::{
    BLOCK_BYTES, BLOCK_COLUMNS, Block, GROUP_ROWS, Kernels, LANES, Numbers, Quotient, SIGN_COLUMNS,
    SPARE_PLACES, Signs, Steps, available, scalar,
};
use boxes::box_results;
use centred::centres_and_what_they_reach_are_the_ends;
use quotients::{
    ends_are_those_of_the_corners, hard_quotients_are_rounded_to_the_nearest, rescaling_divides,
};
use tiles::{halves_are_the_values_of_their_bits, tiles_are_their_rows};

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
    let paired = |i| paint(i, 3) & 0x33;
    let weights: Vec<u8> = (0..200 * LANES).map(paired).collect();
    let weight = |column: u32, j: usize, bit: u32| {
        i32::from(weights[column as usize * LANES + j] >> bit & 15) - 1
    };
    let bases = [1000, -777].map(|k| (0..LANES as i32).map(|j| k * j).collect::<Vec<_>>());
    for (count, widths) in [(0, [64, 64]), (1, [64, 0]), (2, [64, 63]), (62, [64, 64])]
        .into_iter()
        .chain([(63, [1, 0]), (64, [17, 64]), (127, [64, 64]), (500, [64, 16])])
    {
        let list = |salt| -> Vec<u32> {
            (0..count).map(|i| u32::from(paint(7 * i, salt)) % 200).collect()
        };
        let (plus, minus) = (list(1), list(2));
        for by in
            [[(13.37, 0.5), (-0.01, 3.0)], [(1e31, 1.0), (77.0, 1.0)], [(0.0, 1.0), (1e-38, 1.0)]]
        {
            let mut values = widths.map(|width| vec![-1.0f32; width]);
            let [low, high] = values.each_mut().map(Vec::as_mut_slice);
            let block = |n: usize, out| {
                let quotient = Quotient::by(by[n].0, by[n].1);
                Block { base: &bases[n], quotient, out }
            };
            let numbers = Numbers::new(&plus, &minus, 200);
            (table.columns)(&weights, &numbers, &mut [block(0, low), block(1, high)]);
            for (n, values) in values.iter().enumerate() {
                for (j, value) in values.iter().enumerate() {
                    let sum = |list: &[u32]| -> i32 {
                        list.iter().map(|&c| weight(c, j, 4 * n as u32)).sum()
                    };
                    let sum = bases[n][j] + sum(&plus) - sum(&minus);
                    let expected = sum as f32 / by[n].0 * by[n].1;
                    let same = value.to_bits() == expected.to_bits() || expected.is_nan();
                    assert!(same, "{} {count} {n} {j}: {value} {expected}", table.name);
                }
            }
        }
        places_of_steps(table, count);
    }
    many_columns_do_not_wrap(table);
}

/// More columns than fit a word, all of one weight.
fn many_columns_do_not_wrap(table: &Kernels) {
    let (base, quotient) = ([5; LANES], Quotient::by(1.0, 1.0));
    for (byte, weights) in [(0x33u8, [2.0, 2.0]), (0x00, [-1.0, -1.0]), (0x30, [-1.0, 2.0])] {
        for (count, sign) in [1000, 16_380, 16_381, 40_000].into_iter().zip([1.0, -1.0, 1.0, -1.0])
        {
            let mut values = [[0.0; LANES]; 2];
            let all = vec![0; count];
            let [plus, minus] = if sign > 0.0 { [&all[..], &[]] } else { [&[], &all[..]] };
            let mut blocks = values.each_mut().map(|out| Block { base: &base, quotient, out });
            (table.columns)(&[byte; LANES], &Numbers::new(plus, minus, 1), &mut blocks);
            let expected = weights.map(|weight| [5.0 + sign * weight * count as f32; LANES]);
            assert_eq!(values, expected, "{} {count}", table.name);
        }
    }
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

fn floats(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| (f32::from(paint(i, salt)) - 127.0) / 17.0).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|value| value.to_bits()).collect()
}

/// Whether a table finds each value in which two rows may differ; NaN is any NaN.
fn rows_are_the_same_bit_by_bit(table: &Kernels, row: &[f32]) -> bool {
    let mut other = row.to_vec();
    let differs = |other: &mut [f32], at: usize, value: f32| {
        let before = std::mem::replace(&mut other[at], value);
        let found = !(table.rows.same)(row, other);
        other[at] = before;
        found
    };
    let each = |at: usize| {
        differs(&mut other, at, f32::from_bits(row[at].to_bits() ^ 1))
            && differs(&mut other, at, f32::NAN)
    };
    let all = (0..row.len()).all(each);
    let nan = |bits: u32| vec![f32::from_bits(bits); row.len()];
    all && (table.rows.same)(row, row)
        && (table.rows.same)(&nan(0x7fc0_0000), &nan(0xffc1_2345))
        && !(table.rows.same)(&[0.0], &[-0.0])
        && !(table.rows.same)(row, &row[1..])
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
    (table.rows.add)(&x, &y, &mut out);
    all.extend(bits(&out));
    (table.rows.scale)(&mut out, 0.37);
    all.extend(bits(&out));
    assert!(rows_are_the_same_bit_by_bit(table, &out), "{} n={n}", table.name);
    let mut shares = x.clone();
    (table.softmax)(&mut shares);
    all.extend(bits(&shares));
    let mut codes = vec![0i8; n];
    all.push((table.codes)(&x, 13.37, &mut codes) as u32);
    let weights: Vec<i8> = (0..n).map(|i| paint(i, 23) as i8).collect();
    all.push((table.dot_codes)(&weights, &codes) as u32);
    all.push((table.dot_codes)(&vec![-128; n], &vec![-128; n]) as u32);
    for (tokens, stride) in [(1, n), (3, n + 5), (8, n), (13, n + 64)] {
        let others: Vec<i8> = (0..tokens * stride).map(|i| paint(i, 7) as i8).collect();
        let mut sums = vec![0; tokens];
        (table.dots_codes)(&weights, (&others[..(tokens - 1) * stride + n], stride), &mut sums);
        all.extend(sums.into_iter().map(|sum| sum as u32));
    }
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
        centres_and_what_they_reach_are_the_ends(table);
        extreme_codes_do_not_wrap(table);
        wide_rows_do_not_wrap(table);
        signs_are_their_definition(table);
        sparse_kernels_agree(table);
        rescaling_divides(table);
        ends_are_those_of_the_corners(table);
        hard_quotients_are_rounded_to_the_nearest(table);
        float_kernels_agree(table);
        tiles_are_their_rows(table);
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
