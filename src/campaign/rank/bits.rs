//! The bits of a ranking in order, with all that is told of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use engine::model::{Slot, Weights};
use engine::packing::{UNUSED_CODE, weight_of};
use faults::{Address, BitEffect, Ranking, Sweep, UnusedCode};
use serde_json::{Value, json};

use super::super::Subject;
use crate::analyze::{self, RowBound};
use crate::commands;
use crate::failure::Failure;
use crate::flip::{Place, place};
use crate::output;

/// Bits whose rows are bounded, at most.
const BOUNDED: usize = 100;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Lines,
    Csv,
}

/// The format of a file, by its name.
pub(super) fn format_of(path: &Path) -> Result<Format, Failure> {
    output::check(path)?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => Ok(Format::Lines),
        Some("csv") => Ok(Format::Csv),
        _ => Err(Failure::usage(format!("{}: expected .jsonl or .csv", path.display()))),
    }
}

/// The row of a bit of a packed weight.
fn row_of(address: &Address) -> Option<(usize, Slot, usize)> {
    match *address {
        Address::Code { layer, slot, row, .. } => Some((layer, slot, row)),
        _ => None,
    }
}

type Bounds = BTreeMap<(usize, usize, usize), RowBound>;

fn key((layer, slot, row): (usize, Slot, usize)) -> (usize, usize, usize) {
    (layer, slot as usize, row)
}

/// Bounds of the rows of the first bits.
fn bounds(
    subject: &Subject,
    sweep: &Sweep,
    ranking: &Ranking,
    top: usize,
) -> Result<Bounds, Failure> {
    let mut rows: Vec<(usize, Slot, usize)> = Vec::new();
    for rank in 0..top {
        let row = row_of(&ranking.at(sweep, rank).0);
        rows.extend(row.filter(|row| !rows.contains(row)));
    }
    let request = subject.map_request(sweep)?;
    let context = subject.context(&request);
    let found = analyze::row_bounds(&context, &rows, sweep.samples());
    let of = rows.into_iter().zip(found);
    Ok(of.filter_map(|(row, bound)| Some((key(row), bound?))).collect())
}

/// The bits in order, with all that is told of them.
pub(super) struct Bits<'a> {
    subject: &'a Subject<'a>,
    sweep: &'a Sweep<'a>,
    ranking: &'a Ranking,
    bounds: Bounds,
}

/// One bit.
struct Bit {
    address: Address,
    physical: String,
    /// The file, and the byte and the bit of it; `None` where no file has the bit as it is.
    place: Option<Place>,
    /// Of two-bit codes the weight before and after; no weight where a reader detects the code.
    weights: Option<(i32, Option<i32>)>,
    effect: BitEffect,
    bound: Option<RowBound>,
}

impl<'a> Bits<'a> {
    /// With bounds of the rows of the first so many bits.
    pub(super) fn new(
        subject: &'a Subject<'a>,
        sweep: &'a Sweep<'a>,
        ranking: &'a Ranking,
        top: usize,
    ) -> Result<Self, Failure> {
        let bounds = bounds(subject, sweep, ranking, top.min(BOUNDED))?;
        Ok(Self { subject, sweep, ranking, bounds })
    }

    fn bit(&self, rank: usize) -> Bit {
        let (address, effect) = self.ranking.at(self.sweep, rank);
        let model = &self.subject.loaded.model;
        // A shape that the packed layout does not hold has no such place.
        let physical = address.physical(model).ok().flatten();
        let physical = physical.map_or_else(String::new, |place| place.to_string());
        let bound = row_of(&address).and_then(|row| self.bounds.get(&key(row)).copied());
        let (place, weights) = (place(&self.subject.loaded, &address).ok(), self.weights(&address));
        Bit { address, physical, place, weights, effect, bound }
    }

    /// The weight of a two-bit code before and after; no weight where a reader detects the code.
    fn weights(&self, address: &Address) -> Option<(i32, Option<i32>)> {
        let Address::Code { layer, slot, row, column, bit } = *address else { return None };
        let weights = &self.subject.loaded.model.layers[layer].linear(slot).weights;
        let Weights::Ternary { rows, layout, .. } = weights else { return None };
        if !layout.is_none_or(|layout| layout.has_two_bits()) {
            return None;
        }
        let code = rows.code(row, column);
        let flipped = code ^ 1 << bit;
        let after = match (flipped == UNUSED_CODE, self.sweep.plan().unused) {
            (true, UnusedCode::Detect) => None,
            (true, UnusedCode::Zero) => Some(0),
            _ => Some(weight_of(flipped)),
        };
        Some((weight_of(code), after))
    }

