//! What is proven of stored keys and values, in the words of the contract.

use engine::model::KvKind;
use faults::Target;
use reports::model as out;
use reports::model::finite;

use super::faults::word;
use super::number;
use crate::analyze::{CacheBits, CacheFlips};

pub(super) fn proven(of: &CacheFlips, kind: KvKind) -> out::CacheProven {
    let change = of.change.filter(|_| of.samples > 0).and_then(finite);
    let reason = match (of.samples, of.lost) {
        (0, _) => "it costs more than the budget of these proofs",
        (_, 0) => "the bound is not finite",
        _ => "a flip may make the stream behind the layer infinite",
    };
    out::CacheProven {
        layer: number(of.layer),
        target: word(Target::of_kv(kind)),
        bits: match of.bits {
            CacheBits::Code => out::CacheBits::Code,
            CacheBits::Mantissa => out::CacheBits::Mantissa,
            CacheBits::Exponent => out::CacheBits::Exponent,
            CacheBits::Sign => out::CacheBits::Sign,
        },
        samples: of.samples,
        pairs: of.pairs,
        proven_masked: of.proven,
        proven_masked_share: (of.pairs > 0).then(|| of.proven as f64 / of.pairs as f64),
        unknown: of.lost,
        logit_change_bound: change,
        reason: change.is_none().then(|| reason.to_owned()),
    }
}
