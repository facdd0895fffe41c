//! The feed-forward half of a layer for the rows of many trials: every row takes it alone.
//!
//! Rows go through in small lots, so that what lies between gate and down stays in the cache.

use engine::kernels::LANES;
use engine::model::{Gate, Slot};

use super::job::Job;
use super::prepared::{Places, Prepared};
use super::product::{Adjust, Clean, Joins, Scratch};
use super::rows::Rows;

/// Values between gate and down that a lot may hold.
const LOT: usize = 1 << 16;

/// Values between two rows of a lot, so that their beginnings do not meet in the cache.
const SPACE: usize = 16;

/// Where a row enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// Carried from the attention half, by its number there.
    Carried(usize),
    /// Behind the gate, by its number among the gated rows that join.
    Gated(usize),
    /// Behind the down layer, likewise.
    Updated(usize),
}

/// A row on its way.
#[derive(Clone, Copy, Debug)]
struct Item {
    owner: usize,
    token: usize,
    entry: Entry,
}

/// Buffers of the feed-forward half.
#[derive(Debug)]
pub(super) struct FeedForward {
    items: Vec<Item>,
    /// Gated rows that join here, and updates that do.
    gated: Rows,
    updated: Rows,
    codes: [Prepared; 2],
    factors: [Vec<f32>; 2],
    lot: Vec<f32>,
    update: Vec<f32>,
}

impl FeedForward {
    pub(super) fn new() -> Self {
        Self {
            items: Vec::new(),
            gated: Rows::default(),
            updated: Rows::default(),
            codes: [Prepared::new(), Prepared::new()],
            factors: Default::default(),
            lot: Vec::new(),
            update: Vec::new(),
        }
    }

    /// The streams between the halves of a layer to those that leave it.
    pub(super) fn half(
        &mut self,
        clean: &Clean,
        (layer, jobs): (usize, &[&Job]),
        middle: &Rows,
        scratch: &mut Scratch,
        out: &mut Rows,
    ) {
        out.reset(clean.model.config.hidden);
        self.gather(clean, layer, jobs, middle);
        let lot = (LOT / clean.model.config.ffn).clamp(32, 512);
        let items = std::mem::take(&mut self.items);
        for items in items.chunks(lot) {
            self.lot(clean, (layer, jobs), middle, items, scratch, out);
        }
        self.items = items;
        self.settle(clean, layer, jobs, out);
    }

    /// All rows, sorted: those that are carried, and those that join.
    fn gather(&mut self, clean: &Clean, layer: usize, jobs: &[&Job], middle: &Rows) {
        self.items.clear();
        self.gated.reset(clean.model.config.ffn);
        self.updated.reset(clean.model.config.hidden);
        for (owner, job) in jobs.iter().enumerate() {
            let carried = middle.of(owner);
            let start = self.items.len();
            let entry =
                |i: usize| Item { owner, token: middle.place(i).1, entry: Entry::Carried(i) };
            self.items.extend(carried.clone().map(entry));
            if job.last_layer() < layer || job.first_layer() > layer {
                continue;
            }
            let here = |token: usize| {
                middle.tokens[carried.clone()].binary_search(&(token as u32)).is_ok()
            };
            self.join_gated(clean, layer, (owner, job), here);
            let items = &self.items[start..];
            let here = |token: usize| items.iter().any(|item| item.token == token);
            let joins = clean.joins(layer, Slot::Down, job, here);
            for &place in &joins.places {
                let token = joins.first + place;
                let row = self.updated.push(owner, token);
                clean.clean_row(layer, Slot::Down, token, row);
                strike(clean, (layer, Slot::Down), token, &joins, place, row);
                let entry = Entry::Updated(self.updated.len() - 1);
                self.items.push(Item { owner, token, entry });
            }
            self.items[start..].sort_by_key(|item| item.token);
        }
    }

