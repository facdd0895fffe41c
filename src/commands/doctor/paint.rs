//! Painted inputs for every entry of a kernel table.
//!
//! The paint has period 251, so that swapped blocks cannot cancel out, and covers every byte: the
//! unused code, -128 and widths of 255 are among the operands.

use engine::kernels::{
    BLOCK_BYTES, BLOCK_COLUMNS, Block, DotTile, GROUP_ROWS, Kernels, LANES, Numbers, Quotient,
    Rescale, SPARE_PLACES, scalar,
};

/// Widths on both sides of every lane and unrolling boundary.
const WIDTHS: [usize; 11] = [1, 2, 15, 16, 17, 31, 33, 64, 127, 257, 1000];
const BLOCKS: [usize; 7] = [1, 2, 3, 8, 9, 21, 160];
const TOKENS: [usize; 7] = [1, 2, 3, 4, 5, 8, 17];

/// The entries of a table, each as a function to the bits of its results.
type Entry = (&'static str, fn(&Kernels) -> Vec<u32>);

const ENTRIES: [Entry; 25] = [
    ("ternary", ternary),
    ("spread", spread),
    ("differ", differ),
    ("columns", columns),
    ("multiply", |table| rescale(table.multiply)),
    ("divide", |table| rescale(table.divide)),
    ("dot", dot),
    ("dot_codes", dot_codes),
    ("dot_rows", dot_rows),
    ("dot_tile", |table| tile(table.dot_tile, floats)),
    ("weighted_sum", weighted_sum),
    ("add", |table| gate(table.rows.add)),
    ("scale", |table| over_widths(|_, out| (table.rows.scale)(out, 0.37))),
    ("same", same),
    ("rms_norm", rms_norm),
    ("absmax", absmax),
    ("codes", codes),
    ("softmax", softmax),
    ("relu2_gate", |table| gate(table.relu2_gate)),
    ("silu_gate", |table| gate(table.silu_gate)),
    ("widen_bf16", |table| widen(table.widen_bf16)),
    ("widen_f16", |table| widen(table.halves.widen)),
    ("dot_rows_bf16", |table| dot_rows_16(table.dot_rows_bf16)),
    ("dot_rows_f16", |table| dot_rows_16(table.halves.dot_rows)),
    ("dot_tile_f16", |table| tile(table.halves.dot_tile, |len, _| halves(len, 6))),
];

/// The entries in which a table differs from the portable one.
pub(super) fn differing(table: &Kernels) -> Vec<&'static str> {
    let differs = |(_, run): &&Entry| run(table) != run(scalar());
    ENTRIES.iter().filter(differs).map(|&(name, _)| name).collect()
}

fn paint(index: usize, salt: usize) -> u8 {
    (((index + salt) % 251) * 37 % 256) as u8
}

fn bytes(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|index| paint(index, salt)).collect()
}

fn floats(len: usize, salt: usize) -> Vec<f32> {
    (0..len).map(|index| (f32::from(paint(index, salt)) - 127.0) / 17.0).collect()
}

fn bits(values: &[f32]) -> impl Iterator<Item = u32> {
    values.iter().map(|value| value.to_bits())
}

/// The results of `run(width, out)` over all widths.
fn over_widths(run: impl Fn(usize, &mut [f32])) -> Vec<u32> {
    let mut all = Vec::new();
    for width in WIDTHS {
        let mut out = floats(width, 211);
        run(width, &mut out);
        all.extend(bits(&out));
    }
    all
}

/// The results of `run(group, operand bytes, results)` over all shapes of packed groups.
fn over_groups(run: impl Fn(&[u8], &[u8], usize) -> Vec<i32>) -> Vec<u32> {
    let mut all = Vec::new();
    for blocks in BLOCKS {
        for tokens in TOKENS {
            let group = bytes(blocks * BLOCK_BYTES, blocks);
            let operand = bytes(tokens * blocks * BLOCK_COLUMNS, tokens + 7);
            all.extend(
                run(&group, &operand, tokens * GROUP_ROWS).into_iter().map(|sum| sum as u32),
            );
        }
    }
    all
}

fn differ(table: &Kernels) -> Vec<u32> {
    let codes = |width, salt| bytes(width, salt).iter().map(|&b| (b % 5) as i8).collect::<Vec<_>>();
    let places = WIDTHS.into_iter().flat_map(|width| {
        let mut lists = vec![vec![0; width + SPARE_PLACES]; 3];
        let [up, down, far] = &mut lists[..] else { unreachable!("three lists") };
        let counts = (table.differ)(&codes(width, 3), &codes(width, 101), [up, down, far]);
        lists.iter_mut().zip(counts).for_each(|(list, count)| list.truncate(count));
        counts.map(|count| count as u32).into_iter().chain(lists.concat()).collect::<Vec<_>>()
    });
    places.collect()
}

