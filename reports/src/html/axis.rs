//! Axes: where a value stands and which ticks are named.
//!
//! A logarithmic axis is linear in its decades, with an own `log10`: the drawing library's would
//! take the platform's logarithm, and a page must be the same bytes everywhere. Zero has no
//! logarithm, so where zeros occur they stand one step below the lowest decade, and the tick there
//! says 0.

/// One axis of a plot. Values are placed by [`Axis::place`]; `low < high` always.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) title: &'static str,
    scale: Scale,
}

#[derive(Clone, Copy, Debug)]
enum Scale {
    Linear,
    Percent,
    Log { floor: f64 },
}

const MOST_TICKS: i32 = 6;

impl Axis {
    /// A logarithmic axis over the values that are not negative; `None` where none is positive.
    pub(super) fn log(title: &'static str, values: impl Iterator<Item = f64>) -> Option<Self> {
        let (mut least, mut most, mut zeros) = (f64::INFINITY, 0.0, false);
        for value in values.filter(|value| value.is_finite()) {
            if value > 0.0 {
                least = if value < least { value } else { least };
                most = if value > most { value } else { most };
            } else {
                zeros = true;
            }
        }
        if most == 0.0 {
            return None;
        }
        let first = log10(least).floor() as i32;
        let last = (log10(most).ceil() as i32).clamp(first + 1, i32::MAX);
        let stride = (last - first + MOST_TICKS - 1) / MOST_TICKS;
        let mut ticks: Vec<(f64, String)> = (0..=(last - first) / stride)
            .map(|i| first + i * stride)
            .map(|decade| (f64::from(decade), decade_name(decade)))
            .collect();
        let span = f64::from(last - first);
        let floor = if zeros { f64::from(first) - 0.14 * span } else { f64::from(first) };
        if zeros {
            ticks.insert(0, (floor, "0".to_owned()));
        }
        let low = if zeros { floor - 0.04 * span } else { floor };
        Some(Self { low, high: f64::from(last), ticks, title, scale: Scale::Log { floor } })
    }

    /// Shares from 0 up to at least `most`, named in percent; a dot on 0 stands clear of the axis.
    pub(super) fn percent(title: &'static str, most: f64) -> Self {
        let most = if most > 0.0 { (most * 100.0).clamp(1e-9, 100.0) } else { 1.0 };
        let step = nice_step(most, 5);
        let count = (most / step).ceil() as i32;
        let high = step * f64::from(count);
        let places = (-log10(step).floor()).clamp(0.0, 9.0) as usize;
        let ticks = (0..=count)
            .map(|i| (step * f64::from(i), format!("{:.places$} %", step * f64::from(i))))
            .collect();
        Self { low: -0.04 * high, high: high * 1.02, ticks, title, scale: Scale::Percent }
    }

    /// Counts from 0 up to at least `most`.
    pub(super) fn counts(title: &'static str, most: u64) -> Self {
        let most = if most == 0 { 1.0 } else { most as f64 };
        let step = nice_step(most, 4).ceil();
        let count = (most / step).ceil() as i32;
        let ticks = (0..=count)
            .map(|i| (step * f64::from(i), format!("{}", step * f64::from(i))))
            .collect();
        let high = step * f64::from(count) * 1.02;
        Self { low: 0.0, high, ticks, title, scale: Scale::Linear }
    }

    /// Any values, on a linear axis.
    pub(super) fn linear(title: &'static str, least: f64, most: f64) -> Self {
        let most = if most > least { most } else { least + 1.0 };
        let step = nice_step(most - least, 6);
        let first = (least / step).floor();
        let count = (most / step).ceil() - first;
        let places = (-log10(step).floor()).clamp(0.0, 9.0) as usize;
        let at = |i: i32| step * (first + f64::from(i));
        let ticks = (0..=count as i32).map(|i| (at(i), format!("{:.places$}", at(i)))).collect();
        let (low, high) = (at(0), at(count as i32));
        Self { low, high, ticks, title, scale: Scale::Linear }
    }

    /// Whole numbers from 0 to `count - 1`, half a step of room on both sides.
    pub(super) fn index(title: &'static str, count: u32) -> Self {
        let count = count.clamp(1, u32::MAX);
        let stride = (nice_step(f64::from(count), 8).ceil() as u32).clamp(1, count);
        let ticks = (0..count)
            .step_by(stride as usize)
            .map(|index| (f64::from(index), index.to_string()))
            .collect();
        let high = f64::from(count) - 0.5;
        Self { low: -0.5, high, ticks, title, scale: Scale::Linear }
    }

