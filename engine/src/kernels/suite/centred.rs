//! What boxes of codes reach beside their centres, against the ends of their sums.

use super::{guarded, paint, spread_of, ternary_of};
use crate::kernels::{BLOCK_BYTES, BLOCK_COLUMNS, Centred, GROUP_ROWS, Kernels, scalar};

/// Three groups of so many blocks; of ternary weights alone, or with the unused code in the last.
fn groups(blocks: usize, unused: bool) -> Vec<u8> {
    let size = blocks * BLOCK_BYTES;
    let ternary = |byte: u8| byte & !(byte >> 1 & byte & 0x55);
    let byte = |at: usize| {
        let byte = paint(at, blocks);
        if unused && at >= 2 * size { byte } else { ternary(byte) }
    };
    (0..3 * size).map(byte).collect()
}

/// The least and the greatest sums of boxes, by the portable kernels.
fn ends(groups: &[u8], group_bytes: usize, boxes: (&[i8], &[u8]), rows: usize) -> [Vec<i32>; 2] {
    let (mut least, mut greatest) = (Vec::new(), Vec::new());
    for group in groups.chunks_exact(group_bytes) {
        let sums = ternary_of(scalar(), group, boxes.0, rows);
        let spreads = spread_of(scalar(), group, boxes.1, rows);
        let (plus, minus) = spreads.split_at(sums.len());
        least.extend(sums.iter().zip(minus).map(|(sum, minus)| sum - minus));
        greatest.extend(sums.iter().zip(plus).map(|(sum, plus)| sum + plus));
    }
    [least, greatest]
}

pub(super) fn centres_and_what_they_reach_are_the_ends(table: &Kernels) {
    let Some(reach) = table.reach else { return };
    for (blocks, rows) in [(1, 1), (2, 8), (3, 9), (33, 3), (128, 2), (129, 17), (260, 16)] {
        for (most, unused) in
            [1, 3, 7, 31, 63, 255].into_iter().flat_map(|w| [(w, false), (w, true)])
        {
            let (groups, len) = (groups(blocks, unused), rows * blocks * BLOCK_COLUMNS);
            let widths: Vec<u8> = (0..len).map(|at| paint(at, rows) & most).collect();
            let lower =
                |at: usize| (i32::from(paint(at, 9)) - 128).min(127 - i32::from(widths[at]));
            let lower: Vec<i8> = (0..len).map(|at| lower(at) as i8).collect();
            let boxes = Centred::of((&lower, &widths), blocks * BLOCK_COLUMNS);
            let boxes = boxes.expect("centres that are codes");
            let bytes = blocks * BLOCK_BYTES;
            for groups in [&groups[..], &groups[bytes..]] {
                let centres = groups
                    .chunks_exact(bytes)
                    .flat_map(|group| ternary_of(scalar(), group, boxes.centres(), rows));
                let mut least: Vec<i32> = centres.collect();
                let results = groups.len() / bytes * rows * GROUP_ROWS;
                let greatest = guarded(results, |greatest| {
                    greatest.copy_from_slice(&least);
                    reach(groups, bytes, &boxes, &mut least, greatest);
                });
                let expected = ends(groups, bytes, (&lower, &widths), rows);
                assert!([least, greatest] == expected, "{} {blocks} {rows} {most}", table.name);
            }
        }
    }
}

#[test]
fn a_centre_beyond_the_codes_is_none() {
    let of = |low: i8, width: u8| Centred::of((&[low; 16], &[width; 16]), 16).is_some();
    assert!(of(127, 1) && of(126, 3) && of(0, 255) && of(-128, 255));
    assert!(!of(127, 2) && !of(126, 4) && !of(1, 255));
}