fn columns(table: &Kernels) -> Vec<u32> {
    let weights: Vec<u8> = bytes(251 * LANES, 5).iter().map(|&byte| byte & 0x33).collect();
    let list = |count, salt| bytes(count, salt).iter().map(|&b| b as u32 % 251).collect::<Vec<_>>();
    let base: Vec<i32> = bytes(LANES, 9).iter().map(|&b| 517 * i32::from(b) - 60_000).collect();
    let all = WIDTHS.into_iter().flat_map(|width| {
        let (plus, minus, mut values) = (list(width, 1), list(width, 17), [[0.0f32; LANES]; 2]);
        let [one, two] = &mut values;
        let block = |by, out| Block { base: &base, quotient: Quotient::by(by, 0.0625), out };
        let numbers = Numbers::new(&plus, &minus, 251);
        (table.columns)(&weights, &numbers, &mut [block(13.37, one), block(width as f32, two)]);
        values.concat().into_iter().map(f32::to_bits)
    });
    all.collect()
}

fn rescale(rescale: Rescale) -> Vec<u32> {
    let sums: Vec<i32> = bytes(3 * LANES, 9).iter().map(|&b| 517 * i32::from(b) - 60_000).collect();
    over_widths(|width, out| {
        let width = width.min(LANES);
        let mut rows = vec![0.0; 2 * LANES + width];
        rescale(&sums, &[13.37, 0.01, 1e31], 0.0625, &mut rows, LANES);
        out[..width].copy_from_slice(&rows[2 * LANES..]);
    })
}

fn ternary(table: &Kernels) -> Vec<u32> {
    over_groups(|group, operand, results| {
        let codes: Vec<i8> = operand.iter().map(|&byte| byte as i8).collect();
        let mut out = vec![0; results];
        (table.ternary)(group, &codes, &mut out);
        out
    })
}

fn spread(table: &Kernels) -> Vec<u32> {
    over_groups(|group, widths, results| {
        let (mut plus, mut minus) = (vec![0; results], vec![0; results]);
        (table.spread)(group, widths, &mut plus, &mut minus);
        plus.extend(minus);
        plus
    })
}

fn dot(table: &Kernels) -> Vec<u32> {
    over_widths(|width, out| out.fill((table.dot)(&floats(width, 3), &floats(width, 101))))
}

fn dot_rows(table: &Kernels) -> Vec<u32> {
    over_widths(|width, out| {
        let count = out.len();
        (table.dot_rows)(&floats(width, 3), &floats(width * count, 57), out);
    })
}

fn tile<T>(kernel: DotTile<T>, rows: fn(usize, usize) -> Vec<T>) -> Vec<u32> {
    let mut all = Vec::new();
    for width in WIDTHS {
        for count in TOKENS {
            let mut out = vec![0.0; 9 * count];
            kernel(&floats(width * count, 3), width, &rows(9 * width, 57), &mut out);
            all.extend(bits(&out));
        }
    }
    all
}

fn weighted_sum(table: &Kernels) -> Vec<u32> {
    over_widths(|width, out| {
        for count in [1, 3, 4, 9] {
            (table.weighted_sum)(&floats(count, 9), &floats(width * count, 57), out);
        }
    })
}

fn same(table: &Kernels) -> Vec<u32> {
    over_widths(|width, out| {
        let before = out.to_vec();
        for at in 0..width {
            let mut other = before.clone();
            other[at] = -other[at];
            out[at] = f32::from((table.rows.same)(&before, &other));
        }
    })
}

fn rms_norm(table: &Kernels) -> Vec<u32> {
    over_widths(|width, out| (table.rms_norm)(&floats(width, 3), &floats(width, 101), 1e-5, out))
}

fn absmax(table: &Kernels) -> Vec<u32> {
    over_widths(|width, out| out.fill((table.absmax)(&floats(width, 3))))
}

fn codes(table: &Kernels) -> Vec<u32> {
    let mut all = Vec::new();
    for width in WIDTHS {
        let mut codes = vec![0i8; width];
        all.push((table.codes)(&floats(width, 3), 13.37, &mut codes) as u32);
        all.extend(codes.iter().map(|&code| code as u32));
    }
    all
}

fn dot_codes(table: &Kernels) -> Vec<u32> {
    let row = |width, salt| bytes(width, salt).into_iter().map(|b| b as i8).collect::<Vec<i8>>();
    WIDTHS.iter().map(|&width| (table.dot_codes)(&row(width, 3), &row(width, 9)) as u32).collect()
}

fn softmax(table: &Kernels) -> Vec<u32> {
    over_widths(|_, out| (table.softmax)(out))
}

fn gate(kernel: fn(&[f32], &[f32], &mut [f32])) -> Vec<u32> {
    over_widths(|width, out| kernel(&floats(width, 3), &floats(width, 101), out))
}

/// Positive 16-bit floats, with infinities and NaNs if shifted by 7.
fn halves(len: usize, shift: u32) -> Vec<u16> {
    (0..len).map(|i| u16::from(paint(i, 5)) << shift).collect()
}

fn widen(kernel: fn(&[u16], &mut [f32])) -> Vec<u32> {
    over_widths(|width, out| kernel(&halves(width, 7), out))
}

fn dot_rows_16(kernel: fn(&[f32], &[u16], &mut [f32])) -> Vec<u32> {
    let mut all = Vec::new();
    for width in WIDTHS {
        let mut out = vec![0.0; 9];
        kernel(&floats(width, 3), &halves(9 * width, 6), &mut out);
        all.extend(bits(&out));
    }
    all
}
