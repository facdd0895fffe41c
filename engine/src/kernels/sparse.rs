//! Rows that differ in few codes, portably: where, and the columns of weights that their sums
//! gain or lose.

use super::{Block, Columns, Differ, LANES, Numbers, Quotient, SPARE_PLACES};

/// The portable kernels of sparse changes.
pub(super) const SPARSE: (Differ, Columns) = (differ, columns);

fn columns(weights: &[u8], numbers: &Numbers, blocks: &mut [Block; 2]) {
    moved(weights, numbers, blocks, Quotient::all);
}

/// Columns added to sums and subtracted from them, and the values of these; see [`Columns`]. `all`
/// divides as [`Quotient::all`] does.
#[inline(always)]
pub(super) fn moved(
    weights: &[u8],
    numbers: &Numbers,
    [low, high]: &mut [Block; 2],
    all: impl Fn(Quotient, &[i32], &mut [f32]),
) {
    assert!(low.out.len() <= LANES && high.out.len() <= LANES, "values of a block");
    all(low.quotient, &gained::<0>(weights, low.base, numbers), low.out);
    if !high.out.is_empty() {
        all(high.quotient, &gained::<4>(weights, high.base, numbers), high.out);
    }
}

/// The sums of a block of 64, whose weights begin at some bit of their bytes.
#[inline(always)]
fn gained<const BIT: u32>(weights: &[u8], base: &[i32], numbers: &Numbers) -> [i32; LANES] {
    // Sums of so many weights of magnitude 2 fit an i8.
    const PATIENCE: usize = 63;
    let weight = |byte: u8| (byte >> BIT & 15) as i8 - 1;
    let (columns, _) = weights.as_chunks::<LANES>();
    let base: &[i32; LANES] = base.try_into().expect("64 sums");
    let (mut plus, mut minus, mut sums) = (numbers.plus(), numbers.minus(), *base);
    while !plus.is_empty() || !minus.is_empty() {
        let (adding, added) = plus.split_at(plus.len().min(PATIENCE));
        let (taking, taken) = minus.split_at(minus.len().min(PATIENCE - adding.len()));
        let mut bytes = [0i8; LANES];
        for &column in adding {
            let column = &columns[column as usize];
            for j in 0..LANES {
                bytes[j] = bytes[j].wrapping_add(weight(column[j]));
            }
        }
        for &column in taking {
            let column = &columns[column as usize];
            for j in 0..LANES {
                bytes[j] = bytes[j].wrapping_sub(weight(column[j]));
            }
        }
        for j in 0..LANES {
            sums[j] += i32::from(bytes[j]);
        }
        (plus, minus) = (added, taken);
    }
    sums
}

/// Where codes differ; see [`Differ`].
fn differ(a: &[i8], b: &[i8], lists: [&mut [u32]; 3]) -> [usize; 3] {
    let room = a.len() + SPARE_PLACES;
    assert!(a.len() == b.len() && lists.iter().all(|list| list.len() >= room), "room for all");
    let [up, down, far] = lists;
    let mut counts = [0; 3];
    for (place, (&a, &b)) in a.iter().zip(b).enumerate() {
        let steps = i32::from(a) - i32::from(b);
        // Written whether it counts or not, so that there is no branch.
        for (list, (count, counts)) in [&mut *up, &mut *down, &mut *far]
            .into_iter()
            .zip(counts.iter_mut().zip([steps > 0, steps < 0, steps.abs() > 1]))
        {
            list[*count] = place as u32;
            *count += usize::from(counts);
        }
    }
    counts
}
