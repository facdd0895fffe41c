//! Numbers as people read them, rounded to the honest side.
//!
//! A page that shows three digits must not claim more than the report: what is proven is rounded
//! down and upper limits are rounded up. Rounding works on the shortest decimal text, never in
//! floating point, so every platform prints the same.

/// To which side digits are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Down,
    Nearest,
    Up,
}

/// A not negative decimal number `0.d1 d2 d3... * 10^exponent` without trailing zeros.
struct Decimal {
    digits: Vec<u8>,
    exponent: i32,
}

impl Decimal {
    fn of(value: f64) -> Self {
        let text = format!("{:e}", value.abs());
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = mantissa.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0');
        let mut found =
            Self { digits: digits.collect(), exponent: exponent.parse::<i32>().unwrap_or(0) + 1 };
        found.trim();
        found
    }

    fn trim(&mut self) {
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
    }

    fn round(&mut self, keep: usize, side: Side) {
        if self.digits.len() <= keep {
            return;
        }
        let up = match side {
            Side::Down => false,
            Side::Up => true,
            Side::Nearest => self.digits[keep] >= 5,
        };
        self.digits.truncate(keep);
        if up {
            self.increment();
        }
        self.trim();
    }

    fn increment(&mut self) {
        for digit in self.digits.iter_mut().rev() {
            if *digit < 9 {
                *digit += 1;
                return;
            }
            *digit = 0;
        }
        self.digits.insert(0, 1);
        self.exponent += 1;
    }

    fn plain(&self) -> String {
        let digit = |place: i32| {
            let known = usize::try_from(place).ok().and_then(|place| self.digits.get(place));
            char::from(b'0' + known.copied().unwrap_or(0))
        };
        let mut text: String = (0..self.exponent).map(digit).collect();
        if text.is_empty() {
            text.push('0');
        }
        let places = self.digits.len() as i32;
        if places > self.exponent {
            text.push('.');
            text.extend((self.exponent.min(0)..0).map(|_| '0'));
            text.extend((self.exponent.clamp(0, places)..places).map(digit));
        }
        text
    }

    fn scientific(&self) -> String {
        let mut digits = self.digits.iter().map(|digit| char::from(b'0' + digit));
        let first = digits.next().unwrap_or('0');
        let rest: String = digits.collect();
        let point = if rest.is_empty() { "" } else { "." };
        format!("{first}{point}{rest}e{}", self.exponent - 1)
    }
}

/// A value with three significant digits.
pub(crate) fn number(value: f64, side: Side) -> String {
    shifted(value, 0, side)
}

/// A share in percent, with three significant digits.
pub(crate) fn percent(value: f64, side: Side) -> String {
    format!("{} %", shifted(value, 2, side))
}

fn shifted(value: f64, power: i32, side: Side) -> String {
    if !value.is_finite() {
        return "not finite".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let mut decimal = Decimal::of(value);
    decimal.exponent += power;
    let magnitude = match (side, value < 0.0) {
        (Side::Down, true) => Side::Up,
        (Side::Up, true) => Side::Down,
        _ => side,
    };
    decimal.round(3, magnitude);
    let plain = (-3..=6).contains(&decimal.exponent);
    let text = if plain { decimal.plain() } else { decimal.scientific() };
    if value < 0.0 { format!("-{text}") } else { text }
}

/// A value, or a dash where there is none.
pub(crate) fn optional(value: Option<f64>, side: Side) -> String {
    value.map_or_else(|| "–".to_owned(), |value| number(value, side))
}

/// A count with its thousands set apart.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in decimal units.
pub(crate) fn bytes(value: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut shown = value as f64;
    let mut unit = 0;
    while shown >= 1000.0 && unit + 1 < units.len() {
        shown /= 1000.0;
        unit += 1;
    }
    format!("{} {}", number(shown, Side::Nearest), units[unit])
}

/// Seconds, or minutes where there are many.
pub(crate) fn seconds(value: f64) -> String {
    if value < 120.0 {
        format!("{} s", number(value, Side::Nearest))
    } else {
        format!("{} min", number(value / 60.0, Side::Nearest))
    }
}

/// "1 thing", "2 things".
pub(crate) fn plural(value: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(value), if value == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_fall_to_the_asked_side() {
        let cases = [
            (0.012_345, "0.0123", "0.0123", "0.0124"),
            (0.01, "0.01", "0.01", "0.01"),
            (0.999_96, "0.999", "1", "1"),
            (1234.5, "1230", "1230", "1240"),
            (1.5e-7, "1.5e-7", "1.5e-7", "1.5e-7"),
            (9.999e12, "9.99e12", "1e13", "1e13"),
            (-2.3456, "-2.35", "-2.35", "-2.34"),
            (150.0, "150", "150", "150"),
            (0.0, "0", "0", "0"),
        ];
        for (value, down, nearest, up) in cases {
            assert_eq!(number(value, Side::Down), down, "{value} down");
            assert_eq!(number(value, Side::Nearest), nearest, "{value} nearest");
            assert_eq!(number(value, Side::Up), up, "{value} up");
        }
    }

    #[test]
    fn an_f32_epsilon_just_below_its_decimal_is_not_rounded_up() {
        assert_eq!(number(f64::from(0.01_f32), Side::Down), "0.00999");
    }

    #[test]
    fn percents_shift_digits_and_not_values() {
        assert_eq!(percent(0.57, Side::Down), "57 %");
        assert_eq!(percent(0.999_96, Side::Down), "99.9 %");
        assert_eq!(percent(4.7e-6, Side::Up), "0.00047 %");
        assert_eq!(percent(1.0, Side::Nearest), "100 %");
    }

    #[test]
    fn counts_and_bytes_read_easily() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
        assert_eq!(bytes(521_011_200), "521 MB");
        assert_eq!(plural(1, "layer"), "1 layer");
        assert_eq!(plural(2, "layer"), "2 layers");
    }
}
