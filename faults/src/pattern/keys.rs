//! Fault models in the words of a plan.

use serde::Deserialize;

use super::{Direction, PartName, Pattern, Rate};
use crate::space::Target;

/// The names of the models.
pub(crate) const MODELS: [&str; 12] = [
    "single",
    "random",
    "adjacent",
    "byte",
    "word",
    "row",
    "column",
    "stuck-at-0",
    "stuck-at-1",
    "one-way",
    "row-hammer",
    "poisson",
];

const DIRECTIONS: [(&str, Direction); 3] = [
    ("1-to-0", Direction::OneToZero),
    ("0-to-1", Direction::ZeroToOne),
    ("mixed", Direction::Mixed),
];

/// The most that any number of a plan may be.
const MOST: u64 = 1 << 40;

/// One `[[fault]]` of a plan file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct FaultFile {
    /// What is struck.
    pub target: String,
    /// Which bits flip together; `random` by default.
    pub model: Option<String>,
    /// Trials in a round; 1 by default.
    pub weight: Option<u32>,
    /// Only in these layers.
    pub layers: Option<Vec<usize>>,
    /// Only in tensors of these names.
    pub tensors: Option<Vec<String>>,
    /// Only this part of stored floats: `sign`, `exponent` or `mantissa`.
    pub part: Option<String>,
    /// The code of the memory that holds them: a word of [`Protection::named`].
    ///
    /// [`Protection::named`]: crate::Protection::named
    pub protection: Option<String>,
    /// How many bits flip.
    pub flips: Option<u32>,
    /// Bits of a run (`adjacent`) or of a word.
    pub bits: Option<u64>,
    /// Bits of a row of a memory array.
    pub row_bits: Option<u64>,
    /// Rows that share their columns.
    pub rows: Option<u64>,
    /// Which way bits flip: `1-to-0`, `0-to-1` or `mixed`.
    pub direction: Option<String>,
    /// Bytes of a page.
    pub page_bytes: Option<u64>,
    /// Vulnerable cells of a page.
    pub cells: Option<u32>,
    /// Failures in 10^9 hours for each 2^20 bits.
    pub fit_per_mbit: Option<f64>,
    /// Over how many hours.
    pub hours: Option<f64>,
    /// Expected flips for each bit.
    pub ber: Option<f64>,
}

/// A value that makes no sense.
pub(crate) struct Wrong {
    pub(crate) key: &'static str,
    pub(crate) got: String,
    pub(crate) expected: String,
}

fn wrong(key: &'static str, got: impl ToString, expected: impl Into<String>) -> Wrong {
    Wrong { key, got: got.to_string(), expected: expected.into() }
}

impl FaultFile {
    /// A key of a model that has not been taken.
    pub(crate) fn left(&self) -> Option<&'static str> {
        let left = [
            ("flips", self.flips.is_some()),
            ("bits", self.bits.is_some()),
            ("row_bits", self.row_bits.is_some()),
            ("rows", self.rows.is_some()),
            ("direction", self.direction.is_some()),
            ("page_bytes", self.page_bytes.is_some()),
            ("cells", self.cells.is_some()),
            ("fit_per_mbit", self.fit_per_mbit.is_some()),
            ("hours", self.hours.is_some()),
            ("ber", self.ber.is_some()),
        ];
        left.into_iter().find_map(|(key, left)| left.then_some(key))
    }

    /// How many bits flip, if it says so.
    fn flips(&mut self) -> Result<Option<u32>, Wrong> {
        match self.flips.take() {
            Some(0) => Err(wrong("flips", 0, "1 or more")),
            flips => Ok(flips),
        }
    }

    fn rate(&mut self) -> Result<Rate, Wrong> {
        let (fit, hours) = (self.fit_per_mbit.take(), self.hours.take());
        let positive = |key, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(value),
            false => Err(wrong(key, value, "a number above 0")),
        };
        match (fit, hours, self.ber.take()) {
            (Some(fit), Some(hours), None) => Ok(Rate::Fit {
                fit_per_mbit: positive("fit_per_mbit", fit)?,
                hours: positive("hours", hours)?,
            }),
            (None, None, Some(ber)) => Ok(Rate::BitErrors(positive("ber", ber)?)),
            (None, None, None) => Err(wrong("ber", "nothing", "ber, or fit_per_mbit and hours")),
            (Some(_), None, None) => Err(wrong("hours", "nothing", "a number above 0")),
            (None, Some(_), None) => Err(wrong("fit_per_mbit", "nothing", "a number above 0")),
            (.., Some(ber)) => Err(wrong("ber", ber, "none beside fit_per_mbit and hours")),
        }
    }
}

/// A number that must be there, within limits.
fn size(key: &'static str, value: &mut Option<u64>, least: u64, most: u64) -> Result<u64, Wrong> {
    let expected = || format!("{least} to {most}");
    match value.take() {
        Some(value) if (least..=most).contains(&value) => Ok(value),
        Some(value) => Err(wrong(key, value, expected())),
        None => Err(wrong(key, "nothing", expected())),
    }
}