    /// The first so many, as a table for people.
    pub(super) fn table(&self, top: usize) -> String {
        let samples = self.sweep.samples();
        let mut text = format!(
            "{:>5}  {:>9}  {:>8}  {:>11}  {:>9}  {:>8}  bit\n",
            "rank", "changed", "weight", "margin loss", "logit", "proven"
        );
        for rank in 0..top {
            let Bit { address, physical, place, weights, effect, bound } = self.bit(rank);
            let at = match place {
                Some(Place { file, byte, bit, .. }) if physical.is_empty() => {
                    format!(" in {}, byte {byte}, bit {bit}", commands::shown(&file, &[]))
                }
                _ => format!(" {physical}"),
            };
            let after = |after: Option<i32>| {
                after.map_or_else(|| "due".to_owned(), |after| format!("{after:+}"))
            };
            let weight = weights.map_or_else(
                || "-".to_owned(),
                |(before, then)| format!("{before:+} to {}", after(then)),
            );
            let proven = bound.and_then(|bound| bound.change);
            let proven = proven.map_or_else(|| "-".to_owned(), |change| format!("{change:.3}"));
            let value = |value: f64| if value.is_finite() { value } else { 0.0 };
            writeln!(
                text,
                "{:>5}  {:>9}  {weight:>8}  {:>11.3}  {:>9.3}  {proven:>8}  {address}{at}",
                rank + 1,
                format!("{}/{samples}", effect.sdc),
                value(effect.margin_loss),
                value(effect.logit_change),
            )
            .expect("text takes all");
        }
        text.push_str(
            "changed: samples whose decision the flip changes; logit: the largest change of one; \
             proven: no flip\nin the row of the bit changes a logit by more\n",
        );
        text
    }

    /// The first so many, as a file.
    pub(super) fn file(&self, top: usize, format: Format) -> String {
        let mut text = String::new();
        for rank in 0..top {
            let fields = self.fields(rank);
            match format {
                Format::Lines => {
                    let fields: serde_json::Map<String, Value> =
                        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                    writeln!(text, "{}", Value::Object(fields)).expect("text takes all");
                }
                Format::Csv => {
                    if rank == 0 {
                        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
                        writeln!(text, "{}", names.join(",")).expect("text takes all");
                    }
                    let values: Vec<String> = fields.iter().map(|(_, value)| cell(value)).collect();
                    writeln!(text, "{}", values.join(",")).expect("text takes all");
                }
            }
        }
        text
    }

    fn fields(&self, rank: usize) -> Vec<(&'static str, Value)> {
        let Bit { address, physical, place, weights, effect, bound } = self.bit(rank);
        let finite = |value: f64| value.is_finite().then_some(value);
        vec![
            ("rank", json!(rank + 1)),
            ("address", json!(address.to_string())),
            ("physical", json!(physical)),
            ("file", json!(place.as_ref().map(|place| &place.file))),
            ("file_byte", json!(place.as_ref().map(|place| place.byte))),
            ("file_bit", json!(place.as_ref().map(|place| place.bit))),
            ("layer", json!(address.layer())),
            ("tensor", json!(address.tensor())),
            ("weight_before", json!(weights.map(|(before, _)| before))),
            ("weight_after", json!(weights.and_then(|(_, after)| after))),
            ("samples", json!(self.sweep.samples())),
            ("sdc", json!(effect.sdc)),
            ("due", json!(effect.due)),
            ("worst_sample", json!(effect.sample)),
            ("max_margin_loss", json!(finite(effect.margin_loss))),
            ("max_logit_change", json!(finite(effect.logit_change))),
            ("row_logit_change_bound", json!(bound.and_then(|bound| bound.change))),
            ("row_proven_samples", json!(bound.map(|bound| bound.proven))),
        ]
    }
}

/// A value in a line of CSV: addresses hold commas.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => format!("\"{text}\""),
        other => other.to_string(),
    }
}
