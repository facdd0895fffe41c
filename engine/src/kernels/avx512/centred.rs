//! What boxes of codes reach beside their centres: bits are counted, 32 columns of 16 rows at a
//! time, and what has too many bits is multiplied.

use std::arch::x86_64::*;

use super::prompt::{MAGNITUDES, two_planes};
use super::{spread, store};
use crate::kernels::centred::{Centred, TILE};
use crate::kernels::{BLOCK_BYTES, GROUP_ROWS};

/// Words of columns whose signs are held at a time: 4 KiB of each sign, which stay in the first
/// cache with the words of a tile.
const WORDS: usize = 64;

/// The weights of 16 rows as bits, 32 columns in a register.
#[repr(align(64))]
struct Signs {
    plus: [[i32; GROUP_ROWS]; WORDS],
    minus: [[i32; GROUP_ROWS]; WORDS],
}

pub(super) fn reach(
    groups: &[u8],
    group_bytes: usize,
    boxes: &Centred,
    least: &mut [i32],
    greatest: &mut [i32],
) {
    assert!(groups.len().is_multiple_of(group_bytes), "whole groups");
    let results = boxes.rows() * GROUP_ROWS;
    let count = groups.len() / group_bytes;
    assert!(least.len() == count * results && greatest.len() == least.len(), "16 results a row");
    // SAFETY: the table's constructor detected the features that these functions enable.
    unsafe {
        if let Some(halves) = boxes.halves() {
            multiply(groups, group_bytes, halves, (results, &mut *least, &mut *greatest));
        }
        let ends = least.chunks_exact_mut(results).zip(greatest.chunks_exact_mut(results));
        for (group, (least, greatest)) in groups.chunks_exact(group_bytes).zip(ends) {
            if !count_bits(group, boxes, least, greatest) {
                by_bytes(group, boxes, least, greatest);
            }
        }
    }
}

/// Adds the products of magnitudes of weights with halves, two groups at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn multiply(
    groups: &[u8],
    group_bytes: usize,
    halves: &[i8],
    (results, least, greatest): (usize, &mut [i32], &mut [i32]),
) {
    let rows = halves.len() / (group_bytes / 4);
    let (mut x, mut y) = (vec![0; rows * GROUP_ROWS], vec![0; rows * GROUP_ROWS]);
    let ends = least.chunks_mut(2 * results).zip(greatest.chunks_mut(2 * results));
    for (pair, (least, greatest)) in groups.chunks(2 * group_bytes).zip(ends) {
        let (a, b) = pair.split_at(group_bytes);
        let b = if b.is_empty() { a } else { b };
        two_planes::<MAGNITUDES>([a, b], halves, &vec![0; rows], [&mut x, &mut y]);
        let ends = least.chunks_exact_mut(results).zip(greatest.chunks_exact_mut(results));
        for (reach, (least, greatest)) in [&x, &y].into_iter().zip(ends) {
            least.iter_mut().zip(reach).for_each(|(sum, reach)| *sum -= reach);
            greatest.iter_mut().zip(reach).for_each(|(sum, reach)| *sum += reach);
        }
    }
}

/// Adds what planes of bits reach; false, and nothing added, if a weight is neither of three.
#[target_feature(enable = "avx512f,avx512bw,avx512vpopcntdq")]
fn count_bits(group: &[u8], boxes: &Centred, least: &mut [i32], greatest: &mut [i32]) -> bool {
    let blocks = group.as_chunks::<BLOCK_BYTES>().0;
    if !ternary(blocks) {
        return false;
    }
    let mut signs = Signs { plus: [[0; GROUP_ROWS]; WORDS], minus: [[0; GROUP_ROWS]; WORDS] };
    for (index, blocks) in blocks.chunks(2 * WORDS).enumerate() {
        let held = signs_of(blocks, &mut signs);
        let (tiles, count) = boxes.tiles();
        let ends = least.chunks_mut(TILE * GROUP_ROWS).zip(greatest.chunks_mut(TILE * GROUP_ROWS));
        for (words, (least, greatest)) in tiles.zip(ends) {
            let mut planes = words.chunks_exact(count).map(|plane| &plane[index * WORDS..][..held]);
            let odd = planes.next().expect("the plane of odd widths");
            let [mut plus, mut minus] = count_signs(&signs, odd);
            for (bit, plane) in (0..).zip(planes) {
                let shift = _mm_cvtsi32_si128(bit);
                for (m, reach) in count_all(&signs, plane).into_iter().enumerate() {
                    let reach = _mm512_sll_epi32(reach, shift);
                    plus[m] = _mm512_add_epi32(plus[m], reach);
                    minus[m] = _mm512_add_epi32(minus[m], reach);
                }
            }
            let ends = least.as_chunks_mut::<GROUP_ROWS>().0.iter_mut();
            let ends = ends.zip(greatest.as_chunks_mut::<GROUP_ROWS>().0);
            for ((plus, minus), (least, greatest)) in plus.into_iter().zip(minus).zip(ends) {
                store(_mm512_sub_epi32(load(least), minus), least);
                store(_mm512_add_epi32(load(greatest), plus), greatest);
            }
        }
    }
    true
}