    /// Steps of the walk, with the given names under some of them.
    pub(super) fn named(title: &'static str, count: u32, names: Vec<(u32, String)>) -> Self {
        let stride = (names.len() as u32).div_ceil(8).clamp(1, u32::MAX);
        let ticks = names
            .into_iter()
            .step_by(stride as usize)
            .map(|(at, name)| (f64::from(at), name))
            .collect();
        let high = f64::from(count.clamp(1, u32::MAX)) - 0.5;
        Self { low: -0.5, high, ticks, title, scale: Scale::Linear }
    }

    /// The coordinate of a value, inside the axis; `None` for what is not finite.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        if !value.is_finite() {
            return None;
        }
        let at = match self.scale {
            Scale::Linear => value,
            Scale::Percent => value * 100.0,
            Scale::Log { floor } if value > 0.0 => log10(value).clamp(floor, self.high),
            Scale::Log { floor } => floor,
        };
        Some(at.clamp(self.low, self.high))
    }
}

/// 1, 2 or 5 times a power of ten, so that at most about `parts` steps cover the span.
fn nice_step(span: f64, parts: i32) -> f64 {
    let rough = span / f64::from(parts);
    let power = ten_to(log10(rough).floor() as i32);
    let steps = [1.0, 2.0, 5.0];
    let found = steps.into_iter().map(|step| step * power).find(|step| *step >= rough * 0.999_999);
    found.unwrap_or(10.0 * power)
}

fn ten_to(power: i32) -> f64 {
    format!("1e{power}").parse().unwrap_or(1.0)
}

fn decade_name(decade: i32) -> String {
    match decade {
        -3 => "0.001".to_owned(),
        -2 => "0.01".to_owned(),
        -1 => "0.1".to_owned(),
        0..=3 => ten_to(decade).to_string(),
        _ => {
            let raised = decade.to_string();
            let raised = raised.chars().map(|c| match c {
                '-' => '⁻',
                '1' => '¹',
                '2' => '²',
                '3' => '³',
                digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or('⁰'),
            });
            format!("10{}", raised.collect::<String>())
        }
    }
}

/// log10 of a positive finite number, good to about 1e-13, from `+ - * /` alone: the binary
/// exponent, and the series of artanh on the mantissa. Powers of ten are exact, so that decades
/// fall on ticks.
fn log10(value: f64) -> f64 {
    const LOG10_2: f64 = std::f64::consts::LOG10_2;
    let scaled = if value < f64::MIN_POSITIVE { value * ten_to(30) } else { value };
    let shift = if value < f64::MIN_POSITIVE { -30.0 } else { 0.0 };
    let bits = scaled.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let (mut power, mut sum) = (t, 0.0);
    for odd in (1..40).step_by(2) {
        sum += power / f64::from(odd);
        power *= t * t;
    }
    let found = shift + f64::from(exponent) * LOG10_2 + 2.0 * sum / std::f64::consts::LN_10;
    let nearest = found.round();
    if (found - nearest).abs() < 1e-12 { nearest } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_logarithm_agrees_with_decimal_exponents() {
        for decade in -300..=300 {
            assert_eq!(log10(ten_to(decade)), f64::from(decade), "1e{decade}");
        }
        assert!((log10(2.0) - std::f64::consts::LOG10_2).abs() < 1e-13);
        assert!((log10(5e-324) + 323.306_215_343_115_8).abs() < 1e-9);
    }

    #[test]
    fn every_axis_is_finite_ordered_and_has_few_ticks() {
        let axes = [
            Axis::log("", [0.0, 1e-300, 1e300].into_iter()).unwrap(),
            Axis::log("", [0.5].into_iter()).unwrap(),
            Axis::percent("", 0.0),
            Axis::percent("", 4.7e-7),
            Axis::percent("", 1.0),
            Axis::counts("", 0),
            Axis::counts("", 123_457),
            Axis::linear("", -3.5, -3.5),
            Axis::linear("", -1e30, 1e30),
            Axis::index("", 0),
            Axis::index("", 500),
        ];
        for axis in axes {
            assert!(axis.low < axis.high && axis.low.is_finite() && axis.high.is_finite());
            assert!((1..=12).contains(&axis.ticks.len()), "{axis:?}");
        }
        assert!(Axis::log("", [0.0].into_iter()).is_none());
    }

    #[test]
    fn zero_stands_below_the_lowest_decade() {
        let axis = Axis::log("", [0.0, 0.01, 0.1].into_iter()).unwrap();
        assert!(axis.place(0.0).unwrap() < axis.place(0.01).unwrap());
        assert_eq!(axis.place(f64::NAN), None);
        assert_eq!(axis.ticks[0].1, "0");
    }
}