    /// Rows that join behind the gate: one of its factors changed for a clean token.
    fn join_gated(
        &mut self,
        clean: &Clean,
        layer: usize,
        (owner, job): (usize, &Job),
        carried: impl Fn(usize) -> bool,
    ) {
        let both = [Slot::Gate, Slot::Up].map(|slot| clean.joins(layer, slot, job, &carried));
        let (width, tokens) = (clean.model.config.ffn, clean.tokens());
        let golden = &clean.layer(layer).gated;
        let mut places: Vec<usize> = both.iter().flat_map(|j| j.places.iter().copied()).collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            let token = both[0].first + place;
            let golden = &golden[token * width..(token + 1) * width];
            let row = self.gated.push(owner, token);
            row.copy_from_slice(golden);
            let mut moved = !clean.shortcuts.checks();
            for one in both.iter().flat_map(|joins| &joins.struck) {
                let factor = |slot: Slot, joins: &Joins| {
                    let same = joins.struck.iter().find(|other| other.output == one.output);
                    let sum = same.map_or_else(
                        || clean.layer(layer).sum(slot, tokens, token, one.output),
                        |other| other.sums[place],
                    );
                    clean.value(layer, slot, token, sum)
                };
                let (gate, up) = (factor(Slot::Gate, &both[0]), factor(Slot::Up, &both[1]));
                let at = one.output..=one.output;
                gated(clean, &[gate], &[up], &mut row[at.clone()]);
                moved |= !clean.same(&row[at.clone()], &golden[at]);
            }
            if moved {
                let entry = Entry::Gated(self.gated.len() - 1);
                self.items.push(Item { owner, token, entry });
            } else {
                self.gated.pop();
            }
        }
    }

    /// Some rows, all the way.
    fn lot(
        &mut self,
        clean: &Clean,
        (layer, jobs): (usize, &[&Job]),
        middle: &Rows,
        items: &[Item],
        scratch: &mut Scratch,
        out: &mut Rows,
    ) {
        let carried = |item: &Item| match item.entry {
            Entry::Carried(index) => Some(index),
            _ => None,
        };
        let row = |index: usize| (middle.place(index).1, middle.row(index));
        let rows = || items.iter().filter_map(carried).map(row);
        clean.prepare((layer, Slot::Gate), rows(), scratch, &mut self.codes[0]);
        let shared = clean.layer(layer).shares(Slot::Gate, Slot::Up);
        if !shared {
            clean.prepare((layer, Slot::Up), rows(), scratch, &mut self.codes[1]);
        }
        let owners: Vec<u32> =
            items.iter().filter(|i| carried(i).is_some()).map(|i| i.owner as u32).collect();
        let [gate, up] = &self.codes;
        let codes = [gate, if shared { gate } else { up }];
        let adjusts = [(Slot::Gate, codes[0]), (Slot::Up, codes[1])]
            .map(|(slot, codes)| clean.adjusts((layer, slot), jobs, &owners, &codes.codes));
        let mut factors = std::mem::take(&mut self.factors);
        let lot = &mut self.lot;
        gate_and_up(clean, layer, codes, &adjusts, (&mut *scratch, &mut factors), lot);
        self.factors = factors;
        let width = clean.model.config.ffn;
        let mut gated = self.lot.chunks_exact(width + SPACE);
        let down: Vec<(usize, &[f32])> = items
            .iter()
            .filter_map(|item| match item.entry {
                Entry::Carried(_) => {
                    let row = gated.next().expect("a gated row for each that is carried");
                    Some((item.token, &row[..width]))
                }
                Entry::Gated(index) => Some((item.token, self.gated.row(index))),
                Entry::Updated(_) => None,
            })
            .collect();
        let place = (layer, Slot::Down);
        clean.prepare(place, down.into_iter(), scratch, &mut self.codes[1]);
        let owners: Vec<u32> = (items.iter())
            .filter(|item| !matches!(item.entry, Entry::Updated(_)))
            .map(|item| item.owner as u32)
            .collect();
        let adjusts = clean.adjusts(place, jobs, &owners, &self.codes[1].codes);
        clean.product(place, &self.codes[1], &adjusts, scratch, &mut self.update);
        self.add(clean, layer, middle, items, out);
    }

    /// The residual addition.
    fn add(&self, clean: &Clean, layer: usize, middle: &Rows, items: &[Item], out: &mut Rows) {
        let width = clean.model.config.hidden;
        let mut updates = self.update.chunks_exact(width);
        for item in items {
            let golden = &clean.layer(layer).middle[item.token * width..(item.token + 1) * width];
            let (x, update) = match item.entry {
                Entry::Carried(index) => (middle.row(index), updates.next()),
                Entry::Gated(_) => (golden, updates.next()),
                Entry::Updated(index) => (golden, Some(self.updated.row(index))),
            };
            let update = update.expect("an update for each row behind the gate");
            let row = out.push(item.owner, item.token);
            (clean.kernels.rows.add)(x, update, row);
        }
    }

    /// Drops what is clean again: row by row, or else whole trials.
    fn settle(&self, clean: &Clean, layer: usize, jobs: &[&Job], out: &mut Rows) {
        if !clean.shortcuts.drop {
            return;
        }
        let golden = |rows: &Rows, index: usize| {
            clean.same(rows.row(index), clean.stream(layer + 1, rows.place(index).1))
        };
        let settled = |owner: usize| {
            jobs[owner].last_layer() <= layer
                && !clean.shortcuts.rows
                && out.of(owner).all(|index| golden(out, index))
        };
        let settled: Vec<bool> = (0..jobs.len()).map(settled).collect();
        out.retain(|rows, index| {
            let owner = rows.place(index).0;
            let drop = clean.may_drop(jobs[owner], layer, true) && golden(rows, index);
            !(drop || settled[owner])
        });
    }
}

