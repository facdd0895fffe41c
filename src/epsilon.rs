//! Radii as typed: absolute, or as a share of the rms of the rows that move.
//!
//! A relative radius becomes an absolute one for each sample, in one f64 product; from there on the
//! absolute number is what is claimed, and the report shows both.

use reports::model::EpsilonUnit;

use crate::failure::Failure;

/// What ends the text of a relative radius.
const RELATIVE: &str = "%rms";

/// A radius as typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Epsilon {
    /// The text.
    pub text: String,
    /// Its value; of a relative one the share, so that 1 % is 0.01.
    pub value: f64,
    /// What it is measured in.
    pub unit: EpsilonUnit,
}

impl Epsilon {
    /// The absolute radius for a sample whose rows have this root mean square.
    #[must_use]
    pub fn at(&self, rms: f64) -> f64 {
        absolute(self.value, self.unit, rms)
    }
}

/// The absolute radius that a value in a unit stands for.
#[must_use]
pub fn absolute(value: f64, unit: EpsilonUnit, rms: f64) -> f64 {
    match unit {
        EpsilonUnit::Absolute => value,
        EpsilonUnit::RelativeRms => value * rms,
    }
}

/// Reads `0.001,0.01,1%rms`.
///
/// # Errors
/// If one of them is no radius, or is there twice.
pub fn parse(text: &str) -> Result<Vec<Epsilon>, Failure> {
    let mut all: Vec<Epsilon> = Vec::new();
    for part in text.split(',') {
        let epsilon = one(part, text)?;
        if all.iter().any(|other| (other.value, other.unit) == (epsilon.value, epsilon.unit)) {
            let what = format!("--epsilon {text:?}: {} is there twice", epsilon.text);
            return Err(Failure::usage(what).help("--epsilon 0.001,0.01,0.1"));
        }
        all.push(epsilon);
    }
    Ok(all)
}

/// A decimal number, not negative, finite also in f32; behind it perhaps `%rms`. Messages quote
/// all that was typed.
fn one(part: &str, typed: &str) -> Result<Epsilon, Failure> {
    let text = part.trim();
    let refuse = |why: &str| {
        Failure::usage(format!("--epsilon {typed:?}: {why}"))
            .help("--epsilon 0.01, --epsilon 1%rms or --epsilon 0.001,0.01,0.1")
    };
    let (number, unit) = match text.strip_suffix(RELATIVE) {
        Some(number) => (number.trim_end(), EpsilonUnit::RelativeRms),
        None => (text, EpsilonUnit::Absolute),
    };
    // `0,01` is no list of 0 and 1, but a decimal comma.
    let digits = number.as_bytes();
    if digits.len() > 1 && digits[0] == b'0' && digits[1].is_ascii_digit() {
        return Err(refuse("expected a number with a decimal point and no leading zeros"));
    }
    let value: f64 = number.parse().map_err(|_| refuse("expected a number"))?;
    if !(value as f32).is_finite() {
        return Err(refuse("expected a number that is finite in f32"));
    }
    let value = if unit == EpsilonUnit::RelativeRms { value / 100.0 } else { value };
    if value < 0.0 || (value == 0.0 && value.is_sign_negative()) {
        return Err(refuse("expected a number that is not negative"));
    }
    Ok(Epsilon { text: text.to_owned(), value, unit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilons_are_finite_in_f32_and_not_negative() {
        assert_eq!(parse("0.01").expect("a number")[0].value, 0.01);
        assert_eq!(parse("0").expect("a number")[0].value, 0.0);
        for text in ["nan", "inf", "-1", "-0", "1e39", "1e999", "", "x", "0,01", "0.01 0.02"] {
            assert!(parse(text).is_err(), "{text}");
            assert!(parse(&format!("{text}%rms")).is_err(), "{text}");
            assert!(parse(&format!("0.5,{text}")).is_err(), "{text}");
        }
        for text in ["0.1,0.1", "0.1,1e-1", "1%rms,1.0%rms", "1%", "rms"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_relative_epsilon_is_a_share_of_the_rms_and_keeps_its_text() {
        let list = parse("1%rms, 0.5,2.5 %rms").expect("a list");
        let texts: Vec<&str> = list.iter().map(|epsilon| epsilon.text.as_str()).collect();
        assert_eq!(texts, ["1%rms", "0.5", "2.5 %rms"]);
        let at: Vec<f64> = list.iter().map(|epsilon| epsilon.at(4.0)).collect();
        assert_eq!(at, [0.04, 0.5, 0.1]);
    }
}
