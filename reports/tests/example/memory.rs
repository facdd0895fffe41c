//! Memory codes and assignments of codes to weights, of a made-up report.

use reports::model::*;

use super::rate;

pub(super) fn stored_bits() -> StoredBits {
    StoredBits {
        bits: 105_472,
        trials: 8_000,
        sdc_rate: Some(0.0125),
        sdc_rate_low: 0.006,
        sdc_rate_high: 0.024,
    }
}

pub(super) fn protection() -> Vec<Protected> {
    let one = |(code, raw_flips, harmless, residual): (MemoryCode, u32, u64, u64)| {
        let trials = 500;
        let (sdc, due) = (residual / 20, 0);
        let (residual_rate, residual_rate_low, residual_rate_high) = rate(residual, trials);
        let (pvf, pvf_low, pvf_high) = match residual {
            0 => (None, 0.0, 1.0),
            _ => rate(sdc, residual),
        };
        let (word_bits, check_bits) = if code == MemoryCode::OnDie { (128, 8) } else { (64, 8) };
        Protected {
            code,
            word_bits,
            check_bits,
            stored_bits: 82_944,
            raw_flips,
            trials,
            harmless,
            detected: trials - harmless - residual,
            residual,
            masked: residual - sdc - due,
            sdc,
            due,
            residual_rate,
            residual_rate_low,
            residual_rate_high,
            pvf,
            pvf_low,
            pvf_high,
            fit_per_mbit_low: 700.0,
            fit_per_mbit_high: 1200.0,
            fit_critical_low: 55.4 * residual_rate_low * pvf_low,
            fit_critical_high: 94.9 * residual_rate_high * pvf_high,
        }
    };
    [
        (MemoryCode::Secded, 1, 500, 0),
        (MemoryCode::Secded, 2, 0, 0),
        (MemoryCode::Secded, 3, 0, 281),
        (MemoryCode::OnDie, 2, 0, 500),
    ]
    .map(one)
    .to_vec()
}

pub(super) fn encodings() -> Vec<Encoding> {
    let of = |codes: [&str; 4], deployed, sign_flip_share| {
        let direction = |direction| EncodingDirection {
            direction,
            flips: 73_728,
            unused_share: 0.29,
            sign_flip_share,
            mean_weight_change: 1.29,
        };
        let [minus_one, zero, plus_one, unused] = codes.map(str::to_owned);
        let all = [FlipDirection::Both, FlipDirection::OneToZero, FlipDirection::ZeroToOne];
        let directions = all.map(direction).to_vec();
        Encoding { minus_one, zero, plus_one, unused, deployed, directions }
    };
    vec![of(["01", "00", "10", "11"], false, 0.0), of(["00", "01", "10", "11"], true, 0.29)]
}

pub(super) fn trit_bytes() -> Vec<TritDirection> {
    let of = |(direction, bits_per_byte, mean_weights_hit)| TritDirection {
        direction,
        bits_per_byte,
        mean_weights_hit,
        mean_weight_change: 3.67,
        unused_share: 0.055,
    };
    [
        (FlipDirection::Both, 8.0, 2.88),
        (FlipDirection::OneToZero, 3.98, 2.91),
        (FlipDirection::ZeroToOne, 4.02, 2.86),
    ]
    .map(of)
    .to_vec()
}