/// Adds the same where the unused code is among the weights.
fn by_bytes(group: &[u8], boxes: &Centred, least: &mut [i32], greatest: &mut [i32]) {
    let odd: Vec<u8> = boxes.widths().iter().map(|width| width & 1).collect();
    let (mut plus, mut minus) = (vec![0; least.len()], vec![0; least.len()]);
    spread(group, &odd, &mut plus, &mut minus);
    greatest.iter_mut().zip(&plus).for_each(|(sum, plus)| *sum += plus);
    least.iter_mut().zip(&minus).for_each(|(sum, minus)| *sum -= minus);
    if boxes.halves().is_none() {
        let halves: Vec<u8> = boxes.widths().iter().map(|width| width >> 1).collect();
        spread(group, &halves, &mut plus, &mut minus);
        let reach = plus.iter().zip(&minus).map(|(plus, minus)| plus + minus);
        for ((least, greatest), reach) in least.iter_mut().zip(greatest).zip(reach) {
            (*least, *greatest) = (*least - reach, *greatest + reach);
        }
    }
}

/// Whether no block has the unused code.
#[target_feature(enable = "avx512f,avx512bw")]
fn ternary(blocks: &[[u8; BLOCK_BYTES]]) -> bool {
    let mut both = _mm512_setzero_si512();
    for block in blocks {
        // SAFETY: a block is 64 bytes long, and the load asks for no alignment.
        let codes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
        both = _mm512_or_si512(both, _mm512_and_si512(codes, _mm512_srli_epi32::<1>(codes)));
    }
    _mm512_test_epi32_mask(both, _mm512_set1_epi32(0x5555_5555)) == 0
}

/// Writes the signs of blocks, two in a word, and returns how many words they are.
#[target_feature(enable = "avx512f,avx512bw")]
fn signs_of(blocks: &[[u8; BLOCK_BYTES]], signs: &mut Signs) -> usize {
    let words = signs.plus.iter_mut().zip(&mut signs.minus);
    for (pair, (plus, minus)) in blocks.chunks(2).zip(words) {
        let [first, second] = [pair.first(), pair.get(1)].map(|block| match block {
            // SAFETY: a block is 64 bytes long, and the load asks for no alignment.
            Some(block) => parts(unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }),
            None => [_mm512_setzero_si512(); 2],
        });
        let both = |part: usize| _mm512_or_si512(first[part], _mm512_slli_epi32::<1>(second[part]));
        // SAFETY: 16 words are 64 bytes long, and the stores ask for no alignment.
        unsafe {
            _mm512_storeu_si512(plus.as_mut_ptr().cast(), both(0));
            _mm512_storeu_si512(minus.as_mut_ptr().cast(), both(1));
        }
    }
    blocks.len().div_ceil(2)
}

/// Where the weights of a block are positive, and where negative: in the lower bit of each code.
#[target_feature(enable = "avx512f")]
fn parts(codes: __m512i) -> [__m512i; 2] {
    let lower = _mm512_set1_epi32(0x5555_5555);
    let upper = _mm512_srli_epi32::<1>(codes);
    let plus = _mm512_and_si512(_mm512_andnot_si512(codes, upper), lower);
    let minus = _mm512_andnot_si512(_mm512_or_si512(codes, upper), lower);
    [plus, minus]
}

/// How many of the bits of each row of a tile stand under weights of either sign.
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn count_signs(signs: &Signs, words: &[[u32; TILE]]) -> [[__m512i; TILE]; 2] {
    let mut plus = [_mm512_setzero_si512(); TILE];
    let mut minus = plus;
    for ((words, p), q) in words.iter().zip(&signs.plus).zip(&signs.minus) {
        let (p, q) = (load(p), load(q));
        for m in 0..TILE {
            let word = _mm512_set1_epi32(words[m] as i32);
            plus[m] = _mm512_add_epi32(plus[m], _mm512_popcnt_epi32(_mm512_and_si512(p, word)));
            minus[m] = _mm512_add_epi32(minus[m], _mm512_popcnt_epi32(_mm512_and_si512(q, word)));
        }
    }
    [plus, minus]
}

/// The same under weights of any sign.
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn count_all(signs: &Signs, words: &[[u32; TILE]]) -> [__m512i; TILE] {
    let mut all = [_mm512_setzero_si512(); TILE];
    for ((words, p), q) in words.iter().zip(&signs.plus).zip(&signs.minus) {
        let either = _mm512_or_si512(load(p), load(q));
        for m in 0..TILE {
            let word = _mm512_set1_epi32(words[m] as i32);
            let bits = _mm512_popcnt_epi32(_mm512_and_si512(either, word));
            all[m] = _mm512_add_epi32(all[m], bits);
        }
    }
    all
}

#[target_feature(enable = "avx512f")]
fn load(words: &[i32; GROUP_ROWS]) -> __m512i {
    // SAFETY: 16 words are 64 bytes long, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}
