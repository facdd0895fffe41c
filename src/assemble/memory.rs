//! Memory codes and assignments of codes to weights, in the words of the contract.

use faults::{Direction, Encoding, EncodingRow, Exposure, Fit, Protection, TritExposure};
use reports::model as out;

use crate::analyze::{Protected, StoredBits};

/// Raw failures of embedded memory in 10^9 hours a Mbit, as IEC 61508 quotes them.
const RAW: Fit = Fit { low: 700.0, high: 1200.0 };

pub(super) fn stored_bits(of: &StoredBits) -> out::StoredBits {
    out::StoredBits {
        bits: of.bits,
        trials: of.trials,
        sdc_rate: of.sdc.share,
        sdc_rate_low: of.sdc.interval.low,
        sdc_rate_high: of.sdc.interval.high,
    }
}

pub(super) fn protected(row: &Protected, confidence: f64) -> out::Protected {
    let tally = &row.tally;
    let pvf = tally.vulnerability(confidence);
    let residual = row.exact.unwrap_or_else(|| tally.residual_rate(confidence));
    let known = row.exact.is_some() || tally.trials > 0;
    let exact = row.exact.map(|exact| exact.interval);
    let critical = tally.critical(RAW, row.bits, exact, confidence);
    out::Protected {
        code: code(row.protection),
        word_bits: row.protection.data_bits(),
        check_bits: row.protection.check_bits(),
        stored_bits: row.bits,
        raw_flips: row.flips,
        trials: tally.trials,
        harmless: tally.harmless,
        detected: tally.detected,
        residual: tally.residual,
        masked: tally.masked,
        sdc: tally.sdc,
        due: tally.due,
        residual_rate: known.then_some(residual.share),
        residual_rate_low: residual.interval.low,
        residual_rate_high: residual.interval.high,
        pvf: (tally.residual > 0).then_some(pvf.share),
        pvf_low: pvf.interval.low,
        pvf_high: pvf.interval.high,
        fit_per_mbit_low: RAW.low,
        fit_per_mbit_high: RAW.high,
        fit_critical_low: critical.low,
        fit_critical_high: critical.high,
    }
}

pub(super) fn code(protection: Protection) -> out::MemoryCode {
    match protection {
        Protection::None => out::MemoryCode::None,
        Protection::Parity { .. } => out::MemoryCode::Parity,
        Protection::Secded => out::MemoryCode::Secded,
        Protection::OnDie => out::MemoryCode::OnDie,
        Protection::Chipkill => out::MemoryCode::Chipkill,
        Protection::Checksum { .. } => out::MemoryCode::Checksum,
        Protection::Crc { .. } => out::MemoryCode::Crc,
    }
}

pub(super) fn encoding(row: &EncodingRow) -> out::Encoding {
    let [minus_one, zero, plus_one, unused] =
        row.encoding.codes().map(|code| format!("{code:02b}"));
    let directions = Direction::ALL.into_iter().zip(&row.exposures);
    out::Encoding {
        minus_one,
        zero,
        plus_one,
        unused,
        deployed: row.encoding == Encoding::DEPLOYED
            || row.encoding.exchanged() == Encoding::DEPLOYED,
        directions: directions.map(|(direction, exposure)| of(direction, exposure)).collect(),
    }
}

fn of(direction: Direction, exposure: &Exposure) -> out::EncodingDirection {
    out::EncodingDirection {
        direction: way(direction),
        flips: exposure.flips,
        unused_share: exposure.unused_share(),
        sign_flip_share: exposure.sign_share(),
        mean_weight_change: exposure.mean_change(),
    }
}

fn way(direction: Direction) -> out::FlipDirection {
    match direction {
        Direction::Both => out::FlipDirection::Both,
        Direction::OneToZero => out::FlipDirection::OneToZero,
        Direction::ZeroToOne => out::FlipDirection::ZeroToOne,
    }
}

pub(super) fn trits((direction, exposure): &(Direction, TritExposure)) -> out::TritDirection {
    out::TritDirection {
        direction: way(*direction),
        bits_per_byte: exposure.bits,
        mean_weights_hit: exposure.weights_hit,
        mean_weight_change: exposure.change,
        unused_share: exposure.unused_share,
    }
}
