//! Rows that differ in few codes, portably: where, and the columns of weights that their sums
//! gain or lose.

use super::{Columns, Differ, LANES, SPARE_PLACES};

/// The portable kernels of sparse changes.
pub(super) const SPARSE: (Differ, Columns) = (differ, columns);

/// Columns added to sums and subtracted from them; see [`Columns`].
fn columns(weights: &[i8], plus: &[u32], minus: &[u32], base: &[i32], sums: &mut [i32]) {
    // Sums of so many weights of magnitude 2 fit an i8.
    const PATIENCE: usize = 63;
    let (columns, _) = weights.as_chunks::<LANES>();
    let base: &[i32; LANES] = base.try_into().expect("64 sums");
    let sums: &mut [i32; LANES] = sums.try_into().expect("64 sums");
    let (mut plus, mut minus, mut first) = (plus, minus, true);
    while first || !plus.is_empty() || !minus.is_empty() {
        let (adding, added) = plus.split_at(plus.len().min(PATIENCE));
        let (taking, taken) = minus.split_at(minus.len().min(PATIENCE - adding.len()));
        let mut bytes = [0i8; LANES];
        for &column in adding {
            let column = &columns[column as usize];
            for j in 0..LANES {
                bytes[j] = bytes[j].wrapping_add(column[j]);
            }
        }
        for &column in taking {
            let column = &columns[column as usize];
            for j in 0..LANES {
                bytes[j] = bytes[j].wrapping_sub(column[j]);
            }
        }
        if first {
            for j in 0..LANES {
                sums[j] = base[j] + i32::from(bytes[j]);
            }
        } else {
            for j in 0..LANES {
                sums[j] += i32::from(bytes[j]);
            }
        }
        (plus, minus, first) = (added, taken, false);
    }
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
