//! What the processor can do at most, for [`crate::kernels::probe`].

use std::arch::x86_64::*;

use super::ahead;

/// Products of a chain in a round: what else a round does then takes no part of the time.
const STEPS: u64 = 8;

/// [`crate::kernels::probe::Products`]: 16 independent chains of `vpdpbusd`.
pub(in crate::kernels) fn peak(rounds: u64) -> u64 {
    // SAFETY: only a table whose constructor detected the features leads here.
    unsafe { peak_rounds(rounds) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn peak_rounds(rounds: u64) -> u64 {
    let (weights, codes) = (_mm512_set1_epi8(1), _mm512_set1_epi8(2));
    let mut sums = [_mm512_setzero_si512(); 16];
    for round in 0..rounds {
        let codes = _mm512_xor_si512(codes, _mm512_set1_epi32(round as i32 & 1));
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, weights, codes);
            }
        }
    }
    let all = sums.into_iter().fold(_mm512_setzero_si512(), |all, sum| _mm512_xor_si512(all, sum));
    std::hint::black_box(_mm512_reduce_add_epi32(all));
    rounds * STEPS * 16 * 64 * 2
}

/// Reads words, 512 bits at a time in four chains, with the next page fetched ahead.
pub(in crate::kernels) fn read(words: &[u64]) -> u64 {
    // SAFETY: only a table whose constructor detected the features leads here.
    unsafe { read_wide(words) }
}

#[target_feature(enable = "avx512f")]
fn read_wide(words: &[u64]) -> u64 {
    let (chunks, rest) = words.as_chunks::<32>();
    let mut sums = [_mm512_setzero_si512(); 4];
    for chunk in chunks {
        ahead(chunk.as_ptr().cast());
        for (sum, part) in sums.iter_mut().zip(chunk.as_chunks::<8>().0) {
            // SAFETY: a part is 64 bytes long, and the load asks for no alignment.
            let part = unsafe { _mm512_loadu_si512(part.as_ptr().cast()) };
            *sum = _mm512_xor_si512(*sum, part);
        }
    }
    let [a, b, c, d] = sums;
    let all = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
    _mm512_reduce_add_epi64(all) as u64 ^ rest.iter().fold(0, |all, word| all ^ word)
}