impl Pattern {
    /// The name of the model in plans.
    #[must_use]
    pub fn model(&self) -> &'static str {
        match self {
            Self::Random { .. } => "random",
            Self::Adjacent { .. } => "adjacent",
            Self::Part { name: PartName::Byte, .. } => "byte",
            Self::Part { name: PartName::Word, .. } => "word",
            Self::Part { name: PartName::Row, .. } => "row",
            Self::Column { .. } => "column",
            Self::StuckAt { value: false, .. } => "stuck-at-0",
            Self::StuckAt { value: true, .. } => "stuck-at-1",
            Self::OneWay { .. } => "one-way",
            Self::RowHammer { .. } => "row-hammer",
            Self::Poisson { .. } => "poisson",
        }
    }

    /// Its keys and their values, as TOML.
    #[must_use]
    pub fn keys(&self) -> Vec<(&'static str, String)> {
        let flips = |flips: &Option<u32>| flips.map(|flips| ("flips", flips.to_string()));
        let number = |key, value: &u64| (key, value.to_string());
        match self {
            Self::Random { flips } | Self::StuckAt { flips, .. } => {
                vec![("flips", flips.to_string())]
            }
            Self::Adjacent { bits } => vec![("bits", bits.to_string())],
            Self::Part { name, bits, flips: some } => {
                let size = match name {
                    PartName::Byte => None,
                    PartName::Word => Some(number("bits", bits)),
                    PartName::Row => Some(number("row_bits", bits)),
                };
                size.into_iter().chain(flips(some)).collect()
            }
            Self::Column { row_bits, rows, flips: some } => {
                let keys = [number("row_bits", row_bits), number("rows", rows)];
                keys.into_iter().chain(flips(some)).collect()
            }
            Self::OneWay { direction, flips } => {
                let named = DIRECTIONS.iter().find(|(_, other)| other == direction);
                let (name, _) = named.expect("every direction has a name");
                vec![("direction", format!("{name:?}")), ("flips", flips.to_string())]
            }
            Self::RowHammer { page_bytes, cells, flips: some } => {
                let keys = [number("page_bytes", page_bytes), ("cells", cells.to_string())];
                keys.into_iter().chain(flips(some)).collect()
            }
            Self::Poisson { rate: Rate::Fit { fit_per_mbit, hours } } => {
                vec![("fit_per_mbit", format!("{fit_per_mbit:?}")), ("hours", format!("{hours:?}"))]
            }
            Self::Poisson { rate: Rate::BitErrors(ber) } => vec![("ber", format!("{ber:?}"))],
        }
    }

    /// The model of a name, from the keys that it takes.
    pub(crate) fn from_keys(
        model: &str,
        keys: &mut FaultFile,
        target: Target,
    ) -> Result<Self, Wrong> {
        let pattern = match model {
            "single" => Self::Random { flips: 1 },
            "random" => Self::Random { flips: keys.flips()?.unwrap_or(1) },
            "adjacent" => Self::Adjacent { bits: size("bits", &mut keys.bits, 2, 8)? as u32 },
            "byte" => Self::Part { name: PartName::Byte, bits: 8, flips: keys.flips()? },
            "word" => {
                let bits = size("bits", &mut keys.bits, 16, 128)?;
                if !bits.is_power_of_two() {
                    return Err(wrong("bits", bits, "16, 32, 64 or 128"));
                }
                Self::Part { name: PartName::Word, bits, flips: keys.flips()? }
            }
            "row" => {
                let bits = size("row_bits", &mut keys.row_bits, 8, 1 << 20)?;
                Self::Part { name: PartName::Row, bits, flips: keys.flips()? }
            }
            "column" => Self::Column {
                row_bits: size("row_bits", &mut keys.row_bits, 8, MOST)?,
                rows: size("rows", &mut keys.rows, 2, 1 << 20)?,
                flips: keys.flips()?,
            },
            "stuck-at-0" | "stuck-at-1" => {
                Self::StuckAt { value: model == "stuck-at-1", flips: keys.flips()?.unwrap_or(1) }
            }
            "one-way" => {
                let typed = keys.direction.take().unwrap_or_else(|| "mixed".into());
                let named = DIRECTIONS.iter().find(|(name, _)| *name == typed);
                let (_, direction) = *named.ok_or_else(|| {
                    wrong("direction", format!("{typed:?}"), "1-to-0, 0-to-1 or mixed")
                })?;
                Self::OneWay { direction, flips: keys.flips()?.unwrap_or(1) }
            }
            "row-hammer" => {
                let mut page = Some(keys.page_bytes.take().unwrap_or(4096));
                let mut cells = Some(keys.cells.take().unwrap_or(16).into());
                Self::RowHammer {
                    page_bytes: size("page_bytes", &mut page, 64, 1 << 20)?,
                    cells: size("cells", &mut cells, 1, 512)? as u32,
                    flips: keys.flips()?,
                }
            }
            "poisson" => Self::Poisson { rate: keys.rate()? },
            _ => unreachable!("a name of the list"),
        };
        let among = match pattern {
            Self::Part { bits, flips, .. } => flips.zip(Some(bits)),
            Self::Column { rows, flips, .. } => flips.zip(Some(rows)),
            Self::RowHammer { cells, flips, .. } => flips.zip(Some(cells.into())),
            _ => None,
        };
        if let Some((flips, most)) = among.filter(|&(flips, most)| u64::from(flips) > most) {
            return Err(wrong("flips", flips, format!("1 to {most}")));
        }
        let state =
            matches!(pattern, Self::StuckAt { .. } | Self::OneWay { .. } | Self::RowHammer { .. });
        if state && target.kv().is_some() {
            let expected = format!("a target that is stored before it is run, for model {model:?}");
            return Err(wrong("target", format!("{:?}", target.name()), expected));
        }
        Ok(pattern)
    }
}
