//! Memory codes and assignments of codes: counts add up, intervals hold their rates.

use super::Check;
use crate::model::Faults;

pub(super) fn check_memory(check: &mut Check, faults: &Faults) {
    for (i, row) in faults.protection.iter().enumerate() {
        let key = |key: &str| format!("faults.protection[{i}].{key}");
        check.sum(&key("trials"), &[row.harmless, row.detected, row.residual], row.trials);
        check.sum(&key("residual"), &[row.masked, row.sdc, row.due], row.residual);
        let (low, high) = (row.residual_rate_low, row.residual_rate_high);
        check.interval(&key("residual_rate"), row.residual_rate, low, high);
        check.interval(&key("pvf"), row.pvf, row.pvf_low, row.pvf_high);
        if row.pvf.is_some() != (row.residual > 0) {
            check.add(key("pvf"), "is known exactly where a fault was residual");
        }
        for (name, low, high) in [
            ("fit_per_mbit", row.fit_per_mbit_low, row.fit_per_mbit_high),
            ("fit_critical", row.fit_critical_low, row.fit_critical_high),
        ] {
            check.not_negative(&key(&format!("{name}_low")), low);
            check.not_negative(&key(&format!("{name}_high")), high);
            if low > high {
                check.add(key(&format!("{name}_low")), "is above its upper end");
            }
        }
    }
    if let Some(of) = &faults.stored_bits {
        let (low, high) = (of.sdc_rate_low, of.sdc_rate_high);
        check.interval("faults.stored_bits.sdc_rate", of.sdc_rate, low, high);
    }
    for (i, row) in faults.encodings.iter().enumerate() {
        let key = |key: &str| format!("faults.encodings[{i}].{key}");
        let mut codes = [&row.minus_one, &row.zero, &row.plus_one, &row.unused];
        codes.sort();
        if codes != ["00", "01", "10", "11"] {
            check.add(key("unused"), "is not what the other codes leave");
        }
        for (k, of) in row.directions.iter().enumerate() {
            let at = |name: &str| key(&format!("directions[{k}].{name}"));
            check.share(&at("unused_share"), of.unused_share);
            check.share(&at("sign_flip_share"), of.sign_flip_share);
            check.not_negative(&at("mean_weight_change"), of.mean_weight_change);
        }
    }
    for (i, of) in faults.trit_bytes.iter().enumerate() {
        let key = |key: &str| format!("faults.trit_bytes[{i}].{key}");
        check.share(&key("unused_share"), of.unused_share);
        check.not_negative(&key("bits_per_byte"), of.bits_per_byte);
        check.not_negative(&key("mean_weight_change"), of.mean_weight_change);
        if !(0.0..=5.0).contains(&of.mean_weights_hit) {
            check.add(key("mean_weights_hit"), "is not from 0 to 5");
        }
    }
    if !faults.encodings.is_empty() && faults.encodings.iter().filter(|of| of.deployed).count() != 1
    {
        check.add("faults.encodings", "do not name the one that is deployed");
    }
}