/// Replaces the struck outputs of a clean row.
fn strike(
    clean: &Clean,
    (layer, slot): (usize, Slot),
    token: usize,
    joins: &Joins,
    place: usize,
    row: &mut [f32],
) {
    for one in &joins.struck {
        row[one.output] = clean.value(layer, slot, token, one.sums[place]);
    }
}

/// The gated product of some values.
fn gated(clean: &Clean, gate: &[f32], up: &[f32], out: &mut [f32]) {
    match clean.model.config.gate {
        Gate::Relu2 => (clean.kernels.relu2_gate)(gate, up, out),
        Gate::Silu => (clean.kernels.silu_gate)(gate, up, out),
    }
}

/// Gate and up, block by block, and their gated product.
fn gate_and_up(
    clean: &Clean,
    layer: usize,
    prepared: [&Prepared; 2],
    adjusts: &[Vec<Adjust>; 2],
    (scratch, factors): (&mut Scratch, &mut [Vec<f32>; 2]),
    out: &mut Vec<f32>,
) {
    let (count, width) = (prepared[0].len(), clean.model.config.ffn);
    let stride = width + SPACE;
    out.resize(count * stride, 0.0);
    if !clean.layer(layer).shares(Slot::Gate, Slot::Up) {
        for (index, slot) in [Slot::Gate, Slot::Up].into_iter().enumerate() {
            let place = (layer, slot);
            clean.product(place, prepared[index], &adjusts[index], scratch, &mut factors[index]);
        }
        for (row, out) in out.chunks_exact_mut(stride).enumerate() {
            let [gate, up] = [0, 1].map(|index| &factors[index][row * width..(row + 1) * width]);
            gated(clean, gate, up, &mut out[..width]);
        }
        return;
    }
    let prepared = prepared[0];
    let mut factors = [[0.0; LANES]; 2];
    for block in 0..width.div_ceil(LANES) {
        let both = [(Slot::Gate, block, &adjusts[0][..]), (Slot::Up, block, &adjusts[1][..])];
        let wholes = clean.wholes(layer, &both, prepared, &mut scratch.some);
        let mut rows = Places::default();
        for out in out.chunks_exact_mut(stride) {
            let out = &mut out[block * LANES..width.min((block + 1) * LANES)];
            let outs = factors.each_mut().map(|factor| &mut factor[..out.len()]);
            let place = rows.next(prepared);
            clean.values_of((layer, &both), prepared, &wholes, place, outs);
            let [gate, up] = factors.each_ref().map(|factor| &factor[..out.len()]);
            gated(clean, gate, up, out);
        }
    }
}
